"""An experiment as a file: the same numbers elsewhere, all or nothing, and nothing of a stranger's file is believed."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import pickle
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import lumigator_nb as lm
from lumigator_nb.cli import share
from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Job, Workflow
from lumigator_nb.errors import ConflictError, DamagedError, InvalidInputError, NotFoundError, StoreUnavailableError
from lumigator_nb.services import sharing
from lumigator_nb.services.sharing import loading
from lumigator_nb.specs import Status, Step, StoreSpec
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore:.* is loaded with all its numbers:UserWarning")
FRAME = pd.DataFrame(
    {
        "example": [f"Ann: The bus {n} is late. Bob: Then we walk. Ann: It rains {n} hours." for n in range(36)],
        "ground_truth": [f"Ann and Bob walk because bus {n} is late." for n in range(36)],
        "channel": ["chat", "phone", "mail"] * 12,
    }
)
OLD_FILE = Path(__file__).with_name("shared-0.1.0.lumi.zip")
MODELS = ["baseline/copy", "baseline/lead-1", lm.Model("baseline/lead-2", label="two sentences")]


def counted(prediction, example):
    return len(prediction) / len(example)


@pytest.fixture(scope="module")
def origin(tmp_path_factory, inline_cluster):
    """A whole experiment, and the file that was written of it; only to be read."""
    folder = tmp_path_factory.mktemp("origin")
    database = Database(f"sqlite:///{folder / 'origin.db'}")
    database.upgrade()
    ws = Workspace(Settings(), database, Store(StoreSpec(uri=(folder / "store").as_uri())), inline_cluster())
    dataset = ws.datasets.upload(FRAME, name="tickets")
    own = lm.metric(name="counted", range=(0, 1))(counted)
    experiment = ws.experiments.create(
        "summaries", dataset=dataset, task=lm.Summarization("Be brief."), metrics=["rouge", "bleu", "length", own]
    )
    ws.workflows.launch(experiment, MODELS)
    ws.wait(experiment, progress=False, check=True)
    ratings = [
        {"row": row, "rater": rater, "model": "baseline/lead-1", "rating": 1 + (row + len(rater)) % 5, "comment": "ü"}
        for row in range(8)
        for rater in ("Ada", "Grace")
    ]
    ws.labels.add(experiment, ratings, kind="rating", scale=(1, 5))
    preference = {"row": 3, "rater": "Ada", "model": "baseline/copy", "other": "baseline/lead-1", "preference": 1}
    ws.labels.add(experiment, [preference], kind="preference")
    ws.file = sharing.export(database, ws.store, experiment, folder / "x.lumi.zip")
    yield ws
    database.close()


def load(ws, path, **options):
    return sharing.load(ws.database, ws.store, path, **options)


def state(ws) -> tuple[dict[str, int], list[str]]:
    with reading(ws.database) as work:
        tables = (work.datasets, work.experiments, work.workflows, work.jobs, work.labels)
        return {table.kind: table.count() for table in tables}, ws.store.list("")


def labels_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Databases call the zone UTC by different names."""
    return frame.assign(created_at=pd.to_datetime(frame["created_at"], utc=True).dt.as_unit("us"))


def same(one, other, experiment, loaded) -> None:
    here, there = one.compare(experiment), other.compare(loaded)
    assert here.models == there.models
    for frame in ("summary", "ranking", "pairwise", "slices", "costs", "trust", "pareto"):
        pd.testing.assert_frame_equal(getattr(here, frame)(), getattr(there, frame)(), check_exact=True)
    assert str(here.recommend()) == str(there.recommend())
    pd.testing.assert_frame_equal(here.to_pandas(), there.to_pandas(), check_exact=True)
    for table in ("ratings", "preferences"):
        ours, theirs = (labels_of(getattr(ws.labels, table)(each)) for ws, each in ((one, experiment), (other, loaded)))
        assert len(ours) > 0
        pd.testing.assert_frame_equal(ours, theirs)


