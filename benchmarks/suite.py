"""The benchmarks in short, each beside a reference in the same run: ``make bench``, or

    python benchmarks/suite.py [--only WORD …] [--keep]

Writes ``build/bench/results.json`` and ``results.md``: seconds of ours and of the reference, their ratio, and how that
ratio stands to the one of the last committed run (``benchmarks/results.json``). Seconds depend on the machine and on
who else uses it, ratios much less; only those are compared. ``--keep`` makes this run the committed one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: threads of a busy machine wait for each other

import api_overhead
import import_time
import listing
import memory
import psutil
import scoring
import starts
import upload

from lumigator_nb.specs import Model
from lumigator_testing import ModelServer, screens

FOLDER = Path(__file__).parent
BUILD = FOLDER.parent / "build" / "bench"
PACKAGES = ("lumigator-nb", "ray", "numpy", "pandas", "pyarrow", "torch", "transformers", "sacrebleu", "rouge-score")
ROWS = 20_000
# The plainest program that takes the first two sentences of each row.
LOOP = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
rows = pq.read_table(sys.argv[1])["example"].to_pylist()
answers = [". ".join(text.split(". ")[:2]) for text in rows]
pq.write_table(pa.table({"row": range(len(rows)), "prediction": answers}), sys.argv[1] + ".answers")
"""

Seconds = tuple[list[float], list[float]]


class Bench(NamedTuple):
    """One line of the table.

    Attributes:
        name: what we do; `reference`: what it is compared with.
        measure: returns the seconds of each round, ours and the reference's.
    """

    name: str
    reference: str
    measure: Callable[[], Seconds]


def importing() -> Seconds:
    rounds = [[import_time.seconds(statement) for statement in import_time.STATEMENTS] for _ in range(6)][1:]
    return [ours - bare for bare, ours, _ in rounds], [pandas - bare for bare, _, pandas in rounds]


@cache
def started(part: str, rounds: int) -> dict[str, list[float]]:
    with starts.folders() as (home, model):
        return starts.measure(part, rounds, home, model)


def starting(part: str, rounds: int, name: str) -> Seconds:
    found = started(part, rounds)
    return found[name], found["reference"]


def inferring() -> Seconds:
    """A worker with `baseline/lead-2` and no metric, start included, beside the plainest program that does the same."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        for number in range(3):
            store, spec = memory.workflow(Path(name), f"w{number}", Model("baseline/lead-2"), ROWS, ())
            ours.append(seconds([sys.executable, "-m", "lumigator_nb.engine.worker", store.spec.uri, spec.workflow_id]))
            theirs.append(seconds([sys.executable, "-c", LOOP, f"{name}/{spec.dataset}"]))
    return ours, theirs


def asking() -> Seconds:
    """The same questions over HTTP to a local server that takes 50 ms for each, 64 at once."""
    with ModelServer(latency=0.05) as server:
        rounds = [
            (api_overhead.inference_step(server, 500, 0.05), api_overhead.async_openai(server, 500, 0.05))
            for _ in range(3)
        ]
    return [ours for ours, _ in rounds], [theirs for _, theirs in rounds]


def scored(metric: str, reference: Callable[[scoring.Pairs], Any]) -> Seconds:
    ours = scoring.ours(metric)
    found: Seconds = ([], [])
    for score in (ours, reference):
        score(scoring.texts(20, 25, 999))
    for seed in range(3):
        pairs = scoring.texts(1000, 25, seed)
        for side, score in zip(found, (ours, reference), strict=True):
            begun = time.perf_counter()
            score(pairs)
            side.append(time.perf_counter() - begun)
    return found


def resampling() -> Seconds:
    """2,000 examples, in a process of its own."""
    command = [sys.executable, str(FOLDER / "bootstrap.py"), "--one", "2000"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return [found["drawing"]], [found["reference"]]


def uploading() -> Seconds:
    found: Seconds = ([], [])
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "big.csv")
        upload.make(path, 40)
        for _ in range(2):
            for side, way in zip(found, upload.WAYS, strict=True):
                side.append(upload.measured(way, path)["seconds"])
    return found


def listed() -> Seconds:
    """1,100 workflows under way among twice as many others, in SQLite."""
    with listing.populated(1100, 1100) as (ws, running, _):
        return [listing.refresh_and_list(ws, len(running))], [listing.selected(ws.database, "status = 'running'")]


def serving() -> Seconds:
    """From nothing to the dashboard's first page."""
    found: Seconds = ([], [])
    with tempfile.TemporaryDirectory() as name:
        for number in range(4):
            begun = time.perf_counter()
            with screens.dashboard(Path(name, "home")):
                taken = time.perf_counter() - begun
            alone = seconds([sys.executable, "-c", "import panel"])
            if number:  # the first makes the database
                found[0].append(taken)
                found[1].append(alone)
    return found


