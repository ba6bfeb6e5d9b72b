"""The records: a class for each table of the database. Dataset, Experiment, Workflow and Job are public values, too.

SQLModel does not validate the fields of tables; the services do.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from lumigator_nb.display.render import Rendered
from lumigator_nb.specs import Launch, MetricSpec, Model, Purpose, Sample, Scope, Status, Step, Task, now

# Constraints need names: a migration could not drop or change an unnamed one on every engine.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def key_of(record: str | SQLModel) -> str:
    """Return the id of a record; a name or id is returned unchanged."""
    return record if isinstance(record, str) else cast(Any, record).id  # the records of callers have one


class JsonValue(TypeDecorator[Any]):
    """A JSON column for a value of :mod:`lumigator_nb.specs`, or a tuple of such values."""

    impl = sa.JSON
    # SQLAlchemy may cache statements with this type; the arguments of __init__ are part of the cache's key.
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """Convert the value to plain JSON."""
        return self._adapter.dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """Convert plain JSON to the value."""
        return self._adapter.validate_python(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time in UTC. SQLite does not store time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Attach UTC if the engine dropped it, and convert a server's time zone to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# The fields by which people know a record, in the order of its `repr`.
_NAMED_BY = ("name", "label", "step", "version", "n_examples", "status", "id")


def _id() -> str:
    return str(uuid.uuid4())


def _enum(kind: type[StrEnum], *, index: bool = False) -> Any:
    # Stored as text: a native enum type would need a migration for every new member.
    column_type = sa.Enum(
        kind, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members]
    )
    return sa.Column(column_type, nullable=False, index=index)


def _time(nullable: bool = True) -> Any:
    return sa.Column(UtcDateTime(), nullable=nullable)


def _later_json(kind: Any = None) -> Any:
    """A JSON column that was added later; rows from before contain an empty object."""
    column_type = sa.JSON() if kind is None else JsonValue(kind)
    return sa.Column(column_type, nullable=False, server_default="{}")


class Record(Rendered, SQLModel):
    """Base of records that notebooks and terminals show; see :mod:`lumigator_nb.database.record_views`."""

    def __repr__(self) -> str:
        # Rendered's would print several lines in lists and tracebacks; SQLModel's all fields, with texts of examples.
        facts = {name: getattr(self, name, None) for name in _NAMED_BY}
        # A status is a StrEnum, or the text that it was made of.
        shown = [f"{name}={fact if isinstance(fact, int) else repr(str(fact))}" for name, fact in facts.items() if fact]
        return f"{type(self).__name__}({', '.join(shown)})"


class Dataset(Record, table=True):
    """Examples, with or without ground truth, plus metadata columns.

    Attributes:
        version: counts the contents uploaded under this name, from 1.
        filename: the user's name of the source. It is only a label, never a path.
        content_hash: SHA-256 of the uploaded bytes, in hex.
        data_hash: SHA-256 of the normalised Parquet file, in hex; "" for datasets from before it was recorded.
        size_bytes: size of the uploaded file.
        columns: the source columns that became `example` and `ground_truth`, under these keys.
        profile: counts, lengths in words and the first rows, from :func:`lumigator_nb.tables.profile`.
        notes: messages from the upload.
        generated: for a column that a model wrote: the `model`, its `workflow_id`, and the `column`; else empty.
        derived: for a dataset made from another one: its `dataset_id`, and `how`; else empty. If `how` is "sample",
            :meth:`sampled` made the record. It stands for some rows of the dataset with the same id, and is not in the
            database. If `for` is "max_samples", an earlier version of the package made it for a request, and lists omit
            it.
        archived_at: when it was archived; lists omit archived datasets.
    """

    __tablename__ = "dataset"
    # The index is in the order of lists, here and in other tables.
    __table_args__ = (sa.UniqueConstraint("name", "version"), sa.Index(None, "created_at", "id"))

    id: str = Field(default_factory=_id, primary_key=True)
    name: str = Field(index=True)
    version: int = 1
    filename: str
    content_hash: str = Field(index=True)
    data_hash: str = ""
    size_bytes: int = Field(sa_type=sa.BigInteger)
    n_examples: int
    columns: dict[str, str] = Field(sa_column=sa.Column(sa.JSON, nullable=False))
    profile: dict[str, Any] = Field(sa_column=sa.Column(sa.JSON, nullable=False))
    notes: list[str] = Field(default_factory=list, sa_column=sa.Column(sa.JSON, nullable=False))
    generated: dict[str, str] = Field(default_factory=dict, sa_column=_later_json())
    derived: dict[str, Any] = Field(default_factory=dict, sa_column=_later_json())
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    archived_at: datetime | None = Field(default=None, sa_column=_time())

    @property
    def author(self) -> str | None:
        """The model that wrote the ground truth; None if no model did."""
        column = self.generated.get("column", "ground_truth")
        return self.generated.get("model") if column == "ground_truth" else None

    @property
    def has_ground_truth(self) -> bool:
        """Whether at least one example has ground truth with at least one word."""
        words = self.profile.get("ground_truth_words")
        return bool(self.profile["has_ground_truth"] and words and words["max"] > 0)

    @property
    def has_all_ground_truth(self) -> bool:
        """Whether every example has ground truth with at least one word."""
        is_complete = self.has_ground_truth and not self.profile["n_missing_ground_truth"]
        return bool(is_complete and self.profile["ground_truth_words"]["min"] > 0)

    @property
    def sample(self) -> Sample | None:
        """The rows of the dataset that this record stands for; None for all."""
        return Sample.model_validate(self.derived["sample"]) if self.derived.get("how") == "sample" else None

    def sampled(self, sample: Sample | None) -> Dataset:
        """Return a record of the dataset's sample. It must not be stored."""
        if sample is None:
            return self
        derived = {"how": "sample", "sample": sample.model_dump(mode="json")}
        return Dataset(**{**self.model_dump(), "n_examples": sample.n, "derived": derived})


