"""Sentence splitting by a few rules, for prose and dialogues, without data to download."""

from __future__ import annotations

import re
from collections.abc import Iterator


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CLOSERS = r"[\"'”’»)\]」』）】]*"
_BOUNDARY = re.compile(rf"(?P<line>\n+)|(?P<cjk>[。！？｡]+{_CLOSERS})|(?P<mark>[.!?…]+)(?P<closers>{_CLOSERS})(?=\s)")

# A name or number follows these abbreviations, so they never end a sentence ("no" does, unless a number follows).
_NEVER_LAST = _words(
    "mr mrs ms mx dr prof mt gen lt sgt capt cpt cmdr maj sen rep gov rev messrs "
    "vs cf e.g i.e eg ie viz no nos fig figs eq eqs ch vol pp eds al approx ca"
)
# After an acronym or initial ("U.S. Senate", "J. Smith"), only these words begin a new sentence.
_OPENERS = _words(
    "a an and as at but for he her his i if in it its my no not now on our she so that the their then there these "
    "they this those to we what when where while who why yes you"
)
# Like acronyms and initials, these abbreviations end a sentence only if one of _OPENERS follows.
_SELDOM_LAST = _words("jan feb mar apr jun jul aug sep sept oct nov dec inc ltd co corp jr sr st dept est univ")
_ACRONYM = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_NEXT_WORD = re.compile(r"[^\S\n]*(?P<quotes>[\"'“‘«(\[\-–—*]*)(?P<word>\S*)")


def split(text: str) -> list[str]:
    """Return the sentences of `text`, stripped and not empty."""
    return [text[start:end] for start, end in spans(text)]


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sentence in `text`, without the white space around it.

    A newline ends a sentence, and so does each of 。！？. Before white space, ``.``, ``!``, ``?`` and an ellipsis end
    one, except after an abbreviation, an initial or the number of a list item, or if the next word continues it.
    """
    start = 0
    for match in _BOUNDARY.finditer(text):
        if match["mark"] and not _ends(text, start, match):
            continue
        yield from _stripped(text, start, match.end())
        start = match.end()
    yield from _stripped(text, start, len(text))


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    if sentence := piece.strip():
        first = start + piece.index(sentence)
        yield first, first + len(sentence)


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether a mark before white space ends the sentence that begins at `start`."""
    next_word = _NEXT_WORD.match(text, match.end())
    # Without opening quotes; empty at the end of a line or of the text.
    following = (next_word["word"] or next_word["quotes"]) if next_word else ""
    if not following or (match["mark"] in {"?", "!"} and not match["closers"]):
        return True
    if following[0].islower() or following[0] in ".!?…":
        return False
    if match["mark"] == "." and not match["closers"]:
        return _period_ends(text[start : match.start()].lstrip(), following)
    return True


def _period_ends(sentence: str, following: str) -> bool:
    last = "".join(sentence.rsplit(maxsplit=1)[-1:]).lstrip("\"'“‘«([")
    if sentence.isdigit():
        return False  # "1. First point"
    if last.lower() in _NEVER_LAST:
        return last.lower() == "no" and not following[0].isdigit()
    if last.lower() in _SELDOM_LAST or (_ACRONYM.fullmatch(last) and last.lower() not in {"i", "a.m", "p.m"}):
        return following.rstrip(",.;:!?").lower() in _OPENERS
    return True
