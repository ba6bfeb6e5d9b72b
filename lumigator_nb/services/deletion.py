"""Delete experiments and datasets with everything that depends on them, or preview the deletion.

Rows are deleted first, in one transaction, and files afterwards: a row that exists always has its files. A process that
is killed in between leaves files without a row, which :mod:`lumigator_nb.services.upkeep.garbage` collects. It also
collects shards that a worker wrote after the deletion because it had not noticed that it was stopped.

With ``wait=False``, stopping workers and removing files is left to :mod:`lumigator_nb.services.removal`.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlmodel import col, func, select

from lumigator_nb import models
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import UnitOfWork, reading, writing
from lumigator_nb.database.records import Dataset, Experiment, Label, Workflow
from lumigator_nb.display import render
from lumigator_nb.display.html import card, fragment
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import aligned, count, listed, one_line, size
from lumigator_nb.errors import InUseError, LumigatorError, WaitTimeoutError
from lumigator_nb.services import removal
from lumigator_nb.specs import Purpose, Status
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

# Stops running workflows and returns them with their new status, as `Workflows.stop` does.
Stop = Callable[[Sequence[Workflow]], list[Workflow]]
# Longer than it takes to recognize a workflow that never reached the cluster (`SUBMISSION_GRACE`).
STOP_TIMEOUT_S = 150.0
_POLL_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Deletion(Rendered):
    """What was deleted, or would be deleted.

    Attributes:
        done: False for a preview.
        datasets, experiments, jobs: names; jobs are single jobs, which belong to no experiment.
        workflows: number of workflows, by status.
        labels: number of human labels.
        n_files, n_bytes: files in the store; 0 if they are removed later.
        keeps: labels of models whose answers stay in the cache for other experiments.
        problems: files that could not be removed, with the reason; ``lumigator-nb gc`` removes them later.
    """

    done: bool
    datasets: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    workflows: dict[Status, int] = field(default_factory=dict)
    labels: int = 0
    n_files: int = 0
    n_bytes: int = 0
    keeps: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Doomed:
    """The rows that a deletion removes, in order of their folders' removal."""

    datasets: Sequence[Dataset]
    experiments: Sequence[Experiment]
    workflows: Sequence[Workflow]
    labels: int

    @property
    def folders(self) -> list[str]:
        """Folders in the store."""
        return [
            *(layout.workflow_folder(workflow.id) for workflow in self.workflows),
            *(layout.dataset_folder(dataset.id) for dataset in self.datasets),
        ]


def of_experiment(
    database: Database, store: Store, key: str, *, dry_run: bool = False, stop: Stop | None = None, wait: bool = True
) -> Deletion:
    """Delete an experiment with its workflows, their files, and its human labels.

    Args:
        key: name or id.
        dry_run: only report what would be deleted.
        stop: stops running workflows; without it, running workflows prevent the deletion.
        wait: if False, delete only the rows now, and record what is left: workers to stop and files to remove.

    Raises:
        NotFoundError: there is no such experiment.
        InUseError: a workflow is still running.
        WaitTimeoutError: a workflow did not end although it was stopped; nothing was removed.
    """
    return _delete(
        database, store, lambda work: _of_experiments(work, [], [work.experiments.get(key)]), dry_run, stop, wait
    )


def of_workflow(database: Database, store: Store, key: str, *, stop: Stop | None = None, wait: bool = True) -> Deletion:
    """Delete a workflow and its files; arguments and errors as for :func:`of_experiment`."""
    return _delete(database, store, lambda work: _of_workflow(work, key), False, stop, wait)


