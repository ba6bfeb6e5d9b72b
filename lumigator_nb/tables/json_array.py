"""A JSON array read item by item."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lumigator_nb.errors import DatasetError

_BLANK = re.compile(r"[ \t\n\r]*")
# An item that is cut off fails this near to the end, unless it is cut inside a string.
_LONGEST_LITERAL = 16
_MAX_ITEM_CHARACTERS = 500_000_000
_REMEDY = "write it again, best as JSON Lines: one object on each line"


class JsonArray:
    """The items of one array.

    Args:
        pieces: of the text.
        decoder: for the items.
        filename: how messages call the text.

    Attributes:
        line: of the item that was read last (from 1).
    """

    def __init__(self, pieces: Iterator[str], decoder: json.JSONDecoder, filename: str) -> None:
        self._pieces, self._decoder, self._filename = pieces, decoder, filename
        self._text, self._at = "", 0
        self.line = 1

    def items(self) -> Iterator[tuple[Any, str]]:
        """Yield each item with its text.

        Raises:
            DatasetError: the JSON is broken, or goes on behind the array.
        """
        self._take("[")
        if self._next() == "]":
            self._take("]")
        else:
            yield self._item()
            while self._take(",]") == ",":
                yield self._item()
        if self._next():
            raise self._broken(self._at, "something follows the end of the array")

    def _next(self) -> str:
        """Return the next character that is not blank; "" at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            end = blank.end() if blank else self._at
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text):
                return self._text[end]
            if not self._more():
                return ""

    def _take(self, expected: str) -> str:
        found = self._next()
        if not found:
            raise self._broken(self._at, "the array is not closed; the file may be cut off")
        if found not in expected:
            raise self._broken(self._at, f"expected {' or '.join(map(repr, expected))}")
        self._at += 1
        return found

    def _item(self) -> tuple[Any, str]:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._more()):
                    raise self._broken(error.pos, error.msg) from None
                continue
            # A number may go on in the next piece.
            if end < len(self._text) or not self._more():
                break
        written = self._text[self._at : end]
        self.line += written.count("\n")
        self._at = end
        return value, written

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _LONGEST_LITERAL

    def _more(self) -> bool:
        """Read on; what is read twice because an item is long doubles each time."""
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > _MAX_ITEM_CHARACTERS:
            raise self._broken(0, f"the item that begins here has more than {_MAX_ITEM_CHARACTERS:,} characters")
        found: list[str] = []
        wanted = max(1, len(self._text))
        while wanted > 0 and (piece := next(self._pieces, "")):
            found.append(piece)
            wanted -= len(piece)
        self._text += "".join(found)
        return bool(found)

    def _broken(self, position: int, reason: str) -> DatasetError:
        before = self._text[self._at : position]
        line = self.line + before.count("\n")
        return DatasetError(f"{self._filename}, line {line}: broken JSON: {reason}", _REMEDY)
