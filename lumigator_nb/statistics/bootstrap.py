"""Bootstrap intervals and differences (Efron and Tibshirani 1993, chapters 13, 14 and 16).

:func:`intervals` and :func:`difference` read off what :mod:`~lumigator_nb.statistics.resampling` has drawn;
:func:`bootstrap_interval` and :func:`paired_difference` draw by themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import Missing, as_floats, complete_rows
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

# Replicates that differ by less than this part of their range are equal but for rounding.
_ROUNDING = 1e-9
# Up to here Wilson's bounds are too narrow for one or two successes; beyond for three, too.
_FEW_TRIALS = 50


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
    takes more where hardly any example differs from the rest.

    Shares, such as means of scores that are 0 or 1, have Wilson's interval instead, with its bounds for one to three
    successes or failures replaced by those of the Poisson law (Brown, Cai and DasGupta 2001, "Interval estimation for a
    binomial proportion", Statistical Science 16(2), section 4.1.1). 95 % then cover 91.5 to 99 % at any share from 20
    examples on, where "bca" covers none of what 50 right answers of 50 leave open. With groups the number of examples
    is that of as many independent ones (Korn and Graubard 1998, Survey Methodology 24(2)); that of groups where all
    score alike. Scores that are all the same, and may lie elsewhere between `bounds`, are likewise allowed to do so as
    often as that may go unseen.

    Args:
        estimates: (m,) overall scores.
        replicates: (m, r) of :func:`resampled_scores`.
        contributions: (m, n) of :func:`pseudo_values`.
        groups: (n,) labels, where groups were drawn.
        confidence: of each interval, in (0, 1).
        method: "bca" or "percentile".
        bounds: the least and the greatest possible score of an example, which tell a share; they may be infinite. None:
            contributions that are all 0 or 1 make a share.

    Returns:
        One for each score. Bounds are NaN with fewer than two examples or groups, and where a replicate or
        contribution is undefined. Where all replicates lie on one side of the estimate, they cannot tell the bias, and
        none is corrected for.

    Raises:
        InvalidInputError: `confidence` is out of range, there is no such method, or arrays do not fit together.

    Examples:
        >>> scores = np.random.default_rng(0).beta(2, 2, size=(2, 100))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> for interval in lm.statistics.intervals(scores.mean(axis=1), replicates, scores):
        ...     print(f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
        0.50 [0.46, 0.54]
        0.54 [0.50, 0.58]
    """
    estimates, contributions = as_floats(estimates), as_floats(contributions)
    found = _intervals(estimates, as_floats(replicates), contributions, groups, confidence, method)
    if method != "bca":
        return found
    codes = np.arange(contributions.shape[1]) if groups is None else group_codes(groups, contributions.shape[1])
    return [
        _of_few_values(interval, own, codes, bounds, confidence)
        for interval, own in zip(found, contributions, strict=True)
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
    replicates: ArrayLike,
    contributions: ArrayLike,
    *,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    method: DifferenceMethod = "t",
) -> Difference:
    """Return a difference of two overall scores with its interval and two-sided p-value.

    The p-value is that of the paired t-test, its standard error taken from the replicates (so that it holds for overall
    scores which are no means), with n - 1 degrees of freedom for n examples or groups. Where the replicates are skewed
    towards zero, the t is brought nearer to zero by as much as
    :func:`~lumigator_nb.statistics.skewness.stretched` moves the bound (Johnson 1978). No p-value is below that of n
    random signs, 2^(1 - n).

    "t" is the interval of all differences that this test does not rule out: it excludes zero where the p-value is at
    most 1 - `confidence`, except that with five examples or fewer no p-value is as small as 0.05. In simulations of
    normal, skewed, bounded, tied and heavy-tailed differences, 95% intervals covered 94 to 97% from 20 examples on;
    lognormal differences take 100, rare failures more than 25 times their squared skewness. "bca" and "percentile"
    are those of :func:`intervals`; for differences they are wider or cover less (benchmarks/covering/differences.py).

    Args:
        estimate: the difference.
        replicates: (r,) differences of the replicates of both.
        contributions: (n,) differences of the pseudo-values of both.
        groups, confidence: as of :func:`intervals`.
        method: "t", "bca" or "percentile".

    Returns:
        Bounds and p-value are NaN with fewer than two examples or groups, and where a replicate is undefined. Two
        systems that answer alike have the p-value 1.

    Raises:
        InvalidInputError: as :func:`intervals`.

    Examples:
        >>> a, b = np.random.default_rng(0).beta([[3], [2]], 2, size=(2, 100))
        >>> replicates = lm.statistics.resampled_scores(np.stack([a, b]))
        >>> found = lm.statistics.difference(a.mean() - b.mean(), replicates[0] - replicates[1], a - b)
        >>> print(f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}], p = {found.p_value:.2f}")
        0.05 [-0.01, 0.11], p = 0.08
    """
    _check(confidence, method, get_args(DifferenceMethod))
    replicates, contributions = as_floats(replicates), as_floats(contributions)
    n = _units(contributions[None], groups).shape[1]
    if n < 2 or not np.isfinite(replicates).all():
        return Difference(float(estimate), *(math.nan,) * 3)
    error, skewness = _error(replicates, n)
    p_value = _paired_p_value(float(estimate), error, skewness, n)
    if method == "t":
        low, high = _student(float(estimate), error, skewness, n, confidence)
    else:
        found = _intervals(np.array([estimate]), replicates[None], contributions[None], groups, confidence, method)[0]
        low, high = found.low, found.high
    return Difference(float(estimate), low, high, p_value)