def of_dataset(
    database: Database,
    store: Store,
    key: str,
    *,
    cascade: bool = False,
    dry_run: bool = False,
    stop: Stop | None = None,
    wait: bool = True,
) -> Deletion:
    """Delete a dataset (one version of it) and its files.

    Args:
        key: name, ``name@version`` or id.
        cascade: also delete the experiments on it; without it, they prevent the deletion. Finished annotation jobs are
            always deleted: their result is another dataset, which stays.
        dry_run, stop, wait: as for :func:`of_experiment`.

    Raises:
        InUseError: experiments use it, or one of their workflows is still running.
        NotFoundError, WaitTimeoutError: as for :func:`of_experiment`.
    """

    def find(work: UnitOfWork) -> _Doomed:
        dataset = work.datasets.get(key)
        copies = [work.datasets.get(copy.id) for copy in work.datasets.copies_of(dataset.id)]  # locks their rows
        users = [experiment for owner in (dataset, *copies) for experiment in work.experiments.of_dataset(owner.id)]
        # A finished annotation job does not block: its result is another dataset, so nothing is lost. Lumigator's UI
        # deletes datasets and has no way to delete a job.
        blocking = [user for user in users if user.purpose != Purpose.ANNOTATION or user.owes_dataset]
        if blocking and not cascade:
            raise InUseError(
                f"dataset {dataset.name!r} is used by: {', '.join(map(_named, blocking))}",
                "delete those first, or cascade=True deletes them too",
            )
        # find() locks the row, so that no other process launches on the experiment meanwhile. Always in order of the
        # ids, so that two deletions do not wait for each other for ever.
        locked = [work.experiments.find(user.id) for user in sorted(users, key=lambda user: user.id)]
        return _of_experiments(work, [dataset, *copies], [experiment for experiment in locked if experiment])

    return _delete(database, store, find, dry_run, stop, wait)


def _named(experiment: Experiment) -> str:
    """Return the name of an experiment, or of the single job that a hidden experiment holds."""
    return experiment.name if experiment.job_name is None else f"job {experiment.job_name!r}"


def _delete(
    database: Database,
    store: Store,
    find: Callable[[UnitOfWork], _Doomed],
    dry_run: bool,
    stop: Stop | None,
    wait: bool,
) -> Deletion:
    """Delete what `find` finds.

    `find` is called twice, for the preview and in the transaction that deletes: stopping workers takes long, and must
    not keep the database locked.
    """
    if not wait and not dry_run:
        with writing(database) as work:
            doomed = find(work)
            if stop is None:
                _refuse_active(doomed)
            removal.note(work, doomed.workflows, doomed.datasets)
            _remove_rows(work, doomed)
        return _deletion(doomed, done=True)
    with reading(database) as work:
        doomed = find(work)
    if stop is None:
        _refuse_active(doomed)
    elif not dry_run:
        _stop_and_wait(doomed.workflows, stop)
    sizes = [entry.size for folder in doomed.folders for entry in store.entries(folder)]
    if dry_run:
        return _deletion(doomed, done=False, sizes=sizes)
    with writing(database) as work:
        doomed = find(work)
        _refuse_active(doomed)
        _remove_rows(work, doomed)
    problems = removal.remove_files(store, removal.names_of(doomed.workflows, doomed.datasets))
    for problem in problems:
        warnings.warn(f"{problem}; lumigator-nb gc removes it later", stacklevel=4)
    return _deletion(doomed, done=True, sizes=sizes, problems=problems)


def _of_experiments(work: UnitOfWork, datasets: Sequence[Dataset], experiments: Sequence[Experiment]) -> _Doomed:
    ids = [experiment.id for experiment in experiments]
    workflows = [workflow for key in ids for workflow in work.workflows.of_experiment(key)]
    query = select(func.count()).select_from(Label).where(col(Label.experiment_id).in_(ids))
    dataset_ids = {dataset.id for dataset in datasets}
    # Earlier versions copied the sample of an experiment (max_samples) into a dataset. Delete the copies that only
    # these experiments use.
    copies = [
        copy
        for copy in work.datasets.copies([experiment.dataset_id for experiment in experiments])
        if copy.id not in dataset_ids and {user.id for user in work.experiments.of_dataset(copy.id)} <= set(ids)
    ]
    return _Doomed([*datasets, *copies], experiments, workflows, work.session.exec(query).one())


def _of_workflow(work: UnitOfWork, key: str) -> _Doomed:
    experiment_id = work.session.exec(select(Workflow.experiment_id).where(Workflow.id == key)).first()
    if experiment_id is not None:
        # Lock the experiment before the workflow, in the same order as everywhere, to avoid deadlocks.
        work.experiments.get(experiment_id)
    return _Doomed([], [], [work.workflows.get(key)], 0)


