"""The object store: files under one root, on any file system that fsspec supports.

A file in the store is complete or absent, never partial: local files are renamed into place, and object stores publish
an upload when it ends. What a killed process leaves behind is invisible to readers; :meth:`Store.abandoned_uploads`
lists it.
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

# Libraries below fsspec. Their errors mean that the store does not answer, but they do not derive from OSError.
_CLIENTS = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "paramiko", "requests")
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "azure"),
}
_S3 = ("s3", "s3a")
COPY_BYTES = 2**20
# Requests at the same time. Most of a request's time is waiting for the server (or, locally, for fsync).
_AT_ONCE = 16
# The names under which the file systems of fsspec report when a file was written; there is no common one.
_TIMES = ("LastModified", "mtime", "modified", "last_modified", "updated", "created")
# The limit of AWS signature version 4.
LONGEST_SIGNATURE_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Entry:
    """A file of the store: its name, its size in bytes, and when it was written (UTC)."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Abandoned:
    """An unfinished write. It may still be in progress, so check its age before you remove it.

    Attributes:
        name: name of the object that was being written; in a local store, of the temporary file beside it.
        started: when the upload began; in a local store, when the temporary file was last written to (UTC).
        upload_id: id of the S3 multipart upload; "" in a local store.
    """

    name: str
    started: datetime
    upload_id: str = ""

    @property
    def age(self) -> timedelta:
        """Time since `started`."""
        return now() - self.started


