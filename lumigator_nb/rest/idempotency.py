"""Idempotency keys: a client that repeats a request with the same key gets the stored response of the first one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lumigator_nb.errors import LumigatorError
from lumigator_nb.rest.errors import problem, status_of
from lumigator_nb.rest.wire import leniency
from lumigator_nb.services.access.idempotency import Replies

HEADER = "Idempotency-Key"
_MAX_KEY = 255
_STORED_HEADERS = ("location", "content-type", leniency.HEADER.lower())
# Bytes of a body to read for the digest of a request.
_MAX_BODY = 2 << 20


class IdempotencyMiddleware:
    """Middleware that stores the response of each POST with an idempotency key, and repeats it.

    Args:
        replies: called for each request; returns the stored responses.
    """

    def __init__(self, app: ASGIApp, replies: Callable[[], Replies]) -> None:
        self._app, self._replies = app, replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get(HEADER) if scope["type"] == "http" and scope["method"] == "POST" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        headers, request_id = Headers(scope=scope), scope.get("request_id")
        if not 0 < len(key) <= _MAX_KEY:
            detail = f"{HEADER} has 1 to {_MAX_KEY} characters"
            refusal = problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, request_id=request_id)
            await refusal(scope, receive, send)
            return
        receive_again, request_digest = await _read_request(scope, headers, receive)
        name = _digest(headers.get("authorization", ""), key)  # the keys of different clients are independent
        replies = self._replies()
        try:
            stored = await run_in_threadpool(replies.begin, name, request_digest)
        except LumigatorError as error:
            refusal = problem(status_of(error), error.message, error.hint, request_id=request_id)
            await refusal(scope, receive, send)
            return
        if stored is not None and stored.status is not None:
            body = stored.body.encode()
            raw = [(header.encode(), value.encode()) for header, value in stored.headers.items()]
            raw += [(b"content-length", str(len(body)).encode()), (b"idempotency-replayed", b"true")]
            await send({"type": "http.response.start", "status": stored.status, "headers": raw})
            await send({"type": "http.response.body", "body": body})
            return
        response = _HeldResponse()
        try:
            await self._app(scope, receive_again, response)
        finally:
            # Also runs if the request is cancelled. A request that was refused, or at which the server failed, may be
            # repeated with the same key.
            if response.status in (None, 401, 403, 429) or (response.status or 500) >= HTTPStatus.INTERNAL_SERVER_ERROR:
                await run_in_threadpool(replies.drop, name)
            else:
                await run_in_threadpool(replies.end, name, response.status, response.headers, response.body.decode())
        await response.pass_on(send)


class _HeldResponse:
    """Holds a response back until it is stored, so that a client that never receives it can ask again."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            self.headers = {name: headers[name] for name in _STORED_HEADERS if name in headers}
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
        self._messages.append(message)

    async def pass_on(self, send: Send) -> None:
        """Send the response."""
        for message in self._messages:
            await send(message)


async def _read_request(scope: Scope, headers: Headers, receive: Receive) -> tuple[Receive, str]:
    """Return a function that receives the request once more, and the digest of the request.

    The digest of an upload uses only its path and length: the boundaries in its body differ each time.
    """
    address = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
    if headers.get("content-type", "").startswith("multipart/"):
        return receive, _digest(address, headers.get("content-length", ""))
    messages: list[Message] = []
    body = b""
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body") or len(body) > _MAX_BODY:
            break

    async def receive_again() -> Message:
        return messages.pop(0) if messages else await receive()

    return receive_again, _digest(address, body.decode("latin-1"))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
