"""A comparison as Markdown, for a wiki or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lumigator_nb.display.costs import COST_TITLE, cost_cells, cost_legend
from lumigator_nb.display.scores import Standing, figures, p_value, standings
from lumigator_nb.display.text import MISSING, count, moment, one_line
from lumigator_nb.services.comparison.overview import (
    UNCOMPARED,
    main_info,
    notes,
    ordered_scores,
    recommended,
    uncompared,
)
from lumigator_nb.specs import now

if TYPE_CHECKING:
    from lumigator_nb.services.comparison.comparison import Comparison

_SPECIAL = "\\`*_{}[]<>#|~$&"


def as_markdown(comparison: Comparison) -> str:
    """Return verdict, recommendation, scores, cost and notes as Markdown."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    info, summary = main_info(comparison), comparison.summary()
    dataset = comparison.dataset
    yield f"# {escaped(comparison.experiment.name)}\n"
    models, examples = count(len(comparison.models), "model"), count(dataset.n_examples, "example")
    yield f"{models} on {escaped(dataset.name)} ({examples}), {moment(now())}\n"
    yield f"**{escaped(comparison.verdict())}**\n"
    if said := recommended(comparison):
        yield escaped(said) + "\n"
    for each in ordered_scores(comparison):
        yield f"## {escaped(each.name)}\n"
        found = standings(summary, each)
        show = figures(found, each)
        rows = [[one.model, show.number(one.overall), show.interval(one.low, one.high), *_told(one)] for one in found]
        yield from _table(["model", each.name, "interval", "rank", "p, corrected"], rows)
    headers, rows = uncompared(comparison)
    if rows:
        yield f"## {UNCOMPARED}\n"
        yield from _table(headers, rows)
    headers, rows = cost_cells(comparison.costs(), [one.model for one in standings(summary, info)])
    if rows:
        yield f"## {COST_TITLE}\n"
        yield from _table(["model", *headers[1:]], rows)
        yield escaped(cost_legend(comparison.costs()) or "") + "\n"
    yield from (f"- {escaped(note)}" for note in notes(comparison))


def _told(one: Standing) -> list[str]:
    return [one.ranks or MISSING, p_value(one.p_adjusted) or MISSING]


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(headers)
    yield "|" + " --- |" * len(headers)
    yield from (_row(row) for row in rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escaped(cell) for cell in cells)} |"


def escaped(text: str) -> str:
    """Return a text in one line in which no character is markup."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in one_line(text, 10_000))
