"""Commands for stored files: garbage collection and the answer cache."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from lumigator_nb.cli.common import connected

Hours = Annotated[
    float, typer.Option(help="Minimum age in hours. Younger files may belong to an upload that is still running.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Remove even if the database knows none of the folders. It may be the wrong database."
    ),
]
Trim = Annotated[
    float | None, typer.Option(help="Shrink the cache to at most this many GB (10⁹ bytes). Answers in use stay.")
]

app = typer.Typer()


@app.command()
def gc(dry_run: DryRun = False, older_than: Hours = 24, force: Force = False) -> None:
    """Remove orphaned files: leftovers of a killed upload or deletion, and old copies of the database."""
    with connected() as ws:
        typer.echo(ws.gc(dry_run=dry_run, older_than=timedelta(hours=older_than), force=force))


@app.command()
def cache(trim: Trim = None) -> None:
    """Show the size of the answer cache, or remove the least recently used answers."""
    with connected() as ws:
        typer.echo(ws.cache.size() if trim is None else ws.cache.trim(trim))
