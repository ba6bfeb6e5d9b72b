"""Bootstrap intervals and differences (Efron and Tibshirani 1993, chapters 13, 14 and 16).

:func:`intervals` and :func:`difference` read replicates that :mod:`~lumigator_nb.statistics.resampling` has drawn;
:func:`bootstrap_interval` and :func:`paired_difference` draw their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import Missing, as_floats, check_confidence, complete_rows
from lumigator_nb.statistics.resampling import (
    Aggregate,
    FloatArray,
    group_codes,
    group_labels,
    group_sums,
    pseudo_values,
    resampled_scores,
    scores_and_aggregate,
)
from lumigator_nb.statistics.skewness import skewness_of, stretched, unstretched

Method = Literal["percentile", "bca"]
DifferenceMethod = Literal["t", "percentile", "bca"]

# The least and the greatest possible score.
Bounds = tuple[float, float]

# Relative to the range of the replicates: values closer than this are equal but for rounding. Sums of thousands of
# float64 scores are off by about 1e-13; differences between distinct scores are far larger than 1e-9.
_ROUNDING = 1e-9
# Wilson's bounds are too narrow for one or two successes in up to this many trials, and for up to three beyond:
# the rule of Brown, Cai and DasGupta 2001, section 4.1.1.
_FEW_TRIALS = 50


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its interval; the bounds are NaN with fewer than two examples."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A difference between two systems on the same examples, with its two-sided p-value."""

    p_value: float


def intervals(
    estimates: ArrayLike,
    replicates: ArrayLike,
    contributions: ArrayLike,
    *,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    method: Method = "bca",
    bounds: Bounds | None = None,
) -> list[Interval]:
    """Return scores with their bootstrap intervals.

    "percentile" takes the percentiles of the replicates as they are. From 50 examples on its intervals are a little too
    narrow, and for skewed scores they miss on one side.

    "bca" corrects the percentiles for bias and skewness (Efron 1987, "Better bootstrap confidence intervals", JASA
    82(397); Efron and Tibshirani 1993, section 14.3; acceleration from the jackknife). First it moves them outwards by
    the ratio of sqrt(n / (n - 1)) times Student's t to the normal quantile (Hesterberg 2015, "What teachers should know
    about the bootstrap", The American Statistician 69(4)). The degrees of freedom are those of a variance from n
    examples: n - 1, or down to a quarter of that where tails are heavier than normal (O'Neill 2014, "Some useful
    moment results in sampling problems", The American Statistician 68(4)), since samples of such scores often miss the
    tail. Replicates that tie, as those of few labels do, count half on either side of a bound. In simulations nominal
    95 % for a mean covered 94 to 97 % from 50 examples, or groups, on, for normal, skewed, bounded and tied scores;
    scores that are equal on nearly all examples need more.

    Shares, such as means of scores that are 0 or 1, get Wilson's interval instead, with its bounds for one to three
    successes or failures replaced by those of the Poisson distribution (Brown, Cai and DasGupta 2001, "Interval
    estimation for a binomial proportion", Statistical Science 16(2), section 4.1.1). Nominal 95 % then covers 91.5 to
    99 % at any share from 20 examples on; "bca" would give an interval of width 0 for 50 right answers of 50. With
    groups the number of examples is the effective one (Korn and Graubard 1998, Survey Methodology 24(2)), or the number
    of groups where all examples score alike. Scores that are all equal but could lie elsewhere between `bounds` are
    treated like a share with 0 successes: the interval allows for an example that has not been seen yet.

    Args:
        estimates: (m,) overall scores.
        replicates: (m, r) of :func:`resampled_scores`.
        contributions: (m, n) of :func:`pseudo_values`.
        groups: (n,) labels, where groups were drawn.
        confidence: of each interval, in (0, 1).
        method: "bca" or "percentile".
        bounds: the least and the greatest possible score of an example; scores that all lie on one of them make a
            share. They may be infinite. None: contributions that are all 0 or 1 make a share.

    Returns:
        One for each score. Bounds are NaN with fewer than two examples or groups, and where a replicate or
        contribution is undefined. Bias is not corrected where all replicates lie on one side of the estimate, since
        they then do not show how large it is.

    Raises:
        InvalidInputError: `confidence` is out of range, `method` is unknown, or the arrays' shapes do not match.

    Examples:
        >>> scores = np.random.default_rng(0).beta(2, 2, size=(2, 100))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> for interval in lm.statistics.intervals(scores.mean(axis=1), replicates, scores):
        ...     print(f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
        0.50 [0.46, 0.54]
        0.54 [0.50, 0.58]
    """
    estimates, contributions = as_floats(estimates), as_floats(contributions)
    bootstrapped = _intervals(estimates, as_floats(replicates), contributions, groups, confidence, method)
    if method != "bca":
        return bootstrapped
    codes = np.arange(contributions.shape[1]) if groups is None else group_codes(groups, contributions.shape[1])
    return [
        _of_few_values(interval, scores, codes, bounds, confidence)
        for interval, scores in zip(bootstrapped, contributions, strict=True)
    ]


