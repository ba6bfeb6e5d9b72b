"""Recommendation of a model, in words that a decision maker can read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from lumigator_nb.display import render
from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.html import Html, fragment, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import Contrast, Figures, gap, p_value, ranks
from lumigator_nb.display.tables import Cell, Table, to_html
from lumigator_nb.display.text import MISSING, count, joined, percent
from lumigator_nb.metrics import ScoreInfo

By = Literal["dollars", "seconds"]
COLUMNS: dict[By, str] = {"dollars": "dollars_per_1000", "seconds": "seconds_p50"}
_HEADERS = ["Model", "Score", "Possible ranks", "Worse than the best by at most", "Per 1,000 answers", "Latency"]
# Models that a sentence names; it counts the others.
_MOST_NAMED = 3
_SAVED: dict[str, tuple[str, Callable[[float], str], str]] = {
    "dollars": ("dollars_per_1000", dollars, "per 1,000 answers"),
    "seconds": ("seconds_p50", seconds, "per answer"),
}


@dataclass(frozen=True, repr=False)
class Recommendation(Rendered):
    """Which model to take. The model is compared with the baselines, but a baseline is never recommended.

    Attributes:
        info: the score that decides.
        best: the model with the best overall score; the best baseline if there are only baselines.
        best_set: the models that no other model is shown to be better than, the best included.
        choice: the cheapest model that is shown not to be worse than the best by more than `margin`; the best if there
            is none, or if its price is unknown. None if there are only baselines.
        by: what the choice saves, dollars or seconds; None if neither is known.
        margin: largest difference that counts as not worse, in units of the score.
        confidence: level of these statements, in (0, 1).
        saved: share of the best model's price or latency that the choice saves; None if they are the same model.
        n: number of examples.
        others: what is shown about each other model compared with the best.
        baselines: what is shown about the choice compared with each baseline.
        copying: models of which more than half of the answers mostly copy their input.
        table: one row per model, baselines last: `model`, `overall`, `rank_low`, `rank_high`, `worse_by_at_most` (than
            the best model), `not_worse`, `dollars_per_1000`, `seconds_p50`, `baseline`.
    """

    info: ScoreInfo
    best: str
    best_set: tuple[str, ...]
    choice: str | None
    by: By | None
    margin: float
    confidence: float
    saved: float | None
    n: int
    others: tuple[Contrast, ...]
    baselines: tuple[Contrast, ...]
    copying: tuple[str, ...]
    table: pd.DataFrame


@render.as_text.register
def sentence(recommendation: Recommendation) -> str:
    """Return the recommendation in a few sentences: the advice, and how sure the order of the models is."""
    best, best_set = recommendation.best, recommendation.best_set
    certainty = f"at {percent(recommendation.confidence)} confidence"
    if recommendation.choice is None or not recommendation.others:
        return advice(recommendation)
    rivals = [model for model in best_set if model != best]
    if rivals:
        n_unnamed = len(rivals) - _MOST_NAMED
        named = [*rivals[:_MOST_NAMED], *([count(n_unnamed, "other")] if n_unnamed > 0 else [])]
        order = f"{joined(named)} cannot be told apart from {best} with {count(recommendation.n, 'example')}."
    elif all(contrast.clear for contrast in recommendation.others):
        order = f"{best} is better than every other model {certainty}."
    else:
        # The best model need not be the one that is shown to be better: some third model may be.
        order = f"For every other model, some model is shown to be better {certainty}."
    return f"{advice(recommendation)} {order}"


def advice(recommendation: Recommendation) -> str:
    """Return which model to take and why, how it compares with baselines, and whether it copies its input.

    Where a baseline is shown to be better, the first sentence says so.
    """
    info, best, choice = recommendation.info, recommendation.best, recommendation.choice
    show = Figures(info, [])
    if choice is None:
        return (
            "There is no model to recommend: baselines only serve for comparison. Of these, "
            f"{best} has {_extreme(recommendation)}."
        )
    lost = [each for each in recommendation.baselines if each.clear and _gain(info, each) < 0]
    lost = lost if recommendation.others else []  # one model is described, not taken
    sentences = [_choice(recommendation, choice, lost)]
    others = [contrast for contrast in recommendation.baselines if contrast not in lost]
    if clauses := _against_baselines(info, others, show):
        sentences.append(f"Against {'other ' if lost else ''}baselines, {choice} {joined(clauses)}.")
    copying = [model for model in dict.fromkeys((choice, best)) if model in recommendation.copying]
    return " ".join([*sentences, *(f"Most answers of {model} copy their input." for model in copying)])


def _extreme(recommendation: Recommendation) -> str:
    """The score of the best model, in words."""
    info, overall = recommendation.info, _by_model(recommendation)[recommendation.best]["overall"]
    among = " of the models" if recommendation.choice and recommendation.baselines else ""
    extreme = "highest" if info.higher_is_better else "lowest"
    return f"the {extreme} {info.name}{among}, {Figures(info, []).number(overall)}"


def _choice(recommendation: Recommendation, choice: str, lost: Sequence[Contrast]) -> str:
    """Which model to take and why; which baselines are better than it, if there are any."""
    info, best, extreme = recommendation.info, recommendation.best, _extreme(recommendation)
    show = Figures(info, [])
    beaten = joined([contrast.other for contrast in lost])
    worse = f"is worse than {joined([f'{contrast.other} by {gap(contrast, show)}' for contrast in lost])}"
    if lost and choice == best:
        return f"No model beats {beaten}: {best} has {extreme}, and {worse}."
    if lost:
        cheaper = _cheaper_choice(recommendation, choice)
        return f"{choice} does not beat {beaten}: it {worse}. Among the models, {cheaper}; {best} has {extreme}."
    if not recommendation.others:
        besides = " besides the baselines" if recommendation.baselines else ""
        overall = show.number(_by_model(recommendation)[best]["overall"])
        return f"{choice} is the only model{besides}: its {info.name} is {overall}."
    if choice == best:
        return f"Take {best}: it has {extreme}{_no_cheaper_model(recommendation)}."
    return f"Take {choice}: {_cheaper_choice(recommendation, choice)}; {best} has {extreme}."


def _cheaper_choice(recommendation: Recommendation, choice: str) -> str:
    """What a model saves that is not the best, and how much worse it is at most."""
    info, show, rows = recommendation.info, Figures(recommendation.info, []), _by_model(recommendation)
    column, formatted, unit = _SAVED[recommendation.by or "dollars"]
    price = f"{formatted(rows[choice][column])} instead of {formatted(rows[recommendation.best][column])} {unit}"
    less = "less" if recommendation.by == "dollars" else "less time"
    behind = show.at_most(max(0.0, rows[choice]["worse_by_at_most"]))
    confidence, overall = percent(recommendation.confidence), show.number(rows[choice]["overall"])
    return (
        f"it takes {recommendation.saved or 0:.0%} {less} than {recommendation.best} ({price}), and "
        f"with {confidence} confidence its {info.name} ({overall}) is at most {behind} worse than that of any other "
        "model"
    )


def _no_cheaper_model(recommendation: Recommendation) -> str:
    """That no cheaper model is shown to be good enough; empty if no model is known to be cheaper than the best."""
    if recommendation.by is None:
        return ""
    column, models = _SAVED[recommendation.by][0], recommendation.table[~recommendation.table["baseline"]]
    # False for NaN: without both prices it is unknown whether another model is cheaper.
    if not (models[column] < _by_model(recommendation)[recommendation.best][column]).any():
        return ""
    cheaper = "cheaper" if recommendation.by == "dollars" else "faster"
    within = Figures(recommendation.info, []).number(recommendation.margin)
    return f", and no {cheaper} model is shown to be within {within} of the best"


def _gain(info: ScoreInfo, contrast: Contrast) -> float:
    """By how much the model of a contrast is better than the other; negative where it is worse."""
    return contrast.difference if info.higher_is_better else -contrast.difference


def _against_baselines(info: ScoreInfo, contrasts: Sequence[Contrast], show: Figures) -> list[str]:
    """Whether the choice beats each baseline, as clauses; first the baselines that beat it."""
    worse: list[str] = []
    unclear: list[str] = []
    better: list[str] = []
    same: list[str] = []
    for contrast in contrasts:
        if contrast.same:
            same.append(contrast.other)
        elif not contrast.clear:
            difference = f"{show.signed(contrast.difference)} {show.interval(contrast.low, contrast.high)}".rstrip()
            p = f", {p_value(contrast.p_adjusted)}" if p_value(contrast.p_adjusted) else ""
            unclear.append(f"{contrast.other} (difference {difference}{p})")
        else:
            (better if _gain(info, contrast) > 0 else worse).append(f"{contrast.other} by {gap(contrast, show)}")
    clauses = [
        f"is worse than {joined(worse)}" if worse else "",
        f"is not shown to be better than {joined(unclear)}" if unclear else "",
        f"scores exactly like {joined(same)}" if same else "",
        f"is better than {joined(better)}" if better else "",
    ]
    return [clause for clause in clauses if clause]


def _by_model(recommendation: Recommendation) -> dict[str, Mapping[Any, Any]]:
    return {row["model"]: row for row in recommendation.table.to_dict("records")}


@render.as_html.register
def _as_html(recommendation: Recommendation) -> str:
    """Return the recommendation and the table behind it, for a notebook."""
    return fragment(*body(recommendation))


def body(recommendation: Recommendation) -> list[Html]:
    """Return the recommendation and the table behind it, as parts of a page."""
    show = Figures(recommendation.info, [])
    rows: list[list[str | Cell]] = [
        [
            Cell(row["model"], "baseline" if row["baseline"] else "", bold=row["model"] == recommendation.choice),
            show.number(row["overall"]),
            ranks(row["rank_low"], row["rank_high"]),
            show.at_most(row["worse_by_at_most"]) + (" ✓" if row["not_worse"] else ""),
            _price(dollars, row["dollars_per_1000"]),
            _price(seconds, row["seconds_p50"]),
        ]
        for row in recommendation.table.to_dict("records")
    ]
    note = (
        f"✓ not worse than the best by more than {show.number(recommendation.margin)}, whichever model that is "
        f"({percent(recommendation.confidence)} confidence, for all models at once)"
    )
    return [
        tag("div", sentence(recommendation), class_="lm-verdict"),
        to_html(Table(_HEADERS, rows, note=note)),
    ]


def _price(formatted: Callable[[float], str], value: float) -> str:
    return MISSING if math.isnan(value) else formatted(value)
