"""Confidence sequences: intervals for a mean that hold at every look at once, however often one looks.

An ordinary 95% interval that is looked at after every example misses the mean at some look far more often than in 5% of
all studies. These do not, so that one may stop as soon as they say enough.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.resampling import FloatArray

# What share of the most that may be staked is staked: every bettor keeps to one share, and their capital is averaged.
_SHARES = np.geomspace(0.005, 0.98, 14)
# Means that are tried between the bounds of a score; a bound lies on this grid, on the safe side.
_GRID = 1000
_CELLS = 4_000_000
# Asymptotic sequences say nothing before, and are narrowest around the second number.
_FIRST, _TUNED_FOR = 64, 300
# Of the range, or of the size of scores: what is less apart is equal in exact arithmetic.
_ROUNDING = 1e-9
# By how many examples' worth of variance they are widened: the spread is learned from the same few examples, which for
# skewed scores often miss the tail. Found by simulation (benchmarks/coverage.py).
_MARGIN = 20


def betting_sequence(
    values: ArrayLike, low: float, high: float, *, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return the bounds, after each example, of a confidence sequence for the mean of scores that have bounds.

    Exact for any distribution on [low, high]: where m were the mean, nobody could expect to gain by betting on the
    scores, so a bettor's capital hardly grows; an m at which the capital has ever grown by 2 / (1 - confidence) is
    ruled out (Ville's inequality). Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random
    variables by betting", JRSS B 86(1); the capital is the average over bettors who
    each stake a fixed share of what they may.

    Args:
        values: (t,) scores of examples in random order.
        low, high: the least and the greatest possible score.
        confidence: that the mean lies within the bounds after every example, in (0, 1).

    Returns:
        Two arrays of (t,): the best lower and upper bound so far, to a thousandth of the range on the safe side.

    Raises:
        InvalidInputError: a value is missing or out of bounds, or a setting is out of range.

    Examples:
        >>> low, high = lm.statistics.betting_sequence([0.4, 0.6] * 50, 0, 1)
        >>> len(low), bool(high[9] > high[99])
        (100, True)
    """
    scaled, threshold = _scaled(values, low, high, confidence)
    lows, highs = _lower_path(scaled, threshold), 1 - _lower_path(1 - scaled, threshold)
    return low + lows * (high - low), low + highs * (high - low)


