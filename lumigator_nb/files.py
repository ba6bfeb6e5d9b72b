"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed.

python-atomicwrites did this, and is no longer maintained.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


class Draft:
    """A file that is being written beside its place, under a name such as ``report.html.5f3a….part``.

    Args:
        path: its place, in a folder that is there.
        mode: permissions, before the umask: 0o600 for what only its owner may read.

    Attributes:
        file: open for writing.
    """

    def __init__(self, path: Path, mode: int = 0o666) -> None:
        self._target = path
        self._path = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        # A link that somebody put there is not followed.
        no_link = getattr(os, "O_NOFOLLOW", 0)
        self.file: IO[bytes] = open(  # noqa: SIM115 - closed when it is published or discarded
            self._path, "xb", opener=lambda name, flags: os.open(name, flags | no_link, mode)
        )

    def publish(self, *, over: bool = True) -> None:
        """Put the file in its place, where it outlasts a power cut.

        Args:
            over: also where there is a file, which is replaced; else that one stays.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        if over:
            self._path.replace(self._target)
        else:
            # Unlike a rename, a link is never made over another file.
            with suppress(FileExistsError):
                os.link(self._path, self._target)
        _sync_folder(self._target.parent)

    def discard(self) -> None:
        """Remove what was not published."""
        # Where a write has failed, what is still buffered fails again, which says nothing new.
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, mode: int = 0o666, *, over: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` when the block ends well, and leaves nothing otherwise.

    Args:
        path, mode: as of :class:`Draft`.
        over: as of :meth:`Draft.publish`.

    Raises:
        OSError: it cannot be written.
    """
    draft = Draft(path, mode)
    try:
        yield draft.file
        draft.publish(over=over)
    finally:
        draft.discard()


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut; only POSIX opens folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
