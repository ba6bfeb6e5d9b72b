"""Few human labels and many scores of a judge, put together so that the judge need not be right.

The judge is used for what it explains of the human labels, and no more: a biased or useless judge costs precision, not
validity. What has to be true instead is that the labelled examples were drawn at random, with known probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.bootstrap import Interval
from lumigator_nb.statistics.resampling import FloatArray

About = Literal["more", "these"]

_NAN = float("nan")

# Below, a weight learned from the labels is noise.
_FEWEST_TO_TUNE = 4


@dataclass(frozen=True)
class PredictionPowered(Interval):
    """A mean of human labels, with the judge's help.

    Attributes:
        weight: λ, how far the judge is believed: 0 leaves it out, 1 takes its differences at face value, below 0 turns
            it round. A judge on another scale than the humans has a weight on that scale.
        human_only: the mean and interval of the human labels alone.
        n_labels: number of human labels.
        about: what the intervals are about: "more" data of the same kind, or "these" examples.
    """

    weight: float
    human_only: Interval
    n_labels: int
    about: About = "more"

    @property
    def narrower(self) -> float:
        """By which share the interval is narrower than with human labels alone.

        Below 0 where it is wider, as it may be with a stated weight.
        """
        alone = self.human_only.high - self.human_only.low
        return 1 - (self.high - self.low) / alone if alone > 0 else _NAN

    @property
    def effective_labels(self) -> float:
        """How many human labels alone would give as narrow an interval."""
        kept = 1 - self.narrower
        return self.n_labels / kept**2 if kept != 0 else math.inf


@dataclass(frozen=True)
class _Labels:
    """Labelled examples with `weights` of mean 1; the judge's mean over the others or over all is at `centre`."""

    human: FloatArray
    judge: FloatArray
    weights: FloatArray
    centre: float


def prediction_powered_mean(
    human: ArrayLike,
    judge_labelled: ArrayLike,
    judge_unlabelled: ArrayLike,
    *,
    probabilities: ArrayLike | None = None,
    weight: float | None = None,
    confidence: float = 0.95,
    about: About = "more",
) -> PredictionPowered:
    """Return the mean that humans would give, from their labels of some examples and a judge's scores of all.

    The interval is about more data of the same kind, of which these examples are a random sample. With `about` "these"
    it is about the mean of exactly these examples, and narrower, since those with a label are known: the variance of
    the regression estimator of a finite population (Cochran 1977, "Sampling Techniques", 3rd edition, section 7.3),
    for unequal probabilities that of Horvitz and Thompson as approximated by Hájek 1964 (Annals of Mathematical
    Statistics 35(4)). The estimate is the same for both.

    Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023, "Prediction-powered inference", Science 382;
    Angelopoulos, Duchi and Zrnic 2023, "PPI++" (https://arxiv.org/abs/2311.01453), for the weight; with
    `probabilities`, Zrnic and Candès 2024, "Active statistical inference" (https://arxiv.org/abs/2403.03208).

    Unlike there, the weight for an example is learned from the other labels, since the same few labels cannot show both
    the weight and its error: that leaves no bias of order 1 / n, and residuals as large as those of new examples. As
    there, it is divided by the variance of all of the judge's scores, or by that of the labelled ones where that is
    larger. Where the interval would be wider than with the labels alone, the judge is left out. With Student's t,
    intervals of 95 % so hold from some 20 labels on, for skewed judges too, as far as they do for the labels alone.
    Two-valued labels need every combination of label and judgement some five times, or the labels show too little of
    the judge's errors. The weight is not held within [0, 1], since judge and humans may use different scales.

    The difference between two models a and b on the same examples is the mean of differences::

        prediction_powered_mean(human_a - human_b, judge_a - judge_b, unlabelled_a - unlabelled_b)

    Several labels of one example, or several examples of one document, are not independent: average them first.

    Args:
        human: (n,) labels.
        judge_labelled: (n,) the judge's scores of the same examples.
        judge_unlabelled: (N,) its scores of the examples without a label.
        probabilities: (n,) with which each labelled example was drawn, in (0, 1], as :func:`next_to_label` gives them;
            all equal where left out. Examples that were labelled already, by whatever choice, have 1 and speak for
            themselves only. Examples weigh the inverse, relative to the sum of all weights: that leaves a bias of
            order 1 / n, but gains precision.
        weight: λ, of the judge's score less its mean over the examples without a label, or over all with unequal
            `probabilities`; left out, it is tuned, and 0 with fewer than 4 labels or 2 examples without one.
        confidence: of the interval, in (0, 1).
        about: "more" data of the same kind, or "these" examples.

    Returns:
        The bounds are NaN with one label, and where all labels are equal: nothing then shows how far they spread.
        About these examples, they equal the estimate where all have a label.

    Raises:
        InvalidInputError: arrays do not fit together, hold NaN, or a setting is out of range.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> judge = rng.normal(3, 1, size=500)
        >>> human = judge[:50] + rng.normal(0.3, 0.5, size=50)
        >>> found = lm.statistics.prediction_powered_mean(human, judge[:50], judge[50:])
        >>> print(f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}], narrower by {found.narrower:.0%}")
        3.37 [3.20, 3.54], narrower by 41%
    """
    human, judge_labelled = as_floats(human, "labels"), as_floats(judge_labelled)
    judge_unlabelled = as_floats(judge_unlabelled)
    probabilities = None if probabilities is None else as_floats(probabilities, "probabilities")
    _check(human, judge_labelled, judge_unlabelled, probabilities, weight, confidence)
    if about not in get_args(About):
        raise InvalidInputError(f"about cannot be {about!r}", 'give "more" or "these"')
    alike = probabilities is None or np.ptp(probabilities) == 0
    n, rest = len(human), len(judge_unlabelled)
    everyone = np.concatenate([judge_labelled, judge_unlabelled])
    others = judge_unlabelled if alike and rest else everyone
    inverse = np.ones(n) if probabilities is None or alike else 1 / probabilities
    labels = _Labels(human, judge_labelled, inverse / inverse.mean(), float(others.mean()))
    tunable = n >= _FEWEST_TO_TUNE and rest >= 2
    if weight is not None:
        used, each = weight, np.full(n, weight)
    elif not tunable:
        used, each = 0.0, np.zeros(n)
    else:
        used, each = _slopes(labels, np.ones(n) if alike else inverse * (inverse - 1), everyone)
        share = rest / len(everyone) if alike else 1.0
        used, each = used * share, each * share
    spread = _spread_alike if alike else _spread_active
    estimate = spread(labels, judge_unlabelled, used, each, confidence)
    alone = spread(labels, judge_unlabelled, 0.0, np.zeros(n), confidence)
    if weight is None and estimate.high - estimate.low > alone.high - alone.low:
        used, estimate = 0.0, alone
    found = PredictionPowered(estimate.estimate, estimate.low, estimate.high, used, alone, n)
    if about == "more":
        return found
    # Less its mean over the others, a judge's score counts for less than less its mean over all.
    slopes = each * (len(everyone) / rest if alike and rest else 1.0)
    chances = np.full(n, n / len(everyone)) if probabilities is None or alike else probabilities
    return _of_these(found, replace(labels, centre=float(everyone.mean())), slopes, chances, confidence)


