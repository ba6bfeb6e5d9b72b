"""Extractiveness: how much of an answer is copied from its input.

Source: Grusky, Naaman and Artzi 2018, "Newsroom: A Dataset of 1.3 Million Summaries with Diverse Extractive Strategies"
(NAACL), section 4. Words are compared without case.
"""

from __future__ import annotations

import re

# An answer copies its input if 9 in 10 of its words occur there and it is at least 4/5 as long. Summaries that only
# select sentences do not reach both numbers (in Newsroom, compression is above 10 on average).
COVERAGE, COMPRESSION = 0.9, 1.25


def coverage(text: str, answer: str) -> float:
    """Return the share of an answer's words that come from the text, in [0, 1]; NaN for an answer without words.

    The source counts the words in shared fragments. A single shared word is a fragment, so these are all words of the
    answer that occur in the text.
    """
    words, source = _words(answer), set(_words(text))
    return sum(word in source for word in words) / len(words) if words else float("nan")


def compression(text: str, answer: str) -> float:
    """Return the number of words of the text per word of the answer; NaN for an answer without words."""
    words = _words(answer)
    return len(_words(text)) / len(words) if words else float("nan")


def copies(text: str, answer: str) -> bool:
    """Return whether an answer mostly copies its input: at least :data:`COVERAGE`, at most :data:`COMPRESSION`."""
    return coverage(text, answer) >= COVERAGE and compression(text, answer) <= COMPRESSION


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
