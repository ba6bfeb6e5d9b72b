"""Which column is which, and the one shape that all files are brought into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lumigator_nb.errors import DatasetError, MissingFieldsError, did_you_mean
from lumigator_nb.specs import is_ground_truth
from lumigator_nb.tables.numeric import empty_as_null

MAX_COLUMNS = 10_000
RESERVED = ("example", "ground_truth")
_DEFAULT_EXAMPLES = ("example", "examples")
_DEFAULT_GROUND_TRUTHS = ("ground_truth",)
_SHOWN_NAME = 60


@dataclass(frozen=True)
class Raw:
    """What a reader of one format hands over.

    Attributes:
        names: all columns under the file's own, distinct names.
        columns: which of them is "example", which "ground_truth", and, where there are several references, which are
            "ground_truth_2" and so on.
        notes: what the reader decided by itself.
        tables: yields the rows in order, a few at a time, all with these columns and the same types.
        filename: how messages call the file that the rows are in.
    """

    names: Sequence[str]
    columns: dict[str, str]
    notes: tuple[str, ...]
    tables: Callable[[], Iterator[pa.Table]]
    filename: str = ""


@dataclass(frozen=True)
class Wanted:
    """The columns that the caller asks for; None leaves it to the known names.

    Attributes:
        more_ground_truth: columns with further references.
        fill_short_rows: take cells that a row of delimited text lacks at its end for empty ones.
    """

    filename: str
    example: str | None = None
    ground_truth: str | None = None
    more_ground_truth: tuple[str, ...] = ()
    fill_short_rows: bool = False

    def among(self, names: Sequence[str]) -> dict[str, str]:
        """Return the file's column for "example" and, where there is one, for "ground_truth".

        Raises:
            DatasetError: names are repeated, or fit more than one column.
            MissingFieldsError: there is no such column.
        """
        refuse_duplicates(names, self.filename)
        return self.with_ground_truth(self.example_among(names), names)

    def example_among(self, names: Sequence[str]) -> str:
        """Return the file's column for "example"; errors as in :meth:`among`."""
        found = self._find(self.example, _DEFAULT_EXAMPLES, names)
        if found is None:
            raise self._missing("example", self.example, names)
        return found

    def with_ground_truth(self, example: str, names: Sequence[str]) -> dict[str, str]:
        """Return the mapping that :meth:`among` returns, `example` being known."""
        found = self._find(self.ground_truth, _DEFAULT_GROUND_TRUTHS, names)
        if found is None and self.ground_truth is not None:
            raise self._missing("ground_truth", self.ground_truth, names)
        if found is None:
            return {"example": example}
        columns = {"example": example, "ground_truth": found}
        for asked in self._more(found, names):
            column = self._find(asked, (), names)
            if column is None:
                raise self._missing("ground_truth", asked, names)
            columns[f"ground_truth_{len(columns)}"] = column
        twice = next((name for name, n in Counter(columns.values()).items() if n > 1), None)
        if twice is not None:
            what = "both example and ground truth" if twice == example else "two references"
            raise DatasetError(
                f"{self.filename}: column {twice!r} cannot be {what}",
                "name each column once: example=, ground_truth=",
            )
        return columns

    def _more(self, found: str, names: Sequence[str]) -> Sequence[str]:
        """The columns with further references: those asked for, or those of the known names."""
        if self.more_ground_truth or self.ground_truth is not None:
            return self.more_ground_truth
        return [name for name in names if is_ground_truth(name) and name != found]

    def count_in(self, names: Sequence[str]) -> int:
        """How many of the wanted columns have a counterpart among `names`."""
        folded = {_fold(name) for name in names}
        examples = (self.example,) if self.example else _DEFAULT_EXAMPLES
        truths = (self.ground_truth,) if self.ground_truth else _DEFAULT_GROUND_TRUTHS
        return sum(any(_fold(name) in folded for name in group) for group in (examples, truths))

    def _find(self, asked: str | None, defaults: tuple[str, ...], names: Sequence[str]) -> str | None:
        candidates = defaults if asked is None else (asked,)
        found = (self._match(candidate, names) for candidate in candidates)
        return next((name for name in found if name is not None), None)

    def _match(self, asked: str, names: Sequence[str]) -> str | None:
        if asked in names:
            return asked
        near = [name for name in names if _fold(name) == _fold(asked)]
        if len(near) > 1:
            raise DatasetError(
                f"{self.filename}: {asked!r} fits several columns: {', '.join(map(repr, near))}",
                "name the one you mean exactly as it is written: example=, ground_truth=",
            )
        return near[0] if near else None

    def _missing(self, field: str, asked: str | None, names: Sequence[str]) -> MissingFieldsError:
        known = [shortened(name) for name in names]
        return MissingFieldsError(
            f"{self.filename} has no column {asked or field!r}; columns found: {', '.join(map(repr, known))}",
            f'{did_you_mean(asked or field, known)}. Name the column in the call: upload(…, {field}="…")',
        )


