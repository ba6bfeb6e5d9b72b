"""The object store: files under one root, on any file system that fsspec knows.

A name written is complete or absent, never half there: local files are renamed into place, object stores publish
a put at its end.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.spec import AbstractFileSystem

from lumigator_nb.errors import ConfigurationError, MissingExtraError, NotFoundError, StoreUnavailableError
from lumigator_nb.specs import StoreSpec

# Libraries below fsspec whose own errors, which are no OSError, mean that the store does not answer.
_CLIENTS = ("aiobotocore", "aiohttp", "botocore")


class Store:
    """A folder or bucket prefix that holds everything but the database.

    Args:
        spec: where it is.
        credentials: arguments for an S3 file system; default the ordinary AWS chain (environment, profile, role).

    Raises:
        ConfigurationError: fsspec has no such protocol.
        MissingExtraError: the protocol's package is not installed.
    """

    def __init__(self, spec: StoreSpec, credentials: Mapping[str, Any] | None = None) -> None:
        self.spec = spec
        self.fs, self.root = _open_filesystem(spec, credentials or {})
        self.is_local = "file" in _protocols(self.fs)

    def __repr__(self) -> str:
        return f"Store({self.spec.uri!r})"

    def url(self, name: str) -> str:
        """The full URL of `name`, for other programs."""
        return f"{self.spec.uri.rstrip('/')}/{name}"

    def local_path(self, name: str) -> Path:
        """Where `name` is on this machine; only for a local store."""
        return Path(self._path(name))

    def read(self, name: str) -> bytes:
        """Return the content of `name`.

        Raises:
            NotFoundError: nothing has that name.
            StoreUnavailableError: the store does not answer.
        """
        with self._explained(name):
            return cast(bytes, self.fs.cat_file(self._path(name)))

    def find(self, name: str) -> bytes | None:
        """Return the content of `name`, or None where there is nothing."""
        try:
            return self.read(name)
        except NotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Publish `data` under `name`, replacing what was there."""
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open `name` as a seekable binary file."""
        with self._explained(name), self.fs.open(self._path(name), "rb") as file:
            yield file

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a binary file that appears under `name` when the block ends well, and not at all otherwise."""
        path = self._path(name)
        with self._explained(name, writing=True):
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                with _renamed_into_place(path) as file:
                    yield file
                return
            file = self.fs.open(path, "wb", autocommit=False)
            try:
                yield file
                file.close()
                file.commit()
            except BaseException:
                file.discard()
                raise

    def exists(self, name: str) -> bool:
        """Whether `name` is there."""
        with self._explained(name):
            return bool(self.fs.exists(self._path(name)))

    def list(self, folder: str) -> list[str]:
        """Return the sorted names of all files under `folder`, at any depth; empty where it is not there."""
        with self._explained(folder):
            self.fs.invalidate_cache()
            found = self.fs.find(self._path(folder))
        return sorted(path[len(self.root) + 1 :] for path in found if not path.endswith(".part"))

    def delete(self, name: str) -> None:
        """Remove the file or folder `name`; nothing happens where there is none."""
        with self._explained(name):
            path = self._path(name)
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)

    def check(self) -> None:
        """Write, read and remove a small file.

        Raises:
            StoreUnavailableError: one of the three does not work.
        """
        name = f".check-{uuid.uuid4().hex}"
        self.write(name, b"ok")
        if self.read(name) != b"ok":
            raise StoreUnavailableError(f"the store {self.spec.uri} returned other bytes than were written")
        self.delete(name)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def _explained(self, name: str, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENTS:
                raise
            # What is not found when writing is the bucket.
            if isinstance(error, FileNotFoundError) and not writing:
                raise NotFoundError("file", self.url(name)) from error
            raise StoreUnavailableError(
                f"cannot reach {self.url(name)}: {type(error).__name__}: {error}",
                "check S3_BUCKET, S3_ENDPOINT_URL and the AWS_* variables, or the folder's permissions and free space",
            ) from error


@contextmanager
def _renamed_into_place(path: str) -> Iterator[IO[bytes]]:
    temporary = Path(f"{path}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _open_filesystem(spec: StoreSpec, credentials: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    options: dict[str, Any] = {}
    if spec.uri.startswith("s3://"):
        options = {**credentials, "endpoint_url": spec.endpoint_url}
    try:
        fs, root = fsspec.core.url_to_fs(spec.uri, **options)
    except ImportError as error:
        raise MissingExtraError(f"a store at {spec.uri.split('://')[0]}://", "s3") from error
    except ValueError as error:
        raise ConfigurationError(f"{spec.uri!r} is not a store's address: {error}") from error
    return fs, root.rstrip("/")


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
