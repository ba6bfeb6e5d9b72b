"""The tables of a comparison, each once as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lumigator_nb.display import render
from lumigator_nb.display.costs import cost_table
from lumigator_nb.display.scores import Figures, Standing, figures, p_value, ranks, standings
from lumigator_nb.display.tables import Cell, Table
from lumigator_nb.display.text import MISSING, percent, reason
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.services.comparison.comparison import Comparison

NOT_TOLD_APART = "≈"
_ARROWS = {True: " ↑", False: " ↓", None: ""}


def ordered_scores(comparison: Comparison, first: str | None = None) -> list[ScoreInfo]:
    """Return all scores, the one named `first` or else the main one at the beginning."""
    return sorted(comparison.scores, key=lambda info: info.name != (first or comparison.main_score))


def ordered_models(comparison: Comparison) -> list[str]:
    """Return the models, best first on the main score."""
    return [one.model for one in standings(comparison.summary(), ordered_scores(comparison)[0])]


def _mark(one: Standing, found: Sequence[Standing], best: str = "") -> str:
    """The mark of a model that leads, if `best` is one, or else of one that cannot be told apart from the best."""
    if best and one.leads and len(found) > 1:
        return best
    return f"{NOT_TOLD_APART} " if one.tied and any(other.best for other in found) else ""


def scores(comparison: Comparison, by: str | None = None) -> Table:
    """Return models by scores, best first on one of them, whose paired differences stand beside it.

    Args:
        comparison: what is shown.
        by: the score that orders; default the main one.
    """
    summary = comparison.summary()
    infos = ordered_scores(comparison, by)
    found = {info.name: standings(summary, info) for info in infos}
    main = found[infos[0].name]
    by_model = {info.name: {one.model: one for one in found[info.name]} for info in infos}
    headers: list[str | Cell] = ["model", *(_header(info, found[info.name], comparison) for info in infos)]
    rows: list[list[str | Cell]] = [
        [one.model, *(_value(info, found[info.name], by_model[info.name][one.model]) for info in infos)] for one in main
    ]
    if _is_paired(main):
        show = figures(main, infos[0])
        headers.insert(2, Cell("Difference", "to the best"))
        for row, one in zip(rows, main, strict=True):
            row.insert(2, _difference(one, show))
    return Table(headers, rows)


def _is_paired(found: Sequence[Standing]) -> bool:
    return len(found) > 1 and any(one.best for one in found)


def _header(info: ScoreInfo, found: Sequence[Standing], comparison: Comparison) -> Cell:
    n = found[0].n if found else 0
    partial = f"n = {n:,}" if n != comparison.dataset.n_examples else ""
    return Cell(f"{info.name}{_ARROWS[info.higher_is_better]}", partial, hint=info.description, key=info.name)


def _value(info: ScoreInfo, found: Sequence[Standing], one: Standing) -> Cell:
    show = figures(found, info)
    text = f"{_mark(one, found)}{show.number(one.overall)}"
    return Cell(text, show.interval(one.low, one.high), bold=one.leads and len(found) > 1)


def _difference(one: Standing, show: Figures) -> str | Cell:
    if one.best:
        return MISSING
    interval = show.interval(one.difference_low, one.difference_high)
    return Cell(show.signed(one.difference), ", ".join(filter(None, [interval, p_value(one.p_adjusted)])))


def main_score(comparison: Comparison) -> Table:
    """Return the main score in the width of a terminal, with everything about it."""
    info = ordered_scores(comparison)[0]
    found = standings(comparison.summary(), info)
    show, paired = figures(found, info), _is_paired(found)
    headers = ["model", info.name, f"{percent(comparison.confidence)} interval"]
    values = _values(found, info)
    rows = [[one.model, values[one.model], show.interval(one.low, one.high)] for one in found]
    if paired:
        headers += ["difference to best", "p"]
        for row, one in zip(rows, found, strict=True):
            row += [
                MISSING if one.best else show.difference(one),
                p_value(one.p_adjusted).removeprefix("p ").removeprefix("= "),
            ]
    return Table(headers, rows)


def other_scores(comparison: Comparison) -> Table:
    """Return the values of the scores besides the main one; no rows where there are none."""
    summary = comparison.summary()
    others = ordered_scores(comparison)[1:]
    values = [_values(standings(summary, info), info) for info in others]
    rows = [[model, *(of[model] for of in values)] for model in ordered_models(comparison) if others]
    return Table(["model", *(Cell(info.name) for info in others)], rows)


def _values(found: Sequence[Standing], info: ScoreInfo) -> dict[str, str]:
    show = figures(found, info)
    return {one.model: f"{_mark(one, found, '* ')}{show.number(one.overall)}" for one in found}


def one_score(comparison: Comparison, info: ScoreInfo) -> Table:
    """Return the models on one score, for a text that has a section for each."""
    found = standings(comparison.summary(), info)
    show = figures(found, info)
    rows = [
        [one.model, show.number(one.overall), show.interval(one.low, one.high), one.ranks or MISSING,
         p_value(one.p_adjusted) or MISSING]
        for one in found
    ]  # fmt: skip
    return Table(["model", Cell(info.name), "interval", "rank", "p, corrected"], rows, info.name)


def uncompared(comparison: Comparison) -> Table:
    """Return the scores that some models lack; no rows where there are none.

    They stand apart from those that are compared, so that none of them counts for or against a model.
    """
    lacking = comparison.uncompared
    rows = [
        [model, *(f"{found[model]:.4g}" if model in found else MISSING for found in lacking.values())]
        for model in comparison.models
        if lacking
    ]
    return Table(["model", *map(Cell, lacking)], rows, "Not compared: scores that some models lack")


def costs(comparison: Comparison) -> Table:
    """Return what the models cost and how fast they are, best first; no rows where that is unknown."""
    return cost_table(comparison.costs(), ordered_models(comparison))


def ranking(comparison: Comparison, score: str | None = None) -> Table:
    """Return how sure the order of the models is on one score; no rows where there is one model, or no better."""
    info = _info(comparison, score)
    headers: list[str | Cell] = [
        "model",
        Cell(info.name),
        "possible ranks",
        "first in resamples",
        "wins",
        "ties",
        "losses",
    ]
    title = f"How sure the order is on {info.name}"
    if not _ranks(comparison, info):
        return Table(headers, [], title)
    frame = comparison.ranking(info.name)
    show = Figures(info, frame["overall"].tolist())
    rows = [
        [
            row["model"],
            show.number(row["overall"]),
            ranks(row["rank_low"], row["rank_high"]),
            f"{row['probability_best']:.0%}",
            *(f"{row[count]:,}" for count in ("wins", "ties", "losses")),
        ]
        for row in frame.to_dict("records")
    ]
    note = (
        f"Possible ranks hold for all models at once with {percent(comparison.confidence)} confidence: a model may be "
        "first unless another is shown to be better, corrected for all pairs. Wins, ties and losses count examples "
        "against every other model."
    )
    return Table(headers, rows, title, note)


def slices(comparison: Comparison, score: str | None = None) -> Table:
    """Return a score in parts of the dataset; no rows where there is one model, or no better."""
    info = _info(comparison, score)
    headers: list[str | Cell] = ["slice", "examples", *map(Cell, comparison.models), "the order flips"]
    if not _ranks(comparison, info):
        return Table(headers, [], "Slices")
    frame = comparison.slices(score=info.name)
    rows: list[list[str | Cell]] = [
        [
            f"{column}: {part}",
            f"{row['n']:,}" + (" (few)" if row["too_small"] else " (skewed)" if row["too_skewed"] else ""),
            *_best_in_bold(row, comparison.models, info),
            f"{row['leader']} is better ({p_value(row['p_adjusted'])})" if row["flips"] else MISSING,
        ]
        for (column, part), row in zip(frame.index, frame.to_dict("records"), strict=True)
    ]
    note = (
        f"{info.name} in parts of the dataset, by metadata and length; the best in bold. A flip means that another "
        f"model than {comparison.best(info.name)} is shown to be better there, corrected for all slices and models "
        "that were looked at. Slices marked few are too small to show that; in those marked skewed, a few examples "
        "decide most of the difference."
    )
    return Table(headers, rows, "Slices", note, words=(0, len(headers) - 1))


def _best_in_bold(row: Mapping[Any, Any], models: Sequence[str], info: ScoreInfo) -> list[Cell]:
    show = Figures(info, [])
    known = [row[model] for model in models if not math.isnan(row[model])]
    best = (max if info.higher_is_better else min)(known, default=math.nan)
    return [Cell(show.number(row[model]), bold=row[model] == best) for model in models]


def people(comparison: Comparison) -> Table:
    """Return how metrics follow people's ratings; no rows where nobody has rated."""
    rows: list[list[str | Cell]] = [
        [row["score"], f"{row['n']:,}", *(_correlation(row, kind) for kind in ("kendall", "spearman", "pearson"))]
        for row in (comparison.trust().to_dict("records") if comparison.rated else ())
    ]
    note = "Correlation of scores with people's ratings of the same answers, with intervals over examples."
    return Table(["score", "answers", "Kendall", "Spearman", "Pearson"], rows, "What people say", note)


def _correlation(row: Mapping[Any, Any], kind: str) -> str | Cell:
    if math.isnan(row[kind]):
        return MISSING
    value, low, high = (f"{row[key]:.2f}".replace("-", "−") for key in (kind, f"{kind}_low", f"{kind}_high"))
    return Cell(value, f"[{low}, {high}]")


def _info(comparison: Comparison, score: str | None) -> ScoreInfo:
    return ordered_scores(comparison, score)[0]


def _ranks(comparison: Comparison, info: ScoreInfo) -> bool:
    return len(comparison.models) > 1 and info.higher_is_better is not None


@render.as_sheets.register
def sheets(comparison: Comparison) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield what a workbook holds: in figures of full precision what the tables above say in words."""
    yield "Summary", comparison.summary()
    if comparison.decides:
        yield "Ranking", comparison.ranking()
        yield "Pairs", comparison.pairwise()
    if comparison.not_computed:
        lacking = [
            (title, model, reason(error))
            for title, models in comparison.not_computed.items()
            for model, error in models.items()
        ]
        yield "Not computed", pd.DataFrame(lacking, columns=["metric", "model", "reason"])
    yield "Cost and speed", comparison.costs()
    yield "Examples", comparison.to_pandas()
