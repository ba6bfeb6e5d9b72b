"""Bootstrap intervals, differences and what they are made of (Efron and Tibshirani 1993, chapters 11, 13, 14 and 16).

Overall scores such as corpus BLEU are no means. What is resampled is therefore each example's sufficient statistics,
as Koehn 2004 (https://aclanthology.org/W04-3250) does; `aggregate` turns their sums into the overall score.

:func:`resampled_scores` draws, :func:`intervals` and :func:`difference` read off what the draws say, so that one set of
draws serves all models, pairs, ranks and corrections. :func:`bootstrap_interval` and :func:`paired_difference` do both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError

FloatArray = NDArray[np.float64]
# Of sums and the number of examples: one number, or one for each sum.
Aggregate = Callable[[FloatArray, Any], FloatArray]
Method = Literal["percentile", "bca"]

Weights = NDArray[np.uint8]

# Weights of this many cells are worked on at once (16 MB), so that memory stays flat however many examples there are.
_CELLS = 2_000_000
# Weights of up to this many cells (20 MB) are kept: a comparison asks for the same ones for every model and score.
_KEPT_CELLS = 20_000_000
# Replicates that differ by less than this part of their range are equal but for rounding.
_ROUNDING = 1e-9


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
        InvalidInputError: there is no example, or `n_resamples` is below 1.
    """
    return _models_first(_draw(_columns(statistics), n_resamples, seed), statistics)


