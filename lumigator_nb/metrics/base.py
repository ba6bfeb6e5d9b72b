"""What a metric is, what it gives, and the registry of all metrics.

Third parties join through the entry-point group ``lumigator_nb.metrics``: the entry's name is the metric's, its value
the class.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from inspect import signature
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError, MissingFieldsError, UnknownMetricError, did_you_mean
from lumigator_nb.specs import MetricSpec

ENTRY_POINTS = "lumigator_nb.metrics"

FloatArray = NDArray[np.float64]
Aggregate = Callable[[FloatArray, int], FloatArray]


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
    """

    name: str
    description: str
    higher_is_better: bool | None
    range: tuple[float, float]
    aggregate: Aggregate = mean


@dataclass(frozen=True)
class Score:
    """One number of a metric for a list of examples.

    Attributes:
        values: (n,) the score of each example; NaN where it cannot be scored.
        statistics: (n, k) what its overall value is made of; rows of NaN where it cannot be scored.
    """

    info: ScoreInfo
    values: FloatArray
    statistics: FloatArray

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) which examples have a score."""
        return ~np.isnan(self.values)

    @property
    def overall(self) -> float:
        """The value over all examples that have a score; NaN where none has."""
        scored = self.statistics[self.scored]
        return float(self.info.aggregate(scored.sum(axis=0), len(scored))) if len(scored) else float("nan")


class Metric(ABC):
    """A rule that scores predictions. Settings are keyword arguments of the constructor.

    Attributes:
        name: by which it is asked for.
        infos: the scores that it reports.
        needs_ground_truth: whether an example without ground truth cannot be scored.
    """

    name: ClassVar[str]
    infos: ClassVar[tuple[ScoreInfo, ...]]
    needs_ground_truth: ClassVar[bool] = True

    @property
    @abstractmethod
    def signature(self) -> str:
        """Implementation, version and every setting: what makes the numbers reproducible."""

    @abstractmethod
    def _score(
        self, predictions: Sequence[str], ground_truth: Sequence[str], examples: Sequence[str]
    ) -> list[FloatArray]:
        """Return the (n, k) statistics of each of :attr:`infos` for examples that can all be scored."""

    def _values(self, info: ScoreInfo, statistics: FloatArray) -> FloatArray:
        """Return the (n,) scores of single examples; by default each is its own aggregate."""
        return info.aggregate(statistics, 1)

    def score(
        self, predictions: Sequence[str | None], ground_truth: Sequence[str | None], examples: Sequence[str]
    ) -> list[Score]:
        """Score predictions.

        Args:
            predictions: n texts; None where the model gave no answer. An empty text is an answer.
            ground_truth: n texts; None where it is not known.
            examples: n inputs.

        Returns:
            One score for each of :attr:`infos`; NaN where prediction or ground truth is missing, never zero.
        """
        rows = [
            row
            for row, (prediction, truth) in enumerate(zip(predictions, ground_truth, strict=True))
            if prediction is not None and (truth is not None or not self.needs_ground_truth)
        ]
        found = self._score(
            [predictions[row] or "" for row in rows],
            [ground_truth[row] or "" for row in rows],
            [examples[row] for row in rows],
        )
        return [
            self._spread(info, statistics, rows, len(predictions))
            for info, statistics in zip(self.infos, found, strict=True)
        ]

    def _spread(self, info: ScoreInfo, statistics: FloatArray, rows: list[int], n: int) -> Score:
        values = np.full(n, np.nan)
        values[rows] = self._values(info, statistics)
        spread = np.full((n, statistics.shape[1]), np.nan)
        spread[rows] = statistics
        return Score(info, values, spread)


M = TypeVar("M", bound=type[Metric])

_METRICS: dict[str, type[Metric]] = {}


def metric_class(cls: M) -> M:
    """Register a metric under its name."""
    _METRICS[cls.name] = cls
    return cls


def known() -> tuple[str, ...]:
    """The sorted names of all metrics, built in and installed."""
    return tuple(sorted(_all()))


def parse(metric: str | MetricSpec) -> MetricSpec:
    """Return the specification of a metric whose name and options have been checked.

    Raises:
        UnknownMetricError: there is no such metric.
        InvalidInputError: it has no such option, or not with that value.
    """
    spec = MetricSpec(name=metric) if isinstance(metric, str) else metric
    create(spec)
    return spec


def create(spec: MetricSpec) -> Metric:
    """Return the metric that a specification describes; errors as of :func:`parse`."""
    cls = _find(spec.name)
    options = list(signature(cls).parameters)
    unknown = sorted(spec.options.keys() - set(options))
    if unknown:
        rule = did_you_mean(unknown[0], options) if options else f"{spec.name!r} takes no options"
        raise InvalidInputError(f"unknown option {unknown[0]!r} of metric {spec.name!r}", rule)
    return cls(**spec.options)


def info(score: str) -> ScoreInfo:
    """Return what describes a score.

    Raises:
        UnknownMetricError: no metric reports it.
    """
    infos = _infos(_METRICS)
    if score not in infos:
        infos = _infos(_all())
    if score not in infos:
        raise UnknownMetricError(f"no metric reports the score {score!r}", did_you_mean(score, infos))
    return infos[score]


def _infos(classes: Mapping[str, type[Metric]]) -> dict[str, ScoreInfo]:
    return {info.name: info for cls in classes.values() for info in cls.infos}


def check(specs: Iterable[MetricSpec], *, has_ground_truth: bool) -> None:
    """Refuse metrics that need what a dataset lacks.

    Raises:
        MissingFieldsError: a metric needs ground truth and there is none.
    """
    lacking = [spec.name for spec in specs if _find(spec.name).needs_ground_truth and not has_ground_truth]
    if lacking:
        free = ", ".join(name for name, cls in sorted(_all().items()) if not cls.needs_ground_truth)
        raise MissingFieldsError(
            f"ground truth is needed for: {', '.join(lacking)}; the dataset has none",
            f"upload it with ground_truth='…', or take metrics that do without: {free}",
        )


def _find(name: str) -> type[Metric]:
    # What is installed may be slow to import, so it is looked at only for a name that is not built in.
    found = _METRICS.get(name) or _all().get(name)
    if found is not None:
        return found
    owner = next((cls.name for cls in _all().values() if name in {info.name for info in cls.infos}), None)
    if owner:
        raise UnknownMetricError(f"{name!r} is a score, not a metric", f"the metric {owner!r} reports it")
    raise UnknownMetricError(f"unknown metric {name!r}", did_you_mean(name, _all()))


def _all() -> dict[str, type[Metric]]:
    return {**_installed(), **_METRICS}


@cache
def _installed() -> dict[str, type[Metric]]:
    found = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # another package's mistake must not take the other metrics away
            warnings.warn(f"the metric {entry.name!r} ({entry.value}) cannot be loaded: {error!r}", stacklevel=2)
    return found


def choice(metric: str, option: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise InvalidInputError unless an option's value is one of those allowed."""
    if value not in allowed:
        shown = ", ".join(repr(one) for one in allowed)
        raise InvalidInputError(f"option {option!r} of metric {metric!r} cannot be {value!r}", f"it is one of {shown}")