def rewritten(source, target, changes=None, *, infos=None, listed=True):
    """Write the file anew with members changed, added or (None) left out, and a manifest that agrees."""
    with zipfile.ZipFile(source) as old:
        content = {name: old.read(name) for name in old.namelist() if name != "manifest.json"}
        table = json.loads(old.read("manifest.json"))
    for name, value in (changes or {}).items():
        if name == "manifest.json":
            table |= value
        else:
            content[name] = value(content[name]) if callable(value) else value
    content = {name: value for name, value in content.items() if value is not None}
    if listed:
        table["members"] = [
            {"name": name, "size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
            for name, value in content.items()
        ]
    with zipfile.ZipFile(target, "w") as new:
        for name, value in [*content.items(), ("manifest.json", json.dumps(table).encode())]:
            info = zipfile.ZipInfo(name)
            for field, each in (infos or {}).get(name, {}).items():
                setattr(info, field, each)
            new.writestr(info, value)
    return target


def edited(change):
    """Return what changes a JSON member."""

    def edit(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return edit


def table_of(frame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    return buffer.getvalue()


def test_it_compares_to_identical_numbers_elsewhere(origin, inline_ws) -> None:
    loaded = load(inline_ws, origin.file)
    experiment = origin.experiments.get("summaries")
    assert (loaded.id, loaded.name, loaded.task) == (experiment.id, experiment.name, experiment.task)
    same(origin, inline_ws, experiment, loaded)
    for kept in ("workflows", "jobs"):
        theirs, ours = (
            [record.model_dump() for record in (ws.workflows.of if kept == "workflows" else ws.workflows.jobs)(each)]
            for ws, each in ((inline_ws, loaded), (origin, experiment))
        )
        assert theirs == ours
    dataset = inline_ws.datasets.get("tickets")
    assert dataset.model_dump() == origin.datasets.get("tickets").model_dump()
    original = layout.original(dataset.id, dataset.filename)
    assert inline_ws.store.read(original) == origin.store.read(original)


def test_a_file_of_version_0_1_0_opens_and_is_handed_on_as_it_was(inline_ws, tmp_path) -> None:
    """The file was written by version 0.1.0; its numbers are those that 0.1.0 showed."""
    with pytest.warns(UserWarning, match="metric 'counted': its function"):
        loaded = sharing.load(inline_ws.database, inline_ws.store, OLD_FILE)
    assert (loaded.name, loaded.id) == ("summaries", "7d5abce0-592d-4236-ae50-d7cce1ed2add")
    summary = inline_ws.compare(loaded).summary().set_index(["score", "model"])["overall"]
    numbers = [*summary["rougeL"], *summary["words"], *summary["counted"]]
    assert numbers == pytest.approx([5 / 12, 2 / 3, 15, 6, 1, 0.353846], rel=1e-6)
    assert len(inline_ws.labels.ratings(loaded)) == 3
    assert len(inline_ws.labels.preferences(loaded)) == 1
    again = sharing.export(inline_ws.database, inline_ws.store, loaded, tmp_path / "again.lumi.zip")
    with zipfile.ZipFile(OLD_FILE) as before, zipfile.ZipFile(again) as after:
        assert after.namelist() == before.namelist()
        changed = {name for name in before.namelist() if after.read(name) != before.read(name)}
    assert changed <= {"manifest.json"}, "it names the versions that wrote the file"


def test_another_metric_can_be_computed_on_it(origin, inline_ws) -> None:
    loaded = load(inline_ws, origin.file)
    before = inline_ws.compare(loaded).summary()
    inline_ws.evaluate(loaded, "chrf")
    inline_ws.wait(loaded, progress=False, check=True)
    after = inline_ws.compare(loaded)
    assert "chrf" in [info.name for info in after.scores]
    columns = ["score", "model", "overall", "low", "high"]
    kept = after.summary().merge(before[["score", "model"]])
    pd.testing.assert_frame_equal(kept[columns], before[columns], check_exact=True)


def test_the_same_experiment_gives_the_same_bytes(origin, tmp_path) -> None:
    again = sharing.export(origin.database, origin.store, "summaries", tmp_path / "again.lumi.zip")
    assert again.read_bytes() == origin.file.read_bytes()
    with zipfile.ZipFile(again) as archive:
        names = archive.namelist()
        assert names[:-1] == sorted(names[:-1])
        assert archive.testzip() is None
        made = json.loads(archive.read("manifest.json"))
    assert made["made_by"]["lumigator_nb"] == lm.__version__
    assert {"python", "ray", "sacrebleu"} < set(made["made_by"])


def test_without_the_data_no_text_of_the_dataset_goes_along(origin, inline_ws, tmp_path) -> None:
    path = sharing.export(origin.database, origin.store, "summaries", tmp_path / "x.lumi.zip", data="hash")
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if name.startswith("dataset/")]
        profile = json.loads(archive.read("dataset.json"))["profile"]
        parts = [name for name in archive.namelist() if "/predictions/" in name]
        prompts = [pq.read_table(archive.open(name))["prompt"] for name in parts]
    assert "preview" not in profile
    assert parts
    assert all(column.null_count == len(column) for column in prompts)
    before = state(inline_ws)
    digest = origin.datasets.get("tickets").content_hash
    with pytest.raises(InvalidInputError, match=f"only the hash of dataset 'tickets'.*dataframe.parquet.*{digest}"):
        load(inline_ws, path)
    assert state(inline_ws) == before
    dataset = inline_ws.datasets.upload(FRAME, name="mine")
    loaded = load(inline_ws, path)
    assert loaded.dataset_id == dataset.id
    same_but_prompts = inline_ws.compare(loaded).summary()
    pd.testing.assert_frame_equal(same_but_prompts, origin.compare("summaries").summary(), check_exact=True)


def test_an_upload_may_be_called_like_a_result(inline_ws, tmp_path) -> None:
    upload = tmp_path / "result.json"
    upload.write_text(FRAME.head(3).to_json(orient="records"))
    experiment = inline_ws.experiments.create(
        "e", dataset=inline_ws.datasets.upload(upload, name="d"), metrics=["length"]
    )
    path = sharing.export(inline_ws.database, inline_ws.store, experiment, tmp_path / "e.lumi.zip")
    inline_ws.experiments.delete(experiment)
    inline_ws.datasets.delete("d")
    loaded = load(inline_ws, path)
    dataset = inline_ws.datasets.get(loaded.dataset_id)
    assert inline_ws.store.read(layout.original(dataset.id, dataset.filename)) == upload.read_bytes()


def test_loading_twice_makes_another_experiment_on_the_same_dataset(origin, inline_ws) -> None:
    first, second, third = (load(inline_ws, origin.file, name=name) for name in (None, None, "mine"))
    assert [each.name for each in (first, second, third)] == ["summaries", "summaries (2)", "mine"]
    assert len({each.id for each in (first, second, third)}) == 3
    assert len({each.dataset_id for each in (first, second, third)}) == 1
    same(inline_ws, inline_ws, first, third)
    with pytest.raises(ConflictError, match="mine"):
        load(inline_ws, origin.file, name="mine")
    before = state(inline_ws)
    inline_ws.experiments.delete(load(inline_ws, origin.file))
    assert state(inline_ws) == before


def test_a_name_that_another_dataset_has_stays_that_datasets(origin, inline_ws) -> None:
    other = inline_ws.datasets.upload(FRAME.head(5), name="tickets")
    loaded = load(inline_ws, origin.file)
    assert inline_ws.datasets.get("tickets").id == other.id
    assert inline_ws.datasets.get(loaded.dataset_id).name == "tickets (2)"


def test_files_without_rows_are_not_written_over(origin, inline_ws) -> None:
    workflow = origin.workflows.of("summaries")[0]
    kept = layout.result(workflow.id, Step.INFERENCE)
    inline_ws.store.write(kept, b"somebody's")
    loaded = load(inline_ws, origin.file)
    assert inline_ws.store.read(kept) == b"somebody's"
    assert workflow.id not in {each.id for each in inline_ws.workflows.of(loaded)}
    same(origin, inline_ws, origin.experiments.get("summaries"), loaded)


def test_loads_at_the_same_time_do_not_meet(origin, inline_ws) -> None:
    with ThreadPoolExecutor(3) as pool:
        loaded = list(pool.map(lambda _: load(inline_ws, origin.file), range(3)))
    assert sorted(each.name for each in loaded) == ["summaries", "summaries (2)", "summaries (3)"]
    for each in loaded:
        same(origin, inline_ws, origin.experiments.get("summaries"), each)


def test_what_had_not_ended_is_stopped_and_goes_on(inline_ws, cluster, tmp_path) -> None:
    dataset = inline_ws.datasets.upload(FRAME, name="d")
    experiment = inline_ws.experiments.create("e", dataset=dataset, metrics=["length"])
    cluster.execute = False
    inline_ws.workflows.launch(experiment, ["baseline/lead-1"])
    path = sharing.export(inline_ws.database, inline_ws.store, "e", tmp_path / "e.lumi.zip")
    cluster.execute = True
    loaded = load(inline_ws, path)
    (workflow,) = inline_ws.workflows.refresh(loaded)
    assert (workflow.status, workflow.error) == (Status.STOPPED, loading.NOT_ENDED)
    assert [job.status for job in inline_ws.workflows.jobs(loaded)] == [Status.STOPPED] * 2
    inline_ws.workflows.resume(loaded)
    (workflow,) = inline_ws.wait(loaded, progress=False)
    assert workflow.status is Status.SUCCEEDED
    assert inline_ws.compare(loaded).models == ("baseline/lead-1",)


def test_what_ended_unnoticed_counts_as_ended(inline_ws, tmp_path) -> None:
    experiment = inline_ws.experiments.create(
        "e", dataset=inline_ws.datasets.upload(FRAME, name="d"), metrics=["rouge"]
    )
    inline_ws.workflows.launch(experiment, ["baseline/lead-1"])
    path = sharing.export(inline_ws.database, inline_ws.store, "e", tmp_path / "e.lumi.zip")
    assert not inline_ws.workflows.of(experiment)[0].status.ended, "nobody has asked yet"
    loaded = load(inline_ws, path)
    jobs = inline_ws.workflows.jobs(loaded)
    assert [job.status for job in (*inline_ws.workflows.of(loaded), *jobs)] == [Status.SUCCEEDED] * 3
    assert jobs[1].scores["rougeL"] > 0


class Planted:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace) -> None:
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_no_function_travels_and_none_is_unpickled(origin, inline_ws, tmp_path) -> None:
    assert b'"pickle"' not in origin.file.read_bytes()
    trace = tmp_path / "trace"
    bomb = base64.b64encode(pickle.dumps(Planted(trace))).decode()

    def plant(value) -> None:
        (own,) = (spec for spec in value["metrics"] if spec["name"] == "_function")
        own["options"]["pickle"] = bomb

    path = rewritten(origin.file, tmp_path / "planted.lumi.zip", {"experiment.json": edited(plant)})
    with pytest.warns(UserWarning, match="metric 'counted': its function"):
        loaded = sharing.load(inline_ws.database, inline_ws.store, path)
    inline_ws.compare(loaded)
    inline_ws.evaluate(loaded, "chrf")
    assert not trace.exists()
    (spec,) = (spec for spec in inline_ws.experiments.get(loaded.id).metrics if spec.name == "_function")
    assert "pickle" not in spec.options
    pickle.loads(base64.b64decode(bomb)).close()
    assert trace.exists(), "the trap works"


def test_what_would_run_code_or_send_a_key_is_taken_out(origin, inline_ws, tmp_path) -> None:
    judge = lm.Judge("quality", lm.Model("m", provider="openai", base_url="http://else.where/v1", api_key_name="MINE"))

    def metrics(value) -> None:
        (own,) = (spec for spec in value["metrics"] if spec["name"] == "_function")
        own["options"]["importable"] = "os:system"
        value["metrics"].append(judge.model_dump(mode="json"))

    def function(value) -> None:
        value["model"] |= {"provider": "function", "options": {"import": "os:system", "code": "1"}}

    def remote(value) -> None:
        value["model"] |= {"provider": "hf", "options": {"trust_remote_code": True}}

    changes = {
        "experiment.json": edited(metrics),
        "workflows/00000/workflow.json": edited(function),
        "workflows/00001/workflow.json": edited(remote),
    }
    path = rewritten(origin.file, tmp_path / "x.lumi.zip", changes)
    with pytest.warns(UserWarning, match="the name of the key for http://else.where/v1") as caught:
        loaded = sharing.load(inline_ws.database, inline_ws.store, path)
    assert "trust_remote_code" in str(caught[0].message)
    models = [workflow.model for workflow in inline_ws.workflows.of(loaded)]
    assert models[0].options["import"] is None
    assert models[1].options == {}
    specs = {spec.name: spec.options for spec in loaded.metrics}
    assert "importable" not in specs["_function"]
    assert "api_key_name" not in specs["judge"]["model"]["options"]
    summary = inline_ws.compare(loaded).summary()
    assert set(summary["score"]) == set(origin.compare("summaries").summary()["score"]), "all numbers are there"


def all_of_row_5(content: bytes) -> bytes:
    table, buffer = pq.read_table(io.BytesIO(content)), io.BytesIO()
    pq.write_table(table.set_column(0, "row", pa.array([5] * len(table), pa.int64())), buffer)
    return buffer.getvalue()


def predictions_of(rows) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"row": pa.array(rows, pa.int64()), "prediction": ["x"] * len(rows)}), buffer)
    return buffer.getvalue()


