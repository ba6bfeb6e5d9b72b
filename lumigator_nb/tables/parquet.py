"""Parquet files. Their columns have types already, so only the example and the ground truth are converted to text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.columns import Raw, Wanted, free_name, refuse_nested
from lumigator_nb.tables.numeric import WholeNumbers, plain_text
from lumigator_nb.tables.spool import Spool
from lumigator_nb.tables.text import BATCH_CHARACTERS, BATCH_ROWS, Report

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_SAVE_AGAIN = "write it again, for example with DataFrame.to_parquet, or download it again if it is incomplete"


def read_parquet(path: Path, wanted: Wanted, spool: Spool, report: Report) -> Raw:
    """Read a Parquet file.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    with _explained(wanted.filename), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        columns = wanted.among(schema.names)
        floats = {name: WholeNumbers() for name in columns.values() if pa.types.is_floating(schema.field(name).type)}
        # A separate pass: whether to write `.0` depends on all rows.
        for table in _row_groups(file, list(floats)) if floats else ():
            for name, numbers in floats.items():
                numbers.add(table[name])
    names, notes = _with_named_index(schema.names, columns)
    shorten = {name for name, numbers in floats.items() if numbers.shorten}
    size = path.stat().st_size

    def tables() -> Iterator[pa.Table]:
        row = 0
        with _explained(wanted.filename), pq.ParquetFile(path) as file:
            total = max(file.metadata.num_rows, 1)
            for table in _row_groups(file):
                converted = [
                    _column(table[name], name, columns, shorten, wanted.filename, row) for name in schema.names
                ]
                row += len(table)
                report(size * row // total)
                yield pa.table(converted, names=names)

    return Raw(names, columns, notes, tables)


@contextmanager
def _explained(filename: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DatasetError(f"{filename} is not a readable Parquet file: {reason}", _SAVE_AGAIN) from error


def _row_groups(file: pq.ParquetFile, names: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield tables of bounded size. A row group can be as large as the file."""
    size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
    long_rows = BATCH_CHARACTERS * max(file.metadata.num_rows, 1) // max(size, 1)
    for batch in file.iter_batches(max(1, min(BATCH_ROWS, long_rows)), columns=names):
        yield pa.Table.from_batches([batch])


def _column(
    column: pa.ChunkedArray, name: str, columns: dict[str, str], shorten: set[str], filename: str, row: int
) -> pa.ChunkedArray:
    """Return `column` with one type for all kinds of text; the example and the ground truth as text.

    Args:
        row: the number of rows before this piece.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        _refuse_invalid_text(column, name, filename, row)
    if name not in columns.values() or pa.types.is_string(column.type):
        return column
    if pa.types.is_nested(column.type):
        refuse_nested(row + max(pc.index(pc.is_valid(column), True).as_py(), 0) + 1, name, filename)
    if "binary" in str(column.type):
        raise DatasetError(
            f"{filename}, column {name!r} contains bytes ({column.type}), not text",
            f"decode it first: frame[{name!r}] = frame[{name!r}].str.decode('utf-8')",
        )
    return plain_text(column, shorten=name in shorten)


def _refuse_invalid_text(column: pa.ChunkedArray, name: str, filename: str, row: int) -> None:
    # Arrow does not check text when it reads Parquet; invalid bytes would fail much later, in another module.
    for chunk in column.chunks:
        try:
            chunk.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DatasetError(
                f"{filename}, column {name!r}, rows {row + 1} to {row + len(chunk)}: some text is not UTF-8: {error}",
                "write the file again from correctly decoded text",
            ) from error
        row += len(chunk)


def _with_named_index(names: Sequence[str], columns: dict[str, str]) -> tuple[list[str], tuple[str, ...]]:
    """Rename the unnamed index of a pandas frame to "index", as in CSV files."""
    new_names: list[str] = []
    notes = []
    for name in names:
        if _PANDAS_INDEX.fullmatch(name) and name not in columns.values():
            new_name = free_name("index", set(new_names), names)
            notes.append(f"column {name!r} renamed {new_name!r}")
        else:
            new_name = name
        new_names.append(new_name)
    return new_names, tuple(notes)
