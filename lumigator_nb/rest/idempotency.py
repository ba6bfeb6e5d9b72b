"""Idempotency keys: a request that is sent again, because its answer got lost, gets the same answer."""

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
_LONGEST_KEY = 255
_KEPT_HEADERS = ("location", "content-type", leniency.HEADER.lower())
# Bodies of requests that create something, uploads aside.
_MOST_BODY = 2 << 20


class Repeating:
    """Middleware that answers repetitions.

    Args:
        replies: called with each request for where answers are kept.
    """

    def __init__(self, app: ASGIApp, replies: Callable[[], Replies]) -> None:
        self._app, self._replies = app, replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get(HEADER) if scope["type"] == "http" and scope["method"] == "POST" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        if not 0 < len(key) <= _LONGEST_KEY:
            said = f"{HEADER} has 1 to {_LONGEST_KEY} characters"
            await _refused(scope, HTTPStatus.UNPROCESSABLE_ENTITY, said)(scope, receive, send)
            return
        await self._once(key, scope, receive, send)

    async def _once(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        again, said = await _request(scope, headers, receive)
        name = _digest(headers.get("authorization", ""), key)
        replies = self._replies()
        try:
            before = await run_in_threadpool(replies.begin, name, said)
        except LumigatorError as error:
            await _refused(scope, status_of(error), error.message, error.hint)(scope, receive, send)
            return
        if before is not None and before.status is not None:
            await _answer(before.status, before.headers, before.body.encode(), send)
            return
        answer = _Answer()
        try:
            await self._app(scope, again, answer)
        finally:
            # Also where this is cancelled; what the server failed at may be tried again, and so may what was refused
            # at the door.
            if answer.status in (None, 401, 403, 429) or (answer.status or 500) >= HTTPStatus.INTERNAL_SERVER_ERROR:
                await run_in_threadpool(replies.drop, name)
            else:
                await run_in_threadpool(replies.end, name, answer.status, answer.headers, answer.body.decode())
        await answer.pass_on(send)


class _Answer:
    """Holds an answer back until it is kept: who has gone by then, or whom it does not reach, can ask for it again."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            self.headers = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
        self._messages.append(message)

    async def pass_on(self, send: Send) -> None:
        """Send what was answered."""
        for message in self._messages:
            await send(message)


def _refused(scope: Scope, status: int, detail: str, hint: str | None = None) -> ASGIApp:
    return problem(status, detail, hint, request_id=scope.get("request_id"))


async def _request(scope: Scope, headers: Headers, receive: Receive) -> tuple[Receive, str]:
    """Return what receives the request again, and its digest.

    An upload is not read for it: its boundary differs each time. What it is called and how long it is must do.
    """
    place = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
    if headers.get("content-type", "").startswith("multipart/"):
        return receive, _digest(place, headers.get("content-length", ""))
    messages: list[Message] = []
    body = b""
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body") or len(body) > _MOST_BODY:
            break

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again, _digest(place, body.decode("latin-1"))


async def _answer(status: int, headers: dict[str, str], body: bytes, send: Send) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw += [(b"content-length", str(len(body)).encode()), (b"idempotency-replayed", b"true")]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
