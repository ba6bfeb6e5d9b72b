"""What is stored: files that belong to nobody, and the kept answers of models."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from lumigator_nb.cli.common import connected

Hours = Annotated[float, typer.Option(help="What was written later is left alone: it may be at work.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]
Force = Annotated[bool, typer.Option("--force", help="Also where the database knows none of many folders.")]
Trim = Annotated[float | None, typer.Option(help="Keep at most so many GB (10⁹ bytes); what is in use stays.")]

app = typer.Typer()


@app.command()
def gc(dry_run: DryRun = False, older_than: Hours = 24, force: Force = False) -> None:
    """Remove files that belong to nobody: left by a killed upload or deletion, old copies of the database."""
    with connected() as ws:
        typer.echo(ws.gc(dry_run=dry_run, older_than=timedelta(hours=older_than), force=force))


@app.command()
def cache(trim: Trim = None) -> None:
    """Show what the kept answers of models take, or remove those that were not used for longest."""
    with connected() as ws:
        typer.echo(ws.cache.size() if trim is None else ws.cache.trim(trim))
