"""Makes the pictures of the README and the docs: ``make screenshots``.

A workspace of its own is filled with the bundled conversations and the answers of three baselines; then a headless
Chromium opens the served dashboard and JupyterLab, and takes the pictures that lie in docs/images.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import lumigator_nb as lm
from lumigator_testing import screens

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 800}
EXPERIMENT = "support-threads"

# Each picture: where it is taken, and what has to be there first.
DASHBOARD = {
    "dashboard-datasets": ("#/datasets/conversations", "heading:conversations"),
    "dashboard-launch": ("#/launch?dataset=conversations", "heading:New experiment"),
    "dashboard-experiment": (f"#/experiments/{EXPERIMENT}", f"heading:{EXPERIMENT}"),
    "dashboard-comparison": (f"#/experiments/{EXPERIMENT}/comparison", "table"),
    "dashboard-example": (f"#/experiments/{EXPERIMENT}/comparison?tab=examples&example=12", "text:baseline/copy"),
}
WIDGETS = {
    "widget-upload": "upload-widget",
    "widget-launch": "launch-widget",
    "widget-progress": "progress-widget",
    "widget-compare": "compare-widget",
    "widget-rate": "rate-widget",
}


def fill(home: Path) -> None:
    with lm.connect(lumigator_home=home) as ws:
        dataset = ws.datasets.upload(ws.datasets.to_pandas(ws.datasets.sample()), name="conversations", progress=False)
        experiment = ws.experiments.create(EXPERIMENT, dataset=dataset, metrics=["rouge", "chrf", "length"])
        ws.workflows.launch(experiment, models=["baseline/lead-1", "baseline/lead-2", "baseline/copy"])
        ws.wait(experiment, check=True)


def seen(page: Any, what: str) -> None:
    kind, _, name = what.partition(":")
    found = {
        "heading": lambda: page.get_by_role("heading", name=name).first,
        "text": lambda: page.get_by_text(name).first,
        "table": lambda: page.locator("table").first,
    }[kind]()
    found.wait_for(timeout=60_000)
    page.wait_for_timeout(2_500)  # charts and images come after


def of_dashboard(browser: Any, url: str) -> None:
    for scheme in ("light", "dark"):
        page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()
        for name, (route, what) in DASHBOARD.items():
            if scheme == "dark" and name != "dashboard-comparison":
                continue
            page.goto("about:blank")
            page.goto(url + route)
            seen(page, what)
            page.screenshot(path=IMAGES / f"{name}{'-dark' if scheme == 'dark' else ''}.png")
        page.context.close()


def of_widgets(browser: Any, folder: Path, home: Path) -> None:
    """Run the interface notebook in JupyterLab and take a picture of each widget."""
    shutil.copy(ROOT / "notebooks" / "05_interface.ipynb", folder)
    with screens.jupyterlab(folder, {"LUMIGATOR_HOME": str(home)}) as address:
        page = browser.new_context(viewport={"width": 1360, "height": 1900}).new_page()
        page.goto(f"{address}05_interface.ipynb")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=120_000)
        page.get_by_role("button", name="No", exact=True).click()  # news
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.get_by_text("dashboard.stop()").last.wait_for(timeout=180_000)
        page.wait_for_timeout(60_000)
        for name, cell in WIDGETS.items():
            output = page.locator(".jp-Cell").filter(has_text=cell_source(cell)).locator(".jp-OutputArea").first
            output.scroll_into_view_if_needed()
            page.wait_for_timeout(1_000)
            output.screenshot(path=IMAGES / f"{name}.png")
        page.context.close()


def cell_source(cell: str) -> str:
    """Return the source of a cell of the notebook by its id."""
    import nbformat

    notebook = nbformat.read(ROOT / "notebooks" / "05_interface.ipynb", as_version=4)
    return next(str(each.source) for each in notebook.cells if each.id == cell)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lumi-") as name:
        folder = Path(name)
        home = folder / "home"
        os.chdir(folder)  # no .env above it
        fill(home)
        try:
            with screens.browser() as browser:
                with screens.dashboard(home) as url:
                    of_dashboard(browser, url)
                of_widgets(browser, folder, home)
        finally:
            with lm.connect(lumigator_home=home) as ws:
                ws.cluster.shutdown()
    print(f"{len(list(IMAGES.glob('*.png')))} pictures in {IMAGES.relative_to(ROOT)}")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
