"""What the store and the cluster say about a workflow, turned into its status. Pure functions, no service is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lumigator_nb.cluster import JobState, failure_reasons
from lumigator_nb.cluster.states import SUBMISSION_GRACE
from lumigator_nb.database.records import Job, Workflow
from lumigator_nb.specs import Status, Step, StepResult

LOST = "the cluster does not know this workflow any more (it was restarted, or the workflow was killed with it)"
NEVER_SUBMITTED = "the process that launched it ended before handing it to the cluster"
NO_RESULT = "the worker ended without a result"


@dataclass(frozen=True)
class Verdict:
    """A workflow's status, and why it failed where it did; `stale` where the cluster could not be asked."""

    status: Status
    error: str | None = None
    stale: bool = False


Results = Mapping[Step, StepResult]


def derive_status(
    workflow: Workflow, results: Results, ray: JobState | None, *, reachable: bool, time: datetime
) -> Verdict:
    """Decide by the store first, the cluster second, and what was recorded last.

    Args:
        results: of the steps that ended, whatever the attempt.
        ray: what the cluster says; None where it does not know the workflow. Must have been asked *before* the
            results were read, or a worker that ends in between looks as if it left none.
        reachable: whether the cluster answered at all.
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
    if ray is None:
        return _unknown_to_ray(workflow, time)
    if ray.status is Status.SUCCEEDED:
        return Verdict(Status.FAILED, NO_RESULT)
    if ray.status is Status.FAILED:
        why = failure_reasons.reason(ray)
        return Verdict(Status.FAILED, f"{NO_RESULT}: {why}" if why else NO_RESULT)
    return Verdict(ray.status)


def _unknown_to_ray(workflow: Workflow, time: datetime) -> Verdict:
    if workflow.status is not Status.CREATED:
        return Verdict(Status.FAILED, LOST)
    if time - workflow.attempted_at < SUBMISSION_GRACE:
        return Verdict(Status.CREATED)
    return Verdict(Status.FAILED, NEVER_SUBMITTED)


def apply(workflow: Workflow, jobs: list[Job], verdict: Verdict, results: Results, time: datetime) -> None:
    """Write a verdict and the steps' results into the records."""
    if verdict.status.ended and not workflow.status.ended:
        workflow.finished_at = max((result.finished_at for result in results.values()), default=time)
    workflow.status, workflow.error, workflow.stale = verdict.status, verdict.error, verdict.stale
    before: Job | None = None
    for job in sorted(jobs, key=lambda job: list(Step).index(job.step)):
        result = results.get(job.step)
        if result is not None and (result.attempt == workflow.attempt or result.status is Status.SUCCEEDED):
            _copy_result(job, result)
        elif verdict.status.ended:
            # Also where it never began: somebody may wait for the end of this job alone.
            job.status, job.error = verdict.status, _blamed(before) if before else verdict.error
        elif not job.status.ended:
            # One that has ended while the workflow goes on was recorded earlier, and its result not read again.
            job.status = Status.CREATED if before else verdict.status
            job.error = None if before else verdict.error
        before = before or (job if job.status is not Status.SUCCEEDED else None)


def _blamed(before: Job) -> str:
    """Why a job never began."""
    said = "was stopped" if before.status is Status.STOPPED else "failed"
    return f"the {before.step} {said}" + (f": {before.error}" if before.error else "")


def _copy_result(job: Job, result: StepResult) -> None:
    job.status = Status(result.status)
    job.error = result.error
    job.n_examples, job.n_failed = result.n_examples, result.n_failed
    job.scores, job.details = dict(result.scores), dict(result.details)
    job.started_at, job.finished_at = result.started_at, result.finished_at
