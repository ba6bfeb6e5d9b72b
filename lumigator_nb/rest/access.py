"""Authorization: remote clients need an API token; on loopback, requests from foreign origins are refused (CSRF)."""

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

# Methods that change nothing. Pages of other sites cannot read the responses either: browsers enforce the same-origin
# policy.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_HINT = (
    "lumigator-nb token create NAME makes one; send it as 'Authorization: Bearer TOKEN', or as the password of Basic"
)
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="lumigator", Basic realm="lumigator"'}
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="An API token; also as Basic's password.")


def _check(request: Request, services: Services, needed: Scope) -> None:
    """Raise RefusedError unless the request has a token with the scope `needed`, or needs no token."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        # Programs that know no tokens can send one as the password of Basic authentication.
        try:
            text = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        _check_token(request, services, text, needed)
    elif scheme:
        _check_token(request, services, value.strip(), needed)
    elif services.open:
        _refuse_foreign_pages(request, services)
    else:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "an API token is needed", _HINT, _CHALLENGE)


def needs(scope: Scope) -> Callable[..., Awaitable[None]]:
    """Return a FastAPI dependency that requires a token with `scope`."""

    async def check(
        request: Request,
        services: Shared,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> None:
        if "authorization" in request.headers:
            await run_in_threadpool(_check, request, services, scope)  # queries the database
        else:
            _check(request, services, scope)

    return check


class AuthMiddleware:
    """Middleware that checks the token before an upload is read, or a stored response is repeated.

    FastAPI runs dependencies only after it has read the whole form, and middleware before any route.
    """

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


def _check_token(request: Request, services: Services, text: str, needed: Scope) -> None:
    """Raise RefusedError unless the token is valid and has the scope; limit wrong tokens per address."""
    token = services.ws.tokens.find(text)
    address = request.client.host if request.client else ""
    if token is None:
        if seconds := services.attempts.wait(address):
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens came from this address", "wait, then try again",
                {"Retry-After": str(int(seconds) + 1)},
            )  # fmt: skip
        services.attempts.begin(address)
        log.warning("wrong API token from %s", address)
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "the API token is wrong, or was revoked", _HINT, _CHALLENGE)
    request.scope["token_name"] = token.name
    if is_expired(token):
        raise RefusedError(HTTPStatus.UNAUTHORIZED, f"the API token {token.name!r} has expired", _HINT, _CHALLENGE)
    request.scope["token_scope"] = token.scope
    if not token.scope.allows(needed):
        raise RefusedError(
            HTTPStatus.FORBIDDEN,
            f"the API token {token.name!r} has the scope {token.scope.value!r}, and this needs {needed.value!r}",
            f"lumigator-nb token create NAME --scope {needed.value}",
        )


def _refuse_foreign_pages(request: Request, services: Services) -> None:
    """Raise RefusedError for requests that a foreign web page makes in the browser of a local user.

    A local client needs no token. Without this check, any page in its browser could send requests, too.
    """
    host = request.headers.get("host", "")
    if not services.knows_host(host):
        raise RefusedError(
            HTTPStatus.FORBIDDEN, f"this server does not serve the host {host}", f"start it with --allow-origin {host}"
        )
    origin = request.headers.get("origin")
    if origin and request.method not in SAFE_METHODS and not services.admits_origin(origin, host):
        raise RefusedError(
            HTTPStatus.FORBIDDEN, f"pages of {origin} may not change anything on this server",
            "list allowed origins in API_CORS_ALLOWED_ORIGINS or --allow-origin",
        )  # fmt: skip
