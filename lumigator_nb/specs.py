"""What crosses from the workspace to the cluster and back: frozen, validated values.

They are stored as JSON beside the results, so a field may join with a default but never change its meaning.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import CodeType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

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


class Purpose(StrEnum):
    """What an experiment is there for."""

    COMPARISON = "comparison"
    INFERENCE = "inference"
    ANNOTATION = "annotation"
    EVALUATION = "evaluation"


class Scope(StrEnum):
    """What the holder of an API token may do; each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def allows(self, needed: Scope) -> bool:
        """Say whether it is enough for what needs the other."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


class Step(StrEnum):
    """One stage of a workflow, recorded as one job; listed in the order in which they run."""

    INFERENCE = "inference"
    EVALUATION = "evaluation"


DEFAULT_PROMPTS = {
    "summarization": (
        "Write a concise, objective summary of the text in up to two sentences. "
        "Focus on the main actions and intentions of the people."
    ),
    "translation": "Translate the text from {source} into {target}. Answer with the translation only.",
}


class Shot(Value):
    """A solved example that is shown to the model before each question.

    Attributes:
        example: the input.
        answer: what a good model answers.
        metadata: values of the columns that the task's template names.
    """

    example: str
    answer: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class Task(Value):
    """What a model is asked to do with each example.

    Attributes:
        kind: the task's name.
        prompt: system prompt for models that follow instructions; None takes the task's default.
        template: Jinja template of the user's turn, in which ``{{ example }}`` and the dataset's metadata columns
            stand for a row's values; None puts the example alone.
        shots: solved examples shown before each question (few-shot prompting).
        source, target: languages of a translation, as BCP 47 codes.
    """

    kind: Literal["summarization", "translation", "text_generation"] = "summarization"
    prompt: str | None = None
    template: str | None = None
    shots: tuple[Shot, ...] = ()
    source: str | None = None
    target: str | None = None

    @property
    def instruction(self) -> str:
        """The system prompt in force."""
        if self.prompt is not None:
            return self.prompt
        names = {"source": language_name(self.source), "target": language_name(self.target)}
        return DEFAULT_PROMPTS.get(self.kind, "").format(**names)


def Summarization(  # noqa: N802 - reads like the class it makes
    prompt: str | None = None, *, template: str | None = None, shots: Sequence[Shot] = ()
) -> Task:
    """Return the task of condensing each example; arguments as of :class:`Task`."""
    return Task(kind="summarization", prompt=prompt, template=template, shots=tuple(shots))


def Translation(  # noqa: N802
    source: str, target: str, *, prompt: str | None = None, template: str | None = None, shots: Sequence[Shot] = ()
) -> Task:
    """Return the task of translating each example.

    Args:
        source, target: languages by code ("de", "pt-BR", "zho") or English name ("German").
        prompt, template, shots: as of :class:`Task`.

    Raises:
        InvalidInputError: no language has that code or name, or both are the same.
    """
    codes = language_code(source), language_code(target)
    if codes[0] == codes[1]:
        raise InvalidInputError(f"source and target are both {language_name(codes[0])}", "give two languages")
    return Task(
        kind="translation", prompt=prompt, template=template, shots=tuple(shots), source=codes[0], target=codes[1]
    )


def TextGeneration(  # noqa: N802
    prompt: str, *, template: str | None = None, shots: Sequence[Shot] = ()
) -> Task:
    """Return the task of answering each example as `prompt`, the system prompt, says.

    Raises:
        InvalidInputError: the prompt is empty; there is no sensible default for it.
    """
    if not prompt or not prompt.strip():
        raise InvalidInputError("text generation needs a prompt", "say what to do: TextGeneration('Answer briefly.')")
    return Task(kind="text_generation", prompt=prompt, template=template, shots=tuple(shots))


def language_code(language: str) -> str:
    """Return the BCP 47 code of a language given by code or English name, such as "de" for "German".

    Raises:
        InvalidInputError: no language has that code or name.
    """
    import langcodes

    text = language.strip()
    try:
        tag = langcodes.Language.get(text)
        if not tag.is_valid():
            tag = langcodes.find(text)
    except (LookupError, ValueError):
        try:
            tag = langcodes.find(text)
        except LookupError:
            raise InvalidInputError(
                f"{language!r} is not a language", "give a code such as 'de' or a name such as 'German'"
            ) from None
    return str(tag.to_tag())


def language_name(code: str | None) -> str:
    """Return the English name of a language: "German" for "de"; empty for None."""
    if code is None:
        return ""
    import langcodes

    return str(langcodes.Language.get(code).display_name())


def is_ground_truth(column: str) -> bool:
    """Whether a dataset's column holds references: "ground_truth", and "ground_truth_2", … where there are several."""
    return re.fullmatch(r"ground_truth(_\d+)?", column) is not None


