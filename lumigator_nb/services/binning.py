"""Parts of a dataset that nobody named: short and long examples, languages, ranges of a number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.errors import MissingExtraError
from lumigator_nb.specs import language_name

MOST_VALUES = 12
UNKNOWN, UNSURE = "(none)", "unsure"
# Below, the language of a text is a guess: characters, and the model's own certainty.
_SHORTEST, _CERTAIN = 20, 0.9
_PARTS = 3


def length_bins(texts: Sequence[str]) -> list[str]:
    """Part texts into thirds by their number of words: ``up to 40 words``, ``41 to 80 words``, ``more than 80 words``.

    Texts of one length stay together, so there may be fewer parts.
    """
    words = np.array([len(text.split()) for text in texts], dtype=np.float64)
    return _bins(words, " words")


def quantile_bins(values: Sequence[float]) -> list[str]:
    """Part numbers into thirds; NaN are a part of their own."""
    return _bins(np.asarray(values, dtype=np.float64), "")


def _bins(values: np.ndarray, unit: str) -> list[str]:
    known = values[~np.isnan(values)]
    if not len(known):
        return [UNKNOWN] * len(values)
    edges = np.unique(np.quantile(known, np.arange(1, _PARTS) / _PARTS, method="lower"))
    edges = edges[edges < known.max()]
    whole = bool(np.all(known == np.round(known)))
    names = _names([f"{edge:g}" for edge in edges], edges, whole, unit)
    found = np.searchsorted(edges, values, side="left")
    return [UNKNOWN if np.isnan(value) else names[part] for value, part in zip(values, found, strict=True)]


def _names(shown: Sequence[str], edges: np.ndarray, whole: bool, unit: str) -> list[str]:
    if not shown:
        return [f"all{unit}" if unit else "all"]
    starts = [f"{edge + 1:g}" if whole else f"over {edge:g}" for edge in edges]
    middle = [f"{start} to {end}{unit}" for start, end in zip(starts, shown[1:], strict=False)]
    return [f"up to {shown[0]}{unit}", *middle, f"more than {shown[-1]}{unit}"]


def language_bins(texts: Sequence[str]) -> list[str]:
    """Return the language of each text, such as "German"; "unsure" for short or doubtful ones.

    Raises:
        MissingExtraError: the package that tells languages apart is not installed.
    """
    classify = _classifier()
    names: list[str] = []
    for text in texts:
        code, certainty = classify(text) if len(text) >= _SHORTEST else ("", 0.0)
        names.append(language_name(code) if certainty >= _CERTAIN else UNSURE)
    return names


@cache
def _classifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtraError("telling languages apart", "languages") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify


def parts_of(column: pd.Series) -> list[str]:
    """Return the part that each value of a metadata column belongs to: itself, or a range of many numbers."""
    counted = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if counted and column.nunique() > MOST_VALUES:
        return quantile_bins(column.to_numpy(dtype=np.float64, na_value=np.nan).tolist())
    return [UNKNOWN if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
