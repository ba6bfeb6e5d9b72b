"""What a metric is, what it is given and what it gives."""

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
from lumigator_nb.specs import MetricSpec, Model

FloatArray = NDArray[np.float64]
Aggregate = Callable[[FloatArray, int], FloatArray]
Needed = Literal["ground_truth", "metadata"]
# The references of an example: one text, several, or None where it has none.
References = str | Sequence[str] | None

# Of a score's range: what is beyond it by less is on its bound in exact arithmetic.
_ROUNDING = 1e-9

# Codes of languages that do not put spaces between words.
WITHOUT_SPACES = frozenset({"zh", "yue", "wuu", "ja", "th", "lo", "km", "my", "bo"})

NO_PREDICTION, NO_GROUND_TRUTH = "no prediction", "no ground truth"


def mean(totals: FloatArray, n: int) -> FloatArray:
    """The aggregate of scores whose overall value is their mean: (…, 1) sums over `n` examples -> (…)."""
    return totals[..., 0] / n


@dataclass(frozen=True)
class ScoreInfo:
    """One number that a metric reports.

    Attributes:
        name: unique over all metrics.
        description: what it measures, in a sentence.
        higher_is_better: None where it only describes.
        range: least and greatest possible value.
        aggregate: from the sums of the per-example sufficient statistics, (…, k), and the number of examples to the
            overall value, (…). The same function gives the overall score, every bootstrap resample and every slice.
        headline: how readily it stands for all scores of an experiment where none is named: the greatest does.
    """

    name: str
    description: str
    higher_is_better: bool | None
    range: tuple[float, float]
    aggregate: Aggregate = mean
    headline: int = 0

    def within_range(self, values: FloatArray) -> FloatArray:
        """Return values of which those that a rounding error puts out of the range lie on its bound.

        Equal texts have a BLEU of 100.00000000000004, and what relies on the range, such as a race, would refuse it.
        """
        low, high = self.range
        clipped = np.clip(values, low, high)
        slack = _ROUNDING * (high - low if np.isfinite(high - low) else 1.0)
        close = np.isclose(values, clipped, rtol=_ROUNDING, atol=slack)
        return np.asarray(np.where(close, clipped, values), dtype=np.float64)


@dataclass(frozen=True)
class Rows:
    """The examples that a metric is to score, as columns of n.

    Attributes:
        predictions: one text each. An empty text is an answer.
        ground_truth: the references of each, one or more; none where the metric does not need them and there is none.
        examples: the inputs.
        metadata: the dataset's other columns; empty where the metric does not need them.
    """

    predictions: Sequence[str]
    ground_truth: Sequence[tuple[str, ...]]
    examples: Sequence[str]
    metadata: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.predictions)

    def pairs(self) -> tuple[list[str], list[str], NDArray[np.int64]]:
        """Return every prediction beside each of its references, and (n + 1,) where each example's pairs begin."""
        counts = [len(references) for references in self.ground_truth]
        predictions = [text for text, count in zip(self.predictions, counts, strict=True) for _ in range(count)]
        references = [reference for references in self.ground_truth for reference in references]
        return predictions, references, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclass(frozen=True)
