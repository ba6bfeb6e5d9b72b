"""What a file is: by the ending of its name, and by its first bytes where these say otherwise."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path, PurePath

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.text import bom_of

HEAD_BYTES = 4096


class Format(StrEnum):
    """The ways in which rows are stored, and in which files are packed."""

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
        DatasetError: the file is empty, or holds something else than its name says.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    text = head[len(bom_of(head)) :].strip()
    if not text:
        raise DatasetError(f"{filename} is empty", "check that it was saved completely")
    expected, label = _BY_ENDING.get(PurePath(filename).suffix.lower(), (None, None))
    found = _packed(path, head)
    if found is not None and expected in (None, found):
        return found
    _refuse_other_content(path, head, filename, label)
    found = _by_content(head, text)
    if expected is None:
        return found
    if expected in _PACKED:
        raise DatasetError(f"{filename} is not {label}, as its name says", "correct the ending of its name")
    if found is not expected and (Format.PARQUET in (found, expected) or text.startswith(b'{"')):
        raise _misnamed(filename, found, expected)
    return expected


def _packed(path: Path, head: bytes) -> Format | None:
    if head.startswith(_GZIP):
        return Format.GZIP
    if not head.startswith(_ZIP):
        return None
    names = _names_in(path)
    if any(name.startswith("xl/") for name in names):
        return Format.EXCEL
    # Other documents of Microsoft's and OpenDocument are zip archives, too.
    is_document = {"[Content_Types].xml", "mimetype"} & names or any(name.startswith("word/") for name in names)
    return None if is_document or not names else Format.ZIP


def _refuse_other_content(path: Path, head: bytes, filename: str, label: str | None) -> None:
    found = _foreign(path, head)
    if found is not None:
        what, remedy = found
        raise DatasetError(f"{filename} is {what}, not {label or 'a table of examples'}", remedy)


def _foreign(path: Path, head: bytes) -> tuple[str, str] | None:
    for signature, what, remedy in _SIGNATURES:
        if head.startswith(signature):
            return what, remedy
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP picture", _NOT_A_TABLE
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page", "open the address in a browser: it may lead to a log-in or download page"
    return None


def _kind_of_zip(path: Path) -> tuple[str, str]:
    names = _names_in(path)
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook", "rename it so that it ends in .xlsx"
    if any(name.startswith("word/") for name in names):
        return "a Word document", _EXPORT
    return "a zip archive", _UNPACK


def _names_in(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return set()


def _by_content(head: bytes, text: bytes) -> Format:
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if text.startswith(b"["):
        return Format.JSON_ARRAY
    return Format.JSONL if text.startswith(b"{") else Format.DELIMITED


def _misnamed(filename: str, found: Format, expected: Format) -> DatasetError:
    names = {
        Format.DELIMITED: "delimited text",
        Format.JSONL: "JSON Lines",
        Format.JSON_ARRAY: "a JSON array",
        Format.PARQUET: "a Parquet file",
    }
    endings = {
        Format.DELIMITED: ".csv",
        Format.JSONL: ".jsonl",
        Format.JSON_ARRAY: ".json",
        Format.PARQUET: ".parquet",
    }
    return DatasetError(
        f"{filename} looks like {names[found]}, not {names[expected]}",
        f"rename it so that it ends in {endings[found]}",
    )
