"""The rows of the database, which are also the public values: Dataset, Experiment, Workflow, Job; and Label, Secret,
Token, Reply.

SQLModel tables do not validate what they are given; the services do.
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

# Named constraints are the only ones that a later migration can change on every engine.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def key_of(record: str | SQLModel) -> str:
    """Return the id of a record; a name or id as it is."""
    return record if isinstance(record, str) else cast(Any, record).id  # all tables here have one


class JsonValue(TypeDecorator[Any]):
    """A JSON column that holds one of the values of :mod:`lumigator_nb.specs`, or a tuple of them."""

    impl = sa.JSON
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """Turn the value into plain JSON."""
        return self._adapter.dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """Turn plain JSON back into the value."""
        return self._adapter.validate_python(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, aware of its zone also on SQLite, which stores none."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Attach UTC where the engine dropped it, and bring a server's own zone to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _id() -> str:
    return str(uuid.uuid4())


def _enum(kind: type[StrEnum], *, index: bool = False) -> Any:
    # Plain text in the database: a native enum type would need a migration for every new member.
    column_type = sa.Enum(
        kind, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members]
    )
    return sa.Column(column_type, nullable=False, index=index)


def _time(nullable: bool = True) -> Any:
    return sa.Column(UtcDateTime(), nullable=nullable)


def _later_json(kind: Any = None) -> Any:
    """A JSON column that joined after rows had been written, which hold an empty object."""
    column_type = sa.JSON() if kind is None else JsonValue(kind)
    return sa.Column(column_type, nullable=False, server_default="{}")


class Record(Rendered, SQLModel):
    """A row of the database; :mod:`lumigator_nb.database.record_views` draws it."""

    __repr__ = SQLModel.__repr__


class Dataset(Record, table=True):
    """Examples, with or without ground truth, plus metadata columns.

    Attributes:
        version: 1, and one more for each later content under the same name.
        filename: as the user named the source; only a label, never a path.
        content_hash: SHA-256 of the bytes as uploaded, in hex.
        data_hash: SHA-256 of the normalised Parquet file, in hex; empty for what was uploaded before it was noted.
        columns: which source columns became `example` and `ground_truth`.
        profile: counts, lengths in words and the first rows, as :func:`lumigator_nb.tables.profile` gives them.
        notes: what was noticed on upload.
        generated: where a model wrote a column: the `model`, the `workflow_id` that did it, and the `column`.
        derived: where it was drawn from another dataset: its `dataset_id`, and how. With `how` "sample" the record
            is what :meth:`sampled` made: it stands for rows of the dataset of the same id, and is in no database.
            With `for` "max_samples" an earlier version drew it for a request; no list shows it.
        archived_at: since when lists leave it out.
    """

    __tablename__ = "dataset"
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
        """The model that wrote the ground truth; None where none did."""
        wrote = self.generated.get("column", "ground_truth")
        return self.generated.get("model") if wrote == "ground_truth" else None

    @property
    def has_ground_truth(self) -> bool:
        """Whether at least one example has ground truth with a word in it."""
        words = self.profile.get("ground_truth_words")
        return bool(self.profile["has_ground_truth"] and words and words["max"] > 0)

    @property
    def has_all_ground_truth(self) -> bool:
        """Whether every example has ground truth with a word in it."""
        is_complete = self.has_ground_truth and not self.profile["n_missing_ground_truth"]
        return bool(is_complete and self.profile["ground_truth_words"]["min"] > 0)

    @property
    def sample(self) -> Sample | None:
        """The rows of the dataset that this stands for; None for all."""
        return Sample.model_validate(self.derived["sample"]) if self.derived.get("how") == "sample" else None

    def sampled(self, sample: Sample | None) -> Dataset:
        """Return the dataset as one who uses only these rows sees it, not to be stored."""
        if sample is None:
            return self
        derived = {"how": "sample", "sample": sample.model_dump(mode="json")}
        return Dataset(**{**self.model_dump(), "n_examples": sample.n, "derived": derived})


class Experiment(Record, table=True):
    """A dataset, a task and the metrics by which models are compared on it.

    Attributes:
        sample: rows of the dataset that it uses; None for all. Rows of predictions, scores and labels are counted
            within them.
        description: in words.
        purpose: "comparison"; others hold the one workflow of a job that was asked for by itself, and no list shows
            them.
        asked: what a request asked for that has no place elsewhere, and the id of the dataset that a job has made.
        owes_dataset: whether one is still to be made of its predictions.
        archived_at: since when lists leave it out.
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
        """What the single job is called that this holds; None for an experiment that lists show."""
        return None if self.purpose == Purpose.COMPARISON else self.asked.get("name") or ""


