"""Read a JSON array item by item, without loading the file into memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lumigator_nb.errors import DatasetError

_BLANK = re.compile(r"[ \t\n\r]*")
# If an item is incomplete, the decoder fails within this many characters of the end, unless the item ends inside a
# string. The longest literal is "-Infinity".
_LONGEST_LITERAL = 16
_MAX_ITEM_CHARACTERS = 500_000_000
_REMEDY = "write the file again, preferably as JSON Lines: one object per line"


class JsonArray:
    """The items of one array.

    Args:
        pieces: the text, in pieces.
        decoder: decodes an item.
        filename: the file's name in messages.

    Attributes:
        line: line (from 1) of the item that was read last.
    """

    def __init__(self, pieces: Iterator[str], decoder: json.JSONDecoder, filename: str) -> None:
        self._pieces, self._decoder, self._filename = pieces, decoder, filename
        self._text, self._at = "", 0
        self.line = 1

    def items(self) -> Iterator[tuple[Any, str]]:
        """Yield each item with its text.

        Raises:
            DatasetError: the JSON is invalid, or text follows the array.
        """
        self._take("[")
        if self._next() == "]":
            self._take("]")
        else:
            yield self._item()
            while self._take(",]") == ",":
                yield self._item()
        if self._next():
            raise self._broken(self._at, "there is text after the end of the array")

    def _next(self) -> str:
        """Move to the next character that is not blank, and return it; "" at the end."""
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
        character = self._next()
        if not character:
            raise self._broken(self._at, "the array is not closed; the file may be cut off")
        if character not in expected:
            raise self._broken(self._at, f"expected {' or '.join(map(repr, expected))}")
        self._at += 1
        return character

    def _item(self) -> tuple[Any, str]:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_near_end = error.pos >= len(self._text) - _LONGEST_LITERAL
                may_be_cut = is_near_end or error.msg.startswith("Unterminated string")
                if not (may_be_cut and self._more()):
                    raise self._broken(error.pos, error.msg) from None
                continue
            # At the end of the text, a number may continue in the next piece.
            if end < len(self._text) or not self._more():
                break
        written = self._text[self._at : end]
        self.line += written.count("\n")
        self._at = end
        return value, written

    def _more(self) -> bool:
        """Append at least as much text as there is, and return whether there was any.

        A long item is decoded again after each call; doubling keeps the total time linear in its length.
        """
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > _MAX_ITEM_CHARACTERS:
            raise self._broken(0, f"the item that begins here has more than {_MAX_ITEM_CHARACTERS:,} characters")
        pieces: list[str] = []
        missing = max(1, len(self._text))
        while missing > 0 and (piece := next(self._pieces, "")):
            pieces.append(piece)
            missing -= len(piece)
        self._text += "".join(pieces)
        return bool(pieces)

    def _broken(self, position: int, reason: str) -> DatasetError:
        before = self._text[self._at : position]
        line = self.line + before.count("\n")
        return DatasetError(f"{self._filename}, line {line}: broken JSON: {reason}", _REMEDY)
