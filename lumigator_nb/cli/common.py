"""What the commands share: options, the connection, tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.specs import Model, Status, Summarization, Task, TextGeneration, Translation

if TYPE_CHECKING:
    from lumigator_nb.database.records import Experiment, Workflow
    from lumigator_nb.workspace import Workspace

Example = Annotated[str | None, typer.Option("--example", help="Column with the inputs.")]
GroundTruth = Annotated[str | None, typer.Option("--ground-truth", help="Column with the references.")]
ModelNames = Annotated[list[str], typer.Option("--model", "-m", help="provider/name; repeat for several.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE for all models, such as base_url=http://localhost:8080/v1; repeat."),
]
MetricNames = Annotated[list[str] | None, typer.Option("--metric", help="Metric; repeat for several.")]
TaskName = Annotated[str, typer.Option("--task", help="summarization, translation or text-generation.")]
Source = Annotated[str | None, typer.Option("--source", help="Language translated from, by code or name.")]
Target = Annotated[str | None, typer.Option("--target", help="Language translated into, by code or name.")]
Prompt = Annotated[str | None, typer.Option(help="System prompt in place of the default.")]
Template = Annotated[str | None, typer.Option(help="Jinja template of the user's turn, with {{ example }}.")]
Cache = Annotated[str, typer.Option(help="on, refresh or off: whether answers in the store are taken.")]
Mode = Annotated[str, typer.Option(help="direct, or batch: half the price, within a day.")]
Budget = Annotated[float | None, typer.Option(help="Dollars that each model may spend.")]
Limit = Annotated[int, typer.Option(help="Rows at most.")]
Export = Annotated[Path | None, typer.Option(help="Write a report here (.html or .csv).")]


def group(help_text: str) -> typer.Typer:
    """Return an application for commands below a word."""
    return typer.Typer(no_args_is_help=True, help=help_text)


def connected() -> Workspace:
    """Open the workspace."""
    from lumigator_nb.workspace import connect

    return connect()


def chosen_task(kind: str, prompt: str | None, template: str | None, source: str | None, target: str | None) -> Task:
    """Return the task that the options describe.

    Raises:
        InvalidInputError: they do not fit together.
    """
    makers: dict[str, Callable[[], Task]] = {
        "summarization": lambda: Summarization(prompt, template=template),
        "translation": lambda: Translation(source or "", target or "", prompt=prompt, template=template),
        "text-generation": lambda: TextGeneration(prompt or "", template=template),
    }
    if kind not in makers:
        raise InvalidInputError(f"unknown task {kind!r}", f"known: {', '.join(makers)}")
    if kind == "translation" and not (source and target):
        raise InvalidInputError("translation needs two languages", "--source English --target German")
    return makers[kind]()


def chosen_models(names: Sequence[str], settings: Sequence[str] | None) -> list[Model]:
    """Return the models, each with all settings.

    Raises:
        InvalidInputError: a setting is not NAME=VALUE.
    """
    values: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise InvalidInputError(f"--set takes NAME=VALUE, got {setting!r}")
        values[name] = _value(value)
    return [Model(name, **values) for name in names]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def create(ws: Workspace, name: str, dataset: str, metric: list[str] | None, task: Task) -> Experiment:
    """Create an experiment, with the default metrics where none are named."""
    return ws.experiments.create(name, dataset=dataset, task=task, metrics=metric or None)


def finish(ws: Workspace, experiment: Experiment | str, workflows: Sequence[Workflow], export: Path | None) -> None:
    """Wait, say what failed, and compare what did not; exit with 1 where anything failed."""
    ended = ws.wait(workflows)
    failed = [workflow for workflow in ended if workflow.status is not Status.SUCCEEDED]
    for workflow in failed:
        typer.secho(f"{workflow.label} {workflow.status}: {workflow.error}", fg="red", err=True)
    if len(failed) < len(ended):
        compare_and_print(ws, experiment, export)
    if failed:
        typer.echo(
            "hint: look at 'lumigator-nb jobs logs ID', mend the cause, and do the same again to resume", err=True
        )
        raise typer.Exit(1)


def compare_and_print(ws: Workspace, experiment: Experiment | str, export: Path | None) -> None:
    """Print a comparison, and write it where asked."""
    comparison = ws.compare(experiment)
    typer.echo(comparison)
    if export:
        typer.echo(f"written: {comparison.export(export)}")


def print_workflows(ws: Workspace, workflows: Sequence[Workflow]) -> None:
    """Print how workflows stand."""
    rows = [
        (
            workflow.label,
            workflow.status,
            f"{row.done}/{row.total}" if row.total else "",
            workflow.id[:8],
            row.error or row.skipped,
        )
        for workflow, row in zip(workflows, ws.workflows.progress(workflows), strict=True)
    ]
    if rows:
        print_table(("model", "status", "examples", "id", "error"), rows)


def cell(value: Any) -> str:
    """Return a value as it stands in a table: thousands apart, money short, nothing for what is not known."""
    if isinstance(value, float):
        return "" if value != value else f"${value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
