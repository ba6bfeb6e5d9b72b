"""How many examples a comparison needs, and what the examples there are can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.resampling import FloatArray

FEW_IN_PILOT = 20
_FEW_FOR_KURTOSIS = 10
_MOST = 100_000_000
# Of the 95% interval of a standard deviation.
_TAIL = 0.025


@dataclass(frozen=True)
class Plan:
    """How many examples it takes to see a difference between models that answer the same ones.

    Attributes:
        detect: the difference, in units of the score.
        power: chance of seeing it where it is there.
        confidence: of the comparison, for all pairs of models at once.
        comparisons: pairs of models.
        sd: standard deviation of the paired differences, of the pair that needs most examples; `sd_low` and `sd_high`
            bound what it may be as far as the pilot tells (95%), and equal it where it was stated.
        needed: examples; `needed_low` and `needed_high` for the bounds of `sd`, 100 million at most.
        n_pilot: examples of the pilot; None where `sd` was stated.
        n_available: examples there are, if known.
        detectable: the smallest difference that those can show with this power; None where they are not known.
        power_available: chance that they show `detect`; None likewise.
        detectable_pilot: the smallest difference that the pilot itself can show with this power; None without one.
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

    def __str__(self) -> str:
        return " ".join(_sentences(self))


def plan(
    pilot: ArrayLike | None = None,
    *,
    detect: float,
    sd: float | None = None,
    models: int = 2,
    power: float = 0.8,
    confidence: float = 0.95,
    n_available: int | None = None,
) -> Plan:
    """Say how many examples a comparison of models needs.

    A two-sided paired t-test of every pair, Bonferroni's correction for all pairs. The pair whose differences spread
    most decides; among many pairs that is in part the luckiest one, so that a plan errs towards too many examples. How
    well a pilot knows that spread: Bonett 2006, "Approximate confidence interval for standard deviation of nonnormal
    distributions", Computational Statistics & Data Analysis 50(3), which allows for scores that are not normal, with
    the lower bound corrected for the choice among pairs. It holds for scores with bounds; where a few examples decide
    all, as in lognormal scores, a pilot does not show them and the upper bound is too low in one case of five.

    Args:
        pilot: (models, n) scores of the same examples, two or more, 20 to 50 for a useful answer. For an overall score
            that is no mean, :func:`~lumigator_nb.statistics.resampling.pseudo_values`.
        detect: the smallest difference that matters, in units of the score.
        sd: standard deviation of the paired differences, in place of a pilot; and how many `models` there are.
        power: chance of seeing the difference where it is there, in (0, 1).
        confidence: of the comparison, in (0, 1).
        n_available: examples there are.

    Raises:
        InvalidInputError: not one of `pilot` and `sd` is given, the pilot is too small, or a setting is out of range.

    Examples:
        >>> found = lm.plan(sd=0.18, detect=0.03, n_available=300)
        >>> found.needed
        285
        >>> print(found)
        To see a difference of 0.03 takes 285 examples, with 80% power, 95% confidence. 300 are there, which
        is enough: they show differences from 0.0292 on, and one of 0.03 with a chance of 82%.
    """
    if (pilot is None) == (sd is None):
        raise InvalidInputError("a plan needs a pilot or a standard deviation", "give scores of 20 to 50, or sd=")
    if pilot is not None:
        pilot = as_floats(pilot, "the pilot's scores")
        _check_pilot(pilot)
        models = len(pilot)
    comparisons = math.comb(models, 2)
    known = (float(sd or 0.0),) * 3 if pilot is None else _widest(pilot)
    needed = examples_needed(known[0], detect, power=power, confidence=confidence, comparisons=comparisons)
    low, high = (_search(bound, detect, power, confidence, comparisons) for bound in known[1:])
    shown = partial(detectable_difference, known[0], power=power, confidence=confidence, comparisons=comparisons)
    some = n_available if n_available is not None and n_available >= 2 else None
    return Plan(
        detect=detect,
        power=power,
        confidence=confidence,
        comparisons=comparisons,
        sd=known[0],
        sd_low=known[1],
        sd_high=known[2],
        needed=needed,
        needed_low=min(low, needed),
        needed_high=max(high, needed),
        n_pilot=None if pilot is None else pilot.shape[1],
        n_available=n_available,
        detectable=None if some is None else shown(some),
        power_available=None if some is None else _power(known[0], some, detect, confidence, comparisons),
        detectable_pilot=None if pilot is None else shown(pilot.shape[1]),
    )


