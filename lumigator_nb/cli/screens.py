"""The command that serves the dashboard, and adds users to its password file."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from lumigator_nb.errors import InvalidInputError

app = typer.Typer()


@app.command()
def dashboard(
    address: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 listens on all interfaces.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 5006,
    show: Annotated[bool, typer.Option(help="Open the dashboard in a browser.")] = True,
    password_file: Annotated[Path | None, typer.Option(help="Users and password hashes; --add-user writes it.")] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="HOST:PORT under which browsers reach the server, if different. Repeat for several."),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Path prefix of all URLs if a proxy passes one on, such as /lumigator.")
    ] = "",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Trust the headers X-Forwarded-For and X-Forwarded-Proto.")
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file with the certificate, to serve HTTPS without a proxy.")
    ] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file with the certificate's private key.")] = None,
    add_user: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--add-user", metavar="NAME FILE", help="Ask for NAME's password, write its hash to FILE, and exit."
        ),
    ] = None,
) -> None:
    """Serve the dashboard. A login by token or OAuth is configured by the settings LUMIGATOR_DASHBOARD_…, not here."""
    if add_user is not None:
        from lumigator_nb.serving.passwords import add_user as write_user

        user, file = add_user
        replaced = write_user(file, user, _password())
        typer.echo(f"{user} was {'given a new password' if replaced else 'added'}")
        return
    from lumigator_nb.serving import serve

    serve(
        address=address, port=port, show=show, password_file=password_file, allow_origin=allow_origin or (),
        prefix=prefix, behind_proxy=behind_proxy, certificate=certificate, private_key=private_key,
    )  # fmt: skip


def _password() -> str:
    """Return the password from standard input, or ask for it twice on a terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("password (not shown): ")
    if getpass.getpass("again: ") != first:
        raise InvalidInputError("the two passwords differ", "nothing was written; run the command again")
    return first
