"""A field for files of any size. The browser sends pieces over the session's connection, straight into a file."""

from __future__ import annotations

import base64
import binascii
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import panel as pn
import param

from lumigator_nb.dashboards.kit import sheet
from lumigator_nb.display.text import size
from lumigator_nb.storage.layout import temporary

# dropzone.js sends pieces of 1 MiB; a larger one comes from something else.
_MOST_PER_PIECE = 4 << 20


class Dropzone(pn.custom.JSComponent):  # type: ignore[misc]
    """Takes one file at a time, and holds only a few pieces of it in memory.

    Attributes:
        max_bytes: a larger file is refused before anything of it is sent.
        hint: the line below the field.
    """

    max_bytes = param.Integer(default=0)
    hint = param.String()

    _esm = sheet("dropzone.js")
    _stylesheets = [sheet("colours.css"), sheet("dropzone.css")]  # noqa: RUF012 - as Panel wants it

    def __init__(
        self, arrived: Callable[[Path], None], refused: Callable[[str], None], max_bytes: int, **params: Any
    ) -> None:
        """Make the field.

        Args:
            arrived: called with the file, which keeps its name; it stays until :meth:`clear`.
            refused: called with the reason why a file was not taken.
            max_bytes: of a file. Checked here again, because a browser may send anything.
            params: of the component.
        """
        params.setdefault("hint", f"CSV, JSON, JSON Lines, Parquet or Excel, also compressed; up to {size(max_bytes)}")
        super().__init__(**{"max_bytes": max_bytes, "sizing_mode": "stretch_width", "margin": 0, **params})
        self._arrived, self._refused, self._most = arrived, refused, max_bytes
        self._folder: Path | None = None
        self._file: IO[bytes] | None = None
        self._name, self._received, self._size = "", 0, 0

    def clear(self) -> None:
        """Remove what was received so far."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        # Everything here comes from a browser, which may send anything.
        try:
            kind = msg["kind"]
            if kind == "begin":
                self.clear()
                name, n_bytes = str(msg["name"]), int(msg["size"])
                if n_bytes > self._most:
                    self._refuse(f"{name} has {size(n_bytes)}; the limit is {size(self._most)}")
                    return
                # The last part of the name without control characters, short enough for any file system.
                last = PurePosixPath(name.replace("\\", "/")).name
                printable = "".join(letter for letter in last if letter.isprintable())
                self._name = printable[-120:] if printable.strip(". ") else "file"
                self._folder = Path(tempfile.mkdtemp(prefix=temporary("drop")))
                self._received, self._size = 0, n_bytes
                self._file = (self._folder / self._name).open("wb")
                self._write(b"")  # an empty file has arrived already
            elif kind == "cancel":
                self.clear()
            else:
                self._write(base64.b64decode(msg["data"][: 2 * _MOST_PER_PIECE], validate=True))
        except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
            self._refuse(f"the file did not arrive: {error}")

    def _write(self, piece: bytes) -> None:
        if self._file is None:
            return  # a piece that was under way when the upload was cancelled
        self._received += len(piece)
        if self._received > self._size:
            self._refuse(f"{self._name} is larger than announced")
            return
        self._file.write(piece)
        self._send_msg({"kind": "kept", "kept": self._received})
        if self._received == self._size and self._folder is not None:
            self._file.close()
            self._file = None
            self._send_msg({"kind": "rest"})
            self._arrived(self._folder / self._name)

    def _refuse(self, reason: str) -> None:
        self.clear()
        self._send_msg({"kind": "rest"})
        self._refused(reason)
