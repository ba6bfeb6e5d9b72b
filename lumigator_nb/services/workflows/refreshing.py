"""How workflows stand: one look at the cluster, one at the store, and a transaction for what has changed.

Where some have not begun, that look at the store is two: what lies in the queue waits, although the cluster does not
know it yet.

Whatever their number, the cluster is asked once, and the store is listed once for the steps that have ended
(:func:`lumigator_nb.storage.results.ended_steps`).
Results are read only of workflows of which that list says something new,
and of those that the cluster does not call waiting or at work. So the list makes it quick and nothing depends on it:
what it lacks is found when the cluster says that the worker has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
class Look:
    """What cluster and store said.

    Attributes:
        states: of submissions, by their ids; None where the cluster does not know one.
        reachable: whether the cluster answered at all.
        found: results by the ids of workflows, as far as they were read.
    """

    states: Mapping[str, JobState | None]
    reachable: bool = True
    found: Mapping[str, Results] = field(default_factory=dict)

    def verdict(self, workflow: Workflow) -> Verdict:
        """How a workflow stands by what was seen."""
        state = self.states.get(workflow.submission_id)
        return derive_status(workflow, self.results(workflow), state, reachable=self.reachable, time=now())

    def results(self, workflow: Workflow) -> Results:
        """What was read of a workflow's results."""
        return self.found.get(workflow.id, {})

    def changes(self, workflow: Workflow) -> bool:
        """Whether it is to be recorded: results that are not yet, or another status than is."""
        verdict = self.verdict(workflow)
        recorded = Verdict(workflow.status, workflow.error, workflow.stale)
        return bool(self.results(workflow)) or verdict != recorded


def refresh(
    database: Database, store: Store, cluster: Cluster, queue: Queue, workflows: Sequence[Workflow]
) -> list[Workflow]:
    """Look how workflows stand, record it, and return them as they are recorded now; deleted ones are left out."""
    waiting = [workflow for workflow in workflows if not workflow.status.ended]
    if not waiting:
        return list(workflows)
    seen = _look(database, store, cluster, queue, waiting)
    news = [workflow for workflow in waiting if seen.changes(workflow)]
    if not news:
        return list(workflows)
    current = {workflow.id: workflow for workflow in record(database, news, seen)}
    # Whoever is killed before this leaves a list that is longer than it need be.
    with suppress(StoreUnavailableError):
        results.forget_ended(store, [key for key, each in current.items() if each.status.ended and key in seen.found])
    gone = {workflow.id for workflow in news} - current.keys()
    return [current.get(workflow.id, workflow) for workflow in workflows if workflow.id not in gone]


def record(database: Database, workflows: Sequence[Workflow], seen: Look) -> list[Workflow]:
    """Write down how workflows stand, and return those that are still there as they are recorded now."""
    before = {workflow.id: workflow for workflow in workflows}
    with writing(database) as work:
        current = work.workflows.of_ids(list(before))
        jobs = _by_workflow(work.jobs.of_workflows(list(before)))
        for workflow in current:
            earlier = before[workflow.id]
            # Otherwise somebody resumed or refreshed it meanwhile: what was seen may be older than what is recorded.
            if (workflow.attempt, workflow.status) == (earlier.attempt, earlier.status):
                apply(workflow, jobs[workflow.id], seen.verdict(workflow), seen.results(workflow), now())
    return current


def _look(database: Database, store: Store, cluster: Cluster, queue: Queue, waiting: Sequence[Workflow]) -> Look:
    states, reachable = _ask(cluster, queue, waiting)
    # After the cluster, so that of a worker that it calls ended everything is there.
    news = _news(database, store, {workflow.id for workflow in waiting})
    telling = [each.id for each in waiting if each.id in news or _may_have_ended(each, states, reachable)]
    return Look(states, reachable, results.find_results(store, telling))


def _ask(cluster: Cluster, queue: Queue, workflows: Sequence[Workflow]) -> tuple[Mapping[str, JobState | None], bool]:
    # Before the cluster: what leaves the queue is known to the cluster by then.
    queued = queue.ids() if any(workflow.status in _NOT_BEGUN for workflow in workflows) else set()
    try:
        known = cluster.statuses([workflow.submission_id for workflow in workflows])
    except ClusterUnavailableError:
        return {}, False
    waits = JobState(Status.PENDING)
    return {key: waits if state is None and key in queued else state for key, state in known.items()}, True


def _may_have_ended(workflow: Workflow, states: Mapping[str, JobState | None], reachable: bool) -> bool:
    """Whether its results are worth reading although nothing says that there are new ones."""
    state = states.get(workflow.submission_id)
    # One that is recorded as created may have results of earlier attempts, or have been answered by a function here.
    return workflow.status is Status.CREATED or (reachable and (state is None or state.status not in _AT_WORK))


def _news(database: Database, store: Store, waiting: set[str]) -> set[str]:
    """The ids of those of which a step has ended that is not recorded yet."""
    ended = {(key, step) for key, step in results.ended_steps(store) if key in waiting}
    if not ended:
        return set()
    with reading(database) as work:
        return {key for key, _ in ended - work.jobs.ended({key for key, _ in ended})}


def _by_workflow(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        found[job.workflow_id].append(job)
    return found
