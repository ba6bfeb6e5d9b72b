"""The language of a text, by py3langid (Lui and Baldwin 2012, https://aclanthology.org/P12-3005)."""

from __future__ import annotations

from functools import cache
from typing import Any

from lumigator_nb.errors import MissingExtraError

# Below these, the language is a guess. Bytes, because a Chinese character (three bytes) tells more than a letter.
_MIN_BYTES, _MIN_PROBABILITY = 20, 0.8
# The first characters identify the language as well as the whole text does, and much faster.
_MAX_CHARACTERS = 2000
# ISO 639's code for "no linguistic content", such as numbers or code.
_NO_LANGUAGE = "zxx"


def detected(text: str) -> str | None:
    """Return the code of a text's language, such as "de"; None for a short or doubtful text, numbers and code.

    Only the first 2,000 characters of the text count.

    Raises:
        MissingExtraError: the package that detects languages is not installed.
    """
    classify = _classifier()
    start = text[:_MAX_CHARACTERS]
    if len(start.encode(errors="replace")) < _MIN_BYTES:
        return None
    code, probability = classify(start)
    return str(code) if probability >= _MIN_PROBABILITY and code != _NO_LANGUAGE else None


@cache  # Loading the model takes a while.
def _classifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtraError("detecting languages", "languages") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify
