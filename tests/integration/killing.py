"""``python killing.py URL STORE JOURNAL KILLS``: work on a workspace that is killed again and again.

A parent that has everything imported forks a child for each round, lets it upload, launch, refresh, export and delete,
and kills it after a random time (SIGKILL: nothing can be tidied up), of up to what a round takes that is left in peace.
The child notes in the journal what the verbs have promised, one JSON line after each return, flushed to the disk; and
what it is about to delete, before it does.
"""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg  # noqa: F401 - what the parent has imported no child waits for
import s3fs  # noqa: F401

from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.specs import Status, StoreSpec
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace

# Not by name: this folder has a conftest of its own.
conftest = runpy.run_path(str(Path(__file__).parents[2] / "conftest.py"))
MODELS = ["baseline/lead-1", "baseline/copy"]


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, kind: str, **what: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **what}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> list[dict[str, Any]]:
        # A kill may leave the last line half written; the verb had returned, but nobody was told.
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def workspace(url: str, uri: str) -> Workspace:
    settings = Settings()
    store = Store(StoreSpec(uri=uri, endpoint_url=settings.s3_endpoint_url), settings.store_credentials)
    return Workspace(settings, Database(url), store, conftest["InlineCluster"]())


def frame(name: str) -> pd.DataFrame:
    texts = [f"{name} number {n}. It goes on for a while, and then it ends." for n in range(200)]
    return pd.DataFrame({"example": texts, "ground_truth": [f"{name} {n}." for n in range(200)], "part": "a"})


def work(url: str, uri: str, journal: Journal, number: int, turns: int) -> None:
    """All verbs, over and over, with names that no other round has; every other time all is deleted."""
    with workspace(url, uri) as ws:
        for turn in range(turns):
            mine = f"k{number}-{turn}"
            dataset = ws.datasets.upload(frame(mine), name=mine)
            journal.note("uploaded", name=mine, data_hash=dataset.data_hash)
            experiment = ws.experiments.create(mine, dataset=dataset, metrics=["length", "exact_match"])
            ws.workflows.launch(experiment, MODELS)
            for workflow in ws.workflows.refresh(experiment):
                if workflow.status is Status.SUCCEEDED:
                    scores = {str(job.step): job.scores for job in ws.workflows.jobs(workflow)}
                    journal.note("succeeded", id=workflow.id, experiment=mine, scores=scores)
            with tempfile.TemporaryDirectory() as folder:
                ws.export(experiment, Path(folder) / "x.lumi.zip")
                journal.note("exported", name=mine)
            if (number + turn) % 2:
                journal.note("deleting", name=mine)
                ws.experiments.delete(experiment)
                ws.datasets.delete(dataset)


def begun(url: str, uri: str, journal: Journal, number: int, turns: int = 1) -> int:
    """Return the process of a round."""
    child = os.fork()
    if child == 0:
        try:
            work(url, uri, journal, number, turns)
        except BaseException as error:
            journal.note("broke", error=repr(error))
        os._exit(0)
    return child


def main() -> None:
    url, uri, path, kills = sys.argv[1:]
    journal, moments = Journal(Path(path)), random.Random(0)
    start = time.monotonic()
    os.waitpid(begun(url, uri, journal, 0, turns=2), 0)
    longest = (time.monotonic() - start) / 2
    for number in range(1, int(kills) + 1):
        child = begun(url, uri, journal, number)
        time.sleep(moments.uniform(0.02, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
