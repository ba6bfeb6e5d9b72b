"""Confidence sequences: intervals for a mean that hold at all looks together, however often one looks.

An ordinary 95% interval that is checked after every example misses the mean at some look in far more than 5% of all
studies. Confidence sequences do not, so that a study may stop as soon as they are narrow enough.

Without `total`, the examples are a sample of more, and the mean is that of all examples like them. With `total`, they
are drawn without replacement from so many, and the mean is that of these: the intervals shrink to it as the last
example comes (Waudby-Smith and Ramdas 2020, "Confidence sequences for sampling without replacement", NeurIPS 33).
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
# The largest stake of the plug-in bettor, relative to the one that can lose all capital. It decides how soon scores are
# told apart that differ by much less than their bounds allow: with 0.5 a race of them took 20 to 40% more answers.
_LARGEST_STAKE = 0.95
# Of the error of a difference to the leading model, the share of its upper bound. Of that bound's capital, one half by
# `_UPPER_SHARE` has the stakes of the race: a race of two models, with half of the error each, has shown it no sooner.
_UPPER_SHARE = 0.8
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
    values: ArrayLike, low: float, high: float, *, confidence: float = 0.95, total: int | None = None
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
        total: the number of examples from which these are drawn without replacement; the mean is then that of all
            `total`. None: they are a sample of more.

    Returns:
        Two arrays of (t,): the best lower and upper bound so far, rounded outwards to a thousandth of the range. After
        all `total` examples, both are the mean.

    Raises:
        InvalidInputError: a value is missing or out of bounds, or a setting is out of range.

    Examples:
        >>> low, high = lm.statistics.betting_sequence([0.4, 0.6] * 50, 0, 1)
        >>> len(low), bool(high[9] > high[99])
        (100, True)
    """
    scaled, threshold = _scaled(values, low, high, confidence)
    _check_total(scaled, total)
    lows, highs = _lower_path(scaled, threshold, total), 1 - _lower_path(1 - scaled, threshold, total)
    return low + lows * (high - low), low + highs * (high - low)


def betting_bounds(
    values: ArrayLike, low: float, high: float, *, confidence: float = 0.95, total: int | None = None
) -> tuple[float, float]:
    """Return the last bounds of :func:`betting_sequence`, a hundred times faster; arguments as there.

    Examples:
        >>> low, high = lm.statistics.betting_bounds([0.4, 0.6] * 50, 0, 1)
        >>> round(low, 2), round(high, 2)
        (0.46, 0.54)
    """
    values = as_floats(values)
    _check(values, confidence)
    _check_total(values, total)
    return last_bounds(values, low, high, confidence, total)


def last_bounds(
    values: FloatArray, low: float, high: float, confidence: float, total: int | None
) -> tuple[float, float]:
    """Return :func:`betting_bounds` of (t,) values of which some are NaN: the mean is that of the others.

    With `total`, a missing score is a draw from it, too. For a mean m, what is drawn are score - m, or 0 where it is
    missing: their sum over all `total` is 0, however many are missing.
    """
    scaled = (within_bounds(values, low, high) - low) / (high - low)
    threshold = math.log(2 / (1 - confidence))
    below, above = _lower_bound(scaled, threshold, total), 1 - _lower_bound(1 - scaled, threshold, total)
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


def _lower_bound(scaled: FloatArray, threshold: float, total: int | None, stakes: FloatArray | None = None) -> float:
    """Return the greatest mean on the grid that was ever ruled out, by bisection; 0 if none was.

    Args:
        stakes: (t,) of one more bettor, per unit of score, the same against any mean.
    """
    certain = float(_certain_bounds(scaled, total)[-1]) if len(scaled) else 0.0
    ruled_out, open_ = min(math.floor(certain * _GRID), _GRID - 1), _GRID
    while open_ - ruled_out > 1 and len(scaled):
        middle = (ruled_out + open_) // 2
        if _log_capital(scaled, middle / _GRID, total, stakes).max() >= threshold:
            ruled_out = middle
        else:
            open_ = middle
    return max(ruled_out / _GRID, certain)


