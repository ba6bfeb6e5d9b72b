"""Races: which model is the best, decided as soon as the examples seen so far allow it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
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

_FIRST_LOOK, _LOOKS_PER_DOUBLING = 20, 4
# The share of the error that a race with a known end keeps for one test after the last example.
_KEPT = 0.5


@dataclass(frozen=True)
class Race:
    """How a race stands, or how it ended.

    Attributes:
        conclusion: "best": one model is left, each of the others is worse than some model; "equivalent": the means of
            those left lie within `indifference` of the leading one's; "undecided": neither, so far.
        leader: the model with the best mean among those left.
        remaining: the models that were not dropped, the best mean first.
        dropped_at: per model after how many examples it was dropped, and `dropped_by` which; None where it was not.
        stopped_at: after how many examples the race ended; None while it goes on.
        used: examples that each model was needed for.
        by_last_test: the models that the race itself did not drop, but the one test after all examples did.
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
    """Means so far and their confidence sequences, for (models,).

    Attributes:
        mean, low, high: of each model's scores; each interval holds at every look by itself.
        difference, difference_low, difference_high: to the leading model, on the examples that both have.
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
    """Let models race over examples in random order, looking after each.

    That one model is better than another is shown where a bettor against it would have gained too much
    (:mod:`~lumigator_nb.statistics.sequences`), at an error of α / (2 (m - 1)) for each ordered pair, α being
    1 - confidence. The best model is wrongly dropped only by one of m - 1 others, so with a probability of at most
    α / 2. Where all are equal, a winner needs m - 1 of the m dropped, each with a probability of at most α / 2, so that
    one is named with a probability of at most α / 2 · m / (m - 1) ≤ α. "Equivalent" is claimed wrongly only
    where one of the m - 1 pairs with the leader is: at most α for a given leader.

    The verdict at an example depends on no later one. So a race may be called again with more examples, in lots of any
    size, and models that were dropped need no more scores.

    With `total`, half of α is kept for one look that costs less: after the last example, a t-test of every ordered pair
    of the models left, corrected for skewness (Johnson 1978), at an error of α / (4 (m - 1)) each. The race before it
    has the other half, so that all of the above holds for both together. The last test is approximate where the race is
    exact; no p-value of it is below that of as many random signs as there are examples on which the two differ. It only
    finds models worse: "equivalent" is left to the race.

    Args:
        scores: (models, n); NaN where an example has none, or was not asked any more. Columns in random order.
        bounds: the least and the greatest possible score: the race is exact for any distribution. None: asymptotic.
        confidence: of the conclusion, in (0, 1).
        indifference: differences below it do not matter, in units of the score; 0 never calls models equivalent.
        higher_is_better: False where the lowest score is best.
        total: how many examples there are, fixed before the first; None: there may always be more.
        groups: labels of all examples that there are, (n,) or more, where examples come in groups, such as those of one
            customer, that are no independent witnesses. Groups are in random order, the examples of each side by side;
            the race looks after whole groups only. A missing score counts as the mean of its group's others.

    Raises:
        InvalidInputError: fewer than two models, scores out of bounds, a setting out of range, or groups that fall
            apart.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [3]], 3, size=(2, 400))
        >>> race = lm.statistics.race(scores, bounds=(0, 1))
        >>> race.conclusion, race.leader, race.stopped_at
        ('best', 0, 52)
    """
    scores = as_floats(scores)
    _check(scores, confidence, indifference, total)
    asked = scores.shape[1]
    scores = scores if bounds is None else within_bounds(scores, *bounds)
    units = None if groups is None else _Groups(groups, scores.shape[1], bounds)
    if units is not None:
        scores, indifference = units.scores(scores), indifference * units.shrunk
    upward = scores if higher_is_better else -scores
    level = (1 - confidence) / (2 * (len(scores) - 1))
    kept = 0.0 if total is None else _KEPT * level
    reach = None if bounds is None else bounds[1] - bounds[0]
    beats = _pairs(upward, 0.0, level - kept, reach)
    near = _pairs(upward, -indifference, level, reach) if indifference > 0 else np.full_like(beats, math.inf)
    alike = np.maximum(near, near.T)
    verdict = _Walk(upward, beats, alike).result()
    if total is not None and verdict.stopped_at is None and asked == total:
        verdict = _last_test(upward, beats, alike, kept, verdict)
    return verdict if units is None else units.in_examples(verdict)


def _last_test(upward: FloatArray, beats: FloatArray, alike: FloatArray, level: float, undecided: Race) -> Race:
    """The verdict of a race that has asked everything, after one test of each pair that it could not tell apart."""
    n = float(upward.shape[1])
    tested = np.where(np.isinf(beats) & _better_in_all(upward, level), n, beats)
    last = _Walk(upward, tested, alike).result()
    return replace(last, by_last_test=tuple(j for j in undecided.remaining if last.dropped_at[j] is not None))


def _better_in_all(upward: FloatArray, level: float) -> NDArray[np.bool_]:
    """(models, models) whether the model of the row is shown to be better than that of the column."""
    found = np.zeros((len(upward),) * 2, dtype=bool)
    for i, one in enumerate(upward):
        for j, other in enumerate(upward):
            apart = paired(one[None], other[None])[0]
            found[i, j] = _p_above_zero(apart[~np.isnan(apart)]) <= level
    return found


def _p_above_zero(apart: FloatArray) -> float:
    from scipy.special import stdtr

    n, differing = len(apart), int(np.count_nonzero(apart))
    if n < 2 or not apart.sum() > 0:
        return 1.0
    error = float(apart.std(ddof=1)) / math.sqrt(n)
    distance = float(apart.mean()) / error if error > 0 else math.inf
    t = unstretched(np.array(distance), -skewness_of(apart) / math.sqrt(n))
    return max(float(stdtr(n - 1, -t)), 0.5**differing)


class _Groups:
    """Groups of examples as the units of a race.

    A model's score on a group is the sum over its examples, by which they weigh as much as in the mean over all
    examples, as part of the largest group's, by which it keeps the bounds of the scores.

    Attributes:
        ends: (groups,) after how many examples each ends, of those that end among the examples asked.
        shrunk: the mean size of all groups as part of the largest one's: so much smaller are differences of the sums.
    """

    def __init__(self, labels: ArrayLike, n: int, bounds: tuple[float, float] | None) -> None:
        known = np.asarray(labels)
        if known.ndim != 1 or len(known) < n:
            raise InvalidInputError(f"groups of shape {known.shape} for {n} examples", "give one label per example")
        starts = np.flatnonzero(np.append(True, known[1:] != known[:-1])) if len(known) else np.empty(0, dtype=int)
        if len(starts) != len(set(known.tolist())):
            raise InvalidInputError("examples of one group do not stand side by side", "order them by group")
        ends = np.append(starts[1:], len(known)).astype(np.int64)
        sizes = ends - starts
        self.ends = ends[ends <= n]
        self._sizes, self._largest = sizes[: len(self.ends)], int(sizes.max(initial=1))
        self._middle = 0.0 if bounds is None else sum(bounds) / 2
        self.shrunk = float(sizes.mean() / self._largest) if len(sizes) else 1.0

    def scores(self, scores: FloatArray) -> FloatArray:
        """(models, n) -> (models, groups)."""
        if not len(self.ends):
            return np.empty((len(scores), 0))
        starts, asked = np.append(0, self.ends[:-1]), scores[:, : self.ends[-1]]
        known = np.add.reduceat(~np.isnan(asked), starts, axis=1, dtype=np.int64)
        sums = np.add.reduceat(np.nan_to_num(asked - self._middle), starts, axis=1)
        with np.errstate(invalid="ignore"):
            means = np.where(known > 0, sums / known, np.nan)
        return np.asarray(self._middle + means * self._sizes / self._largest, dtype=np.float64)

    def widened(self, values: FloatArray, middle: float | None = None) -> FloatArray:
        """Means or bounds of sums in units of an example's score; differences lie about 0."""
        about = self._middle if middle is None else middle
        return about + (values - about) / self.shrunk

    def in_examples(self, verdict: Race) -> Race:
        """The verdict with numbers of examples in place of groups."""

        def after(groups: int | None) -> int | None:
            return groups if not groups else int(self.ends[groups - 1])

        return replace(
            verdict,
            dropped_at=tuple(after(at) for at in verdict.dropped_at),
            stopped_at=after(verdict.stopped_at),
            used=tuple(after(used) or 0 for used in verdict.used),
        )

    def in_groups(self, verdict: Race) -> Race:
        """The verdict with numbers of groups in place of examples."""
        return replace(verdict, used=tuple(int(np.searchsorted(self.ends, used, "right")) for used in verdict.used))


