"""The decisions of a comparison: summary, pairwise differences, ranks, Pareto front and recommendation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.display.scores import Contrast
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import FloatArray
from lumigator_nb.services.comparison.recommendation import COLUMNS, By, Recommendation
from lumigator_nb.services.comparison.score_samples import Scored

# Default margin of "not worse", as a share of the score's range.
_MARGIN = 0.02
_NAN = float("nan")
_NO_DIFFERENCE = dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), _NAN)


def leader(scored: Scored) -> int:
    """Return the index of the best model.

    Raises:
        InvalidInputError: the score has no better or worse.
    """
    if scored.best is None:
        raise InvalidInputError(f"{scored.info.name} only describes; no value of it is better", None)
    return scored.best


def summary(models: Sequence[str], samples: Sequence[Scored]) -> pd.DataFrame:
    """See :meth:`Comparison.summary`."""
    p_values = _adjusted_for_all_scores([scored for scored in samples if scored.decides])
    rows = []
    for scored in samples:
        best, alpha = scored.best, 1 - scored.resampling.confidence
        for index, label in enumerate(models):
            interval = scored.intervals[index]
            row = {
                "score": scored.info.name,
                "model": label,
                "overall": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "best": index == best,
                **_NO_DIFFERENCE,
                "p_adjusted": _NAN,
                "p_adjusted_all": _NAN,
                "told_apart": False,
                "rank_low": _NAN if best is None else scored.ranks[index].low,
                "rank_high": _NAN if best is None else scored.ranks[index].high,
                "n": scored.n,
            }
            if best is not None and index != best:
                row |= _difference(scored, index, best)
                row["p_adjusted"] = scored.p_adjusted[index, best]
                row["p_adjusted_all"] = p_values[scored.info.name, min(index, best), max(index, best)]
                row["told_apart"] = bool(scored.p_adjusted[index, best] <= alpha)
            rows.append(row)
    return pd.DataFrame(rows)


def contrasts(models: Sequence[str], scored: Scored) -> list[Contrast]:
    """Return what a score shows about each model except the leading one.

    Each is compared with the leading model, and if that is not shown to be better, also with a model that is.
    """
    if scored.best is None:
        return []
    best, better = scored.best, shown_better(scored)
    statements = []
    for index in range(len(models)):
        if index == best:
            continue
        statements.append(contrast(models, scored, index, best))
        rivals = [contrast(models, scored, index, rival) for rival in np.flatnonzero(better[:, index]).tolist()]
        if rivals and not better[best, index]:
            # Prefer a rival whose interval, which is not corrected, agrees with the corrected p-value.
            statements.append(max(rivals, key=lambda rival: (rival.clear, abs(rival.difference))))
    return statements


def contrast(models: Sequence[str], scored: Scored, index: int, other: int) -> Contrast:
    """Return what a score shows about one model compared with another."""
    difference, p_adjusted = scored.difference(index, other), float(scored.p_adjusted[index, other])
    return Contrast(
        models[index],
        models[other],
        difference.estimate,
        difference.low,
        difference.high,
        p_adjusted,
        told_apart=p_adjusted <= 1 - scored.resampling.confidence,
    )


def shown_better(scored: Scored) -> npt.NDArray[np.bool_]:
    """Return (models, models) whether the row's model is shown to be better, corrected for all pairs."""
    told_apart = scored.p_adjusted <= 1 - scored.resampling.confidence
    return np.asarray(told_apart & (scored.upward[:, None] > scored.upward), dtype=np.bool_)


def _difference(scored: Scored, index: int, other: int) -> dict[str, float]:
    difference = scored.difference(index, other)
    return {
        "difference": difference.estimate,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "p_value": difference.p_value,
    }


def _adjusted_for_all_scores(samples: Sequence[Scored]) -> dict[tuple[str, int, int], float]:
    """The p-value of each pair of models on each score, corrected for all pairs on all scores.

    All scores share their resamples, so the correction takes into account how strongly they are correlated.
    """
    keys, estimates, replicates, sizes = [], [], [], []
    for scored in samples:
        for i, j in combinations(range(len(scored.overall)), 2):
            keys.append((scored.info.name, i, j))
            estimates.append(scored.overall[i] - scored.overall[j])
            replicates.append(scored.replicates[i] - scored.replicates[j])
            sizes.append(scored.n_units)
    if not keys:
        return {}
    p_values = statistics.romano_wolf(np.array(estimates), np.stack(replicates), n=np.array(sizes))
    return dict(zip(keys, map(float, p_values), strict=True))


def pairwise(models: Sequence[str], scored: Scored) -> pd.DataFrame:
    """See :meth:`Comparison.pairwise`."""
    wins, ties = scored.wins if scored.decides else (None, None)
    rows = []
    for i, j in ((i, j) for i in range(len(models)) for j in range(len(models)) if i != j):
        row = {"model": models[i], "other": models[j], **_difference(scored, i, j)}
        if wins is not None and ties is not None:
            row |= {"p_adjusted": scored.p_adjusted[i, j]}
            row |= {"wins": int(wins[i, j]), "ties": int(ties[i, j]), "losses": int(wins[j, i])}
        rows.append(row)
    return pd.DataFrame(rows).rename(columns={"difference_low": "low", "difference_high": "high"})


