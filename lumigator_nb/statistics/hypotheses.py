"""Tests of whether two systems differ on the same examples, which need no bootstrap.

Approximate randomization fits any overall score, Wilcoxon's test scores whose differences can be ordered, McNemar's
test scores of 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import Missing, as_floats, complete_rows
from lumigator_nb.statistics.resampling import Aggregate, FloatArray, group_labels, scores_and_aggregate

# Swaps of this many cells are worked on at once (64 MB), so that memory stays flat however many examples there are.
_CELLS = 8_000_000
# Values that differ by less than this part of the largest are equal but for rounding.
_ROUNDING = 1e-12
# Wilcoxon's distribution is counted out in this many additions, which take a fraction of a second.
_EXACT = 50_000_000


@dataclass(frozen=True)
class RandomizationTest:
    """How much one system exceeds another, with the two-sided p-value of a randomization test."""

    estimate: float
    p_value: float


def approximate_randomization(
    a: ArrayLike,
    b: ArrayLike,
    aggregate: Aggregate | None = None,
    *,
    groups: NDArray[Any] | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
    nan: Missing = "raise",
) -> RandomizationTest:
    """Test whether two systems differ, by swapping their answers to randomly chosen examples.

    If the systems do not differ, it does not matter which of them gave which answer. The p-value is (c + 1) / (R + 1),
    where c counts those of R random swaps after which the overall scores differ at least as much as observed. It is
    valid at any n, for any overall score, provided that answers are exchangeable under the hypothesis: it also notices
    systems with equal means but different spread, if rarely. Sources: Noreen 1989, "Computer-Intensive Methods for
    Testing Hypotheses"; Riezler and Maxwell 2005 (https://aclanthology.org/W05-0908).

    Args:
        a, b: (n,) scores of the same examples in the same order, or with `aggregate` (n, k) sufficient statistics.
        aggregate: (…, k) sums and the number of examples -> (…) overall scores, where these are no means.
        groups: (n,) labels; the examples of a group, such as one document's, are swapped together.
        n_resamples: how often examples are swapped.
        seed: the same seed and number of groups give the same swaps.
        nan: "raise" where a score is NaN, or "omit" examples that either lacks.

    Returns:
        NaN without examples.

    Raises:
        InvalidInputError: arrays do not fit together or hold infinity, a score is missing, or `n_resamples` is below 1.
    """
    if n_resamples < 1:
        raise InvalidInputError(f"n_resamples cannot be {n_resamples}", "swap at least once; 10 000 is usual")
    a, b = as_floats(a), as_floats(b)
    if aggregate is None:  # scores may stand in a column
        a, b = (each[:, 0] if each.ndim == 2 and each.shape[1] == 1 else each for each in (a, b))
    (a, aggregate), (b, _) = scores_and_aggregate(a, aggregate), scores_and_aggregate(b, aggregate)
    if a.ndim != 2:
        raise InvalidInputError(f"statistics of shape {a.shape} are no table", "give one row per example")
    a, b, rows = _pairs(a, b, nan)
    groups = None if groups is None else group_labels(groups, len(rows))[rows]
    n = len(a)
    if not n:
        return RandomizationTest(float("nan"), float("nan"))
    total_a, total_b, surplus = a.sum(axis=0), b.sum(axis=0), _sums(b - a, groups)
    estimate = float(aggregate(total_a, n) - aggregate(total_b, n))
    extreme = 0
    for swaps in _swaps(len(surplus), n_resamples, seed):
        moved = swaps @ surplus
        differences = aggregate(total_a + moved, n) - aggregate(total_b - moved, n)
        # Differences that are equal in exact arithmetic must not count as smaller by a rounding error.
        extreme += int(np.count_nonzero(np.abs(differences) >= abs(estimate) * (1 - _ROUNDING) - _ROUNDING))
    return RandomizationTest(estimate, (extreme + 1) / (n_resamples + 1))


def _sums(statistics: FloatArray, groups: NDArray[Any] | None) -> FloatArray:
    if groups is None:
        return statistics
    if groups.shape != (len(statistics),):
        raise InvalidInputError(
            f"groups of shape {groups.shape} for {len(statistics)} examples", "give one label per example"
        )
    codes = np.unique(groups, return_inverse=True)[1]
    sums = np.zeros((int(codes.max()) + 1, statistics.shape[1]))
    np.add.at(sums, codes, statistics)
    return sums


def _swaps(n: int, n_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield (rows, n) of 0 and 1, together `n_resamples` rows."""
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        packed = generator.integers(256, size=(rows, (n + 7) // 8), dtype=np.uint8)
        yield np.unpackbits(packed, axis=1, count=n).astype(np.float64)


def wilcoxon(a: ArrayLike, b: ArrayLike, *, nan: Missing = "raise") -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test on paired scores.

    It asks whether differences lean to one side of zero, and assumes that they are symmetric about zero if not; one
    enormous difference counts no more than any largest one. Zeros take part in the ranking and are then left out (Pratt
    1959, "Remarks on zeros and ties in the Wilcoxon signed rank procedures", JASA 54(287)), so that many examples on
    which systems tie do not count as few. The p-value is exact, ties and zeros included, up to some 350 examples (or
    fewer differences among more examples); beyond, it is that of the normal approximation with the variance of the
    ranks at hand.

    Args:
        a, b: (n,) scores of the same examples.
        nan: "raise" where a score is NaN, or "omit" examples that either lacks.

    Returns:
        1 where no example differs, or none is there.

    Raises:
        InvalidInputError: `a` and `b` are not equally long, hold infinity, or a score is missing.
    """
    a, b = _scores(a, b, nan)
    ranks, positive = _signed_ranks(a, b)
    if not ranks.size:
        return 1.0
    # Twice the mid-ranks are whole numbers.
    centre = ranks.sum() / 2
    deviation = abs(ranks[positive].sum() - centre)
    if len(ranks) * ranks.sum() > _EXACT:
        return math.erfc(deviation / math.sqrt(np.square(ranks).sum() / 2))
    chances = _rank_sums(ranks)
    return float(min(1.0, chances[np.abs(np.arange(len(chances)) - centre) >= deviation].sum()))


def _signed_ranks(a: FloatArray, b: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return twice the mid-ranks of the sizes of differences other than zero, and which of these are positive."""
    scale = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    # Differences such as 0.3 - 0.1 and 0.4 - 0.2 are ties, which floating point tells apart.
    differences = np.round((a - b) / (scale * _ROUNDING or 1.0))
    _, codes, totals = np.unique(np.abs(differences), return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(totals) - totals + 1)[codes]
    return ranks[differences != 0], differences[differences != 0] > 0


def _rank_sums(ranks: NDArray[np.int64]) -> FloatArray:
    """Return the probability of each sum 0 … sum(ranks) where every rank is in or out by the toss of a coin."""
    chances = np.zeros(int(ranks.sum()) + 1)
    chances[0], end = 1.0, 1
    for rank in ranks:
        before = chances[:end].copy()
        chances[: end + rank] /= 2
        chances[rank : end + rank] += before / 2
        end += rank
    return chances


def mcnemar(a: ArrayLike, b: ArrayLike, *, nan: Missing = "raise") -> float:
    """Return the two-sided p-value of McNemar's exact test on paired scores of 0 and 1.

    Of the examples on which the systems differ, about half should favour each if they are equally often right: a
    binomial test, valid at any n, and a little cautious at small ones. Source: McNemar 1947, "Note on the sampling
    error of the difference between correlated proportions or percentages", Psychometrika 12.

    Args:
        a, b: (n,) scores of the same examples: 0 and 1, or truth values.
        nan: "raise" where a score is NaN, or "omit" examples that either lacks.

    Returns:
        1 where no example differs, or none is there.

    Raises:
        InvalidInputError: `a` and `b` are not equally long, hold anything but 0 and 1, or a score is missing.
    """
    from scipy.special import bdtr

    a, b = _scores(a, b, nan)
    for name, scores in (("a", a), ("b", b)):
        other = np.flatnonzero((scores != 0) & (scores != 1))
        if other.size:
            raise InvalidInputError(
                f"row {other[0]} of {name} is {scores[other[0]]:g}, not 0 or 1",
                "take the wilcoxon test, or approximate randomization, for scores between",
            )
    only_a, only_b = np.count_nonzero(a > b), np.count_nonzero(a < b)
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def _scores(a: ArrayLike, b: ArrayLike, nan: Missing) -> tuple[FloatArray, FloatArray]:
    a, b = as_floats(a), as_floats(b)
    if a.ndim != 1:
        raise InvalidInputError(f"scores of shape {a.shape} are no list", "give one score per example")
    return _pairs(a, b, nan)[:2]


def _pairs(a: FloatArray, b: FloatArray, nan: Missing) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return the rows that both have, and (n,) which these are."""
    if a.shape != b.shape:
        raise InvalidInputError(f"values of shape {a.shape} and {b.shape} are not paired", "score the same examples")
    rows = complete_rows({"a": a, "b": b}, nan)
    for name, values in (("a", a), ("b", b)):
        infinite = np.nonzero(np.isinf(values))[0]
        if infinite.size:
            raise InvalidInputError(f"row {infinite[0]} of {name} is infinite", "leave such examples out")
    return a[rows], b[rows], rows
