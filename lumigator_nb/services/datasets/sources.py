"""Bring whatever the user calls a dataset into one local file, byte for byte."""

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

# Besides these a Dataset of Hugging Face's library, of which no type is known here.
Source = str | Path | pd.DataFrame | IO[Any] | Any
URL_TIMEOUT_S = 30


@dataclass(frozen=True)
class LocalCopy:
    """The bytes of a source on this machine.

    Attributes:
        filename: as the user named it.
        content_hash: SHA-256 of the bytes, in hex.
    """

    path: Path
    filename: str
    content_hash: str
    size_bytes: int


@contextmanager
def fetched(source: Source) -> Iterator[LocalCopy]:
    """Copy the bytes of a path, URL, file object, DataFrame or Dataset into a temporary file that ends with the block.

    Raises:
        DatasetError: there is nothing to read at the source; the message says what was found instead. Or the file
            changed while it was read.
        StoreUnavailableError: the folder for temporary files is full.
    """
    with TemporaryDirectory(prefix=layout.temporary("upload")) as folder:
        path = Path(folder) / "original"
        with tables.enough_room(path.parent):
            filename = _copy(source, path)
        yield LocalCopy(path, filename, file_hash(path), path.stat().st_size)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Source, target: Path) -> str:
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
        return _copy_file(source, target)
    raise DatasetError(
        f"a {type(source).__name__} is not a dataset",
        "give a path, a URL, an open file, a pandas DataFrame or a Hugging Face Dataset",
    )


def _copy_path(path: Path, target: Path) -> str:
    path = path.expanduser()
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, not a file", "name the file inside it")
    try:
        with path.open("rb") as file:
            before = _state(file)
            _write(file, target)
            if _state(file) != before:
                raise DatasetError(
                    f"{path} changed while it was read", "upload it again when whatever writes it has finished"
                )
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}", f"the current folder is {Path.cwd()}") from None
    except OSError as error:
        if tables.is_full(error):
            raise
        raise DatasetError(f"{path} cannot be read: {error.strerror}", "check the file's permissions") from error
    return path.name


def _state(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _write(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _copy_url(url: str, target: Path) -> str:
    options = {"client_kwargs": {"timeout": _http_timeout()}} if url.startswith("http") else {}
    shown = _without_query(url)
    try:
        with fsspec.open(url, "rb", **options) as remote:
            _write(remote, target)
    except Exception as error:  # what an fsspec backend raises is its own affair
        if isinstance(error, OSError) and tables.is_full(error):
            raise
        # For HTTP, fsspec's "file not found" also stands for a host that cannot be reached; the first cause tells.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        unreachable = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if isinstance(error, FileNotFoundError) and not unreachable:
            raise DatasetError(f"there is no file at {shown}", "open the address in a browser to check it") from None
        reason = f"{type(cause).__name__}: {cause}".replace(url, shown)
        raise DatasetError(f"{shown} cannot be read: {reason}", "check the address and the network") from None
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1]) or "download"


def _copy_file(source: IO[Any], target: Path) -> str:
    with target.open("wb") as file:
        while chunk := source.read(1 << 20):
            file.write(chunk.encode() if isinstance(chunk, str) else chunk)
    name = getattr(source, "name", None)
    return Path(name).name if isinstance(name, str) else "upload"


def _http_timeout() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=URL_TIMEOUT_S, sock_read=URL_TIMEOUT_S)


def _without_query(url: str) -> str:
    # Presigned URLs carry their credentials in the query, and a URL may carry a password before the host.
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rsplit("@", 1)[-1]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))
