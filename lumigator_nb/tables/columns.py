"""Find the columns of the example and the ground truth, and bring all files into one common shape."""

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
    """The result of one format's reader.

    Attributes:
        names: all columns under the file's own names, which are distinct.
        columns: the names of the columns that are "example", "ground_truth", and, with several references,
            "ground_truth_2" and so on, under these keys.
        notes: the reader's automatic decisions, as messages for the user.
        tables: yields the rows in order, a few at a time, all with these columns and the same types.
        filename: the file's name in messages.
    """

    names: Sequence[str]
    columns: dict[str, str]
    notes: tuple[str, ...]
    tables: Callable[[], Iterator[pa.Table]]
    filename: str = ""


@dataclass(frozen=True)
class Wanted:
    """The columns that the caller requests. None stands for the default names.

    Attributes:
        filename: the file's name in messages.
        more_ground_truth: columns with further references.
        fill_short_rows: fill a row of delimited text that is too short with empty cells.
    """

    filename: str
    example: str | None = None
    ground_truth: str | None = None
    more_ground_truth: tuple[str, ...] = ()
    fill_short_rows: bool = False

    def among(self, names: Sequence[str]) -> dict[str, str]:
        """Return the file's columns for "example" and, if it has references, "ground_truth" and so on.

        Raises:
            DatasetError: a name occurs twice, or a requested name matches more than one column.
            MissingFieldsError: the file lacks a requested column.
        """
        refuse_duplicates(names, self.filename)
        return self.with_ground_truth(self.example_among(names), names)

    def example_among(self, names: Sequence[str]) -> str:
        """Return the file's column for "example"; errors as in :meth:`among`."""
        column = self._find(self.example, _DEFAULT_EXAMPLES, names)
        if column is None:
            raise self._missing("example", self.example, names)
        return column

    def with_ground_truth(self, example: str, names: Sequence[str]) -> dict[str, str]:
        """Return the mapping of :meth:`among` for a known column `example`."""
        ground_truth = self._find(self.ground_truth, _DEFAULT_GROUND_TRUTHS, names)
        if ground_truth is None and self.ground_truth is not None:
            raise self._missing("ground_truth", self.ground_truth, names)
        if ground_truth is None:
            return {"example": example}
        columns = {"example": example, "ground_truth": ground_truth}
        more: Sequence[str] = self.more_ground_truth
        if not more and self.ground_truth is None:
            more = [name for name in names if is_ground_truth(name) and name != ground_truth]
        for name in more:
            column = self._find(name, (), names)
            if column is None:
                raise self._missing("ground_truth", name, names)
            columns[f"ground_truth_{len(columns)}"] = column
        twice = next((name for name, n in Counter(columns.values()).items() if n > 1), None)
        if twice is not None:
            roles = "both example and ground truth" if twice == example else "two references"
            raise DatasetError(
                f"{self.filename}: column {twice!r} cannot be {roles}",
                "name each column once: example=, ground_truth=",
            )
        return columns

    def count_in(self, names: Sequence[str]) -> int:
        """Return how many of the requested columns are among `names`."""
        folded = {_fold(name) for name in names}
        examples = (self.example,) if self.example else _DEFAULT_EXAMPLES
        truths = (self.ground_truth,) if self.ground_truth else _DEFAULT_GROUND_TRUTHS
        return sum(any(_fold(name) in folded for name in group) for group in (examples, truths))

    def _find(self, requested: str | None, defaults: tuple[str, ...], names: Sequence[str]) -> str | None:
        for candidate in defaults if requested is None else (requested,):
            # An exact match wins over one in another case.
            if candidate in names:
                return candidate
            matches = [name for name in names if _fold(name) == _fold(candidate)]
            if len(matches) > 1:
                raise DatasetError(
                    f"{self.filename}: {candidate!r} fits several columns: {', '.join(map(repr, matches))}",
                    "name the one you mean exactly as it is written: example=, ground_truth=",
                )
            if matches:
                return matches[0]
        return None

    def _missing(self, field: str, requested: str | None, names: Sequence[str]) -> MissingFieldsError:
        columns = [shortened(name) for name in names]
        return MissingFieldsError(
            f"{self.filename} has no column {requested or field!r}; columns found: {', '.join(map(repr, columns))}",
            f'{did_you_mean(requested or field, columns)}. Name the column in the call: upload(…, {field}="…")',
        )


