"""Agreement of metrics with human labels: correlations and pairwise accuracy, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.agreement import kendall_tau
from lumigator_nb.statistics.arrays import as_floats, check_confidence, mid_ranks
from lumigator_nb.statistics.bootstrap import Interval
from lumigator_nb.statistics.resampling import FloatArray

_NAN = float("nan")


@dataclass(frozen=True)
class Trust:
    """Agreement of one metric with humans, over the `n` answers that have both a score and a label.

    Attributes:
        kendall: Kendall's tau-b, a correlation of the order.
        spearman: Spearman's rank correlation.
        pearson: the linear correlation.
        pairwise_accuracy: the share of pairs of answers that the metric orders, or ties, as humans do.
        n: number of answers.
    """

    kendall: Interval
    spearman: Interval
    pearson: Interval
    pairwise_accuracy: Interval
    n: int


def trust(
    scores: ArrayLike,
    human: ArrayLike,
    *,
    groups: NDArray[Any] | None = None,
    higher_is_better: Sequence[bool] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> list[Trust]:
    """Return the agreement of each metric with human labels, with percentile-bootstrap intervals over groups.

    Pairwise accuracy is that of Deutsch, Foster and Freitag 2023, "Ties Matter" (https://arxiv.org/abs/2305.14324),
    without their calibration: a metric whose scores never tie is wrong on all pairs that humans tie, so compare only
    metrics of one kind. All answers are compared with all, also across examples. The intervals are a little too narrow
    with fewer than about 50 groups.

    Args:
        scores: (metrics, n) of the same answers, NaN where missing.
        human: (n,) labels, NaN where missing; higher is better.
        groups: (n,) labels. Answers of one group, such as those of several models to one example, are drawn together.
        higher_is_better: (metrics,) False for a metric of which less is better; all True if omitted.
        confidence: of each interval, in (0, 1).
        n_resamples: number of resamples; each draws as many groups as the data has, with replacement.
        seed: the same seed and number of groups give the same draws.

    Returns:
        One per metric. Values are NaN where a metric or the labels are constant, and bounds with fewer than two groups.

    Raises:
        InvalidInputError: shapes do not match, a value is infinite, or a setting is out of range.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> human = rng.integers(1, 6, size=60)
        >>> metrics = [human + rng.normal(0, 1, size=60), rng.normal(size=60)]
        >>> [round(metric.kendall.estimate, 2) for metric in lm.statistics.trust(metrics, human)]
        [0.65, 0.03]
    """
    scores, human = as_floats(scores), as_floats(human, "labels")
    check_confidence(confidence)
    if n_resamples < 1:
        raise InvalidInputError(f"n_resamples cannot be {n_resamples}", "draw at least once; 1000 is usual")
    if scores.ndim != 2 or human.shape != scores.shape[1:]:
        raise InvalidInputError(
            f"scores of shape {scores.shape} for labels of shape {human.shape}",
            "give one row per metric, with one score per label",
        )
    if np.isinf(scores).any() or np.isinf(human).any():
        raise InvalidInputError("scores or labels hold infinity", "give unknown values as NaN")
    upward = [True] * len(scores) if higher_is_better is None else list(higher_is_better)
    if len(upward) != len(scores):
        raise InvalidInputError(f"{len(upward)} directions for {len(scores)} metrics", "give one per metric")
    groups = np.arange(len(human)) if groups is None else np.asarray(groups)
    if groups.shape != human.shape:
        raise InvalidInputError(f"groups of shape {groups.shape} for {len(human)} answers", "give one label per answer")
    agreements = []
    for metric in np.where(upward, 1.0, -1.0)[:, None] * scores:
        rated = ~(np.isnan(human) | np.isnan(metric))
        answers, codes = np.stack([human[rated], metric[rated]]), np.unique(groups[rated], return_inverse=True)[1]
        # All four measures on the same resamples, so that their intervals can be compared.
        replicates = _resampled(answers, codes, n_resamples, seed)
        kendall, spearman, pearson, accuracy = (
            Interval(value, *_bounds(column, confidence))
            for value, column in zip(_agreement(*answers), replicates.T, strict=True)
        )
        agreements.append(Trust(kendall, spearman, pearson, accuracy, answers.shape[1]))
    return agreements


def _agreement(human: FloatArray, metric: FloatArray, copies: int = 0) -> tuple[float, float, float, float]:
    """Return the four measures of :class:`Trust` of (n,) labels and scores; NaN where either is constant.

    `copies` is the number of pairs that are one answer drawn twice by a resample. They say nothing about the metric and
    would always count as right.
    """
    if len(human) < 2 or np.ptp(human) == 0 or np.ptp(metric) == 0:
        return _NAN, _NAN, _NAN, _NAN
    tau, spearman = kendall_tau(human, metric), _pearson(mid_ranks(human), mid_ranks(metric))
    x, y = (np.unique(rated, return_inverse=True)[1] for rated in (human, metric))
    # The share of pairs that both order or tie alike, in O(n log n) from tau-b and the numbers of ties:
    # tau-b = (concordant - discordant) / √((pairs - ties in x) (pairs - ties in y)).
    pairs = len(x) * (len(x) - 1) // 2
    x_ties, y_ties, both = _ties(x), _ties(y), _ties(np.unique(x * len(x) + y, return_inverse=True)[1])
    surplus = tau * math.sqrt((pairs - x_ties) * (pairs - y_ties))
    # surplus = concordant - discordant, and the pairs without any tie are concordant + discordant.
    concordant = (pairs - x_ties - y_ties + both + surplus) / 2
    accuracy = (concordant + both - copies) / (pairs - copies)
    return tau, spearman, _pearson(human, metric), accuracy


def _ties(codes: NDArray[np.int64]) -> int:
    """Return the number of pairs with equal codes."""
    counts = np.bincount(codes)
    return int(np.sum(counts * (counts - 1) // 2))


def _pearson(x: FloatArray, y: FloatArray) -> float:
    # By hand: scipy.stats.pearsonr is too slow for a thousand resamples, and rounding may exceed 1.
    x, y = _standard(x), _standard(y)
    return min(1.0, max(-1.0, float(x @ y) / math.sqrt(float(x @ x) * float(y @ y))))


def _standard(x: FloatArray) -> FloatArray:
    # Scaled before they are squared, so that tiny scores do not underflow and huge ones do not overflow.
    x = x - x.mean()
    return np.asarray(x / np.abs(x).max())


def _resampled(answers: FloatArray, codes: NDArray[np.int64], n_resamples: int, seed: int) -> FloatArray:
    """Return (n_resamples, 4) measures of (2, n) answers, humans first; (0, 4) with fewer than two groups."""
    n_groups = int(codes.max(initial=-1)) + 1
    rows = n_resamples if n_groups >= 2 else 0
    replicates = np.empty((rows, 4))
    generator = np.random.default_rng(seed)
    for row in replicates:
        times = np.bincount(generator.integers(n_groups, size=n_groups), minlength=n_groups)[codes]
        human, metric = np.repeat(answers, times, axis=1)
        # Of an answer drawn k times, k (k - 1) / 2 pairs are copies.
        row[:] = _agreement(human, metric, int(np.sum(times * (times - 1) // 2)))
    return replicates


def _bounds(replicates: FloatArray, confidence: float) -> tuple[float, float]:
    """Return the percentiles of the replicates that are defined; NaN where none is."""
    defined = replicates[~np.isnan(replicates)]
    if not defined.size:
        return _NAN, _NAN
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)