PREDICTIONS = "workflows/00000/predictions/00000.parquet"
SOME_ID = "345469ee-396e-4bcd-820b-b72c34e604fd"
EARLY = "0001-01-01T00:00:00+09:00"
DAMAGES = {
    "an id that leads out": ({"experiment.json": edited(lambda v: v.update(id="../../etc"))}, "experiment.json is mal"),
    "a workflow's id": ({"workflows/00001/workflow.json": edited(lambda v: v.update(id="x/../y"))}, "malformed, at id"),
    "another field": ({"dataset.json": edited(lambda v: v.update(path="/etc/passwd"))}, "malformed, at path"),
    "no JSON": ({"dataset.json": b"\xff\xfe"}, "dataset.json is malformed"),
    "deep JSON": ({"dataset.json": b"[" * 100_000}, "dataset.json is malformed"),
    "a time out of range": ({"dataset.json": edited(lambda v: v.update(created_at=EARLY))}, "malformed"),
    "an unknown status": ({"workflows/00000/workflow.json": edited(lambda v: v.update(status="odd"))}, "at status"),
    "the same label": (
        {f"workflows/0000{n}/workflow.json": edited(lambda v: v.update(label="a")) for n in (0, 1)}, "workflow.label"
    ),
    "the same id": (
        {f"workflows/0000{n}/workflow.json": edited(lambda v: v.update(id=SOME_ID)) for n in (0, 1)}, "workflow.id"
    ),
    "the same metric": ({"experiment.json": edited(lambda v: v["metrics"].append(v["metrics"][0]))}, "metrics are"),
    "no jobs": ({"workflows/00000/workflow.json": edited(lambda v: v.update(jobs=[]))}, "has other jobs"),
    "fewer metrics": ({"experiment.json": edited(lambda v: v["metrics"].pop())}, "or to no metric"),
    "a metric's options": ({"experiment.json": edited(lambda v: v["metrics"][0].update(name="jury"))}, "malformed"),
    "rows twice": ({PREDICTIONS: all_of_row_5}, "do not follow one another"),
    "predictions missing": ({PREDICTIONS: None}, "20 predictions for 36 examples"),
    "no Parquet": ({PREDICTIONS: b"PAR1" * 100}, "cannot be read"),
    "other columns": ({PREDICTIONS: table_of(pd.DataFrame({"row": [0]}))}, "the column 'prediction'"),
    "other examples": ({"dataset/data.parquet": table_of(FRAME.head(3))}, "not what the dataset's hash says"),
    "another original": ({"dataset/original/dataframe.parquet": b"x"}, "not what the dataset's hash says"),
    "a workflow left out": ({"workflows/00001/workflow.json": None}, "workflow.json is missing"),
    "a label's row": ({"labels.jsonl": lambda c: c.replace(b'"row":7', b'"row":99')}, "row 99"),
    "a cut label": ({"labels.jsonl": lambda c: c[:-9]}, r"line 17 of labels\.jsonl is cut short"),
    "a number for the database": ({"dataset.json": edited(lambda v: v.update(version=2**70))}, "at version"),
    "a result of no metric": ({"workflows/00000/scores/all/result.json": b"{}"}, "does not belong in"),
    "a workflow's file": ({"workflows/00007/model.json": b"{}"}, "belongs to no workflow"),
    "rows without a number": ({PREDICTIONS: predictions_of([None])}, "do not follow one another"),
    "more rows than examples": ({PREDICTIONS: predictions_of(range(37))}, "more rows than the dataset"),
    "a foreign member": ({"../outside.txt": b"x"}, "does not belong in"),
    "an absolute member": ({"/etc/cron.d/x": b"x"}, "does not belong in"),
    "a backslash": ({"dataset\\original\\x": b"x"}, "does not belong in"),
    "a step back within": ({"dataset/original/../../x": b"x"}, "does not belong in"),
    "a folder": ({"dataset/original/": b""}, "does not belong in"),
    "another format": ({"manifest.json": {"format": "other"}}, "not have the format"),
    "a newer format": ({"manifest.json": {"version": 2}}, "(?s)version 2 of the format.*pip install --upgrade"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_what_no_export_writes_is_refused(origin, inline_ws, tmp_path, changes, message) -> None:
    before = state(inline_ws)
    path = rewritten(origin.file, tmp_path / "x.lumi.zip", changes)
    with pytest.raises(DamagedError, match=message):
        load(inline_ws, path)
    assert state(inline_ws) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [("external_attr", (stat.S_IFLNK | 0o777) << 16), ("compress_type", zipfile.ZIP_DEFLATED)],
    ids=["a symbolic link", "compressed"],
)
def test_members_are_plain_stored_files(origin, inline_ws, tmp_path, field, value) -> None:
    path = rewritten(origin.file, tmp_path / "x.lumi.zip", infos={"labels.jsonl": {field: value}})
    with pytest.raises(DamagedError, match=r"labels\.jsonl is (not a plain file|compressed)"):
        load(inline_ws, path)


def test_a_bomb_is_refused_before_it_is_opened(origin, inline_ws, tmp_path) -> None:
    path = tmp_path / "bomb.lumi.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dataset/data.parquet", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(DamagedError, match="compressed"):
        load(inline_ws, path)


def test_a_member_that_is_there_twice_is_refused(origin, inline_ws, tmp_path) -> None:
    path = tmp_path / "x.lumi.zip"
    path.write_bytes(origin.file.read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("labels.jsonl", b"")
    with pytest.raises(DamagedError, match="two members have the same name"):
        load(inline_ws, path)


def test_members_that_overlap_are_refused(origin, inline_ws, tmp_path) -> None:
    """A thousand entries that point at the same bytes would give a thousand files."""
    path = rewritten(origin.file, tmp_path / "x.lumi.zip")
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("dataset/data.parquet")
        for number in range(100_000, 101_000):
            info = copy.copy(first)
            info.filename = info.orig_filename = f"workflows/00000/predictions/{number}.parquet"
            archive.filelist.append(info)
        archive._didModify = True
    with pytest.raises(DamagedError, match="larger than the file"):
        load(inline_ws, path)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "bare"])
