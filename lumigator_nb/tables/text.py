"""Decode text files strictly. Errors name the line and byte, and what to do."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lumigator_nb.errors import DatasetError

Row = TypeVar("Row")
# Called with the number of bytes of a file that have been read.
Report = Callable[[int], None]

# The longer marks first: UTF-32's begins with UTF-16's.
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Common encodings of tables. Without this list, a few accents could be guessed as some exotic code page.
_COMMON_ENCODINGS = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r"),
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
]
BATCH_ROWS = 4096
BATCH_CHARACTERS = 8_000_000
_CHUNK = 1 << 20
UTF8_BOM = codecs.BOM_UTF8
# `tell` takes a system call, so it is called only once for this many lines.
_LINES_PER_REPORT = 1024


def bom_of(head: bytes) -> bytes:
    """Return the byte-order mark at the beginning of a file, or b""."""
    return next((bom for bom in _BOMS if head.startswith(bom)), b"")


class TextFile:
    """A text file in UTF-8, or in the encoding of its byte-order mark.

    Args:
        path: a local file.
        filename: the file's name in messages.

    Attributes:
        position: number of bytes read so far, for progress.
    """

    def __init__(self, path: Path, filename: str) -> None:
        self.position = 0
        self.path = path
        self.filename = filename
        with path.open("rb") as file:
            self._bom = bom_of(file.read(4))
        self.encoding = _BOMS.get(self._bom, "utf-8")

    @property
    def notes(self) -> tuple[str, ...]:
        """A note on the byte-order mark, if there is one."""
        if not self._bom:
            return ()
        return ("byte-order mark removed",) if self.encoding == "utf-8" else (f"decoded from {self.encoding.upper()}",)

    def lines(self) -> Iterator[str]:
        """Yield lines with their original line ends: LF, CRLF or CR.

        Raises:
            DatasetError: a byte is NUL, or invalid in the encoding.
        """
        with self._open() as file:
            raw: Any = file.buffer
            try:
                for number, line in enumerate(file, start=1):
                    if "\0" in line:
                        self._refuse_nul(number)
                    if not number % _LINES_PER_REPORT:
                        self.position = raw.tell()
                    yield line
            except UnicodeDecodeError:
                self._refuse_encoding()

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces of about a million characters; errors as in :meth:`lines`."""
        line = 1
        with self._open() as file:
            raw: Any = file.buffer
            try:
                while piece := file.read(_CHUNK):
                    if "\0" in piece:
                        self._refuse_nul(line + piece[: piece.index("\0")].count("\n"))
                    line += piece.count("\n")
                    self.position = raw.tell()
                    yield piece
            except UnicodeDecodeError:
                self._refuse_encoding()

    def start_of_line(self, number: int) -> int:
        """Return the byte offset of a line (from 1). The lines before it must have been read without an error."""
        before = islice(self.lines(), number - 1)
        return len(self._bom) + sum(len(line.encode(self.encoding)) for line in before)

    def sample(self, characters: int) -> str:
        """Return the first characters; errors as in :meth:`lines`."""
        with self._open() as file:
            try:
                return file.read(characters)
            except UnicodeDecodeError:
                self._refuse_encoding()

    def _open(self) -> io.TextIOWrapper:
        raw = self.path.open("rb")
        raw.seek(len(self._bom))
        return io.TextIOWrapper(raw, encoding=self.encoding, newline="")

    def _refuse_nul(self, line: int) -> NoReturn:
        with self.path.open("rb") as file:
            head = file.read(4096)
        # In UTF-16, every second byte of Latin text is NUL.
        if head.count(0) > len(head) // 4:
            raise DatasetError(
                f"{self.filename} seems to be UTF-16 without a byte-order mark", _conversion(self.filename, "utf-16-le")
            )
        raise DatasetError(
            f"{self.filename}, line {line}: there is a NUL byte",
            "remove the byte, or export the file again: text does not contain NUL",
        )

    def _refuse_encoding(self) -> NoReturn:
        offset, line, reason = self._find_bad_byte()
        place = f"{self.filename}, line {line}: byte {offset} is not {self.encoding.upper()}"
        if reason in ("unexpected end of data", "truncated data"):
            raise DatasetError(
                f"{place}: the file ends inside a character",
                "download it again if it is incomplete, or save it as UTF-8",
            )
        guess = self._guess_encoding(offset) if self.encoding == "utf-8" else None
        if guess is None:
            raise DatasetError(place, "save the file as UTF-8 in the program that wrote it")
        raise DatasetError(f"{place}; the file seems to be {guess}", _conversion(self.filename, guess))

    def _find_bad_byte(self) -> tuple[int, int, str]:
        """Return the offset of the first invalid byte in the file, its line (from 1), and the decoder's reason."""
        decoder = codecs.getincrementaldecoder(self.encoding)()
        offset, line_feeds, returns = len(self._bom), 0, 0
        with self.path.open("rb") as file:
            file.seek(offset)
            while True:
                chunk = file.read(_CHUNK)
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    # The decoder prepends the incomplete character of the previous chunk.
                    pending = len(error.object) - len(chunk)
                    text = error.object[: error.start].decode(self.encoding)
                    # A file uses LF, CRLF or CR throughout, so the larger count is that of lines.
                    line = 1 + max(line_feeds + text.count("\n"), returns + text.count("\r"))
                    return offset - pending + error.start, line, error.reason
                if not chunk:
                    raise DatasetError(f"{self.filename} changed while it was read", "upload it again")
                offset += len(chunk)
                line_feeds += text.count("\n")
                returns += text.count("\r")

    def _guess_encoding(self, offset: int) -> str | None:
        from charset_normalizer import from_bytes

        with self.path.open("rb") as file:
            # The surroundings of the bad byte: the rest may be ASCII, which fits any encoding.
            file.seek(max(0, offset - 20_000))
            best = from_bytes(file.read(60_000), cp_isolation=_COMMON_ENCODINGS).best()
        if best is None:
            return None
        # Western European text is often valid in Central European code pages, too, but is far more common.
        return "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding


def in_batches(sized: Iterable[tuple[Row, int]]) -> Iterator[list[Row]]:
    """Group rows into batches of bounded size. Each row comes with its number of characters."""
    batch: list[Row] = []
    characters = 0
    for row, size in sized:
        batch.append(row)
        characters += size
        if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _conversion(filename: str, encoding: str) -> str:
    old, new = repr(filename), repr(f"utf8-{filename}")
    return (
        f"save it as UTF-8, or convert it with pathlib: "
        f"Path({new}).write_bytes(Path({old}).read_bytes().decode({encoding!r}).encode())"
    )
