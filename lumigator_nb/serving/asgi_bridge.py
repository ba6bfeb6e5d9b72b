"""Runs an ASGI application (the REST API) inside Tornado, the web server of the dashboard, on the same port.

Bodies are streamed in both directions. A slow client slows down only its own request.

Why not a second server, such as uvicorn: it would need a proxy in front to share the port, and could not use the
dashboard's logins.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import weakref
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from lumigator_nb.rest.errors import MEDIA_TYPE

log = logging.getLogger(__name__)

# Maximum size of a body that is not an upload, and of the form's lines around an uploaded file, in bytes.
MAX_JSON, MAX_FORM_OVERHEAD = 2 << 20, 1 << 16
# The next chunk of a body must arrive within this time.
CHUNK_TIMEOUT_S = 60.0


@stream_request_body
class Bridge(RequestHandler):
    """Handles one request by passing it to the ASGI application."""

    under_way: ClassVar[weakref.WeakSet[Bridge]] = weakref.WeakSet()

    logs_itself = True  # the application logs its requests

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")

    def initialize(self, app: ASGIApp, max_upload: int, prefix: str) -> None:
        self._asgi, self._max_upload, self._prefix = app, max_upload, prefix
        # Chunks of the body, then None. Bounded: Tornado reads no more until the application has taken some.
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=4)
        self._disconnected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._body_complete = False
        self.under_way.add(self)

    @property
    def is_answering(self) -> bool:
        """Whether the response is not complete yet."""
        return self._task is not None and not self._task.done()

    async def prepare(self) -> None:
        """Start the application when the headers have arrived. Refuse a body that is too large before reading it."""
        self.clear()
        for name in ("Content-Type", "Server", "Date"):
            self.clear_header(name)
        is_form = self.request.headers.get("Content-Type", "").lower().startswith("multipart/form-data")
        is_upload = self.request.method == "POST" and self.request.path.rstrip("/").endswith("/datasets") and is_form
        max_bytes = self._max_upload + MAX_FORM_OVERHEAD if is_upload else MAX_JSON
        try:
            n_bytes = int(self.request.headers.get("Content-Length", "0"))
        except ValueError:
            n_bytes = 0
        if n_bytes > max_bytes:
            self.set_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            self.set_header("Content-Type", MEDIA_TYPE)
            self.set_header("Connection", "close")
            self.finish(json.dumps({
                "type": "about:blank", "title": "Request Entity Too Large", "status": 413,
                "detail": f"the request has {n_bytes:,} bytes; the maximum is {max_bytes:,}",
                "hint": "LUMIGATOR_MAX_UPLOAD_MB sets the maximum size of an uploaded file",
            }))  # fmt: skip
            return
        self.request.connection.set_max_body_size(max_bytes)  # type: ignore[union-attr]
        self._task = asyncio.ensure_future(self._asgi(self._scope(), self._receive, self._send))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Pass on a chunk of the body. Tornado reads the next one when the returned awaitable is done."""
        if self._task is None or self._task.done():
            return None  # the application has responded without reading the rest
        return self._put(chunk, self._task)

    async def _put(self, chunk: bytes | None, task: asyncio.Task[None]) -> None:
        """Pass on a chunk, or give up when the application has ended without taking it."""
        put = asyncio.ensure_future(self._chunks.put(chunk))
        done, _ = await asyncio.wait({put, task}, return_when=asyncio.FIRST_COMPLETED)
        if put not in done:
            put.cancel()

    async def _respond(self, *_: str) -> None:
        """Wait for the application when the whole request has arrived."""
        if self._task is None:
            return
        await self._put(None, self._task)
        try:
            await self._task
        except (ClientDisconnect, StreamClosedError, asyncio.CancelledError):
            return
        except Exception:
            log.exception("a request could not be answered")
            if not self._headers_written:
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
                return
            self.request.connection.close()  # type: ignore[union-attr]
            return
        if not self._finished:
            self.finish()

    get = head = post = put = patch = delete = options = trace = query = _respond

    def write_error(self, status_code: int, **_: Any) -> None:
        """Respond to a malformed request that did not reach the application."""
        self.set_header("Content-Type", MEDIA_TYPE)
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        title = HTTPStatus(status_code).phrase
        self.finish(json.dumps({"type": "about:blank", "title": title, "status": status_code, "detail": title}))

    def on_connection_close(self) -> None:
        """Tell the application that the client has disconnected."""
        self._disconnected.set()
        if self._task is not None and not self._task.done() and not self._headers_written:
            # An application that waits for the rest of the request wakes up; other work is done to the end.
            with contextlib.suppress(asyncio.QueueFull):
                self._chunks.put_nowait(None)

    def compute_etag(self) -> None:
        """Compute no ETag: Tornado would have to hold the whole response back for it."""

    def check_xsrf_cookie(self) -> None:
        """Require no XSRF cookie: the API uses no cookies."""

    def _scope(self) -> dict[str, Any]:
        request = self.request
        path = request.path
        host, _, port = request.host.rpartition(":") if ":" in request.host else (request.host, "", "")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.protocol,
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": self._prefix,
            "query_string": request.query.encode("latin-1", "replace"),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.get_all()
            ],
            "client": (request.remote_ip, 0),
            "server": (host, int(port) if port.isdecimal() else None),
        }

    async def _receive(self) -> Message:
        """Return the next message to the application, as ASGI's `receive`."""
        if not self._body_complete and not self._disconnected.is_set():
            try:
                chunk = await asyncio.wait_for(self._chunks.get(), CHUNK_TIMEOUT_S)
            except TimeoutError:
                self.request.connection.stream.close()  # type: ignore[union-attr]
                return {"type": "http.disconnect"}
            if chunk is not None:
                return {"type": "http.request", "body": chunk, "more_body": True}
            self._body_complete = True
            if not self._disconnected.is_set():
                return {"type": "http.request", "body": b"", "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """Send a message of the application, as ASGI's `send`."""
        if self._disconnected.is_set():
            raise ClientDisconnect
        if message["type"] == "http.response.start":
            self.set_status(message["status"])
            for name, value in message.get("headers", []):
                self.add_header(name.decode("latin-1"), value.decode("latin-1"))
        elif message["type"] == "http.response.body":
            if body := message.get("body", b""):
                self.write(body)
            if message.get("more_body"):
                with contextlib.suppress(StreamClosedError):
                    await self.flush()
            else:
                self.finish()
