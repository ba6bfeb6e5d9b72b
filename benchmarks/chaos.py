"""Workflows while things die: ``python benchmarks/chaos.py [--minutes 30] [--seed 0]``.

A cluster of a head and two nodes, an S3 server behind a relay, a model behind an API that sometimes fails, and a
launcher that goes on launching workflows: of one process, of several, and of a rule. Meanwhile one of them is killed
every half minute or so: a worker, one of the processes that share a workflow, a node (which comes back), the head with
all nodes (which come back), the way to the store (for up to a minute), the launcher (which comes back). Everything is
killed by SIGKILL, in an order that the seed decides.

Afterwards what failed is resumed until all has succeeded, and compared with what an undisturbed run gives: predictions,
scores, each row once, none missing. Printed are also the calls of the model that were wasted. Exit status 1 where
anything differs. Needs the extras s3 and api, and moto[server].
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fsspec
import pandas as pd
import psutil

import lumigator_nb as lm
from lumigator_nb.cluster.head import free_port
from lumigator_nb.database.records import Workflow
from lumigator_nb.errors import LumigatorError
from lumigator_nb.specs import Status, Step
from lumigator_nb.workspace import Workspace
from lumigator_testing import ModelServer
from lumigator_testing.nodes import Nodes

N = 300
PAUSE_S = (10.0, 40.0)
# So much work is launched at once, and no more before some of it has ended.
MOST_UNDER_WAY = 4
BUCKET = "chaos"


def examples() -> pd.DataFrame:
    texts = [f"Case {row} came in. It was about a broken cup. Support sent a new one." for row in range(N)]
    return pd.DataFrame({"example": texts, "ground_truth": [f"Case {row} came in with a cup." for row in range(N)]})


def expected() -> list[str]:
    return [f"Case {row} came in." for row in range(N)]


def model(url: str, number: int) -> tuple[lm.Model, dict[str, int]]:
    """Return a model that asks what no other has asked, so that no answer is shared, and how to launch it."""
    if number % 3 == 2:
        return lm.Model("baseline/lead-1", label=f"rule {number}"), {}
    # The system prompt, which the server does not look at, makes the questions different ones.
    asked = lm.Model(
        "lead-1", provider="openai", base_url=url, label=f"model {number}", prompt=f"Summarize, {number}.",
        concurrency=4,
    )  # fmt: skip
    return asked, {"workers": 2} if number % 3 == 1 else {}


def launch_for_ever(url: str) -> None:
    """What the launcher does: look what there is, and see to it that so many workflows are under way."""
    with lm.connect() as ws:
        dataset = ws.datasets.list()[0]
        while True:
            with suppress(LumigatorError):
                under_way = [each for each in ws.workflows.refresh() if not each.status.ended]
                if len(under_way) < MOST_UNDER_WAY:
                    number = ws.workflows.count()
                    name = f"experiment {number}"
                    experiment = ws.experiments.find(name) or ws.experiments.create(
                        name, dataset=dataset, metrics=["rouge", "bleu"]
                    )
                    chosen, options = model(url, number)
                    ws.workflows.launch(experiment, chosen, **options)
            time.sleep(1.0)


async def relay(port: int, target: int) -> None:
    """Pass on what comes, both ways."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


class Chaos:
    """The processes, and how each of them is killed."""

    def __init__(self, nodes: Nodes, url: str, s3: int, port: int, seed: int) -> None:
        self._nodes, self._url, self._s3, self._port = nodes, url, s3, port
        self._random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._relay = self._start_relay()
        self._launcher: subprocess.Popen[bytes] | None = None

    def _start_relay(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, __file__, "--relay", str(self._port), str(self._s3)])

    def start_launcher(self) -> None:
        self._launcher = subprocess.Popen([sys.executable, __file__, "--launcher", self._url])

    def stop_launcher(self) -> None:
        if self._launcher:
            self._launcher.kill()
            self._launcher.wait()

    def stop(self) -> None:
        self.stop_launcher()
        self._relay.kill()
        self._relay.wait()

    def strike(self) -> None:
        """Kill something."""
        actions: list[tuple[int, str, Callable[[], bool]]] = [
            (6, "worker", lambda: self._kill("lumigator_nb.engine.worker")),
            (6, "shared worker", lambda: self._kill("ray::Hand")),
            (3, "node", self._node),
            (1, "head", self._head),
            (4, "store", self._store),
            (4, "launcher", self._launch_again),
        ]
        weights = [weight for weight, *_ in actions]
        ((_, name, action),) = self._random.choices(actions, weights)
        begun = time.monotonic()
        if action():
            self.done[name] += 1
            print(f"  {name} ({time.monotonic() - begun:.0f} s)", flush=True)

    def _kill(self, what: str) -> bool:
        found = [process for node in self._nodes.nodes for process in node.processes() if _is(process, what)]
        if not found:
            return False
        with suppress(psutil.NoSuchProcess):
            self._random.choice(found).kill()
        return True

    def _node(self) -> bool:
        node = self._random.choice(self._nodes.nodes[1:])
        node.kill()
        time.sleep(self._random.uniform(5, 20))
        self._nodes.revive(node)
        return True

    def _head(self) -> bool:
        self._nodes.restart()
        return True

    def _store(self) -> bool:
        self._relay.kill()
        self._relay.wait()
        time.sleep(self._random.uniform(2, 60))
        self._relay = self._start_relay()
        return True

    def _launch_again(self) -> bool:
        self.stop_launcher()
        self.start_launcher()
        return True