SUITE = (
    Bench("import lumigator_nb", "import pandas", importing),
    Bench(
        "launch to the first prediction, warm head",
        "an empty Ray job",
        partial(starting, "prediction", 5, "launch to first prediction"),
    ),
    Bench(
        "launch to a comparison, 10 examples, 3 metrics",
        "an empty Ray job",
        partial(starting, "prediction", 5, "launch to comparison"),
    ),
    Bench(
        "10 models at once, to a comparison",
        "10 empty Ray jobs at once",
        partial(starting, "ten", 2, "ten models to comparison"),
    ),
    Bench(
        "Lumigator's own workflow, warm head",
        "an interpreter that imports torch and transformers",
        partial(starting, "original", 3, "launch to comparison"),
    ),
    Bench(
        "the same the first time ever, head and all",
        "an interpreter that imports torch and transformers",
        partial(starting, "first", 1, "process"),
    ),
    Bench(f"inference, {ROWS:,} rows, baseline/lead-2, one process", "a bare loop in a process", inferring),
    Bench("inference over HTTP, 500 questions of 50 ms, 64 at once", "bare AsyncOpenAI", asking),
    Bench("ROUGE, 1,000 rows", "rouge-score", partial(scored, "rouge", scoring.rouge_score)),
    Bench("BLEU, 1,000 rows", "sacrebleu", partial(scored, "bleu", scoring.sacrebleu_bleu)),
    Bench("chrF, 1,000 rows", "sacrebleu", partial(scored, "chrf", scoring.sacrebleu_chrf)),
    Bench("10,000 resamples of 5 scores, 10 models, 2,000 examples", "scipy.stats.bootstrap of 3 means", resampling),
    Bench("upload, 40 MB of CSV", "pandas.read_csv and to_parquet", uploading),
    Bench("refresh and list 1,100 workflows under way", "a plain SELECT of their rows", listed),
    Bench("dashboard, start to the first page", "an interpreter that imports panel", serving),
)


def seconds(command: Sequence[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def machine() -> dict[str, Any]:
    """What the figures depend on; nothing that names the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "cpu": model or platform.processor() or platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_average": round(os.getloadavg()[0], 1),
    }


def measured(bench: Bench, before: dict[str, Any] | None) -> dict[str, Any]:
    sides = bench.measure()
    ours, reference = map(statistics.median, sides)
    ratio = ours / reference
    return {
        "name": bench.name,
        "reference": bench.reference,
        "seconds": round(ours, 4),
        "range": [round(min(sides[0]), 4), round(max(sides[0]), 4)],
        "reference_seconds": round(reference, 4),
        "ratio": round(ratio, 4),
        "against_committed": round(ratio / before["ratio"], 3) if before else None,
    }


def table(found: dict[str, Any]) -> str:
    about = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    lines = [
        f"{about['cores']} cores ({about['cpu']}), {about['memory_gib']} GiB, {about['system']}, Python "
        f"{about['python']}, {versions}. Load average at the start {about['load_average']}.",
        "",
        "Medians. The last column is the ratio here to the ratio of the committed run: 1 is no change, less is faster.",
        "",
        "| what | seconds | least to most | beside | seconds | ratio | to the committed |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in found["results"]:
        low, high = row["range"]
        against = "" if row["against_committed"] is None else f"{row['against_committed']:.2f}"
        lines.append(
            f"| {row['name']} | {row['seconds']:.2f} | {low:.2f} to {high:.2f} | {row['reference']} "
            f"| {row['reference_seconds']:.2f} | {row['ratio']:.2f} | {against} |"
        )
    return "\n".join(lines) + "\n"


def committed() -> dict[str, dict[str, Any]]:
    path = FOLDER / "results.json"
    rows = json.loads(path.read_text())["results"] if path.exists() else []
    return {row["name"]: row for row in rows}


def write(found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(f"# Benchmarks\n\n{table(found)}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="lines whose name has one of the words")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/, too")
    given = parser.parse_args()
    chosen = [each for each in SUITE if not given.only or any(word in each.name for word in given.only)]
    before, found = committed(), {"machine": machine(), "results": []}
    for bench in chosen:
        print(f"{bench.name} …", flush=True)
        found["results"].append(measured(bench, before.get(bench.name)))
        for folder in (BUILD, *([FOLDER] if given.keep else [])):
            write(found, folder)
    print(f"\n{table(found)}")


if __name__ == "__main__":
    main()
