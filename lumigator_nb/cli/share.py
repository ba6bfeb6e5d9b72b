"""Handing experiments on: as a file, and taking one in; where a result comes from, and whether it comes again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumigator_nb.cli.common import Budget, connected

app = typer.Typer()


@app.command()
def export(
    experiment: str,
    file: Annotated[Path, typer.Argument(help="Where to write it, such as tickets.lumi.zip.")],
    without_data: Annotated[
        bool, typer.Option("--without-data", help="Leave the examples out; whoever loads it needs them.")
    ] = False,
) -> None:
    """Write an experiment with its results into one file, for a colleague."""
    with connected() as ws:
        path = ws.export(experiment, file, data="hash" if without_data else "full")
    typer.echo(f"{path} ({path.stat().st_size / 1e6:,.1f} MB)")


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="What `export` wrote.")],
    name: Annotated[str | None, typer.Option(help="Name of the experiment; default the one that it had.")] = None,
) -> None:
    """Take in an experiment from a file; nothing of the file is executed."""
    with connected() as ws:
        typer.echo(ws.load(file, name=name))


@app.command()
def provenance(workflow: Annotated[str, typer.Argument(help="Id, or its beginning.")]) -> None:
    """Say where a result comes from: who, when, on what data, with what model, code and versions."""
    with connected() as ws:
        typer.echo(ws.provenance(workflow))


@app.command()
def reproduce(workflow: Annotated[str, typer.Argument(help="Id, or its beginning.")], budget: Budget = None) -> None:
    """Ask a workflow's model again, and say whether the numbers agree."""
    with connected() as ws:
        typer.echo(ws.reproduce(workflow, budget=budget))
