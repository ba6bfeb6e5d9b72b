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
# Below, the language of a text is a guess: bytes, of which a Chinese character has three, and the model's certainty.
_SHORTEST, _CERTAIN = 20, 0.8
# Characters that tell the language of a text as well as all of it.
_ENOUGH = 2000
_NO_LANGUAGE = "zxx"
_PARTS = 3
# Characters per word, spaces included: German texts have about 7.
_LONGEST_WORDS = 15


def length_bins(texts: Sequence[str]) -> list[str]:
    """Part texts into thirds by their number of words: ``up to 40 words``, ``41 to 80 words``, ``more than 80 words``.

    Texts of one length stay together, so there may be fewer parts. Characters are counted where words are not
    separated by spaces, as in Chinese or Thai.
    """
    words = np.array([len(text.split()) for text in texts], dtype=np.float64)
    characters = np.array([len(text) for text in texts], dtype=np.float64)
    if characters.sum() > _LONGEST_WORDS * words.sum():
        return _bins(characters, " characters")
    return _bins(words, " words")


def quantile_bins(values: Sequence[float]) -> list[str]:
    """Part numbers into thirds: ``up to 3``, ``4 to 7``, ``more than 7``; NaN are a part of their own.

    Equal numbers stay together, so there may be fewer parts.
    """
    return _bins(np.asarray(values, dtype=np.float64), "")


def _bins(values: np.ndarray, unit: str) -> list[str]:
    known = values[~np.isnan(values)]
    if not len(known):
        return [UNKNOWN] * len(values)
    edges = np.unique(np.quantile(known, np.arange(1, _PARTS) / _PARTS, method="lower"))
    edges = edges[edges < known.max()]
    whole = bool(np.all(known == np.round(known)))
    names = _names(edges, whole, unit)
    found = np.searchsorted(edges, values, side="left")
    return [UNKNOWN if np.isnan(value) else names[part] for value, part in zip(values, found, strict=True)]


def _names(edges: np.ndarray, whole: bool, unit: str) -> list[str]:
    if not len(edges):
        return [f"all{unit}"]
    shown = _shown(edges, whole)
    starts = _shown(edges + 1, whole) if whole else [f"over {edge}" for edge in shown]
    # A part may hold a single number.
    middle = [
        f"{start}{unit}" if start == end else f"{start} to {end}{unit}"
        for start, end in zip(starts, shown[1:], strict=False)
    ]
    return [f"up to {shown[0]}{unit}", *middle, f"more than {shown[-1]}{unit}"]


def _shown(edges: np.ndarray, whole: bool) -> list[str]:
    """The edges with as many digits as tell them apart."""
    if whole:
        return [f"{edge:.0f}" for edge in edges]
    spelled = ([f"{edge:.{digits}g}" for edge in edges] for digits in range(4, 18))
    return next(each for each in spelled if len(set(each)) == len(edges))


def language_bins(texts: Sequence[str]) -> list[str]:
    """Return the language of each text, such as "German"; "unsure" for short or doubtful ones, numbers and code.

    Only the beginning of a long text is looked at.

    Raises:
        MissingExtraError: the package that tells languages apart is not installed.
    """
    classify = _classifier()
    names: list[str] = []
    for text in texts:
        start = text[:_ENOUGH]
        code, certainty = classify(start) if len(start.encode(errors="replace")) >= _SHORTEST else (_NO_LANGUAGE, 0.0)
        names.append(language_name(code) if certainty >= _CERTAIN and code != _NO_LANGUAGE else UNSURE)
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
