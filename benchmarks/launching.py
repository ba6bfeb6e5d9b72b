"""What it takes to launch many workflows: ``python benchmarks/launching.py [--count 200] [--limit 16] [--head]``.

So many in one call, beside as many calls of one each, into a local store and SQLite. A web server in a process of its
own answers for Ray, so that no worker takes the time that is measured; with `--head` it is a local Ray head, whose
workers begin meanwhile and are stopped afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from listing import stand_in

from lumigator_nb.cluster import Cluster, LocalHead
from lumigator_nb.config import Settings, load
from lumigator_nb.database.engine import Database
from lumigator_nb.specs import Model
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace


@contextmanager
def opened(settings: Settings, *, head: bool) -> Iterator[Workspace]:
    database = Database(settings.database_url)
    database.prepare()
    store = Store(settings.store_spec)
    if head:
        cluster = Cluster(LocalHead(settings.home / "head", {}))
        cluster.start()
        yield Workspace(settings, database, store, cluster)
        cluster.shutdown()
        return
    with stand_in([]) as cluster:
        yield Workspace(settings, database, store, cluster)


def models(count: int) -> list[Model]:
    return [Model("baseline/lead-2", label=f"model {n}", seed=n) for n in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--head", action="store_true")
    given = parser.parse_args()
    taken = {}
    for way in ("one call", "single calls"):
        with tempfile.TemporaryDirectory(prefix="l", dir="/tmp") as folder:
            settings = load(lumigator_home=Path(folder), lumigator_max_running=given.limit)
            with opened(settings, head=given.head) as ws:
                taken[way] = launched(ws, models(given.count), together=way == "one call")
                ws.close()
    whole, single = taken["one call"], taken["single calls"]
    print(f"{given.count} workflows in one call   {whole:7.2f} s  ({whole / given.count * 1000:.1f} ms each)")
    print(f"{given.count} calls of one            {single:7.2f} s  ({single / given.count * 1000:.1f} ms each)")
    print(f"one call : single calls      {whole / single:7.3f}")


def launched(ws: Workspace, chosen: list[Model], *, together: bool) -> float:
    frame = pd.DataFrame({"example": ["The parcel came late. The customer waits."] * 10})
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(frame, name="d"), metrics="length")
    begin = time.perf_counter()
    if together:
        ws.workflows.launch(experiment, chosen)
    else:
        for model in chosen:
            ws.workflows.launch(experiment, model)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