def betting_bounds(values: ArrayLike, low: float, high: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the last bounds of :func:`betting_sequence`, a hundred times sooner; arguments as there.

    Examples:
        >>> low, high = lm.statistics.betting_bounds([0.4, 0.6] * 50, 0, 1)
        >>> round(low, 2), round(high, 2)
        (0.46, 0.54)
    """
    scaled, threshold = _scaled(values, low, high, confidence)
    below, above = _lower_bound(scaled, threshold), 1 - _lower_bound(1 - scaled, threshold)
    return low + below * (high - low), low + above * (high - low)


def _scaled(values: ArrayLike, low: float, high: float, confidence: float) -> tuple[FloatArray, float]:
    """The scores in [0, 1], and the logarithm of the capital that rules a mean out."""
    values = as_floats(values)
    _check(values, confidence)
    return (within_bounds(values, low, high) - low) / (high - low), math.log(2 / (1 - confidence))


def within_bounds(values: FloatArray, low: float, high: float) -> FloatArray:
    """Return (t,) or (models, t) scores, those that lie out of their bounds by a rounding error put onto them.

    Raises:
        InvalidInputError: a score lies outside, or the bounds are none.
    """
    if not (low < high and math.isfinite(high - low)):
        raise InvalidInputError(f"bounds {low} and {high} hold no scores", "give the least and the greatest score")
    slack = _ROUNDING * (high - low)
    outside = np.argwhere((values < low - slack) | (values > high + slack))
    if len(outside):
        at = tuple(outside[0])
        where = f"example {at[0]}" if len(at) == 1 else f"model {at[0]}, example {at[1]}"
        raise InvalidInputError(
            f"{where}: {values[at]} lies outside of {low} … {high}", "give the bounds of the metric"
        )
    return np.clip(values, low, high)


def _lower_bound(scaled: FloatArray, threshold: float) -> float:
    """The greatest mean on the grid that was ever ruled out, found by halving."""
    ruled_out, open_ = 0, _GRID
    while open_ - ruled_out > 1 and len(scaled):
        middle = (ruled_out + open_) // 2
        if _log_capital(scaled, middle / _GRID).max() >= threshold:
            ruled_out = middle
        else:
            open_ = middle
    return ruled_out / _GRID


def _lower_path(scaled: FloatArray, threshold: float) -> FloatArray:
    """(t,) the greatest mean on the grid that is ruled out after each example, in [0, 1]."""
    means = np.arange(1, _GRID) / _GRID
    found = np.zeros(len(scaled))
    step = max(1, _CELLS // max(1, len(scaled) * len(_SHARES)))
    for start in range(0, len(means), step):
        some = means[start : start + step]
        ruled_out = np.maximum.accumulate(_log_capital(scaled[None, :], some[:, None]), axis=1) >= threshold
        # The capital falls as the mean grows, so those ruled out come first.
        count = ruled_out.sum(axis=0)
        found = np.where(count > 0, some[count - 1], found)
    return found


def _log_capital(scaled: FloatArray, mean: FloatArray | float) -> FloatArray:
    """(…, t) the logarithm of the bettors' average capital against a mean of at most `mean`; NaN pays nothing."""
    gain = scaled / mean - 1
    steps = np.log1p(_SHARES * np.nan_to_num(gain)[..., None])
    paths = np.cumsum(steps, axis=-2)
    highest = paths.max(axis=-1)
    average: FloatArray = highest + np.log(np.mean(np.exp(paths - highest[..., None]), axis=-1))
    return average


def normal_sequence(
    values: ArrayLike, *, confidence: float = 0.95, first: int = _FIRST, tuned_for: int = _TUNED_FOR
) -> tuple[FloatArray, FloatArray]:
    """Return the bounds, after each example, of a confidence sequence for the mean of scores that have no bounds.

    Asymptotic: it holds at all looks from `first` on, as well as the mean of `first` examples is normal; a little wider
    than the asymptotics ask, so that skewed scores keep to it too. Not for scores that nearly always are the same;
    those have bounds mostly, so use :func:`betting_sequence`. Source: Waudby-Smith,
    Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences",
    Annals of Statistics 52(6), normal mixture.

    Args:
        values: (t,) scores of examples in random order.
        confidence: that the mean lies within the bounds after every example, in (0, 1).
        first: examples before which nothing is said: minus and plus infinity.
        tuned_for: number of examples for which the bounds are narrowest.

    Returns:
        Two arrays of (t,): the best lower and upper bound so far.

    Raises:
        InvalidInputError: a value is missing, or a setting is out of range.

    Examples:
        >>> low, high = lm.statistics.normal_sequence(np.random.default_rng(0).normal(5, 1, size=200))
        >>> bool(low[-1] < 5 < high[-1])
        True
    """
    values = as_floats(values)
    _check(values, confidence)
    if first < 2 or tuned_for < 1:
        raise InvalidInputError(f"a first look after {first} examples, tuned for {tuned_for}", "look after 2 or more")
    means, radius = _means_and_radius(values[None, :], (1 - confidence) / 2, None, first, tuned_for)
    return np.maximum.accumulate((means - radius)[0]), np.minimum.accumulate((means + radius)[0])


def difference_bounds(
    values: FloatArray, others: FloatArray, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean difference of two models' scores without bounds, and the last bounds of its sequence.

    As :func:`normal_sequence`, but for models that differ by the same on every example so far: that they are ever
    further apart is allowed for by one example, as far out as their scores lie from each other.

    Args:
        values, others: (t,) scores of the same examples in random order; NaN where there is none.
        confidence: as of :func:`normal_sequence`.

    Returns:
        NaN where no example has both.
    """
    apart = paired(values[None, :], others[None, :])
    if np.isnan(apart).all():
        return (math.nan,) * 3
    means, radius = _means_and_radius(apart, (1 - confidence) / 2, spans(values[None, :], others[None, :]))
    known = ~np.isnan(apart)
    lows, highs = np.where(known, means - radius, -np.inf), np.where(known, means + radius, np.inf)
    return float(means[0, -1]), float(lows.max()), float(highs.min())


def paired(values: FloatArray, others: FloatArray) -> FloatArray:
    """(p, t) differences, 0 where they are equal but for rounding; NaN where either is."""
    apart = values - others
    with np.errstate(invalid="ignore"):
        same = np.abs(apart) <= 1e-12 * (np.abs(values) + np.abs(others))
    return np.asarray(np.where(same, 0.0, apart), dtype=np.float64)


def spans(values: FloatArray, others: FloatArray) -> FloatArray:
    """(p, t) how far the scores of two models lie apart, up to each example."""
    lowest = np.fmin.accumulate(np.fmin(values, others), axis=1)
    highest = np.fmax.accumulate(np.fmax(values, others), axis=1)
    return np.asarray(np.nan_to_num(highest - lowest), dtype=np.float64)


def _means_and_radius(
    values: FloatArray, level: float, span: FloatArray | None, first: int = _FIRST, tuned_for: int = _TUNED_FOR
) -> tuple[FloatArray, FloatArray]:
    """(p, t) running means and half widths; `level` is the error of one side. NaN does not count.

    Values that were all the same so far tell nothing of their spread: it is that of one value `span` (p, t) away among
    as many, or not known without.
    """
    known = ~np.isnan(values)
    n = np.cumsum(known, axis=1)
    # From the first one, so that equal values have no variance by rounding.
    start = np.take_along_axis(values, known.argmax(axis=1)[:, None], axis=1)
    filled = np.where(known, values - start, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.cumsum(filled, axis=1) / n
        variance = np.maximum(np.cumsum(filled**2, axis=1) / n - means**2, 0) * n / (n - 1)
        means = start + means
        variance = np.where(variance > 0, variance, np.inf if span is None else span**2 / n)
        alpha = min(2 * level, 0.5)
        rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_for
        variance = variance * (1 + _MARGIN / n)
        scale = 2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha)
        radius = np.sqrt(variance * scale)
    return means, np.where(n >= first, radius, np.inf)


def first_shown(
    values: FloatArray, above: float, level: float, reach: float | None, span: FloatArray | None = None
) -> NDArray[np.float64]:
    """Return after how many examples it is shown that a mean exceeds a number.

    Args:
        values: (p, t) scores or differences in random order; NaN does not count.
        above: the number.
        level: probability of ever showing it where it is false.
        reach: values lie in ±reach; None where they have no bounds.
        span: (p, t) of :func:`spans`, without which values without bounds that are all the same show nothing.

    Returns:
        (p,) positions from 1, infinite where it is not shown.
    """
    if not values.shape[1]:
        return np.full(len(values), np.inf)
    if reach is not None:
        if above <= -reach:
            return np.ones(len(values))
        shown = _log_capital((values + reach) / (2 * reach), (above + reach) / (2 * reach)) >= -math.log(level)
    else:
        means, radius = _means_and_radius(values, level, span)
        shown = means - radius > above
    return np.where(shown.any(axis=1), shown.argmax(axis=1) + 1.0, np.inf)


def _check(values: FloatArray, confidence: float) -> None:
    if values.ndim != 1 or np.isnan(values).any():
        raise InvalidInputError(f"scores of shape {values.shape} are no sequence", "give one score per example, no NaN")
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
