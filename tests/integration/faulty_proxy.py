"""A reverse proxy that lets an S3 server fail on demand: what the network or the server does on a bad day.

The client talks to the proxy as its endpoint; the Host header is forwarded as it came, so signatures stay valid.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from waiting import PATIENCE_S


@dataclass
class Fault:
    """What goes wrong, and with which requests.

    Attributes:
        kind: "answer" with `status` and `body`; "reset" the connection before or, as "lost", after the server has
            done its work; "cut" the body in its middle; "slow" is right, but `seconds` later; "hang" answers nothing.
        method, part: of the requests it concerns: "" is all; `part` is a piece of path and query.
        skip: so many of them go well first.
        times: so many then fail; the later ones go well again.
    """

    kind: Literal["answer", "reset", "lost", "cut", "slow", "hang"]
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""
    part: str = ""
    skip: int = 0
    times: int = 1_000_000
    seconds: float = 0.0

    def strikes(self, method: str, path: str) -> bool:
        if (self.method and method != self.method) or self.part not in path or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


def s3_error(status: int, code: str, message: str = "", *, extra: str = "", **where: object) -> Fault:
    """The answer of S3 to a request that it refuses."""
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    )
    return Fault("answer", status, body.encode(), {"Content-Type": "application/xml"}, **where)


class FaultyProxy:
    """Listens on loopback while its context is open; `faults` may be changed at any time.

    Attributes:
        requests: method, path with query, and body length of each request in the order they came.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, int]] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str, part: str = "") -> int:
        return sum(each[0] == method and part in each[1] for each in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.proxy.lock:
            self.proxy.requests.append((self.command, self.path, len(body)))
            fault = next((each for each in self.proxy.faults if each.strikes(self.command, self.path)), None)
        kind = fault.kind if fault else ""
        if fault and kind == "answer":
            self._answer(fault.status, list(fault.headers.items()), fault.body)
        elif kind == "reset":
            self._reset()
        elif kind == "hang":
            self.proxy.closing.wait(PATIENCE_S)
            self._reset()
        else:
            time.sleep(fault.seconds if fault else 0)
            answer = self._ask(body)
            if kind == "lost":
                self._reset()
            else:
                self._answer(*answer, cut=kind == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = http.client.HTTPConnection("127.0.0.1", self.proxy.target_port, timeout=PATIENCE_S)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect", "connection")}
        server.request(self.command, self.path, body or None, headers)
        answer = server.getresponse()
        content = answer.read()
        server.close()
        return answer.status, answer.getheaders(), content

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._reset()

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def finish(self) -> None:
        # After a reset nothing is left to flush.
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass
