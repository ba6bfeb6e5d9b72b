"""Gates: whether a value is shown to keep a limit, shown to break it, or neither; and how many examples that takes.

Not statsmodels' tost_paired or scipy's binomtest alone: neither has the third outcome, the sample size that would
decide, nor bounds for skewed scores and scores that are not means.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.noninferiority import allowance, outwards
from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.skewness import skewness_of

Outcome = Literal["passed", "failed", "undecided"]
# Where the search for the number of examples stops.
_MOST = 100_000_000
# Probability that the number of examples, once reached, decides.
_POWER = 0.8


@dataclass(frozen=True)
class Decision:
    """Whether one value keeps a limit.

    Attributes:
        outcome: "passed" if the value is shown to keep the limit, "failed" if it is shown to break it.
        value: the estimate.
        low, high: one-sided bounds. The one on the side of the limit decides whether the value passes, the other one
            whether it fails. NaN with fewer than two examples.
        limit: the limit.
        n: number of independent units: examples, or groups of them.
        further: how many further units decide with a probability of 80%, if the value and its spread stay as they are;
            0 if it is decided, None if no number within reason does.
    """

    outcome: Outcome
    value: float
    low: float
    high: float
    limit: float
    n: int
    further: int | None = 0


def decide_mean(
    estimate: float,
    replicates: ArrayLike,
    *,
    limit: float,
    n: int,
    at_least: bool = True,
    span: float | None = None,
    confidence: float = 0.95,
    tests: int = 1,
) -> Decision:
    """Decide whether a mean, a difference of means, or another overall score keeps a limit.

    For non-inferiority, the estimate is the difference of two models and the limit is minus the margin. The bounds are
    those of :func:`~lumigator_nb.statistics.noninferiority.not_worse_than_best`: Student's t with the spread of the
    bootstrap, moved outwards where the replicates are skewed.

    Several limits that must all be kept need no correction for passing (intersection-union test: Berger 1982,
    Technometrics 24(4)). One broken limit is enough to fail, so the error of failing is divided by their number
    (Bonferroni): with probability `confidence`, nothing that keeps all limits fails.

    Args:
        estimate: the overall score, or the difference.
        replicates: (r,) the same on resampled examples.
        limit: the limit, in units of the score.
        n: number of examples, or of groups where groups were drawn.
        at_least: whether the limit is a minimum; False for a maximum.
        span: how far an unseen example may lie from the others on the wrong side, at most: 1 for scores from 0 to 1,
            and for differences of such scores. A value that never varied in n examples may still vary with the largest
            probability that leaves n examples without it. If omitted, it counts as known exactly.
        confidence: of passing and of failing, in (0.5, 1).
        tests: number of limits that are decided together.

    Raises:
        InvalidInputError: a setting is out of range.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6]], [[3], [2.9]], size=(2, 300))
        >>> candidate, baseline = lm.statistics.resampled_scores(scores)
        >>> difference = scores[0].mean() - scores[1].mean()
        >>> decision = lm.statistics.decide_mean(difference, candidate - baseline, limit=-0.08, n=300, span=1)
        >>> decision.outcome, round(decision.low, 3)
        ('passed', -0.068)
    """
    estimate, replicates = float(estimate), as_floats(replicates, "the replicates")
    pass_tail, fail_tail = _tails(confidence, tests)
    if not at_least:
        mirrored = decide_mean(-estimate, -replicates, limit=-limit, n=n, span=span, confidence=confidence, tests=tests)
        return replace(mirrored, value=estimate, low=-mirrored.high, high=-mirrored.low, limit=limit)
    if n < 2 or math.isnan(estimate):
        return Decision("undecided", estimate, math.nan, math.nan, limit, n, None)
    low = estimate - _distance(-replicates, estimate, n, span, pass_tail)
    high = estimate + _distance(replicates, estimate, n, span, fail_tail)
    outcome: Outcome = "passed" if low >= limit else "failed" if high < limit else "undecided"
    if outcome != "undecided":
        return Decision(outcome, estimate, low, high, limit, n)
    side, tail = (-1, pass_tail) if estimate > limit else (1, fail_tail)
    needed = _examples_for_mean(side * replicates, abs(estimate - limit), n, span, tail)
    return Decision(outcome, estimate, low, high, limit, n, None if needed is None else max(1, needed - n))


def _tails(confidence: float, tests: int) -> tuple[float, float]:
    """Return the errors of passing and of failing wrongly."""
    if not 0.5 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "give a number between 0.5 and 1, such as 0.95")
    if tests < 1:
        raise InvalidInputError(f"{tests} tests", "give the number of limits, 1 or more")
    return 1 - confidence, (1 - confidence) / tests


def _distance(replicates: FloatArray, estimate: float, n: int, span: float | None, tail: float) -> float:
    """Return how far the true value may lie above the estimate, with the error `tail`."""
    from scipy.special import stdtrit

    quantile = float(stdtrit(n - 1, 1 - tail)) * math.sqrt(n / (n - 1))
    unseen = 0.0 if span is None else span * (1 - tail ** (1 / n))
    scale = np.array([max(abs(estimate), 1e-300, span or 0.0)])
    return float(allowance(replicates[None, :], scale, quantile, unseen)[0])


def _examples_for_mean(replicates: FloatArray, gap: float, n: int, span: float | None, tail: float) -> int | None:
    """Return how many examples show the gap with a probability of 80%, or None if `_MOST` do not.

    Args:
        replicates: (r,) of n examples, with the sign that makes the bound in question the upper one.
        gap: from the estimate to the limit.
        n, span, tail: as of :func:`decide_mean`.
    """
    from scipy.special import ndtri, stdtrit

    spread, skewness = float(np.std(replicates)), float(skewness_of(replicates))
    luck = float(ndtri(_POWER))

    def decides(size: int) -> bool:
        if spread == 0:
            return span is None or span * (1 - tail ** (1 / size)) <= gap
        # The spread of a mean falls with the root of the number of examples, and so does its skewness.
        shrink = math.sqrt(n / size)
        quantile = float(stdtrit(size - 1, 1 - tail)) * math.sqrt(size / (size - 1))
        return float(outwards(quantile, skewness * shrink) + luck) * spread * shrink <= gap

    return _smallest(decides, max(n, 1)) if gap > 0 else None


def _smallest(suffices: Callable[[int], bool], start: int) -> int | None:
    """Return the smallest number above `start` that suffices, by bisection; None if `_MOST` do not."""
    low, high = start, start + 1
    while not suffices(high):
        if high >= _MOST:
            return None
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def decide_share(
    successes: int, n: int, *, limit: float, at_least: bool = True, confidence: float = 0.95, tests: int = 1
) -> Decision:
    """Decide whether a share, such as that of valid JSON, keeps a limit.

    By the exact bounds of the binomial distribution (Clopper and Pearson 1934, Biometrika 26(4)), whose errors are
    never above those stated. Wilson's interval is too short on one side near 0 and 1, where such limits lie: 268
    successes of 268 would pass a limit of 0.99, which 6.8% of all samples with a true share of 0.99 show. Exactly, it
    takes 299.

    Args:
        successes: number of successes.
        n: number of independent examples.
        limit: the limit, in [0, 1].
        at_least, confidence, tests: as of :func:`decide_mean`.

    Raises:
        InvalidInputError: a number is out of range.

    Examples:
        >>> lm.statistics.decide_share(298, 298, limit=0.99).outcome
        'undecided'
        >>> lm.statistics.decide_share(299, 299, limit=0.99).outcome
        'passed'
        >>> lm.statistics.decide_share(200, 200, limit=0.99).further
        99
    """
    from scipy.special import betaincinv

    pass_tail, fail_tail = _tails(confidence, tests)
    if not 0 <= successes <= n:
        raise InvalidInputError(f"{successes} successes of {n} examples", "give a number from 0 to n")
    if not 0 <= limit <= 1:
        raise InvalidInputError(f"a share cannot be {limit}", "give a limit from 0 to 1, such as 0.99")
    if not at_least:
        mirrored = decide_share(n - successes, n, limit=1 - limit, confidence=confidence, tests=tests)
        value = successes / n if n else math.nan
        return replace(mirrored, value=value, low=1 - mirrored.high, high=1 - mirrored.low, limit=limit)
    if n == 0:
        return Decision("undecided", math.nan, math.nan, math.nan, limit, n, None)
    low = float(betaincinv(successes, n - successes + 1, pass_tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - fail_tail)) if successes < n else 1.0
    share = successes / n
    outcome: Outcome = "passed" if low >= limit else "failed" if high < limit else "undecided"
    if outcome != "undecided":
        return Decision(outcome, share, low, high, limit, n)
    if share > limit:
        needed = _examples_for_share(share, limit, pass_tail)
    else:
        needed = _examples_for_share(1 - share, 1 - limit, fail_tail)
    return Decision(outcome, share, low, high, limit, n, None if needed is None else max(1, needed - n))


def _examples_for_share(share: float, limit: float, tail: float) -> int | None:
    """Return how many examples show a share above a limit, or None if `_MOST` do not."""
    from scipy.stats import binom

    def suffices(n: int) -> bool:
        # The smallest number of successes that as many examples with a share of `limit` reach in `tail` of all cases.
        critical = binom.isf(tail, n, limit) + 1
        return bool(binom.sf(critical - 1, n, share) >= _POWER)

    # The power of a test of counts goes up and down a little as n grows: the search finds one of the places where it
    # passes 80%.
    return _smallest(suffices, 0) if share > limit else None


def decide_quantile(
    values: ArrayLike,
    quantile: float,
    *,
    limit: float,
    at_least: bool = False,
    confidence: float = 0.95,
    tests: int = 1,
) -> Decision:
    """Decide whether a quantile, such as the latency within which 95% of answers come, keeps a limit.

    The 95% quantile is at most 2 s if at least 95% of the values are: the test is that of :func:`decide_share`, valid
    for any distribution. The bounds are order statistics (David and Nagaraja 2003, "Order Statistics", section 7.1).
    Values must be independent: latencies of one slow minute are not, and their bounds are too narrow.

    Args:
        values: (n,) values.
        quantile: which quantile, in (0, 1).
        limit: the limit, in units of the values.
        at_least: whether the limit is a minimum; by default it is a maximum.
        confidence, tests: as of :func:`decide_mean`.

    Raises:
        InvalidInputError: a setting is out of range, or a value is missing.

    Examples:
        >>> seconds = np.random.default_rng(0).gamma(4, 0.2, size=400)
        >>> decision = lm.statistics.decide_quantile(seconds, 0.95, limit=2)
        >>> decision.outcome, round(decision.value, 2), round(decision.high, 2)
        ('passed', 1.45, 1.62)
    """
    from scipy.stats import binom

    values = np.sort(as_floats(values, "the values"))
    if not 0 < quantile < 1:
        raise InvalidInputError(f"quantile cannot be {quantile}", "give a number between 0 and 1, such as 0.95")
    if not np.isfinite(values).all():
        raise InvalidInputError("a value is missing", "leave such examples out")
    if at_least:
        mirrored = decide_quantile(-values, 1 - quantile, limit=-limit, confidence=confidence, tests=tests)
        return replace(mirrored, value=-mirrored.value, low=-mirrored.high, high=-mirrored.low, limit=limit)
    n, (pass_tail, fail_tail) = len(values), _tails(confidence, tests)
    within = decide_share(int((values <= limit).sum()), n, limit=quantile, confidence=confidence, tests=tests)
    upper, lower = int(binom.isf(pass_tail, n, quantile)), int(binom.ppf(fail_tail, n, quantile)) - 1
    return replace(
        within,
        value=float(np.quantile(values, quantile)) if n else math.nan,
        low=float(values[lower]) if 0 <= lower < n else -math.inf,
        high=float(values[upper]) if upper < n else math.inf,
        limit=limit,
    )