@dataclass(frozen=True, slots=True)
class Example:
    """One input row of a dataset.

    Attributes:
        row: its number in the dataset or in the sample of it, from 0.
        text: the input.
        references: what predictions are compared with; none, one or several.
        metadata: the row's other columns, by name.
    """

    row: int
    text: str
    references: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


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


class Resources(Value):
    """What each process that works for a model takes of the cluster; Ray's words for it.

    Attributes:
        num_cpus: None leaves it to the kind of model: one, less where it mostly waits, or a whole node's.
        num_gpus: fractions share one.
        memory: bytes; Ray counts them when it places the process, and holds nobody to them. None is not counted.
        resources: what else the cluster's nodes have, by name.
    """

    num_cpus: float | None = Field(default=None, ge=0)
    num_gpus: float | None = Field(default=None, ge=0)
    memory: int | None = Field(default=None, gt=0)
    resources: dict[str, float] = Field(default_factory=dict)


# Settings of how a model is reached, not of what it answers: they do not count in its fingerprint.
PACE = frozenset(
    {"api_key_name", "batch_size", "concurrency", "price", "requests_per_minute", "retry_for", "stream", "timeout"}
    | Resources.model_fields.keys()
)


class Model(Value):
    """A language model and how it generates: ``Model("hf/facebook/bart-large-cnn", max_new_tokens=60)``.

    Args:
        name: ``provider/name``, or just the name where `provider` is given.
        provider: who answers: "baseline", "hf", "openai", "anthropic", ….
        label: what tables and charts call it; default ``provider/name``.
        base_url: address of a server that speaks the provider's protocol, such as ``http://localhost:8000/v1``.
        generation: fields of :class:`GenerationConfig` in one value.
        repeat: which of several answers to the same prompt, counted from 1; they are kept apart.
        prompt: system prompt in place of the task's, for this model alone.
        options: settings that only this provider knows, such as ``{"batch_size": 8}``; and what each process that
            works for the model takes of the cluster, the fields of :class:`Resources`: ``num_gpus=0.5``.
        settings: fields of :class:`GenerationConfig`, and options written like them: ``batch_size=8``.

    Raises:
        UnknownModelError: the name has no provider in front.
        InvalidInputError: a setting is misspelt or out of range. Options are checked when the model is launched.
    """

    provider: str
    name: str
    label: str
    generation: GenerationConfig
    base_url: str | None = None
    repeat: int = Field(default=1, ge=1)
    prompt: str | None = None
    options: dict[str, Any]

    _function: Callable[..., Any] | None = PrivateAttr(default=None)

    def __init__(
        self,
        name: str,
        *,
        provider: str | None = None,
        label: str | None = None,
        base_url: str | None = None,
        generation: GenerationConfig | None = None,
        repeat: int = 1,
        prompt: str | None = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if provider is None:
            provider, _, name = name.partition("/")
        if not provider or not name:
            raise UnknownModelError(
                f"{provider or name!r} does not name a model", "write provider/name, such as 'baseline/lead-2'"
            )
        own = {key: settings.pop(key) for key in list(settings) if key in GenerationConfig.model_fields}
        _refuse_misspelt(settings)
        again = f" (repeat {repeat})" if repeat > 1 else ""
        fields: dict[str, Any] = {
            "provider": provider,
            "name": name,
            "label": label or f"{provider}/{name}{again}",
            "base_url": base_url,
            "repeat": repeat,
            "prompt": prompt,
            "generation": generation or _generation(own),
            "options": {**(options or {}), **settings},
        }
        super().__init__(**fields)

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, name: str | None = None, label: str | None = None) -> Model:
        """Return a model that answers each example with ``function(example)``.

        Where the function can be imported on the cluster it is called there; one that was written in a notebook or
        script is called in this process, during :meth:`Workflows.launch`.

        Args:
            function: takes the example's text and returns the prediction; where it has a parameter called
                `metadata`, it is given the row's other columns as a dict.
            name: default the function's own.
            label: what tables call it; default ``function/name``.
        """
        importable, code = function_identity(function)
        title = name or getattr(function, "__name__", "function").strip("<>")
        model = cls(title, provider="function", label=label, options={"code": code, "import": importable})
        model._function = function
        return model

    @property
    def function(self) -> Callable[..., Any] | None:
        """What :meth:`from_function` was given; None in every other process."""
        return self._function

    @property
    def fingerprint(self) -> str:
        """16 hex digits of everything that decides its answers; label and pace do not."""
        value = self.model_dump(mode="json", exclude={"label"})
        value["options"] = {key: option for key, option in value["options"].items() if key not in PACE}
        # Fields that joined later count only where they are set, so that recorded fingerprints stay what they are.
        later = {"base_url": None, "repeat": 1, "prompt": None}
        return digest({key: field for key, field in value.items() if key not in later or field != later[key]})

    @property
    def resources(self) -> Resources:
        """What each process that works for it takes of the cluster, as far as its settings say.

        Raises:
            InvalidInputError: one of them is out of range.
        """
        given = {name: self.options[name] for name in Resources.model_fields if name in self.options}
        try:
            return Resources(**given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInputError(
                f"setting {where!r} of model {self.label!r}: {first['msg']}, got {first['input']!r}"
            ) from None

    @property
    def own_options(self) -> dict[str, Any]:
        """Its options without :attr:`resources`."""
        return {name: option for name, option in self.options.items() if name not in Resources.model_fields}

    def worded(self, task: Task) -> Task:
        """Return a task as this model is told it: with the model's own system prompt, where it has one."""
        return task if self.prompt is None else task.model_copy(update={"prompt": self.prompt})

    def judged_by(self, task: Task) -> Task:
        """Return the task by which this model's answers are judged.

        It is the same for all models, so that judges apply one measure; only where it has no prompt, the model's own.
        """
        return task if task.instruction else self.worded(task)


def function_identity(function: Callable[..., Any]) -> tuple[str | None, str]:
    """Return where a function can be imported from (``module:name``; None where it cannot), and a digest of its code.

    What it calls does not count: who changes that gives the model another name.
    """
    module, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "<")
    importable = f"{module}:{name}" if "<" not in name and _is_installed(module) else None
    code = getattr(function, "__code__", None)
    return importable, digest([importable or name, _body(code) if code else repr(function)])


