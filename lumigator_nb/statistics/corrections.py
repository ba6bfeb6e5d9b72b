"""P-values adjusted for the number of tests: Holm, and Romano-Wolf from joint bootstrap replicates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.skewness import skewness_of, unstretched

# Rounding errors: relative to the largest replicate (at least to 1), a smaller spread or estimate is 0.
_ROUNDING = 1e-12
# Statistics T that are closer than this tie: their rounding errors are far smaller, distinct T lie further apart.
_TIE = 1e-9


def holm(p_values: FloatArray) -> FloatArray:
    """Return p-values adjusted by Holm's step-down Bonferroni method.

    Rejecting p-values of at most α keeps the probability of any false rejection at α or less, however the tests depend
    on each other. Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6(2).

    Args:
        p_values: (h,) in [0, 1]; NaN stay NaN and do not count as tests.

    Raises:
        InvalidInputError: `p_values` does not have one axis, or a value lies outside [0, 1].

    Examples:
        >>> lm.statistics.holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1:
        raise InvalidInputError(f"p-values of shape {p_values.shape} are not a list", "give one per hypothesis")
    tests = np.flatnonzero(~np.isnan(p_values))
    outside = tests[(p_values[tests] < 0) | (p_values[tests] > 1)]
    if outside.size:
        at = outside[0]
        raise InvalidInputError(f"p-value {at} is {p_values[at]}", "p-values lie between 0 and 1")
    order = tests[np.argsort(p_values[tests], kind="stable")]
    adjusted = np.full(len(p_values), np.nan)
    # The smallest p-value times the number of tests, the next times one less, …; never below the one before.
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def romano_wolf(
    estimates: FloatArray,
    replicates: FloatArray,
    *,
    n: int | NDArray[np.int64] | None = None,
    rank: int | None = None,
) -> FloatArray:
    """Return two-sided p-values of "the estimate is zero", adjusted for testing all hypotheses at once.

    Step-down max-|T|: each estimate is divided by the standard deviation of its replicates. This |T| is compared, in
    each resample, with the largest |T| among the hypotheses whose evidence is not stronger. Hypotheses that depend on
    each other, such as all pairs of models on several metrics, thus lose less power than under Holm. Sources: Romano
    and Wolf 2005, "Exact and approximate stepdown methods for multiple hypothesis testing", JASA 100(469); Romano and
    Wolf 2016, "Efficient computation of adjusted p-values for resampling-based stepdown multiple testing", Statistics &
    Probability Letters 113.

    A standard deviation estimated from n examples is sometimes too small, which bootstrap replicates do not show, and
    the largest of many T is likely to be one of these. With `n`, T·sqrt((n - 1)/n) is therefore taken as Student's t
    and replaced by the normal quantile of the same tail. t has n - d degrees of freedom as in Scheffé's bound for all
    combinations of d means (Scheffé 1953, "A method for judging all contrasts in the analysis of variance", Biometrika
    40), d being the rank of the replicates. Beyond n/4 that bound is far too cautious for so few combinations, so d is
    at most n/4. No p-value is below that of n random signs, 2^(1 - n). In simulations of five models on three metrics,
    the probability of any false rejection at 5 % was then at most 5.5 % from n = 20 on.

    Where replicates are skewed towards zero, T first moves towards zero
    (:func:`~lumigator_nb.statistics.skewness.unstretched`). Otherwise models of equal means but different shapes are
    called different too often. In simulations of ten models at n = 50, this lowered false rejections from 12 % to 7 %
    where half of the models are exponential and half mirrored, and from 16 % to 10 % where one is lognormal with sigma
    1.5. :func:`~lumigator_nb.statistics.skewness.examples_for_skewness` says how many examples remove the rest.

    Args:
        estimates: (h,) observed values, such as differences between models.
        replicates: (h, R) bootstrap replicates of the estimates; column r comes from one draw of examples, the same
            for all hypotheses. They are centred at their mean.
        n: number of examples, or of groups where whole groups were drawn; one number, or (h,). None skips the
            correction for few examples.
        rank: of the replicates about their means, if the caller knows it: it takes long to compute for thousands of
            hypotheses.

    Returns:
        (h,) p-values of at least 1 / (R + 1). Where replicates do not vary, the p-value of an estimate of zero is 1,
        and of any other the smallest possible. NaN where an estimate or a replicate is NaN or infinite, or n is below
        2; such hypotheses do not count as tests.

    Raises:
        InvalidInputError: shapes do not match, or there are no replicates.

    Examples:
        >>> scores = np.random.default_rng(0).normal([[0.5], [0.0]], 1, size=(2, 100))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> lm.statistics.romano_wolf(scores.mean(axis=1), replicates, n=100).round(3)
        array([0.   , 0.598])
    """
    from scipy.special import ndtri, stdtr

    estimates, replicates = np.asarray(estimates, dtype=np.float64), np.asarray(replicates, dtype=np.float64)
    if estimates.ndim != 1 or replicates.ndim != 2 or len(replicates) != len(estimates):
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} for estimates of shape {estimates.shape}",
            "give one row of replicates per estimate",
        )
    if not replicates.shape[1]:
        raise InvalidInputError("there are no replicates", "draw at least once; 2000 is usual")
    if n is not None and np.shape(n) not in ((), estimates.shape):
        raise InvalidInputError(f"n of shape {np.shape(n)} for {len(estimates)} estimates", "give one n, or one each")
    valid = np.isfinite(estimates) & np.isfinite(replicates).all(axis=1)
    if n is not None:
        valid &= np.broadcast_to(n, estimates.shape) >= 2
    observed, draws = _studentised(estimates[valid], replicates[valid])
    adjusted = np.full(len(estimates), np.nan)
    if n is None:
        adjusted[valid] = _step_down(observed, draws)
        return adjusted
    if not valid.any():
        return adjusted
    examples = np.broadcast_to(np.asarray(n, dtype=np.float64), estimates.shape)[valid]
    # |T| divides by the bootstrap's standard deviation, t by the slightly larger one with n - 1.
    t = unstretched(observed * np.sqrt((examples - 1) / examples), -np.sign(estimates[valid]) * skewness_of(draws))
    # An adjusted p-value is at least the one of this test alone.
    least = np.maximum(np.maximum(2 * stdtr(examples - 1, -t), 0.5 ** (examples - 1)), 1 / (draws.shape[1] + 1))
    rank = _rank(draws) if rank is None else rank
    if rank <= 1:  # one hypothesis, or copies of it: no correction
        adjusted[valid] = least
        return adjusted
    freedom = examples - np.clip(rank, 1, np.maximum(examples / 4, 1))
    normal = -ndtri(np.maximum(stdtr(freedom, -t), 0.5**examples))
    adjusted[valid] = np.maximum(_step_down(normal, draws), least)
    return adjusted


