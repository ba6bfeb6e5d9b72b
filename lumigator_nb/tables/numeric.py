"""Text into numbers where nothing is lost, and numbers into text; columns come piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

# Whole floats below it are written without an exponent.
_PLAIN_FLOATS = 10**15
# From here on Arrow may write an exponent where Python does not.
_ALIKE_BELOW = 1e9


class LosslessNumbers:
    """Whether a column of text can be int64 or float64 and be written again from them.

    Empty cells are missing. `007`, `1.10`, `+5` and `nan` are not lossless; a column of floats may leave out the `.0`
    of whole numbers if it does so throughout.
    """

    def __init__(self) -> None:
        self._filled = False
        self._integers = self._floats = True
        # Python's notation of a float, and that without a final `.0`.
        self._full = self._short = True

    def add(self, column: pa.ChunkedArray) -> None:
        """Look at the next piece of the column."""
        present = column.filter(pc.not_equal(column, ""))
        if not len(present) or not (self._integers or self._floats):
            return
        self._filled = True
        integers = _cast(present, pa.int64())
        if integers is None or not pc.all(pc.equal(integers.cast(pa.string()), present)).as_py():
            self._integers = False
        if self._floats:
            self._look_at_floats(present, integers if self._integers else None)

    @property
    def type(self) -> pa.DataType | None:
        """The type of the column; None where it stays text."""
        if not self._filled:
            return None
        if self._integers:
            return pa.int64()
        return pa.float64() if self._floats else None

    def _look_at_floats(self, present: pa.ChunkedArray, integers: pa.ChunkedArray | None) -> None:
        if integers is not None and _largest(integers) < _PLAIN_FLOATS:
            self._full = False  # "5" is the notation without the `.0`
        else:
            self._compare_notations(present)
        self._floats = self._floats and (self._full or self._short)

    def _compare_notations(self, present: pa.ChunkedArray) -> None:
        floats = _cast(present, pa.float64())
        if floats is None or not pc.all(pc.is_finite(floats)).as_py():
            self._floats = False
            return
        size = pc.abs(floats)
        alike = pc.and_(pc.less(size, _ALIKE_BELOW), pc.or_(pc.greater_equal(size, 1e-4), pc.equal(size, 0)))
        if pc.all(alike).as_py():
            # Here Arrow writes a float as Python does, but for the final `.0`.
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
    """Whether JSON's number literals are int64 or float64; they stay text where integers are beyond 64 bits."""

    def __init__(self) -> None:
        self._integers = self._floats = True
        self._fraction = False

    def add(self, column: pa.ChunkedArray) -> None:
        """Look at the next piece of a column of text."""
        self._integers = self._integers and _cast(column, pa.int64()) is not None
        self._floats = self._floats and _cast(column, pa.float64()) is not None
        self._fraction = self._fraction or bool(pc.any(pc.match_substring_regex(column, "[.eEN]|Inf")).as_py())

    @property
    def type(self) -> pa.DataType | None:
        """The type of the column; None where it stays text."""
        if self._integers:
            return pa.int64()
        return pa.float64() if self._floats and self._fraction else None


class WholeNumbers:
    """Whether floats are whole numbers that pandas holds as floats only because some are missing."""

    def __init__(self) -> None:
        self._missing, self._whole = False, True

    def add(self, column: pa.ChunkedArray) -> None:
        """Look at the next piece of a column of floats."""
        filled = column.filter(pc.invert(pc.is_null(column, nan_is_null=True)))
        self._missing = self._missing or len(filled) < len(column)
        whole = pc.and_(pc.is_finite(filled), pc.equal(filled, pc.round(filled)))
        self._whole = self._whole and pc.all(whole).as_py() is not False

    @property
    def shorten(self) -> bool:
        """Whether they lose the `.0` again."""
        return self._missing and self._whole


def with_types(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Return a table of text with some columns as numbers or truth values; their empty cells become null."""
    if not types:
        return table
    columns = (
        empty_as_null(table[name]).cast(types[name]) if name in types else table[name] for name in table.column_names
    )
    return pa.table(list(columns), names=table.column_names)


def empty_as_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text with null for each empty cell."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def plain_text(column: pa.ChunkedArray, *, shorten: bool = False) -> pa.ChunkedArray:
    """Return scalars as their `str`; NaN is null.

    Args:
        shorten: write whole floats without their `.0`.
    """
    if not pa.types.is_floating(column.type):
        return _text_chunks(
            [str(value) if value is not None else None for value in chunk.to_pylist()] for chunk in column.chunks
        )
    if shorten:
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        return _text_chunks(
            [str(int(v)) if v is not None else None for v in chunk.to_pylist()] for chunk in column.chunks
        )
    # NumPy's scalars know their width: a float32 0.1 is written as 0.1, not as the nearest double.
    return _text_chunks(
        [None if math.isnan(value) else str(value) for value in chunk.to_numpy(zero_copy_only=False)]
        for chunk in column.chunks
    )


def _largest(integers: pa.ChunkedArray) -> int:
    found = pc.min_max(integers)
    return max(abs(int(found["min"].as_py())), abs(int(found["max"].as_py())))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None


def _text_chunks(chunks: Iterable[list[str | None]]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())
