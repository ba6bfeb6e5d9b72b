"""Does anything grow? ``python benchmarks/soak.py [--minutes 20]``.

A local head, a server (dashboard and REST API), a model behind an API, and this process, which launches one small
workflow after the other, waits, compares and forgets them. Every ten seconds memory and open files of all four are
looked at. Printed are, of the second and of the last quarter of the time, process by process, the median of the memory,
what it grew by for each workflow, and the fewest open files (Ray's head keeps the connections to processes that have
ended for some minutes); the first quarter, in which caches fill, is left out. Exit status 1 where one grew by more than
10% and 10 MiB, or by more than ten open files.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import requests

import lumigator_nb as lm
from lumigator_nb.cluster import processes
from lumigator_nb.workspace import Workspace
from lumigator_testing import ModelServer

EVERY_S = 10.0
N = 50
# Workers come and go; what stays is looked at, by a part of its command line.
STAYING = ("gcs_server", "raylet/raylet", "dashboard/dashboard.py", "DashboardAgent", "RuntimeEnvAgent", "JobHead")

Sample = tuple[float, float, int]


def kinds(head: str, server: int) -> dict[str, list[psutil.Process]]:
    """Return the processes to look at, by what they are."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in processes.marked(head):
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            name = next((each for each in STAYING if each in line), None)
            if name:
                found[f"Ray: {name.rpartition('/')[2]}"].append(process)
    return {**found, "server": [psutil.Process(server)], "workspace": [psutil.Process()]}


def look(found: dict[str, list[psutil.Process]], samples: dict[str, list[Sample]], begun: float) -> None:
    for name, group in found.items():
        with suppress(psutil.Error):
            memory = sum(process.memory_info().rss for process in group) / 2**20
            samples[name].append((time.monotonic() - begun, memory, sum(process.num_fds() for process in group)))


def work(ws: Workspace, url: str, api: str, number: int) -> None:
    """One round, as a user has it."""
    rows = pd.DataFrame({
        "example": [f"Case {number}-{row} came in. It was about a cup. We sent a new one." for row in range(N)],
        "ground_truth": [f"Case {number}-{row} came in." for row in range(N)],
    })  # fmt: skip
    dataset = ws.datasets.upload(rows, name=f"cases {number}", progress=False)
    experiment = ws.experiments.create(f"round {number}", dataset=dataset, metrics=["rouge", "bleu"])
    slow = lm.Model("lead-1", provider="openai", base_url=url)
    ws.workflows.launch(experiment, ["baseline/lead-2", slow], workers=1 + number % 2)
    ws.wait(experiment, progress=False, check=True, timeout=300)
    ws.compare(experiment).summary()
    for path in (
        "jobs?limit=20",
        f"experiments/{experiment.id}",
        "health/ready",
        f"experiments/{experiment.id}/comparison",
    ):
        requests.get(f"{api}/api/v1/{path}", timeout=60).raise_for_status()
    if number % 3 == 0:
        ws.experiments.delete(experiment)


def report(samples: dict[str, list[Sample]], rounds: int) -> bool:
    """Print a line for each process; return whether all stayed as they were."""
    print(f"{rounds} rounds of two workflows; the second quarter of the time and the last")
    steady = True
    for name, found in sorted(samples.items()):
        quarter = len(found) // 4
        before, after = found[quarter : 2 * quarter], found[-quarter:]
        memory = [statistics.median(each[1] for each in part) for part in (before, after)]
        files = [min(each[2] for each in part) for part in (before, after)]
        grown = memory[1] - memory[0]
        fine = (grown <= 10 or grown <= 0.1 * memory[0]) and files[1] - files[0] <= 10
        steady = steady and fine
        each = 1024 * grown / rounds / 2
        print(
            f"  {name:26} {memory[0]:7.0f} -> {memory[1]:7.0f} MiB ({grown:+.1f}, {each:+.0f} KiB a workflow)   "
            f"files {files[0]} -> {files[1]}{'' if fine else '   GROWS'}"
        )
    return steady


def run(minutes: float) -> bool:
    home = Path(tempfile.mkdtemp(prefix="lumi-"))
    os.environ["LUMIGATOR_HOME"] = str(home)
    log = home / "server.log"
    with ModelServer(latency=0.01) as model, lm.connect() as ws, log.open("wb") as out:
        command = [sys.executable, "-m", "lumigator_nb.cli", "serve", "--port", "0"]
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        try:
            while not (found := re.search(r"Lumigator is at (\S+)/,", log.read_text())):
                time.sleep(0.2)
            ws.cluster.start()
            assert ws.cluster.head is not None
            mark = ws.cluster.head.mark
            assert mark is not None
            samples: dict[str, list[Sample]] = defaultdict(list)
            begun, rounds, looked = time.monotonic(), 0, 0.0
            while time.monotonic() - begun < 60 * minutes:
                work(ws, model.base_url, found[1], rounds)
                rounds += 1
                if time.monotonic() - looked >= EVERY_S:
                    looked = time.monotonic()
                    look(kinds(mark, server.pid), samples, begun)
            return report(samples, rounds)
        finally:
            server.terminate()
            server.wait(60)
            ws.cluster.shutdown()
            shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    sys.exit(not run(parser.parse_args().minutes))


if __name__ == "__main__":
    main()
