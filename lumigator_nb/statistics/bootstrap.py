"""Percentile-bootstrap intervals and paired differences (Efron and Tibshirani 1993, chapters 13 and 16).

Overall scores such as corpus BLEU are no means. What is resampled is therefore each example's sufficient statistics,
as Koehn 2004 (https://aclanthology.org/W04-3250) does; `aggregate` turns their sums into the overall score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError

FloatArray = NDArray[np.float64]
Aggregate = Callable[[FloatArray, int], FloatArray]

Weights = NDArray[np.uint8]

# Weights of this many cells are worked on at once (64 MB), so that memory stays flat however many examples there are.
_CELLS = 8_000_000
# Weights of up to this many cells (20 MB) are kept: a comparison asks for the same ones for every model and score.
_KEPT_CELLS = 20_000_000


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

    Raises:
        InvalidInputError: `n_resamples` is below 1.
    """
    if n_resamples < 1:
        raise InvalidInputError(f"n_resamples cannot be {n_resamples}", "draw at least once; 2000 is usual")
    n = statistics.shape[-2]
    kept = n * n_resamples <= _KEPT_CELLS
    pieces = _kept_weights(n, n_resamples, seed) if kept else _weights(n, n_resamples, seed)
    return np.concatenate([weights.astype(np.float64) @ statistics for weights in pieces], axis=-2)


def _weights(n: int, n_resamples: int, seed: int) -> Iterator[Weights]:
    # How often each example is drawn says as much as which were drawn, and turns the sums into one product.
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        cells = generator.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        # One byte is enough: a count above 255 has a probability of less than one in 255 factorial.
        yield np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.uint8)


@lru_cache(maxsize=2)
def _kept_weights(n: int, n_resamples: int, seed: int) -> tuple[Weights, ...]:
    return tuple(_weights(n, n_resamples, seed))


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

    Returns:
        The estimate is NaN without examples; the bounds are NaN with fewer than two.

    Raises:
        InvalidInputError: `confidence` or `n_resamples` is out of range.
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

    The two-sided p-value is (c + 1) / (R + 1), where c counts those of the R resamples whose difference lies at least
    as far from the mean of all resampled differences as the observed difference lies from zero. Moving the resampled
    differences to the centre zero stands for the hypothesis that the systems do not differ (Efron and Tibshirani 1993,
    section 16.4; resampling as Koehn 2004; the 1 after Davison and Hinkley 1997, section 4.2). Sacrebleu's paired
    bootstrap does the same but leaves out resamples that are exactly as far; counting them gives two systems that
    answer alike the p-value 1.

    Args:
        a, b: (n, k) sufficient statistics of the same examples in the same order, without NaN.
        aggregate, confidence, n_resamples, seed: as of :func:`bootstrap_interval`.

    Raises:
        InvalidInputError: `a` and `b` are not equally many, or a setting is out of range.
    """
    if a.shape != b.shape:
        raise InvalidInputError(
            f"statistics of shape {a.shape} and {b.shape} are not paired", "score the same examples"
        )
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
    return float(aggregate(statistics.sum(axis=0), len(statistics))) if len(statistics) else float("nan")


def _percentiles(replicates: FloatArray, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, (tail, 1 - tail))
    return float(low), float(high)
