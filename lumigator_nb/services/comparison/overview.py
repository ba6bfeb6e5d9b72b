"""What a notebook and a report of a comparison share besides its tables: notes, charts, texts side by side."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd

from lumigator_nb.display.costs import remarks, unanswered
from lumigator_nb.display.html import Html, escape, join, name, tag
from lumigator_nb.display.scores import FEW_EXAMPLES, not_computed, standings
from lumigator_nb.display.text import count, first_line, joined, percent
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.metrics.base import NO_PREDICTION
from lumigator_nb.metrics.copying import COVERAGE
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.recommendation import advice
from lumigator_nb.services.comparison.tables import NOT_TOLD_APART


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
        *not_computed(comparison.not_computed, list(comparison.uncompared), comparison.models),
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
