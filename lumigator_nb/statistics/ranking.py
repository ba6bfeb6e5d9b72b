"""Ranks of models: sets of possible ranks, the probability of being best in a resample, wins on single examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence
from lumigator_nb.statistics.corrections import replicates_rank, romano_wolf
from lumigator_nb.statistics.resampling import FloatArray

_IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class RankSet:
    """The ranks that a model may have, `low` to `high`; 1 is the best. A model with `low` 1 may be the best."""

    low: int
    high: int


def pairwise_p_values(estimates: FloatArray, replicates: FloatArray, *, n: int | None = None) -> FloatArray:
    """Return two-sided p-values of "the two models have equal scores", adjusted for testing all pairs of models.

    Args:
        estimates: (m,) overall scores.
        replicates: (m, R) of the scores; column r comes from one draw of examples, the same for all models.
        n: number of examples, or of groups where whole groups were drawn; None skips the correction for few examples of
            :func:`~lumigator_nb.statistics.corrections.romano_wolf`.

    Returns:
        (m, m), symmetric; NaN on the diagonal, and for models whose score or replicates hold NaN.

    Raises:
        InvalidInputError: shapes do not match, or there are no models or replicates.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> lm.statistics.pairwise_p_values(scores.mean(axis=1), replicates, n=200).round(3)
        array([[  nan, 0.087, 0.   ],
               [0.087,   nan, 0.   ],
               [0.   , 0.   ,   nan]])
    """
    estimates, replicates = np.asarray(estimates, dtype=np.float64), np.asarray(replicates, dtype=np.float64)
    if estimates.ndim != 1 or not estimates.size or replicates.ndim != 2 or len(replicates) != len(estimates):
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} for scores of shape {estimates.shape}",
            "give one score and one row of replicates per model, of at least one model",
        )
    # The differences of all pairs have the rank of those to one model: m - 1 rows instead of m (m - 1) / 2.
    finite = replicates[np.isfinite(replicates).all(axis=1)]
    rank = replicates_rank(finite[1:] - finite[:1])
    first, second = np.triu_indices(len(estimates), 1)
    adjusted = romano_wolf(estimates[first] - estimates[second], replicates[first] - replicates[second], n=n, rank=rank)
    p_values = np.full((len(estimates),) * 2, np.nan)
    p_values[first, second] = p_values[second, first] = adjusted
    return p_values


def rank_sets(
    estimates: FloatArray,
    replicates: FloatArray,
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    n: int | None = None,
) -> tuple[RankSet, ...]:
    """Return the ranks that each model may have, so that all sets contain the true ranks at once.

    A model ranks behind all that are shown to be better and before all that are shown to be worse, by
    :func:`pairwise_p_values`. Source: Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for Ranks with Applications
    to Mobility across Neighbourhoods and Academic Achievement across Countries", Review of Economic Studies 91(1).
    Models with equal true scores share their ranks, and the sets contain all of these.

    Args:
        estimates, replicates, n: as in :func:`pairwise_p_values`.
        higher_is_better: False where the lowest score is best.
        confidence: probability that all sets contain the true ranks, in (0, 1), as far as the p-values are right.

    Returns:
        One per model; ranks 1 to m for a model whose score or replicates hold NaN.

    Raises:
        InvalidInputError: as in :func:`pairwise_p_values`, or `confidence` is out of range.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> lm.statistics.rank_sets(scores.mean(axis=1), replicates, n=200)
        (RankSet(low=1, high=2), RankSet(low=1, high=2), RankSet(low=3, high=3))
    """
    check_confidence(confidence)
    p_values = pairwise_p_values(estimates, replicates, n=n)
    estimates = np.asarray(estimates, dtype=np.float64)
    upward = estimates if higher_is_better else -estimates
    # The p-values are two-sided; the estimates give the direction.
    shown_better = (p_values <= 1 - confidence) & (upward[:, None] > upward)
    lows, highs = 1 + shown_better.sum(axis=0), len(upward) - shown_better.sum(axis=1)
    return tuple(RankSet(int(low), int(high)) for low, high in zip(lows, highs, strict=True))


def probability_best(replicates: FloatArray, *, higher_is_better: bool = True) -> FloatArray:
    """Return the share of resamples in which each model is the best; models that tie share one equally.

    It shows how stable the winner is under resampling. It is not a posterior probability that the model is the best:
    models with equal true scores may well get 0.9 and 0.1. :func:`rank_sets` says whether they differ.

    Args:
        replicates: (m, R) of overall scores, without NaN; column r comes from one draw of examples.
        higher_is_better: False where the lowest score is best.

    Returns:
        (m,) shares that sum to 1.

    Raises:
        InvalidInputError: there are no models or replicates, or some are NaN.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> lm.statistics.probability_best(lm.statistics.resampled_scores(scores)).round(2)
        array([0.04, 0.96, 0.  ])
    """
    replicates = np.asarray(replicates, dtype=np.float64)
    if replicates.ndim != 2 or not replicates.size or np.isnan(replicates).any():
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} are not a complete table", "give one row per model, without NaN"
        )
    best = replicates == (replicates.max(axis=0) if higher_is_better else replicates.min(axis=0))
    return np.asarray((best / best.sum(axis=0)).mean(axis=1), dtype=np.float64)


def wins(values: ArrayLike, *, higher_is_better: bool = True) -> tuple[_IntArray, _IntArray]:
    """Count, for each pair of models, the examples on which one scores better than the other, and on which they tie.

    Args:
        values: (m, n) scores of examples. An example where either model of a pair has NaN is not counted for that pair.
        higher_is_better: False where the lowest score is best.

    Returns:
        (m, m) how often the model of the row wins against that of the column (the transpose has the losses), and
        (m, m) ties, with 0 on the diagonal.

    Raises:
        InvalidInputError: `values` does not have two axes.

    Examples:
        >>> wins, ties = lm.statistics.wins([[0.9, 0.5, 0.5], [0.1, 0.5, 0.8]])
        >>> wins
        array([[0, 1],
               [1, 0]])
    """
    values = as_floats(values)
    if values.ndim != 2:
        raise InvalidInputError(f"scores of shape {values.shape} are not a table", "give one row per model")
    upward = values if higher_is_better else -values
    # One model at a time: all pairs at once would take m times the memory. A comparison with NaN is False.
    won, tied = (np.zeros((len(values),) * 2, dtype=np.int64) for _ in range(2))
    for row, one in enumerate(upward):
        won[row], tied[row] = np.count_nonzero(one > upward, axis=1), np.count_nonzero(one == upward, axis=1)
    np.fill_diagonal(tied, 0)
    return won, tied
