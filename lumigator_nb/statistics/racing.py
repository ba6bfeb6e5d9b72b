"""Races: find the best model, and stop as soon as the examples so far decide it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence
from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.sequences import (
    betting_bounds,
    difference_bounds,
    first_shown,
    normal_sequence,
    paired,
    spans,
    within_bounds,
)
from lumigator_nb.statistics.skewness import skewness_of, unstretched

# Looks of `looks`: fewer than 20 examples decide nothing; four per doubling end a race at most a fifth too late.
_FIRST_LOOK, _LOOKS_PER_DOUBLING = 20, 4
# The share of the error that a race with a known end reserves for one test after the last example.
# docs/statistics.md has the simulation.
_LAST_TEST_SHARE = 0.5


@dataclass(frozen=True)
class Race:
    """The state of a race, or its result.

    Attributes:
        conclusion: "best": one model is left, and each of the others is worse than some model. "equivalent": the means
            of the models left lie within `indifference` of the leader's. "undecided": neither, so far.
        leader: the model with the best mean among those left.
        remaining: the models that were not dropped, the best mean first.
        dropped_at: per model, the number of examples after which it was dropped; None if it was not.
        dropped_by: per model, the model that beat it; None if it was not dropped.
        stopped_at: the number of examples after which the race ended; None while it is undecided.
        used: per model, the number of examples that the race needed it for.
        by_last_test: the models that only the test after all examples dropped.
    """

    conclusion: Literal["best", "equivalent", "undecided"]
    leader: int
    remaining: tuple[int, ...]
    dropped_at: tuple[int | None, ...]
    dropped_by: tuple[int | None, ...]
    stopped_at: int | None
    used: tuple[int, ...]
    by_last_test: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class RaceStandings:
    """Means so far and the bounds of their confidence sequences; all arrays are (models,).

    Attributes:
        mean, low, high: of each model's scores. Each interval holds at every look, but not for all models at once.
        difference, difference_low, difference_high: to the leader, on the examples with scores of both.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    difference: FloatArray
    difference_low: FloatArray
    difference_high: FloatArray


def race(
    scores: ArrayLike,
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
    indifference: float = 0.0,
    higher_is_better: bool = True,
    total: int | None = None,
    groups: ArrayLike | None = None,
) -> Race:
    """Run a race of models over examples in random order, with a look after each example.

    A model is shown to be better than another where a bettor against that would have gained too much
    (:mod:`~lumigator_nb.statistics.sequences`), at an error of α / (2 (m - 1)) for each ordered pair, with
    α = 1 - confidence. The best model can be dropped only by one of m - 1 others, so wrongly with a probability of at
    most α / 2. Where all are equal, a winner requires that m - 1 of the m are dropped, each with a probability of at
    most α / 2, so that one is named with a probability of at most α / 2 · m / (m - 1) ≤ α. "Equivalent" is wrong only
    if one of the m - 1 pairs with the leader is: at most α for a fixed leader.

    The verdict at an example depends on no later one. A race may therefore be called again with more examples, in
    batches of any size, and dropped models need no more scores.

    With `total`, half of α is reserved for one more powerful test: after the last example, a t-test of every ordered
    pair of the models left, corrected for skewness (Johnson 1978), at an error of α / (4 (m - 1)) each. The race has
    the other half, so that the bounds above hold for both together. The last test is approximate where the race is
    exact. No p-value of it is below that of as many random signs as there are examples on which the two differ. It only
    drops models; "equivalent" is left to the race.

    Args:
        scores: (models, n), columns in random order; NaN where there is none, or none was requested any more.
        bounds: the least and the greatest possible score: the race is exact for any distribution. None: asymptotic.
        confidence: of the conclusion, in (0, 1).
        indifference: differences below it do not matter, in units of the score; 0 never calls models equivalent.
        higher_is_better: False where the lowest score is best.
        total: the number of all examples, fixed before the race; None where there may always be more.
        groups: (n,) or longer, labels of all examples, where examples of one group (such as one customer) are not
            independent. Groups are in random order, the examples of each side by side; the race looks after whole
            groups only. A missing score counts as the mean of the others in its group.

    Raises:
        InvalidInputError: fewer than two models, scores out of bounds, a setting out of range, or groups whose examples
            are not side by side.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [3]], 3, size=(2, 400))
        >>> race = lm.statistics.race(scores, bounds=(0, 1))
        >>> race.conclusion, race.leader, race.stopped_at
        ('best', 0, 52)
    """
    scores = as_floats(scores)
    if scores.ndim != 2 or len(scores) < 2:
        raise InvalidInputError(
            f"scores of shape {scores.shape} are not a race", "give one row per model, for two models or more"
        )
    check_confidence(confidence)
    if not indifference >= 0:
        raise InvalidInputError(f"indifference cannot be {indifference}", "give 0 or more, in units of the score")
    n = scores.shape[1]
    if total is not None and n > total:
        raise InvalidInputError(f"{n} examples of {total} in all", "give the number of all examples as total")
    scores = scores if bounds is None else within_bounds(scores, *bounds)
    units = None if groups is None else _Groups(groups, n, bounds)
    if units is not None:
        scores, indifference = units.scores(scores), indifference * units.shrunk
    upward = scores if higher_is_better else -scores
    level = (1 - confidence) / (2 * (len(scores) - 1))
    last_level = 0.0 if total is None else _LAST_TEST_SHARE * level
    reach = None if bounds is None else bounds[1] - bounds[0]
    beats = _pairs(upward, 0.0, level - last_level, reach)
    # When the row is shown to be less than `indifference` below the column. Alike is what holds both ways.
    near = _pairs(upward, -indifference, level, reach) if indifference > 0 else np.full_like(beats, math.inf)
    alike = np.maximum(near, near.T)
    verdict = _Walk(upward, beats, alike).result()
    if total is not None and verdict.stopped_at is None and n == total:
        verdict = _last_test(upward, beats, alike, last_level, verdict)
    return verdict if units is None else units.in_examples(verdict)


