"""Commands for secrets such as API keys.

A value is asked for or read from standard input. It is never an argument: a shell keeps those in its history.
"""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_table
from lumigator_nb.display.text import moment
from lumigator_nb.errors import InvalidInputError

app = common.group("Store API keys and other secrets, encrypted in the database.")

Name = Annotated[str, typer.Argument(help="Name of the secret, such as OPENAI_API_KEY; case does not matter.")]
Description = Annotated[str | None, typer.Option(help="What the secret is for. It is not encrypted.")]


# Extra arguments are accepted and refused below: the parser's own error would print the secret.
@app.command("set", context_settings={"allow_extra_args": True})
def secrets_set(context: typer.Context, name: Name, description: Description = None) -> None:
    """Store or replace a secret. The value is asked for without echo, or read from standard input."""
    if context.args:
        raise InvalidInputError(
            "the value of a secret cannot be an argument: the shell's history and lists of processes would show it",
            "give only the name to be asked for the value, or use: lumigator-nb secrets set NAME < FILE; "
            "and replace that key, which is in the history now",
        )
    with connected() as ws:
        ws.secrets.check_name(name)  # before asking for the value
        ws.secrets.set(name, _value(), description=description)
    typer.echo("stored")


@app.command("list")
def secrets_list() -> None:
    """List secrets, without their values."""
    with connected() as ws:
        table = ws.secrets.list()
    rows = [
        (name, description, moment(updated.to_pydatetime()), "by the environment" if overridden else "")
        for name, description, _, updated, overridden in table.itertuples(index=False)
    ]
    print_table(("name", "description", "updated", "overridden"), rows)


@app.command("delete")
def secrets_delete(name: Name) -> None:
    """Delete a secret."""
    with connected() as ws:
        ws.secrets.delete(name)


@app.command("rotate")
def secrets_rotate() -> None:
    """Encrypt all secrets again with a new key."""
    with connected() as ws:
        count = ws.secrets.rotate()
    typer.echo(f"{count} {'secret is' if count == 1 else 'secrets are'} encrypted with a new key")


def _value() -> str:
    """Return the secret from standard input, or ask for it on a terminal."""
    if sys.stdin.isatty():
        return getpass.getpass("value (not shown): ")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InvalidInputError("the value is not UTF-8 text") from None
