"""Queries, in a repository per table, and the unit of work, which commits once. Repositories never commit."""

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
# The column, and whether its largest value comes first. Only datasets have a size.
_ORDERS: dict[str, tuple[str, bool]] = {
    "newest": ("created_at", True), "oldest": ("created_at", False),
    "name": ("name", False), "-name": ("name", True),
    "size": ("n_examples", True), "-size": ("n_examples", False),
}  # fmt: skip


def serialize(session: Session, what: str) -> None:
    """Wait until no other transaction that locked the same name is open; others then wait for the end of this one.

    It protects rules that no unique constraint can express, as the rows do not exist yet. SQLite needs no lock, as it
    has one writer at a time.
    """
    if session.get_bind().dialect.name == "postgresql":
        # PostgreSQL's advisory locks are named by signed 64-bit numbers.
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big", signed=True)
        session.execute(sa.select(func.pg_advisory_xact_lock(number)))


class Repository(Generic[T]):
    """Rows of one table.

    Args:
        session: the session for all queries.
        table: the record's class, which has `id` and `created_at`.
        name_column: another column by which rows can be found; None if there is none.
        lock: lock the rows that are looked up until the transaction ends, so that decisions about them stay valid.
            SQLite needs no locks, as it has one writer at a time.
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
        # Flush now: at the commit, an error could not be assigned to this record.
        try:
            self.session.flush()
        except IntegrityError as error:
            name = str(getattr(record, self.name_column or "id"))
            raise ConflictError(self.kind, name, "choose another name, or delete the old one") from error
        return record

    def find(self, key: str) -> T | None:
        """Return the row with this id, name, or prefix of an id (at least 6 characters); None if there is none.

        Raises:
            InvalidInputError: several ids have this prefix.
        """
        row = self.session.get(self.table, key, with_for_update=self.lock or None) or self.named(key)
        if row is not None or len(key) < MIN_ID_PREFIX:
            return row
        has_prefix = self._column("id").startswith(key, autoescape=True)
        query = select(self.table).where(has_prefix, *self.visible()).limit(2)
        rows = self.session.exec(self._locked(query)).all()
        if len(rows) > 1:
            raise InvalidInputError(f"several {self.kind}s have an id that begins with {key!r}", "write more of the id")
        return rows[0] if rows else None

    def get(self, key: str | T) -> T:
        """Return the row of :meth:`find`. For a record, return its current row.

        Raises:
            NotFoundError: there is no such row; the hint lists names.
        """
        key = key_of(key)
        row = self.find(key)
        if row is not None:
            return row
        hint = None
        if self.name_column:
            names = self.session.exec(select(self._column(self.name_column)).where(*self.visible()).limit(20)).all()
            hint = f"known: {', '.join(cast(Sequence[str], names))}" if names else f"there is no {self.kind} yet"
        raise NotFoundError(self.kind, key, hint)

    def named(self, name: str) -> T | None:
        """Return the row with exactly this name, or None."""
        if not self.name_column:
            return None
        query = select(self.table).where(col(getattr(self.table, self.name_column)) == name)
        return self.session.exec(self._locked(query)).first()

    def list(
        self, *conditions: ColumnElement[bool], limit: int = 100, offset: int = 0, order: Order = "newest"
    ) -> list[T]:
        """Return the rows that meet all conditions."""
        if order not in _ORDERS:
            raise InvalidInputError(f"there is no order {order!r}", f"known: {', '.join(_ORDERS)}")
        name, descending = _ORDERS[order]
        # Also by id, so that pages of rows with equal values neither repeat nor skip any.
        columns = self._column(name), self._column("id")
        query = select(self.table).where(*conditions)
        query = query.order_by(*(column.desc() if descending else column for column in columns))
        return list(self.session.exec(query.offset(offset).limit(limit)))

    def count(self, *conditions: ColumnElement[bool]) -> int:
        """Return the number of rows that meet all conditions."""
        return self.session.exec(select(func.count()).select_from(self.table).where(*conditions)).one()

    def names(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the names of visible rows by id, in one query; ids without a visible row are absent."""
        key, name = self._column("id"), self._column(self.name_column or "id")
        return dict(self.session.exec(select(key, name).where(key.in_(ids), *self.visible())).all())

    def visible(self) -> builtins.list[ColumnElement[bool]]:
        """Return the conditions of visible rows. Lists and hints omit other rows, and `get` finds them only by id."""
        return []

    def shown(self, *, archived: bool, search: str | None = None) -> builtins.list[ColumnElement[bool]]:
        """Return the conditions of a list's rows.

        Args:
            archived: whether to include archived rows.
            search: text that names must contain, ignoring case.
        """
        conditions = [*self.visible(), *([] if archived else [self._column("archived_at").is_(None)])]
        if search and search.strip():
            name = func.lower(self._column(self.name_column or "id"))
            conditions.append(name.contains(search.strip().lower(), autoescape=True))
        return conditions

    def _column(self, name: str) -> Any:
        return col(getattr(self.table, name))

    def delete(self, record: T) -> None:
        """Remove a row."""
        self.session.delete(record)

    def _locked(self, query: SelectOfScalar[T]) -> SelectOfScalar[T]:
        return query.with_for_update() if self.lock else query


