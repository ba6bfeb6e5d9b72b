"""Which examples were drawn for rating, with which probabilities, and what a rating of each therefore weighs.

The latest draw of a criterion is kept in the experiment. Examples that were rated before it have probability 1 and
speak for themselves; those rated besides have none, as it is not known how they were chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.errors import InvalidInputError

# Of `Experiment.asked`: what people were asked to rate, by criterion.
_KEY = "label_draws"


def draw_of(order: Sequence[int] | pd.DataFrame | None) -> tuple[list[int] | None, dict[int, float]]:
    """Return the rows in their order, and the probability of each where `order` is a table that says it.

    Raises:
        InvalidInputError: the table has no column `row`, or a probability is none.
    """
    if order is None:
        return None, {}
    if not isinstance(order, pd.DataFrame):
        return list(order), {}
    if "row" not in order:
        raise InvalidInputError("the order has no column 'row'", "give what comparison.next_to_label(…) returned")
    rows = [int(row) for row in order["row"]]
    if "probability" not in order:
        return rows, {}
    return rows, probabilities_of(dict(zip(rows, order["probability"], strict=True)))


def probabilities_of(given: Mapping[int, Any]) -> dict[int, float]:
    """Return the probabilities by row, without missing ones.

    Raises:
        InvalidInputError: one lies outside of (0, 1].
    """
    found = {row: float(value) for row, value in given.items() if value is not None and not pd.isna(value)}
    for row, value in found.items():
        if not 0 < value <= 1:
            raise InvalidInputError(
                f"row {row} was drawn with probability {value}", "probabilities lie above 0 and up to 1"
            )
    return found


def noted(
    asked: Mapping[str, Any], criterion: str, drawn: Mapping[int, float], rated: Collection[int]
) -> dict[str, Any]:
    """Return what an experiment keeps, with a draw; the same draw again changes nothing.

    Args:
        asked: of the experiment.
        drawn: probabilities by row.
        rated: rows that were rated before.
    """
    known = asked.get(_KEY, {}).get(criterion)
    entry = {"rows": list(drawn), "probabilities": list(drawn.values())}
    if known is not None and all(known[key] == value for key, value in entry.items()):
        return dict(asked)
    entry["before"] = sorted(set(rated))
    return {**asked, _KEY: {**asked.get(_KEY, {}), criterion: entry}}


def chances(asked: Mapping[str, Any], criterion: str, rated: Sequence[int]) -> np.ndarray:
    """Return the probability with which each rated row came to be rated, (n,); NaN where that is not known.

    All are NaN until a row of the draw is rated. Of a draw of k rows of which j are rated so far, the j are a draw with
    j / k times the probabilities.
    """
    draw = asked.get(_KEY, {}).get(criterion)
    if draw is None:
        return np.full(len(rated), np.nan)
    done = len(set(rated) & set(draw["rows"])) / len(draw["rows"])
    if not done:
        return np.full(len(rated), np.nan)
    drawn = {row: value * done for row, value in zip(draw["rows"], draw["probabilities"], strict=True)}
    known = {**dict.fromkeys(draw["before"], 1.0), **drawn}
    return np.array([known.get(row, np.nan) for row in rated], dtype=np.float64)