def _intervals(
    estimates: FloatArray,
    replicates: FloatArray,
    contributions: FloatArray,
    groups: NDArray[Any] | None,
    confidence: float,
    method: Method,
) -> list[Interval]:
    _check(confidence, method)
    if replicates.ndim != 2 or contributions.ndim != 2 or not replicates.size:
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} and contributions of shape {contributions.shape} are not tables",
            "give one row for each score",
        )
    if not len(estimates) == len(replicates) == len(contributions):
        raise InvalidInputError(
            f"{len(estimates)} scores, replicates of {len(replicates)} and contributions of {len(contributions)}",
            "give one row for each score",
        )
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    result = []
    for estimate, draws, units in zip(estimates, replicates, _units(contributions, groups), strict=True):
        if len(units) < 2:
            low, high = math.nan, math.nan
        elif method == "bca":
            low, high = _bca(tails, float(estimate), draws, units)
        else:
            low, high = map(float, np.quantile(draws, tails))
        result.append(Interval(float(estimate), low, high))
    return result


def difference(
    estimate: float,
    replicates: ArrayLike,
    contributions: ArrayLike,
    *,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    method: DifferenceMethod = "t",
) -> Difference:
    """Return a difference of two overall scores with its interval and two-sided p-value.

    The p-value is that of the paired t-test with n - 1 degrees of freedom for n examples or groups. Its standard error
    comes from the replicates, so that it also holds for overall scores that are not means. Where the replicates are
    skewed towards zero, t moves towards zero by as much as :func:`~lumigator_nb.statistics.skewness.stretched` moves
    the bound (Johnson 1978). The p-value is at least that of n random signs, 2^(1 - n).

    "t" is the interval of all differences that this test does not rule out: it excludes zero where the p-value is at
    most 1 - `confidence`, except that with five examples or fewer no p-value is as small as 0.05. In simulations of
    normal, skewed, bounded, tied and heavy-tailed differences, 95% intervals covered 94 to 97% from 20 examples on;
    lognormal differences take 100, rare failures more than 25 times their squared skewness. "bca" and "percentile"
    are those of :func:`intervals`; for differences they are wider or cover less (benchmarks/covering/differences.py).

    Args:
        estimate: the difference.
        replicates: (r,) differences of the replicates of both.
        contributions: (n,) differences of the pseudo-values of both.
        groups, confidence: as in :func:`intervals`.
        method: "t", "bca" or "percentile".

    Returns:
        Bounds and p-value are NaN with fewer than two examples or groups, and where a replicate is undefined. The
        p-value is 1 where the difference is 0.

    Raises:
        InvalidInputError: as :func:`intervals`.

    Examples:
        >>> a, b = np.random.default_rng(0).beta([[3], [2]], 2, size=(2, 100))
        >>> replicates = lm.statistics.resampled_scores(np.stack([a, b]))
        >>> gap = lm.statistics.difference(a.mean() - b.mean(), replicates[0] - replicates[1], a - b)
        >>> print(f"{gap.estimate:.2f} [{gap.low:.2f}, {gap.high:.2f}], p = {gap.p_value:.2f}")
        0.05 [-0.01, 0.11], p = 0.08
    """
    from scipy.special import stdtr, stdtrit

    _check(confidence, method, get_args(DifferenceMethod))
    replicates, contributions = as_floats(replicates), as_floats(contributions)
    estimate, n = float(estimate), _units(contributions[None], groups).shape[1]
    if n < 2 or not np.isfinite(replicates).all():
        return Difference(estimate, *(math.nan,) * 3)
    spread = float(replicates.std())
    if spread <= 1e-12 * max(1.0, float(np.abs(replicates).max())):  # a spread by rounding only
        error, skewness = 0.0, 0.0
    else:
        # A bootstrap's spread divides by n where the standard error of the t-test divides by n - 1.
        error, skewness = spread * math.sqrt(n / (n - 1)), float(skewness_of(replicates))
    if abs(estimate) <= 1e-12:
        p_value = 1.0
    else:
        distance = math.inf if error == 0 else abs(estimate) / error
        # A tail towards zero means that the sample may have missed examples that bring the estimate nearer to zero.
        towards_zero = -math.copysign(1.0, estimate) * skewness
        t = float(unstretched(np.array(distance), np.array(towards_zero)))
        p_value = float(max(2 * stdtr(n - 1, -t), 0.5 ** (n - 1)))
    if method == "t":
        t = float(stdtrit(n - 1, (1 + confidence) / 2))
        low, high = estimate - stretched(t, -skewness) * error, estimate + stretched(t, skewness) * error
    else:
        interval = _intervals(np.array([estimate]), replicates[None], contributions[None], groups, confidence, method)
        low, high = interval[0].low, interval[0].high
    return Difference(estimate, low, high, p_value)


