"""The pages of the login, and the signed cookies by which the server knows people again."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

from bokeh.server.auth_provider import AuthProvider
from panel.auth import AUTH_PROVIDERS
from tornado.web import HTTPError, RequestHandler

from lumigator_nb.dashboards.users import USER_COOKIE
from lumigator_nb.display.html import Html, tag
from lumigator_nb.display.text import duration
from lumigator_nb.errors import LumigatorError
from lumigator_nb.services.access.attempts import Attempts
from lumigator_nb.serving.gates import Gate, OAuth

log = logging.getLogger(__name__)

DAYS = 7
# The first is the proof, which no script can read and no page holds; the second is the name, to be shown.
_PROOF = "lumigator_login"
SHOWN_COOKIES = [USER_COOKIE]
XSRF_COOKIE = "lumigator_xsrf"


@dataclass(frozen=True)
class Door:
    """What the pages of the login share.

    Attributes:
        gate: how people prove who they are.
        path: of the cookies.
    """

    gate: Gate
    path: str = "/"
    attempts: Attempts = field(default_factory=Attempts)

    def enter(self, handler: RequestHandler, name: str) -> None:
        """Write down in cookies that somebody has proved who they are.

        Raises:
            HTTPError: 403, they may not come in.
        """
        stamp = self.gate.stamp(name)
        if stamp is None:
            raise HTTPError(403, "%s is not among LUMIGATOR_DASHBOARD_OAUTH_USERS", name, reason="Not allowed")
        options = {"expires_days": DAYS, "path": self.path, **cookie_options(handler)}
        RequestHandler.set_signed_cookie(handler, _PROOF, json.dumps([name, stamp]), **options)
        RequestHandler.set_signed_cookie(handler, USER_COOKIE, name, **options)

    def user(self, handler: RequestHandler) -> str | None:
        """Return who asks; None where nobody has logged in, or may not any longer."""
        cookie = handler.get_signed_cookie(_PROOF, max_age_days=DAYS)
        if cookie is None:
            return None
        try:
            name, stamp = json.loads(cookie)
            expected = self.gate.stamp(name)
        except LumigatorError as error:
            log.error("%s", error)
            return None
        same = expected is not None and hmac.compare_digest(expected.encode(), stamp.encode())
        return (name or "token") if same else None

    def leave(self, handler: RequestHandler) -> None:
        """Forget who it was."""
        for name in (_PROOF, USER_COOKIE):
            handler.clear_cookie(name, path=self.path)


def cookie_options(handler: RequestHandler) -> dict[str, Any]:
    """Return what all cookies have in common."""
    return {"httponly": True, "samesite": "Lax", "secure": handler.request.protocol == "https"}


class Login(AuthProvider):  # type: ignore[misc]
    """Tells Bokeh's server who asks, and where to log in."""

    def __init__(self, door: Door) -> None:
        self._door = door
        super().__init__()

    @property
    def get_user(self) -> Callable[[RequestHandler], str | None]:
        return self._door.user

    @property
    def get_login_url(self) -> Callable[[RequestHandler], str]:
        return _login_url

    @property
    def logout_url(self) -> str:
        return "/logout"

    @property
    def endpoints(self) -> list[Any]:
        """The pages of the login; `login_handler` would not go together with `get_login_url`."""
        gate = self._door.gate
        login = _oauth_handler(gate) if isinstance(gate, OAuth) else _LoginPage
        return [("/login", login, {"door": self._door}), ("/logout", _LogoutPage, {"door": self._door})]


def _login_url(handler: RequestHandler) -> str:
    # Panel puts a dot in front: behind a proxy only an address relative to the page's own is right. Without the slash
    # at the end of the prefix, it has to be named once more.
    prefix: str = handler.application.prefix  # type: ignore[attr-defined]
    return f"{prefix[prefix.rindex('/') :]}/login" if prefix and handler.request.path == prefix else "/login"


class _Own(RequestHandler):
    """A page of the login: it loads nothing, and stands in nobody's frame."""

    def initialize(self, door: Door) -> None:
        self.door = door

    def show(self, title: str, *content: object, status: int = 200) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; form-action 'self'"
        self.set_status(status)
        self.set_header("Content-Security-Policy", f"default-src 'none'; {policy}; frame-ancestors 'none'")
        self.set_header("Cache-Control", "no-store")
        self.finish(document(title, *content, nonce=nonce))

    def write_error(self, status_code: int, **details: Any) -> None:
        """Show what is wrong; in words only where they are ours or the provider's."""
        error = details.get("exc_info", (None, None, None))[1]
        said = error.log_message % error.args if isinstance(error, HTTPError) and error.log_message else self._reason
        self.show("Not logged in", problem(str(said)), again(), status=status_code)


