"""Views of a comparison for a notebook and for a terminal."""

from __future__ import annotations

import math
import shutil

from lumigator_nb.display import render
from lumigator_nb.display.html import Html, fragment, tag, unfolding
from lumigator_nb.display.tables import Table, to_html, to_text, wrapped
from lumigator_nb.display.text import count, percent
from lumigator_nb.services.comparison import judge_reports, tables
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.overview import chart, legend, notes, recommended, side_by_side

SHOWN_EXAMPLES, SHOWN_CHARACTERS = 2, 3000
# Columns, if the width of the terminal is unknown.
_WIDTH = 100


@render.as_html.register
def as_html(comparison: Comparison) -> str:
    """Return the comparison for a notebook: verdict, table, chart of the main score, and two examples to unfold."""
    examples = comparison.examples(SHOWN_EXAMPLES)
    shown = f"First {count(len(examples), 'example')} side by side"
    advice = recommended(comparison)
    reports = [judge_reports.body(report) for report in comparison.judge_reports()]
    return fragment(
        tag("div", _title(comparison), class_="lm-title"),
        tag("div", comparison.verdict(), class_="lm-verdict"),
        *([tag("div", advice, class_="lm-verdict")] if advice else []),
        to_html(tables.scores(comparison)),
        tag("div", legend(comparison), class_="lm-note"),
        *(tag("div", note, class_="lm-note") for note in notes(comparison)),
        *_titled(tables.uncompared(comparison)),
        chart(comparison, tables.ordered_scores(comparison)[0]),
        *_titled(tables.costs(comparison)),
        *([unfolding("Judge reports: how far the judges can be trusted", *reports)] if reports else []),
        *([unfolding(shown, side_by_side(examples, SHOWN_CHARACTERS))] if comparison.data.has_texts else []),
    )


def _titled(table: Table) -> list[Html]:
    return [tag("div", table.title, class_="lm-title"), to_html(table)] if table else []


@render.as_text.register
def as_text(comparison: Comparison, width: int | None = None) -> str:
    """Return the comparison for a terminal, in plain characters.

    Args:
        comparison: the comparison.
        width: columns; default the terminal's, or 100 without a terminal.
    """
    columns = width or shutil.get_terminal_size((_WIDTH, 24)).columns
    paragraphs = [_title(comparison), comparison.verdict(), recommended(comparison)]
    footnotes = notes(comparison)
    if pairs := math.comb(len(comparison.models), 2):
        certainty = f"at {percent(comparison.confidence)} confidence"
        corrected = f", corrected for {pairs} pairs of models" if pairs > 1 else ""
        key = f"* best · {tables.NOT_TOLD_APART} cannot be told apart from the best {certainty}{corrected}"
        footnotes = [key, *footnotes]
    drawn = (tables.main_score, tables.other_scores, tables.uncompared, tables.costs)
    blocks = [
        *(wrapped(text, columns) for text in paragraphs),
        *(to_text(table, columns) for table in (draw(comparison) for draw in drawn) if table),
        "\n".join(wrapped(text, columns) for text in footnotes),
        *map(str, comparison.judge_reports()),
    ]
    return "\n\n".join(filter(None, blocks))


def _title(comparison: Comparison) -> str:
    models = count(len(comparison.models), "model")
    examples = count(comparison.dataset.n_examples, "example")
    return f"{comparison.experiment.name}: {models} on {comparison.dataset.name} ({examples})"
