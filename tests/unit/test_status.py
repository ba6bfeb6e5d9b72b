from __future__ import annotations

from datetime import timedelta

import pytest

from lumigator_nb.cluster import JobState, failure_reasons
from lumigator_nb.cluster.states import SUBMISSION_GRACE
from lumigator_nb.database.records import Job, Workflow
from lumigator_nb.services.workflows.status import (
    LOST,
    NEVER_SUBMITTED,
    NO_RESULT,
    Verdict,
    apply,
    derive_status,
)
from lumigator_nb.specs import Model, Status, Step, StepResult, now

TIME = now()


def workflow(status: Status, attempt: int = 1, age: timedelta = timedelta(0)) -> Workflow:
    model = Model("baseline/copy")
    return Workflow(
        experiment_id="e",
        label=model.label,
        fingerprint=model.fingerprint,
        model=model,
        status=status,
        attempt=attempt,
        attempted_at=TIME - age,
    )


def result(step: Step, status: Status = Status.SUCCEEDED, attempt: int = 1) -> StepResult:
    error = "boom" if status is Status.FAILED else None
    return StepResult(step=step, attempt=attempt, status=status, started_at=TIME, finished_at=TIME, error=error)


DONE = {step: result(step) for step in Step}
INFERRED = {Step.INFERENCE: result(Step.INFERENCE)}
FAILED_BEFORE = {Step.INFERENCE: result(Step.INFERENCE, Status.FAILED, attempt=1)}
OLD = 2 * SUBMISSION_GRACE


@pytest.mark.parametrize(
    ("recorded", "results", "ray", "reachable", "expected"),
    [
        pytest.param(workflow(Status.RUNNING), DONE, None, True, (Status.SUCCEEDED, None), id="store wins over Ray"),
        pytest.param(workflow(Status.RUNNING), DONE, None, False, (Status.SUCCEEDED, None), id="even out of reach"),
        pytest.param(
            workflow(Status.RUNNING),
            {Step.INFERENCE: result(Step.INFERENCE, Status.FAILED)},
            JobState(Status.RUNNING),
            True,
            (Status.FAILED, "inference: boom"),
            id="a failed step fails the workflow",
        ),
        pytest.param(
            workflow(Status.RUNNING),
            {Step.INFERENCE: result(Step.INFERENCE, Status.FAILED).model_copy(update={"error": "MemoryError: "})},
            None,
            True,
            (Status.FAILED, f"inference: MemoryError: ; {failure_reasons.remedy('MemoryError')}"),
            id="a failure comes with its remedy",
        ),
        pytest.param(workflow(Status.RUNNING), INFERRED, None, True, (Status.FAILED, LOST), id="lost half-way"),
        pytest.param(workflow(Status.PENDING), {}, None, True, (Status.FAILED, LOST), id="lost before it began"),
        pytest.param(workflow(Status.CREATED), {}, None, True, (Status.CREATED, None), id="being submitted"),
        pytest.param(
            workflow(Status.CREATED, age=OLD), {}, None, True, (Status.FAILED, NEVER_SUBMITTED), id="never submitted"
        ),
        pytest.param(
            workflow(Status.PENDING), {}, JobState(Status.RUNNING), True, (Status.RUNNING, None), id="Ray wins over row"
        ),
        pytest.param(
            workflow(Status.RUNNING), {}, JobState(Status.SUCCEEDED), True, (Status.FAILED, NO_RESULT), id="no result"
        ),
        pytest.param(
            workflow(Status.RUNNING),
            {},
            JobState(Status.FAILED, "signal 9"),
            True,
            (Status.FAILED, f"{NO_RESULT}: signal 9"),
            id="killed",
        ),
        pytest.param(
            workflow(Status.RUNNING),
            {},
            JobState(Status.FAILED, "exit code 1, last available logs (cut):\nTraceback\n  a\nOSError: no space\n"),
            True,
            (Status.FAILED, f"{NO_RESULT}: exit code 1; last line: OSError: no space"),
            id="failed with a log",
        ),
        pytest.param(
            workflow(Status.RUNNING), {}, JobState(Status.STOPPED), True, (Status.STOPPED, None), id="stopped"
        ),
        pytest.param(
            workflow(Status.CREATED, attempt=2),
            FAILED_BEFORE,
            JobState(Status.PENDING),
            True,
            (Status.PENDING, None),
            id="the failure of an earlier attempt is past",
        ),
        pytest.param(workflow(Status.STOPPED), {}, None, True, (Status.STOPPED, None), id="ended stays ended"),
    ],
)
def test_status_is_derived(recorded, results, ray, reachable, expected) -> None:
    verdict = derive_status(recorded, results, ray, reachable=reachable, time=TIME)
    assert (verdict.status, verdict.error) == expected
    assert not verdict.stale


def test_an_unreachable_cluster_leaves_the_last_status_marked_stale() -> None:
    verdict = derive_status(workflow(Status.RUNNING), INFERRED, None, reachable=False, time=TIME)
    assert (verdict.status, verdict.stale) == (Status.RUNNING, True)


def test_jobs_after_the_failed_one_never_began() -> None:
    recorded = workflow(Status.RUNNING)
    jobs = [Job(workflow_id=recorded.id, step=step) for step in Step]
    verdict = derive_status(recorded, {}, None, reachable=True, time=TIME)
    apply(recorded, jobs, verdict, {}, TIME)
    # Ended, or whoever waits for the second one waits for ever.
    assert [(job.status, job.error) for job in jobs] == [
        (Status.FAILED, LOST), (Status.FAILED, f"the inference failed: {LOST}"),
    ]  # fmt: skip
    assert recorded.finished_at == TIME


def test_jobs_after_one_that_was_stopped_are_stopped_too() -> None:
    recorded = workflow(Status.RUNNING)
    jobs = [Job(workflow_id=recorded.id, step=step) for step in Step]
    apply(recorded, jobs, Verdict(Status.STOPPED), {}, TIME)
    assert [(job.status, job.error) for job in jobs] == [
        (Status.STOPPED, None), (Status.STOPPED, "the inference was stopped"),
    ]  # fmt: skip


def test_the_work_of_an_earlier_attempt_still_counts() -> None:
    recorded = workflow(Status.RUNNING, attempt=2)
    jobs = [Job(workflow_id=recorded.id, step=step) for step in Step]
    verdict = derive_status(recorded, INFERRED, JobState(Status.RUNNING), reachable=True, time=TIME)
    apply(recorded, jobs, verdict, INFERRED, TIME)
    assert [job.status for job in jobs] == [Status.SUCCEEDED, Status.RUNNING]
