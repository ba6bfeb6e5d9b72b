"""A field for files of any size: they come in pieces over the session's connection, straight into a file."""

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
from lumigator_nb.presentation.folders import temporary

_MOST_PER_PIECE = 4 << 20


class Dropzone(pn.custom.JSComponent):  # type: ignore[misc]
    """Takes one file after the other; of a file no more than a few pieces are in memory.

    Attributes:
        max_bytes: a larger file is refused before anything of it is sent.
        hint: what stands below the field.
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
            arrived: called with the file, under the name that it had; it stays until :meth:`clear`.
            refused: called with why a file was not taken.
            max_bytes: of a file, also where the browser says something else.
            params: of the component.
        """
        params.setdefault("hint", f"CSV, JSON, JSON Lines, Parquet or Excel, also packed; up to {size(max_bytes)}")
        super().__init__(**{"max_bytes": max_bytes, "sizing_mode": "stretch_width", "margin": 0, **params})
        self._arrived, self._refused, self._most = arrived, refused, max_bytes
        self._folder: Path | None = None
        self._file: IO[bytes] | None = None
        self._name, self._kept, self._size = "", 0, 0

    def clear(self) -> None:
        """Remove what has come so far."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        try:
            self._take(msg)
        except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
            self._refuse(f"the file did not arrive: {error}")

    def _take(self, msg: dict[str, Any]) -> None:
        kind = msg["kind"]
        if kind == "begin":
            self._begin(str(msg["name"]), int(msg["size"]))
        elif kind == "cancel":
            self.clear()
        elif self._file is not None:
            self._keep(base64.b64decode(msg["data"][: 2 * _MOST_PER_PIECE], validate=True))

    def _begin(self, name: str, n_bytes: int) -> None:
        self.clear()
        if n_bytes > self._most:
            self._refuse(f"{name} has {size(n_bytes)}; at most {size(self._most)} are taken")
            return
        self._folder = Path(tempfile.mkdtemp(prefix=temporary("drop")))
        self._name, self._kept, self._size = _base(name), 0, n_bytes
        self._file = (self._folder / self._name).open("wb")
        self._keep(b"")

    def _keep(self, piece: bytes) -> None:
        if self._file is None:
            return
        self._kept += len(piece)
        if self._kept > self._size:
            self._refuse(f"{self._name} is larger than it was said to be")
            return
        self._file.write(piece)
        self._send_msg({"kind": "kept", "kept": self._kept})
        if self._kept == self._size and self._folder is not None:
            self._file.close()
            self._file = None
            self._send_msg({"kind": "rest"})
            self._arrived(self._folder / self._name)

    def _refuse(self, why: str) -> None:
        self.clear()
        self._send_msg({"kind": "rest"})
        self._refused(why)


def _base(name: str) -> str:
    """Return the last part of a name from a browser, as the file may be called here."""
    last = PurePosixPath(name.replace("\\", "/")).name
    kept = "".join(letter for letter in last if letter.isprintable())
    return kept[-120:] if kept.strip(". ") else "file"
