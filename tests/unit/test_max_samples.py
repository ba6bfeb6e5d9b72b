"""Experiments on some rows of a dataset: everything is as on a dataset of just these rows, and no copy is made."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import writing
from lumigator_nb.errors import InUseError, InvalidInputError
from lumigator_nb.services.upkeep import inspection
from lumigator_nb.services.workflows import reproduction
from lumigator_nb.specs import Sample, Status, Step, StoreSpec
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace

N, OF = 12, 40
FRAME = pd.DataFrame(
    {
        "example": [f"Ann: The bus {n} is late. Bob: Then we walk. It rains {n} hours." for n in range(OF)],
        "ground_truth": [f"Ann and Bob walk because bus {n} is late." for n in range(OF)],
        "channel": ["chat", "phone"] * (OF // 2),
    }
)
MODELS = ["baseline/copy", "baseline/lead-1"]
ROWS = results.sampled_rows(Sample(n=N, of=OF))


@pytest.fixture
def ws(inline_ws):
    inline_ws.datasets.upload(FRAME, name="d")
    return inline_ws


def compared(ws, dataset: str, **more):
    experiment = ws.experiments.create(f"on {dataset}", dataset=dataset, metrics=["rouge", "length"], **more)
    ws.workflows.launch(experiment, MODELS)
    ws.wait(experiment, progress=False, check=True)
    return experiment


def test_which_rows_a_sample_has_never_changes() -> None:
    """Results of today must mean the same rows in years."""
    assert results.sampled_rows(Sample(n=5, of=20)).tolist() == FIRST
    assert set(FIRST) < set(results.sampled_rows(Sample(n=6, of=20)).tolist())
    assert results.sampled_rows(Sample(n=5, of=20, seed=1)).tolist() != FIRST
    assert results.sampled_rows(Sample(n=20, of=20)).tolist() == list(range(20))


FIRST = [4, 9, 14, 15, 16]


def test_pages_of_examples_are_those_of_the_whole_and_empty_past_its_end(ws) -> None:
    part = ws.experiments.create("part", dataset="d", metrics=["length"], max_samples=N)
    for dataset in (ws.datasets.get("d"), ws.datasets.of(part)):
        whole = ws.datasets.to_pandas(dataset)
        for offset in (0, N - 3, len(whole) - 2, len(whole), len(whole) + 7):
            page = ws.datasets.rows(dataset, limit=5, offset=offset)
            assert page.index.tolist() == list(range(offset, offset + len(page)))
            pd.testing.assert_frame_equal(
                page.reset_index(drop=True), whole[offset : offset + 5].reset_index(drop=True)
            )


@pytest.mark.parametrize("group", [1, 7, 100])
def test_rows_are_read_from_wherever_they_lie(tmp_path, group) -> None:
    store, sample = Store(StoreSpec(uri=tmp_path.as_uri())), Sample(n=N, of=OF)
    with store.writing("x.parquet") as file:
        pq.write_table(pa.Table.from_pandas(FRAME), file, row_group_size=group)
    wanted = FRAME["example"][ROWS].tolist()
    with results.row_reader(store, "x.parquet", ["example"], sample) as rows:
        assert rows(3, 5)["example"].to_pylist() == wanted[3:8]
        assert rows(N - 2, 5)["example"].to_pylist() == wanted[-2:]
    parts = [part["example"].to_pylist() for part in results.iter_shards(store, "x.parquet", None, 5, sample)]
    assert [len(part) for part in parts] == [5, 5, 2]
    assert [text for part in parts for text in part] == wanted
    assert results.read_rows(store, "x.parquet", sample)["example"].to_pylist() == wanted


def test_all_is_as_on_a_dataset_of_these_rows_alone(ws) -> None:
    ws.datasets.upload(FRAME.iloc[ROWS].reset_index(drop=True), name="cut")
    part, alone = compared(ws, "d", max_samples=N), compared(ws, "cut")
    assert (part.dataset_id, ws.datasets.count()) == (ws.datasets.get("d").id, 2)
    one, other = ws.compare(part), ws.compare(alone)
    assert (one.dataset.name, one.dataset.n_examples) == ("d", N)
    pd.testing.assert_frame_equal(one.summary(), other.summary(), check_exact=True)
    pd.testing.assert_frame_equal(one.examples(), other.examples(), check_exact=True)
    pd.testing.assert_frame_equal(one.slices("channel"), other.slices("channel"), check_exact=True)
    estimates = [ws.workflows.estimate(each, MODELS) for each in (part, alone)]
    pd.testing.assert_frame_equal(*estimates, check_exact=True)
    assert str(ws.experiments.get(part.id)).count("12 of 40, drawn at random") == 1
    ws.evaluate(part, "chrf")
    ws.wait(part, progress=False, check=True)
    assert ws.compare(part).scores[-1].name == "chrf"
    assert ws.select(part, MODELS, metric="chrf", progress=False).n_examples == N
    assert inspection.inspect(ws.database, ws.store).faults == ()


def test_labels_recordings_and_resumed_work_count_within_the_sample(ws, cluster) -> None:
    experiment = compared(ws, "d", max_samples=N)
    ratings = [{"row": row, "model": MODELS[0], "rating": 3} for row in range(N)]
    ws.labels.add(experiment, ratings, rater="Ada")
    with pytest.raises(InvalidInputError, match="not a row of the dataset"):
        ws.labels.add(experiment, [{"row": N, "model": MODELS[0], "rating": 3}], rater="Ada")
    item = ws.labels.rate(experiment, rater="Bob").current
    assert item.example == FRAME["example"][ROWS[item.row]]
    recorded = ws.workflows.record(experiment, name="mine", predictions=pd.DataFrame({"prediction": ["a"] * N}))
    assert ws.wait([recorded], progress=False)[0].status is Status.SUCCEEDED
    workflow = ws.workflows.of(experiment)[0]
    name = layout.part(workflow.id, Step.INFERENCE, 0)
    before = ws.workflows.predictions(workflow)
    for lost in (name, *(layout.result(workflow.id, step) for step in Step)):
        ws.store.delete(lost)
    with writing(ws.database) as work:
        work.workflows.get(workflow.id).status = Status.STOPPED
    ws.wait(ws.workflows.resume([ws.workflows.get(workflow.id)]), progress=False, check=True)
    columns = ["row", "prediction"]
    pd.testing.assert_frame_equal(ws.workflows.predictions(workflow)[columns], before[columns])


def test_it_says_where_it_comes_from_and_can_be_reproduced(ws) -> None:
    experiment = compared(ws, "d", max_samples=N)
    workflow = ws.workflows.of(experiment)[1]
    assert ws.provenance(workflow).dataset["sample"] == {"n": N, "of": OF, "seed": 0}
    found = reproduction.reproduce(ws.database, ws.store, ws.experiments, ws.workflows, workflow, progress=False)
    assert (found.n, found.identical, found.changes) == (N, N, ())


def test_it_travels_with_its_whole_dataset(ws, tmp_path, inline_cluster) -> None:
    experiment = compared(ws, "d", max_samples=N)
    file = ws.export(experiment, tmp_path / "x.lumi.zip", progress=False)
    database = Database(f"sqlite:///{tmp_path / 'other.db'}")
    database.upgrade()
    elsewhere = Store(StoreSpec(uri=(tmp_path / "other").as_uri()))
    with Workspace(Settings(), database, elsewhere, inline_cluster()) as other:
        loaded = other.load(file, progress=False)
        assert (loaded.sample, other.datasets.get("d").n_examples) == (Sample(n=N, of=OF), OF)
        pd.testing.assert_frame_equal(other.compare(loaded).summary(), ws.compare(experiment).summary())


def test_a_dataset_is_in_use_and_its_copies_are_nowhere(ws) -> None:
    experiment = compared(ws, "d", max_samples=N)
    with pytest.raises(InUseError, match="on d"):
        ws.datasets.delete("d")
    assert [each.id for each in ws.experiments.list(dataset="d")] == [experiment.id]
    ws.datasets.delete("d", cascade=True)
    assert ws.store.list("") == []


def test_a_schema_without_samples_is_refused_while_there_are_some(ws) -> None:
    ws.experiments.create("part", dataset="d", metrics=["length"], max_samples=N)
    with pytest.raises(InUseError, match="part"):
        ws.database.downgrade("0005")
    ws.experiments.delete("part")
    ws.database.downgrade("0005")
    ws.database.upgrade()
    assert ws.datasets.count() == 1


@pytest.mark.parametrize("n", [0, -1])
def test_an_impossible_number_of_samples_is_refused(ws, n) -> None:
    with pytest.raises(InvalidInputError, match=f"max_samples is {n}"):
        ws.experiments.create("e", dataset="d", max_samples=n)


def test_as_many_as_there_are_or_more_are_all(ws) -> None:
    assert [ws.experiments.create(f"e{n}", dataset="d", max_samples=n).sample for n in (OF, OF + 1)] == [None, None]
