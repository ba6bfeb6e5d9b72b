"""The object store: files under one root, on any file system that fsspec knows.

A name written is complete or absent, never half there: local files are renamed into place, object stores publish
a put or a multipart upload at its end. What is left when a process is killed half-way is invisible, and found by
:meth:`Store.abandoned_uploads`.
"""

from __future__ import annotations

import io
import re
import shutil
import uuid
from builtins import list as list_
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from lumigator_nb.errors import (
    ConfigurationError,
    InvalidInputError,
    LumigatorError,
    MissingExtraError,
    NotFoundError,
    StoreUnavailableError,
)
from lumigator_nb.specs import StoreSpec, now
from lumigator_nb.storage.explain import GENERAL_HINT, folder_error
from lumigator_nb.storage.local_files import (
    Explaining,
    Guarded,
    explained_as,
    is_temporary,
    make_folder,
    opened,
    renamed_into_place,
    temporary_files,
)

# Libraries below fsspec whose own errors, which are no OSError, mean that the store does not answer.
_CLIENTS = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "paramiko", "requests")
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "azure"),
}
_S3 = ("s3", "s3a")
COPY_BYTES = 2**20
_AT_ONCE = 16  # files that are read or written at the same time where each is waited for
# What a signature of version 4 allows.
LONGEST_SIGNATURE_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Entry:
    """A file of the store: its name, its size in bytes, and when it was written (UTC)."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Abandoned:
    """What a write left that has not ended; it may still be going on, so look at its age.

    Attributes:
        name: what was to be written, or on this machine the temporary file beside it.
        started: when the upload began; on this machine when it was last written to (UTC).
        upload_id: of an S3 multipart upload; "" for a file of this machine.
    """

    name: str
    started: datetime
    upload_id: str = ""

    @property
    def age(self) -> timedelta:
        """Time since `started`."""
        return now() - self.started


class Store:
    """A folder or bucket prefix that holds everything but the database.

    Every method raises StoreUnavailableError where the store cannot do what is asked; the hint names the setting to
    look at. On S3 what may pass (a lost connection, a time-out, 500, 503) is tried again for about 30 seconds.

    Args:
        spec: where it is.
        credentials: arguments for an S3 file system; default the ordinary AWS chain (environment, profile, role).
        patience: seconds in which S3 is tried again instead, also where it has never answered.

    Raises:
        ConfigurationError: fsspec has no such protocol, or the address holds a password.
        MissingExtraError: the protocol's package is not installed.
    """

    def __init__(
        self, spec: StoreSpec, credentials: Mapping[str, Any] | None = None, *, patience: float | None = None
    ) -> None:
        self.spec = spec
        self.protocol = spec.uri.partition("://")[0]
        self.fs, self.root = _open_filesystem(spec, credentials or {}, patience)
        protocols = self.fs.protocol
        self.is_local = "file" in ((protocols,) if isinstance(protocols, str) else protocols)

    def __repr__(self) -> str:
        return f"Store({self.spec.uri!r})"

    def url(self, name: str) -> str:
        """The full URL of `name`, for other programs."""
        return f"{self.spec.uri.rstrip('/')}/{name}"

    def local_path(self, name: str) -> Path:
        """Where `name` is on this machine; only for a local store."""
        return Path(self._path(name))

    def presigned(self, name: str, seconds: int = 3600) -> str:
        """Return an address from which anybody can load `name` for a while; whether it is there is not looked at.

        Args:
            seconds: how long it is valid, from 1 to 604,800 (a week).

        Raises:
            ConfigurationError: the store cannot sign addresses; a folder or a store in memory never can.
            InvalidInputError: `seconds` is out of range.
        """
        if not 1 <= seconds <= LONGEST_SIGNATURE_S:
            raise InvalidInputError(f"seconds must be between 1 and {LONGEST_SIGNATURE_S}, got {seconds}")
        try:
            with self._explained(name):
                return cast(str, self.fs.sign(self._path(name), expiration=seconds))
        except NotImplementedError:
            raise ConfigurationError(
                f"the store {self.spec.uri} cannot sign addresses",
                "set S3_BUCKET to a bucket, or copy the file with ws.store.copy_out(name, path)",
            ) from None

    def read(self, name: str) -> bytes:
        """Return the content of `name`.

        Raises:
            NotFoundError: nothing has that name.
        """
        with self._explained(name):
            return cast(bytes, self.fs.cat_file(self._path(name)))

    def find(self, name: str) -> bytes | None:
        """Return the content of `name`, or None where there is nothing."""
        try:
            return self.read(name)
        except NotFoundError:
            return None

    def find_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of those of `names` that are there; a distant store is asked for many at once."""
        if self.is_local or len(names) < 2:
            contents = list(map(self.find, names))
        else:
            with ThreadPoolExecutor(min(_AT_ONCE, len(names))) as readers:
                contents = list(readers.map(self.find, names))
        return {name: data for name, data in zip(names, contents, strict=True) if data is not None}

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Publish several files, some at once, as each is waited for until it is safe; see :meth:`write`."""
        if len(files) < 2:
            for name, data in files.items():
                self.write(name, data)
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(files))) as writers:
            for _ in writers.map(self.write, files.keys(), files.values()):
                pass

    def write(self, name: str, data: bytes) -> None:
        """Publish `data` under `name`, replacing what was there."""
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open `name` as a seekable binary file, which is read piece by piece.

        Raises:
            NotFoundError: nothing has that name.
        """
        with self._explained(name):
            file = self.fs.open(self._path(name), "rb")
        with file:
            yield self._guarded(file, name)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a binary file that appears under `name` when the block ends well, and not at all otherwise."""
        if self.is_local:
            with self._explained(name, writing=True):
                make_folder(Path(self.root))
            writing = renamed_into_place(self._path(name), self._guard(name, writing=True))
        elif self.protocol == "memory":
            writing = self._kept_in_memory(name)
        else:
            writing = self._uploaded(name)
        with writing as file:
            yield self._guarded(file, name, writing=True)

    def copy_in(self, path: str | Path, name: str) -> None:
        """Publish a file of this machine under `name`; memory stays flat.

        Raises:
            NotFoundError: there is no file at `path`.
        """
        with opened(path) as source, self.writing(name) as file:
            shutil.copyfileobj(source, file, COPY_BYTES)

    def copy_out(self, name: str, path: str | Path) -> None:
        """Copy `name` to a file of this machine, which is complete or absent, replacing what was there.

        Raises:
            NotFoundError: nothing has that name.
        """
        with self.reading(name) as source, renamed_into_place(path, lambda: explained_as(path)) as file:
            target = Guarded(file, lambda: explained_as(path))
            shutil.copyfileobj(source, cast(IO[bytes], target), COPY_BYTES)

    def exists(self, name: str) -> bool:
        """Whether `name` is there."""
        with self._explained(name):
            return bool(self.fs.exists(self._path(name)))

    def size(self, name: str) -> int:
        """Return how many bytes `name` has.

        Raises:
            NotFoundError: no file has that name.
        """
        return self._info(name).size

    def modified(self, name: str) -> datetime:
        """Return when `name` was written (UTC).

        Raises:
            NotFoundError: no file has that name.
        """
        return self._info(name).modified

    def list(self, folder: str) -> list_[str]:
        """Return the sorted names of all files under `folder`, at any depth; empty where it is not there."""
        return [entry.name for entry in self.entries(folder)]

    def entries(self, folder: str) -> list_[Entry]:
        """Return all files under `folder`, at any depth, sorted by name; one listing, whatever their number."""
        with self._explained(folder):
            self.fs.invalidate_cache()
            found = self.fs.find(self._path(folder).rstrip("/"), detail=True)
        kept = (self._entry(path, info) for path, info in found.items() if not (self.is_local and is_temporary(path)))
        return sorted(kept, key=lambda entry: entry.name)

    def delete(self, name: str) -> None:
        """Remove the file or folder `name`; nothing happens where there is none."""
        with self._explained(name):
            path = self._path(name)
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)

    def abandoned_uploads(self) -> list_[Abandoned]:
        """Return what writes have left that did not end, or have not yet.

        These are temporary files of a folder and multipart uploads of S3, which are paid for until they are removed.
        Google and Azure remove theirs by themselves after a week.
        """
        with self._explained(""):
            if self.is_local:
                return [Abandoned(*found) for found in temporary_files(Path(self.root))]
            if self.protocol not in _S3:
                return []
            from lumigator_nb.storage.s3 import unfinished_uploads

            found = unfinished_uploads(self.fs, self.root)
            return [Abandoned(self._name(path), started, upload_id) for path, started, upload_id in found]

    def remove_abandoned(self, entry: Abandoned) -> None:
        """Remove one of :meth:`abandoned_uploads`; nothing happens where it is gone, or has ended well meanwhile."""
        with suppress(NotFoundError), self._explained(entry.name):
            if entry.upload_id:
                bucket, _, key = self._path(entry.name).partition("/")
                self.fs.abort_mpu(bucket, key, entry.upload_id)
            else:
                self.local_path(entry.name).unlink(missing_ok=True)

    def check(self) -> None:
        """Write, read, list and remove a small file.

        Raises:
            StoreUnavailableError: one of them does not work.
        """
        name = f".check-{uuid.uuid4().hex}"
        self.write(name, b"ok")
        if self.read(name) != b"ok":
            raise StoreUnavailableError(f"the store {self.spec.uri} returned other bytes than were written")
        self.list(name)
        self.delete(name)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _name(self, path: str) -> str:
        return path[len(self.root) + 1 :]

    def _info(self, name: str) -> Entry:
        with self._explained(name):
            info = self.fs.info(self._path(name))
        if info["type"] != "file":
            raise NotFoundError("file", self.url(name))
        return self._entry(self._path(name), info)

    def _entry(self, path: str, info: Mapping[str, Any]) -> Entry:
        return Entry(self._name(path), int(info["size"]), _modified(info))

    @contextmanager
    def _uploaded(self, name: str) -> Iterator[IO[bytes]]:
        # s3fs publishes a small file by one put, but only if it may commit by itself when the file is closed.
        is_s3 = self.protocol in _S3
        with self._explained(name, writing=True):
            file = self.fs.open(self._path(name), "wb", autocommit=is_s3)
        try:
            yield file
            with self._explained(name, writing=True):
                file.close()
                if not is_s3:
                    file.commit()
        except BaseException:
            _discard(file)
            raise

    @contextmanager
    def _kept_in_memory(self, name: str) -> Iterator[IO[bytes]]:
        with io.BytesIO() as file:
            yield file
            with self._explained(name, writing=True):
                self.fs.pipe_file(self._path(name), file.getvalue())

    def _guard(self, name: str, *, writing: bool = False) -> Explaining:
        return lambda: self._explained(name, writing=writing)

    def _guarded(self, file: IO[bytes], name: str, *, writing: bool = False) -> IO[bytes]:
        return cast(IO[bytes], Guarded(file, self._guard(name, writing=writing)))

    @contextmanager
    def _explained(self, name: str, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except LumigatorError:
            raise
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENTS:
                raise
            raise self._explanation(error, name, writing) from error

    def _explanation(self, error: Exception, name: str, writing: bool) -> LumigatorError:
        # What is not found when writing is the bucket, or the folder above.
        if isinstance(error, FileNotFoundError) and not writing:
            return NotFoundError("file", self.url(name))
        if self.is_local and isinstance(error, OSError):
            return folder_error(error, self.url(name), self._path(name))
        return StoreUnavailableError(f"cannot reach {self.url(name)}: {type(error).__name__}: {error}", GENERAL_HINT)


def _discard(file: Any) -> None:
    """Forget an upload. What cannot be aborted now is found later by `abandoned_uploads`."""
    if isinstance(file, AbstractBufferedFile):
        # Otherwise the interpreter closes it when it is collected, which would begin an upload of what is left.
        file.closed = True
    with suppress(Exception):
        file.discard()


def _modified(info: Mapping[str, Any]) -> datetime:
    """When a file was written; the file systems of fsspec have no common name for it."""
    keys = ("LastModified", "mtime", "modified", "last_modified", "updated", "created")
    found = next((info[key] for key in keys if info.get(key)), None)
    if isinstance(found, (int, float)):
        return datetime.fromtimestamp(found, UTC)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if not isinstance(found, datetime):
        return datetime.fromtimestamp(0, UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _open_filesystem(
    spec: StoreSpec, credentials: Mapping[str, Any], patience: float | None
) -> tuple[AbstractFileSystem, str]:
    protocol = spec.uri.partition("://")[0]
    if re.match(r"[^/]*://[^/@]*:[^/@]*@", spec.uri):
        raise ConfigurationError(
            "the store's address holds a password, which would be shown wherever the address is",
            "take it out of LUMIGATOR_STORE; fsspec reads FSSPEC_<PROTOCOL>_PASSWORD and the like",
        )
    try:
        if protocol in _S3:
            from lumigator_nb.storage.s3 import open_s3

            fs = open_s3(spec, credentials, patience)
            root = fs._strip_protocol(spec.uri)
        else:
            fs, root = fsspec.core.url_to_fs(spec.uri)
    except ImportError as error:
        if protocol in _EXTRAS:
            raise MissingExtraError(f"a store at {protocol}://", _EXTRAS[protocol]) from error
        raise ConfigurationError(
            f"a store at {protocol}:// needs a package that is not installed", str(error)
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{spec.uri!r} is not a store's address: {error}") from error
    return fs, root.rstrip("/")
