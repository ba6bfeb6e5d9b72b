"""The served dashboard in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import pandas as pd
import pytest
from waiting import until

pytestmark = pytest.mark.integration

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def url(home, free_port):
    command = [sys.executable, "-m", "lumigator_nb.cli", "dashboard", "--port", str(free_port), "--no-show"]
    address = f"http://127.0.0.1:{free_port}/"
    with subprocess.Popen(command, env=os.environ | {"LUMIGATOR_HOME": str(home)}) as server:
        until(lambda: _answers(address), 60, "the dashboard answers")
        yield address
        server.terminate()


def _answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=2).status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture
def page():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no browser is installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser.new_page(viewport={"width": 1280, "height": 800})
        browser.close()


def test_experiments_are_chosen_and_compared(ws, url, page) -> None:
    frame = pd.DataFrame({"example": ["One. Two.", "Three. Four."], "ground_truth": ["One.", "Three."]})
    dataset = ws.datasets.upload(frame, name="dashboard")
    for name in ("first <script>", "second"):
        experiment = ws.experiments.create(name, dataset=dataset, metrics=["rouge"])
        ws.workflows.launch(experiment, ["baseline/lead-1", "baseline/copy"])
    problems, hosts = [], set()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))

    page.goto(f"{url}?experiment=first+%3Cscript%3E")
    page.locator(".lm-title", has_text="first <script>").wait_for(timeout=60_000)
    assert page.get_by_label("Experiment").input_value() == "first <script>"
    page.get_by_label("Experiment").select_option("second")
    page.wait_for_url("**experiment=*second*")
    title = page.locator(".lm-title", has_text="second")
    title.wait_for(timeout=60_000)
    page.reload()
    title.wait_for(timeout=60_000)
    assert page.get_by_label("Experiment").input_value() == "second"
    assert problems == []
    assert hosts <= {"127.0.0.1", ""}
