"""Taking the file of an experiment into a workspace: all of it or nothing.

Everything is read and checked first; then files go into the store under ids that nobody has, and the rows come last, in
one transaction.
"""

from __future__ import annotations

import itertools
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlmodel import SQLModel

from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import UnitOfWork, reading, writing
from lumigator_nb.database.records import Dataset, Experiment, Job, Label, Workflow
from lumigator_nb.display.meter import Meter, metered
from lumigator_nb.errors import ConflictError, InvalidInputError
from lumigator_nb.services.names import checked_name
from lumigator_nb.services.sharing import manifest as parts
from lumigator_nb.services.sharing.checking import Content, content_of
from lumigator_nb.services.sharing.reading import Archive, opened
from lumigator_nb.services.workflows.status import Results, Verdict, apply, derive_status
from lumigator_nb.specs import MetricResult, Status, Value
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

NOT_ENDED = "it had not ended when it was exported; resume it to go on"
_LABELS_AT_ONCE = 1000
# Any number that no other program on the server is likely to lock.
_LOADING_LOCK = 0x6C6F6164


@dataclass(frozen=True)
class _Places:
    """The ids under which it is kept; `dataset_id` is that of a dataset that is here already where `reused`."""

    dataset_id: str
    reused: bool
    experiment_id: str
    workflow_ids: Sequence[str]

    @property
    def folders(self) -> list[str]:
        own = [] if self.reused else [layout.dataset_folder(self.dataset_id)]
        return own + [layout.workflow_folder(each) for each in self.workflow_ids]


def load(
    database: Database, store: Store, path: str | Path, *, name: str | None = None, progress: bool = True
) -> Experiment:
    """Take an experiment in that :func:`export` wrote; nothing of the file is executed.

    Ids stay what they were where they are free. A dataset that is here already, from the same bytes with the same
    columns, is used again. Workflows that had not ended are stopped, and can be resumed.

    Args:
        path: of the file.
        name: of the experiment; default the one that it had, with a number where that is taken.
        progress: show how far it is, where it takes longer.

    Raises:
        DamagedError: the file is no exported experiment, or not as it was written; nothing is kept.
        InvalidInputError: it holds only the hash of its dataset, which is not here.
        ConflictError: `name` is taken.
        NotFoundError: there is no such file.
    """
    wanted = None if name is None else checked_name(name)
    with opened(path) as archive, metered(archive.path.name, enabled=progress) as meter, _one_at_a_time(database):
        # Read twice: once to know that all of it is whole, once to keep it.
        meter.total = 2 * archive.size
        archive.verify(meter)
        content = content_of(archive)
        places = _places(database, store, archive, content, wanted)
        try:
            _copy(archive, store, content, places, meter)
            experiment = _insert(database, archive, content, places, wanted)
        except BaseException:
            for folder in places.folders:
                store.delete(folder)
            raise
    _warn(archive, content.taken)
    return experiment


def _places(database: Database, store: Store, archive: Archive, content: Content, wanted: str | None) -> _Places:
    with reading(database) as work:
        if wanted is not None and work.experiments.named(wanted) is not None:
            raise ConflictError("experiment", wanted, "give another name=, or delete the old one")
        twin = _twin(work, content.dataset)
        if twin is None and archive.manifest.data == "hash":
            raise _not_here(archive, content.dataset)
        return _Places(
            dataset_id=twin.id if twin else _free(work, store, Dataset, content.dataset.id, layout.dataset_folder),
            reused=twin is not None,
            experiment_id=_free(work, store, Experiment, content.experiment.id, None),
            workflow_ids=[
                _free(work, store, Workflow, workflow.id, layout.workflow_folder) for workflow in content.workflows
            ],
        )


def _not_here(archive: Archive, dataset: parts.SharedDataset) -> InvalidInputError:
    columns = ", ".join(f"{role}={column!r}" for role, column in dataset.columns.items())
    return InvalidInputError(
        f"{archive.path.name} holds only the hash of dataset {dataset.name!r}, and the dataset is not here: file "
        f"{dataset.filename!r}, SHA-256 {dataset.content_hash}",
        f"upload that file first, with {columns or 'the same columns'}; or ask for an export with the data",
    )


def _twin(work: UnitOfWork, dataset: parts.SharedDataset) -> Dataset | None:
    """Return the dataset from the same bytes with the same columns; of drawn ones, drawn in the same way."""

    def how(derived: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in derived.items() if name != "dataset_id"}

    for each in work.datasets.with_content(dataset.content_hash):
        same = (each.columns, each.n_examples) == (dataset.columns, dataset.n_examples)
        if same and how(each.derived) == how(dataset.derived):
            return each
    return None


def _free(work: UnitOfWork, store: Store, kind: type[SQLModel], key: str, folder: Callable[[str], str] | None) -> str:
    """Return the id where neither a row nor a file has it, else a new one."""
    taken = work.session.get(kind, key) is not None or (folder is not None and bool(store.list(folder(key))))
    return str(uuid.uuid4()) if taken else key


