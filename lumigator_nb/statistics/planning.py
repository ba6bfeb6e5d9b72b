"""Power analysis: how many examples a comparison needs, and which differences the available ones can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.repeats import VarianceComponents, mean_over_repeats, variance_components
from lumigator_nb.statistics.resampling import FloatArray

FEW_IN_PILOT = 20
# Below, a kurtosis estimated from the pilot is too noisy for Bonett's interval; the normal one is used instead.
_FEW_FOR_KURTOSIS = 10
# Where the search for the number of examples stops: no data set is larger, and it avoids endless loops.
_MOST = 100_000_000
# Error of each side of the 95% interval of a standard deviation.
_TAIL = 0.025
# Plans for repeats consider up to this many answers per example.
_MOST_REPEATS = 10


@dataclass(frozen=True)
class RepeatOption:
    """How many examples it takes with a number of repeats, and what they cost.

    Attributes:
        repeats: answers of each model to each example.
        examples: number of examples needed, at most 100 million.
        cost: of all examples and answers, in answers of each model to one example.
    """

    repeats: int
    examples: int
    cost: float


@dataclass(frozen=True)
class RepeatPlan:
    """Whether to spend on more examples or on more repeats, in order to detect a difference.

    Attributes:
        between: standard deviation of the paired differences between examples, which repeats do not reduce.
        within: standard deviation of the difference of two single answers to one example; k repeats divide its square
            by k.
        options: by number of repeats, from 1.
        cheapest: the option that costs least, of those for which there are enough examples; None if there are too few
            for all of them.
        spend_on: what to buy next: "repeats" where the cheapest option has more of them than the pilot, else
            "examples".
        n_available: number of available examples, or None if unknown.
    """

    between: float
    within: float
    options: tuple[RepeatOption, ...]
    cheapest: RepeatOption | None
    spend_on: Literal["examples", "repeats"]
    n_available: int | None = None

    def __str__(self) -> str:
        total = self.between**2 + self.within**2
        if not total > 0:
            return "All answers of the pilot score alike, which tells nothing about repeats."
        sentences = [
            f"Of the variance of a difference, {self.within**2 / total:.0%} lies between repeats of one example, "
            f"and {self.between**2 / total:.0%} between examples."
        ]
        if self.cheapest is None:
            most = self.options[-1]
            sentences.append(
                f"Spend on examples: {self.n_available:,} are too few, whatever the repeats (with {most.repeats} it "
                f"takes {most.examples:,})."
            )
            return " ".join(sentences)
        once = self.options[0]
        sentences.append(f"Spend on {self.spend_on}: {_phrase(self.cheapest)} cost least.")
        if self.cheapest is not once:
            sentences.append(f"With one answer each it takes {once.examples:,} examples.")
        elif len(self.options) > 2:
            sentences.append(f"It would take {_phrase(self.options[2])}.")
        return " ".join(sentences)


def _phrase(option: RepeatOption) -> str:
    answers = "1 answer" if option.repeats == 1 else f"{option.repeats} answers"
    return f"{option.examples:,} examples with {answers} of each model"


@dataclass(frozen=True)
class Plan:
    """How many examples it takes to detect a difference between models that answer the same examples.

    Attributes:
        detect: the difference, in units of the score.
        power: probability of detecting it where it exists.
        confidence: of the comparison, for all pairs of models at once.
        comparisons: number of pairs of models.
        sd: standard deviation of the paired differences, of the pair that needs most examples. `sd_low` and `sd_high`
            are its 95% interval from the pilot; both equal it where `sd` was passed.
        needed: number of examples. `needed_low` and `needed_high` are those for the bounds of `sd`, at most 100
            million.
        n_pilot: number of examples in the pilot; None where `sd` was passed.
        n_available: number of available examples, or None if unknown.
        detectable: the smallest difference that `n_available` examples can show with this power, or None.
        power_available: the probability that they show `detect`, or None.
        detectable_pilot: the smallest difference that the pilot itself can show with this power; None without a pilot.
        repeats: whether to spend on examples or on repeats; None unless the pilot has repeats. The other attributes
            are about as many repeats as the pilot has.
    """

    detect: float
    power: float
    confidence: float
    comparisons: int
    sd: float
    sd_low: float
    sd_high: float
    needed: int
    needed_low: int
    needed_high: int
    n_pilot: int | None = None
    n_available: int | None = None
    detectable: float | None = None
    power_available: float | None = None
    detectable_pilot: float | None = None
    repeats: RepeatPlan | None = None

    def __str__(self) -> str:
        if self.sd == 0 and self.n_pilot is not None:
            if self.sd_high == 0:
                return "All scores of the pilot are the same, which tells nothing about their spread."
            return (
                f"The models differ by the same amount on all {self.n_pilot:,} examples of the pilot, which tells "
                f"little about their spread: a difference of {self.detect:g} takes up to {self.needed_high:,} examples."
                " Take a larger pilot."
            )
        sentences = [f"It takes {self.needed:,} examples"]
        if self.n_pilot is not None:
            sentences[0] += f" ({self.needed_low:,} to {self.needed_high:,}, as far as the pilot tells)"
        sentences[0] += f" to detect a difference of {self.detect:g}"
        sentences[0] += f" with {self.power:.0%} power and {self.confidence:.0%} confidence"
        sentences[0] += f" for all {self.comparisons} pairs of models." if self.comparisons > 1 else "."
        if self.n_available is not None and self.detectable is not None and self.power_available is not None:
            enough = "enough" if self.n_available >= self.needed else "too few"
            sentences.append(
                f"{self.n_available:,} are available, which is {enough}: they show differences "
                f"from {self.detectable:.3g} on, and one of {self.detect:g} with {self.power_available:.0%} power."
            )
        if self.n_pilot is not None and self.n_pilot < FEW_IN_PILOT:
            sentences.append(f"A pilot of {self.n_pilot} examples tells little about their spread; take 20 to 50.")
        if self.repeats is not None:
            sentences.append(str(self.repeats))
        return " ".join(sentences)


def plan(
    pilot: ArrayLike | None = None,
    *,
    detect: float,
    sd: float | None = None,
    models: int = 2,
    power: float = 0.8,
    confidence: float = 0.95,
    n_available: int | None = None,
    example_cost: float = 0.0,
) -> Plan:
    """Return how many examples a comparison of models needs.

    The test planned for is a two-sided paired t-test of every pair, with Bonferroni's correction for the number of
    pairs. The pair with the largest spread of differences decides; among many pairs that is in part due to chance, so
    that a plan errs towards too many examples. The interval of that spread: Bonett 2006, "Approximate confidence
    interval for standard deviation of nonnormal distributions", Computational Statistics & Data Analysis 50(3), which
    allows for scores that are not normal, with the lower bound corrected for the choice among pairs. It holds for
    scores with bounds. Where a few extreme examples decide the mean, as in lognormal scores, a pilot rarely contains
    them, and the upper bound is too low in one case of five.

    Args:
        pilot: (models, n) scores of the same examples, at least 2, and 20 to 50 for a useful answer; or (models, n, k)
            with k repeats, NaN where one has no score, which :func:`plan_repeats` then weighs against examples. For an
            overall score that is not a mean, use :func:`~lumigator_nb.statistics.resampling.pseudo_values`.
        detect: the smallest difference that matters, in units of the score.
        sd: standard deviation of the paired differences, instead of a pilot.
        models: number of models to compare; needed with `sd` only.
        power: probability of detecting the difference where it exists, in (0, 1).
        confidence: of the comparison, in (0, 1).
        n_available: number of available examples.
        example_cost: as in :func:`plan_repeats`.

    Raises:
        InvalidInputError: not exactly one of `pilot` and `sd` is passed, the pilot is too small, or a setting is out of
            range.

    Examples:
        >>> plan = lm.plan(sd=0.18, detect=0.03, n_available=300)
        >>> plan.needed
        285
        >>> print(plan)
        It takes 285 examples to detect a difference of 0.03 with 80% power and 95% confidence. 300 are
        available, which is enough: they show differences from 0.0292 on, and one of 0.03 with 82% power.
    """
    if (pilot is None) == (sd is None):
        raise InvalidInputError(
            "a plan needs either a pilot or a standard deviation", "give scores of 20 to 50 examples, or sd="
        )
    repeats = None
    if pilot is not None:
        pilot = as_floats(pilot, "the pilot's scores")
        if pilot.ndim == 3:
            repeats = plan_repeats(
                pilot, detect=detect, power=power, confidence=confidence,
                n_available=n_available, example_cost=example_cost,
            )  # fmt: skip
            pilot = mean_over_repeats(pilot)
        if pilot.ndim != 2 or len(pilot) < 2 or pilot.shape[1] < 2:
            raise InvalidInputError(
                f"a pilot of shape {pilot.shape} shows no spread",
                "give (models, examples), at least two models and two examples",
            )
        if not np.isfinite(pilot).all():
            model, example = np.argwhere(~np.isfinite(pilot))[0]
            raise InvalidInputError(f"pilot, model {model}, example {example}: no score", "leave such examples out")
        models = len(pilot)
    pairs = math.comb(models, 2)
    spread, spread_low, spread_high = (float(sd or 0.0),) * 3 if pilot is None else _largest_spread(pilot)
    needed = examples_needed(spread, detect, power=power, confidence=confidence, comparisons=pairs)
    low, high = (_search(bound, detect, power, confidence, pairs) for bound in (spread_low, spread_high))
    detectable = partial(detectable_difference, spread, power=power, confidence=confidence, comparisons=pairs)
    # A t-test takes two examples.
    testable = n_available if n_available is not None and n_available >= 2 else None
    return Plan(
        detect=detect,
        power=power,
        confidence=confidence,
        comparisons=pairs,
        sd=spread,
        sd_low=spread_low,
        sd_high=spread_high,
        needed=needed,
        # The bounds are found separately from `needed`, and must contain it.
        needed_low=min(low, needed),
        needed_high=max(high, needed),
        n_pilot=None if pilot is None else pilot.shape[1],
        n_available=n_available,
        detectable=None if testable is None else detectable(testable),
        power_available=None if testable is None else _power(spread, testable, detect, confidence, pairs),
        detectable_pilot=None if pilot is None else detectable(pilot.shape[1]),
        repeats=repeats,
    )


def plan_repeats(
    pilot: ArrayLike,
    *,
    detect: float,
    power: float = 0.8,
    confidence: float = 0.95,
    n_available: int | None = None,
    example_cost: float = 0.0,
) -> RepeatPlan:
    """Return whether to spend on more examples or on more repeats, and how many examples each number of repeats needs.

    A paired difference varies by σ² between examples plus τ² / k between k repeats. Examples divide both by their
    number, repeats only the second; hence the best number of repeats is √(c τ² / σ²), where an example costs c times as
    much as an answer to it (Cochran 1977, "Sampling Techniques", section 10.6). Where examples cost nothing but their
    answers, one answer to a new example tells at least as much as another answer to an old one, so that repeats only
    help if examples run out.

    Args:
        pilot: (models, n, k) scores of at least two models, two examples and two repeats; NaN where a repeat has none.
        detect, power, confidence, n_available: as in :func:`plan`.
        example_cost: what one more example costs before any answer, such as writing its ground truth, in units of what
            one answer of each model to it costs.

    Raises:
        InvalidInputError: the pilot is too small, or a setting is out of range.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> pilot = rng.normal(0, 0.1, size=(2, 40, 1)) + rng.normal(0, 0.2, size=(2, 40, 3))
        >>> plan = lm.statistics.plan_repeats(pilot, detect=0.05, example_cost=10)
        >>> plan.spend_on, plan.cheapest.repeats
        ('repeats', 6)
    """
    table = as_floats(pilot, "the pilot's scores")
    if table.ndim != 3 or len(table) < 2 or table.shape[1] < 2 or table.shape[2] < 2:
        raise InvalidInputError(
            f"a pilot of shape {table.shape} shows no spread between repeats",
            "give (models, examples, repeats), at least two of each",
        )
    if not (example_cost >= 0 and math.isfinite(example_cost)):
        raise InvalidInputError(f"example_cost cannot be {example_cost}", "give 0 or more, in answers of each model")
    pairs = [variance_components(table[i], table[j]) for i, j in combinations(range(len(table)), 2)]
    if any(math.isnan(pair.within) for pair in pairs):
        raise InvalidInputError("a model has no example with two repeats", "repeat the pilot")
    options = []
    for repeats in range(1, _MOST_REPEATS + 1):
        sd = max(_sd(pair, repeats) for pair in pairs)
        examples = examples_needed(sd, detect, power=power, confidence=confidence, comparisons=len(pairs))
        options.append(RepeatOption(repeats, examples, float(examples * (example_cost + repeats))))
    enough = [option for option in options if n_available is None or option.examples <= n_available]
    cheapest = min(enough, key=lambda option: option.cost, default=None)
    widest = max(pairs, key=lambda pair: _sd(pair, 1))
    more_repeats = cheapest is not None and cheapest.repeats > widest.repeats
    return RepeatPlan(
        between=widest.between,
        within=widest.within,
        options=tuple(options),
        cheapest=cheapest,
        spend_on="repeats" if more_repeats else "examples",
        n_available=n_available,
    )


def _sd(pair: VarianceComponents, repeats: int) -> float:
    """Return the standard deviation of a paired difference of means over repeats."""
    return math.sqrt(pair.between**2 + pair.within**2 / repeats)


def examples_needed(
    sd: float, detect: float, *, power: float = 0.8, confidence: float = 0.95, comparisons: int = 1
) -> int:
    """Return how many examples a paired t-test needs to detect a difference.

    By the noncentral t distribution, which is exact for normal differences.

    Args:
        sd: standard deviation of the paired differences, 0 or more.
        detect: the difference, above 0.
        power: probability of detecting it, in (0, 1).
        confidence: of all tests together, in (0, 1).
        comparisons: number of tests; each gets an equal share of the error (Bonferroni).

    Returns:
        2 or more.

    Raises:
        InvalidInputError: a value is out of range, or more than 100 million examples are needed.

    Examples:
        >>> lm.statistics.examples_needed(sd=0.2, detect=0.05)
        128
        >>> lm.statistics.examples_needed(sd=0.2, detect=0.05, comparisons=10)
        217
    """
    _check(sd, power, confidence, comparisons)
    if not detect > 0:
        raise InvalidInputError(f"a difference of {detect} cannot be detected", "give one above 0, such as detect=0.02")
    needed = _search(sd, detect, power, confidence, comparisons)
    if needed >= _MOST:
        raise InvalidInputError(f"a difference of {detect} takes more than {_MOST:,} examples", "detect a larger one")
    return needed


def _search(sd: float, detect: float, power: float, confidence: float, comparisons: int) -> int:
    """Return the smallest number of examples with that power, by bisection; `_MOST` if that is not enough."""
    low, high = 1, 2
    # Power grows with the number of examples: double it until it is enough, then bisect.
    while _power(sd, high, detect, confidence, comparisons) < power:
        low, high = high, min(2 * high, _MOST)
        if low == _MOST:
            return _MOST
    while high - low > 1:
        middle = (low + high) // 2
        if _power(sd, middle, detect, confidence, comparisons) < power:
            low = middle
        else:
            high = middle
    return high


def detectable_difference(
    sd: float, n: int, *, power: float = 0.8, confidence: float = 0.95, comparisons: int = 1
) -> float:
    """Return the smallest difference that n examples can show; arguments and method as in :func:`examples_needed`.

    Raises:
        InvalidInputError: n is below 2, or a value is out of range.

    Examples:
        >>> round(lm.statistics.detectable_difference(sd=0.2, n=100), 3)
        0.057
    """
    from scipy.optimize import brentq

    _check(sd, power, confidence, comparisons)
    if n < 2:
        raise InvalidInputError(f"{n} examples cannot show a difference", "give at least 2")

    def surplus(sds: float) -> float:
        return _power(1.0, n, sds, confidence, comparisons) - power

    # Without any difference a test still rejects as often as its error allows, which may exceed a very low power.
    if sd == 0 or surplus(0.0) >= 0:
        return 0.0
    most = 1.0
    while surplus(most) < 0:
        most *= 2
    return float(sd * brentq(surplus, 0.0, most))


def _power(sd: float, n: int, detect: float, confidence: float, comparisons: int) -> float:
    """Return the probability that a two-sided paired t-test of n examples detects the difference.

    The probability of a significant difference of the wrong sign is left out.
    """
    from scipy.special import nctdtr, stdtrit

    if sd == 0:
        return 1.0
    critical = stdtrit(n - 1, 1 - (1 - confidence) / (2 * comparisons))
    missed = float(nctdtr(n - 1, min(detect / sd * math.sqrt(n), 1e3), critical))
    # nctdtr underflows to NaN in places (scipy 1.17) where the probability to miss the difference is below 1e-60.
    return 1.0 if math.isnan(missed) else 1 - missed


def _largest_spread(pilot: FloatArray) -> tuple[float, float, float]:
    """Return the largest standard deviation of a pair's differences, and its bounds, from a (models, n) pilot."""
    pairs = [pilot[i] - pilot[j] for i, j in combinations(range(len(pilot)), 2)]
    sds = [float(np.std(pair, ddof=1)) for pair in pairs]
    if max(sds) == 0:
        # The largest probability of a difference that leaves n examples without one, times the largest difference.
        share = 1 - _TAIL ** (1 / pilot.shape[1])
        return 0.0, 0.0, float(np.ptp(pilot) * math.sqrt(share))
    # Any pair may have the largest spread by chance, so all lower bounds must hold at once (Bonferroni). The upper
    # bound must hold only for the pair with the largest true spread.
    low = max(_bound(pair, sd, -_TAIL / len(pairs)) for pair, sd in zip(pairs, sds, strict=True))
    high = max(_bound(pair, sd, _TAIL) for pair, sd in zip(pairs, sds, strict=True))
    return max(sds), low, high