def _last_test(upward: FloatArray, beats: FloatArray, alike: FloatArray, level: float, undecided: Race) -> Race:
    """Return the verdict after one more test of each ordered pair, at an error of `level` each."""
    better = np.zeros_like(beats, dtype=bool)
    for i, one in enumerate(upward):
        for j, other in enumerate(upward):
            differences = paired(one[None], other[None])[0]
            better[i, j] = _p_above_zero(differences[~np.isnan(differences)]) <= level
    tested = np.where(np.isinf(beats) & better, float(upward.shape[1]), beats)
    last = _Walk(upward, tested, alike).result()
    return replace(last, by_last_test=tuple(j for j in undecided.remaining if last.dropped_at[j] is not None))


def _p_above_zero(differences: FloatArray) -> float:
    """Return the one-sided p-value that the mean of (n,) differences is above 0: a t-test corrected for skewness."""
    from scipy.special import stdtr

    n, differing = len(differences), int(np.count_nonzero(differences))
    # One-sided: a model that is not ahead is not tested, so that no p-value lies between one half and 1.
    if n < 2 or not differences.sum() > 0:
        return 1.0
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    distance = float(differences.mean()) / error if error > 0 else math.inf
    t = unstretched(np.array(distance), -skewness_of(differences) / math.sqrt(n))
    # Student's t overrates few differences of one sign; n equal signs by chance have the probability 2^-n.
    return max(float(stdtr(n - 1, -t)), 0.5**differing)


