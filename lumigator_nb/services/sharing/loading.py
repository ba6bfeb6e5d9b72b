"""Importing the archive of an experiment into a workspace: all of it or nothing.

Everything is read and checked first. Then files go into the store under ids that are free, and the rows come last, in
one transaction: if that fails, no row points at the files, and they are deleted.
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
from lumigator_nb.services.sharing import manifest as format_
from lumigator_nb.services.sharing.checking import Content, content_of
from lumigator_nb.services.sharing.manifest import SharedDataset, SharedLabel, SharedWorkflow
from lumigator_nb.services.sharing.reading import CHUNK, Archive, opened
from lumigator_nb.services.workflows.status import Results, Verdict, apply, derive_status
from lumigator_nb.specs import MetricResult, Status
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

NOT_ENDED = "it had not ended when it was exported; resume it to go on"
_LABELS_AT_ONCE = 1000
# The number of an advisory lock: any that no other program on the server is likely to use.
_LOADING_LOCK = 0x6C6F6164


@dataclass(frozen=True)
class _Ids:
    """The ids of the new records; `dataset` is that of an existing dataset if `has_dataset`."""

    dataset: str
    has_dataset: bool
    experiment: str
    workflows: Sequence[str]

    @property
    def folders(self) -> list[str]:
        """The folders in the store that are new."""
        new = [] if self.has_dataset else [layout.dataset_folder(self.dataset)]
        return new + [layout.workflow_folder(workflow) for workflow in self.workflows]


def load(
    database: Database, store: Store, path: str | Path, *, name: str | None = None, progress: bool = True
) -> Experiment:
    """Import an experiment that :func:`export` wrote; nothing of the file is executed.

    Ids stay what they were if they are free. A dataset that exists already, from the same bytes with the same columns,
    is used again. Workflows that had not ended are stopped, and can be resumed.

    Args:
        path: of the file.
        name: of the experiment; default the one that it had, with a number if that name is taken.
        progress: show the progress if it takes longer.

    Raises:
        DamagedError: the file is not an exported experiment, or not as it was written; nothing is kept.
        InvalidInputError: it holds only the hash of its dataset, which is not here.
        ConflictError: `name` is taken.
        NotFoundError: there is no such file.
    """
    new_name = None if name is None else checked_name(name)
    with opened(path) as archive, metered(archive.path.name, enabled=progress) as meter, _one_at_a_time(database):
        # Every member is read twice: to verify it, and to store it.
        meter.total = 2 * archive.size
        archive.verify(meter)
        content = content_of(archive)
        ids = _free_ids(database, store, archive, content, new_name)
        try:
            _copy_files(archive, store, content, ids, meter)
            experiment = _insert(database, archive, content, ids, new_name)
        except BaseException:
            for folder in ids.folders:
                store.delete(folder)
            raise
    if content.removed:
        warnings.warn(
            f"{archive.path.name} is loaded with all its numbers; what could run code or send a key was left out, "
            f"so that some of it cannot be run again: {'; '.join(content.removed)}",
            stacklevel=3,
        )
    return experiment


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[None]:
    """Keep a second load out: two loads of one file would take the same ids, and overwrite each other's files."""
    path = database.engine.url.database
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            # The server releases it with the transaction, also if this process is killed.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOADING_LOCK)))
            yield
    elif not path or path == ":memory:":
        yield
    else:
        with FileLock(f"{path}.loading.lock"):
            yield


def _free_ids(database: Database, store: Store, archive: Archive, content: Content, new_name: str | None) -> _Ids:
    shared = content.dataset
    with reading(database) as work:
        if new_name is not None and work.experiments.named(new_name) is not None:
            raise ConflictError("experiment", new_name, "give another name=, or delete the old one")
        existing = _same_dataset(work, shared)
        if existing is None and archive.manifest.data == "hash":
            columns = ", ".join(f"{role}={column!r}" for role, column in shared.columns.items())
            raise InvalidInputError(
                f"{archive.path.name} holds only the hash of dataset {shared.name!r}, and the dataset is not here: "
                f"file {shared.filename!r}, SHA-256 {shared.content_hash}",
                f"upload that file first, with {columns or 'the same columns'}; or ask for an export with the data",
            )

        def free(kind: type[SQLModel], key: str, folder: str) -> str:
            # Files without a row count too: a process that was killed may have left them.
            return str(uuid.uuid4()) if work.session.get(kind, key) or store.list(folder) else key

        experiment_id = content.experiment.id
        return _Ids(
            dataset=existing.id if existing else free(Dataset, shared.id, layout.dataset_folder(shared.id)),
            has_dataset=existing is not None,
            experiment=str(uuid.uuid4()) if work.session.get(Experiment, experiment_id) else experiment_id,
            workflows=[
                free(Workflow, workflow.id, layout.workflow_folder(workflow.id)) for workflow in content.workflows
            ],
        )


