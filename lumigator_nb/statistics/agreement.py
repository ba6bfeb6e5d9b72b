"""Agreement of raters: Krippendorff's alpha, Kendall's tau-b and shares of equal labels, with intervals.

A rater is a judge model, a metric or a person. A unit is one thing that they rate, such as one answer.
Missing ratings are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence, mid_ranks
from lumigator_nb.statistics.bootstrap import Interval
from lumigator_nb.statistics.resampling import FloatArray

Level = Literal["nominal", "ordinal", "interval"]
Statistic = Callable[[FloatArray], float]

_NAN = float("nan")


def krippendorff_alpha(ratings: ArrayLike, level: Level = "interval") -> float:
    """Return Krippendorff's alpha: 1 for perfect agreement, about 0 for chance, below 0 for systematic disagreement.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"
    (https://repository.upenn.edu/asc_papers/43).

    Args:
        ratings: (raters, units), finite or NaN where missing. Units with fewer than two ratings are left out.
        level: "nominal" takes the ratings as categories, "ordinal" as ranks, "interval" as quantities.

    Returns:
        NaN where no unit has two ratings, and where all ratings are equal: alpha is undefined without variation,
        since raters who cannot tell units apart would look the same.

    Raises:
        InvalidInputError: `ratings` does not have two axes, or `level` is unknown.

    Examples:
        >>> round(lm.statistics.krippendorff_alpha([[1, 2, 3, 3, np.nan], [1, 2, 3, 4, 2]], level="ordinal"), 2)
        0.91
    """
    ratings = as_floats(ratings, "ratings")
    if ratings.ndim != 2:
        raise InvalidInputError(f"ratings of shape {ratings.shape} are not a table", "give one row per rater")
    if level not in get_args(Level):
        raise InvalidInputError(f"unknown level {level!r}", f"use one of {', '.join(get_args(Level))}")
    present = ~np.isnan(ratings)
    # A unit with a single rating says nothing about agreement.
    pairable = present & (present.sum(axis=0) >= 2)
    values, units = ratings[pairable], np.nonzero(pairable)[1]
    if not values.size or values.min() == values.max():
        return _NAN
    n, sizes = len(values), np.bincount(units)
    # Alpha = 1 - observed / expected disagreement. The source sums over a matrix of coinciding values (values²);
    # both branches give the same sums without it, so that memory stays flat where nearly every value is distinct.
    if level == "nominal":
        _, codes, totals = np.unique(values, return_inverse=True, return_counts=True)
        cells, counts = np.unique(units * len(totals) + codes, return_counts=True)
        observed = 1 - np.sum(counts * (counts - 1) / (sizes[cells // len(totals)] - 1)) / n
        expected = 1 - np.sum(totals * (totals - 1)) / (n * (n - 1))
    else:
        # The ordinal difference of two values is the difference of their mid-ranks.
        values = mid_ranks(values) if level == "ordinal" else values
        # Squared differences of all pairs add up to squared deviations from the mean, times the number of values.
        means = np.bincount(units, values) / np.maximum(sizes, 1)
        within = np.square(values - means[units])
        unit_sizes = sizes[units]
        observed = np.sum(within * unit_sizes / (unit_sizes - 1)) / n
        expected = np.sum(np.square(values - values.mean())) / (n - 1)
    return float(1 - observed / expected)


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Return Kendall's rank correlation tau-b, which corrects for ties, in O(n log n).

    Source: Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33(3).

    Args:
        x, y: (n,) values; pairs with a NaN are left out.

    Returns:
        A value in [-1, 1]; NaN where `x` or `y` is constant or fewer than two pairs remain.

    Raises:
        InvalidInputError: `x` and `y` differ in length.

    Examples:
        >>> round(lm.statistics.kendall_tau([1, 2, 3, 3], [1, 2, 2, 4]), 2)
        0.8
    """
    from scipy.stats import kendalltau

    x, y = as_floats(x), as_floats(y)
    if x.ndim != 1 or x.shape != y.shape:
        raise InvalidInputError(f"values of shape {x.shape} and {y.shape} are not pairs", "rate the same units")
    rated = ~(np.isnan(x) | np.isnan(y))
    return float(kendalltau(x[rated], y[rated]).statistic) if rated.sum() > 1 else _NAN


def bootstrap_agreement(
    statistic: Statistic,
    ratings: ArrayLike,
    *,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of agreement with its percentile-bootstrap interval over units.

    Args:
        statistic: takes (raters, units) ratings and returns a value that does not depend on the order of the units,
            or NaN where it is undefined. Resamples where it is undefined are left out.
        ratings: (raters, units).
        groups: (units,) labels. Units of one group, such as the answers of several models to one example, are not
            independent and are drawn together (cluster bootstrap). If omitted, each unit is drawn by itself.
        confidence: of the interval, in (0, 1).
        n_resamples: number of resamples; each draws as many groups as the data has, with replacement.
        seed: the same seed and number of groups give the same draws.

    Returns:
        The bounds are NaN with fewer than two groups and where the statistic is undefined for all resamples.

    Raises:
        InvalidInputError: there is not one group label per unit, or `confidence` or `n_resamples` is out of range.

    Examples:
        >>> ratings = np.array([[1, 2, 3, 3, 2, 1, 5, 4], [1, 2, 3, 4, 2, 1, 5, 5]], dtype=float)
        >>> agreement = lm.statistics.bootstrap_agreement(lm.statistics.krippendorff_alpha, ratings)
        >>> round(agreement.estimate, 2), agreement.low < agreement.high
        (0.94, True)
    """
    check_confidence(confidence)
    if n_resamples < 1:
        raise InvalidInputError(f"n_resamples cannot be {n_resamples}", "draw at least once; 1000 is usual")
    ratings = as_floats(ratings, "ratings")
    n_units = ratings.shape[-1]
    groups = np.arange(n_units) if groups is None else np.asarray(groups)
    if groups.shape != (n_units,):
        raise InvalidInputError(f"groups of shape {groups.shape} for {n_units} units", "give one label per unit")
    codes = np.unique(groups, return_inverse=True)[1]
    estimate = float(statistic(ratings))
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < 2:
        return Interval(estimate, _NAN, _NAN)
    generator = np.random.default_rng(seed)
    replicates = np.empty(n_resamples)
    # One by one, as the statistic takes one table of ratings.
    for i in range(n_resamples):
        times_drawn = np.bincount(generator.integers(n_groups, size=n_groups), minlength=n_groups)
        replicates[i] = statistic(np.repeat(ratings, times_drawn[codes], axis=1))
    defined = replicates[~np.isnan(replicates)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)) if defined.size else (_NAN, _NAN)
    return Interval(estimate, float(low), float(high))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the share of successes with Wilson's score interval, valid for small n and shares near 0 or 1 too.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22(158).

    Args:
        successes: out of `n` independent trials.
        n: number of trials.
        confidence: of the interval, in (0, 1).

    Returns:
        The estimate is successes / n; estimate and bounds are NaN for n = 0.

    Raises:
        InvalidInputError: `successes` is not in 0 … n, or `confidence` is out of range.

    Examples:
        >>> interval = lm.statistics.wilson_interval(50, 50)
        >>> print(f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
        1.000 [0.929, 1.000]
    """
    from scipy.stats import binomtest

    check_confidence(confidence)
    if not 0 <= successes <= n:
        raise InvalidInputError(f"{successes} successes out of {n} trials", "count both over the same trials")
    if n == 0:
        return Interval(_NAN, _NAN, _NAN)
    share, bounds = successes / n, binomtest(successes, n).proportion_ci(confidence, method="wilson")
    # Rounding may put a bound beyond a share of exactly 0 or 1; the interval always contains the share.
    return Interval(share, min(share, float(bounds.low)), max(share, float(bounds.high)))
