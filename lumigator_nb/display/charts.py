"""Charts. The same figure serves a file and a page, where its colours follow the page's light or dark theme.

Imports matplotlib, so import this module only inside the function that draws.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from lumigator_nb.display.html import Html, fragment, tag
from lumigator_nb.display.scores import Standing, figures
from lumigator_nb.display.text import elide, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lumigator_nb.metrics import ScoreInfo

# On paper and in image files these are the colours; in a page each stands for a variable of the style sheet.
INK, SOFT, RULE, ACCENT = "#1f2021", "#6b6c6d", "#d8d9da", "#1668b7"
_VARIABLES = {INK: "var(--lm-fg)", SOFT: "var(--lm-soft)", RULE: "var(--lm-line)", ACCENT: "var(--lm-accent)"}

WIDTH, _ROW, _MARGIN = 5.4, 0.34, 0.75  # inches: of the figure, of a model, above and below the models
LONGEST_LABEL, LETTER = 30, 0.078  # letters, inches of one at 9 points
_VALUE_SPACE = 0.6  # inches, right of the whiskers


class Chart(Figure):
    """A figure that draws itself in a notebook as text and lines that follow the theme."""

    def _repr_html_(self) -> str:
        return fragment(svg(self))


def interval_chart(standings: Sequence[Standing], info: ScoreInfo, confidence: float) -> Chart:
    """Draw each model's overall score as a dot with its interval, in the order given from the top.

    The leading model and those that cannot be told apart from it are coloured.

    Args:
        standings: of the models on the score.
        info: of the score.
        confidence: of the intervals, in (0, 1).
    """
    labels = [elide(one.model, LONGEST_LABEL) for one in standings]
    height = _MARGIN + _ROW * len(standings)
    left = min(0.45, (0.15 + LETTER * max(map(len, labels), default=0)) / WIDTH)
    chart = Chart(figsize=(WIDTH, height), facecolor="white")
    bounds = (left, 0.32 / height, 1 - left - _VALUE_SPACE / WIDTH, 1 - _MARGIN / height)
    axes = chart.add_axes(bounds, facecolor="none")
    chart.text(0.015, 1 - 0.1 / height, _title(info, confidence), va="top", fontsize=9, color=SOFT, parse_math=False)
    _frame(axes, labels)
    show = figures(standings, info)
    for row, one in enumerate(standings):
        if math.isfinite(one.overall):
            leads = info.higher_is_better is not None and (one.best or one.tied)
            _draw(axes, row, one, show.number(one.overall), ACCENT if leads else SOFT)
    axes.set_xlim(*_limits(standings))
    return chart


def svg(chart: Figure) -> Html:
    """Return a figure as markup for a page of this package's style, with its texts as text."""
    buffer = io.StringIO()
    # Without a salt the ids are random, and a notebook would change each time that it is saved.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lumigator"}):
        chart.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return tag("div", Html(text), class_="lm-plot")


def _title(info: ScoreInfo, confidence: float) -> str:
    better = {True: "higher is better, ", False: "lower is better, ", None: ""}[info.higher_is_better]
    return f"{info.name} ({better}{percent(confidence)} intervals)"


def _frame(axes: Axes, labels: Sequence[str]) -> None:
    axes.spines[:].set_visible(False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", length=0, labelsize=8, labelcolor=SOFT, color=RULE)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for row, label in enumerate(labels):
        # A label may hold dollars, which are no formula.
        axes.annotate(
            label,
            (0, row),
            xycoords=("axes fraction", "data"),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
            color=INK,
            parse_math=False,
        )


def _draw(axes: Axes, row: int, one: Standing, value: str, colour: str) -> None:
    end = one.overall
    if math.isfinite(one.low) and math.isfinite(one.high):
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=1.6, solid_capstyle="round")
        end = one.high
    axes.plot([one.overall], [row], marker="o", markersize=6, color=colour, markeredgewidth=0)
    axes.annotate(
        value,
        (end, row),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=INK,
        fontweight="bold" if one.leads else "normal",
    )


def _limits(standings: Sequence[Standing]) -> tuple[float, float]:
    values = [value for one in standings for value in (one.overall, one.low, one.high) if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    space = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return low - space, high + space
