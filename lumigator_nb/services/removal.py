"""What deletions leave to be done once their rows are gone: ending workers, and removing files when they have ended.

It is noted in the database together with the deletion, so that it is done whatever becomes of the process that deleted,
and by whichever comes first. Doing it twice, also at the same time, does no harm.
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

# Says how far a submission is: True has ended, False has not, None is not known (any more, or not yet).
Ended = Callable[[str], bool | None]


def note(work: UnitOfWork, workflows: Sequence[Workflow], datasets: Sequence[Dataset] = ()) -> None:
    """Note what is to be done of workflows and datasets whose rows go in the same transaction."""
    active = [each.submission_id for each in workflows if not each.status.ended]
    work.removals.add(Removal(active=active, names=names_of(workflows, datasets)))


def names_of(workflows: Sequence[Workflow], datasets: Sequence[Dataset]) -> list[str]:
    """Return the files and folders of workflows and datasets, in the order in which they go."""
    # API keys first: should this process be killed, they are not what stays. Datasets after the workflows, which are
    # worth less without them than they without those.
    return [
        *(layout.sealed_keys(each.id) for each in workflows),
        *(layout.workflow_folder(each.id) for each in workflows),
        *(layout.dataset_folder(each.id) for each in datasets),
        *(layout.ended(each.id, step) for each in workflows for step in Step),
        *(layout.waiting(each.submission_id) for each in workflows),
    ]


def remove_files(store: Store, names: Iterable[str]) -> list[str]:
    """Remove what no row points to any more, and return what could not be; that keeps the rest from nothing."""
    problems = []
    for name in names:
        try:
            _remove(store, name)
        except LumigatorError as error:
            problems.append(f"{name} could not be removed: {error.message}")
    return problems


def _remove(store: Store, name: str) -> None:
    try:
        store.delete(name)
    except LumigatorError:
        # A worker that has not noticed its end yet wrote another file while the folder was being emptied.
        store.delete(name)


def finish(database: Database, store: Store, cluster: Cluster, queue: Queue) -> None:
    """Do of all deletions what can be done now, without waiting for any worker to end.

    Raises:
        UnavailableError: a service does not answer; it is to be done again.
    """
    with reading(database) as work:
        left = work.removals.list(order="oldest", limit=1000)
    # Those that need no cluster wait for none.
    problems = [_finish(database, store, each, lambda _: True) for each in left if not each.active]
    waiting = [each for each in left if each.active]
    if waiting:
        ended = _stopped([key for each in waiting for key in each.active], cluster, queue)
        problems += [_finish(database, store, each, ended.get) for each in waiting]
    for problem in filter(None, problems):
        raise StoreUnavailableError(problem, "look at the store; it is tried again")


def _stopped(submission_ids: Sequence[str], cluster: Cluster, queue: Queue) -> dict[str, bool | None]:
    # Out of the queue before the cluster is asked: one that was handed over just then is the cluster's to stop.
    queue.remove(queue.ids().intersection(submission_ids))
    states = cluster.statuses(submission_ids)
    for key, state in states.items():
        if state is not None and not state.status.ended:
            cluster.stop(key, wait=False)
    return {key: None if state is None else state.status.ended for key, state in states.items()}


def _finish(database: Database, store: Store, removal: Removal, ended: Ended) -> str | None:
    """Remove the files of one once all workers have ended; return what is wrong."""
    stands = [ended(key) for key in removal.active]
    # Another process may be about to hand a workflow over that was deleted meanwhile: unknown is not yet ended.
    if False in stands or (None in stands and now() - removal.created_at < SUBMISSION_GRACE):
        return None
    problems = remove_files(store, removal.names)
    if problems:
        return problems[0]
    with writing(database) as work:
        work.removals.forget(removal.id)
    return None
