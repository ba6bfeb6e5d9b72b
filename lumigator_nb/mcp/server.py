"""The protocol: the tools over stdio, for an assistant on this machine, and over HTTP, for those with an API token."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
import uvicorn
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from starlette.applications import Starlette

from lumigator_nb._version import __version__
from lumigator_nb.errors import ConfigurationError, LumigatorError
from lumigator_nb.mcp.tools import Tools
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.services.access.tokens import is_expired
from lumigator_nb.specs import Scope
from lumigator_nb.workspace import Workspace

log = logging.getLogger(__name__)

PATH = "/mcp"
_INSTRUCTIONS = """\
Answers which language model to use on the user's own data, by evidence. The usual order: upload_dataset or \
list_datasets, show_dataset, create_experiment, list_models, estimate, launch (with a baseline, and with a budget that \
the user has agreed to), progress until all have ended, compare, why."""


class Server(MCPServer):
    """The MCP server of a workspace.

    Args:
        folder: as of :class:`Tools`.
        needs_token: whether each request needs an API token (over HTTP), whose scope then limits the tools.
    """

    def __init__(self, ws: Workspace, *, folder: Path | None = None, needs_token: bool) -> None:
        # The SDK wants an address of an OAuth server. Without `resource_server_url` no response names it.
        auth = AuthSettings(issuer_url="http://localhost", resource_server_url=None) if needs_token else None
        super().__init__(
            "lumigator", title="Lumigator", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING",
            auth=auth, token_verifier=_Verifier(ws) if needs_token else None, subscriptions=False,
        )  # fmt: skip
        self._ws, self._needs_token = ws, needs_token
        self._scopes: dict[str, Scope] = {}
        for scope, functions in Tools(ws, folder, self._is_admin).by_scope.items():
            hints = ToolAnnotations(read_only_hint=scope is Scope.READ, destructive_hint=False)
            for function in functions:
                self.add_tool(function, annotations=hints)
                self._scopes[function.__name__] = scope

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> CallToolResult:
        """Call a tool, if the token's scope allows it. No answer contains a known secret.

        Raises:
            ToolError: the tool refused, with the reason.
        """
        redact = await anyio.to_thread.run_sync(redactor_of, self._ws.settings)  # queries the database
        try:
            self._check_scope(name)
            result = cast(CallToolResult, await super().call_tool(name, arguments, context))
        except UnexpectedToolError as error:
            if isinstance(error.__cause__, LumigatorError):
                raise ToolError(redact(str(error.__cause__))) from None
            raise  # the SDK logs it, and its message names the tool only
        except ToolError as error:
            raise ToolError(redact(str(error))) from None
        answer = _redacted(result.structured_content, redact)
        # Clients read either. The text is made from what is redacted: in JSON a secret with a quote looks different.
        text = TextContent(type="text", text=json.dumps(answer, ensure_ascii=False))
        return CallToolResult(content=[text], structured_content=answer)

    def _check_scope(self, name: str) -> None:
        token, needed = get_access_token(), self._scopes.get(name)
        if self._needs_token and needed and (token is None or needed.value not in token.scopes):
            raise ToolError(
                f"{name} needs an API token of the scope {needed.value!r}\n"
                f"Hint: lumigator-nb token create NAME --scope {needed.value}"
            )

    def _is_admin(self) -> bool:
        token = get_access_token()
        return token is not None and Scope.ADMIN.value in token.scopes

    def http_app(self) -> Starlette:
        """Return the application that answers over HTTP, below :data:`PATH`."""
        # No sessions: a server may be started again, and several may share the work. No check of Host and Origin: each
        # request needs a token, which a page of another site does not have.
        return self.streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, json_response=True,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )  # fmt: skip


class _Verifier:
    """Finds the API token of a request."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the scopes of a token; None if it is unknown, revoked or has expired."""
        record = await anyio.to_thread.run_sync(self._ws.tokens.find, token)  # queries the database
        if record is None or is_expired(record):
            log.warning("a wrong or expired API token was refused")
            return None
        scopes = [scope.value for scope in Scope if record.scope.allows(scope)]
        return AccessToken(token=token, client_id=record.name, scopes=scopes)


def serve_stdio(ws: Workspace, folder: Path | None) -> None:
    """Serve the process that started this one, until it closes its end of the pipe.

    Args:
        folder: files below it may be uploaded by their path; None: no file may.
    """
    Server(ws, folder=folder, needs_token=False).run("stdio")


def serve_http(ws: Workspace, address: str, port: int) -> None:
    """Serve over HTTP until SIGINT or SIGTERM. Each request needs an API token. Prints the address.

    Raises:
        ConfigurationError: the port is taken.
    """
    config = uvicorn.Config(
        Server(ws, needs_token=True).http_app(), log_level="warning", server_header=False, date_header=False
    )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {address}, port {port}: {error.strerror or error}", "choose another --port; 0 picks one"
        ) from None
    host = f"[{address}]" if ":" in address else address
    print(f"Lumigator's MCP server is at http://{host}:{listener.getsockname()[1]}{PATH} (Ctrl+C stops it)", flush=True)  # noqa: T201
    uvicorn.Server(config).run(sockets=[listener])


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a value of JSON without known secrets in its texts."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(name): _redacted(item, redact) for name, item in value.items()}
    return [_redacted(item, redact) for item in value] if isinstance(value, list) else value
