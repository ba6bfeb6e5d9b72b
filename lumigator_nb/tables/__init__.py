"""Examples from a file: read without loss, or refused with the row and column that break a rule.

Everything that CSV holds is text, and stays the text that was written: `007`, `NA` and `1.10` are not touched. A file
is looked at twice, a few rows at a time: once to find its types, and once to write it down in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb.tables.columns import Assembly, Raw, Wanted
from lumigator_nb.tables.delimited import read_delimited
from lumigator_nb.tables.formats import Format, detect
from lumigator_nb.tables.frames import frame_to_bytes
from lumigator_nb.tables.jsonl import read_jsonl
from lumigator_nb.tables.parquet import read_parquet
from lumigator_nb.tables.profiles import Profile, profile
from lumigator_nb.tables.spool import Spool
from lumigator_nb.tables.text import Report

__all__ = ["Converted", "Examples", "Report", "convert", "frame_to_bytes", "profile", "read_examples"]

ROW_GROUP_SIZE = 8192
# So that a row group of long texts stays small in memory.
_ROW_GROUP_BYTES = 64 << 20
_READERS = {Format.DELIMITED: read_delimited, Format.JSONL: read_jsonl, Format.PARQUET: read_parquet}


@dataclass(frozen=True)
class Examples:
    """Examples as read from one file.

    Attributes:
        table: `example` (string, no nulls: an empty cell is ""), `ground_truth` (string, null where missing; only
            where there is such a column), then all other columns of the file under their own names.
        columns: which column of the file became "example", and which "ground_truth" ("ground_truth_2", …).
        notes: what the reader decided by itself, in words.
    """

    table: pa.Table
    columns: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Converted:
    """What :func:`convert` found; `columns` and `notes` as of :class:`Examples`, `profile` as of :class:`Profile`."""

    n_examples: int
    columns: dict[str, str]
    notes: tuple[str, ...]
    profile: dict[str, Any]


def read_examples(
    path: Path, *, filename: str, example: str | None = None, ground_truth: str | Sequence[str] | None = None
) -> Examples:
    """Read CSV (comma, semicolon, tab or pipe), JSON Lines or Parquet into memory.

    Args:
        path: a local file.
        filename: how the user calls it; its ending decides the format, its content where the ending is unknown.
        example: the column with the inputs; default the one named "example" or "examples", in any case.
        ground_truth: the column with the references, or several where an example has more than one; default those
            named "ground_truth", "ground_truth_2" and so on, if any.

    Raises:
        DatasetError: the file breaks a rule; the message names file, row and column.
        MissingFieldsError: the file lacks a column that was asked for.
    """
    with _opened(path, filename, example, ground_truth, lambda done: None) as raw:
        assembly = Assembly(raw, filename)
        table = pa.concat_tables(assembly.tables())
        return Examples(table, raw.columns, (*raw.notes, *assembly.notes))


def convert(
    path: Path,
    target: Path,
    *,
    filename: str,
    example: str | None = None,
    ground_truth: str | Sequence[str] | None = None,
    report: Report = lambda done: None,
) -> Converted:
    """Write the examples of a file as Parquet; memory does not grow with the file.

    Args:
        path, filename, example, ground_truth: as of :func:`read_examples`.
        target: the file to write, with checksums of its pages; where an error is raised it is not to be used.
        report: told how many bytes of `path` have been worked on.

    Raises:
        DatasetError, MissingFieldsError: as :func:`read_examples`.
    """
    found = Profile()
    # Reading a file takes about as long as writing it.
    with _opened(path, filename, example, ground_truth, lambda done: report(done // 2)) as raw:
        assembly = Assembly(raw, filename)
        half, size = path.stat().st_size // 2, path.stat().st_size
        report(half)
        writer: pq.ParquetWriter | None = None
        try:
            for table in _grouped(assembly.tables()):
                writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd", write_page_checksum=True)
                writer.write_table(table, row_group_size=ROW_GROUP_SIZE)
                found.add(table)
        finally:
            if writer is not None:
                writer.close()
        report(size)
    values = found.values()
    return Converted(values["n_examples"], raw.columns, (*raw.notes, *assembly.notes), values)


@contextmanager
def _opened(
    path: Path, filename: str, example: str | None, ground_truth: str | Sequence[str] | None, report: Report
) -> Iterator[Raw]:
    read = _READERS[detect(path, filename)]
    truths = [ground_truth] if isinstance(ground_truth, str) else list(ground_truth or ())
    wanted = Wanted(filename, example, truths[0] if truths else None, tuple(truths[1:]))
    with TemporaryDirectory(prefix="lumigator-spool-") as folder:
        yield read(path, wanted, Spool(Path(folder)), report)


def _grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join tables to row groups."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROW_GROUP_SIZE or sum(each.nbytes for each in waiting) >= _ROW_GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
