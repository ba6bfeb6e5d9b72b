from __future__ import annotations

import logging
import re
import stat
import threading
from pathlib import Path

import pytest
from typer.main import get_command

from lumigator_nb.cli import app
from lumigator_nb.config import Settings
from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.serving.auth_methods import OAuth, Token, auth_method_of
from lumigator_nb.serving.http import Origins, Serving, _secret, is_loopback
from lumigator_nb.serving.login import Attempts
from lumigator_nb.serving.passwords import Passwords, add_user

TOKEN = "a-token-of-some-length"


@pytest.fixture
def people(tmp_path):
    file = tmp_path / "people"
    add_user(file, "ada", "correct horse")
    return file


def test_a_password_file_holds_no_password_and_is_its_owners(people) -> None:
    assert "horse" not in people.read_text()
    assert stat.S_IMODE(people.stat().st_mode) == 0o600
    found = Passwords(people)
    assert found.admits("ada", "correct horse")
    assert not found.admits("ada", "correct hors")
    assert not found.admits("bob", "correct horse")
    assert not found.admits("", "")


def test_two_people_with_the_same_password_have_different_lines(people) -> None:
    add_user(people, "bob", "correct horse")
    ada, bob = (line.partition(":")[2] for line in people.read_text().splitlines())
    assert ada != bob


def test_a_new_password_ends_logins_and_needs_no_restart(people) -> None:
    found = Passwords(people)
    before = found.stamp("ada")
    assert add_user(people, "ada", "another one")
    assert found.admits("ada", "another one")
    assert not found.admits("ada", "correct horse")
    assert found.stamp("ada") not in (before, None)
    people.write_text("bob:" + people.read_text().partition(":")[2])
    assert found.stamp("ada") is None


def test_others_may_not_write_to_a_password_file(people) -> None:
    people.chmod(0o666)
    with pytest.raises(ConfigurationError, match="others may write") as caught:
        Passwords(people)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("line", ["ada:plain-password", "ada", "ada:scrypt$1$8$5$AA==$AA==", "ada:md5$2$8$1$AA==$AA=="])
def test_a_line_that_is_no_hash_is_named_and_not_repeated(tmp_path, line) -> None:
    file = tmp_path / "people"
    file.write_text(f"# people\n{line}\n")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="line 2") as caught:
        Passwords(file)
    assert "plain-password" not in str(caught.value)


def test_a_password_file_that_is_empty_or_missing_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="there is no password file"):
        Passwords(tmp_path / "people")
    (tmp_path / "people").touch(0o600)
    with pytest.raises(ConfigurationError, match="has no users") as caught:
        Passwords(tmp_path / "people")
    assert "--add-user" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "password"), [("a b", "long enough"), ("a:b", "long enough"), ("", "long enough"), ("a", "short")]
)
def test_names_and_passwords_that_cannot_be_kept_are_refused(tmp_path, name, password) -> None:
    with pytest.raises(InvalidInputError):
        add_user(tmp_path / "people", name, password)
    assert not (tmp_path / "people").exists()


def test_too_many_attempts_of_an_address_have_to_wait() -> None:
    now = [0.0]
    attempts = Attempts(most=3, seconds=60, clock=lambda: now[0])
    for _ in range(3):
        assert attempts.wait("10.0.0.1") == 0
        attempts.begin("10.0.0.1")
        now[0] += 10
    assert attempts.wait("10.0.0.1") == pytest.approx(30)
    assert attempts.wait("10.0.0.2") == 0
    now[0] = 60.5
    assert attempts.wait("10.0.0.1") == 0


def test_a_right_password_is_no_attempt() -> None:
    attempts = Attempts(most=1)
    attempts.begin("10.0.0.1")
    attempts.succeeded("10.0.0.1")
    assert attempts.wait("10.0.0.1") == 0


def test_a_network_of_ipv6_is_one_address() -> None:
    attempts = Attempts(most=1)
    attempts.begin("2001:db8::1")
    assert attempts.wait("2001:db8::2") > 0
    assert attempts.wait("2001:db8:0:1::1") == 0


@pytest.mark.parametrize("address", ["0.0.0.0", "", "::", "192.168.1.5", "example.org"])
def test_without_a_login_it_listens_on_loopback_alone(address) -> None:
    assert not is_loopback(address)
    with pytest.raises(ConfigurationError, match="without a login") as caught:
        Serving(address=address)
    assert "--password-file" in caught.value.hint
    assert "LUMIGATOR_DASHBOARD_TOKEN" in caught.value.hint
    assert Serving(address=address, auth_method=Token(TOKEN)).auth_method


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_login(address) -> None:
    assert Serving(address=address).auth_method is None


def test_files_of_this_machine_are_for_those_who_sit_at_it() -> None:
    assert Serving().local
    assert Serving(prefix="/a-secret/", origins=("*",), embedded=True).local
    for reached in (
        {"auth_method": Token(TOKEN)},
        {"auth_method": Token(TOKEN), "address": "0.0.0.0"},
        {"behind_proxy": True},
        {"prefix": "/lumigator"},
        {"origins": ("lumi.example.org",)},
    ):
        assert not Serving(**reached).local, reached