class Datasets(Repository[Dataset]):
    """Datasets. A name stands for its newest version, and ``name@version`` for that version."""

    def visible(self) -> builtins.list[ColumnElement[bool]]:
        """Exclude the copies that earlier versions of the package made for requests with `max_samples`."""
        return [_derived["for"].as_string().is_(None)]

    def named(self, name: str) -> Dataset | None:
        """Return the newest version with this name, or the version of ``name@version``; None if there is none."""
        # First as a plain name, since a name may contain "@2".
        newest = self.session.exec(self._locked(_newest_first(name))).first()
        if newest is not None:
            return newest
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
        # Two uploads of the same file at once must not both find that it is new.
        if self.lock:
            serialize(self.session, f"content {content_hash}")
        query = select(Dataset).where(Dataset.content_hash == content_hash).order_by(col(Dataset.created_at))
        return list(self.session.exec(query))

    def copies_of(self, dataset_id: str) -> list[Dataset]:
        """Return the copies of a dataset that earlier versions made for requests with `max_samples`."""
        conditions = _derived["dataset_id"].as_string() == dataset_id, _is_copy
        return list(self.session.exec(select(Dataset).where(*conditions).order_by(col(Dataset.id))))

    def copies(self, ids: Sequence[str]) -> list[Dataset]:
        """Return those of the datasets that earlier versions made for requests with `max_samples`."""
        query = select(Dataset).where(col(Dataset.id).in_(ids), _is_copy).order_by(col(Dataset.id))
        return list(self.session.exec(query))


_derived = sa.type_coerce(col(Dataset.derived), sa.JSON)
_is_copy = _derived["for"].as_string() == "max_samples"


def _newest_first(name: str) -> SelectOfScalar[Dataset]:
    return select(Dataset).where(Dataset.name == name).order_by(col(Dataset.version).desc())


class Experiments(Repository[Experiment]):
    """Experiments, by name."""

    def visible(self) -> builtins.list[ColumnElement[bool]]:
        """Exclude experiments that exist only for a single job."""
        return [col(Experiment.purpose) == Purpose.COMPARISON]

    def of_dataset(self, dataset_id: str) -> list[Experiment]:
        """Return the experiments on a dataset."""
        return list(self.session.exec(select(Experiment).where(Experiment.dataset_id == dataset_id)))

    def owing(self) -> list[Experiment]:
        """Return the experiments whose predictions have still to be made into a dataset."""
        return list(self.session.exec(select(Experiment).where(col(Experiment.owes_dataset))))

    def abandoned(self, before: datetime) -> list[Experiment]:
        """Return the experiments of single jobs that were created before a time and have no workflow."""
        workflows = sa.exists().where(col(Workflow.experiment_id) == col(Experiment.id))
        conditions = col(Experiment.purpose) != Purpose.COMPARISON, col(Experiment.created_at) < before, ~workflows
        return list(self.session.exec(select(Experiment).where(*conditions)))

    def free_name(self, name: str) -> str:
        """Return a name that no experiment has: this one, or one with a number, such as "name (2)".

        The name stays free until the transaction ends, if all others get theirs from this method, too.
        """
        serialize(self.session, f"experiment {name}")
        number, free = 2, name
        while self.count(col(Experiment.name) == free):
            free, number = f"{name} ({number})", number + 1
        return free

    def having(self, status: Status) -> ColumnElement[bool]:
        """Return the condition that an experiment has a workflow with this status."""
        return sa.exists().where(col(Workflow.experiment_id) == col(Experiment.id), col(Workflow.status) == status)


