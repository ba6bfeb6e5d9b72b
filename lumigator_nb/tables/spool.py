"""Temporary tables on disk, between the first and the second pass over a file, so that memory use is bounded."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from lumigator_nb.errors import StoreUnavailableError


class Spool:
    """Tables in a folder, returned in the order in which they were added.

    Tables may have different columns; absent columns are read as nulls.

    Args:
        folder: a folder that is empty or does not exist; the caller removes it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._schemas: list[pa.Schema] = []
        # Open only while tables with the same schema are added.
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Append a table."""
        # Arrow streams have a single schema, so a table with other columns begins another file.
        if not self._schemas or table.schema != self._schemas[-1]:
            self.close()
            self._schemas.append(table.schema)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._part(len(self._schemas) - 1), table.schema, options=options)
        assert self._writer is not None
        self._writer.write_table(table)

    def clear(self) -> None:
        """Drop all tables."""
        self.close()
        self._schemas = []

    def close(self) -> None:
        """Finish writing. Required before :meth:`tables`."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def tables(self) -> Iterator[pa.Table]:
        """Yield the tables, each with all columns that any of them has."""
        names = list(dict.fromkeys(name for schema in self._schemas for name in schema.names))
        for number in range(len(self._schemas)):
            with pa.OSFile(self._part(number)) as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    table = pa.Table.from_batches([batch])
                    present = set(table.column_names)
                    columns = [table[name] if name in present else pa.nulls(len(table), pa.string()) for name in names]
                    yield pa.table(columns, names=names)

    def _part(self, number: int) -> str:
        return str(self._folder / f"{number}.arrow")


def grouped(tables: Iterator[pa.Table], rows: int, size: int) -> Iterator[pa.Table]:
    """Split and join tables so that each has `rows` rows, or fewer if it reaches `size` bytes before."""
    waiting: list[pa.Table] = []
    n_rows = n_bytes = 0
    for table in tables:
        while n_rows + len(table) >= rows:
            yield pa.concat_tables([*waiting, table.slice(0, rows - n_rows)])
            table = table.slice(rows - n_rows)
            waiting, n_rows, n_bytes = [], 0, 0
        waiting.append(table)
        n_rows, n_bytes = n_rows + len(table), n_bytes + table.nbytes
        if n_rows and n_bytes >= size:
            yield pa.concat_tables(waiting)
            waiting, n_rows, n_bytes = [], 0, 0
    if n_rows:
        yield pa.concat_tables(waiting)


def is_full(error: OSError) -> bool:
    """Return whether an error means that a disk, a quota or a limit of the process is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def enough_room(folder: Path) -> Iterator[None]:
    """Explain errors of a full disk for temporary files.

    Raises:
        StoreUnavailableError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise StoreUnavailableError(
            f"there is no room for temporary files in {folder.parent}: {error.strerror or error}",
            "free some space there, or set TMPDIR to a folder with more; an upload needs up to three times its size",
        ) from error