class _Groups:
    """Groups of examples as the units of a race.

    A model's score on a group is the sum over its examples divided by the size of the largest group. As a sum, it
    weighs every example as the mean over all examples does; divided so, it keeps the bounds of the scores.

    Attributes:
        ends: (groups,) the number of examples after which each group ends, of the groups that are complete so far.
        shrunk: the mean size of all groups relative to the largest: differences of the sums are smaller by this factor.
    """

    def __init__(self, labels: ArrayLike, n: int, bounds: tuple[float, float] | None) -> None:
        values = np.asarray(labels)
        if values.ndim != 1 or len(values) < n:
            raise InvalidInputError(f"groups of shape {values.shape} for {n} examples", "give one label per example")
        starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.empty(0, dtype=int)
        if len(starts) != len(set(values.tolist())):
            raise InvalidInputError("examples of one group are not side by side", "order them by group")
        ends = np.append(starts[1:], len(values)).astype(np.int64)
        sizes = ends - starts
        self.ends = ends[ends <= n]
        self._sizes, self._largest = sizes[: len(self.ends)], int(sizes.max(initial=1))
        self._middle = 0.0 if bounds is None else sum(bounds) / 2
        self.shrunk = float(sizes.mean() / self._largest) if len(sizes) else 1.0

    def scores(self, scores: FloatArray) -> FloatArray:
        """Return (models, groups) scores from (models, n); a missing score counts as the mean of its group's others."""
        if not len(self.ends):
            return np.empty((len(scores), 0))
        starts, complete = np.append(0, self.ends[:-1]), scores[:, : self.ends[-1]]
        counts = np.add.reduceat(~np.isnan(complete), starts, axis=1, dtype=np.int64)
        # About the middle of the bounds, so that the shorter sums of small groups stay within them.
        sums = np.add.reduceat(np.nan_to_num(complete - self._middle), starts, axis=1)
        with np.errstate(invalid="ignore"):  # 0 / 0 in a group without any score, which is then NaN
            means = np.where(counts > 0, sums / counts, np.nan)
        return np.asarray(self._middle + means * self._sizes / self._largest, dtype=np.float64)

    def widened(self, values: FloatArray, middle: float | None = None) -> FloatArray:
        """Return means or bounds of group sums in units of an example's score. `middle` is 0 for differences."""
        about = self._middle if middle is None else middle
        return about + (values - about) / self.shrunk

    def in_examples(self, verdict: Race) -> Race:
        """Return the verdict with numbers of examples instead of groups."""

        def after(groups: int | None) -> int | None:
            return groups if not groups else int(self.ends[groups - 1])

        return replace(
            verdict,
            dropped_at=tuple(after(at) for at in verdict.dropped_at),
            stopped_at=after(verdict.stopped_at),
            used=tuple(after(used) or 0 for used in verdict.used),
        )

    def in_groups(self, verdict: Race) -> Race:
        """Return the verdict with numbers of groups instead of examples."""
        return replace(verdict, used=tuple(int(np.searchsorted(self.ends, used, "right")) for used in verdict.used))


def _pairs(upward: FloatArray, above: float, level: float, reach: float | None) -> FloatArray:
    """Return (m, m) after how many examples the row is shown to exceed the column by `above`; infinite if never."""
    positions = np.stack([first_shown(paired(one, upward), above, level, reach, spans(one, upward)) for one in upward])
    np.fill_diagonal(positions, math.inf)
    return positions


class _Walk:
    """Steps through the examples at which a model is dropped, from tables of when each pair is decided."""

    def __init__(self, upward: FloatArray, beats: FloatArray, alike: FloatArray) -> None:
        self._beats, self._alike = beats, alike
        present = ~np.isnan(upward)
        counts = np.cumsum(present, axis=1)
        with np.errstate(invalid="ignore"):
            means = np.cumsum(np.where(present, upward, 0.0), axis=1) / counts
        # A model without a score so far is never the leader.
        self._means = np.where(counts > 0, means, -math.inf)
        self._n = upward.shape[1]
        self._left = list(range(len(upward)))
        self._dropped_at: list[int | None] = [None] * len(upward)
        self._dropped_by: list[int | None] = [None] * len(upward)

    def result(self) -> Race:
        """Return the state of the race after the last example."""
        at = 0
        while len(self._left) > 1:
            next_drop = min(self._beats[i, j] for i in self._left for j in self._left if i != j)
            alike_at = self._alike_before(at, next_drop)
            if alike_at is not None:
                return self._ended("equivalent", alike_at)
            if math.isinf(next_drop):
                return self._ended("undecided", None)
            at = int(next_drop)
            means = self._means[:, at - 1]
            beaten_by = {j: [i for i in self._left if self._beats[i, j] <= at] for j in self._left}
            losers = [j for j in self._left if beaten_by[j]]
            # A cycle (A beats B, B beats C, C beats A) is possible within the error. One model must stay.
            if len(losers) == len(self._left):
                losers.remove(max(losers, key=means.__getitem__))
            for j in losers:
                self._dropped_at[j] = at
                self._dropped_by[j] = max(beaten_by[j], key=means.__getitem__)
            self._left = [j for j in self._left if j not in losers]
        return self._ended("best", at)

    def _alike_before(self, after: int, before: float) -> int | None:
        """Return the first example, before the next drop, after which all models are near the leader, or None."""
        left = np.array(self._left)
        pairs = self._alike[np.ix_(left, left)].copy()
        np.fill_diagonal(pairs, 0)
        ready = pairs.max(axis=1)
        # Between two drops the models left do not change, but their leader does: hence a search over all examples.
        first, last = max(after, 1, ready.min()), min(before - 1, self._n)
        if first > last:
            return None
        moments = np.arange(int(first), int(last) + 1)
        leaders = self._means[np.ix_(left, moments - 1)].argmax(axis=0)
        near = np.flatnonzero(ready[leaders] <= moments)
        return int(moments[near[0]]) if len(near) else None

    def _ended(self, conclusion: Literal["best", "equivalent", "undecided"], at: int | None) -> Race:
        seen = self._n if at is None else at
        # A stable sort: of equal models, the first leads.
        order = sorted(self._left, key=lambda j: -self._means[j, seen - 1]) if seen else self._left
        return Race(
            conclusion=conclusion,
            leader=order[0],
            remaining=tuple(order),
            dropped_at=tuple(self._dropped_at),
            dropped_by=tuple(self._dropped_by),
            stopped_at=at,
            used=tuple(seen if dropped is None else dropped for dropped in self._dropped_at),
        )


