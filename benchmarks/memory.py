"""Whether a worker's memory stays flat over many examples.

    python benchmarks/memory.py [--baseline 10000 100000] [--server 2000 20000] [--scoring 10000 100000]

Each line is one worker process over that many examples, through `baseline/copy`, through a baseline and three metrics,
or through a local server over HTTP (64 at once), and the most memory that it held. The last column compares with the
line above: ten times the examples should take about the same memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb.services.workflows.submission import shard_size
from lumigator_nb.specs import MetricSpec, Model, Step, StoreSpec, Summarization, WorkflowSpec
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store
from lumigator_testing import ModelServer

TEXT = "The parcel came late and one cup was broken. Support sent a new cup on Tuesday. All is well now. " * 5


def measure(name: str, model: Model, examples: int, metrics: Sequence[str] = ("length",)) -> float:
    """Print one line; return the peak in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        store, _ = workflow(Path(folder), "w", model, examples, metrics)
        started = time.perf_counter()
        peak = watched([sys.executable, "-m", "lumigator_nb.engine.worker", Path(folder).as_uri(), "w"])
        seconds = time.perf_counter() - started
        answered = results.tally(store, "w").answered
        files = len(results.finished_shards(store, "w", Step.INFERENCE))
    print(f"  {name:<24} {examples:>8,} examples {answered:>8,} answered in {files:>4} files, {seconds:6.1f} s", end="")
    return peak


def workflow(
    folder: Path, name: str, model: Model, examples: int, metrics: Sequence[str]
) -> tuple[Store, WorkflowSpec]:
    """Write what a worker needs to a store in a folder."""
    store = Store(StoreSpec(uri=folder.as_uri()))
    spec = WorkflowSpec(
        workflow_id=name,
        dataset=layout.examples("d"),
        n_examples=examples,
        task=Summarization(),
        model=model,
        metrics=tuple(MetricSpec(name=each) for each in metrics),
        shard_size=shard_size(model, examples),
    )
    write_examples(store, spec)
    results.write_spec(store, spec)
    return store, spec


def write_examples(store: Store, spec: WorkflowSpec) -> None:
    schema = pa.schema([("example", pa.string()), ("ground_truth", pa.string())])
    with store.writing(spec.dataset) as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, spec.n_examples, 8192):
            count = min(8192, spec.n_examples - start)
            texts = [f"Case {start + n}. {TEXT}" for n in range(count)]
            truths = [f"Case {start + n}: the parcel was late, a cup was broken and replaced." for n in range(count)]
            writer.write_table(pa.table({"example": texts, "ground_truth": truths}, schema=schema))


def watched(command: list[str]) -> float:
    """Run a command and return the most memory that it held, in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, seen.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak / 2**20


def series(name: str, model: Model, sizes: list[int], metrics: Sequence[str] = ("length",)) -> None:
    before = None
    for size in sizes:
        peak = measure(name, model, size, metrics)
        print(f"   peak {peak:5.0f} MiB" + (f" = {peak / before:.2f} x" if before else ""))
        before = peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--server", type=int, nargs="*", default=[2_000, 20_000])
    parser.add_argument("--scoring", type=int, nargs="*", default=[10_000, 100_000])
    given = parser.parse_args()
    series("baseline/copy", Model("baseline/copy"), given.baseline)
    series("ROUGE, BLEU and chrF", Model("baseline/lead-3"), given.scoring, ("rouge", "bleu", "chrf"))
    with ModelServer(latency=0.02) as server:
        model = Model("lead-1", provider="openai", base_url=server.base_url, concurrency=64)
        series("local server", model, given.server)


if __name__ == "__main__":
    main()
