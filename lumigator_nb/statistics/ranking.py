"""How models rank, and with what certainty: intervals of ranks, chances of being best, wins on single examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats
from lumigator_nb.statistics.corrections import replicates_rank, romano_wolf
from lumigator_nb.statistics.resampling import FloatArray

_IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class RankSet:
    """The ranks that a model may have; 1 is the best. Models with `low` 1 cannot be told apart from the best."""

    low: int
    high: int


def pairwise_p_values(estimates: FloatArray, replicates: FloatArray, *, n: int | None = None) -> FloatArray:
    """Return p-values of "the two models score alike", adjusted over all pairs of models.

    Args:
        estimates: (m,) overall scores.
        replicates: (m, R) of the scores; column r comes from one draw of examples, the same for all models.
        n: examples, or groups where whole groups were drawn; None skips the correction for few examples, as in
            :func:`~lumigator_nb.statistics.corrections.romano_wolf`.

    Returns:
        (m, m), symmetric; NaN on the diagonal, and for models whose score or replicates hold NaN.

    Raises:
        InvalidInputError: shapes do not fit together, or there are no replicates.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> lm.statistics.pairwise_p_values(scores.mean(axis=1), replicates, n=200).round(3)
        array([[  nan, 0.087, 0.   ],
               [0.087,   nan, 0.   ],
               [0.   , 0.   ,   nan]])
    """
    estimates, replicates = np.asarray(estimates, dtype=np.float64), np.asarray(replicates, dtype=np.float64)
    _check_models(estimates, replicates)
    first, second = np.triu_indices(len(estimates), 1)
    differences = romano_wolf(
        estimates[first] - estimates[second], replicates[first] - replicates[second], n=n, rank=_rank(replicates)
    )
    p_values = np.full((len(estimates),) * 2, np.nan)
    p_values[first, second] = p_values[second, first] = differences
    return p_values


def _rank(replicates: FloatArray) -> int:
    """The rank of the differences of all pairs, which is that of the differences to one model."""
    known = replicates[np.isfinite(replicates).all(axis=1)]
    return replicates_rank(known[1:] - known[:1])


def rank_sets(
    estimates: FloatArray,
    replicates: FloatArray,
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    n: int | None = None,
) -> tuple[RankSet, ...]:
    """Return, for each model, the ranks that it may have, so that all sets hold the true ranks at once.

    A model ranks behind all that are surely better and before all that are surely worse, judged by
    :func:`pairwise_p_values`. Source: Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for Ranks with Applications
    to Mobility across Neighbourhoods and Academic Achievement across Countries", Review of Economic Studies 91(1).
    Models whose true scores are equal share their ranks, and the sets hold all of these.

    Args:
        estimates, replicates, n: as of :func:`pairwise_p_values`.
        higher_is_better: False where the lowest score is best.
        confidence: that all sets hold, in (0, 1); as good as the p-values are.

    Returns:
        One per model; 1 … m for a model whose score or replicates hold NaN.

    Raises:
        InvalidInputError: as :func:`pairwise_p_values`, or `confidence` is out of range.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> replicates = lm.statistics.resampled_scores(scores)
        >>> lm.statistics.rank_sets(scores.mean(axis=1), replicates, n=200)
        (RankSet(low=1, high=2), RankSet(low=1, high=2), RankSet(low=3, high=3))
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "it lies between 0 and 1, such as 0.95")
    p_values = pairwise_p_values(estimates, replicates, n=n)
    estimates = np.asarray(estimates, dtype=np.float64)
    upward = estimates if higher_is_better else -estimates
    surely_better = (p_values <= 1 - confidence) & (upward[:, None] > upward)
    lows, highs = 1 + surely_better.sum(axis=0), len(upward) - surely_better.sum(axis=1)
    return tuple(RankSet(int(low), int(high)) for low, high in zip(lows, highs, strict=True))


def probability_best(replicates: FloatArray, *, higher_is_better: bool = True) -> FloatArray:
    """Return the share of resamples in which each model is the best; models that tie share one equally.

    This says how stable the winner is when examples are drawn anew. It is no posterior probability that the model is
    the best: models that are equal in truth may well have 0.9 and 0.1. Ask :func:`rank_sets` whether they differ.

    Args:
        replicates: (m, R) of overall scores, without NaN; column r comes from one draw of examples.
        higher_is_better: False where the lowest score is best.

    Returns:
        (m,) shares that sum to 1.

    Raises:
        InvalidInputError: there are no models or replicates, or NaN among them.

    Examples:
        >>> scores = np.random.default_rng(0).beta([[6], [6], [3]], 2, size=(3, 200))
        >>> lm.statistics.probability_best(lm.statistics.resampled_scores(scores)).round(2)
        array([0.04, 0.96, 0.  ])
    """
    replicates = np.asarray(replicates, dtype=np.float64)
    if replicates.ndim != 2 or not replicates.size or np.isnan(replicates).any():
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} are no full table", "give one row per model, without NaN"
        )
    best = replicates == (replicates.max(axis=0) if higher_is_better else replicates.min(axis=0))
    return np.asarray((best / best.sum(axis=0)).mean(axis=1), dtype=np.float64)


def wins(values: ArrayLike, *, higher_is_better: bool = True) -> tuple[_IntArray, _IntArray]:
    """Count, for each pair of models, the examples on which one scores better than the other, and on which they tie.

    Args:
        values: (m, n) scores of examples; those where either model of a pair has NaN count for neither.
        higher_is_better: False where the lowest score is best.

    Returns:
        (m, m) how often the model of the row wins against that of the column, whose transpose are the losses; and
        (m, m) ties, with 0 on the diagonal.

    Raises:
        InvalidInputError: `values` has not two axes.

    Examples:
        >>> wins, ties = lm.statistics.wins([[0.9, 0.5, 0.5], [0.1, 0.5, 0.8]])
        >>> wins
        array([[0, 1],
               [1, 0]])
    """
    values = as_floats(values)
    if values.ndim != 2:
        raise InvalidInputError(f"scores of shape {values.shape} are no table", "give one row per model")
    upward = values if higher_is_better else -values
    # One model at a time keeps memory at that of the scores; a comparison with NaN is False.
    won, tied = (np.zeros((len(values),) * 2, dtype=np.int64) for _ in range(2))
    for row, one in enumerate(upward):
        won[row], tied[row] = np.count_nonzero(one > upward, axis=1), np.count_nonzero(one == upward, axis=1)
    np.fill_diagonal(tied, 0)
    return won, tied


def _check_models(estimates: FloatArray, replicates: FloatArray) -> None:
    if estimates.ndim != 1 or not estimates.size or replicates.ndim != 2 or len(replicates) != len(estimates):
        raise InvalidInputError(
            f"replicates of shape {replicates.shape} for scores of shape {estimates.shape}",
            "give one score and one row of replicates per model, of at least one model",
        )
