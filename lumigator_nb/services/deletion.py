"""Deleting experiments and datasets, with all that hangs on them, and a preview of it.

Rows go first, in one transaction, files after: whoever finds a row finds its files, and a process that is killed in
between leaves files without a row, which :mod:`lumigator_nb.services.upkeep.garbage` collects. So do shards that a
worker writes after its workflow has been deleted, because it had not noticed its end yet.

With ``wait=False`` workers and files are left to :mod:`lumigator_nb.services.removal`.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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

# Ends what is under way and returns how it stands then, as `Workflows.stop` does.
Stop = Callable[[Sequence[Workflow]], list[Workflow]]
# Longer than a workflow that never reached the cluster takes to be recognised as such.
STOP_TIMEOUT_S = 150.0
_POLL_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Deletion(Rendered):
    """What went, or would go.

    Attributes:
        done: False for a preview.
        datasets, experiments, jobs: names; jobs are those that belong to no experiment.
        workflows: how many, by status.
        labels: what people said of answers.
        n_files, n_bytes: in the store; 0 for what is removed later, which is not counted.
        keeps: models whose answers stay for other experiments.
        problems: files that could not be removed now, and why; ``lumigator-nb gc`` removes them.
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
    datasets: Sequence[Dataset]
    experiments: Sequence[Experiment]
    workflows: Sequence[Workflow]
    labels: int

    @property
    def folders(self) -> list[str]:
        """Workflows first: without their dataset they are worth less than it is without them."""
        return [
            *(layout.workflow_folder(workflow.id) for workflow in self.workflows),
            *(layout.dataset_folder(dataset.id) for dataset in self.datasets),
        ]


def of_experiment(
    database: Database, store: Store, key: str, *, dry_run: bool = False, stop: Stop | None = None, wait: bool = True
) -> Deletion:
    """Remove an experiment, its workflows and their files, and what people said of its answers.

    Args:
        key: name or id.
        dry_run: only say what would go.
        stop: ends workflows that are under way; without it they forbid the deletion.
        wait: without it, only rows go now, in one transaction with a note of the rest: workers to end, and files.

    Raises:
        NotFoundError: there is no such experiment.
        InUseError: a workflow has not ended.
        WaitTimeoutError: a workflow did not end although it was stopped; nothing was removed.
    """
    return _delete(
        database, store, lambda work: _of_experiments(work, [], [work.experiments.get(key)]), dry_run, stop, wait
    )


def of_workflow(database: Database, store: Store, key: str, *, stop: Stop | None = None, wait: bool = True) -> Deletion:
    """Remove a workflow and its files; arguments and errors as of :func:`of_experiment`."""
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
    """Remove a dataset (of several versions the one that is named) and its files.

    Args:
        key: name, ``name@version`` or id.
        cascade: the experiments on it go too; without it they forbid the deletion. Annotation jobs always go: what they
            made is another dataset, which stays.
        dry_run, stop, wait: as of :func:`of_experiment`.

    Raises:
        InUseError: experiments use it, or one of their workflows has not ended.
        NotFoundError, WaitTimeoutError: as of :func:`of_experiment`.
    """

    def find(work: UnitOfWork) -> _Doomed:
        dataset = work.datasets.get(key)
        copies = [work.datasets.get(copy.id) for copy in work.datasets.copies_of(dataset.id)]  # locked
        users = [user for each in (dataset, *copies) for user in work.experiments.of_dataset(each.id)]
        blocking = [user for user in users if not _has_left_a_dataset(user)]
        if blocking and not cascade:
            raise InUseError(
                f"dataset {dataset.name!r} is used by: {', '.join(map(_named, blocking))}",
                "delete those first, or cascade=True deletes them too",
            )
        # Looked up one by one, they are locked, so that nobody launches on one meanwhile.
        locked = [work.experiments.find(user.id) for user in sorted(users, key=lambda user: user.id)]
        return _of_experiments(work, [dataset, *copies], [each for each in locked if each is not None])

    return _delete(database, store, find, dry_run, stop, wait)


def _has_left_a_dataset(experiment: Experiment) -> bool:
    """Whether it held an annotation whose answers are a dataset by now: nothing is lost when the job goes.

    Lumigator's UI deletes datasets, and knows no way to delete a job.
    """
    return experiment.purpose == Purpose.ANNOTATION and not experiment.owes_dataset


def _named(experiment: Experiment) -> str:
    return experiment.name if experiment.job_name is None else f"job {experiment.job_name!r}"


def _delete(
    database: Database,
    store: Store,
    find: Callable[[UnitOfWork], _Doomed],
    dry_run: bool,
    stop: Stop | None,
    wait: bool,
) -> Deletion:
    if not wait and not dry_run:
        return _delete_rows(database, find, stops=stop is not None)
    with reading(database) as work:
        doomed = find(work)
    if stop is None:
        _refuse_active(doomed)
    elif not dry_run:
        _stop(doomed.workflows, stop)
    report = _report(store, doomed, done=not dry_run)
    if dry_run:
        return report
    with writing(database) as work:
        doomed = find(work)
        _refuse_active(doomed)
        _remove_rows(work, doomed)
    problems = removal.remove_files(store, removal.names_of(doomed.workflows, doomed.datasets))
    for problem in problems:
        warnings.warn(f"{problem}; lumigator-nb gc removes it later", stacklevel=4)
    return _counted(report, doomed, problems)


