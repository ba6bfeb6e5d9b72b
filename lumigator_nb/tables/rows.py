"""Collect rows of values by column name (JSON, Excel). They are stored as text until all types are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from types import NoneType
from typing import Any

import pyarrow as pa

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.columns import Raw, Wanted, refuse_nested, refuse_too_many, shortened
from lumigator_nb.tables.numeric import JsonNumbers, with_types
from lumigator_nb.tables.spool import Spool
from lumigator_nb.tables.text import in_batches

# A row, and its approximate number of characters.
Row = tuple[dict[str, Any], int]


class Number(str):
    """A number in its written form, so that 1.10 can stay 1.10."""

    __slots__ = ()


def collect(
    rows: Iterator[Row], wanted: Wanted, spool: Spool, report: Callable[[], None], kept_as: str = "JSON text"
) -> Raw:
    """Write rows to the spool, and find their columns and types.

    Args:
        rows: rows of str, :class:`Number`, bool, None, and dicts and lists of these.
        report: called after each batch.
        kept_as: the form in which columns of several types are stored, for a note.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    first, size = next(rows, ({}, 0))
    if not first:
        raise DatasetError(f"{wanted.filename} has no values", "the first row must be an object with at least one key")
    # The example must be in every row, so it can be chosen from the first. The ground truth may come in a later one.
    example = wanted.example_among(list(first))
    columns: dict[str, _Column] = {}
    done = 0
    for batch in in_batches(_require_key(chain([(first, size)], rows), example, wanted.filename)):
        for row in batch:
            if not row.keys() <= columns.keys():
                columns |= {key: _Column() for key in row if key not in columns}
                refuse_too_many(len(columns), wanted.filename)
        pieces = {key: column.piece([row.get(key) for row in batch], done) for key, column in columns.items()}
        spool.add(pa.table(pieces))
        done += len(batch)
        report()
    spool.close()
    mapped = wanted.with_ground_truth(example, list(columns))
    # Nested metadata become JSON text, but a nested example or ground truth is most likely a mistake.
    for name in mapped.values():
        refuse_nested(columns[name].nested_row, name, wanted.filename)
    metadata = {name: column for name, column in columns.items() if name not in mapped.values()}
    notes = tuple(f"column {name!r} kept as {kept_as}" for name, column in metadata.items() if column.is_mixed)
    types = {name: column.type for name, column in metadata.items() if column.type is not None}
    typed = partial(with_types, types=types)
    return Raw(list(columns), mapped, notes, lambda: map(typed, spool.tables()))


class _Column:
    """Collects the types of a column's values, to choose the column's type at the end.

    Attributes:
        nested_row: the first row (from 1) whose value is an object or a list; None if there is none.
    """

    def __init__(self) -> None:
        self._kinds: set[type] = set()
        self._numbers = JsonNumbers()
        self.nested_row: int | None = None

    def piece(self, values: list[Any], done: int) -> pa.Array:
        """Return the next values as text. `done` is the number of rows before them."""
        kinds = set(map(type, values)) - {NoneType}
        if self.nested_row is None and kinds & {dict, list}:
            is_nested = [isinstance(value, (dict, list)) for value in values]
            self.nested_row = done + 1 + is_nested.index(True)
        if not kinds <= {str, Number}:
            values = [value if value is None or isinstance(value, str) else _json(value) for value in values]
        self._kinds |= kinds
        texts = pa.array(values, pa.string())
        if self._kinds == {Number}:
            self._numbers.add(pa.chunked_array([texts]))
        return texts

    @property
    def is_mixed(self) -> bool:
        return len(self._kinds) > 1 or self.nested_row is not None

    @property
    def type(self) -> pa.DataType | None:
        """The type to convert the text to, or None if it stays text."""
        if self._kinds == {Number}:
            return self._numbers.type
        return pa.bool_() if self._kinds == {bool} else None


def _require_key(rows: Iterator[Row], key: str, filename: str) -> Iterator[Row]:
    for number, (row, size) in enumerate(rows, start=1):
        if key not in row:
            keys = ", ".join(repr(shortened(name)) for name in row) or "none"
            raise DatasetError(
                f"{filename}, row {number}: there is no key {key!r}; its keys are: {keys}",
                'give every row this key; "" and null stand for an empty example',
            )
        yield row, size


def _json(value: Any) -> str:
    # json.dumps would put a Number in quotes, as it is a str.
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_json(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
