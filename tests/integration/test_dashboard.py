"""The served dashboard in a real browser: whole ways through it, as people go them."""

from __future__ import annotations

import re

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.testing import screens

pytestmark = pytest.mark.integration

FRAME = pd.DataFrame(
    {
        "example": ["The parcel never came. I want my money back.", "The app crashes. It began on Monday."],
        "ground_truth": ["A customer wants a refund.", "The app has crashed since Monday."],
    }
)


@pytest.fixture(scope="module")
def url(home, tmp_path_factory):
    log = tmp_path_factory.mktemp("dashboard") / "log.txt"
    with screens.dashboard(home, log=log) as address:
        yield address
    # A browser that was closed is told once more at times.
    printed = log.read_text().replace("WebSocketClosedError", "")
    assert "lumigator_nb/dashboards" not in printed
    assert "lumigator_nb/presentation" not in printed


@pytest.fixture(scope="module")
def compared(home):
    """An experiment whose models have answered, with a name that no page may take for markup."""
    with lm.connect(lumigator_home=home) as ws:
        dataset = ws.datasets.upload(FRAME, name="dashboard")
        experiment = ws.experiments.create("first <script>", dataset=dataset, metrics=["rouge"])
        ws.workflows.launch(experiment, ["baseline/lead-1", "baseline/copy"])
        ws.wait(experiment, progress=False)
    return experiment


def test_a_deep_link_opens_reloads_and_steps_back(url, page, compared) -> None:
    page.goto(f"{url}#/experiments/first%20%3Cscript%3E")
    title = page.get_by_role("heading", name="first <script>")
    title.wait_for(timeout=60_000)
    page.reload()
    title.wait_for()
    assert page.title() == "first <script> · Lumigator"
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Jobs").click()
    page.get_by_role("heading", name="Jobs").wait_for()
    page.go_back()
    title.wait_for()
    page.go_forward()
    page.get_by_role("heading", name="Jobs").wait_for()


def test_a_change_made_elsewhere_appears_in_every_browser(url, new_page, ws, compared) -> None:
    pages = [new_page(), new_page(390, 844)]
    for each in pages:
        each.goto(f"{url}#/experiments")
        each.get_by_role("link", name="first <script>").wait_for(timeout=60_000)
    ws.experiments.create("made in a notebook", dataset="dashboard", metrics=["rouge"])
    for each in pages:
        each.get_by_role("link", name="made in a notebook").wait_for(timeout=5_000)
    ws.experiments.delete("made in a notebook")
    for each in pages:
        each.get_by_role("link", name="made in a notebook").wait_for(timeout=5_000, state="detached")


def test_a_page_that_is_not_there_says_so(url, page) -> None:
    page.goto(f"{url}#/experiments/nobody")
    page.get_by_text("there is no experiment 'nobody'").wait_for(timeout=60_000)
    page.get_by_role("link", name="To experiments").click()
    page.wait_for_url(re.compile("#/experiments$"))


def test_two_browsers_watch_a_model_that_is_stopped_and_resumed(url, new_page, ws, running) -> None:
    running.configure(latency=0.5)
    texts = pd.DataFrame({"example": [f"Case {n} came in. It is open." for n in range(60)]})
    dataset = ws.datasets.upload(texts, name="slow cases")
    experiment = ws.experiments.create("slowly", dataset=dataset, metrics=["length"])
    model = lm.Model("lead-1", provider="openai", base_url=running.base_url, concurrency=1)
    ws.workflows.launch(experiment, [model])
    pages = [new_page(), new_page(390, 844)]
    for each in pages:
        each.goto(f"{url}#/experiments/slowly")
        each.get_by_text("answering").wait_for(timeout=60_000)
    pages[0].get_by_role("button", name="Stop").first.click()
    for each in pages:
        each.get_by_text("stopped").first.wait_for(timeout=30_000)
    running.configure(latency=0.01)
    pages[1].get_by_role("button", name="Resume").first.click()
    for each in pages:
        each.get_by_text("succeeded").first.wait_for(timeout=60_000)
    assert running.stats().answered < 2 * len(texts), "what was answered before is not asked again"
    assert not ws.workflows.predictions(ws.workflows.of(experiment)[0])["prediction"].isna().any()
