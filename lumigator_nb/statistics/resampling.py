"""The bootstrap and the jackknife: resampled scores and pseudo-values, from which intervals, tests and ranks follow.

Overall scores such as corpus BLEU are not means. Each example's sufficient statistics are therefore resampled, as in
Koehn 2004 (https://aclanthology.org/W04-3250), and `aggregate` turns their sums into the overall score. One set of
draws serves all models, pairs, ranks and corrections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import FloatArray as FloatArray
from lumigator_nb.statistics.arrays import Missing, as_floats, complete_rows

# Takes sums of statistics, (…, k), and the number of examples (one, or one per sum); returns overall scores, (…).
Aggregate = Callable[[FloatArray, Any], FloatArray]

A = TypeVar("A", bound=Aggregate)

Weights = NDArray[np.uint8]

# More statistics than this, for fewer examples, mean that the axes were swapped. chrF++ has the most, 24.
_MOST_STATISTICS = 30
# Weights of this many cells are computed at once (16 MB), so that memory does not grow with the number of examples.
_CELLS = 2_000_000
# Weights of up to this many cells (20 MB) are cached: a comparison needs the same ones for every model and score.
_KEPT_CELLS = 20_000_000


def wide(aggregate: A) -> A:
    """Mark an aggregate of counts by class: there may be more of them than examples."""
    aggregate.wide = True  # type: ignore[attr-defined]
    return aggregate


def resampled_totals(statistics: ArrayLike, *, n_resamples: int = 2000, seed: int = 0) -> FloatArray:
    """Return sums of the statistics of examples drawn with replacement, for many resamples.

    Args:
        statistics: (…, n, k) sufficient statistics; leading axes (such as models) share the same draws, which keeps
            them paired.
        n_resamples: number of resamples of n examples each.
        seed: the same seed and n give the same draws.

    Returns:
        (…, n_resamples, k) sums.

    Raises:
        InvalidInputError: there are no examples, a value is NaN, or `n_resamples` is below 1.

    Examples:
        >>> counts = np.ones((2, 50, 3))
        >>> lm.statistics.resampled_totals(counts, n_resamples=10).shape
        (2, 10, 3)
    """
    table = as_floats(statistics, "statistics")
    return _models_first(_draw(_columns(table), n_resamples, seed), table)


def mean(totals: FloatArray, n: Any) -> FloatArray:
    """Return (…) means from (…, 1) sums over `n` examples: the aggregate of scores with a mean as overall score."""
    return np.asarray(totals[..., 0] / n, dtype=np.float64)


def scores_and_aggregate(values: ArrayLike, aggregate: Aggregate | None) -> tuple[FloatArray, Aggregate]:
    """Return (…, n, k) statistics and their aggregate: the mean, if none is passed.

    Args:
        values: (…, n) scores without an aggregate; (…, n, k) statistics with one, or (n,) where k is 1.
        aggregate: of the statistics, or None.

    Raises:
        InvalidInputError: the axes seem to be swapped, with models in the place of examples.
    """
    table = as_floats(values)
    if aggregate is None:
        if table.ndim > 1 and table.shape[-1] == 1 < table.shape[-2]:
            raise InvalidInputError(
                f"scores of shape {table.shape} are one example each", "give (models, examples), or (examples,)"
            )
        return table[..., None], mean
    table = table[:, None] if table.ndim == 1 else table
    most = np.inf if getattr(aggregate, "wide", False) else _MOST_STATISTICS
    if table.ndim > 1 and table.shape[-2] and table.shape[-1] > max(table.shape[-2], most):
        raise InvalidInputError(
            f"statistics of shape {table.shape} are {table.shape[-2]} examples with {table.shape[-1]} statistics each",
            "leave the aggregate out for means of (models, examples), or give (models, examples, statistics)",
        )
    return table, aggregate


def resampled_scores(
    statistics: ArrayLike,
    aggregate: Aggregate | None = None,
    *,
    groups: NDArray[Any] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    nan: Missing = "raise",
) -> FloatArray:
    """Return overall scores of examples drawn with replacement, for many resamples.

    With `groups` whole groups are drawn, as many as the data has (cluster bootstrap: Davison and Hinkley 1997, section
    3.8; Field and Welsh 2007, "Bootstrapping clustered data", JRSS B 69(3)): examples of one group, such as one
    customer's, are not independent.

    Args:
        statistics: (…, n) scores whose mean is taken; leading axes (such as models) share the draws. With `aggregate`
            (…, n, k) sufficient statistics.
        aggregate: turns (…, k) sums and the number of examples into (…) overall scores that are not means. The number
            is n, or with `groups` an array of (n_resamples,), since groups differ in size.
        groups: (n,) labels. If omitted, each example is drawn by itself.
        n_resamples: number of resamples; each draws as many examples, or groups, as the data has.
        seed: the same seed and number of examples, or groups, give the same draws.
        nan: "raise" an error where a score is NaN, or "omit" examples where any model has NaN.

    Returns:
        (…, n_resamples).

    Raises:
        InvalidInputError: there are no examples, `groups` does not have one label each, a score is missing, the axes
            seem to be swapped, or `n_resamples` is below 1.

    Examples:
        >>> scores = np.random.default_rng(0).beta(2, 2, size=(3, 100))
        >>> lm.statistics.resampled_scores(scores).shape
        (3, 2000)
    """
    statistics, aggregate = scores_and_aggregate(statistics, aggregate)
    if np.isnan(statistics).any():
        complete = complete_rows({"the scores": np.moveaxis(statistics, -2, 0)}, nan)
        statistics = statistics[..., complete, :]
        groups = None if groups is None else group_labels(groups, len(complete))[complete]
    columns, n = _columns(statistics), statistics.shape[-2]
    if groups is None:
        return aggregate(_models_first(_draw(columns, n_resamples, seed), statistics), n)
    # Groups differ in size, so that the number of examples drawn is one more sum: a column of ones.
    totals = _draw(group_sums(np.hstack([columns, np.ones((n, 1))]), group_codes(groups, n)), n_resamples, seed)
    return aggregate(_models_first(totals[:, :-1], statistics), totals[:, -1])


def _columns(statistics: FloatArray) -> FloatArray:
    """Return (n, …·k) from (…, n, k), so that one matrix product gives all sums; refuse NaN and empty input."""
    if statistics.ndim < 2 or not statistics.size:
        raise InvalidInputError(f"statistics of shape {statistics.shape} hold no score", "give one row per example")
    examples_first = np.moveaxis(statistics, -2, 0)
    complete_rows({"the scores": examples_first}, "raise")
    # Rounded to multiples of the last of 53 bits of n times the largest, so that any n rows add up without rounding
    # error. Otherwise a sum would depend on its place in the matrix product and on the number of threads, and models
    # with equal scores would not tie in every resample. Whole numbers stay as they are.
    largest = np.abs(examples_first).max(axis=tuple(range(examples_first.ndim - 1)))
    bits = 53 - np.frexp(largest * len(examples_first))[1]
    rounded: FloatArray = np.ldexp(np.rint(np.ldexp(examples_first, bits)), -bits)
    return rounded.reshape(len(examples_first), -1)


def _models_first(totals: FloatArray, statistics: FloatArray) -> FloatArray:
    """Return (…, r, k) from (r, …·k), with the leading axes of the (…, n, k) statistics."""
    *leading, _, k = statistics.shape
    return np.moveaxis(totals.reshape(len(totals), *leading, k), 0, -2)


def _draw(columns: FloatArray, n_resamples: int, seed: int) -> FloatArray:
    """Return (n_resamples, c) sums over the rows drawn from (n, c) columns."""
    if n_resamples < 1:
        raise InvalidInputError(f"n_resamples cannot be {n_resamples}", "draw at least once; 2000 is usual")
    n = len(columns)
    cached = n * n_resamples <= _KEPT_CELLS
    pieces = _cached_weights(n, n_resamples, seed) if cached else _weights(n, n_resamples, seed)
    return np.concatenate([weights.astype(np.float64) @ columns for weights in pieces])


def _weights(n: int, n_resamples: int, seed: int) -> Iterator[Weights]:
    """Yield (rows, n) pieces of (n_resamples, n): how often each resample draws each example.

    With these counts, sums over a resample are a matrix product, which is far quicker than indexing.
    """
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        cells = generator.integers(n, size=(rows, n))
        cells += n * np.arange(rows)[:, None]
        # One byte is enough: the probability of a count above 255 is less than 1 / 256!.
        yield np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.uint8)


@lru_cache(maxsize=2)
def _cached_weights(n: int, n_resamples: int, seed: int) -> tuple[Weights, ...]:
    # Two: a comparison draws examples, and groups where it has some.
    return tuple(_weights(n, n_resamples, seed))


def group_labels(groups: NDArray[Any], n: int) -> NDArray[Any]:
    """Return (n,) labels.

    Raises:
        InvalidInputError: they are not one per example.
    """
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise InvalidInputError(f"groups of shape {labels.shape} for {n} examples", "give one label per example")
    return labels


def group_codes(groups: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Return (n,) numbers of the groups, from 0.

    Raises:
        InvalidInputError: they are not one per example, or one is None or NaN.
    """
    labels = group_labels(groups, n)
    # NaN is the only value that differs from itself.
    missing = [row for row, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise InvalidInputError(
            f"example {missing[0]} has no group", "label every example; a unique label makes a group of one"
        )
    # As texts: np.unique cannot sort objects of different types.
    return np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)[1]


