"""The server for teams and programs: dashboard and REST API; and the tokens that let programs in."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_table
from lumigator_nb.display.text import moment
from lumigator_nb.errors import MissingExtraError

_REST = tuple((package, "rest") for package in ("fastapi", "itsdangerous", "prometheus_client", "python_multipart"))

app = typer.Typer()
tokens = common.group("Let programs into the REST API: off this machine each needs a token.")


@app.command()
def serve(
    address: Annotated[str, typer.Option(help="To listen on; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    ray_port: Annotated[
        int | None, typer.Option(help="Listen there, too: 8265 is where Lumigator's SDK looks for Ray.")
    ] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Programs of this machine need a token, too.")
    ] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="The log as lines of JSON.")] = False,
    password_file: Annotated[Path | None, typer.Option(help="Who may open the dashboard.")] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Another name under which browsers reach it, with its port; repeat.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Of all addresses, where a proxy passes it on: /lumigator.")] = "",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe X-Forwarded-For and X-Forwarded-Proto.")
    ] = False,
    certificate: Annotated[Path | None, typer.Option(help="PEM file, for https without a proxy.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
) -> None:
    """Serve dashboard and REST API on one port. Logins and tokens as docs/rest.md and docs/deploy.md say."""
    for package, extra in (("panel", "dashboard"), ("panel_material_ui", "dashboard"), *_REST):
        if find_spec(package) is None:
            raise MissingExtraError("the server", extra)
    from lumigator_nb.serving.gates import gate_of
    from lumigator_nb.serving.http import Serving
    from lumigator_nb.serving.rest_and_dashboard import Api, log_to_stderr
    from lumigator_nb.serving.rest_and_dashboard import serve as serve_both

    log_to_stderr(as_json=log_json)
    with connected() as ws:
        serving = Serving(
            address=address, port=port, gate=gate_of(ws.settings, password_file), origins=tuple(allow_origin or ()),
            prefix=prefix, behind_proxy=behind_proxy, certificate=certificate, private_key=private_key,
        )  # fmt: skip
        serve_both(ws, serving, Api(ray_port=ray_port, tokens=require_token))


@tokens.command("create")
def tokens_create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[str, typer.Option(help="read; write: also create and delete; admin: also secrets.")] = "read",
    days: Annotated[float, typer.Option(help="How long it is valid; 0 is for ever.")] = 90,
) -> None:
    """Make a token and print it, this once."""
    with connected() as ws:
        text = ws.tokens.create(name, scope=scope, days=days or None)
    typer.echo(text)
    typer.echo("it cannot be shown again: put it where the program that needs it finds it", err=True)


@tokens.command("list")
def tokens_list() -> None:
    """List tokens, by their names."""
    with connected() as ws:
        found = ws.tokens.list()
    rows = [
        (each.name, each.scope.value, moment(each.created_at), moment(each.expires_at) if each.expires_at else "never")
        for each in found
    ]
    print_table(("name", "scope", "created", "expires"), rows)


@tokens.command("revoke")
def tokens_revoke(name: Annotated[str, typer.Argument(help="Of the token.")]) -> None:
    """Let a token in no longer."""
    with connected() as ws:
        ws.tokens.revoke(name)
