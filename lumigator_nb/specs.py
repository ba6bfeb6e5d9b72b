"""The values that are sent to the cluster and back: frozen, validated pydantic models.

They are stored as JSON beside the results. A new field therefore needs a default, and no field may change its meaning.
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

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from lumigator_nb.errors import InvalidInputError, UnknownModelError, did_you_mean


class Value(BaseModel):
    """Base of all values: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Status(StrEnum):
    """The status of a workflow or job."""

    CREATED = "created"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """Whether the status is final, unless the user resumes the workflow."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.STOPPED)


class Purpose(StrEnum):
    """The purpose of an experiment."""

    COMPARISON = "comparison"
    INFERENCE = "inference"
    ANNOTATION = "annotation"
    EVALUATION = "evaluation"


class Scope(StrEnum):
    """What an API token permits; each scope includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def allows(self, needed: Scope) -> bool:
        """Return whether this scope includes `needed`."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


class Step(StrEnum):
    """A step of a workflow, recorded as one job, in the order in which steps run."""

    INFERENCE = "inference"
    EVALUATION = "evaluation"


DEFAULT_PROMPTS = {
    "summarization": (
        "Write a concise, objective summary of the text in up to two sentences. "
        "Focus on the main actions and intentions of the people."
    ),
    "translation": "Translate the text from {source} into {target}. Answer with the translation only.",
}
# Of a classification: the default prompt and the form of the answer, for one label and for several.
_CLASSIFY = {
    False: ("Assign the text to one of the labels.", "Answer with the label only."),
    True: (
        "Assign to the text all labels that apply.",
        "Answer with a JSON list of labels, such as {example}, and with [] if none applies.",
    ),
}
_MOST_LABELS = 500


class Shot(Value):
    """A solved example (few-shot prompting) that the model sees before each question.

    Attributes:
        example: the input.
        answer: a good answer.
        metadata: values of the columns that the task's template uses, by name.
    """

    example: str
    answer: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class Task(Value):
    """What a model does with each example.

    Attributes:
        kind: the kind of task.
        prompt: system prompt for models that follow instructions; None for the default of the kind.
        template: Jinja template of the user's turn, in which ``{{ example }}`` and the dataset's metadata columns
            stand for a row's values; None for the example alone.
        shots: solved examples before each question (few-shot prompting).
        source, target: languages of a translation, as BCP 47 codes.
        labels: of a classification; `descriptions` say what they mean, by label.
        multi_label: whether an example may have any number of labels, instead of exactly one.
    """

    kind: Literal["summarization", "translation", "text_generation", "classification"] = "summarization"
    prompt: str | None = None
    template: str | None = None
    shots: tuple[Shot, ...] = ()
    source: str | None = None
    target: str | None = None
    labels: tuple[str, ...] = ()
    descriptions: dict[str, str] = Field(default_factory=dict)
    multi_label: bool = False

    @model_serializer(mode="wrap")
    def _serialized(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fields that were added later are left out unless they are set, so that digests of older tasks stay valid.
        later = ("labels", "descriptions", "multi_label")
        return {name: value for name, value in handler(self).items() if name not in later or value}

    @property
    def instruction(self) -> str:
        """The system prompt: the task's own, or the default of its kind.

        That of a classification goes on with the labels and the form of the answer.
        """
        if self.kind == "classification":
            default, form = _CLASSIFY[self.multi_label]
            labels = [f"- {label}: {self.descriptions[label]}" if label in self.descriptions else f"- {label}"
                      for label in self.labels]  # fmt: skip
            form = form.replace("{example}", json.dumps(list(self.labels[:2]), ensure_ascii=False))
            return "\n".join([default if self.prompt is None else self.prompt, "", "Labels:", *labels, "", form])
        if self.prompt is not None:
            return self.prompt
        names = {"source": language_name(self.source), "target": language_name(self.target)}
        return DEFAULT_PROMPTS.get(self.kind, "").format(**names)

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the answers, for servers that can be held to one; None for free text."""
        if self.kind != "classification":
            return None
        label: dict[str, Any] = {"type": "string", "enum": list(self.labels)}
        field = {"labels": {"type": "array", "items": label}} if self.multi_label else {"label": label}
        return {"type": "object", "properties": field, "required": list(field), "additionalProperties": False}


