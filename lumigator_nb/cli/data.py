"""Datasets and experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_table
from lumigator_nb.display.text import moment

datasets = common.group("Upload, list, show, annotate and delete datasets.")
experiments = common.group("Create, list, show and delete experiments.")


@datasets.command("upload")
def datasets_upload(
    source: str,
    name: Annotated[str | None, typer.Option()] = None,
    example: common.Example = None,
    ground_truth: common.GroundTruth = None,
) -> None:
    """Upload a file or URL: CSV, JSON Lines or Parquet."""
    with connected() as ws:
        typer.echo(ws.datasets.upload(source, name=name, example=example, ground_truth=ground_truth))


@datasets.command("list")
def datasets_list(limit: common.Limit = 100) -> None:
    """List datasets, newest first."""
    with connected() as ws:
        rows = [
            (d.name, str(d.n_examples), d.filename, moment(d.created_at), d.id[:8])
            for d in ws.datasets.list(limit=limit)
        ]
    print_table(("name", "examples", "file", "created", "id"), rows)


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


@datasets.command("delete")
def datasets_delete(key: str) -> None:
    """Delete a dataset that no experiment uses."""
    with connected() as ws:
        ws.datasets.delete(key)


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
def experiments_list(limit: common.Limit = 100) -> None:
    """List experiments, newest first."""
    with connected() as ws:
        rows = [(e.name, e.task.kind, moment(e.created_at), e.id[:8]) for e in ws.experiments.list(limit=limit)]
    print_table(("name", "task", "created", "id"), rows)


@experiments.command("show")
def experiments_show(key: str) -> None:
    """Show an experiment and how its workflows stand."""
    with connected() as ws:
        experiment = ws.experiments.get(key)
        typer.echo(experiment)
        common.print_workflows(ws, ws.workflows.refresh(experiment))


@experiments.command("delete")
def experiments_delete(key: str) -> None:
    """Delete an experiment with all its results."""
    with connected() as ws:
        ws.experiments.delete(key)