def _pairs(upward: FloatArray, above: float, level: float, reach: float | None) -> FloatArray:
    """(m, m) after how many examples the model of the row is shown to exceed that of the column by `above`."""
    found = np.stack([first_shown(paired(one, upward), above, level, reach, spans(one, upward)) for one in upward])
    np.fill_diagonal(found, math.inf)
    return found


class _Walk:
    """Goes through the moments at which something is shown."""

    def __init__(self, upward: FloatArray, beats: FloatArray, alike: FloatArray) -> None:
        self._beats, self._alike = beats, alike
        known = ~np.isnan(upward)
        counts = np.cumsum(known, axis=1)
        with np.errstate(invalid="ignore"):
            means = np.cumsum(np.where(known, upward, 0.0), axis=1) / counts
        self._means = np.where(counts > 0, means, -math.inf)
        self._n = upward.shape[1]
        self._left = list(range(len(upward)))
        self._dropped_at: list[int | None] = [None] * len(upward)
        self._dropped_by: list[int | None] = [None] * len(upward)

    def result(self) -> Race:
        at = 0
        while len(self._left) > 1:
            shown = min(self._beats[i, j] for i in self._left for j in self._left if i != j)
            alike_at = self._alike_before(at, shown)
            if alike_at is not None:
                return self._ended("equivalent", alike_at)
            if math.isinf(shown):
                return self._ended("undecided", None)
            at = int(shown)
            self._drop(at)
        return self._ended("best", at)

    def _drop(self, at: int) -> None:
        beaten = {j: [i for i in self._left if self._beats[i, j] <= at] for j in self._left}
        losers = [j for j in self._left if beaten[j]]
        if len(losers) == len(self._left):  # each is worse than another: within the error, but somebody has to stay
            losers.remove(max(losers, key=lambda j: self._means[j, at - 1]))
        for j in losers:
            self._dropped_at[j] = at
            self._dropped_by[j] = max(beaten[j], key=lambda i: self._means[i, at - 1])
        self._left = [j for j in self._left if j not in losers]

    def _alike_before(self, after: int, before: float) -> int | None:
        """The first moment, before the next is dropped, at which all are near the one that leads then."""
        left = np.array(self._left)
        pairs = self._alike[np.ix_(left, left)].copy()
        np.fill_diagonal(pairs, 0)
        ready = pairs.max(axis=1)
        first, last = max(after, 1, ready.min()), min(before - 1, self._n)
        if first > last:
            return None
        moments = np.arange(int(first), int(last) + 1)
        leaders = self._means[np.ix_(left, moments - 1)].argmax(axis=0)
        found = np.flatnonzero(ready[leaders] <= moments)
        return int(moments[found[0]]) if len(found) else None

    def _ended(self, conclusion: Literal["best", "equivalent", "undecided"], at: int | None) -> Race:
        seen = self._n if at is None else at
        # Stable, so that the first of equals leads.
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
    """Return how models stand, with intervals that hold at every look.

    Args:
        scores, bounds, confidence, groups: as of :func:`race`.
        verdict: what it returned for them.

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
    own = np.array([_last(row, bounds, confidence) for row in cut])
    best = scores[verdict.leader]
    reach = None if bounds is None else bounds[1] - bounds[0]
    others = np.array(
        [
            difference_bounds(row, best[: len(row)], confidence=confidence)
            if reach is None
            else _last(row - best[: len(row)], (-reach, reach), confidence)
            for row in cut
        ]
    )
    others[verdict.leader] = 0.0
    return RaceStandings(*own.T, *others.T)


def _standings_of_groups(
    scores: FloatArray, verdict: Race, bounds: tuple[float, float] | None, confidence: float, units: _Groups
) -> RaceStandings:
    found = race_standings(units.scores(scores), units.in_groups(verdict), bounds=bounds, confidence=confidence)
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    # Plain means of the examples asked; the sums by which groups race count more or fewer than so many examples.
    asked = np.arange(scores.shape[1]) < np.array(verdict.used)[:, None]
    mean, difference = (_means(np.where(asked, values, np.nan)) for values in (scores, scores - scores[verdict.leader]))
    return RaceStandings(
        mean,
        np.fmin(mean, np.maximum(units.widened(found.low), low)),
        np.fmax(mean, np.minimum(units.widened(found.high), high)),
        difference,
        np.fmin(difference, np.maximum(units.widened(found.difference_low, 0.0), low - high)),
        np.fmax(difference, np.minimum(units.widened(found.difference_high, 0.0), high - low)),
    )


def _means(values: FloatArray) -> FloatArray:
    """(models,) means of what is known."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis=1) / known.sum(axis=1), dtype=np.float64)


