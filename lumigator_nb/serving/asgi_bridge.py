"""Lets the web server of the dashboard, Tornado, answer by an ASGI application, on the same port.

Bodies pass through in both directions piece by piece; whoever sends or reads slowly slows only themselves down.
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

# What is not a file is small; a file's form has a few lines around it.
MOST_JSON, MOST_AROUND = 2 << 20, 1 << 16
# Seconds within which the next piece of a body has to come.
PATIENCE_S = 60.0


@stream_request_body
class Bridge(RequestHandler):
    """One request, handed to the application."""

    under_way: ClassVar[weakref.WeakSet[Bridge]] = weakref.WeakSet()

    logs_itself = True  # the application does

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")

    def initialize(self, app: ASGIApp, max_upload: int, prefix: str) -> None:
        self._asgi, self._max_upload, self._prefix = app, max_upload, prefix
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=4)
        self._gone = asyncio.Event()
        self._answering: asyncio.Task[None] | None = None
        self._whole = False
        self.under_way.add(self)

    @property
    def is_answering(self) -> bool:
        """Whether somebody waits for an answer still."""
        return self._answering is not None and not self._answering.done()

    async def prepare(self) -> None:
        """Called when the head of a request is there: what cannot be taken is refused before its body comes."""
        self.clear()
        for name in ("Content-Type", "Server", "Date"):
            self.clear_header(name)
        most = self._most()
        if self._length() > most:
            self._refuse(most)
            return
        self.request.connection.set_max_body_size(most)  # type: ignore[union-attr]
        self._answering = asyncio.ensure_future(self._asgi(self._scope(), self._receive, self._send))

    def _most(self) -> int:
        multipart = self.request.headers.get("Content-Type", "").lower().startswith("multipart/form-data")
        upload = self.request.method == "POST" and self.request.path.rstrip("/").endswith("/datasets") and multipart
        return self._max_upload + MOST_AROUND if upload else MOST_JSON

    def _length(self) -> int:
        try:
            return int(self.request.headers.get("Content-Length", "0"))
        except ValueError:
            return 0

    def _refuse(self, most: int) -> None:
        self.set_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.set_header("Content-Type", MEDIA_TYPE)
        self.set_header("Connection", "close")
        self.finish(json.dumps({
            "type": "about:blank", "title": "Request Entity Too Large", "status": 413,
            "detail": f"the request has {self._length():,} bytes, and may have {most:,}",
            "hint": "LUMIGATOR_MAX_UPLOAD_MB says how large an uploaded file may be",
        }))  # fmt: skip

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Called with each piece of the body; the next one is read when this one was taken."""
        if self._answering is None or self._answering.done():
            return None  # answered without the rest of it
        return self._put(chunk)

    async def _put(self, chunk: bytes | None) -> None:
        put = asyncio.ensure_future(self._pieces.put(chunk))
        done, _ = await asyncio.wait({put, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if put not in done:
            put.cancel()

    @property
    def _task(self) -> asyncio.Task[None]:
        assert self._answering is not None
        return self._answering

    async def _answer(self, *_: str) -> None:
        """Called when the whole request is there."""
        if self._answering is None:
            return
        await self._put(None)
        try:
            await self._answering
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

    get = head = post = put = patch = delete = options = trace = query = _answer

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say what was wrong with a request that did not come as far as the application."""
        self.set_header("Content-Type", MEDIA_TYPE)
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        title = HTTPStatus(status_code).phrase
        self.finish(json.dumps({"type": "about:blank", "title": title, "status": status_code, "detail": title}))

    def on_connection_close(self) -> None:
        """Called when whoever asked has gone."""
        self._gone.set()
        if self._answering is not None and not self._answering.done() and not self._headers_written:
            # What it was doing it does to the end, unless it still waits for the rest of the request.
            with contextlib.suppress(asyncio.QueueFull):
                self._pieces.put_nowait(None)

    def compute_etag(self) -> None:
        """No answer is held back to be digested."""

    def check_xsrf_cookie(self) -> None:
        """Nobody is known here by a cookie."""

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
        if not self._whole and not self._gone.is_set():
            try:
                piece = await asyncio.wait_for(self._pieces.get(), PATIENCE_S)
            except TimeoutError:
                self.request.connection.stream.close()  # type: ignore[union-attr]
                return {"type": "http.disconnect"}
            if piece is not None:
                return {"type": "http.request", "body": piece, "more_body": True}
            self._whole = True
            if not self._gone.is_set():
                return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
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
