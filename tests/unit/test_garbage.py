"""What belongs to nobody is found and removed, and nothing else ever is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lumigator_nb as lm
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Dataset, Workflow
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.services.upkeep import garbage
from lumigator_nb.services.upkeep.garbage import collect, find
from lumigator_nb.specs import Status, StoreSpec, Summarization
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

NOW = timedelta(0)
FRAME = pd.DataFrame({"example": ["It rains.", "It snows."], "ground_truth": ["Rain.", "Snow."]})


@pytest.fixture
def ws(inline_ws):
    return inline_ws


@pytest.fixture
def local(tmp_path, migrated_url):
    """A database beside a store in a folder."""
    database = Database(migrated_url)
    yield database, Store(StoreSpec(uri=(tmp_path / "store").as_uri()))
    database.close()


def aged(store: Store, name: str, hours: float) -> str:
    moment = time.time() - hours * 3600
    os.utime(store.local_path(name), (moment, moment))
    return name


def written(store: Store, name: str, hours: float = 48) -> str:
    store.write(name, b"something")
    return aged(store, name, hours)


def names(found) -> set[tuple[str, str]]:
    return {(orphan.kind, orphan.name) for orphan in found.orphans}


def test_nothing_is_found_where_all_is_in_order(ws) -> None:
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
    ws.workflows.launch(experiment, "baseline/copy")
    ws.workflows.refresh()
    files = ws.store.entries("")
    found = find(ws.database, ws.store, NOW)
    assert (found.orphans, str(found)) == ((), "Nothing is left behind")
    assert collect(ws.database, ws.store, NOW).orphans == ()
    assert ws.store.entries("") == files


def test_folders_without_a_row_go_when_they_are_old(local) -> None:
    database, store = local
    old, young, growing = (str(uuid.uuid4()) for _ in range(3))
    written(store, layout.examples(old))
    written(store, layout.original(old, "x.csv"))
    written(store, layout.log(old, 1))
    written(store, layout.examples(young), hours=23)
    written(store, layout.examples(growing))
    written(store, layout.original(growing, "x.csv"), hours=1)
    found = find(database, store)
    assert names(found) == {("dataset", f"datasets/{old}"), ("workflow", f"workflows/{old}")}
    assert (found.n_younger, found.n_bytes, found.collected) == (2, 27, False)
    assert "nothing was removed" in str(found)
    assert f"datasets/{old}" in found._repr_html_()
    before = store.entries("")
    done = collect(database, store)
    assert names(done) == names(found)
    assert str(done).startswith("Removed: 1 × dataset and 1 × workflow, 27 bytes")
    assert {each.name for each in before} - {each.name for each in store.entries("")} == {
        layout.examples(old), layout.original(old, "x.csv"), layout.log(old, 1)
    }  # fmt: skip


def test_an_upload_that_still_writes_keeps_its_folder(local) -> None:
    """The first file is a day old, and the second is not finished."""
    database, store = local
    key = str(uuid.uuid4())
    written(store, layout.examples(key))
    part = store.local_path(layout.original(key, "x.csv") + ".0a.part")
    part.parent.mkdir()
    part.write_bytes(b"half")
    assert find(database, store).orphans == ()
    aged(store, str(part.relative_to(store.local_path(""))), 30)
    assert names(find(database, store)) == {("dataset", f"datasets/{key}")}
    collect(database, store)
    assert not part.exists()


def test_cut_off_writes_go_wherever_they_are(local) -> None:
    database, store = local
    for name, hours in (("predictions/f/x.jsonl.00ff.part", 30), ("predictions/f/y.jsonl.00ff.part", 2)):
        path = store.local_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        aged(store, name, hours)
    assert names(collect(database, store)) == {("upload cut off", "predictions/f/x.jsonl.00ff.part")}
    assert [path.name for path in store.local_path("predictions/f").iterdir()] == ["y.jsonl.00ff.part"]


@pytest.mark.parametrize(
    "name",
    [
        "datasets/sales.csv",
        "datasets/2024/sales.csv",
        "workflows/deploy.yaml",
        "predictions/0123456789abcdef/w.1-a.jsonl",
        "backup/datasets/00000000-0000-0000-0000-000000000000/data.parquet",
        "datasets/00000000-0000-0000-0000-000000000000",
        "datasets/00000000-0000-0000-0000-00000000000g/data.parquet",
    ],
)
def test_what_is_not_ours_is_never_looked_at(local, name) -> None:
    database, store = local
    written(store, name)
    assert collect(database, store, NOW, force=True).orphans == ()
    assert store.exists(name)


def test_the_store_of_another_database_is_left_alone(local) -> None:
    database, store = local
    for _ in range(20):
        written(store, layout.examples(str(uuid.uuid4())))
    with pytest.raises(InvalidInputError, match="knows none of the 20 folders"):
        collect(database, store)
    assert len(store.entries("")) == 20
    assert len(collect(database, store, force=True).orphans) == 20


@pytest.mark.parametrize("table", [Dataset, Workflow])
def test_a_row_that_comes_in_between_is_seen(ws, monkeypatch, table) -> None:
    """The folder was listed before the upload or launch wrote its row."""
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
    ws.workflows.launch(experiment, "baseline/copy")
    ws.workflows.refresh()
    known = garbage._ids
    monkeypatch.setattr(garbage, "_ids", lambda database, kind: {} if kind is table else known(database, kind))
    assert len(find(ws.database, ws.store, NOW).orphans) == 1
    assert collect(ws.database, ws.store, NOW).orphans == ()
    assert ws.compare(experiment).models == ("baseline/copy",)


def test_a_folder_that_came_to_life_in_between_stays(local, monkeypatch) -> None:
    database, store = local
    key = str(uuid.uuid4())
    written(store, layout.examples(key))
    found = find(database, store)
    aged(store, layout.examples(key), 1)
    monkeypatch.setattr(garbage, "find", lambda *_, **__: found)
    assert collect(database, store).orphans == ()
    assert store.exists(layout.examples(key))


def test_keys_of_ended_workflows_go_and_others_stay(ws, cluster) -> None:
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
    (ended,) = ws.workflows.launch(experiment, "baseline/copy")
    cluster.execute = False
    (active,) = ws.workflows.launch(experiment, "baseline/lead-1")
    ws.workflows.refresh()
    for workflow in (ended, active):
        ws.store.write(layout.sealed_keys(workflow.id), b"sealed")
    assert find(ws.database, ws.store).orphans == ()
    assert names(collect(ws.database, ws.store, NOW)) == {
        ("API keys of an ended workflow", layout.sealed_keys(ended.id))
    }
    assert ws.store.exists(layout.sealed_keys(active.id))
    assert ws.store.exists(layout.spec(ended.id))


def test_keys_of_a_workflow_that_was_resumed_in_between_stay(ws, monkeypatch) -> None:
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
    (workflow,) = ws.workflows.launch(experiment, "baseline/copy")
    ws.workflows.refresh()
    ws.store.write(layout.sealed_keys(workflow.id), b"sealed")
    found = find(ws.database, ws.store, NOW)
    with writing(ws.database) as work:
        work.workflows.get(workflow.id).status = Status.RUNNING
    monkeypatch.setattr(garbage, "find", lambda *_, **__: found)
    assert collect(ws.database, ws.store, NOW).orphans == ()
    assert ws.store.exists(layout.sealed_keys(workflow.id))


def test_the_newest_five_backups_stay(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'my.db'}")
    database.upgrade()
    store = Store(StoreSpec(uri=(tmp_path / "store").as_uri()))
    copies = [tmp_path / f"my.db.0004.2026010{n}T000000.backup" for n in range(8)]
    for n, path in enumerate([*copies, tmp_path / "other.db.0004.20250101T000000.backup"]):
        path.write_bytes(b"copy")
        os.utime(path, (1e9 + n, 1e9 + n))
    collected = collect(database, store)
    database.close()
    assert {Path(orphan.name) for orphan in collected.orphans} == set(copies[:3])
    assert [path.exists() for path in copies] == [False] * 3 + [True] * 5
    assert (tmp_path / "other.db.0004.20250101T000000.backup").exists()


def test_annotations_go_when_their_dataset_has_gone(ws) -> None:
    dataset = ws.datasets.upload(FRAME, name="d")
    made = ws.datasets.annotate(dataset, model="baseline/lead-1", name="made", progress=False)
    ws.experiments.create("scored", dataset=dataset, metrics="length")
    assert find(ws.database, ws.store, NOW).orphans == ()
    ws.datasets.delete(made)
    assert find(ws.database, ws.store).orphans == ()
    assert [orphan.kind for orphan in collect(ws.database, ws.store, NOW).orphans] == ["annotation"]
    assert [each.name for each in ws.experiments.list()] == ["scored"]
    assert ws.workflows.list() == []
    assert find(ws.database, ws.store, NOW).orphans == ()


def test_single_jobs_stay_although_no_dataset_was_made_of_them(ws) -> None:
    ws.datasets.upload(FRAME, name="d")
    asked = ws.jobs.infer("d", "baseline/lead-1")
    ws.workflows.submit_waiting()
    ws.workflows.refresh()
    assert ws.jobs.get(asked.job.id).status is Status.SUCCEEDED
    assert collect(ws.database, ws.store, NOW).orphans == ()
    assert ws.jobs.count() == 1


def test_an_annotation_under_way_stays(ws, cluster) -> None:
    cluster.execute = False
    experiment = ws.experiments.create_unscored("a", dataset=ws.datasets.upload(FRAME, name="d"), task=Summarization())
    ws.workflows.launch(experiment, lm.Model("baseline/copy"))
    ws.workflows.refresh()
    assert collect(ws.database, ws.store, NOW).orphans == ()


def test_negative_ages_are_refused(ws) -> None:
    with pytest.raises(InvalidInputError, match="older_than must not be negative"):
        find(ws.database, ws.store, timedelta(hours=-1))


def test_temporary_folders_go_with_the_process_that_made_them(ws, tmp_path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    theirs, mine = (tmp_path / f"lumigator-upload-{pid}-abc" for pid in (killed.pid, os.getpid()))
    for folder in (theirs, mine, tmp_path / "lumigator-abc", tmp_path / "elsewhere"):
        folder.mkdir()
        (folder / "original").write_bytes(b"12345")
    (tmp_path / f"lumigator-spool-{killed.pid}-link").symlink_to(tmp_path / "elsewhere")
    assert names(find(ws.database, ws.store, NOW)) == set()
    assert names(find(ws.database, ws.store, timedelta(hours=1), temporary=tmp_path)) == set()
    found = collect(ws.database, ws.store, NOW, temporary=tmp_path)
    assert [(each.name, each.n_files, each.n_bytes) for each in found.orphans] == [(str(theirs), 1, 5)]
    assert not theirs.exists()
    assert (mine / "original").exists()
    assert (tmp_path / "elsewhere" / "original").exists()
    # The number of a process that was begun later says nothing.
    os.utime(mine / "original", (1, 1))
    os.utime(mine, (1, 1))
    assert names(find(ws.database, ws.store, NOW, temporary=tmp_path)) == {(garbage.TEMPORARY, str(mine))}


def test_the_commands_say_what_they_do(tmp_path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from lumigator_nb.cli import app
    from lumigator_nb.workspace import connect

    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    with connect() as ws:
        name = written(ws.store, layout.examples(str(uuid.uuid4())))
        said = [CliRunner().invoke(app, words).output for words in (["gc", "--dry-run"], ["gc", "--older-than", "50"])]
        assert [text.split(":")[0] for text in said] == ["Orphaned", "Nothing is left behind\n  left alone"]
        assert ws.store.exists(name)
        assert "Removed: 1 × dataset" in CliRunner().invoke(app, ["gc"]).output
        assert not ws.store.exists(name)
        kept = "predictions/f/w.0-a.jsonl.gz"
        ws.store.write(kept, b"")
        assert "Answer cache: 0 answers" in CliRunner().invoke(app, ["cache"]).output
        assert "0 bytes remain" in CliRunner().invoke(app, ["cache", "--trim", "1"]).output


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages=st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=6), older=st.integers(0, 100))
def test_exactly_what_is_old_and_unknown_goes(local, ages, older) -> None:
    """Whatever the ages, and whichever folders have a row."""
    database, store = local
    store.delete("")
    expected = set()
    for known, hours in ages:
        dataset = Dataset(
            name=str(uuid.uuid4()), filename="x", content_hash="", size_bytes=0, n_examples=0, columns={}, profile={}
        )
        written(store, layout.examples(dataset.id), hours + 0.5)
        if known:
            with writing(database) as work:
                work.datasets.add(dataset)
        elif hours >= older:
            expected.add(("dataset", layout.dataset_folder(dataset.id)))
    before = {each.name for each in store.entries("")}
    assert names(collect(database, store, timedelta(hours=older), force=True)) == expected
    gone = before - {each.name for each in store.entries("")}
    assert gone == {f"{folder}/data.parquet" for _, folder in expected}
