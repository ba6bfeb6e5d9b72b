"""Confidence sequences: intervals for a mean that hold at all looks together, however often one looks.

An ordinary 95% interval that is checked after every example misses the mean at some look in far more than 5% of all
studies. Confidence sequences do not, so that a study may stop as soon as they are narrow enough.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence
from lumigator_nb.statistics.resampling import FloatArray

# Stakes, relative to the largest that cannot lose all capital. Each bettor keeps to one stake, and the capital of all
# is averaged: small stakes detect small differences, large ones detect large differences early.
_STAKES = np.geomspace(0.005, 0.98, 14)
# Number of means tried between the bounds of a score. A bound lies on this grid, on the safe side.
_GRID = 1000
# Cells of the bettors' paths (examples × means × stakes) computed at once, 32 MB.
_CELLS = 4_000_000
# Asymptotic sequences start at the first number of examples, and are narrowest around the second.
_FIRST, _TUNED_FOR = 64, 300
# Relative to the range: a score this far outside of its bounds is a rounding error.
_ROUNDING = 1e-9
# Asymptotic sequences are widened as if this many examples' worth of variance were missing: the spread is estimated
# from the same few examples, which for skewed scores often miss the tail. Found by simulation (benchmarks/coverage.py).
_MARGIN = 20


def betting_sequence(
    values: ArrayLike, low: float, high: float, *, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return the bounds, after each example, of a confidence sequence for the mean of bounded scores.

    Exact for any distribution on [low, high]. If the mean were m, no bet on the scores would have a positive expected
    gain, so that a bettor's capital would hardly grow; an m against which the capital has ever grown to 2 / (1 -
    confidence) times its start is ruled out (Ville's inequality). Source: Waudby-Smith and Ramdas 2024, "Estimating
    means of bounded random variables by betting", JRSS B 86(1). The capital is the average over bettors with fixed
    stakes, relative to the largest possible.

    Args:
        values: (t,) scores of examples in random order.
        low, high: the least and the greatest possible score.
        confidence: probability that the mean lies within the bounds after every example, in (0, 1).

    Returns:
        Two arrays of (t,): the best lower and upper bound so far, rounded outwards to a thousandth of the range.

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
    """Return the last bounds of :func:`betting_sequence`, a hundred times faster; arguments as there.

    Examples:
        >>> low, high = lm.statistics.betting_bounds([0.4, 0.6] * 50, 0, 1)
        >>> round(low, 2), round(high, 2)
        (0.46, 0.54)
    """
    scaled, threshold = _scaled(values, low, high, confidence)
    below, above = _lower_bound(scaled, threshold), 1 - _lower_bound(1 - scaled, threshold)
    return low + below * (high - low), low + above * (high - low)


def _scaled(values: ArrayLike, low: float, high: float, confidence: float) -> tuple[FloatArray, float]:
    """Return the scores scaled to [0, 1], and the log capital that rules a mean out."""
    values = as_floats(values)
    _check(values, confidence)
    return (within_bounds(values, low, high) - low) / (high - low), math.log(2 / (1 - confidence))


def within_bounds(values: FloatArray, low: float, high: float) -> FloatArray:
    """Return (t,) or (models, t) scores, with those outside of their bounds by a rounding error moved onto them.

    Raises:
        InvalidInputError: a score lies outside, or `low` and `high` are not finite bounds with low < high.
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
    """Return the greatest mean on the grid that was ever ruled out, by bisection; 0 if none was."""
    ruled_out, open_ = 0, _GRID
    while open_ - ruled_out > 1 and len(scaled):
        middle = (ruled_out + open_) // 2
        if _log_capital(scaled, middle / _GRID).max() >= threshold:
            ruled_out = middle
        else:
            open_ = middle
    return ruled_out / _GRID