def refuse_duplicates(names: Sequence[str], filename: str) -> None:
    """Raise DatasetError if a column name occurs twice, or there are too many columns."""
    refuse_too_many(len(names), filename)
    for name, count in Counter(names).items():
        if count > 1:
            places = ", ".join(str(index) for index, other in enumerate(names, start=1) if other == name)
            raise DatasetError(
                f"{filename}: {count} columns are named {name!r} (columns {places})",
                "give each column its own name",
            )


def refuse_too_many(n_columns: int, filename: str) -> None:
    """Raise DatasetError if a file has more columns than examples may have."""
    if n_columns > MAX_COLUMNS:
        raise DatasetError(
            f"{filename} has {n_columns:,} columns, and examples may have {MAX_COLUMNS:,}",
            "keep only the columns you need; if rows and columns are swapped, transpose the table",
        )


def refuse_nested(row: int | None, name: str, filename: str) -> None:
    """Raise DatasetError for a nested example or ground truth in `row` (from 1); None means that none is nested."""
    if row is not None:
        raise DatasetError(
            f"{filename}, row {row}, column {name!r}: a nested value is not text",
            "make it one text per row, for example by joining the turns of a dialogue, or name another column",
        )


class Assembly:
    """Brings a reader's tables into the common shape, that of :class:`lumigator_nb.tables.Examples`.

    Attributes:
        notes: the columns that were renamed.
    """

    def __init__(self, raw: Raw, filename: str) -> None:
        self._raw, self._filename = raw, filename
        self._fields = dict(raw.columns)  # new name → name in the file
        notes = []
        taken = {*self._fields, *RESERVED}
        for name in raw.names:
            if name not in raw.columns.values():
                # A metadata column called "ground_truth_2" would later be taken for a reference.
                field = free_name(name, taken | {name} if is_ground_truth(name) else taken, raw.names)
                self._fields[field] = name
                taken.add(field)
                notes += [f"column {name!r} renamed {field!r}"] if field != name else []
        self.notes = tuple(notes)

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in order, a few at a time.

        Raises:
            DatasetError: there are no rows, or a text contains a NUL character.
        """
        first = 1
        for raw in self._raw.tables():
            columns = {field: raw[name] for field, name in self._fields.items()}
            # An empty input is an input, but an empty reference means that there is none.
            for field in self._raw.columns:
                if field != "example":
                    columns[field] = empty_as_null(columns[field])
                elif columns[field].null_count:
                    columns[field] = pc.fill_null(columns[field], "")
            table = pa.table(columns)
            _refuse_nul(table, self._filename, first)
            first += len(table)
            yield table
        if first == 1:
            raise DatasetError(f"{self._filename} names its columns but has no rows", "add at least one example")


def free_name(name: str, taken: set[str], others: Sequence[str]) -> str:
    """Return `name`, with underscores appended until it is neither in `taken` nor the name of another column."""
    free = name
    while free in taken or (free != name and free in others):
        free += "_"
    return free


def shortened(text: str, length: int = _SHOWN_NAME) -> str:
    """Return `text`, or its beginning with an ellipsis, in at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _refuse_nul(table: pa.Table, filename: str, first_row: int) -> None:
    for name in table.column_names:
        if pa.types.is_string(table[name].type):
            matches = pc.match_substring(table[name], "\0")
            if pc.any(matches).as_py():
                row = pc.index(matches, True).as_py() + first_row
                raise DatasetError(
                    f"{filename}, row {row}, column {name!r}: there is a NUL character",
                    "remove it: text does not contain NUL",
                )


def _fold(name: str) -> str:
    return name.strip().casefold()