def refuse_duplicates(names: Sequence[str], filename: str) -> None:
    """Raise DatasetError where a column name occurs twice, or there are too many columns."""
    refuse_too_many(len(names), filename)
    for name, count in Counter(names).items():
        if count > 1:
            places = ", ".join(str(index) for index, other in enumerate(names, start=1) if other == name)
            raise DatasetError(
                f"{filename}: {count} columns are named {name!r} (columns {places})", "give every column its own name"
            )


def refuse_too_many(n_columns: int, filename: str) -> None:
    """Raise DatasetError where a file has more columns than examples may have."""
    if n_columns > MAX_COLUMNS:
        raise DatasetError(
            f"{filename} has {n_columns:,} columns, and examples may have {MAX_COLUMNS:,}",
            "keep the columns that matter; if rows and columns are interchanged, transpose the table",
        )


def refuse_nested(row: int | None, name: str, filename: str) -> None:
    """Raise DatasetError where the example or ground truth in `row` (from 1; None: in no row) is nested."""
    if row is not None:
        raise DatasetError(
            f"{filename}, row {row}, column {name!r}: a nested value is not text",
            "make it one text per row, such as the joined turns of a dialogue, or name another column",
        )


class Assembly:
    """Brings what a reader found into the common shape: see :class:`lumigator_nb.tables.Examples`.

    Attributes:
        notes: which columns were renamed.
    """

    def __init__(self, raw: Raw, filename: str) -> None:
        self._raw, self._filename = raw, filename
        self._fields = dict(raw.columns)  # the file's column, by the name that it gets
        notes = []
        taken = {*self._fields, *RESERVED}
        for name in raw.names:
            if name not in raw.columns.values():
                kept = free_name(name, taken | {name} if is_ground_truth(name) else taken, raw.names)
                self._fields[kept] = name
                taken.add(kept)
                notes += [f"column {name!r} renamed {kept!r}"] if kept != name else []
        self.notes = tuple(notes)

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in order, a few at a time.

        Raises:
            DatasetError: there are no rows, or a text has a NUL character.
        """
        first = 1
        for raw in self._raw.tables():
            table = pa.table({field: self._column(raw, field) for field in self._fields})
            _refuse_nul(table, self._filename, first)
            first += len(table)
            yield table
        if first == 1:
            raise DatasetError(f"{self._filename} names its columns but has no rows", "add at least one example")

    def _column(self, raw: pa.Table, field: str) -> pa.ChunkedArray:
        column = raw[self._fields[field]]
        if field == "example":
            return pc.fill_null(column, "") if column.null_count else column
        return empty_as_null(column) if field in self._raw.columns else column


def free_name(name: str, taken: set[str], others: Sequence[str]) -> str:
    """Return `name`, with as many underscores behind it as make it unlike those taken and all other columns."""
    kept = name
    while kept in taken or (kept != name and kept in others):
        kept += "_"
    return kept


def shortened(text: str, length: int = _SHOWN_NAME) -> str:
    """Return `text`, or its beginning with an ellipsis, in at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _refuse_nul(table: pa.Table, filename: str, first_row: int) -> None:
    for name in table.column_names:
        if pa.types.is_string(table[name].type):
            found = pc.match_substring(table[name], "\0")
            if pc.any(found).as_py():
                row = pc.index(found, True).as_py() + first_row
                raise DatasetError(
                    f"{filename}, row {row}, column {name!r}: there is a NUL character", "remove it: text has none"
                )


def _fold(name: str) -> str:
    return name.strip().casefold()
