"""Commands for the database schema, the local Ray head, the doctor and the quickstart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from lumigator_nb._version import __version__
from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected

if TYPE_CHECKING:
    from lumigator_nb.database.engine import Database

Target = Annotated[str, typer.Argument(help="Revision, or head for the newest.")]

app = typer.Typer()
database = common.group("Upgrade, downgrade, check and back up the database schema.")


@app.command()
def version() -> None:
    """Print the version of lumigator-nb."""
    typer.echo(__version__)


@database.command("upgrade")
def db_upgrade(target: Target = "head") -> None:
    """Upgrade the schema to what this version needs. An SQLite database is backed up first."""
    with _database() as db:
        _copy_first(db)
        db.upgrade(target)
        typer.echo(f"{db.label} is at revision {db.revision()}")


@database.command("downgrade")
def db_downgrade(
    target: Annotated[str, typer.Argument(help="Revision; base removes all tables.")],
) -> None:
    """Downgrade the schema to an earlier revision. An SQLite database is backed up first."""
    with _database() as db:
        _copy_first(db)
        db.downgrade(target)
        typer.echo(f"{db.label} is at revision {db.revision() or 'none'}")


@database.command("current")
def db_current() -> None:
    """Print the schema's revision."""
    from lumigator_nb.database.engine import head_revision

    with _database() as db:
        revision = db.revision()
    remark = "(current)" if revision == head_revision() else f"(this version needs {head_revision()})"
    typer.echo(f"{revision or 'none'} {remark}")


@database.command("history")
def db_history() -> None:
    """List all revisions, newest first."""
    from lumigator_nb.database.engine import revisions

    common.print_table(("revision", "what it changed"), revisions())


@database.command("stamp")
def db_stamp(
    target: Annotated[str, typer.Argument(help="Revision, or head for the newest.")],
) -> None:
    """Record a revision without changing the schema, if the schema was changed by other means."""
    with _database() as db:
        db.stamp(target)
        typer.echo(f"{db.label} is recorded to be at revision {db.revision() or 'none'}")


@database.command("check")
def db_check() -> None:
    """Compare the schema with what this version expects; exit with 1 if they differ."""
    with _database() as db:
        differences = db.drift()
    for line in differences:
        typer.echo(line)
    typer.echo(f"{len(differences)} differences" if differences else "the schema is as this version expects it")
    raise typer.Exit(int(bool(differences)))


@database.command("backup")
def db_backup() -> None:
    """Copy an SQLite database to a file beside it. Safe while others write."""
    with _database() as db:
        typer.echo(f"copied to {db.backup()}")


@app.command()
def up() -> None:
    """Start the local Ray head, unless it is running."""
    with connected() as ws:
        ws.cluster.start()
        typer.echo(ws.cluster.info())


@app.command()
def down() -> None:
    """Stop the local Ray head and its workflows, which can be resumed later."""
    with connected() as ws:
        typer.echo("stopped" if ws.cluster.shutdown() else "no local Ray head was running")


@app.command()
def status() -> None:
    """Show the workspace: database, store, cluster and workflows."""
    with connected() as ws:
        typer.echo(ws)
        common.print_workflows(ws, ws.workflows.refresh())


@app.command()
def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read all data and results, and check them against the database.")
    ] = False,
) -> None:
    """Check settings, database, store, cluster and models, and print how to fix what is wrong."""
    from lumigator_nb.workspace.doctor import examine, examine_deeply

    findings = examine()
    for finding in findings:
        colour = {"ok": "green", "note": "yellow"}.get(finding.state, "red")
        typer.echo(f"{typer.style(f'{finding.state:>5}', fg=colour)}  {finding.part}: {finding.message}")
        if finding.hint:
            typer.echo(f"       {finding.hint}")
    wrong = any(finding.state == "wrong" for finding in findings)
    if deep and not wrong:
        # Progress is for a terminal only: a file or a pipe needs no such lines.
        inspection = examine_deeply(_print_progress if sys.stderr.isatty() else lambda *_: None)
        typer.echo(inspection)
        wrong = bool(inspection.faults)
    raise typer.Exit(int(wrong))


@app.command()
def quickstart(
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Model to include, as provider/name. Repeat for several.")
    ] = None,
) -> None:
    """Decide between two prompts of a small language model on bundled conversations, and models that you add."""
    from lumigator_nb.specs import now
    from lumigator_nb.workspace import quickstart as steps

    watch, started = steps.Stopwatch(), now()
    watch.lap("start Python")
    with connected() as ws:
        watch.lap("open the workspace")
        typer.echo("Which summarizes 64 conversations best? Two prompts of a language model, and baselines to beat:")
        experiment, workflows = steps.launch_quickstart(ws, model or (), typer.echo)
        watch.lap("start Ray and send the work")
        failed = common.wait_and_report(ws, workflows)
        if len(failed) == len(workflows):
            common.exit_if(failed)
        took = steps.durations(ws, workflows, started)
        watch.lap("answer and score" if took else "find the results", took)
        comparison = ws.compare(experiment)
        typer.echo(f"\n{comparison}\n\n{steps.decision(comparison)}\n")
        watch.lap("compare")
        page = steps.report(ws, comparison, changed=bool(took))
        watch.lap("write the report")
        typer.echo(f"Report: {page.as_uri()}\n\n{watch}\n\nWhere to go next:")
        for line in [*steps.offers(ws, experiment, workflows), *_NEXT]:
            typer.echo(f"  {line}")
        common.exit_if(failed)


_NEXT = (
    "lumigator-nb dashboard      the same in a browser",
    "make lab                    the same in a notebook, from a checkout",
    "lumigator-nb run YOUR.csv --example COLUMN --ground-truth COLUMN -m baseline/lead-2 -m PROVIDER/NAME",
)


@contextmanager
def _database() -> Iterator[Database]:
    from lumigator_nb.config import load
    from lumigator_nb.database.engine import Database

    db = Database(load().database_url)
    try:
        yield db
    finally:
        db.close()


def _copy_first(db: Database) -> None:
    if db.is_sqlite and db.revision():  # not for a new, empty file
        typer.echo(f"copied to {db.backup()}")


def _print_progress(stage: str, done: int, total: int) -> None:
    """Overwrite the terminal's current line with the progress; `ESC [K` erases what the last one left of it."""
    typer.echo(f"\r{stage} {done:,} of {total:,}\033[K" + ("\n" if done == total else ""), nl=False, err=True)
