"""The pytest plugin, in test suites that pytest runs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GATE = """
dataset = "tickets.csv"
metrics = ["rouge"]
candidate = {model = "baseline/lead-1"}
rules = {at_least = {answered = 0.9}}
"""


@pytest.fixture
def suite(tmp_path):
    """Run the tests of a text; returns what pytest printed."""

    def run(text: str, *options: str, code: int = 0) -> str:
        (tmp_path / "test_it.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-p", "lumigator_nb.pytest_plugin", "--strict-markers", *options]
        # Named above, so that the tests hold whether or not the installed package has its entry point yet.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_suite_that_does_not_use_it_loads_nothing_but_the_plugin(suite) -> None:
    text = """
import sys

def test_nothing_is_loaded():
    loaded = {name for name in sys.modules if name.startswith("lumigator_nb")}
    assert loaded <= {"lumigator_nb", "lumigator_nb._version", "lumigator_nb.pytest_plugin"}
    assert not {"pandas", "numpy", "ray", "pydantic"} & sys.modules.keys()
"""
    assert "1 passed" in suite(text)


GATES = """
import pytest

class Found:
    def __init__(self, outcome):
        self.outcome, self.passed = outcome, outcome == "passed"

    def __str__(self):
        return f"it {self.outcome}"

@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_gate(lm, outcome):
    lm.require(Found(outcome))
"""


def test_a_gate_fails_its_test_unless_it_passes(suite) -> None:
    printed = suite(GATES, code=1)
    assert "1 passed" in printed
    assert "2 failed" in printed
    assert "it undecided" in printed


def test_an_undecided_gate_may_skip_its_test(suite) -> None:
    assert "1 failed, 1 passed, 1 skipped" in suite(GATES, "-o", "lumigator_undecided=skip", code=1)


def test_the_marker_checks_its_file_before_the_test(suite, tmp_path) -> None:
    text = """
import pytest

@pytest.mark.lumigator("nothing.toml")
def test_without_a_file():
    raise SystemExit("the body must not run")

@pytest.mark.lumigator("gate.toml")
def test_with_a_typing_error(lm):
    raise SystemExit("the body must not run")

@pytest.mark.lumigator
def test_without_a_name():
    raise SystemExit("the body must not run")

def test_without_the_marker():
    pass
"""
    (tmp_path / "gate.toml").write_text(GATE.replace("metrics", "metrcs"), encoding="utf-8")
    printed = suite(text, code=1)
    assert "3 failed, 1 passed" in printed
    assert "name a gate file, such as gate.toml" in printed
    assert "did you mean 'metrics'" in printed
    assert 'write @pytest.mark.lumigator("gate.toml")' in printed