def _bound(values: FloatArray, sd: float, tail: float) -> float:
    """Return a bound of the standard deviation of (n,) values that fails with probability abs(tail): Bonett 2006.

    The upper bound for a positive `tail`, the lower one for a negative.
    """
    from scipy.special import chdtri, ndtri
    from scipy.stats import trim_mean

    n = len(values)
    if sd == 0:
        return 0.0
    if n < _FEW_FOR_KURTOSIS:  # the interval for normal values
        return sd * math.sqrt((n - 1) / chdtri(n - 1, 1 - tail if tail > 0 else -tail))
    z = float(-ndtri(abs(tail)))
    # In units of sd, since the fourth power of a tiny score underflows. About a trimmed mean, as Bonett advises.
    apart = (values - trim_mean(values, 1 / (2 * math.sqrt(n - 4)))) / sd
    kurtosis = n * float(np.sum(apart**4)) / (n - 1) ** 2
    widened = n / (n - z)
    half = z * widened * math.sqrt((kurtosis - (n - 3) / n) / (n - 1))
    return sd * math.sqrt(widened) * math.exp(math.copysign(half, tail) / 2)


def _check(sd: float, power: float, confidence: float, comparisons: int) -> None:
    for name, value in (("power", power), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InvalidInputError(f"{name} cannot be {value}", "give a number between 0 and 1, such as 0.8 or 0.95")
    if not (sd >= 0 and math.isfinite(sd)):
        raise InvalidInputError(f"a standard deviation cannot be {sd}", "give 0 or more, in units of the score")
    if comparisons < 1:
        raise InvalidInputError(f"{comparisons} comparisons", "give the number of pairs of models, 1 or more")