def _is(process: psutil.Process, what: str) -> bool:
    with suppress(psutil.Error):
        line = process.cmdline()
        return any(what in word for word in line) and not any("JobSupervisor" in word for word in line)
    return False


def settle(ws: Workspace) -> int:
    """Resume what failed until all has succeeded; return how often."""
    for attempt in range(20):
        workflows = ws.wait(ws.workflows.list(limit=10_000), timeout=900, progress=False)
        failed = [each for each in workflows if each.status is not Status.SUCCEEDED]
        for each in failed:
            print(f"  {each.label} {each.status}: {(each.error or '').splitlines()[0][:110]}", flush=True)
        if not failed:
            return attempt
        ws.workflows.resume(failed)
    raise SystemExit("some workflows fail whenever they are resumed")


def wrong(ws: Workspace, workflow: Workflow, reference: pd.DataFrame) -> list[str]:
    found = ws.workflows.predictions(workflow)
    problems = []
    if list(found["row"]) != list(range(N)):
        problems.append("rows are missing or there twice")
    elif list(found["prediction"]) != expected():
        problems.append("predictions differ")
    elif not ws.workflows.scores(workflow).equals(reference):
        problems.append("scores differ")
    if ws.store.find(f"workflows/{workflow.id}/{Step.INFERENCE}/result.json") is None:
        problems.append("there is no result")
    return problems


def run(minutes: float, seed: int) -> bool:
    home = Path(tempfile.mkdtemp(prefix="lumi-"))
    s3, port = free_port(), free_port()
    store = {
        "S3_BUCKET": BUCKET, "S3_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    moto = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with Nodes(cpus=1, environment=store) as nodes, ModelServer(latency=0.1, fail=0.01) as server:
        for _ in range(2):
            nodes.join(cpus=1)
        os.environ.update(store | nodes.variables | {"LUMIGATOR_HOME": str(home), "RAY_ADDRESS": nodes.address})
        chaos = Chaos(nodes, server.base_url, s3, port, seed)
        try:
            _until_there(port)
            fsspec.filesystem("s3", key="someone", secret="something", endpoint_url=f"http://127.0.0.1:{s3}").mkdir(
                BUCKET
            )
            return _survive(chaos, server, minutes)
        finally:
            chaos.stop()
            moto.kill()
            moto.wait()
            shutil.rmtree(home)


def _survive(chaos: Chaos, server: ModelServer, minutes: float) -> bool:
    with lm.connect() as ws:
        dataset = ws.datasets.upload(examples(), name="cases", progress=False)
        experiment = ws.experiments.create("undisturbed", dataset=dataset, metrics=["rouge", "bleu"])
        (calm,) = ws.wait(ws.workflows.launch(experiment, "baseline/lead-1"), progress=False, check=True)
        reference = ws.workflows.scores(calm)
        chaos.start_launcher()
        end = time.monotonic() + 60 * minutes
        dice = random.Random(chaos.done.total())
        while time.monotonic() < end:
            time.sleep(dice.uniform(*PAUSE_S))
            chaos.strike()
        chaos.stop_launcher()
        print("killed:", dict(chaos.done), flush=True)
        rounds = settle(ws)
        workflows = ws.workflows.list(limit=10_000)
        problems = {each.label: found for each in workflows if (found := wrong(ws, each, reference))}
        attempts = Counter(each.attempt for each in workflows)
        stats = server.stats()
        asked = N * sum(each.model.provider == "openai" for each in workflows)
        print(f"{len(workflows)} workflows, {rounds} rounds of resuming; attempts: {dict(sorted(attempts.items()))}")
        print(f"answers {stats.answered:,} for {asked:,} questions: {stats.answered - asked:,} wasted "
              f"({100 * (stats.answered - asked) / asked:.2f}%)")  # fmt: skip
        print(ws.inspect())
        print("wrong:", problems or "nothing")
        return not problems


def _until_there(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--launcher", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--relay", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relay:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(relay(*options.relay))
    elif options.launcher:
        launch_for_ever(options.launcher)
    else:
        sys.exit(not run(options.minutes, options.seed))


if __name__ == "__main__":
    main()
