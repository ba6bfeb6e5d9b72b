"""One workflow on one process, on several, and by Ray Data: ``python benchmarks/sharding.py [--rows 100 1000000]``.

``baseline/lead-2`` answers, then ROUGE and BLEU score; Ray Data, the reference, answers the same rows by the same rule
with two actors and writes Parquet, without scoring. Memory is the most that any one process held of the workflow's
own: its worker, or those that share the work.

``--nodes`` compares two nodes with one instead: a model behind an API that takes 0.2 s for an answer and four questions
at once from each process, and a rule that computes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil

import lumigator_nb as lm
from lumigator_nb.database.records import Dataset, Workflow
from lumigator_nb.models.providers.baselines import lead
from lumigator_nb.storage import layout
from lumigator_nb.workspace import Workspace
from lumigator_testing import ModelServer
from lumigator_testing.nodes import Nodes

ROWS_AT_ONCE = 1024
TEXTS = 5_000
OPENINGS = ("The parcel never came", "The app crashes at the start", "The bill is too high", "The bed is broken")
ENDINGS = ("I want my money back", "please send a new one", "nobody answers the phone", "it began on Monday")


def example(number: int) -> str:
    """Return three sentences of some thirty words, no two alike."""
    first, last = OPENINGS[number % 4], ENDINGS[number // 4 % 4]
    return (
        f"{first}, and I have waited {number % 97} days for it. My customer number is {number}, and I wrote to you "
        f"{number % 5} times. {last.capitalize()}."
    )


class Lead:
    """What Ray Data calls."""

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"prediction": [lead(text, 2) for text in batch["example"]]})


class Watch:
    """The most memory that one process of a kind held, in MiB, since it was begun."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes, self.most, self._ended = nodes, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            for node in self._nodes.nodes:
                for process in node.processes():
                    try:
                        line = " ".join(process.cmdline())
                        if "lumigator_nb.engine.worker" in line or "ray::Hand" in line:
                            self.most = max(self.most, process.memory_info().rss / 2**20)
                    except psutil.Error:
                        continue


@contextmanager
def cluster(*cpus: int, head: int = 0) -> Iterator[tuple[Nodes, Workspace]]:
    """A workspace with a cluster of its own, of a head and further nodes."""
    home = Path(tempfile.mkdtemp(prefix="lumi-"))
    with Nodes(cpus=head) as nodes:
        for count in cpus:
            nodes.join(cpus=count)
        os.environ.update(nodes.variables)
        port = int(nodes.address.rpartition(":")[2])
        with lm.connect(lumigator_home=home, ray_head_node_host="127.0.0.1", ray_dashboard_port=port) as ws:
            yield nodes, ws
    shutil.rmtree(home)


def uploaded(ws: Workspace, n: int) -> Dataset:
    """Put so many examples into the store."""
    path = ws.settings.home / f"{n}.csv"
    with path.open("w") as file:
        file.write("example,ground_truth\n")
        file.writelines(f'"{example(row)}","{OPENINGS[row % 4]}, {ENDINGS[row // 4 % 4]}."\n' for row in range(n))
    try:
        return ws.datasets.upload(path, progress=False)
    finally:
        path.unlink()


def ended(ws: Workspace, workflow: Workflow) -> tuple[float, float]:
    """Wait for a workflow; return the seconds of its two steps."""
    ws.wait(workflow, progress=False, check=True)
    inference, evaluation = ws.workflows.jobs(workflow)
    return tuple((job.finished_at - job.started_at).total_seconds() for job in (inference, evaluation))  # type: ignore[return-value]


def measure(nodes: Nodes, ws: Workspace, n: int) -> None:
    dataset = uploaded(ws, n)
    source, target = ws.store.local_path(layout.examples(dataset.id)), ws.settings.home / "ray-data"
    reference = by_ray_data(nodes, source, target)
    written = sum(file.stat().st_size for file in target.rglob("*.parquet")) / 1e6
    shutil.rmtree(target)
    print(f"{n:,} rows: Ray Data {reference:.1f} s ({n / reference:,.0f} rows/s), {written:.1f} MB written")
    for workers in (1, 2):
        experiment = ws.experiments.create(f"{n}-{workers}", dataset=dataset, metrics=["rouge", "bleu"])
        begin = time.perf_counter()
        with Watch(nodes) as watch:
            (workflow,) = ws.workflows.launch(experiment, "baseline/lead-2", workers=workers)
            inference, evaluation = ended(ws, workflow)
        whole = time.perf_counter() - begin
        entries = ws.store.entries(layout.workflow_folder(workflow.id))
        size = sum(entry.size for entry in entries) / 1e6
        print(
            f"  {workers} process(es): {whole:.1f} s in all ({n / whole:,.0f} rows/s); inference {inference:.1f} s "
            f"({reference / inference:.2f} x Ray Data's speed), evaluation {evaluation:.1f} s; at most "
            f"{watch.most:.0f} MiB a process; {size:.1f} MB in {len(entries):,} files"
        )


def by_ray_data(nodes: Nodes, source: Path, target: Path) -> float:
    """Return the seconds that Ray Data takes to answer and write the same rows."""
    import ray
    import ray.data

    if not ray.is_initialized():
        here = {"PYTHONPATH": str(Path(__file__).parent)}
        ray.init(
            address=nodes.gcs_address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": here}
        )  # fmt: skip
        ray.data.DataContext.get_current().enable_progress_bars = False
    begin = time.perf_counter()
    examples = ray.data.read_parquet(str(source)).select_columns(["example"])
    # Actors that take all CPUs would leave none for its tasks that read and write, and it would wait for ever.
    actors = ray.data.ActorPoolStrategy(size=2)
    answered = examples.map_batches(Lead, batch_size=ROWS_AT_ONCE, batch_format="pandas", compute=actors, num_cpus=0.5)
    answered.write_parquet(str(target))
    return time.perf_counter() - begin


def compare_nodes(n_slow: int, n_rule: int) -> None:
    with ModelServer(latency=0.2) as server:
        slow = lm.Model("lead-1", provider="openai", base_url=server.base_url, concurrency=4, num_cpus=1)
        found: dict[str, list[float]] = {"latency-bound": [], "CPU-bound": []}
        for cpus in ((1,), (1, 1)):
            with cluster(*cpus) as (_, ws):
                for name, model, n in (
                    ("latency-bound", slow, n_slow),
                    ("CPU-bound", lm.Model("baseline/lead-2"), n_rule),
                ):
                    experiment = ws.experiments.create(name, dataset=uploaded(ws, n), metrics=["rouge", "bleu"])
                    # Twice as many as there is room for: the others wait, so that one node is one process.
                    workers = 2
                    (workflow,) = ws.workflows.launch(experiment, model, workers=workers)
                    found[name].append(sum(ended(ws, workflow)))
        for name, (one, two) in found.items():
            print(f"{name}: one node {one:.1f} s, two nodes {two:.1f} s: {one / two:.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[100, 10_000, 100_000, 1_000_000])
    parser.add_argument("--nodes", action="store_true")
    options = parser.parse_args()
    if options.nodes:
        compare_nodes(2_000, 300_000)
        return
    with cluster(head=2) as (nodes, ws):
        for n in options.rows:
            measure(nodes, ws, n)


if __name__ == "__main__":
    main()
