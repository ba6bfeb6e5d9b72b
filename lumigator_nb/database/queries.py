"""Queries, and the unit of work that holds them together. Repositories never commit; the unit of work does, once."""

from __future__ import annotations

import builtins
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from lumigator_nb.database.engine import Database
from lumigator_nb.database.records import (
    Dataset,
    Experiment,
    Job,
    Label,
    Removal,
    Reply,
    Secret,
    Token,
    Workflow,
    key_of,
)
from lumigator_nb.errors import ConflictError, InvalidInputError, NotFoundError
from lumigator_nb.specs import Purpose, Status, Step

T = TypeVar("T", bound=SQLModel)
MIN_ID_PREFIX = 6

Order = Literal["newest", "oldest", "name", "-name", "size", "-size"]
# By column, and whether the greatest comes first. Only datasets have a size.
_ORDERS: dict[str, tuple[str, bool]] = {
    "newest": ("created_at", True), "oldest": ("created_at", False),
    "name": ("name", False), "-name": ("name", True),
    "size": ("n_examples", True), "-size": ("n_examples", False),
}  # fmt: skip


def serialize(session: Session, what: str) -> None:
    """Wait until no other transaction that named the same thing is open; others wait until this one has ended.

    For what no unique constraint can say, since it is about rows that are not there yet. SQLite has one writer at a
    time anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big", signed=True)
        session.execute(sa.select(func.pg_advisory_xact_lock(number)))


class Repository(Generic[T]):
    """Rows of one table.

    Args:
        session: to ask through.
        table: the record's class; it has `id` and `created_at`.
        name_column: the column besides `id` by which a row may be asked for; None where there is none.
        lock: keep others from changing the rows that are looked up until the transaction ends, so that what was read
            is still true when it is written. SQLite has one writer at a time anyway.
    """

    def __init__(self, session: Session, table: type[T], name_column: str | None = None, *, lock: bool = False) -> None:
        self.session = session
        self.table = table
        self.name_column = name_column
        self.lock = lock
        self.kind = table.__name__.lower()

    def add(self, record: T) -> T:
        """Insert a row.

        Raises:
            ConflictError: its name is taken.
        """
        self.session.add(record)
        try:
            self.session.flush()
        except IntegrityError as error:
            name = str(getattr(record, self.name_column or "id"))
            raise ConflictError(self.kind, name, "choose another name, or delete the old one") from error
        return record

    def find(self, key: str) -> T | None:
        """Return the row with that id, name or beginning of an id (6 characters or more); None where there is none.

        Raises:
            InvalidInputError: several ids begin like that.
        """
        row = self.session.get(self.table, key, with_for_update=self.lock or None) or self.named(key)
        if row is None and len(key) >= MIN_ID_PREFIX:
            row = self._by_prefix(key)
        return row

    def get(self, key: str | T) -> T:
        """As :meth:`find`; of a record the row as it is now.

        Raises:
            NotFoundError: there is none; the hint lists the nearest names.
        """
        key = key_of(key)
        row = self.find(key)
        if row is None:
            raise NotFoundError(self.kind, key, self._known_names())
        return row

    def named(self, name: str) -> T | None:
        """Return the row with exactly that name, or None."""
        if not self.name_column:
            return None
        query = select(self.table).where(col(getattr(self.table, self.name_column)) == name)
        return self.session.exec(self._locked(query)).first()

    def list(
        self, *conditions: ColumnElement[bool], limit: int = 100, offset: int = 0, order: Order = "newest"
    ) -> list[T]:
        """Return the rows for which all conditions hold."""
        query = select(self.table).where(*conditions).order_by(*self._order(order))
        return list(self.session.exec(query.offset(offset).limit(limit)))

    def count(self, *conditions: ColumnElement[bool]) -> int:
        """Return the number of rows for which all conditions hold."""
        return self.session.exec(select(func.count()).select_from(self.table).where(*conditions)).one()

    def names(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the names of visible rows by their ids, in one query; ids without one are left out."""
        key, name = self._column("id"), self._column(self.name_column or "id")
        return dict(self.session.exec(select(key, name).where(key.in_(ids), *self.visible())).all())

    def visible(self) -> builtins.list[ColumnElement[bool]]:
        """Return the conditions of rows that users know of; others are named nowhere, and open by their id alone."""
        return []

    def shown(self, *, archived: bool, search: str | None = None) -> builtins.list[ColumnElement[bool]]:
        """Return the conditions of a list: whether rows that were put away belong to it, what names must contain."""
        conditions = [*self.visible(), *([] if archived else [self._column("archived_at").is_(None)])]
        if search and search.strip():
            name = func.lower(self._column(self.name_column or "id"))
            conditions.append(name.contains(search.strip().lower(), autoescape=True))
        return conditions

    def _order(self, order: Order) -> tuple[Any, ...]:
        if order not in _ORDERS:
            raise InvalidInputError(f"there is no order {order!r}", f"known: {', '.join(_ORDERS)}")
        name, descending = _ORDERS[order]
        columns = self._column(name), self._column("id")
        return tuple(column.desc() for column in columns) if descending else columns

    def _column(self, name: str) -> Any:
        return col(getattr(self.table, name))

    def delete(self, record: T) -> None:
        """Remove a row."""
        self.session.delete(record)

    def _by_prefix(self, prefix: str) -> T | None:
        column = col(getattr(self.table, "id"))  # noqa: B009
        query = select(self.table).where(column.startswith(prefix, autoescape=True), *self.visible()).limit(2)
        rows = self.session.exec(self._locked(query)).all()
        if len(rows) > 1:
            raise InvalidInputError(f"several {self.kind}s have an id that begins with {prefix!r}", "write more of it")
        return rows[0] if rows else None

    def _locked(self, query: SelectOfScalar[T]) -> SelectOfScalar[T]:
        return query.with_for_update() if self.lock else query

    def _known_names(self) -> str | None:
        if not self.name_column:
            return None
        names = self.session.exec(select(self._column(self.name_column)).where(*self.visible()).limit(20)).all()
        return f"known: {', '.join(cast(Sequence[str], names))}" if names else f"there is no {self.kind} yet"


