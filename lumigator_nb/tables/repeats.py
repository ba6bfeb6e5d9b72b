"""Examples that were there before, and examples without text, told by their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_SHOWN_ROWS = 5
# As Python objects, so many texts are in memory at once.
_ROWS_AT_ONCE = 1 << 16
_Hashes = np.ndarray[Any, np.dtype[np.uint64]]
_Places = np.ndarray[Any, np.dtype[np.intp]]


class Repeats:
    """Counts the examples that repeat an earlier one, and those without text, piece by piece.

    Texts are equal where each character is; an empty text after another one is a repeat, too. A null counts as an
    empty text. An example takes 8 bytes, and 16 more while the notes are made. Texts are compared by 64 bits: of a
    million different ones, two are taken for equal in one file of 37 million.
    """

    def __init__(self) -> None:
        self._hashes: list[_Hashes] = []
        self._n = 0
        self._n_blank = 0
        self._first_blank: list[int] = []

    def add(self, column: pa.ChunkedArray) -> None:
        """Look at the next examples (strings)."""
        for chunk in column.chunks:
            for start in range(0, len(chunk), _ROWS_AT_ONCE):
                self._add(chunk.slice(start, _ROWS_AT_ONCE).fill_null(""))

    def notes(self) -> tuple[str, ...]:
        """Return what was found, in words, with the first rows (from 1); nothing where nothing was found."""
        n_repeats, first_repeats = _repeats(np.concatenate(self._hashes)) if self._hashes else (0, [])
        return (
            *_note(
                n_repeats, first_repeats, "has the same text as an earlier one", "have the same text as earlier ones"
            ),
            *_note(self._n_blank, self._first_blank, "has no text", "have no text"),
        )

    def _add(self, texts: pa.Array) -> None:
        self._hashes.append(pd.util.hash_array(np.array(texts.to_pylist(), dtype=object), categorize=False))
        blank = np.flatnonzero(pc.equal(pc.utf8_trim_whitespace(texts), "").to_numpy(zero_copy_only=False))
        self._first_blank += (blank[: _SHOWN_ROWS - len(self._first_blank)] + self._n + 1).tolist()
        self._n_blank += len(blank)
        self._n += len(texts)


def _repeats(hashes: _Hashes) -> tuple[int, list[int]]:
    """Return how many hashes were there before, and the first rows (from 1) of those."""
    ordered = np.sort(hashes)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(again):
        return 0, []
    places = _places_of(np.unique(again), hashes)
    # Among equal ones a stable order keeps the rows' own, so that only the first of each is no repeat.
    order = np.argsort(hashes[places], kind="stable")
    sorted_hashes = hashes[places][order]
    rows = places[order[1:][sorted_hashes[1:] == sorted_hashes[:-1]]]
    return len(again), (np.sort(rows)[:_SHOWN_ROWS] + 1).tolist()


def _places_of(wanted: _Hashes, hashes: _Hashes) -> _Places:
    """Return where one of the wanted hashes is, which are sorted; by parts, so that no copy of all is made."""
    parts = []
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        part = hashes[start : start + _ROWS_AT_ONCE]
        nearest = wanted[np.minimum(np.searchsorted(wanted, part), len(wanted) - 1)]
        parts.append(np.flatnonzero(nearest == part) + start)
    return np.concatenate(parts)


def _note(n: int, first_rows: list[int], one: str, many: str) -> tuple[str, ...]:
    if not n:
        return ()
    rows = ", ".join(f"{row:,}" for row in first_rows)
    if n == 1:
        return (f"1 example {one} (row {rows})",)
    return (f"{n:,} examples {many} (rows {rows}{', …' if n > len(first_rows) else ''})",)
