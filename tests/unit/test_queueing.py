"""Whose turn it is, and that what waits in the store is neither lost nor begun twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumigator_nb.cluster import JobState
from lumigator_nb.cluster.dispatcher import Dispatcher, under_way
from lumigator_nb.cluster.queue import Queue, Waiting, in_turn
from lumigator_nb.errors import ClusterUnavailableError
from lumigator_nb.services.workflows.dispatching import Dispatching
from lumigator_nb.specs import Model, Status, StoreSpec, now
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

TIME = now()
LIMIT = 2


def entry(name: str, experiment: str = "a", priority: int = 0, at: int = 0) -> Waiting:
    job = {"submission_id": name, "metadata": {"experiment": experiment}, "runtime_env": {"py_modules": []}}
    since = TIME + timedelta(seconds=at)
    return Waiting(submission_id=name, experiment_id=experiment, priority=priority, since=since, job=job)


@pytest.mark.parametrize(
    ("waiting", "at_work", "expected"),
    [
        pytest.param([("x", "a", 0, 1), ("y", "a", 0, 0)], {}, "yx", id="first come"),
        pytest.param([("x", "a", 0, 0), ("y", "a", 5, 1)], {}, "yx", id="priority first"),
        pytest.param([("x", "a", -1, 0), ("y", "a", 0, 1)], {}, "yx", id="others before the patient"),
        pytest.param([("x", "a", 0, 0), ("y", "b", 0, 1)], {"a": 1}, "yx", id="fewest at work"),
        pytest.param(
            [("1", "a", 0, 0), ("2", "a", 0, 0), ("3", "a", 0, 0), ("4", "b", 0, 9)], {}, "1423", id="turns"
        ),
        pytest.param([("x", "a", 1, 0), ("y", "b", 0, 0), ("z", "a", 0, 0)], {}, "xyz", id="the urgent count, too"),
        pytest.param([("y", "a", 0, 0), ("x", "a", 0, 0)], {}, "xy", id="at the same time by name"),
    ],
)  # fmt: skip
def test_turns(waiting, at_work, expected) -> None:
    found = in_turn([entry(*each) for each in waiting], at_work)
    assert "".join(each.submission_id for each in found) == expected


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 5)), max_size=25))
def test_everybody_has_a_turn_and_no_experiment_gets_ahead(rows) -> None:
    waiting = [entry(str(number), *row) for number, row in enumerate(rows)]
    found = list(in_turn(waiting, {}))
    assert sorted(each.submission_id for each in found) == sorted(each.submission_id for each in waiting)
    assert [each.priority for each in found] == sorted((each.priority for each in waiting), reverse=True)
    begun: Counter[str] = Counter()
    for place, each in enumerate(found):
        rivals = {other.experiment_id for other in found[place:] if other.priority == each.priority}
        assert begun[each.experiment_id] == min(begun[rival] for rival in rivals)
        begun[each.experiment_id] += 1


@pytest.fixture
def ws(inline_ws, cluster, monkeypatch):
    """A workspace that lets two workflows to the cluster, where we play the workers."""
    cluster.execute = False
    workflows = inline_ws.workflows
    made = Dispatching(inline_ws.database, inline_ws.store, cluster, LIMIT)
    monkeypatch.setattr(workflows, "_dispatching", made)
    monkeypatch.setattr(workflows.submitter, "dispatching", made)
    return inline_ws


@pytest.fixture
def experiment(ws):
    dataset = ws.datasets.upload(pd.DataFrame({"example": ["It rains. It pours.", "It snows."]}), name="d")
    return ws.experiments.create("e", dataset=dataset, metrics="length")


def launched(ws, experiment, count: int = 5, **options):
    return ws.workflows.launch(
        experiment, [Model("baseline/lead-1", label=f"m{n}", seed=n) for n in range(count)], **options
    )


def workflows_of(cluster) -> list[str]:
    return [name for name, job in cluster.states.items() if "experiment" in job.metadata]


def dispatchers(cluster) -> list[str]:
    return [name for name in cluster.states if name.startswith("lumigator-dispatcher-")]


def dispatcher(ws, cluster) -> Dispatcher:
    return Dispatcher(Queue(ws.store), cluster, dispatchers(cluster)[-1], LIMIT, "gcs://package.zip")


def end(cluster, *names: str, status: Status = Status.FAILED) -> None:
    cluster.states |= {name: JobState(status, metadata=cluster.states[name].metadata) for name in names}


def test_what_is_beyond_the_limit_waits_and_nothing_is_lost(ws, cluster, experiment) -> None:
    found = launched(ws, experiment)
    assert [each.status for each in found] == [Status.PENDING] * 5
    assert workflows_of(cluster) == [each.id for each in found[:LIMIT]]
    assert len(dispatchers(cluster)) == 1
    assert [each.status for each in ws.workflows.refresh()] == [Status.PENDING] * 5
    notes = [row.note for row in ws.workflows.progress(found)]
    assert notes == ["", "", "queued, next in turn", *(f"queued, {n} before it" for n in (1, 2))]
    launched(ws, experiment)
    assert (len(workflows_of(cluster)), len(dispatchers(cluster))) == (LIMIT, 1), "again is safe"


def test_no_dispatcher_where_there_is_room(ws, cluster, experiment) -> None:
    launched(ws, experiment, LIMIT)
    ws.workflows.refresh()
    assert (dispatchers(cluster), ws.store.list(layout.QUEUE)) == ([], [])


def test_who_has_ended_unseen_makes_room(ws, cluster, experiment) -> None:
    end(cluster, *(each.id for each in launched(ws, experiment, LIMIT)))
    launched(ws, experiment, 2 * LIMIT)
    assert len(workflows_of(cluster)) == 2 * LIMIT


def test_the_dispatcher_keeps_as_many_at_work_as_there_may_be(ws, cluster, experiment) -> None:
    found = launched(ws, experiment)
    work = dispatcher(ws, cluster)
    assert work.turn()
    assert len(workflows_of(cluster)) == LIMIT
    end(cluster, found[0].id)
    urgent = ws.workflows.launch(experiment, Model("baseline/copy"), priority=1)[0]
    assert urgent.id not in cluster.states, "those that wait are not overtaken by who comes when there is room"
    work.turn()
    assert workflows_of(cluster)[LIMIT:] == [urgent.id]
    while ws.store.list(layout.QUEUE):
        end(cluster, *(name for name, job in cluster.states.items() if job.status is Status.PENDING))
        work.turn()
        assert under_way(cluster).total() <= LIMIT
    assert len(workflows_of(cluster)) == 6
    assert not work.turn()


def test_a_dispatcher_killed_half_way_through_does_no_harm(ws, cluster, experiment) -> None:
    found = launched(ws, experiment)
    cluster.post([each.job for each in Queue(ws.store).waiting() if each.submission_id == found[2].id])
    assert ws.workflows.refresh(found[2])[0].status is Status.PENDING
    end(cluster, found[0].id, found[1].id, found[2].id)
    dispatcher(ws, cluster).turn()
    assert cluster.states[found[2].id].status is Status.FAILED, "it was not begun again"
    assert len(workflows_of(cluster)) == 4, "its place in this turn is lost, and nothing else"


def test_another_dispatcher_follows_where_one_was_killed_or_ends(ws, cluster, experiment) -> None:
    launched(ws, experiment)
    (first,) = dispatchers(cluster)
    dispatching = ws.workflows.submitter.dispatching
    dispatching.ensure()
    assert dispatchers(cluster) == [first]
    end(cluster, first)
    ws.workflows.refresh()
    second = dispatchers(cluster)[-1]
    assert second != first
    # It found nothing to do just before; whether it still looks nobody knows.
    ws.store.write(layout.ending(second), b"")
    dispatching.ensure()
    assert len(dispatchers(cluster)) == 3


def test_an_end_is_withdrawn_where_something_has_come(tmp_path) -> None:
    queue = Queue(Store(StoreSpec(uri=tmp_path.as_uri())))
    assert queue.announce_end("d")
    queue.put([entry("x"), entry("y")])
    assert queue.ending() == {"d"}
    assert not queue.announce_end("d")
    assert queue.ending() == set()
    queue.remove(["x"])
    assert [each.submission_id for each in queue.waiting()] == ["y"]


def test_a_head_that_was_restarted_gets_the_package_anew(ws, cluster, experiment) -> None:
    found = launched(ws, experiment)
    queue = Queue(ws.store)
    old = [
        each.model_copy(update={"job": {**each.job, "runtime_env": {"py_modules": ["gcs://old"]}}})
        for each in queue.waiting()
    ]
    queue.put(old)
    cluster.states.clear()
    posted = []
    cluster.post = posted.extend
    ws.workflows.submitter.dispatching.ensure()
    Dispatcher(queue, cluster, "d", LIMIT, "gcs://package.zip").turn()
    assert [job["submission_id"] for job in posted] == [each.id for each in found[2:4]]
    assert {uri for job in posted for uri in job["runtime_env"]["py_modules"]} == {"gcs://package.zip"}


def test_who_waits_can_be_stopped_resumed_and_deleted(ws, cluster, experiment) -> None:
    found = launched(ws, experiment)
    stopped = ws.workflows.stop(found[1:])
    assert [each.status for each in stopped] == [Status.STOPPED] * 4
    assert ws.store.list(layout.QUEUE) == []
    (again,) = ws.workflows.resume(found[3])
    assert again.submission_id in cluster.states, "there is room"
    launched(ws, experiment)
    assert len(ws.store.list(layout.QUEUE)) == 3
    ws.experiments.delete(experiment, stop=True)
    assert ws.store.list(layout.QUEUE) == []


def test_stopping_changes_nothing_where_the_cluster_is_out_of_reach(ws, cluster, experiment) -> None:
    found = launched(ws, experiment)
    cluster.reachable = False
    with pytest.raises(ClusterUnavailableError):
        ws.workflows.stop(found)
    assert len(ws.store.list(layout.QUEUE)) == 3
