"""The parts of a comparison that a notebook and a report share: table of scores, notes, charts, texts side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lumigator_nb.display.costs import cost_legend, cost_table, remarks, unanswered
from lumigator_nb.display.html import Html, escape, join, name, table, tag
from lumigator_nb.display.scores import FEW_EXAMPLES, Figures, Standing, figures, p_value, standings
from lumigator_nb.display.text import MISSING, count, first_line, joined, percent, reason
from lumigator_nb.metrics.base import NO_PREDICTION
from lumigator_nb.metrics.copying import COVERAGE
from lumigator_nb.services.comparison.recommendation import advice

if TYPE_CHECKING:
    import pandas as pd

    from lumigator_nb.metrics import ScoreInfo
    from lumigator_nb.services.comparison.comparison import Comparison

NOT_TOLD_APART = "≈"
LATER = "it joined the experiment later"
UNCOMPARED = "Not compared: scores that some models lack"
_ARROWS = {True: " ↑", False: " ↓", None: ""}


def main_info(comparison: Comparison) -> ScoreInfo:
    """Return what describes the main score."""
    return next(info for info in comparison.scores if info.name == comparison.main_score)


def ordered_scores(comparison: Comparison, first: str | None = None) -> list[ScoreInfo]:
    """Return all scores, the one named `first` or else the main one at the beginning."""
    return sorted(comparison.scores, key=lambda info: info.name != (first or comparison.main_score))


def mark(one: Standing, standings: Sequence[Standing]) -> str:
    """Return the mark of a model that cannot be told apart from the leading one, which has the best value."""
    return NOT_TOLD_APART if one.tied and any(other.best for other in standings) else ""


def score_table(
    comparison: Comparison, by: str | None = None, titled: Callable[[str, Html], Html] = lambda _, title: title
) -> Html:
    """Return models by scores, best first on one of them, whose paired differences stand beside it.

    Args:
        comparison: what is shown.
        by: the score that orders; default the main one.
        titled: makes a header of a score's name and title.
    """
    summary = comparison.summary()
    infos = ordered_scores(comparison, by)
    found = {info.name: standings(summary, info) for info in infos}
    main = found[infos[0].name]
    paired = len(main) > 1 and any(one.best for one in main)
    headers: list[object] = [
        "Model", *(titled(info.name, _header(info, found[info.name], comparison)) for info in infos)
    ]  # fmt: skip
    rows: list[list[object]] = [
        [name(one.model), *(_cell(info, found[info.name], one.model) for info in infos)] for one in main
    ]
    if paired:
        show = figures(main, infos[0])
        headers.insert(2, join(["Difference", tag("span", "to the best", class_="lm-sub")]))
        for row, one in zip(rows, main, strict=True):
            row.insert(2, _difference(one, show))
    return table(headers, rows, numeric=range(1, len(headers)))


def _header(info: ScoreInfo, found: Sequence[Standing], comparison: Comparison) -> Html:
    n = found[0].n if found else 0
    partial = tag("span", f"n = {n:,}", class_="lm-sub") if n != comparison.dataset.n_examples else None
    return tag("span", info.name, _ARROWS[info.higher_is_better], partial, title=info.description)


def _cell(info: ScoreInfo, found: Sequence[Standing], model: str) -> Html:
    one = next(one for one in found if one.model == model)
    show = figures(found, info)
    value = escape(show.number(one.overall))
    if one.leads and len(found) > 1:
        value = tag("b", value)
    sign = mark(one, found)
    return join(
        [f"{sign} " if sign else "", value, " ", tag("span", show.interval(one.low, one.high), class_="lm-sub")]
    )


def _difference(one: Standing, show: Figures) -> Html:
    if one.best:
        return escape(MISSING)
    interval = show.interval(one.difference_low, one.difference_high)
    below = ", ".join(part for part in (interval, p_value(one.p_adjusted)) if part)
    return join([show.signed(one.difference), " ", tag("span", below, class_="lm-sub")])


def cost_and_speed(comparison: Comparison) -> list[Html]:
    """Return what the models cost and how fast they are, best first; nothing where that is unknown."""
    costs = comparison.costs()
    order = [one.model for one in standings(comparison.summary(), main_info(comparison))]
    found, below = cost_table(costs, order), cost_legend(costs)
    if found is None:
        return []
    return [found, tag("div", below, class_="lm-note")] if below else [found]


def recommended(comparison: Comparison) -> str:
    """Return which model to take where the verdict has not said it: not the one that leads, or one that copies."""
    if len(comparison.models) < 2 or not comparison.decides or comparison.n_scored < 2:
        return ""
    found = comparison.recommend()
    return "" if found.choice == comparison.best() and found.choice not in found.copying else advice(found)


def legend(comparison: Comparison) -> str:
    """Return what the marks of the table mean."""
    certainty = percent(comparison.confidence)
    parts = [f"[ ] {certainty} interval"]
    if len(comparison.models) > 1:
        parts.insert(0, "bold: best")
        parts.append(f"{NOT_TOLD_APART} cannot be told apart from the best")
        if (pairs := math.comb(len(comparison.models), 2)) > 1:
            parts.append(f"p and {NOT_TOLD_APART} are corrected for {pairs} pairs of models, intervals are not")
    return " · ".join(parts)


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader must know besides the figures: what is left out, what failed, and how little there is."""
    costs = comparison.costs()
    return [
        *_generated(comparison),
        *_pending(comparison),
        *not_computed(comparison),
        *unanswered(costs),
        *(f"{note}." for note in comparison.metric_notes),
        *_unscored(comparison),
        *_left_out(comparison),
        *remarks(costs),
        *_copying(comparison),
        *_few_examples(comparison),
        *_near_constant(comparison),
        *_skewed(comparison),
    ]


