"""Charts of a comparison: differences of pairs, quality against cost, slices, and distributions over examples.

Importing this module takes a second (matplotlib), so import it only inside the function that draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from lumigator_nb.display.charts import ACCENT, INK, LETTER, LONGEST_LABEL, RULE, SOFT, WIDTH, Chart
from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.scores import Figures
from lumigator_nb.display.text import count, elide
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics import pareto_front

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from lumigator_nb.metrics import FloatArray, ScoreInfo

# Distinct in lightness too, for readers who do not see all colours, and legible on light and on dark pages.
COLOURS = ("#1668b7", "#d1782b", "#2f9468", "#9a62c7", "#c24a58", "#7a7b7c")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_CELL, _ROW = 0.62, 0.36  # inches: the side of a pair's cell, the height of a slice's row


def pairwise_chart(pairs: pd.DataFrame, models: Sequence[str], info: ScoreInfo, confidence: float) -> Chart:
    """Draw a grid of differences, row minus column; a dot marks those that are significant after correction.

    Args:
        pairs: frame of :meth:`Comparison.pairwise`.
        models: the order of rows and columns, best first.
        info: the score.
        confidence: level at which two models differ, in (0, 1).
    """
    labels = [elide(model, LONGEST_LABEL) for model in models]
    key = "" if info.higher_is_better is None else f"; ● differs, corrected for {count(len(pairs) // 2, 'pair')}"
    title = f"{info.name}: row minus column{key}"
    left, side = 0.3 + LETTER * max(map(len, labels)), _CELL * len(models)
    # The last label of the columns slants to the right of its cell, and the title is longer than a few cells.
    width, height = max(left + side + 0.6, 0.3 + LETTER * len(title)), side + 1.15
    chart = Chart(figsize=(width, height), facecolor="white")
    axes = chart.add_axes((left / width, 0.1 / height, side / width, side / height), facecolor="none")
    positions = {model: position for position, model in enumerate(models)}
    largest = max(pairs["difference"].abs().max(), 1e-12)  # equal models must not divide by zero
    show = Figures(info, [largest])
    for pair in pairs.to_dict("records"):
        x, y, difference = positions[pair["other"]], positions[pair["model"]], pair["difference"]
        is_better = difference > 0 if info.higher_is_better is not False else difference < 0
        colour = ACCENT if is_better else SOFT
        shade = 0.12 + 0.5 * abs(difference) / largest if difference else 0.0
        axes.fill_between([x - 0.48, x + 0.48], y - 0.48, y + 0.48, color=colour, alpha=shade, lw=0)
        dot = " ●" if pair.get("p_adjusted", math.nan) <= 1 - confidence else ""
        axes.text(x, y, show.signed(difference) + dot, ha="center", va="center", fontsize=7.5, color=INK)
    axes.set_xlim(-0.5, len(models) - 0.5)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_xticks(range(len(models)), [elide(model, 12) for model in models], rotation=35, ha="left")
    axes.set_yticks(range(len(models)), labels)
    axes.xaxis.tick_top()
    _bare(axes)
    _title(chart, height, title)
    return chart


def confusion_chart(counts: pd.DataFrame, model: str) -> Chart:
    """Draw a confusion matrix: the darker a cell, the greater its share of the row's examples; right answers coloured.

    Args:
        counts: numbers of examples, a row for each label of the ground truth, a column for each prediction.
        model: its label, for the title.
    """
    labels = [elide(label, LONGEST_LABEL) for label in counts.index]
    left, side = 0.3 + LETTER * max(map(len, labels)), _CELL * len(counts.columns)
    width, height = max(left + side + 0.6, 3.2), _CELL * len(labels) + 1.5
    chart = Chart(figsize=(width, height), facecolor="white")
    bounds = (left / width, 0.1 / height, side / width, _CELL * len(labels) / height)
    axes = chart.add_axes(bounds, facecolor="none")
    for y, (_, row) in enumerate(counts.iterrows()):
        for x, number in enumerate(row.tolist()):
            share = number / max(1, row.sum())
            colour = ACCENT if x == y else SOFT
            axes.fill_between([x - 0.48, x + 0.48], y - 0.48, y + 0.48, color=colour, alpha=0.06 + 0.6 * share, lw=0)
            axes.text(x, y, f"{number:,}", ha="center", va="center", fontsize=7.5, color=INK)
    axes.set_xlim(-0.5, len(counts.columns) - 0.5)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xticks(
        range(len(counts.columns)), [elide(str(name), 12) for name in counts.columns], rotation=35, ha="left"
    )
    axes.set_yticks(range(len(labels)), labels)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.spines[:].set_visible(False)
    chart.text(0.015, 1 - 0.1 / height, f"{model}: ground truth by row, prediction by column", va="top", fontsize=9,
               color=SOFT, parse_math=False)  # fmt: skip
    return chart


def pareto_chart(points: pd.DataFrame, info: ScoreInfo, against: str | None = None) -> Chart:
    """Draw quality against cost or latency, with the Pareto front of these two coloured and joined by a line.

    Baselines are not candidates; they are drawn as horizontal lines at their scores.

    Args:
        points: frame of :meth:`Comparison.pareto`.
        info: the score.
        against: the column on the horizontal axis, `dollars_per_1000` or `seconds_p50`; default dollars if a model
            has a price.

    Raises:
        InvalidInputError: no model has a known price or latency.
    """
    models = points[~points["baseline"]]
    against = against or ("dollars_per_1000" if models["dollars_per_1000"].gt(0).any() else "seconds_p50")
    if models[against].isna().all():
        raise InvalidInputError("neither price nor latency of any model is known", "draw kind='intervals'")
    placed = models[models[against].notna()].sort_values(against)
    height = 3.2
    chart = Chart(figsize=(WIDTH, height), facecolor="white")
    axes = chart.add_axes((0.13, 0.15, 0.83, 0.7), facecolor="none")
    # The column `front` is of three dimensions; the line needs the front of the two that are drawn.
    plane = placed[["overall", against]].to_numpy(dtype=np.float64)
    on_front = pareto_front(plane, (info.higher_is_better is not False, False))
    front = placed[on_front]
    axes.plot(front[against], front["overall"], color=ACCENT, linewidth=1, alpha=0.5)
    for index, (point, is_best) in enumerate(zip(placed.to_dict("records"), on_front, strict=True)):
        x, y, colour = point[against], point["overall"], ACCENT if is_best else SOFT
        if math.isfinite(point["low"]):
            axes.plot([x, x], [point["low"], point["high"]], color=colour, linewidth=1.4, solid_capstyle="round")
        axes.plot([x], [y], marker="o", markersize=6, color=colour, markeredgewidth=0)
        label = elide(point["model"], LONGEST_LABEL)
        offset = (6, -11 if index % 2 else 5)  # alternately below and above, so that neighbours' labels do not overlap
        axes.annotate(label, (x, y), offset, textcoords="offset points", fontsize=8, color=INK, parse_math=False)
    for baseline in points[points["baseline"]].to_dict("records"):
        level, label = baseline["overall"], elide(baseline["model"], LONGEST_LABEL)
        axes.axhline(level, color=SOFT, linewidth=1, linestyle=":")
        axes.annotate(
            label, (0.005, level), (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=7.5, color=SOFT, parse_math=False,
        )  # fmt: skip
    amounts = placed[against]
    # On a linear axis, the cheap models would lie on top of each other.
    if len(amounts) > 1 and amounts.min() > 0 and amounts.max() > 20 * amounts.min():
        axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    cost = against.startswith("dollars")
    axes.xaxis.set_major_formatter(lambda value, _: dollars(value) if cost else seconds(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    _bare(axes, grid="both")
    _title(chart, height, f"{info.name} against {'dollars per 1,000 answers' if cost else 'median latency'}")
    return chart


def slices_chart(slices: pd.DataFrame, models: Sequence[str], info: ScoreInfo, title: str) -> Chart:
    """Draw the overall score of every model in every slice; a triangle marks slices where another model is better.

    Args:
        slices: frame of :meth:`Comparison.slices`, of one column.
        models: best first.
        info: the score.
        title: name of the column.
    """
    labels = [f"{elide(str(value), 24)} (n = {n:,})" for value, n in zip(slices.index, slices["n"], strict=True)]
    left = 0.3 + LETTER * max(map(len, labels))
    legend_rows = -(-len(models) // 2)
    height = 0.75 + _ROW * len(slices) + 0.22 * legend_rows
    width = left + 4
    chart = Chart(figsize=(width, height), facecolor="white")
    bottom = 0.3 + 0.22 * legend_rows
    axes = chart.add_axes((left / width, bottom / height, 3.8 / width, _ROW * len(slices) / height), facecolor="none")
    for index, model in enumerate(models):
        colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]
        axes.plot(slices[model], range(len(slices)), linestyle="", marker=marker, color=colour, markersize=6,
                  markeredgewidth=0, alpha=0.9, label=elide(model, LONGEST_LABEL))  # fmt: skip
    marks = [" ▲" if flips else "" for flips in slices["flips"]]
    axes.set_yticks(range(len(slices)), [label + mark for label, mark in zip(labels, marks, strict=True)])
    axes.set_ylim(len(slices) - 0.5, -0.5)
    _bare(axes, grid="x")
    legend = chart.legend(loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=2, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_color(INK)
        text.set_parse_math(False)
    _title(chart, height, f"{info.name} by {title}" + ("; ▲ another model is better here" if any(marks) else ""))
    return chart


def distribution_chart(values: FloatArray, models: Sequence[str], info: ScoreInfo) -> Chart:
    """Draw the distribution of each model's scores over the examples: density, middle half, median.

    Args:
        values: (models, n) per-example scores.
        models: best first, in the order of `values`.
        info: the score.
    """
    labels = [elide(model, LONGEST_LABEL) for model in models]
    left, row = 0.3 + LETTER * max(map(len, labels)), 0.55
    width, height = left + 3.9, 0.8 + row * len(models)
    chart = Chart(figsize=(width, height), facecolor="white")
    axes = chart.add_axes((left / width, 0.35 / height, 3.7 / width, row * len(models) / height), facecolor="none")
    # The same bins for all models, so that their shapes compare; the margin keeps edges apart if all scores are equal.
    edges = np.linspace(values.min(), values.max() + 1e-9, 41)
    for y, scores in enumerate(values):
        counts = np.histogram(scores, edges)[0]
        half = 0.42 * counts / max(counts.max(), 1)
        axes.fill_between(edges[:-1], y - half, y + half, step="mid", color=ACCENT, alpha=0.3, lw=0)
        low, median, high = np.quantile(scores, (0.25, 0.5, 0.75))
        axes.plot([low, high], [y, y], color=ACCENT, linewidth=3, solid_capstyle="round")
        axes.plot([median], [y], marker="o", markersize=5, color=INK, markeredgewidth=0)
    axes.set_yticks(range(len(models)), labels)
    axes.set_ylim(len(models) - 0.5, -0.5)
    _bare(axes, grid="x")
    _title(chart, height, f"{info.name} per example: spread, middle half, median")
    return chart


def _bare(axes: Axes, grid: Literal["x", "both"] | None = None) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK, color=RULE)
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        label.set_parse_math(False)  # a name with two dollar signs is not a formula
    if grid:
        axes.grid(axis=grid, color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)


def _title(chart: Chart, height: float, text: str) -> None:
    chart.text(0.015, 1 - 0.08 / height, text, va="top", fontsize=9, color=SOFT, parse_math=False)
