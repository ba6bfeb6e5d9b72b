"""Repeats: several answers of one model to each example; the spread between examples and between repeats apart.

Intervals resample examples, each with all its repeats, so that the mean over an example's repeats is its score, and
everything that works on one score per example works on repeats. Examples are independent, with or without repeats, and
the means vary by both sources already: σ² between examples plus τ² / k between k repeats. To draw repeats once more
within each example drawn (two-stage resampling) would add up to τ² (k - 1) / k² a second time, and cover too much where
τ² is large (Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8, strategies 1 and 2). To
take all answers for independent (pooling) covers too little. `benchmarks/coverage.py --only repeats` shows all three.

Not statsmodels' MixedLM, whose maximum likelihood assumes one normal spread of the repeats of all examples: those of
right and wrong answers differ, from 0 where a model is always right. Not scipy either, which has neither variance
components nor pass@k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.bootstrap import Bounds, Interval, bootstrap_interval
from lumigator_nb.statistics.resampling import FloatArray

# Relative to the scores: repeats that score alike may differ by rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class VarianceComponents:
    """How much a score varies between examples, and between repeats of one example.

    Attributes:
        mean: over examples, each with the mean over its repeats.
        between: standard deviation between examples, of the scores that infinitely many repeats would give.
        within: standard deviation between repeats of one example.
        n: number of examples with a score.
        repeats: mean number of repeats of an example.
        error: standard error of the mean.
        error_examples: the part of it that more examples alone reduce: between / √n.
        error_repeats: the part that more repeats reduce as well. The squares of both parts add up to that of `error`,
            unless chance makes the estimate of the first one negative, which then counts as 0.
    """

    mean: float
    between: float
    within: float
    n: int
    repeats: float
    error: float
    error_examples: float
    error_repeats: float

    @property
    def share_within(self) -> float:
        """The share of the variance of a single answer's score that repeats cause; NaN if no score varies."""
        total = self.between**2 + self.within**2
        return self.within**2 / total if total > 0 else math.nan


def mean_over_repeats(scores: ArrayLike, *, axis: int = -1) -> FloatArray:
    """Return the mean score of each example over its repeats, as far as they have a score.

    These means are what intervals, tests, ranks and races take as the scores of examples. Overall scores that are no
    means, such as corpus BLEU, take the mean of each example's sufficient statistics: the overall score is then that of
    all answers together.

    Args:
        scores: (…, n, k) scores of n examples with up to k repeats; NaN where a repeat has none.
        axis: of the repeats, such as -2 for (…, n, k, s) sufficient statistics.

    Returns:
        (…, n); NaN for an example without any score.

    Raises:
        InvalidInputError: there is no axis for both examples and repeats.

    Examples:
        >>> lm.statistics.mean_over_repeats([[1, 0], [1, 1], [0, np.nan]])
        array([0.5, 1. , 0. ])
    """
    table = _table(scores)
    counts = (~np.isnan(table)).sum(axis=axis)
    return np.asarray(np.nansum(table, axis=axis) / np.where(counts > 0, counts, np.nan), dtype=np.float64)


def repeated_interval(
    scores: ArrayLike,
    *,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    bounds: Bounds | None = None,
) -> Interval:
    """Return the mean over examples and repeats with its interval, which holds for new examples and new answers.

    Examples are resampled with all their repeats, by :func:`~lumigator_nb.statistics.bootstrap.bootstrap_interval` on
    the means of :func:`mean_over_repeats`. In simulations with 1, 3 and 10 repeats, and 10 to 90% of the variance
    between them, nominal 95% covered 93 to 97%. For the difference of two models, pass the means of both to
    :func:`~lumigator_nb.statistics.bootstrap.paired_difference`.

    Args:
        scores: (n, k), NaN where a repeat has no score; examples without any are left out.
        groups, confidence, n_resamples, seed, bounds: as in
            :func:`~lumigator_nb.statistics.bootstrap.bootstrap_interval`.

    Raises:
        InvalidInputError: `scores` does not have two axes, or a setting is out of range.

    Examples:
        >>> chances = np.random.default_rng(0).beta(2, 1, size=(100, 1))
        >>> right = np.random.default_rng(1).random((100, 5)) < chances
        >>> interval = lm.statistics.repeated_interval(right)
        >>> print(f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
        0.64 [0.57, 0.70]
    """
    return bootstrap_interval(
        mean_over_repeats(_one_model(scores)),
        groups=groups, confidence=confidence, n_resamples=n_resamples, seed=seed, nan="omit", bounds=bounds,
    )  # fmt: skip


