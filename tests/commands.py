"""The `lumigator-nb` command, called in this process: starting Python for each call would take most of the time."""

from __future__ import annotations

import io
import sys

import pytest

from lumigator_nb.cli import main


class Command:
    """Calls `lumigator-nb`, checks its exit code and returns what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        self._monkeypatch, self._capsys, self._words = monkeypatch, capsys, words

    def __call__(self, *arguments: str, given: str | bytes = "", code: int = 0) -> str:
        out, err = self.both(*arguments, given=given, code=code)
        return out + err

    def both(self, *arguments: str, given: str | bytes = "", code: int = 0) -> tuple[str, str]:
        sent = given.encode() if isinstance(given, str) else given
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
        self._monkeypatch.setattr(sys, "argv", ["lumigator-nb", *self._words, *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, out + err
        return out, err