def _lower_path(scaled: FloatArray, threshold: float) -> FloatArray:
    """Return (t,) the greatest mean on the grid that is ruled out after each example, in [0, 1]."""
    means = np.arange(1, _GRID) / _GRID
    bounds = np.zeros(len(scaled))
    step = max(1, _CELLS // max(1, len(scaled) * len(_STAKES)))
    for start in range(0, len(means), step):
        batch = means[start : start + step]
        ruled_out = np.maximum.accumulate(_log_capital(scaled[None, :], batch[:, None]), axis=1) >= threshold
        # The capital against a mean falls as the mean grows, so the means ruled out come first.
        count = ruled_out.sum(axis=0)
        bounds = np.where(count > 0, batch[count - 1], bounds)
    return bounds


def _log_capital(scaled: FloatArray, mean: FloatArray | float) -> FloatArray:
    """Return (…, t) the log of the bettors' average capital against "the mean is at most `mean`"; NaN pays nothing."""
    gain = scaled / mean - 1
    steps = np.log1p(_STAKES * np.nan_to_num(gain)[..., None])
    paths = np.cumsum(steps, axis=-2)
    # Less the highest before exp(), which would overflow after a few thousand examples.
    highest = paths.max(axis=-1)
    average: FloatArray = highest + np.log(np.mean(np.exp(paths - highest[..., None]), axis=-1))
    return average


def normal_sequence(
    values: ArrayLike, *, confidence: float = 0.95, first: int = _FIRST, tuned_for: int = _TUNED_FOR
) -> tuple[FloatArray, FloatArray]:
    """Return the bounds, after each example, of a confidence sequence for the mean of unbounded scores.

    Asymptotic: it holds at all looks from `first` on, as far as the mean of `first` examples is normal. A little wider
    than the source, so that it holds for skewed scores too. Not for scores that are nearly always the same; those are
    mostly bounded, so use :func:`betting_sequence`. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024,
    "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6), with a normal
    mixture.

    Args:
        values: (t,) scores of examples in random order.
        confidence: probability that the mean lies within the bounds after every example, in (0, 1).
        first: number of examples before which the bounds are minus and plus infinity.
        tuned_for: number of examples at which the bounds are narrowest.

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
        raise InvalidInputError(
            f"a first look after {first} examples, tuned for {tuned_for}", "look after 2 or more, tuned for 1 or more"
        )
    means, radius = _means_and_radius(values[None, :], (1 - confidence) / 2, None, first, tuned_for)
    return np.maximum.accumulate((means - radius)[0]), np.minimum.accumulate((means + radius)[0])


def difference_bounds(
    values: FloatArray, others: FloatArray, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean difference of two models' unbounded scores, and the last bounds of its confidence sequence.

    As :func:`normal_sequence`, except for models that differ by the same on every example so far: their variance is
    that of one example whose scores lie as far apart as all scores of the two models do.

    Args:
        values, others: (t,) scores of the same examples in random order; NaN where missing.
        confidence: as in :func:`normal_sequence`.

    Returns:
        (mean, low, high); NaN where no example has scores of both.
    """
    apart = paired(values[None, :], others[None, :])
    if np.isnan(apart).all():
        return (math.nan,) * 3
    means, radius = _means_and_radius(apart, (1 - confidence) / 2, spans(values[None, :], others[None, :]))
    present = ~np.isnan(apart)
    lows, highs = np.where(present, means - radius, -np.inf), np.where(present, means + radius, np.inf)
    return float(means[0, -1]), float(lows.max()), float(highs.min())


def paired(values: FloatArray, others: FloatArray) -> FloatArray:
    """Return (p, t) differences, 0 where scores are equal but for rounding; NaN where either is."""
    apart = values - others
    with np.errstate(invalid="ignore"):
        same = np.abs(apart) <= 1e-12 * (np.abs(values) + np.abs(others))
    return np.asarray(np.where(same, 0.0, apart), dtype=np.float64)


def spans(values: FloatArray, others: FloatArray) -> FloatArray:
    """Return (p, t) the range of all scores of two models up to each example."""
    lowest = np.fmin.accumulate(np.fmin(values, others), axis=1)
    highest = np.fmax.accumulate(np.fmax(values, others), axis=1)
    return np.asarray(np.nan_to_num(highest - lowest), dtype=np.float64)


def _means_and_radius(
    values: FloatArray, level: float, span: FloatArray | None, first: int = _FIRST, tuned_for: int = _TUNED_FOR
) -> tuple[FloatArray, FloatArray]:
    """Return (p, t) running means and half widths of the sequences of (p, t) values, without NaN.

    Args:
        level: error of one side.
        span: (p, t) of :func:`spans`. Values that were all equal so far do not show their variance: it is then that of
            one value `span` away among as many, or unknown (infinite) without `span`.
    """
    present = ~np.isnan(values)
    n = np.cumsum(present, axis=1)
    # Relative to the first value, so that equal values have a variance of exactly 0.
    start = np.take_along_axis(values, present.argmax(axis=1)[:, None], axis=1)
    filled = np.where(present, values - start, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.cumsum(filled, axis=1) / n
        variance = np.maximum(np.cumsum(filled**2, axis=1) / n - means**2, 0) * n / (n - 1)
        means = start + means
        variance = np.where(variance > 0, variance, np.inf if span is None else span**2 / n)
        # The normal mixture boundary of Waudby-Smith et al. 2024 for a two-sided α, with their ρ² for the narrowest
        # bounds at `tuned_for` examples. As α goes to 1, ρ² goes to 0; hence the limit.
        alpha = min(2 * level, 0.5)
        rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_for
        variance = variance * (1 + _MARGIN / n)
        scale = 2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha)
        radius = np.sqrt(variance * scale)
    return means, np.where(n >= first, radius, np.inf)


def first_shown(
    values: FloatArray, above: float, level: float, reach: float | None, span: FloatArray | None = None
) -> NDArray[np.float64]:
    """Return the number of examples after which a mean is shown to exceed a number.

    Args:
        values: (p, t) scores or differences in random order; NaN does not count.
        above: the number.
        level: probability of ever showing it where it is false.
        reach: values lie in ±reach; None for unbounded values.
        span: (p, t) of :func:`spans`; without it, unbounded values that are all equal show nothing.

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
        raise InvalidInputError(
            f"scores of shape {values.shape} are not a sequence", "give one score per example, without NaN"
        )
    check_confidence(confidence)
