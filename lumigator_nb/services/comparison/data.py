"""The data of a comparison, from a workspace or from anywhere else, as frozen values without a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.metrics import FloatArray, ScoreInfo
from lumigator_nb.models import is_baseline
from lumigator_nb.specs import MetricResult, MetricSpec, Model, Status, Step, Task

OPTIONS = "{options}"


@dataclass(frozen=True)
class ComparedExperiment:
    """What the models were asked, and how their answers were scored.

    Attributes:
        id: of the experiment in its workspace; "" without a workspace.
        task: None if it is unknown.
        metrics: empty for scores that another tool computed.
    """

    name: str
    task: Task | None = None
    metrics: tuple[MetricSpec, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class ComparedDataset:
    """The examples' name and origin.

    Attributes:
        n_examples: the number of examples that the comparison is about.
        id, filename, content_hash, size_bytes: of the uploaded file; "" and 0 without a workspace.
        columns: the source columns that became `example` and `ground_truth`, under these keys.
        author: the model that wrote the ground truth; None if no model did.
    """

    name: str
    n_examples: int
    id: str = ""
    version: int = 1
    filename: str = ""
    content_hash: str = ""
    size_bytes: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    author: str | None = None


@dataclass(frozen=True)
class ComparedStep:
    """A step of a model's workflow: inference or evaluation.

    Attributes:
        n_failed: the number of examples without a result.
        scores: overall scores by name (evaluation only).
        details: counts, signatures and versions; see :class:`lumigator_nb.database.records.Job`.
    """

    step: Step
    n_failed: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def skipped(self) -> dict[str, str]:
        """The metrics that could not be computed, with the reasons, by title; empty for inference."""
        return dict(self.details.get("failed_metrics", {}))


@dataclass(frozen=True)
class ComparedModel:
    """A model with the facts about its answers.

    Attributes:
        label: its name in tables, unique within the comparison.
        model: its settings; None if they are unknown.
        id: of its workflow, which the verbs of a workspace take; "" without a workspace.
        provenance: of the workflow's launch.
        steps: inference and evaluation, of each repeat; empty without a workspace.
        repeats: how often it was asked each example.
    """

    label: str
    model: Model | None = None
    id: str = ""
    fingerprint: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    finished_at: datetime | None = None
    steps: tuple[ComparedStep, ...] = ()
    repeats: int = 1

    @property
    def is_baseline(self) -> bool:
        """Whether it is a baseline: it costs nothing and is never recommended."""
        return self.model is not None and is_baseline(self.model)


@dataclass(frozen=True)
class PendingModel:
    """A model of the experiment that cannot be compared yet, or that failed."""

    label: str
    status: Status
    error: str | None = None


class LazyFrames(Mapping[str, pd.DataFrame]):
    """Frames by label, each read when it is first used."""

    def __init__(self, labels: Sequence[str], read: Callable[[str], pd.DataFrame]) -> None:
        self._labels = tuple(labels)
        self._read = read
        self._frames: dict[str, pd.DataFrame] = {}

    def __getitem__(self, label: str) -> pd.DataFrame:
        if label not in self._labels:
            raise KeyError(label)
        if label not in self._frames:
            self._frames[label] = self._read(label)
        return self._frames[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


@dataclass(frozen=True)
class ComparisonData:
    """Everything that a comparison is made of.

    Attributes:
        models: the models to compare, in the order of launch or of appearance.
        examples: (rows, …) `example`, ground truth and metadata columns, with the index 0, 1, …; may have no columns.
        predictions: per label, the columns of :meth:`Workflows.predictions`, one row per example; only `row` and
            `prediction` are required. A mapping may read a frame when it is first used.
        scores: per label, one row per example: `row`, a column per score (NaN for none), and for each score optionally
            `<score>.statistics` (sufficient statistics) and `<score>.reason`.
        infos: name, direction and range of the scores that no metric of the experiment describes.
        evaluations: per label, the results of the experiment's metrics, as far as they were computed.
        pending: the other models of the experiment; the notes name them.
        labels: human ratings: columns `row`, `model` (label), `rater`, `rating`.
        notes: facts that a reader has to know, such as how the examples of several files were aligned.
        repeats: per score, (models, rows, repeats) values, NaN for none, if models were asked repeatedly; `scores` then
            has the mean over each example's repeats.
        answers: per label of a model that was asked repeatedly, the answers of all repeats; `predictions` has those of
            the first.
        recipe: Python code that repeats the comparison, with `OPTIONS` in the place of the bootstrap's; "" for that of
            the workspace.
        has_texts: whether `example` holds the inputs; if False, it holds only their ids, and `prediction` no answers.
        items: the ids of the examples in the file that they are from; empty in a workspace.
    """

    experiment: ComparedExperiment
    dataset: ComparedDataset
    models: tuple[ComparedModel, ...]
    examples: pd.DataFrame
    predictions: Mapping[str, pd.DataFrame]
    scores: Mapping[str, pd.DataFrame]
    infos: Mapping[str, ScoreInfo] = field(default_factory=dict)
    evaluations: Mapping[str, Sequence[MetricResult]] = field(default_factory=dict)
    pending: tuple[PendingModel, ...] = ()
    labels: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    repeats: Mapping[str, FloatArray] = field(default_factory=dict)
    answers: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    recipe: str = ""
    has_texts: bool = True
    items: tuple[str, ...] = ()

    def position_of(self, label: str) -> int:
        """Return the place of a model among `models`.

        Raises:
            InvalidInputError: no compared model has this label, or it has no results yet.
        """
        labels = [model.label for model in self.models]
        if label in labels:
            return labels.index(label)
        waiting = next((model for model in self.pending if model.label == label), None)
        if waiting is not None:
            raise InvalidInputError(f"{label!r} has no results: it is {waiting.status}", waiting.error)
        raise InvalidInputError(f"no compared model is called {label!r}", did_you_mean(label, labels))
