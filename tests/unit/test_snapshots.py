"""Looking at many workflows is one look at the cluster and one at the store, and sees all that there is."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pandas as pd
import pytest

from lumigator_nb.cluster import JobState
from lumigator_nb.services.upkeep import garbage
from lumigator_nb.services.workflows import snapshots
from lumigator_nb.specs import Model, Progress, Status, Step
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

FRAME = pd.DataFrame({"example": ["It rains. It pours.", "It snows."], "ground_truth": ["Rain.", "Snow."]})
MANY = 12


@pytest.fixture
def ws(inline_ws):
    return inline_ws


@pytest.fixture
def experiment(ws):
    return ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")


@pytest.fixture
def asked(monkeypatch) -> Counter[str]:
    """How often the store was asked for what."""
    counted: Counter[str] = Counter()
    for name in ("read", "list"):
        method = getattr(Store, name)
        monkeypatch.setattr(
            Store, name, lambda *given, name=name, method=method: (counted.update([name]), method(*given))[1]
        )
    return counted


def at_work(ws, cluster, experiment, count: int = 1):
    """Workflows that the cluster calls running, and whose workers are ours to play."""
    cluster.execute = False
    models = [Model("baseline/lead-1", label=f"m{n}", seed=n) for n in range(count)]
    workflows = ws.workflows.launch(experiment, models)
    cluster.states |= {workflow.id: JobState(Status.RUNNING) for workflow in workflows}
    return ws.workflows.refresh(workflows)


def ends(ws, workflow, *steps: Step) -> None:
    """Do what a worker does."""
    from lumigator_nb.engine import steps as steps_of

    for step in steps:
        steps_of.execute(step, results.read_spec(ws.store, workflow.id), ws.store)


def test_many_at_work_are_one_look_and_no_write(ws, cluster, experiment, asked, monkeypatch) -> None:
    workflows = at_work(ws, cluster, experiment, MANY)
    asked.clear()
    monkeypatch.setattr(snapshots, "writing", None)
    assert [each.status for each in ws.workflows.refresh(workflows)] == [Status.RUNNING] * MANY
    assert asked == {"list": 1}


def test_only_what_is_new_is_read(ws, cluster, experiment, asked) -> None:
    workflows = at_work(ws, cluster, experiment, MANY)
    ends(ws, workflows[3], Step.INFERENCE)
    asked.clear()
    ws.workflows.refresh(workflows)
    assert asked["read"] == len(Step)
    assert [job.status for job in ws.workflows.jobs(workflows[3])] == [Status.SUCCEEDED, Status.RUNNING]
    asked.clear()
    ws.workflows.refresh(workflows)
    assert asked["read"] == 0, "it is recorded"
    (inference, _) = ws.workflows.jobs(workflows[3])
    assert (inference.status, inference.n_examples) == (Status.SUCCEEDED, 2), "and stays so"


def test_the_end_is_seen_before_the_cluster_says_so(ws, cluster, experiment) -> None:
    (workflow,) = at_work(ws, cluster, experiment)
    ends(ws, workflow, *Step)
    assert ws.store.list(layout.ENDED) == [layout.ended(workflow.id, step) for step in sorted(Step)]
    assert ws.workflows.refresh()[0].status is Status.SUCCEEDED
    assert ws.store.list(layout.ENDED) == []


@pytest.mark.parametrize("state", [JobState(Status.SUCCEEDED), None], ids=["ended", "forgotten"])
def test_the_end_is_seen_without_a_notice(ws, cluster, experiment, state) -> None:
    """The worker was killed between result and notice, or is of a version that leaves none."""
    (workflow,) = at_work(ws, cluster, experiment)
    ends(ws, workflow, *Step)
    results.forget_ended(ws.store, [workflow.id])
    assert ws.workflows.refresh(workflow)[0].status is Status.RUNNING
    cluster.states |= {workflow.id: state} if state else {}
    cluster.states = cluster.states if state else {}
    assert ws.workflows.refresh(workflow)[0].status is Status.SUCCEEDED


def test_the_end_is_seen_while_the_cluster_is_out_of_reach(ws, cluster, experiment) -> None:
    done, busy = at_work(ws, cluster, experiment, 2)
    ends(ws, done, *Step)
    cluster.reachable = False
    found = ws.workflows.refresh([done, busy])
    assert [(each.status, each.stale) for each in found] == [(Status.SUCCEEDED, False), (Status.RUNNING, True)]


def test_what_an_earlier_attempt_answered_counts_from_the_start(ws, cluster, experiment) -> None:
    (workflow,) = at_work(ws, cluster, experiment)
    ends(ws, workflow, Step.INFERENCE)
    cluster.states[workflow.id] = JobState(Status.FAILED, "killed")
    ws.workflows.refresh(workflow)
    (again,) = ws.workflows.resume(workflow)
    assert again.status is Status.PENDING
    assert [job.status for job in ws.workflows.jobs(again)] == [Status.SUCCEEDED, Status.PENDING]
    cluster.states[again.submission_id] = JobState(Status.RUNNING)
    ws.workflows.refresh(again)
    assert [job.status for job in ws.workflows.jobs(again)] == [Status.SUCCEEDED, Status.RUNNING]


def test_a_notice_of_an_earlier_attempt_says_nothing_of_this_one(ws, cluster, experiment) -> None:
    (workflow,) = at_work(ws, cluster, experiment)
    cluster.states[workflow.id] = JobState(Status.FAILED, "killed")
    ws.workflows.refresh(workflow)
    ends(ws, workflow, Step.INFERENCE)  # it was thought dead
    (again,) = ws.workflows.resume(workflow)
    cluster.states[again.submission_id] = JobState(Status.RUNNING)
    assert ws.workflows.refresh(again)[0].status is Status.RUNNING


def test_progress_is_that_of_the_step_under_way(ws, cluster, experiment) -> None:
    waiting, answering, scoring, ended = at_work(ws, cluster, experiment, 4)
    cluster.states[waiting.id] = JobState(Status.PENDING)
    ends(ws, scoring, *Step)
    results.ProgressWriter(ws.store, results.read_spec(ws.store, answering.id), Step.INFERENCE).begin(1)
    results.ProgressWriter(ws.store, results.read_spec(ws.store, scoring.id), Step.EVALUATION).begin(0)
    rows = ws.workflows.progress([waiting, answering, scoring, ended])
    assert [(row.step, row.done) for row in rows] == [
        (None, 0), (Step.INFERENCE, 1), (Step.EVALUATION, 0), (None, 0)
    ]  # fmt: skip


def test_what_was_there_before_the_model_was_loaded_says_nothing_of_its_rate(ws, cluster, experiment) -> None:
    (workflow,) = at_work(ws, cluster, experiment)
    told: list[Progress] = []
    spec = results.read_spec(ws.store, workflow.id)
    progress = results.ProgressWriter(ws.store, spec, Step.INFERENCE, told.append)
    progress.begin(0)
    progress.advance(1)
    progress.begin(1)  # the model is loaded
    assert (told[-1].done, told[-1].first_at) == (1, None)
    progress.advance(1)
    assert (told[-1].done, told[-1].first_done) == (2, 2)
    assert told[-1].started_at <= told[-1].first_at <= told[-1].updated_at
    assert told[-1].rate is None, "one example is none to measure"


def test_notices_that_nobody_records_are_collected(ws, cluster, experiment) -> None:
    """A worker wrote one after its workflow was recorded, and another's workflow is still at work."""
    ended, busy = at_work(ws, cluster, experiment, 2)
    ends(ws, ended, *Step)
    ws.workflows.refresh([ended])
    late, wanted = layout.ended(ended.id, Step.EVALUATION), layout.ended(busy.id, Step.INFERENCE)
    ws.store.write(late, b"")
    ws.store.write(wanted, b"")
    found = garbage.collect(ws.database, ws.store, timedelta(0))
    assert [(orphan.kind, orphan.name) for orphan in found.orphans] == [("note of an ended workflow", late)]
    assert ws.store.list(layout.ENDED) == [wanted]
    ws.experiments.delete(experiment, stop=True)
    assert ws.store.list(layout.ENDED) == []
