"""Detect a file's format from its extension, and check it against the first bytes."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path, PurePath

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.text import bom_of

HEAD_BYTES = 4096


class Format(StrEnum):
    """Formats of rows, and of archives."""

    DELIMITED = "delimited"
    JSONL = "jsonl"
    JSON_ARRAY = "JSON array"
    EXCEL = "Excel"
    GZIP = "gzip"
    ZIP = "zip"
    PARQUET = "parquet"


_BY_ENDING = {
    ".csv": (Format.DELIMITED, "CSV"),
    ".tsv": (Format.DELIMITED, "TSV"),
    ".txt": (Format.DELIMITED, "delimited text"),
    ".jsonl": (Format.JSONL, "JSON Lines"),
    ".ndjson": (Format.JSONL, "JSON Lines"),
    ".parquet": (Format.PARQUET, "Parquet"),
    ".xlsx": (Format.EXCEL, "an Excel workbook"),
    ".xlsm": (Format.EXCEL, "an Excel workbook"),
    ".gz": (Format.GZIP, "a gzip archive"),
    ".zip": (Format.ZIP, "a zip archive"),
}
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_EXPORT = "export the table as CSV (UTF-8), JSON Lines or Parquet"
_UNPACK = "unpack it and upload the file inside"
_NOT_A_TABLE = "upload the CSV, JSON Lines or Parquet file that holds the examples"
_PACKED = (Format.EXCEL, Format.GZIP, Format.ZIP)
# A format that can be told from its content: its name, and the extension of such files.
_BY_CONTENT = {
    Format.DELIMITED: ("delimited text", ".csv"),
    Format.JSONL: ("JSON Lines", ".jsonl"),
    Format.JSON_ARRAY: ("a JSON array", ".json"),
    Format.PARQUET: ("a Parquet file", ".parquet"),
}
# The first bytes of files that are not tables of examples; what they are; and what to do.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", _NOT_A_TABLE),
    (b"\xff\xd8\xff", "a JPEG picture", _NOT_A_TABLE),
    (b"GIF87a", "a GIF picture", _NOT_A_TABLE),
    (b"GIF89a", "a GIF picture", _NOT_A_TABLE),
    (b"II*\x00", "a TIFF picture", _NOT_A_TABLE),
    (b"MM\x00*", "a TIFF picture", _NOT_A_TABLE),
    (b"%PDF-", "a PDF document", _NOT_A_TABLE),
    (b"{\\rtf", "an RTF document", _NOT_A_TABLE),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", _EXPORT),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh91AY&SY", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"SQLite format 3\x00", "an SQLite database", _EXPORT),
    (b"ARROW1\x00\x00", "an Arrow file", "write it as Parquet"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
)


def detect(path: Path, filename: str) -> Format:
    """Return the format of a file.

    Raises:
        DatasetError: the file is empty, or its content does not match its extension.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    text = head[len(bom_of(head)) :].strip()
    if not text:
        raise DatasetError(f"{filename} is empty", "check that it was saved completely")
    expected, label = _BY_ENDING.get(PurePath(filename).suffix.lower(), (None, None))
    archive = _archive_format(path, head)
    if archive is not None and expected in (None, archive):
        return archive
    foreign = _foreign(path, head)
    if foreign is not None:
        content, remedy = foreign
        raise DatasetError(f"{filename} is {content}, not {label or 'a table of examples'}", remedy)
    if head.startswith(b"PAR1"):
        actual = Format.PARQUET
    elif text.startswith(b"["):
        actual = Format.JSON_ARRAY
    else:
        actual = Format.JSONL if text.startswith(b"{") else Format.DELIMITED
    if expected is None:
        return actual
    if expected in _PACKED:
        raise DatasetError(f"{filename} is not {label}, as its extension says", "correct the extension")
    # A CSV file may well begin with "[" or "{", but hardly with '{"'.
    if actual is not expected and (Format.PARQUET in (actual, expected) or text.startswith(b'{"')):
        (actual_name, extension), (expected_name, _) = _BY_CONTENT[actual], _BY_CONTENT[expected]
        raise DatasetError(
            f"{filename} looks like {actual_name}, not {expected_name}", f"rename it so that it ends in {extension}"
        )
    return expected


def _archive_format(path: Path, head: bytes) -> Format | None:
    """Return the format of an archive or Excel workbook; None for other files."""
    if head.startswith(_GZIP):
        return Format.GZIP
    if not head.startswith(_ZIP):
        return None
    names = _names_in(path)
    if any(name.startswith("xl/") for name in names):
        return Format.EXCEL
    # Word, PowerPoint and OpenDocument files are zip archives, too.
    is_document = {"[Content_Types].xml", "mimetype"} & names or any(name.startswith("word/") for name in names)
    return None if is_document or not names else Format.ZIP


def _foreign(path: Path, head: bytes) -> tuple[str, str] | None:
    """Return what a file is that is not a table of examples, and what to do; None for tables."""
    for signature, content, remedy in _SIGNATURES:
        if head.startswith(signature):
            return content, remedy
    if head.startswith(_ZIP):
        names = _names_in(path)
        if any(name.startswith("xl/") for name in names):
            return "an Excel workbook", "rename it so that it ends in .xlsx"
        if any(name.startswith("word/") for name in names):
            return "a Word document", _EXPORT
        return "a zip archive", _UNPACK
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP picture", _NOT_A_TABLE
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page", "open the address in a browser: it may lead to a log-in or download page"
    return None


def _names_in(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return set()
