"""Datasets and experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_table
from lumigator_nb.display.text import moment
from lumigator_nb.errors import InvalidInputError

datasets = common.group("Upload, list, show, annotate, divide and delete datasets.")
experiments = common.group("Create, list, show and delete experiments.")

Archived = Annotated[bool, typer.Option("--archived", help="Those that were put away, too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]
Stop = Annotated[bool, typer.Option("--stop", help="End workflows that are under way first.")]
By = Annotated[str | None, typer.Option(help="A column whose proportions are kept.")]
Seed = Annotated[int, typer.Option(help="The same one draws the same rows.")]


@datasets.command("upload")
def datasets_upload(
    source: str,
    name: Annotated[str | None, typer.Option()] = None,
    example: common.Example = None,
    ground_truth: common.GroundTruth = None,
    sheet: Annotated[str | None, typer.Option(help="Of an Excel workbook; default the first.")] = None,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Keep other content under a name that is taken.")
    ] = False,
    fill_short_rows: Annotated[
        bool, typer.Option("--fill-short-rows", help="Fill CSV rows with fewer cells than the header by empty cells.")
    ] = False,
) -> None:
    """Upload a file or URL: CSV, JSON, JSON Lines, Parquet or Excel, also packed."""
    with connected() as ws:
        dataset = ws.datasets.upload(
            source, name=name, example=example, ground_truth=ground_truth, sheet=sheet, new_version=new_version,
            short_rows="fill" if fill_short_rows else "refuse",
        )  # fmt: skip
        typer.echo(dataset)


@datasets.command("list")
def datasets_list(limit: common.Limit = 100, archived: Archived = False) -> None:
    """List datasets, newest first."""
    with connected() as ws:
        rows = [
            (d.name, str(d.version), str(d.n_examples), d.filename, moment(d.created_at), d.id[:8])
            for d in ws.datasets.list(limit=limit, archived=archived)
        ]
    print_table(("name", "version", "examples", "file", "created", "id"), rows)


@datasets.command("show")
def datasets_show(key: str) -> None:
    """Show a dataset by name or id."""
    with connected() as ws:
        typer.echo(ws.datasets.get(key))


@datasets.command("annotate")
def datasets_annotate(
    key: str,
    model: Annotated[str, typer.Option("--model", "-m", help="provider/name.")],
    name: Annotated[str | None, typer.Option(help="Of the new dataset.")] = None,
    setting: common.Settings = None,
    task: common.TaskName = "summarization",
    source: common.Source = None,
    target: common.Target = None,
    prompt: common.Prompt = None,
    template: common.Template = None,
    budget: common.Budget = None,
    mode: common.Mode = "direct",
) -> None:
    """Make a new dataset whose ground truth a model writes."""
    chosen = common.chosen_task(task, prompt, template, source, target)
    (who,) = common.chosen_models([model], setting)
    with connected() as ws:
        typer.echo(ws.datasets.annotate(key, model=who, task=chosen, name=name, budget=budget, mode=mode))


@datasets.command("history")
def datasets_history(key: str) -> None:
    """List the versions of a dataset, and how many rows each added, removed and changed."""
    with connected() as ws:
        table = ws.datasets.history(key)
    columns = ["version", "n_examples", "added", "removed", "changed"]
    shown = table[columns].astype(object).where(table[columns].notna(), "")
    rows = [tuple(map(str, row)) for row in shown.itertuples(index=False)]
    print_table(("version", "examples", "added", "removed", "changed"), rows)


@datasets.command("differences")
def datasets_differences(
    old: str, new: str, on: Annotated[str | None, typer.Option(help="A column that names each row.")] = None
) -> None:
    """Compare two datasets, such as tickets@1 and tickets, row by row."""
    with connected() as ws:
        typer.echo(ws.datasets.differences(old, new, on=on))


@datasets.command("split")
def datasets_split(
    key: str,
    part: Annotated[list[str], typer.Option("--part", help="NAME=SHARE, such as train=0.8; the shares sum to 1.")],
    by: By = None,
    groups: Annotated[str | None, typer.Option(help="A column whose values are never divided.")] = None,
    seed: Seed = 0,
) -> None:
    """Divide a dataset into several."""
    with connected() as ws:
        parts = ws.datasets.split(key, dict(map(_share, part)), by=by, groups=groups, seed=seed)
    print_table(("name", "examples"), [(each.name, str(each.n_examples)) for each in parts.values()])


@datasets.command("draw")
def datasets_draw(
    key: str,
    rows: Annotated[float, typer.Argument(help="How many, or a share below 1.")],
    by: By = None,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Of the new dataset.")] = None,
) -> None:
    """Draw rows of a dataset at random into one of their own."""
    with connected() as ws:
        typer.echo(ws.datasets.draw(key, rows if rows < 1 else int(rows), by=by, seed=seed, name=name))


@datasets.command("archive")
def datasets_archive(key: str) -> None:
    """Put a dataset away: lists leave it out, and nothing is lost."""
    with connected() as ws:
        ws.datasets.archive(key)


@datasets.command("restore")
def datasets_restore(key: str) -> None:
    """Take a dataset back into the lists."""
    with connected() as ws:
        ws.datasets.restore(key)


@datasets.command("delete")
def datasets_delete(
    key: str,
    cascade: Annotated[bool, typer.Option("--cascade", help="The experiments on it go too.")] = False,
    stop: Stop = False,
    dry_run: DryRun = False,
) -> None:
    """Delete a dataset."""
    with connected() as ws:
        typer.echo(ws.datasets.delete(key, cascade=cascade, stop=stop, dry_run=dry_run))


@experiments.command("create")
def experiments_create(
    name: str,
    dataset: Annotated[str, typer.Option(help="Name or id.")],
    metric: common.MetricNames = None,
    task: common.TaskName = "summarization",
    source: common.Source = None,
    target: common.Target = None,
    prompt: common.Prompt = None,
    template: common.Template = None,
) -> None:
    """Create an experiment on a dataset."""
    chosen = common.chosen_task(task, prompt, template, source, target)
    with connected() as ws:
        typer.echo(common.create(ws, name, dataset, metric, chosen))


@experiments.command("list")
def experiments_list(limit: common.Limit = 100, archived: Archived = False) -> None:
    """List experiments, newest first."""
    with connected() as ws:
        found = ws.experiments.list(limit=limit, archived=archived)
    rows = [(e.name, e.task.kind, moment(e.created_at), e.id[:8]) for e in found]
    print_table(("name", "task", "created", "id"), rows)


@experiments.command("show")
def experiments_show(key: str) -> None:
    """Show an experiment and how its workflows stand."""
    with connected() as ws:
        experiment = ws.experiments.get(key)
        typer.echo(experiment)
        common.print_workflows(ws, ws.workflows.refresh(experiment))


@experiments.command("archive")
def experiments_archive(key: str) -> None:
    """Put an experiment away: lists leave it out, and nothing is lost."""
    with connected() as ws:
        ws.experiments.archive(key)


@experiments.command("restore")
def experiments_restore(key: str) -> None:
    """Take an experiment back into the lists."""
    with connected() as ws:
        ws.experiments.restore(key)


@experiments.command("delete")
def experiments_delete(key: str, stop: Stop = False, dry_run: DryRun = False) -> None:
    """Delete an experiment with all its results."""
    with connected() as ws:
        typer.echo(ws.experiments.delete(key, stop=stop, dry_run=dry_run))


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise InvalidInputError(f"--part takes NAME=SHARE, not {text!r}", "for example --part train=0.8") from None
