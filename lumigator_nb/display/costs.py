"""Cost and speed of models, beside their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.tables import Table
from lumigator_nb.display.text import MISSING, count, duration, percent

if TYPE_CHECKING:
    import pandas as pd

# If more than this share of answers ended at max_new_tokens, a remark says so: the scores are then probably too low.
MANY_CUT_OFF = 0.05
COST_TITLE = "Cost and speed"


def dollars(value: float) -> str:
    """Return an amount to the cent, or to three significant digits below a dollar: ``$1.23``, ``$0.0132``."""
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
    """Return a table of cost and speed, with the columns that have values; without rows if there are none.

    Args:
        costs: the frame of :meth:`Comparison.costs`.
        models: names of the models, in the order of the rows.
    """
    keys = [key for key in _COLUMNS if key in costs and (costs[key].fillna(0) > 0).any()]
    by_model = costs.set_index("model")
    rows = [[model, *(_COLUMNS[key][1](by_model.loc[model, key]) for key in keys)] for model in models if keys]
    note = "cached: answers from the answer cache; their cost and latency are those of the original requests"
    headers = ["model", *(_COLUMNS[key][0] for key in keys)]
    return Table(headers, rows, COST_TITLE, note if (costs["cached"] > 0).any() else "")


def unanswered(costs: pd.DataFrame) -> list[str]:
    """Return a sentence for each model that has examples without an answer."""
    others = " for all models" if len(costs) > 1 else ""
    return [
        f"{row['failed']:,} of {count(row['examples'], 'example')} {'has' if row['failed'] == 1 else 'have'} no answer "
        f"from {row['model']} and {'is' if row['failed'] == 1 else 'are'} left out{others}."
        for row in costs.to_dict("records")
        if row["failed"]
    ]


def remarks(costs: pd.DataFrame) -> list[str]:
    """Return a sentence for each model with truncated inputs, or with many answers that ended at max_new_tokens."""
    sentences = []
    for row in costs.to_dict("records"):
        label, examples, cut_off = row["model"], row["examples"], row["cut_off"]
        if row["truncated"]:
            inputs = f"{row['truncated']:,} of {count(examples, 'input')}"
            sentences.append(f"{label}: {inputs} {'was' if row['truncated'] == 1 else 'were'} cut to fit the model.")
        if cut_off > MANY_CUT_OFF * examples:
            share = f"{cut_off:,} of {count(examples, 'answer')} ({percent(round(cut_off / examples, 2))})"
            sentences.append(f"{label}: {share} ended at max_new_tokens: raise max_new_tokens.")
    return sentences