class Store:
    """A folder or bucket prefix that holds all files of a workspace.

    Every method raises StoreUnavailableError when the store fails; the hint names the setting to check. On S3,
    transient failures (a lost connection, a time-out, HTTP 500 or 503) are retried for about 30 seconds.

    Args:
        spec: the store's address.
        credentials: arguments for the S3 file system; by default the usual AWS chain (environment, profile, role).
        patience: how long to retry on S3, in seconds, instead of the default; also for a server that never answered.

    Raises:
        ConfigurationError: fsspec does not know the protocol, or the address contains a password.
        MissingExtraError: the protocol's package is not installed.
    """

    def __init__(
        self, spec: StoreSpec, credentials: Mapping[str, Any] | None = None, *, patience: float | None = None
    ) -> None:
        self.spec = spec
        self.protocol = spec.uri.partition("://")[0]
        if re.match(r"[^/]*://[^/@]*:[^/@]*@", spec.uri):
            raise ConfigurationError(
                "the store's address contains a password, which would appear wherever the address does",
                "remove it from LUMIGATOR_STORE; fsspec reads passwords from FSSPEC_<PROTOCOL>_PASSWORD",
            )
        self.fs: AbstractFileSystem
        try:
            if self.protocol in _S3:
                # Here and not above: s3fs is an optional package.
                from lumigator_nb.storage.s3 import open_s3

                self.fs = open_s3(spec, credentials or {}, patience)
                root = self.fs._strip_protocol(spec.uri)
            else:
                self.fs, root = fsspec.core.url_to_fs(spec.uri)
        except ImportError as error:
            if self.protocol in _EXTRAS:
                raise MissingExtraError(f"a store at {self.protocol}://", _EXTRAS[self.protocol]) from error
            raise ConfigurationError(
                f"a store at {self.protocol}:// needs a package that is not installed", str(error)
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"{spec.uri!r} is not a store's address: {error}") from error
        self.root = root.rstrip("/")
        protocols = self.fs.protocol
        self.is_local = "file" in ((protocols,) if isinstance(protocols, str) else protocols)

    def __repr__(self) -> str:
        return f"Store({self.spec.uri!r})"

    def url(self, name: str) -> str:
        """Return the full URL of `name`, for other programs."""
        return f"{self.spec.uri.rstrip('/')}/{name}"

    def local_path(self, name: str) -> Path:
        """Return the path of `name` on this machine; only for a local store."""
        return Path(self._path(name))

    def presigned(self, name: str, seconds: int = 3600) -> str:
        """Return a URL from which anyone can download `name` until it expires. Whether `name` exists is not checked.

        Args:
            seconds: how long the URL is valid, from 1 to 604,800 (one week).

        Raises:
            ConfigurationError: the store cannot sign URLs, as a folder or a store in memory.
            InvalidInputError: `seconds` is out of range.
        """
        if not 1 <= seconds <= LONGEST_SIGNATURE_S:
            raise InvalidInputError(f"seconds must be between 1 and {LONGEST_SIGNATURE_S}, got {seconds}")
        try:
            with self._explained(name):
                # It needs no request: the signature is computed from the credentials.
                return cast(str, self.fs.sign(self._path(name), expiration=seconds))
        except NotImplementedError:
            raise ConfigurationError(
                f"the store {self.spec.uri} cannot sign addresses",
                "set S3_BUCKET to a bucket, or copy the file with ws.store.copy_out(name, path)",
            ) from None

    def read(self, name: str) -> bytes:
        """Return the content of `name`.

        Raises:
            NotFoundError: there is no such file.
        """
        with self._explained(name):
            return cast(bytes, self.fs.cat_file(self._path(name)))

    def find(self, name: str) -> bytes | None:
        """Return the content of `name`, or None if there is no such file."""
        try:
            return self.read(name)
        except NotFoundError:
            return None

    def find_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of those of `names` that exist; a remote store is asked for several at once."""
        # A local file is read faster than a thread starts.
        if self.is_local or len(names) < 2:
            contents = list(map(self.find, names))
        else:
            with ThreadPoolExecutor(min(_AT_ONCE, len(names))) as readers:
                contents = list(readers.map(self.find, names))
        return {name: data for name, data in zip(names, contents, strict=True) if data is not None}

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Publish several files, up to 16 at once; see :meth:`write`."""
        if len(files) < 2:
            for name, data in files.items():
                self.write(name, data)
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(files))) as writers:
            for _ in writers.map(self.write, files.keys(), files.values()):
                pass

    def write(self, name: str, data: bytes) -> None:
        """Publish `data` under `name`, replacing an existing file."""
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open `name` as a seekable binary file that is loaded piece by piece.

        Raises:
            NotFoundError: there is no such file.
        """
        with self._explained(name):
            file = self.fs.open(self._path(name), "rb")
        with file:
            yield self._guarded(file, name)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a binary file that is published as `name` when the block ends without an error, else discarded."""
        if self.is_local:
            # Before the rename, which would make the folder readable by other accounts.
            with self._explained(name, writing=True):
                make_folder(Path(self.root))
            writing = renamed_into_place(self._path(name), self._guard(name, writing=True))
        elif self.protocol == "memory":
            writing = self._written_from_memory(name)
        else:
            writing = self._uploaded(name)
        with writing as file:
            yield self._guarded(file, name, writing=True)

    def copy_in(self, path: str | Path, name: str) -> None:
        """Publish a file of this machine under `name`, copying 1 MiB at a time.

        Raises:
            NotFoundError: there is no file at `path`.
        """
        with opened(path) as source, self.writing(name) as file:
            shutil.copyfileobj(source, file, COPY_BYTES)

    def copy_out(self, name: str, path: str | Path) -> None:
        """Copy `name` to `path` on this machine, replacing an existing file. `path` is never left partial.

        Raises:
            NotFoundError: there is no such file in the store.
        """
        with self.reading(name) as source, renamed_into_place(path, lambda: explained_as(path)) as file:
            # A full disk here must name `path`, not the store's file.
            target = Guarded(file, lambda: explained_as(path))
            shutil.copyfileobj(source, cast(IO[bytes], target), COPY_BYTES)

    def exists(self, name: str) -> bool:
        """Return whether `name` exists."""
        with self._explained(name):
            return bool(self.fs.exists(self._path(name)))

    def size(self, name: str) -> int:
        """Return the size of `name` in bytes.

        Raises:
            NotFoundError: there is no such file.
        """
        return self._info(name).size

    def modified(self, name: str) -> datetime:
        """Return when `name` was written (UTC).

        Raises:
            NotFoundError: there is no such file.
        """
        return self._info(name).modified

    def list(self, folder: str) -> list_[str]:
        """Return the sorted names of all files under `folder`, at any depth; empty if the folder does not exist."""
        return [entry.name for entry in self.entries(folder)]

    def entries(self, folder: str) -> list_[Entry]:
        """Return all files under `folder`, at any depth, sorted by name, from a single listing."""
        with self._explained(folder):
            # Some file systems cache listings; other processes may have written since.
            self.fs.invalidate_cache()
            details = self.fs.find(self._path(folder).rstrip("/"), detail=True)
        entries = (self._entry(path, info) for path, info in details.items())
        published = (entry for entry in entries if not (self.is_local and is_temporary(entry.name)))
        return sorted(published, key=lambda entry: entry.name)

    def delete(self, name: str) -> None:
        """Remove the file or folder `name`, if it exists."""
        with self._explained(name):
            path = self._path(name)
            # Without this check, some file systems raise for an absent name, and others do nothing.
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)

    def abandoned_uploads(self) -> list_[Abandoned]:
        """Return the unfinished writes: those that were abandoned, and those in progress.

        These are temporary files in a local store, and multipart uploads on S3, which cost money until they are
        removed. Google and Azure remove unfinished uploads after a week.
        """
        with self._explained(""):
            if self.is_local:
                return [Abandoned(name, written) for name, written in temporary_files(Path(self.root))]
            if self.protocol not in _S3:
                return []
            from lumigator_nb.storage.s3 import unfinished_uploads

            uploads = unfinished_uploads(self.fs, self.root)
            return [Abandoned(self._name(path), started, upload_id) for path, started, upload_id in uploads]

    def remove_abandoned(self, entry: Abandoned) -> None:
        """Remove an entry of :meth:`abandoned_uploads`, unless it was published or removed in the meantime."""
        with suppress(NotFoundError), self._explained(entry.name):
            if entry.upload_id:
                bucket, _, key = self._path(entry.name).partition("/")
                self.fs.abort_mpu(bucket, key, entry.upload_id)
            else:
                self.local_path(entry.name).unlink(missing_ok=True)

    def check(self) -> None:
        """Write, read, list and remove a small file.

        Raises:
            StoreUnavailableError: one of these steps fails.
        """
        name = f".check-{uuid.uuid4().hex}"
        self.write(name, b"ok")
        if self.read(name) != b"ok":
            raise StoreUnavailableError(f"the store {self.spec.uri} did not return the bytes that were written")
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
        written: Any = next((info[key] for key in _TIMES if info.get(key)), 0.0)
        if isinstance(written, str):
            written = datetime.fromisoformat(written)
        elif not isinstance(written, datetime):
            written = datetime.fromtimestamp(written, UTC)
        modified = written if written.tzinfo else written.replace(tzinfo=UTC)
        return Entry(self._name(path), int(info["size"]), modified)

    @contextmanager
    def _uploaded(self, name: str) -> Iterator[IO[bytes]]:
        # With autocommit, s3fs publishes a file smaller than one part by a single put when it is closed. Without it,
        # every file would be a multipart upload of three requests.
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
            if isinstance(file, AbstractBufferedFile):
                # An open file is closed when it is garbage-collected, which would upload the rest of its buffer.
                file.closed = True
            # An upload that cannot be aborted now is found later by `abandoned_uploads`.
            with suppress(Exception):
                file.discard()
            raise

    @contextmanager
    def _written_from_memory(self, name: str) -> Iterator[IO[bytes]]:
        # The file system "memory" shows a file as soon as it is opened for writing, even if the write then fails.
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
            # A write that finds nothing misses the bucket or the parent folder, not the file.
            if isinstance(error, FileNotFoundError) and not writing:
                raise NotFoundError("file", self.url(name)) from error
            if self.is_local and isinstance(error, OSError):
                raise folder_error(error, self.url(name), self._path(name)) from error
            raise StoreUnavailableError(
                f"cannot reach {self.url(name)}: {type(error).__name__}: {error}", GENERAL_HINT
            ) from error