def variance_components(scores: ArrayLike, others: ArrayLike | None = None) -> VarianceComponents:
    """Return how much scores, or differences of two models' scores, vary between examples and between repeats.

    By the law of total variance: the variance of the examples' means is that between examples, plus the mean variance
    of those means around their own expectation, τ² / k, which the spread of an example's repeats estimates. Both are
    unbiased whatever the distribution, with different spreads and numbers of repeats. Source: Searle, Casella and
    McCulloch 1992, "Variance Components", section 3.6, as a method of moments with equal weights for examples; for
    language models Miller 2024, "Adding Error Bars to Evals" (https://arxiv.org/abs/2411.00640), section 3.

    Args:
        scores: (n, k) scores of n examples with up to k repeats; NaN where a repeat has none. Examples with one repeat
            count as if they spread like the others.
        others: (n, l) scores of another model on the same examples; the result is then about `scores` less `others`.
            Repeats of two models are not paired: each draws its own answers.

    Returns:
        All but the mean is NaN with fewer than two examples; `between`, `within` and the parts of the error are NaN if
        no example has two repeats.

    Raises:
        InvalidInputError: an array does not have two axes, the two differ in their examples, or no example has a score.

    Examples:
        >>> chances = np.random.default_rng(0).beta(2, 1, size=(100, 1))
        >>> right = np.random.default_rng(1).random((100, 5)) < chances
        >>> found = lm.statistics.variance_components(right)
        >>> round(found.between, 2), round(found.within, 2), round(found.share_within, 2)
        (0.25, 0.41, 0.72)
    """
    tables = [_one_model(table) for table in ([scores] if others is None else [scores, others])]
    if len(tables[0]) != len(tables[-1]):
        raise InvalidInputError(
            f"scores of {len(tables[0])} and {len(tables[-1])} examples are not paired", "score the same examples"
        )
    scored = np.logical_and.reduce([~np.isnan(table).all(axis=1) for table in tables])
    if not scored.any():
        raise InvalidInputError("no example has a score", "give one row per example, one column per repeat")
    tables = [table[scored] for table in tables]
    means = mean_over_repeats(tables[0]) - (mean_over_repeats(tables[1]) if others is not None else 0.0)
    n = len(means)
    spreads = [_within(table) for table in tables]
    within = sum(variance for variance, _ in spreads)
    variance = float(np.var(means, ddof=1)) if n > 1 else math.nan
    # The mean variance of an example's mean over its repeats, between which nothing else differs.
    noise = sum(variance_of_means for _, variance_of_means in spreads) if n > 1 else math.nan
    between = max(0.0, variance - noise) if not math.isnan(noise) else math.nan
    return VarianceComponents(
        mean=float(means.mean()),
        between=math.sqrt(between),
        within=math.sqrt(within) if n > 1 else math.nan,
        n=n,
        repeats=float(np.mean([np.mean((~np.isnan(table)).sum(axis=1)) for table in tables])),
        error=math.sqrt(variance / n),
        error_examples=math.sqrt(between / n),
        error_repeats=math.sqrt(noise / n),
    )


def _within(table: FloatArray) -> tuple[float, float]:
    """Return the mean variance of a repeat, and of an example's mean over its repeats, from (n, k) scores."""
    counts = (~np.isnan(table)).sum(axis=1)
    several = counts > 1
    if not several.any():
        return math.nan, math.nan
    variances = np.nanvar(table[several], axis=1, ddof=1)
    within = float(variances.mean())
    # One repeat shows no spread: it is taken to be that of the other examples.
    of_means = np.full(len(table), within)
    of_means[several] = variances / counts[several]
    return within, float(of_means.mean())


def pass_at_k(scores: ArrayLike, k: int, *, threshold: float | None = None) -> FloatArray:
    """Return, for each example, the probability that at least one of k answers passes.

    pass@k = 1 - C(r - c, k) / C(r, k) with c of r repeats that pass: unbiased, where 1 - (1 - c / r)^k is too low. The
    mean over examples is the model's pass@k; for its interval, pass the result on to
    :func:`~lumigator_nb.statistics.bootstrap.bootstrap_interval`. Source: Chen et al. 2021, "Evaluating Large Language
    Models Trained on Code" (https://arxiv.org/abs/2107.03374), equation 1.

    Args:
        scores: (…, n, r) 0 or 1 (or booleans) for each repeat; any numbers with `threshold`. NaN does not count.
        k: number of answers, from 1 to r.
        threshold: the least score that passes.

    Returns:
        (…, n); NaN for examples with fewer than k repeats.

    Raises:
        InvalidInputError: k is out of range, or without `threshold` a score is neither 0 nor 1.

    Examples:
        >>> lm.statistics.pass_at_k([[1, 0, 0], [1, 1, 1], [0, 0, 0]], k=2).round(3)
        array([0.667, 1.   , 0.   ])
    """
    passed, counts = _passed(scores, k, threshold)
    return 1 - _all_from(counts - passed, counts, k)


