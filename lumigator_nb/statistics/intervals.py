"""Intervals of overall scores from shared resamples: one set of draws serves every model, pair, rank and correction.

:func:`resampled_scores` draws once; :func:`intervals` and :func:`difference` read off what the draws say. The
jackknife's :func:`pseudo_values` tell what each example contributes to a score that is no mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.bootstrap import (
    Aggregate,
    Difference,
    FloatArray,
    Interval,
    centred_p_value,
    resampled_totals,
)

Method = Literal["bca", "percentile"]
# Of a z-value, where all or none of the resamples lie below the estimate.
_FURTHEST = 5.0


def resampled_scores(
    statistics: FloatArray,
    aggregate: Aggregate,
    *,
    groups: NDArray[Any] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> FloatArray:
    """Return overall scores on examples drawn with replacement, again and again.

    Args:
        statistics: (…, n, k) sufficient statistics; leading axes (such as models) share the draws.
        aggregate: (…, k) sums and the number of examples, one or (…) of them, -> (…) overall scores.
        groups: (n,) labels. Examples of one group, such as one customer's, are no independent witnesses: whole groups
            are drawn, as many as there are (Davison and Hinkley 1997, section 3.8; Field and Welsh 2007, "Bootstrapping
            clustered data", JRSS B 69(3)). Left out, each example is drawn by itself.
        n_resamples, seed: as of :func:`~lumigator_nb.statistics.bootstrap.resampled_totals`.

    Returns:
        (…, n_resamples).

    Raises:
        InvalidInputError: there is not one label per example, no example, or a setting is out of range.
    """
    n = statistics.shape[-2]
    if not n:
        raise InvalidInputError("there is no example to draw", "score at least one")
    if groups is None:
        return aggregate(resampled_totals(statistics, n_resamples=n_resamples, seed=seed), n)
    codes = _codes(groups, n)
    sums = np.zeros((*statistics.shape[:-2], int(codes.max()) + 1, statistics.shape[-1] + 1))
    counted = np.concatenate([statistics, np.ones((*statistics.shape[:-1], 1))], axis=-1)
    np.add.at(np.moveaxis(sums, -2, 0), codes, np.moveaxis(counted, -2, 0))
    totals = resampled_totals(sums, n_resamples=n_resamples, seed=seed)
    return aggregate(totals[..., :-1], totals[..., -1])


def pseudo_values(statistics: FloatArray, aggregate: Aggregate) -> FloatArray:
    """Return what each example contributes to an overall score: the jackknife's pseudo-values.

    n θ - (n - 1) θ without the example; for a mean that is the example's own score. Their mean is near the overall
    score and their spread tells its error, whatever function of sums it is. Source: Tukey 1958; Efron and Tibshirani
    1993, chapter 11.

    Args:
        statistics: (…, n, k) sufficient statistics.
        aggregate: as of :func:`resampled_scores`.

    Returns:
        (…, n); NaN with fewer than two examples.
    """
    n = statistics.shape[-2]
    if n < 2:
        return np.full(statistics.shape[:-1], np.nan)
    totals = statistics.sum(axis=-2, keepdims=True)
    whole, without = aggregate(totals, n), aggregate(totals - statistics, n - 1)
    values: FloatArray = n * whole - (n - 1) * without
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

    "bca" corrects the percentiles for bias and skewness (Efron 1987, "Better bootstrap confidence intervals", JASA
    82(397); acceleration from the jackknife), after they were moved outwards as far as Student's t lies outside of the
    normal distribution (Hesterberg 2015, "What teachers should know about the bootstrap", The American Statistician
    69(4)): without that, intervals from 50 examples are too narrow. "percentile" does neither. From some 50
    examples or groups on.

    Args:
        estimates: (m,) overall scores.
        replicates: (m, r) of :func:`resampled_scores`.
        contributions: (m, n) of :func:`pseudo_values`.
        groups: (n,) labels, where groups were drawn.
        confidence: of each interval, in (0, 1).
        method: "bca" or "percentile".

    Returns:
        One for each score; the bounds are NaN with fewer than two examples or groups.

    Raises:
        InvalidInputError: `confidence` is out of range, there is no such method, or shapes do not fit together.
    """
    _check(estimates, replicates, contributions, confidence, method)
    units = _units(contributions, groups)
    if units.shape[1] < 2:
        return [Interval(float(estimate), math.nan, math.nan) for estimate in estimates]
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    found = []
    for estimate, draws, each in zip(estimates, replicates, units, strict=True):
        levels = tails if method == "percentile" else _levels(tails, float(estimate), draws, each)
        bounds = np.quantile(draws, levels)
        # What equals the estimate in exact arithmetic does so here, too.
        low, high = np.where(np.abs(bounds - estimate) <= _near(estimate), estimate, bounds)
        found.append(Interval(float(estimate), float(low), float(high)))
    return found


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

    The p-value is that of :func:`~lumigator_nb.statistics.bootstrap.paired_difference`.

    Args:
        estimate: the difference.
        replicates: (r,) differences of the replicates of both.
        contributions: (n,) differences of the pseudo-values of both.
        groups, confidence, method: as of :func:`intervals`.
    """
    (found,) = intervals(
        np.array([estimate]), replicates[None], contributions[None],
        groups=groups, confidence=confidence, method=method,
    )  # fmt: skip
    if math.isnan(found.low):
        return Difference(found.estimate, math.nan, math.nan, math.nan)
    return Difference(found.estimate, found.low, found.high, centred_p_value(found.estimate, replicates))


def _levels(tails: Sequence[float], estimate: float, draws: FloatArray, units: FloatArray) -> FloatArray:
    """The percentiles that BCa takes in place of the nominal ones."""
    from scipy.special import ndtr, ndtri, stdtrit

    n = len(units)
    wide = math.sqrt(n / (n - 1)) * stdtrit(n - 1, np.asarray(tails))
    near = _near(estimate)  # draws that equal the estimate but for rounding lie on neither side
    below = np.count_nonzero(draws < estimate - near) + np.count_nonzero(np.abs(draws - estimate) <= near) / 2
    bias = float(np.clip(ndtri(below / len(draws)), -_FURTHEST, _FURTHEST))
    apart = units - units.mean()
    spread = float(np.sum(apart**2))
    acceleration = float(np.sum(apart**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    turned = bias + wide
    levels: FloatArray = ndtr(bias + turned / (1 - acceleration * turned))
    return levels


def _near(estimate: float) -> float:
    return 1e-12 * max(1.0, abs(estimate))


def _units(contributions: FloatArray, groups: NDArray[Any] | None) -> FloatArray:
    """(m, units) contributions of what is drawn; those of a group are summed about the mean."""
    if groups is None:
        return contributions
    codes = _codes(groups, contributions.shape[1])
    apart = contributions - contributions.mean(axis=1, keepdims=True)
    return np.stack([np.bincount(codes, row) for row in apart])


def _codes(groups: NDArray[Any], n: int) -> NDArray[np.int64]:
    if np.shape(groups) != (n,):
        raise InvalidInputError(f"groups of shape {np.shape(groups)} for {n} examples", "give one label per example")
    return np.unique(groups, return_inverse=True)[1]


def _check(
    estimates: FloatArray, replicates: FloatArray, contributions: FloatArray, confidence: float, method: str
) -> None:
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    if method not in ("bca", "percentile"):
        raise InvalidInputError(f"there is no interval {method!r}", "take 'bca' or 'percentile'")
    if not len(estimates) == len(replicates) == len(contributions):
        raise InvalidInputError(
            f"{len(estimates)} scores, replicates of {len(replicates)} and contributions of {len(contributions)}",
            "give one row for each score",
        )
