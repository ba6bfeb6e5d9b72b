"""What crosses from the workspace to the cluster and back: frozen, validated values.

They are stored as JSON beside the results, so a field may join with a default but never change its meaning.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumigator_nb.errors import InvalidInputError, UnknownModelError, did_you_mean


class Value(BaseModel):
    """Base of all values here: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Status(StrEnum):
    """Where a workflow or job stands."""

    CREATED = "created"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """True where nothing more happens by itself."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.STOPPED)


class Step(StrEnum):
    """One stage of a workflow, recorded as one job; listed in the order in which they run."""

    INFERENCE = "inference"
    EVALUATION = "evaluation"


DEFAULT_PROMPTS = {
    "summarization": (
        "Write a concise, objective summary of the text in up to two sentences. "
        "Focus on the main actions and intentions of the people."
    ),
}


class Task(Value):
    """What a model is asked to do with each example.

    Attributes:
        kind: the task's name.
        prompt: system prompt for models that follow instructions; None takes the task's default.
    """

    kind: Literal["summarization"] = "summarization"
    prompt: str | None = None

    @property
    def instruction(self) -> str:
        """The system prompt in force."""
        return self.prompt or DEFAULT_PROMPTS[self.kind]


def Summarization(prompt: str | None = None) -> Task:  # noqa: N802 - reads like the class it makes
    """Return the task of condensing each example; `prompt` replaces the default instruction."""
    return Task(kind="summarization", prompt=prompt)


class GenerationConfig(Value):
    """How a model generates.

    Attributes:
        max_new_tokens: upper bound of generated tokens per example.
        temperature: 0 takes the likeliest token each time, above 0 samples.
        top_p: probability mass sampled from, in (0, 1]; read only where temperature > 0.
        seed: of the sampling.
    """

    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = 0


class Model(Value):
    """A language model and how it generates: ``Model("hf/facebook/bart-large-cnn", max_new_tokens=60)``.

    Args:
        name: ``provider/name``, or just the name where `provider` is given.
        provider: who answers: "baseline", "hf".
        label: what tables and charts call it; default ``provider/name``.
        options: settings that only this provider knows, such as ``{"batch_size": 8}``.
        settings: fields of :class:`GenerationConfig`.

    Raises:
        UnknownModelError: the name has no provider in front.
        InvalidInputError: a setting is unknown or out of range.
    """

    provider: str
    name: str
    label: str
    generation: GenerationConfig
    options: dict[str, Any]

    def __init__(
        self,
        name: str,
        *,
        provider: str | None = None,
        label: str | None = None,
        generation: GenerationConfig | None = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if provider is None:
            provider, _, name = name.partition("/")
        if not provider or not name:
            raise UnknownModelError(
                f"{provider or name!r} does not name a model", "write provider/name, such as 'baseline/lead-2'"
            )
        fields: dict[str, Any] = {
            "provider": provider,
            "name": name,
            "label": label or f"{provider}/{name}",
            "generation": generation or _generation(settings),
            "options": options or {},
        }
        super().__init__(**fields)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of everything that decides its answers; the label does not."""
        return digest(self.model_dump(mode="json", exclude={"label"}))


def _generation(settings: dict[str, Any]) -> GenerationConfig:
    unknown = settings.keys() - GenerationConfig.model_fields.keys()
    if unknown:
        word = min(unknown)
        raise InvalidInputError(f"unknown setting {word!r}", did_you_mean(word, GenerationConfig.model_fields))
    try:
        return GenerationConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"setting {first['loc'][0]!r}: {first['msg']}, got {first['input']!r}") from None


class MetricSpec(Value):
    """A metric by name, with its options as the metric's class takes them."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class StoreSpec(Value):
    """Where the store is, without its credentials (those come from the environment of whoever opens it).

    Attributes:
        uri: ``file:///…``, ``s3://bucket/prefix``, ``memory://…``.
        endpoint_url: of an S3-compatible server; None means AWS.
    """

    uri: str
    endpoint_url: str | None = None


class WorkflowSpec(Value):
    """One model through one experiment: all that the cluster must know.

    Attributes:
        workflow_id: names its folder in the store.
        attempt: 1 at launch, one more at every resume; results of earlier attempts are told apart by it.
        dataset: the store's name of the examples (Parquet with `example` and, where known, `ground_truth`).
        n_examples: rows of that file.
        shard_size: rows per file of predictions; a finished file is never computed again.
    """

    workflow_id: str
    attempt: int = 1
    dataset: str
    n_examples: int
    task: Task
    model: Model
    metrics: tuple[MetricSpec, ...]
    shard_size: int = 16


class StepResult(Value):
    """How a step ended; written last, so that its presence means that everything else is in place.

    Attributes:
        attempt: of the workflow, as in :class:`WorkflowSpec`.
        n_examples: examples that the step covers.
        n_failed: examples of them that have an error instead of an answer.
        error: why the step failed; None where it succeeded.
        scores: overall scores by name (evaluation only).
        details: what was used: model source and revision, device, signatures, versions.
    """

    step: Step
    attempt: int
    status: Literal[Status.SUCCEEDED, Status.FAILED]
    started_at: datetime
    finished_at: datetime
    n_examples: int = 0
    n_failed: int = 0
    error: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)


class Progress(Value):
    """How far a running step is.

    Attributes:
        done, total: examples.
        started_at: when the first example of this attempt was begun; `resumed` of `done` were there before.
        note: what it is doing besides, such as "loading the model".
    """

    step: Step
    attempt: int
    done: int
    total: int
    resumed: int = 0
    started_at: datetime
    updated_at: datetime
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Examples per second in this attempt; None before the first."""
        seconds = (self.updated_at - self.started_at).total_seconds()
        fresh = self.done - self.resumed
        return fresh / seconds if fresh > 0 and seconds > 0 else None


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def digest(value: object) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
