"""Cost and speed of models, beside their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.html import Html, name, table
from lumigator_nb.display.text import MISSING, count

if TYPE_CHECKING:
    import pandas as pd

# From this share of answers that ended at max_new_tokens on, a reader should know.
MANY_CUT_OFF = 0.05


def dollars(value: float) -> str:
    """Return an amount with two digits that say something: ``$12.30``, ``$0.0012``."""
    if math.isnan(value):
        return MISSING
    if value == 0 or value >= 0.095:
        return f"${value:,.2f}"
    return f"${value:.{min(8, 1 - math.floor(math.log10(value)))}f}"


def seconds(value: float) -> str:
    """Return a latency: ``85 ms``, ``1.24 s``."""
    if math.isnan(value):
        return MISSING
    return f"{1000 * value:.0f} ms" if value < 0.9995 else f"{value:.3g} s"


def _tokens(value: float) -> str:
    return f"{int(value):,}" if value else MISSING


def _rate(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:,.0f}"


_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "dollars": ("cost", dollars),
    "dollars_per_1000": ("per 1,000", dollars),
    "seconds_p50": ("latency", seconds),
    "seconds_p95": ("95% within", seconds),
    "tokens_per_second": ("tokens/s", _rate),
    "completion_tokens": ("tokens", _tokens),
}


def cost_cells(costs: pd.DataFrame, models: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of what there is to say about cost and speed; no rows where there is nothing.

    Args:
        costs: frame of :meth:`Comparison.costs`.
        models: in the order of the rows.
    """
    said = [key for key in _COLUMNS if (costs[key].fillna(0) > 0).any()]
    if not said:
        return [], []
    by_model = costs.set_index("model")
    rows = [[model, *(_COLUMNS[key][1](by_model.loc[model, key]) for key in said)] for model in models]
    return ["model", *(_COLUMNS[key][0] for key in said)], rows


def cost_table(costs: pd.DataFrame, models: Sequence[str]) -> Html | None:
    """Return cost and speed as a table; None where nothing is known."""
    headers, rows = cost_cells(costs, models)
    if not rows:
        return None
    titles = ["Model", *headers[1:]]
    return table(titles, [[name(row[0]), *row[1:]] for row in rows], numeric=range(1, len(titles)))


def remarks(costs: pd.DataFrame) -> list[str]:
    """Return what a reader must know about how answers came about."""
    said = []
    for row in costs.to_dict("records"):
        label, answered, cut_off = str(row["model"]), int(row["answered"]), int(row["cut_off"])
        if row["truncated"]:
            said.append(f"{label}: {count(int(row['truncated']), 'input')} cut to fit the model.")
        if cut_off > MANY_CUT_OFF * answered:
            share = f"{cut_off:,} of {count(answered, 'answer')}"
            said.append(f"{label}: {share} ended at max_new_tokens; raise it to see them whole.")
    return said