def Summarization(  # noqa: N802 - reads like the class it makes
    prompt: str | None = None, *, template: str | None = None, shots: Sequence[Shot] = ()
) -> Task:
    """Return the task of summarizing each example; arguments as in :class:`Task`."""
    return Task(kind="summarization", prompt=prompt, template=template, shots=tuple(shots))


def Translation(  # noqa: N802
    source: str, target: str, *, prompt: str | None = None, template: str | None = None, shots: Sequence[Shot] = ()
) -> Task:
    """Return the task of translating each example.

    Args:
        source, target: languages by code ("de", "pt-BR", "zho") or English name ("German").
        prompt, template, shots: as in :class:`Task`.

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
    """Return the task of answering each example as the system prompt `prompt` says.

    Args:
        prompt: required, as a free task has no sensible default.
        template, shots: as in :class:`Task`.

    Raises:
        InvalidInputError: the prompt is empty.
    """
    if not prompt or not prompt.strip():
        raise InvalidInputError("text generation needs a prompt", "say what to do: TextGeneration('Answer briefly.')")
    return Task(kind="text_generation", prompt=prompt, template=template, shots=tuple(shots))


def Classification(  # noqa: N802
    labels: Sequence[str],
    *,
    multi_label: bool = False,
    descriptions: Mapping[str, str] | None = None,
    prompt: str | None = None,
    template: str | None = None,
    shots: Sequence[Shot] = (),
) -> Task:
    """Return the task of assigning a label to each example.

    Servers that take a JSON Schema are held to the labels; the answers of other models are read. An answer that names
    no label, or several, has none: it counts as wrong and as unreadable.

    Args:
        labels: two or more. They are told apart by their letters and digits, without regard to case.
        multi_label: an example may have any number of the labels, none included. Its ground truth is then a JSON list
            of labels, or labels separated by commas.
        descriptions: what labels mean, by label; models are told.
        prompt: what to do, instead of the default; labels and the form of the answer follow in any case.
        template, shots: as in :class:`Task`; the answers of shots are labels.

    Raises:
        InvalidInputError: there are fewer than two labels, two are alike, or a description has no label.

    Examples:
        >>> task = lm.Classification(["billing", "delivery"], descriptions={"billing": "invoices and refunds"})
        >>> print(task.instruction)
        Assign the text to one of the labels.
        <BLANKLINE>
        Labels:
        - billing: invoices and refunds
        - delivery
        <BLANKLINE>
        Answer with the label only.
        >>> answers, truth = ["Billing.", "I don't know"], ["billing", "delivery"]
        >>> scores = lm.score(answers, truth, metrics="classification", task=task)
        >>> scores["accuracy"].tolist(), scores["unreadable"].tolist()
        ([1.0, 0.0], [0.0, 1.0])
    """
    names, meanings = check_labels(labels), dict(descriptions or {})
    if unknown := [label for label in meanings if label not in names]:
        raise InvalidInputError(
            f"a description is of {unknown[0]!r}, which is no label", did_you_mean(unknown[0], names)
        )
    return Task(
        kind="classification", prompt=prompt, template=template, shots=tuple(shots), labels=names,
        descriptions=meanings, multi_label=multi_label,
    )  # fmt: skip


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of a classification.

    Raises:
        InvalidInputError: they are not texts, fewer than two, too many, blank or alike.
    """
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise InvalidInputError(f"labels cannot be {labels!r}", "give a list of texts: ['yes', 'no']")
    if not 2 <= len(labels) <= _MOST_LABELS:
        raise InvalidInputError(f"{len(labels)} labels", f"give 2 to {_MOST_LABELS}")
    seen: dict[str, str] = {}
    for label in labels:
        plain = " ".join(re.findall(r"[^\W_]+", label.casefold())) or label.strip()
        if not plain or "\n" in label:
            raise InvalidInputError(f"a label is {label!r}", "give each a name, on one line")
        if plain in seen:
            raise InvalidInputError(
                f"labels {seen[plain]!r} and {label!r} differ at most in case and punctuation", "rename one"
            )
        seen[plain] = label
    return tuple(labels)


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
    """Whether a dataset's column holds references: "ground_truth", or "ground_truth_2", … for further ones."""
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
        max_new_tokens: maximum number of generated tokens per example.
        temperature: 0 always takes the most likely token (greedy decoding), above 0 samples.
        top_p: probability mass to sample from, in (0, 1]; used only if temperature > 0.
        seed: of the sampling.
    """

    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = 0


class Resources(Value):
    """The resources that each process of a model requests from the cluster, in Ray's terms.

    Attributes:
        num_cpus: None for a number by the kind of model: 1, less if it mostly waits, or all of a node.
        num_gpus: fractions share one.
        memory: bytes; Ray uses them to place the process, and does not enforce them. None for no request.
        resources: custom resources of the cluster's nodes, by name.
    """

    num_cpus: float | None = Field(default=None, ge=0)
    num_gpus: float | None = Field(default=None, ge=0)
    memory: int | None = Field(default=None, gt=0)
    resources: dict[str, float] = Field(default_factory=dict)


# Options that change how a model is reached, but not its answers. The fingerprint leaves them out, so that changing one
# does not compute anything again.
PACE = frozenset(
    {"api_key_name", "batch_size", "concurrency", "price", "requests_per_minute", "retry_for", "stream", "timeout"}
    | Resources.model_fields.keys()
)


class Model(Value):
    """A language model and how it generates: ``Model("hf/facebook/bart-large-cnn", max_new_tokens=60)``.

    Args:
        name: ``provider/name``, or the name alone if `provider` is passed.
        provider: who answers: "baseline", "hf", "openai", "anthropic", ….
        label: the label in tables and charts; default ``provider/name``.
        base_url: address of a server with the provider's protocol, such as ``http://localhost:8000/v1``.
        generation: all fields of :class:`GenerationConfig` in one value.
        repeat: number of this answer among several to the same prompt, from 1; each is stored separately.
        prompt: system prompt for this model only, instead of the task's.
        options: settings of this provider, such as ``{"batch_size": 8}``, and the fields of :class:`Resources`.
        settings: fields of :class:`GenerationConfig`, and options as keyword arguments: ``batch_size=8, num_gpus=0.5``.

    Raises:
        UnknownModelError: the name does not start with a provider.
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
        from difflib import get_close_matches

        if provider is None:
            provider, _, name = name.partition("/")
        if not provider or not name:
            raise UnknownModelError(
                f"{provider or name!r} does not name a model", "write provider/name, such as 'baseline/lead-2'"
            )
        fields = {key: settings.pop(key) for key in list(settings) if key in GenerationConfig.model_fields}
        # The other settings may be options of the provider, which are checked at launch. A name that is similar to a
        # field is a typing error.
        for key in settings:
            if get_close_matches(key, GenerationConfig.model_fields, n=1, cutoff=0.8):
                raise InvalidInputError(f"unknown setting {key!r}", did_you_mean(key, GenerationConfig.model_fields))
        if generation is None:
            try:
                generation = GenerationConfig(**fields)
            except ValidationError as error:
                first = error.errors()[0]
                raise InvalidInputError(
                    f"setting {first['loc'][0]!r}: {first['msg']}, got {first['input']!r}"
                ) from None
        again = f" (repeat {repeat})" if repeat > 1 else ""
        # By keyword, since pydantic reads the values of fields from the arguments of its __init__ only.
        values: dict[str, Any] = {
            "provider": provider,
            "name": name,
            "label": label or f"{provider}/{name}{again}",
            "base_url": base_url,
            "repeat": repeat,
            "prompt": prompt,
            "generation": generation,
            "options": {**(options or {}), **settings},
        }
        super().__init__(**values)

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, name: str | None = None, label: str | None = None) -> Model:
        """Return a model that answers each example with ``function(example)``.

        A function of an installed package is called on the cluster. One of a notebook or script is called in this
        process, during :meth:`Workflows.launch`.

        Args:
            function: takes the example's text and returns the prediction. If it has a parameter `metadata`, it gets the
                row's other columns there, as a dict.
            name: default the function's name.
            label: the label in tables; default ``function/name``.
        """
        importable, code = function_identity(function)
        title = name or getattr(function, "__name__", "function").strip("<>")
        model = cls(title, provider="function", label=label, options={"code": code, "import": importable})
        model._function = function
        return model

    @property
    def function(self) -> Callable[..., Any] | None:
        """The function passed to :meth:`from_function`; None in every other process."""
        return self._function

    @property
    def fingerprint(self) -> str:
        """16 hex digits that identify everything that influences its answers; label and :data:`PACE` do not."""
        value = self.model_dump(mode="json", exclude={"label"})
        value["options"] = {key: option for key, option in value["options"].items() if key not in PACE}
        # Fields that were added later count only if they are set, so that the fingerprints in databases stay valid.
        later = {"base_url": None, "repeat": 1, "prompt": None}
        return digest({key: field for key, field in value.items() if key not in later or field != later[key]})

    @property
    def resources(self) -> Resources:
        """The resources that each of its processes requests from the cluster, as far as its options say.

        Raises:
            InvalidInputError: one of them is out of range.
        """
        requested = {name: self.options[name] for name in Resources.model_fields if name in self.options}
        try:
            return Resources(**requested)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInputError(
                f"setting {where!r} of model {self.label!r}: {first['msg']}, got {first['input']!r}"
            ) from None

    @property
    def own_options(self) -> dict[str, Any]:
        """Its options without the fields of :attr:`resources`."""
        return {name: option for name, option in self.options.items() if name not in Resources.model_fields}

    def worded(self, task: Task) -> Task:
        """Return the task for this model: with the model's own system prompt, if it has one."""
        return task if self.prompt is None else task.model_copy(update={"prompt": self.prompt})

    def judged_by(self, task: Task) -> Task:
        """Return the task that judges are told for this model's answers.

        It is the same for all models, so that judges apply one standard. Only a task without a prompt takes the
        model's.
        """
        return task if task.instruction else self.worded(task)


