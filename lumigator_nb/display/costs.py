"""Cost and speed of models, beside their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.tables import Table
from lumigator_nb.display.text import MISSING, count, duration, percent

if TYPE_CHECKING:
    import pandas as pd

# From this share of answers that ended at max_new_tokens on, a reader should know.
MANY_CUT_OFF = 0.05
COST_TITLE = "Cost and speed"


def dollars(value: float) -> str:
    """Return an amount in whole cents, or with three digits below a dollar: ``$1.23``, ``$0.0132``, ``$0.0012``."""
    if math.isnan(value):
        return "no price"
    decimals = 2 if value <= 0 else min(9, max(2, 2 - math.floor(math.log10(value))))
    whole, _, rest = f"{value:,.{decimals}f}".partition(".")
    return f"${whole}.{rest.rstrip('0'):0<2}"


def seconds(value: float) -> str:
    """Return a latency: ``85 ms``, ``1.24 s``, ``2 min 05 s``."""
    if math.isnan(value):
        return MISSING
    if value < 0.0005:
        return "<1 ms"
    if value >= 59.95:
        return duration(value)
    return f"{1000 * value:.0f} ms" if value < 0.9995 else f"{value:.3g} s"


def _number(value: float) -> str:
    return f"{int(value):,}" if value > 0 else MISSING


def _rate(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "dollars": ("cost", dollars),
    "dollars_per_1000": ("per 1,000", dollars),
    "seconds_p50": ("latency", seconds),
    "seconds_p95": ("95% within", seconds),
    "tokens_per_second": ("tokens/s", _rate),
    "prompt_tokens": ("tokens in", _number),
    "cache_read_tokens": ("in from cache", _number),
    "completion_tokens": ("tokens out", _number),
    "reasoning_tokens": ("reasoning", _number),
    "cached": ("cached", _number),
}


def cost_table(costs: pd.DataFrame, models: Sequence[str]) -> Table:
    """Return what there is to say about cost and speed; no rows where there is nothing.

    Args:
        costs: frame of :meth:`Comparison.costs`.
        models: in the order of the rows.
    """
    said = [key for key in _COLUMNS if key in costs and (costs[key].fillna(0) > 0).any()]
    by_model = costs.set_index("model")
    rows = [[model, *(_COLUMNS[key][1](by_model.loc[model, key]) for key in said)] for model in models if said]
    note = "cached: answers that were in the store already; their cost and latency are those of the first time"
    headers = ["model", *(_COLUMNS[key][0] for key in said)]
    return Table(headers, rows, COST_TITLE, note if (costs["cached"] > 0).any() else "")


def unanswered(costs: pd.DataFrame) -> list[str]:
    """Return which models left examples without an answer, and what follows from it."""
    others = " for all models" if len(costs) > 1 else ""
    return [
        f"{row['failed']:,} of {count(row['examples'], 'example')} {'has' if row['failed'] == 1 else 'have'} no answer "
        f"from {row['model']} and {'is' if row['failed'] == 1 else 'are'} left out{others}."
        for row in costs.to_dict("records")
        if row["failed"]
    ]


def remarks(costs: pd.DataFrame) -> list[str]:
    """Return whose inputs were cut to fit, and who was often cut off in the middle of an answer."""
    said = []
    for row in costs.to_dict("records"):
        label, asked, cut_off = row["model"], row["examples"], row["cut_off"]
        if row["truncated"]:
            inputs = f"{row['truncated']:,} of {count(row['examples'], 'input')}"
            said.append(f"{label}: {inputs} {'was' if row['truncated'] == 1 else 'were'} cut to fit the model.")
        if cut_off > MANY_CUT_OFF * asked:
            share = f"{cut_off:,} of {count(asked, 'answer')} ({percent(round(cut_off / asked, 2))})"
            said.append(f"{label}: {share} ended at max_new_tokens: raise max_new_tokens.")
    return said
