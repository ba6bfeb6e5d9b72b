"""The answer cache: what answers take, whose they are, what may go and what must stay."""

from __future__ import annotations

import gzip
import os
import time
import uuid

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.errors import InvalidInputError, NotFoundError
from lumigator_nb.models import Prediction
from lumigator_nb.services.answer_cache import UNKNOWN, Cache
from lumigator_nb.specs import Model, Status, StoreSpec, Summarization, now
from lumigator_nb.storage import layout
from lumigator_nb.storage.answer_cache import Answers
from lumigator_nb.storage.store import Store

GPT, BART = Model("openai/gpt-4o-mini", label="gpt"), Model("hf/facebook/bart", label="bart")


@pytest.fixture
def place(tmp_path, migrated_url):
    database = Database(migrated_url)
    yield database, Store(StoreSpec(uri=(tmp_path / "store").as_uri()))
    database.close()


@pytest.fixture
def experiment_id(place) -> str:
    dataset = Dataset(name="d", filename="x", content_hash="", size_bytes=0, n_examples=0, columns={}, profile={})
    experiment = Experiment(name="e", dataset_id=dataset.id, task=Summarization(), metrics=())
    with writing(place[0]) as work:
        work.datasets.add(dataset)
        work.experiments.add(experiment)
    return experiment.id


def launched(place, experiment_id: str, model: Model, status: Status = Status.SUCCEEDED, **values) -> str:
    about = {"label": model.label, "fingerprint": model.fingerprint, "model": model}
    row = Workflow(experiment_id=experiment_id, status=status, **about, **values)
    with writing(place[0]) as work:
        work.workflows.add(row)
    return row.id


def kept(place, fingerprint: str, owner: str, n: int = 3, hours: float = 1) -> str:
    """Answers as a workflow leaves them, `hours` old; their name."""
    store = place[1]
    answers = Answers(store, layout.answers(fingerprint), owner)
    for k in range(n):
        answers.keep(f"{owner}{k}", Prediction(f"answer {k}"))
    answers.close()
    (name,) = (name for name in store.list(layout.answers(fingerprint)) if f"/{owner}." in name)
    moment = time.time() - hours * 3600
    os.utime(store.local_path(name), (moment, moment))
    return name


def open_file(place, fingerprint: str, owner: str, hours: float = 0) -> str:
    """Answers that somebody is appending to, or was when he was killed."""
    name = f"{layout.answers(fingerprint)}/{owner}.0-a.jsonl"
    place[1].write(name, b'{"key": "k", "answer": {"text": "x"}}\n')
    moment = time.time() - hours * 3600
    os.utime(place[1].local_path(name), (moment, moment))
    return name


def files(place) -> set[str]:
    return set(place[1].list("predictions"))


def test_an_empty_cache(place) -> None:
    size = Cache(*place).size()
    assert (size.folders, size.n_bytes, size.answers) == ((), 0, 0)
    assert str(size) == "Answer cache: 0 answers, 0 bytes, without limit (LUMIGATOR_CACHE_GB)"
    assert Cache(*place).trim(0).n_files == 0


def test_size_names_models(place, experiment_id) -> None:
    """By the fingerprint, or where a commit is part of it by who wrote; judges by the metrics that ask them."""
    spec = lm.Judge("fluency", model=Model("openai/judge", label="judge"))
    (judge,) = metrics.models_of([spec])
    with writing(place[0]) as work:
        work.experiments.get("e").metrics = (spec,)
    gpt, bart = (launched(place, experiment_id, model) for model in (GPT, BART))
    kept(place, GPT.fingerprint, gpt, n=5)
    kept(place, "0" * 16, bart, n=2)
    kept(place, judge.fingerprint, bart, n=7)
    kept(place, "1" * 16, "judgements-abc", n=1)
    size = Cache(*place, limit=10_000).size()
    assert {folder.model: folder.answers for folder in size.folders} == {"gpt": 5, "bart": 2, "judge": 7, UNKNOWN: 1}
    assert size.answers == 15
    assert size.n_bytes == sum(each.size for each in place[1].entries("predictions"))
    assert "of 10 kB" in str(size)
    assert "judge" in size._repr_html_()
    assert Cache(*place).size(count=False).answers == 0


def test_trimming_takes_what_was_not_used_for_longest(place, experiment_id) -> None:
    """Use is more than writing: a workflow that found all its answers wrote none."""
    long_ago = now().replace(year=2020)
    gpt = launched(place, experiment_id, GPT)
    bart = launched(place, experiment_id, BART, attempted_at=long_ago)
    old = kept(place, GPT.fingerprint, gpt, hours=1000)
    newer = kept(place, BART.fingerprint, bart, hours=500)
    total = sum(each.size for each in place[1].entries("predictions"))
    trimmed = Cache(*place).trim((total - 1) / 1e9)
    assert files(place) == {old}
    assert (trimmed.n_files, trimmed.models, trimmed.spared) == (1, ("bart",), 0)
    assert trimmed.left + trimmed.n_bytes == total
    assert newer not in files(place)
    assert "from the answer cache: answers of bart" in str(trimmed)
    assert "Removed" in trimmed._repr_html_()


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SUCCEEDED])
def test_trimming_spares_what_a_workflow_may_go_on_from(place, experiment_id, status) -> None:
    """Its answers say also how much of its budget is spent."""
    owner = launched(place, experiment_id, GPT, status)
    name = kept(place, GPT.fingerprint, owner, hours=1000)
    trimmed = Cache(*place).trim(0)
    assert files(place) == {name}
    assert trimmed.spared == trimmed.left > 0
    assert "in use" in str(trimmed)


