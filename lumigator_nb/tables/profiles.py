"""What a dataset looks like, in numbers and by its first rows."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lumigator_nb.specs import is_ground_truth
from lumigator_nb.tables.columns import shortened
from lumigator_nb.tables.words import word_counts

PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 200


def profile(table: pa.Table) -> dict[str, Any]:
    """Describe examples as :func:`lumigator_nb.tables.read_examples` returns them; see :class:`Profile`."""
    found = Profile()
    found.add(table)
    return found.values()


class Profile:
    """Describes examples that come piece by piece, in values that JSON can hold.

    Words are what white space separates. An example counts as empty where it has no word, and as a duplicate for
    every time that its text was there before. Without any ground truth it is missing from every example. Each example
    takes 8 bytes of memory, and twice that at the end.
    """

    def __init__(self) -> None:
        self._n = 0
        self._names: list[str] = []
        self._example_words, self._truth_words = _WordCounts(), _WordCounts()
        self._hashes: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._preview: list[dict[str, Any]] = []

    def add(self, table: pa.Table) -> None:
        """Look at the next rows."""
        self._names = table.column_names
        self._n += len(table)
        self._example_words.add(table["example"])
        if "ground_truth" in self._names:
            self._truth_words.add(table["ground_truth"].drop_null())
        self._hashes.append(_hashes(table["example"]))
        rows = table.slice(0, PREVIEW_ROWS - len(self._preview)).to_pylist()
        self._preview += [{name: _shown(value) for name, value in row.items()} for row in rows]

    def values(self) -> dict[str, Any]:
        """Return the description; nothing can be added afterwards.

        n_examples, has_ground_truth, n_missing_ground_truth, n_empty_examples, n_duplicate_examples (counts),
        example_words and ground_truth_words ({min, p50, mean, p95, max} of words per text; None where there is no
        text), metadata (column names), preview (the first rows, long texts cut).
        """
        return {
            "n_examples": self._n,
            "has_ground_truth": "ground_truth" in self._names,
            "n_missing_ground_truth": self._n - self._truth_words.n,
            "n_empty_examples": self._example_words.n_empty,
            "n_duplicate_examples": self._n_duplicates(),
            "example_words": self._example_words.summary(),
            "ground_truth_words": self._truth_words.summary(),
            "metadata": [name for name in self._names if name != "example" and not is_ground_truth(name)],
            "preview": self._preview,
        }

    def _n_duplicates(self) -> int:
        if not self._n:
            return 0
        hashes = np.concatenate(self._hashes)
        self._hashes.clear()
        hashes.sort()
        return int((hashes[1:] == hashes[:-1]).sum())


class _WordCounts:
    """How many texts have how many words."""

    def __init__(self) -> None:
        self._texts: Counter[int] = Counter()  # by their number of words

    def add(self, column: pa.ChunkedArray) -> None:
        for chunk in column.chunks:
            counts, texts = np.unique(word_counts(chunk), return_counts=True)
            self._texts.update(dict(zip(counts.tolist(), texts.tolist(), strict=True)))

    @property
    def n(self) -> int:
        return self._texts.total()

    @property
    def n_empty(self) -> int:
        return self._texts[0]

    def summary(self) -> dict[str, float] | None:
        if not self.n:
            return None
        words = sorted(self._texts)
        reached = np.cumsum([self._texts[count] for count in words])
        # The smallest number that so large a share of the texts does not exceed.
        middle, high = (words[int(np.searchsorted(reached, share * self.n))] for share in (0.5, 0.95))
        mean = sum(count * texts for count, texts in self._texts.items()) / self.n
        return {"min": words[0], "p50": middle, "mean": round(mean, 1), "p95": high, "max": words[-1]}


def _hashes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """64 bits of each text: of a million different ones two are taken for equal in one file of 37 million."""
    return pd.util.hash_array(np.array(column.to_pylist(), dtype=object), categorize=False)


def _shown(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return shortened(str(value), PREVIEW_CHARACTERS)
