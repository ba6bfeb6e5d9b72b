"""What the REST API bears: ``python benchmarks/api.py [--seconds 60] [--clients 50] [--jobs 5000] [--upload 50 1000]``.

Two servers on this machine, asked by clients in a process of their own, each of which asks again as soon as it was
answered. They list jobs: of an empty database, which is the reference, and of one with thousands, in turns. Then
files of so many megabytes are uploaded to the second, while its memory is watched.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psutil

import lumigator_nb as lm
from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Experiment, Job, Workflow
from lumigator_nb.specs import Model, Purpose, Status, Step, now

LISTED, SLICES = 100, 6


def populate(home: Path, n_jobs: int) -> None:
    """Make jobs that have ended, each of its own."""
    with lm.connect(lumigator_home=home) as ws:
        dataset = ws.datasets.sample()
        like = ws.experiments.create("first", dataset=dataset, metrics=["rouge"])
        with writing(ws.database) as work:
            for number in range(n_jobs):
                experiment = Experiment(
                    name=f"job-{number}", dataset_id=dataset.id, task=like.task, metrics=(),
                    purpose=Purpose.INFERENCE, asked={"name": f"job-{number}"},
                )  # fmt: skip
                model = Model("baseline/lead-1")
                workflow = Workflow(
                    experiment_id=experiment.id, label=model.label, fingerprint=model.fingerprint, model=model,
                    status=Status.SUCCEEDED, finished_at=now(),
                )  # fmt: skip
                work.session.add(experiment)
                work.session.flush()
                work.session.add(workflow)
                work.session.flush()
                done = {"workflow_id": workflow.id, "status": Status.SUCCEEDED, "finished_at": now()}
                work.session.add(Job(id=workflow.id, step=Step.INFERENCE, **done))
                work.session.add(Job(step=Step.EVALUATION, listed=False, **done))


@contextmanager
def served(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server with its cluster, and nothing in its log but mistakes."""
    home.mkdir(exist_ok=True)
    log = (home / "server.log").open("w+")
    command = [sys.executable, "-m", "lumigator_nb.cli", "serve", "--port", "0"]
    process = subprocess.Popen(
        command,
        env=os.environ | {"LUMIGATOR_HOME": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=log,
        stderr=log,
        cwd=home,
    )
    try:
        while not (found := re.search(r"Lumigator is at (\S+)/,", (home / "server.log").read_text())):
            time.sleep(0.2)
        time.sleep(10)  # the cluster starts
        yield found[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)
        with lm.connect(lumigator_home=home) as ws:
            ws.cluster.shutdown()


async def load(url: str, clients: int, seconds: float) -> tuple[list[float], int]:
    """Return the seconds of each answer, and how many were none."""
    times: list[float] = []
    failed = 0
    end = time.monotonic() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal failed
        while time.monotonic() < end:
            begin = time.perf_counter()
            async with session.get(f"{url}/api/v1/jobs?limit={LISTED}") as answer:
                await answer.read()
                failed += answer.status != 200
            times.append(time.perf_counter() - begin)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients)) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return times, failed


def in_turns(urls: list[str], clients: int, seconds: float) -> dict[str, tuple[list[float], int]]:
    """Load each for so many seconds in all, a slice at a time, so that what else the machine does slows both."""
    found: dict[str, tuple[list[float], int]] = {url: ([], 0) for url in urls}
    for _ in range(SLICES):
        for url in urls:
            times, failed = asyncio.run(load(url, clients, seconds / SLICES))
            found[url] = (found[url][0] + times, found[url][1] + failed)
    return found


def report(name: str, times: list[float], failed: int) -> float:
    """Print how it went, and return the 95th percentile in seconds."""
    p95 = statistics.quantiles(times, n=20)[-1]
    median = statistics.median(times)
    print(f"  {name}: {len(times):,} answers, {failed} failed; median {median * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms")
    return p95


def upload(url: str, server: psutil.Process, folder: Path, megabytes: int) -> None:
    path = folder / f"upload-{megabytes}.csv"
    row = '"' + "the parcel came late and the customer waits for the money " * 3 + '",summary\n'
    with path.open("w") as file:
        file.write("example,ground_truth\n")
        for number in range(megabytes * 1_000_000 // (len(row) + 8)):
            file.write(f"{number:07d} {row}")
    before, most, ended = server.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.05):
            most = max(most, server.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.perf_counter()
    command = [
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-F",
        f"dataset=@{path}",
        f"{url}/api/v1/datasets",
    ]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds = time.perf_counter() - begin
    ended.set()
    watcher.join()
    path.unlink()
    print(f"  {megabytes:,} MB: {code} after {seconds:.1f} s ({megabytes / seconds:.0f} MB/s), "
          f"memory at most {(most - before) / 2**20:+.0f} MiB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--upload", type=int, nargs="*", default=[50, 1000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lumi-") as text:
        folder = Path(text)
        populate(folder / "full", options.jobs)
        print(f"listing the newest {LISTED} of {options.jobs:,} jobs; {options.clients} clients, {options.seconds:g} s")
        with served(folder / "empty") as (empty, _), served(folder / "full") as (url, server):
            answers = in_turns([empty, url], options.clients, options.seconds)
            reference, p95 = report("empty", *answers[empty]), report("full", *answers[url])
            print(f"  p95 is {p95 / reference:.2f} times that of the empty database")
            print("uploads")
            for megabytes in options.upload:
                upload(url, server, folder, megabytes)


if __name__ == "__main__":
    main()