def _generated(comparison: Comparison) -> list[str]:
    author = comparison.dataset.author
    if not author:
        return []
    own = " It is itself among the models compared." if author in comparison.models else ""
    return [
        f"The ground truth was written by {author}, which favours models that write alike.{own} "
        "ws.audit(experiment, another_model) says whether the winner changes with another author."
    ]


def _pending(comparison: Comparison) -> list[str]:
    states = [
        f"{workflow.label} ({workflow.status}{': ' + first_line(workflow.error) if workflow.error else ''})"
        for workflow in comparison.pending
    ]
    return [f"Not compared: {', '.join(states)}."] if states else []


def not_computed(comparison: Comparison) -> list[str]:
    """Return which metrics models lack, and why, in a sentence for each reason; and what to do about it."""
    found = []
    for metric, reasons in comparison.not_computed.items():
        by_reason: dict[str, list[str]] = {}
        for model, error in reasons.items():
            by_reason.setdefault(reason(error), []).append(model)
        for why, models in by_reason.items():
            which = "any model" if len(models) == len(comparison.models) > 1 else joined(models)
            found.append(
                f"{metric} {'was not' if why == LATER else 'could not be'} computed for {which}: {why.rstrip('.…')}."
            )
    if scores := list(comparison.uncompared):
        found.append(f"{joined(scores)}: not compared, as no example has a value from every model.")
    return [*found, "ws.evaluate(experiment) computes what is missing, where that is possible now."] if found else []


