"""Slices of a dataset: does the order of the models hold in each of them?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.corrections import holm
from lumigator_nb.statistics.planning import detectable_difference
from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.skewness import examples_for_skewness

FEW_IN_SLICE = 20
MISSING = "missing"
_NO_LABEL = ("NoneType", "NAType", "NaTType")

# Of the largest score: what is less apart than this is equal in exact arithmetic.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Slice:
    """The models on one part of the examples.

    Attributes:
        label: of the slice.
        n: examples.
        leader: the model that leads here; where any are shown to be better than the overall one, the best of those.
        difference: by how much it is better than the one that leads over all, in the direction in which better is more;
            0 where that is the same. `low` and `high` bound it (Student's t, not corrected).
        p_adjusted: one-sided, that it is better, corrected for all slices and models; NaN where the leader is the same.
        flips: whether another model is shown to be better here.
        detectable: the smallest difference between the two that this many examples show with 80% power, before
            correction; NaN where they never differ. Beside the overall lead it says whether silence means anything.
        too_small: fewer than 20 examples, so that a flip could hardly be shown.
        too_skewed: fewer examples than :func:`~lumigator_nb.statistics.skewness.examples_for_skewness` asks for, by the
            differences of some model to the overall leader about their means in all slices.
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
    """Compare models within each slice, and test whether any is better there than the model that leads over all.

    One-sided paired t-tests of every other model in every slice, corrected by Holm for all of them, so that a flip
    anywhere is claimed wrongly with a probability of at most 1 - confidence. No p-value is below that of as many random
    signs as there are examples on which the two differ, since Student's t takes three wins without a loss for more than
    they are. Small slices take part in the correction. In simulations of scores with bounds that held with slices from
    some 5 examples on. A slice without a flip may just be too small (`detectable`).

    Differences in a slice are taken to spread as much as there or as within all slices together, whichever is more (the
    pooled variance of the analysis of variance). A slice that lacks the long tail of a leader's scores shows too low a
    mean for it and too small a spread at once, and would call it beaten: in simulations of noise with a given leader of
    skewed scores, that happened in 11 to 74% with the slice's own spread, and in at most 8% now.

    Args:
        values: (models, n) scores, or contributions to an overall score
            (:func:`~lumigator_nb.statistics.resampling.pseudo_values`).
        labels: (n,) the slice of each example, or (n, ways) for several ways to part them, which are corrected for
            together. None and NaN are a slice "missing".
        leader: the model that leads over all.
        higher_is_better: False where the lowest score is best.
        confidence: that no flip is claimed wrongly, in (0, 1).

    Returns:
        One per slice, in the order of the labels.

    Raises:
        InvalidInputError: there is not one label per example, no example, a score is missing, or a setting is out of
            range.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[4], [3]], 3, size=(2, 120))
        >>> slices = lm.statistics.slice_flips(scores, ["call", "mail"] * 60, leader=0)
        >>> [(each.label, each.n, each.flips) for each in slices]
        [('call', 60, False), ('mail', 60, False)]
    """
    values, labels = _checked(values, labels, leader)
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    upward = values if higher_is_better else -values
    parts = [_parts(way) for way in labels.T]
    members = [(label, codes == code) for names, codes in parts for code, label in enumerate(names)]
    ahead = [upward[:, inside] - upward[leader, inside] for _, inside in members]
    smallest = _ROUNDING * float(np.abs(values).max())
    within = [_within(upward - upward[leader], codes, smallest) for _, codes in parts]
    about = [one for one, (names, _) in zip(within, parts, strict=True) for _ in names]
    spreads = [_spreads(one, pooled) for one, (pooled, _) in zip(ahead, about, strict=True)]
    p_values = np.stack([_p_values(one, spread, smallest) for one, spread in zip(ahead, spreads, strict=True)])
    p_values[:, leader] = np.nan
    adjusted = holm(p_values.ravel()).reshape(p_values.shape)
    return [
        _slice(
            label, upward[:, inside].mean(axis=1), each, spreads[index], adjusted[index], about[index][1],
            leader, confidence, smallest,
        )
        for index, ((label, inside), each) in enumerate(zip(members, ahead, strict=True))
    ]  # fmt: skip


def _within(ahead: FloatArray, codes: NDArray[np.int64], smallest: float) -> tuple[FloatArray, int]:
    """Return (models,) spreads within all slices together, and how many examples their skewness asks for."""
    sizes = np.bincount(codes)
    means = np.stack([np.bincount(codes, weights=one) for one in ahead]) / sizes
    apart = ahead - means[:, codes]
    apart[np.abs(apart) <= smallest] = 0.0
    freedom = ahead.shape[1] - len(sizes)
    spreads = np.sqrt((apart**2).sum(axis=1) / freedom) if freedom > 0 else np.zeros(len(ahead))
    return spreads, max(examples_for_skewness(one) for one in apart)


def _spreads(ahead: FloatArray, pooled: FloatArray) -> FloatArray:
    """(models,) standard deviations in a slice, no smaller than the pooled ones; NaN with fewer than two examples."""
    if ahead.shape[1] < 2:
        return np.full(len(ahead), np.nan)
    return np.asarray(np.maximum(ahead.std(axis=1, ddof=1), pooled))


def _checked(values: ArrayLike, labels: ArrayLike, leader: int) -> tuple[FloatArray, NDArray[Any]]:
    """(models, n) scores and (n, ways) labels, None and NaN replaced."""
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
    unknown = np.array([[_unknown(label) for label in row] for row in labels])
    return values, np.where(unknown, MISSING, labels)


def _unknown(label: Any) -> bool:
    # By name, as pandas need not be loaded for its NA and NaT.
    return math.isnan(label) if isinstance(label, float | np.floating) else type(label).__name__ in _NO_LABEL


def _parts(way: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """The labels in the order in which they come, and the number of its label for each example."""
    order = {label: code for code, label in enumerate(dict.fromkeys(way))}
    return list(order), np.array([order[label] for label in way])


def _p_values(ahead: FloatArray, spreads: FloatArray, smallest: float) -> FloatArray:
    """(models,) one-sided p-values that the mean is above 0; NaN with fewer than two examples."""
    from scipy.special import stdtr

    n = ahead.shape[1]
    if n < 2:
        return np.full(len(ahead), np.nan)
    means, errors = ahead.mean(axis=1), spreads / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, means / errors, 0.0)
    tails: FloatArray = np.where((errors == 0) & (means > 0), 0.0, stdtr(n - 1, -t))
    differing = np.count_nonzero(np.abs(ahead) > smallest, axis=1)
    floored: FloatArray = np.maximum(tails, 0.5**differing)
    return floored


def _slice(
    label: Any,
    means: FloatArray,
    ahead: FloatArray,
    spreads: FloatArray,
    adjusted: FloatArray,
    needed: int,
    leader: int,
    confidence: float,
    smallest: float,
) -> Slice:
    from scipy.special import stdtrit

    n = ahead.shape[1]
    shown = np.flatnonzero(adjusted <= 1 - confidence)
    # Among equals the overall leader leads here too.
    own = leader if means[leader] >= means.max() - smallest else int(means.argmax())
    if len(shown):
        own = int(shown[means[shown].argmax()])
    second = int(np.where(np.arange(len(means)) == leader, -math.inf, means).argmax())
    spread = float(spreads[own if own != leader else second])
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * spread / math.sqrt(n)) if n > 1 else math.nan
    difference = float(ahead[own].mean())
    same = own == leader
    return Slice(
        label=label,
        n=n,
        leader=own,
        difference=difference,
        low=math.nan if same else difference - half,
        high=math.nan if same else difference + half,
        p_adjusted=float(adjusted[own]),
        flips=bool(len(shown)),
        detectable=detectable_difference(spread, n) if spread > smallest else math.nan,
        too_small=n < FEW_IN_SLICE,
        too_skewed=n < needed,
    )