def ranking(models: Sequence[str], scored: Scored) -> pd.DataFrame:
    """See :meth:`Comparison.ranking`."""
    leader(scored)
    better = bool(scored.info.higher_is_better)
    wins, ties = scored.wins
    frame = pd.DataFrame(
        {
            "model": models,
            "overall": scored.overall,
            "rank_low": [rank.low for rank in scored.ranks],
            "rank_high": [rank.high for rank in scored.ranks],
            "best_set": [rank.low == 1 for rank in scored.ranks],
            "probability_best": statistics.probability_best(scored.replicates, higher_is_better=better),
            "wins": wins.sum(axis=1),
            "ties": ties.sum(axis=1),
            "losses": wins.sum(axis=0),
        }
    )
    # `best` breaks ties by position, and the table must name the same leader.
    frame["leads"] = np.arange(len(models)) == scored.best
    ordered = frame.sort_values(["leads", "overall"], ascending=[False, not better], ignore_index=True, kind="stable")
    return ordered.drop(columns="leads")


def pareto(models: Sequence[str], scored: Scored, costs: pd.DataFrame, baselines: Collection[str] = ()) -> pd.DataFrame:
    """See :meth:`Comparison.pareto`."""
    leader(scored)
    frame = pd.DataFrame(
        {
            "model": models,
            "overall": [interval.estimate for interval in scored.intervals],
            "low": [interval.low for interval in scored.intervals],
            "high": [interval.high for interval in scored.intervals],
            **_prices(models, costs),
            "baseline": [model in baselines for model in models],
        }
    )
    # A row of NaN neither is on the front nor keeps a model off it, which takes baselines out.
    values = frame[["overall", *COLUMNS.values()]].where(~frame["baseline"]).to_numpy(dtype=np.float64)
    frame["front"] = statistics.pareto_front(values, (bool(scored.info.higher_is_better), False, False))
    return frame


def _prices(models: Sequence[str], costs: pd.DataFrame) -> dict[str, FloatArray]:
    by_model = costs.set_index("model").reindex(list(models))
    return {column: by_model[column].to_numpy(dtype=np.float64) for column in COLUMNS.values()}


def recommend(
    models: Sequence[str],
    scored: Scored,
    costs: pd.DataFrame,
    margin: float | None,
    by: By | None,
    *,
    baselines: Collection[str] = (),
    copied: Mapping[str, tuple[int, int]] | None = None,
) -> Recommendation:
    """See :meth:`Comparison.recommend`.

    Args:
        models: labels of all compared models.
        scored: the score that decides.
        costs: frame of :meth:`Comparison.costs`.
        margin: None takes the default.
        by: None takes the first of dollars and seconds that is known of a model.
        baselines: labels of the baselines.
        copied: per model, how many answers mostly copy their input, and how many were checked.
    """
    best_overall = leader(scored)
    if margin is not None and not margin > 0:
        raise InvalidInputError(f"margin cannot be {margin}", "give a difference that does not matter, such as 0.02")
    if by is not None and by not in COLUMNS:
        raise InvalidInputError(f"by cannot be {by!r}", f"by is one of {', '.join(COLUMNS)}")
    low, high = scored.info.range
    span = high - low if np.isfinite(high - low) else None
    if margin is None:
        # A score without bounds is measured by the best model's value.
        margin = _MARGIN * (span or abs(float(scored.overall[best_overall])) or 1.0)
    candidates = [index for index, model in enumerate(models) if model not in baselines]
    ranked = candidates or list(range(len(models)))
    best = max(ranked, key=lambda index: scored.upward[index])
    prices = _prices(models, costs)
    if by is None:
        by = next((name for name, column in COLUMNS.items() if np.isfinite(prices[column][ranked]).any()), None)
    table = _candidates(models, scored, ranked, margin, span).assign(**prices)
    choice = best
    price = prices[COLUMNS[by]] if by else np.full(len(models), _NAN)
    # Without a price of the best model no other can be shown to be cheaper.
    if np.isfinite(price[best]):
        offers = np.where(table["not_worse"].to_numpy() & np.isfinite(price), price, np.inf)
        cheapest = int(np.argmin(offers))
        choice = cheapest if offers[cheapest] < price[best] else best
    is_beaten = np.any(shown_better(scored)[ranked], axis=0).tolist()
    return Recommendation(
        info=scored.info,
        best=models[best],
        best_set=tuple(models[index] for index in ranked if not is_beaten[index]),
        choice=models[choice] if candidates else None,
        by=by,
        margin=margin,
        confidence=scored.resampling.confidence,
        saved=None if choice == best else float(1 - price[choice] / price[best]),
        n=scored.n,
        others=tuple(contrast(models, scored, index, best) for index in ranked if index != best),
        baselines=tuple(contrast(models, scored, choice, index) for index in range(len(models)) if index not in ranked),
        copying=tuple(model for model, (copies, checked) in (copied or {}).items() if 2 * copies > checked),
        table=table.assign(baseline=[model in baselines for model in models]).sort_values(
            ["baseline", "overall"], ascending=[True, not scored.info.higher_is_better], ignore_index=True
        ),
    )


def _candidates(
    models: Sequence[str], scored: Scored, ranked: Sequence[int], margin: float, span: float | None
) -> pd.DataFrame:
    """One row per model: its score and ranks, and for the `ranked` models how far each may be behind the best."""
    comparison = statistics.not_worse_than_best(
        scored.overall[ranked],
        scored.replicates[ranked],
        margin=margin,
        higher_is_better=bool(scored.info.higher_is_better),
        confidence=scored.resampling.confidence,
        n=scored.n_units,
        span=span,
    )
    bounds, not_worse = np.full(len(models), _NAN), np.zeros(len(models), dtype=np.bool_)
    # A single model has no other to be worse than.
    bounds[ranked] = comparison.worse_by_at_most if len(ranked) > 1 else _NAN
    not_worse[ranked] = comparison.not_worse
    return pd.DataFrame(
        {
            "model": models,
            "overall": scored.overall,
            "rank_low": [rank.low for rank in scored.ranks],
            "rank_high": [rank.high for rank in scored.ranks],
            "worse_by_at_most": bounds,
            "not_worse": not_worse,
        }
    )