def resampled_scores(
    statistics: FloatArray,
    aggregate: Aggregate,
    *,
    groups: NDArray[Any] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> FloatArray:
    """Return overall scores of examples drawn with replacement, again and again.

    With `groups` whole groups are drawn, as many as there are (cluster bootstrap: Davison and Hinkley 1997, section
    3.8; Field and Welsh 2007, "Bootstrapping clustered data", JRSS B 69(3)): examples of one group, such as one
    customer's, are no independent witnesses.

    Args:
        statistics: (…, n, k) sufficient statistics, without NaN; leading axes (such as models) share the draws.
        aggregate: (…, k) sums and the number of examples -> (…) overall scores. The number is n, or with `groups`
            an array of (n_resamples,), since groups differ in size.
        groups: (n,) labels. Left out, each example is drawn by itself.
        n_resamples: how often as many examples, or groups, as there are are drawn.
        seed: the same seed and number of examples, or groups, give the same draws.

    Returns:
        (…, n_resamples).

    Raises:
        InvalidInputError: there is no example, not one label for each, or `n_resamples` is below 1.
    """
    return resampled_together([(statistics, aggregate)], groups=groups, n_resamples=n_resamples, seed=seed)[0]


def resampled_together(
    scores: Sequence[tuple[FloatArray, Aggregate]],
    *,
    groups: NDArray[Any] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> list[FloatArray]:
    """Return what :func:`resampled_scores` returns for each of several scores of the same examples.

    Drawing takes longer than adding up where examples and resamples are many; here it is done once for all scores.

    Args:
        scores: statistics and aggregate of each, as of :func:`resampled_scores`; the same n.
        groups, n_resamples, seed: as of :func:`resampled_scores`.

    Raises:
        InvalidInputError: as :func:`resampled_scores`, or the scores are not of equally many examples.
    """
    tables = [_columns(statistics) for statistics, _ in scores]
    n = len(tables[0])
    if any(len(table) != n for table in tables):
        raise InvalidInputError(
            f"scores of {', '.join(str(len(table)) for table in tables)} examples cannot share draws",
            "take the examples that have all scores",
        )
    drawn: int | FloatArray = n
    if groups is None:
        totals = _draw(np.hstack(tables), n_resamples, seed)
    else:
        totals = _draw(_group_sums(np.hstack([*tables, np.ones((n, 1))]), _codes(groups, n)), n_resamples, seed)
        drawn = totals[:, -1]
    ends = np.cumsum([table.shape[1] for table in tables])
    parts = [totals[:, end - table.shape[1] : end] for table, end in zip(tables, ends, strict=True)]
    return [
        aggregate(_models_first(part, statistics), drawn)
        for part, (statistics, aggregate) in zip(parts, scores, strict=True)
    ]


def _columns(statistics: FloatArray) -> FloatArray:
    """(…, n, k) -> (n, …·k), so that all sums come from one product."""
    if statistics.ndim < 2 or not statistics.size:
        raise InvalidInputError(f"statistics of shape {statistics.shape} hold no score", "give one row per example")
    return _summing_exactly(np.moveaxis(statistics, -2, 0)).reshape(statistics.shape[-2], -1)


def _summing_exactly(statistics: FloatArray) -> FloatArray:
    """Round (n, …, k) in the last of 53 bits of n times the largest, after which n of them add up without error.

    Otherwise a sum would hang on its place in the product and on the number of threads, and models that answer alike
    would not tie in every resample. Whole numbers stay as they are.
    """
    largest = np.abs(statistics).max(axis=tuple(range(statistics.ndim - 1)))
    bits = 53 - np.frexp(largest * len(statistics))[1]
    rounded: FloatArray = np.ldexp(np.rint(np.ldexp(statistics, bits)), -bits)
    return rounded


def _models_first(totals: FloatArray, statistics: FloatArray) -> FloatArray:
    """(r, …·k) -> (…, r, k)."""
    *leading, _, k = statistics.shape
    return np.moveaxis(totals.reshape(len(totals), *leading, k), 0, -2)


def _draw(columns: FloatArray, n_resamples: int, seed: int) -> FloatArray:
    """Return (n_resamples, columns) sums over the rows drawn."""
    if n_resamples < 1:
        raise InvalidInputError(f"n_resamples cannot be {n_resamples}", "draw at least once; 2000 is usual")
    n = len(columns)
    kept = n * n_resamples <= _KEPT_CELLS
    pieces = _kept_weights(n, n_resamples, seed) if kept else _weights(n, n_resamples, seed)
    return np.concatenate([weights.astype(np.float64) @ columns for weights in pieces])


def _weights(n: int, n_resamples: int, seed: int) -> Iterator[Weights]:
    # How often each example is drawn says as much as which were drawn, and turns the sums into one product.
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        cells = generator.integers(n, size=(rows, n))
        cells += n * np.arange(rows)[:, None]
        # One byte is enough: a count above 255 has a probability of less than one in 255 factorial.
        yield np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.uint8)


@lru_cache(maxsize=2)
def _kept_weights(n: int, n_resamples: int, seed: int) -> tuple[Weights, ...]:
    return tuple(_weights(n, n_resamples, seed))


def _codes(groups: NDArray[Any], n: int) -> NDArray[np.int64]:
    """(n,) numbers of the groups from 0."""
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise InvalidInputError(f"groups of shape {labels.shape} for {n} examples", "give one label per example")
    # NaN is the only value that differs from itself.
    missing = [row for row, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise InvalidInputError(f"example {missing[0]} has no group", "label each; one by itself is its own group")
    return np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)[1]


def _group_sums(values: FloatArray, codes: NDArray[np.int64]) -> FloatArray:
    """(n, c) -> (groups, c)."""
    order = np.argsort(codes, kind="stable")
    sums: FloatArray = np.add.reduceat(values[order], np.unique(codes[order], return_index=True)[1])
    return sums


def pseudo_values(statistics: FloatArray, aggregate: Aggregate) -> FloatArray:
    """Return what each example contributes to an overall score: the jackknife's pseudo-values.

    n·θ - (n - 1)·θ without the example; for a mean that is the example's own score. Their mean is near the overall
    score, and their spread tells its error, whatever smooth function of the sums it is. Source: Tukey 1958, "Bias and
    confidence in not-quite large samples", Annals of Mathematical Statistics 29(2); Efron and Tibshirani 1993,
    chapter 11.

    Args:
        statistics: (…, n, k) sufficient statistics, without NaN.
        aggregate: as of :func:`resampled_scores`.

    Returns:
        (…, n); NaN with fewer than two examples.
    """
    n = statistics.shape[-2]
    if n < 2:
        return np.full(statistics.shape[:-1], np.nan)
    totals = statistics.sum(axis=-2, keepdims=True)
    values: FloatArray = n * aggregate(totals, n) - (n - 1) * aggregate(totals - statistics, n - 1)
    return values


def intervals(
    estimates: FloatArray,
    replicates: FloatArray,
    contributions: FloatArray,
    *,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    method: Method = "bca",
) -> list[Interval]:
    """Return scores with their bootstrap intervals.

    "percentile" takes the percentiles of the replicates as they are. Its intervals from 50 examples are a little too
    narrow, and skewed scores make them miss on one side.

    "bca" corrects the percentiles for bias and skewness (Efron 1987, "Better bootstrap confidence intervals", JASA
    82(397); Efron and Tibshirani 1993, section 14.3; acceleration from the jackknife), after it moved them outwards as
    far as sqrt(n / (n - 1)) times Student's t lies outside of the normal distribution (Hesterberg 2015, "What teachers
    should know about the bootstrap", The American Statistician 69(4)). The degrees of freedom are those of a variance
    from n examples: n - 1, or down to a quarter of that where tails are heavier than normal (O'Neill 2014, "Some useful
    moment results in sampling problems", The American Statistician 68(4)), since samples of such scores often miss the
    tail. Replicates that tie, as those of few labels do, count half on either side of a bound. In simulations nominal
    95 % for a mean covered 94 to 97 % from 50 examples, or groups, on, for normal, skewed, bounded and tied scores; it
    takes more where hardly any example differs from the rest, such as 200 for one failure in twenty.

    Args:
        estimates: (m,) overall scores.
        replicates: (m, r) of :func:`resampled_scores`.
        contributions: (m, n) of :func:`pseudo_values`.
        groups: (n,) labels, where groups were drawn.
        confidence: of each interval, in (0, 1).
        method: "bca" or "percentile".

    Returns:
        One for each score. Bounds are NaN with fewer than two examples or groups, and where a replicate or
        contribution is undefined. Where all replicates lie on one side of the estimate, they cannot tell the bias, and
        none is corrected for.

    Raises:
        InvalidInputError: `confidence` is out of range, there is no such method, or arrays do not fit together.
    """
    _check(confidence, method)
    if replicates.ndim != 2 or contributions.ndim != 2 or not replicates.size:
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} and contributions of shape {contributions.shape} are no tables",
            "give one row for each score",
        )
    if not len(estimates) == len(replicates) == len(contributions):
        raise InvalidInputError(
            f"{len(estimates)} scores, replicates of {len(replicates)} and contributions of {len(contributions)}",
            "give one row for each score",
        )
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    bounds = _bca if method == "bca" else _percentiles
    return [
        Interval(float(estimate), *bounds(tails, float(estimate), draws, own))
        for estimate, draws, own in zip(estimates, replicates, _units(contributions, groups), strict=True)
    ]