def _error(replicates: FloatArray, n: int) -> tuple[float, float]:
    """Return the standard error of an estimate, 0 where it is one by rounding only, and the replicates' skewness."""
    spread = float(replicates.std())
    if spread <= 1e-12 * max(1.0, float(np.abs(replicates).max())):
        return 0.0, 0.0
    # Bootstrap replicates spread by the factor of the root less than the error that t is about.
    return spread * math.sqrt(n / (n - 1)), float(skewness_of(replicates))


def _paired_p_value(estimate: float, error: float, skewness: float, n: int) -> float:
    from scipy.special import stdtr

    if abs(estimate) <= 1e-12:
        return 1.0
    distance = math.inf if error == 0 else abs(estimate) / error
    towards_zero = -math.copysign(1.0, estimate) * skewness
    t = float(unstretched(np.array(distance), np.array(towards_zero)))
    return float(max(2 * stdtr(n - 1, -t), 0.5 ** (n - 1)))


def _student(estimate: float, error: float, skewness: float, n: int, confidence: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    t = float(stdtrit(n - 1, (1 + confidence) / 2))
    return estimate - stretched(t, -skewness) * error, estimate + stretched(t, skewness) * error


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
        aggregate, groups, n_resamples, seed: as of :func:`resampled_scores`.
        method: "bca" or "percentile", see :func:`intervals`.
        confidence: of the interval, in (0, 1).
        nan: "raise" where a score is NaN, or "omit" such examples.
        bounds: as of :func:`intervals`.

    Returns:
        The estimate is NaN without examples; the bounds are NaN with fewer than two examples, or groups.

    Raises:
        InvalidInputError: there is not one group label per example, a score is missing, or a setting is out of range.

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
    own = pseudo_values(statistics, aggregate)
    return intervals(
        [estimate], draws[None], own[None], groups=groups, confidence=confidence, method=method, bounds=bounds
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
        aggregate, groups, confidence, n_resamples, seed: as of :func:`bootstrap_interval`.
        method: "t", "bca" or "percentile", see :func:`difference`, whose p-value it is.
        nan: "raise" where a score is NaN, or "omit" examples that either lacks.

    Raises:
        InvalidInputError: `a` and `b` are not equally many, or as :func:`bootstrap_interval`.

    Examples:
        >>> a, b = np.random.default_rng(0).beta([[3], [2]], 2, size=(2, 100))
        >>> found = lm.statistics.paired_difference(a, b)
        >>> print(f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}], p = {found.p_value:.2f}")
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
    own = pseudo_values(both, aggregate)
    return difference(
        estimate, draws[0] - draws[1], own[0] - own[1], groups=groups, confidence=confidence, method=method
    )


def _one_system(values: ArrayLike, aggregate: Aggregate | None) -> tuple[FloatArray, Aggregate]:
    """(n, k) statistics of one system, and what makes an overall score of them."""
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
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    if method not in methods:
        raise InvalidInputError(f"there is no method {method!r}", f"methods are {', '.join(methods)}")


def _units(contributions: FloatArray, groups: NDArray[Any] | None) -> FloatArray:
    """(m, units) contributions of what is drawn, about their mean; those of a group add up."""
    apart = contributions - contributions.mean(axis=1, keepdims=True)
    return apart if groups is None else group_sums(apart.T, group_codes(groups, apart.shape[1])).T


def _of_few_values(
    found: Interval, own: FloatArray, codes: NDArray[np.int64], bounds: Bounds | None, confidence: float
) -> Interval:
    """Return the interval of a mean whose examples lie on one of two bounds, or all at one place; else what was found.

    Args:
        own: (n,) scores of the examples.
        codes: (n,) of the groups that were drawn.
    """
    low, high = (0.0, 1.0) if bounds is None else bounds
    if math.isnan(found.low) or not (low < high and math.isfinite(high - low)):
        return found
    # Scores that are tiny beside their bounds do not lie on them, and contributions are a little off.
    spread = float(np.ptp(own))
    alike = spread <= 1e-12 * len(own) * np.abs(own).max()
    near = _ROUNDING * (high - low if alike else min(high - low, spread))
    upper = np.abs(own - high) <= near
    if abs(own.mean() - found.estimate) > near:  # the score is no mean of these
        return found
    n = _independent(own, codes, confidence)
    if (upper | (np.abs(own - low) <= near)).all():
        below, above = (low + (high - low) * bound for bound in _share(float(upper.mean()), n, confidence))
    elif bounds is not None and alike:
        unseen = _share(0.0, n, confidence)[1]
        below, above = (found.estimate + unseen * (end - found.estimate) for end in bounds)
    else:
        return found
    return Interval(found.estimate, min(below, found.estimate), max(above, found.estimate))


def _independent(own: FloatArray, codes: NDArray[np.int64], confidence: float) -> float:
    """Return how many independent examples tell as much as these groups of examples; n where each is by itself."""
    from scipy.special import ndtri, stdtrit

    n, groups = len(own), int(codes.max()) + 1
    apart = own - own.mean()
    if groups == n:
        return float(n)
    if not apart.any():
        return float(groups)
    drawn = np.square(group_sums(apart[:, None], codes)).sum() * groups / (groups - 1)
    level = (1 + confidence) / 2
    # The spread between a few groups is known roughly only, as Student's t allows for.
    shrunk = float(ndtri(level) / stdtrit(groups - 1, level)) ** 2
    return float(n * min(1.0, np.square(apart).sum() / drawn * shrunk)) if drawn > 0 else n * shrunk


def _share(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's bounds of a share of n examples, those of few successes or failures by the Poisson law."""
    from scipy.special import chdtri, ndtri

    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    few = 2 if n <= _FEW_TRIALS else 3
    if 0 < share * n <= few + _ROUNDING:
        low = min(low, float(chdtri(2 * share * n, confidence)) / (2 * n))
    if 0 < (1 - share) * n <= few + _ROUNDING:
        high = max(high, 1 - float(chdtri(2 * (1 - share) * n, confidence)) / (2 * n))
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


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
