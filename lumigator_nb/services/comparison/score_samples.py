"""The samples of one score for all models, and what is estimated from them: intervals, differences, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from lumigator_nb import metrics, statistics
from lumigator_nb.errors import LumigatorError
from lumigator_nb.metrics import FloatArray, ScoreInfo
from lumigator_nb.services.comparison.data import ComparisonData
from lumigator_nb.statistics import Difference, Interval, RankSet
from lumigator_nb.storage.results import REASON_SUFFIX, STATISTICS_SUFFIX

# If fewer examples than this differ from the most common score, the sample hardly shows its spread.
FEW_THAT_DIFFER = 5


@dataclass(frozen=True)
class Resampling:
    """How a comparison resamples.

    Attributes:
        confidence: level of all intervals, in (0, 1).
        n_resamples: number of bootstrap resamples.
        seed: the same seed gives the same numbers.
        groups: (rows,) labels; examples of one group are drawn together. None: each example is drawn independently.
    """

    confidence: float
    n_resamples: int
    seed: int
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Scored:
    """One score of all models on the examples for which every model has it.

    Attributes:
        info: name, direction and range of the score.
        rows: (n,) positions of those examples in the dataset.
        values: (models, n) per-example scores.
        statistics: (models, n, k) sufficient statistics.
        resampling: how to resample them.
    """

    info: ScoreInfo
    rows: np.ndarray
    values: FloatArray
    statistics: FloatArray
    resampling: Resampling

    @property
    def n(self) -> int:
        """The number of examples."""
        return len(self.rows)

    @property
    def decides(self) -> bool:
        """Whether one value of the score can be better than another."""
        return self.info.higher_is_better is not None

    @cached_property
    def groups(self) -> np.ndarray | None:
        """(n,) group labels of the examples; None without groups."""
        return None if self.resampling.groups is None else self.resampling.groups[self.rows]

    @cached_property
    def n_units(self) -> int:
        """The number of independent units: examples, or groups of them."""
        return self.n if self.groups is None else len(np.unique(self.groups))

    @cached_property
    def overall(self) -> FloatArray:
        """(models,) overall scores."""
        return self.info.aggregate(self.statistics.sum(axis=1), self.n)

    @cached_property
    def upward(self) -> FloatArray:
        """(models,) overall scores with the sign that makes more better; -inf for a model without one."""
        # -inf ranks a model without a score last.
        upward = self.overall if self.info.higher_is_better else -self.overall
        return np.where(np.isnan(upward), -np.inf, upward)

    @cached_property
    def contributions(self) -> FloatArray:
        """(models, n) pseudo-values: each example's contribution to the overall score; for a mean, its own score."""
        return statistics.pseudo_values(self.statistics, self.info.aggregate)

    @cached_property
    def replicates(self) -> FloatArray:
        """(models, resamples) overall scores on resampled examples; all models share the resamples."""
        return statistics.resampled_scores(
            self.statistics,
            self.info.aggregate,
            groups=self.groups,
            n_resamples=self.resampling.n_resamples,
            seed=self.resampling.seed,
        )

    @cached_property
    def best(self) -> int | None:
        """The index of the model with the best overall score; None for a score without better or worse."""
        if not self.decides:
            return None
        return int(np.argmax(self.upward))

    @cached_property
    def intervals(self) -> list[Interval]:
        """The overall score of each model with its interval."""
        # User-defined metrics seldom state a range. Infinite bounds would say that equal scores may lie anywhere.
        has_range = any(map(np.isfinite, self.info.range))
        return statistics.intervals(
            self.overall,
            self.replicates,
            self.contributions,
            groups=self.groups,
            confidence=self.resampling.confidence,
            bounds=self.info.range if has_range else None,
        )

    @cached_property
    def alike(self) -> list[int | None]:
        """Per model, how many examples have the most common value, if fewer than `FEW_THAT_DIFFER` have another.

        With so few others the sample hardly shows its spread, and the interval is likely to be too narrow. None for
        the other models, and for shares (0 or 1 per example), whose interval is Wilson's.
        """
        counts: list[int | None] = []
        for values in self.contributions:
            # Pseudo-values of equal examples differ by rounding errors.
            tolerance = 1e-9 * np.abs(values).max(initial=0.0)
            multiplicities = np.unique(np.round(values / tolerance) if tolerance > 0 else values, return_counts=True)[1]
            most_common = int(multiplicities.max())
            is_share = len(multiplicities) <= 2 and np.isin(np.round(values, 9), (0.0, 1.0, *self.info.range)).all()
            has_few_others = len(values) - most_common < FEW_THAT_DIFFER <= len(values) / 2
            counts.append(most_common if has_few_others and not is_share else None)
        return counts

    def difference(self, index: int, other: int) -> Difference:
        """Return the overall score of the first model minus that of the second, with interval and p-value."""
        # All models share the resamples, so that the difference of two replicates is a replicate of the difference.
        return statistics.difference(
            self.overall[index] - self.overall[other],
            self.replicates[index] - self.replicates[other],
            self.contributions[index] - self.contributions[other],
            groups=self.groups,
            confidence=self.resampling.confidence,
        )

    @cached_property
    def needed_for_skewness(self) -> int:
        """How many examples, or groups, the skewness of the differences to the leading model requires."""
        if self.best is None or self.n_units < 2:
            return 0
        differences = self.contributions - self.contributions[self.best]
        return max(statistics.examples_for_skewness(values, groups=self.groups) for values in differences)

    @cached_property
    def p_adjusted(self) -> FloatArray:
        """(models, models) p-values of the differences, corrected for all pairs of models."""
        return statistics.pairwise_p_values(self.overall, self.replicates, n=self.n_units)

    @cached_property
    def ranks(self) -> tuple[RankSet, ...]:
        """The possible ranks of each model, simultaneously for all."""
        return statistics.rank_sets(
            self.overall,
            self.replicates,
            higher_is_better=bool(self.info.higher_is_better),
            confidence=self.resampling.confidence,
            n=self.n_units,
        )

    @cached_property
    def wins(self) -> tuple[np.ndarray, np.ndarray]:
        """Two (models, models) counts of examples: the row's model beats the column's; both score the same."""
        return statistics.wins(self.values, higher_is_better=bool(self.info.higher_is_better))


