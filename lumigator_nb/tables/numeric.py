"""Text into numbers where nothing is lost, and numbers into text."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc


def numbers_if_lossless(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text as int64 or float64 where the text can be written again from them; else unchanged.

    Empty cells become null. `007`, `1.10`, `+5` and `nan` are not lossless; a column of floats may leave out the
    `.0` of whole numbers if it does so throughout.
    """
    present = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    if present.null_count == len(present):
        return column
    integers = _cast(present, pa.int64())
    if integers is not None and pc.all(pc.equal(integers.cast(pa.string()), present)).as_py():
        return integers
    floats = _cast(present, pa.float64())
    return floats if floats is not None and _written_alike(present) else column


def json_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of JSON's number literals as int64 or float64; unchanged where integers are beyond 64 bits."""
    integers = _cast(column, pa.int64())
    if integers is not None:
        return integers
    floats = _cast(column, pa.float64())
    has_fraction = pc.any(pc.match_substring_regex(column, "[.eEN]|Inf")).as_py()
    return floats if floats is not None and has_fraction else column


def plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return scalars as their `str`; NaN is null.

    Whole numbers that pandas holds as floats, only because some are missing, lose the `.0` again.
    """
    if not pa.types.is_floating(column.type):
        return _text_chunks(
            [str(value) if value is not None else None for value in chunk.to_pylist()] for chunk in column.chunks
        )
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if column.null_count and pc.all(pc.equal(column, pc.round(column))).as_py():
        return _text_chunks(
            [str(int(v)) if v is not None else None for v in chunk.to_pylist()] for chunk in column.chunks
        )
    # NumPy's scalars know their width: a float32 0.1 is written as 0.1, not as the nearest double.
    return _text_chunks(
        [None if math.isnan(value) else str(value) for value in chunk.to_numpy(zero_copy_only=False)]
        for chunk in column.chunks
    )


def _written_alike(column: pa.ChunkedArray) -> bool:
    """Whether all texts are Python's notation of their floats, or all are that without a final `.0`."""
    full = short = True
    for chunk in column.chunks:
        for text, value in zip(chunk.to_pylist(), chunk.cast(pa.float64()).to_pylist(), strict=True):
            if value is not None:
                written = repr(value)
                full &= text == written
                short &= text == written.removesuffix(".0")
                if not (full or short) or not math.isfinite(value):
                    return False
    return True


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None


def _text_chunks(chunks: Iterable[list[str | None]]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())