class Workflows(Repository[Workflow]):
    """Workflows, by id."""

    def counts(self, experiment_ids: Sequence[str]) -> dict[str, Counter[Status]]:
        """Return the number of workflows per status for each experiment, in one query."""
        query = (
            select(Workflow.experiment_id, Workflow.status, func.count())
            .where(col(Workflow.experiment_id).in_(experiment_ids))
            .group_by(col(Workflow.experiment_id), col(Workflow.status))
        )
        counts: dict[str, Counter[Status]] = {key: Counter() for key in experiment_ids}
        for key, status, number in self.session.exec(query):
            counts[key][Status(status)] = number
        return counts

    def of_experiment(self, experiment_id: str) -> list[Workflow]:
        """Return the workflows of an experiment, in the order of their launch."""
        return self._in_order(select(Workflow).where(Workflow.experiment_id == experiment_id))

    def of_experiments(self, experiment_ids: Sequence[str]) -> list[Workflow]:
        """Return the workflows of several experiments, in the order of their launch."""
        return self._in_order(select(Workflow).where(col(Workflow.experiment_id).in_(experiment_ids)))

    def of_ids(self, ids: Sequence[str]) -> list[Workflow]:
        """Return the workflows with these ids, as far as they exist, in the order of their launch."""
        return self._in_order(select(Workflow).where(col(Workflow.id).in_(ids)))

    def _in_order(self, query: SelectOfScalar[Workflow]) -> list[Workflow]:
        # All transactions that lock several workflows do so in this order, so that no two wait for each other.
        return list(self.session.exec(self._locked(query.order_by(col(Workflow.created_at), col(Workflow.label)))))

    def unfinished(self) -> list[Workflow]:
        """Return the workflows that are not recorded as ended."""
        # "status IN (active)" can use the index, but "status NOT IN (ended)" cannot.
        active = [status.value for status in Status if not status.ended]
        return self._in_order(select(Workflow).where(col(Workflow.status).in_(active)))


_asked, _model = sa.type_coerce(col(Experiment.asked), sa.JSON), sa.type_coerce(col(Workflow.model), sa.JSON)
_SKIPPED = sa.type_coerce(col(Job.details), sa.JSON)["failed_metrics"]
# The columns of a list of jobs, in the order of the fields of `JobSummary`. The database extracts single values from
# columns with JSON.
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
        """Return the metrics that could not be computed, with reasons, by workflow id; others are absent."""
        rows = self.session.exec(select(Job.workflow_id, _SKIPPED).where(col(Job.workflow_id).in_(workflow_ids)))
        return {key: metrics for key, metrics in rows if metrics}

    def ended(self, workflow_ids: Collection[str]) -> set[tuple[str, Step]]:
        """Return the steps that are recorded as ended, as pairs of workflow id and step."""
        ended = [status.value for status in Status if status.ended]
        query = select(Job.workflow_id, Job.step).where(
            col(Job.workflow_id).in_(workflow_ids), col(Job.status).in_(ended)
        )
        return {(key, Step(step)) for key, step in self.session.exec(query)}

    def asked_for(
        self, kinds: Sequence[tuple[Step, Purpose | None]], *, limit: int, offset: int
    ) -> list[tuple[Any, ...]]:
        """Return the listed jobs, newest first, with the values of their workflows and experiments, in one query.

        The values are not records, since validating models and metrics takes ten times as long as the rest.

        Args:
            kinds: pairs of step and purpose of the experiment (None for any purpose); empty for all jobs.

        Returns:
            The values of :data:`JOB_COLUMNS` for each job.
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
        """Return the number of jobs that :meth:`asked_for` would return without a limit."""
        return self.session.exec(select(func.count()).select_from(Job).where(*self._of_kinds(kinds))).one()

    def _of_kinds(self, kinds: Sequence[tuple[Step, Purpose | None]]) -> list[ColumnElement[bool]]:
        alternatives: list[ColumnElement[bool]] = []
        for step, purpose in kinds:
            condition: ColumnElement[bool] = col(Job.step) == step
            if purpose is not None:
                owners = select(Workflow.id).join(Experiment, col(Workflow.experiment_id) == col(Experiment.id))
                has_purpose = col(Job.workflow_id).in_(owners.where(Experiment.purpose == purpose))
                condition = sa.and_(condition, has_purpose)
            alternatives.append(condition)
        is_listed = col(Job.listed).is_(True)
        return [is_listed, sa.or_(*alternatives)] if alternatives else [is_listed]


class Labels(Repository[Label]):
    """People's labels, by experiment."""

    def of_experiment(self, experiment_id: str, kind: str, criterion: str) -> list[Label]:
        """Return the labels of one kind and criterion, ordered by row, models and rater."""
        query = select(Label).where(
            Label.experiment_id == experiment_id, Label.kind == kind, Label.criterion == criterion
        )
        order = (col(column) for column in (Label.row, Label.model, Label.other, Label.rater))
        return list(self.session.exec(query.order_by(*order)))

    def of_rater(self, experiment_id: str, rater: str) -> list[Label]:
        """Return all labels of one person in an experiment."""
        return list(self.session.exec(select(Label).where(Label.experiment_id == experiment_id, Label.rater == rater)))

    def raters(self, experiment_id: str) -> list[str]:
        """Return the names of all people with labels in an experiment."""
        query = select(Label.rater).where(Label.experiment_id == experiment_id).distinct()
        return sorted(self.session.exec(query))

    def scales(self, experiment_id: str, criterion: str) -> list[tuple[float | None, float | None]]:
        """Return the scales (low, high) of the ratings by a criterion."""
        query = select(Label.scale_low, Label.scale_high).where(
            Label.experiment_id == experiment_id, Label.kind == "rating", Label.criterion == criterion
        )
        return [(low, high) for low, high in self.session.exec(query.distinct())]

    def put(self, labels: Sequence[Label]) -> None:
        """Insert labels of one experiment, kind, criterion and rater. They replace labels of the same subjects."""
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
        # SQLAlchemy inserts before it deletes, which would break the unique constraint.
        self.session.flush()
        self.session.add_all(labels)
        self.session.flush()


