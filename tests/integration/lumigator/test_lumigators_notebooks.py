"""Lumigator's own notebooks, every cell, with stand-ins for what the hub holds and for models behind an API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests
from serving import Serving
from suites import SHIM, sources
from waiting import PATIENCE_S

from lumigator_nb.metrics import comet
from lumigator_nb.metrics.kernels import own_environment
from lumigator_testing import ModelServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KEY = "sk-notebook-0123456789"
OLLAMA = "http://localhost:11434/v1"


def executed(name: str, checkout: Path, programs: Path, folder: Path, server: Serving, **replaced: str) -> list[str]:
    """Return what each cell of code printed and showed, as text.

    Args:
        name: of the notebook.
        folder: to hold a copy of all notebooks, which write files.
        replaced: addresses in the notebook's text.
    """
    shutil.copytree(checkout / "notebooks", folder)
    notebook = folder / name
    text = notebook.read_text(encoding="utf-8")
    for old, new in {"localhost:8000": server.host, **replaced}.items():
        text = text.replace(old, new)
    notebook.write_text(text, encoding="utf-8")
    host, _, port = server.host.partition(":")
    environment = {
        **os.environ, "LUMIGATOR_REPO": str(checkout), "LUMIGATOR_ADDRESS": server.host,
        "LUMIGATOR_SERVICE_HOST": host, "LUMIGATOR_SERVICE_PORT": port, "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (SHIM / "notebooks", *sources(checkout)))), "MPLBACKEND": "agg",
    }  # fmt: skip
    command = [programs / "jupyter-execute", "--inplace", "--kernel_name=python3", notebook]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr[-5000:]
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(map(_text, cell["outputs"])) for cell in cells if cell["cell_type"] == "code"]


def _text(output: dict) -> str:
    data = output.get("data", {})  # the plain text of a wide table leaves columns out
    return "".join(output.get("text") or data.get("text/html") or data.get("text/plain", ""))


def test_the_walkthrough(checkout, programs, serve, tmp_path) -> None:
    with serve() as server:
        shown = executed("walkthrough.ipynb", checkout, programs, tmp_path / "notebooks", server)
    assert len(shown) == 22
    table = shown[17]
    assert all(column in table for column in ("Meteor", "ROUGE-L", "BERT F1"))
    assert "None" not in table


@pytest.fixture
def home_with_comet(tmp_path_factory, monkeypatch) -> Path:
    """A home whose environment for COMET holds the stand-in, and no package that was downloaded."""

    def build(what: str, folder: Path, requirements: Sequence[str]) -> None:
        venv.create(folder)
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "zz.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
        shutil.copy(SHIM / "comet_stand_in.py", packages / "comet.py")
        (folder / "ready").touch()

    home = tmp_path_factory.mktemp("h")
    monkeypatch.setattr(own_environment, "_build", build)
    monkeypatch.setenv("LUMIGATOR_HOME", str(home))
    own_environment._environment("COMET", comet.REQUIREMENTS)
    return home


def test_the_demo_of_translation(checkout, programs, serve, home_with_comet, tmp_path) -> None:
    with ModelServer(api_key=KEY) as models:
        bound = {"LUMIGATOR_REST_KEYS": f"OPENAI_API_KEY={models.base_url}", "OPENAI_BASE_URL": models.base_url}
        with serve(home=home_with_comet, **bound) as server:
            secret = {"value": KEY, "description": "as the notebook's prerequisites have it"}
            put = requests.put(f"{server.api}/settings/secrets/openai_api_key", json=secret, timeout=PATIENCE_S)
            put.raise_for_status()
            shown = executed(
                "translation_demo_wmt24pp.ipynb", checkout, programs, tmp_path / "notebooks", server,
                **{OLLAMA: models.base_url},
            )  # fmt: skip
    assert len(shown) == 15
    table = shown[9]
    for word in ("gpt-4o-mini", "qwen2.5", "m2m100", "opus-mt", "meteor_meteor_mean", "bleu_bleu_mean"):
        assert word in table
    assert "NaN" not in table
    assert shown[10].count("Model: ") == 4
