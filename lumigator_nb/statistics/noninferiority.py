"""Not the best, but not worse by more than matters; and what no other beats in everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.resampling import FloatArray

# What is equal in exact arithmetic must not differ by a rounding error.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class NotWorse:
    """How far each model may be behind the best of the others.

    Attributes:
        worse_by_at_most: (m,) upper bounds, in units of the score, below 0 for a model that is surely ahead; NaN with
            fewer than two examples.
        not_worse: (m,) whether that is less than the margin.
    """

    worse_by_at_most: FloatArray
    not_worse: NDArray[np.bool_]


def not_worse_than_best(
    estimates: FloatArray,
    replicates: FloatArray,
    *,
    margin: float,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    n: int | None = None,
    span: float | None = None,
) -> NotWorse:
    """Say which models are worse than the best by less than a margin, whichever model is the best.

    A model is only called not worse where each of the others is shown to exceed it by less than the margin; that takes
    no correction for how many others there are (intersection-union: Berger 1982, Technometrics 24(4)), and allows for
    the best having been found by the same data, as multiple comparisons with the best do (Hsu 1984, Annals of
    Statistics 12(3)). For asking about every model at once the error is shared out over m - 1 of them, as
    the best one cannot be called so wrongly; any of those not worse may then be taken, such as the cheapest. One-sided,
    as non-inferiority is: Piaggio et al. 2012, JAMA 308(24); trials often ask for 0.975 of the one side.

    A model that fails rarely but badly looks no worse in most samples. Bounds therefore move outwards by the skewness
    of the replicates (Johnson 1978, "Modified t tests and confidence intervals for asymmetrical populations", JASA
    73(363)), and with `span` two models that never differed in n examples are allowed to do so as often as that may go
    unseen. In simulations with `n` and `span`, a model worse by the margin was called not worse in at most 5.5%, from
    50 examples on.

    Args:
        estimates: (m,) overall scores; a bound is NaN where one is, as an unknown model may be the best.
        replicates: (m, r) of them, on shared draws.
        margin: above 0, in units of the score.
        higher_is_better: False where the lowest score is best.
        confidence: that no model is called not worse wrongly, in (0, 1).
        n: examples, or groups where groups were drawn: Student's t in place of the normal distribution.
        span: the most that one example's scores can differ by, such as 1 for scores from 0 to 1; needs `n`. Left out,
            models that never differed are taken to be alike.

    Raises:
        InvalidInputError: shapes do not fit together, or a setting is out of range.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> lm.statistics.not_worse_than_best(scores.mean(axis=1), replicates, margin=0.05, n=200).not_worse
        array([False,  True, False])
    """
    estimates, replicates = np.asarray(estimates, dtype=np.float64), np.asarray(replicates, dtype=np.float64)
    _check(estimates, replicates, margin, confidence, n, span)
    if n is not None and n < 2:
        return NotWorse(np.full(len(estimates), math.nan), np.zeros(len(estimates), dtype=np.bool_))
    sign = 1.0 if higher_is_better else -1.0
    tail = (1 - confidence) / max(1, len(estimates) - 1)
    unseen = 0.0 if n is None or span is None else span * (1 - tail ** (1 / n))
    bounds = np.full(len(estimates), -math.inf)
    for other, (score, draws) in enumerate(zip(estimates, replicates, strict=True)):
        behind = sign * (draws - replicates)
        scale = np.maximum(np.abs(draws).max(), np.abs(replicates).max(axis=1))
        upper = sign * (score - estimates) + _allowance(behind, scale, _quantile(1 - tail, n), unseen)
        upper[other] = -math.inf
        bounds = np.maximum(bounds, upper)
    return NotWorse(bounds, np.asarray(bounds < margin))


def _allowance(behind: FloatArray, scale: FloatArray, reach: float, unseen: float) -> FloatArray:
    """(m,) how far the truth may lie above the estimates whose replicates (m, r) are given.

    `scale` (m,) is the size of the scores, beside which differences may be rounding errors.
    """
    apart = behind - behind.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.mean(apart**2, axis=1))
    constant = spread <= _ROUNDING * scale
    skewness = np.mean((apart / np.where(constant, 1.0, spread)[:, None]) ** 3, axis=1)
    # Only outwards: inwards a sample shows too little of its skewness to be relied on. The square is no part of the
    # source; with it, bounds for failures that occurred once or twice are near the exact ones of the Poisson law.
    skewness = np.maximum(skewness, 0.0)
    stretched = reach + skewness * (2 * reach**2 + 1) / 6 + skewness**2
    return np.where(constant, unseen, stretched * spread)


def _quantile(level: float, n: int | None) -> float:
    from scipy.special import ndtri, stdtrit

    if n is None:
        return float(ndtri(level))
    # Bootstrap replicates spread by the factor of the root less than the error that t is about.
    return float(stdtrit(n - 1, level) * math.sqrt(n / (n - 1)))


def _check(
    estimates: FloatArray, replicates: FloatArray, margin: float, confidence: float, n: int | None, span: float | None
) -> None:
    if estimates.ndim != 1 or replicates.ndim != 2 or len(replicates) != len(estimates) or not replicates.shape[1]:
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} for scores of shape {estimates.shape}",
            "give one row of replicates per score",
        )
    if not margin > 0:
        raise InvalidInputError(f"margin cannot be {margin}", "give what difference does not matter, such as 0.02")
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    if span is not None and (n is None or not span > 0):
        raise InvalidInputError(f"span {span} with n {n}", "give a span above 0, and how many examples there are")


def pareto_front(values: FloatArray, higher_is_better: Sequence[bool]) -> NDArray[np.bool_]:
    """Return which models no other dominates: at least as good in everything, and better in something.

    A model is judged by what is known of it, and can only be dominated by models of which the same is known; so one
    without a price is dominated by quality and speed alone, and dominates none that has one. Equal models both stay.

    Args:
        values: (m, criteria); NaN where not known.
        higher_is_better: one per criterion.

    Returns:
        (m,); False for a model of which nothing is known.

    Raises:
        InvalidInputError: there is not one direction per criterion.

    Examples:
        >>> quality_and_dollars = np.array([[0.8, 3.0], [0.7, 1.0], [0.6, 2.0]])
        >>> lm.statistics.pareto_front(quality_and_dollars, higher_is_better=[True, False])
        array([ True,  True, False])
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(higher_is_better):
        raise InvalidInputError(
            f"values of shape {values.shape} for {len(higher_is_better)} criteria", "give one column per criterion"
        )
    upward = values * np.where(list(higher_is_better), 1.0, -1.0)
    known = ~np.isnan(upward)
    # A comparison with NaN is False, which is right for what the dominating model lacks.
    as_good = (upward[:, None] >= upward) | ~known
    better = upward[:, None] > upward
    dominated = (as_good.all(axis=2) & better.any(axis=2)).any(axis=0)
    return np.asarray(~dominated & known.any(axis=1))