class Experiment(Record, table=True):
    """A dataset, a task and the metrics by which models are compared on it.

    Attributes:
        sample: the rows of the dataset that it uses; None for all. Rows of predictions, scores and labels are numbered
            within the sample.
        description: the user's text.
        purpose: "comparison"; other experiments contain the workflow of a single job, and lists omit them.
        asked: fields of a REST request that have no other place, and the id of the dataset that a job has made.
        owes_dataset: whether its predictions have still to be made into a dataset.
        archived_at: when it was archived; lists omit archived experiments.
    """

    __tablename__ = "experiment"
    __table_args__ = (sa.Index(None, "created_at", "id"),)

    id: str = Field(default_factory=_id, primary_key=True)
    name: str = Field(unique=True, index=True)
    dataset_id: str = Field(foreign_key="dataset.id", index=True)
    sample: Sample | None = Field(default=None, sa_column=sa.Column(JsonValue(Sample | None), nullable=True))
    task: Task = Field(sa_column=sa.Column(JsonValue(Task), nullable=False))
    metrics: tuple[MetricSpec, ...] = Field(sa_column=sa.Column(JsonValue(tuple[MetricSpec, ...]), nullable=False))
    description: str = ""
    purpose: Purpose = Field(default=Purpose.COMPARISON, sa_column=_enum(Purpose, index=True))
    asked: dict[str, Any] = Field(default_factory=dict, sa_column=_later_json())
    owes_dataset: bool = Field(default=False, index=True)
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    archived_at: datetime | None = Field(default=None, sa_column=_time())

    @property
    def job_name(self) -> str | None:
        """The name of the single job that this experiment contains; None for a comparison."""
        return None if self.purpose == Purpose.COMPARISON else self.asked.get("name") or ""


class Workflow(Record, table=True):
    """One model through one experiment.

    Attributes:
        label: the model's name in tables, unique within the experiment.
        fingerprint: the model's fingerprint, by which launching the model again finds this workflow.
        launch: settings of the execution, such as the budget.
        description: the user's text.
        attempt: counts launch and resumes, from 1; the current attempt began at `attempted_at`.
        stale: whether the cluster did not answer, so that `status` may be out of date.
        error: why it failed.
        provenance: user, time, machine and versions of the launch; see
            :mod:`lumigator_nb.services.workflows.provenance`.
    """

    __tablename__ = "workflow"
    __table_args__ = (
        sa.UniqueConstraint("experiment_id", "label"),
        sa.UniqueConstraint("experiment_id", "fingerprint"),
        sa.Index(None, "created_at", "id"),
    )

    id: str = Field(default_factory=_id, primary_key=True)
    experiment_id: str = Field(foreign_key="experiment.id", index=True)
    label: str
    fingerprint: str
    model: Model = Field(sa_column=sa.Column(JsonValue(Model), nullable=False))
    launch: Launch = Field(default_factory=Launch, sa_column=_later_json(Launch))
    description: str = ""
    status: Status = Field(default=Status.CREATED, sa_column=_enum(Status, index=True))
    attempt: int = 1
    stale: bool = False
    error: str | None = None
    provenance: dict[str, Any] = Field(default_factory=dict, sa_column=_later_json())
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    attempted_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    finished_at: datetime | None = Field(default=None, sa_column=_time())

    @property
    def submission_id(self) -> str:
        """The id of the current attempt's Ray job. Ray refuses an id that it has seen before."""
        return self.id if self.attempt == 1 else f"{self.id}-{self.attempt}"


