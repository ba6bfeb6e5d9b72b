"""The interface of a metric: the class, its input (rows) and its output (scores)."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError, MissingExtraError
from lumigator_nb.specs import MetricSpec, Model, Task

FloatArray = NDArray[np.float64]
Aggregate = Callable[[FloatArray, int], FloatArray]
Needed = Literal["ground_truth", "metadata", "facts"]
# Facts of answers besides their texts, by their names in :class:`lumigator_nb.models.Prediction`.
FACTS = ("seconds", "cost")
# The references of an example: one text, several, or None where it has none.
References = str | Sequence[str] | None

# Relative to a score's range: a value this far beyond a bound is on it, but for rounding.
_ROUNDING = 1e-9

# Codes of languages written without spaces between words.
WITHOUT_SPACES = frozenset({"zh", "yue", "wuu", "ja", "th", "lo", "km", "my", "bo"})

NO_PREDICTION, NO_GROUND_TRUTH = "no prediction", "no ground truth"


def mean(totals: FloatArray, n: int) -> FloatArray:
    """Return (…) means from (…, 1) sums over `n` examples: the aggregate of scores with a mean as overall value."""
    return totals[..., 0] / n


@dataclass(frozen=True)
class ScoreInfo:
    """One number that a metric reports.

    Attributes:
        name: unique over all metrics.
        description: what it measures, in a sentence.
        higher_is_better: None for a score that only describes.
        range: least and greatest possible value.
        aggregate: turns sums of the examples' sufficient statistics, (…, k), and the number of examples into the
            overall value, (…). The same function gives the overall score, every bootstrap resample and every slice.
        headline: priority as the score that decides where the user names none; the greatest of an experiment wins.
    """

    name: str
    description: str
    higher_is_better: bool | None
    range: tuple[float, float]
    aggregate: Aggregate = mean
    headline: int = 0

    def within_range(self, values: FloatArray) -> FloatArray:
        """Return the values, with those outside of the range by a rounding error moved onto its bound.

        Equal texts have a BLEU of 100.00000000000004, which a race would refuse as out of bounds.
        """
        low, high = self.range
        clipped = np.clip(values, low, high)
        slack = _ROUNDING * (high - low if np.isfinite(high - low) else 1.0)
        close = np.isclose(values, clipped, rtol=_ROUNDING, atol=slack)
        return np.asarray(np.where(close, clipped, values), dtype=np.float64)


@dataclass(frozen=True)
class Rows:
    """The examples to score, as columns of n.

    Attributes:
        predictions: one text each. An empty text is an answer.
        ground_truth: the references of each example, one or more; may be empty if the metric does not need them.
        examples: the inputs.
        metadata: the dataset's other columns, by name.
        facts: :data:`FACTS` of the answers, by name, as far as they are known.
    """

    predictions: Sequence[str]
    ground_truth: Sequence[tuple[str, ...]]
    examples: Sequence[str]
    metadata: Sequence[Mapping[str, Any]]
    facts: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.predictions)

    def pairs(self) -> tuple[list[str], list[str], NDArray[np.int64]]:
        """Return predictions and references, one pair per reference, and (n + 1,) starts of each example's pairs."""
        counts = [len(references) for references in self.ground_truth]
        predictions = [text for text, count in zip(self.predictions, counts, strict=True) for _ in range(count)]
        references = [reference for references in self.ground_truth for reference in references]
        return predictions, references, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclass(frozen=True)
