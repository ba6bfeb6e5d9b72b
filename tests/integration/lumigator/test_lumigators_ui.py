"""Lumigator's own UI in front of our server, driven in a browser as a person does it.

LUMIGATOR_SCREENS names the folder for a picture of each step; it is the test's own otherwise.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from frontend import behind_a_proxy, built
from waiting import PATIENCE_S

from lumigator_testing import ModelServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATASET = "dialogsum_mini_no_gt.csv"
BART, OPENAI = "facebook/bart-large-cnn", "gpt-4o-mini"


@pytest.fixture(scope="module")
def site(checkout, pytestconfig) -> Path:
    return built(checkout, pytestconfig.cache.mkdir("lumigators-ui"))


@pytest.fixture
def server(serve, free_port):
    """With a model server for OpenAI's models, which knows another key than the one that is typed in."""
    with (
        ModelServer() as local,
        ModelServer(api_key="sk-right-0123456789") as openai,
        serve("--allow-origin", f"localhost:{free_port}", OPENAI_BASE_URL=openai.base_url,
              LUMIGATOR_REST_HOSTS=local.url.removeprefix("http://")) as server,
    ):  # fmt: skip
        server.self_hosted = local.base_url
        yield server


class Person:
    """Who looks at a page, and takes a picture of each step.

    Attributes:
        problems: requests that were refused, and errors of the page.
    """

    def __init__(self, page, folder: Path) -> None:
        self.page, self._folder, self._taken = page, folder, 0
        self.problems: list[str] = []
        page.on("response", self._answered)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: self.problems.append(said.text) if "TypeError" in said.text else None)
        folder.mkdir(parents=True, exist_ok=True)

    def _answered(self, response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status} {response.request.method} {response.url}")

    def picture(self, name: str) -> None:
        self.page.wait_for_timeout(500)  # drawers slide in
        self._taken += 1
        self.page.screenshot(path=self._folder / f"{self._taken:02d}-{name}.png")

    def go(self, name: str) -> None:
        self.page.locator(".l-main-menu__link").filter(has_text=name).click()

    def click(self, name: str, within=None, exact: bool = True) -> None:
        (within or self.page).get_by_role("button", name=name, exact=exact).click()

    def row(self, text: str):
        return self.page.get_by_role("row").filter(has_text=text)

    def confirm(self, name: str) -> None:
        self.click(name, self.page.get_by_role("alertdialog"))

    def sees(self, text: str, within=None) -> None:
        (within or self.page).get_by_text(text).first.wait_for()

    def close_drawer(self) -> None:
        drawer = self.page.locator(".p-drawer")
        drawer.get_by_role("button", name="Close").click()
        drawer.wait_for(state="detached")


@pytest.fixture
def person(new_browser_page, tmp_path) -> Person:
    return Person(new_browser_page, Path(os.environ.get("LUMIGATOR_SCREENS") or tmp_path / "screens"))


@pytest.fixture
def new_browser_page(chromium):
    page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    yield page
    page.context.close()


def test_a_person_does_everything_that_the_ui_offers(site, server, free_port, checkout, person) -> None:
    with behind_a_proxy(site, free_port, server.url) as address:
        person.page.goto(address)
        generate_ground_truth(person, checkout / "lumigator" / "sample_data" / "summarization" / DATASET)
        look_at_dataset(person)
        type_keys(person)
        create_experiment(person)
        run_three_models(person, server.self_hosted)
        look_at_results(person)
        delete_everything(person, server)
    # The UI asks once more for the logs of a run that it has deleted.
    assert [each for each in person.problems if not each.startswith("404 GET")] == []


def generate_ground_truth(person: Person, file: Path) -> None:
    person.sees("Use a dataset as the basis for your evaluation")
    person.picture("no-datasets")
    with person.page.expect_file_chooser() as chooser:
        person.click("Provide Dataset")
    chooser.value.set_files(file)
    person.picture("upload")
    person.confirm("Upload")
    person.row(DATASET).get_by_text("false").wait_for()
    person.picture("uploaded")
    person.row(DATASET).click()
    person.sees("Dataset Details")
    person.picture("dataset-details")
    person.click("Generate Ground Truth")
    person.picture("ask-for-ground-truth")
    person.click("Start Generating")
    person.page.get_by_role("tab", name="Ground Truth Jobs").click()
    jobs = person.page.get_by_role("tabpanel", name="Ground Truth Jobs")
    jobs.get_by_role("row").filter(has_text=DATASET).get_by_text("SUCCEEDED").wait_for()
    person.picture("ground-truth-jobs")
    jobs.get_by_role("row").filter(has_text=DATASET).click()
    person.sees("Job Details")
    person.sees("summarization - annotate")
    person.sees(BART, person.page.locator(".sliding-panel"))
    person.picture("job-details")
    person.click("Logs")
    person.sees("ended: succeeded", person.page.locator(".p-drawer"))
    person.picture("job-logs")
    person.close_drawer()
    person.click("Close", person.page.locator(".sliding-panel"))


def look_at_dataset(person: Person) -> None:
    person.page.get_by_role("tab", name="All Datasets").click()
    made = person.row("True (AI Generated)")
    made.wait_for()
    person.picture("generated")
    made.click()
    person.sees("Generated by")
    person.picture("generated-details")
    person.click("View Dataset")
    viewer = person.page.locator(".p-drawer")
    viewer.get_by_role("columnheader", name="ground_truth").wait_for()
    viewer.get_by_role("columnheader", name="examples").wait_for()
    person.picture("dataset-rows")
    person.close_drawer()
    with person.page.expect_download() as download:
        person.page.locator(".l-dataset-details__header-actions button").first.click()
    assert Path(download.value.path()).read_text().startswith("examples,ground_truth")


