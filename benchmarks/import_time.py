"""How long `import lumigator_nb` takes, beside `import pandas` in the same run.

    python benchmarks/import_time.py [ROUNDS]

Each figure is the median wall time of a fresh interpreter less that of one which does nothing. The three take turns, so
that a busy machine slows all alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

STATEMENTS = ("pass", "import lumigator_nb", "import pandas")


def seconds(statement: str) -> float:
    """Wall time of a fresh interpreter that executes `statement`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main(rounds: int) -> None:
    """Measure `rounds` times, after one round that only fills caches, and print the result."""
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for number in range(rounds + 1):
        for statement in STATEMENTS:
            taken = seconds(statement)
            if number:
                times[statement].append(taken)
    bare, ours, pandas = (statistics.median(times[statement]) for statement in STATEMENTS)
    print(f"import lumigator_nb  {(ours - bare) * 1000:7.1f} ms")
    print(f"import pandas        {(pandas - bare) * 1000:7.1f} ms")
    print(f"ratio                {(ours - bare) / (pandas - bare):7.3f}")
    print(f"medians of {rounds}; Python alone takes {bare * 1000:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
