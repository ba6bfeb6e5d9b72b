"""Draws: the examples that were drawn for rating, with their inclusion probabilities, which weight the ratings.

The experiment stores the latest draw of each criterion. Examples that were rated before that draw have probability 1:
they stand only for themselves. Other examples outside the draw have no probability, since it is unknown how they were
chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.errors import InvalidInputError

# Key of `Experiment.asked` under which the draws are stored, by criterion.
_KEY = "label_draws"


def draw_of(order: Sequence[int] | pd.DataFrame | None) -> tuple[list[int] | None, dict[int, float]]:
    """Return the rows of an order, and their probabilities if `order` is a table with a column `probability`.

    Raises:
        InvalidInputError: the table has no column `row`, or a probability is out of range.
    """
    if order is None:
        return None, {}
    if not isinstance(order, pd.DataFrame):
        return list(order), {}
    if "row" not in order:
        raise InvalidInputError(
            "the order has no column 'row'", "give the table that comparison.next_to_label(…) returned"
        )
    rows = [int(row) for row in order["row"]]
    if "probability" not in order:
        return rows, {}
    return rows, probabilities_of(dict(zip(rows, order["probability"], strict=True)))


def probabilities_of(values: Mapping[int, Any]) -> dict[int, float]:
    """Return the probabilities by row, without missing ones.

    Raises:
        InvalidInputError: a probability is outside of (0, 1].
    """
    probabilities = {row: float(value) for row, value in values.items() if value is not None and not pd.isna(value)}
    for row, probability in probabilities.items():
        if not 0 < probability <= 1:
            raise InvalidInputError(
                f"row {row} was drawn with probability {probability}", "a probability is above 0 and at most 1"
            )
    return probabilities


def with_draw(
    asked: Mapping[str, Any], criterion: str, drawn: Mapping[int, float], rated: Collection[int]
) -> dict[str, Any]:
    """Return `Experiment.asked` with a draw. The same draw again changes nothing.

    Args:
        asked: `Experiment.asked` so far.
        criterion: criterion of the ratings.
        drawn: probabilities by row.
        rated: rows that were rated before.
    """
    stored = asked.get(_KEY, {}).get(criterion)
    # Two lists instead of a dict: JSON would turn the rows into strings.
    entry = {"rows": list(drawn), "probabilities": list(drawn.values())}
    # A rater who continues passes the same draw again. The rows rated since then belong to the draw, so they must not
    # count as rated before it.
    if stored is not None and all(stored[key] == value for key, value in entry.items()):
        return dict(asked)
    entry["before"] = sorted(set(rated))
    return {**asked, _KEY: {**asked.get(_KEY, {}), criterion: entry}}


def inclusion_probabilities(asked: Mapping[str, Any], criterion: str, rated: Sequence[int]) -> np.ndarray:
    """Return the probability with which each rated row was selected, of shape (n,); NaN if unknown.

    All are NaN until a row of the draw is rated. If j of the k drawn rows are rated so far, these j count as a draw
    with j / k times the probabilities: they are asked in random order.
    """
    draw = asked.get(_KEY, {}).get(criterion)
    if draw is None:
        return np.full(len(rated), np.nan)
    share_rated = len(set(rated) & set(draw["rows"])) / len(draw["rows"])
    if not share_rated:
        return np.full(len(rated), np.nan)
    probabilities = dict.fromkeys(draw["before"], 1.0)
    for row, probability in zip(draw["rows"], draw["probabilities"], strict=True):
        probabilities[row] = probability * share_rated
    return np.array([probabilities.get(row, np.nan) for row in rated], dtype=np.float64)
