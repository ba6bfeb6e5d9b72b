"""Prediction-powered inference: few human labels and many scores of a judge, which may be wrong, in one estimate.

The estimate uses the judge as far as it explains the human labels: a biased or useless judge costs precision, not
validity. What must hold is that the labelled examples were drawn at random, with known probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence
from lumigator_nb.statistics.bootstrap import Interval
from lumigator_nb.statistics.resampling import FloatArray

About = Literal["more", "these"]

_NAN = float("nan")

# With fewer labels, a weight learned from them is noise.
_FEWEST_TO_TUNE = 4


@dataclass(frozen=True)
class PredictionPowered(Interval):
    """A mean of human labels, made more precise by a judge's scores.

    Attributes:
        weight: λ, the weight of the judge: 0 ignores it, 1 takes its differences at face value, below 0 reverses them.
            A judge on another scale than the humans has a weight on that scale.
        human_only: the mean and interval of the human labels alone.
        n_labels: number of human labels.
        about: the target of the intervals: "more" data of the same kind, or "these" examples.
    """

    weight: float
    human_only: Interval
    n_labels: int
    about: About = "more"

    @property
    def narrower(self) -> float:
        """The share by which the interval is narrower than with human labels alone.

        Below 0 where it is wider, which happens only with an explicit `weight`.
        """
        alone = self.human_only.high - self.human_only.low
        return 1 - (self.high - self.low) / alone if alone > 0 else _NAN

    @property
    def effective_labels(self) -> float:
        """The number of human labels that would give an equally narrow interval without the judge."""
        ratio = 1 - self.narrower
        # Widths shrink with the square root of the number of labels.
        return self.n_labels / ratio**2 if ratio != 0 else math.inf


@dataclass(frozen=True)
class _Labels:
    """(n,) labelled examples with `weights` of mean 1; `centre` is the judge's mean over the others, or over all."""

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

    The estimate is the mean of the human labels, corrected by λ times the difference between the judge's mean over all
    examples and over the labelled ones.

    The interval is about more data of the same kind, of which these examples are a random sample. With `about` "these"
    it is about the mean of exactly these examples, and narrower, since the labelled ones are known: the variance of
    the regression estimator of a finite population (Cochran 1977, "Sampling Techniques", 3rd edition, section 7.3),
    for unequal probabilities that of Horvitz and Thompson as approximated by Hájek 1964 (Annals of Mathematical
    Statistics 35(4)). The estimate is the same for both.

    Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023, "Prediction-powered inference", Science 382;
    Angelopoulos, Duchi and Zrnic 2023, "PPI++" (https://arxiv.org/abs/2311.01453), for the weight; with
    `probabilities`, Zrnic and Candès 2024, "Active statistical inference" (https://arxiv.org/abs/2403.03208).

    Unlike in these sources, the weight for an example is learned from the other labels (leave one out), since the same
    few labels cannot show both the weight and its error. That leaves no bias of order 1 / n, and residuals as large as
    those of new examples. As in the sources, the covariance is divided by the variance of all of the judge's scores; by
    that of the labelled ones where it is larger. Where the interval would be wider than with the labels alone, the
    judge is left out. With Student's t, intervals of 95 % hold from about 20 labels on, also for skewed judges, as far
    as they do for the labels alone. Two-valued labels need every combination of label and judgement about five times,
    or the labels show too little of the judge's errors. The weight is not limited to [0, 1], since judge and humans may
    use different scales.

    The difference between two models a and b on the same examples is the mean of differences::

        prediction_powered_mean(human_a - human_b, judge_a - judge_b, unlabelled_a - unlabelled_b)

    Several labels of one example, or several examples of one document, are not independent: average them first.

    Args:
        human: (n,) labels.
        judge_labelled: (n,) the judge's scores of the same examples.
        judge_unlabelled: (N,) its scores of the examples without a label.
        probabilities: (n,) with which each labelled example was drawn, in (0, 1], from :func:`next_to_label`; all equal
            if omitted. Examples that were labelled before, for whatever reason, have 1 and represent only themselves.
            Examples are weighted by the inverse, relative to the sum of all weights (Hájek's estimator): that has a
            bias of order 1 / n, but is more precise.
        weight: λ, of the judge's score less its mean over the examples without a label, or over all with unequal
            `probabilities`. If omitted, it is learned, and 0 with fewer than 4 labels or 2 examples without one.
        confidence: of the interval, in (0, 1).
        about: the target of the interval, "more" data of the same kind or "these" examples.

    Returns:
        The bounds are NaN with one label, and where all labels are equal, as nothing then shows their spread.
        About "these" examples, the bounds equal the estimate where all have a label.

    Raises:
        InvalidInputError: shapes do not match, arrays hold NaN, or a setting is out of range.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> judge = rng.normal(3, 1, size=500)
        >>> human = judge[:50] + rng.normal(0.3, 0.5, size=50)
        >>> mean = lm.statistics.prediction_powered_mean(human, judge[:50], judge[50:])
        >>> print(f"{mean.estimate:.2f} [{mean.low:.2f}, {mean.high:.2f}], narrower by {mean.narrower:.0%}")
        3.37 [3.20, 3.54], narrower by 41%
    """
    human, judge_labelled = as_floats(human, "labels"), as_floats(judge_labelled)
    judge_unlabelled = as_floats(judge_unlabelled)
    probabilities = None if probabilities is None else as_floats(probabilities, "probabilities")
    _check(human, judge_labelled, judge_unlabelled, probabilities, weight, confidence)
    if about not in get_args(About):
        raise InvalidInputError(f"about cannot be {about!r}", 'give "more" or "these"')
    equal_odds = probabilities is None or np.ptp(probabilities) == 0
    n, rest = len(human), len(judge_unlabelled)
    judge = np.concatenate([judge_labelled, judge_unlabelled])
    # With equal probabilities labelled and unlabelled examples are two independent samples (PPI++). Otherwise labels
    # are a weighted draw from all examples (active inference), and the judge's mean over all is what they estimate.
    others = judge_unlabelled if equal_odds and rest else judge
    inverse = np.ones(n) if probabilities is None or equal_odds else 1 / probabilities
    labels = _Labels(human, judge_labelled, inverse / inverse.mean(), float(others.mean()))
    if weight is not None:
        used, slopes = weight, np.full(n, weight)
    elif n < _FEWEST_TO_TUNE or rest < 2:
        used, slopes = 0.0, np.zeros(n)
    else:
        used, slopes = _slopes(labels, np.ones(n) if equal_odds else inverse * (inverse - 1), judge)
        # PPI++: the slope, times N / (n + N), minimises the variance of the two samples together.
        share = rest / len(judge) if equal_odds else 1.0
        used, slopes = used * share, slopes * share
    interval = _interval_of_two_samples if equal_odds else _interval_of_weighted_draw
    estimate = interval(labels, judge_unlabelled, used, slopes, confidence)
    alone = interval(labels, judge_unlabelled, 0.0, np.zeros(n), confidence)
    if weight is None and estimate.high - estimate.low > alone.high - alone.low:
        used, estimate = 0.0, alone
    result = PredictionPowered(estimate.estimate, estimate.low, estimate.high, used, alone, n)
    if about == "more":
        return result
    # The slope was for a score less its mean over the others. Less its mean over all, it is larger by (n + N) / N.
    slopes = slopes * (len(judge) / rest if equal_odds and rest else 1.0)
    odds = np.full(n, n / len(judge)) if probabilities is None or equal_odds else probabilities
    return _about_these(result, replace(labels, centre=float(judge.mean())), slopes, odds, confidence)


def _about_these(
    result: PredictionPowered, labels: _Labels, slopes: FloatArray, odds: FloatArray, confidence: float
) -> PredictionPowered:
    """Return the result with intervals about the mean of the examples at hand; `odds`: (n,) probabilities of a label.

    Residuals of labelled examples estimate the error of those without a label; an example with probability 1 adds none.
    """
    n = len(labels.human)
    # Examples that are labelled for certain add nothing to the error, and do not show its size either.
    freedom = max(int(np.count_nonzero(odds < 1)) - 1, 1)

    def bounded(interval: Interval, slopes: FloatArray) -> Interval:
        if np.all(odds == 1):
            return Interval(interval.estimate, interval.estimate, interval.estimate)
        if math.isnan(interval.low):
            return interval
        errors = labels.human - slopes * (labels.judge - labels.centre)
        errors = labels.weights * (errors - labels.weights @ errors / n) / n
        return _student(interval.estimate, float((1 - odds) @ errors**2) * n / (n - 1), freedom, confidence)

    both = bounded(result, slopes if result.weight != 0 else np.zeros(n))
    alone = bounded(result.human_only, np.zeros(n))
    return replace(result, low=both.low, high=both.high, human_only=alone, about="these")


def _slopes(labels: _Labels, importance: FloatArray, judge: FloatArray) -> tuple[float, FloatArray]:
    """Return the slope of human labels on the judge's scores, and (n,) leave-one-out slopes; 0 where undefined.

    With `importance` w (w - 1), where 1 / w is the probability of being drawn, it minimises the variance due to the
    drawing. Few labels often miss the far ends of skewed scores, and a slope over the labelled examples would be far
    too steep. It is therefore divided by the ratio of the variance of all scores to that of the labelled ones.

    Args:
        importance: (n,) weights of the labelled examples.
        judge: (n + N,) scores of all examples, the labelled first.
    """
    x, n = labels.judge, len(labels.judge)
    if importance.sum() == 0:
        return 0.0, np.zeros(n)
    covariance, variance = _covariances(x, labels.human, importance), _covariances(x, x, importance)
    labelled, overall = _covariances(x, x, labels.weights), _covariances(judge, judge, np.ones(len(judge)))
    missed = np.divide(overall[: n + 1], labelled, out=np.ones(n + 1), where=labelled > 0)
    # A variance below `noise` is 0: scores that differ by rounding only, or are equal but for the one left out.
    noise = max((1e-12 * np.abs(judge).max()) ** 2, 1e-9 * variance[0])
    slopes = np.divide(covariance, variance, out=np.zeros(n + 1), where=variance > noise) / np.maximum(missed, 1)
    return float(slopes[0]), slopes[1:]


def _covariances(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Return (1 + n,) the weighted covariance, then those without one of the n examples; 0 where none is left.

    All n in O(n): leaving out one example changes the sum of products by its product times total / (total - weight).
    """
    total = weights.sum()
    others = total - weights
    products = (x - weights @ x / total) * (y - weights @ y / total)
    whole = weights @ products
    lost = weights * np.divide(total, others, out=np.zeros_like(others), where=others > 0)
    remaining = np.divide(whole - lost * products, others, out=np.zeros_like(others), where=others > 0)
    return np.concatenate([[whole / total], remaining])


def _interval_of_two_samples(
    labels: _Labels, judge_unlabelled: FloatArray, used: float, slopes: FloatArray, confidence: float
) -> Interval:
    """Return the interval where labelled and unlabelled examples are two independent random samples."""
    n, rest = len(labels.human), len(judge_unlabelled)
    rectified = labels.human - slopes * (labels.judge - labels.centre)
    if n < 2 or np.ptp(labels.human) == 0:
        return Interval(float(rectified.mean()), _NAN, _NAN)
    labelled = rectified.var(ddof=1) / n
    imputed = used**2 * judge_unlabelled.var(ddof=1) / rest if used != 0 else 0.0
    variance = labelled + imputed
    share = labelled / variance if variance > 0 else 1.0
    # Degrees of freedom of a sum of two variances: Welch 1947, Biometrika 34; Satterthwaite 1946, Biometrics 2(6).
    freedom = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / max(rest - 1, 1))
    return _student(float(rectified.mean()), variance, freedom, confidence)


def _interval_of_weighted_draw(
    labels: _Labels, judge_unlabelled: FloatArray, used: float, slopes: FloatArray, confidence: float
) -> Interval:
    """Return the interval where all examples are a random sample, and labels a draw from it with unequal odds."""
    n, total = len(labels.human), len(labels.human) + len(judge_unlabelled)
    rectified = labels.human - slopes * (labels.judge - labels.centre)
    estimate = float(labels.weights @ rectified / n)
    if n < 2 or np.ptp(labels.human) == 0:
        return Interval(estimate, _NAN, _NAN)
    errors = labels.weights * (rectified - estimate) * total / n * math.sqrt(n / (n - 1))
    # The contribution of every example to the estimate, drawn or not: their variance covers both kinds of sampling.
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
    check_confidence(confidence)
    if human.ndim != 1 or human.shape != judge_labelled.shape or judge_unlabelled.ndim != 1 or not len(human):
        raise InvalidInputError(
            f"labels of shape {human.shape}, judge's scores of shape {judge_labelled.shape} and "
            f"{judge_unlabelled.shape} do not fit together",
            "give at least one label, one score for each label, and one for each example without a label",
        )
    for name, array in (
        ("labels", human),
        ("the judge's scores", judge_labelled),
        ("the unlabelled scores", judge_unlabelled),
    ):
        missing = np.flatnonzero(~np.isfinite(array))
        if missing.size:
            raise InvalidInputError(
                f"row {missing[0]} of {name} is NaN or infinite",
                "pass examples without a label as judge_unlabelled only",
            )
    if weight is not None and (not math.isfinite(weight) or (weight != 0 and len(judge_unlabelled) < 2)):
        raise InvalidInputError(
            f"weight {weight} with {len(judge_unlabelled)} examples without a label", "leave weight out"
        )
    if probabilities is not None and not (
        probabilities.shape == human.shape and np.all((probabilities > 0) & (probabilities <= 1))
    ):
        raise InvalidInputError("probabilities must be one per label, above 0 and at most 1", "use those of the draw")
    if probabilities is not None and np.all(probabilities == 1) and len(judge_unlabelled):
        raise InvalidInputError(
            "all labels have probability 1: examples that were not drawn at random tell nothing about the others",
            "leave probabilities out where the labelled examples are a random sample",
        )


@dataclass(frozen=True, eq=False)
class LabelDraw:
    """Examples to label, in a random order.

    The first j of them are a draw too, with j / k times the probabilities. Labelling may therefore stop early, but not
    because of what the labels say.

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
    """Draw the examples that humans should label next, preferring those on which the judge is likely to be wrong.

    Source: Zrnic and Candès 2024, "Active statistical inference" (https://arxiv.org/abs/2403.03208): probabilities in
    proportion to the judge's expected error give the narrowest interval. Mixed with equal ones, examples on which the
    judge is wrong although it seems certain keep a probability, and weights stay bounded. Exactly `n_labels` are drawn,
    with exactly these probabilities, by systematic sampling in random order (Madow 1949, Annals of Mathematical
    Statistics 20).

    Draw all labels that you can afford at once. A second draw represents only the examples that the first left over;
    the labels of the first then count with probability 1.

    Args:
        uncertainty: (n,) expected error of the judge, 0 or more, such as the standard deviation of repeated judgements;
            or (judges, n) scores of several judges, whose standard deviation is taken.
        n_labels: how many to draw.
        labelled: (n,) True for examples that already have a label; these are not drawn.
        uniform: the part of the probability that is spread equally, in (0, 1]; 1 ignores the uncertainty.
        seed: the same seed and arguments give the same draw.

    Raises:
        InvalidInputError: shapes do not match, fewer than `n_labels` examples are left, or a setting is out of range.

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
        raise InvalidInputError(f"uniform cannot be {uniform}", "give a number above 0 and up to 1, such as 0.3")
    left = np.flatnonzero(~labelled)
    if not 1 <= n_labels <= len(left):
        raise InvalidInputError(
            f"{n_labels} labels of {len(left)} examples", "draw at least 1, and at most as many as are left"
        )
    probabilities = _inclusion(expected[left], n_labels, uniform)
    # Systematic sampling: marks at distance 1 on a line of the cumulated probabilities, in random order. No probability
    # exceeds 1, so that two marks never hit the same example.
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(probabilities))
    marks = np.arange(n_labels) + generator.random()
    edges = np.cumsum(probabilities[shuffled])
    # Rounding must not leave the last mark beyond the last edge.
    edges *= n_labels / edges[-1]
    edges[-1] = np.inf
    drawn = generator.permutation(shuffled[np.searchsorted(edges, marks, side="right")])
    return LabelDraw(left[drawn], probabilities[drawn])


def _inclusion(expected: FloatArray, n_labels: int, uniform: float) -> FloatArray:
    """Return (n,) probabilities that sum to `n_labels`; any excess over 1 is divided among the others in proportion."""
    scale = expected.max()
    # Divided by the largest first, so that tiny or huge values neither underflow nor overflow in the sum.
    weights = expected / scale if scale > 0 else np.ones_like(expected)
    weights = (1 - uniform) * weights / weights.sum() + uniform / len(weights)
    certain = np.zeros(len(weights), dtype=bool)
    # Each round fixes the examples whose share exceeds 1 and divides the rest anew, so it ends after n rounds at most.
    while True:
        shares = np.where(certain, 0.0, weights)
        total = shares.sum()
        probabilities = np.where(certain, 1.0, shares * ((n_labels - certain.sum()) / total if total else 0.0))
        beyond = (probabilities >= 1) & ~certain
        if not beyond.any():
            return probabilities
        certain |= beyond