def test_foreign_files_are_refused(inline_ws, tmp_path, content) -> None:
    path = tmp_path / "foreign.zip"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"foreign\.zip is not an exported experiment"):
        load(inline_ws, path)
    with pytest.raises(NotFoundError, match="no file"):
        load(inline_ws, tmp_path / "none.zip")
    with pytest.raises(InvalidInputError, match="cannot open"):
        load(inline_ws, tmp_path)


def test_altered_members_are_named(origin, inline_ws, tmp_path) -> None:
    path = rewritten(origin.file, tmp_path / "x.lumi.zip", {"labels.jsonl": lambda c: c[::-1]}, listed=False)
    with pytest.raises(DamagedError, match=r"x\.lumi\.zip: labels\.jsonl is not what was written"):
        load(inline_ws, path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_refused_or_does_no_harm(origin, inline_ws, tmp_path, data) -> None:
    content = bytearray(origin.file.read_bytes())
    # The table of contents stands at the end, and most of the rest is the members' own bytes.
    places = st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) - 12_000, len(content) - 1))
    place = data.draw(places, label="place")
    if data.draw(st.booleans(), label="cut"):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255), label="bits")
    path = tmp_path / "damaged.lumi.zip"
    path.write_bytes(content)
    before = state(inline_ws)
    try:
        loaded = load(inline_ws, path)
    except DamagedError:
        assert state(inline_ws) == before
        return
    here, there = origin.compare("summaries").to_pandas(), inline_ws.compare(loaded).to_pandas()
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    inline_ws.experiments.delete(loaded)
    inline_ws.datasets.delete(loaded.dataset_id)
    assert state(inline_ws) == before