class Score:
    """The score of one example.

    Attributes:
        value: None where the example cannot be scored.
        reason: the reason for the score, or for its absence.
    """

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Scores:
    """One score of a metric for n examples.

    Attributes:
        values: (n,) the score of each example; NaN where it cannot be scored.
        statistics: (n, k) sufficient statistics of the overall value; rows of NaN where an example cannot be scored.
        reasons: n texts: the reason for a score (as a judge gives it) or for its absence; None where there is none.
            Empty where no example has a reason.
    """

    info: ScoreInfo
    values: FloatArray
    statistics: FloatArray
    reasons: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, info: ScoreInfo, statistics: Any, reasons: Sequence[str | None] = ()) -> Scores:
        """Return scores from (n,) or (n, k) `statistics`; an example's score is the aggregate of that example alone."""
        table = np.asarray(statistics, dtype=np.float64)
        table = table[:, None] if table.ndim == 1 else table
        if info.aggregate is mean:
            table = info.within_range(table)
        values = info.within_range(np.asarray(info.aggregate(table, 1), dtype=np.float64))
        return cls(info, values, table, tuple(reasons))

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) booleans: the examples that have a score."""
        return ~np.isnan(self.values)

    @property
    def overall(self) -> float:
        """The value over all examples that have a score; NaN where none has."""
        scored = self.statistics[self.scored]
        return float(self.info.aggregate(scored.sum(axis=0), len(scored))) if len(scored) else float("nan")

    @property
    def explained(self) -> bool:
        """Whether at least one score has a reason."""
        return any(reason for reason, scored in zip(self.reasons, self.scored, strict=False) if scored)

    @property
    def unscored(self) -> Counter[str]:
        """The number of examples without a score, by reason."""
        reasons = self.reasons or (None,) * len(self.values)
        return Counter(reason or "not said" for reason, scored in zip(reasons, self.scored, strict=True) if not scored)

    def spread(self, rows: Sequence[int], others: Sequence[str | None]) -> Scores:
        """Return scores of len(others) examples: these at `rows`; elsewhere none, with the reason in `others`."""
        n = len(others)
        values, statistics = np.full(n, np.nan), np.full((n, self.statistics.shape[1]), np.nan)
        values[rows], statistics[rows] = self.values, self.statistics
        reasons = list(others)
        for row, reason in zip(rows, self.reasons, strict=False):
            reasons[row] = reason
        return Scores(self.info, values, statistics, tuple(reasons) if any(reasons) else ())


class Metric(ABC):
    """A rule that scores predictions. Settings are keyword arguments of the constructor.

    The rest of the package reads facts about a metric from its class. These attributes are therefore readable where the
    packages that compute the metric are not installed.

    Attributes:
        name: the name that users pass.
        display_name: the label in forms; default the name, written out.
        infos: the scores that it reports, as far as they are known before it has seen an example.
        needs: what an example must have to be scored: "ground_truth", "metadata" (the dataset's other columns),
            "facts" (how long an answer took and what it cost).
        languages: codes of the only languages whose texts it can score; None for any.
        needs_spaces: whether it splits words at spaces, and so cannot score Japanese.
        columns: metadata columns that it requires.
        slow: whether scoring thousands of examples is worth starting several processes.
        on_gpu: whether it computes with a neural network, on a GPU if it gets one.
        default_for: kinds of tasks, such as "summarization", that it scores in an experiment without named metrics.
        modules: modules that must be importable before it can score; the `extra` of this package installs them.
        optional_modules: further modules that the extra installs, whose data may also come from elsewhere.
        packages: names of the distributions that influence its scores; their versions are recorded.
        uses_pandas: whether it may pass pandas objects to pyarrow; a worker starts sooner without pandas.
        runs_user_code: whether it calls a function of the user, which nothing but an evaluation may do.
    """

    name: ClassVar[str]
    display_name: ClassVar[str] = ""
    infos: tuple[ScoreInfo, ...]
    needs: frozenset[Needed] = frozenset({"ground_truth"})
    languages: frozenset[str] | None = None
    needs_spaces: ClassVar[bool] = False
    columns: tuple[str, ...] = ()
    slow: bool = False
    on_gpu: ClassVar[bool] = False
    default_for: ClassVar[frozenset[str]] = frozenset()
    modules: ClassVar[tuple[str, ...]] = ()
    optional_modules: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    uses_pandas: ClassVar[bool] = True
    runs_user_code: ClassVar[bool] = False

    @classmethod
    def options_for(cls, language: str) -> Mapping[str, Any]:
        """Return the default options for texts in a language, by its code such as "ja"."""
        return {}

    @classmethod
    def options_of(cls, task: Task) -> Mapping[str, Any]:
        """Return the options that follow from a task, such as its labels."""
        return {}

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """Return a specification of this metric in one line: its name with its options."""
        options = ", ".join(f"{name}={value!r}" for name, value in spec.options.items())
        return f"{spec.name}({options})" if options else spec.name

    @property
    def asks(self) -> tuple[Model, ...]:
        """The language models that it calls (a judge's)."""
        return ()

    @property
    def cost(self) -> float | None:
        """Dollars that their answers cost so far; None if no answer has a known price."""
        return None

    @property
    def details(self) -> dict[str, Any]:
        """Further information about the scores so far, as plain JSON values."""
        return {}

    @property
    def title(self) -> str:
        """The label in tables; unlike the name, it differs between judges and between functions."""
        return self.name

    @property
    def note(self) -> str | None:
        """A caveat for readers of its scores, in a sentence, or None."""
        return None

    @property
    @abstractmethod
    def signature(self) -> str:
        """Implementation, version and every setting, as far as they influence the scores."""

    @abstractmethod
    def _score(self, rows: Rows) -> list[Scores]:
        """Return scores of examples with a prediction, and with ground truth where it is needed."""

    def prepare(self) -> None:
        """Check that packages and data are installed, so that a missing one shows before models are called. Cheap.

        Raises:
            MissingExtraError: packages are missing.
            ConfigurationError: data are missing.
        """
        if not all(importlib.util.find_spec(module) for module in self.modules):
            raise MissingExtraError(f"metric {self.name!r}", self.extra or self.name)

    def score(
        self,
        predictions: Sequence[str | None],
        ground_truth: Sequence[References],
        examples: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        facts: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Scores]:
        """Score predictions.

        Args:
            predictions: n texts; None where the model gave no answer. An empty text is an answer.
            ground_truth: n references: a text, several, or None where it is not known.
            examples: n inputs.
            metadata: n mappings of the dataset's other columns, by name.
            facts: n mappings of what is known of the answers besides their texts; see :class:`Rows`.

        Returns:
            One for each of :attr:`infos`. A score is NaN, never 0, where prediction or ground truth is missing.
        """
        truth = [as_references(references) for references in ground_truth]
        others = metadata or [{}] * len(predictions)
        known = facts or [{}] * len(predictions)
        missing: list[str | None] = [None] * len(predictions)
        for row, (prediction, references) in enumerate(zip(predictions, truth, strict=True)):
            if prediction is None:
                missing[row] = NO_PREDICTION
            elif not references and "ground_truth" in self.needs:
                missing[row] = NO_GROUND_TRUTH
        rows = [row for row, reason in enumerate(missing) if reason is None]
        scores = self._score(
            Rows(
                [predictions[row] or "" for row in rows],
                [truth[row] for row in rows],
                [examples[row] for row in rows],
                [others[row] for row in rows],
                [known[row] for row in rows],
            )
        )
        return [score.spread(rows, missing) for score in scores]


def as_references(references: References) -> tuple[str, ...]:
    """Return the references of an example as a tuple, empty for None."""
    if references is None:
        return ()
    return (references,) if isinstance(references, str) else tuple(references)


def best(values: FloatArray, starts: NDArray[np.int64]) -> FloatArray:
    """Return (n,) the greatest of each example's (pairs,) values; `starts` come from :meth:`Rows.pairs`."""
    return np.maximum.reduceat(values, starts[:-1]) if len(starts) > 1 else np.empty(0)


def choice(metric: str, option: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise InvalidInputError unless an option's value is one of those allowed."""
    # 1 == True in Python, so that a number would pass for a switch.
    if value not in allowed or isinstance(value, bool) != isinstance(allowed[0], bool):
        values = ", ".join(repr(one) for one in allowed)
        raise InvalidInputError(f"option {option!r} of metric {metric!r} cannot be {value!r}", f"use one of {values}")
