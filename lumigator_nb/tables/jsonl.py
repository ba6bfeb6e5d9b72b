"""JSON Lines: one object on each line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any

import pyarrow as pa

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.columns import Raw, Wanted, refuse_nested, shortened
from lumigator_nb.tables.numeric import JsonNumbers
from lumigator_nb.tables.spool import Spool
from lumigator_nb.tables.text import Report, TextFile, in_batches

_KINDS = {list: "a list", str: "a string", bool: "true or false", NoneType: "null"}
_SURROGATE = re.compile(r"\\u[dD]")
_ONE_OBJECT = "each line must be one complete JSON object"
_FROM_ARRAY = "convert the JSON array: pandas.read_json(old, dtype=False).to_json(new, orient='records', lines=True)"


class _Number(str):
    """A number as it is written, so that 1.10 can stay 1.10."""

    __slots__ = ()


class _RepeatedKeyError(ValueError):
    pass


def read_jsonl(path: Path, wanted: Wanted, spool: Spool, report: Report) -> Raw:
    """Read JSON Lines; blank lines are passed over.

    Metadata keep their types; nested values, and columns with values of several types, become JSON text.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    text = TextFile(path, wanted.filename)
    rows = _rows(text)
    first, size = next(rows, ({}, 0))
    if not first:
        raise DatasetError(f"{wanted.filename} has no values", _ONE_OBJECT)
    example = wanted.example_among(list(first))
    columns: dict[str, _Column] = {}
    done = 0
    for batch in in_batches(_with_key(chain([(first, size)], rows), example, wanted.filename)):
        for row in batch:
            if not row.keys() <= columns.keys():
                columns |= {key: _Column() for key in row if key not in columns}
        pieces = {key: column.piece([row.get(key) for row in batch], done) for key, column in columns.items()}
        spool.add(pa.table(pieces))
        done += len(batch)
        report(text.position)
    spool.close()
    mapped = wanted.with_ground_truth(example, list(columns))
    for name in mapped.values():
        refuse_nested(columns[name].nested_row, name, wanted.filename)
    metadata = {name: column for name, column in columns.items() if name not in mapped.values()}
    notes = [f"column {name!r} kept as JSON text" for name, column in metadata.items() if column.is_mixed]
    types = {name: column.type for name, column in metadata.items() if column.type is not None}
    return Raw(list(columns), mapped, (*text.notes, *notes), lambda: (_typed(table, types) for table in spool.tables()))


def _typed(table: pa.Table, types: dict[str, pa.DataType]) -> pa.Table:
    for name, kind in types.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    return table


class _Column:
    """What is to be known of all values of a key, to give them their type at the end.

    Attributes:
        nested_row: the first row (from 1) with an object or a list, if any.
    """

    def __init__(self) -> None:
        self._kinds: set[type] = set()
        self._numbers = JsonNumbers()
        self.nested_row: int | None = None

    def piece(self, values: list[Any], done: int) -> pa.Array:
        """Return the next values as text; `done` came before."""
        kinds = set(map(type, values)) - {NoneType}
        if self.nested_row is None and kinds & {dict, list}:
            self.nested_row = done + 1 + next(i for i, v in enumerate(values) if isinstance(v, (dict, list)))
        if not kinds <= {str, _Number}:
            values = [value if value is None or isinstance(value, str) else _json(value) for value in values]
        self._kinds |= kinds
        found = pa.array(values, pa.string())
        if self._kinds == {_Number}:
            self._numbers.add(pa.chunked_array([found]))
        return found

    @property
    def is_mixed(self) -> bool:
        return len(self._kinds) > 1 or self.nested_row is not None

    @property
    def type(self) -> pa.DataType | None:
        """The type that the text becomes; None where it stays text."""
        if self._kinds == {_Number}:
            return self._numbers.type
        return pa.bool_() if self._kinds == {bool} else None


def _with_key(
    rows: Iterator[tuple[dict[str, Any], int]], key: str, filename: str
) -> Iterator[tuple[dict[str, Any], int]]:
    for number, (row, size) in enumerate(rows, start=1):
        if key not in row:
            keys = ", ".join(repr(shortened(name)) for name in row) or "none"
            raise DatasetError(
                f"{filename}, row {number}: there is no key {key!r}; its keys are: {keys}",
                'give every row that key; "" and null stand for an empty example',
            )
        yield row, size


def _rows(text: TextFile) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each line's object with the line's length."""
    decode = json.JSONDecoder(
        object_pairs_hook=_distinct, parse_int=_Number, parse_float=_Number, parse_constant=_constant
    ).decode
    for number, line in enumerate(text.lines(), start=1):
        if line.isspace():
            continue
        place = f"{text.filename}, line {number}"
        try:
            row = decode(line)
        except json.JSONDecodeError as error:
            hint = _FROM_ARRAY if number == 1 and line.lstrip().startswith("[") else _ONE_OBJECT
            raise DatasetError(f"{place}: broken JSON at character {error.pos + 1}: {error.msg}", hint) from None
        except (_RepeatedKeyError, RecursionError) as error:
            raise DatasetError(f"{place}: {error}", _ONE_OBJECT) from None
        if not isinstance(row, dict):
            hint = _FROM_ARRAY if isinstance(row, list) else _ONE_OBJECT
            raise DatasetError(f"{place} is {_kind(row)}, not an object", hint)
        if _SURROGATE.search(line):
            _refuse_lone_surrogates(row, place)
        yield row, len(line)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found


def _constant(name: str) -> _Number | None:
    return None if name == "NaN" else _Number(name)  # NaN is what Python writes for pandas' missing values


def _kind(value: object) -> str:
    return "a number" if isinstance(value, _Number) else _KINDS[type(value)]


def _refuse_lone_surrogates(row: dict[str, Any], place: str) -> None:
    for key, value in row.items():
        try:
            json.dumps([key, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            key = key.encode("ascii", "backslashreplace").decode()
            raise DatasetError(
                f"{place}, key {key!r}: a \\ud800-\\udfff escape stands alone, which is no character",
                "text was cut inside an emoji or the like: cut it by characters, or remove the escape",
            ) from None


def _json(value: Any) -> str:
    if isinstance(value, _Number):
        return value
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_json(one)}" for key, one in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
