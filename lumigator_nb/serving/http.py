"""The web server of the dashboard: address, login, allowed origins, security headers."""

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
from lumigator_nb.serving.auth_methods import AuthMethod, OAuth
from lumigator_nb.serving.login import SHOWN_COOKIES, XSRF_COOKIE, Login, LoginSession, document, problem
from lumigator_nb.workspace import Workspace

log = logging.getLogger(__name__)

KEY_FILE = "dashboard.secret"
_SECRET_BYTES = 32
# In bytes. Uploaded files arrive in chunks over the websocket; nothing else is large.
_MAX_BODY = 1 << 20
_MAX_MESSAGE = 20 << 20
# A connection is closed if the headers of a request take longer.
HEADER_TIMEOUT_S = 60.0
# Panel's page contains inline scripts, Bokeh compiles templates (eval), and components are modules at blob: addresses.
# Even so, the policy prevents pages from loading anything from other sites and from sending anything there.
_POLICY = "; ".join([
    "default-src 'self'", "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:", "style-src 'self' 'unsafe-inline'",
    "connect-src 'self' blob:", "img-src 'self' data: blob:", "font-src 'self' data:", "worker-src 'self' blob:",
    "object-src 'none'", "base-uri 'self'", "form-action 'self'",
])  # fmt: skip
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Origins:
    """The origins of pages that may open a connection to the dashboard.

    Attributes:
        allowed: hosts with ports, in lower case; "*" allows all.
        same: whether pages of the dashboard itself are allowed under any host name. Safe with a login: browsers send
            its cookies only to the host of the login.
        proxied: whether a proxy in front of a login may change the host name.
    """

    allowed: frozenset[str]
    same: bool = False
    proxied: bool = False

    def admit(self, origin: str, host: str) -> bool:
        """Return whether a page may open a connection.

        Args:
            origin: scheme, host and port of the page.
            host: the request's header Host.
        """
        page_host = urlsplit(origin).netloc.lower()
        return page_host in self.allowed or "*" in self.allowed or (self.same and page_host == host.lower())

    def know(self, host: str) -> bool:
        """Return whether a page that is loaded from this host could open a connection."""
        return self.proxied or self.admit(f"//{host}", host)


@dataclass(frozen=True)
class Serving:
    """How to serve the dashboard; checked on construction.

    Attributes:
        address: address to listen on, such as 127.0.0.1 or 0.0.0.0.
        port: port to listen on; 0 picks a free one.
        auth_method: login method; None requires no login, on loopback only.
        origins: further hosts under which browsers reach it, such as ``lumigator.example.org``.
        prefix: path prefix of all URLs if a proxy passes one on, such as ``/lumigator``.
        behind_proxy: trust a proxy's headers about the browser's address and HTTPS.
        certificate, private_key: PEM files, to serve HTTPS without a proxy.
        secret_file: file with the key that signs cookies; created if missing.
        embedded: whether it is shown in a notebook whose kernel serves it.

    Raises:
        ConfigurationError: there is no login on a public address, or settings contradict each other.
    """

    address: str = "127.0.0.1"
    port: int = 5006
    auth_method: AuthMethod | None = None
    origins: tuple[str, ...] = ()
    prefix: str = ""
    behind_proxy: bool = False
    certificate: Path | None = None
    private_key: Path | None = None
    secret_file: Path | None = field(default=None, repr=False)
    embedded: bool = False

    def __post_init__(self) -> None:
        if self.auth_method is None and not is_loopback(self.address):
            raise ConfigurationError(
                f"without a login, any client that reaches {self.address or 'this machine'} could use the dashboard",
                "give --password-file FILE, or set LUMIGATOR_DASHBOARD_TOKEN or LUMIGATOR_DASHBOARD_OAUTH_PROVIDER; or "
                "leave --address out to serve this machine only",
            )
        if self.auth_method is None and "*" in self.origins and not self.embedded:
            raise ConfigurationError("--allow-origin '*' needs a login", "list the hosts, or give --password-file FILE")
        if bool(self.certificate) != bool(self.private_key):
            raise ConfigurationError("HTTPS needs two files", "give both --certificate FILE and --private-key FILE")
        for file in (self.certificate, self.private_key):
            if file is not None and not file.is_file():
                raise ConfigurationError(f"there is no file {file}", "--certificate and --private-key take PEM files")

    @property
    def local(self) -> bool:
        """Whether only users of this machine reach it, so that paths on this machine are useful to them."""
        is_shared = self.auth_method or self.origins or self.path or self.behind_proxy
        return self.embedded or (is_loopback(self.address) and not is_shared)

    @property
    def path(self) -> str:
        """The prefix with a slash in front and none at the end, or an empty text."""
        plain = self.prefix.strip("/")
        return f"/{plain}" if plain else ""

    def allowed(self, port: int) -> Origins:
        """Return the allowed origins of a server that listens on a port."""
        own = {f"{host}:{port}" for host in (*_LOOPBACK, self.address)}
        configured = {urlsplit(origin).netloc or origin for origin in self.origins}
        hosts = frozenset(host.lower().rstrip("/") for host in own | configured)
        # Without a login, only the host name keeps out pages whose own name resolves to this machine (DNS rebinding).
        return Origins(
            hosts, same=self.auth_method is not None, proxied=self.behind_proxy and self.auth_method is not None
        )


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def run(ws: Workspace, serving: Serving, *, show: bool = True) -> None:
    """Serve until interrupted. Prints the address."""
    if serving.auth_method is not None and not (
        serving.certificate or serving.behind_proxy or is_loopback(serving.address)
    ):
        log.warning(
            "logins cross the network unencrypted: give --certificate, or use a proxy with HTTPS and --behind-proxy"
        )
    server = started(ws, serving)
    scheme = "https" if serving.certificate else "http"
    host = serving.address if serving.address not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104 - compared
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}{serving.path}/"
    print(f"Lumigator is at {url} (Ctrl+C stops it)", flush=True)  # noqa: T201
    if show:
        import webbrowser

        server.io_loop.add_callback(partial(webbrowser.open, url))
    server.io_loop.start()