def _body(code: CodeType) -> str:
    """What a function does, without where it was written: the same from cell to cell and process to process."""
    constants = [_body(each) if isinstance(each, CodeType) else str(each) for each in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))


def _is_installed(module: str) -> bool:
    """Whether a module is part of Python or of an installed package, and not just a file beside the notebook."""
    from importlib.metadata import packages_distributions

    top = module.partition(".")[0]
    return top in sys.stdlib_module_names or top in packages_distributions()


def _refuse_misspelt(settings: dict[str, Any]) -> None:
    """Other settings may be the provider's, which checks them later; what is nearly one of ours is a slip."""
    from difflib import get_close_matches

    for name in settings:
        if get_close_matches(name, GenerationConfig.model_fields, n=1, cutoff=0.8):
            raise InvalidInputError(f"unknown setting {name!r}", did_you_mean(name, GenerationConfig.model_fields))


def _generation(settings: dict[str, Any]) -> GenerationConfig:
    try:
        return GenerationConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"setting {first['loc'][0]!r}: {first['msg']}, got {first['input']!r}") from None


class MetricSpec(Value):
    """A metric by name, with its options as the metric's class takes them."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_function(self) -> bool:
        """Whether it was made from a function by ``@lm.metric``."""
        return self.name == "_function"

    @property
    def title(self) -> str:
        """What tables call it: a judge by its criterion and a function by its own name, else the metric's name."""
        if self.name == "jury" and "name" not in self.options:
            return MetricSpec.model_validate(self.options["judges"][0]).title
        own = self.is_function or self.name in ("judge", "jury")
        return str(self.options.get("name") or self.options.get("criterion")) if own else self.name

    @property
    def key(self) -> str:
        """A name for files that no other metric or setting has; how a function was packed does not count."""
        options = {name: value for name, value in self.options.items() if name not in ("pickle", "python")}
        return f"{self.name.strip('_')}-{digest([self.name, options])[:8]}"