class Job(Record, table=True):
    """One step of a workflow, with one result.

    Attributes:
        listed: whether lists of jobs contain it. They omit steps that were not requested, such as the evaluation of a
            job that only requested predictions.
        n_examples, n_failed: numbers of examples, and of those without a result.
        scores: overall scores by name (evaluation only).
        details: counts of the predictions, and details such as the model's source, device, signatures and versions.
    """

    __tablename__ = "job"
    __table_args__ = (sa.UniqueConstraint("workflow_id", "step"), sa.Index(None, "listed", "created_at", "id"))

    id: str = Field(default_factory=_id, primary_key=True)
    workflow_id: str = Field(foreign_key="workflow.id", index=True, ondelete="CASCADE")
    step: Step = Field(sa_column=_enum(Step))
    listed: bool = True
    status: Status = Field(default=Status.CREATED, sa_column=_enum(Status))
    n_examples: int = 0
    n_failed: int = 0
    error: str | None = None
    scores: dict[str, float] = Field(default_factory=dict, sa_column=sa.Column(sa.JSON, nullable=False))
    details: dict[str, Any] = Field(default_factory=dict, sa_column=sa.Column(sa.JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=_time())
    finished_at: datetime | None = Field(default=None, sa_column=_time())

    @property
    def skipped(self) -> dict[str, str]:
        """The metrics that could not be computed, with the reasons, by title; empty for inference."""
        return dict(self.details.get("failed_metrics", {}))


class Label(SQLModel, table=True):
    """A person's rating of an answer, or preference between two; see
    :class:`lumigator_nb.services.labelling.labels.Labels`.

    Attributes:
        kind: "preference" or "rating".
        criterion: the question that the person answered, such as "fluency".
        rater: the person's name.
        row: row of the dataset, from 0.
        model, other: labels of the models. For a preference they are in alphabetical order, so that a pair has only one
            form. For a rating, `other` is "".
        value: for a preference 1 (`model` is better), −1 (`other` is better) or 0 (neither); for a rating the number.
        scale_low, scale_high: ends of a rating's scale.
        seconds: time that the person took.
    """

    __tablename__ = "label"
    __table_args__ = (sa.UniqueConstraint("experiment_id", "kind", "criterion", "rater", "row", "model", "other"),)

    id: str = Field(default_factory=_id, primary_key=True)
    experiment_id: str = Field(foreign_key="experiment.id", index=True, ondelete="CASCADE")
    kind: str
    criterion: str
    rater: str
    row: int
    model: str
    other: str = ""
    value: float
    scale_low: float | None = None
    scale_high: float | None = None
    comment: str | None = None
    seconds: float | None = None
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))

    @property
    def subject(self) -> tuple[str, int, str, str]:
        """Rater, row and models; unique within an experiment, kind and criterion."""
        return self.rater, self.row, self.model, self.other


class Secret(SQLModel, table=True):
    """An encrypted secret, such as an API key. Only :class:`lumigator_nb.services.access.secrets.Secrets` decrypts it.

    Attributes:
        name: name of the environment variable that it replaces, in capitals.
        sealed: the encrypted value, as text.
        key_id: the beginning of the SHA-256 of the key that encrypted it.
    """

    __tablename__ = "secret"

    name: str = Field(primary_key=True)
    sealed: str
    key_id: str
    description: str | None = None
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    updated_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))

    # SQLModel's would show all fields.
    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    __str__ = __repr__


class Token(Record, table=True):
    """An API token for REST clients. Only its digest is stored.

    Attributes:
        name: the user's name for it, such as its purpose.
        digest: SHA-256 of the token, in hex. A token has 256 random bits, so a slow hash would add no security.
        scope: the permissions of its holder.
        expires_at: when it expires; None for never.
    """

    __tablename__ = "token"

    id: str = Field(default_factory=_id, primary_key=True)
    name: str = Field(unique=True, index=True)
    digest: str = Field(unique=True, index=True)
    scope: Scope = Field(sa_column=_enum(Scope))
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=_time())

    def __repr__(self) -> str:
        return f"Token({self.name!r}, {self.scope.value})"

    __str__ = __repr__


class Reply(SQLModel, table=True):
    """The response to a request with an idempotency key, which is sent again if the request is repeated.

    Attributes:
        key: digest of the client and its idempotency key.
        fingerprint: digest of the request.
        status: the response's status; None while the request is in progress.
        headers, body: the parts of the response that a repeated request needs.
    """

    __tablename__ = "reply"

    key: str = Field(primary_key=True)
    fingerprint: str
    status: int | None = None
    headers: dict[str, str] = Field(default_factory=dict, sa_column=_later_json())
    body: str = ""
    created_at: datetime = Field(default_factory=now, sa_column=sa.Column(UtcDateTime(), nullable=False, index=True))


class Removal(SQLModel, table=True):
    """The pending part of a deletion: the rows are deleted, but workers have to be stopped, and files removed.

    Attributes:
        active: submission ids of workflows that had not ended.
        names: files and folders in the store, in the order of their removal once these workflows have ended.
    """

    __tablename__ = "removal"

    id: str = Field(default_factory=_id, primary_key=True)
    active: list[str] = Field(default_factory=list, sa_column=sa.Column(sa.JSON, nullable=False))
    names: list[str] = Field(default_factory=list, sa_column=sa.Column(sa.JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
