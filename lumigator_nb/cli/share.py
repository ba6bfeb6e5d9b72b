"""Commands that export and load experiments, and show or repeat what made a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected

app = typer.Typer()


@app.command()
def export(
    experiment: common.ExperimentKey,
    file: Annotated[Path, typer.Argument(help="File to write, such as tickets.lumi.zip.")],
    without_data: Annotated[
        bool, typer.Option("--without-data", help="Leave the examples out. To load the file, one needs the dataset.")
    ] = False,
) -> None:
    """Write an experiment with its results into one file, to share it."""
    with connected() as ws:
        path = ws.export(experiment, file, data="hash" if without_data else "full")
    typer.echo(f"{path} ({path.stat().st_size / 1e6:,.1f} MB)")


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="File that 'lumigator-nb export' wrote.")],
    name: Annotated[str | None, typer.Option(help="Name of the experiment. Default: the one in the file.")] = None,
) -> None:
    """Load an experiment from a file. Nothing in the file is executed."""
    with connected() as ws:
        typer.echo(ws.load(file, name=name))


@app.command()
def provenance(workflow: common.WorkflowKey) -> None:
    """Show what made a result: user, time, data, model, code and versions."""
    with connected() as ws:
        typer.echo(ws.provenance(workflow))


@app.command()
def reproduce(workflow: common.WorkflowKey, budget: common.Budget = None) -> None:
    """Ask a workflow's model again, and report whether the scores agree."""
    with connected() as ws:
        typer.echo(ws.reproduce(workflow, budget=budget))