def _lower_path(scaled: FloatArray, threshold: float, total: int | None) -> FloatArray:
    """Return (t,) the greatest mean on the grid that is ruled out after each example, in [0, 1]."""
    means = np.arange(1, _GRID) / _GRID
    certain = _certain_bounds(scaled, total)
    bounds = np.zeros(len(scaled))
    step = max(1, _CELLS // max(1, len(scaled) * len(_STAKES)))
    for start in range(0, len(means), step):
        batch = means[start : start + step]
        capital = _log_capital(scaled[None, :], batch[:, None], total)
        ruled_out = (np.maximum.accumulate(capital, axis=1) >= threshold) | (batch[:, None] < certain)
        # The capital against a mean falls as the mean grows, so the means ruled out come first.
        count = ruled_out.sum(axis=0)
        bounds = np.where(count > 0, batch[count - 1], bounds)
    return np.maximum(bounds, certain)


def _certain_bounds(scaled: FloatArray, total: int | None) -> FloatArray:
    """Return (t,) the mean of all `total` scores if the rest are 0, the least possible; it does not fall."""
    if total is None:
        return np.zeros(len(scaled))
    present = ~np.isnan(scaled)
    rest = total - np.arange(1, len(scaled) + 1)
    return np.asarray(np.cumsum(np.where(present, scaled, 0.0)) / np.maximum(np.cumsum(present) + rest, 1))


def _log_capital(
    scaled: FloatArray, mean: FloatArray | float, total: int | None = None, stakes: FloatArray | None = None
) -> FloatArray:
    """Return (…, t) the log of the bettors' average capital against "the mean is at most `mean`"; NaN pays nothing.

    With `total`, the mean of the examples left is known from `mean` and the scores so far, and a bet is on the next
    score against it (Waudby-Smith and Ramdas 2024, section 5). The capital falls as the mean grows: for each bettor,
    either the stake per unit of score or the part of the capital at stake does not depend on the mean.
    """
    mean = np.asarray(mean, dtype=np.float64)
    apart = np.nan_to_num(scaled - mean)
    earlier = 0.0 if total is None else np.cumsum(apart, axis=-1) - apart
    left = mean if total is None else mean - earlier / (total - np.arange(scaled.shape[-1]))
    # Less than nothing is left of a mean that is no longer possible: it is ruled out for certain, without bets.
    gain = np.where(left > 1e-12, (apart + mean) / np.maximum(left, 1e-12) - 1, 0.0)
    paths = np.cumsum(np.log1p(_STAKES * gain[..., None]), axis=-2)
    # Less the highest before exp(), which would overflow after a few thousand examples.
    highest = paths.max(axis=-1)
    average: FloatArray = highest + np.log(np.mean(np.exp(paths - highest[..., None]), axis=-1))
    if stakes is None:
        return average
    own = np.cumsum(np.log1p(np.minimum(stakes * left, _LARGEST_STAKE) * gain), axis=-1)
    share = 0.5 / _UPPER_SHARE
    return np.asarray(np.logaddexp(math.log(share) + own, math.log(1 - share) + average))


def _plug_in(apart: FloatArray, present: NDArray[np.bool_], total: int | None) -> tuple[FloatArray, FloatArray]:
    """Return the stake on each value against "the mean is at most 0", and the mean of the values left if it is 0.

    The bettor is predictable: each stake comes from the mean and variance of the values before, as the one that makes
    the expected log capital grow most (approximately: aGRAPA of Waudby-Smith and Ramdas 2024, section B.3). One such
    bettor learns its stake in a few examples, while most of many fixed stakes lose theirs. The variance starts from one
    value as far off as the farthest so far, not as the bounds: wide bounds would take hundreds of examples to forget.

    Args:
        apart: (…, t) values less the mean to refute; 0 where there is none.
        present: (…, t) where there is one. With `total`, a missing value is a draw of 0.

    Returns:
        Two arrays of (…, t); the stakes, per unit of value, are not limited to what cannot lose all capital.
    """
    t = np.arange(apart.shape[-1])
    before = np.cumsum(present, axis=-1) - present if total is None else t
    earlier = np.cumsum(apart, axis=-1) - apart
    farthest = np.zeros_like(apart)
    farthest[..., 1:] = np.maximum.accumulate(np.abs(apart), axis=-1)[..., :-1]
    mean = earlier / (before + 1)
    squares = np.cumsum(apart**2, axis=-1) - apart**2 + farthest**2
    variance = np.maximum(squares / (before + 1) - mean**2, 0.0)
    left = np.zeros_like(apart) if total is None else -earlier / (total - t)
    lead = np.maximum(mean - left, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        stakes = np.where(lead > 0, lead / (variance + lead**2), 0.0)
    return np.where(present, stakes, 0.0) if total is None else stakes, left


def _shown_by_bets(
    values: FloatArray, reach: float, above: float, level: float, total: int | None
) -> NDArray[np.bool_]:
    """Return (p, t) whether a bettor shows, by each example, that the mean of values in ±reach exceeds `above`.

    With `total`, the mean of the values left is known if that of all is `above`, and the bet is against that; a missing
    value is a draw of `above`, which leaves the sign of the sum (see :func:`last_bounds`).
    """
    apart = np.nan_to_num(values - above)
    stakes, left = _plug_in(apart, ~np.isnan(values), total)
    room = left + reach + above
    # Without room the mean can no longer be `above` or less: that is certain, below.
    possible = room > 0
    stakes = np.minimum(stakes, _LARGEST_STAKE / np.where(possible, room, 1.0))
    shown = np.cumsum(np.log1p(np.where(possible, stakes * (apart - left), 0.0)), axis=1) >= -math.log(level)
    if total is not None:  # certain: positive even if all values left are as low as possible
        n_left = total - np.arange(1, apart.shape[1] + 1)
        shown |= np.cumsum(apart, axis=1) - n_left * (reach + above) > _ROUNDING * reach
    return np.asarray(shown)


def last_difference_bounds(
    values: FloatArray, reach: float, confidence: float, total: int | None
) -> tuple[float, float]:
    """Return the last bounds of the mean of (t,) differences to a leading model, which lie in ±reach; NaN: none.

    As :func:`last_bounds`, except for the upper bound: part of its capital is bet with the stakes by which a race shows
    that the mean is below 0, and it has the larger part of the error. Once the race has shown that, it is at most 0.
    """
    scaled = (values + reach) / (2 * reach)
    alpha = 1 - confidence
    stakes, _ = _plug_in(np.nan_to_num(0.5 - scaled), ~np.isnan(scaled), total)
    low = _lower_bound(scaled, -math.log((1 - _UPPER_SHARE) * alpha), total)
    high = 1 - _lower_bound(1 - scaled, -math.log(_UPPER_SHARE * alpha), total, stakes)
    return (2 * low - 1) * reach, (2 * high - 1) * reach


def normal_sequence(
    values: ArrayLike,
    *,
    confidence: float = 0.95,
    first: int = _FIRST,
    tuned_for: int = _TUNED_FOR,
    total: int | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the bounds, after each example, of a confidence sequence for the mean of unbounded scores.

    Asymptotic: it holds at all looks from `first` on, as far as the mean of `first` examples is normal. A little wider
    than the source, so that it holds for skewed scores too. Not for scores that are nearly always the same; those are
    mostly bounded, so use :func:`betting_sequence`. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024,
    "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6), with a normal
    mixture. With `total`, (S_t - t μ) / (total - t) is a martingale in the sums S_t of t scores. The mean then varies
    as that of t · total / (total - t) independent examples: the bounds are those of as many.

    Args:
        values: (t,) scores of examples in random order.
        confidence: probability that the mean lies within the bounds after every example, in (0, 1).
        first: number of examples before which the bounds are minus and plus infinity.
        tuned_for: number of examples at which the bounds are narrowest.
        total: as in :func:`betting_sequence`. While fewer than `first` examples are left, whose mean need not be
            normal, the bounds are as wide as if so many were; after the last one, both are the mean.

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
    _check_total(values, total)
    means, radius = _means_and_radius(values[None, :], (1 - confidence) / 2, None, first, tuned_for, total)
    lows, highs = np.maximum.accumulate((means - radius)[0]), np.minimum.accumulate((means + radius)[0])
    if len(values) == total:
        lows[-1] = highs[-1] = means[0, -1]
    return lows, highs


def difference_bounds(
    values: FloatArray, others: FloatArray, *, confidence: float = 0.95, total: int | None = None
) -> tuple[float, float, float]:
    """Return the mean difference of two models' unbounded scores, and the last bounds of its confidence sequence.

    As :func:`normal_sequence`, except for models that differ by the same on every example so far: their variance is
    that of one example whose scores lie as far apart as all scores of the two models do.

    Args:
        values, others: (t,) scores of the same examples in random order; NaN where missing.
        confidence, total: as in :func:`normal_sequence`.

    Returns:
        (mean, low, high); NaN where no example has scores of both.
    """
    apart = paired(values[None, :], others[None, :])
    if np.isnan(apart).all():
        return (math.nan,) * 3
    span = spans(values[None, :], others[None, :])
    means, radius = _means_and_radius(apart, (1 - confidence) / 2, span, total=total)
    if len(values) == total:
        return (float(means[0, -1]),) * 3
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
    values: FloatArray,
    level: float,
    span: FloatArray | None,
    first: int = _FIRST,
    tuned_for: int = _TUNED_FOR,
    total: int | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return (p, t) running means and half widths of the sequences of (p, t) values, without NaN.

    Args:
        level: error of one side.
        span: (p, t) of :func:`spans`. Values that were all equal so far do not show their variance: it is then that of
            one value `span` away among as many, or unknown (infinite) without `span`.
        total: as in :func:`normal_sequence`, except that the radius after the last one is not 0.
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
        left = np.inf if total is None else np.maximum(total - np.arange(1, values.shape[1] + 1), first)
        # As many independent examples as tell as much.
        worth = n * (n / left + 1)
        scale = 2 * (worth * rho2 + 1) / (worth**2 * rho2) * np.log(np.sqrt(worth * rho2 + 1) / alpha)
        radius = np.sqrt(variance * scale)
    return means, np.where(n >= first, radius, np.inf)


def first_shown(
    values: FloatArray,
    above: float,
    level: float,
    reach: float | None,
    span: FloatArray | None = None,
    total: int | None = None,
) -> NDArray[np.float64]:
    """Return the number of examples after which a mean is shown to exceed a number.

    Args:
        values: (p, t) scores or differences in random order; NaN does not count.
        above: the number.
        level: probability of ever showing it where it is false.
        reach: values lie in ±reach; None for unbounded values.
        span: (p, t) of :func:`spans`; without it, unbounded values that are all equal show nothing.
        total: the number of values from which these are drawn without replacement; None: they are a sample of more.

    Returns:
        (p,) positions from 1, infinite where it is not shown.
    """
    if not values.shape[1]:
        return np.full(len(values), np.inf)
    if reach is not None:
        if above <= -reach:
            return np.ones(len(values))
        shown = _shown_by_bets(values, reach, above, level, total)
    else:
        means, radius = _means_and_radius(values, level, span, total=total)
        shown = means - radius > above
    return np.where(shown.any(axis=1), shown.argmax(axis=1) + 1.0, np.inf)


def _check(values: FloatArray, confidence: float) -> None:
    if values.ndim != 1 or np.isnan(values).any():
        raise InvalidInputError(
            f"scores of shape {values.shape} are not a sequence", "give one score per example, without NaN"
        )
    check_confidence(confidence)


def _check_total(values: FloatArray, total: int | None) -> None:
    if total is not None and len(values) > total:
        raise InvalidInputError(f"{len(values)} examples of {total} in all", "give the number of all examples as total")
