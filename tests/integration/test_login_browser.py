"""Logging in to the served dashboard in a real browser, as a person does it."""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lumigator_nb.serving.passwords import add_user
from lumigator_testing import screens

pytestmark = pytest.mark.integration

PASSWORD = "correct horse"
TOKEN = "a-token-of-some-length"
CONNECT = """([address, token]) => new Promise(resolve => {
    const socket = new WebSocket(address, ["bokeh", token])
    socket.onopen = () => resolve("open")
    socket.onclose = () => resolve("closed")
})"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture(scope="module")
def passwords_log(tmp_path_factory):
    return tmp_path_factory.mktemp("passwords") / "log"


@contextmanager
def dashboard_with_passwords(folder, log):
    add_user(folder / "people", "ada", PASSWORD)
    with screens.dashboard(folder / "home", "--password-file", str(folder / "people"), log=log) as address:
        yield address


@pytest.fixture(scope="module")
def behind_passwords(passwords_log):
    with dashboard_with_passwords(passwords_log.parent, passwords_log) as address:
        yield address


def log_in(page, password=PASSWORD) -> None:
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


def expect_refusals(watched) -> None:
    """A browser writes what was refused onto its console; nothing else may stand there."""
    said = ("status of 403", "status of 429", "response code: 403")
    watched.problems[:] = [each for each in watched.problems if not any(words in each for words in said)]


class Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        """It has nothing to say."""


@contextmanager
def another_site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_person_logs_in_arrives_where_the_link_led_and_logs_out(
    behind_passwords, page, watched, passwords_log
) -> None:
    page.goto(f"{behind_passwords}#/settings")
    log_in(page, "wrong horse")
    page.get_by_role("alert").get_by_text("password is wrong").wait_for()
    assert page.get_by_label("Password").input_value() == ""
    log_in(page)
    page.get_by_role("heading", name="Settings").wait_for()
    page.get_by_text("You are logged in as ada.").wait_for()
    assert page.url == f"{behind_passwords}#/settings"
    page.goto(f"{behind_passwords}#/upload")
    page.get_by_label("Or a path on the server").fill("/etc/hostname")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("it takes no path on its server").wait_for()
    page.goto(f"{behind_passwords}#/settings")
    shown = page.content() + page.evaluate("fetch('/').then(answer => answer.text())")
    proof = next(each["value"] for each in page.context.cookies() if each["name"] == "lumigator_login")
    assert proof.strip('"') not in shown
    assert PASSWORD not in shown
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("link", name="Log out").click()
    page.get_by_role("heading", name="You are logged out").wait_for()
    assert "lumigator_login" not in {each["name"] for each in page.context.cookies()}
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("Password").wait_for()
    page.goto(behind_passwords)
    page.get_by_label("Password").wait_for()
    printed = passwords_log.read_text()
    assert "horse" not in printed
    assert "Traceback" not in printed
    expect_refusals(watched)


def test_a_token_in_a_link_lets_in_and_leaves_the_address(tmp_path, page, log, monkeypatch) -> None:
    monkeypatch.setenv("LUMIGATOR_DASHBOARD_TOKEN", TOKEN)
    with screens.dashboard(tmp_path / "home", log=log) as address:
        page.goto(f"{address}?token={TOKEN}#/jobs")
        page.get_by_role("heading", name="Workflows").wait_for()
        assert page.url == f"{address}#/jobs"
        assert TOKEN not in page.content()
        assert TOKEN not in page.evaluate("JSON.stringify([...performance.getEntriesByType('resource')])")
        page.reload()
        page.get_by_role("heading", name="Workflows").wait_for()
        page.goto("about:blank")
    assert TOKEN not in log.read_text()


def test_a_page_of_another_site_cannot_connect(behind_passwords, page, watched) -> None:
    page.goto(behind_passwords)
    log_in(page)
    page.get_by_role("navigation", name="Main").wait_for()
    token = page.evaluate('fetch(\'/\').then(got => got.text()).then(text => text.match(/"token":"([^"]+)"/)[1])')
    asked = [behind_passwords.replace("http", "ws", 1) + "ws", token]
    assert page.evaluate(CONNECT, asked) == "open"
    # Another port is another origin, and yet cookies are sent along.
    with another_site() as address:
        page.goto(address)
        assert page.evaluate(CONNECT, asked) == "closed"
    expect_refusals(watched)


@pytest.mark.slow
def test_https_by_a_certificate_of_our_own(tmp_path, new_page, log) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    add_user(tmp_path / "people", "ada", PASSWORD)
    options = ("--password-file", str(tmp_path / "people"), "--certificate", str(certificate))
    with screens.dashboard(tmp_path / "home", *options, "--private-key", str(key), log=log) as address:
        page = new_page(ignore_https_errors=True)
        page.goto(f"{address}#/models")
        log_in(page)
        page.get_by_role("heading", name="Models").wait_for()
        assert {each["secure"] for each in page.context.cookies()} == {True}
        page.goto("about:blank")
    assert "https://127.0.0.1" in log.read_text()


def test_who_guesses_is_locked_out_and_told_for_how_long(tmp_path, log, page, watched) -> None:
    with dashboard_with_passwords(tmp_path, log) as address:
        page.goto(address)
        for number in range(10):
            log_in(page, f"guess number {number}")
            page.get_by_role("alert").get_by_text("password is wrong").wait_for()
        log_in(page)
        page.get_by_role("alert").get_by_text("Too many attempts. Try again in").wait_for()
        page.goto(f"{address}#/settings")
        page.get_by_label("Password").wait_for()
        page.goto("about:blank")
    expect_refusals(watched)
