"""Read plain CSV with Arrow, which is many times faster than the csv module.

Arrow accepts malformed files, for example text after a closing quote. So each block of a file is checked first. At
anything that Arrow and the strict csv module might read differently, reading starts again with the csv module, which
also reports what is wrong and where.
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
# Longer rows are left to the csv module: they are rare, and here each is scanned again for every block.
_MAX_BLOCK_BYTES = 64 << 20
_LINE_FEED, _RETURN, _QUOTE = 10, 13, 34


class NotPlainError(Exception):
    """The csv module has to read this file."""


class PlainRows:
    """The rows of a UTF-8 file as text, as :class:`csv.reader` with `strict` returns them.

    Args:
        file: positioned at the first row.
        names: names of the columns.
        delimiter: a single ASCII character.

    Attributes:
        n_blank: number of empty lines skipped so far.
    """

    def __init__(self, file: IO[bytes], names: list[str], delimiter: str) -> None:
        self._file, self._names, self._delimiter = file, names, delimiter
        self._beside_quotes = np.zeros(256, bool)
        self._beside_quotes[[ord(delimiter), _LINE_FEED, _RETURN]] = True
        self.n_blank = 0

    def tables(self, report: Report) -> Iterator[pa.Table]:
        """Yield the rows in order, a few thousand at a time.

        Raises:
            NotPlainError: the csv module might read the file differently.
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
        n_rows = self._count_rows(block)
        if not n_rows:
            return
        names = self._names
        # As a single block without threads, since the checks above are for this block. `strings_can_be_null` is off, so
        # that NA and empty cells stay text.
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
                pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
            )
        except (pa.ArrowException, OSError):  # not UTF-8, or too many or too few cells
            raise NotPlainError from None
        # The last check: whatever else differs would most likely change the number of rows.
        if len(table) != n_rows:
            raise NotPlainError
        yield table

    def _count_rows(self, block: bytes) -> int:
        """Check a block of complete rows, add its blank lines to `n_blank`, and return its number of rows."""
        # Arrow removes a byte-order mark at the beginning of every block.
        if b"\0" in block or block.startswith(UTF8_BOM):
            raise NotPlainError
        data: _Bytes = np.frombuffer(block, np.uint8)
        quotes = _where(data, _QUOTE)
        self._check_quotes(data, quotes)
        # Outside quotes, a carriage return must be part of a CRLF.
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
        """Check that each quoted cell is quoted from its beginning to its end, with quotes inside it doubled."""
        if len(quotes) % 2:
            raise NotPlainError
        if not len(quotes):
            return
        opening, closing = quotes[::2], quotes[1::2]
        # A block begins with a row, and may end with the file. The modulo only avoids an index error there.
        begins = self._beside_quotes[data[opening - 1]] | (opening == 0)
        ends = self._beside_quotes[data[(closing + 1) % len(data)]] | (closing + 1 == len(data))
        # A doubled quote looks like the end of one quoted part and the beginning of the next.
        doubled = opening[1:] == closing[:-1] + 1
        begins[1:] |= doubled
        ends[:-1] |= doubled
        if not (begins.all() and ends.all()):
            raise NotPlainError


def _end_of_rows(block: bytes) -> int:
    """Return the end of the last complete row; 0 if there is none."""
    if b'"' not in block:
        return block.rfind(b"\n") + 1
    data: _Bytes = np.frombuffer(block, np.uint8)
    ends = _outside(_where(data, _LINE_FEED), _where(data, _QUOTE))
    return int(ends[-1]) + 1 if len(ends) else 0


def _where(data: _Bytes, byte: int) -> _Positions:
    return np.flatnonzero(data == byte)


def _outside(positions: _Positions, quotes: _Positions) -> _Positions:
    """Return the positions that are not between quotes."""
    if not len(quotes) or not len(positions):
        return positions
    # An even number of quotes before a position means that each opened quote was closed.
    outside: _Positions = positions[np.searchsorted(quotes, positions) % 2 == 0]
    return outside