def _copy(archive: Archive, store: Store, content: Content, places: _Places, meter: Meter) -> None:
    for name in archive.names:
        index = parts.workflow_of(name)
        if name.endswith("/result.json") and index is not None:
            result = archive.value(name, MetricResult)
            spec = content.metrics[int(name.split("/")[-2])]
            results.write_metric_result(store, places.workflow_ids[index], result.model_copy(update={"metric": spec}))
        elif target := _target(name, content, places, index):
            with store.writing(target) as file:
                for chunk in archive.chunks(name):
                    file.write(chunk)
                    meter.add(len(chunk))


def _target(name: str, content: Content, places: _Places, index: int | None) -> str | None:
    """Where a member is kept; None where it becomes rows, or is here already."""
    if index is not None:
        own = name.endswith("/workflow.json")
        return None if own else parts.stored_as(name, places.workflow_ids[index], content.metrics)
    if places.reused:
        return None
    if name == parts.EXAMPLES:
        return layout.examples(places.dataset_id)
    if name.startswith(parts.ORIGINAL):
        return layout.original(places.dataset_id, content.dataset.filename)
    return None


def _insert(database: Database, archive: Archive, content: Content, places: _Places, wanted: str | None) -> Experiment:
    try:
        with writing(database) as work:
            if places.reused:
                work.datasets.get(places.dataset_id)  # locked: nobody deletes it now
            else:
                work.datasets.add(_dataset(work, content.dataset, places))
            experiment = work.experiments.add(_experiment(work, content, places, wanted))
            for workflow, found, key in zip(content.workflows, content.results, places.workflow_ids, strict=True):
                _add_workflow(work, workflow, found, key, experiment.id)
            work.session.flush()
            labels, renewed = archive.lines(parts.LABELS, parts.SharedLabel), experiment.id != content.experiment.id
            while batch := list(itertools.islice(labels, _LABELS_AT_ONCE)):
                _add_labels(work, batch, experiment.id, renewed=renewed)
            return experiment
    except sa.exc.StatementError as error:
        raise archive.damaged(f"the database does not take what it holds: {error.orig or error}") from error


def _dataset(work: UnitOfWork, shared: parts.SharedDataset, places: _Places) -> Dataset:
    taken = bool(work.datasets.versions(shared.name))
    name = _numbered(shared.name, lambda each: bool(work.datasets.versions(each))) if taken else shared.name
    own = {"id": places.dataset_id, "name": name, "version": 1 if taken else shared.version}
    return Dataset(**{**_values(shared), **own})


def _experiment(work: UnitOfWork, content: Content, places: _Places, wanted: str | None) -> Experiment:
    shared = content.experiment
    name = wanted or shared.name
    if wanted is None and work.experiments.named(name) is not None:
        name = _numbered(name, lambda each: work.experiments.named(each) is not None)
    own = {"id": places.experiment_id, "name": name, "metrics": content.metrics}
    return Experiment(**{**_values(shared), **own, "dataset_id": places.dataset_id})


def _numbered(name: str, is_taken: Callable[[str], bool]) -> str:
    return next(each for number in itertools.count(2) if not is_taken(each := f"{name} ({number})"))


def _add_workflow(work: UnitOfWork, shared: parts.SharedWorkflow, found: Results, key: str, experiment_id: str) -> None:
    values = {name: value for name, value in _values(shared).items() if name != "jobs"}
    own = {"id": key, "experiment_id": experiment_id, "fingerprint": shared.model.fingerprint}
    workflow = Workflow(**{**values, **own})
    jobs = [Job(**{**_values(job), "id": _job_id(work, job.id), "workflow_id": key}) for job in shared.jobs]
    if not workflow.status.ended:
        # As a refresh would see it, but for the cluster, which is another one.
        verdict = derive_status(workflow, found, None, reachable=False, time=workflow.attempted_at)
        verdict = verdict if verdict.status.ended else Verdict(Status.STOPPED, NOT_ENDED)
        apply(workflow, jobs, verdict, found, workflow.attempted_at)
    work.session.add(workflow)
    work.session.flush()
    work.session.add_all(jobs)


def _job_id(work: UnitOfWork, key: str) -> str:
    return key if work.session.get(Job, key) is None else str(uuid.uuid4())


def _add_labels(work: UnitOfWork, labels: Sequence[parts.SharedLabel], experiment_id: str, *, renewed: bool) -> None:
    rows = [{**_values(label), "experiment_id": experiment_id} for label in labels]
    for row in rows if renewed else ():
        row["id"] = str(uuid.uuid4())
    work.session.execute(sa.insert(Label), rows)


def _values(shared: Value) -> dict[str, Any]:
    return {name: getattr(shared, name) for name in type(shared).model_fields}


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[None]:
    """Keep a second load out: two of one file would take the same ids, and write over each other's files."""
    path = database.engine.url.database
    if database.is_sqlite:
        if not path or path == ":memory:":
            yield
            return
        with FileLock(f"{path}.loading.lock"):
            yield
        return
    with database.engine.connect() as connection:
        # Held until the connection goes back, also where this process is killed.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOADING_LOCK)))
        yield


def _warn(archive: Archive, taken: Sequence[str]) -> None:
    if taken:
        warnings.warn(
            f"{archive.path.name} is loaded with all its numbers; what could run code or send a key was left out, "
            f"so that some of it cannot be run again: {'; '.join(taken)}",
            stacklevel=4,
        )
