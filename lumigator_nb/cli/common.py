"""Options, arguments and output that several commands share."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.metrics import check_of
from lumigator_nb.specs import (
    Classification,
    MetricSpec,
    Model,
    Status,
    Summarization,
    Task,
    TextGeneration,
    Translation,
)

if TYPE_CHECKING:
    from lumigator_nb.database.records import Experiment, Workflow
    from lumigator_nb.services.comparison.comparison import Comparison
    from lumigator_nb.workspace import Workspace

Example = Annotated[
    str | None, typer.Option("--example", help="Column that holds the inputs. Default: recognized by its name.")
]
GroundTruth = Annotated[
    str | None,
    typer.Option("--ground-truth", help="Column that holds the ground truth. Default: recognized by its name."),
]
ModelNames = Annotated[
    list[str], typer.Option("--model", "-m", help="Model, as provider/name. Repeat for several models.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Setting of all models, such as base_url=http://localhost:8080/v1. Repeat for several."),
]
MetricNames = Annotated[
    list[str] | None, typer.Option("--metric", help="Metric; 'lumigator-nb metrics' lists them. Repeat for several.")
]
Checks = Annotated[
    list[str] | None,
    typer.Option(
        "--check",
        help="Check of each answer, such as max_words=50, or several conditions as JSON: "
        """'{"name": "brief", "max_words": 50, "contains_none": "sorry"}'. Repeat for several.""",
    ),
]
TaskName = Annotated[
    str, typer.Option("--task", help="Task: summarization, translation, classification or text-generation.")
]
Source = Annotated[
    str | None, typer.Option("--source", help="Language to translate from, by code or name (with --task translation).")
]
Target = Annotated[
    str | None, typer.Option("--target", help="Language to translate into, by code or name (with --task translation).")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", help="Label, as NAME or NAME=DESCRIPTION (with --task classification). Repeat."),
]
MultiLabel = Annotated[
    bool, typer.Option("--multi-label", help="Examples may have any number of labels (with --task classification).")
]
Prompt = Annotated[str | None, typer.Option(help="System prompt. Default: the task's.")]
Template = Annotated[
    str | None, typer.Option(help="Jinja template of the user message; {{ example }} stands for the input.")
]
Cache = Annotated[
    str, typer.Option(help="Answer cache: on (reuse stored answers), refresh (ask again and store) or off.")
]
Mode = Annotated[
    str, typer.Option(help="direct, or batch: the provider's batch API at half the price, within 24 hours.")
]
Budget = Annotated[float | None, typer.Option(help="Budget of each model, in dollars.")]
Limit = Annotated[int, typer.Option(help="Maximum number of rows to print.")]
ExperimentKey = Annotated[str, typer.Argument(help="Name or id of an experiment.")]
WorkflowKey = Annotated[str, typer.Argument(help="Id of a workflow, or its first characters.")]
ExperimentOrWorkflow = Annotated[str, typer.Argument(help="Experiment or workflow, by name or id.")]
Export = Annotated[Path | None, typer.Option(help="Also write the comparison to this file (.html or .csv).")]


_RESULTS = (".eval", ".json", ".jsonl", ".parquet", ".csv", ".tsv", ".zip")


def group(help_text: str) -> typer.Typer:
    """Return an application for a group of subcommands."""
    return typer.Typer(no_args_is_help=True, help=help_text)


def print_error(error: LumigatorError) -> None:
    """Print what is wrong and what to do, without a traceback."""
    typer.secho(f"error: {error.message}", fg="red", err=True)
    if error.hint:
        typer.secho(f"hint: {error.hint}", err=True)


def connected() -> Workspace:
    """Connect to the workspace that the settings name."""
    # Imported here: --help and errors in arguments must not wait for pandas and Ray.
    from lumigator_nb.workspace import connect

    return connect()


def chosen_task(
    kind: str,
    prompt: str | None,
    template: str | None,
    source: str | None,
    target: str | None,
    labels: Sequence[str] | None = None,
    multi_label: bool = False,
) -> Task:
    """Return the task that the command-line options describe.

    Raises:
        InvalidInputError: the task is unknown, translation lacks a language, or classification labels.
    """
    pairs = [label.partition("=") for label in labels or ()]
    descriptions = {name.strip(): text.strip() for name, equals, text in pairs if equals}
    makers: dict[str, Callable[[], Task]] = {
        "summarization": lambda: Summarization(prompt, template=template),
        "translation": lambda: Translation(source or "", target or "", prompt=prompt, template=template),
        "text-generation": lambda: TextGeneration(prompt or "", template=template),
        "classification": lambda: Classification(
            [name.strip() for name, _, _ in pairs],
            multi_label=multi_label,
            descriptions=descriptions,
            prompt=prompt,
            template=template,
        ),
    }
    if kind not in makers:
        raise InvalidInputError(f"unknown task {kind!r}", f"use one of: {', '.join(makers)}")
    if kind == "translation" and not (source and target):
        raise InvalidInputError("translation needs two languages", "for example --source English --target German")
    if kind == "classification" and not pairs:
        raise InvalidInputError("classification needs labels", "for example --label billing --label delivery")
    return makers[kind]()


def chosen_models(names: Sequence[str], settings: Sequence[str] | None) -> list[Model]:
    """Return the named models, each with all of the settings.

    Raises:
        InvalidInputError: a setting is not NAME=VALUE.
    """
    options = dict(_assigned("--set", setting) for setting in settings or ())
    return [Model(name, **options) for name in names]


def chosen_metrics(names: Sequence[str] | None, checks: Sequence[str] | None) -> list[str | MetricSpec] | None:
    """Return the named metrics and checks; None, for the defaults, if there are none.

    Raises:
        InvalidInputError: a check is neither NAME=VALUE nor a JSON object, or a condition is unknown or malformed.
    """
    chosen: list[str | MetricSpec] = list(names or ())
    for text in checks or ():
        if text.lstrip().startswith("{"):
            try:
                conditions = json.loads(text)
            except ValueError as error:
                raise InvalidInputError(f"--check {text!r} is not JSON: {error}") from None
        else:
            conditions = dict([_assigned("--check", text)])
        chosen.append(check_of(conditions))
    return chosen or None


def _assigned(option: str, text: str) -> tuple[str, Any]:
    """Return the name and the value in NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInputError(f"{option} takes NAME=VALUE, got {text!r}")
    # JSON gives numbers, booleans and null their types; anything else, such as a URL, is a text.
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def create(
    ws: Workspace, name: str, dataset: str, metrics: Sequence[str | MetricSpec] | None, task: Task
) -> Experiment:
    """Create an experiment, with the task's default metrics if `metrics` is None."""
    return ws.experiments.create(name, dataset=dataset, task=task, metrics=metrics)


