"""Examples from a file: read without loss, or refused with the row and column that break a rule.

Everything that CSV holds is text, and stays the text that was written: `007`, `NA` and `1.10` are not touched. A file
is looked at twice, a few rows at a time: once to find its types, and once to write it down in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
# So that a row group of long texts stays small in memory.
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
    path: Path,
    *,
    filename: str,
    example: str | None = None,
    ground_truth: str | Sequence[str] | None = None,
    sheet: str | None = None,
    short_rows: ShortRows = "refuse",
) -> Examples:
    """Read a file into memory.

    That is CSV (comma, semicolon, tab or pipe), JSON Lines, a JSON array of objects, Parquet, an Excel workbook, or
    one of them packed with gzip or alone in a zip archive.

    Args:
        path: a local file.
        filename: how the user calls it; its ending decides the format, its content where the ending is unknown.
        example: the column with the inputs; default the one named "example" or "examples", in any case.
        ground_truth: the column with the references, or several where an example has more than one; default those
            named "ground_truth", "ground_truth_2" and so on, if any.
        sheet: of an Excel workbook; default the first.
        short_rows: what to do with a row of delimited text that has fewer cells than the header: "refuse" it, or
            "fill" it with empty cells, which is noted. Rows with more cells are always refused.

    Raises:
        DatasetError: the file breaks a rule; the message names file, row and column.
        MissingFieldsError: the file lacks a column that was asked for.
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
    """Write the examples of a file as Parquet; memory does not grow with the file, but for 8 bytes per example.

    Args:
        path, filename, example, ground_truth, sheet, short_rows: as of :func:`read_examples`.
        target: the file to write, with checksums of its pages; where an error is raised it is not to be used.
        report: told how many bytes of `path` have been worked on.

    Raises:
        DatasetError, MissingFieldsError, MissingExtraError, StoreUnavailableError: as :func:`read_examples`.
    """
    found, personal = Profile(), PersonalData()
    size = path.stat().st_size
    # Reading a file takes about as long as writing it.
    wanted = _wanted(filename, example, ground_truth, short_rows)
    with opened(path, wanted, sheet, lambda done: report(done // 2)) as raw:
        assembly = Assembly(raw, raw.filename)
        report(size // 2)
        with _writer(target) as write:
            for table in grouped(assembly.tables(), ROW_GROUP_SIZE, _ROW_GROUP_BYTES):
                write(table)
                found.add(table)
                personal.add(table)
        report(size)
    values = found.values()
    notes = (*raw.notes, *assembly.notes, *_content_notes(values), *personal.notes)
    return Converted(values["n_examples"], raw.columns, notes, values)


def _wanted(
    filename: str, example: str | None, ground_truth: str | Sequence[str] | None, short_rows: ShortRows
) -> Wanted:
    if short_rows not in ("refuse", "fill"):
        raise InvalidInputError(f"short_rows cannot be {short_rows!r}", "it is 'refuse' or 'fill'")
    truths = [ground_truth] if isinstance(ground_truth, str) else list(ground_truth or ())
    return Wanted(filename, example, truths[0] if truths else None, tuple(truths[1:]), short_rows == "fill")


@contextmanager
def opened(path: Path, wanted: Wanted, sheet: str | None, report: Report) -> Iterator[Raw]:
    """Yield what the reader of a file's format hands over; its rows can be read within the block."""
    with TemporaryDirectory(prefix=layout.temporary("spool")) as temporary, enough_room(Path(temporary)):
        spool = Spool(Path(temporary) / "spool")
        kind = detect(path, wanted.filename)
        notes: tuple[str, ...] = ()
        if kind in _UNPACKERS:
            path, wanted, notes, report = _unpacked(path, kind, wanted, Path(temporary), report)
            kind = detect(path, wanted.filename)
        if kind in _UNPACKERS:
            raise DatasetError(f"{wanted.filename} is another archive in an archive", "unpack it, and upload the file")
        if kind is Format.EXCEL:
            raw = read_excel(path, wanted, spool, report, sheet)
        elif sheet is not None:
            raise DatasetError(f"{wanted.filename} has no sheets", "leave sheet= out: it is for Excel workbooks")
        else:
            raw = _READERS[kind](path, wanted, spool, report)
        yield replace(raw, filename=wanted.filename, notes=(*notes, *raw.notes))


def _unpacked(
    path: Path, kind: Format, wanted: Wanted, folder: Path, report: Report
) -> tuple[Path, Wanted, tuple[str, ...], Report]:
    """Unpack the file in an archive; what is read of it is reported as bytes of the archive."""
    inside = folder / "unpacked"
    name = _UNPACKERS[kind](path, wanted.filename, inside)
    packed, size = path.stat().st_size, max(inside.stat().st_size, 1)
    note = f"unpacked {name!r} from a {kind} archive"
    return inside, replace(wanted, filename=name), (note,), lambda done: report(done * packed // size)


@contextmanager
def _writer(target: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that writes a table as the next row group."""
    writer: pq.ParquetWriter | None = None

    def write(table: pa.Table) -> None:
        nonlocal writer
        writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd", write_page_checksum=True)
        writer.write_table(table, row_group_size=ROW_GROUP_SIZE)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _content_notes(values: dict[str, Any]) -> tuple[str, ...]:
    """What the numbers of a profile say that somebody should know."""
    notes = []
    if twice := values["n_duplicate_examples"]:
        notes.append(f"{_examples(twice)} the same text as an earlier one")
    if empty := values["n_empty_examples"]:
        notes.append(f"{_examples(empty)} no text")
    return tuple(notes)


def _examples(count: int) -> str:
    return "1 example has" if count == 1 else f"{count:,} examples have"