def bootstrap_interval(
    statistics: ArrayLike,
    aggregate: Aggregate | None = None,
    *,
    method: Method = "bca",
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    nan: Missing = "raise",
    bounds: Bounds | None = None,
) -> Interval:
    """Return the overall score with its bootstrap interval.

    Args:
        statistics: (n,) scores whose mean is taken, or with `aggregate` (n, k) sufficient statistics.
        aggregate, groups, n_resamples, seed: as in :func:`resampled_scores`.
        method: "bca" or "percentile", see :func:`intervals`.
        confidence: of the interval, in (0, 1).
        nan: "raise" an error where a score is NaN, or "omit" such examples.
        bounds: as in :func:`intervals`.

    Returns:
        The estimate is NaN without examples; the bounds are NaN with fewer than two examples, or groups.

    Raises:
        InvalidInputError: `groups` does not have one label per example, a score is missing, or a setting is out of
            range.

    Examples:
        >>> scores = np.random.default_rng(0).beta(2, 2, size=100)
        >>> interval = lm.statistics.bootstrap_interval(scores)
        >>> print(f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
        0.50 [0.46, 0.54]
    """
    _check(confidence, method)
    statistics, aggregate = _one_system(statistics, aggregate)
    rows = complete_rows({"the scores": statistics}, nan)
    statistics, groups = statistics[rows], None if groups is None else group_labels(groups, len(rows))[rows]
    estimate = _estimate(statistics, aggregate)
    if len(statistics) < 2:
        return Interval(estimate, math.nan, math.nan)
    draws = resampled_scores(statistics, aggregate, groups=groups, n_resamples=n_resamples, seed=seed)
    contributions = pseudo_values(statistics, aggregate)[None]
    return intervals(
        [estimate], draws[None], contributions, groups=groups, confidence=confidence, method=method, bounds=bounds
    )[0]


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    aggregate: Aggregate | None = None,
    *,
    method: DifferenceMethod = "t",
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    nan: Missing = "raise",
) -> Difference:
    """Return how much the overall score of `a` exceeds that of `b` on the same examples.

    Args:
        a, b: (n,) scores of the same examples in the same order, or with `aggregate` (n, k) sufficient statistics.
        aggregate, groups, confidence, n_resamples, seed: as in :func:`bootstrap_interval`.
        method: of the interval, "t", "bca" or "percentile"; see :func:`difference`, which also gives the p-value.
        nan: "raise" an error where a score is NaN, or "omit" examples where either score is NaN.

    Raises:
        InvalidInputError: `a` and `b` differ in shape, or as in :func:`bootstrap_interval`.

    Examples:
        >>> a, b = np.random.default_rng(0).beta([[3], [2]], 2, size=(2, 100))
        >>> gap = lm.statistics.paired_difference(a, b)
        >>> print(f"{gap.estimate:.2f} [{gap.low:.2f}, {gap.high:.2f}], p = {gap.p_value:.2f}")
        0.05 [-0.01, 0.11], p = 0.08
    """
    _check(confidence, method, get_args(DifferenceMethod))
    (a, aggregate), (b, _) = _one_system(a, aggregate), _one_system(b, aggregate)
    if a.shape != b.shape:
        raise InvalidInputError(
            f"statistics of shape {a.shape} and {b.shape} are not paired", "score the same examples"
        )
    rows = complete_rows({"a": a, "b": b}, nan)
    a, b, groups = a[rows], b[rows], None if groups is None else group_labels(groups, len(rows))[rows]
    estimate = _estimate(a, aggregate) - _estimate(b, aggregate)
    if len(a) < 2:
        return Difference(estimate, *(math.nan,) * 3)
    both = np.stack([a, b])
    draws = resampled_scores(both, aggregate, groups=groups, n_resamples=n_resamples, seed=seed)
    contributions = pseudo_values(both, aggregate)
    return difference(
        estimate,
        draws[0] - draws[1],
        contributions[0] - contributions[1],
        groups=groups,
        confidence=confidence,
        method=method,
    )


