"""`lm.compare` on tables of scores, beside a mean by pandas.

    python benchmarks/elsewhere.py [ROUNDS]

Two tables as Parquet files: 10 models x 1,000 items, compared and printed; 20 models x 50,000 items, a million scores,
compared and written as an HTML report. Each figure is the median wall time of a fresh interpreter, imports included,
with the most memory that it held; the reference reads the same file and takes `groupby("model")["accuracy"].mean()`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

REFERENCE = "import pandas as pd\nprint(pd.read_parquet({path!r}).groupby('model')['accuracy'].mean())"
SHOWN = "import lumigator_nb as lm\nprint(lm.compare({path!r}, score='accuracy'))"
REPORT = "import lumigator_nb as lm\nlm.compare({path!r}, score='accuracy').export({path!r} + '.html')"
# Prints seconds on the clock, seconds of a core and KiB of what it executes. Not ru_maxrss, which a child inherits.
MEASURE = """
import json, re, sys, time
start = time.perf_counter()
exec(sys.argv[1], {})
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps([time.perf_counter() - start, time.process_time(), peak / 1024]), file=sys.stderr)
"""


class Measured(NamedTuple):
    """Medians of several rounds: seconds on the clock and of a core, and MiB at most."""

    seconds: float
    core_seconds: float
    mebibytes: float


def table(models: int, items: int, path: Path) -> Path:
    """Write right and wrong answers of models that differ by half a percent to a Parquet file."""
    random = np.random.default_rng(0)
    hard = random.normal(size=items)
    skill = np.linspace(0, 0.1, models)
    right = random.normal(size=(models, items)) + hard < 0.5 + skill[:, None]
    frame = pd.DataFrame(
        {
            "model": np.repeat([f"model-{number:02d}" for number in range(models)], items),
            "item": np.tile([f"q{number}" for number in range(items)], models),
            "accuracy": right.ravel().astype(float),
        }
    )
    frame.to_parquet(path)
    return path


def measured(code: str, path: Path, rounds: int) -> Measured:
    """Execute code in fresh interpreters."""
    taken = []
    for _ in range(rounds):
        command = [sys.executable, "-c", MEASURE, code.format(path=str(path))]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        taken.append(json.loads(printed.strip().splitlines()[-1]))
    return Measured(*map(statistics.median, zip(*taken, strict=True)))


def main(rounds: int) -> None:
    """Measure both tables, and print seconds, memory and the ratio to pandas."""
    with tempfile.TemporaryDirectory() as folder:
        small = table(10, 1_000, Path(folder) / "small.parquet")
        large = table(20, 50_000, Path(folder) / "large.parquet")
        for title, code, path in (("10 x 1,000 printed", SHOWN, small), ("20 x 50,000 report", REPORT, large)):
            ours, reference = measured(code, path, rounds), measured(REFERENCE, path, rounds)
            print(
                f"{title}: {ours.seconds:6.2f} s ({ours.core_seconds:.2f} of a core), {ours.mebibytes:4.0f} MiB; "
                f"pandas {reference.seconds:5.2f} s ({reference.core_seconds:.2f}), {reference.mebibytes:4.0f} MiB; "
                f"ratio of core seconds {ours.core_seconds / reference.core_seconds:5.1f}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
