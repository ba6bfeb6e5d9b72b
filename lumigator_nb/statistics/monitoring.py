"""Changes over time: differences that are looked at again and again, with errors that hold for all looks together.

Two kinds of looks. A model that is scored anew at later dates, on the same examples, has another mean at each date:
each look has a parameter of its own, and gets a share of the error (:func:`look_confidence`, :func:`changes`). A
comparison of two models that gets more examples from look to look has one parameter, for which there are confidence
sequences (:func:`difference_sequence`).

Not river or ruptures: their detectors find change points in one long stream of values, tuned for few false alarms per
thousand, and neither pair examples nor hold an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence
from lumigator_nb.statistics.bootstrap import Bounds, Difference, difference
from lumigator_nb.statistics.resampling import FloatArray, resampled_scores
from lumigator_nb.statistics.sequences import betting_sequence, normal_sequence, within_bounds


@dataclass(frozen=True)
class Change:
    """How much a score at one date differs from that of the reference date.

    Attributes:
        date: position of the date.
        difference: the mean at the date less that at the reference, on their common examples, with an interval that
            holds together with those of all other dates. NaN with fewer than two common examples.
        n: number of common examples.
        changed: whether the interval's test finds a difference.
    """

    date: int
    difference: Difference
    n: int
    changed: bool


def look_confidence(look: int, confidence: float = 0.95) -> float:
    """Return the confidence of one look, so that all looks hold together however many follow.

    Look t gets 1 / (t (t + 1)) of the error; these shares add up to 1 (Bonferroni, with an error for endlessly many
    tests as in online testing: Foster and Stine 2008, "α-investing", JRSS B 70(2)). It holds for looks at the same
    examples, at others, and for any dependence. The tenth look's interval is 1.8 times as wide as a single one's, the
    hundredth's 2.3 times.

    Args:
        look: number of the look, from 1.
        confidence: of all looks together, in (0, 1).

    Raises:
        InvalidInputError: a value is out of range.

    Examples:
        >>> [round(lm.statistics.look_confidence(look), 4) for look in (1, 2, 10)]
        [0.975, 0.9917, 0.9995]
    """
    check_confidence(confidence)
    if look < 1:
        raise InvalidInputError(f"look cannot be {look}", "count looks from 1")
    return 1 - (1 - confidence) / (look * (look + 1))


def changes(
    scores: ArrayLike,
    *,
    reference: int = 0,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> list[Change]:
    """Return how much the score of one model differs, at each date, from that of a reference date.

    Each date is compared on the examples that both have, by the paired test of
    :func:`~lumigator_nb.statistics.bootstrap.difference` at the confidence of :func:`look_confidence`. The result for a
    date does not depend on later ones, so that one may look whenever there is a new date: in simulations of 100 dates
    without a change, at most 5% of histories had any alarm.

    Args:
        scores: (dates, n) scores in the order of time; NaN where an example was not scored. With repeats the means of
            :func:`~lumigator_nb.statistics.repeats.mean_over_repeats`.
        reference: position of the date to compare with. It must have been chosen before looking.
        confidence: of all looks together, in (0, 1).
        n_resamples, seed: of the bootstrap.

    Returns:
        One for each date but the reference, in the order of time.

    Raises:
        InvalidInputError: `scores` does not have two axes, or a setting is out of range.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.beta(6, 2, size=100) + rng.normal(0, 0.05, size=(4, 100)) - [[0], [0], [0], [0.04]]
        >>> [change.changed for change in lm.statistics.changes(scores)]
        [False, False, True]
    """
    table = as_floats(scores)
    if table.ndim != 2 or not -len(table) <= reference < len(table):
        raise InvalidInputError(
            f"scores of shape {table.shape} with date {reference} as reference", "give one row per date"
        )
    reference %= len(table)
    found = []
    for look, date in enumerate((date for date in range(len(table)) if date != reference), start=1):
        level = look_confidence(look, confidence)
        apart = table[date] - table[reference]
        apart = apart[~np.isnan(apart)]
        gap = _difference(apart, level, n_resamples, seed)
        found.append(Change(date, gap, len(apart), bool(gap.p_value <= 1 - level)))
    return found


def _difference(apart: FloatArray, confidence: float, n_resamples: int, seed: int) -> Difference:
    if len(apart) < 2:
        return Difference(float(apart.mean()) if len(apart) else np.nan, np.nan, np.nan, np.nan)
    draws = resampled_scores(apart, n_resamples=n_resamples, seed=seed)
    return difference(float(apart.mean()), draws, apart, confidence=confidence)


def difference_sequence(
    scores: ArrayLike, others: ArrayLike, *, bounds: Bounds | None = None, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return, after each example, the bounds of the mean difference of two models that hold at all looks together.

    For comparisons that get more examples until they are clear. Scores with bounds get
    :func:`~lumigator_nb.statistics.sequences.betting_sequence`, which is exact for any distribution, others
    :func:`~lumigator_nb.statistics.sequences.normal_sequence`, which starts at 64 examples.

    Args:
        scores, others: (t,) scores of the same examples in random order.
        bounds: the least and the greatest possible score of an example; None if there are none.
        confidence: probability that the difference lies within the bounds after every example, in (0, 1).

    Returns:
        Two arrays of (t,): the best lower and upper bound so far of the mean of `scores` less `others`.

    Raises:
        InvalidInputError: the arrays differ in shape, a score is missing or out of bounds, or a setting is wrong.

    Examples:
        >>> a, b = np.random.default_rng(0).beta([[4], [2]], 2, size=(2, 300))
        >>> low, high = lm.statistics.difference_sequence(a, b, bounds=(0, 1))
        >>> int(np.argmax(low > 0))
        69
    """
    values, other_values = as_floats(scores), as_floats(others)
    if values.shape != other_values.shape:
        raise InvalidInputError(
            f"scores of shape {values.shape} and {other_values.shape} are not paired", "score the same examples"
        )
    if bounds is None:
        return normal_sequence(values - other_values, confidence=confidence)
    low, high = bounds
    apart = within_bounds(values, low, high) - within_bounds(other_values, low, high)
    return betting_sequence(apart, low - high, high - low, confidence=confidence)
