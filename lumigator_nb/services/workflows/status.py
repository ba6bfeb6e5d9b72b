"""Deriving the status of a workflow from what store and cluster report. Pure functions, which ask no service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lumigator_nb.cluster import JobState, failure_reasons
from lumigator_nb.cluster.states import SUBMISSION_GRACE
from lumigator_nb.database.records import Job, Workflow
from lumigator_nb.specs import Status, Step, StepResult

# Ray forgets all Ray jobs when its head restarts.
LOST = "the cluster does not know this workflow any more (it was restarted, or the workflow was killed with it)"
NEVER_SUBMITTED = "the process that launched it ended before submitting it to the cluster"
NO_RESULT = "the worker ended without a result"


@dataclass(frozen=True)
class Verdict:
    """A workflow's status, with the reason if it failed; `stale` if the cluster could not be asked."""

    status: Status
    error: str | None = None
    stale: bool = False


Results = Mapping[Step, StepResult]


def derive_status(
    workflow: Workflow, results: Results, ray: JobState | None, *, reachable: bool, time: datetime
) -> Verdict:
    """Return the status: the store decides first, then the cluster, then what was recorded before.

    Args:
        results: of the steps that ended, in any attempt.
        ray: the state of the Ray job; None if the cluster does not know it. It must be asked *before* the results are
            read: otherwise a worker that ends in between seems to have left no result.
        reachable: whether the cluster answered at all.
        time: now.
    """
    current = [result for result in results.values() if result.attempt == workflow.attempt]
    failed = next((result for result in current if result.status is Status.FAILED), None)
    if failed is not None:
        remedy = failure_reasons.remedy(failed.error or "")
        return Verdict(Status.FAILED, f"{failed.step}: {failed.error}{f'; {remedy}' if remedy else ''}")
    stopped = next((result for result in current if result.status is Status.STOPPED), None)
    if stopped is not None:
        return Verdict(Status.STOPPED, stopped.error)
    if all(step in results and results[step].status is Status.SUCCEEDED for step in Step):
        return Verdict(Status.SUCCEEDED)
    if workflow.status.ended:
        return Verdict(workflow.status, workflow.error)
    if not reachable:
        return Verdict(workflow.status, workflow.error, stale=True)
    if ray is None and workflow.status is not Status.CREATED:
        return Verdict(Status.FAILED, LOST)
    if ray is None:
        # The launching process may be about to submit it.
        is_recent = time - workflow.attempted_at < SUBMISSION_GRACE
        return Verdict(Status.CREATED) if is_recent else Verdict(Status.FAILED, NEVER_SUBMITTED)
    if ray.status is Status.SUCCEEDED:
        return Verdict(Status.FAILED, NO_RESULT)
    if ray.status is Status.FAILED:
        why = failure_reasons.reason(ray)
        return Verdict(Status.FAILED, f"{NO_RESULT}: {why}" if why else NO_RESULT)
    return Verdict(ray.status)


def apply(workflow: Workflow, jobs: list[Job], verdict: Verdict, results: Results, time: datetime) -> None:
    """Write a verdict and the results of the steps into the records."""
    if verdict.status.ended and not workflow.status.ended:
        workflow.finished_at = max((result.finished_at for result in results.values()), default=time)
    workflow.status, workflow.error, workflow.stale = verdict.status, verdict.error, verdict.stale
    before: Job | None = None
    for job in sorted(jobs, key=lambda job: list(Step).index(job.step)):
        result = results.get(job.step)
        if result is not None and (result.attempt == workflow.attempt or result.status is Status.SUCCEEDED):
            _copy_result(job, result)
        elif verdict.status.ended:
            # A step that never began ends too: a client may wait for this job alone.
            job.status, job.error = verdict.status, _blame(before) if before else verdict.error
        elif not job.status.ended:
            # A job that ended while the workflow goes on was recorded earlier; its result is not read again.
            job.status = Status.CREATED if before else verdict.status
            job.error = None if before else verdict.error
        before = before or (job if job.status is not Status.SUCCEEDED else None)


def _blame(before: Job) -> str:
    """Return why a job never began: the one before it did not succeed."""
    end = "was stopped" if before.status is Status.STOPPED else "failed"
    return f"the {before.step} {end}" + (f": {before.error}" if before.error else "")


def _copy_result(job: Job, result: StepResult) -> None:
    job.status = Status(result.status)
    job.error = result.error
    job.n_examples, job.n_failed = result.n_examples, result.n_failed
    job.scores, job.details = dict(result.scores), dict(result.details)
    job.started_at, job.finished_at = result.started_at, result.finished_at
