"""Unpack the single file in an archive, without trusting the names and sizes that the archive declares."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from lumigator_nb.errors import DatasetError

# Limits against archives that expand to fill the disk ("zip bombs"): both must be exceeded. Text seldom shrinks to less
# than a twentieth.
MAX_EXPANSION, ALWAYS_ALLOWED_BYTES = 100, 256_000_000
_COPY_BYTES = 1 << 20
_PACK_AGAIN = "pack it again, or upload the file inside"
_ENCRYPTED = 0x1  # bit 0 of a member's flags


def unpack_gzip(path: Path, filename: str, target: Path) -> str:
    """Unpack a gzip archive into `target`, and return the name of the file inside.

    Raises:
        DatasetError: the archive is truncated or damaged, or its content is far too large for it.
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
        DatasetError: as in :func:`unpack_gzip`; or there are several files, or none, or the file has a password.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = _only_file(archive, filename)
            with archive.open(member) as source:
                # The declared size may be a lie, but cannot truly exceed that of the archive.
                packed = min(member.compress_size, path.stat().st_size)
                _copy(source, target, filename, max(packed, 1))
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise DatasetError(f"{filename} is a zip archive that cannot be read: {error}", _PACK_AGAIN) from error
    return PurePosixPath(member.filename).name


def refuse_bomb(path: Path, filename: str) -> None:
    """Raise DatasetError if a zip archive, such as an Excel workbook, declares files that are far too large for it."""
    with zipfile.ZipFile(path) as archive:
        _refuse_bomb(sum(member.file_size for member in archive.infolist()), path.stat().st_size, filename)


def _only_file(archive: zipfile.ZipFile, filename: str) -> zipfile.ZipInfo:
    files = []
    for member in archive.infolist():
        name = member.filename
        if member.is_dir():
            continue
        # Nothing is ever written to these paths. An archive that has them was made to do harm.
        steps = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in steps or name.startswith(("/", "\\")) or ":" in name or not name.isprintable():
            raise DatasetError(f"{filename} contains a file with the path {name!r}, which leads out of it", _PACK_AGAIN)
        parts = PurePosixPath(name).parts
        is_hidden = any(part.startswith(".") for part in parts)
        # macOS and Windows add these to archives by themselves.
        if not is_hidden and parts[0] != "__MACOSX" and parts[-1] not in ("Thumbs.db", "desktop.ini"):
            files.append(member)
    if len(files) != 1:
        names = ", ".join(repr(member.filename) for member in files[:5]) + (", …" if len(files) > 5 else "")
        content = f"{len(files)} files: {names}" if files else "no file"
        raise DatasetError(f"{filename} is a zip archive with {content}", "pack exactly one data file, or upload it")
    if files[0].flag_bits & _ENCRYPTED:
        raise DatasetError(f"{filename} is protected by a password", "pack it again without a password")
    return files[0]


def _copy(source: IO[bytes], target: Path, filename: str, packed: int) -> None:
    # Counted while copying, so that a false declaration of the size does not help a zip bomb.
    done = 0
    with target.open("wb") as file:
        while chunk := source.read(_COPY_BYTES):
            done += len(chunk)
            _refuse_bomb(done, packed, filename)
            file.write(chunk)


def _refuse_bomb(size: int, packed: int, filename: str) -> None:
    if size > ALWAYS_ALLOWED_BYTES and size > MAX_EXPANSION * packed:
        raise DatasetError(
            f"{filename} expands to more than {MAX_EXPANSION} times its size and {ALWAYS_ALLOWED_BYTES / 1e6:g} MB",
            "such archives can fill a disk: if you trust it, unpack it, and upload the file inside",
        )
