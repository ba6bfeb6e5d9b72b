"""Hints that come over REST speak of requests, and not of calls of Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import lumigator_nb
from lumigator_nb.cluster import failure_reasons
from lumigator_nb.rest.wire import wording

SOURCES = Path(lumigator_nb.__file__).parent
# Not as the module itself tells Python: the names of the workspace and package, calls, and arguments by name. Settings
# in capitals and queries of an address are none.
PYTHON = re.compile(r"\bws\.|\blm\.|@lm\b|\w\(.*\)|(?<![?&\w])[a-z_]+=(?:\S|$)|\w\[.*\]")
# One for a shell, and what all call by this name who write models.
NO_PYTHON = re.compile(r"python -c .*|pip install '[^']*'|save_pretrained\(\)|\(and S3_ENDPOINT_URL\)")


def text_of(node: ast.expr) -> str:
    """What a string says, with a word for each part that is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(each.value if isinstance(each, ast.Constant) else "this" for each in node.values)
    return " ".join(text_of(each) for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr))


@cache
def hints() -> list[tuple[str, str]]:
    """All hints of errors in the sources, with where they are."""
    return list(_hints())


def _hints() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")).endswith(
                "Error"
            ):
                for each in [*node.args[1:], *(word.value for word in node.keywords if word.arg == "hint")]:
                    if text := text_of(each):
                        yield f"{path.relative_to(SOURCES)}:{node.lineno}", text


def test_no_hint_speaks_python_over_rest() -> None:
    python = [text for _, text in hints() if PYTHON.search(NO_PYTHON.sub("", text))]
    assert len(python) > 50, "they are found"
    told = [(where, wording.hint(text)) for where, text in hints()]
    assert [each for each in told if PYTHON.search(NO_PYTHON.sub("", each[1] or ""))] == []


def test_hints_without_python_stay_as_they_are() -> None:
    for where, text in hints():
        if not PYTHON.search(text):
            assert wording.hint(text) == text, where


def test_every_wording_is_of_a_hint_that_there_is() -> None:
    texts = [text for _, text in hints()] + [failure_reasons.MEMORY]
    unused = [python for python, _ in wording._WORDS if not any(re.search(python, text) for text in texts)]
    assert unused == []


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("wait for it, or delete(…, stop=True)", "wait for it, or DELETE it with ?force=true"),
        ("Model(…, prompt=…)", "give it one as system_prompt"),
        ("look at ws.workflows.logs(…)", None),
        ("launch more, or wait: ws.wait(experiment)", "launch more, or wait"),
        (
            "ws.cache.trim(5) keeps 5 GB; the setting LUMIGATOR_CACHE_GB sets a permanent limit",
            "the setting LUMIGATOR_CACHE_GB sets a permanent limit",
        ),
        ("the job is pending", "the job is pending"),
        (None, None),
    ],
)
def test_a_hint_in_words_of_requests(hint, said) -> None:
    assert wording.hint(hint) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("it went wrong\nHint: ws.workflows.resume(…) goes on", "it went wrong"),
        ("it went wrong\nHint: wait", "it went wrong\nHint: wait"),
        ("inference: TypeError: f() takes no x=1", "inference: TypeError: f() takes no x=1"),
        (failure_reasons.MEMORY, failure_reasons.MEMORY.replace(" (lm.Model(…, batch_size=…))", "_size")),
        (None, None),
    ],
)
def test_what_is_recorded_of_a_failure_keeps_the_words_of_others(text, said) -> None:
    assert wording.message(text) == said