def _delete_rows(database: Database, find: Callable[[UnitOfWork], _Doomed], *, stops: bool) -> Deletion:
    """Remove rows, and note what is left to be done, without waiting for workers or for many files."""
    with writing(database) as work:
        doomed = find(work)
        if not stops:
            _refuse_active(doomed)
        removal.note(work, doomed.workflows, doomed.datasets)
        _remove_rows(work, doomed)
    return _counted(Deletion(done=True), doomed)


def _of_experiments(work: UnitOfWork, datasets: Sequence[Dataset], experiments: Sequence[Experiment]) -> _Doomed:
    ids = [experiment.id for experiment in experiments]
    workflows = [workflow for each in ids for workflow in work.workflows.of_experiment(each)]
    query = select(func.count()).select_from(Label).where(col(Label.experiment_id).in_(ids))
    going = {dataset.id for dataset in datasets}
    copies = [each for each in _copies_of(work, experiments) if each.id not in going]
    return _Doomed([*datasets, *copies], experiments, workflows, work.session.exec(query).one())


def _copies_of(work: UnitOfWork, experiments: Sequence[Experiment]) -> list[Dataset]:
    """What earlier versions drew for these experiments alone."""
    ids = {experiment.id for experiment in experiments}
    copies = work.datasets.copies([experiment.dataset_id for experiment in experiments])
    return [each for each in copies if {user.id for user in work.experiments.of_dataset(each.id)} <= ids]


def _of_workflow(work: UnitOfWork, key: str) -> _Doomed:
    owner = work.session.exec(select(Workflow.experiment_id).where(Workflow.id == key)).first()
    if owner is not None:
        work.experiments.get(owner)  # locked before the workflow, as whoever needs both does
    return _Doomed([], [], [work.workflows.get(key)], 0)


def _refuse_active(doomed: _Doomed) -> None:
    active = [workflow for workflow in doomed.workflows if not workflow.status.ended]
    if active and not doomed.experiments:
        raise InUseError(f"workflow {active[0].label!r} is under way", "wait for it, or delete(…, stop=True)")
    if active:
        owners = {each.id: each for each in doomed.experiments}
        names = ", ".join(dict.fromkeys(_titled(owners[each.experiment_id]) for each in active))
        raise InUseError(
            f"{names} has workflows under way: {', '.join(workflow.label for workflow in active)}",
            "wait for them, or stop them first: ws.workflows.stop(experiment), or delete(…, stop=True)",
        )


def _titled(experiment: Experiment) -> str:
    return f"experiment {experiment.name!r}" if experiment.job_name is None else _named(experiment)


def _stop(workflows: Sequence[Workflow], stop: Stop) -> None:
    """A worker that has ended writes nothing more; one that had not begun ends when its turn comes."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    active = [workflow for workflow in workflows if not workflow.status.ended]
    while active := [workflow for workflow in (stop(active) if active else []) if not workflow.status.ended]:
        if time.monotonic() > deadline:
            raise WaitTimeoutError(
                f"{active[0].label} is still {active[0].status} {STOP_TIMEOUT_S:g} s after it was stopped",
                "nothing was deleted: look at ws.cluster.info(), and delete again",
                job_id=active[0].id,
            )
        time.sleep(_POLL_INTERVAL_S)


def _remove_rows(work: UnitOfWork, doomed: _Doomed) -> None:
    """Jobs and labels go with what they belong to."""
    for workflow in doomed.workflows:
        work.workflows.delete(workflow)
    work.session.flush()
    for experiment in doomed.experiments:
        work.experiments.delete(experiment)
    work.session.flush()
    for dataset in doomed.datasets:
        work.datasets.delete(dataset)


def _report(store: Store, doomed: _Doomed, *, done: bool) -> Deletion:
    sizes = [entry.size for folder in doomed.folders for entry in store.entries(folder)]
    return _counted(Deletion(done, n_files=len(sizes), n_bytes=sum(sizes)), doomed)


def _counted(report: Deletion, doomed: _Doomed, problems: Sequence[str] = ()) -> Deletion:
    return Deletion(
        report.done,
        datasets=tuple(_title(dataset) for dataset in doomed.datasets if "for" not in dataset.derived),
        experiments=tuple(each.name for each in doomed.experiments if each.job_name is None),
        jobs=tuple(each.job_name for each in doomed.experiments if each.job_name is not None),
        workflows=dict(Counter(workflow.status for workflow in doomed.workflows)),
        labels=doomed.labels,
        n_files=report.n_files,
        n_bytes=report.n_bytes,
        keeps=tuple(dict.fromkeys(each.label for each in doomed.workflows if _leaves_answers(each))),
        problems=tuple(problems),
    )


def _title(dataset: Dataset) -> str:
    return dataset.name if dataset.version == 1 else f"{dataset.name}@{dataset.version}"


def _leaves_answers(workflow: Workflow) -> bool:
    if workflow.launch.cache == "off":
        return False
    try:
        return models.keeps_answers(workflow.model)
    except LumigatorError:  # a provider that is no longer installed
        return True


_KEPT_HINT = "ws.cache.size() shows them, ws.cache.clear('model') removes them"


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
        ("Workflows", _by_status(deletion.workflows)),
        ("Labels", f"{deletion.labels:,} by people" if deletion.labels else ""),
        ("Files", f"{count(deletion.n_files, 'file')}, {size(deletion.n_bytes)}"),
        ("Kept", f"answers of {listed(deletion.keeps)}, for other experiments: {_KEPT_HINT}" if deletion.keeps else ""),
        *(("Problem", problem) for problem in deletion.problems),
    ]
    return [(label, one_line(text, 1000)) for label, text in facts if text]


def _by_status(workflows: Mapping[Status, int]) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in sorted(workflows.items()))