def group_sums(values: FloatArray, codes: NDArray[np.int64]) -> FloatArray:
    """Return (groups, c) sums of (n, c) values; `codes` are the numbers of the groups, all from 0 on in use."""
    order = np.argsort(codes, kind="stable")
    sums: FloatArray = np.add.reduceat(values[order], np.unique(codes[order], return_index=True)[1])
    return sums


def pseudo_values(statistics: ArrayLike, aggregate: Aggregate | None = None) -> FloatArray:
    """Return what each example contributes to an overall score: the jackknife's pseudo-values.

    n·θ - (n - 1)·θ', with the overall score θ and θ' the same without the example; for a mean that is the example's own
    score. Their mean is near the overall score, and their spread gives its standard error for any smooth function of
    the sums. Source: Tukey 1958, "Bias and confidence in not-quite large samples", Annals of Mathematical Statistics
    29(2); Efron and Tibshirani 1993, chapter 11.

    Args:
        statistics, aggregate: as in :func:`resampled_scores`.

    Returns:
        (…, n); NaN with fewer than two examples.

    Raises:
        InvalidInputError: a score is missing, or the axes seem to be swapped.

    Examples:
        >>> lm.statistics.pseudo_values([0.2, 0.4, 0.9])
        array([0.2, 0.4, 0.9])
    """
    statistics, aggregate = scores_and_aggregate(statistics, aggregate)
    complete_rows({"the scores": np.moveaxis(statistics, -2, 0)}, "raise")
    n = statistics.shape[-2]
    if n < 2:
        return np.full(statistics.shape[:-1], np.nan)
    totals = statistics.sum(axis=-2, keepdims=True)
    values: FloatArray = n * aggregate(totals, n) - (n - 1) * aggregate(totals - statistics, n - 1)
    return values
