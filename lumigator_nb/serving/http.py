"""The web server of the dashboard: where it listens, who may come in, and from which pages."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from bokeh.protocol.exceptions import ProtocolError
from bokeh.server.urls import per_app_patterns
from panel.io.server import DocHandler, WSHandler, get_server
from tornado.web import Application, OutputTransform, RequestHandler

from lumigator_nb.dashboards.shell import HEADS, session
from lumigator_nb.display.html import tag
from lumigator_nb.errors import ConfigurationError
from lumigator_nb.files import whole_file
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.serving.gates import Gate, OAuth
from lumigator_nb.serving.login import SHOWN_COOKIES, XSRF_COOKIE, Door, Login, document, problem
from lumigator_nb.workspace import Workspace

log = logging.getLogger(__name__)

KEY_FILE = "dashboard.secret"
_SECRET_BYTES = 32
# Files come in pieces over the websocket; nothing else that is sent is large.
_MOST_BODY = 1 << 20
_MOST_MESSAGE = 20 << 20
# Whoever sends the head of a request more slowly, or nothing at all, is hung up on.
HEADER_TIMEOUT_S = 60.0
# Panel's page holds scripts, Bokeh compiles templates, and components are modules behind blob addresses. With all that
# allowed, the policy still keeps pages from loading anything from elsewhere, and from sending anything there.
_POLICY = "; ".join([
    "default-src 'self'", "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:", "style-src 'self' 'unsafe-inline'",
    "connect-src 'self' blob:", "img-src 'self' data: blob:", "font-src 'self' data:", "worker-src 'self' blob:",
    "object-src 'none'", "base-uri 'self'", "form-action 'self'",
])  # fmt: skip
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Origins:
    """Which pages may talk to the dashboard.

    Attributes:
        allowed: hosts with their ports, in small letters; "*" is any.
        same: whether the dashboard's own pages may, under whatever name it is reached: where people log in, no other
            name is sent their cookies.
        proxied: whether a proxy stands in front of a login, which may name the server as it likes.
    """

    allowed: frozenset[str]
    same: bool = False
    proxied: bool = False

    def admit(self, origin: str, host: str) -> bool:
        """Say whether a page may open a connection.

        Args:
            origin: scheme, host and port of the page.
            host: as the request names this server.
        """
        asked = urlsplit(origin).netloc.lower()
        return asked in self.allowed or "*" in self.allowed or (self.same and asked == host.lower())

    def know(self, host: str) -> bool:
        """Say whether a page under that name could open a connection."""
        return self.proxied or self.admit(f"//{host}", host)


@dataclass(frozen=True)
class Serving:
    """How the dashboard is served; checked when made.

    Attributes:
        address: to listen on, such as 127.0.0.1 or 0.0.0.0.
        port: 0 takes a free one.
        gate: how people log in; None lets everybody in, on loopback alone.
        origins: further names under which browsers reach it, such as ``lumigator.example.org``.
        prefix: of all addresses, where a proxy passes it on, such as ``/lumigator``.
        behind_proxy: believe what a proxy says of the browser's address and of https.
        certificate, private_key: files in PEM, for https without a proxy.
        secret_file: signs the cookies; made where it is not there.
        embedded: in a notebook, by whose kernel it is served.

    Raises:
        ConfigurationError: everybody who reaches the address could come in, or settings contradict each other.
    """

    address: str = "127.0.0.1"
    port: int = 5006
    gate: Gate | None = None
    origins: tuple[str, ...] = ()
    prefix: str = ""
    behind_proxy: bool = False
    certificate: Path | None = None
    private_key: Path | None = None
    secret_file: Path | None = field(default=None, repr=False)
    embedded: bool = False

    def __post_init__(self) -> None:
        if self.gate is None and not is_loopback(self.address):
            raise ConfigurationError(
                f"without a login, everybody who reaches {self.address or 'this machine'} could use the dashboard",
                "give --password-file FILE, or set LUMIGATOR_DASHBOARD_TOKEN or LUMIGATOR_DASHBOARD_OAUTH_PROVIDER; or "
                "leave --address out to listen on this machine alone",
            )
        if self.gate is None and "*" in self.origins and not self.embedded:
            raise ConfigurationError("--allow-origin '*' needs a login", "name the hosts, or give --password-file FILE")
        if bool(self.certificate) != bool(self.private_key):
            raise ConfigurationError("https needs two files", "give both --certificate FILE and --private-key FILE")
        for file in (self.certificate, self.private_key):
            if file is not None and not file.is_file():
                raise ConfigurationError(f"there is no file {file}", "--certificate and --private-key take PEM files")

    @property
    def local(self) -> bool:
        """Whether its readers sit at this machine, so that its files are theirs."""
        others = self.gate or self.origins or self.path or self.behind_proxy
        return self.embedded or (is_loopback(self.address) and not others)

    @property
    def path(self) -> str:
        """The prefix with one slash in front and none behind; empty without one."""
        plain = self.prefix.strip("/")
        return f"/{plain}" if plain else ""

    def allowed(self, port: int) -> Origins:
        """Return which pages may talk to a server that listens on that port."""
        own = {f"{host}:{port}" for host in (*_LOOPBACK, self.address)}
        named = {urlsplit(each).netloc or each for each in self.origins}
        hosts = frozenset(each.lower().rstrip("/") for each in own | named)
        # Without a login the name is all that keeps pages out whose own name leads here.
        return Origins(hosts, same=self.gate is not None, proxied=self.behind_proxy and self.gate is not None)


def is_loopback(address: str) -> bool:
    """Say whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def run(ws: Workspace, serving: Serving, *, show: bool = True) -> None:
    """Serve until interrupted; the first line printed is the address."""
    if serving.gate is not None and not (serving.certificate or serving.behind_proxy or is_loopback(serving.address)):
        log.warning("logins cross the network unencrypted: give --certificate, or --behind-proxy with https there")
    server = started(ws, serving)
    scheme = "https" if serving.certificate else "http"
    host = serving.address if serving.address not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104 - compared
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}{serving.path}/"
    print(f"Lumigator is at {url} (Ctrl+C ends it)", flush=True)  # noqa: T201
    if show:
        import webbrowser

        server.io_loop.add_callback(partial(webbrowser.open, url))
    server.io_loop.start()