def _of_these(
    found: PredictionPowered, labels: _Labels, slopes: FloatArray, chances: FloatArray, confidence: float
) -> PredictionPowered:
    """Return the result with intervals about the mean of all examples at hand; `chances` of being labelled, (n,)."""
    n = len(labels.human)
    freedom = max(int(np.count_nonzero(chances < 1)) - 1, 1)

    def bounded(interval: Interval, slopes: FloatArray) -> Interval:
        if np.all(chances == 1):
            return Interval(interval.estimate, interval.estimate, interval.estimate)
        if math.isnan(interval.low):
            return interval
        errors = labels.human - slopes * (labels.judge - labels.centre)
        errors = labels.weights * (errors - labels.weights @ errors / n) / n
        return _student(interval.estimate, float((1 - chances) @ errors**2) * n / (n - 1), freedom, confidence)

    both = bounded(found, slopes if found.weight != 0 else np.zeros(n))
    alone = bounded(found.human_only, np.zeros(n))
    return replace(found, low=both.low, high=both.high, human_only=alone, about="these")


def _slopes(labels: _Labels, importance: FloatArray, everyone: FloatArray) -> tuple[float, FloatArray]:
    """Return the slope of human labels on the judge's scores, and (n,) those without one label each; 0 if undefined.

    With `importance` w (w - 1), where 1 / w is the probability of being drawn, it minimises the variance due to the
    drawing. Few labels often miss the far ends of skewed scores, and a slope over what is left would be far too steep.
    It is therefore divided by how much more all scores (`everyone`, the labelled first) vary than the labelled ones.
    """
    x, n = labels.judge, len(labels.judge)
    if importance.sum() == 0:
        return 0.0, np.zeros(n)
    shared, own = _covariances(x, labels.human, importance), _covariances(x, x, importance)
    seen, there = _covariances(x, x, labels.weights), _covariances(everyone, everyone, np.ones(len(everyone)))
    missed = np.divide(there[: n + 1], seen, out=np.ones(n + 1), where=seen > 0)
    # Scores that differ by rounding errors alone are equal, and so are those that are equal but for the one left out.
    noise = max((1e-12 * np.abs(everyone).max()) ** 2, 1e-9 * own[0])
    slopes = np.divide(shared, own, out=np.zeros(n + 1), where=own > noise) / np.maximum(missed, 1)
    return float(slopes[0]), slopes[1:]


