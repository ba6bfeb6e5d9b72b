"""The served dashboard in a real browser: whole ways through it, as people go them."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_testing import screens

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
    title.wait_for()
    page.reload()
    title.wait_for()
    assert page.title() == "first <script> · Lumigator"
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Workflows").click()
    page.get_by_role("heading", name="Workflows").wait_for()
    page.go_back()
    title.wait_for()
    page.go_forward()
    page.get_by_role("heading", name="Workflows").wait_for()


def test_a_change_made_elsewhere_appears_in_every_browser(url, new_page, ws, compared) -> None:
    pages = [new_page(), new_page(390, 844)]
    for each in pages:
        each.goto(f"{url}#/experiments")
        each.get_by_role("link", name="first <script>").wait_for()
    ws.experiments.create("made in a notebook", dataset="dashboard", metrics=["rouge"])
    for each in pages:
        each.get_by_role("link", name="made in a notebook").wait_for()
    ws.experiments.delete("made in a notebook")
    for each in pages:
        each.get_by_role("link", name="made in a notebook").wait_for(state="detached")


def test_it_is_dark_where_the_system_is_until_somebody_chooses(url, new_page) -> None:
    page = new_page(color_scheme="dark")
    page.goto(url)
    for dark in (True, False):
        page.get_by_role("heading", name="Experiments").wait_for()
        page.wait_for_function(f"({_BRIGHTNESS} < 128) === {str(dark).lower()}")
        if dark:
            page.get_by_label("Toggle theme").click()
            page.wait_for_function(f"{_BRIGHTNESS} > 128")
            # The choice goes to the server and back before the browser keeps it.
            page.wait_for_function("localStorage.getItem('lumigator-theme') === 'light'")
            page.reload()


_BRIGHTNESS = "Number(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])"


def test_a_page_that_is_not_there_says_so(url, page) -> None:
    page.goto(f"{url}#/experiments/nobody")
    page.get_by_text("there is no experiment 'nobody'").wait_for()
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
        each.get_by_text("answering").wait_for()
    pages[0].get_by_role("button", name="Stop").first.click()
    for each in pages:
        each.get_by_text("stopped").first.wait_for()
    running.configure(latency=0.01)
    pages[1].get_by_role("button", name="Resume").first.click()
    for each in pages:
        each.get_by_text("succeeded").first.wait_for()
    assert running.stats().answered < 2 * len(texts), "what was answered before is not asked again"
    assert not ws.workflows.predictions(ws.workflows.of(experiment)[0])["prediction"].isna().any()


def test_the_whole_main_job_by_clicks(url, page, ws, tmp_path) -> None:
    """Upload, launch, watch, compare, one example; every page is the same after a reload, and back leads back."""
    file = tmp_path / "tickets.csv"
    rows = [
        f"{n};Ticket {n} <b>&</b> more. It began on Monday.;Ticket {n} began.;{'web' if n % 2 else 'shop'}"
        for n in range(30)
    ]
    file.write_text("number;body;summary;place\n" + "\n".join(rows) + "\n", encoding="utf-8")

    page.goto(f"{url}#/datasets")
    page.get_by_role("link", name="Upload a file").first.click()
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_text("tickets.csv begins with").wait_for()
    page.get_by_text("It began on Monday").first.wait_for()
    page.get_by_label("Name").fill("tickets by clicks")
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_role("heading", name="tickets by clicks").wait_for()
    assert page.url.endswith("#/datasets/tickets%20by%20clicks")
    stays(page, "heading", "tickets by clicks")

    page.get_by_role("link", name="New experiment").click()
    page.get_by_role("heading", name="New experiment").wait_for()
    page.get_by_label("Name of the experiment").fill("by clicks")
    page.get_by_role("checkbox", name="First three sentences").check()
    page.get_by_role("checkbox", name="The input, unchanged").check()
    page.get_by_text("2 chosen").wait_for()
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_role("heading", name="by clicks").wait_for()
    page.get_by_role("link", name="Compare", exact=True).wait_for()
    stays(page, "heading", "by clicks")

    page.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_text("How sure the order is").wait_for()
    stays(page, "heading", "How sure the order is on rougeL")
    page.get_by_role("link", name="Charts").click()
    page.get_by_role("heading", name="Each against each").wait_for()
    page.get_by_role("link", name="Slices").click()
    page.get_by_role("cell", name="place: shop").wait_for()
    page.get_by_role("link", name="Examples").click()
    page.get_by_label("Search texts").fill("Ticket 17 ")
    page.get_by_text("1 example", exact=True).wait_for()
    page.get_by_role("link", name="17", exact=True).click()
    page.get_by_role("heading", name="Example 17").wait_for()
    stays(page, "heading", "Example 17")
    page.go_back()
    page.get_by_label("Search texts").wait_for()
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="Report").click()
    assert b"Ticket 17 &lt;b&gt;" in downloaded.value.path().read_bytes()
    for _ in range(20):
        if page.url.endswith("#/datasets"):
            break
        page.go_back()
    page.get_by_role("rowgroup").get_by_role("link", name="tickets by clicks").first.wait_for()
    assert ws.compare("by clicks").n_scored == 30


def stays(page, role: str, name: str) -> None:
    page.reload()
    page.get_by_role(role, name=name).first.wait_for()


def test_a_wrong_file_says_what_is_wrong_and_leaves_nothing(url, page, ws, tmp_path) -> None:
    before = {dataset.id for dataset in ws.datasets.list(limit=1000)}
    ragged, late = tmp_path / "ragged.csv", tmp_path / "late.csv"
    ragged.write_text("example,ground_truth\nFine.,Fine.\nOne,two,three\n", encoding="utf-8")
    late.write_bytes(b"example\n" + b"A line of a long file.\n" * 100_000 + b"one,two\n")
    picture = tmp_path / "picture.csv"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    page.goto(f"{url}#/upload")
    chooser = page.locator("input[type=file]")
    chooser.set_input_files(ragged)
    page.get_by_role("alert").filter(has_text="line 3 (row 2)").wait_for()
    chooser.set_input_files(picture)
    page.get_by_role("alert").filter(has_text="picture").wait_for()
    chooser.set_input_files(late)
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_role("alert").filter(has_text="line 100002").wait_for()
    assert {dataset.id for dataset in ws.datasets.list(limit=1000)} == before


@pytest.mark.slow
def test_a_wrong_key_fails_the_model_with_words_and_a_right_one_resumes_it(url, page, home, running, compared) -> None:
    running.configure(api_key="sk-right-of-a-test")
    model = {"name": "openai/lead-1", "display_name": "Ours", "tasks": ["summarization"], "api_key": "OURS_API_KEY"}
    (home / "models.yaml").write_text(json.dumps([{**model, "base_url": running.base_url}]), encoding="utf-8")
    page.goto(f"{url}#/models?search=ours")
    page.get_by_text("OURS_API_KEY is not set").wait_for()
    store_key(page, "sk-wrong-of-a-test")
    page.goto(f"{url}#/launch?dataset=dashboard")
    page.get_by_label("Name of the experiment").fill("by a wrong key")
    page.get_by_role("checkbox", name="Ours").check()
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_text("failed").first.wait_for()
    page.get_by_text("openai refuses the API key").first.wait_for()
    store_key(page, "sk-right-of-a-test")
    page.goto(f"{url}#/experiments/by%20a%20wrong%20key")
    page.get_by_role("button", name="Resume").first.click()
    page.get_by_text("succeeded").first.wait_for()
    (home / "models.yaml").unlink()
    assert "sk-wrong" not in page.content()


def store_key(page, value: str) -> None:
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("row", name="OURS_API_KEY").get_by_role("link").first.click()
    page.get_by_label("ey", exact=False).and_(page.locator("input[type=password]")).fill(value)
    page.get_by_role("button", name="Save").or_(page.get_by_role("button", name="Replace")).click()
    page.get_by_text("OURS_API_KEY is stored").wait_for()
    assert value not in page.content()
