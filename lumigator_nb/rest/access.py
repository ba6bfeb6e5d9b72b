"""Who may do what: API tokens off loopback, and no page of somebody else's on it."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from lumigator_nb.rest.errors import RefusedError
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.services.access.tokens import is_expired
from lumigator_nb.specs import Scope

log = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_HINT = (
    "lumigator-nb token create NAME makes one; send it as 'Authorization: Bearer TOKEN', or as the password of Basic"
)
_ASK = {"WWW-Authenticate": 'Bearer realm="lumigator", Basic realm="lumigator"'}
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="An API token; also as Basic's password.")


def _check(request: Request, services: Services, needed: Scope) -> None:
    token = _token(request)
    if token is not None:
        _check_token(request, services, token, needed)
    elif services.open:
        _refuse_foreign_pages(request, services)
    else:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "an API token is needed", _HINT, _ASK)


def needs(scope: Scope) -> Callable[..., Awaitable[None]]:
    """Return the dependency that lets requests pass whose token is good for `scope`."""

    async def check(
        request: Request,
        services: Shared,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> None:
        if "authorization" in request.headers:
            await run_in_threadpool(_check, request, services, scope)  # asks the database
        else:
            _check(request, services, scope)

    return check


class Doorman:
    """Middleware that asks who it is before an upload is read, or an answer is given again, and not after."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        uploads = headers.get("content-type", "").startswith("multipart/")
        if uploads or "idempotency-key" in headers:
            try:
                needed = Scope.WRITE if uploads else Scope.READ
                await run_in_threadpool(_check, Request(scope), self._services, needed)
            except RefusedError as error:
                await error.answer(scope.get("request_id"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


READ = Depends(needs(Scope.READ))
WRITE = Depends(needs(Scope.WRITE))
ADMIN = Depends(needs(Scope.ADMIN))


def _token(request: Request) -> str | None:
    """The token as it was sent; a program that knows no tokens takes one as the password of its address."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return value.strip() if scheme else None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _check_token(request: Request, services: Services, text: str, needed: Scope) -> None:
    token = services.ws.tokens.find(text)
    address = request.client.host if request.client else ""
    if token is None:
        if seconds := services.attempts.wait(address):
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens came from this address", "wait",
                {"Retry-After": str(int(seconds) + 1)},
            )  # fmt: skip
        services.attempts.begin(address)
        log.warning("a wrong token came from %s", address)
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "the API token is wrong, or was revoked", _HINT, _ASK)
    request.scope["token_name"] = token.name
    if is_expired(token):
        raise RefusedError(HTTPStatus.UNAUTHORIZED, f"the API token {token.name!r} has expired", _HINT, _ASK)
    request.scope["token_scope"] = token.scope
    if not token.scope.allows(needed):
        raise RefusedError(
            HTTPStatus.FORBIDDEN,
            f"the API token {token.name!r} has the scope {token.scope.value!r}, and this needs {needed.value!r}",
            f"lumigator-nb token create NAME --scope {needed.value}",
        )


def _refuse_foreign_pages(request: Request, services: Services) -> None:
    """Without tokens everybody at this machine is let in, but no page that their browser happens to show."""
    host = request.headers.get("host", "")
    if not services.knows_host(host):
        raise RefusedError(HTTPStatus.FORBIDDEN, f"this server is not known as {host}", "start it with --allow-origin")
    origin = request.headers.get("origin")
    if origin and request.method not in SAFE_METHODS and not services.admits_origin(origin, host):
        raise RefusedError(
            HTTPStatus.FORBIDDEN, f"pages of {origin} may not change anything here",
            "API_CORS_ALLOWED_ORIGINS or --allow-origin names those that may",
        )  # fmt: skip
