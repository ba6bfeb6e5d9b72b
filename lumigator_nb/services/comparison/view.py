"""A comparison in a notebook and in a terminal, and the doors to its verdict, chart and report."""

from __future__ import annotations

import io
import math
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lumigator_nb.display.costs import COST_TITLE, cost_cells, cost_legend
from lumigator_nb.display.html import Html, fragment, tag, unfolding
from lumigator_nb.display.scores import Standing, figures, p_value, standings, verdict
from lumigator_nb.display.text import MISSING, count, elide, one_line, percent
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.services.comparison import judge_reports_view
from lumigator_nb.services.comparison.overview import (
    LATER,
    NOT_TOLD_APART,
    UNCOMPARED,
    chart,
    cost_and_speed,
    legend,
    main_info,
    mark,
    not_computed,
    notes,
    ordered_scores,
    recommended,
    score_table,
    side_by_side,
    uncompared,
    uncompared_table,
)
from lumigator_nb.services.comparison.report import report

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.table import Table

    from lumigator_nb.metrics import ScoreInfo
    from lumigator_nb.services.comparison.comparison import Comparison
    from lumigator_nb.services.comparison.score_samples import Scored

__all__ = ["LATER", "as_html", "as_text", "not_computed", "plot", "report", "standings", "verdict"]

SHOWN_EXAMPLES, SHOWN_CHARACTERS = 2, 3000
# Columns of a terminal: where unknown; for a name, at most; for a score; for what is said about the main one; between.
_WIDTH, _LABEL, _COLUMN, _MAIN, _GAP = 100, 36, 10, 64, 3


def plot(comparison: Comparison, kind: str, scored: Scored, column: str | None) -> Figure:
    """Draw one score; see :meth:`Comparison.plot`."""
    drawers: dict[str, Callable[[], Figure]] = {
        "intervals": lambda: _intervals(comparison, scored.info),
        "pairwise": lambda: _pairwise(comparison, scored.info),
        "pareto": lambda: _pareto(comparison, scored.info),
        "slices": lambda: _slices(comparison, scored.info, column or "length"),
        "distribution": lambda: _distribution(comparison, scored),
    }
    if kind not in drawers:
        raise InvalidInputError(f"there is no chart {kind!r}", did_you_mean(kind, drawers))
    return drawers[kind]()


def _intervals(comparison: Comparison, info: ScoreInfo) -> Figure:
    from lumigator_nb.display.charts import interval_chart

    return interval_chart(standings(comparison.summary(), info), info, comparison.confidence)


def _pairwise(comparison: Comparison, info: ScoreInfo) -> Figure:
    from lumigator_nb.services.comparison.decision_charts import pairwise_chart

    if len(comparison.models) < 2:
        raise InvalidInputError("there is one model, and no pair", "launch another")
    return pairwise_chart(comparison.pairwise(info.name), _ordered(comparison, info), info, comparison.confidence)


def _pareto(comparison: Comparison, info: ScoreInfo) -> Figure:
    from lumigator_nb.services.comparison.decision_charts import pareto_chart

    points = comparison.pareto(info.name)
    models = points[~points["baseline"]]
    against = "dollars_per_1000" if models["dollars_per_1000"].gt(0).any() else "seconds_p50"
    if models[against].isna().all():
        raise InvalidInputError("neither price nor latency of any model is known", "draw kind='intervals'")
    return pareto_chart(points, info, against)


def _slices(comparison: Comparison, info: ScoreInfo, column: str) -> Figure:
    from lumigator_nb.services.comparison.decision_charts import slices_chart

    return slices_chart(comparison.slices(column, info.name), _ordered(comparison, info), info, column)


def _distribution(comparison: Comparison, scored: Scored) -> Figure:
    from lumigator_nb.services.comparison.decision_charts import distribution_chart

    order = _ordered(comparison, scored.info)
    values = scored.values[[comparison.models.index(model) for model in order]]
    return distribution_chart(values, order, scored.info)


def _ordered(comparison: Comparison, info: ScoreInfo) -> list[str]:
    return [one.model for one in standings(comparison.summary(), info)]


def as_html(comparison: Comparison) -> str:
    """Return what a notebook shows: verdict, table, chart of the main score, and two examples to unfold."""
    info = main_info(comparison)
    examples = comparison.examples(SHOWN_EXAMPLES)
    costs = cost_and_speed(comparison)
    return fragment(
        tag("div", _title(comparison), class_="lm-title"),
        tag("div", comparison.verdict(), class_="lm-verdict"),
        *([tag("div", said, class_="lm-verdict")] if (said := recommended(comparison)) else []),
        score_table(comparison),
        tag("div", legend(comparison), class_="lm-note"),
        *(tag("div", note, class_="lm-note") for note in notes(comparison)),
        *uncompared_table(comparison),
        chart(comparison, info),
        *([tag("div", COST_TITLE, class_="lm-title"), *costs] if costs else []),
        *_passports(comparison),
        unfolding(f"First {count(len(examples), 'example')} side by side", side_by_side(examples, SHOWN_CHARACTERS)),
    )


def _passports(comparison: Comparison) -> list[Html]:
    found = comparison.passports()
    return (
        [unfolding("Judge passports: how far the judges can be trusted", *map(judge_reports_view.body, found))]
        if found
        else []
    )