@pytest.mark.parametrize("after", [0, 1, 9, 25])
def test_a_store_that_fails_half_way_leaves_nothing(origin, inline_ws, monkeypatch, after) -> None:
    before, plain, written = state(inline_ws), Store.writing, []

    def failing(store, name):
        written.append(name)
        if len(written) > after:
            raise StoreUnavailableError("the disk is full")
        return plain(store, name)

    monkeypatch.setattr(Store, "writing", failing)
    with pytest.raises(StoreUnavailableError):
        load(inline_ws, origin.file)
    assert len(written) == after + 1
    assert state(inline_ws) == before


def test_a_database_that_fails_half_way_leaves_nothing(origin, inline_ws, monkeypatch) -> None:
    before = state(inline_ws)
    monkeypatch.setattr(loading, "_add_labels", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load(inline_ws, origin.file)
    assert state(inline_ws) == before


def test_an_export_that_fails_leaves_the_file_that_was_there(origin, tmp_path, monkeypatch) -> None:
    path = tmp_path / "x.lumi.zip"
    path.write_bytes(b"the old one")
    gone = layout.model_details(origin.workflows.of("summaries")[-1].id)
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda store, name: read(store, "nothing" if name == gone else name))
    with pytest.raises(NotFoundError, match="(?s)model.json.*changed while it was exported"):
        sharing.export(origin.database, origin.store, "summaries", path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.lumi.zip"]
    assert path.read_bytes() == b"the old one"


@pytest.mark.parametrize("content", [b"{}", b"\xff"], ids=["another value", "no text"])
def test_a_store_that_is_damaged_is_not_handed_on(inline_ws, tmp_path, content) -> None:
    dataset = inline_ws.datasets.upload(FRAME, name="d")
    experiment = inline_ws.experiments.create("e", dataset=dataset, metrics=["length"])
    (workflow,) = inline_ws.workflows.launch(experiment, ["baseline/copy"])
    inline_ws.store.write(layout.metric_result(workflow.id, experiment.metrics[0]), content)
    with pytest.raises(DamagedError, match="what is stored of 'e' is malformed"):
        sharing.export(inline_ws.database, inline_ws.store, "e", tmp_path / "e.lumi.zip")
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob("*.part"))


