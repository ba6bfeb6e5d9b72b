"""Handing experiments on: as a file, and taking one in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumigator_nb.cli.common import connected

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