def function_identity(function: Callable[..., Any]) -> tuple[str | None, str]:
    """Return where a function can be imported from (``module:name``, or None), and a digest of its code.

    The digest does not cover functions that it calls. Users who change those should give the model another name.
    """
    from importlib.metadata import packages_distributions

    module, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "<")
    # Importable on the cluster too: part of Python or of an installed package, not a file beside the notebook. A "<"
    # is in the names of lambdas and of functions inside of functions.
    top = module.partition(".")[0]
    installed = "<" not in name and (top in sys.stdlib_module_names or top in packages_distributions())
    importable = f"{module}:{name}" if installed else None
    code = getattr(function, "__code__", None)
    return importable, digest([importable or name, _body(code) if code else repr(function)])


def _body(code: CodeType) -> str:
    """Return a function's code without file names and line numbers, which differ between cells and processes."""
    constants = [_body(item) if isinstance(item, CodeType) else str(item) for item in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))


class MetricSpec(Value):
    """A metric by name, with its options: the keyword arguments of the metric's class."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_function(self) -> bool:
        """Whether it was made from a function by ``@lm.metric``."""
        return self.name == "_function"

    @property
    def title(self) -> str:
        """The label in tables: a judge's criterion, the name of a check, function or recorded score, or the metric."""
        if self.name == "jury" and "name" not in self.options:
            return MetricSpec.model_validate(self.options["judges"][0]).title
        own = self.is_function or self.name in ("check", "judge", "jury", "_recorded")
        return str(self.options.get("name") or self.options.get("criterion") or self.name) if own else self.name

    @property
    def key(self) -> str:
        """A name for files, unique for the metric and its options; the pickle of a function does not count."""
        options = {name: value for name, value in self.options.items() if name not in ("pickle", "python")}
        return f"{self.name.strip('_')}-{digest([self.name, options])[:8]}"


