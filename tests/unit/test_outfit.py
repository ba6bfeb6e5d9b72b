"""The log of a process of the cluster."""

from __future__ import annotations

import logging

import pytest

from lumigator_nb.engine import process_setup
from lumigator_nb.engine.process_setup import Log
from lumigator_nb.security.redaction import redactor


@pytest.mark.parametrize("pieces", [["ab", "cd", "ef"], ["abcdef"], ["a", "bcdef"], ["", "abc", "", "def"]])
def test_a_short_log_is_kept_whole(pieces: list[str]) -> None:
    log = Log(3)
    assert sum(map(log.write, pieces)) == 6
    assert log.getvalue() == "abcdef"


def test_of_a_long_log_beginning_and_end_are_kept_and_what_is_lost_is_counted() -> None:
    log = Log(10)
    for number in range(1_000):
        log.write(f"line {number}\n")
    text = log.getvalue()
    assert text.startswith("line 0\nlin\n[")
    assert text.endswith("]\n\nline 999\n")
    assert "[8,870 characters left out]" in text


def test_memory_does_not_grow_with_what_is_logged() -> None:
    with process_setup.logged(redactor({})) as printed:
        for number in range(200):
            logging.getLogger("test").warning("%d %s", number, "x" * 50_000)
    assert len(printed.getvalue()) < 3 * process_setup.LOG_PART
    assert printed._end.tell() < 3 * process_setup.LOG_PART
    assert "WARNING 199 xxx" in printed.getvalue()