def test_paths_and_options_that_cannot_be(origin, tmp_path) -> None:
    for path, message in ((tmp_path / "none" / "x.zip", "there is no folder"), (tmp_path, "is a folder")):
        with pytest.raises(InvalidInputError, match=message):
            sharing.export(origin.database, origin.store, "summaries", path)
    with pytest.raises(InvalidInputError, match="data cannot be 'half'"):
        sharing.export(origin.database, origin.store, "summaries", tmp_path / "x.zip", data="half")
    with pytest.raises(NotFoundError):
        sharing.export(origin.database, origin.store, "summarie", tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())


def with_model(ws, **fields) -> None:
    """Put a model into the database that no launch would let through."""
    with writing(ws.database) as work:
        experiment = work.experiments.get("e")
        model = lm.Model("m", provider="openai", **fields)
        workflow = Workflow(experiment_id=experiment.id, label="m", fingerprint=model.fingerprint, model=model)
        work.workflows.add(workflow)
        for step in Step:
            work.jobs.add(Job(workflow_id=workflow.id, step=step))


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"options": {"extra": {"headers": {"Authorization": "Bearer abcdefgh"}}}}, "'Authorization'"),
        ({"options": {"api_key_name": "sk-the-key-itself"}}, "'api_key_name'"),
        ({"base_url": "http://me:pass-word@host/v1"}, "'base_url'"),
        ({"options": {"extra": {"note": "it is top-secret-value-1"}}}, "MY_TOKEN"),
        ({"options": {"api_key_name": "MY_TOKEN"}}, None),
    ],
    ids=["header", "key", "address", "value", "name"],
)
def test_no_secret_leaves(inline_ws, tmp_path, monkeypatch, fields, refused) -> None:
    monkeypatch.setenv("MY_TOKEN", "top-secret-value-1")
    inline_ws.experiments.create("e", dataset=inline_ws.datasets.upload(FRAME, name="d"), metrics=["length"])
    with_model(inline_ws, **fields)
    path = tmp_path / "e.lumi.zip"
    if refused is None:
        sharing.export(inline_ws.database, inline_ws.store, "e", path)
        assert b"top-secret-value-1" not in path.read_bytes()
        return
    with pytest.raises(InvalidInputError, match=refused) as caught:
        sharing.export(inline_ws.database, inline_ws.store, "e", path)
    assert not any(secret in str(caught.value) for secret in ("abcdefgh", "sk-the", "pass-word", "top-secret"))
    assert not path.exists()


