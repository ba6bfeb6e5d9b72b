"""What the dashboard's pages take in a browser: ``python benchmarks/screens.py [--upload-mb 200]``.

A headless Chromium opens a served dashboard on this machine and waits until what a reader came for is to be seen. The
reference of each page is its emptiest one (a page that does not exist) in the same run: what the browser, the
frame and the connection take, whatever is shown. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

import lumigator_nb as lm
from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Experiment
from lumigator_testing import screens

N_EXPERIMENTS, N_MODELS, N_EXAMPLES = 5_000, 10, 10_000
REPEATS = 3


def populate(home: Path) -> None:
    """Make the lists long, and one experiment large."""
    with lm.connect(lumigator_home=home) as ws:
        dataset = ws.datasets.upload(pd.DataFrame({"example": ["One."], "ground_truth": ["One."]}), name="small")
        like = ws.experiments.create("first", dataset=dataset, metrics=["rouge"])
        with writing(ws.database) as work:
            fields = like.model_dump(exclude={"id", "name", "created_at"})
            for number in range(N_EXPERIMENTS):
                work.session.add(Experiment(**fields | {"task": like.task, "metrics": like.metrics},
                                            name=f"experiment-{number:05d}"))  # fmt: skip
        large(ws)


def large(ws: lm.Workspace) -> None:
    """Record the answers of ten models, of growing quality, to ten thousand examples."""
    chance = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(400)])
    truths = [" ".join(chance.choice(words, 12)) for _ in range(N_EXAMPLES)]
    columns = {
        "example": [f"{text} and more of it, {n}" for n, text in enumerate(truths)],
        "ground_truth": truths,
        "product": chance.choice(["shop", "app", "web"], N_EXAMPLES),
    }
    frame = pd.DataFrame(columns)
    dataset = ws.datasets.upload(frame, name="large", progress=False)
    experiment = ws.experiments.create("large", dataset=dataset, metrics=["rouge", "length"])
    for model in range(N_MODELS):
        kept = chance.random((N_EXAMPLES, 12)) < 0.4 + model / 50
        answers = [" ".join(np.where(mask, text.split(), "other")) for mask, text in zip(kept, truths, strict=True)]
        ws.workflows.record(experiment, name=f"model-{model}", predictions=pd.DataFrame({"prediction": answers}))
    ws.wait(experiment, progress=False)


def timed(act: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def opened(page: Any, address: str, what: str) -> float:
    """Seconds from the click on a link of another page until `what` is to be seen."""

    def act() -> None:
        page.evaluate("address => { window.location.hash = address }", address)
        page.locator(what).first.wait_for(timeout=120_000)

    return timed(act)


def report(name: str, seconds: float, reference: float, aim: float) -> None:
    verdict = "" if seconds <= aim else "   MISSED"
    print(f"{name:<58} {seconds:6.2f} s   {seconds / reference:5.1f} x   aim {aim:g} s{verdict}", flush=True)


def pages(browser: Any, url: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    paints = []
    for _ in range(REPEATS):
        page.goto("about:blank")
        page.goto(f"{url}#/experiments")
        page.locator("h1").first.wait_for()
        entries = page.evaluate("performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)")
        paints.append(entries[0] / 1000)
    empties = [opened(page, f"#/nothing-{n}", f"text=nothing-{n}") for n in range(REPEATS)]
    reference = statistics.median(empties)
    print(f"reference: an empty page {reference:.2f} s")
    report("first paint of the dashboard", statistics.median(paints), reference, 2)
    report(
        f"list of {N_EXPERIMENTS:,} experiments", opened(page, "#/experiments", "text=experiment-04999"), reference, 2
    )
    report(
        "its last page",
        opened(page, f"#/experiments?page={N_EXPERIMENTS // 25}", "text=experiment-00010"),
        reference,
        2,
    )
    comparison = "#/experiments/large/comparison"
    first = opened(page, comparison, "table >> text=model-9")
    report(f"comparison, {N_MODELS} models x {N_EXAMPLES:,} examples, first time", first, reference, 3)
    opened(page, "#/nothing", "text=#/nothing")
    report("the same again", opened(page, comparison, "table >> text=model-9"), reference, 3)
    report("its examples", opened(page, f"{comparison}?tab=examples", "text=and more of it"), reference, 3)
    filtered = opened(page, f"{comparison}?tab=examples&search=it%2C+4321", "text=it, 4321")
    report("filtered by a text", filtered, reference, 0.3)
    report("its 100th page", opened(page, f"{comparison}?tab=examples&page=100", "text=of 10,000"), reference, 0.3)
    page.close()


def uploading(browser: Any, url: str, server: psutil.Process, folder: Path, megabytes: int) -> None:
    path = folder / "big.csv"
    line = "a text of some length that somebody has written to a shop because parcel {} did not come\n"
    with path.open("w") as file:
        file.write("example\n")
        number = 0
        while file.tell() < megabytes * 1_000_000:
            file.write("".join(line.format(number + each) for each in range(10_000)))
            number += 10_000
    page = browser.new_page()
    page.goto(f"{url}#/upload")
    page.locator("input[type=file]").first.wait_for(state="attached")
    before = most = server.memory_info().rss
    page.locator("input[type=file]").first.set_input_files(path)
    upload = page.get_by_role("button", name="Upload", exact=True)
    done = page.get_by_role("heading", name="Lengths").or_(page.get_by_role("alert"))
    times = []
    for expected in (upload, done):
        begun = time.perf_counter()
        while not expected.first.is_visible():
            most = max(most, server.memory_info().rss)
            time.sleep(0.2)
        times.append(time.perf_counter() - begun)
        if expected is upload:
            upload.click()
    seconds = times[0]
    copied = timed(lambda: (folder / "copy.csv").write_bytes(path.read_bytes()))
    print(
        f"{megabytes} MB through the browser: {seconds:.1f} s, {megabytes / seconds:.0f} MB/s "
        f"({seconds / copied:.0f} x a copy on disk), then {times[1]:.1f} s until the dataset is there; "
        f"the server's memory grew by {(most - before) / 2**20:.0f} MiB"
    )
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upload-mb", type=int, default=200)
    megabytes = parser.parse_args().upload_mb
    with tempfile.TemporaryDirectory(prefix="lumi-") as name:
        folder = Path(name)
        print(
            f"making {N_EXPERIMENTS:,} experiments, and one of {N_MODELS} models x {N_EXAMPLES:,} examples", flush=True
        )
        populate(folder / "home")
        with screens.dashboard(folder / "home", log=folder / "log.txt") as url, screens.browser() as browser:
            server = max(psutil.Process().children(recursive=True), key=lambda each: "dashboard" in each.cmdline())
            pages(browser, url)
            uploading(browser, url, server, folder, megabytes)


if __name__ == "__main__":
    main()
