"""Compare language models on your own data: upload, launch, wait, compare, decide."""

from __future__ import annotations

import sys

import typer

from lumigator_nb.cli import check, common, data, decide, screens, secrets, serve, share, storage, upkeep, work
from lumigator_nb.errors import LumigatorError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(work.app)
app.add_typer(decide.app)
app.add_typer(check.app)
app.add_typer(data.datasets, name="datasets")
app.add_typer(data.experiments, name="experiments")
app.add_typer(work.workflows, name="workflows")
# The name of the command up to version 0.1.0. In Lumigator a job is something else: one REST request of one step.
app.add_typer(work.workflows, name="jobs", hidden=True)
app.add_typer(work.models, name="models")
app.add_typer(secrets.app, name="secrets")
app.add_typer(upkeep.database, name="db")
app.add_typer(share.app)
app.add_typer(storage.app)
app.add_typer(upkeep.app)
app.add_typer(screens.app)
app.add_typer(serve.app)
app.add_typer(serve.tokens, name="token")


def main() -> None:
    """Run the command. An error of ours prints its message and hint, without a traceback, and exits with 1."""
    try:
        app()
    except LumigatorError as error:
        common.print_error(error)
        sys.exit(1)
