"""The gate as a CI runs it: a scratch repository, the command in a process, a live Ray head, a server of models."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
N = 80
TEXT = "Parcel {n} is lost. It was sent on day {n}. Please help."
CSV = "\n".join(["example,ground_truth", *(f"{TEXT.format(n=n)},Parcel {n} is lost." for n in range(N)), ""])
GATE = """
dataset = "tickets.csv"
dataset_sha256 = "{sha256}"
metrics = ["rouge", "exact_match"]

[candidate]
model = "openai/{candidate}"
base_url = "{url}"

[baseline]
model = "openai/{baseline}"
base_url = "{url}"
label = "prod"

[rules]
score = "rougeL"
margin = 0.05
at_least = {{answered = {answered}}}
"""


@pytest.fixture(scope="module")
def server():
    with ModelServer(models=("lead-1", "lead-3")) as server:
        yield server


@pytest.fixture
def repository(tmp_path, server):
    """A repository with a dataset and a gate file, of which some values are replaced."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "tickets.csv").write_text(CSV, encoding="utf-8")

    def written(candidate: str = "lead-1", baseline: str = "lead-3", answered: float = 0.95) -> Path:
        sha256 = hashlib.sha256(CSV.encode()).hexdigest()
        text = GATE.format(
            candidate=candidate, baseline=baseline, answered=answered, url=server.base_url, sha256=sha256
        )
        (tmp_path / "gate.toml").write_text(text, encoding="utf-8")
        return tmp_path

    return written


@pytest.fixture
def check(home):
    """Run the command in a repository; returns its exit code and what it printed."""

    def run(repository: Path, key: str | None = "sk-" + "test" * 5, home: Path = home) -> tuple[int, str]:
        environment = {name: text for name, text in os.environ.items() if name != "OPENAI_API_KEY"}
        environment |= {"LUMIGATOR_HOME": str(home), **({"OPENAI_API_KEY": key} if key else {})}
        command = [sys.executable, "-m", "lumigator_nb.cli", "check", "gate.toml"]
        command += ["--junit", "out/junit.xml", "--summary", "out/summary.md"]
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def cases(repository: Path) -> list[str]:
    """The outcomes in the JUnit file."""
    tree = ElementTree.parse(repository / "out" / "junit.xml")
    return [next((child.tag for child in case), "passed") for case in tree.iter("testcase")]


def test_a_ci_passes_fails_and_is_undecided(repository, check, server, tmp_path_factory, home) -> None:
    code, printed = check(repository())
    assert code == 0, printed
    assert "Passed: openai/lead-1 is shown to keep all 2 rules" in printed
    assert f"{2 * N} answers asked for" in printed
    assert cases(repository()) == ["passed", "passed"]
    assert "✅ gate" in (repository() / "out" / "summary.md").read_text(encoding="utf-8")

    code, printed = check(repository(answered=0.99))
    assert code == 2, printed
    assert f"about {299 - N} further examples" in " ".join(printed.split())
    assert cases(repository()) == ["passed", "error"]

    code, printed = check(repository("lead-3", "lead-1"))
    assert code == 1, printed
    assert "5 examples on which openai/lead-3 falls behind prod most" in printed
    assert cases(repository()) == ["failure", "passed"]

    # Of all this a CI keeps the answers alone.
    fresh = tmp_path_factory.mktemp("fresh")
    shutil.copytree(home / "store" / "predictions", fresh / "store" / "predictions")
    calls = server.stats().calls
    try:
        code, printed = check(repository(), home=fresh)
    finally:
        subprocess.run(
            [sys.executable, "-m", "lumigator_nb.cli", "down"],
            env={**os.environ, "LUMIGATOR_HOME": str(fresh)},
            check=True,
        )
    assert code == 0, printed
    assert f"0 answers asked for, {2 * N} from the answer cache" in " ".join(printed.replace(" ($0.00)", "").split())
    assert server.stats().calls == calls


def test_what_cannot_be_checked_is_neither_passed_nor_failed(repository, check) -> None:
    folder = repository()
    text = (folder / "gate.toml").read_text(encoding="utf-8")
    # A server of one's own needs no key, the provider's does.
    (folder / "gate.toml").write_text(re.sub(r"base_url = .*", "", text), encoding="utf-8")
    code, printed = check(folder, key=None)
    assert code == 3, printed
    assert "OPENAI_API_KEY" in printed
    assert "as a secret of the repository" in printed
    assert cases(folder) == ["error"]

    code, printed = check(repository(candidate="retired"))
    assert code == 3, printed
    assert "the candidate 'openai/retired' could not answer" in printed
    assert "name its successor as candidate in gate.toml" in printed

    folder = repository()
    (folder / "tickets.csv").write_text(CSV.replace("day 7.", "day 8."), encoding="utf-8")
    code, printed = check(folder)
    assert code == 3, printed
    assert "the dataset has changed" in printed
    assert "Traceback" not in printed


def test_the_action_runs_the_check_and_says_the_outcome(repository, home, tmp_path, server) -> None:
    folder = repository(answered=0.99)
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (step,) = (step for step in action["runs"]["steps"] if step.get("id") == "check")
    environment = {
        **os.environ, "LUMIGATOR_HOME": str(home), "OPENAI_API_KEY": "sk-" + "test" * 5, "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "page"),
        # Something that is installed already: the test installs nothing.
        "CHECK_FILE": "gate.toml", "INSTALL": "pip", "UNDECIDED": "fail",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text(encoding="utf-8").splitlines())
    assert outputs["outcome"] == "undecided"
    assert Path(outputs["junit"]).is_file()
    assert "❔ gate" in (tmp_path / "page").read_text(encoding="utf-8")
    done = subprocess.run(command, cwd=folder, env={**environment, "UNDECIDED": "pass"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(step["env"]) == {"LUMIGATOR_HOME", "CHECK_FILE", "INSTALL", "UNDECIDED"}
    assert "inputs." not in step["run"]
