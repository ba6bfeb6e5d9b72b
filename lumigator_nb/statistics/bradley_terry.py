"""Strengths of models from comparisons in pairs: the Bradley-Terry model, with Davidson's ties.

Sources: Bradley and Terry 1952, "Rank analysis of incomplete block designs", Biometrika 39; Davidson 1970, "On
extending the Bradley-Terry model to accommodate ties in paired comparison experiments", JASA 65(329).

Each model has one strength, so that the fit has no cycles (a beats b beats c beats a). It does not know the order of
presentation: show each pair in both orders, or in a random one, since judges may prefer what they see first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.arrays import as_floats, check_confidence
from lumigator_nb.statistics.resampling import FloatArray, resampled_totals

_BoolArray = NDArray[np.bool_]
_IntArray = NDArray[np.int64]

# The regularisation of resamples that have no maximum without one. Small, so that winning all of 50 comparisons still
# gives a larger strength than winning all of 5.
_RESCUE = 0.5
# Limits that end the loops in any case: Newton's method converges in far fewer steps, and a step that was halved 60
# times is below the rounding error of float64.
_STEPS = 200
_HALVINGS = 60
# In units of a strength (log-odds): no digit that is ever shown changes any more.
_STEP_SIZE = 1e-10


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    """Strengths of m models.

    Attributes:
        strengths: (m,) log-odds, with mean 0; a model that is stronger by 1 wins e times as often as it loses.
        tie: Davidson's ν: how often two equally strong models tie, relative to how often one of them wins; 0 without
            ties.
    """

    strengths: FloatArray
    tie: float

    def win_probabilities(self) -> FloatArray:
        """Return (m, m) probabilities that the model of the row beats that of the column; NaN on the diagonal."""
        half = (self.strengths[:, None] - self.strengths) / 2
        wins: FloatArray = 1 / (1 + np.exp(-2 * half) + self.tie * np.exp(-half))
        np.fill_diagonal(wins, np.nan)
        return wins


@dataclass(frozen=True, eq=False)
class BradleyTerryIntervals(BradleyTerry):
    """Strengths of m models with intervals.

    Attributes:
        low, high: (m,) bounds of the strengths; NaN with fewer than two units.
        stronger: (m, m) the share of resamples in which the model of the row is stronger than that of the column. Use
            it to tell two models apart: their intervals may overlap although they differ. NaN on the diagonal.
        separated: the share of resamples without a maximum, so that only regularisation (0.5 if `regularization` is 0)
            gave them finite strengths. Where it is not near 0, the regularisation decides the bounds: compare more.
    """

    low: FloatArray
    high: FloatArray
    stronger: FloatArray
    separated: float


def bradley_terry(wins: ArrayLike, ties: ArrayLike | None = None, *, regularization: float = 0.0) -> BradleyTerry:
    """Return the maximum-likelihood strengths.

    They exist only where every model beat every other, directly or through a chain of others (Ford 1957, "Solution of a
    ranking problem from binary comparisons"). With ties, a tie counts in a chain as a win of both, but some chain has
    to lead back to its start with more wins than ties; otherwise ever more ties and ever larger differences fit better.

    Args:
        wins: (m, m) how often the model of the row beat that of the column; fractions may be weights.
        ties: (m, m) how often the two tied, symmetric: each tie is counted on both sides of the diagonal.
        regularization: number of wins, and of losses, of each model against one added opponent of average strength.
            Above 0 the strengths exist whatever the outcomes, and move closer together; 0.5 is usual.

    Raises:
        InvalidInputError: the likelihood has no maximum, or the tables are malformed.

    Examples:
        >>> wins = [[0, 8, 9], [2, 0, 6], [1, 4, 0]]
        >>> lm.statistics.bradley_terry(wins).win_probabilities().round(2)
        array([[ nan, 0.82, 0.88],
               [0.18,  nan, 0.62],
               [0.12, 0.38,  nan]])
    """
    # As floats: padding a table of whole numbers would round a regularisation of one half down to 0.
    wins = as_floats(wins, "wins")
    ties = np.zeros_like(wins) if ties is None else as_floats(ties, "ties")
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or len(wins) < 2 or ties.shape != wins.shape:
        raise InvalidInputError(
            f"wins of shape {wins.shape} and ties of shape {ties.shape} do not compare models",
            "give two square tables with one row and one column for each of at least two models",
        )
    if not all(np.all(np.isfinite(table) & (table >= 0)) and not table.diagonal().any() for table in (wins, ties)):
        raise InvalidInputError("wins and ties must be counts of 0 or more, with zeros on the diagonal", "count again")
    if not np.array_equal(ties, ties.T):
        raise InvalidInputError("ties are not symmetric", "a tie of i and j counts in both ties[i, j] and ties[j, i]")
    if not 0 <= regularization < np.inf:
        raise InvalidInputError(f"regularization cannot be {regularization}", "give 0 or more; 0.5 is usual")
    if regularization == 0:
        _require_maximum(wins, ties)
    strengths, tie = _fit(wins[None], ties[None], regularization)
    return BradleyTerry(strengths[0], float(tie[0]))


def bradley_terry_intervals(
    first: NDArray[Any],
    second: NDArray[Any],
    outcome: NDArray[Any],
    n_models: int,
    *,
    units: NDArray[Any] | None = None,
    regularization: float = 0.0,
    confidence: float = 0.95,
    n_resamples: int = 500,
    seed: int = 0,
) -> BradleyTerryIntervals:
    """Return the maximum-likelihood strengths with percentile-bootstrap intervals over examples.

    The intervals hold for about 50 examples or more, and for models that both win and lose.

    Args:
        first, second: (n,) the two models of each comparison, in 0 … n_models - 1.
        outcome: (n,) 1 where the first won, -1 where the second did, 0 for a tie.
        n_models: m.
        units: (n,) labels; comparisons on one example are not independent and are drawn together. If omitted, each
            comparison is drawn by itself.
        regularization: as in :func:`bradley_terry`.
        confidence: of each interval, in (0, 1).
        n_resamples, seed: as in :func:`~lumigator_nb.statistics.resampling.resampled_totals`.

    Raises:
        InvalidInputError: as in :func:`bradley_terry`, or comparisons or settings are malformed.

    Examples:
        >>> first, second = np.array([0, 0, 1, 1] * 10), np.array([1, 2, 2, 0] * 10)
        >>> outcome = np.array([1, 1, 1, -1, -1, 1, -1, 1] * 5)
        >>> ranking = lm.statistics.bradley_terry_intervals(first, second, outcome, n_models=3)
        >>> ranking.strengths.round(2)
        array([ 0.58,  0.16, -0.74])
    """
    check_confidence(confidence)
    units = np.arange(len(first)) if units is None else units
    if first.ndim != 1 or not first.shape == second.shape == outcome.shape == units.shape:
        shapes = ", ".join(str(array.shape) for array in (first, second, outcome, units))
        raise InvalidInputError(f"comparisons of shapes {shapes}", "give one value each per comparison")
    if not np.isin(outcome, (-1, 0, 1)).all():
        raise InvalidInputError("outcomes other than 1, 0 and -1", "1: the first won, -1: the second, 0: a tie")
    if not (np.isin(first, np.arange(n_models)) & np.isin(second, np.arange(n_models)) & (first != second)).all():
        raise InvalidInputError(
            f"a comparison names a model outside 0 … {n_models - 1}, or one model twice", "number the models from 0"
        )
    codes = np.unique(units, return_inverse=True)[1]
    first, second, outcome = first.astype(np.int64), second.astype(np.int64), outcome.astype(np.int64)
    counts, cells = _outcome_counts(first, second, outcome, codes, n_models)
    wins, ties = _tables(counts.sum(axis=0)[None], cells, n_models)
    fit = bradley_terry(wins[0], ties[0], regularization=regularization)
    if len(counts) < 2:
        unknown = np.full((n_models, n_models), np.nan)
        return BradleyTerryIntervals(fit.strengths, fit.tie, unknown[0], unknown[0], unknown, float("nan"))
    wins, ties = _tables(resampled_totals(counts, n_resamples=n_resamples, seed=seed), cells, n_models)
    separated = ~_has_maximum(*_chains(wins, ties))
    replicates = np.empty((n_resamples, n_models))
    for chosen, prior in ((separated, regularization or _RESCUE), (~separated, regularization)):
        if chosen.any():
            replicates[chosen] = _fit(wins[chosen], ties[chosen], prior)[0]
    low, high = np.quantile(replicates, ((1 - confidence) / 2, (1 + confidence) / 2), axis=0)
    # One model at a time: all pairs at once would take m times the memory of the replicates.
    stronger: FloatArray = np.stack([np.mean(one[:, None] > replicates, axis=0) for one in replicates.T])
    np.fill_diagonal(stronger, np.nan)
    return BradleyTerryIntervals(fit.strengths, fit.tie, low, high, stronger, float(separated.mean()))


def _fit(wins: FloatArray, ties: FloatArray, regularization: float) -> tuple[FloatArray, FloatArray]:
    """Return (r, m) strengths and (r,) ν for (r, m, m) tables whose likelihood has a maximum."""
    if regularization > 0:
        edge = [(0, 0), (0, 1), (0, 1)]  # room for the added opponent, the last model
        wins, ties = np.pad(wins, edge), np.pad(ties, edge)
        wins[:, :-1, -1] = wins[:, -1, :-1] = regularization
    theta = _maximise(wins, ties)
    models = theta.shape[1] - 1 - (regularization > 0)
    strengths = theta[:, :models] - theta[:, :models].mean(axis=1, keepdims=True)
    return strengths, np.where(_tied(ties), np.exp(theta[:, -1]), 0.0)


def _maximise(wins: FloatArray, ties: FloatArray) -> FloatArray:
    """Return (r, m + 1) strengths and log ν that maximise the likelihood, by Newton's method with step halving.

    The log-likelihood is concave in these parameters, so that the point where it stops growing is its maximum. All r
    tables (resamples) take their steps together: one LAPACK call instead of r.
    """
    theta = np.zeros((wins.shape[0], wins.shape[-1] + 1))
    for _ in range(_STEPS):
        step = np.linalg.solve(*_information_and_gradient(theta, wins, ties))[..., 0]
        current = _log_likelihood(theta, wins, ties)
        # Close to the maximum a step changes the likelihood by less than its rounding error.
        floor = current - 1e-12 * np.abs(current) - 1e-12
        for _ in range(_HALVINGS):
            worse = _log_likelihood(theta + step, wins, ties) < floor
            if not worse.any():
                break
            step[worse] /= 2
        theta += step
        if np.abs(step).max() < _STEP_SIZE:
            break
    return theta


def _tied(ties: FloatArray) -> _BoolArray:
    """Return (r,) whether a table has any ties; without them log ν would go to minus infinity and is left out."""
    return np.asarray(ties.any(axis=(-2, -1)))


def _log_probabilities(theta: FloatArray, ties: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (r, m, m) log probabilities of a win of the row, and of a tie (-inf in tables without ties).

    Davidson 1970: win : tie : loss = exp(half) : ν : exp(-half), half being half the difference of the strengths.
    """
    half = (theta[:, :-1, None] - theta[:, None, :-1]) / 2
    log_tie = np.where(_tied(ties), theta[:, -1], -np.inf)[:, None, None]
    total = np.logaddexp(np.logaddexp(half, -half), log_tie)
    return half - total, log_tie - total


def _log_likelihood(theta: FloatArray, wins: FloatArray, ties: FloatArray) -> FloatArray:
    win, tie = _log_probabilities(theta, ties)
    return np.asarray(np.sum(wins * win + ties / 2 * np.where(ties > 0, tie, 0.0), axis=(1, 2)))


def _information_and_gradient(theta: FloatArray, wins: FloatArray, ties: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (r, m + 1, m + 1) information (minus the second derivative) and (r, m + 1, 1) gradient.

    The model is an exponential family: one comparison counts ½, -½ or 0 for a strength and 0 or 1 for log ν. The
    gradient is the observed less the expected count, the information the covariance of the counts.
    """
    win, tie = (np.exp(log) for log in _log_probabilities(theta, ties))
    loss, games = np.swapaxes(win, 1, 2), wins + np.swapaxes(wins, 1, 2) + ties
    mean = (win - loss) / 2
    spread = games * ((win + loss) / 4 - mean**2)
    m = wins.shape[-1]
    information = np.zeros((len(theta), m + 1, m + 1))
    # Strengths are determined up to a constant. 1 / m in every cell makes the matrix invertible and keeps their mean.
    information[:, :m, :m] = np.eye(m) * spread.sum(axis=2)[:, :, None] - spread + 1 / m
    information[:, :m, m] = information[:, m, :m] = -np.sum(games * mean * tie, axis=2)
    # Without ties the last row would be 0; 1 on the diagonal keeps log ν where it is.
    information[:, m, m] = np.sum(games * tie * (1 - tie), axis=(1, 2)) / 2 + ~_tied(ties)
    gradient = np.empty((len(theta), m + 1, 1))
    gradient[:, :m, 0] = np.sum((wins - np.swapaxes(wins, 1, 2)) / 2 - games * mean, axis=2)
    gradient[:, m, 0] = np.sum(ties - games * tie, axis=(1, 2)) / 2
    return information, gradient


def _chains(wins: FloatArray, ties: FloatArray) -> tuple[FloatArray, _BoolArray]:
    """Return (r, m, m) the least number of ties minus wins on a chain from row to column, and (r,) any ties.

    Shortest paths by Floyd and Warshall: a win has the length -1, a tie 1; infinite where no chain exists.
    """
    m = wins.shape[-1]
    length = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, np.inf))
    for via in range(m):
        through = length[:, :, via, None] + length[:, None, via, :]
        # A cycle with more wins than ties makes a chain ever shorter; only its sign matters, so it stops at -m.
        length = np.maximum(np.minimum(length, through), -m)
    return length, _tied(ties)


def _has_maximum(length: FloatArray, tied: _BoolArray) -> _BoolArray:
    """Return (r,) whether the likelihood has a maximum, from the lengths of :func:`_chains`."""
    diagonal = np.diagonal(length, axis1=1, axis2=2)
    apart = np.isinf(length) & ~np.eye(length.shape[-1], dtype=bool)
    return np.asarray(~apart.any(axis=(1, 2)) & (~tied | (diagonal.min(axis=1) < 0)))


def _require_maximum(wins: FloatArray, ties: FloatArray) -> None:
    """Raise InvalidInputError with the models that are not connected where the likelihood has no maximum."""
    length, tied = _chains(wins[None], ties[None])
    if _has_maximum(length, tied)[0]:
        return
    hint = "compare more, or set regularization=0.5, which adds half a win and half a loss against an average opponent"
    reached = np.isfinite(length[0]) | np.eye(len(wins), dtype=bool)
    if reached.all():
        reason = "too many ties: no chain of models leads back to its start with more wins than ties"
    else:
        weakest = reached[np.argmin(reached.sum(axis=1))]
        low, high = (", ".join(map(str, np.flatnonzero(side))) for side in (weakest, ~weakest))
        reason = f"no model of {{{low}}} ever won or tied against one of {{{high}}}"
    raise InvalidInputError(f"the strengths have no maximum-likelihood estimate: {reason}", hint)


def _outcome_counts(
    first: _IntArray, second: _IntArray, outcome: _IntArray, codes: _IntArray, n_models: int
) -> tuple[FloatArray, _IntArray]:
    """Return (units, k) counts of the k distinct outcomes that occur, and (k,) their cells in the tables.

    Only cells that occur: k is far smaller than 2 m², and the counts are drawn hundreds of times.
    """
    won, lost = np.where(outcome >= 0, first, second), np.where(outcome >= 0, second, first)
    tied = outcome == 0
    rows, columns = np.where(tied, np.minimum(won, lost), won), np.where(tied, np.maximum(won, lost), lost)
    cells, kinds = np.unique((tied * n_models + rows) * n_models + columns, return_inverse=True)
    n_units, k = int(codes.max(initial=-1)) + 1, len(cells)
    counts = np.bincount(codes * k + kinds, minlength=n_units * k).reshape(n_units, k)
    return counts.astype(np.float64), cells


def _tables(counts: FloatArray, cells: _IntArray, n_models: int) -> tuple[FloatArray, FloatArray]:
    """Return (r, m, m) wins and (r, m, m) ties from (r, k) counts of :func:`_outcome_counts`."""
    tables = np.zeros((len(counts), 2 * n_models * n_models))
    tables[:, cells] = counts
    wins, ties = np.moveaxis(tables.reshape(len(counts), 2, n_models, n_models), 1, 0)
    return wins, ties + np.swapaxes(ties, 1, 2)