class StoreSpec(Value):
    """The place of the store, without credentials: each process takes those from its environment.

    Attributes:
        uri: ``file:///…``, ``s3://bucket/prefix``, ``memory://…``.
        endpoint_url: of an S3-compatible server; None means AWS.
        path_style: whether addresses have the bucket in their path, instead of in the host's name; None for the host's
            name on AWS, and the path on other servers.
    """

    uri: str
    endpoint_url: str | None = None
    path_style: bool | None = None


class Launch(Value):
    """How a workflow runs; none of it changes a model's answers.

    Attributes:
        cache: "on" uses and fills the answer cache, "refresh" asks again and replaces its answers, "off" neither uses
            nor fills it.
        mode: "direct" asks at once; "batch" uses the provider's batch service, which answers within a day at a lower
            price.
        budget: dollars that the workflow may spend; it stops before it would exceed them. None for no limit.
        max_failed: share of examples in [0, 1] that may have no answer without the workflow counting as failed.
        workers: processes of the cluster that share the work; None for a number that suits the size of the work.
        priority: workflows with a higher priority start first; those with the same take turns by experiment.
        timeout: seconds that a step may take before it fails; it can be resumed. None for no limit.
    """

    cache: Literal["on", "off", "refresh"] = "on"
    mode: Literal["direct", "batch"] = "direct"
    budget: float | None = Field(default=None, ge=0)
    max_failed: float = Field(default=0.1, ge=0, le=1)
    workers: int | None = Field(default=None, ge=1)
    priority: int = 0
    timeout: float | None = Field(default=None, gt=0)


