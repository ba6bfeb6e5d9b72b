"""A first look at a file: which columns it has, and its first rows, without reading all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from lumigator_nb.errors import DatasetError, MissingFieldsError
from lumigator_nb.storage import layout
from lumigator_nb.tables.columns import Wanted, refuse_duplicates
from lumigator_nb.tables.formats import Format, detect

HEAD_BYTES = 1 << 20
_TEXT = (Format.DELIMITED, Format.JSONL)
_EXAMPLES = ("text", "input", "prompt", "question", "document", "dialogue", "dialog", "article", "source", "body")
_GROUND_TRUTHS = (
    "ground truth",
    "reference",
    "summary",
    "target",
    "answer",
    "translation",
    "label",
    "output",
    "highlights",
)


@dataclass(frozen=True)
class Look:
    """What a file begins with.

    Attributes:
        columns: names, in the file's order.
        rows: the first, each with a value for every column.
        notes: what the reader decided by itself, such as the delimiter.
        example, ground_truth: the columns whose names tell what they are; None where none does.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    example: str | None = None
    ground_truth: str | None = None


@dataclass(frozen=True)
class _Any(Wanted):
    """Takes the first column for the example where no name tells which it is."""

    def example_among(self, names: Sequence[str]) -> str:
        try:
            return super().example_among(names)
        except MissingFieldsError:
            return names[0]


def look(path: Path, filename: str, n: int = 5) -> Look:
    """Return columns and first rows of a file that :func:`lumigator_nb.tables.convert` reads.

    Of text only the beginning is read, so that a large file takes no longer than a small one; what is wrong further
    down is found when it is uploaded.

    Args:
        path: a local file.
        filename: how the user calls it.
        n: rows.

    Raises:
        DatasetError: it cannot be read; the message names row and column.
    """
    with TemporaryDirectory(prefix=layout.temporary("look")) as folder:
        head = Path(folder) / "head"
        if path.stat().st_size <= HEAD_BYTES or detect(path, filename) not in _TEXT:
            return _look(path, filename, n)
        # Where the beginning ends within a quoted cell, a shorter one may not.
        for share in (1, 2, 8, 64):
            _cut(path, head, HEAD_BYTES // share)
            try:
                return _look(head, filename, n)
            except DatasetError as error:
                refused = error
        raise refused


def _cut(path: Path, head: Path, size: int) -> None:
    with path.open("rb") as file:
        beginning = file.read(size)
    head.write_bytes(beginning[: beginning.rfind(b"\n") + 1] or beginning)


def _look(path: Path, filename: str, n: int) -> Look:
    from lumigator_nb.tables import opened

    with opened(path, _Any(filename), None, lambda done: None) as raw:
        refuse_duplicates(raw.names, raw.filename)
        tables = list(islice(raw.tables(), 1))
        first = pa.concat_tables(tables).slice(0, n).to_pylist() if tables else []
        example = _named(raw.names, ("example", "examples", *_EXAMPLES))
        truth = _named([name for name in raw.names if name != example], ("ground_truth", *_GROUND_TRUTHS))
        return Look(tuple(raw.names), tuple(first), tuple(raw.notes), example, truth)


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    folded = {name.strip().lower().replace("_", " "): name for name in reversed(names)}
    wanted = (each.replace("_", " ") for each in known)
    return next((folded[each] for each in wanted if each in folded), None)
