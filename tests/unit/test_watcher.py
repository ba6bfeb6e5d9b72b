"""Screens hear of changes, whoever makes them; the database is asked once for all of them."""

from __future__ import annotations

import threading

import pandas as pd
import pytest
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb.errors import DatabaseUnavailableError, InvalidInputError
from lumigator_nb.presentation.watcher import Watcher, watcher_of
from lumigator_nb.specs import Status

FRAME = pd.DataFrame({"example": ["One. Two.", "Three."], "ground_truth": ["One.", "Three."]})


@pytest.fixture
def dataset(inline_ws):
    return inline_ws.datasets.upload(FRAME, name="tickets")


@pytest.fixture
def experiment(inline_ws, dataset):
    return inline_ws.experiments.create("short", dataset=dataset, metrics=["rouge"])


def test_the_state_tells_of_every_change(inline_ws, dataset) -> None:
    seen = [inline_ws.state()]

    def differs() -> bool:
        seen.append(inline_ws.state())
        return seen[-1] not in seen[:-1]

    assert inline_ws.state() == seen[0]
    experiment = inline_ws.experiments.create("short", dataset=dataset, metrics=["rouge"])
    assert differs()
    inline_ws.workflows.launch(experiment, models=["baseline/copy"])
    assert differs()
    inline_ws.wait(experiment, progress=False)
    assert differs()
    inline_ws.evaluate(experiment, metrics=["chrf"])
    assert differs()
    inline_ws.wait(experiment, progress=False)
    assert differs()
    inline_ws.experiments.archive(experiment)
    assert differs()
    inline_ws.secrets.set("openai_api_key", "sk-1")
    assert differs()
    inline_ws.secrets.set("openai_api_key", "sk-2")
    assert differs()
    assert "sk-" not in "".join(seen)
    inline_ws.experiments.delete(experiment)
    assert differs()


def test_all_who_subscribe_hear_of_another_ones_change(inline_ws) -> None:
    watcher = Watcher(inline_ws, every=0.02)
    heard = [threading.Event(), threading.Event()]
    ends = [watcher.subscribe(each.set) for each in heard]
    assert all(each.wait(PATIENCE_S) for each in heard), "the first look tells how it is"
    for each in heard:
        each.clear()
    inline_ws.datasets.upload(FRAME, name="new")
    assert all(each.wait(PATIENCE_S) for each in heard)
    for end in ends:
        end()
    thread = watcher._thread
    if thread is not None:
        thread.join(PATIENCE_S)
    assert watcher._thread is None, "nobody looks where nobody wants to know"


def test_a_broken_subscriber_keeps_nothing_from_others(inline_ws) -> None:
    watcher, heard = Watcher(inline_ws, every=0.02), threading.Event()

    def broken() -> None:
        raise RuntimeError("the tab was closed")

    ends = [watcher.subscribe(broken), watcher.subscribe(heard.set)]
    assert heard.wait(PATIENCE_S)
    for end in ends:
        end()


def test_what_is_out_of_reach_is_told_and_forgotten_when_it_is_back(inline_ws, monkeypatch) -> None:
    watcher = Watcher(inline_ws)
    watcher.look()

    def away() -> str:
        raise DatabaseUnavailableError("the database does not answer", "start it")

    pulse = watcher.pulse
    with monkeypatch.context() as patch:
        patch.setattr(inline_ws, "state", away)
        watcher.look()
        watcher.look()
    assert (watcher.problem, watcher.pulse) == ("the database does not answer", pulse + 1)
    watcher.look()
    assert (watcher.problem, watcher.pulse) == (None, pulse + 2)


def test_progress_is_read_once_for_all_between_two_changes(inline_ws, experiment, monkeypatch) -> None:
    inline_ws.workflows.launch(experiment, models=["baseline/copy"])
    watcher = watcher_of(inline_ws)
    assert watcher is watcher_of(inline_ws)
    asked = []
    progress = inline_ws.workflows.progress
    monkeypatch.setattr(inline_ws.workflows, "progress", lambda target: asked.append(target) or progress(target))
    watcher.look()
    rows = [watcher.progress(experiment.id) for _ in range(3)]
    assert len(asked) == 1
    assert rows[0][0].label == "baseline/copy"
    inline_ws.wait(experiment, progress=False)
    watcher.look()
    assert watcher.progress(experiment.id)[0].status is Status.SUCCEEDED


def test_lists_are_searched_ordered_and_counted(inline_ws, dataset, experiment) -> None:
    for name in ("B_100%", "a_100x", "c"):
        inline_ws.datasets.upload(FRAME.head(1), name=name)
        inline_ws.experiments.create(name, dataset=dataset, metrics=["rouge"])

    def names(found) -> list[str]:
        return [each.name for each in found]

    assert names(inline_ws.datasets.list(search=" 100% ")) == ["B_100%"], "% stands for itself"
    assert names(inline_ws.datasets.list(search="b_")) == ["B_100%"]
    assert inline_ws.datasets.count(search="_100") == 2
    assert names(inline_ws.datasets.list(order="size"))[0] == "tickets"
    assert names(inline_ws.experiments.list(order="-name", limit=2)) == ["short", "c"]
    inline_ws.workflows.launch(experiment, models=["baseline/copy", "baseline/lead-1"])
    inline_ws.wait(experiment, progress=False)
    assert names(inline_ws.experiments.list(status=Status.SUCCEEDED)) == ["short"]
    assert inline_ws.experiments.count(status=Status.FAILED) == 0
    assert inline_ws.experiments.count(dataset="tickets") == 4
    assert inline_ws.workflows.counts([experiment, "nobody"]) == {experiment.id: {Status.SUCCEEDED: 2}, "nobody": {}}
    assert len(inline_ws.workflows.list(status=Status.SUCCEEDED)) == inline_ws.workflows.count() == 2
    with pytest.raises(InvalidInputError, match="there is no order 'colour'"):
        inline_ws.datasets.list(order="colour")
    assert isinstance(lm.Status.FAILED, Status)
