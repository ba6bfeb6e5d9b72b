"""The `lumigator-nb` command: one command per verb of the workspace, and nothing that a script could not do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumigator_nb import __version__
from lumigator_nb.display.text import moment
from lumigator_nb.errors import LumigatorError
from lumigator_nb.specs import Status

if TYPE_CHECKING:
    from lumigator_nb.db import Database
    from lumigator_nb.records import Experiment, Workflow
    from lumigator_nb.workspace import Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
datasets = typer.Typer(no_args_is_help=True, help="Upload, list, show and delete datasets.")
experiments = typer.Typer(no_args_is_help=True, help="Create, list, show and delete experiments.")
jobs = typer.Typer(no_args_is_help=True, help="Look after workflows on the cluster.")
database = typer.Typer(no_args_is_help=True, help="Look after the database's schema.")
app.add_typer(datasets, name="datasets")
app.add_typer(experiments, name="experiments")
app.add_typer(jobs, name="jobs")
app.add_typer(database, name="db")

Example = Annotated[str | None, typer.Option("--example", help="Column with the inputs.")]
GroundTruth = Annotated[str | None, typer.Option("--ground-truth", help="Column with the references.")]
ModelNames = Annotated[list[str], typer.Option("--model", "-m", help="provider/name; repeat for several.")]
MetricNames = Annotated[list[str] | None, typer.Option("--metric", help="Metric; repeat for several.")]
Limit = Annotated[int, typer.Option(help="Rows at most.")]


def main() -> None:
    """Entry point: errors raised on purpose print their message and hint, without a traceback."""
    try:
        app()
    except LumigatorError as error:
        typer.secho(f"error: {error.message}", fg="red", err=True)
        if error.hint:
            typer.secho(f"hint: {error.hint}", err=True)
        sys.exit(1)


@app.command()
def version() -> None:
    """Print the package's version."""
    typer.echo(__version__)


@datasets.command("upload")
def datasets_upload(
    source: str,
    name: Annotated[str | None, typer.Option()] = None,
    example: Example = None,
    ground_truth: GroundTruth = None,
) -> None:
    """Upload a file or URL: CSV, JSON Lines or Parquet."""
    with _connect() as ws:
        typer.echo(ws.datasets.upload(source, name=name, example=example, ground_truth=ground_truth))


@datasets.command("list")
def datasets_list(limit: Limit = 100) -> None:
    """List datasets, newest first."""
    with _connect() as ws:
        rows = [
            (d.name, str(d.n_examples), d.filename, moment(d.created_at), d.id[:8])
            for d in ws.datasets.list(limit=limit)
        ]
    _print_table(("name", "examples", "file", "created", "id"), rows)


@datasets.command("show")
def datasets_show(key: str) -> None:
    """Show a dataset by name or id."""
    with _connect() as ws:
        typer.echo(ws.datasets.get(key))


@datasets.command("delete")
def datasets_delete(key: str) -> None:
    """Delete a dataset that no experiment uses."""
    with _connect() as ws:
        ws.datasets.delete(key)


@experiments.command("create")
def experiments_create(
    name: str,
    dataset: Annotated[str, typer.Option(help="Name or id.")],
    metric: MetricNames = None,
    prompt: Annotated[str | None, typer.Option(help="System prompt in place of the default.")] = None,
) -> None:
    """Create a summarization experiment on a dataset."""
    with _connect() as ws:
        typer.echo(_create(ws, name, dataset, metric, prompt))


@experiments.command("list")
def experiments_list(limit: Limit = 100) -> None:
    """List experiments, newest first."""
    with _connect() as ws:
        rows = [(e.name, e.task.kind, moment(e.created_at), e.id[:8]) for e in ws.experiments.list(limit=limit)]
    _print_table(("name", "task", "created", "id"), rows)


@experiments.command("show")
def experiments_show(key: str) -> None:
    """Show an experiment and how its workflows stand."""
    with _connect() as ws:
        experiment = ws.experiments.get(key)
        typer.echo(experiment)
        _print_workflows(ws, ws.workflows.refresh(experiment))


