"""What a comparison decides: summary, pairs, ranks, the trade against cost, and a recommendation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.display.scores import Contrast
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import FloatArray
from lumigator_nb.services.comparison.recommendation import COLUMNS, By, Recommendation
from lumigator_nb.services.comparison.score_samples import Scored

# Of the range of a score, where nobody says what difference matters.
_MARGIN = 0.02
_NAN = float("nan")
_NO_DIFFERENCE = dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), _NAN)


def leader(scored: Scored) -> int:
    """Return the index of the best model.

    Raises:
        InvalidInputError: no value of the score is better than another.
    """
    if scored.best is None:
        raise InvalidInputError(f"{scored.info.name} only describes; no value of it is better", None)
    return scored.best


def summary(models: Sequence[str], found: Sequence[Scored]) -> pd.DataFrame:
    """See :meth:`Comparison.summary`."""
    everywhere = _adjusted_everywhere([scored for scored in found if scored.decides])
    rows = []
    for scored in found:
        for index, label in enumerate(models):
            interval = scored.intervals[index]
            rows.append(
                {
                    "score": scored.info.name,
                    "model": label,
                    "overall": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "best": index == scored.best,
                    **_against_best(scored, index, everywhere),
                    "n": scored.n,
                }
            )
    return pd.DataFrame(rows)


def contrasts(models: Sequence[str], scored: Scored) -> list[Contrast]:
    """Return what a score shows of each model but the leading one.

    Each is held against the leading one; and where that is not shown to be better, against the best of those that are.
    """
    if scored.best is None:
        return []
    best, better = scored.best, shown_better(scored)
    found = []
    for index in range(len(models)):
        if index == best:
            continue
        found.append(contrast(models, scored, index, best))
        rivals = [contrast(models, scored, index, rival) for rival in np.flatnonzero(better[:, index]).tolist()]
        if rivals and not better[best, index]:
            # Of several, one whose interval says the same.
            found.append(max(rivals, key=lambda each: (each.clear, abs(each.difference))))
    return found


def contrast(models: Sequence[str], scored: Scored, index: int, other: int) -> Contrast:
    """Return what a score shows of one model against another."""
    found, p_adjusted = scored.difference(index, other), float(scored.p_adjusted[index, other])
    told_apart = p_adjusted <= 1 - scored.resampling.confidence
    return Contrast(models[index], models[other], found.estimate, found.low, found.high, p_adjusted, told_apart)


def shown_better(scored: Scored) -> npt.NDArray[np.bool_]:
    """Return (models, models) whether the model of the row is shown to be better, corrected for all pairs."""
    surely = scored.p_adjusted <= 1 - scored.resampling.confidence
    return np.asarray(surely & (scored.upward[:, None] > scored.upward), dtype=np.bool_)


def _against_best(scored: Scored, index: int, everywhere: dict[tuple[str, int, int], float]) -> dict[str, Any]:
    best = scored.best
    ranks = {"rank_low": _NAN, "rank_high": _NAN}
    if best is not None:
        ranks = {"rank_low": scored.ranks[index].low, "rank_high": scored.ranks[index].high}
    if best is None or best == index:
        return {**_NO_DIFFERENCE, "p_adjusted": _NAN, "p_adjusted_all": _NAN, "told_apart": False, **ranks}
    return {
        **_difference(scored, index, best),
        "p_adjusted": scored.p_adjusted[index, best],
        "p_adjusted_all": everywhere[scored.info.name, min(index, best), max(index, best)],
        "told_apart": bool(scored.p_adjusted[index, best] <= 1 - scored.resampling.confidence),
        **ranks,
    }


def _difference(scored: Scored, index: int, other: int) -> dict[str, float]:
    found = scored.difference(index, other)
    return {
        "difference": found.estimate,
        "difference_low": found.low,
        "difference_high": found.high,
        "p_value": found.p_value,
    }


def _adjusted_everywhere(found: Sequence[Scored]) -> dict[tuple[str, int, int], float]:
    """The p-value of each pair of models on each score, corrected for all of them.

    Scores of the same examples share their resamples, so that it counts once what they have in common.
    """
    keys, estimates, replicates, sizes = [], [], [], []
    for scored in found:
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
    # The leading model comes first among equals too.
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
    # A baseline of which nothing is known neither stands on the front nor keeps a model off it.
    values = frame[["overall", *COLUMNS.values()]].where(~frame["baseline"]).to_numpy(dtype=np.float64)
    frame["front"] = statistics.pareto_front(values, (bool(scored.info.higher_is_better), False, False))
    return frame


def _prices(models: Sequence[str], costs: pd.DataFrame) -> dict[str, FloatArray]:
    known = costs.set_index("model").reindex(list(models))
    return {column: known[column].to_numpy(dtype=np.float64) for column in COLUMNS.values()}


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
    """See :meth:`Comparison.recommend`; `copied` counts answers that mostly copy their input, of how many."""
    leader(scored)
    if margin is not None and not margin > 0:
        raise InvalidInputError(f"margin cannot be {margin}", "give what difference does not matter, such as 0.02")
    if by is not None and by not in COLUMNS:
        raise InvalidInputError(f"nothing is saved by {by!r}", f"by is one of {', '.join(COLUMNS)}")
    tolerated = _default_margin(scored) if margin is None else margin
    candidates = [index for index, model in enumerate(models) if model not in baselines]
    ranked = candidates or list(range(len(models)))
    best = max(ranked, key=lambda index: scored.upward[index])
    prices = _prices(models, costs)
    known = [name for name, column in COLUMNS.items() if np.isfinite(prices[column][ranked]).any()]
    chosen_by = by or next(iter(known), None)
    table = _candidates(models, scored, ranked, tolerated).assign(**prices)
    price = prices[COLUMNS[chosen_by]] if chosen_by else np.full(len(models), _NAN)
    choice = _cheapest(price, table["not_worse"].to_numpy(), best)
    beaten = np.any(shown_better(scored)[ranked], axis=0).tolist()
    return Recommendation(
        info=scored.info,
        best=models[best],
        best_set=tuple(models[index] for index in ranked if not beaten[index]),
        choice=models[choice] if candidates else None,
        by=chosen_by,
        margin=tolerated,
        confidence=scored.resampling.confidence,
        saved=None if choice == best else float(1 - price[choice] / price[best]),
        n=scored.n,
        others=tuple(contrast(models, scored, index, best) for index in ranked if index != best),
        baselines=tuple(contrast(models, scored, choice, index) for index in range(len(models)) if index not in ranked),
        copying=tuple(model for model, (some, of) in (copied or {}).items() if 2 * some > of),
        table=table.assign(baseline=[model in baselines for model in models]).sort_values(
            ["baseline", "overall"], ascending=[True, not scored.info.higher_is_better], ignore_index=True
        ),
    )


def _candidates(models: Sequence[str], scored: Scored, ranked: Sequence[int], margin: float) -> pd.DataFrame:
    """One row per model: its score and ranks, and of those that are ranked how far each may be behind the best."""
    found = statistics.not_worse_than_best(
        scored.overall[ranked],
        scored.replicates[ranked],
        margin=margin,
        higher_is_better=bool(scored.info.higher_is_better),
        confidence=scored.resampling.confidence,
        n=scored.n_units,
        span=_span(scored),
    )
    bounds, not_worse = np.full(len(models), _NAN), np.zeros(len(models), dtype=np.bool_)
    # One model alone has no other to be worse than.
    bounds[ranked] = found.worse_by_at_most if len(ranked) > 1 else _NAN
    not_worse[ranked] = found.not_worse
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


def _default_margin(scored: Scored) -> float:
    # What has no bounds is measured by what the best reaches.
    extent = _span(scored) or abs(float(scored.overall[leader(scored)]))
    return _MARGIN * (extent or 1.0)


def _span(scored: Scored) -> float | None:
    low, high = scored.info.range
    return high - low if np.isfinite(high - low) else None


def _cheapest(price: FloatArray, not_worse: np.ndarray, best: int) -> int:
    """The cheapest of the models that are not worse; the best where it is no dearer, or no price is known."""
    if not np.isfinite(price[best]):
        return best
    offered = np.where(not_worse & np.isfinite(price), price, np.inf)
    offered[best] = price[best]
    cheapest = int(np.argmin(offered))
    return cheapest if offered[cheapest] < price[best] else best
