"""Convert text to numbers if nothing is lost, and numbers to text. Columns arrive piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

# Python writes floats of 1e16 and more with an exponent; below this limit, none has one.
_PLAIN_FLOATS = 10**15
# Above it, Arrow may write an exponent where Python does not.
_ALIKE_BELOW = 1e9


class LosslessNumbers:
    """Decides whether a column of text can become int64 or float64 and be restored from it exactly.

    Empty cells are missing values. `007`, `1.10`, `+5` and `nan` would not be restored. A column of floats may omit the
    `.0` of whole numbers, but only consistently.
    """

    def __init__(self) -> None:
        self._filled = False
        self._integers = self._floats = True
        # Whether all floats are in Python's notation, and whether all are in that notation without a final `.0`.
        self._full = self._short = True

    def add(self, column: pa.ChunkedArray) -> None:
        """Add the next piece of the column."""
        present = column.filter(pc.not_equal(column, ""))
        if not len(present) or not (self._integers or self._floats):
            return
        self._filled = True
        integers = _cast(present, pa.int64())
        if integers is None or not pc.all(pc.equal(integers.cast(pa.string()), present)).as_py():
            self._integers = False
        if not self._floats:
            return
        largest = _PLAIN_FLOATS
        if self._integers:
            bounds = pc.min_max(integers)
            largest = max(abs(int(bounds["min"].as_py())), abs(int(bounds["max"].as_py())))
        if largest < _PLAIN_FLOATS:
            self._full = False  # "5" is the notation without the `.0`
        else:
            self._compare_notations(present)
        self._floats = self._floats and (self._full or self._short)

    @property
    def type(self) -> pa.DataType | None:
        """The type of the column, or None if it stays text."""
        if not self._filled:
            return None
        if self._integers:
            return pa.int64()
        return pa.float64() if self._floats else None

    def _compare_notations(self, present: pa.ChunkedArray) -> None:
        floats = _cast(present, pa.float64())
        if floats is None or not pc.all(pc.is_finite(floats)).as_py():
            self._floats = False
            return
        size = pc.abs(floats)
        alike = pc.and_(pc.less(size, _ALIKE_BELOW), pc.or_(pc.greater_equal(size, 1e-4), pc.equal(size, 0)))
        if pc.all(alike).as_py():
            # In this range, Arrow writes floats as Python does, except for the final `.0`.
            short = floats.cast(pa.string())
            whole = pc.equal(floats, pc.round(floats))
            full = pc.if_else(whole, pc.binary_join_element_wise(short, ".0", ""), short)
            self._full = self._full and pc.all(pc.equal(present, full)).as_py()
            self._short = self._short and pc.all(pc.equal(present, short)).as_py()
            return
        for text, value in zip(present.to_pylist(), floats.to_pylist(), strict=True):
            written = repr(value)
            self._full &= text == written
            self._short &= text == written.removesuffix(".0")
            if not (self._full or self._short):
                return


class JsonNumbers:
    """Decides whether JSON's number literals become int64 or float64. With integers beyond 64 bits they stay text."""

    def __init__(self) -> None:
        self._integers = self._floats = True
        # Without a fraction, numbers that do not fit into int64 are ids, which float64 would round.
        self._fraction = False

    def add(self, column: pa.ChunkedArray) -> None:
        """Add the next piece of a column of text."""
        self._integers = self._integers and _cast(column, pa.int64()) is not None
        self._floats = self._floats and _cast(column, pa.float64()) is not None
        self._fraction = self._fraction or bool(pc.any(pc.match_substring_regex(column, "[.eEN]|Inf")).as_py())

    @property
    def type(self) -> pa.DataType | None:
        """The type of the column, or None if it stays text."""
        if self._integers:
            return pa.int64()
        return pa.float64() if self._floats and self._fraction else None


class WholeNumbers:
    """Detects whole numbers that pandas stores as floats only because some are missing."""

    def __init__(self) -> None:
        self._missing, self._whole = False, True

    def add(self, column: pa.ChunkedArray) -> None:
        """Add the next piece of a column of floats."""
        filled = column.filter(pc.invert(pc.is_null(column, nan_is_null=True)))
        self._missing = self._missing or len(filled) < len(column)
        whole = pc.and_(pc.is_finite(filled), pc.equal(filled, pc.round(filled)))
        self._whole = self._whole and pc.all(whole).as_py() is not False

    @property
    def shorten(self) -> bool:
        """Whether to write the numbers without `.0`."""
        return self._missing and self._whole


def with_types(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Convert columns of a table of text to numbers or truth values. Their empty cells become null."""
    if not types:
        return table
    columns = (
        empty_as_null(table[name]).cast(types[name]) if name in types else table[name] for name in table.column_names
    )
    return pa.table(list(columns), names=table.column_names)


def empty_as_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text with null in place of empty cells."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def plain_text(column: pa.ChunkedArray, *, shorten: bool = False) -> pa.ChunkedArray:
    """Return a column of scalars as text, as `str` writes them. NaN becomes null.

    Args:
        shorten: write whole floats without `.0`.
    """
    if not pa.types.is_floating(column.type):
        return _text_chunks(
            [str(value) if value is not None else None for value in chunk.to_pylist()] for chunk in column.chunks
        )
    if shorten:
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        return _text_chunks(
            [str(int(value)) if value is not None else None for value in chunk.to_pylist()] for chunk in column.chunks
        )
    # Through NumPy, whose scalars keep their width: the float32 0.1 is written as 0.1, not as 0.10000000149011612.
    return _text_chunks(
        [None if math.isnan(value) else str(value) for value in chunk.to_numpy(zero_copy_only=False)]
        for chunk in column.chunks
    )


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None


def _text_chunks(chunks: Iterable[list[str | None]]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())
