"""Commands for datasets and experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_table
from lumigator_nb.display.text import moment
from lumigator_nb.errors import InvalidInputError

datasets = common.group("Upload, list, show, annotate, split, sample, archive and delete datasets.")
experiments = common.group("Create, list, show, archive and delete experiments.")

Archived = Annotated[bool, typer.Option("--archived", help="Also list archived ones.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")]
Stop = Annotated[
    bool, typer.Option("--stop", help="Stop running workflows first. Without it, they prevent the deletion.")
]
By = Annotated[str | None, typer.Option(help="Stratify by this column: each part keeps the proportions of its values.")]
DatasetKey = Annotated[str, typer.Argument(help="Name or id of a dataset; NAME@2 is version 2.")]
NewName = Annotated[str | None, typer.Option("--name", help="Name of the new dataset. Default: made from the old one.")]
Seed = Annotated[int, typer.Option(help="Random seed; the same seed draws the same rows.")]


@datasets.command("upload")
def datasets_upload(
    source: Annotated[str, typer.Argument(help="Path or URL of the file.")],
    name: Annotated[str | None, typer.Option(help="Name of the dataset. Default: the file's.")] = None,
    example: common.Example = None,
    ground_truth: common.GroundTruth = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet of an Excel workbook. Default: the first.")] = None,
    new_version: Annotated[
        bool,
        typer.Option(
            "--new-version", help="If the name is taken by other content, store a new version of that dataset."
        ),
    ] = False,
    fill_short_rows: Annotated[
        bool,
        typer.Option("--fill-short-rows", help="Add empty cells to CSV rows that have fewer cells than the header."),
    ] = False,
) -> None:
    """Upload a file or URL as a dataset: CSV, JSON, JSON Lines, Parquet or Excel, compressed or not."""
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
            (
                dataset.name,
                str(dataset.version),
                str(dataset.n_examples),
                dataset.filename,
                moment(dataset.created_at),
                dataset.id[:8],
            )
            for dataset in ws.datasets.list(limit=limit, archived=archived)
        ]
    print_table(("name", "version", "examples", "file", "created", "id"), rows)


@datasets.command("show")
def datasets_show(dataset: DatasetKey) -> None:
    """Show a dataset: its columns, size, origin and first rows."""
    with connected() as ws:
        typer.echo(ws.datasets.get(dataset))


@datasets.command("annotate")
def datasets_annotate(
    dataset: DatasetKey,
    model: Annotated[str, typer.Option("--model", "-m", help="Model that writes it, as provider/name.")],
    name: NewName = None,
    setting: common.Settings = None,
    task: common.TaskName = "summarization",
    source: common.Source = None,
    target: common.Target = None,
    label: common.Labels = None,
    multi_label: common.MultiLabel = False,
    prompt: common.Prompt = None,
    template: common.Template = None,
    budget: common.Budget = None,
    mode: common.Mode = "direct",
) -> None:
    """Make a new dataset with ground truth that a model writes."""
    chosen = common.chosen_task(task, prompt, template, source, target, label, multi_label)
    (annotator,) = common.chosen_models([model], setting)
    with connected() as ws:
        typer.echo(ws.datasets.annotate(dataset, model=annotator, task=chosen, name=name, budget=budget, mode=mode))


@datasets.command("history")
def datasets_history(dataset: DatasetKey) -> None:
    """List the versions of a dataset, with the number of rows that each added, removed and changed."""
    with connected() as ws:
        table = ws.datasets.history(dataset)
    columns = ["version", "n_examples", "added", "removed", "changed"]
    cells = table[columns].astype(object).where(table[columns].notna(), "")
    rows = [tuple(map(str, row)) for row in cells.itertuples(index=False)]
    print_table(("version", "examples", "added", "removed", "changed"), rows)


@datasets.command("differences")
def datasets_differences(
    old: DatasetKey,
    new: DatasetKey,
    on: Annotated[str | None, typer.Option(help="Column that identifies each row. Default: the inputs.")] = None,
) -> None:
    """Compare two datasets or versions row by row, such as tickets@1 and tickets."""
    with connected() as ws:
        typer.echo(ws.datasets.differences(old, new, on=on))


@datasets.command("split")
def datasets_split(
    dataset: DatasetKey,
    part: Annotated[
        list[str],
        typer.Option("--part", help="Part, as NAME=SHARE, such as train=0.8. Repeat; the shares must sum to 1."),
    ],
    by: By = None,
    groups: Annotated[
        str | None, typer.Option(help="Keep all rows with the same value in this column in the same part.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Split a dataset at random into parts, each a dataset."""
    shares: dict[str, float] = {}
    for text in part:
        part_name, _, share = text.rpartition("=")
        try:
            shares[part_name] = float(share)
        except ValueError:
            raise InvalidInputError(f"--part takes NAME=SHARE, not {text!r}", "for example --part train=0.8") from None
    with connected() as ws:
        parts = ws.datasets.split(dataset, shares, by=by, groups=groups, seed=seed)
    print_table(("name", "examples"), [(dataset.name, str(dataset.n_examples)) for dataset in parts.values()])


