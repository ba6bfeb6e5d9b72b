"""Sources of a dataset: copy a path, URL, file object, DataFrame or Hugging Face Dataset into a local file."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import fsspec
import pandas as pd

from lumigator_nb import tables
from lumigator_nb.errors import DatasetError
from lumigator_nb.storage import layout

# Any: also a Dataset of Hugging Face's library `datasets`, which may not be installed.
Source = str | Path | pd.DataFrame | IO[Any] | Any
URL_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LocalCopy:
    """A source copied to this machine.

    Attributes:
        path: temporary file.
        filename: name of the original file.
        content_hash: SHA-256 of the bytes, in hexadecimal.
        size_bytes: size of the file.
    """

    path: Path
    filename: str
    content_hash: str
    size_bytes: int


@contextmanager
def fetched(source: Source) -> Iterator[LocalCopy]:
    """Copy a source into a temporary file, which exists until the block ends.

    Raises:
        DatasetError: the source cannot be read, or the file changed while it was read.
        StoreUnavailableError: the disk of the temporary folder is full.
    """
    with TemporaryDirectory(prefix=layout.temporary("upload")) as folder:
        path = Path(folder) / "original"
        with tables.enough_room(path.parent):
            filename = _copy(source, path)
        yield LocalCopy(path, filename, file_hash(path), path.stat().st_size)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Source, target: Path) -> str:
    """Write the bytes of a source to `target`, and return the name of the original file."""
    if isinstance(source, pd.DataFrame):
        target.write_bytes(tables.frame_to_bytes(source))
        return "dataframe.parquet"
    if tables.is_hub_dataset(source):
        return tables.save_hub_dataset(source, target)
    if isinstance(source, str) and tables.is_hub_id(source):
        return tables.save_hub_id(source, target)
    if isinstance(source, (str, Path)):
        return _copy_url(str(source), target) if "://" in str(source) else _copy_path(Path(source), target)
    if hasattr(source, "read"):
        with target.open("wb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                file.write(chunk.encode() if isinstance(chunk, str) else chunk)
        name = getattr(source, "name", None)  # the file descriptor, an int, for an anonymous file
        return Path(name).name if isinstance(name, str) else "upload"
    raise DatasetError(
        f"a {type(source).__name__} is not a dataset",
        "give a path, a URL, an open file, a pandas DataFrame or a Hugging Face Dataset",
    )


def _copy_path(path: Path, target: Path) -> str:
    def state(file: IO[bytes]) -> tuple[int, int]:
        status = os.fstat(file.fileno())
        return status.st_size, status.st_mtime_ns

    path = path.expanduser()
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, not a file", "name the file inside it")
    try:
        with path.open("rb") as file:
            before = state(file)
            _write(file, target)
            if state(file) != before:
                raise DatasetError(
                    f"{path} changed while it was read", "upload it again when no program writes to it any more"
                )
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}", f"the current folder is {Path.cwd()}") from None
    except OSError as error:
        if tables.is_full(error):
            raise
        raise DatasetError(f"{path} cannot be read: {error.strerror}", "check the file's permissions") from error
    return path.name


def _write(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK_BYTES)


def _copy_url(url: str, target: Path) -> str:
    parts = urllib.parse.urlsplit(url)
    # Messages must not show secrets: presigned URLs carry credentials in the query, and a URL may carry a password
    # before the host.
    safe_url = urllib.parse.urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))
    options: dict[str, Any] = {}
    if url.startswith("http"):
        import aiohttp

        # aiohttp's default limits the total time to 5 minutes, which is too short for large files.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=URL_TIMEOUT_S, sock_read=URL_TIMEOUT_S)
        options["client_kwargs"] = {"timeout": timeout}
    try:
        with fsspec.open(url, "rb", **options) as remote:
            _write(remote, target)
    except Exception as error:  # fsspec's backends raise exceptions of many libraries
        if isinstance(error, OSError) and tables.is_full(error):
            raise
        # fsspec raises FileNotFoundError for HTTP hosts that cannot be reached, too; the first cause tells them apart.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        unreachable = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if isinstance(error, FileNotFoundError) and not unreachable:
            raise DatasetError(f"there is no file at {safe_url}", "open the address in a browser to check it") from None
        reason = f"{type(cause).__name__}: {cause}".replace(url, safe_url)
        raise DatasetError(f"{safe_url} cannot be read: {reason}", "check the address and the network") from None
    return urllib.parse.unquote(parts.path.rsplit("/", 1)[-1]) or "download"