def _one_system(values: ArrayLike, aggregate: Aggregate | None) -> tuple[FloatArray, Aggregate]:
    """Return (n, k) statistics of one system, and the aggregate that turns their sums into an overall score."""
    table = as_floats(values)
    if aggregate is None and table.ndim == 2 and table.shape[1] == 1:
        table = table[:, 0]
    table, aggregate = scores_and_aggregate(table, aggregate)
    if table.ndim != 2:
        raise InvalidInputError(
            f"values of shape {np.shape(values)} are not those of one system",
            "give (examples,) scores, or (examples, statistics) with their aggregate",
        )
    return table, aggregate


def _estimate(statistics: FloatArray, aggregate: Aggregate) -> float:
    return float(aggregate(statistics.sum(axis=0), len(statistics))) if len(statistics) else math.nan


def _check(confidence: float, method: str, methods: tuple[str, ...] = get_args(Method)) -> None:
    check_confidence(confidence)
    if method not in methods:
        raise InvalidInputError(f"unknown method {method!r}", f"use one of {', '.join(methods)}")


def _units(contributions: FloatArray, groups: NDArray[Any] | None) -> FloatArray:
    """Return (m, units) contributions of the units drawn (examples or groups), about their mean; a group's add up."""
    # About the mean before adding up: a larger group must not look like a larger contribution.
    apart = contributions - contributions.mean(axis=1, keepdims=True)
    return apart if groups is None else group_sums(apart.T, group_codes(groups, apart.shape[1])).T


def _of_few_values(
    interval: Interval, scores: FloatArray, codes: NDArray[np.int64], bounds: Bounds | None, confidence: float
) -> Interval:
    """Return a share's interval where the score is one (all examples on one of two bounds) or all examples are equal.

    Otherwise `interval` is returned as it is.

    Args:
        interval: from the bootstrap, which has width 0 where all examples score alike.
        scores: (n,) of the examples.
        codes: (n,) of the groups that were drawn.
    """
    low, high = (0.0, 1.0) if bounds is None else bounds
    if math.isnan(interval.low) or not (low < high and math.isfinite(high - low)):
        return interval
    # Relative to the scores, not only to the bounds: scores that are tiny beside their bounds do not lie on them, and
    # pseudo-values differ from the scores by rounding errors.
    spread = float(np.ptp(scores))
    alike = spread <= 1e-12 * len(scores) * np.abs(scores).max()
    near = _ROUNDING * (high - low if alike else min(high - low, spread))
    upper = np.abs(scores - high) <= near
    if abs(scores.mean() - interval.estimate) > near:  # the overall score is not the mean of these
        return interval
    n = _effective_examples(scores, codes, confidence)
    if (upper | (np.abs(scores - low) <= near)).all():
        below, above = (low + (high - low) * bound for bound in _share(float(upper.mean()), n, confidence))
    elif bounds is not None and alike:
        unseen = _share(0.0, n, confidence)[1]
        below, above = (interval.estimate + unseen * (end - interval.estimate) for end in bounds)
    else:
        return interval
    return Interval(interval.estimate, min(below, interval.estimate), max(above, interval.estimate))


def _effective_examples(scores: FloatArray, codes: NDArray[np.int64], confidence: float) -> float:
    """Return how many independent examples tell as much as these groups of examples: n, where each is its own group.

    n over the design effect (the variance of the mean with groups, against that without), reduced for the degrees of
    freedom of the groups: Korn and Graubard 1998.
    """
    from scipy.special import ndtri, stdtrit

    n, groups = len(scores), int(codes.max()) + 1
    apart = scores - scores.mean()
    if groups == n:
        return float(n)
    if not apart.any():
        return float(groups)
    between_groups = np.square(group_sums(apart[:, None], codes)).sum() * groups / (groups - 1)
    level = (1 + confidence) / 2
    # A few groups show their variance roughly only; Student's t allows for that, and so does this factor.
    shrunk = float(ndtri(level) / stdtrit(groups - 1, level)) ** 2
    return float(n * min(1.0, np.square(apart).sum() / between_groups * shrunk)) if between_groups > 0 else n * shrunk


