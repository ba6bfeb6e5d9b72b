"""Gates: whether a candidate keeps a requirement, with the outcomes passed, failed and undecided.

A raw threshold ("the score is at least 0.8") passes half of all candidates that lie exactly on it, and changes its mind
from run to run. A gate passes where the data show that the requirement is kept, fails where they show that it is not,
and is undecided otherwise, with the number of further examples that would probably decide.

Not scipy or statsmodels: their one-sided tests of a mean know neither overall scores that are no means, nor groups,
nor what else it takes to hold for rare failures (see `noninferiority`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence, complete_rows
from lumigator_nb.statistics.resampling import FloatArray, group_codes, resampled_scores
from lumigator_nb.statistics.skewness import skewness_of, stretched

Outcome = Literal["passed", "failed", "undecided"]
Direction = Literal["at_least", "at_most"]

_AT_LEAST: Direction = "at_least"
_AT_MOST: Direction = "at_most"

# Relative to the scores: values that are equal but for rounding.
_ROUNDING = 1e-12
# Where the search for the number of examples stops.
_MOST = 100_000_000


@dataclass(frozen=True)
class GateResult:
    """Whether a requirement on a mean, or on a difference of overall scores, is kept.

    Attributes:
        outcome: "passed" where the bound on the side of the limit keeps the requirement, "failed" where the other one
            breaks it, else "undecided".
        estimate: the mean, or the candidate's overall score less the baseline's.
        low, high: its bounds, each of which holds with the confidence by itself (one-sided). NaN with fewer than two
            examples, which leaves the gate undecided.
        limit: the least or greatest value that keeps the requirement.
        direction: "at_least" or "at_most" the limit.
        n: number of examples, or of groups.
        further: number of examples, or groups, that would decide in addition with 80% probability if the estimate
            is true. 0 if it is decided; None if it takes more than 100 million or cannot be estimated.
    """

    outcome: Outcome
    estimate: float
    low: float
    high: float
    limit: float
    direction: Direction
    n: int
    further: int | None

    def __str__(self) -> str:
        need = f"{self.direction.replace('_', ' ')} {self.limit:g}"
        found = f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"
        if self.outcome != "undecided":
            return f"{self.outcome}: {found}, required {need}"
        more = "no number of further examples" if self.further is None else f"about {self.further:,} further examples"
        return f"undecided: {found}, required {need}; {more} would probably decide"


def gate_difference(
    estimates: ArrayLike,
    replicates: ArrayLike,
    *,
    margin: float,
    n: int,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    span: float | None = None,
    power: float = 0.8,
) -> GateResult:
    """Return whether a candidate is not worse than a baseline by the margin or more: non-inferiority.

    The bounds are those of :func:`~lumigator_nb.statistics.noninferiority.not_worse_than_best` for two models:
    Student's t with a correction for skewness, and an allowance for models that never differed. A candidate that is
    worse by exactly the margin passes in at most 5.5% of simulations, and fails in as many, from 50 examples on. To
    look again after further examples, pass the confidence of
    :func:`~lumigator_nb.statistics.monitoring.look_confidence`.

    Args:
        estimates: (2,) overall scores of the candidate and of the baseline.
        replicates: (2, r) of :func:`~lumigator_nb.statistics.resampling.resampled_scores` for both.
        margin: the least difference that matters, above 0, in units of the score.
        n: number of examples, or of groups where groups were drawn.
        higher_is_better: False where the lowest score is best.
        confidence: of each bound, in (0, 1).
        span: the largest possible difference on one example; if omitted, models that never differed count as equal.
        power: probability with which the further examples decide.

    Raises:
        InvalidInputError: shapes do not match, or a setting is out of range.

    Examples:
        >>> scores = np.random.default_rng(0).beta(6, 2, size=(2, 200))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> gate = lm.statistics.gate_difference(scores.mean(axis=1), replicates, margin=0.05, n=200)
        >>> gate.outcome
        'passed'
    """
    estimates, replicates = as_floats(estimates), as_floats(replicates)
    if estimates.shape != (2,) or replicates.ndim != 2 or len(replicates) != 2 or not replicates.shape[1]:
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} for scores of shape {estimates.shape}",
            "give those of the candidate and of the baseline",
        )
    if not margin > 0:
        raise InvalidInputError(f"margin cannot be {margin}", "give the least difference that matters, such as 0.02")
    if span is not None and not span > 0:
        raise InvalidInputError(f"span cannot be {span}", "give the largest possible difference, such as 1")
    estimate, scale = float(estimates[0] - estimates[1]), float(np.abs(replicates).max())
    bound = _bootstrapped(estimate, replicates[0] - replicates[1], n, scale, span)
    if higher_is_better:
        return _decide(bound, estimate, n, -margin, _AT_LEAST, confidence, power)
    return _decide(bound, estimate, n, margin, _AT_MOST, confidence, power)


def gate_mean(
    scores: ArrayLike,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
    n_resamples: int = 2000,
    seed: int = 0,
) -> GateResult:
    """Return whether the mean of scores, costs or the like is at least, or at most, a limit.

    Shares, such as means of scores that are 0 or 1, have exact bounds (Clopper and Pearson 1934, Biometrika 26(4)):
    300 valid answers of 300 show that 99% are valid, 200 do not. Others have those of :func:`gate_difference`. For a
    quantile ask about a share: that 95% take at most two seconds is ``gate_mean(seconds <= 2, at_least=0.95)``.

    Args:
        scores: (n,) without NaN.
        at_least, at_most: the limit; exactly one of both.
        groups: (n,) labels; examples of one group are not independent, and are drawn together.
        confidence, power: as in :func:`gate_difference`.
        n_resamples, seed: of the bootstrap.

    Raises:
        InvalidInputError: not exactly one limit is passed, a score is missing, or a setting is out of range.

    Examples:
        >>> print(lm.statistics.gate_mean([True] * 200, at_least=0.99))
        undecided: 1 [0.9851, 1], required at least 0.99; about 99 further examples would probably decide
    """
    values = as_floats(scores)
    if (at_least is None) == (at_most is None):
        raise InvalidInputError("a gate needs one limit", "give at_least= or at_most=")
    if values.ndim != 1 or not len(values):
        raise InvalidInputError(f"scores of shape {values.shape} are not one per example", "give (examples,)")
    complete_rows({"the scores": values}, "raise")
    direction = _AT_MOST if at_least is None else _AT_LEAST
    limit = float(at_least if at_least is not None else at_most or 0.0)
    mean, n = float(values.mean()), len(values)
    if groups is None and np.isin(values, (0.0, 1.0)).all():
        return _decide(_exact(int(values.sum()), n), mean, n, limit, direction, confidence, power)
    n_units = n if groups is None else int(group_codes(groups, n).max()) + 1
    draws = resampled_scores(values, groups=groups, n_resamples=n_resamples, seed=seed)
    bound = _bootstrapped(mean, draws, n_units, float(np.abs(draws).max()), None)
    return _decide(bound, mean, n_units, limit, direction, confidence, power)


# A one-sided bound for a number of examples. Arguments: -1 for the lower and 1 for the upper one; the number; the
# error; None for the estimate as it is, or the quantile at which an estimate from as many new examples would be.
_Bound = Callable[[int, int, float, float | None], float]


def _bootstrapped(estimate: float, draws: FloatArray, n: int, scale: float, span: float | None) -> _Bound:
    """Return the bounds of an estimate by its replicates, which are those of not_worse_than_best.

    Args:
        draws: (r,) replicates of n examples.
        scale: size of the scores; a spread that is tiny beside it is a rounding error.
        span: as in :func:`gate_difference`.
    """
    from scipy.special import ndtri, stdtrit

    spread, skewness = float(draws.std()), float(skewness_of(draws))
    constant = spread <= _ROUNDING * scale

    def bound(side: int, size: int, tail: float, luck: float | None) -> float:
        if size < 2:
            return math.nan
        if constant:
            # An event with this probability stays unseen in `size` examples with probability `tail`.
            return estimate + side * (0.0 if span is None else span * (1 - tail ** (1 / size)))
        # The spread of a mean falls with the root of the number of examples, and so does its skewness.
        error, skewed = spread * math.sqrt(n / size), max(0.0, side * skewness * math.sqrt(n / size))
        t = float(stdtrit(size - 1, 1 - tail)) * math.sqrt(size / (size - 1))
        shift = 0.0 if luck is None else float(ndtri(luck)) * error
        return estimate + shift + side * (stretched(t, skewed) + skewed**2) * error

    return bound


def _exact(successes: int, n: int) -> _Bound:
    """Return the bounds of a share by Clopper and Pearson 1934."""
    from scipy.special import betaincinv
    from scipy.stats import binom

    def bound(side: int, size: int, tail: float, luck: float | None) -> float:
        count = successes if luck is None else int(binom.ppf(luck, size, successes / n))
        if side < 0:
            return float(betaincinv(count, size - count + 1, tail)) if count else 0.0
        return float(betaincinv(count + 1, size - count, 1 - tail)) if count < size else 1.0

    return bound


def _decide(
    bound: _Bound, estimate: float, n: int, limit: float, direction: Direction, confidence: float, power: float
) -> GateResult:
    check_confidence(confidence)
    if not 0.5 <= power < 1:
        raise InvalidInputError(f"power cannot be {power}", "give 0.5 or more, below 1, such as 0.8")
    tail = 1 - confidence
    low, high = bound(-1, n, tail, None), bound(1, n, tail, None)
    outcome: Outcome = "undecided"
    if low > limit or high < limit:
        outcome = "passed" if (low > limit) == (direction == _AT_LEAST) else "failed"
    further: int | None = 0
    if outcome == "undecided":
        # What would decide is the bound between the estimate and the limit, of an estimate that has bad luck.
        side, luck = (-1, 1 - power) if estimate > limit else (1, power)
        further = _further(lambda size: side * (limit - bound(side, size, tail, luck)) > 0, n)
    return GateResult(outcome, estimate, low, high, limit, direction, n, further)


def _further(decides: Callable[[int], bool], n: int) -> int | None:
    """Return how many more than n it takes to decide, by bisection; None for more than 100 million."""
    low, high = n, max(2, n + 1)
    while not decides(high):
        if high >= _MOST:
            return None
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high - n
