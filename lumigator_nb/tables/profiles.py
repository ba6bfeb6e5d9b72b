"""Describe a dataset in numbers, and by its first rows."""

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
    """Describe examples in the shape of :func:`lumigator_nb.tables.read_examples`; see :meth:`Profile.values`."""
    profiler = Profile()
    profiler.add(table)
    return profiler.values()


class Profile:
    """Describes examples that arrive piece by piece, in values that fit into JSON.

    Words are separated by white space. An example without words counts as empty, and one with the text of an earlier
    one counts as a duplicate. Without a ground truth column, all references count as missing. Memory use is 8 bytes per
    example, and twice that in :meth:`values`.
    """

    def __init__(self) -> None:
        self._n = 0
        self._names: list[str] = []
        self._example_words, self._truth_words = _WordCounts(), _WordCounts()
        self._hashes: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._preview: list[dict[str, Any]] = []

    def add(self, table: pa.Table) -> None:
        """Add the next rows."""
        self._names = table.column_names
        self._n += len(table)
        self._example_words.add(table["example"])
        if "ground_truth" in self._names:
            self._truth_words.add(table["ground_truth"].drop_null())
        self._hashes.append(_hashes(table["example"]))
        rows = table.slice(0, PREVIEW_ROWS - len(self._preview)).to_pylist()
        self._preview += [{name: _preview_value(value) for name, value in row.items()} for row in rows]

    def values(self) -> dict[str, Any]:
        """Return the description. No more rows can be added afterwards.

        It has n_examples, n_missing_ground_truth, n_empty_examples and n_duplicate_examples (counts),
        has_ground_truth, example_words and ground_truth_words ({min, p50, mean, p95, max} of words per text, None if
        there are no texts), metadata (names of columns) and preview (the first rows, with long texts shortened).
        """
        hashes = np.concatenate([np.empty(0, np.uint64), *self._hashes])
        # In this order and in place, so that there are never three copies.
        self._hashes.clear()
        hashes.sort()
        return {
            "n_examples": self._n,
            "has_ground_truth": "ground_truth" in self._names,
            "n_missing_ground_truth": self._n - self._truth_words.n,
            "n_empty_examples": self._example_words.n_empty,
            "n_duplicate_examples": int((hashes[1:] == hashes[:-1]).sum()),
            "example_words": self._example_words.summary(),
            "ground_truth_words": self._truth_words.summary(),
            "metadata": [name for name in self._names if name != "example" and not is_ground_truth(name)],
            "preview": self._preview,
        }


class _WordCounts:
    """The distribution of the number of words per text."""

    def __init__(self) -> None:
        self._texts: Counter[int] = Counter()  # number of words → number of texts

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
        cumulative = np.cumsum([self._texts[count] for count in words])
        # A percentile is the smallest number of words that this share of the texts does not exceed.
        middle, high = (words[int(np.searchsorted(cumulative, share * self.n))] for share in (0.5, 0.95))
        mean = sum(count * texts for count, texts in self._texts.items()) / self.n
        return {"min": words[0], "p50": middle, "mean": round(mean, 1), "p95": high, "max": words[-1]}


def _hashes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return a 64-bit hash of each text. Among a million texts, a collision has a probability of 1 in 37 million."""
    return pd.util.hash_array(np.array(column.to_pylist(), dtype=object), categorize=False)


def _preview_value(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return shortened(str(value), PREVIEW_CHARACTERS)