class Secrets(Repository[Secret]):
    """Encrypted secrets, by name."""

    def find(self, key: str) -> Secret | None:
        """Return the secret with this name, or None."""
        return self.session.get(Secret, key, with_for_update=self.lock or None)

    def all(self) -> list[Secret]:
        """Return all secrets, ordered by name."""
        return list(self.session.exec(select(Secret).order_by(col(Secret.name))))


class Tokens(Repository[Token]):
    """API tokens, by name."""

    def with_digest(self, digest: str) -> Token | None:
        """Return the token with this digest, or None."""
        return self.session.exec(select(Token).where(Token.digest == digest)).first()


class Removals(Repository[Removal]):
    """Pending work of deletions."""

    def forget(self, key: str) -> None:
        """Remove an entry, unless another process has removed it already."""
        self.session.execute(sa.delete(Removal).where(col(Removal.id) == key))


class Replies(Repository[Reply]):
    """Responses to requests with an idempotency key."""

    def find(self, key: str) -> Reply | None:
        """Return the response for this key, or None."""
        return self.session.get(Reply, key, with_for_update=self.lock or None)

    def forget(self, before: datetime) -> None:
        """Remove the responses from before a time."""
        for old in self.session.exec(select(Reply).where(col(Reply.created_at) < before)):
            self.session.delete(old)


# Together with the number of rows, these aggregates change whenever a row is added, changed or deleted.
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
        """Return an experiment's dataset, reduced to the rows that the experiment uses."""
        return self.datasets.get(experiment.dataset_id).sampled(experiment.sample)

    def state(self) -> str:
        """Return a text that changes whenever a dataset, experiment, workflow, label or secret changes."""
        tables = [
            tuple(self.session.exec(sa.select(func.count(), *marks).select_from(table)).one())  # type: ignore[call-overload]
            for table, *marks in _MARKS
        ]
        groups = col(Workflow.status), col(Workflow.stale)
        marks = func.count(), func.max(col(Workflow.attempted_at)), func.sum(col(Workflow.attempt))
        workflows = self.session.exec(sa.select(*groups, *marks).group_by(*groups))  # type: ignore[call-overload]
        return repr((tables, sorted(map(str, workflows))))


@contextmanager
def reading(database: Database) -> Iterator[UnitOfWork]:
    """Open the repositories for reading. Nothing is committed."""
    with database.session() as session:
        yield UnitOfWork(session)


@contextmanager
def writing(database: Database) -> Iterator[UnitOfWork]:
    """Open the repositories for one action: a single commit when the block ends without an error, else a rollback.

    Rows that are looked up are locked until then. Look up tables in the order dataset, experiment, workflow, so that no
    two actions wait for each other.
    """
    with database.session(write=True) as session:
        yield UnitOfWork(session, lock=True)
