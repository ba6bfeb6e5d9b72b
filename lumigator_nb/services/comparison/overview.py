"""Parts of several views of a comparison besides its tables: advice, notes, charts, texts side by side."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain

import pandas as pd

from lumigator_nb.display.costs import remarks, unanswered
from lumigator_nb.display.html import Html, escape, join, name, tag
from lumigator_nb.display.scores import FEW_EXAMPLES, not_computed, score_rows
from lumigator_nb.display.text import count, first_line, joined, percent
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.metrics.base import NO_PREDICTION
from lumigator_nb.metrics.copying import COVERAGE
from lumigator_nb.services.comparison import repeats
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.recommendation import advice
from lumigator_nb.services.comparison.tables import NOT_TOLD_APART


def recommended(comparison: Comparison) -> str:
    """Return which model to take, unless the verdict says it already.

    It does if the recommended model leads and does not mostly copy its input.
    """
    if len(comparison.models) < 2 or not comparison.decides or comparison.n_scored < 2:
        return ""
    recommendation = comparison.recommend()
    choice = recommendation.choice
    return "" if choice == comparison.best() and choice not in recommendation.copying else advice(recommendation)


def legend(comparison: Comparison) -> str:
    """Return the key to the marks in the table of scores."""
    certainty = percent(comparison.confidence)
    parts = [f"[ ] {certainty} interval"]
    if len(comparison.models) > 1:
        parts.insert(0, "bold: best")
        parts.append(f"{NOT_TOLD_APART} cannot be told apart from the best")
        if (pairs := math.comb(len(comparison.models), 2)) > 1:
            parts.append(f"p and {NOT_TOLD_APART} are corrected for {pairs} pairs of models, intervals are not")
    return " · ".join(parts)


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader has to know besides the figures: what is missing, what failed, and how little data it is."""
    costs = comparison.costs()
    lines = list(comparison.data.notes)
    if author := comparison.dataset.author:
        own = " It is itself among the models compared." if author in comparison.models else ""
        lines.append(
            f"The ground truth was written by {author}, which favours models that write in a similar way.{own} "
            "ws.audit(experiment, another_model) shows whether the winner changes with another author."
        )
    if states := [
        f"{model.label} ({model.status}{': ' + first_line(model.error) if model.error else ''})"
        for model in comparison.data.pending
    ]:
        lines.append(f"Not compared: {', '.join(states)}.")
    lines += not_computed(comparison.not_computed, list(comparison.uncompared), comparison.models)
    lines += repeats.notes(comparison.models, comparison.data.repeats, comparison.main_score)
    lines += unanswered(costs)
    lines += [f"{note}." for note in comparison.metric_notes]
    lines += _unscored(comparison)
    lines += _partial_scores(comparison)
    lines += remarks(costs)
    lines += [
        f"{copied:,} of {count(checked, 'answer')} of {model} mostly copy the input: {percent(COVERAGE)} or more of "
        "their words occur in it, and they are about as long."
        for model, (copied, checked) in comparison.copied.items()
        if 2 * copied > checked
    ]
    return lines + _doubtful_intervals(comparison)


def _unscored(comparison: Comparison) -> list[str]:
    """Why examples with an answer have no score; `unanswered` names those without an answer."""
    reasons_of: dict[str, Counter[str]] = {}
    for step in chain.from_iterable(model.steps for model in comparison.workflows):
        for score, counts in step.details.get("unscored", {}).items():
            answered = {reason: n for reason, n in counts.items() if reason != NO_PREDICTION}
            reasons_of.setdefault(score, Counter()).update(answered)
    # Scores of one metric fail for the same reasons, so that one line can name them all.
    scores_with: dict[str, list[str]] = {}
    for score, reasons in reasons_of.items():
        text = "; ".join(f"{reason} ({n:,})" for reason, n in reasons.most_common(3))
        if text:
            scores_with.setdefault(text, []).append(score)
    return [f"Not scored by {joined(scores)}: {text}." for text, scores in scores_with.items()]


def _partial_scores(comparison: Comparison) -> list[str]:
    """Which scores not all examples have from every model, by the number of examples."""
    total = comparison.dataset.n_examples
    scores_on: dict[int, list[str]] = {}
    for score, n in comparison.summary().groupby("score", sort=False)["n"].first().items():
        if n != total:
            scores_on.setdefault(int(n), []).append(str(score))
    which = "those for which every model has a value"
    return [f"{joined(scores)}: on {n:,} of {count(total, 'example')}, {which}." for n, scores in scores_on.items()]


def _doubtful_intervals(comparison: Comparison) -> list[str]:
    """Why intervals may be too narrow: few examples, hardly any spread, or skewed differences."""
    n = int(comparison.summary()["n"].max())
    lines = []
    if n < FEW_EXAMPLES:
        lines.append(
            f"With {count(n, 'example')} the intervals are rough: a bootstrap's are too narrow for so few examples."
        )
    if comparison.near_constant:
        models = [
            f"{label} ({alike:,} of {comparison.n_scored:,})" for label, alike in comparison.near_constant.items()
        ]
        lines.append(
            f"On {comparison.main_score} nearly all examples score the same for {joined(models)}: the few others "
            "hardly show the spread of the scores, and the intervals may be too narrow."
        )
    # With very few examples the first note says enough.
    if comparison.needed_for_skewness and n >= FEW_EXAMPLES:
        unit = f"values of {comparison.groups}" if comparison.groups else "examples"
        needed = joined(
            [f"{score} needs about {number:,} {unit}" for score, number in comparison.needed_for_skewness.items()]
        )
        lines.append(
            "A few examples decide most of the differences to the best model, so that intervals may be too narrow and "
            f"p-values too small: {needed} (25 times the squared skewness, Cochran's rule)."
        )
    return lines


def chart(comparison: Comparison, info: ScoreInfo) -> Html:
    """Return the interval chart of one score as markup."""
    # Imported here because matplotlib takes a second to import.
    from lumigator_nb.display.charts import interval_chart, svg

    return svg(interval_chart(score_rows(comparison.summary(), info), info, comparison.confidence))


def side_by_side(texts: pd.DataFrame, limit: int | None = None) -> Html:
    """Return the texts of :meth:`Comparison.examples`, one block per example.

    Args:
        texts: one row per example, one column per text; a missing text is shown as "none".
        limit: characters of each text; None shows all.
    """
    headings = {title: escape(title.capitalize().replace("_", " ")) for title in ("item", "example", "ground_truth")}
    blocks = []
    for row in texts.index:
        columns = [
            tag("div", tag("h3", headings.get(str(column), name(str(column)))), _text(text, limit))
            for column, text in texts.loc[row].items()
        ]
        title = tag("div", f"Row {row}", class_="lm-note")
        blocks.append(tag("div", title, tag("div", *columns, class_="lm-columns"), class_="lm-example"))
    return join(blocks)


def _text(value: object, limit: int | None) -> Html:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return tag("div", "none", class_="lm-soft")
    text = str(value)
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit:,} characters more)"
    return tag("div", text, class_="lm-text")