def started(
    ws: Workspace, serving: Serving, *, routes: Sequence[Any] = (), hello: object = None, **options: Any
) -> Any:
    """Return a server that listens. The caller starts its event loop.

    Args:
        ws: the workspace.
        serving: how to serve.
        routes: further Tornado routes, below the prefix.
        hello: response of the page for programs (clients that do not accept HTML); None: the page itself.
        options: options of Panel's `get_server`.

    Raises:
        ConfigurationError: the port is taken, or a file cannot be used.
    """
    watcher = watcher_of(ws)
    key = _secret(serving.secret_file or ws.settings.home / KEY_FILE)
    # Bokeh logs each connection, and warns that it accepts websockets of all origins. Our own handler checks them.
    logging.getLogger("bokeh.server.util").setLevel(logging.ERROR)
    # A setting of Tornado's application that our handlers read. The origins depend on the port, known only below.
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
            "choose another port with --port; 0 picks a free one",
        ) from None
    shared["origins"] = serving.allowed(server.port)
    server.start()
    return server


def http_options(serving: Serving) -> dict[str, Any]:
    """Return the options of Tornado's `HTTPServer`: limits, and trust in a proxy."""
    return {
        "max_body_size": _MAX_BODY,
        "max_buffer_size": _MAX_MESSAGE,
        "idle_connection_timeout": HEADER_TIMEOUT_S,
        "xheaders": serving.behind_proxy,
    }


def _security(serving: Serving, key: bytes) -> dict[str, Any]:
    """Return the options of Panel's `get_server` that concern security."""
    path = serving.path or "/"
    options: dict[str, Any] = {
        "prefix": serving.path,
        "root_path": f"{serving.path}/",
        # A session opens only with a token that this server made.
        "sign_sessions": True,
        "secret_key": _derived(key, b"sessions"),
        "cookie_secret": _derived(key, b"cookies").hex(),
        "cookie_path": path,
        # Sessions can read these parts of their request; the proof of a login must not be among them.
        "include_cookies": SHOWN_COOKIES,
        "include_headers": ["Host", "User-Agent", "Accept-Language"],
        "xsrf_cookie_name": XSRF_COOKIE,
        "xsrf_cookie_kwargs": {"httponly": True, "samesite": "Lax", "path": path, "secure": bool(serving.certificate)},
        "websocket_origin": ["*"],  # our own handler checks it
        "websocket_max_message_size": _MAX_MESSAGE,
        "http_server_kwargs": http_options(serving),
        "use_xheaders": serving.behind_proxy,
        "transforms": [_EmbeddedHeaders if serving.embedded else _Headers],
        "log_function": _log_request,
    }
    if serving.certificate:
        options |= {"ssl_certfile": str(serving.certificate), "ssl_keyfile": str(serving.private_key)}
    if serving.auth_method is not None:
        options["auth_provider"] = Login(LoginSession(serving.auth_method, path))
    if isinstance(serving.auth_method, OAuth):
        options |= {"oauth_key": serving.auth_method.key, "oauth_secret": serving.auth_method.secret}
        options |= {"oauth_redirect_uri": serving.auth_method.redirect_uri} if serving.auth_method.redirect_uri else {}
    return options


