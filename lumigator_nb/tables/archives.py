"""One file inside of an archive, unpacked without trust in what the archive says of itself."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from lumigator_nb.errors import DatasetError

# What is larger than both is no archive that somebody packed for an upload.
MAX_EXPANSION, ALWAYS_ALLOWED_BYTES = 100, 256_000_000
_COPY_BYTES = 1 << 20
_PACK_AGAIN = "pack it again, or upload the file inside"
_ENCRYPTED = 0x1


def unpack_gzip(path: Path, filename: str, target: Path) -> str:
    """Unpack a gzip archive into `target`, and return the name of the file inside.

    Raises:
        DatasetError: it is cut off or damaged, or swells beyond all measure.
    """
    try:
        with gzip.open(path) as source:
            _copy(cast(IO[bytes], source), target, filename, path.stat().st_size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(f"{filename} is a gzip archive that cannot be read: {error}", _PACK_AGAIN) from error
    return filename[:-3] if filename.lower().endswith(".gz") else filename


def unpack_zip(path: Path, filename: str, target: Path) -> str:
    """Unpack the only file of a zip archive into `target`, and return its name.

    Raises:
        DatasetError: as :func:`unpack_gzip`; or there are several files, or none, or one with a password.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = _only_file(archive, filename)
            with archive.open(member) as source:
                # What the archive says of the size of its files may be wrong.
                packed = min(member.compress_size, path.stat().st_size)
                _copy(source, target, filename, max(packed, 1))
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise DatasetError(f"{filename} is a zip archive that cannot be read: {error}", _PACK_AGAIN) from error
    return PurePosixPath(member.filename).name


def refuse_bomb(path: Path, filename: str) -> None:
    """Raise DatasetError where the files in a zip archive, such as an Excel workbook, are said to be far too large."""
    with zipfile.ZipFile(path) as archive:
        _refuse_bomb(sum(member.file_size for member in archive.infolist()), path.stat().st_size, filename)


def _only_file(archive: zipfile.ZipFile, filename: str) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        _refuse_path(member.filename, filename)
    files = [member for member in members if not _is_clutter(member.filename)]
    if len(files) != 1:
        names = ", ".join(repr(member.filename) for member in files[:5]) + (", …" if len(files) > 5 else "")
        found = f"{len(files)} files: {names}" if files else "no file"
        raise DatasetError(f"{filename} is a zip archive with {found}", "pack exactly one data file, or upload it")
    if files[0].flag_bits & _ENCRYPTED:
        raise DatasetError(f"{filename} is protected by a password", "pack it again without")
    return files[0]


def _refuse_path(name: str, filename: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or ":" in name or not name.isprintable():
        raise DatasetError(f"{filename} holds a file with the path {name!r}, which leads out of it", _PACK_AGAIN)


def _is_clutter(name: str) -> bool:
    """Hidden files and folders, and what macOS and Windows put beside the files."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") for part in parts)
    return hidden or parts[0] == "__MACOSX" or parts[-1] in ("Thumbs.db", "desktop.ini")


def _copy(source: IO[bytes], target: Path, filename: str, packed: int) -> None:
    done = 0
    with target.open("wb") as file:
        while chunk := source.read(_COPY_BYTES):
            done += len(chunk)
            _refuse_bomb(done, packed, filename)
            file.write(chunk)


def _refuse_bomb(size: int, packed: int, filename: str) -> None:
    if size > ALWAYS_ALLOWED_BYTES and size > MAX_EXPANSION * packed:
        raise DatasetError(
            f"{filename} swells to more than {MAX_EXPANSION} times its size and {ALWAYS_ALLOWED_BYTES / 1e6:g} MB",
            "such archives can fill a disk: unpack it yourself if you trust it, and upload the file inside",
        )
