"""Ten processes at work on one database and one store: nothing is lost, nobody is turned away."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from pathlib import Path

import pandas as pd
import pytest
from processes import context as processes_context
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.errors import ConflictError, InUseError, NotFoundError
from lumigator_nb.specs import Status, Step, StoreSpec
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace

# Not by name, which other folders have, too; the processes that are started import this module.
conftest = runpy.run_path(str(Path(__file__).parents[2] / "conftest.py"))
PROCESSES, ROUNDS = 10, 2
MODELS = ["baseline/lead-1", "baseline/copy"]
FRAME = pd.DataFrame({"example": ["One. Two.", "Three."], "ground_truth": ["One.", "Three."]})


def workspace(url: str, folder: str) -> Workspace:
    return Workspace(
        Settings(), Database(url), Store(StoreSpec(uri=Path(folder).as_uri())), conftest["InlineCluster"]()
    )


def work(url: str, folder: str, number: int) -> None:
    """What one of the ten does: all of it at once with the others, on rows of its own and on shared ones."""
    with workspace(url, folder) as ws:
        for turn in range(ROUNDS):
            mine = ws.experiments.create(f"e-{number}-{turn}", dataset="shared", metrics=["length"])
            ws.workflows.launch(mine, MODELS)
            ws.experiments.add_metrics("shared", metric(f"metric_{number}_{turn}"))
            ws.workflows.launch("shared", [MODELS[number % 2]])
            look_at_everything(ws)
            ws.labels.add("shared", [label(turn)], rater=f"rater {number}")
            if turn % 2:
                ws.experiments.delete(mine)
            upload_for_all(ws, turn)


def look_at_everything(ws: Workspace) -> None:
    try:
        ws.workflows.refresh()
    except NotFoundError as error:
        pytest.fail(f"somebody else's deletion got in the way: {error}")


def metric(name: str):
    def always_one(prediction: str) -> float:
        return 1.0

    always_one.__name__ = name
    return lm.metric(always_one)


def label(turn: int) -> dict[str, object]:
    return {"row": turn % 2, "model": MODELS[0], "rating": 1 + turn}


def upload_for_all(ws: Workspace, turn: int) -> None:
    """All ten want this name; one gets it, and the others are told so."""
    frame = FRAME.assign(example=FRAME["example"] + str(id(ws)) + str(turn))
    try:
        ws.datasets.upload(frame, name=f"race-{turn}")
    except ConflictError:
        ws.datasets.to_pandas(f"race-{turn}")


def _entry(url: str, folder: str, number: int) -> None:
    try:
        work(url, folder, number)
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # a thread pool of Arrow's now and then aborts a process that ends under load


def test_ten_processes_at_once(database_url, tmp_path) -> None:
    store = tmp_path / "store"
    database = Database(database_url)
    database.upgrade()
    database.close()
    with workspace(database_url, str(store)) as ws:
        ws.datasets.upload(FRAME, name="shared")
        ws.experiments.create("shared", dataset="shared", metrics=["rouge"])
        ws.workflows.launch("shared", MODELS)
        context = processes_context()
        arguments = [(database_url, str(store), number) for number in range(PROCESSES)]
        processes = [context.Process(target=_entry, args=each) for each in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE_S)
        assert [process.exitcode for process in processes] == [0] * PROCESSES
        ws.workflows.refresh()
        check_shared(ws)
        check_own(ws)
        check_store(ws)


def check_shared(ws: Workspace) -> None:
    shared = ws.experiments.get("shared")
    names = {metrics.create(spec).title for spec in shared.metrics}
    assert names == {"rouge", *(f"metric_{n}_{turn}" for n in range(PROCESSES) for turn in range(ROUNDS))}
    assert sorted(workflow.label for workflow in ws.workflows.of(shared)) == sorted(MODELS)
    ratings = ws.labels.ratings(shared)
    assert len(ratings) == 2 * PROCESSES
    assert set(ratings["rating"]) == {ROUNDS - 1, ROUNDS}


def check_own(ws: Workspace) -> None:
    kept = {f"e-{n}-{turn}" for n in range(PROCESSES) for turn in range(0, ROUNDS, 2)}
    assert {each.name for each in ws.experiments.list()} == kept | {"shared"}
    for name in kept:
        workflows = ws.workflows.of(name)
        assert [each.status for each in workflows] == [Status.SUCCEEDED] * 2
        assert len(ws.workflows.jobs(workflows)) == 2 * len(Step)


def check_store(ws: Workspace) -> None:
    """No file is without its row, and no row without its files."""
    with reading(ws.database) as found:
        workflows, datasets = found.workflows.list(), found.datasets.list()
    folders = {name.rsplit("/", 1)[0] if "/" not in name[10:] else "/".join(name.split("/")[:2])
               for name in ws.store.list("") if not name.startswith("predictions")}  # fmt: skip
    expected = [layout.workflow_folder(each.id) for each in workflows]
    assert folders == {*expected, *(layout.dataset_folder(each.id) for each in datasets)}
    assert {each.name for each in datasets} == {"shared", *(f"race-{turn}" for turn in range(ROUNDS))}


def test_deleting_what_somebody_else_works_with_is_refused_or_complete(database_url, tmp_path) -> None:
    """An experiment made at the moment at which its dataset goes either keeps it or is refused."""
    database = Database(database_url)
    database.upgrade()
    database.close()
    with workspace(database_url, str(tmp_path / "store")) as ws:
        context = processes_context()
        for turn in range(2):
            ws.datasets.upload(FRAME.assign(example=FRAME["example"] + str(turn)), name="contested")
            process = context.Process(target=_create_many, args=(database_url, str(tmp_path / "store"), turn))
            process.start()
            process.join(0 if turn else 60)
            try:
                ws.datasets.delete("contested")
            except InUseError:
                assert ws.datasets.to_pandas("contested") is not None
            process.join(PATIENCE_S)
            assert process.exitcode == 0
            for experiment in ws.experiments.list():
                assert len(ws.datasets.to_pandas(experiment.dataset_id)) == 2
                ws.experiments.delete(experiment)
            if ws.datasets.find("contested"):
                ws.datasets.delete("contested")


def _create_many(url: str, folder: str, turn: int) -> None:
    with workspace(url, folder) as ws:
        for number in range(10):
            try:
                ws.experiments.create(f"c-{turn}-{number}", dataset="contested", metrics=["length"])
            except NotFoundError:
                return
