"""What became of the rows of a dataset, for a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from lumigator_nb.display.html import Html, card, clipped, fragment, join, table, unfolding
from lumigator_nb.display.text import MISSING, count, joined, one_line

if TYPE_CHECKING:
    from lumigator_nb.services.datasets.versions import DatasetDiff

_MOST_ROWS = 10


def as_text(diff: DatasetDiff) -> str:
    """Return the counts as aligned lines."""
    facts = _facts(diff)
    width = max(len(label) for label, _ in facts)
    return "\n".join([_title(diff), *(f"  {label:<{width}}  {one_line(text, 1000)}" for label, text in facts)])


def as_html(diff: DatasetDiff) -> str:
    """Return the counts as a card, below which the first rows of each kind unfold."""
    tables = [
        _unfolding("changed cell", diff.changed),
        _unfolding("added row", diff.added.reset_index()),
        _unfolding("removed row", diff.removed.reset_index()),
    ]
    return fragment(card(_title(diff), _facts(diff), join(tables) if diff else None))


def _title(diff: DatasetDiff) -> str:
    counts = {"added": diff.n_added, "removed": diff.n_removed, "changed": diff.n_changed}
    said = joined([f"{number:,} {verb}" for verb, number in counts.items() if number])
    return f"Rows: {said}" if said else "The same rows"


def _facts(diff: DatasetDiff) -> list[tuple[str, str]]:
    cells = diff.changed["column"].value_counts(sort=False)
    facts = [
        ("Rows", f"{diff.n_old:,} before, {diff.n_new:,} after, {diff.n_same:,} as they were"),
        ("Matched by", diff.on),
        ("Changed", ", ".join(f"{column} in {count(number, 'row')}" for column, number in cells.items())),
        *(("Note", note) for note in diff.notes),
    ]
    return [(label, text) for label, text in facts if text]


def _unfolding(noun: str, frame: pd.DataFrame) -> Html:
    if frame.empty:
        return Html()
    shown = frame.head(_MOST_ROWS)
    title = count(len(frame), noun) + (f", of which the first {len(shown)}" if len(frame) > len(shown) else "")
    return unfolding(title, table(list(map(str, shown)), [_cells(row) for row in shown.to_numpy(object)]))


def _cells(row: Iterable[Any]) -> list[Html | str]:
    return [MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else clipped(value, 160) for value in row]
