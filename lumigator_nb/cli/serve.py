"""Commands that serve the dashboard with the REST API, and manage the API's tokens."""

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
tokens = common.group("Manage the REST API's tokens. Clients on other machines need one.")


@app.command()
def serve(
    address: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 listens on all interfaces.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 8000,
    ray_port: Annotated[
        int | None, typer.Option(help="Also listen on this port; Lumigator's SDK looks for Ray at 8265.")
    ] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Require a token from clients on this machine, too.")
    ] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Write the log as JSON Lines.")] = False,
    password_file: Annotated[
        Path | None, typer.Option(help="Users and password hashes of the dashboard (see dashboard --add-user).")
    ] = None,
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
) -> None:
    """Serve the dashboard and the REST API on one port. See docs/rest.md and docs/deploy.md for logins and tokens."""
    # Before the imports below, which would raise ImportError without naming the extra.
    for package, extra in (("panel", "dashboard"), ("panel_material_ui", "dashboard"), *_REST):
        if find_spec(package) is None:
            raise MissingExtraError("the server", extra)
    from lumigator_nb.serving.auth_methods import auth_method_of
    from lumigator_nb.serving.http import Serving
    from lumigator_nb.serving.rest_and_dashboard import Api, log_to_stderr
    from lumigator_nb.serving.rest_and_dashboard import serve as serve_both

    log_to_stderr(as_json=log_json)
    with connected() as ws:
        serving = Serving(
            address=address, port=port, auth_method=auth_method_of(ws.settings, password_file),
            origins=tuple(allow_origin or ()), prefix=prefix, behind_proxy=behind_proxy,
            certificate=certificate, private_key=private_key,
        )  # fmt: skip
        serve_both(ws, serving, Api(ray_port=ray_port, tokens=require_token))


@app.command()
def mcp(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Files below it may be uploaded by their path (not over HTTP). Default: the current folder, "
            "unless it is the home folder or above it."
        ),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over HTTP, to clients with an API token, instead of stdio.")
    ] = False,
    address: Annotated[str, typer.Option(help="Address to listen on with --http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on with --http; 0 picks a free one.")] = 8001,
) -> None:
    """Serve the Model Context Protocol, so that a coding assistant can choose a model. See docs/mcp.md."""
    if find_spec("mcp") is None:
        raise MissingExtraError("the MCP server", "mcp")
    from lumigator_nb.mcp.server import serve_http, serve_stdio

    here = Path.cwd()
    with connected() as ws:
        if http:
            serve_http(ws, address, port)
        else:
            # Some assistants start their servers in / or at home, where keys and other private files lie.
            serve_stdio(ws, folder or (None if Path.home().is_relative_to(here) else here))


@tokens.command("create")
def tokens_create(
    name: Annotated[str, typer.Argument(help="Name of the token, such as the program that uses it.")],
    scope: Annotated[str, typer.Option(help="read; write (also create and delete); or admin (also secrets).")] = "read",
    days: Annotated[float, typer.Option(help="Days until it expires; 0 for never.")] = 90,
) -> None:
    """Create a token and print it. It cannot be printed again."""
    with connected() as ws:
        text = ws.tokens.create(name, scope=scope, days=days or None)
    typer.echo(text)
    typer.echo("it cannot be shown again: store it where the program that needs it can read it", err=True)


@tokens.command("list")
def tokens_list() -> None:
    """List tokens, with scope and expiry."""
    with connected() as ws:
        records = ws.tokens.list()
    rows = [
        (
            token.name,
            token.scope.value,
            moment(token.created_at),
            moment(token.expires_at) if token.expires_at else "never",
        )
        for token in records
    ]
    print_table(("name", "scope", "created", "expires"), rows)


@tokens.command("revoke")
def tokens_revoke(name: Annotated[str, typer.Argument(help="Name of the token.")]) -> None:
    """Revoke a token: requests with it are refused from now on."""
    with connected() as ws:
        ws.tokens.revoke(name)