def difference(
    estimate: float,
    replicates: FloatArray,
    contributions: FloatArray,
    *,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    method: Method = "bca",
) -> Difference:
    """Return a difference of two overall scores with its interval and two-sided p-value.

    The p-value is (c + 1) / (R + 1), where c counts those of the R resamples whose difference lies at least as far from
    the mean of all resampled differences as the observed difference lies from zero. Moving the resampled differences to
    the centre zero stands for the hypothesis that the systems do not differ (Efron and Tibshirani 1993, section 16.4;
    resampling as Koehn 2004; the 1 after Davison and Hinkley 1997, section 4.2). Resamples that are exactly as far
    count, which gives two systems that answer alike the p-value 1. Sacrebleu's paired bootstrap takes absolute
    differences before it centres them and so counts one tail: its p-values are about half of these.

    Args:
        estimate: the difference.
        replicates: (r,) differences of the replicates of both.
        contributions: (n,) differences of the pseudo-values of both.
        groups, confidence, method: as of :func:`intervals`.
    """
    found = intervals(
        np.array([estimate]),
        replicates[None],
        contributions[None],
        groups=groups,
        confidence=confidence,
        method=method,
    )[0]
    if math.isnan(found.low):
        return Difference(found.estimate, math.nan, math.nan, math.nan)
    # Differences that are equal in exact arithmetic must not count as smaller by a rounding error.
    extreme = np.count_nonzero(np.abs(replicates - replicates.mean()) >= abs(found.estimate) - 1e-12)
    return Difference(found.estimate, found.low, found.high, float((extreme + 1) / (len(replicates) + 1)))


