"""What an upload takes: ``python benchmarks/upload.py [--megabytes 1000]``.

A CSV file of about 200 bytes a row is made up, uploaded through a workspace (SQLite, a local folder), and, as the
reference, read and written by pandas.read_csv and DataFrame.to_parquet. Each runs in a process of its own, for its peak
of memory. Of the memory what importing takes is left out.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WORDS = (
    "the",
    "parcel",
    "order",
    "came",
    "late",
    "customer",
    "waits",
    "money",
    "back",
    "shop",
    "app",
    "crashed",
    "again",
)


def make(path: Path, megabytes: int) -> int:
    """Write the file and return its rows; texts repeat after 50,000 rows, so that making it is quick."""
    chance = random.Random(0)
    texts = [" ".join(chance.choices(WORDS, k=24)) for _ in range(50_000)]
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("id,body,summary,product,price\n")
        while file.tell() < megabytes * 1_000_000:
            for text in texts:
                rows += 1
                file.write(f'{rows},"{text}, {rows}",{text[:40]},p{rows % 7},{rows % 100}.5\n')
    return rows


def by_upload(path: Path, folder: Path) -> Callable[[], object]:
    import lumigator_nb as lm

    ws = lm.connect(lumigator_home=folder)
    return lambda: ws.datasets.upload(path, name="big", example="body", ground_truth="summary", progress=False)


def by_pandas(path: Path, folder: Path) -> Callable[[], object]:
    import pandas as pd

    pd.DataFrame({"a": ["x"]}).to_parquet(folder / "warm.parquet")
    return lambda: pd.read_csv(path).to_parquet(folder / "big.parquet")


WAYS = {"upload": by_upload, "pandas": by_pandas}


def measured(way: str, path: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, __file__, "--inner", way, str(path), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def inner(way: str, path: Path, folder: Path) -> None:
    action = WAYS[way](path, folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    action()
    seconds = time.perf_counter() - begun
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"seconds": seconds, "mib": grown}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--inner", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inner:
        way, path, folder = arguments.inner
        inner(way, Path(path), Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.csv"
        rows = make(path, arguments.megabytes)
        size = path.stat().st_size / 1e6
        print(f"{size:,.0f} MB of CSV, {rows:,} rows")
        found = {way: measured(way, path) for way in WAYS}
    for way, numbers in found.items():
        rate = size / numbers["seconds"]
        print(f"  {way:<8} {numbers['seconds']:7.1f} s   {rate:6.1f} MB/s   + {numbers['mib']:7,.0f} MiB")
    time_ratio, memory_ratio = (found["upload"][key] / found["pandas"][key] for key in ("seconds", "mib"))
    print(f"  upload takes {time_ratio:.1f} x the time and {memory_ratio:.2f} x the memory")


if __name__ == "__main__":
    main()
