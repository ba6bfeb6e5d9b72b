"""The tables of a comparison as data; `display.tables` draws them as HTML, text and Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from lumigator_nb.display import render
from lumigator_nb.display.costs import cost_table
from lumigator_nb.display.scores import Figures, ScoreRow, figures, p_value, ranks, score_rows
from lumigator_nb.display.tables import Cell, Table
from lumigator_nb.display.text import MISSING, percent, reason
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.services.comparison.comparison import Comparison

NOT_TOLD_APART = "≈"
_ARROWS = {True: " ↑", False: " ↓", None: ""}


def ordered_scores(comparison: Comparison, first: str | None = None) -> list[ScoreInfo]:
    """Return all scores; the one named `first`, default the main one, comes first."""
    return sorted(comparison.scores, key=lambda info: info.name != (first or comparison.main_score))


def ordered_models(comparison: Comparison) -> list[str]:
    """Return the models, best first on the main score."""
    return [score.model for score in score_rows(comparison.summary(), ordered_scores(comparison)[0])]


def _mark(score: ScoreRow, ranked: Sequence[ScoreRow], best: str = "") -> str:
    """The mark before a value: `best` for the leader, "≈ " for a model that cannot be told apart from it."""
    if best and score.leads and len(ranked) > 1:
        return best
    return f"{NOT_TOLD_APART} " if score.tied and any(other.best for other in ranked) else ""


def scores(comparison: Comparison, by: str | None = None) -> Table:
    """Return the models with all scores, best first on one of them, beside which are the differences to the best.

    Args:
        comparison: the comparison.
        by: the score that orders the models; default the main one.
    """
    summary = comparison.summary()
    infos = ordered_scores(comparison, by)
    main = score_rows(summary, infos[0])
    headers: list[str | Cell] = ["model"]
    rows: list[list[str | Cell]] = [[score.model] for score in main]
    for info in infos:
        ranked = score_rows(summary, info)
        n = ranked[0].n if ranked else 0
        partial = f"n = {n:,}" if n != comparison.dataset.n_examples else ""
        title = f"{info.name}{_ARROWS[info.higher_is_better]}"
        headers.append(Cell(title, partial, hint=info.description, key=info.name))
        show, by_model = figures(ranked, info), {score.model: score for score in ranked}
        for row, score in zip(rows, (by_model[one.model] for one in main), strict=True):
            text = f"{_mark(score, ranked)}{show.number(score.overall)}"
            is_bold = score.leads and len(ranked) > 1
            row.append(Cell(text, show.interval(score.low, score.high), bold=is_bold))
    # Beside the score that orders the models, since differences on the other scores would make the table too wide.
    if _has_differences(main):
        show = figures(main, infos[0])
        headers.insert(2, Cell("Difference", "to the best"))
        for row, score in zip(rows, main, strict=True):
            interval = show.interval(score.difference_low, score.difference_high)
            details = ", ".join(filter(None, [interval, p_value(score.p_adjusted)]))
            row.insert(2, MISSING if score.best else Cell(show.signed(score.difference), details))
    return Table(headers, rows)


def _has_differences(ranked: Sequence[ScoreRow]) -> bool:
    return len(ranked) > 1 and any(score.best for score in ranked)


def main_score(comparison: Comparison) -> Table:
    """Return the main score with interval, difference and p-value, narrow enough for a terminal."""
    info = ordered_scores(comparison)[0]
    ranked = score_rows(comparison.summary(), info)
    show = figures(ranked, info)
    headers = ["model", info.name, f"{percent(comparison.confidence)} interval"]
    values = _values(ranked, info)
    rows = [[score.model, values[score.model], show.interval(score.low, score.high)] for score in ranked]
    if _has_differences(ranked):
        headers += ["difference to best", "p"]
        for row, score in zip(rows, ranked, strict=True):
            difference = MISSING if score.best else show.difference(score)
            row += [difference, p_value(score.p_adjusted).removeprefix("p ").removeprefix("= ")]
    return Table(headers, rows)


def other_scores(comparison: Comparison) -> Table:
    """Return the values of all scores except the main one; no rows without other scores."""
    summary = comparison.summary()
    others = ordered_scores(comparison)[1:]
    values = [_values(score_rows(summary, info), info) for info in others]
    rows = [[model, *(by_model[model] for by_model in values)] for model in ordered_models(comparison) if others]
    return Table(["model", *(Cell(info.name) for info in others)], rows)


def _values(ranked: Sequence[ScoreRow], info: ScoreInfo) -> dict[str, str]:
    show = figures(ranked, info)
    return {score.model: f"{_mark(score, ranked, '* ')}{show.number(score.overall)}" for score in ranked}


def one_score(comparison: Comparison, info: ScoreInfo) -> Table:
    """Return the models on one score, for a document with a section per score."""
    ranked = score_rows(comparison.summary(), info)
    show = figures(ranked, info)
    rows = [
        [
            score.model,
            show.number(score.overall),
            show.interval(score.low, score.high),
            score.ranks or MISSING,
            p_value(score.p_adjusted) or MISSING,
        ]
        for score in ranked
    ]
    return Table(["model", Cell(info.name), "interval", "rank", "p, corrected"], rows, info.name)


def uncompared(comparison: Comparison) -> Table:
    """Return the scores that some models lack; no rows without such scores.

    They are in a separate table so that they do not count for or against a model.
    """
    partial = comparison.uncompared
    rows = [
        [model, *(f"{overall[model]:.4g}" if model in overall else MISSING for overall in partial.values())]
        for model in comparison.models
        if partial
    ]
    return Table(["model", *map(Cell, partial)], rows, "Not compared: scores that some models lack")


def costs(comparison: Comparison) -> Table:
    """Return what the models cost and how fast they are, best first; no rows if both are unknown."""
    return cost_table(comparison.costs(), ordered_models(comparison))


def ranking(comparison: Comparison, score: str | None = None) -> Table:
    """Return how sure the order of the models is on one score; no rows with one model, or without better and worse."""
    info = ordered_scores(comparison, score)[0]
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
    if not _is_ranked(comparison, info):
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
    """Return a score in parts of the dataset; no rows with one model, without better and worse, or without parts."""
    info = ordered_scores(comparison, score)[0]
    headers: list[str | Cell] = ["slice", "examples", *map(Cell, comparison.models), "the order flips"]
    divides = comparison.data.has_texts or not comparison.metadata().empty
    if not _is_ranked(comparison, info) or not divides:
        return Table(headers, [], "Slices")
    frame = comparison.slices(score=info.name)
    show = Figures(info, [])
    rows: list[list[str | Cell]] = []
    for (column, label), row in zip(frame.index, frame.to_dict("records"), strict=True):
        values = {model: row[model] for model in comparison.models}
        numbers = [value for value in values.values() if not math.isnan(value)]
        best = (max if info.higher_is_better else min)(numbers, default=math.nan)
        warning = " (few)" if row["too_small"] else " (skewed)" if row["too_skewed"] else ""
        rows.append(
            [
                f"{column}: {label}",
                f"{row['n']:,}{warning}",
                *(Cell(show.number(value), bold=value == best) for value in values.values()),
                f"{row['leader']} is better ({p_value(row['p_adjusted'])})" if row["flips"] else MISSING,
            ]
        )
    note = (
        f"{info.name} in parts of the dataset, by metadata and length; the best in bold. A flip means that another "
        f"model than {comparison.best(info.name)} is shown to be better there, corrected for all slices and models "
        "that were examined. Slices marked few are too small to show that; in those marked skewed, a few examples "
        "decide most of the difference."
    )
    return Table(headers, rows, "Slices", note, words=(0, len(headers) - 1))


def people(comparison: Comparison) -> Table:
    """Return how well metrics agree with human ratings; no rows without ratings."""
    rows: list[list[str | Cell]] = []
    for correlations in comparison.trust().to_dict("records") if comparison.rated else ():
        row: list[str | Cell] = [correlations["score"], f"{correlations['n']:,}"]
        for kind in ("kendall", "spearman", "pearson"):
            numbers = (correlations[kind], correlations[f"{kind}_low"], correlations[f"{kind}_high"])
            value, low, high = (f"{number:.2f}".replace("-", "−") for number in numbers)
            row.append(MISSING if math.isnan(correlations[kind]) else Cell(value, f"[{low}, {high}]"))
        rows.append(row)
    note = "Correlation of scores with human ratings of the same answers, with bootstrap intervals over examples."
    return Table(["score", "answers", "Kendall", "Spearman", "Pearson"], rows, "Agreement with human ratings", note)


def _is_ranked(comparison: Comparison, info: ScoreInfo) -> bool:
    return len(comparison.models) > 1 and info.higher_is_better is not None


@render.as_sheets.register
def sheets(comparison: Comparison) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the sheets of a workbook, with the numbers in full precision."""
    yield "Summary", comparison.summary()
    if comparison.decides:
        yield "Ranking", comparison.ranking()
        yield "Pairs", comparison.pairwise()
    if comparison.not_computed:
        missing = [
            (title, model, reason(error))
            for title, models in comparison.not_computed.items()
            for model, error in models.items()
        ]
        yield "Not computed", pd.DataFrame(missing, columns=["metric", "model", "reason"])
    yield "Cost and speed", comparison.costs()
    yield "Examples", comparison.to_pandas()