@datasets.command("draw")
def datasets_draw(
    dataset: DatasetKey,
    rows: Annotated[float, typer.Argument(help="Number of rows, or a share below 1.")],
    by: By = None,
    seed: Seed = 0,
    name: NewName = None,
) -> None:
    """Draw a random sample of a dataset's rows into a new dataset."""
    with connected() as ws:
        typer.echo(ws.datasets.draw(dataset, rows if rows < 1 else int(rows), by=by, seed=seed, name=name))


@datasets.command("archive")
def datasets_archive(dataset: DatasetKey) -> None:
    """Archive a dataset: hide it from lists. Nothing is deleted."""
    with connected() as ws:
        ws.datasets.archive(dataset)


@datasets.command("restore")
def datasets_restore(dataset: DatasetKey) -> None:
    """Restore an archived dataset to the lists."""
    with connected() as ws:
        ws.datasets.restore(dataset)


@datasets.command("delete")
def datasets_delete(
    dataset: DatasetKey,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also delete the experiments on it.")] = False,
    stop: Stop = False,
    dry_run: DryRun = False,
) -> None:
    """Delete a dataset. Refused while experiments use it, unless --cascade."""
    with connected() as ws:
        typer.echo(ws.datasets.delete(dataset, cascade=cascade, stop=stop, dry_run=dry_run))


@experiments.command("create")
def experiments_create(
    name: Annotated[str, typer.Argument(help="Name of the new experiment.")],
    dataset: Annotated[str, typer.Option(help="Name or id of its dataset.")],
    metric: common.MetricNames = None,
    check: common.Checks = None,
    task: common.TaskName = "summarization",
    source: common.Source = None,
    target: common.Target = None,
    label: common.Labels = None,
    multi_label: common.MultiLabel = False,
    prompt: common.Prompt = None,
    template: common.Template = None,
) -> None:
    """Create an experiment on a dataset."""
    chosen = common.chosen_task(task, prompt, template, source, target, label, multi_label)
    metrics = common.chosen_metrics(metric, check)
    with connected() as ws:
        typer.echo(common.create(ws, name, dataset, metrics, chosen))


@experiments.command("list")
def experiments_list(limit: common.Limit = 100, archived: Archived = False) -> None:
    """List experiments, newest first."""
    with connected() as ws:
        records = ws.experiments.list(limit=limit, archived=archived)
    rows = [(record.name, record.task.kind, moment(record.created_at), record.id[:8]) for record in records]
    print_table(("name", "task", "created", "id"), rows)


@experiments.command("show")
def experiments_show(experiment: common.ExperimentKey) -> None:
    """Show an experiment and the progress of its workflows."""
    with connected() as ws:
        record = ws.experiments.get(experiment)
        typer.echo(record)
        common.print_workflows(ws, ws.workflows.refresh(record))


@experiments.command("archive")
def experiments_archive(experiment: common.ExperimentKey) -> None:
    """Archive an experiment: hide it from lists. Nothing is deleted."""
    with connected() as ws:
        ws.experiments.archive(experiment)


@experiments.command("restore")
def experiments_restore(experiment: common.ExperimentKey) -> None:
    """Restore an archived experiment to the lists."""
    with connected() as ws:
        ws.experiments.restore(experiment)


@experiments.command("delete")
def experiments_delete(experiment: common.ExperimentKey, stop: Stop = False, dry_run: DryRun = False) -> None:
    """Delete an experiment with its workflows and results."""
    with connected() as ws:
        typer.echo(ws.experiments.delete(experiment, stop=stop, dry_run=dry_run))
