"""The command of a gate in continuous integration."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from lumigator_nb.cli import common
from lumigator_nb.errors import LumigatorError

app = typer.Typer()
# Not 1 or 2, which mean failed and undecided.
NOT_CHECKED, INTERRUPTED = 3, 130


class _CheckCommand(typer.core.TyperCommand):
    """Ends with :data:`NOT_CHECKED` for wrong arguments, where commands end with 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return list(super().parse_args(ctx, args))
        except Exception as error:
            if getattr(error, "exit_code", None) == 2:
                error.exit_code = NOT_CHECKED  # type: ignore[attr-defined]
            raise


@app.command(cls=_CheckCommand)
def check(
    file: Annotated[Path, typer.Argument(help="Gate file, such as gate.toml.")],
    junit: Annotated[Path | None, typer.Option(help="Write the rules as JUnit XML to this file.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write a Markdown summary to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the comparison to this file (.html or .csv).")] = None,
) -> None:
    """Check whether a model may replace another. Exit code: 0 passed, 1 failed, 2 undecided, 3 could not be checked."""
    try:
        code = _check(file, junit, summary, report)
    except LumigatorError as error:
        common.print_error(error)
        _write_error(error, file, junit, summary)
        code = NOT_CHECKED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        # Python's own exit code of an error is 1, which would read as failed.
        traceback.print_exc()
        _write_error(error, file, junit, summary)
        code = NOT_CHECKED
    raise typer.Exit(code)


def _check(file: Path, junit: Path | None, summary: Path | None, report: Path | None) -> int:
    # Imported here, as in common.connected: --help must not wait for pandas and Ray.
    from lumigator_nb.display import render
    from lumigator_nb.workspace import gate_files

    gate_files.read(file)  # errors in the file, before a workspace is opened
    result = gate_files.gate(file)
    typer.echo(result)
    if junit:
        _write(junit, result.junit())
    if summary:
        _write(summary, render.as_markdown(result))
    if report:
        typer.echo(f"written: {result.comparison.export(report)}")
    return result.exit_code


def _write_error(error: Exception, file: Path, junit: Path | None, summary: Path | None) -> None:
    from lumigator_nb.display.tables import escaped
    from lumigator_nb.services.comparison.gate_report import junit_of_error

    if junit:
        _write(junit, junit_of_error(file.stem, error))
    if summary:
        _write(summary, f"## ⚠️ {escaped(file.stem)}\n\n**Not checked:** {escaped(str(error))}\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
