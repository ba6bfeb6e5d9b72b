"""Excel workbooks: one sheet, row by row."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import ParseError

from lumigator_nb.errors import DatasetError, MissingExtraError, did_you_mean
from lumigator_nb.tables.archives import refuse_bomb
from lumigator_nb.tables.columns import Raw, Wanted, refuse_duplicates, shortened
from lumigator_nb.tables.rows import Number, Row, collect
from lumigator_nb.tables.spool import Spool
from lumigator_nb.tables.text import Report

_FORMULA = re.compile(rb"<(?:\w+:)?f[ />]")
_FORMULA_BYTES = 64
_SAVE_AGAIN = "open it in Excel and save it again, or export the sheet as 'CSV UTF-8'"


def read_excel(path: Path, wanted: Wanted, spool: Spool, report: Report, sheet: str | None = None) -> Raw:
    """Read a sheet of an .xlsx workbook; its first row with values names the columns.

    Numbers and truth values keep their types, dates become ISO text, and of a formula the value counts that Excel
    saved; one without is refused. Columns with values of several types become text.

    Args:
        sheet: its name; default the first.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
        MissingExtraError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("reading an Excel workbook", "excel") from error
    size = path.stat().st_size
    with _explained(wanted.filename), path.open("rb") as file:
        refuse_bomb(path, wanted.filename)
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        try:
            name, notes = _chosen([found.title for found in book.worksheets], sheet, wanted.filename)
            page = book[name]
            page.reset_dimensions()  # what the file says of them may be wrong
            if _has_formulas(path):
                _refuse_unsaved(file, page, f"{wanted.filename}, sheet {name!r}")
            rows = _Rows(page.iter_rows(values_only=True), f"{wanted.filename}, sheet {name!r}")
            refuse_duplicates(rows.names, wanted.filename)
            raw = collect(rows.rows(), wanted, spool, lambda: report(min(file.tell(), size)), "text")
        finally:
            book.close()
    return replace(raw, notes=(*notes, *rows.notes, *raw.notes))


def _has_formulas(path: Path) -> bool:
    """Whether any sheet has one, which is far quicker to say than which cells they are in."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.startswith("xl/worksheets/"):
                continue
            with archive.open(name) as file:
                rest = b""
                while chunk := file.read(1 << 20):
                    if _FORMULA.search(rest + chunk):
                        return True
                    rest = chunk[-_FORMULA_BYTES:]
    return False


def _refuse_unsaved(file: IO[bytes], page: Any, place: str) -> None:
    """Refuse formulas without a value, as programs write them that cannot count: they would be read as empty cells."""
    import openpyxl

    book = openpyxl.load_workbook(file, read_only=True, data_only=False)
    try:
        formulas = book[page.title]
        formulas.reset_dimensions()
        for written, found in zip(formulas.iter_rows(), page.iter_rows(), strict=True):
            for cell, value in zip(written, found, strict=True):
                # A formula whose value is the empty text has none either, but says that it is text.
                if cell.data_type == "f" and value.value is None and value.data_type != "str":
                    raise DatasetError(f"{place}, cell {cell.coordinate}: the formula has no saved value", _SAVE_AGAIN)
    finally:
        book.close()


@contextmanager
def _explained(filename: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, KeyError, IndexError, TypeError, ParseError, EOFError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DatasetError(f"{filename} is not a readable Excel workbook: {reason}", _SAVE_AGAIN) from error


def _chosen(names: Sequence[str], asked: str | None, filename: str) -> tuple[str, tuple[str, ...]]:
    if not names:
        raise DatasetError(f"{filename} has no sheet with cells", _SAVE_AGAIN)
    if asked is not None and asked not in names:
        raise DatasetError(f"{filename} has no sheet {asked!r}", did_you_mean(asked, names))
    if asked is not None or len(names) == 1:
        return asked or names[0], ()
    known = ", ".join(repr(shortened(name)) for name in names)
    return names[0], (f"read sheet {names[0]!r}, the first of {len(names)}: {known}; another with sheet=",)


class _Rows:
    """The rows of a sheet.

    Attributes:
        names: of the columns.
        notes: what was passed over; complete at the end.
    """

    def __init__(self, cells: Iterator[Sequence[Any]], place: str) -> None:
        self._cells = enumerate(cells, start=1)
        self._place = place
        self.notes: tuple[str, ...] = ()
        self.names = self._header()

    def rows(self) -> Iterator[Row]:
        """Yield values by name, with the size of the row."""
        blank = pending = n_rows = 0
        for number, cells in self._cells:
            if all(cell is None for cell in cells):
                pending += 1
                continue
            blank, pending, n_rows = blank + pending, 0, n_rows + 1
            self._refuse_unnamed(cells, number)
            values = [_value(cell) for cell in cells[: len(self.names)]]
            values += [None] * (len(self.names) - len(values))
            size = len(values) + sum(len(value) for value in values if isinstance(value, str))
            yield dict(zip(self.names, values, strict=True)), size
        if not n_rows:
            raise DatasetError(f"{self._place} names its columns but has no rows", "add at least one example")
        self.notes = (f"{blank} blank {'row' if blank == 1 else 'rows'} skipped",) if blank else ()

    def _header(self) -> list[str]:
        for number, cells in self._cells:
            names = ["" if cell is None else str(_value(cell)).strip() for cell in cells]
            while names and not names[-1]:
                names.pop()
            if "" in names:
                column = _letters(names.index(""))
                raise DatasetError(f"{self._place}, row {number}: column {column} has no name", "name it in the header")
            if names:
                return names
        raise DatasetError(f"{self._place} is empty", "its first row must name the columns; another sheet: sheet=")

    def _refuse_unnamed(self, cells: Sequence[Any], number: int) -> None:
        for index in range(len(self.names), len(cells)):
            if cells[index] is not None:
                raise DatasetError(
                    f"{self._place}, row {number}: column {_letters(index)} has a value and no name",
                    "name the column in the header, or empty the cell",
                )


def _value(cell: Any) -> Any:
    if cell is None or isinstance(cell, (str, bool)):
        return cell
    if isinstance(cell, datetime.datetime):
        # Excel has no dates without a time.
        return (cell.date() if cell.time() == datetime.time() else cell).isoformat()
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    return Number(cell) if isinstance(cell, (int, float)) else str(cell)


def _letters(index: int) -> str:
    """What Excel calls a column: A, B, … Z, AA."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
