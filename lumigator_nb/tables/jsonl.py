"""JSON Lines, with one object per line, and JSON arrays of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

from lumigator_nb.errors import DatasetError
from lumigator_nb.tables.columns import Raw, Wanted
from lumigator_nb.tables.json_array import JsonArray
from lumigator_nb.tables.rows import Number, Row, collect
from lumigator_nb.tables.spool import Spool
from lumigator_nb.tables.text import Report, TextFile

_KINDS = {list: "a list", str: "a string", bool: "true or false", NoneType: "null"}
_SURROGATE = re.compile(r"\\u[dD]")
_ONE_OBJECT = "each line must be one complete JSON object"
_OBJECTS = 'each item must be an object, such as {"example": "…"}'
_FROM_ARRAY = "convert the JSON array: pandas.read_json(old, dtype=False).to_json(new, orient='records', lines=True)"


class _RepeatedKeyError(ValueError):
    pass


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(f"key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return row


def _constant(name: str) -> Number | None:
    return None if name == "NaN" else Number(name)  # Python's json module writes pandas' missing values as NaN


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=Number, parse_float=Number, parse_constant=_constant)


def read_jsonl(path: Path, wanted: Wanted, spool: Spool, report: Report) -> Raw:
    """Read JSON Lines. Blank lines are skipped.

    Metadata keep their types. Nested values, and columns with values of several types, become JSON text.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    text = TextFile(path, wanted.filename)
    raw = collect(_rows(text), wanted, spool, lambda: report(text.position))
    return replace(raw, notes=(*text.notes, *raw.notes))


def read_json_array(path: Path, wanted: Wanted, spool: Spool, report: Report) -> Raw:
    """Read a JSON array of objects, a few at a time. Types are as in :func:`read_jsonl`.

    Raises:
        DatasetError, MissingFieldsError: as :func:`lumigator_nb.tables.read_examples`.
    """
    text = TextFile(path, wanted.filename)
    raw = collect(_items(text), wanted, spool, lambda: report(text.position))
    return replace(raw, notes=(*text.notes, *raw.notes))


def _rows(text: TextFile) -> Iterator[Row]:
    """Yield each line's object with the length of the line."""
    decode = _DECODER.decode
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
        # Decoding accepts half a character as an escape; the search is a cheap test for any.
        if _SURROGATE.search(line):
            _refuse_lone_surrogates(row, place)
        yield row, len(line)


def _items(text: TextFile) -> Iterator[Row]:
    """Yield each object of an array with the length of its text."""
    array = JsonArray(text.pieces(), _DECODER, text.filename)
    try:
        for number, (row, written) in enumerate(array.items(), start=1):
            place = f"{text.filename}, item {number}"
            if not isinstance(row, dict):
                raise DatasetError(f"{place} is {_kind(row)}, not an object", _OBJECTS)
            if _SURROGATE.search(written):
                _refuse_lone_surrogates(row, place)
            yield row, len(written)
    except (_RepeatedKeyError, RecursionError) as error:
        raise DatasetError(f"{text.filename}, line {array.line}: {error}", _OBJECTS) from None


def _kind(value: object) -> str:
    return "a number" if isinstance(value, Number) else _KINDS[type(value)]


def _refuse_lone_surrogates(row: dict[str, Any], place: str) -> None:
    for key, value in row.items():
        try:
            json.dumps([key, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            key = key.encode("ascii", "backslashreplace").decode()
            raise DatasetError(
                f"{place}, key {key!r}: a \\ud800-\\udfff escape stands alone, which is not a character",
                "the text was cut inside an emoji or the like: cut it between characters, or remove the escape",
            ) from None