def started(
    ws: Workspace, serving: Serving, *, routes: Sequence[Any] = (), hello: object = None, **options: Any
) -> Any:
    """Return a server that listens; its event loop is the caller's to start.

    Args:
        routes: further ones, as Tornado takes them, below the prefix.
        hello: what a program that asks for the page is told instead; None shows it the page.
        options: of Panel's `get_server`.

    Raises:
        ConfigurationError: the port is taken, or a file cannot be used.
    """
    watcher = watcher_of(ws)
    key = _secret(serving.secret_file or ws.settings.home / KEY_FILE)
    # Bokeh logs each connection, and warns of websockets from everywhere, which are checked by our own handler.
    logging.getLogger("bokeh.server.util").setLevel(logging.ERROR)
    # A setting of Tornado's application, which our handlers read; what depends on the port follows below.
    shared: dict[str, Any] = {"hello": hello}
    try:
        with _own_handlers():
            server = get_server(
                {"/": lambda: session(ws, watcher, local=serving.local)},
                port=serving.port, address=serving.address, title="Lumigator", location=False,
                extra_patterns=list(routes), lumigator=shared, **_security(serving, key), **options,
            )  # fmt: skip
    except OSError as error:
        raise ConfigurationError(
            f"the dashboard cannot listen on {serving.address}, port {serving.port}: {error.strerror or error}",
            "choose another with --port; 0 takes a free one",
        ) from None
    shared["origins"] = serving.allowed(server.port)
    server.start()
    return server


def http_options(serving: Serving) -> dict[str, Any]:
    """Return how connections are treated, as options of Tornado's `HTTPServer`."""
    return {
        "max_body_size": _MOST_BODY,
        "max_buffer_size": _MOST_MESSAGE,
        "idle_connection_timeout": HEADER_TIMEOUT_S,
        "xheaders": serving.behind_proxy,
    }


def _security(serving: Serving, key: bytes) -> dict[str, Any]:
    path = serving.path or "/"
    found: dict[str, Any] = {
        "prefix": serving.path,
        "root_path": f"{serving.path}/",
        # Nobody opens a session whose token was not made here.
        "sign_sessions": True,
        "secret_key": _derived(key, b"sessions"),
        "cookie_secret": _derived(key, b"cookies").hex(),
        "cookie_path": path,
        # What a page holds of its request must not be the proof of a login.
        "include_cookies": SHOWN_COOKIES,
        "include_headers": ["Host", "User-Agent", "Accept-Language"],
        "xsrf_cookie_name": XSRF_COOKIE,
        "xsrf_cookie_kwargs": {"httponly": True, "samesite": "Lax", "path": path, "secure": bool(serving.certificate)},
        "websocket_origin": ["*"],  # checked by our own handler
        "websocket_max_message_size": _MOST_MESSAGE,
        "http_server_kwargs": http_options(serving),
        "use_xheaders": serving.behind_proxy,
        "transforms": [_EmbeddedHeaders if serving.embedded else _Headers],
        "log_function": _log_request,
    }
    if serving.certificate:
        found |= {"ssl_certfile": str(serving.certificate), "ssl_keyfile": str(serving.private_key)}
    if serving.gate is not None:
        found["auth_provider"] = Login(Door(serving.gate, path))
    if isinstance(serving.gate, OAuth):
        found |= {"oauth_key": serving.gate.key, "oauth_secret": serving.gate.secret}
        found |= {"oauth_redirect_uri": serving.gate.redirect_uri} if serving.gate.redirect_uri else {}
    return found