def test_pages_elsewhere_may_not_connect() -> None:
    origins = Serving(port=5006, origins=("https://lumi.example.org/",)).allowed(5006)
    for origin in ("http://localhost:5006", "http://127.0.0.1:5006", "https://LUMI.example.org"):
        assert origins.admit(origin, "127.0.0.1:5006")
    for origin in ("http://localhost:8888", "https://evil.example", "null", "http://lumi.example.org.evil.example"):
        assert not origins.admit(origin, "127.0.0.1:5006")
    # A name of the attacker's that leads to this machine.
    assert not origins.admit("http://evil.example:5006", "evil.example:5006")
    assert not origins.know("evil.example:5006")


def test_with_a_login_the_dashboards_own_pages_may_connect_under_any_name() -> None:
    origins = Serving(address="0.0.0.0", auth_method=Token(TOKEN)).allowed(5006)
    assert origins.admit("http://workstation:5006", "workstation:5006")
    assert not origins.admit("http://evil.example", "workstation:5006")


def test_behind_a_proxy_the_host_says_nothing() -> None:
    assert Origins(frozenset(), proxied=True).know("backend:5006")
    assert not Origins(frozenset()).know("backend:5006")


def test_behind_a_proxy_without_a_login_foreign_names_are_not_known() -> None:
    # The port is on loopback, where a page whose name leads there reaches it past the proxy.
    assert not Serving(behind_proxy=True).allowed(5006).know("evil.example:5006")
    assert Serving(behind_proxy=True, origins=("lumi.example.org",)).allowed(5006).know("lumi.example.org")
    assert Serving(behind_proxy=True, auth_method=Token(TOKEN)).allowed(5006).know("backend:5006")


def test_any_origin_needs_a_login() -> None:
    with pytest.raises(ConfigurationError, match="--allow-origin"):
        Serving(origins=("*",))


def test_https_needs_both_files(tmp_path) -> None:
    file = tmp_path / "cert.pem"
    file.touch()
    with pytest.raises(ConfigurationError, match="two files"):
        Serving(certificate=file)
    with pytest.raises(ConfigurationError, match="there is no file"):
        Serving(certificate=file, private_key=tmp_path / "none.pem")


def test_arguments_win_over_settings_and_two_settings_are_one_too_many(people) -> None:
    one = Settings(lumigator_dashboard_token=TOKEN)
    assert auth_method_of(Settings()) is None
    assert auth_method_of(one).kind == "token"
    assert auth_method_of(one, password_file=people).kind == "password"
    two = Settings(lumigator_dashboard_token=TOKEN, lumigator_dashboard_password_file=people)
    with pytest.raises(ConfigurationError, match="LUMIGATOR_DASHBOARD_PASSWORD_FILE and LUMIGATOR_DASHBOARD_TOKEN"):
        auth_method_of(two)


def test_a_short_token_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="LUMIGATOR_DASHBOARD_TOKEN") as caught:
        auth_method_of(Settings(lumigator_dashboard_token="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_token_lets_in_whoever_has_it() -> None:
    token = Token(TOKEN)
    assert token.admits("", TOKEN)
    assert not token.admits("", TOKEN + "x")
    assert not token.admits("", "")
    assert token.stamp("") != Token(TOKEN + "x").stamp("")


def oauth(**changed) -> OAuth:
    settings = {"provider": "github", "key": "id", "secret": "of-the-app", "users": ["ada", "@Example.org"], **changed}
    return OAuth(**settings)


def test_oauth_lets_in_only_whom_it_names() -> None:
    auth_method = oauth()
    for name in ("ada", "Ada", "bob@example.org", "BOB@EXAMPLE.ORG"):
        assert auth_method.stamp(name) is not None
    for name in ("bob", "bob@evil.example", "bob@example.org.evil.example", "example.org", ""):
        assert auth_method.stamp(name) is None
    assert oauth(users=["*"]).stamp("anybody") is not None
    assert "of-the-app" not in repr(auth_method)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"provider": "password"}, "PROVIDER"),
        ({"secret": ""}, "SECRET"),
        ({"key": ""}, "KEY"),
        ({"users": []}, "USERS"),
    ],
)
def test_oauth_settings_that_are_missing_are_named(changed, named) -> None:
    with pytest.raises(ConfigurationError, match=f"LUMIGATOR_DASHBOARD_OAUTH_.*{named}"):
        oauth(**changed)


def test_the_key_of_the_cookies_is_made_once_and_nobody_elses(tmp_path) -> None:
    file = tmp_path / "home" / "dashboard.secret"
    found = _secret(file)
    assert len(found) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert _secret(file) == found
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        _secret(file)


def test_the_key_of_the_cookies_is_one_where_many_start_at_once(tmp_path) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(_secret(tmp_path / "key"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_refused_page_is_logged_with_the_option_that_helps(caplog) -> None:
    from types import SimpleNamespace

    from lumigator_nb.serving.http import _Socket

    socket = SimpleNamespace(
        settings={"lumigator": {"origins": Origins(frozenset())}}, request=SimpleNamespace(host="127.0.0.1:5006")
    )
    with caplog.at_level(logging.ERROR):
        assert not _Socket.check_origin(socket, "https://lumi.example.org")
    assert "--allow-origin lumi.example.org" in caplog.text


def test_the_page_about_serving_names_options_and_settings_that_are_there() -> None:
    text = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    options = {each for option in get_command(app).commands["dashboard"].params for each in option.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named <= options | {"--no-show"}, named - options
    settings = {each.upper() for each in Settings.model_fields}
    assert set(re.findall(r"LUMIGATOR_[A-Z_]+", text)) <= settings