def uncompared(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows, one per model, of the scores that some models lack; no rows where there are none.

    They stand apart from those that are compared, so that none of them counts for or against a model.
    """
    scores = comparison.uncompared
    values = [[found.get(model) for found in scores.values()] for model in comparison.models] if scores else []
    rows = [
        [model, *(MISSING if value is None else f"{value:.4g}" for value in row)]
        for model, row in zip(comparison.models, values, strict=False)
    ]
    return ["model", *scores], rows


def uncompared_table(comparison: Comparison) -> list[Html]:
    """Return that table under its title; nothing where every model has every score."""
    headers, rows = uncompared(comparison)
    if not rows:
        return []
    shown = table(["Model", *headers[1:]], [[name(row[0]), *row[1:]] for row in rows], numeric=range(1, len(headers)))
    return [tag("div", UNCOMPARED, class_="lm-title"), shown]


def _unscored(comparison: Comparison) -> list[str]:
    """Why examples with an answer have no score, by score; those without an answer are named elsewhere."""
    found: dict[str, Counter[str]] = {}
    for job in comparison.jobs:
        for score, reasons in job.details.get("unscored", {}).items():
            known = {why: n for why, n in reasons.items() if why != NO_PREDICTION}
            found.setdefault(score, Counter()).update(known)
    by_reasons: dict[str, list[str]] = {}
    for score, reasons in found.items():
        said = "; ".join(f"{why} ({n:,})" for why, n in reasons.most_common(3))
        if said:
            by_reasons.setdefault(said, []).append(score)
    return [f"Not scored by {joined(scores)}: {said}." for said, scores in by_reasons.items()]


def _left_out(comparison: Comparison) -> list[str]:
    total = comparison.dataset.n_examples
    names: dict[int, list[str]] = {}
    for score, n in comparison.summary().groupby("score", sort=False)["n"].first().items():
        if n != total:
            names.setdefault(int(n), []).append(str(score))
    which = "those for which every model has a value"
    return [f"{joined(scores)}: on {n:,} of {count(total, 'example')}, {which}." for n, scores in names.items()]


def _copying(comparison: Comparison) -> list[str]:
    return [
        f"{some:,} of {count(of, 'answer')} of {model} mostly copy the input: {percent(COVERAGE)} or more of their "
        "words stand in it, and they are about as long."
        for model, (some, of) in comparison.copied.items()
        if 2 * some > of
    ]


def _few_examples(comparison: Comparison) -> list[str]:
    n = int(comparison.summary()["n"].max())
    if n >= FEW_EXAMPLES:
        return []
    return [f"With {count(n, 'example')} the intervals are rough: those of a bootstrap are too narrow for so few."]


def _near_constant(comparison: Comparison) -> list[str]:
    n = comparison.n_scored
    models = [f"{label} ({alike:,} of {n:,})" for label, alike in comparison.near_constant.items()]
    if not models:
        return []
    return [
        f"On {comparison.main_score} nearly all examples score the same for {joined(models)}: so few others hardly "
        "show how far scores spread, and the intervals may be too narrow."
    ]


def _skewed(comparison: Comparison) -> list[str]:
    needed = comparison.needed_for_skewness
    if not needed or int(comparison.summary()["n"].max()) < FEW_EXAMPLES:
        return []
    unit = f"values of {comparison.groups}" if comparison.groups else "examples"
    said = joined([f"{score} takes some {number:,} {unit}" for score, number in needed.items()])
    return [
        "A few examples decide most of the differences to the best model, so that intervals may be too narrow and "
        f"p-values too small: {said} (25 times the squared skewness, Cochran's rule)."
    ]


def chart(comparison: Comparison, info: ScoreInfo) -> Html:
    """Return the interval chart of one score as markup."""
    from lumigator_nb.display.charts import interval_chart, svg

    found = standings(comparison.summary(), info)
    return svg(interval_chart(found, info, comparison.confidence))


def side_by_side(texts: pd.DataFrame, limit: int | None = None) -> Html:
    """Return the texts of :meth:`Comparison.examples`, one block per example.

    Args:
        texts: one row per example, one column per text; missing cells say so.
        limit: characters of each text.
    """
    return join(_example(row, dict(texts.loc[row].items()), limit) for row in texts.index)


def _example(row: object, texts: dict[object, object], limit: int | None) -> Html:
    columns = [tag("div", tag("h3", _heading(column)), _text(text, limit)) for column, text in texts.items()]
    return tag(
        "div",
        tag("div", f"Row {row}", class_="lm-note"),
        tag("div", *columns, class_="lm-columns"),
        class_="lm-example",
    )


def _heading(column: object) -> Html:
    return {"example": escape("Example"), "ground_truth": escape("Ground truth")}.get(str(column), name(str(column)))


def _text(text: object, limit: int | None) -> Html:
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return tag("div", "none", class_="lm-soft")
    shown = str(text)
    cut = (
        shown if limit is None or len(shown) <= limit else f"{shown[:limit]}… ({len(shown) - limit:,} characters more)"
    )
    return tag("div", cut, class_="lm-text")