def pass_hat_k(scores: ArrayLike, k: int, *, threshold: float | None = None) -> FloatArray:
    """Return, for each example, the probability that all of k answers pass: pass^k, how reliable a model is.

    C(c, k) / C(r, k) with c of r repeats that pass. Source: Yao, Shinn, Razavi and Narasimhan 2024, "τ-bench"
    (https://arxiv.org/abs/2406.12045), section 3. Arguments, result and errors as in :func:`pass_at_k`.

    Examples:
        >>> lm.statistics.pass_hat_k([[1, 1, 0], [1, 1, 1], [0, 0, 0]], k=2).round(3)
        array([0.333, 1.   , 0.   ])
    """
    passed, counts = _passed(scores, k, threshold)
    return _all_from(passed, counts, k)


def _passed(scores: ArrayLike, k: int, threshold: float | None) -> tuple[FloatArray, FloatArray]:
    """Return (…, n) numbers of repeats that pass, and of repeats."""
    table = _table(scores)
    if not 1 <= k <= table.shape[-1]:
        raise InvalidInputError(
            f"k cannot be {k} with {table.shape[-1]} repeats", f"use 1 to {table.shape[-1]}, or repeat more often"
        )
    known = ~np.isnan(table)
    if threshold is None and not np.isin(table[known], (0.0, 1.0)).all():
        raise InvalidInputError("scores other than 0 and 1 neither pass nor fail", "give the least score that passes")
    passed = known & (table >= (1.0 if threshold is None else threshold))
    return passed.sum(axis=-1).astype(np.float64), known.sum(axis=-1).astype(np.float64)


def _all_from(part: FloatArray, whole: FloatArray, k: int) -> FloatArray:
    """Return C(part, k) / C(whole, k): the probability that k drawn from the whole are all from the part."""
    # As a product: binomial coefficients of thousands of repeats overflow.
    chance = np.where(whole >= k, 1.0, np.nan)
    for drawn in range(k):
        chance *= np.maximum(part - drawn, 0) / np.where(whole >= k, whole - drawn, 1)
    return chance


@dataclass(frozen=True, eq=False)
class Instability:
    """On which examples the repeats of a model do not score alike.

    Attributes:
        spread: (n,) the largest difference between two repeats of an example; NaN with fewer than two.
        rows: positions of the unstable examples, those with the largest spread first.
        share: of unstable examples among those with two repeats or more, with Wilson's interval. More repeats find
            more of them.
        disagreement: probability that two answers to one example do not score alike. It does not depend on the number
            of repeats.
    """

    spread: FloatArray
    rows: NDArray[np.int64]
    share: Interval
    disagreement: float


def instability(scores: ArrayLike, *, tolerance: float = 0.0, confidence: float = 0.95) -> Instability:
    """Return on which examples, and how often, repeats of one model do not score alike.

    Args:
        scores: (n, k), NaN where a repeat has no score.
        tolerance: the largest difference between two repeats that still counts as alike, in units of the score.
        confidence: of the share's interval.

    Returns:
        Share and disagreement are NaN if no example has two repeats.

    Raises:
        InvalidInputError: `scores` does not have two axes, or a setting is out of range.

    Examples:
        >>> found = lm.statistics.instability([[1, 1, 1], [0, 1, 1], [0, 0, 0], [0.5, 0.5, np.nan]])
        >>> found.rows.tolist(), found.share.estimate, round(found.disagreement, 2)
        ([1], 0.25, 0.17)
    """
    table = _one_model(scores)
    if not tolerance >= 0:
        raise InvalidInputError(f"tolerance cannot be {tolerance}", "give 0 or more, in units of the score")
    counts = (~np.isnan(table)).sum(axis=1)
    several = counts > 1
    limit = tolerance + _ROUNDING * float(np.nanmax(np.abs(table), initial=0.0))
    spread = np.full(len(table), np.nan)
    spread[several] = np.nanmax(table[several], axis=1) - np.nanmin(table[several], axis=1)
    differ = np.zeros(len(table))
    for shift in range(1, table.shape[1]):  # each pair of repeats once; a comparison with NaN is False
        differ += (np.abs(table[:, shift:] - table[:, :-shift]) > limit).sum(axis=1)
    pairs = counts * (counts - 1) / 2
    order = np.argsort(-np.nan_to_num(spread), kind="stable")
    return Instability(
        spread=spread,
        rows=order[np.nan_to_num(spread)[order] > limit],
        share=bootstrap_interval(spread[several] > limit, confidence=confidence, bounds=(0, 1)),
        disagreement=float(np.mean(differ[several] / pairs[several])) if several.any() else math.nan,
    )


def _table(scores: ArrayLike) -> FloatArray:
    table = as_floats(scores)
    if table.ndim < 2 or not table.shape[-1]:
        raise InvalidInputError(f"scores of shape {table.shape} have no repeats", "give (examples, repeats)")
    return table


def _one_model(scores: ArrayLike) -> FloatArray:
    """Return (n, k) scores of one model."""
    table = _table(scores)
    if table.ndim != 2:
        raise InvalidInputError(f"scores of shape {table.shape} are not those of one model", "give (examples, repeats)")
    return table
