"""Percentile-bootstrap intervals and paired differences (Efron and Tibshirani 1993, chapters 13 and 16).

Overall scores such as corpus BLEU are no means. What is resampled is therefore each example's sufficient statistics,
as Koehn 2004 (https://aclanthology.org/W04-3250) does; `aggregate` turns their sums into the overall score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Aggregate = Callable[[FloatArray, int], FloatArray]

# Weights of this many cells are held at once (64 MB), so that memory stays flat however many examples there are.
_CELLS = 8_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its interval; the bounds are NaN where fewer than two examples are there."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A difference between two systems on the same examples, with its two-sided p-value."""

    p_value: float


def resampled_totals(statistics: FloatArray, *, n_resamples: int = 2000, seed: int = 0) -> FloatArray:
    """Sum the statistics of examples drawn with replacement, again and again.

    Args:
        statistics: (…, n, k) sufficient statistics; leading axes (such as models) share the same draws, which keeps
            them paired.
        n_resamples: how often n examples are drawn.
        seed: the same seed and n give the same draws.

    Returns:
        (…, n_resamples, k) sums.
    """
    n = statistics.shape[-2]
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    parts = []
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        # How often each example is drawn says as much as which were drawn, and turns the sums into one product.
        weights = generator.multinomial(n, np.full(n, 1 / n), size=rows).astype(np.float64)
        parts.append(weights @ statistics)
    return np.concatenate(parts, axis=-2)


def bootstrap_interval(
    statistics: FloatArray,
    aggregate: Aggregate,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the overall score with its percentile-bootstrap interval.

    Args:
        statistics: (n, k) sufficient statistics, without NaN.
        aggregate: (…, k) sums and the number of examples -> (…) overall scores.
        confidence: of the interval, in (0, 1).
        n_resamples, seed: as of :func:`resampled_totals`.
    """
    n = len(statistics)
    estimate = _estimate(statistics, aggregate)
    if n < 2:
        return Interval(estimate, float("nan"), float("nan"))
    replicates = aggregate(resampled_totals(statistics, n_resamples=n_resamples, seed=seed), n)
    return Interval(estimate, *_percentiles(replicates, confidence))


def paired_difference(
    a: FloatArray,
    b: FloatArray,
    aggregate: Aggregate,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Return how much the overall score of `a` exceeds that of `b` on the same examples.

    The p-value is the share of resamples whose difference, moved so that its centre is zero, lies as far from zero as
    the one observed, counted as (c + 1) / (R + 1) (Efron and Tibshirani 1993, section 16.4, as in sacrebleu's paired
    bootstrap; the correction after Davison and Hinkley 1997, section 4.2).

    Args:
        a, b: (n, k) sufficient statistics of the same examples in the same order, without NaN.
        aggregate, confidence, n_resamples, seed: as of :func:`bootstrap_interval`.
    """
    n = len(a)
    estimate = _estimate(a, aggregate) - _estimate(b, aggregate)
    if n < 2:
        return Difference(estimate, *(float("nan"),) * 3)
    totals = resampled_totals(np.stack([a, b]), n_resamples=n_resamples, seed=seed)
    replicates = aggregate(totals[0], n) - aggregate(totals[1], n)
    shifted = np.abs(replicates - replicates.mean())
    # Differences that are equal in exact arithmetic must not count as smaller by a rounding error.
    extreme = np.count_nonzero(shifted >= abs(estimate) - 1e-12)
    return Difference(estimate, *_percentiles(replicates, confidence), float((extreme + 1) / (n_resamples + 1)))


def _estimate(statistics: FloatArray, aggregate: Aggregate) -> float:
    return float(aggregate(statistics.sum(axis=0), len(statistics)))


def _percentiles(replicates: FloatArray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, (tail, 1 - tail))
    return float(low), float(high)