def main_score(infos: Sequence[ScoreInfo]) -> str | None:
    """Return the score to use by default: the one with the greatest headline among those with better and worse.

    Without one of those it is the first score; None without any score.
    """
    deciding = [info for info in infos if info.higher_is_better is not None]
    return max(deciding or infos[:1], key=lambda info: info.headline).name if infos else None


def scored_of(data: ComparisonData, resampling: Resampling) -> list[Scored]:
    """Return the scores that every model has on at least one example, in the order of the metrics."""
    infos = _score_infos(data)
    frames = [data.scores[model.label].set_index("row") for model in data.models]
    samples = []
    for name in frames[0].columns:
        if name.endswith((STATISTICS_SUFFIX, REASON_SUFFIX)) or not all(name in frame for frame in frames):
            continue
        values = np.stack([frame[name].to_numpy(dtype=float) for frame in frames])
        rows = np.flatnonzero(~np.isnan(values).any(axis=0))
        if not len(rows):
            continue
        values = values[:, rows]
        # The evaluation stores no statistics for a plain mean, whose scores are sufficient.
        column = name + STATISTICS_SUFFIX
        sufficient = values[:, :, None]
        if column in frames[0]:
            sufficient = np.stack([np.stack(list(frame[column].iloc[rows])) for frame in frames])
        samples.append(Scored(infos.get(name) or metrics.info(name), rows, values, sufficient, resampling))
    return samples


def _score_infos(data: ComparisonData) -> dict[str, ScoreInfo]:
    """Name, direction and range of each score: from its metric's class, or else as the evaluation stored it.

    Only the stored results know the keys that a user's function returned, and a metric that has been uninstalled.
    """
    infos = dict(data.infos)
    for result in chain.from_iterable(data.evaluations.values()):
        for name, score in result.scores.items():
            low, high = score.range
            bounds = (-np.inf if low is None else low, np.inf if high is None else high)
            infos[name] = ScoreInfo(name, score.description, score.higher_is_better, bounds)
    for spec in data.experiment.metrics:
        # The metric's package may have been uninstalled since.
        with suppress(LumigatorError):
            infos |= {info.name: info for info in metrics.create(spec).infos}
    return infos
