"""Slices of a dataset: does another model lead in some of them?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence
from lumigator_nb.statistics.corrections import holm
from lumigator_nb.statistics.planning import detectable_difference
from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.skewness import examples_for_skewness

# Slices with fewer examples are marked: no difference short of a huge one could be shown in them.
FEW_IN_SLICE = 20
MISSING = "missing"
# Relative to the largest score: smaller differences are rounding errors.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Slice:
    """The models on one part of the examples.

    Attributes:
        label: of the slice.
        n: number of examples.
        leader: the leading model here. If models are shown to be better than the overall leader, the best of these.
        difference: how much better it is than the overall leader, positive whatever the direction of the score; 0 if
            they are the same. `low` and `high` bound it (Student's t, not corrected for the number of slices).
        p_adjusted: one-sided p-value that it is better, corrected for all slices and models; NaN if the leader is the
            same.
        flips: whether another model is shown to be better here.
        detectable: the smallest difference between the two that this many examples show with 80% power, before
            correction; NaN where they never differ. Compare it with the overall lead: where it is larger, the absence
            of a flip means nothing.
        too_small: fewer than 20 examples, so that a flip could hardly be shown.
        too_skewed: fewer examples than :func:`~lumigator_nb.statistics.skewness.examples_for_skewness` requires, for
            the differences of some model to the overall leader about their means in all slices.
    """

    label: Any
    n: int
    leader: int
    difference: float
    low: float
    high: float
    p_adjusted: float
    flips: bool
    detectable: float
    too_small: bool
    too_skewed: bool


def slice_flips(
    values: ArrayLike,
    labels: ArrayLike,
    *,
    leader: int,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> list[Slice]:
    """Compare models within each slice, and test whether any is better there than the overall leader.

    One-sided paired t-tests of every other model in every slice, with Holm's correction for all of them, so that any
    false flip has a probability of at most 1 - confidence. No p-value is below that of as many random signs as there
    are examples on which the two differ, since Student's t overrates three wins without a loss. Small slices take part
    in the correction. In simulations of bounded scores, this held for slices from about 5 examples on. A slice without
    a flip may just be too small (`detectable`).

    The spread of differences in a slice is its own or the pooled one within all slices (as in the analysis of
    variance), whichever is larger. A slice that lacks the long tail of a leader's scores shows too low a mean for it
    and too small a spread at once: in simulations of noise with a fixed leader of skewed scores, a false flip was found
    in 11 to 74% with the slice's own spread, and in at most 8% this way.

    Args:
        values: (models, n) scores, or contributions to an overall score
            (:func:`~lumigator_nb.statistics.resampling.pseudo_values`).
        labels: (n,) the slice of each example, or (n, ways) for several ways to slice them, with one correction for
            all. None and NaN form a slice "missing".
        leader: the number of the model that leads over all examples.
        higher_is_better: False where the lowest score is best.
        confidence: probability of no false flip, in (0, 1).

    Returns:
        One per slice, in the order of the labels.

    Raises:
        InvalidInputError: `labels` does not have one label per example, there are no examples, a score is missing, or a
            setting is out of range.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[4], [3]], 3, size=(2, 120))
        >>> slices = lm.statistics.slice_flips(scores, ["call", "mail"] * 60, leader=0)
        >>> [(each.label, each.n, each.flips) for each in slices]
        [('call', 60, False), ('mail', 60, False)]
    """
    values, labels = as_floats(values), np.asarray(labels, dtype=object)
    labels = labels[:, None] if labels.ndim == 1 else labels
    if values.ndim != 2 or labels.ndim != 2 or len(labels) != values.shape[1] or not labels.size:
        raise InvalidInputError(
            f"labels of shape {labels.shape} for scores of shape {values.shape}", "give one label per example"
        )
    if not np.isfinite(values).all():
        model, example = np.argwhere(~np.isfinite(values))[0]
        raise InvalidInputError(f"model {model}, example {example}: no score", "leave such examples out")
    if not 0 <= leader < len(values):
        raise InvalidInputError(f"there is no model {leader}", f"there are {len(values)}, counted from 0")
    check_confidence(confidence)
    upward = values if higher_is_better else -values
    smallest = _ROUNDING * float(np.abs(values).max())
    parts = []
    for way in labels.T:
        names = [MISSING if _is_missing(label) else label for label in way]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        codes = np.array([numbers[name] for name in names])
        pooled, needed = _within(upward - upward[leader], codes, smallest)
        for name, number in numbers.items():
            scores = upward[:, codes == number]
            ahead = scores - scores[leader]
            if ahead.shape[1] < 2:
                spreads = np.full(len(ahead), np.nan)
            else:
                spreads = np.maximum(ahead.std(axis=1, ddof=1), pooled)
            parts.append(_Part(name, scores.mean(axis=1), ahead, spreads, needed))
    p_values = np.stack([_p_values(part.ahead, part.spreads, smallest) for part in parts])
    # The leader is not tested against itself; NaN does not count as a test.
    p_values[:, leader] = np.nan
    adjusted = holm(p_values.ravel()).reshape(p_values.shape)
    return [_slice(part, row, leader, confidence, smallest) for part, row in zip(parts, adjusted, strict=True)]


@dataclass(frozen=True, eq=False)
class _Part:
    """One slice before the tests: (models,) means and spreads, (models, n) differences to the overall leader.

    `needed` is the number of examples that the skewness of the differences requires.
    """

    label: Any
    means: FloatArray
    ahead: FloatArray
    spreads: FloatArray
    needed: int


def _is_missing(label: Any) -> bool:
    # By the name of the type, so that pandas need not be loaded for its NA and NaT.
    if isinstance(label, float | np.floating):
        return math.isnan(label)
    return type(label).__name__ in ("NoneType", "NAType", "NaTType")


def _within(ahead: FloatArray, codes: NDArray[np.int64], smallest: float) -> tuple[FloatArray, int]:
    """Return (models,) pooled standard deviations within slices, and the number of examples that their skewness needs.

    Args:
        ahead: (models, n) differences to the overall leader.
        codes: (n,) numbers of the slices.
        smallest: differences to the mean up to this size are rounding errors.
    """
    sizes = np.bincount(codes)
    means = np.stack([np.bincount(codes, weights=one) for one in ahead]) / sizes
    apart = ahead - means[:, codes]
    apart[np.abs(apart) <= smallest] = 0.0
    # One degree of freedom per estimated mean. Without any left, each slice keeps its own spread.
    freedom = ahead.shape[1] - len(sizes)
    spreads = np.sqrt((apart**2).sum(axis=1) / freedom) if freedom > 0 else np.zeros(len(ahead))
    return spreads, max(examples_for_skewness(one) for one in apart)


def _p_values(ahead: FloatArray, spreads: FloatArray, smallest: float) -> FloatArray:
    """Return (models,) one-sided p-values of "the mean of (models, n) differences is above 0"; NaN for n below 2."""
    from scipy.special import stdtr

    n = ahead.shape[1]
    if n < 2:
        return np.full(len(ahead), np.nan)
    means, errors = ahead.mean(axis=1), spreads / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, means / errors, 0.0)
    tails: FloatArray = np.where((errors == 0) & (means > 0), 0.0, stdtr(n - 1, -t))
    # A sign test bounds the p-value from below: see slice_flips.
    differing = np.count_nonzero(np.abs(ahead) > smallest, axis=1)
    floored: FloatArray = np.maximum(tails, 0.5**differing)
    return floored


def _slice(part: _Part, adjusted: FloatArray, leader: int, confidence: float, smallest: float) -> Slice:
    """Return the slice with (models,) adjusted p-values."""
    from scipy.special import stdtrit

    means, ahead, n = part.means, part.ahead, part.ahead.shape[1]
    shown = np.flatnonzero(adjusted <= 1 - confidence)
    # Of equal models the overall leader leads here too.
    first = leader if means[leader] >= means.max() - smallest else int(means.argmax())
    if len(shown):
        first = int(shown[means[shown].argmax()])
    # Where the leader is the same, `detectable` is about its closest rival.
    second = int(np.where(np.arange(len(means)) == leader, -math.inf, means).argmax())
    spread = float(part.spreads[first if first != leader else second])
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * spread / math.sqrt(n)) if n > 1 else math.nan
    difference = float(ahead[first].mean())
    same = first == leader
    return Slice(
        label=part.label,
        n=n,
        leader=first,
        difference=difference,
        low=math.nan if same else difference - half,
        high=math.nan if same else difference + half,
        p_adjusted=float(adjusted[first]),
        flips=bool(len(shown)),
        detectable=detectable_difference(spread, n) if spread > smallest else math.nan,
        too_small=n < FEW_IN_SLICE,
        too_skewed=n < part.needed,
    )
