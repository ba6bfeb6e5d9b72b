"""CSV and its kin, read as text, row by row."""

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
    """Read a file of delimited text; the delimiter is found from its content.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    # The default, 128 KiB, is less than a long document. The limit belongs to the process, so it is only raised.
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    text = TextFile(path, wanted.filename)
    usual = _USUAL.get(PurePath(wanted.filename).suffix.lower(), ",")
    delimiter = find_delimiter(text.sample(_SAMPLE_CHARACTERS), wanted, usual)
    records = _Records(text, delimiter, wanted.fill_short_rows)
    columns = wanted.among(records.names)
    metadata = [name for name in records.names if name not in columns.values()]
    try:
        types = _look(_plain(text, records, report), metadata, spool)
    except NotPlainError:
        spool.clear()
        types = _look(_carefully(text, records, report), metadata, spool)
    separated = (f"columns are separated by {_DELIMITERS[delimiter]}",) if delimiter != usual else ()
    short = _on_short_rows(records.n_short, records.first_short)
    n_blank = records.n_blank
    blank = (f"{n_blank} blank {'line' if n_blank == 1 else 'lines'} skipped",) if n_blank else ()
    notes = (*text.notes, *separated, *blank, *short)
    return Raw(records.names, columns, notes, lambda: (with_types(table, types) for table in spool.tables()))


def _look(tables: Iterator[pa.Table], metadata: list[str], spool: Spool) -> dict[str, pa.DataType]:
    """Put the rows aside, and return the types of the columns that are numbers."""
    found = {name: LosslessNumbers() for name in metadata}
    for table in tables:
        spool.add(table)
        for name, numbers in found.items():
            numbers.add(table[name])
    spool.close()
    return {name: numbers.type for name, numbers in found.items() if numbers.type is not None}


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


def _on_short_rows(count: int, first: int) -> tuple[str, ...]:
    if not count:
        return ()
    rows = f"row {first}" if count == 1 else f"{count:,} rows (the first is row {first})"
    return (f"{rows} had fewer cells than the header: what was missing is empty",)


def find_delimiter(sample: str, wanted: Wanted, usual: str) -> str:
    """Return the delimiter under which the wanted columns appear and most rows are as long as the header.

    Args:
        sample: the file's beginning.
        wanted: names that speak for a delimiter where it brings them out.
        usual: what such files have; decides a draw, and is returned where the header has a single column.
    """
    shapes = {delimiter: _shape(sample, delimiter) for delimiter in _DELIMITERS}

    def fitness(delimiter: str) -> tuple[int, float, bool, int]:
        header, lengths = shapes[delimiter]
        same = lengths.count(len(header)) / len(lengths) if lengths else 1.0
        return wanted.count_in(header), same, delimiter == usual, len(header)

    return max((one for one in shapes if len(shapes[one][0]) > 1), key=fitness, default=usual)


def _shape(sample: str, delimiter: str) -> tuple[list[str], list[int]]:
    """Return the header, and the number of cells of each further row."""
    rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
    return rows[0] if rows else [], [len(row) for row in rows[1:]]


class _Records:
    """The rows of a file, each as long as the header.

    Attributes:
        names: the header's cells, without white space around them.
        delimiter: between the cells.
        first_line: of the file (from 1), behind the header.
        n_blank: lines behind the header that were passed over; known at the end.
        n_short, first_short: how many rows were filled up with empty cells, and the first (from 1); known at the end.

    Args:
        fill_short: fill such rows, in place of refusing them.
    """

    def __init__(self, text: TextFile, delimiter: str, fill_short: bool = False) -> None:
        self._text, self._fill_short = text, fill_short
        self.delimiter = delimiter
        self._cells = csv.reader(text.lines(), delimiter=delimiter, strict=True)
        self._line = 0  # the last line of the row before
        self._row = 0  # 0 is the header, then data rows from 1
        self.n_blank = 0
        self.n_short = self.first_short = 0
        self.names: list[str] = []
        self.names = self._header()
        self.first_line = self._line + 1

    def rows(self) -> Iterator[list[str]]:
        """Yield the data rows.

        Raises:
            DatasetError: a row is longer than the header, or shorter and not to be filled, or its quotes do not pair.
        """
        self.n_blank = self.n_short = self.first_short = 0
        for row in self._raw_rows():
            self._row += 1
            if len(row) == len(self.names):
                yield row
            elif len(row) <= 1 and not "".join(row).strip():
                self._row -= 1
                self.n_blank += 1
            elif self._fill_short and len(row) < len(self.names):
                self.n_short += 1
                self.first_short = self.first_short or self._row
                yield row + [""] * (len(self.names) - len(row))
            else:
                raise self._ragged(row)

    def _header(self) -> list[str]:
        header = next((row for row in self._raw_rows() if "".join(row).strip()), None)
        if header is None:
            raise DatasetError(f"{self._text.filename} is empty", "the first line must name the columns")
        self._line = self._cells.line_num
        names = [name.strip() for name in header]
        if not names[0] and len(names) > 1:
            names[0] = free_name(_UNNAMED_INDEX, set(names), [])  # pandas writes its index without a name
        if "" in names:
            column = names.index("") + 1
            raise DatasetError(
                f"{self._text.filename}, line {self._line}: column {column} of {len(names)} has no name",
                f"name it in the header, or remove the delimiter {self.delimiter!r} that begins it from every line",
            )
        return names

    def _raw_rows(self) -> Iterator[list[str]]:
        try:
            for row in self._cells:
                yield row
                self._line = self._cells.line_num
        except csv.Error as error:
            raise self._broken(error) from None

    def _place(self, row: int) -> str:
        what = f"row {row}" if row else "the header"
        return f"{self._text.filename}, line {self._line + 1} ({what})"

    def _ragged(self, row: list[str]) -> DatasetError:
        found, expected = len(row), len(self.names)
        cells = "1 cell" if found == 1 else f"{found} cells"
        message = f"{self._place(self._row)}: {cells} where the header names {expected}"
        if found < expected:
            return DatasetError(
                f"{message}; the last cell is {shortened(row[-1])!r}",
                "add what is missing; if a cell holds a line break, put the cell in double quotes; "
                "upload(…, short_rows='fill') takes what is missing for empty",
            )
        if any(cell.lstrip().startswith('"') for cell in row):
            hint = f"remove the space between {self.delimiter!r} and the opening quote, which makes the quote text"
        else:
            hint = f"put a cell that holds {self.delimiter!r} in double quotes"
        return DatasetError(f"{message}; the first cell too many is {shortened(row[expected])!r}", hint)

    def _broken(self, error: csv.Error) -> DatasetError:
        """Say where the quote opens that does not pair: the csv module knows only where it noticed."""
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
        text = "".join(islice(self._text.lines(), self._line, last_line))
        delimiter = re.escape(self.delimiter)
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
    """An opening quote without its partner: its line in the file, and the index of its cell in the row."""

    line: int
    cell: int