class Datasets(Repository[Dataset]):
    """Datasets, by name: the newest version, or that of ``name@version``."""

    def visible(self) -> builtins.list[ColumnElement[bool]]:
        """Those that earlier versions drew for requests with `max_samples` are not."""
        return [_derived["for"].as_string().is_(None)]

    def named(self, name: str) -> Dataset | None:
        """Return the newest version of that name, or the one that is asked for; None where there is none."""
        found = self.session.exec(self._locked(_newest_first(name))).first()
        if found is not None:
            return found
        plain, _, version = name.rpartition("@")
        if not plain or not version.isdecimal():
            return None
        query = _newest_first(plain).where(Dataset.version == int(version))
        return self.session.exec(self._locked(query)).first()

    def versions(self, name: str) -> list[Dataset]:
        """Return all versions of a name, newest first."""
        return list(self.session.exec(_newest_first(name)))

    def with_content(self, content_hash: str) -> list[Dataset]:
        """Return the datasets that were uploaded from the same bytes, oldest first."""
        if self.lock:
            serialize(self.session, f"content {content_hash}")
        query = select(Dataset).where(Dataset.content_hash == content_hash).order_by(col(Dataset.created_at))
        return list(self.session.exec(query))

    def copies_of(self, dataset_id: str) -> list[Dataset]:
        """Return what earlier versions drew from a dataset for requests with `max_samples`."""
        conditions = _derived["dataset_id"].as_string() == dataset_id, _is_copy
        return list(self.session.exec(select(Dataset).where(*conditions).order_by(col(Dataset.id))))

    def copies(self, ids: Sequence[str]) -> list[Dataset]:
        """Return those of the datasets that earlier versions drew for requests with `max_samples`."""
        query = select(Dataset).where(col(Dataset.id).in_(ids), _is_copy).order_by(col(Dataset.id))
        return list(self.session.exec(query))


_derived = sa.type_coerce(col(Dataset.derived), sa.JSON)
_is_copy = _derived["for"].as_string() == "max_samples"


def _newest_first(name: str) -> SelectOfScalar[Dataset]:
    return select(Dataset).where(Dataset.name == name).order_by(col(Dataset.version).desc())


