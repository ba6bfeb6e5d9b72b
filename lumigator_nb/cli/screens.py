"""The served dashboard, and who may open it."""

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
    address: Annotated[str, typer.Option(help="To listen on; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 5006,
    show: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    password_file: Annotated[Path | None, typer.Option(help="Who may come in; --add-user makes it.")] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Another name under which browsers reach it, with its port; repeat.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Of all addresses, where a proxy passes it on: /lumigator.")] = "",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe X-Forwarded-For and X-Forwarded-Proto.")
    ] = False,
    certificate: Annotated[Path | None, typer.Option(help="PEM file, for https without a proxy.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    add_user: Annotated[
        tuple[str, Path] | None,
        typer.Option("--add-user", metavar="NAME FILE", help="Ask for NAME's password, write its hash, and end."),
    ] = None,
) -> None:
    """Serve the dashboard. A token or OAuth comes from the settings LUMIGATOR_DASHBOARD_…, never from an argument."""
    if add_user is not None:
        _add(*add_user)
        return
    from lumigator_nb.serving import serve

    serve(
        address=address, port=port, show=show, password_file=password_file, allow_origin=allow_origin or (),
        prefix=prefix, behind_proxy=behind_proxy, certificate=certificate, private_key=private_key,
    )  # fmt: skip


def _add(name: str, file: Path) -> None:
    from lumigator_nb.serving.passwords import add_user

    replaced = add_user(file, name, _password())
    typer.echo(f"{name} was {'given a new password' if replaced else 'added'}")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("password (not shown): ")
    if getpass.getpass("again: ") != first:
        raise InvalidInputError("the two passwords differ", "nothing was written; do it again")
    return first
