"""Convert a DataFrame to the bytes of a Parquet file."""

from __future__ import annotations

import io
import re
from numbers import Number

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.columns import refuse_duplicates

_WHAT = "the DataFrame"
# Python strings may contain surrogates alone, which are half a character and have no UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")


def frame_to_bytes(frame: pd.DataFrame) -> bytes:
    """Return a DataFrame as Parquet. Equal content gives equal bytes.

    Named index levels become columns, others are omitted. A column that mixes text and numbers becomes text.

    Raises:
        DatasetError: column names occur twice or have several levels, or a column's values have no type in Parquet.
    """
    if frame.columns.nlevels > 1:
        raise DatasetError(
            f"{_WHAT} has column names with {frame.columns.nlevels} levels",
            "join them: frame.columns = ['_'.join(map(str, name)) for name in frame.columns]",
        )
    levels = [level for level, name in enumerate(frame.index.names) if name is not None]
    index = [(str(frame.index.names[level]), frame.index.get_level_values(level).to_series()) for level in levels]
    fields = [*index, *((str(name), frame.iloc[:, position]) for position, name in enumerate(frame.columns))]
    names = [name for name, _ in fields]
    refuse_duplicates(names, _WHAT)
    table = pa.table([_to_arrow(column, name) for name, column in fields], names=names)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _to_arrow(column: pd.Series, name: str) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(column, from_pandas=True)
    except UnicodeEncodeError as error:
        row = next(row for row, value in enumerate(column, start=1) if _SURROGATE.search(str(value)))
        raise DatasetError(
            f"{_WHAT}, row {row}, column {name!r} contains half a character: {error.reason}",
            "clean it: frame[c] = frame[c].str.encode('utf-8', 'replace').str.decode('utf-8')",
        ) from None
    except (pa.ArrowException, TypeError, OverflowError) as error:
        if column.dropna().map(lambda value: isinstance(value, (str, Number))).all():
            return pa.array(column.map(str, na_action="ignore"), pa.string(), from_pandas=True)
        raise DatasetError(
            f"{_WHAT}, column {name!r} has values without a common type: {error}",
            f"turn them into text: frame[{name!r}] = frame[{name!r}].astype(str)",
        ) from error