def examples_needed(
    sd: float, detect: float, *, power: float = 0.8, confidence: float = 0.95, comparisons: int = 1
) -> int:
    """Return how many examples a paired t-test needs to see a difference.

    Exact by the noncentral t distribution, for differences that are near normal.

    Args:
        sd: standard deviation of the paired differences, 0 or more.
        detect: the difference, above 0.
        power: chance of seeing it, in (0, 1).
        confidence: of all tests together, in (0, 1).
        comparisons: tests; the error is shared out over them (Bonferroni).

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
        raise InvalidInputError(
            f"a difference of {detect} cannot be detected", "give what matters, such as detect=0.02"
        )
    needed = _search(sd, detect, power, confidence, comparisons)
    if needed >= _MOST:
        raise InvalidInputError(f"a difference of {detect} takes more than {_MOST:,} examples", "detect a larger one")
    return needed


def _search(sd: float, detect: float, power: float, confidence: float, comparisons: int) -> int:
    """The fewest examples with that power, by halving; `_MOST` where those are not enough."""
    low, high = 1, 2
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
    """Return the smallest difference that n examples can show; arguments and source as of :func:`examples_needed`.

    Raises:
        InvalidInputError: n is below 2, or a value is out of range.

    Examples:
        >>> round(lm.statistics.detectable_difference(sd=0.2, n=100), 3)
        0.057
    """
    from scipy.optimize import brentq

    _check(sd, power, confidence, comparisons)
    if n < 2:
        raise InvalidInputError(f"{n} examples show no difference", "two are the least")

    def missing(sds: float) -> float:
        return _power(1.0, n, sds, confidence, comparisons) - power

    # A test errs as often as a very low power asks for.
    if sd == 0 or missing(0.0) >= 0:
        return 0.0
    most = 1.0
    while missing(most) < 0:
        most *= 2
    return float(sd * brentq(missing, 0.0, most))


def _power(sd: float, n: int, detect: float, confidence: float, comparisons: int) -> float:
    from scipy.special import nctdtr, stdtrit

    if sd == 0:
        return 1.0
    critical = stdtrit(n - 1, 1 - (1 - confidence) / (2 * comparisons))
    missed = float(nctdtr(n - 1, min(detect / sd * math.sqrt(n), 1e3), critical))
    # It underflows to NaN in places (scipy 1.17) where the probability to miss the difference is below 1e-60.
    # The other tail, a significant difference of the wrong sign, is left out.
    return 1.0 if math.isnan(missed) else 1 - missed


def _widest(pilot: FloatArray) -> tuple[float, float, float]:
    """The largest spread of the differences of a pair, with its bounds."""
    pairs = [pilot[i] - pilot[j] for i, j in combinations(range(len(pilot)), 2)]
    sds = [float(np.std(pair, ddof=1)) for pair in pairs]
    if max(sds) == 0:
        return 0.0, 0.0, _unseen(pilot)
    # Any pair may have been the widest by luck, so that all lower bounds have to hold at once; of the upper ones only
    # that of the pair which is the widest in truth.
    low = max(_bound(pair, sd, -_TAIL / len(pairs)) for pair, sd in zip(pairs, sds, strict=True))
    high = max(_bound(pair, sd, _TAIL) for pair, sd in zip(pairs, sds, strict=True))
    return max(sds), low, high


def _unseen(pilot: FloatArray) -> float:
    """How much paired differences may spread that were zero throughout: as often as may go unseen, by a whole range."""
    share = 1 - _TAIL ** (1 / pilot.shape[1])
    return float(np.ptp(pilot) * math.sqrt(share))


def _bound(values: FloatArray, sd: float, tail: float) -> float:
    """The upper bound of a standard deviation that fails with probability `tail`; the lower one for a negative tail."""
    from scipy.special import chdtri, ndtri
    from scipy.stats import trim_mean

    n = len(values)
    if sd == 0:
        return 0.0
    if n < _FEW_FOR_KURTOSIS:  # too few to know more than that they are not far from normal
        return sd * math.sqrt((n - 1) / chdtri(n - 1, 1 - tail if tail > 0 else -tail))
    z = float(-ndtri(abs(tail)))
    # In units of sd, since the fourth power of a tiny score vanishes.
    apart = (values - trim_mean(values, 1 / (2 * math.sqrt(n - 4)))) / sd
    kurtosis = n * float(np.sum(apart**4)) / (n - 1) ** 2
    widened = n / (n - z)
    half = z * widened * math.sqrt((kurtosis - (n - 3) / n) / (n - 1))
    return sd * math.sqrt(widened) * math.exp(math.copysign(half, tail) / 2)


def _sentences(found: Plan) -> list[str]:
    if found.sd == 0 and found.n_pilot is not None:
        return [_sentence_without_spread(found)]
    percent = f"{found.power:.0%} power, {found.confidence:.0%} confidence"
    pairs = f" for all {found.comparisons} pairs of models" if found.comparisons > 1 else ""
    between = (
        "" if found.n_pilot is None else f" ({found.needed_low:,} to {found.needed_high:,} as far as the pilot tells)"
    )
    said = [f"To see a difference of {found.detect:g} takes {found.needed:,} examples{between}, with {percent}{pairs}."]
    if found.n_available is not None and found.detectable is not None and found.power_available is not None:
        enough = "enough" if found.n_available >= found.needed else "too few"
        said.append(
            f"{found.n_available:,} are there, which is {enough}: they show differences from {found.detectable:.3g} "
            f"on, and one of {found.detect:g} with a chance of {found.power_available:.0%}."
        )
    if found.n_pilot is not None and found.n_pilot < FEW_IN_PILOT:
        said.append(f"A pilot of {found.n_pilot} examples tells little of their spread; take 20 to 50.")
    return said


def _sentence_without_spread(found: Plan) -> str:
    if found.sd_high == 0:
        return "All scores of the pilot are the same, which tells nothing of their spread."
    return (
        f"The models differed by the same on each of the {found.n_pilot:,} examples of the pilot, which tells little "
        f"of their spread: a difference of {found.detect:g} takes up to {found.needed_high:,} examples. "
        "Take a larger pilot."
    )


def _check_pilot(pilot: FloatArray) -> None:
    if pilot.ndim != 2 or len(pilot) < 2 or pilot.shape[1] < 2:
        raise InvalidInputError(
            f"a pilot of shape {pilot.shape} shows no spread", "give (models, examples), two or more of each"
        )
    if not np.isfinite(pilot).all():
        model, example = np.argwhere(~np.isfinite(pilot))[0]
        raise InvalidInputError(f"pilot, model {model}, example {example}: no score", "leave such examples out")


def _check(sd: float, power: float, confidence: float, comparisons: int) -> None:
    for name, value in (("power", power), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InvalidInputError(f"{name} cannot be {value}", "it lies between 0 and 1, such as 0.8 or 0.95")
    if not (sd >= 0 and math.isfinite(sd)):
        raise InvalidInputError(f"a standard deviation cannot be {sd}", "give 0 or more, in units of the score")
    if comparisons < 1:
        raise InvalidInputError(f"{comparisons} comparisons", "two models are one, three are three")
