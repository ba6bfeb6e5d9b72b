"""Read examples from files of several formats, without loss, or raise an error that names the row and column.

Values keep the form in which they are written: `007`, `NA` and `1.10` are not changed. A file is read twice, a few rows
at a time: first to find the columns' types, then to write the examples with these types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb.errors import DatasetError, InvalidInputError
from lumigator_nb.storage import layout
from lumigator_nb.tables.archives import unpack_gzip, unpack_zip
from lumigator_nb.tables.columns import Assembly, Raw, Wanted
from lumigator_nb.tables.delimited import read_delimited
from lumigator_nb.tables.excel import read_excel
from lumigator_nb.tables.formats import Format, detect
from lumigator_nb.tables.frames import frame_to_bytes
from lumigator_nb.tables.hub import is_hub_dataset, is_hub_id, save_hub_dataset, save_hub_id
from lumigator_nb.tables.jsonl import read_json_array, read_jsonl
from lumigator_nb.tables.look import Look, look
from lumigator_nb.tables.parquet import read_parquet
from lumigator_nb.tables.personal import PersonalData
from lumigator_nb.tables.profiles import Profile, profile
from lumigator_nb.tables.spool import Spool, enough_room, grouped, is_full
from lumigator_nb.tables.text import Report

__all__ = [
    "Converted",
    "Examples",
    "Look",
    "Report",
    "ShortRows",
    "convert",
    "enough_room",
    "frame_to_bytes",
    "is_full",
    "is_hub_dataset",
    "is_hub_id",
    "look",
    "profile",
    "read_examples",
    "save_hub_dataset",
    "save_hub_id",
]

ShortRows = Literal["refuse", "fill"]
ROW_GROUP_SIZE = 8192
# Readers hold a whole row group in memory, so a group of long texts gets fewer rows.
_ROW_GROUP_BYTES = 64 << 20
_READERS = {
    Format.DELIMITED: read_delimited,
    Format.JSONL: read_jsonl,
    Format.JSON_ARRAY: read_json_array,
    Format.PARQUET: read_parquet,
}
_UNPACKERS = {Format.GZIP: unpack_gzip, Format.ZIP: unpack_zip}


@dataclass(frozen=True)
class Examples:
    """Examples read from one file.

    Attributes:
        table: `example` (string, no nulls: an empty cell is ""), `ground_truth` (string, null where missing; absent if
            the file has no such column), then all other columns of the file under their own names.
        columns: the file's columns that became "example" and "ground_truth" ("ground_truth_2", …), under these names.
        notes: the reader's automatic decisions, as messages for the user.
    """

    table: pa.Table
    columns: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Converted:
    """The result of :func:`convert`: `columns` and `notes` as in :class:`Examples`, `profile` from :class:`Profile`."""

    n_examples: int
    columns: dict[str, str]
    notes: tuple[str, ...]
    profile: dict[str, Any]


def read_examples(
    path: Path,
    *,
    filename: str,
    example: str | None = None,
    ground_truth: str | Sequence[str] | None = None,
    sheet: str | None = None,
    short_rows: ShortRows = "refuse",
) -> Examples:
    """Read a file into memory.

    Formats: CSV (comma, semicolon, tab or pipe), JSON Lines, a JSON array of objects, Parquet, Excel workbooks, and any
    of these compressed with gzip or as the only file in a zip archive.

    Args:
        path: a local file.
        filename: the user's name of the file. Its extension decides the format; if it is unknown, the content does.
        example: the column with the inputs; by default the one named "example" or "examples", in any case.
        ground_truth: the column with the references, or several columns if examples have several references; by default
            the columns named "ground_truth", "ground_truth_2" and so on, if any.
        sheet: the sheet of an Excel workbook; by default the first.
        short_rows: how to treat a row of delimited text with fewer cells than the header: "refuse" it with an error, or
            "fill" it with empty cells and add a note. Rows with more cells are always refused.

    Raises:
        DatasetError: the file breaks a rule; the message names file, row and column.
        MissingFieldsError: the file lacks a requested column.
        MissingExtraError: the file is an Excel workbook, and openpyxl is not installed.
        StoreUnavailableError: the folder for temporary files is full.
    """
    with opened(path, _wanted(filename, example, ground_truth, short_rows), sheet, lambda done: None) as raw:
        assembly = Assembly(raw, raw.filename)
        table = pa.concat_tables(assembly.tables())
        return Examples(table, raw.columns, (*raw.notes, *assembly.notes))


def convert(
    path: Path,
    target: Path,
    *,
    filename: str,
    example: str | None = None,
    ground_truth: str | Sequence[str] | None = None,
    sheet: str | None = None,
    short_rows: ShortRows = "refuse",
    report: Report = lambda done: None,
) -> Converted:
    """Write the examples of a file as Parquet. Memory use is bounded, apart from 8 bytes per example.

    Args:
        path, filename, example, ground_truth, sheet, short_rows: as in :func:`read_examples`.
        target: the file to write, with page checksums. It is incomplete if an error is raised.
        report: called with the number of bytes of `path` that have been processed.

    Raises:
        DatasetError, MissingFieldsError, MissingExtraError, StoreUnavailableError: as in :func:`read_examples`.
    """
    profiler, personal = Profile(), PersonalData()
    size = path.stat().st_size
    writer: pq.ParquetWriter | None = None
    wanted = _wanted(filename, example, ground_truth, short_rows)
    # Reading takes about as long as writing, so each is half of the progress.
    with opened(path, wanted, sheet, lambda done: report(done // 2)) as raw:
        assembly = Assembly(raw, raw.filename)
        report(size // 2)
        try:
            for table in grouped(assembly.tables(), ROW_GROUP_SIZE, _ROW_GROUP_BYTES):
                writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd", write_page_checksum=True)
                writer.write_table(table, row_group_size=ROW_GROUP_SIZE)
                profiler.add(table)
                personal.add(table)
        finally:
            if writer is not None:
                writer.close()
        report(size)
    values = profiler.values()
    notes = [*raw.notes, *assembly.notes]
    if duplicates := values["n_duplicate_examples"]:
        notes.append(f"{_examples(duplicates)} the same text as an earlier one")
    if empty := values["n_empty_examples"]:
        notes.append(f"{_examples(empty)} no text")
    return Converted(values["n_examples"], raw.columns, (*notes, *personal.notes), values)


def _wanted(
    filename: str, example: str | None, ground_truth: str | Sequence[str] | None, short_rows: ShortRows
) -> Wanted:
    if short_rows not in ("refuse", "fill"):
        raise InvalidInputError(f"short_rows cannot be {short_rows!r}", "use 'refuse' or 'fill'")
    truths = [ground_truth] if isinstance(ground_truth, str) else list(ground_truth or ())
    return Wanted(filename, example, truths[0] if truths else None, tuple(truths[1:]), short_rows == "fill")


@contextmanager
def opened(path: Path, wanted: Wanted, sheet: str | None, report: Report) -> Iterator[Raw]:
    """Open a file with the reader of its format. Its rows can be read within the block, from temporary files."""
    with TemporaryDirectory(prefix=layout.temporary("spool")) as temporary, enough_room(Path(temporary)):
        spool = Spool(Path(temporary) / "spool")
        kind = detect(path, wanted.filename)
        notes: tuple[str, ...] = ()
        reader_report = report
        if kind in _UNPACKERS:
            archive, path = path, Path(temporary) / "unpacked"
            name = _UNPACKERS[kind](archive, wanted.filename, path)
            wanted = replace(wanted, filename=name)
            notes = (f"unpacked {name!r} from a {kind} archive",)
            packed, size = archive.stat().st_size, max(path.stat().st_size, 1)

            def progress(done: int) -> None:
                # The caller knows only the archive's size.
                report(done * packed // size)

            reader_report = progress
            kind = detect(path, wanted.filename)
        if kind in _UNPACKERS:
            raise DatasetError(
                f"{wanted.filename} is an archive inside an archive", "unpack it, and upload the file inside"
            )
        if kind is Format.EXCEL:
            raw = read_excel(path, wanted, spool, reader_report, sheet)
        elif sheet is not None:
            raise DatasetError(f"{wanted.filename} has no sheets", "sheet= is for Excel workbooks only: omit it")
        else:
            raw = _READERS[kind](path, wanted, spool, reader_report)
        yield replace(raw, filename=wanted.filename, notes=(*notes, *raw.notes))


def _examples(count: int) -> str:
    return "1 example has" if count == 1 else f"{count:,} examples have"
