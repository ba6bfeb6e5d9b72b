"""Secrets such as API keys: a value is asked for or piped in, never an argument, which a shell's history would keep."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_table
from lumigator_nb.display.text import moment
from lumigator_nb.errors import InvalidInputError

app = common.group("Keep API keys and other secrets, encrypted in the database.")

Name = Annotated[str, typer.Argument(help="Such as OPENAI_API_KEY, in capitals or not.")]
Description = Annotated[str | None, typer.Option(help="What it is for; others can read it.")]


# Whatever follows the name is caught, since the usual error would repeat it.
@app.command("set", context_settings={"allow_extra_args": True})
def secrets_set(context: typer.Context, name: Name, description: Description = None) -> None:
    """Store or replace a secret; its value is asked for without echo, or read from standard input."""
    if context.args:
        raise InvalidInputError(
            "the value of a secret is no argument: the shell's history and lists of processes would show it",
            "write the name alone and you are asked, or: lumigator-nb secrets set NAME < FILE; and change that key",
        )
    with connected() as ws:
        ws.secrets.check_name(name)
        ws.secrets.set(name, _value(), description=description)
    typer.echo("stored")


@app.command("list")
def secrets_list() -> None:
    """List secrets, without their values."""
    with connected() as ws:
        found = ws.secrets.list()
    rows = [
        (name, description, moment(updated.to_pydatetime()), "by the environment" if overridden else "")
        for name, description, _, updated, overridden in found.itertuples(index=False)
    ]
    print_table(("name", "description", "updated", "overridden"), rows)


@app.command("delete")
def secrets_delete(name: Name) -> None:
    """Delete a secret."""
    with connected() as ws:
        ws.secrets.delete(name)


@app.command("rotate")
def secrets_rotate() -> None:
    """Seal all secrets anew by a new key."""
    with connected() as ws:
        count = ws.secrets.rotate()
    typer.echo(f"{count} {'secret is' if count == 1 else 'secrets are'} sealed by a new key")


def _value() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("value (not shown): ")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InvalidInputError("the value is no text in UTF-8") from None