def type_keys(person: Person) -> None:
    person.go("settings")
    person.page.locator("#openai_api_key").fill("sk-wrong-0123456789")
    person.page.locator(".api-key").filter(has_text="OpenAI").get_by_role("button", name="Save").click()
    person.sees("OpenAI API key saved")
    person.picture("key-saved")
    person.page.reload()
    person.page.locator(".api-key").filter(has_text="OpenAI").locator(".delete-button").wait_for()
    assert set(person.page.locator("#openai_api_key").input_value()) == {"*"}


def create_experiment(person: Person) -> None:
    person.go("experiments")
    person.sees("Experiments are a logical sequence")
    person.picture("no-experiments")
    person.click("Create Experiment")
    form = person.page.get_by_role("dialog")
    form.get_by_label("Title").fill("Which model?")
    form.get_by_label("Description").fill("Three models, one of them without a key")
    form.locator(".p-select").first.click()
    options = person.page.get_by_role("option")
    options.first.wait_for()
    assert options.count() == 1  # the one with ground truth
    options.first.click()
    form.get_by_label("Maximum samples").press_sequentially("3")
    person.picture("experiment-form")
    person.click("Continue", form)
    person.sees("Suggested Models")
    person.picture("models")


def run_three_models(person: Person, self_hosted: str) -> None:
    for model in (BART, OPENAI):
        person.page.locator(".model-card").filter(has_text=model).get_by_role("checkbox").check()
    person.click("Add Model Run")
    form = person.page.get_by_role("dialog")
    form.locator(".p-select").click()
    person.page.get_by_role("option", name="Self-Hosted").click()
    form.locator("#base-url").fill(self_hosted)
    form.locator("#model-id").fill("lead-1")
    form.locator("#run-title").fill("ours")
    person.picture("self-hosted")
    person.click("Done", form)
    person.picture("chosen")
    person.click("Run")
    for model, status in ((BART, "succeeded"), ("lead-1", "succeeded"), (OPENAI, "failed")):
        person.row(model).get_by_text(status).wait_for()
    person.picture("runs")


def look_at_results(person: Person) -> None:
    person.click("View All Results")
    drawer = person.page.locator(".p-drawer")
    for model in (BART, "lead-1"):
        drawer.get_by_role("row").filter(has_text=model).wait_for()
    for score in ("rouge-1", "Meteor"):
        drawer.get_by_role("columnheader", name=score).first.wait_for()
    person.picture("results")
    drawer.get_by_role("row").filter(has_text="lead-1").locator("button").first.click()
    drawer.get_by_role("columnheader", name="predictions").wait_for()
    assert drawer.locator("table table tbody tr").count() == 3
    person.picture("results-rows")
    person.close_drawer()
    person.click("View logs", person.row(OPENAI))
    person.sees("ended: failed", person.page.locator(".p-drawer"))
    person.picture("logs-of-failed-run")
    person.close_drawer()
    with person.page.expect_download() as download:
        person.click("Download results", person.row(BART))
    result = json.loads(Path(download.value.path()).read_text())
    assert len(result["artifacts"]["predictions"]) == 3
    assert 0 <= result["metrics"]["rouge"]["rouge1_mean"] <= 1
    person.page.get_by_role("tab", name="Experiment Details").click()
    person.sees("Three models, one of them without a key")
    samples = person.page.locator(".field").filter(has_text="Maximum samples")
    samples.get_by_text("3", exact=True).wait_for()
    person.picture("experiment-details")


def delete_everything(person: Person, server) -> None:
    person.page.get_by_role("tab", name="Model Runs").click()
    person.click("Delete", person.row(OPENAI))
    person.picture("delete-run")
    person.confirm("Delete Model Run")
    person.row(OPENAI).wait_for(state="detached")
    person.picture("run-deleted")
    person.go("experiments")
    person.row("Which model?").get_by_text("succeeded").wait_for()
    person.picture("experiments")
    person.click("View results", person.row("Which model?"))
    person.page.locator(".p-drawer").get_by_role("row").filter(has_text="lead-1").wait_for()
    person.close_drawer()
    person.click("Delete", person.row("Which model?"))
    person.confirm("Delete Experiment")
    person.sees("Experiments are a logical sequence of inference and evaluation tasks that run sequentially")
    person.row("Which model?").wait_for(state="detached")
    person.picture("experiment-deleted")
    person.go("datasets")
    delete_dataset(person, "True (AI Generated)")
    person.sees("Dataset deleted")
    person.row("True (AI Generated)").wait_for(state="detached")
    delete_dataset(person, DATASET)
    person.sees("Use a dataset as the basis for your evaluation")
    person.picture("datasets-deleted")
    person.go("settings")
    person.page.locator(".api-key").filter(has_text="OpenAI").locator(".delete-button").click()
    person.confirm("Delete")
    person.sees("OpenAI API key deleted")
    person.picture("key-deleted")
    for kind in ("datasets", "experiments"):
        assert server.get(kind)["total"] == 0
    assert server.get("settings/secrets") == []


def delete_dataset(person: Person, text: str) -> None:
    person.row(text).locator(".l-dataset-table__options-trigger").click()
    person.page.get_by_role("menuitem", name="Delete").click()
    person.picture("delete-dataset")
    person.confirm("Delete")
