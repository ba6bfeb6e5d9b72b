"""The served dashboard as a browser and an attacker meet it: over HTTP, and over the websocket."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from waiting import PATIENCE_S

from lumigator_nb.serving.passwords import add_user
from lumigator_testing.screens import free_port

pytestmark = pytest.mark.integration

PASSWORD = "correct horse"
TOKEN = "a-token-of-some-length"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@contextmanager
def served(folder, *options, **variables):
    """Serve it in a process; gives a client, and keeps what it prints in its `log`."""
    port = free_port()
    command = [sys.executable, "-m", "lumigator_nb.cli", "dashboard", "--no-show", "--port", str(port), *options]
    environment = {**os.environ, "LUMIGATOR_HOME": str(folder / "home"), **variables}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "Lumigator is at" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield Client(port, folder / "log")
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


class Client:
    """Asks as a browser does: keeps cookies, follows no redirect by itself."""

    def __init__(self, port, log) -> None:
        self.port, self.log = port, log
        self.cookies = {}
        self.set_cookies = []

    def ask(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **headers}
        connection.request(method, path, body, {name: value for name, value in headers.items() if value})
        answer = connection.getresponse()
        text = answer.read().decode()
        self.set_cookies = answer.headers.get_all("Set-Cookie") or []
        for each in self.set_cookies:
            name, _, value = each.partition(";")[0].partition("=")
            self.cookies[name] = value
            if not value.strip('"'):
                del self.cookies[name]
        connection.close()
        return answer.status, answer.headers, text

    def log_in(self, name="", proof=PASSWORD, path="/login", **headers):
        _, _, form = self.ask(path, **headers)
        hidden = re.search(r'name="_xsrf" value="([^"]+)"', form)[1]
        body = urlencode({"_xsrf": hidden, "name": name, "proof": proof})
        return self.ask(path, "POST", body, **FORM, **headers)

    def open_socket(self, token, origin=None):
        """Return the status of opening a page's websocket, and whether the server then talks."""
        from tornado.httpclient import HTTPClientError, HTTPRequest
        from tornado.websocket import websocket_connect

        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "Origin": origin or f"http://127.0.0.1:{self.port}"}

        async def connect():
            request = HTTPRequest(f"ws://127.0.0.1:{self.port}/ws", headers=headers)
            try:
                socket = await websocket_connect(request, subprotocols=["bokeh", token])
            except HTTPClientError as error:
                return error.code
            first = await asyncio.wait_for(socket.read_message(), 15)
            socket.close()
            return 101 if first else 0

        return asyncio.run(connect())


def token_of(page) -> str:
    return json.loads(re.search(r'"token":("[^"]+")', page)[1])


@pytest.fixture(scope="module")
def with_passwords(tmp_path_factory):
    folder = tmp_path_factory.mktemp("passwords")
    add_user(folder / "people", "ada", PASSWORD)
    options = ("--address", "0.0.0.0", "--password-file", str(folder / "people"))
    with served(folder, *options) as client:
        yield client


@pytest.fixture
def client(with_passwords):
    with_passwords.cookies.clear()
    return with_passwords