def _covariances(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """(1 + n,) the weighted covariance, and those without one of the n examples each; 0 where none is left."""
    total = weights.sum()
    others = total - weights
    products = (x - weights @ x / total) * (y - weights @ y / total)
    whole = weights @ products
    lost = weights * np.divide(total, others, out=np.zeros_like(others), where=others > 0)
    left = np.divide(whole - lost * products, others, out=np.zeros_like(others), where=others > 0)
    return np.concatenate([[whole / total], left])


def _spread_alike(
    labels: _Labels, judge_unlabelled: FloatArray, used: float, each: FloatArray, confidence: float
) -> Interval:
    """Return the interval where labelled and unlabelled examples are two independent random samples."""
    n, rest = len(labels.human), len(judge_unlabelled)
    rectified = labels.human - each * (labels.judge - labels.centre)
    if n < 2 or np.ptp(labels.human) == 0:
        return Interval(float(rectified.mean()), _NAN, _NAN)
    own = rectified.var(ddof=1) / n
    imputed = used**2 * judge_unlabelled.var(ddof=1) / rest if used != 0 else 0.0
    variance = own + imputed
    share = own / variance if variance > 0 else 1.0
    # Welch and Satterthwaite: the judge's own spread is known from many more examples.
    freedom = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / max(rest - 1, 1))
    return _student(float(rectified.mean()), variance, freedom, confidence)


def _spread_active(
    labels: _Labels, judge_unlabelled: FloatArray, used: float, each: FloatArray, confidence: float
) -> Interval:
    """Return the interval where all examples are a random sample, and labels a draw from it with unequal chances."""
    n, total = len(labels.human), len(labels.human) + len(judge_unlabelled)
    rectified = labels.human - each * (labels.judge - labels.centre)
    estimate = float(labels.weights @ rectified / n)
    if n < 2 or np.ptp(labels.human) == 0:
        return Interval(estimate, _NAN, _NAN)
    errors = labels.weights * (rectified - estimate) * total / n * math.sqrt(n / (n - 1))
    # What each example adds to the estimate, whether it was drawn or not.
    added = used * (np.concatenate([labels.judge, judge_unlabelled]) - labels.centre)
    added[:n] += errors
    return _student(estimate, float(added.var()) / total, n - 1, confidence)


def _student(estimate: float, variance: float, freedom: float, confidence: float) -> Interval:
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half)


def _check(
    human: FloatArray,
    judge_labelled: FloatArray,
    judge_unlabelled: FloatArray,
    probabilities: FloatArray | None,
    weight: float | None,
    confidence: float,
) -> None:
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    if human.ndim != 1 or human.shape != judge_labelled.shape or judge_unlabelled.ndim != 1 or not len(human):
        raise InvalidInputError(
            f"labels of shape {human.shape}, judge's scores of shape {judge_labelled.shape} and "
            f"{judge_unlabelled.shape} do not fit together",
            "give at least one label, one score for each label, and one for each example without a label",
        )
    for name, array in (("labels", human), ("the judge's scores", judge_labelled), ("its others", judge_unlabelled)):
        missing = np.flatnonzero(~np.isfinite(array))
        if missing.size:
            raise InvalidInputError(
                f"row {missing[0]} of {name} is NaN or infinite", "move what has no label to the unlabelled examples"
            )
    if weight is not None and (not math.isfinite(weight) or (weight != 0 and len(judge_unlabelled) < 2)):
        raise InvalidInputError(f"weight {weight} with {len(judge_unlabelled)} examples without a label", "tune it")
    if probabilities is not None and not (
        probabilities.shape == human.shape and np.all((probabilities > 0) & (probabilities <= 1))
    ):
        raise InvalidInputError("probabilities are one per label, above 0 and at most 1", "use those of the draw")
    if probabilities is not None and np.all(probabilities == 1) and len(judge_unlabelled):
        raise InvalidInputError(
            "all labels have probability 1: examples chosen without chance say nothing of the others",
            "leave probabilities out where the labelled examples are a random sample",
        )


