"""What is shown where: notebooks with and without widgets, Colab, marimo, IPython and Python in a terminal."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from nbclient import NotebookClient
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb.display.place import Place, place

VIEW = "application/vnd.jupyter.widget-view+json"
DASHBOARD = "lumigator-nb dashboard"
CALLS = {
    "upload": "ws.datasets.upload('FILE')",
    "launch": "ws.workflows.launch(experiment, models)",
    "progress": "ws.wait('mails')",
    "compare": "ws.compare('mails')",
    "rate": "ws.labels.compare('mails', rater='ana')",
    "settings": "lumigator-nb secrets set NAME",
}


@pytest.fixture
def ws(inline_ws):
    frame = pd.DataFrame({"example": [f"Mail {n} came. It was long." for n in range(4)]})
    inline_ws.experiments.create("mails", dataset=inline_ws.datasets.upload(frame, name="mails"), metrics=["length"])
    inline_ws.workflows.launch("mails", ["baseline/copy", "baseline/lead-1"])
    inline_ws.wait("mails", progress=False)
    return inline_ws


@pytest.mark.parametrize("kind", CALLS)
def test_a_widget_says_what_to_do_where_it_cannot_be_shown(ws, kind, capsys) -> None:
    arguments = {"progress": ["mails"], "compare": ["mails"], "rate": ["mails", "ana"]}
    made = getattr(lm.ui, kind)(ws, *arguments.get(kind, []))
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("No widget can be shown here: ")
    assert CALLS[kind] in sentence
    assert (DASHBOARD in sentence) == (kind != "rate"), "the dashboard has no page for labels"

    formatter = DisplayFormatter()
    formatter.active_types = ["text/plain"]
    shown, _ = formatter.format(made)
    assert shown["text/plain"] == f"{made!r}\n{sentence}"

    mime, markup = made._mime_()
    assert mime == "text/html"
    assert sentence.split(": ")[0] in markup
    assert markup.count("No widget can be shown here") == 1
    assert made._repr_mimebundle_()["text/html"] == markup
    made.close()


def test_the_dashboard_in_a_script_says_how_to_open_it(ws, capsys) -> None:
    dashboard = lm.ui.dashboard(ws)
    try:
        said = capsys.readouterr().err
        assert ".url in a browser" in said
        assert DASHBOARD in said
        assert dashboard.url not in said, "the address is a secret"
        assert dashboard.url not in dashboard._repr_mimebundle_()["text/plain"]
    finally:
        dashboard.stop()


CELLS = (
    "import sys, types\nimport lumigator_nb as lm\nws = lm.connect(lumigator_home={home!r})",
    "lm.ui.upload(ws)",
    # What Colab's kernels have loaded.
    "sys.modules['google.colab'] = types.ModuleType('google.colab')\nlm.ui.upload(ws)",
    "lm.ui.dashboard(ws)",
)


def test_a_kernel_gets_the_widget_and_colab_what_it_can_show(tmp_path) -> None:
    cells = [nbformat.v4.new_code_cell(source.format(home=str(tmp_path))) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=PATIENCE_S, startup_timeout=PATIENCE_S, kernel_name="python3").execute()
    _, (jupyter,), (colab,), (dashboard,) = [cell.outputs for cell in notebook.cells]
    assert VIEW in jupyter.data
    assert (
        "This is the state when the cell ran; to go on, run it again, open the dashboard" in jupyter.data["text/html"]
    )
    assert VIEW not in colab.data
    assert "No widget can be shown here: call ws.datasets.upload" in colab.data["text/html"]
    assert DASHBOARD not in colab.data["text/html"], "its port cannot be reached"
    assert "<iframe" not in dashboard.data["text/html"]
    assert "WebSockets" in dashboard.data["text/html"]


def test_a_terminal_of_ipython_is_no_notebook() -> None:
    code = "from lumigator_nb.display.place import place; print(place(), place().has_cells)"
    command = [sys.executable, "-m", "IPython", "--no-banner", "--no-confirm-exit", "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.split() == ["ipython", "False"]
    assert place() is Place.PYTHON


def test_records_are_a_line_each_in_lists_and_tracebacks(ws) -> None:
    (dataset,) = ws.datasets.list()
    assert repr(dataset) == f"Dataset(name='mails', version=1, n_examples=4, id={dataset.id!r})"
    workflow = ws.workflows.of("mails")[0]
    assert repr(workflow) == f"Workflow(label={workflow.label!r}, status='succeeded', id={workflow.id!r})"
    assert "It was long" not in repr([dataset, workflow]), "texts of examples are nobody's business in a log"
    assert len(str(dataset).splitlines()) > 3, "printed, it has its facts"


def test_a_chart_says_in_a_terminal_how_to_get_it(ws) -> None:
    assert 'savefig("chart.png")' in repr(ws.compare("mails").plot())