def _studentised(estimates: FloatArray, replicates: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (h,) |T| and (h, R) replicates of T. Without spread, replicates are 0 and |T| is 0 or infinite."""
    draws = replicates - replicates.mean(axis=1, keepdims=True)
    # einsum makes no copy of the squares: the replicates of all pairs of a hundred models take 80 MB.
    spread = np.sqrt(np.einsum("hr,hr->h", draws, draws) / draws.shape[1])
    largest = np.maximum(replicates.max(axis=1, initial=0), -replicates.min(axis=1, initial=0))
    rounding = _ROUNDING * np.maximum(1, largest)
    constant = spread <= rounding
    draws /= np.where(constant, np.inf, spread)[:, None]
    certain = np.where(np.abs(estimates) > rounding, np.inf, 0.0)
    return np.where(constant, certain, np.abs(estimates) / np.where(constant, 1, spread)), draws


def replicates_rank(replicates: FloatArray) -> int:
    """Return the rank of (h, R) finite replicates about their means: the number of linearly independent ones."""
    return _rank(_studentised(np.zeros(len(replicates)), replicates)[1]) if len(replicates) else 0


def _rank(draws: FloatArray) -> int:
    # From the (h, h) product: R is usually far larger than h.
    return int(np.linalg.matrix_rank(draws @ draws.T, rtol=_TIE, hermitian=True))


def _step_down(observed: FloatArray, draws: FloatArray) -> FloatArray:
    """Return (h,) adjusted p-values from (h,) |T| and (h, R) replicates of T (Romano and Wolf 2016)."""
    order = np.argsort(observed)
    # Row i: in each resample, the largest |T| among the hypotheses with evidence up to that of the i-th.
    largest = draws[order]
    np.maximum.accumulate(np.abs(largest, out=largest), axis=0, out=largest)
    # + 1: the sample itself counts as one of the resamples, so that no p-value is 0.
    extreme = np.count_nonzero(largest >= observed[order, None] - _TIE, axis=1)
    p_values = (extreme + 1) / (draws.shape[1] + 1)
    # A hypothesis with weaker evidence never gets a smaller p-value than one with stronger evidence.
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate(p_values[::-1])[::-1]
    return adjusted
