"""Refreshing the status of workflows: ask the cluster once, list the store once, and record changes in one transaction.

If some have not begun, the queue in the store is listed too: the cluster does not know yet what is queued.

The number of requests does not grow with the number of workflows. One listing of the store says which steps have ended
(:func:`lumigator_nb.storage.results.ended_steps`). Results are read only for the workflows for which it says something
new, and for those that the cluster does not report as pending or running. So the listing only saves time: what it
lacks is found when the cluster reports that the worker has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lumigator_nb.cluster import Cluster, JobState
from lumigator_nb.cluster.queue import Queue
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Job, Workflow
from lumigator_nb.errors import ClusterUnavailableError, StoreUnavailableError
from lumigator_nb.services.workflows.status import Results, Verdict, apply, derive_status
from lumigator_nb.specs import Status, now
from lumigator_nb.storage import results
from lumigator_nb.storage.store import Store

_AT_WORK = (Status.PENDING, Status.RUNNING)
_NOT_BEGUN = (Status.CREATED, Status.PENDING)


@dataclass(frozen=True)
class Snapshot:
    """What cluster and store reported.

    Attributes:
        states: of Ray jobs, by submission id; None if the cluster does not know one.
        reachable: whether the cluster answered at all.
        found: the results that were read, by the ids of workflows.
    """

    states: Mapping[str, JobState | None]
    reachable: bool = True
    found: Mapping[str, Results] = field(default_factory=dict)

    def verdict(self, workflow: Workflow) -> Verdict:
        """Return the status of a workflow according to the snapshot."""
        state = self.states.get(workflow.submission_id)
        return derive_status(workflow, self.results(workflow), state, reachable=self.reachable, time=now())

    def results(self, workflow: Workflow) -> Results:
        """Return the results of a workflow that were read."""
        return self.found.get(workflow.id, {})

    def changes(self, workflow: Workflow) -> bool:
        """Return whether the snapshot differs from the record: in the status, or by results."""
        verdict = self.verdict(workflow)
        recorded = Verdict(workflow.status, workflow.error, workflow.stale)
        return bool(self.results(workflow)) or verdict != recorded


def refresh(
    database: Database, store: Store, cluster: Cluster, queue: Queue, workflows: Sequence[Workflow]
) -> list[Workflow]:
    """Record the status of workflows, and return them as they are recorded now, without those deleted meanwhile."""
    unfinished = [workflow for workflow in workflows if not workflow.status.ended]
    if not unfinished:
        return list(workflows)
    snapshot = _take_snapshot(database, store, cluster, queue, unfinished)
    changed = [workflow for workflow in unfinished if snapshot.changes(workflow)]
    if not changed:
        return list(workflows)
    current = {workflow.id: workflow for workflow in record(database, changed, snapshot)}
    # If the process is killed before this, the listing stays longer than necessary, which does no harm.
    with suppress(StoreUnavailableError):
        ended = [key for key, workflow in current.items() if workflow.status.ended and key in snapshot.found]
        results.forget_ended(store, ended)
    deleted = {workflow.id for workflow in changed} - current.keys()
    return [current.get(workflow.id, workflow) for workflow in workflows if workflow.id not in deleted]


def record(database: Database, workflows: Sequence[Workflow], snapshot: Snapshot) -> list[Workflow]:
    """Record the status of workflows, and return those that still exist as they are recorded now."""
    before = {workflow.id: workflow for workflow in workflows}
    with writing(database) as work:
        current = work.workflows.of_ids(list(before))
        jobs: dict[str, list[Job]] = defaultdict(list)
        for job in work.jobs.of_workflows(list(before)):
            jobs[job.workflow_id].append(job)
        for workflow in current:
            earlier = before[workflow.id]
            # Otherwise it was resumed or refreshed meanwhile, and the snapshot may be older than the record.
            if (workflow.attempt, workflow.status) == (earlier.attempt, earlier.status):
                apply(workflow, jobs[workflow.id], snapshot.verdict(workflow), snapshot.results(workflow), now())
    return current


def _take_snapshot(
    database: Database, store: Store, cluster: Cluster, queue: Queue, unfinished: Sequence[Workflow]
) -> Snapshot:
    # The order matters. The queue before the cluster: the cluster knows by then what leaves the queue meanwhile.
    queued = queue.ids() if any(workflow.status in _NOT_BEGUN for workflow in unfinished) else set()
    try:
        states, reachable = cluster.statuses([workflow.submission_id for workflow in unfinished]), True
    except ClusterUnavailableError:
        states, reachable = {}, False
    pending = JobState(Status.PENDING)
    states = {key: pending if state is None and key in queued else state for key, state in states.items()}
    # The store after the cluster: everything of a worker that the cluster reports as ended is there.
    ended_now = _newly_ended(database, store, {workflow.id for workflow in unfinished})
    worth_reading = [
        workflow.id
        for workflow in unfinished
        if workflow.id in ended_now or _may_have_ended(workflow, states.get(workflow.submission_id), reachable)
    ]
    return Snapshot(states, reachable, results.find_results(store, worth_reading))


def _may_have_ended(workflow: Workflow, state: JobState | None, reachable: bool) -> bool:
    """Return whether the results are worth reading although the listing says nothing new."""
    # A created workflow may have results of earlier attempts, or have been answered by a function in this process.
    return workflow.status is Status.CREATED or (reachable and (state is None or state.status not in _AT_WORK))


def _newly_ended(database: Database, store: Store, unfinished: set[str]) -> set[str]:
    """Return the ids of the workflows of which a step has ended that is not recorded yet."""
    ended = {(key, step) for key, step in results.ended_steps(store) if key in unfinished}
    if not ended:
        return set()
    with reading(database) as work:
        return {key for key, _ in ended - work.jobs.ended({key for key, _ in ended})}
