"""How far raters agree: Krippendorff's alpha, Kendall's tau-b and shares of equal labels, with intervals.

A rater is a judge model, a metric or a person; a unit is what they rate, such as one answer. Missing ratings are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, mid_ranks
from lumigator_nb.statistics.bootstrap import Interval
from lumigator_nb.statistics.resampling import FloatArray

Level = Literal["nominal", "ordinal", "interval"]
Statistic = Callable[[FloatArray], float]

_IntArray = NDArray[np.int64]
_NAN = float("nan")


def krippendorff_alpha(ratings: ArrayLike, level: Level = "interval") -> float:
    """Return Krippendorff's alpha: 1 for perfect agreement, about 0 for chance, below 0 for systematic disagreement.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". The coincidence matrix given there is
    never built: summed squared differences follow from squared deviations from the mean, and the ordinal difference
    between two values is the difference between their mid-ranks.

    Args:
        ratings: (raters, units), finite or NaN where missing. Units with fewer than two ratings are left out.
        level: "nominal" takes the ratings as codes, "ordinal" as ranks, "interval" as quantities.

    Returns:
        NaN where no two ratings share a unit, and where all ratings are equal: without variation alpha is undefined,
        since raters who cannot tell units apart would look the same.

    Raises:
        InvalidInputError: `ratings` has not two axes, or `level` is unknown.

    Examples:
        >>> round(lm.statistics.krippendorff_alpha([[1, 2, 3, 3, np.nan], [1, 2, 3, 4, 2]], level="ordinal"), 2)
        0.91
    """
    ratings = as_floats(ratings, "ratings")
    if ratings.ndim != 2:
        raise InvalidInputError(f"ratings of shape {ratings.shape} are no table", "give one row per rater")
    if level not in get_args(Level):
        raise InvalidInputError(f"there is no level {level!r}", f"levels are {', '.join(get_args(Level))}")
    known = ~np.isnan(ratings)
    paired = known & (known.sum(axis=0) >= 2)
    values, units = ratings[paired], np.nonzero(paired)[1]
    if not values.size or values.min() == values.max():
        return _NAN
    if level == "nominal":
        return _nominal_alpha(values, units)
    return _interval_alpha(mid_ranks(values) if level == "ordinal" else values, units)


def _interval_alpha(values: FloatArray, units: _IntArray) -> float:
    n, sizes = len(values), np.bincount(units)
    means = np.bincount(units, values) / np.maximum(sizes, 1)
    within = np.square(values - means[units])
    own = sizes[units]
    observed = np.sum(within * own / (own - 1)) / n
    expected = np.sum(np.square(values - values.mean())) / (n - 1)
    return float(1 - observed / expected)


def _nominal_alpha(values: FloatArray, units: _IntArray) -> float:
    n, sizes = len(values), np.bincount(units)
    _, codes, totals = np.unique(values, return_inverse=True, return_counts=True)
    # Counting the cells that occur keeps memory flat where nearly every value is distinct.
    cells, counts = np.unique(units * len(totals) + codes, return_counts=True)
    observed = 1 - np.sum(counts * (counts - 1) / (sizes[cells // len(totals)] - 1)) / n
    expected = 1 - np.sum(totals * (totals - 1)) / (n * (n - 1))
    return float(1 - observed / expected)


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Return Kendall's rank correlation tau-b, which corrects for ties, in O(n log n).

    Source: Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33(3).

    Args:
        x, y: (n,) values; pairs with a NaN are left out.

    Returns:
        A value in [-1, 1]; NaN where `x` or `y` is constant or fewer than two pairs are left.

    Raises:
        InvalidInputError: `x` and `y` are not equally long.

    Examples:
        >>> round(lm.statistics.kendall_tau([1, 2, 3, 3], [1, 2, 2, 4]), 2)
        0.8
    """
    from scipy.stats import kendalltau

    x, y = as_floats(x), as_floats(y)
    if x.ndim != 1 or x.shape != y.shape:
        raise InvalidInputError(f"values of shape {x.shape} and {y.shape} are not pairs", "rate the same units")
    known = ~(np.isnan(x) | np.isnan(y))
    return float(kendalltau(x[known], y[known]).statistic) if known.sum() > 1 else _NAN


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
        statistic: (raters, units) ratings -> a value that does not hang on the order of the units; NaN where
            undefined. Such resamples are left out.
        ratings: (raters, units).
        groups: (units,) labels. Units of one group, such as the answers of several models to one example, are drawn
            together, since they are not independent. Left out, each unit is drawn by itself.
        confidence: of the interval, in (0, 1).
        n_resamples: how often as many groups as there are are drawn with replacement.
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
    tail = _tail(confidence)
    if n_resamples < 1:
        raise InvalidInputError(f"n_resamples cannot be {n_resamples}", "draw at least once; 1000 is usual")
    ratings = as_floats(ratings, "ratings")
    members = _group_codes(groups, ratings.shape[-1])
    estimate = float(statistic(ratings))
    n_groups = int(members.max(initial=-1)) + 1
    if n_groups < 2:
        return Interval(estimate, _NAN, _NAN)
    generator = np.random.default_rng(seed)
    replicates = np.empty(n_resamples)
    for i in range(n_resamples):
        drawn = np.bincount(generator.integers(n_groups, size=n_groups), minlength=n_groups)
        replicates[i] = statistic(np.repeat(ratings, drawn[members], axis=1))
    defined = replicates[~np.isnan(replicates)]
    low, high = np.quantile(defined, (tail, 1 - tail)) if defined.size else (_NAN, _NAN)
    return Interval(estimate, float(low), float(high))


def _group_codes(groups: NDArray[Any] | None, n_units: int) -> _IntArray:
    if groups is None:
        return np.arange(n_units)
    groups = np.asarray(groups)
    if groups.shape != (n_units,):
        raise InvalidInputError(f"groups of shape {groups.shape} for {n_units} units", "give one label per unit")
    return np.unique(groups, return_inverse=True)[1]


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the share of successes with its score interval, which holds for small n and shares near 0 or 1 too.

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

    _tail(confidence)
    if not 0 <= successes <= n:
        raise InvalidInputError(f"{successes} successes out of {n} trials", "count both over the same trials")
    if n == 0:
        return Interval(_NAN, _NAN, _NAN)
    share, bounds = successes / n, binomtest(successes, n).proportion_ci(confidence, method="wilson")
    # The bounds hold the share, also where rounding would have one of exactly 0 or 1 lie outside.
    return Interval(share, min(share, float(bounds.low)), max(share, float(bounds.high)))


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    return (1 - confidence) / 2
