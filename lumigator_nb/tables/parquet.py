"""Parquet: typed already, so only the example and the ground truth are turned into text."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.columns import Raw, Wanted, free_name, refuse_nested
from lumigator_nb.tables.numeric import plain_text

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_SAVE_AGAIN = "write it again, for example with DataFrame.to_parquet, or fetch it again if it was cut off"


def read_parquet(path: Path, wanted: Wanted) -> Raw:
    """Read a Parquet file.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    try:
        with pq.ParquetFile(path) as file:
            columns = wanted.among(file.schema_arrow.names)
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DatasetError(f"{wanted.filename} is not a readable Parquet file: {reason}", _SAVE_AGAIN) from error
    fields = {
        name: _as_text(table[name], name, wanted.filename)
        if name in columns.values()
        else _metadata(table[name], name, wanted.filename)
        for name in table.column_names
    }
    fields, notes = _with_named_index(fields, columns)
    return Raw(pa.table(fields), columns, notes)


def _as_text(column: pa.ChunkedArray, name: str, filename: str) -> pa.ChunkedArray:
    column = _metadata(column, name, filename)
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_nested(kind):
        refuse_nested(max(pc.index(pc.is_valid(column), True).as_py(), 0) + 1, name, filename)
    if "binary" in str(kind):
        raise DatasetError(
            f"{filename}, column {name!r} holds bytes ({kind}), not text",
            f"decode it first: frame[{name!r}] = frame[{name!r}].str.decode('utf-8')",
        )
    return plain_text(column)


def _metadata(column: pa.ChunkedArray, name: str, filename: str) -> pa.ChunkedArray:
    """Return `column` with one type for all kinds of text, and categories written out."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        _refuse_broken_text(column, name, filename)
    return column


def _refuse_broken_text(column: pa.ChunkedArray, name: str, filename: str) -> None:
    row = 0
    for chunk in column.chunks:
        try:
            chunk.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DatasetError(
                f"{filename}, column {name!r}, rows {row + 1} to {row + len(chunk)}: not all text is UTF-8: {error}",
                "write the file again from text that is decoded correctly",
            ) from error
        row += len(chunk)


def _with_named_index(
    fields: dict[str, pa.ChunkedArray], columns: dict[str, str]
) -> tuple[dict[str, pa.ChunkedArray], tuple[str, ...]]:
    """Give the index that pandas writes without a name the name that it has in a CSV file, too."""
    named: dict[str, pa.ChunkedArray] = {}
    notes = []
    for name, column in fields.items():
        is_index = _PANDAS_INDEX.fullmatch(name) and name not in columns.values()
        kept = free_name("index", {*named}, list(fields)) if is_index else name
        notes += [f"column {name!r} renamed {kept!r}"] if is_index else []
        named[kept] = column
    return named, tuple(notes)