class _LoginPage(_Own):
    def get(self) -> None:
        token = self._token()
        if token is None:
            self._form()
        elif self._may_try():
            self._judge("", self.door.gate.admits("", token))

    def _token(self) -> str | None:
        """The token of the address, in which it stands itself or within the address that was asked for first."""
        if self.door.gate.kind != "token":
            return None
        asked = parse_qs(urlsplit(self.get_query_argument("next", "")).query).get("token", [])
        return self.get_query_argument("token", asked[0] if asked else None)

    async def post(self) -> None:
        try:
            self.check_xsrf_cookie()
        except HTTPError:
            self._form("Your browser has not sent this page's cookie back. Try again.", 403)
            return
        if not self._may_try():
            return
        name = self.get_body_argument("name", "") if self.door.gate.kind == "password" else ""
        # In a thread, since a password takes long to check on purpose.
        proof = self.get_body_argument("proof", "", strip=False)
        self._judge(name, await asyncio.to_thread(self.door.gate.admits, name, proof))

    def _may_try(self) -> bool:
        address = str(self.request.remote_ip)
        if seconds := self.door.attempts.wait(address):
            self.set_header("Retry-After", str(int(seconds) + 1))
            self._form(f"Too many attempts. Try again in {duration(seconds)}.", 429)
            return False
        self.door.attempts.begin(address)
        return True

    def _judge(self, name: str, right: bool) -> None:
        if not right:
            log.warning("a login from %s failed", self.request.remote_ip)
            self._form(_WRONG[self.door.gate.kind], 403)
            return
        self.door.attempts.succeeded(str(self.request.remote_ip))
        self.door.enter(self, name)
        self.redirect("./" + self._rest())

    def _rest(self) -> str:
        """The query that was asked for first, without the token; there is but one page."""
        query = parse_qs(urlsplit(self.get_query_argument("next", "")).query)
        rest = urlencode({key: value for key, value in query.items() if key != "token"}, doseq=True)
        return f"?{rest}" if rest else ""

    def _form(self, wrong: str = "", status: int = 200) -> None:
        kind = self.door.gate.kind
        fields = _FIELDS[kind]
        # What stands behind the # is not sent to the server, but kept when it redirects.
        keep = "document.querySelector('form').action += location.hash"
        button = tag("button", "Log in", type="submit")
        hidden = Html(self.xsrf_form_html())
        form = tag("form", hidden, *fields, button, method="post", action=f"login{self._query()}")
        self.show("Log in", tag("p", _WORDS[kind]), problem(wrong), form, Script(keep), status=status)

    def _query(self) -> str:
        rest = self._rest()
        return "?" + urlencode({"next": f"/{rest}"}) if rest else ""


class _LogoutPage(_Own):
    def get(self) -> None:
        self.door.leave(self)
        self.show("You are logged out", tag("p", "Windows that are still open stay so until you close them."), again())


def _oauth_handler(gate: OAuth) -> type[RequestHandler]:
    """Panel's handler of the provider, with our cookies in place of its own; the provider's tokens are not kept."""
    provider: Any = AUTH_PROVIDERS[gate.provider]

    class Handler(_Own, provider):  # type: ignore[misc]
        def set_signed_cookie(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:
            if name == "user":
                self.door.enter(self, value)
            elif name not in ("id_token", "access_token", "refresh_token", "oauth_expiry"):
                super().set_signed_cookie(name, value, *arguments, **{**options, **cookie_options(self)})

        set_secure_cookie = set_signed_cookie  # Panel uses the earlier name

    return Handler


class Script(Html):
    """Text of a script of our own."""

    __slots__ = ()


def document(title: str, *content: object, nonce: str) -> str:
    """Return a whole page of the login, which needs no other file."""
    body = [tag("script", each, nonce=nonce) if isinstance(each, Script) else each for each in content]
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", f"{title} · Lumigator"),
        Html(f'<link rel="icon" href="data:image/svg+xml,{_QUOTED_LOGO}">'),
        tag("style", Html(_style()), nonce=nonce),
    )
    brand = tag("div", Html(_LOGO), "Lumigator", class_="brand")
    main = tag("main", brand, tag("h1", title), *body)
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', main), lang='en')}\n"


def problem(text: str) -> Html:
    """Return what went wrong."""
    return tag("div", text, class_="problem", role="alert") if text else Html("")


def again() -> Html:
    """Return the way back to the form."""
    return tag("a", "Log in", href="login", class_="button")


def _field(label: str, name: str, kind: Literal["text", "password"], complete: str, focus: bool) -> Html:
    box = tag("input", id=name, name_=name, type=kind, autocomplete=complete, required=True, autofocus=focus)
    return tag("div", tag("label", label, for_=name), Html(box.removesuffix("</input>")))


@cache
def _style() -> str:
    return (files("lumigator_nb.serving") / "login.css").read_text(encoding="utf-8")


_FIELDS = {
    "password": (
        _field("Name", "name", "text", "username", True),
        _field("Password", "proof", "password", "current-password", False),
    ),
    "token": (_field("Token", "proof", "password", "off", True),),
}
_WORDS = {
    "password": "With the name and password that you were given.",
    "token": "With the token that you were given.",
}
_WRONG = {"password": "Name and password do not fit together.", "token": "That is not the token."}
_LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" aria-hidden="true">'
    '<rect width="32" height="32" rx="7" fill="#1558a0"/><path d="M9 7v18h14" fill="none" stroke="white" '
    'stroke-width="3"/><circle cx="20" cy="12" r="4" fill="#ffd166"/></svg>'
)
_QUOTED_LOGO = _LOGO.replace('"', "'").replace("#", "%23").replace("<", "%3C").replace(">", "%3E")
