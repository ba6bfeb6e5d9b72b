"""Atomic files: written under a temporary name in the same folder, flushed to the disk, then renamed.

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
    """A file that is being written under a temporary name, such as ``report.html.5f3a….part``.

    Args:
        path: the final path, in a folder that exists.
        mode: permissions, before the umask: 0o600 for a file that only its owner may read.

    Attributes:
        file: open for writing.
    """

    def __init__(self, path: Path, mode: int = 0o666) -> None:
        self._target = path
        self._path = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        # Another user of the folder must not be able to redirect the file with a link.
        no_link = getattr(os, "O_NOFOLLOW", 0)
        self.file: IO[bytes] = open(  # noqa: SIM115 - closed when it is published or discarded
            self._path, "xb", opener=lambda name, flags: os.open(name, flags | no_link, mode)
        )

    def publish(self, *, over: bool = True) -> None:
        """Move the file to its final path, so that it survives a power cut.

        Args:
            over: whether to replace an existing file; if False, the existing file stays.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        if over:
            self._path.replace(self._target)
        else:
            # Unlike a rename, a link never replaces another file.
            with suppress(FileExistsError):
                os.link(self._path, self._target)
        if os.name == "posix":  # the only systems that open folders
            # The rename itself is in the folder, which is flushed separately.
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Remove the file, if it was not published."""
        # close() flushes the buffer. After a failed write it fails again, which is no news.
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, mode: int = 0o666, *, over: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` when the block ends; if the block raises, no file is left.

    Args:
        path, mode: as in :class:`Draft`.
        over: as in :meth:`Draft.publish`.

    Raises:
        OSError: it cannot be written.
    """
    draft = Draft(path, mode)
    try:
        yield draft.file
        draft.publish(over=over)
    finally:
        draft.discard()
