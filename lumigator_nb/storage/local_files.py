"""Files of this machine: published by a rename, closed to other accounts, with errors in words."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from lumigator_nb.errors import NotFoundError
from lumigator_nb.files import Draft
from lumigator_nb.storage.explain import folder_error

# Makes a context in which errors are explained.
Explaining = Callable[[], AbstractContextManager[None]]

_TEMPORARY = re.compile(r"\.[0-9a-f]+\.part$")


class Guarded:
    """An open file whose own errors are explained, and no others that are raised while it is open."""

    def __init__(self, file: IO[bytes], explained: Explaining) -> None:
        self._file, self._explained = file, explained

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            with self._explained():
                return found(*arguments, **named)

        return call

    def __iter__(self) -> Iterator[bytes]:
        with self._explained():
            yield from self._file

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever opened it closes it.
        pass


def make_folder(folder: Path) -> None:
    """Make a folder that other accounts of this machine cannot look into; one that is there stays as it is.

    Where a group may write to the folder above it, as a team's, the group may do so here, too.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o770 if _is_of_a_group(folder.parent) else 0o700, exist_ok=True)


def make_file(file: Path) -> None:
    """Make an empty file that other accounts of this machine cannot read; one that is there stays as it is.

    The group may read and write it where it may write to the folder.
    """
    mode = 0o660 if _is_of_a_group(file.parent) else 0o600
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


def close_to_others(folder: Path) -> None:
    """Take from a folder of this account what others may do there, and the group where it may not write to it."""
    if os.name != "posix":
        return
    status = folder.stat()
    private = status.st_mode & (0o770 if _is_of_a_group(folder) else 0o700)
    if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o777 != private:
        folder.chmod(private | stat.S_IMODE(status.st_mode) & ~0o777)


def _is_of_a_group(folder: Path) -> bool:
    """Whether a group may write to a folder, and not everybody, as to /tmp."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWGRP) and not mode & stat.S_IWOTH


@contextmanager
def renamed_into_place(path: str | Path, explained: Explaining) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` when the block ends well, and leaves nothing otherwise."""
    target = Path(path)
    with explained():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Draft(target)
    try:
        yield draft.file
        with explained():
            draft.publish()
    finally:
        draft.discard()


@contextmanager
def opened(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file of the user's for reading.

    Raises:
        NotFoundError: there is none.
        StoreUnavailableError: it cannot be read.
    """
    with explained_as(path):
        if not Path(path).exists():
            raise NotFoundError("file", str(path))
        file = Path(path).open("rb")  # noqa: SIM115
    with file:
        yield cast(IO[bytes], Guarded(file, lambda: explained_as(path)))


@contextmanager
def explained_as(path: str | Path) -> Iterator[None]:
    """Explain what goes wrong with a file of the user's."""
    try:
        yield
    except OSError as error:
        raise folder_error(error, str(path), path) from error


def is_temporary(path: str) -> bool:
    """Whether a name is of a file that is still being written, or whose writer was killed."""
    return _TEMPORARY.search(path) is not None


def temporary_files(root: Path) -> Iterator[tuple[str, datetime]]:
    """Yield the name below `root` of each temporary file, and when it was last written to (UTC)."""
    for path in sorted(root.rglob("*.part")):
        # It may be renamed into place at this moment.
        with suppress(FileNotFoundError):
            if is_temporary(path.name):
                yield path.relative_to(root).as_posix(), datetime.fromtimestamp(path.stat().st_mtime, UTC)
