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
from lumigator_nb.tables.numeric import json_numbers
from lumigator_nb.tables.text import TextFile, in_batches

_KINDS = {list: "a list", str: "a string", bool: "true or false", NoneType: "null"}
_SURROGATE = re.compile(r"\\u[dD]")
_ONE_OBJECT = "each line must be one complete JSON object"
_FROM_ARRAY = "convert the JSON array: pandas.read_json(old, dtype=False).to_json(new, orient='records', lines=True)"


class _Number(str):
    """A number as it is written, so that 1.10 can stay 1.10."""

    __slots__ = ()


class _RepeatedKeyError(ValueError):
    pass


def read_jsonl(path: Path, wanted: Wanted) -> Raw:
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
    every = chain([(first, size)], rows)
    columns = _gather(_with_key(every, example, wanted.filename))
    mapped = wanted.with_ground_truth(example, list(columns))
    for name in mapped.values():
        refuse_nested(columns[name].nested_row, name, wanted.filename)
    metadata = [name for name in columns if name not in mapped.values()]
    notes = [f"column {name!r} kept as JSON text" for name in metadata if columns[name].is_mixed]
    fields = {name: column.typed() if name in metadata else column.text() for name, column in columns.items()}
    return Raw(pa.table(fields), mapped, (*text.notes, *notes))


class _Column:
    """One key's values as text, with what is needed to give them their type at the end.

    Attributes:
        nested_row: the first row (from 1) with an object or a list, if any.
    """

    def __init__(self, n_missing: int) -> None:
        self._length = n_missing
        self._chunks = [pa.nulls(n_missing, pa.string())]
        self._kinds: set[type] = set()
        self.nested_row: int | None = None

    def append(self, values: list[Any]) -> None:
        kinds = set(map(type, values)) - {NoneType}
        if self.nested_row is None and kinds & {dict, list}:
            self.nested_row = self._length + 1 + next(i for i, v in enumerate(values) if isinstance(v, (dict, list)))
        if not kinds <= {str, _Number}:
            values = [value if value is None or isinstance(value, str) else _json(value) for value in values]
        self._chunks.append(pa.array(values, pa.string()))
        self._kinds |= kinds
        self._length += len(values)

    @property
    def is_mixed(self) -> bool:
        return len(self._kinds) > 1 or self.nested_row is not None

    def text(self) -> pa.ChunkedArray:
        return pa.chunked_array(self._chunks, pa.string())

    def typed(self) -> pa.ChunkedArray:
        if self._kinds == {_Number}:
            return json_numbers(self.text())
        return self.text().cast(pa.bool_()) if self._kinds == {bool} else self.text()


def _gather(rows: Iterator[tuple[dict[str, Any], int]]) -> dict[str, _Column]:
    columns: dict[str, _Column] = {}
    length = 0
    for batch in in_batches(rows):
        for row in batch:
            if not row.keys() <= columns.keys():
                columns |= {key: _Column(length) for key in row if key not in columns}
        for key, column in columns.items():
            column.append([row.get(key) for row in batch])
        length += len(batch)
    return columns


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
