"""Charts, for image files and for pages, where their colours follow the page's light or dark theme.

Import this module only inside the function that draws a chart, since it imports matplotlib, which takes long.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from lumigator_nb.display.html import Html, fragment, tag
from lumigator_nb.display.scores import ScoreRow, figures
from lumigator_nb.display.text import elide, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lumigator_nb.metrics import ScoreInfo

# The colours in image files. In a page, each is replaced by a variable of the style sheet.
INK, SOFT, RULE, ACCENT = "#1f2021", "#6b6c6d", "#d8d9da", "#1668b7"
_VARIABLES = {INK: "var(--lm-fg)", SOFT: "var(--lm-soft)", RULE: "var(--lm-line)", ACCENT: "var(--lm-accent)"}

# In inches: width of the figure, height of a model's row, and height above and below the rows.
WIDTH, _ROW, _MARGIN = 5.4, 0.34, 0.75
LONGEST_LABEL, LETTER = 30, 0.078  # characters; width of a character at 9 points, in inches
_VALUE_SPACE = 0.6  # for the value right of an interval, in inches


class Chart(Figure):
    """A figure that notebooks show as SVG, in the colours of their theme."""

    def __repr__(self) -> str:
        return 'Chart, which a terminal cannot show: .savefig("chart.png") writes it to a file'

    def _repr_html_(self) -> str:
        return fragment(svg(self))


def interval_chart(scores: Sequence[ScoreRow], info: ScoreInfo, confidence: float) -> Chart:
    """Draw each model's overall score as a dot with its interval, one row per model, from top to bottom.

    The leading model and those not significantly different from it are coloured.

    Args:
        scores: the models' results on the score.
        info: the score.
        confidence: the level of the intervals, in (0, 1).
    """
    labels = [elide(score.model, LONGEST_LABEL) for score in scores]
    height = _MARGIN + _ROW * len(scores)
    left = min(0.45, (0.15 + LETTER * max(map(len, labels), default=0)) / WIDTH)
    chart = Chart(figsize=(WIDTH, height), facecolor="white")
    bounds = (left, 0.32 / height, 1 - left - _VALUE_SPACE / WIDTH, 1 - _MARGIN / height)
    axes = chart.add_axes(bounds, facecolor="none")
    better = {True: "higher is better, ", False: "lower is better, ", None: ""}[info.higher_is_better]
    title = f"{info.name} ({better}{percent(confidence)} intervals)"
    chart.text(0.015, 1 - 0.1 / height, title, va="top", fontsize=9, color=SOFT, parse_math=False)
    _draw_frame(axes, labels)
    show = figures(scores, info)
    for row, score in enumerate(scores):
        if math.isfinite(score.overall):
            leads = info.higher_is_better is not None and (score.best or score.tied)
            _draw_interval(axes, row, score, show.number(score.overall), ACCENT if leads else SOFT)
    ends = [value for score in scores for value in (score.overall, score.low, score.high)]
    values = list(filter(math.isfinite, ends))
    low, high = min(values, default=0.0), max(values, default=1.0)
    # A margin, also for a single value (high = low), and for a single 0.
    space = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    axes.set_xlim(low - space, high + space)
    return chart


def svg(chart: Figure) -> Html:
    """Return a figure as SVG for a page with this package's style sheet."""
    buffer = io.StringIO()
    # fonttype "none" writes text as text, not as outlines, so that it can be selected and takes the page's font.
    # Without a salt the ids are random, and a notebook would change each time it is run.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lumigator"}):
        chart.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # Without the XML declaration, which is not allowed within HTML.
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return tag("div", Html(text), class_="lm-plot")


def _draw_frame(axes: Axes, labels: Sequence[str]) -> None:
    axes.spines[:].set_visible(False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", length=0, labelsize=8, labelcolor=SOFT, color=RULE)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for row, label in enumerate(labels):
        # parse_math=False below: dollar signs in a label do not enclose a formula.
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


def _draw_interval(axes: Axes, row: int, score: ScoreRow, value: str, colour: str) -> None:
    end = score.overall
    if math.isfinite(score.low) and math.isfinite(score.high):
        axes.plot([score.low, score.high], [row, row], color=colour, linewidth=1.6, solid_capstyle="round")
        end = score.high
    axes.plot([score.overall], [row], marker="o", markersize=6, color=colour, markeredgewidth=0)
    axes.annotate(
        value,
        (end, row),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=INK,
        fontweight="bold" if score.leads else "normal",
    )
