"""Bins that divide the examples of a dataset: by length, by language, by ranges of a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lumigator_nb.metrics.kernels import languages
from lumigator_nb.specs import language_name

# With more values than this, a column gives slices that are too small and tables that are too long.
MOST_VALUES = 12
UNKNOWN, UNSURE = "(none)", "unsure"
_BINS = 3
# With more characters per word (spaces included), words are not separated by spaces; German texts have about 7.
_LONGEST_WORDS = 15


def length_bins(texts: Sequence[str]) -> list[str]:
    """Split texts into thirds by their number of words: ``up to 40 words``, ``41 to 80 words``, ``more than 80 words``.

    Texts of equal length stay together, so there may be fewer bins. If words are not separated by spaces, as in
    Chinese or Thai, characters are counted instead.
    """
    words = np.array([len(text.split()) for text in texts], dtype=np.float64)
    characters = np.array([len(text) for text in texts], dtype=np.float64)
    if characters.sum() > _LONGEST_WORDS * words.sum():
        return _bins(characters, " characters")
    return _bins(words, " words")


def quantile_bins(values: Sequence[float]) -> list[str]:
    """Split numbers into thirds: ``up to 3``, ``4 to 7``, ``more than 7``; NaN get a separate bin.

    Equal numbers stay together, so there may be fewer bins.
    """
    return _bins(np.asarray(values, dtype=np.float64), "")


def _bins(values: np.ndarray, unit: str) -> list[str]:
    """The name of the bin of each value; the edges are quantiles, so that bins are about equally large."""
    numbers = values[~np.isnan(values)]
    if not len(numbers):
        return [UNKNOWN] * len(values)
    edges = np.unique(np.quantile(numbers, np.arange(1, _BINS) / _BINS, method="lower"))
    edges = edges[edges < numbers.max()]
    names = [f"all{unit}"]
    if len(edges):
        whole = bool(np.all(numbers == np.round(numbers)))
        ends = _texts(edges, whole)
        starts = _texts(edges + 1, whole) if whole else [f"over {end}" for end in ends]
        # A bin may hold a single number.
        middle = [
            f"{start}{unit}" if start == end else f"{start} to {end}{unit}"
            for start, end in zip(starts, ends[1:], strict=False)
        ]
        names = [f"up to {ends[0]}{unit}", *middle, f"more than {ends[-1]}{unit}"]
    bins = np.searchsorted(edges, values, side="left")
    return [UNKNOWN if np.isnan(value) else names[index] for value, index in zip(values, bins, strict=True)]


def _texts(edges: np.ndarray, whole: bool) -> list[str]:
    """The edges, with as few digits as keep them distinct."""
    if whole:
        return [f"{edge:.0f}" for edge in edges]
    candidates = ([f"{edge:.{digits}g}" for edge in edges] for digits in range(4, 18))
    return next(texts for texts in candidates if len(set(texts)) == len(edges))


def language_bins(texts: Sequence[str]) -> list[str]:
    """Return the language of each text, such as "German"; "unsure" for short or doubtful texts, numbers and code.

    Only the first 2,000 characters of a text count.

    Raises:
        MissingExtraError: the package that detects languages is not installed.
    """
    codes = [languages.detected(text) for text in texts]
    return [language_name(code) if code else UNSURE for code in codes]


def parts_of(column: pd.Series) -> list[str]:
    """Return the bin of each value of a metadata column: the value itself, or a range if it has many numbers."""
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_number and column.nunique() > MOST_VALUES:
        return quantile_bins(column.to_numpy(dtype=np.float64, na_value=np.nan).tolist())
    return [UNKNOWN if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
