"""Lumigator's own test suites, run from its checkout, which stays as it is, against a server."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

SHIM = Path(__file__).parent / "shim"


@dataclass(frozen=True)
class Suite:
    """Some of Lumigator's tests.

    Attributes:
        project: folder of the checkout where its developers call pytest.
        tests: files or folders below it.
        plugins: of `shim`.
        left_out: tests that look into the process of the server.
        differences: what each test that must fail asserts, as a row of the table in docs/rest.md says it.
    """

    project: str
    tests: tuple[str, ...]
    plugins: tuple[str, ...]
    differences: dict[str, str]
    left_out: tuple[str, ...] = ()


def sources(checkout: Path) -> tuple[Path, ...]:
    """Return where the SDK and its schemas lie in a checkout."""
    return tuple(checkout / "lumigator" / name for name in ("sdk", "schemas"))


def outcomes(suite: Suite, checkout: Path, python: Path, address: str, report: Path) -> dict[str, str | None]:
    """Return for each test what it failed with, None where it passed or was skipped."""
    project = checkout / suite.project
    command = [python, "-m", "pytest", *suite.tests, f"--junit-xml={report}", "-q"]
    command += [f"-p{plugin}" for plugin in (*suite.plugins, "no:cacheprovider")]
    command += [f"--deselect={each}" for each in suite.left_out]
    environment = {
        **os.environ, "LUMIGATOR_ADDRESS": address, "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (SHIM, *sources(checkout)))),
    }  # fmt: skip
    with report.with_suffix(".log").open("w") as log:
        subprocess.run(command, cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    assert report.exists(), report.with_suffix(".log").read_text()
    return {case.get("name", ""): _failure(case) for case in ET.parse(report).iter("testcase")}


def _failure(case: ET.Element) -> str | None:
    found = next((child for child in case if child.tag in ("failure", "error")), None)
    return None if found is None else f"{found.get('message')}\n{(found.text or '')[-3000:]}"
