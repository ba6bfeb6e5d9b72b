"""Deferred part of a deletion: stop workers, and remove files once the workers have stopped.

The transaction that deletes the rows also records what is left to do, so that it gets done even if the deleting process
is killed. Any process may do it. To do it twice, even at the same time, is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lumigator_nb.cluster import Cluster
from lumigator_nb.cluster.queue import Queue
from lumigator_nb.cluster.states import SUBMISSION_GRACE
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import UnitOfWork, reading, writing
from lumigator_nb.database.records import Dataset, Removal, Workflow
from lumigator_nb.errors import LumigatorError, StoreUnavailableError
from lumigator_nb.specs import Step, now
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

# Whether a submission has ended; None if the cluster does not know it (yet, or any more).
Ended = Callable[[str], bool | None]


def note(work: UnitOfWork, workflows: Sequence[Workflow], datasets: Sequence[Dataset] = ()) -> None:
    """Record what is left to do for workflows and datasets whose rows are deleted in the same transaction."""
    active = [workflow.submission_id for workflow in workflows if not workflow.status.ended]
    work.removals.add(Removal(active=active, names=names_of(workflows, datasets)))


def names_of(workflows: Sequence[Workflow], datasets: Sequence[Dataset]) -> list[str]:
    """Return the files and folders of workflows and datasets, in the order in which to remove them."""
    # API keys first: if this process is killed, they must not be what stays. Datasets after workflows: a dataset
    # without its workflows is still useful, a workflow without its dataset is not.
    return [
        *(layout.sealed_keys(workflow.id) for workflow in workflows),
        *(layout.workflow_folder(workflow.id) for workflow in workflows),
        *(layout.dataset_folder(dataset.id) for dataset in datasets),
        *(layout.ended(workflow.id, step) for workflow in workflows for step in Step),
        *(layout.waiting(workflow.submission_id) for workflow in workflows),
    ]


def remove_files(store: Store, names: Iterable[str]) -> list[str]:
    """Remove files and folders, as many as possible, and return a message for each that could not be removed."""
    problems = []
    for name in names:
        try:
            try:
                store.delete(name)
            except LumigatorError:
                # A worker that had not noticed that it was stopped wrote a file while the folder was being emptied.
                store.delete(name)
        except LumigatorError as error:
            problems.append(f"{name} could not be removed: {error.message}")
    return problems


def finish(database: Database, store: Store, cluster: Cluster, queue: Queue) -> None:
    """Continue all deferred deletions as far as possible now, without waiting for workers to end.

    Raises:
        UnavailableError: a service does not answer; call it again later.
    """
    with reading(database) as work:
        removals = work.removals.list(order="oldest", limit=1000)
    # First those without active workers: they must not fail because the cluster does not answer.
    problems = [_finish(database, store, removal, lambda _: True) for removal in removals if not removal.active]
    waiting = [removal for removal in removals if removal.active]
    if waiting:
        submission_ids = [key for removal in waiting for key in removal.active]
        # Empty the queue before asking the cluster: a workflow that leaves the queue in between is known to the cluster
        # by then, and stopped there.
        queue.remove(queue.ids().intersection(submission_ids))
        ended: dict[str, bool | None] = {}
        for key, state in cluster.statuses(submission_ids).items():
            ended[key] = None if state is None else state.status.ended
            if ended[key] is False:
                cluster.stop(key, wait=False)
        problems += [_finish(database, store, removal, ended.get) for removal in waiting]
    for problem in filter(None, problems):
        raise StoreUnavailableError(problem, "look at the store; the removal is retried later")


def _finish(database: Database, store: Store, removal: Removal, ended: Ended) -> str | None:
    """Remove the files of one deletion if all its workers have ended; return an error message or None."""
    states = [ended(key) for key in removal.active]
    # Another process may be about to submit a workflow that was deleted in the meantime. So a workflow that the cluster
    # does not know counts as ended only after a grace period.
    if False in states or (None in states and now() - removal.created_at < SUBMISSION_GRACE):
        return None
    problems = remove_files(store, removal.names)
    if problems:
        return problems[0]
    with writing(database) as work:
        work.removals.forget(removal.id)
    return None
