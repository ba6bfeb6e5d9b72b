"""Delimited text (CSV and the like), read as text, row by row.

Two readers give the same rows: Arrow's, which is fast, and the csv module's, which is strict and knows the line of each
row. The csv module reads files that are not plain enough for Arrow (see :mod:`lumigator_nb.tables.plain`), and explains
what is wrong with a file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

import pyarrow as pa

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.columns import Raw, Wanted, free_name, shortened
from lumigator_nb.tables.numeric import LosslessNumbers, with_types
from lumigator_nb.tables.plain import NotPlainError, PlainRows
from lumigator_nb.tables.spool import Spool
from lumigator_nb.tables.text import Report, TextFile, in_batches

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
_USUAL = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_SAMPLE_CHARACTERS = 1 << 18
_MAX_CELL_CHARACTERS = 2**31 - 1
_LINE_END = re.compile(r"\r\n|\r|\n")
_UNNAMED_INDEX = "index"


def read_delimited(path: Path, wanted: Wanted, spool: Spool, report: Report) -> Raw:
    """Read a file of delimited text. The delimiter is detected from its content.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    # The default limit, 128 KiB, is less than a long document. The limit is global, so it is only ever raised.
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    text = TextFile(path, wanted.filename)
    usual = _USUAL.get(PurePath(wanted.filename).suffix.lower(), ",")
    delimiter = find_delimiter(text.sample(_SAMPLE_CHARACTERS), wanted, usual)
    records = _Records(text, delimiter, wanted.fill_short_rows)
    columns = wanted.among(records.names)
    metadata = [name for name in records.names if name not in columns.values()]
    # The spool may already contain rows when the fast reader gives up, so the other one starts with an empty spool.
    try:
        types = _look(_plain(text, records, report), metadata, spool)
    except NotPlainError:
        spool.clear()
        types = _look(_carefully(text, records, report), metadata, spool)
    notes = list(text.notes)
    if delimiter != usual:
        notes.append(f"columns are separated by {_DELIMITERS[delimiter]}")
    if n_blank := records.n_blank:
        notes.append(f"{n_blank} blank {'line' if n_blank == 1 else 'lines'} skipped")
    if n_short := records.n_short:
        first = f"row {records.first_short}"
        rows = first if n_short == 1 else f"{n_short:,} rows (the first is {first})"
        notes.append(f"{rows} had fewer cells than the header: the missing cells are empty")
    return Raw(records.names, columns, tuple(notes), lambda: (with_types(table, types) for table in spool.tables()))


def _look(tables: Iterator[pa.Table], metadata: list[str], spool: Spool) -> dict[str, pa.DataType]:
    """Write the rows to the spool, and return the types of the numeric columns."""
    candidates = {name: LosslessNumbers() for name in metadata}
    for table in tables:
        spool.add(table)
        for name, numbers in candidates.items():
            numbers.add(table[name])
    spool.close()
    return {name: numbers.type for name, numbers in candidates.items() if numbers.type is not None}


def _plain(text: TextFile, records: _Records, report: Report) -> Iterator[pa.Table]:
    if text.encoding != "utf-8":
        raise NotPlainError
    with text.path.open("rb") as file:
        file.seek(text.start_of_line(records.first_line))
        rows = PlainRows(file, records.names, records.delimiter)
        yield from rows.tables(report)
        records.n_blank = rows.n_blank


def _carefully(text: TextFile, records: _Records, report: Report) -> Iterator[pa.Table]:
    for rows in in_batches((row, len(row) + sum(map(len, row))) for row in records.rows()):
        yield pa.table([pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)], names=records.names)
        report(text.position)


def find_delimiter(sample: str, wanted: Wanted, usual: str) -> str:
    """Return the delimiter that yields the requested columns and gives most rows as many cells as the header.

    Args:
        sample: the file's beginning.
        wanted: the requested columns; a delimiter that yields more of them is preferred.
        usual: the delimiter expected from the file's extension. It decides a tie, and is returned if no delimiter gives
            the header several columns.
    """
    # From most to least decisive: requested columns, share of rows as long as the header, the usual one, columns.
    fitness: dict[str, tuple[int, float, bool, int]] = {}
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
        header = rows[0] if rows else []
        if len(header) > 1:
            n_even = sum(len(row) == len(header) for row in rows[1:])
            even = n_even / (len(rows) - 1) if len(rows) > 1 else 1.0
            fitness[delimiter] = (wanted.count_in(header), even, delimiter == usual, len(header))
    return max(fitness, key=lambda delimiter: fitness[delimiter], default=usual)