def _same_dataset(work: UnitOfWork, shared: SharedDataset) -> Dataset | None:
    """Return the dataset from the same bytes with the same columns and, if it is a sample, sampled the same way."""

    def identity(dataset: Dataset | SharedDataset) -> tuple[Any, ...]:
        derived = {name: value for name, value in dataset.derived.items() if name != "dataset_id"}
        return dataset.columns, dataset.n_examples, derived

    candidates = work.datasets.with_content(shared.content_hash)
    return next((dataset for dataset in candidates if identity(dataset) == identity(shared)), None)


def _copy_files(archive: Archive, store: Store, content: Content, ids: _Ids, meter: Meter) -> None:
    metrics = content.experiment.metrics
    places = [format_.stored_names(key, metrics) for key in ids.workflows]
    for name in archive.members:
        if name.startswith("workflows/") and not name.endswith("/workflow.json"):
            _, index, rest = name.split("/", 2)
            target = format_.translated(rest, places[int(index)]) if int(index) < len(places) else None
            if target is None:
                raise archive.damaged(f"{name} belongs to no workflow, or to no metric of the experiment")
        elif name.startswith("dataset/") and not ids.has_dataset:
            is_original = name.startswith(format_.ORIGINAL)
            filename = content.dataset.filename
            target = layout.original(ids.dataset, filename) if is_original else layout.examples(ids.dataset)
        else:
            continue
        if "/scores/" in name and name.endswith("/result.json"):
            # It repeats its metric's options, which may name code; those of the experiment are harmless.
            result = archive.value(name, MetricResult)
            result = result.model_copy(update={"metric": metrics[int(rest.split("/")[1])]})
            results.write_metric_result(store, ids.workflows[int(index)], result)
            continue
        with archive.reading(name) as source, store.writing(target) as file:
            while chunk := source.read(CHUNK):
                file.write(chunk)
                meter.add(len(chunk))


def _insert(database: Database, archive: Archive, content: Content, ids: _Ids, new_name: str | None) -> Experiment:
    try:
        with writing(database) as work:
            if ids.has_dataset:
                work.datasets.get(ids.dataset)  # locks the row, so that it is not deleted meanwhile
            else:
                name = _free_name(content.dataset.name, lambda text: work.datasets.versions(text))
                version = content.dataset.version if name == content.dataset.name else 1
                fields = {**dict(content.dataset), "id": ids.dataset, "name": name, "version": version}
                work.datasets.add(Dataset(**fields))
            name = new_name or _free_name(content.experiment.name, lambda text: work.experiments.named(text))
            fields = {**dict(content.experiment), "id": ids.experiment, "name": name, "dataset_id": ids.dataset}
            experiment = work.experiments.add(Experiment(**fields))
            for shared, steps, key in zip(content.workflows, content.results, ids.workflows, strict=True):
                _add_workflow(work, shared, steps, key, experiment.id)
            work.session.flush()
            _add_labels(work, archive, content, experiment.id)
            return experiment
    except sa.exc.StatementError as error:
        raise archive.damaged(f"the database does not accept a value: {error.orig or error}") from error


def _free_name(name: str, find: Callable[[str], object]) -> str:
    """Return the name, with a number if `find` finds something of that name: "tickets (2)"."""
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(text for text in names if not find(text))


def _add_workflow(work: UnitOfWork, shared: SharedWorkflow, steps: Results, key: str, experiment_id: str) -> None:
    fields = {name: value for name, value in dict(shared).items() if name != "jobs"}
    own = {"id": key, "experiment_id": experiment_id, "fingerprint": shared.model.fingerprint}
    workflow = Workflow(**{**fields, **own})
    jobs = [Job(**{**dict(job), "workflow_id": key}) for job in shared.jobs]
    for job in jobs:
        job.id = str(uuid.uuid4()) if work.session.get(Job, job.id) else job.id
    if not workflow.status.ended:
        # What a refresh would conclude, without the cluster: the sender's is not this one.
        verdict = derive_status(workflow, steps, None, reachable=False, time=workflow.attempted_at)
        verdict = verdict if verdict.status.ended else Verdict(Status.STOPPED, NOT_ENDED)
        apply(workflow, jobs, verdict, steps, workflow.attempted_at)
    work.session.add(workflow)
    work.session.flush()
    work.session.add_all(jobs)


def _add_labels(work: UnitOfWork, archive: Archive, content: Content, experiment_id: str) -> None:
    # The ids of labels are free if that of their experiment is.
    is_new = experiment_id != content.experiment.id
    labels = archive.lines(format_.LABELS, SharedLabel)
    while batch := list(itertools.islice(labels, _LABELS_AT_ONCE)):
        for label in batch:
            if label.row >= content.n_examples:
                raise archive.damaged(f"a label belongs to row {label.row}, which the dataset does not have")
        rows = [{**dict(label), "experiment_id": experiment_id} for label in batch]
        for row in rows if is_new else ():
            row["id"] = str(uuid.uuid4())
        work.session.execute(sa.insert(Label), rows)