def _refuse_active(doomed: _Doomed) -> None:
    active = [workflow for workflow in doomed.workflows if not workflow.status.ended]
    if active and not doomed.experiments:
        raise InUseError(f"workflow {active[0].label!r} is under way", "wait for it, or delete(…, stop=True)")
    if active:
        owner_ids = {workflow.experiment_id for workflow in active}
        names = ", ".join(
            f"experiment {experiment.name!r}" if experiment.job_name is None else _named(experiment)
            for experiment in doomed.experiments
            if experiment.id in owner_ids
        )
        raise InUseError(
            f"{names} has workflows under way: {', '.join(workflow.label for workflow in active)}",
            "wait for them, or stop them first: ws.workflows.stop(experiment), or delete(…, stop=True)",
        )


def _stop_and_wait(workflows: Sequence[Workflow], stop: Stop) -> None:
    """Stop workflows and wait until they have ended: from then on their workers write no more files."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    active = [workflow for workflow in workflows if not workflow.status.ended]
    while active:
        active = [workflow for workflow in stop(active) if not workflow.status.ended]
        if not active:
            return
        if time.monotonic() > deadline:
            raise WaitTimeoutError(
                f"{active[0].label} is still {active[0].status} {STOP_TIMEOUT_S:g} s after it was stopped",
                "nothing was deleted: check ws.cluster.info(), then delete again",
                job_id=active[0].id,
            )
        time.sleep(_POLL_INTERVAL_S)


def _remove_rows(work: UnitOfWork, doomed: _Doomed) -> None:
    """Delete the rows, children first. Deleting a row deletes its jobs and labels."""
    for workflow in doomed.workflows:
        work.workflows.delete(workflow)
    work.session.flush()
    for experiment in doomed.experiments:
        work.experiments.delete(experiment)
    work.session.flush()
    for dataset in doomed.datasets:
        work.datasets.delete(dataset)


def _deletion(doomed: _Doomed, *, done: bool, sizes: Sequence[int] = (), problems: Sequence[str] = ()) -> Deletion:
    cached: dict[str, None] = {}  # labels of models whose answers stay; a dict keeps the order
    for workflow in doomed.workflows:
        try:
            if workflow.launch.cache != "off" and models.keeps_answers(workflow.model):
                cached[workflow.label] = None
        except LumigatorError:  # the provider is no longer installed: its answers may be there
            cached[workflow.label] = None
    return Deletion(
        done,
        datasets=tuple(
            dataset.name if dataset.version == 1 else f"{dataset.name}@{dataset.version}"
            for dataset in doomed.datasets
            if "for" not in dataset.derived  # such a copy: users never saw it
        ),
        experiments=tuple(experiment.name for experiment in doomed.experiments if experiment.job_name is None),
        jobs=tuple(experiment.job_name for experiment in doomed.experiments if experiment.job_name is not None),
        workflows=dict(Counter(workflow.status for workflow in doomed.workflows)),
        labels=doomed.labels,
        n_files=len(sizes),
        n_bytes=sum(sizes),
        keeps=tuple(cached),
        problems=tuple(problems),
    )


_CACHE_HINT = "ws.cache.size() shows them, ws.cache.clear('model') removes them"


@render.as_text.register
def _as_text(deletion: Deletion) -> str:
    """Return a deletion, or its preview, as aligned lines."""
    return aligned(_deletion_title(deletion), _deletion_facts(deletion))


@render.as_html.register
def _as_html(deletion: Deletion) -> str:
    """Return a deletion, or its preview, as a card."""
    return fragment(card(_deletion_title(deletion), _deletion_facts(deletion)))


def _deletion_title(deletion: Deletion) -> str:
    return "Deleted" if deletion.done else "Would be deleted (nothing was)"


def _deletion_facts(deletion: Deletion) -> list[tuple[str, str]]:
    facts = [
        ("Datasets", listed(deletion.datasets)),
        ("Experiments", listed(deletion.experiments)),
        ("Jobs", listed(deletion.jobs)),
        ("Workflows", ", ".join(f"{number:,} {status}" for status, number in sorted(deletion.workflows.items()))),
        ("Labels", f"{deletion.labels:,} by people" if deletion.labels else ""),
        ("Files", f"{count(deletion.n_files, 'file')}, {size(deletion.n_bytes)}"),
        (
            "Kept",
            f"answers of {listed(deletion.keeps)}, for other experiments: {_CACHE_HINT}" if deletion.keeps else "",
        ),
        *(("Problem", problem) for problem in deletion.problems),
    ]
    return [(label, one_line(text, 1000)) for label, text in facts if text]