def bootstrap_interval(
    statistics: FloatArray,
    aggregate: Aggregate,
    *,
    method: Method = "percentile",
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the overall score with its bootstrap interval.

    Args:
        statistics: (n, k) sufficient statistics, without NaN.
        aggregate, groups, n_resamples, seed: as of :func:`resampled_scores`.
        method: "percentile" or "bca", see :func:`intervals`.
        confidence: of the interval, in (0, 1).

    Returns:
        The estimate is NaN without examples; the bounds are NaN with fewer than two examples, or groups.

    Raises:
        InvalidInputError: there is not one group label per example, or a setting is out of range.
    """
    _check(confidence, method)
    estimate = _estimate(statistics, aggregate)
    if len(statistics) < 2:
        return Interval(estimate, math.nan, math.nan)
    draws = resampled_scores(statistics, aggregate, groups=groups, n_resamples=n_resamples, seed=seed)
    own = pseudo_values(statistics, aggregate)
    return intervals(np.array([estimate]), draws[None], own[None], groups=groups, confidence=confidence, method=method)[
        0
    ]


def paired_difference(
    a: FloatArray,
    b: FloatArray,
    aggregate: Aggregate,
    *,
    method: Method = "percentile",
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Return how much the overall score of `a` exceeds that of `b` on the same examples.

    The p-value is that of :func:`difference`.

    Args:
        a, b: (n, k) sufficient statistics of the same examples in the same order, without NaN.
        aggregate, method, groups, confidence, n_resamples, seed: as of :func:`bootstrap_interval`.

    Raises:
        InvalidInputError: `a` and `b` are not equally many, or as :func:`bootstrap_interval`.
    """
    _check(confidence, method)
    if a.shape != b.shape:
        raise InvalidInputError(
            f"statistics of shape {a.shape} and {b.shape} are not paired", "score the same examples"
        )
    estimate = _estimate(a, aggregate) - _estimate(b, aggregate)
    if len(a) < 2:
        return Difference(estimate, *(math.nan,) * 3)
    both = np.stack([a, b])
    draws = resampled_scores(both, aggregate, groups=groups, n_resamples=n_resamples, seed=seed)
    own = pseudo_values(both, aggregate)
    return difference(
        estimate, draws[0] - draws[1], own[0] - own[1], groups=groups, confidence=confidence, method=method
    )


def _estimate(statistics: FloatArray, aggregate: Aggregate) -> float:
    return float(aggregate(statistics.sum(axis=0), len(statistics))) if len(statistics) else math.nan


def _check(confidence: float, method: str) -> None:
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    if method not in get_args(Method):
        raise InvalidInputError(f"there is no method {method!r}", f"methods are {', '.join(get_args(Method))}")


def _units(contributions: FloatArray, groups: NDArray[Any] | None) -> FloatArray:
    """(m, units) contributions of what is drawn, about their mean; those of a group add up."""
    apart = contributions - contributions.mean(axis=1, keepdims=True)
    return apart if groups is None else _group_sums(apart.T, _codes(groups, apart.shape[1])).T


def _percentiles(tails: FloatArray, estimate: float, draws: FloatArray, units: FloatArray) -> tuple[float, float]:
    if len(units) < 2:
        return math.nan, math.nan
    low, high = np.quantile(draws, tails)
    return float(low), float(high)


def _bca(tails: FloatArray, estimate: float, draws: FloatArray, units: FloatArray) -> tuple[float, float]:
    from scipy.special import ndtr, ndtri, stdtrit

    n = len(units)
    if n < 2 or not (np.isfinite(draws).all() and np.isfinite(units).all()):
        return math.nan, math.nan
    skewness, excess = _shape(units)
    # A few far out values must not blow up the interval: they skew it already.
    freedom = max(2 / (max(excess, 0) / n + 2 / (n - 1)), (n - 1) / 4)
    # Where all examples score alike, everything equals the estimate but for rounding.
    near = max(_ROUNDING * np.ptp(draws), 1e-12 * abs(estimate))
    below = np.mean(draws < estimate - near) + np.mean(np.abs(draws - estimate) <= near) / 2
    bias = float(ndtri(below)) if 0 < below < 1 else 0.0
    moved = bias + math.sqrt(n / (n - 1)) * stdtrit(freedom, tails)
    shrink = 1 - skewness / (6 * math.sqrt(n)) * moved
    # Beyond the pole a level would come back from the other side.
    moved = np.where(shrink > 0, moved / np.where(shrink > 0, shrink, 1), np.copysign(np.inf, moved))
    found = _quantiles(draws, ndtr(bias + moved), near)
    low, high = np.where(np.abs(found - estimate) <= near, estimate, found)
    return float(low), float(high)


def _shape(units: FloatArray) -> tuple[float, float]:
    """Return skewness and excess kurtosis of values whose mean is 0."""
    # Scaled before they are raised to powers, so that tiny scores do not vanish and huge ones do not overflow.
    largest = np.abs(units).max()
    if not largest:
        return 0.0, 0.0
    squares = np.square(units / largest)
    variance = squares.mean()
    return float(np.mean(squares * units / largest) / variance**1.5), float(np.mean(squares**2) / variance**2 - 3)


def _quantiles(draws: FloatArray, levels: FloatArray, near: float) -> FloatArray:
    """Interpolate between the mid-ranks of distinct values; the r-th of R replicates has the level r / (R + 1)."""
    ordered = np.sort(draws)
    first = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > near)
    ranks = (first + 1 + np.append(first[1:], len(ordered))) / 2
    found: FloatArray = np.interp(levels * (len(ordered) + 1), ranks, ordered[first])
    return found
