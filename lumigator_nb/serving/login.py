"""Login pages, and the signed cookies that identify a logged-in user."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
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
from lumigator_nb.serving.auth_methods import AuthMethod, OAuth

log = logging.getLogger(__name__)

VALID_DAYS = 7
# Two cookies: the proof of the login, which no script can read and no page contains, and the user's name, for display.
_PROOF = "lumigator_login"
SHOWN_COOKIES = [USER_COOKIE]
XSRF_COOKIE = "lumigator_xsrf"


@dataclass(frozen=True)
class LoginSession:
    """Starts, checks and ends logins.

    Attributes:
        auth_method: the login method.
        path: path of the cookies.
        attempts: limits failed logins per address.
    """

    auth_method: AuthMethod
    path: str = "/"
    attempts: Attempts = field(default_factory=Attempts)

    def enter(self, handler: RequestHandler, name: str) -> None:
        """Set the cookies of a user who has proved their identity.

        Raises:
            HTTPError: 403: the user is not allowed.
        """
        stamp = self.auth_method.stamp(name)
        if stamp is None:
            raise HTTPError(403, "%s is not among LUMIGATOR_DASHBOARD_OAUTH_USERS", name, reason="Not allowed")
        options = {"expires_days": VALID_DAYS, "path": self.path, **cookie_options(handler)}
        RequestHandler.set_signed_cookie(handler, _PROOF, json.dumps([name, stamp]), **options)
        RequestHandler.set_signed_cookie(handler, USER_COOKIE, name, **options)

    def user(self, handler: RequestHandler) -> str | None:
        """Return the name of the logged-in user of a request; None without a login, or if it is no longer valid."""
        cookie = handler.get_signed_cookie(_PROOF, max_age_days=VALID_DAYS)
        if cookie is None:
            return None
        try:
            name, stamp = json.loads(cookie)
            expected = self.auth_method.stamp(name)
        except LumigatorError as error:
            log.error("%s", error)
            return None
        same = expected is not None and hmac.compare_digest(expected.encode(), stamp.encode())
        return (name or "token") if same else None

    def leave(self, handler: RequestHandler) -> None:
        """Remove the cookies."""
        for name in (_PROOF, USER_COOKIE):
            handler.clear_cookie(name, path=self.path)


def cookie_options(handler: RequestHandler) -> dict[str, Any]:
    """Return the options that all cookies share."""
    # SameSite=Lax, not Strict: after a login at an OAuth provider, the browser comes from the provider's site.
    return {"httponly": True, "samesite": "Lax", "secure": handler.request.protocol == "https"}


class Login(AuthProvider):  # type: ignore[misc]
    """Bokeh's interface of a login: identifies users, and names the pages to log in and out."""

    def __init__(self, login_session: LoginSession) -> None:
        self._login_session = login_session
        super().__init__()

    @property
    def get_user(self) -> Callable[[RequestHandler], str | None]:
        return self._login_session.user

    @property
    def get_login_url(self) -> Callable[[RequestHandler], str]:
        def login_url(handler: RequestHandler) -> str:
            # Panel puts a dot in front: behind a proxy, only an address relative to the current page is right. On the
            # page of the prefix without a slash at the end, the relative address must name the prefix again.
            prefix: str = handler.application.prefix  # type: ignore[attr-defined]
            return f"{prefix[prefix.rindex('/') :]}/login" if prefix and handler.request.path == prefix else "/login"

        return login_url

    @property
    def logout_url(self) -> str:
        return "/logout"

    @property
    def endpoints(self) -> list[Any]:
        """The pages to log in and out. (Bokeh does not allow `login_handler` together with `get_login_url`.)"""
        auth_method = self._login_session.auth_method
        page: type[RequestHandler] = _oauth_page(auth_method) if isinstance(auth_method, OAuth) else _LoginPage
        return [
            ("/login", page, {"login_session": self._login_session}),
            ("/logout", _LogoutPage, {"login_session": self._login_session}),
        ]


class _LoginBase(RequestHandler):
    """Base of the login pages. They load no other files, and no page may show them in a frame."""

    def initialize(self, login_session: LoginSession) -> None:
        self.login_session = login_session

    def show(self, title: str, *content: object, status: int = 200) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; form-action 'self'"
        self.set_status(status)
        self.set_header("Content-Security-Policy", f"default-src 'none'; {policy}; frame-ancestors 'none'")
        self.set_header("Cache-Control", "no-store")
        self.finish(document(title, *content, nonce=nonce))

    def write_error(self, status_code: int, **details: Any) -> None:
        """Show an error. Details of unexpected errors stay in the log."""
        error = details.get("exc_info", (None, None, None))[1]
        message = self._reason
        if isinstance(error, HTTPError) and error.log_message:
            message = error.log_message % error.args
        self.show("Not logged in", problem(str(message)), again(), status=status_code)


