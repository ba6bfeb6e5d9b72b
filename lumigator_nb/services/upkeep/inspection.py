"""Integrity checks: read everything that is stored, down to the bytes, and report contradictions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, count
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from sqlmodel import SQLModel, col, select

from lumigator_nb.cluster.states import SUBMISSION_GRACE
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import Repository, reading
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import one_line
from lumigator_nb.errors import (
    DamagedError,
    LumigatorError,
    NotFoundError,
    StoreUnavailableError,
)
from lumigator_nb.services.access.secrets import Secrets
from lumigator_nb.services.upkeep import garbage
from lumigator_nb.services.upkeep.integrity import Fault, Repair, faults_of_rows, faults_of_secrets
from lumigator_nb.services.upkeep.reaggregate import Totals, same_scores
from lumigator_nb.services.workflows.status import derive_status
from lumigator_nb.specs import MetricSpec, Status, Step, StepResult, now
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

T = TypeVar("T", bound=SQLModel)
# Called with the kind of record, how many are done, and how many there are.
Report = Callable[[str, int, int], None]
_PAGE = 100
_CHUNK = 1 << 20
_AGAIN = "restore the file from a backup of the store, or launch in a new experiment, which uses the answer cache"
# What pyarrow, pydantic and this package raise for a damaged file.
_DAMAGED = (DamagedError, ValueError, OSError, KeyError, pa.ArrowException)


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Inspection(Rendered):
    """The faults that were found.

    Attributes:
        looked_at: how many records of each kind were checked: "dataset", "workflow" and so on.
    """

    faults: tuple[Fault, ...]
    looked_at: dict[str, int] = field(default_factory=dict)

    @property
    def unrepaired(self) -> list[Fault]:
        """The faults that no command of the package repairs."""
        return [fault for fault in self.faults if not fault.repaired_by]

    @property
    def unmended(self) -> list[Fault]:
        """The name of `unrepaired` in version 0.1."""
        return self.unrepaired

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def __len__(self) -> int:
        return len(self.faults)


def inspect(
    database: Database,
    store: Store,
    report: Report = silent,
    *,
    older_than: timedelta = garbage.OLDER_THAN,
    secrets: Secrets | None = None,
) -> Inspection:
    """Read all datasets and results and compare them with the database; nothing is changed.

    Everything in the store but the answer cache is read once, a shard at a time.

    Args:
        report: called with the progress.
        older_than: younger orphans are not reported, since a running process may be writing them.
        secrets: each is opened once with the keys here; no value is shown.
    """
    looked_at, inspector = _count(database), _Inspector(store)
    inspector.faults += faults_of_rows(database)
    for done, dataset in enumerate(chain.from_iterable(_pages(database, Dataset)), 1):
        inspector.dataset(dataset)
        report("dataset", done, looked_at["dataset"])
    numbers = count(1)
    for workflows in _pages(database, Workflow):
        experiments, scores = _surroundings(database, workflows)
        for workflow in workflows:
            # A workflow without its experiment is reported with the rows.
            if workflow.experiment_id in experiments:
                inspector.workflow(workflow, experiments[workflow.experiment_id], scores.get(workflow.id, {}))
            report("workflow", next(numbers), looked_at["workflow"])
    for orphan in garbage.find(database, store, older_than).orphans:
        what = f"is not needed any more ({orphan.kind})"
        inspector.faults.append(Fault(orphan.name, what, "lumigator-nb gc removes it", "gc"))
    inspector.faults += faults_of_secrets(secrets) if secrets else ()
    return Inspection(tuple(inspector.faults), looked_at)


class _Inspector:
    """Reads files and records their faults."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.faults: list[Fault] = []

    def dataset(self, record: Dataset) -> None:
        """Check the examples, and the file that was uploaded."""
        where = f"dataset {record.name!r} (version {record.version})"
        again = "restore the file from a backup of the store, or"
        name = layout.examples(record.id)
        with self._readable(where, name, f"{again} upload the data again"):
            if record.data_hash and _sha256(self._store, name) != record.data_hash:
                self._add(where, f"{name} is not what was written (its SHA-256 differs)", f"{again} upload it again")
            elif (n := _n_rows(self._store, name, whole=not record.data_hash)) != record.n_examples:
                self._add(where, f"{name} has {n:,} rows, not {record.n_examples:,}", f"{again} upload it again")
        original = layout.original(record.id, record.filename)
        if record.derived and not self._store.exists(original):
            return  # it was sampled from another dataset, which has the original
        with self._readable(where, original, "upload it again to restore it; the examples are in another file"):
            if _sha256(self._store, original) != record.content_hash:
                what = f"{original} is not what was uploaded (its SHA-256 differs)"
                self._add(
                    where, what, "do not trust the original; the examples are in another file, checked separately"
                )

    def workflow(self, record: Workflow, experiment: Experiment, scores: dict[str, float]) -> None:
        """Check the files of a workflow, and whether its recorded status agrees with them.

        Args:
            scores: overall scores that the database has for its evaluation.
        """
        alone = experiment.job_name is not None
        where = f"{record.label} in " + (f"job {experiment.job_name!r}" if alone else f"experiment {experiment.name!r}")
        steps: dict[Step, StepResult] = {}
        for step in Step:
            with self._readable(where, layout.result(record.id, step), _AGAIN):
                if result := results.find_result(self._store, record.id, step):
                    steps[step] = result
        if record.status is not Status.SUCCEEDED:
            self._check_unfinished(where, record, steps)
        elif self._has_results(where, record, _key(experiment), steps):
            shards = sorted(results.finished_shards(self._store, record.id, Step.INFERENCE))
            names = [layout.part(record.id, Step.INFERENCE, shard) for shard in shards]
            folder, n_examples = layout.step_folder(record.id, Step.INFERENCE), steps[Step.INFERENCE].n_examples
            for _ in self._tables(where, folder, names, n_examples, _AGAIN):
                pass
            self._check_scores(where, record, experiment, steps[Step.EVALUATION], scores)

    def _check_unfinished(self, where: str, record: Workflow, steps: dict[Step, StepResult]) -> None:
        succeeded = all(step in steps and steps[step].status is Status.SUCCEEDED for step in Step)
        if record.status.ended:
            if succeeded:
                what = f"it is recorded as {record.status}, but all its results are in the store"
                self._add(where, what, "ws.workflows.resume(…) finds them there, and asks nothing again", "resume")
            return
        verdict = derive_status(record, steps, None, reachable=False, time=now())
        if verdict.status.ended:
            what = f"it is recorded as {record.status}, but has {verdict.status}"
            self._add(where, what, "ws.workflows.refresh() records it", "refresh")
        elif record.status is Status.CREATED and now() - record.attempted_at > SUBMISSION_GRACE:
            what = "it was never submitted to the cluster: the process that launched it ended before"
            self._add(
                where, what, "ws.workflows.refresh() records it, and ws.workflows.resume(…) submits it", "refresh"
            )

    def _has_results(self, where: str, record: Workflow, experiment: str, steps: dict[Step, StepResult]) -> bool:
        missing = [step for step in Step if step not in steps or steps[step].status is not Status.SUCCEEDED]
        if not missing:
            return True
        name = layout.result(record.id, missing[0])
        what = f"it is recorded as succeeded, but {name} is missing or says otherwise"
        if missing == [Step.EVALUATION]:
            self._add(
                where, what, f"ws.evaluate({experiment!r}), or ws.workflows.retry_failed({experiment!r})", "evaluate"
            )
        else:
            self._add(
                where, what, f"ws.workflows.retry_failed({experiment!r}), if some answers are missing; else {_AGAIN}"
            )
        return False

    def _check_scores(
        self, where: str, record: Workflow, experiment: Experiment, result: StepResult, recorded: dict[str, float]
    ) -> None:
        if not same_scores(result.scores, recorded):
            what = "its scores in the database differ from those in the store"
            remedy = "ws.compare(…) uses those of the store; make a copy by lumigator-nb db backup, then check the row"
            self._add(where, what, remedy)
        if results.finished_shards(self._store, record.id, Step.EVALUATION):
            return  # by an earlier version, in which all metrics shared one folder
        scored = experiment.metrics
        with self._readable(where, layout.spec(record.id), "ws.evaluate(…) writes it again"):
            # Metrics may have joined the experiment since. A workflow that was loaded from a file has no spec.
            if self._store.exists(layout.spec(record.id)):
                scored = results.read_spec(self._store, record.id).metrics
        for metric in scored:
            remedy = (
                f"ws.store.delete({layout.scores_folder(record.id, metric)!r}), then ws.evaluate({_key(experiment)!r})"
            )
            with self._readable(where, layout.metric_result(record.id, metric), remedy):
                self._check_metric(where, record, metric, _key(experiment), result, remedy)

    def _check_metric(
        self, where: str, record: Workflow, metric: MetricSpec, experiment: str, result: StepResult, remedy: str
    ) -> None:
        metric_result = results.find_metric_result(self._store, record.id, metric)
        if metric_result is None:
            what = f"the result of metric {metric.title} is missing"
            self._add(where, what, f"ws.evaluate({experiment!r}) computes it", "evaluate")
            return
        if metric_result.error is not None:
            return
        folder = layout.scores_folder(record.id, metric)
        names = [name for name in self._store.list(folder) if name.startswith(f"{folder}/part-")]
        totals = Totals(metric)
        for table in self._tables(where, folder, names, result.n_examples, remedy):
            totals.add(table)
        if wrong := totals.differing(metric_result):
            self._add(where, f"the overall {', '.join(wrong)} does not follow from the examples' scores", remedy)

    def _tables(
        self, where: str, folder: str, names: Sequence[str], n_examples: int, remedy: str
    ) -> Iterator[pa.Table]:
        """Yield the readable files of a folder one by one; record those that are damaged, and missing rows."""
        row, lost = 0, False
        for name in names:
            table = None
            with self._readable(where, name, remedy), results.open_table(self._store, name) as parquet:
                table = parquet.read()
                rows = table["row"].to_numpy()
            if table is None:
                lost = True
                continue
            # After a file that cannot be read, the first row of the next is unknown.
            row, lost = int(rows[0]) if lost and len(rows) else row, False
            if not np.array_equal(rows, np.arange(row, row + len(rows))):
                self._add(where, f"{name} should begin with row {row:,}, and does not", remedy)
                return
            row += len(table)
            yield table
        if row != n_examples and not lost:
            self._add(where, f"{folder} has {row:,} rows, not {n_examples:,}", remedy)

    @contextmanager
    def _readable(self, where: str, name: str, remedy: str) -> Iterator[None]:
        """Record a file that the block cannot read, and go on."""
        try:
            yield
        except NotFoundError:
            self._add(where, f"{name} is missing", remedy)
        except StoreUnavailableError as error:
            if not self._store.is_local:
                raise  # the service does not answer: all other files would be reported too
            self._add(where, error.message, error.hint or remedy)
        except _DAMAGED as error:
            message = error.message if isinstance(error, LumigatorError) else f"{name} cannot be read: {error}"
            self._add(where, one_line(message), remedy)

    def _add(self, where: str, what: str, remedy: str, repaired_by: Repair = "") -> None:
        self.faults.append(Fault(where, what, remedy, repaired_by))


