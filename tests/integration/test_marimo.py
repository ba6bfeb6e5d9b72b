"""What marimo shows, in marimo itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from waiting import PATIENCE_S

pytest.importorskip("marimo")
pytestmark = pytest.mark.integration

NOTEBOOK = """
import marimo

app = marimo.App()

@app.cell
def _():
    import lumigator_nb as lm
    ws = lm.connect(lumigator_home={home!r})
    ws
    return lm, ws

@app.cell
def _(lm, ws):
    lm.ui.upload(ws)
    return

@app.cell
def _(lm):
    from lumigator_nb.display.progress import ProgressRow, live_progress
    with live_progress() as show:
        show([ProgressRow("a model", lm.Status.PENDING)])
        show([ProgressRow("a model", lm.Status.RUNNING)])
    return
"""


def test_marimo_shows_values_progress_and_what_to_do_without_widgets(tmp_path) -> None:
    (tmp_path / "notebook.py").write_text(NOTEBOOK.format(home=str(tmp_path / "home")), encoding="utf-8")
    command = [sys.executable, "-m", "marimo", "export", "session", "notebook.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE_S)
    (session,) = (tmp_path / "__marimo__").rglob("notebook.py.json")
    cells = json.loads(session.read_text(encoding="utf-8"))["cells"]
    shown = [[output["data"]["text/html"] for output in cell["outputs"]] for cell in cells]
    assert "Lumigator workspace" in shown[0][0]
    assert "No widget can be shown here: open the dashboard" in shown[1][0]
    assert "a model" in shown[2][0]
    assert "running" in shown[2][0]
    assert "pending" not in shown[2][0], "one output that is replaced"
    said = [console["text"] for cell in cells for console in cell["console"]]
    assert said == [], "nothing is printed beside it"