class Workflow(Record, table=True):
    """One model through one experiment.

    Attributes:
        description: in words.
        label: what the model is called in tables; unique within the experiment.
        fingerprint: of the model, so that launching it again finds this workflow.
        launch: how it goes about its work.
        attempt: 1, and one more for each resume; begun at `attempted_at`.
        stale: the cluster could not be asked, so `status` is the last that was known.
        error: why it failed.
        provenance: who launched it, when, where and with what; see :mod:`lumigator_nb.services.workflows.provenance`.
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
        """The id of the Ray job of the current attempt; Ray never takes an id twice."""
        return self.id if self.attempt == 1 else f"{self.id}-{self.attempt}"


class Job(Record, table=True):
    """One step of a workflow, with one result.

    Attributes:
        listed: whether it is one of the jobs that were asked for; such as the scoring of mere predictions is not.
        scores: overall scores by name (evaluation only).
        details: what was used: model source, device, signatures, versions.
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
        """The metrics that could not be computed, by title, with the reason; empty for an inference."""
        return dict(self.details.get("failed_metrics", {}))


class Label(SQLModel, table=True):
    """What a person said of one answer, or of two; :class:`lumigator_nb.services.labelling.labels.Labels` reads them.

    Attributes:
        kind: "preference" or "rating".
        criterion: what the person looked at.
        row: of the dataset, from 0.
        model, other: labels of models; of a preference in alphabetical order, so that a pair is one pair; `other` is
            empty for a rating.
        value: of a preference 1 (the model is better), −1 (the other) or 0 (neither); of a rating the number.
        scale_low, scale_high: ends of a rating's scale.
        seconds: how long the person looked at it.
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
        """Who said something of what; of one kind and criterion it is there once."""
        return self.rater, self.row, self.model, self.other


class Secret(SQLModel, table=True):
    """A secret such as an API key, encrypted; only :class:`lumigator_nb.services.access.secrets.Secrets` opens it.

    Attributes:
        name: in capitals, as the environment variable that it stands for.
        sealed: the encrypted value, as text.
        key_id: which key sealed it: the beginning of that key's SHA-256.
    """

    __tablename__ = "secret"

    name: str = Field(primary_key=True)
    sealed: str
    key_id: str
    description: str | None = None
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
    updated_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    __str__ = __repr__


class Token(Record, table=True):
    """What lets a program into the REST API; the token itself is nowhere, only its digest.

    Attributes:
        name: what it is for.
        digest: SHA-256 of the token, in hex. It has 256 random bits, so that nothing slower is needed.
        scope: what its holder may do.
        expires_at: from then on it is refused; None is never.
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
    """What was answered to a request with an idempotency key, so that its repetition changes nothing.

    Attributes:
        key: digest of who asked, and of the key as it was sent.
        fingerprint: digest of the request.
        status: of the answer; None while it is still being worked on.
        headers, body: of the answer, as far as a repetition needs them.
    """

    __tablename__ = "reply"

    key: str = Field(primary_key=True)
    fingerprint: str
    status: int | None = None
    headers: dict[str, str] = Field(default_factory=dict, sa_column=_later_json())
    body: str = ""
    created_at: datetime = Field(default_factory=now, sa_column=sa.Column(UtcDateTime(), nullable=False, index=True))


class Removal(SQLModel, table=True):
    """What is still to be done of a deletion whose rows are gone: end workers, remove files.

    Attributes:
        active: submission ids of workflows that had not ended.
        names: files and folders in the store, in the order in which they go once those have ended.
    """

    __tablename__ = "removal"

    id: str = Field(default_factory=_id, primary_key=True)
    active: list[str] = Field(default_factory=list, sa_column=sa.Column(sa.JSON, nullable=False))
    names: list[str] = Field(default_factory=list, sa_column=sa.Column(sa.JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=_time(nullable=False))