def _key(experiment: Experiment) -> str:
    """Return the name by which verbs find the experiment; one that holds a single job is found by its id."""
    return experiment.name if experiment.job_name is None else experiment.id


def _sha256(store: Store, name: str) -> str:
    with store.reading(name) as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _n_rows(store: Store, name: str, *, whole: bool) -> int:
    """Return the number of rows of a Parquet file; with `whole` all of it is read, which reveals damage."""
    with results.open_table(store, name) as parquet:
        if whole:
            return sum(len(batch) for batch in parquet.iter_batches(batch_size=4096))
        return int(parquet.metadata.num_rows)


def _count(database: Database) -> dict[str, int]:
    with reading(database) as work:
        tables: dict[str, Repository[Any]] = {
            "dataset": work.datasets,
            "experiment": work.experiments,
            "workflow": work.workflows,
            "label": work.labels,
        }
        return {kind: table.count() for kind, table in tables.items()}


def _pages(database: Database, table: type[T]) -> Iterator[list[T]]:
    """Yield all rows in pages, which bounds memory and keeps each transaction short."""
    column, last = col(getattr(table, "id")), ""  # noqa: B009 - T has no such attribute for the type checker
    while True:
        with reading(database) as work:
            rows = list(work.session.exec(select(table).where(column > last).order_by(column).limit(_PAGE)))
        if not rows:
            return
        yield rows
        last = getattr(rows[-1], "id")  # noqa: B009


def _surroundings(
    database: Database, workflows: Sequence[Workflow]
) -> tuple[dict[str, Experiment], dict[str, dict[str, float]]]:
    """Return the experiments by id, and the recorded overall scores by workflow."""
    with reading(database) as work:
        ids = {workflow.experiment_id for workflow in workflows}
        experiments = work.session.exec(select(Experiment).where(col(Experiment.id).in_(ids)))
        by_id = {experiment.id: experiment for experiment in experiments}
        jobs = work.jobs.of_workflows([workflow.id for workflow in workflows])
    return by_id, {job.workflow_id: job.scores for job in jobs if job.step is Step.EVALUATION}