class StoreSpec(Value):
    """Where the store is, without its credentials (those come from the environment of whoever opens it).

    Attributes:
        uri: ``file:///…``, ``s3://bucket/prefix``, ``memory://…``.
        endpoint_url: of an S3-compatible server; None means AWS.
        path_style: whether the bucket is named in the path of the server's address, or in its host's name; None means
            the host's name on AWS, and the path on other servers.
    """

    uri: str
    endpoint_url: str | None = None
    path_style: bool | None = None


class Launch(Value):
    """How a workflow goes about its work; none of it changes what a model would answer.

    Attributes:
        cache: "on" takes answers that the store has already, "refresh" asks again and keeps the new ones, "off"
            neither takes nor leaves any for others.
        mode: "direct" asks at once; "batch" hands all questions to the provider's batch service, which answers within
            a day at a lower price.
        budget: dollars that the workflow may spend; it stops before it would exceed them. None is no bound.
        max_failed: share of examples in [0, 1] that may stay unanswered without the workflow counting as failed.
        workers: processes of the cluster that share the work; None lets the size of the work decide.
        priority: of those that wait for the cluster the higher go first; the same take turns by experiment.
        timeout: seconds that a step may take; then it ends as failed, and can be resumed. None is no bound.
    """

    cache: Literal["on", "off", "refresh"] = "on"
    mode: Literal["direct", "batch"] = "direct"
    budget: float | None = Field(default=None, ge=0)
    max_failed: float = Field(default=0.1, ge=0, le=1)
    workers: int | None = Field(default=None, ge=1)
    priority: int = 0
    timeout: float | None = Field(default=None, gt=0)


class Sample(Value):
    """Rows of a dataset, drawn at random without repetition; these numbers say which.

    Attributes:
        n: rows that are drawn.
        of: rows of the dataset.
        seed: the same one draws the same rows, and fewer of them draw a part of these.
    """

    n: int = Field(ge=1, lt=2**31)
    of: int = Field(ge=1, lt=2**31)
    seed: int = Field(default=0, ge=0, lt=2**32)


class WorkflowSpec(Value):
    """One model through one experiment: all that the cluster must know.

    Attributes:
        workflow_id: names its folder in the store.
        attempt: 1 at launch, one more at every resume; results of earlier attempts are told apart by it.
        dataset: the store's name of the examples (Parquet with `example` and, where known, `ground_truth`).
        n_examples: rows of that file, or of the sample.
        sample: rows of that file that are used; None for all.
        shard_size: rows per file of predictions; a finished file is never computed again.
        task: as the model is told it; `judged_task` as judges are, None in specifications of earlier versions.
        launch: how to go about it.
        resources: of each process that works for the model.
    """

    workflow_id: str
    attempt: int = 1
    dataset: str
    n_examples: int
    sample: Sample | None = None
    task: Task
    judged_task: Task | None = None
    model: Model
    metrics: tuple[MetricSpec, ...]
    shard_size: int = 16
    launch: Launch = Launch()
    resources: Resources = Resources()


