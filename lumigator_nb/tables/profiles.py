"""What a dataset looks like, in numbers and by its first rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lumigator_nb.specs import is_ground_truth
from lumigator_nb.tables.columns import shortened

_Counts = np.ndarray[Any, np.dtype[np.int32]]
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 200


def profile(table: pa.Table) -> dict[str, Any]:
    """Describe examples as :func:`lumigator_nb.tables.read_examples` returns them; see :class:`Profile`."""
    found = Profile()
    found.add(table)
    return found.values


class Profile:
    """Describes examples that come piece by piece, in values that JSON can hold.

    Words are what white space separates. An example counts as empty where it has no word, and as a duplicate for
    every time that its text was there before. Without any ground truth it is missing from every example. Each example
    takes about 20 bytes of memory until the end.
    """

    def __init__(self) -> None:
        self._n = 0
        self._names: list[str] = []
        self._example_words: list[_Counts] = []
        self._truth_words: list[_Counts] = []
        self._hashes: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._preview: list[dict[str, Any]] = []

    def add(self, table: pa.Table) -> None:
        """Look at the next rows."""
        self._names = table.column_names
        self._n += len(table)
        self._example_words.append(_word_counts(table["example"]))
        if "ground_truth" in self._names:
            self._truth_words.append(_word_counts(table["ground_truth"].drop_null()))
        self._hashes.append(_hashes(table["example"]))
        rows = table.slice(0, PREVIEW_ROWS - len(self._preview)).to_pylist()
        self._preview += [{name: _shown(value) for name, value in row.items()} for row in rows]

    @property
    def values(self) -> dict[str, Any]:
        """The description.

        n_examples, has_ground_truth, n_missing_ground_truth, n_empty_examples, n_duplicate_examples (counts),
        example_words and ground_truth_words ({min, p50, mean, p95, max} of words per text; None where there is no
        text), metadata (column names), preview (the first rows, long texts cut).
        """
        example_words, truth_words = _joined(self._example_words), _joined(self._truth_words)
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        return {
            "n_examples": self._n,
            "has_ground_truth": "ground_truth" in self._names,
            "n_missing_ground_truth": self._n - len(truth_words),
            "n_empty_examples": int((example_words == 0).sum()),
            "n_duplicate_examples": self._n - len(np.unique(hashes)),
            "example_words": _summary(example_words),
            "ground_truth_words": _summary(truth_words),
            "metadata": [name for name in self._names if name != "example" and not is_ground_truth(name)],
            "preview": self._preview,
        }


def _joined(counts: list[_Counts]) -> _Counts:
    return np.concatenate(counts) if counts else np.empty(0, np.int32)


def _hashes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """64 bits of each text: two of a billion rows are taken for equal by chance in one file of about 40."""
    texts = np.array(column.to_pylist(), dtype=object)
    return pd.util.hash_array(texts, categorize=False)


def _word_counts(column: pa.ChunkedArray) -> _Counts:
    counts = [len(text.split()) for chunk in column.chunks for text in chunk.to_pylist()]
    return np.array(counts, dtype=np.int32)


def _summary(counts: _Counts) -> dict[str, float] | None:
    if not len(counts):
        return None
    low, middle, high, top = np.percentile(counts, [0, 50, 95, 100], method="inverted_cdf").tolist()
    return {"min": low, "p50": middle, "mean": round(float(counts.mean()), 1), "p95": high, "max": top}


def _shown(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return shortened(str(value), PREVIEW_CHARACTERS)