@dataclass(frozen=True, eq=False)
class LabelDraw:
    """Examples to label, in a random order.

    The first j of them are a draw too, with j / k times the probabilities: stop early where need be, but not because of
    what the labels say.

    Attributes:
        indices: (k,) of the examples.
        probabilities: (k,) with which each was drawn, for :func:`prediction_powered_mean`.
    """

    indices: NDArray[np.int64]
    probabilities: FloatArray


def next_to_label(
    uncertainty: ArrayLike,
    n_labels: int,
    *,
    labelled: ArrayLike | None = None,
    uniform: float = 0.3,
    seed: int = 0,
) -> LabelDraw:
    """Draw which examples humans should label next: more often those on which the judge is likely to be wrong.

    Source: Zrnic and Candès 2024, "Active statistical inference" (https://arxiv.org/abs/2403.03208): probabilities in
    proportion to the judge's expected error give the narrowest interval; mixed with equal ones, examples on which the
    judge is wrong without knowing keep a chance, and weights stay bounded. Exactly `n_labels` are drawn, with exactly
    these probabilities, by systematic sampling in random order (Madow 1949, Annals of Mathematical Statistics 20).

    Draw all labels that you can afford at once. A second draw stands for the examples left over by the first only; the
    labels of the first then count with probability 1.

    Args:
        uncertainty: (n,) how far the judge is expected to be off, 0 or more, such as the standard deviation of repeated
            judgements; or (judges, n) scores of several judges, whose standard deviation is taken.
        n_labels: how many to draw.
        labelled: (n,) True where a label is there already; these are not drawn.
        uniform: the part of the probability that is spread equally, in (0, 1]; 1 ignores the uncertainty.
        seed: the same seed and arguments give the same draw.

    Raises:
        InvalidInputError: arrays do not fit together, there are not as many examples left, or a setting is wrong.

    Examples:
        >>> draw = lm.statistics.next_to_label([0.1, 0.1, 0.8, 0.9], n_labels=2)
        >>> draw.indices, draw.probabilities.round(2)
        (array([2, 1]), array([0.74, 0.22]))
    """
    uncertainty = as_floats(uncertainty, "uncertainty")
    expected = uncertainty.std(axis=0) if uncertainty.ndim == 2 else uncertainty
    labelled = np.zeros(expected.shape, dtype=bool) if labelled is None else np.asarray(labelled)
    if expected.ndim != 1 or labelled.shape != expected.shape or labelled.dtype != bool:
        raise InvalidInputError(
            f"uncertainty of shape {uncertainty.shape} and labelled of shape {labelled.shape} do not fit together",
            "give one value per example, and True or False for each",
        )
    if not np.all(np.isfinite(expected) & (expected >= 0)):
        raise InvalidInputError("uncertainty is below 0, NaN or infinite", "give an expected error per example")
    if not 0 < uniform <= 1:
        raise InvalidInputError(f"uniform cannot be {uniform}", "it lies above 0 and up to 1, such as 0.3")
    left = np.flatnonzero(~labelled)
    if not 1 <= n_labels <= len(left):
        raise InvalidInputError(
            f"{n_labels} labels of {len(left)} examples", "draw at least one, and no more than left"
        )
    probabilities = _inclusion(expected[left], n_labels, uniform)
    drawn = _systematic(probabilities, n_labels, np.random.default_rng(seed))
    return LabelDraw(left[drawn], probabilities[drawn])


def _inclusion(expected: FloatArray, n_labels: int, uniform: float) -> FloatArray:
    """Return (n,) probabilities that sum to `n_labels`; what would exceed 1 goes to the others in proportion."""
    scale = expected.max()
    wanted = expected / scale if scale > 0 else np.ones_like(expected)
    wanted = (1 - uniform) * wanted / wanted.sum() + uniform / len(wanted)
    certain = np.zeros(len(wanted), dtype=bool)
    while True:
        shares = np.where(certain, 0.0, wanted)
        total = shares.sum()
        probabilities = np.where(certain, 1.0, shares * ((n_labels - certain.sum()) / total if total else 0.0))
        beyond = (probabilities >= 1) & ~certain
        if not beyond.any():
            return probabilities
        certain |= beyond


def _systematic(probabilities: FloatArray, n_labels: int, generator: np.random.Generator) -> NDArray[np.int64]:
    shuffled = generator.permutation(len(probabilities))
    # Every mark falls on one example, since no probability exceeds 1.
    marks = np.arange(n_labels) + generator.random()
    edges = np.cumsum(probabilities[shuffled])
    edges *= n_labels / edges[-1]
    edges[-1] = np.inf
    return generator.permutation(shuffled[np.searchsorted(edges, marks, side="right")])