class _LoginPage(_LoginBase):
    def get(self) -> None:
        token = None
        if self.login_session.auth_method.kind == "token":
            # A link may carry the token: in this page's address, or in the address that led here (`next`).
            tokens = parse_qs(urlsplit(self.get_query_argument("next", "")).query).get("token", [])
            token = self.get_query_argument("token", tokens[0] if tokens else None)
        if token is None:
            self._show_form()
        elif self._may_try():
            self._finish_attempt("", self.login_session.auth_method.admits("", token))

    async def post(self) -> None:
        try:
            self.check_xsrf_cookie()
        except HTTPError:
            self._show_form("Your browser has not sent this page's cookie back. Try again.", 403)
            return
        if not self._may_try():
            return
        name = self.get_body_argument("name", "") if self.login_session.auth_method.kind == "password" else ""
        # In a thread: password hashes are slow on purpose.
        proof = self.get_body_argument("proof", "", strip=False)
        self._finish_attempt(name, await asyncio.to_thread(self.login_session.auth_method.admits, name, proof))

    def _may_try(self) -> bool:
        """Count an attempt of this address; show an error and return False after too many."""
        address = str(self.request.remote_ip)
        if seconds := self.login_session.attempts.wait(address):
            self.set_header("Retry-After", str(int(seconds) + 1))
            self._show_form(f"Too many attempts. Try again in {duration(seconds)}.", 429)
            return False
        self.login_session.attempts.begin(address)
        return True

    def _finish_attempt(self, name: str, admitted: bool) -> None:
        if not admitted:
            log.warning("a login from %s failed", self.request.remote_ip)
            self._show_form(_WRONG[self.login_session.auth_method.kind], 403)
            return
        self.login_session.attempts.succeeded(str(self.request.remote_ip))
        self.login_session.enter(self, name)
        self.redirect("./" + self._next_query())

    def _next_query(self) -> str:
        """Return the query of the address that led to the login, without the token. (There is only one page.)"""
        values = parse_qs(urlsplit(self.get_query_argument("next", "")).query)
        query = urlencode({key: value for key, value in values.items() if key != "token"}, doseq=True)
        return f"?{query}" if query else ""

    def _show_form(self, error: str = "", status: int = 200) -> None:
        kind = self.login_session.auth_method.kind
        query = self._next_query()
        action = "login?" + urlencode({"next": f"/{query}"}) if query else "login"
        button = tag("button", "Log in", type="submit")
        form = tag("form", Html(self.xsrf_form_html()), *_FIELDS[kind], button, method="post", action=action)
        # Browsers do not send the part of the address after # (the page of the dashboard), but keep it on a redirect.
        script = Script("document.querySelector('form').action += location.hash")
        self.show("Log in", tag("p", _PROMPTS[kind]), problem(error), form, script, status=status)


class _LogoutPage(_LoginBase):
    def get(self) -> None:
        self.login_session.leave(self)
        self.show("You are logged out", tag("p", "Windows that are open stay logged in until you close them."), again())


def _oauth_page(auth_method: OAuth) -> type[RequestHandler]:
    """Return Panel's login page for the provider, with our cookies. The provider's tokens are not stored."""
    provider: Any = AUTH_PROVIDERS[auth_method.provider]

    class OAuthPage(_LoginBase, provider):  # type: ignore[misc]
        def set_signed_cookie(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:
            if name == "user":
                self.login_session.enter(self, value)
            elif name not in ("id_token", "access_token", "refresh_token", "oauth_expiry"):
                super().set_signed_cookie(name, value, *arguments, **{**options, **cookie_options(self)})

        set_secure_cookie = set_signed_cookie  # the older name, which Panel uses

    return OAuthPage


class Script(Html):
    """JavaScript of a page."""

    __slots__ = ()


def document(title: str, *content: object, nonce: str) -> str:
    """Return a complete login page, which loads no other file."""
    body = [tag("script", part, nonce=nonce) if isinstance(part, Script) else part for part in content]
    style = (files("lumigator_nb.serving") / "login.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", f"{title} · Lumigator"),
        Html(f'<link rel="icon" href="data:image/svg+xml,{_QUOTED_LOGO}">'),
        tag("style", Html(style), nonce=nonce),
    )
    brand = tag("div", Html(_LOGO), "Lumigator", class_="brand")
    main = tag("main", brand, tag("h1", title), *body)
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', main), lang='en')}\n"


def problem(text: str) -> Html:
    """Return an error message, or nothing for an empty text."""
    return tag("div", text, class_="problem", role="alert") if text else Html("")


def again() -> Html:
    """Return a link to the login form."""
    return tag("a", "Log in", href="login", class_="button")


def _field(label: str, name: str, kind: Literal["text", "password"], complete: str, focus: bool) -> Html:
    box = tag("input", id=name, name_=name, type=kind, autocomplete=complete, required=True, autofocus=focus)
    return tag("div", tag("label", label, for_=name), Html(box.removesuffix("</input>")))


_FIELDS = {
    "password": (
        _field("Name", "name", "text", "username", True),
        _field("Password", "proof", "password", "current-password", False),
    ),
    "token": (_field("Token", "proof", "password", "off", True),),
}
_PROMPTS = {"password": "Enter your name and password.", "token": "Enter the token that you were given."}
_WRONG = {"password": "The name or the password is wrong.", "token": "The token is wrong."}
_LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" aria-hidden="true">'
    '<rect width="32" height="32" rx="7" fill="#1558a0"/><path d="M9 7v18h14" fill="none" stroke="white" '
    'stroke-width="3"/><circle cx="20" cy="12" r="4" fill="#ffd166"/></svg>'
)
_QUOTED_LOGO = _LOGO.replace('"', "'").replace("#", "%23").replace("<", "%3C").replace(">", "%3E")
