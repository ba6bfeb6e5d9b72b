"""The whole main job in JupyterLab, by the widgets alone, in a real browser."""

from __future__ import annotations

import json
import os

import pytest

import lumigator_nb as lm
from lumigator_testing import screens

pytestmark = pytest.mark.integration

CELLS = (
    "import lumigator_nb as lm\n\nws = lm.connect()",
    "lm.ui.upload(ws)",
    "lm.ui.launch(ws)",
    'lm.ui.progress(ws, "in a notebook")',
    'lm.ui.compare(ws, "in a notebook")',
    'lm.ui.rate(ws, "in a notebook", "ana")',
)


@pytest.fixture
def lab(tmp_path, home):
    screens.notebook(tmp_path / "main.ipynb", CELLS)
    log = tmp_path / "log.txt"
    with screens.jupyterlab(tmp_path, {"LUMIGATOR_HOME": str(home)}, log) as address:
        yield f"{address}main.ipynb"


def test_the_whole_main_job_by_widgets(lab, home, tmp_path, new_page) -> None:
    file = tmp_path / "threads.csv"
    thread = "Thread {} <b>&</b> more. It began on Monday. It ended. Nobody knows why. It may come back."
    rows = [f"{n};{thread.format(n)};Thread {n} began." for n in range(12)]
    file.write_text("number;body;summary\n" + "\n".join(rows) + "\n", encoding="utf-8")
    page = new_page(1280, 1400)
    page.goto(lab)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()

    run(page, cells, 0)
    run(page, cells, 1)
    form = cells.nth(1)
    with page.expect_file_chooser() as chosen:
        form.get_by_role("button", name="Choose a file").click()
    chosen.value.set_files(file)
    form.get_by_text("threads.csv begins with").wait_for()
    form.get_by_label("Name").fill("threads of a notebook")
    form.get_by_role("button", name="Upload").click()
    form.get_by_text("12 examples uploaded").wait_for()

    run(page, cells, 2)
    form = cells.nth(2)
    form.get_by_label("Dataset").select_option("threads of a notebook")
    form.get_by_label("Name of the experiment").fill("in a notebook")
    form.get_by_role("checkbox", name="First three sentences").check()
    form.get_by_role("checkbox", name="The input, unchanged").check()
    form.get_by_text("2 chosen").wait_for()
    form.get_by_role("button", name="Launch").click()
    form.get_by_role("button", name="Launched").wait_for()

    run(page, cells, 3)
    cells.nth(3).get_by_text("Compare them").wait_for()

    run(page, cells, 4)
    form = cells.nth(4)
    form.get_by_text("How sure the order is").wait_for()
    form.get_by_role("button", name="Examples").click()
    form.get_by_label("Search").fill("Thread 7 ")
    form.get_by_label("Search").press("Enter")
    form.get_by_role("cell", name="Thread 7 <b>&</b> more").wait_for()
    form.get_by_label("Example").select_option(index=1)
    form.get_by_role("heading", name="Example 7").wait_for()

    run(page, cells, 5)
    form = cells.nth(5)
    form.get_by_text("1 of ").wait_for()
    form.get_by_placeholder("click here to use keys").click()
    for number in ("2 of ", "3 of "):
        page.wait_for_timeout(600)  # quicker than a person reads, keys are not taken
        page.keyboard.press("a")
        form.get_by_text(number).wait_for()
    with lm.connect(lumigator_home=home) as ws:
        assert len(ws.labels.preferences("in a notebook")) == 2
    choose(page, "File", "Save Notebook")
    page.get_by_text("Saving completed").wait_for()
    saved = json.loads((tmp_path / "main.ipynb").read_text(encoding="utf-8"))
    shown = ["".join(cell["outputs"][-1]["data"]["text/html"]) for cell in saved["cells"][1:]]
    assert "How sure the order is" in shown[3] or "rougeL" in shown[3], "without a kernel, the summary is there"
    assert os.fspath(home) not in "".join(shown[1:])

    choose(page, "Kernel", "Restart Kernel…")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    run(page, cells, 0)
    run(page, cells, 4, executed=2)
    cells.nth(4).get_by_text("How sure the order is").wait_for()
    run(page, cells, 5, executed=3)
    cells.nth(5).get_by_text("3 of 12").wait_for()  # two of the twelve are rated


def choose(page, menu: str, entry: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=entry).first.click()


def run(page, cells, number: int, executed: int = 0) -> None:
    """Run one cell, and wait for what it shows."""
    cells.nth(number).locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+Enter")
    cells.nth(number).get_by_text(f"[{executed or number + 1}]:", exact=True).first.wait_for()