def race_standings(
    scores: ArrayLike,
    verdict: Race,
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> RaceStandings:
    """Return means of the models and differences to the leader, with intervals that hold at every look.

    Args:
        scores, bounds, confidence, groups: as in :func:`race`.
        verdict: the result of :func:`race` for them.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [3]], 3, size=(2, 400))
        >>> race = lm.statistics.race(scores, bounds=(0, 1))
        >>> standings = lm.statistics.race_standings(scores, race, bounds=(0, 1))
        >>> standings.mean.round(2), standings.low.round(2), standings.high.round(2)
        (array([0.64, 0.48]), array([0.55, 0.39]), array([0.71, 0.58]))
    """
    scores = as_floats(scores)
    scores = scores if bounds is None else within_bounds(scores, *bounds)
    if groups is not None:
        return _standings_of_groups(scores, verdict, bounds, confidence, _Groups(groups, scores.shape[1], bounds))
    cut = [row[:used] for row, used in zip(scores, verdict.used, strict=True)]
    means = np.array([_last(row, bounds, confidence) for row in cut])
    best = scores[verdict.leader]
    reach = None if bounds is None else bounds[1] - bounds[0]
    differences = np.array(
        [
            difference_bounds(row, best[: len(row)], confidence=confidence)
            if reach is None
            else _last(row - best[: len(row)], (-reach, reach), confidence)
            for row in cut
        ]
    )
    differences[verdict.leader] = 0.0
    return RaceStandings(*means.T, *differences.T)


def _standings_of_groups(
    scores: FloatArray, verdict: Race, bounds: tuple[float, float] | None, confidence: float, units: _Groups
) -> RaceStandings:
    standings = race_standings(units.scores(scores), units.in_groups(verdict), bounds=bounds, confidence=confidence)
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    # The means shown are those of the examples; groups race by sums, whose mean depends on the sizes of the groups.
    # Bounds are widened back to one example's score, and lie neither inside of the mean nor outside of the scores.
    asked = np.arange(scores.shape[1]) < np.array(verdict.used)[:, None]
    mean, difference = (_means(np.where(asked, values, np.nan)) for values in (scores, scores - scores[verdict.leader]))
    return RaceStandings(
        mean,
        np.fmin(mean, np.maximum(units.widened(standings.low), low)),
        np.fmax(mean, np.minimum(units.widened(standings.high), high)),
        difference,
        np.fmin(difference, np.maximum(units.widened(standings.difference_low, 0.0), low - high)),
        np.fmax(difference, np.minimum(units.widened(standings.difference_high, 0.0), high - low)),
    )


def _means(values: FloatArray) -> FloatArray:
    """Return (models,) means of (models, n) values without NaN; NaN, without a warning, where all are."""
    present = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis=1) / present.sum(axis=1), dtype=np.float64)


def _last(values: FloatArray, bounds: tuple[float, float] | None, confidence: float) -> tuple[float, float, float]:
    """Return the mean of (n,) values and the last bounds of its confidence sequence; NaN without values."""
    present = values[~np.isnan(values)]
    if not len(present):
        return (math.nan,) * 3
    if bounds is None:
        lows, highs = normal_sequence(present, confidence=confidence)
        return float(present.mean()), float(lows[-1]), float(highs[-1])
    return float(present.mean()), *betting_bounds(present, *bounds, confidence=confidence)


def looks(n: int) -> list[int]:
    """Return the numbers of examples after which to look: 20, then four per doubling, and all n.

    Examples:
        >>> lm.statistics.looks(60)
        [20, 24, 28, 34, 40, 48, 57, 60]
    """
    positions, position = [], float(_FIRST_LOOK)
    while position < n:
        positions.append(round(position))
        position *= 2 ** (1 / _LOOKS_PER_DOUBLING)
    return [*positions, n]