@pytest.mark.parametrize("status", list(Status))
def test_clearing_spares_only_what_is_under_way(place, experiment_id, status) -> None:
    owner = launched(place, experiment_id, GPT, status)
    name = kept(place, GPT.fingerprint, owner)
    Cache(*place).clear()
    assert files(place) == (set() if status.ended else {name})


@pytest.mark.parametrize(("hours", "stays"), [(0, True), (0.2, True), (0.3, False), (5, False)])
def test_files_that_are_being_written_stay(place, hours, stays) -> None:
    """Judgements and races ask from a process that no row tells of."""
    name = open_file(place, "f" * 16, "judgements-abc", hours)
    Cache(*place).clear()
    assert files(place) == ({name} if stays else set())


def test_removing_answers_harms_nobody_who_has_them_open(place) -> None:
    _, store = place
    folder = layout.answers("f" * 16)
    kept(place, "f" * 16, "first")
    reader = Answers(store, folder, "second")
    reader.keep("new", Prediction("new answer"))
    Cache(*place).clear()
    assert reader.find("first0").text == "answer 0"
    reader.keep("newer", Prediction("newer answer"))
    reader.close()
    again = Answers(store, folder, "third")
    assert again.find("first0") is None
    assert [again.find(key).text for key in ("new", "newer")] == ["new answer", "newer answer"]
    again.close()


@pytest.mark.parametrize("by", ["gpt", GPT, GPT.fingerprint[:8]])
def test_clearing_one_model(place, experiment_id, by) -> None:
    kept(place, GPT.fingerprint, launched(place, experiment_id, GPT))
    other = kept(place, BART.fingerprint, launched(place, experiment_id, BART))
    assert Cache(*place).clear(by).models == ("gpt",)
    assert files(place) == {other}


@pytest.mark.parametrize("unknown", ["gtp", Model("openai/other"), "012"])
def test_clearing_an_unknown_model_removes_nothing(place, experiment_id, unknown) -> None:
    name = kept(place, GPT.fingerprint, launched(place, experiment_id, GPT))
    with pytest.raises(NotFoundError, match="there is no cached answer of"):
        Cache(*place).clear(unknown)
    assert files(place) == {name}


def test_limits_are_checked(place) -> None:
    with pytest.raises(InvalidInputError, match="the cache has no limit"):
        Cache(*place).trim()
    with pytest.raises(InvalidInputError, match="must not be negative, got -1"):
        Cache(*place).trim(-1)


def test_the_limit_is_kept(place, experiment_id) -> None:
    name = kept(place, GPT.fingerprint, launched(place, experiment_id, GPT))
    size = place[1].size(name)
    assert Cache(*place).keep_to_limit() is None
    assert Cache(*place, limit=size).keep_to_limit() is None
    assert files(place) == {name}
    assert Cache(*place, limit=size - 1).keep_to_limit().n_bytes == size
    assert files(place) == set()


def test_answers_that_vanish_while_they_are_counted(place) -> None:
    kept(place, "f" * 16, "first")
    cache = Cache(*place)
    assert cache._count("predictions/f/gone.jsonl") == 0
    place[1].write("predictions/g/half.jsonl.gz", gzip.compress(b"1\n2\n"))
    assert cache.size().answers == 5


def test_a_killed_experiment_leaves_answers_for_others(inline_ws) -> None:
    """By design: they are paid for."""
    ws = inline_ws
    frame = pd.DataFrame({"example": ["a", "b"], "ground_truth": ["a", "b"]})
    experiment = ws.experiments.create("e", dataset=ws.datasets.upload(frame, name="d"), metrics="length")
    (workflow,) = ws.workflows.launch(experiment, "baseline/copy")
    ws.workflows.refresh()
    ws.store.write(f"{layout.answers(workflow.fingerprint)}/{workflow.id}.0-a.jsonl.gz", gzip.compress(b"1\n"))
    ws.experiments.delete("e")
    (folder,) = Cache(ws.database, ws.store).size().folders
    assert (folder.model, folder.answers) == (UNKNOWN, 1)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=8), limit=st.integers(0, 300))
def test_what_stays_is_within_the_limit_and_the_newest(place, sizes, limit) -> None:
    _, store = place
    store.delete("predictions")
    for age, (folder, size) in enumerate(sizes):
        name = f"predictions/{folder:016d}/{uuid.uuid4().hex}.0-a.jsonl.gz"
        store.write(name, b"x" * size)
        moment = time.time() - 3600 * (10 * folder + age + 1)
        os.utime(store.local_path(name), (moment, moment))
    before = {entry.name: entry for entry in store.entries("predictions")}
    trimmed = Cache(*place).trim(limit / 1e9)
    left = store.entries("predictions")
    assert sum(entry.size for entry in left) == trimmed.left <= limit
    gone = [entry for name, entry in before.items() if name not in {each.name for each in left}]
    assert len(gone) == trimmed.n_files
    # Nothing more than needed: with the last that went it would have been too much.
    assert not gone or trimmed.left + max(entry.size for entry in gone) > limit


def test_a_launch_keeps_the_cache_within_its_limit(inline_ws, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(inline_ws.cache, "keep_to_limit", lambda: asked.append(len(inline_ws.workflows.list())))
    dataset = inline_ws.datasets.upload(pd.DataFrame({"example": ["One. Two."]}), name="limited")
    inline_ws.workflows.launch(inline_ws.experiments.create("e", dataset=dataset, metrics="length"), ["baseline/copy"])
    assert asked == [1]
