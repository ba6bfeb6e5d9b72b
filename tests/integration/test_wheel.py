"""The wheel, alone in a clean environment: main job, dashboard, server and migrations, without a checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from installing import installed
from waiting import PATIENCE_S, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


def python_of(version: str) -> str | None:
    """A Python of that minor version on this machine; a name on the path may be a shim that leads nowhere."""
    places = [f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))]
    for place in filter(None, map(shutil.which, places)):
        if subprocess.run([place, "--version"], capture_output=True).returncode == 0:
            return place
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT TESTED: the wheel cannot be built: {done.stderr[-300:]}")
    return next(folder.glob("*.whl"))


@dataclass
class Clean:
    """An environment with the wheel, and a home beside it.

    Attributes:
        programs: the folder of its commands.
        home: the workspace's home, which is also the current folder.
    """

    programs: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return {**ours, "LUMIGATOR_HOME": str(self.home), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}

    def start(self, program: str, *arguments: str, **options) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.programs / program), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.home, env=self.environment, **options,
        )  # fmt: skip

    def __call__(self, *arguments: str, program: str = "lumigator-nb") -> str:
        process = self.start(program, *arguments)
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, out
        return out


@pytest.fixture(scope="module", params=["3.11", "3.12", "3.13", "3.14"])
def clean(request, wheel, tmp_path_factory) -> Iterator[Clean]:
    python = python_of(request.param)
    if python is None:
        pytest.skip(f"NOT TESTED: Python {request.param} is not on this machine")
    folder = tmp_path_factory.mktemp("clean")
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    programs = installed(folder / "venv", f"{wheel}[api,dashboard,rest]", *constraints, python=python)
    # A short path, since Unix sockets below it allow 107 characters.
    home = Path("/tmp") / f"lumi-{os.getpid()}-{request.param}"
    home.mkdir()
    made = Clean(programs, home)
    yield made
    made("down")
    shutil.rmtree(home)
    shutil.rmtree(folder)


def test_the_wheel_holds_what_is_not_python(wheel) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = subprocess.check_output(["git", "ls-files", "lumigator_nb"], cwd=ROOT, text=True).split()
    revisions = subprocess.check_output(["git", "ls-files", "migrations"], cwd=ROOT, text=True).split()
    assert set(package) <= names
    assert {name.replace("migrations", "lumigator_nb/_migrations", 1) for name in revisions} <= names
    assert not [name for name in names if name.startswith(("lumigator_testing", "tests"))]


def test_the_checkout_is_out_of_sight(clean) -> None:
    place = clean("-c", "import lumigator_nb; print(lumigator_nb.__file__)", program="python")
    assert Path(place.strip()).is_relative_to(clean.programs.parent)


def test_the_main_job(clean) -> None:
    first = clean("quickstart")
    decision = re.search(r"^Decision: (.*)$", first, re.MULTILINE)
    assert decision
    assert "SmolLM2" in decision[1]
    assert "Where " in first
    page = re.search(r"Report: file://(\S+)", first)
    assert page
    assert "SmolLM2" in Path(page[1]).read_text(encoding="utf-8")
    assert "find the results" in clean("quickstart")


def test_migrations(clean) -> None:
    assert "(current)" in clean("db", "current") or "upgrade" in clean("db", "upgrade")
    clean("db", "downgrade", "base")
    clean("db", "upgrade")
    assert "(current)" in clean("db", "current")
    clean("db", "check")


@pytest.mark.parametrize(
    ("command", "paths"),
    [("serve", ["/", "/api/v1/health"]), ("dashboard", ["/"])],
)
def test_servers(clean, command, paths) -> None:
    options = ["--port", "0"] + (["--no-show"] if command == "dashboard" else [])
    log = clean.home / f"{command}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(clean.programs / "lumigator-nb"), command, *options],
            stdout=file, stderr=subprocess.STDOUT, cwd=clean.home, env=clean.environment,
        )  # fmt: skip
    try:
        until(lambda: re.search(r"http://\S+:\d+", log.read_text()) or process.poll() is not None, "an address")
        address = re.search(r"http://[^\s/]+:\d+", log.read_text())
        assert address, log.read_text()
        for path in paths:
            assert requests.get(address[0] + path, timeout=PATIENCE_S).ok, log.read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
