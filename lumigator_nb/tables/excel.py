"""Excel workbooks: a single sheet, row by row."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
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
    """Read a sheet of an .xlsx workbook. Its first row with values names the columns.

    Numbers and truth values keep their types, and dates become ISO text. A formula is read as its saved value; one
    without a saved value is an error. Columns with values of several types become text.

    Args:
        sheet: the sheet's name; by default the first sheet.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
        MissingExtraError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("reading an Excel workbook", "excel") from error
    size = path.stat().st_size
    try:
        refuse_bomb(path, wanted.filename)
        with path.open("rb") as file, closing(openpyxl.load_workbook(file, read_only=True, data_only=True)) as book:
            name, notes = _choose_sheet([page.title for page in book.worksheets], sheet, wanted.filename)
            page = book[name]
            page.reset_dimensions()  # the dimensions that the file declares may be wrong
            if _has_formulas(path):
                _refuse_unsaved(file, page, f"{wanted.filename}, sheet {name!r}")
            rows = _Rows(page.iter_rows(values_only=True), f"{wanted.filename}, sheet {name!r}")
            refuse_duplicates(rows.names, wanted.filename)
            raw = collect(rows.rows(), wanted, spool, lambda: report(min(file.tell(), size)), "text")
    # What openpyxl raises for damaged workbooks.
    except (zipfile.BadZipFile, KeyError, IndexError, TypeError, ParseError, EOFError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DatasetError(f"{wanted.filename} is not a readable Excel workbook: {reason}", _SAVE_AGAIN) from error
    return replace(raw, notes=(*notes, *rows.notes, *raw.notes))


def _has_formulas(path: Path) -> bool:
    """Return whether any sheet has a formula. Searching the XML is much faster than parsing each cell."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.startswith("xl/worksheets/"):
                continue
            with archive.open(name) as file:
                rest = b""
                while chunk := file.read(1 << 20):
                    if _FORMULA.search(rest + chunk):
                        return True
                    # A tag may be split between two chunks.
                    rest = chunk[-_FORMULA_BYTES:]
    return False


def _refuse_unsaved(file: IO[bytes], page: Any, place: str) -> None:
    """Refuse formulas without a saved value, which would be read as empty cells.

    Programs that do not evaluate formulas, such as openpyxl, write them this way.
    """
    import openpyxl

    # openpyxl gives either formulas or values, so the sheet is read twice, in parallel.
    with closing(openpyxl.load_workbook(file, read_only=True, data_only=False)) as book:
        formulas = book[page.title]
        formulas.reset_dimensions()
        for formula_row, value_row in zip(formulas.iter_rows(), page.iter_rows(), strict=True):
            for cell, value in zip(formula_row, value_row, strict=True):
                # A formula that evaluates to the empty text has no value either, but its type is text.
                if cell.data_type == "f" and value.value is None and value.data_type != "str":
                    raise DatasetError(f"{place}, cell {cell.coordinate}: the formula has no saved value", _SAVE_AGAIN)


def _choose_sheet(names: Sequence[str], requested: str | None, filename: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of the sheet to read, and a note if others are ignored."""
    if not names:
        raise DatasetError(f"{filename} has no sheet with cells", _SAVE_AGAIN)
    if requested is not None and requested not in names:
        raise DatasetError(f"{filename} has no sheet {requested!r}", did_you_mean(requested, names))
    if requested is not None or len(names) == 1:
        return requested or names[0], ()
    sheets = ", ".join(repr(shortened(name)) for name in names)
    return names[0], (f"read sheet {names[0]!r}, the first of {len(names)}: {sheets}; another with sheet=",)


class _Rows:
    """The rows of a sheet.

    Attributes:
        names: names of the columns.
        notes: a note on skipped rows; complete once all rows are read.
    """

    def __init__(self, cells: Iterator[Sequence[Any]], place: str) -> None:
        self._cells = enumerate(cells, start=1)
        self._place = place
        self.notes: tuple[str, ...] = ()
        for number, header in self._cells:
            names = ["" if cell is None else str(_value(cell)).strip() for cell in header]
            # Cells that are formatted but empty extend the row.
            while names and not names[-1]:
                names.pop()
            if "" in names:
                column = _letters(names.index(""))
                raise DatasetError(f"{place}, row {number}: column {column} has no name", "name it in the header")
            if names:
                self.names = names
                return
        raise DatasetError(f"{place} is empty", "its first row must name the columns; another sheet: sheet=")

    def rows(self) -> Iterator[Row]:
        """Yield the rows as values by column name, with each row's number of characters."""
        # Blank rows at the end of a sheet are not worth a note, so they are counted only when a row follows.
        blank = pending = n_rows = 0
        for number, cells in self._cells:
            if all(cell is None for cell in cells):
                pending += 1
                continue
            blank, pending, n_rows = blank + pending, 0, n_rows + 1
            for index in range(len(self.names), len(cells)):
                if cells[index] is not None:
                    raise DatasetError(
                        f"{self._place}, row {number}: column {_letters(index)} has a value and no name",
                        "name the column in the header, or empty the cell",
                    )
            values = [_value(cell) for cell in cells[: len(self.names)]]
            values += [None] * (len(self.names) - len(values))
            size = len(values) + sum(len(value) for value in values if isinstance(value, str))
            yield dict(zip(self.names, values, strict=True)), size
        if not n_rows:
            raise DatasetError(f"{self._place} names its columns but has no rows", "add at least one example")
        self.notes = (f"{blank} blank {'row' if blank == 1 else 'rows'} skipped",) if blank else ()


def _value(cell: Any) -> Any:
    if cell is None or isinstance(cell, (str, bool)):
        return cell
    if isinstance(cell, datetime.datetime):
        # Excel stores a date as a date at midnight.
        return (cell.date() if cell.time() == datetime.time() else cell).isoformat()
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    return Number(cell) if isinstance(cell, (int, float)) else str(cell)


def _letters(index: int) -> str:
    """Return Excel's name of a column (from 0): A, B, … Z, AA."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
