"""A package that clashes with ours lives in an environment of its own; pip needs an index to build one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

from lumigator_nb.errors import ConfigurationError
from lumigator_nb.metrics.kernels import own_environment

pytestmark = pytest.mark.integration
# Not installed here, and small; and another version of something that is.
REQUIREMENTS = ["pyfiglet==1.0.2", "iniconfig==2.0.0"]


def look(payload):
    import importlib.metadata

    import numpy
    import pyfiglet

    print("whatever a package prints is not the result")
    if payload["text"] == "break":
        raise ValueError("broken on purpose")
    return [pyfiglet.__name__, importlib.metadata.version("iniconfig"), numpy.__version__, payload["text"]]


def index_is_there(folder) -> bool:
    """Whether pip, without any of ours, can fetch what the test asks for."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        folder / "probe",
        *REQUIREMENTS,
    ]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path))
    return tmp_path / "environments"


def test_a_clashing_package_lives_in_an_environment_of_its_own(home, tmp_path) -> None:
    assert importlib.util.find_spec("pyfiglet") is None
    ours, numpy = importlib.metadata.version("iniconfig"), importlib.metadata.version("numpy")
    assert ours != "2.0.0"
    if not index_is_there(tmp_path):
        pytest.skip("NO PACKAGE INDEX CAN BE REACHED, so that pip itself cannot fetch what this test installs")
    found = own_environment.call("the test", "pyfiglet", REQUIREMENTS, look, {"text": "möglich"})
    assert found == ["pyfiglet", "2.0.0", numpy, "möglich"], "its own packages first, then ours"
    assert importlib.metadata.version("iniconfig") == ours
    (ready,) = home.glob("*/ready")
    built = ready.stat().st_ino, ready.stat().st_mtime_ns
    assert own_environment.call("the test", "pyfiglet", REQUIREMENTS, look, {"text": "again"})[3] == "again"
    assert (ready.stat().st_ino, ready.stat().st_mtime_ns) == built, "it is not built again"
    with pytest.raises(ConfigurationError, match="the test failed in its environment: ValueError: broken on purpose"):
        own_environment.call("the test", "pyfiglet", REQUIREMENTS, look, {"text": "break"})
    assert sum(path.is_dir() for path in home.iterdir()) == 1


def test_what_cannot_be_installed_is_said_and_leaves_nothing(home) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)no environment could be built.*PIP_INDEX_URL") as caught:
        own_environment.call("the test", "pyfiglet", ["pyfiglet==99.99"], look, {"text": ""})
    assert "pyfiglet==99.99" in str(caught.value)
    assert not any(path.is_dir() for path in home.iterdir())


def test_what_is_installed_here_is_called_here(home) -> None:
    assert (
        own_environment.call("the test", "json", ["nothing"], lambda payload: payload["text"], {"text": "here"})
        == "here"
    )
    assert not home.exists()