def test_it_does_not_start_where_everybody_could_come_in(tmp_path) -> None:
    command = [sys.executable, "-m", "lumigator_nb.cli", "dashboard", "--no-show", "--address", "0.0.0.0"]
    environment = {**os.environ, "LUMIGATOR_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "error: without a login" in done.stderr
    assert "--password-file" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_shown_before_a_login(client) -> None:
    status, headers, text = client.ask("/?experiment=x")
    assert (status, text) == (302, "")
    assert headers["Location"].startswith("./login?")
    for path in ("/ws", "/metadata", "/autoload.js?bokeh-autoload-element=1"):
        status, _, text = client.ask(path)
        assert status in (302, 400, 403, 404), path
        assert "token" not in text


def test_a_right_password_lets_in_and_logging_out_ends_it(client) -> None:
    status, headers, _ = client.log_in("ada")
    assert (status, headers["Location"]) == (302, "./")
    for cookie in client.set_cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
    status, headers, page = client.ask("/")
    assert status == 200
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert client.open_socket(token_of(page)) == 101
    status, _, text = client.ask("/logout")
    assert "You are logged out" in text
    assert client.ask("/")[0] == 302


def test_a_page_does_not_hold_the_proof_of_the_login(client) -> None:
    client.log_in("ada")
    proof = client.cookies["lumigator_login"]
    page = client.ask("/")[2]
    payload = token_of(page).split(".")[1]
    opened = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    assert proof not in page
    assert proof.encode() not in opened
    assert b"lumigator_login" not in opened


def test_a_forged_cookie_does_not_let_in(client) -> None:
    client.log_in("ada")
    good = client.cookies["lumigator_login"]
    client.cookies["lumigator_login"] = good[:-4] + ("0000" if not good.endswith("0000") else "1111")
    assert client.ask("/")[0] == 302
    client.cookies = {"user": "ada", "lumigator_user": "ada", "is_guest": "1"}
    assert client.ask("/")[0] == 302


def test_a_websocket_needs_login_origin_and_a_token_of_ours(client) -> None:
    client.log_in("ada")
    token = token_of(client.ask("/")[2])
    assert client.open_socket(token, "https://evil.example") == 403
    assert "--allow-origin evil.example" in client.log.read_text()
    client.cookies.clear()
    assert client.open_socket(token) == 403


def test_a_form_of_another_page_cannot_log_in(client) -> None:
    body = urlencode({"name": "ada", "proof": PASSWORD})
    status, _, text = client.ask("/login", "POST", body, **FORM)
    assert status == 403
    assert "Try again" in text
    assert "lumigator_login" not in client.cookies


def test_what_was_asked_for_leads_nowhere_else(client) -> None:
    for target in ("https://evil.example/", "//evil.example/", "/\\evil.example"):
        path = f"/login?{urlencode({'next': target})}"
        _, headers, _ = client.log_in("ada", path=path)
        assert headers["Location"] == "./"


def test_a_large_body_is_refused(client) -> None:
    try:
        status, _, _ = client.ask("/login", "POST", "x" * (2 << 20), **FORM)
    except (ConnectionError, http.client.HTTPException):
        return
    assert status in (400, 413)


def test_guessing_is_slowed_down_and_logged_without_what_was_guessed(client) -> None:
    statuses = [client.log_in("ada", "guess-number-one")[0] for _ in range(12)]
    assert statuses[0] == 403
    assert statuses[-1] == 429
    status, headers, text = client.log_in("ada")
    assert (status, int(headers["Retry-After"]) > 200) == (429, True)
    assert "Too many attempts" in text
    log = client.log.read_text()
    assert "a login from 127.0.0.1 failed" in log
    assert "guess-number-one" not in log
    assert PASSWORD not in log
    assert "Traceback" not in log


def test_a_notebooks_dashboard_is_reached_by_its_secret_path_alone(inline_ws) -> None:
    from lumigator_nb.widgets.dashboard import dashboard

    shown = dashboard(inline_ws)
    try:
        client = Client(urlsplit(shown.url).port, None)
        path = urlsplit(shown.url).path
        assert len(path) > 30
        status, headers, page = client.ask(path)
        assert status == 200
        assert "X-Frame-Options" not in headers
        assert token_of(page)
        for guess in ("/", "/ws", "/login", path.swapcase()):
            assert client.ask(guess)[0] == 404
        assert shown.url in shown._repr_html_().replace("&amp;", "&")
        assert path not in repr(shown)
    finally:
        shown.stop()
    assert not shown.running
    assert "iframe" not in shown._repr_mimebundle_()["text/html"]
    with pytest.raises(ConnectionError):
        client.ask(path)


def test_a_token_in_the_address_becomes_a_cookie_and_stays_out_of_the_log(tmp_path) -> None:
    options = ("--prefix", "/lumi", "--behind-proxy")
    with served(tmp_path, *options, LUMIGATOR_DASHBOARD_TOKEN=TOKEN) as client:
        https = {"X-Forwarded-Proto": "https", "X-Real-Ip": "10.1.2.3"}
        status, headers, _ = client.ask(f"/lumi?token={TOKEN}", **https)
        assert (status, headers["Location"].split("?")[0]) == (302, "./lumi/login")
        status, headers, _ = client.ask(f"/lumi/login?{headers['Location'].partition('?')[2]}", **https)
        assert (status, headers["Location"]) == (302, "./")
        assert all("Secure" in each for each in client.set_cookies)
        assert all("Path=/lumi" in each for each in client.set_cookies)
        assert client.ask("/lumi/")[0] == 200
        client.cookies.clear()
        status, _, _ = client.ask("/lumi/login?token=wrong-token-of-a-guess", **https)
        assert status == 403
        log = client.log.read_text()
        assert "from 10.1.2.3 failed" in log
        assert TOKEN not in log
        assert "wrong-token" not in log


@contextmanager
def provider(email):
    """An OAuth provider that knows one person."""
    from tornado.httpserver import HTTPServer
    from tornado.ioloop import IOLoop
    from tornado.netutil import bind_sockets
    from tornado.web import Application, RequestHandler

    class Tokens(RequestHandler):
        def post(self) -> None:
            right = self.get_body_argument("client_secret") == "of-the-app" and self.get_body_argument("code") == "ok"
            self.set_status(200 if right else 401)
            self.finish({"access_token": "provider-token", "token_type": "bearer"} if right else {"error": "no"})

    class Person(RequestHandler):
        def get(self) -> None:
            self.finish({"email": email})

    sockets = bind_sockets(0, "127.0.0.1")
    port, loops, ready = sockets[0].getsockname()[1], [], threading.Event()

    def work() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        server = HTTPServer(Application([("/token", Tokens), ("/me", Person)]))
        server.add_sockets(sockets)
        loops.append(IOLoop.current())
        loops[0].add_callback(ready.set)
        loops[0].start()
        server.stop()
        loops[0].close()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    yield f"http://127.0.0.1:{port}"
    loops[0].add_callback(loops[0].stop)
    thread.join()


@pytest.mark.parametrize(("email", "allowed"), [("ada@example.org", True), ("ada@evil.example", False)])
def test_oauth_lets_in_whom_the_provider_knows_and_the_settings_name(tmp_path, email, allowed) -> None:
    with provider(email) as address:
        variables = {
            "LUMIGATOR_DASHBOARD_OAUTH_PROVIDER": "generic",
            "LUMIGATOR_DASHBOARD_OAUTH_KEY": "the-app",
            "LUMIGATOR_DASHBOARD_OAUTH_SECRET": "of-the-app",
            "LUMIGATOR_DASHBOARD_OAUTH_USERS": "@example.org",
            "PANEL_OAUTH_AUTHORIZE_URL": f"{address}/authorize",
            "PANEL_OAUTH_TOKEN_URL": f"{address}/token",
            "PANEL_OAUTH_USER_URL": f"{address}/me",
            "PANEL_OAUTH_SCOPE": "email",
        }
        with served(tmp_path, "--address", "0.0.0.0", **variables) as client:
            _, headers, _ = client.ask("/login")
            asked = parse_qs(urlsplit(headers["Location"]).query)
            assert headers["Location"].startswith(f"{address}/authorize")
            state = asked["state"][0]
            forged = client.ask(f"/login?{urlencode({'code': 'ok', 'state': 'forged'})}")
            assert forged[0] == 401
            client.ask("/login")
            _, headers, _ = client.ask("/login")
            state = parse_qs(urlsplit(headers["Location"]).query)["state"][0]
            status, headers, text = client.ask(f"/login?{urlencode({'code': 'ok', 'state': state})}")
            assert status == (302 if allowed else 403)
            assert ("LUMIGATOR_DASHBOARD_OAUTH_USERS" in text) is not allowed
            assert client.ask("/")[0] == (200 if allowed else 302)
            assert not {"access_token", "id_token", "user"} & client.cookies.keys()
        log = client.log.read_text()
        assert "provider-token" not in log
        assert "of-the-app" not in log