class StepResult(Value):
    """How a step ended; written last, so that its presence means that everything else is in place.

    Attributes:
        attempt: of the workflow, as in :class:`WorkflowSpec`.
        n_examples: examples that the step covers.
        n_failed: examples of them that have an error instead of an answer.
        error: why the step failed or stopped; None where it succeeded.
        scores: overall scores by name (evaluation only).
        details: what was used: model source and revision, device, signatures, versions.
    """

    step: Step
    attempt: int
    status: Literal[Status.SUCCEEDED, Status.FAILED, Status.STOPPED]
    started_at: datetime
    finished_at: datetime
    n_examples: int = 0
    n_failed: int = 0
    error: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)


class ScoreResult(Value):
    """What a metric found for one of its scores, over the examples of a workflow.

    Attributes:
        overall: None where no example has a score.
        mean: of the examples' scores, where that is not what `overall` is.
        n_scored: examples that have one; `unscored` counts the others by the reason.
        description, higher_is_better, range: as of :class:`lumigator_nb.metrics.ScoreInfo`; None is no bound.
    """

    overall: float | None
    mean: float | None = None
    n_scored: int
    unscored: dict[str, int] = Field(default_factory=dict)
    description: str = ""
    higher_is_better: bool | None = None
    range: tuple[float | None, float | None] = (None, None)


class MetricResult(Value):
    """How one metric went for a workflow.

    Attributes:
        answers_of: the attempt whose predictions were scored; those of a later one are scored anew.
        signature: what makes the numbers reproducible.
        error: why there are no scores; None where there are.
        n_empty: predictions that are empty texts, which each metric scores by its own convention.
        cost: dollars that a judge's answers cost; None without a price.
        details: what else is to be known, such as a judge's second opinions.
    """

    metric: MetricSpec
    title: str
    answers_of: int
    signature: str = ""
    scores: dict[str, ScoreResult] = Field(default_factory=dict)
    error: str | None = None
    n_empty: int = 0
    cost: float | None = None
    seconds: float = 0.0
    details: dict[str, Any] = Field(default_factory=dict)


class Progress(Value):
    """How far a running step is.

    Attributes:
        done, total: examples.
        started_at: when the first example of this attempt was begun; `resumed` of `done` were there before.
        first_at: when the first of them was finished, and `first_done` examples with it; None before that.
        note: what it is doing besides, such as "loading the model".
        failed: of `done` have an error instead of an answer.
        cost: dollars spent in this attempt; None where nothing has a price.
    """

    step: Step
    attempt: int
    done: int
    total: int
    resumed: int = 0
    started_at: datetime
    updated_at: datetime
    first_at: datetime | None = None
    first_done: int = 0
    note: str = ""
    failed: int = 0
    cost: float | None = None

    @property
    def rate(self) -> float | None:
        """Examples per second since the first was finished; None until that can be known.

        The first takes longer than the others: what it needs is loaded and compiled, and where many are asked at once
        they come together. So it says nothing of the rate, and at least as much time as it took has to pass after it.
        """
        if self.first_at is None or self.done - self.first_done < 2:
            return None
        waited = (self.first_at - self.started_at).total_seconds()
        measured = (self.updated_at - self.first_at).total_seconds()
        return (self.done - self.first_done) / measured if measured > 0 and measured >= waited else None

    def finished(self, count: int) -> dict[str, Any]:
        """Return the fields that change when `count` more examples are finished."""
        done = self.done + count
        return {"done": done} if self.first_at or not count else {"done": done, "first_at": now(), "first_done": done}


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def digest(value: object) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