def _share(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's bounds of a share of n examples, or the Poisson ones for few successes or failures.

    n need not be whole: the effective number of examples is not. Sources: Wilson 1927, JASA 22(158); Brown, Cai and
    DasGupta 2001, section 4.1.1.
    """
    from scipy.special import chdtri, ndtri

    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    few = 2 if n <= _FEW_TRIALS else 3
    # A Poisson rate with k events is at least half the chi-squared quantile with 2 k degrees of freedom.
    if 0 < share * n <= few + _ROUNDING:
        low = min(low, float(chdtri(2 * share * n, confidence)) / (2 * n))
    if 0 < (1 - share) * n <= few + _ROUNDING:
        high = max(high, 1 - float(chdtri(2 * (1 - share) * n, confidence)) / (2 * n))
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def _bca(tails: FloatArray, estimate: float, draws: FloatArray, units: FloatArray) -> tuple[float, float]:
    """Return the BCa bounds of an estimate (Efron and Tibshirani 1993, equations 14.9 to 14.15, expanded by t).

    Args:
        tails: (2,) levels of the bounds.
        draws: (r,) replicates.
        units: (n,) contributions, with mean 0.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    n = len(units)
    if not (np.isfinite(draws).all() and np.isfinite(units).all()):
        return math.nan, math.nan
    skewness, excess = _skewness_and_excess_kurtosis(units)
    # A variance from n values has about 2 / (excess / n + 2 / (n - 1)) degrees of freedom (O'Neill 2014). At least a
    # quarter of the normal ones: a few extreme values must not blow up an interval that they skew already.
    freedom = max(2 / (max(excess, 0) / n + 2 / (n - 1)), (n - 1) / 4)
    # Relative to the estimate too: where all examples score alike, replicates differ from it by rounding only.
    near = max(_ROUNDING * np.ptp(draws), 1e-12 * abs(estimate))
    # The share of replicates below the estimate, whose normal quantile is the bias; ties count half.
    below = np.mean(draws < estimate - near) + np.mean(np.abs(draws - estimate) <= near) / 2
    bias = float(ndtri(below)) if 0 < below < 1 else 0.0
    moved = bias + math.sqrt(n / (n - 1)) * stdtrit(freedom, tails)
    # The acceleration is the skewness of the contributions over 6 √n.
    shrink = 1 - skewness / (6 * math.sqrt(n)) * moved
    # At shrink = 0 the formula has a pole, beyond which a level would come back from the other side.
    moved = np.where(shrink > 0, moved / np.where(shrink > 0, shrink, 1), np.copysign(np.inf, moved))
    bounds = _mid_rank_quantiles(draws, ndtr(bias + moved), near)
    low, high = np.where(np.abs(bounds - estimate) <= near, estimate, bounds)
    return float(low), float(high)


def _skewness_and_excess_kurtosis(units: FloatArray) -> tuple[float, float]:
    """Return skewness and excess kurtosis of (n,) values whose mean is 0; zeros where all are equal."""
    # Scaled before they are raised to powers, so that tiny scores do not vanish and huge ones do not overflow.
    largest = np.abs(units).max()
    if not largest:
        return 0.0, 0.0
    squares = np.square(units / largest)
    variance = squares.mean()
    return float(np.mean(squares * units / largest) / variance**1.5), float(np.mean(squares**2) / variance**2 - 3)


def _mid_rank_quantiles(draws: FloatArray, levels: FloatArray, near: float) -> FloatArray:
    """Return the quantiles of (r,) replicates at (l,) levels, where equal replicates share their middle rank.

    Interpolated between distinct values; the replicate of rank i of r has the level i / (r + 1). np.quantile would give
    replicates with few distinct values a bound on one of them, whatever the level.
    """
    ordered = np.sort(draws)
    first = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > near)
    ranks = (first + 1 + np.append(first[1:], len(ordered))) / 2
    quantiles: FloatArray = np.interp(levels * (len(ordered) + 1), ranks, ordered[first])
    return quantiles