def test_labels_come_in_batches_and_in_full(inline_ws, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loading, "_LABELS_AT_ONCE", 7)
    experiment = inline_ws.experiments.create(
        "e", dataset=inline_ws.datasets.upload(FRAME, name="d"), metrics=["length"]
    )
    inline_ws.workflows.launch(experiment, ["baseline/copy"])
    rows = [{"row": row, "rater": "Ada", "model": "baseline/copy", "rating": row % 5 + 1} for row in range(36)]
    inline_ws.labels.add(experiment, rows, kind="rating", scale=(1, 5))
    path = sharing.export(inline_ws.database, inline_ws.store, "e", tmp_path / "e.lumi.zip")
    loaded = load(inline_ws, path)
    pd.testing.assert_frame_equal(inline_ws.labels.ratings(loaded), inline_ws.labels.ratings(experiment))


def test_the_command_line_hands_on_and_takes_in(origin, inline_ws, tmp_path, monkeypatch) -> None:
    def workspace(ws):
        parts = ws.database, ws.store
        return nullcontext(SimpleNamespace(export=partial(sharing.export, *parts), load=partial(load, ws)))

    run = CliRunner().invoke
    monkeypatch.setattr(share, "connected", lambda: workspace(origin))
    done = run(share.app, ["export", "summaries", str(tmp_path / "x.lumi.zip"), "--without-data"])
    assert (done.exit_code, done.output.split()[-1]) == (0, "MB)")
    monkeypatch.setattr(share, "connected", lambda: workspace(inline_ws))
    inline_ws.datasets.upload(FRAME, name="tickets")
    assert "summaries" in run(share.app, ["load", str(tmp_path / "x.lumi.zip")], catch_exceptions=False).output
    assert inline_ws.compare("summaries").n_scored == 36