@experiments.command("delete")
def experiments_delete(key: str) -> None:
    """Delete an experiment with all its results."""
    with _connect() as ws:
        ws.experiments.delete(key)


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="File, URL, or name of an uploaded dataset.")],
    model: ModelNames,
    metric: MetricNames = None,
    name: Annotated[str | None, typer.Option(help="Name of the experiment; default the dataset's.")] = None,
    example: Example = None,
    ground_truth: GroundTruth = None,
    prompt: Annotated[str | None, typer.Option(help="System prompt in place of the default.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write a report here (.html or .csv).")] = None,
) -> None:
    """Upload, launch, wait and compare in one line. Doing it again continues where it ended."""
    with _connect() as ws:
        record = ws.datasets.find(dataset) or ws.datasets.upload(dataset, example=example, ground_truth=ground_truth)
        experiment = ws.experiments.find(name or record.name)
        if experiment is None:
            experiment = _create(ws, name or record.name, record.id, metric, prompt)
        workflows = ws.workflows.launch(experiment, model)
        _finish(ws, experiment, workflows, export)


@app.command()
def compare(
    experiment: str, export: Annotated[Path | None, typer.Option(help="Write a report here (.html or .csv).")] = None
) -> None:
    """Compare the models of an experiment."""
    with _connect() as ws:
        _compare(ws, experiment, export)


@jobs.command("list")
def jobs_list(experiment: Annotated[str | None, typer.Argument()] = None, limit: Limit = 100) -> None:
    """List workflows, newest first, or those of an experiment."""
    with _connect() as ws:
        ws.workflows.refresh(experiment)
        _print_workflows(ws, ws.workflows.of(experiment) if experiment else ws.workflows.list(limit=limit))


@jobs.command("logs")
def jobs_logs(workflow: str) -> None:
    """Print what a workflow's worker printed."""
    with _connect() as ws:
        typer.echo(ws.workflows.logs(workflow))


@jobs.command("wait")
def jobs_wait(target: Annotated[str, typer.Argument(help="Experiment or workflow.")]) -> None:
    """Wait until workflows have ended; exit with 1 where one did not succeed."""
    with _connect() as ws:
        ws.workflows.wait(target, check=True)


@jobs.command("stop")
def jobs_stop(target: Annotated[str, typer.Argument(help="Experiment or workflow.")]) -> None:
    """Stop workflows; what is finished stays."""
    with _connect() as ws:
        _print_workflows(ws, ws.workflows.stop(target))


@jobs.command("resume")
def jobs_resume(target: Annotated[str, typer.Argument(help="Experiment or workflow.")]) -> None:
    """Take failed and stopped workflows up where they ended."""
    with _connect() as ws:
        _print_workflows(ws, ws.workflows.resume(target))


@database.command("upgrade")
def db_upgrade(target: str = "head") -> None:
    """Bring the schema to this version of the code (an SQLite database is copied first)."""
    db = _database()
    if db.is_sqlite and db.revision():
        typer.echo(f"copied to {db.backup()}")
    db.upgrade(target)
    typer.echo(f"{db.label} is at revision {db.revision()}")


@database.command("current")
def db_current() -> None:
    """Print the schema's revision."""
    from lumigator_nb.db import head_revision

    revision = _database().revision()
    remark = "(current)" if revision == head_revision() else f"(this version needs {head_revision()})"
    typer.echo(f"{revision or 'none'} {remark}")


@database.command("history")
def db_history() -> None:
    """Print all revisions, newest first."""
    from lumigator_nb.db import revisions

    _print_table(("revision", "what it changed"), revisions())


@app.command()
def up() -> None:
    """Start the local Ray head, if it does not answer already."""
    with _connect() as ws:
        ws.cluster.start()
        typer.echo(ws.cluster.info())


