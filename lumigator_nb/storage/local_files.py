"""Local files: published by a rename, private to the account or its group, with errors that are explained."""

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

# Returns a context that turns the errors of a file system into errors of this package.
Explaining = Callable[[], AbstractContextManager[None]]

# The names that `files.Draft` gives; files of users may end in ".part", too.
_TEMPORARY = re.compile(r"\.[0-9a-f]+\.part$")


class Guarded:
    """An open file that explains its own errors.

    A ``with`` block around the file would also catch the errors of the code that uses it.
    """

    def __init__(self, file: IO[bytes], explained: Explaining) -> None:
        self._file, self._explained = file, explained

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._file, name)
        if not callable(attribute):
            return attribute

        def method(*arguments: Any, **named: Any) -> Any:
            with self._explained():
                return attribute(*arguments, **named)

        return method

    def __iter__(self) -> Iterator[bytes]:
        with self._explained():
            yield from self._file

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        # The context that opened the file closes it: whether to publish or to discard is decided there.
        pass


def make_folder(folder: Path) -> None:
    """Make a folder that other accounts of this machine cannot open; an existing folder keeps its permissions.

    If a group may write to the parent folder (a team's folder), it may also write here.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o770 if _is_of_a_group(folder.parent) else 0o700, exist_ok=True)


def make_file(file: Path) -> None:
    """Make an empty file that other accounts of this machine cannot read; an existing file stays unchanged.

    If a group may write to the folder, it may read and write the file.
    """
    mode = 0o660 if _is_of_a_group(file.parent) else 0o600
    # The mode is given to open(): a chmod afterwards would leave a moment in which others can open the file.
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


def close_to_others(folder: Path) -> None:
    """Remove others' permissions from a folder of this account, and the group's unless the group may write there."""
    if os.name != "posix":
        return
    status = folder.stat()
    private = status.st_mode & (0o770 if _is_of_a_group(folder) else 0o700)
    # Only the owner may change permissions. The bits above 0o777 stay: setgid hands a team's group on to new files.
    if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o777 != private:
        folder.chmod(private | stat.S_IMODE(status.st_mode) & ~0o777)


def _is_of_a_group(folder: Path) -> bool:
    """Return whether a group may write to a folder but not everyone (everyone may write to /tmp)."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWGRP) and not mode & stat.S_IWOTH


@contextmanager
def renamed_into_place(path: str | Path, explained: Explaining) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` when the block ends without an error; otherwise nothing is left behind."""
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
    """Open a user's file for reading.

    Raises:
        NotFoundError: the file does not exist.
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
    """Explain errors of a user's file, which is outside the store."""
    try:
        yield
    except OSError as error:
        raise folder_error(error, str(path), path) from error


def is_temporary(path: str) -> bool:
    """Return whether a name is of a file that is being written, or whose writer was killed."""
    return _TEMPORARY.search(path) is not None


def temporary_files(root: Path) -> Iterator[tuple[str, datetime]]:
    """Yield the name of each temporary file, relative to `root`, and when it was last written to (UTC)."""
    for path in sorted(root.rglob("*.part")):
        # The writer may rename the file before stat() reads it.
        with suppress(FileNotFoundError):
            if is_temporary(path.name):
                yield path.relative_to(root).as_posix(), datetime.fromtimestamp(path.stat().st_mtime, UTC)
