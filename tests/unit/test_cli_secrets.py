from __future__ import annotations

import os
import pty
import re
import sys
import time

import pytest
from commands import Command
from waiting import PATIENCE_S

VALUE = "sk-canary-0123456789abcdef"
NAME = "CANARY_API_KEY"


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(NAME, raising=False)
    command = Command(monkeypatch, capsys, "secrets")

    def call(*arguments: str, given: str | bytes = "", code: int = 0) -> str:
        printed = command(*arguments, given=given, code=code)
        assert VALUE not in printed
        return printed

    return call


def test_secrets_by_command(cli, monkeypatch) -> None:
    assert cli("set", NAME.lower(), "--description", "for tests", given=f"{VALUE}\n") == "stored\n"
    assert re.search(rf"{NAME} +for tests +\d", cli("list"))
    assert "overridden" in cli("list")
    assert "by the environment" not in cli("list")
    monkeypatch.setenv(NAME, "another")
    assert "by the environment" in cli("list")
    assert cli("rotate") == "1 secret is encrypted with a new key\n"
    cli("delete", NAME)
    assert NAME not in cli("list")
    assert f"there is no secret '{NAME}'" in cli("delete", NAME, code=1)


def test_a_value_as_an_argument_is_refused_and_not_repeated(cli) -> None:
    printed = cli("set", NAME, VALUE, code=1)
    assert printed.startswith("error: the value of a secret cannot be an argument")
    assert "hint: " in printed
    assert "the name of a secret" in cli("set", f"{NAME}={VALUE}", given=VALUE, code=1)
    assert "is empty" in cli("set", NAME, code=1)
    assert "not UTF-8 text" in cli("set", NAME, given=VALUE.encode() + b"\xff", code=1)
    assert NAME not in cli("list")


def test_a_lost_key_by_command(cli, tmp_path) -> None:
    cli("set", NAME, given=VALUE)
    (tmp_path / "home" / "secret.key").unlink()
    printed = cli("rotate", code=1)
    assert re.search(rf"error: the secret {NAME} is sealed by key [0-9a-f]{{16}}, which is not here", printed)
    assert f"hint: restore the key file {tmp_path / 'home' / 'secret.key'}" in printed


def test_on_a_terminal_the_value_is_asked_for_without_echo(cli, tmp_path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "lumigator_nb.cli", "secrets", "set", NAME])
    printed = _until(terminal, b"(not shown): ")
    os.write(terminal, f"{VALUE}\n".encode())
    printed += _until(terminal, b"stored")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert VALUE.encode() not in printed
    assert NAME in cli("list")


def _until(terminal: int, end: bytes) -> bytes:
    read, deadline = b"", time.monotonic() + PATIENCE_S
    while end not in read:
        assert time.monotonic() < deadline, read
        read += os.read(terminal, 1024)
    time.sleep(0.1)  # the prompt comes right before the echo is turned off on some systems
    return read