@app.command()
def down() -> None:
    """Stop the local Ray head and what works on it; resume it later."""
    with _connect() as ws:
        typer.echo("stopped" if ws.cluster.shutdown() else "no local head was there")


@app.command()
def status() -> None:
    """Show the workspace: database, store, cluster, and what is under way."""
    with _connect() as ws:
        typer.echo(ws)
        _print_workflows(ws, ws.workflows.refresh())


@app.command()
def doctor() -> None:
    """Check settings, database, store, cluster and models, and say how to mend each."""
    from lumigator_nb.doctor import examine

    findings = examine()
    for finding in findings:
        colour = {"ok": "green", "note": "yellow"}.get(finding.state, "red")
        typer.echo(f"{typer.style(f'{finding.state:>5}', fg=colour)}  {finding.part}: {finding.message}")
        if finding.hint:
            typer.echo(f"       {finding.hint}")
    raise typer.Exit(int(any(finding.state == "wrong" for finding in findings)))


@app.command()
def dashboard(port: Annotated[int, typer.Option(help="0 takes a free one.")] = 5006, show: bool = True) -> None:
    """Serve the dashboard on this machine."""
    from lumigator_nb.dashboards import serve

    serve(port=port, show=show)


@app.command()
def quickstart() -> None:
    """Compare three summarizers on the bundled conversations, one of them a real language model."""
    from lumigator_nb.quickstart import QUICKSTART, launch_quickstart

    with _connect() as ws:
        typer.echo("Which model summarizes the sample conversations best? Three go on a local Ray head:")
        workflows = launch_quickstart(ws, typer.echo)
        _finish(ws, QUICKSTART, workflows, None)
        for job in ws.workflows.jobs(workflows[-1]):
            if "source" in job.details:
                typer.echo(f"\n{workflows[-1].label} came from: {job.details['source']}")
    typer.echo("\nWhere to go next:\n  make lab        the same in a notebook\n  make dashboard  the same in a browser")
    typer.echo("  lumigator-nb run YOUR.csv --example COLUMN --ground-truth COLUMN -m baseline/lead-2 -m hf/NAME")


def _connect() -> Workspace:
    from lumigator_nb.workspace import connect

    return connect()


def _database() -> Database:
    from lumigator_nb.config import load
    from lumigator_nb.db import Database

    return Database(load().database_url)


def _create(ws: Workspace, name: str, dataset: str, metric: list[str] | None, prompt: str | None) -> Experiment:
    from lumigator_nb.services.experiments import DEFAULT_METRICS
    from lumigator_nb.specs import Summarization

    return ws.experiments.create(name, dataset=dataset, task=Summarization(prompt), metrics=metric or DEFAULT_METRICS)


def _finish(ws: Workspace, experiment: Experiment | str, workflows: Sequence[Workflow], export: Path | None) -> None:
    ended = ws.wait(workflows)
    failed = [workflow for workflow in ended if workflow.status is not Status.SUCCEEDED]
    for workflow in failed:
        typer.secho(f"{workflow.label} {workflow.status}: {workflow.error}", fg="red", err=True)
    if len(failed) < len(ended):
        _compare(ws, experiment, export)
    if failed:
        typer.echo(
            "hint: look at 'lumigator-nb jobs logs ID', mend the cause, and do the same again to resume", err=True
        )
        raise typer.Exit(1)


def _compare(ws: Workspace, experiment: Experiment | str, export: Path | None) -> None:
    comparison = ws.compare(experiment)
    typer.echo(comparison)
    if export:
        typer.echo(f"written: {comparison.export(export)}")


def _print_workflows(ws: Workspace, workflows: Sequence[Workflow]) -> None:
    rows = [
        (
            workflow.label,
            workflow.status,
            f"{row.done}/{row.total}" if row.total else "",
            workflow.id[:8],
            row.error or "",
        )
        for workflow, row in zip(workflows, ws.workflows.progress(workflows), strict=True)
    ]
    if rows:
        _print_table(("model", "status", "examples", "id", "error"), rows)


def _print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


if __name__ == "__main__":
    main()
