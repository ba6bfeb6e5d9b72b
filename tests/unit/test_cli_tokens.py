from __future__ import annotations

import re

import pytest
from commands import Command


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    return Command(monkeypatch, capsys, "token").both


def test_tokens_by_command(cli) -> None:
    out, err = cli("create", "nightly", "--scope", "write", "--days", "30")
    assert re.fullmatch(r"lmgt_[\w-]{43}\n", out)  # alone, for a script to take
    assert "cannot be shown again" in err
    cli("create", "for-ever", "--days", "0")
    listed = cli("list")[0]
    assert re.search(r"nightly +write +", listed)
    assert re.search(r"for-ever +read +.* never", listed)
    assert out.strip() not in listed
    assert "scope 'god'" in cli("create", "x", "--scope", "god", code=1)[1]
    assert "exists already" in cli("create", "nightly", code=1)[1]
    cli("revoke", "nightly")
    assert "nightly" not in cli("list")[0]
    assert "there is no token 'nightly'" in cli("revoke", "nightly", code=1)[1]