def test_a_file_is_compared_without_a_workspace(origin) -> None:
    expected = origin.compare("summaries")
    comparison = lm.compare(origin.file)
    pd.testing.assert_frame_equal(comparison.summary(), expected.summary())
    assert (comparison.baselines, comparison.best("bleu")) == (expected.baselines, expected.best("bleu"))
    pd.testing.assert_frame_equal(comparison.examples(), expected.examples())
    pd.testing.assert_frame_equal(comparison.metadata(), expected.metadata())
    assert [info.range for info in comparison.scores] == [info.range for info in expected.scores]
    assert "reports" not in " ".join(comparison.data.notes)


def test_downloaded_results_of_rest_compare_like_the_experiment(origin, tmp_path) -> None:
    from lumigator_nb.rest.wire import documents

    experiment = origin.experiments.get("summaries")
    paths = []
    for number, workflow in enumerate(origin.workflows.of(experiment)):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_bytes(b"".join(documents.encoded(documents.of_workflow(origin, experiment, workflow))))
    comparison, expected = lm.compare(paths), origin.compare(experiment)
    assert comparison.models == expected.models
    for theirs, ours in {"rouge1": "rouge1", "length_words": "words", "counted": "counted"}.items():
        pairs = [one.values(name).to_numpy() for one, name in ((comparison, theirs), (expected, ours))]
        np.testing.assert_allclose(*pairs)
    np.testing.assert_allclose(100 * comparison.values("bleu").to_numpy(), expected.values("bleu").to_numpy())
