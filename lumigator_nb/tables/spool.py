"""Tables put aside on disk between the first look at a file and the second, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa


class Spool:
    """Tables in a folder, given back in the order in which they came.

    A table may have other columns than those before it: what is missing is null in the others.

    Args:
        folder: an empty or missing one of its own; whoever made it removes it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._schemas: list[pa.Schema] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Put a table aside."""
        if not self._schemas or table.schema != self._schemas[-1]:
            self.close()
            self._schemas.append(table.schema)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._part(len(self._schemas) - 1), table.schema, options=options)
        assert self._writer is not None
        self._writer.write_table(table)

    def close(self) -> None:
        """All tables are there."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def tables(self) -> Iterator[pa.Table]:
        """Yield the tables, each with all columns that any of them has."""
        names = list(dict.fromkeys(name for schema in self._schemas for name in schema.names))
        for number in range(len(self._schemas)):
            with pa.OSFile(self._part(number)) as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    yield _with_all(pa.Table.from_batches([batch]), names)

    def _part(self, number: int) -> str:
        return str(self._folder / f"{number}.arrow")


def _with_all(table: pa.Table, names: list[str]) -> pa.Table:
    if table.column_names == names:
        return table
    present = set(table.column_names)
    columns = [table[name] if name in present else pa.nulls(len(table), pa.string()) for name in names]
    return pa.table(columns, names=names)
