"""Non-inferiority: models that are not worse than the best by a margin; and Pareto fronts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import check_confidence
from lumigator_nb.statistics.resampling import FloatArray

# Relative to the size of the scores: differences that are equal in exact arithmetic still differ by rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class NotWorse:
    """How far each model may be behind the best of the others.

    Attributes:
        worse_by_at_most: (m,) upper bounds, in units of the score; below 0 for a model shown to be ahead of all others.
            NaN with fewer than two examples.
        not_worse: (m,) whether the bound is below the margin.
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
    """Return which models are worse than the best by less than a margin, whichever model is the best.

    A model is called not worse only where each of the others is shown to exceed it by less than the margin. That needs
    no correction for the number of others (intersection-union test: Berger 1982, Technometrics 24(4)), and allows for
    finding the best from the same data, as multiple comparisons with the best do (Hsu 1984, Annals of Statistics
    12(3)). To test every model at once the error is divided by m - 1, not m, as the best model cannot be called not
    worse wrongly; the user may then pick any of those not worse, such as the cheapest. The bounds are one-sided, as in
    non-inferiority trials (Piaggio et al. 2012, JAMA 308(24)), which often use a one-sided confidence of 0.975.

    A model that fails rarely but badly looks no worse in most samples. Bounds therefore move outwards by the skewness
    of the replicates (Johnson 1978, "Modified t tests and confidence intervals for asymmetrical populations", JASA
    73(363)). With `span`, two models that never differed in n examples may still differ with the largest probability
    that leaves n examples without a difference. In simulations with `n` and `span`, a model worse by the margin was
    called not worse in at most 5.5%, from 50 examples on.

    Args:
        estimates: (m,) overall scores. A NaN makes all bounds NaN, as that model may be the best.
        replicates: (m, r) of the overall scores; column r comes from one draw of examples, the same for all models.
        margin: above 0, in units of the score.
        higher_is_better: False where the lowest score is best.
        confidence: probability that no model is wrongly called not worse, in (0, 1).
        n: number of examples, or of groups where groups were drawn. Bounds then follow Student's t instead of the
            normal distribution.
        span: the largest possible difference between two models on one example, such as 1 for scores from 0 to 1;
            needs `n`. If omitted, models that never differed count as equal.

    Raises:
        InvalidInputError: shapes do not match, or a setting is out of range.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> lm.statistics.not_worse_than_best(scores.mean(axis=1), replicates, margin=0.05, n=200).not_worse
        array([False,  True, False])
    """
    from scipy.special import ndtri, stdtrit

    estimates, replicates = np.asarray(estimates, dtype=np.float64), np.asarray(replicates, dtype=np.float64)
    if estimates.ndim != 1 or replicates.ndim != 2 or len(replicates) != len(estimates) or not replicates.shape[1]:
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} for scores of shape {estimates.shape}",
            "give one row of replicates per score",
        )
    if not margin > 0:
        raise InvalidInputError(
            f"margin cannot be {margin}", "give the largest difference that does not matter, such as 0.02"
        )
    check_confidence(confidence)
    if span is not None and (n is None or not span > 0):
        raise InvalidInputError(f"span {span} with n {n}", "give a span above 0 and the number of examples")
    if n is not None and n < 2:
        return NotWorse(np.full(len(estimates), math.nan), np.zeros(len(estimates), dtype=np.bool_))
    sign = 1.0 if higher_is_better else -1.0
    tail = (1 - confidence) / max(1, len(estimates) - 1)
    # A bootstrap's spread divides by n where the standard error of the t-test divides by n - 1.
    quantile = float(ndtri(1 - tail) if n is None else stdtrit(n - 1, 1 - tail) * math.sqrt(n / (n - 1)))
    # An event with this probability stays unseen in n examples with probability `tail`.
    unseen = 0.0 if n is None or span is None else span * (1 - tail ** (1 / n))
    bounds = np.full(len(estimates), -math.inf)
    for other, (score, draws) in enumerate(zip(estimates, replicates, strict=True)):
        behind = sign * (draws - replicates)
        scale = np.maximum(np.abs(draws).max(), np.abs(replicates).max(axis=1))
        upper = sign * (score - estimates) + allowance(behind, scale, quantile, unseen)
        upper[other] = -math.inf
        # The best is unknown: a model has to hold against each of the others, so the largest bound counts.
        bounds = np.maximum(bounds, upper)
    return NotWorse(bounds, np.asarray(bounds < margin))


def allowance(behind: FloatArray, scale: FloatArray, quantile: float, unseen: float) -> FloatArray:
    """Return (m,) by how much true values may exceed the estimated ones: one-sided bounds less the estimates.

    Args:
        behind: (m, r) replicates of the differences.
        scale: (m,) sizes of the scores; differences that are tiny beside them are rounding errors.
        quantile: of Student's t or the normal distribution, in standard deviations of the replicates.
        unseen: the allowance for models that never differ, in units of the score.
    """
    apart = behind - behind.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.mean(apart**2, axis=1))
    # Models that never differed: their replicates have no spread, which would make the bound exactly 0.
    constant = spread <= _ROUNDING * scale
    skewness = np.mean((apart / np.where(constant, 1.0, spread)[:, None]) ** 3, axis=1)
    return np.where(constant, unseen, outwards(quantile, skewness) * spread)


def outwards(quantile: float, skewness: ArrayLike) -> FloatArray:
    """Return the distance of a bound from the estimate, in standard deviations of the replicates.

    Args:
        quantile: of Student's t or the normal distribution.
        skewness: of the replicates, positive towards the bound. Only outwards: on the other side a sample shows too
            little of its skewness.
    """
    # The square is not in Johnson 1978; with it, bounds for failures that occurred once or twice are near the exact
    # ones of the Poisson distribution.
    skewness = np.maximum(np.asarray(skewness, dtype=np.float64), 0.0)
    return np.asarray(quantile + skewness * (2 * quantile**2 + 1) / 6 + skewness**2)


def pareto_front(values: FloatArray, higher_is_better: Sequence[bool]) -> NDArray[np.bool_]:
    """Return which models are not dominated by another that is at least as good in everything and better in something.

    Models are compared on the criteria known for the first one, and are dominated only by models with values for all of
    these. So a model without a price is compared by quality and speed alone, and dominates none that has one. Of two
    equal models both stay.

    Args:
        values: (m, criteria); NaN where unknown.
        higher_is_better: one per criterion.

    Returns:
        (m,) booleans; False for a model without any value.

    Raises:
        InvalidInputError: `higher_is_better` does not have one value per criterion.

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
    # A comparison with NaN is False: a dominating model that lacks a value is not as good there.
    as_good = (upward[:, None] >= upward) | ~known
    better = upward[:, None] > upward
    dominated = (as_good.all(axis=2) & better.any(axis=2)).any(axis=0)
    return np.asarray(~dominated & known.any(axis=1))
