"""Slices of a dataset: does the order of the models hold in each of them?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.bootstrap import FloatArray
from lumigator_nb.statistics.corrections import holm
from lumigator_nb.statistics.planning import detectable_difference

FEW_IN_SLICE = 20


@dataclass(frozen=True)
class Slice:
    """The models on one part of the examples.

    Attributes:
        label: of the slice.
        n: examples.
        leader: the model that leads here.
        difference: by how much it is better than the one that leads over all, in the direction in which better is more;
            0 where that is the same. `low` and `high` bound it (Student's t, not corrected).
        p_adjusted: one-sided, that it is better, corrected for all slices and models; NaN where the leader is the same.
        flips: whether another model is shown to be better here.
        detectable: the smallest difference that this many examples show with 80% power, before correction.
        too_small: fewer than 20 examples, so that a flip could hardly be shown.
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


def slice_flips(
    values: FloatArray,
    labels: NDArray[Any],
    *,
    leader: int,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> list[Slice]:
    """Compare models within each slice, and test whether any is better there than the model that leads over all.

    One-sided paired t-tests of every other model in every slice, corrected by Holm for all of them, so that a flip
    anywhere is claimed wrongly with a probability of at most 1 - confidence. From some 20 examples per slice; a slice
    without a flip may just be too small (`detectable`).

    Args:
        values: (models, n) scores, or contributions to an overall score
            (:func:`~lumigator_nb.statistics.intervals.pseudo_values`).
        labels: (n,) the slice of each example, or (n, ways) for several ways to part them, which are corrected for
            together.
        leader: the model that leads over all.
        higher_is_better: False where the lowest score is best.
        confidence: that no flip is claimed wrongly, in (0, 1).

    Returns:
        One per slice, in the order of the labels.

    Raises:
        InvalidInputError: there is not one label per example, or a setting is out of range.
    """
    values, labels = np.asarray(values, dtype=np.float64), np.asarray(labels)
    labels = labels[:, None] if labels.ndim == 1 else labels
    if values.ndim != 2 or len(labels) != values.shape[1]:
        raise InvalidInputError(
            f"labels of shape {labels.shape} for scores of shape {values.shape}", "give one label per example"
        )
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    upward = values if higher_is_better else -values
    members = [(label, way == label) for way in labels.T for label in _distinct(way)]
    ahead = [upward[:, inside] - upward[leader, inside] for _, inside in members]
    p_values = np.stack([_p_values(each) for each in ahead])
    p_values[:, leader] = np.nan
    adjusted = holm(p_values.ravel()).reshape(p_values.shape)
    return [
        _slice(label, upward[:, inside].mean(axis=1), each, adjusted[index], leader, confidence)
        for index, ((label, inside), each) in enumerate(zip(members, ahead, strict=True))
    ]


def _distinct(way: NDArray[Any]) -> list[Any]:
    return list(dict.fromkeys(way.tolist()))


def _p_values(ahead: FloatArray) -> FloatArray:
    """(models,) one-sided p-values that the mean is above 0; NaN with fewer than two examples."""
    from scipy.special import stdtr

    n = ahead.shape[1]
    if n < 2:
        return np.full(len(ahead), np.nan)
    means, errors = ahead.mean(axis=1), ahead.std(axis=1, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, means / errors, 0.0)
    tails: FloatArray = stdtr(n - 1, -t)
    # Examples that all differ by the same have no spread, and n signs at most are evidence.
    return np.where((errors == 0) & (means > 0), 0.5**n, tails)


def _slice(
    label: Any, means: FloatArray, ahead: FloatArray, adjusted: FloatArray, leader: int, confidence: float
) -> Slice:
    from scipy.special import stdtrit

    n = ahead.shape[1]
    shown = np.flatnonzero(adjusted <= 1 - confidence)
    # Among equals the overall leader leads here too.
    own = leader if means[leader] >= means.max() else int(means.argmax())
    if len(shown):
        own = int(shown[means[shown].argmax()])
    others = ahead[own] if own != leader else ahead[np.argsort(-means)[1] if len(means) > 1 else leader]
    spread = float(others.std(ddof=1)) if n > 1 else math.nan
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
        detectable=detectable_difference(spread, n) if n > 1 else math.nan,
        too_small=n < FEW_IN_SLICE,
    )
