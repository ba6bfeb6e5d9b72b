"""What a dataset looks like, in numbers and by its first rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumigator_nb.specs import is_ground_truth
from lumigator_nb.tables.columns import shortened

PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 200


def profile(table: pa.Table) -> dict[str, Any]:
    """Describe examples as :func:`lumigator_nb.tables.read_examples` returns them, in values that JSON can hold.

    Words are what white space separates. An example counts as empty where it has no word, and as a duplicate for
    every time that its text was there before. Without any ground truth it is missing from every example.

    Returns:
        n_examples, has_ground_truth, n_missing_ground_truth, n_empty_examples, n_duplicate_examples (counts),
        example_words and ground_truth_words ({min, p50, mean, p95, max} of words per text; None where there is no
        text), metadata (column names), preview (the first rows, long texts cut).
    """
    example_words = _word_counts(table["example"])
    has_ground_truth = "ground_truth" in table.column_names
    truths = table["ground_truth"].drop_null() if has_ground_truth else pa.chunked_array([], pa.string())
    # Large strings: the texts that count_distinct gathers may be more than the 2 GiB that a string array holds.
    n_distinct = pc.count_distinct(table["example"].cast(pa.large_string())).as_py()
    return {
        "n_examples": len(table),
        "has_ground_truth": has_ground_truth,
        "n_missing_ground_truth": len(table) - len(truths),
        "n_empty_examples": int((example_words == 0).sum()),
        "n_duplicate_examples": len(table) - n_distinct,
        "example_words": _summary(example_words),
        "ground_truth_words": _summary(_word_counts(truths)),
        "metadata": [name for name in table.column_names if name != "example" and not is_ground_truth(name)],
        "preview": [
            {name: _shown(value) for name, value in row.items()} for row in table.slice(0, PREVIEW_ROWS).to_pylist()
        ],
    }


def _word_counts(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    counts = [len(text.split()) for chunk in column.chunks for text in chunk.to_pylist()]
    return np.array(counts, dtype=np.int64)


def _summary(counts: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float] | None:
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
