"""Which model to take, in words that somebody who pays for it can read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
_NAMED = 3
_SAVED: dict[str, tuple[str, Callable[[float], str], str]] = {
    "dollars": ("dollars_per_1000", dollars, "per 1,000 answers"),
    "seconds": ("seconds_p50", seconds, "per answer"),
}


@dataclass(frozen=True, repr=False)
class Recommendation(Rendered):
    """Which model to take. Baselines are references: the model is held against them, and none of them is recommended.

    Attributes:
        info: of the score that decides.
        best: the model with the best overall score; of the baselines, where there is no model.
        best_set: the models that no other is shown to be better than, the best included.
        choice: the cheapest model that is shown not to be worse than the best by more than `margin`; the best where
            there is none, or where nothing is known about what is saved. None where there are only baselines.
        by: what is saved; None where nothing is known about it.
        margin: in units of the score.
        confidence: of these statements.
        saved: share of what the best takes that the choice saves; None where they are the same.
        n: examples.
        others: what is shown of each other model against the best.
        baselines: what is shown of the choice against each baseline.
        copying: models that mostly copy the input, in more than half of their answers.
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
def sentence(found: Recommendation) -> str:
    """Return the recommendation in a few sentences."""
    return " ".join([advice(found), *_alternatives(found)])


def advice(found: Recommendation) -> str:
    """Return which model to take and why, how it does against baselines, and whether it copies its input."""
    show, rows = Figures(found.info, []), _by_model(found)
    reached = f"the {'highest' if found.info.higher_is_better else 'lowest'} {found.info.name}"
    value = show.number(rows[found.best]["overall"])
    if found.choice is None:
        return (
            f"There is no model to recommend: baselines are references, to hold models against. Of these, {found.best} "
            f"has {reached}, {value}."
        )
    of = " of the models" if found.baselines else ""
    if not found.others:
        besides = " besides the baselines" if found.baselines else ""
        said = f"{found.choice} is the only model{besides}: its {found.info.name} is {value}."
    elif found.choice == found.best:
        said = f"Take {found.best}: it has {reached}{of}, {value}{_unrivalled(found)}."
    else:
        said = f"{_cheaper(found, show)}; {found.best} has {reached}{of}, {value}."
    return " ".join([said, *_against_baselines(found, show), *_copying(found)])


def _cheaper(found: Recommendation, show: Figures) -> str:
    rows = _by_model(found)
    best, choice = rows[found.best], rows[str(found.choice)]
    column, written, unit = _SAVED[found.by or "dollars"]
    price = f"{written(choice[column])} instead of {written(best[column])} {unit}"
    less = "less" if found.by == "dollars" else "less time"
    behind = show.at_most(max(0.0, choice["worse_by_at_most"]))
    return (
        f"Take {found.choice}: it takes {found.saved or 0:.0%} {less} than {found.best} ({price}), and with "
        f"{percent(found.confidence)} confidence its {found.info.name} ({show.number(choice['overall'])}) is at most "
        f"{behind} worse than that of any other model"
    )


def _unrivalled(found: Recommendation) -> str:
    if found.by is None:
        return ""
    column, models = _SAVED[found.by][0], found.table[~found.table["baseline"]]
    # Whether another is cheaper than a model without a price is not known.
    if not (models[column] < _by_model(found)[found.best][column]).any():
        return ""
    cheaper = "cheaper" if found.by == "dollars" else "faster"
    within = Figures(found.info, []).number(found.margin)
    return f", and no {cheaper} model is shown to be within {within} of the best"


def _against_baselines(found: Recommendation, show: Figures) -> list[str]:
    """Whether the choice beats each baseline, the most telling first: those that beat it."""
    worse: list[str] = []
    unclear: list[str] = []
    better: list[str] = []
    same = [each.other for each in found.baselines if each.same]
    for each in found.baselines:
        gain = each.difference if found.info.higher_is_better else -each.difference
        if each.same:
            continue
        if not each.clear:
            difference = f"{show.signed(each.difference)} {show.interval(each.low, each.high)}".rstrip()
            p = f", {p_value(each.p_adjusted)}" if p_value(each.p_adjusted) else ""
            unclear.append(f"{each.other} (difference {difference}{p})")
        else:
            (better if gain > 0 else worse).append(f"{each.other} by {gap(each, show)}")
    parts = [
        f"is worse than {joined(worse)}" if worse else "",
        f"is not shown to be better than {joined(unclear)}" if unclear else "",
        f"scores exactly like {joined(same)}" if same else "",
        f"is better than {joined(better)}" if better else "",
    ]
    said = [part for part in parts if part]
    return [f"Against baselines, {found.choice} {joined(said)}."] if said else []


def _copying(found: Recommendation) -> list[str]:
    named = [model for model in dict.fromkeys((found.choice, found.best)) if model in found.copying]
    return [f"Most answers of {model} copy their input." for model in named]


def _alternatives(found: Recommendation) -> list[str]:
    if found.choice is None or not found.others:
        return []
    others = [model for model in found.best_set if model != found.best]
    if others:
        named = [*others[:_NAMED], *([count(len(others) - _NAMED, "other")] if len(others) > _NAMED else [])]
        return [f"{joined(named)} cannot be told apart from {found.best} with {count(found.n, 'example')}."]
    certainty = f"at {percent(found.confidence)} confidence"
    if all(each.clear for each in found.others):
        return [f"{found.best} is better than every other model {certainty}."]
    return [f"Of every other model it is shown that some model is better, {certainty}."]


def _by_model(found: Recommendation) -> dict[str, Mapping[Any, Any]]:
    return {row["model"]: row for row in found.table.to_dict("records")}


@render.as_html.register
def _as_html(found: Recommendation) -> str:
    """Return the recommendation and what it rests on, for a notebook."""
    return fragment(*body(found))


def body(found: Recommendation) -> list[Html]:
    """Return the recommendation and what it rests on."""
    show = Figures(found.info, [])
    rows: list[list[str | Cell]] = [
        [
            Cell(row["model"], "baseline" if row["baseline"] else "", bold=row["model"] == found.choice),
            show.number(row["overall"]),
            ranks(row["rank_low"], row["rank_high"]),
            show.at_most(row["worse_by_at_most"]) + (" ✓" if row["not_worse"] else ""),
            _known(dollars, row["dollars_per_1000"]),
            _known(seconds, row["seconds_p50"]),
        ]
        for row in found.table.to_dict("records")
    ]
    note = (
        f"✓ not worse than the best by more than {show.number(found.margin)}, whichever model that is "
        f"({percent(found.confidence)} confidence, for all models at once)"
    )
    return [
        tag("div", sentence(found), class_="lm-verdict"),
        to_html(Table(_HEADERS, rows, note=note)),
    ]


def _known(written: Any, value: float) -> str:
    return MISSING if math.isnan(value) else str(written(value))
