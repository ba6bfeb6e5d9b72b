"""CSV that is plain enough for Arrow's reader, which is many times faster than the careful one, to find the same in it.

Arrow forgives much that must not be forgiven, such as text behind a closing quote. So each block of a file is looked at
first, and whoever meets something that the two might read differently starts again with the careful reader, which also
knows how to say what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from lumigator_nb.tables.text import UTF8_BOM, Report

_Positions = np.ndarray[Any, np.dtype[np.intp]]
_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_BLOCK_BYTES = 4 << 20
# A row that is longer is no business of a fast reader.
_MAX_BLOCK_BYTES = 64 << 20
_LINE_FEED, _RETURN, _QUOTE = 10, 13, 34


class NotPlainError(Exception):
    """Something that the careful reader has to look at."""


class PlainRows:
    """The rows of a file in UTF-8, all text, as :class:`csv.reader` with `strict` would find them.

    Args:
        file: open where the first row begins.
        names: of the columns.
        delimiter: one ASCII character.

    Attributes:
        n_blank: empty lines that were passed over so far.
    """

    def __init__(self, file: IO[bytes], names: list[str], delimiter: str) -> None:
        self._file, self._names, self._delimiter = file, names, delimiter
        self._beside_quotes = np.zeros(256, bool)
        self._beside_quotes[[ord(delimiter), _LINE_FEED, _RETURN]] = True
        self.n_blank = 0

    def tables(self, report: Report) -> Iterator[pa.Table]:
        """Yield the rows in order, a few thousand at a time.

        Raises:
            NotPlainError: the careful reader might read the rest, or all, differently.
        """
        rest = b""
        while chunk := self._file.read(_BLOCK_BYTES):
            block = rest + chunk
            end = _end_of_rows(block)
            if end:
                yield from self._parsed(block[:end])
                report(self._file.tell())
            elif len(block) > _MAX_BLOCK_BYTES:
                raise NotPlainError
            rest = block[end:]
        if rest:
            yield from self._parsed(rest)

    def _parsed(self, block: bytes) -> Iterator[pa.Table]:
        n_rows = self._checked(block)
        if not n_rows:
            return
        names = self._names
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
                pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
            )
        except (pa.ArrowException, OSError):  # not UTF-8, or too many or too few cells
            raise NotPlainError from None
        if len(table) != n_rows:
            raise NotPlainError
        yield table

    def _checked(self, block: bytes) -> int:
        """Count the rows, and the blank lines; `block` is complete rows."""
        if b"\0" in block or block.startswith(UTF8_BOM):  # Arrow takes a mark in the middle of a file for one, too
            raise NotPlainError
        data: _Bytes = np.frombuffer(block, np.uint8)
        quotes = _where(data, _QUOTE)
        self._check_quotes(data, quotes)
        returns = _outside(_where(data, _RETURN), quotes)
        if len(returns) and (returns[-1] + 1 == len(data) or (data[returns + 1] != _LINE_FEED).any()):
            raise NotPlainError
        ends = _outside(_where(data, _LINE_FEED), quotes)
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        lengths = ends - starts
        lengths -= (lengths > 0) & (data[ends - 1] == _RETURN)
        blank = int((lengths == 0).sum())
        self.n_blank += blank
        is_open = not len(ends) or ends[-1] + 1 < len(data)
        return len(ends) - blank + is_open

    def _check_quotes(self, data: _Bytes, quotes: _Positions) -> None:
        """Quotes pair, open where a cell begins, and close where it ends; inside they are written twice."""
        if len(quotes) % 2:
            raise NotPlainError
        if not len(quotes):
            return
        opening, closing = quotes[::2], quotes[1::2]
        # The row begins at the first byte, and the file may end behind the last.
        begins = self._beside_quotes[data[opening - 1]] | (opening == 0)
        ends = self._beside_quotes[data[(closing + 1) % len(data)]] | (closing + 1 == len(data))
        twice = opening[1:] == closing[:-1] + 1
        begins[1:] |= twice
        ends[:-1] |= twice
        if not (begins.all() and ends.all()):
            raise NotPlainError


def _end_of_rows(block: bytes) -> int:
    """Where the last complete row ends; 0 where none does."""
    if b'"' not in block:
        return block.rfind(b"\n") + 1
    data: _Bytes = np.frombuffer(block, np.uint8)
    ends = _outside(_where(data, _LINE_FEED), _where(data, _QUOTE))
    return int(ends[-1]) + 1 if len(ends) else 0


def _where(data: _Bytes, byte: int) -> _Positions:
    return np.flatnonzero(data == byte)


def _outside(positions: _Positions, quotes: _Positions) -> _Positions:
    """Those of the positions that are not between quotes."""
    if not len(quotes) or not len(positions):
        return positions
    outside: _Positions = positions[np.searchsorted(quotes, positions) % 2 == 0]
    return outside