class Experiments(Repository[Experiment]):
    """Experiments, by name."""

    def visible(self) -> builtins.list[ColumnElement[bool]]:
        """What holds a single job is not."""
        return [col(Experiment.purpose) == Purpose.COMPARISON]

    def of_dataset(self, dataset_id: str) -> list[Experiment]:
        """Return the experiments on a dataset."""
        return list(self.session.exec(select(Experiment).where(Experiment.dataset_id == dataset_id)))

    def owing(self) -> list[Experiment]:
        """Return those of whose predictions a dataset is still to be made."""
        return list(self.session.exec(select(Experiment).where(col(Experiment.owes_dataset))))

    def abandoned(self, before: datetime) -> list[Experiment]:
        """Return those that were made for a job, and have no workflow although they are older than that."""
        workflows = sa.exists().where(col(Workflow.experiment_id) == col(Experiment.id))
        conditions = col(Experiment.purpose) != Purpose.COMPARISON, col(Experiment.created_at) < before, ~workflows
        return list(self.session.exec(select(Experiment).where(*conditions)))

    def free_name(self, name: str) -> str:
        """Return a name that no experiment has: that one, or with a number behind it, "name (2)".

        It stays free until the transaction ends, as far as others ask here for theirs.
        """
        serialize(self.session, f"experiment {name}")
        number, free = 2, name
        while self.count(col(Experiment.name) == free):
            free, number = f"{name} ({number})", number + 1
        return free

    def having(self, status: Status) -> ColumnElement[bool]:
        """Return the condition that an experiment has a workflow of that status."""
        return sa.exists().where(col(Workflow.experiment_id) == col(Experiment.id), col(Workflow.status) == status)


class Workflows(Repository[Workflow]):
    """Workflows, by id."""

    def counts(self, experiment_ids: Sequence[str]) -> dict[str, Counter[Status]]:
        """Return how many workflows of each status experiments have, in one query."""
        query = (
            select(Workflow.experiment_id, Workflow.status, func.count())
            .where(col(Workflow.experiment_id).in_(experiment_ids))
            .group_by(col(Workflow.experiment_id), col(Workflow.status))
        )
        found: dict[str, Counter[Status]] = {key: Counter() for key in experiment_ids}
        for key, status, number in self.session.exec(query):
            found[key][Status(status)] = number
        return found

    def of_experiment(self, experiment_id: str) -> list[Workflow]:
        """Return the workflows of an experiment, in the order of their launch."""
        return self._in_order(select(Workflow).where(Workflow.experiment_id == experiment_id))

    def of_experiments(self, experiment_ids: Sequence[str]) -> list[Workflow]:
        """Return the workflows of several experiments, in the order of their launch."""
        return self._in_order(select(Workflow).where(col(Workflow.experiment_id).in_(experiment_ids)))

    def of_ids(self, ids: Sequence[str]) -> list[Workflow]:
        """Return those of the workflows that are still there, in the order of their launch."""
        return self._in_order(select(Workflow).where(col(Workflow.id).in_(ids)))

    def _in_order(self, query: SelectOfScalar[Workflow]) -> list[Workflow]:
        # Whoever locks several does so in this order, so that no two wait for each other.
        return list(self.session.exec(self._locked(query.order_by(col(Workflow.created_at), col(Workflow.label)))))

    def unfinished(self) -> list[Workflow]:
        """Return the workflows that are not known to have ended."""
        # Not "none of those that ended": an index only helps to find what is asked for.
        active = [status.value for status in Status if not status.ended]
        return self._in_order(select(Workflow).where(col(Workflow.status).in_(active)))


_asked, _model = sa.type_coerce(col(Experiment.asked), sa.JSON), sa.type_coerce(col(Workflow.model), sa.JSON)
_SKIPPED = sa.type_coerce(col(Job.details), sa.JSON)["failed_metrics"]
# What a list of jobs shows of each, in the order of the fields of `services.jobs.JobSummary`. Of JSON only what is
# shown is taken out, by the database.
JOB_COLUMNS: tuple[Any, ...] = (
    col(Job.id), col(Job.step), col(Job.status), col(Job.error),
    col(Job.created_at), col(Job.started_at), func.coalesce(col(Job.finished_at), col(Workflow.finished_at)),
    col(Workflow.label), col(Workflow.description), col(Workflow.attempted_at),
    _model["name"].as_string(),
    col(Experiment.id), col(Experiment.purpose), col(Experiment.description), col(Experiment.dataset_id),
    col(Experiment.owes_dataset),
    _asked["name"].as_string(), _asked["problem"].as_string(), _asked["max_samples"].as_integer(),
    sa.type_coerce(col(Experiment.task), sa.JSON)["kind"].as_string(),
    col(Dataset.name), col(Dataset.filename),
    sa.type_coerce(col(Dataset.generated), sa.JSON)["model"].as_string(),
    sa.type_coerce(col(Dataset.derived), sa.JSON)["how"].as_string(),
    _SKIPPED,
)  # fmt: skip