def finish(ws: Workspace, experiment: Experiment | str, workflows: Sequence[Workflow], export: Path | None) -> None:
    """Wait for workflows, print the failures, and compare the others; exit with 1 if any workflow failed."""
    failed = wait_and_report(ws, workflows)
    if len(failed) < len(workflows):
        compare_and_print(ws, experiment, export)
    exit_if(failed)


def wait_and_report(ws: Workspace, workflows: Sequence[Workflow]) -> list[Workflow]:
    """Wait for workflows, and print and return those that failed."""
    failed = [workflow for workflow in ws.wait(workflows) if workflow.status is not Status.SUCCEEDED]
    for workflow in failed:
        typer.secho(f"{workflow.label} {workflow.status}: {workflow.error}", fg="red", err=True)
    return failed


def exit_if(failed: Sequence[Workflow]) -> None:
    """Exit with 1 and say what to do, if there is any failed workflow."""
    if failed:
        typer.echo(
            "hint: look at 'lumigator-nb workflows logs ID', fix the cause, and run the same command again to resume",
            err=True,
        )
        raise typer.Exit(1)


def compare_and_print(ws: Workspace, experiment: Experiment | str, export: Path | None) -> None:
    """Print a comparison, and write it to the file `export` if there is one."""
    show_comparison(ws.compare(experiment), export)


def show_comparison(comparison: Comparison, export: Path | None, *, browser: bool = False) -> None:
    """Print a comparison, write it to the file `export` if there is one, and show a report in the browser."""
    typer.echo(comparison)
    if export:
        typer.echo(f"written: {comparison.export(export)}")
    if browser:
        is_page = export is not None and export.suffix.lower() in (".html", ".htm")
        report = export if export and is_page else Path(mkdtemp(prefix="lumigator-report-")) / "report.html"
        webbrowser.open(comparison.export(report).resolve().as_uri())


def are_files(names: Sequence[str]) -> bool:
    """Whether the arguments are paths of files or folders, rather than the name of an experiment."""
    # A name that a folder happens to have, too, is the experiment's; "./name" is the folder.
    first = Path(names[0]).expanduser()
    return len(names) > 1 or first.is_file() or first.suffix in _RESULTS or (first.is_dir() and "/" in names[0])


def print_workflows(ws: Workspace, workflows: Sequence[Workflow]) -> None:
    """Print the status and progress of workflows."""
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
    """Return a value as text for a table: integers with separators, floats as dollars, NaN as nothing."""
    if isinstance(value, float):
        return "" if value != value else f"${value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