class _Page(DocHandler):  # type: ignore[misc]
    """The dashboard's page. It shows an error if the websocket would be refused, instead of staying empty."""

    async def prepare(self) -> None:
        origins: Origins = self.settings["lumigator"]["origins"]
        if not origins.know(self.request.host):
            message = f"This server does not serve the host {self.request.host}. To allow it, start the server with:"
            option = tag("p", tag("code", f"--allow-origin {self.request.host}"))
            self.set_status(403)
            self.finish(document("Unknown address", problem(message), option, nonce=secrets.token_urlsafe(16)))
            return
        self.set_header("Vary", "Accept")
        hello = self.settings["lumigator"]["hello"]
        # Lumigator's clients request this page to find out whether it runs. A browser accepts HTML.
        if hello is not None and self.request.method == "GET" and "html" not in self.request.headers.get("Accept", ""):
            self.finish(hello)
            return
        await super().prepare()


class _PageRedirect(RequestHandler):
    """Redirects an address without #, such as /datasets, to the page /#/datasets."""

    def initialize(self, **_: Any) -> None:
        """Accept and ignore the arguments that Bokeh passes to each handler."""

    def get(self) -> None:
        """Redirect. The path stays escaped, since names may contain any character."""
        prefix: str = self.application.prefix  # type: ignore[attr-defined]
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(f"{prefix}/#{quote(self.request.path.removeprefix(prefix), safe='/%')}{query}")


class _Socket(WSHandler):  # type: ignore[misc]
    """The websocket of a page. Only allowed origins may open it."""

    async def prepare(self) -> None:
        origins: Origins = self.settings["lumigator"]["origins"]
        # Tornado calls `check_origin` only if Origin and Host differ. With DNS rebinding both have the foreign name.
        if not origins.know(self.request.host):
            log.error("a websocket was refused: this server does not serve the host %s", self.request.host)
            self.set_status(403)
            self.finish()
            return
        await super().prepare()

    def open(self, *arguments: Any, **named: Any) -> None:
        try:
            super().open(*arguments, **named)
        except (ProtocolError, ValueError, LookupError, TypeError) as error:  # no valid session token
            self.close()
            log.warning("a websocket from %s was closed: %s", self.request.remote_ip, error)

    def check_origin(self, origin: str) -> bool:
        origins: Origins = self.settings["lumigator"]["origins"]
        if origins.admit(origin, self.request.host):
            return True
        host = urlsplit(origin).netloc
        log.error("a page of %s was refused; to allow it, start with --allow-origin %s", origin, host)
        return False


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Make Bokeh use our handlers for servers that are created in this block, and not for others in the process."""
    before = list(per_app_patterns)
    # Bokeh has no public way to replace a handler. "/autoload.js", for embedding into other sites, is left out.
    per_app_patterns[:] = [(r"/ws", _Socket), (r"/?", _Page), (rf"/(?:{'|'.join(HEADS)})(?:/.*)?", _PageRedirect)]
    try:
        yield
    finally:
        per_app_patterns[:] = before


class _EmbeddedHeaders(OutputTransform):
    """Sets security headers. A notebook shows the dashboard in a frame, on whatever site the notebook is."""

    extra: ClassVar[Mapping[str, str]] = {"Content-Security-Policy": _POLICY}

    def transform_first_chunk(self, status_code: int, headers: Any, chunk: bytes, finishing: bool) -> Any:
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers.pop("Server", None)
        for name, value in self.extra.items():
            headers.setdefault(name, value)
        return status_code, headers, chunk


class _Headers(_EmbeddedHeaders):
    """The same, and refuses to be shown in frames of other sites."""

    extra: ClassVar[Mapping[str, str]] = {
        "X-Frame-Options": "SAMEORIGIN", "Content-Security-Policy": f"{_POLICY}; frame-ancestors 'self'",
    }  # fmt: skip


def alone(routes: Sequence[Any]) -> Application:
    """Return an application with only these routes, and the same security headers as the whole server."""
    return Application(list(routes), transforms=[_Headers], log_function=_log_request)


def _log_request(handler: RequestHandler) -> None:
    """Log a request without its query, which may contain a token."""
    if getattr(handler, "logs_itself", False):
        return
    status, request = handler.get_status(), handler.request
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR
    log.log(level, "%d %s %s from %s", status, request.method, request.path, request.remote_ip)


def derived_key(path: Path, purpose: bytes) -> bytes:
    """Return a key for one purpose, derived from the key file, which is created if missing.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    return _derived(_secret(path), purpose)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(purpose, key=key, digest_size=32).digest()


def _secret(path: Path) -> bytes:
    """Return the server's key from its file. Creates the file on first use, readable by its owner only."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # over=False: if another process was faster, its key stays.
            with whole_file(path, 0o600, over=False) as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigurationError(f"others may read {path}, the key that signs logins", f"rm {path} makes a new one")
        key = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}, the key that signs logins, cannot be used: {error.strerror}") from None
    if len(key) < _SECRET_BYTES:
        raise ConfigurationError(f"{path}, the key that signs logins, is too short", f"rm {path} makes a new one")
    return key
