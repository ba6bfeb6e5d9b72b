"""Gates in a test suite: the fixture `lm` and the marker `lumigator`, found by pytest as soon as this is installed.

Pytest imports this in every test run, so it imports nothing else until a test asks for a gate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lumigator_nb.services.comparison.gate_report import GateReport
    from lumigator_nb.services.comparison.gates import Gate
    from lumigator_nb.workspace import Workspace

MARKER = "lumigator"
_UNDECIDED = "lumigator_undecided"


class Gates:
    """What the fixture `lm` gives: checks and gates that fail a test.

    Args:
        config: of pytest.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._workspace: Workspace | None = None

    @property
    def workspace(self) -> Workspace:
        """The workspace that settings and `.env` describe, opened when it is first used."""
        if self._workspace is None:
            from lumigator_nb.workspace import connect

            self._workspace = connect()
        return self._workspace

    def gate(self, path: str | Path) -> GateReport:
        """Run a gate file, relative to pytest's root folder, and return the result whatever its outcome."""
        from lumigator_nb.workspace.gate_files import gate, read

        file = self._config.rootpath / path
        read(file)  # a mistake in the file is found before a workspace is opened
        return gate(file, workspace=self.workspace, progress=False)

    def require(self, gate: str | Path | GateReport | Gate) -> GateReport | Gate:
        """Fail the test unless a gate passes; a path is checked first.

        An undecided gate fails, too, unless pytest's setting `lumigator_undecided` is "skip".
        """
        __tracebackhide__ = True
        result = self.gate(gate) if isinstance(gate, str | Path) else gate
        if result.outcome == "undecided" and self._config.getini(_UNDECIDED) == "skip":
            pytest.skip(str(result))
        if not result.passed:
            pytest.fail(str(result), pytrace=False)
        return result

    def close(self) -> None:
        """Close the workspace, if it was opened."""
        if self._workspace is not None:
            self._workspace.close()


_GATES = pytest.StashKey[Gates]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the setting."""
    parser.addini(_UNDECIDED, "what an undecided gate does to its test: fail (default) or skip", default="fail")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, which --strict-markers would refuse otherwise."""
    config.addinivalue_line(
        "markers", f"{MARKER}(file): check this file before the test, and fail unless its gate passes"
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the workspace."""
    _gates(config).close()


def _gates(config: pytest.Config) -> Gates:
    # Not only in the fixture: a suite may have a fixture `lm` of another meaning, beside the marker.
    return config.stash.setdefault(_GATES, Gates(config))


@pytest.fixture(scope="session")
def lm(request: pytest.FixtureRequest) -> Gates:
    """Checks and gates that fail a test."""
    return _gates(request.config)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Check the files of the test's markers before its body."""
    for marker in pyfuncitem.iter_markers(MARKER):
        if len(marker.args) != 1 or marker.kwargs:
            raise pytest.UsageError(f'{pyfuncitem.nodeid}: write @pytest.mark.{MARKER}("gate.toml")')
        _gates(pyfuncitem.config).require(marker.args[0])
