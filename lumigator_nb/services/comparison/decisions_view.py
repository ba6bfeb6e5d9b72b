"""What a report says about certainty, slices and people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lumigator_nb.display.charts import svg
from lumigator_nb.display.html import Html, name, table, tag
from lumigator_nb.display.scores import Figures, p_value, ranks
from lumigator_nb.display.text import MISSING, percent
from lumigator_nb.services.comparison.decision_charts import pairwise_chart, pareto_chart
from lumigator_nb.services.comparison.recommendation import body

if TYPE_CHECKING:
    from lumigator_nb.metrics import ScoreInfo
    from lumigator_nb.services.comparison.comparison import Comparison

# Below, slices would be of a dozen examples each and only confuse.
_FEWEST_TO_SLICE = 40


def decision(comparison: Comparison, info: ScoreInfo) -> list[Html]:
    """Return which model to take, and how sure that is; nothing where there is one model or one example."""
    if len(comparison.models) < 2 or info.higher_is_better is None or comparison.n_scored < 2:
        return []
    return [
        tag("h2", "Which model to take"),
        *body(comparison.recommend()),
        tag("h2", "How sure it is"),
        _ranking(comparison.ranking(), info),
        tag("div", how_ranked(comparison), class_="lm-note"),
        svg(pairwise_chart(comparison.pairwise(), comparison.ranking()["model"].tolist(), info, comparison.confidence)),
    ]


def _ranking(frame: pd.DataFrame, info: ScoreInfo) -> Html:
    show = Figures(info, frame["overall"].tolist())
    rows = [
        [
            name(row["model"]),
            show.number(row["overall"]),
            ranks(row["rank_low"], row["rank_high"]),
            f"{row['probability_best']:.0%}",
            f"{row['wins']:,}",
            f"{row['ties']:,}",
            f"{row['losses']:,}",
        ]
        for row in frame.to_dict("records")
    ]
    headers = ["Model", info.name, "Possible ranks", "First in resamples", "Wins", "Ties", "Losses"]
    return table(headers, rows, numeric=range(1, len(headers)))


def how_ranked(comparison: Comparison) -> str:
    """Return what possible ranks, wins, ties and losses mean."""
    return (
        f"Possible ranks hold for all models at once with {percent(comparison.confidence)} confidence: a model may be "
        "first unless another is shown to be better, corrected for all pairs. Wins, ties and losses count examples "
        "against every other model."
    )


def trade(comparison: Comparison, info: ScoreInfo) -> list[Html]:
    """Return the chart of quality against cost, or latency; nothing where neither is known of two models."""
    if len(comparison.models) < 2 or info.higher_is_better is None:
        return []
    points = comparison.pareto()
    for against in ("dollars_per_1000", "seconds_p50"):
        if points[~points["baseline"]][against].gt(0).sum() > 1:
            return [svg(pareto_chart(points, info, against))]
    return []


def slices(comparison: Comparison, info: ScoreInfo) -> list[Html]:
    """Return the main score by slice; nothing for few examples."""
    if len(comparison.models) < 2 or info.higher_is_better is None or comparison.n_scored < _FEWEST_TO_SLICE:
        return []
    frame = comparison.slices()
    show = Figures(info, [])
    rows = [
        [
            f"{column}: {part}",
            slice_size(row),
            *slice_values(row, comparison.models, info, show),
            f"{row['leader']} is better ({p_value(row['p_adjusted'])})" if row["flips"] else MISSING,
        ]
        for (column, part), row in zip(frame.index, frame.to_dict("records"), strict=True)
    ]
    headers = ["Slice", "Examples", *map(name, comparison.models), "The order flips"]
    note = (
        f"{info.name} in parts of the dataset; the best in bold. A flip means that another model than "
        f"{comparison.best()} is shown to be better there, corrected for all slices and models; few examples rarely "
        "show one, and intervals of skewed ones are too narrow."
    )
    found = table(headers, rows, numeric=range(1, len(headers) - 1))
    return [tag("h2", "Slices"), found, tag("div", note, class_="lm-note")]


def slice_values(row: Mapping[Any, Any], models: Sequence[str], info: ScoreInfo, show: Figures) -> list[Html | str]:
    """Return the values of one row of :meth:`Comparison.slices` as text, the best in bold."""
    known = [row[model] for model in models if not math.isnan(row[model])]
    best = (max if info.higher_is_better else min)(known, default=math.nan)
    return [tag("b", show.number(row[model])) if row[model] == best else show.number(row[model]) for model in models]


def slice_size(row: Mapping[Any, Any]) -> str:
    """Return how many examples a slice has, and why they may be too few; `row` is one of :meth:`Comparison.slices`."""
    return f"{row['n']:,}" + (" (few)" if row["too_small"] else " (skewed)" if row["too_skewed"] else "")


def people(comparison: Comparison) -> list[Html]:
    """Return how metrics follow people's ratings; nothing where nobody has rated."""
    if not comparison.rated:
        return []
    rows = [
        [row["score"], f"{row['n']:,}", *(_correlation(row, kind) for kind in ("kendall", "spearman", "pearson"))]
        for row in comparison.trust().to_dict("records")
    ]
    note = "Correlation of scores with people's ratings of the same answers, with intervals over examples."
    found = table(["Score", "Answers", "Kendall", "Spearman", "Pearson"], rows, numeric=range(1, 5))
    return [tag("h2", "What people say"), found, tag("div", note, class_="lm-note")]


def _correlation(row: Mapping[Any, Any], kind: str) -> Html | str:
    if math.isnan(row[kind]):
        return MISSING
    value, low, high = (f"{row[key]:.2f}".replace("-", "−") for key in (kind, f"{kind}_low", f"{kind}_high"))
    return tag("span", value, " ", tag("span", f"[{low}, {high}]", class_="lm-sub"))