def _last(values: FloatArray, bounds: tuple[float, float] | None, confidence: float) -> tuple[float, float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return (math.nan,) * 3
    if bounds is None:
        lows, highs = normal_sequence(known, confidence=confidence)
        return float(known.mean()), float(lows[-1]), float(highs[-1])
    return float(known.mean()), *betting_bounds(known, *bounds, confidence=confidence)


def looks(n: int) -> list[int]:
    """Return after how many examples to look: first after 20, then four times per doubling, last after all n.

    Examples:
        >>> lm.statistics.looks(60)
        [20, 24, 28, 34, 40, 48, 57, 60]
    """
    found, seen = [], float(_FIRST_LOOK)
    while seen < n:
        found.append(round(seen))
        seen *= 2 ** (1 / _LOOKS_PER_DOUBLING)
    return [*found, n]


def _check(scores: FloatArray, confidence: float, indifference: float, total: int | None) -> None:
    if scores.ndim != 2 or len(scores) < 2:
        raise InvalidInputError(
            f"scores of shape {scores.shape} are no race", "give one row each for two models or more"
        )
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    if not indifference >= 0:
        raise InvalidInputError(f"indifference cannot be {indifference}", "give 0 or more, in units of the score")
    if total is not None and scores.shape[1] > total:
        raise InvalidInputError(f"{scores.shape[1]} examples of {total} in all", "give all that there are as total")