class _Page(DocHandler):  # type: ignore[misc]
    """The page, which says so where its websocket would be refused, instead of staying empty."""

    async def prepare(self) -> None:
        origins: Origins = self.settings["lumigator"]["origins"]
        if origins.know(self.request.host):
            if not self._greeted():
                await super().prepare()
            return
        nonce = secrets.token_urlsafe(16)
        words = f"This server is not known as {self.request.host}. Whoever runs it can start it with:"
        option = tag("p", tag("code", f"--allow-origin {self.request.host}"))
        self.set_status(403)
        self.finish(document("Unknown address", problem(words), option, nonce=nonce))

    def _greeted(self) -> bool:
        """Answer a program that asks whether Lumigator is here, as Lumigator does; a browser asks for HTML."""
        self.set_header("Vary", "Accept")
        accepted = self.request.headers.get("Accept", "")
        hello = self.settings["lumigator"]["hello"]
        if hello is None or self.request.method != "GET" or "html" in accepted:
            return False
        self.finish(hello)
        return True


class _Typed(RequestHandler):
    """An address that was typed without its #, such as /datasets: leads to /#/datasets, which is the same page."""

    def initialize(self, **_: Any) -> None:
        """Take what Bokeh gives to each handler, and use none of it."""

    def get(self) -> None:
        """Lead to the page; its address stays escaped as it is, since names may hold any character."""
        prefix: str = self.application.prefix  # type: ignore[attr-defined]
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(f"{prefix}/#{quote(self.request.path.removeprefix(prefix), safe='/%')}{query}")


class _Socket(WSHandler):  # type: ignore[misc]
    """The connection of a page, from our own pages alone."""

    async def prepare(self) -> None:
        origins: Origins = self.settings["lumigator"]["origins"]
        # Tornado asks `check_origin` only where Origin and Host differ. A foreign name that leads here is in both.
        if not origins.know(self.request.host):
            log.error("a websocket was refused: this server is not known as %s", self.request.host)
            self.set_status(403)
            self.finish()
            return
        await super().prepare()

    def open(self, *arguments: Any, **named: Any) -> None:
        try:
            super().open(*arguments, **named)
        except (ProtocolError, ValueError, LookupError, TypeError) as error:  # no token, or not one of ours
            self.close()
            log.warning("a websocket from %s was closed: %s", self.request.remote_ip, error)

    def check_origin(self, origin: str) -> bool:
        origins: Origins = self.settings["lumigator"]["origins"]
        if origins.admit(origin, self.request.host):
            return True
        host = urlsplit(origin).netloc
        log.error("a page of %s was refused: if it is yours, start with --allow-origin %s", origin, host)
        return False


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Have a server made with our handlers; others that are made in this process keep theirs."""
    before = list(per_app_patterns)
    # Without "/autoload.js", which is for embedding into pages elsewhere.
    per_app_patterns[:] = [(r"/ws", _Socket), (r"/?", _Page), (rf"/(?:{'|'.join(HEADS)})(?:/.*)?", _Typed)]
    try:
        yield
    finally:
        per_app_patterns[:] = before


class _EmbeddedHeaders(OutputTransform):
    extra: ClassVar[Mapping[str, str]] = {"Content-Security-Policy": _POLICY}

    def transform_first_chunk(self, status_code: int, headers: Any, chunk: bytes, finishing: bool) -> Any:
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers.pop("Server", None)
        for name, value in self.extra.items():
            headers.setdefault(name, value)
        return status_code, headers, chunk


class _Headers(_EmbeddedHeaders):
    extra: ClassVar[Mapping[str, str]] = {
        "X-Frame-Options": "SAMEORIGIN", "Content-Security-Policy": f"{_POLICY}; frame-ancestors 'self'",
    }  # fmt: skip


def alone(routes: Sequence[Any]) -> Application:
    """Return an application that answers these routes and nothing else, as safely as the whole server does."""
    return Application(list(routes), transforms=[_Headers], log_function=_log_request)


def _log_request(handler: RequestHandler) -> None:
    """Log what failed, without the query, which may hold a token."""
    if getattr(handler, "logs_itself", False):
        return
    status, request = handler.get_status(), handler.request
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR
    log.log(level, "%d %s %s from %s", status, request.method, request.path, request.remote_ip)


def derived_key(path: Path, purpose: bytes) -> bytes:
    """Return a key for one purpose from the file that signs logins, which is made where it is not there.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    return _derived(_secret(path), purpose)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(purpose, key=key, digest_size=32).digest()


def _secret(path: Path) -> bytes:
    """Return the key that signs cookies; made on first use, and nobody else's to read."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Where another process came first, its key stays.
            with whole_file(path, 0o600, over=False) as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigurationError(f"others may read {path}, which signs the logins", f"rm {path} makes a new one")
        found = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}, which signs the logins, cannot be used: {error.strerror}") from None
    if len(found) < _SECRET_BYTES:
        raise ConfigurationError(f"{path}, which signs the logins, is cut short", f"rm {path} makes a new one")
    return found