def as_text(comparison: Comparison, width: int | None = None) -> str:
    """Return the comparison for a terminal, in plain characters.

    Args:
        comparison: what is shown.
        width: columns; default the terminal's, or 100 where there is none.
    """
    columns = width or shutil.get_terminal_size((_WIDTH, 24)).columns
    paragraphs = [_title(comparison), comparison.verdict(), *filter(None, [recommended(comparison)])]
    below = [*([_marks(comparison)] if len(comparison.models) > 1 else []), *notes(comparison)]
    blocks = [
        *(_wrapped(text, columns) for text in paragraphs),
        *(_drawn(block, columns) for block in _tables(comparison, columns)),
        _uncompared(comparison, columns),
        _cost_and_speed(comparison, columns),
        "\n".join(_wrapped(text, columns) for text in below),
        *(judge_reports_view.as_text(each) for each in comparison.passports()),
    ]
    return "\n\n".join(block for block in blocks if block)


def _marks(comparison: Comparison) -> str:
    certainty = f"at {percent(comparison.confidence)} confidence"
    pairs = math.comb(len(comparison.models), 2)
    corrected = f", corrected for {pairs} pairs of models" if pairs > 1 else ""
    return f"* best · {NOT_TOLD_APART} cannot be told apart from the best {certainty}{corrected}"


def _wrapped(text: str, columns: int) -> str:
    # Names of models are copied from here, so they are never broken.
    return textwrap.fill(one_line(text, 10_000), columns, break_on_hyphens=False, break_long_words=False)


def _title(comparison: Comparison) -> str:
    models = count(len(comparison.models), "model")
    examples = count(comparison.dataset.n_examples, "example")
    return f"{comparison.experiment.name}: {models} on {comparison.dataset.name} ({examples})"


def _tables(comparison: Comparison, columns: int) -> Iterator[Table]:
    """The main score with everything about it, then the values of the others, as many side by side as fit."""
    summary = comparison.summary()
    main, *others = ordered_scores(comparison)
    leaders = standings(summary, main)
    yield _main_table(leaders, main, comparison.confidence, _label_width(columns))
    fitting = max(1, (columns - _LABEL) // _COLUMN)
    for start in range(0, len(others), fitting):
        chosen = {info.name: info for info in others[start : start + fitting]}
        yield _values_table([one.model for one in leaders], chosen, summary)


def _uncompared(comparison: Comparison, columns: int) -> str:
    headers, rows = uncompared(comparison)
    return "\n".join([UNCOMPARED, _parted(headers, rows, columns)]) if rows else ""


def _label_width(columns: int) -> int:
    return max(12, min(_LABEL, columns - _MAIN))


def _cost_and_speed(comparison: Comparison, columns: int) -> str:
    """A title and as many columns side by side as fit, the others below; empty where nothing is known."""
    costs = comparison.costs()
    order = [one.model for one in standings(comparison.summary(), main_info(comparison))]
    headers, rows = cost_cells(costs, order)
    if not rows:
        return ""
    below = cost_legend(costs)
    return "\n".join([COST_TITLE, _parted(headers, rows, columns), *([_wrapped(below, columns)] if below else [])])


def _parted(headers: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> str:
    """As many columns side by side as fit, the others below; the models stand in each part."""
    labels = [elide(row[0], _label_width(columns)) for row in rows]
    drawn = []
    for chosen in _fitting([labels, *zip(headers[1:], *(row[1:] for row in rows), strict=True)], columns):
        table = _table(["model", *(headers[index] for index in chosen)])
        for label, row in zip(labels, rows, strict=True):
            _add(table, [label, *(row[index] for index in chosen)])
        drawn.append(_drawn(table, columns))
    return "\n\n".join(drawn)


def _fitting(cells: Sequence[Sequence[str]], columns: int) -> Iterator[list[int]]:
    """Part the columns after the first, which stands in every part, so that each part is as wide as the terminal."""
    first, *widths = (max(map(len, column)) for column in cells)
    part: list[int] = []
    used = first
    for index, width in enumerate(widths, start=1):
        if part and used + _GAP + width > columns:
            yield part
            part, used = [], first
        part.append(index)
        used += _GAP + width
    yield part


def _main_table(found: Sequence[Standing], info: ScoreInfo, confidence: float, label: int) -> Table:
    paired = len(found) > 1 and any(one.best for one in found)
    show = figures(found, info)
    table = _table(
        ["model", info.name, f"{percent(confidence)} interval", *(["difference to best", "p"] if paired else [])]
    )
    for one in found:
        difference = [
            MISSING if one.best else show.difference(one),
            p_value(one.p_adjusted).removeprefix("p ").removeprefix("= "),
        ]
        interval = show.interval(one.low, one.high)
        _add(table, [elide(one.model, label), _value(one, found, info), interval, *(difference if paired else [])])
    return table


def _values_table(models: Sequence[str], infos: dict[str, ScoreInfo], summary: pd.DataFrame) -> Table:
    found = {name: standings(summary, info) for name, info in infos.items()}
    table = _table(["model", *found])
    for model in models:
        cells = [
            _value(next(one for one in ones if one.model == model), ones, infos[name]) for name, ones in found.items()
        ]
        _add(table, [elide(model, _LABEL), *cells])
    return table


def _value(one: Standing, found: Sequence[Standing], info: ScoreInfo) -> str:
    sign = "*" if one.leads and len(found) > 1 else mark(one, found)
    return f"{sign} {figures(found, info).number(one.overall)}".strip()


def _table(headers: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if index else "left", no_wrap=bool(index))
    return table


def _add(table: Table, cells: Sequence[str]) -> None:
    from rich.text import Text

    # As Text, so that a name in brackets is not taken for markup.
    table.add_row(*(Text(cell) for cell in cells))


def _drawn(table: Table, columns: int) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=columns, color_system=None, force_terminal=False, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())