class Sample(Value):
    """A random sample of a dataset's rows, without repetition, as the numbers that reproduce it.

    Attributes:
        n: number of rows in the sample.
        of: number of rows in the dataset.
        seed: the same seed draws the same rows; a smaller sample is a part of a larger one.
    """

    n: int = Field(ge=1, lt=2**31)
    of: int = Field(ge=1, lt=2**31)
    seed: int = Field(default=0, ge=0, lt=2**32)


class WorkflowSpec(Value):
    """One model through one experiment: everything that the cluster needs to know.

    Attributes:
        workflow_id: names its folder in the store.
        attempt: 1 at launch, one more at every resume; it distinguishes results of several attempts.
        dataset: the name of the examples in the store (Parquet with `example` and, if known, `ground_truth`).
        n_examples: rows of that file, or of the sample.
        sample: rows of that file that are used; None for all.
        shard_size: rows per file of predictions; a finished file is never computed again.
        task: the task for the model.
        judged_task: the task for judges; None in specifications of earlier versions.
        launch: how to run it.
        resources: of each process of the model.
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
    """The result of a step. It is written last: if it exists, all other files of the step are complete.

    Attributes:
        attempt: of the workflow, as in :class:`WorkflowSpec`.
        n_examples: number of examples of the step.
        n_failed: number of examples with an error instead of an answer.
        error: why the step failed or stopped; None if it succeeded.
        scores: overall scores by name (evaluation only).
        details: provenance: model source and revision, device, signatures, versions.
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
    """One score of a metric over the examples of a workflow.

    Attributes:
        overall: None if no example has a score.
        mean: of the examples' scores, if it differs from `overall`.
        n_scored: number of examples with a score; `unscored` counts the others by the reason.
        description, higher_is_better, range: as in :class:`lumigator_nb.metrics.ScoreInfo`; None for no bound.
    """

    overall: float | None
    mean: float | None = None
    n_scored: int
    unscored: dict[str, int] = Field(default_factory=dict)
    description: str = ""
    higher_is_better: bool | None = None
    range: tuple[float | None, float | None] = (None, None)


class MetricResult(Value):
    """The result of one metric for a workflow.

    Attributes:
        answers_of: the attempt whose predictions were scored; those of a later attempt are scored again.
        signature: implementation, version and every setting that influences the scores.
        error: why there are no scores; None if there are.
        n_empty: number of predictions that are empty texts, which each metric scores by its own convention.
        cost: dollars that a judge's answers cost; None without a known price.
        details: further information, such as a judge's repeated answers.
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
    """The progress of a running step.

    Attributes:
        done, total: numbers of examples.
        started_at: when the first example of this attempt was started.
        resumed: how many of `done` earlier attempts had finished.
        first_at: when the first example of this attempt was finished; None before.
        first_done: `done` at that moment.
        note: what else it does, such as "loading the model".
        failed: how many of `done` have an error instead of an answer.
        cost: dollars spent in this attempt; None without a known price.
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
        """Examples per second since the first was finished; None until it can be estimated.

        The first example takes longer than the others: models are loaded and compiled, and the first answers of several
        concurrent requests arrive together. It is therefore left out, and at least as much time as it took has to pass.
        """
        if self.first_at is None or self.done - self.first_done < 2:
            return None
        waited = (self.first_at - self.started_at).total_seconds()
        measured = (self.updated_at - self.first_at).total_seconds()
        return (self.done - self.first_done) / measured if measured > 0 and measured >= waited else None

    def finished(self, count: int) -> dict[str, Any]:
        """Return the new values of the fields that change when `count` more examples are finished."""
        done = self.done + count
        return {"done": done} if self.first_at or not count else {"done": done, "first_at": now(), "first_done": done}


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def digest(value: object) -> str:
    """Return 16 hex digits of the SHA-256 of the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