class Jobs(Repository[Job]):
    """Jobs, by id."""

    def of_workflows(self, workflow_ids: Sequence[str]) -> list[Job]:
        """Return the jobs of workflows."""
        return list(self.session.exec(select(Job).where(col(Job.workflow_id).in_(workflow_ids))))

    def skipped(self, workflow_ids: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the metrics that could not be computed, with the reasons, of those workflows that have some."""
        found = self.session.exec(select(Job.workflow_id, _SKIPPED).where(col(Job.workflow_id).in_(workflow_ids)))
        return {key: metrics for key, metrics in found if metrics}

    def ended(self, workflow_ids: Collection[str]) -> set[tuple[str, Step]]:
        """Return which steps of workflows are recorded as ended, with the workflows' ids."""
        ended = [status.value for status in Status if status.ended]
        query = select(Job.workflow_id, Job.step).where(
            col(Job.workflow_id).in_(workflow_ids), col(Job.status).in_(ended)
        )
        return {(key, Step(step)) for key, step in self.session.exec(query)}

    def asked_for(
        self, kinds: Sequence[tuple[Step, Purpose | None]], *, limit: int, offset: int
    ) -> list[tuple[Any, ...]]:
        """Return jobs that were asked for, newest first, with what they belong to, in one query.

        Not as records: to read what models and metrics are takes ten times as long as the rest of a long list.

        Args:
            kinds: steps and the purposes of their experiments, where None is any; none for all jobs.

        Returns:
            The values of :data:`JOB_COLUMNS`.
        """
        query = (
            sa.select(*JOB_COLUMNS)
            .join(Workflow, col(Job.workflow_id) == col(Workflow.id))
            .join(Experiment, col(Workflow.experiment_id) == col(Experiment.id))
            .join(Dataset, col(Experiment.dataset_id) == col(Dataset.id))
            .where(*self._of_kinds(kinds))
            .order_by(col(Job.created_at).desc(), col(Job.id).desc())
        )
        return list(self.session.exec(query.offset(offset).limit(limit)))  # type: ignore[call-overload]

    def count_asked_for(self, kinds: Sequence[tuple[Step, Purpose | None]]) -> int:
        """Return how many jobs :meth:`asked_for` would return without a limit."""
        return self.session.exec(select(func.count()).select_from(Job).where(*self._of_kinds(kinds))).one()

    def _of_kinds(self, kinds: Sequence[tuple[Step, Purpose | None]]) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = [col(Job.listed).is_(True)]
        if kinds:
            conditions.append(sa.or_(*(self._of_kind(*kind) for kind in kinds)))
        return conditions

    def _of_kind(self, step: Step, purpose: Purpose | None) -> ColumnElement[bool]:
        is_step = col(Job.step) == step
        if purpose is None:
            return is_step
        owners = select(Workflow.id).join(Experiment, col(Workflow.experiment_id) == col(Experiment.id))
        return sa.and_(is_step, col(Job.workflow_id).in_(owners.where(Experiment.purpose == purpose)))


class Labels(Repository[Label]):
    """Labels of people, by experiment."""

    def of_experiment(self, experiment_id: str, kind: str, criterion: str) -> list[Label]:
        """Return the labels of one kind on one criterion, by example and pair."""
        query = select(Label).where(
            Label.experiment_id == experiment_id, Label.kind == kind, Label.criterion == criterion
        )
        order = (col(each) for each in (Label.row, Label.model, Label.other, Label.rater))
        return list(self.session.exec(query.order_by(*order)))

    def of_rater(self, experiment_id: str, rater: str) -> list[Label]:
        """Return all that one person said in an experiment."""
        return list(self.session.exec(select(Label).where(Label.experiment_id == experiment_id, Label.rater == rater)))

    def raters(self, experiment_id: str) -> list[str]:
        """Return who said something in an experiment."""
        query = select(Label.rater).where(Label.experiment_id == experiment_id).distinct()
        return sorted(self.session.exec(query))

    def scales(self, experiment_id: str, criterion: str) -> list[tuple[float | None, float | None]]:
        """Return the scales on which answers were rated by a criterion."""
        query = select(Label.scale_low, Label.scale_high).where(
            Label.experiment_id == experiment_id, Label.kind == "rating", Label.criterion == criterion
        )
        return [(low, high) for low, high in self.session.exec(query.distinct())]

    def put(self, labels: Sequence[Label]) -> None:
        """Insert labels of one experiment, kind, criterion and rater; those on the same subject are replaced."""
        rows = [label.row for label in labels]
        query = select(Label).where(
            Label.experiment_id == labels[0].experiment_id,
            Label.kind == labels[0].kind,
            Label.criterion == labels[0].criterion,
            Label.rater == labels[0].rater,
            col(Label.row).between(min(rows), max(rows)),
        )
        subjects = {label.subject for label in labels}
        for old in self.session.exec(query):
            if old.subject in subjects:
                self.session.delete(old)
        self.session.flush()  # or the new rows would come before the old ones are gone
        self.session.add_all(labels)
        self.session.flush()


class Secrets(Repository[Secret]):
    """Encrypted secrets, by name."""

    def find(self, key: str) -> Secret | None:
        """Return the secret of that name; None where there is none."""
        return self.session.get(Secret, key, with_for_update=self.lock or None)

    def all(self) -> list[Secret]:
        """Return all secrets, by name."""
        return list(self.session.exec(select(Secret).order_by(col(Secret.name))))


class Tokens(Repository[Token]):
    """API tokens, by name."""

    def with_digest(self, digest: str) -> Token | None:
        """Return the token of that digest; None where there is none."""
        return self.session.exec(select(Token).where(Token.digest == digest)).first()


class Removals(Repository[Removal]):
    """What deletions have left to be done."""

    def forget(self, key: str) -> None:
        """Remove one, which another process may have removed already."""
        self.session.execute(sa.delete(Removal).where(col(Removal.id) == key))


class Replies(Repository[Reply]):
    """Answers to requests with an idempotency key."""

    def find(self, key: str) -> Reply | None:
        """Return the answer of that key; None where there is none."""
        return self.session.get(Reply, key, with_for_update=self.lock or None)

    def forget(self, before: datetime) -> None:
        """Remove those that are older."""
        for old in self.session.exec(select(Reply).where(col(Reply.created_at) < before)):
            self.session.delete(old)


# What tells of a table's rows that one was added, changed or deleted, besides how many there are.
_MARKS: tuple[tuple[Any, ...], ...] = (
    (Dataset, func.max(col(Dataset.created_at)), func.count(col(Dataset.archived_at))),
    (Experiment, func.max(col(Experiment.created_at)), func.count(col(Experiment.archived_at))),
    (Label, func.max(col(Label.created_at)), func.sum(col(Label.value))),
    (Secret, func.max(col(Secret.updated_at))),
)


class UnitOfWork:
    """The repositories over one session."""

    def __init__(self, session: Session, *, lock: bool = False) -> None:
        self.session = session
        self.datasets = Datasets(session, Dataset, "name", lock=lock)
        self.experiments = Experiments(session, Experiment, "name", lock=lock)
        self.workflows = Workflows(session, Workflow, lock=lock)
        self.jobs = Jobs(session, Job, lock=lock)
        self.labels = Labels(session, Label, lock=lock)
        self.secrets = Secrets(session, Secret, lock=lock)
        self.tokens = Tokens(session, Token, "name", lock=lock)
        self.removals = Removals(session, Removal, lock=lock)
        self.replies = Replies(session, Reply, "key", lock=lock)

    def data_of(self, experiment: Experiment) -> Dataset:
        """Return an experiment's dataset, cut down to the rows that the experiment uses."""
        return self.datasets.get(experiment.dataset_id).sampled(experiment.sample)

    def state(self) -> str:
        """Return a text that is another one after a dataset, experiment, workflow, label or secret has changed."""
        counted = [
            tuple(self.session.exec(sa.select(func.count(), *marks).select_from(table)).one())  # type: ignore[call-overload]
            for table, *marks in _MARKS
        ]
        groups = col(Workflow.status), col(Workflow.stale)
        marks = func.count(), func.max(col(Workflow.attempted_at)), func.sum(col(Workflow.attempt))
        workflows = self.session.exec(sa.select(*groups, *marks).group_by(*groups))  # type: ignore[call-overload]
        return repr((counted, sorted(map(str, workflows))))


@contextmanager
def reading(database: Database) -> Iterator[UnitOfWork]:
    """Open the repositories for looking; nothing is committed."""
    with database.session() as session:
        yield UnitOfWork(session)


@contextmanager
def writing(database: Database) -> Iterator[UnitOfWork]:
    """Open the repositories for one action: one commit when the block ends well, nothing at all otherwise.

    Rows that are looked up are locked until then. Whoever needs several tables looks them up in the order dataset,
    experiment, workflow, so that no two actions wait for each other.
    """
    with database.session(write=True) as session:
        yield UnitOfWork(session, lock=True)