class _Records:
    """The rows of a file, each with as many cells as the header.

    Attributes:
        names: the header's cells, without surrounding white space.
        delimiter: the character between cells.
        first_line: number of the line (from 1) that follows the header.
        n_blank: number of blank lines after the header; complete once all rows are read.
        n_short, first_short: number of rows that were filled with empty cells, and the first of them (from 1); complete
            once all rows are read.

    Args:
        fill_short: fill rows with too few cells, instead of refusing them.
    """

    def __init__(self, text: TextFile, delimiter: str, fill_short: bool = False) -> None:
        self._text, self._fill_short = text, fill_short
        self.delimiter = delimiter
        # Without `strict`, the csv module accepts text after a closing quote, and a last quote that is never closed.
        self._cells = csv.reader(text.lines(), delimiter=delimiter, strict=True)
        self._line = 0  # the last line of the previous row
        self._row = 0  # 0 is the header; data rows are counted from 1
        self.n_blank = 0
        self.n_short = self.first_short = 0
        # Empty until the header is read: error messages look at it.
        self.names: list[str] = []
        header = next((row for row in self._raw_rows() if "".join(row).strip()), None)
        if header is None:
            raise DatasetError(f"{text.filename} is empty", "the first line must name the columns")
        self._line = self._cells.line_num
        names = [name.strip() for name in header]
        if not names[0] and len(names) > 1:
            names[0] = free_name(_UNNAMED_INDEX, set(names), [])  # pandas writes its index without a name
        if "" in names:
            column = names.index("") + 1
            raise DatasetError(
                f"{text.filename}, line {self._line}: column {column} of {len(names)} has no name",
                f"name it in the header, or remove its delimiter {delimiter!r} from every line",
            )
        self.names = names
        self.first_line = self._line + 1

    def rows(self) -> Iterator[list[str]]:
        """Yield the data rows.

        Raises:
            DatasetError: a row has too many cells, or too few and may not be filled, or an unpaired quote.
        """
        self.n_blank = self.n_short = self.first_short = 0
        for row in self._raw_rows():
            self._row += 1
            if len(row) == len(self.names):
                yield row
            elif len(row) <= 1 and not "".join(row).strip():
                # Errors count rows as Arrow and other programs do: without blank lines.
                self._row -= 1
                self.n_blank += 1
            elif self._fill_short and len(row) < len(self.names):
                self.n_short += 1
                self.first_short = self.first_short or self._row
                yield row + [""] * (len(self.names) - len(row))
            else:
                raise self._ragged(row)

    def _raw_rows(self) -> Iterator[list[str]]:
        try:
            for row in self._cells:
                yield row
                self._line = self._cells.line_num
        except csv.Error as error:
            raise self._broken(error) from None

    def _place(self, row: int) -> str:
        label = f"row {row}" if row else "the header"
        return f"{self._text.filename}, line {self._line + 1} ({label})"

    def _ragged(self, row: list[str]) -> DatasetError:
        expected = len(self.names)
        cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
        message = f"{self._place(self._row)}: {cells} where the header names {expected}"
        if len(row) < expected:
            return DatasetError(
                f"{message}; the last cell is {shortened(row[-1])!r}",
                "add the missing cells; if a cell contains a line break, put the cell in double quotes; "
                "upload(…, short_rows='fill') fills them with empty cells",
            )
        if any(cell.lstrip().startswith('"') for cell in row):
            hint = f"remove the space between {self.delimiter!r} and the opening quote, which makes the quote text"
        else:
            hint = f"put cells that contain {self.delimiter!r} in double quotes"
        return DatasetError(f"{message}; the first cell too many is {shortened(row[expected])!r}", hint)

    def _broken(self, error: csv.Error) -> DatasetError:
        """Return an error with the place of the opening quote. The csv module knows only where it found a problem."""
        noticed = self._cells.line_num
        quote = self._unpaired_quote(noticed)
        if quote is None:
            return DatasetError(f"{self._place(self._row + 1)}: {error}", "check the quotes of this row")
        column = f", column {self.names[quote.cell]!r}" if quote.cell < len(self.names) else ""
        place = f"{self._text.filename}, line {quote.line} (row {self._row + 1}){column}"
        if not self.names:
            place = f"{self._text.filename}, line {quote.line} (the header)"
        double = 'write a quote inside a quoted cell twice: ""'
        if "unexpected end" in str(error):
            return DatasetError(f"{place}: the quote that opens here is never closed", f"close it, or {double}")
        if quote.line == noticed:
            return DatasetError(f"{place}: text follows the closing quote of a cell", double)
        return DatasetError(
            f"{place}: the quote that opens here is not closed before line {noticed}, where text follows it",
            f"close it where its cell ends, or {double}",
        )

    def _unpaired_quote(self, last_line: int) -> _Quote | None:
        """Return the row's first opening quote without a closing quote in front of a delimiter or line end."""
        text = "".join(islice(self._text.lines(), self._line, last_line))
        delimiter = re.escape(self.delimiter)
        # Possessive quantifiers (*+), since backtracking would take quadratic time in a long cell.
        quoted = re.compile(rf'"[^"]*+(?:""[^"]*+)*+"(?=[{delimiter}\r\n]|\Z)')
        plain = re.compile(rf"[^{delimiter}\r\n]*+")
        position = cell = 0
        while position < len(text):
            is_quoted = text[position] == '"'
            match = (quoted if is_quoted else plain).match(text, position)
            if match is None:
                return _Quote(self._line + 1 + len(_LINE_END.findall(text, 0, position)), cell)
            position, cell = match.end() + 1, cell + 1
        return None


@dataclass(frozen=True)
class _Quote:
    """An opening quote without a closing one: its line in the file (from 1), and the index of its cell in the row."""

    line: int
    cell: int