class Score:
    """What a metric says of one example.

    Attributes:
        value: None where it cannot be scored.
        reason: why it has this score, or none.
    """

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Scores:
    """One number of a metric for a list of examples.

    Attributes:
        values: (n,) the score of each example; NaN where it cannot be scored.
        statistics: (n, k) what its overall value is made of; rows of NaN where it cannot be scored.
        reasons: n texts: why an example has this score, as a judge says, or why it has none; None where nothing is
            to be said.
    """

    info: ScoreInfo
    values: FloatArray
    statistics: FloatArray
    reasons: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, info: ScoreInfo, statistics: Any, reasons: Sequence[str | None] = ()) -> Scores:
        """Return scores whose examples are each their own aggregate; `statistics` are (n,) or (n, k)."""
        table = np.asarray(statistics, dtype=np.float64)
        table = table[:, None] if table.ndim == 1 else table
        if info.aggregate is mean:
            table = info.within_range(table)
        values = info.within_range(np.asarray(info.aggregate(table, 1), dtype=np.float64))
        return cls(info, values, table, tuple(reasons))

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) which examples have a score."""
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
        """How many examples have no score, by the reason."""
        reasons = self.reasons or (None,) * len(self.values)
        return Counter(reason or "not said" for reason, scored in zip(reasons, self.scored, strict=True) if not scored)

    def spread(self, rows: Sequence[int], others: Sequence[str | None]) -> Scores:
        """Return the scores of more examples, of which these are at `rows`; the `others` have the reasons given."""
        n = len(others)
        values, statistics = np.full(n, np.nan), np.full((n, self.statistics.shape[1]), np.nan)
        values[rows], statistics[rows] = self.values, self.statistics
        reasons = list(others)
        for row, reason in zip(rows, self.reasons, strict=False):
            reasons[row] = reason
        return Scores(self.info, values, statistics, tuple(reasons) if any(reasons) else ())


class Metric(ABC):
    """A rule that scores predictions. Settings are keyword arguments of the constructor.

    All that the rest of the package knows of a metric is asked of its class, so these attributes are read where the
    packages that compute it are not installed.

    Attributes:
        name: by which it is asked for.
        display_name: what a form calls it; default the name, written out.
        infos: the scores that it reports, as far as they are known before it has seen an example.
        needs: what an example must have to be scored: "ground_truth"; "metadata" are the dataset's other columns.
        languages: codes of the only languages whose texts it can score; None where it takes any.
        needs_spaces: whether it tells words apart by the spaces between them, and so cannot score Japanese.
        columns: metadata columns that it cannot do without.
        slow: whether several processes are worth their start, for thousands of examples.
        on_gpu: whether it computes with a network, on a GPU where it is given one.
        default_for: kinds of tasks that it scores where an experiment names no metrics, such as "summarization".
        modules: what must be importable before it can score; the `extra` of this package brings them.
        optional_modules: what else that extra brings, and can come from elsewhere.
        packages: names of the distributions that take part in its scores; their versions are recorded.
        uses_pandas: whether it may hand objects of pandas to pyarrow; a worker starts sooner without pandas.
        runs_user_code: whether it calls a function of the user's, which nothing but an evaluation does.
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
        """Return the options that suit texts in a language, a code such as "ja", where none were given."""
        return {}

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """Return a specification of this metric in a line: its name with its options."""
        options = ", ".join(f"{name}={value!r}" for name, value in spec.options.items())
        return f"{spec.name}({options})" if options else spec.name

    @property
    def asks(self) -> tuple[Model, ...]:
        """The language models that it asks."""
        return ()

    @property
    def cost(self) -> float | None:
        """Dollars that their answers cost so far; None where nothing has a price."""
        return None

    @property
    def details(self) -> dict[str, Any]:
        """What else it has to tell about the scores so far; plain JSON values."""
        return {}

    @property
    def title(self) -> str:
        """What tables call it; unlike the name it tells apart judges, and functions."""
        return self.name

    @property
    def note(self) -> str | None:
        """What a reader of its scores must know beside their signature, in a sentence; None where there is nothing."""
        return None

    @property
    @abstractmethod
    def signature(self) -> str:
        """Implementation, version and every setting: what makes the numbers reproducible."""

    @abstractmethod
    def _score(self, rows: Rows) -> list[Scores]:
        """Score examples that have a prediction, and ground truth where it is needed."""

    def prepare(self) -> None:
        """Refuse to score what could not be scored anyhow: data or packages are missing. Cheap.

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
    ) -> list[Scores]:
        """Score predictions.

        Args:
            predictions: n texts; None where the model gave no answer. An empty text is an answer.
            ground_truth: n references: a text, several, or None where it is not known.
            examples: n inputs.
            metadata: n mappings of the dataset's other columns.

        Returns:
            One score for each of :attr:`infos`; NaN where prediction or ground truth is missing, never zero.
        """
        truth = [as_references(references) for references in ground_truth]
        others = metadata or [{}] * len(predictions)
        missing = [self._missing(*pair) for pair in zip(predictions, truth, strict=True)]
        rows = [row for row, reason in enumerate(missing) if reason is None]
        found = self._score(
            Rows(
                [predictions[row] or "" for row in rows],
                [truth[row] for row in rows],
                [examples[row] for row in rows],
                [others[row] for row in rows],
            )
        )
        return [score.spread(rows, missing) for score in found]

    def _missing(self, prediction: str | None, references: tuple[str, ...]) -> str | None:
        if prediction is None:
            return NO_PREDICTION
        return None if references or "ground_truth" not in self.needs else NO_GROUND_TRUTH


def as_references(references: References) -> tuple[str, ...]:
    """Return the references of an example as a tuple, empty where there is none."""
    if references is None:
        return ()
    return (references,) if isinstance(references, str) else tuple(references)


def best(values: FloatArray, starts: NDArray[np.int64]) -> FloatArray:
    """Return (n,) the greatest of each example's (pairs,) values; see :meth:`Rows.pairs`."""
    return np.maximum.reduceat(values, starts[:-1]) if len(starts) > 1 else np.empty(0)


def choice(metric: str, option: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise InvalidInputError unless an option's value is one of those allowed."""
    if value not in allowed or isinstance(value, bool) != isinstance(allowed[0], bool):
        shown = ", ".join(repr(one) for one in allowed)
        raise InvalidInputError(f"option {option!r} of metric {metric!r} cannot be {value!r}", f"it is one of {shown}")
