"""Read the columns and first rows of a file, for a preview, without reading all of it."""

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
# Formats whose beginning can be read without the rest.
_TEXT = (Format.DELIMITED, Format.JSONL)
# Names of columns that suggest an example or a ground truth, the most likely first.
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
    """The beginning of a file.

    Attributes:
        columns: names of the columns, in the file's order.
        rows: the first rows, each with a value for every column.
        notes: the reader's automatic decisions, such as the delimiter.
        example, ground_truth: the columns that, by their names, are probably these; None if no name suggests it.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    example: str | None = None
    ground_truth: str | None = None


@dataclass(frozen=True)
class _Any(Wanted):
    """Uses the first column as the example if none has a default name, so that every file has a preview."""

    def example_among(self, names: Sequence[str]) -> str:
        try:
            return super().example_among(names)
        except MissingFieldsError:
            return names[0]


def look(path: Path, filename: str, n: int = 5) -> Look:
    """Return the columns and first rows of a file that :func:`lumigator_nb.tables.convert` can read.

    Of text files, only the beginning is read, so a large file takes no longer than a small one. Errors further down are
    found when the file is uploaded.

    Args:
        path: a local file.
        filename: the user's name of the file.
        n: number of rows.

    Raises:
        DatasetError: the file cannot be read; the message names row and column.
    """
    with TemporaryDirectory(prefix=layout.temporary("look")) as folder:
        head = Path(folder) / "head"
        if path.stat().st_size <= HEAD_BYTES or detect(path, filename) not in _TEXT:
            return _look(path, filename, n)
        # The beginning may end inside a quoted cell, which is an error. A shorter beginning may not.
        for share in (1, 2, 8, 64):
            with path.open("rb") as file:
                beginning = file.read(HEAD_BYTES // share)
            head.write_bytes(beginning[: beginning.rfind(b"\n") + 1] or beginning)
            try:
                return _look(head, filename, n)
            except DatasetError as error:
                refused = error
        raise refused


def _look(path: Path, filename: str, n: int) -> Look:
    # Here and not above, since that package imports this module.
    from lumigator_nb.tables import opened

    with opened(path, _Any(filename), None, lambda done: None) as raw:
        refuse_duplicates(raw.names, raw.filename)
        tables = list(islice(raw.tables(), 1))
        first = pa.concat_tables(tables).slice(0, n).to_pylist() if tables else []
        example = _named(raw.names, ("example", "examples", *_EXAMPLES))
        truth = _named([name for name in raw.names if name != example], ("ground_truth", *_GROUND_TRUTHS))
        return Look(tuple(raw.names), tuple(first), tuple(raw.notes), example, truth)


def _named(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """Return the first of the candidates that is among the names, ignoring case and underscores."""
    # Reversed, so that of two equal names the first one counts.
    folded = {name.strip().lower().replace("_", " "): name for name in reversed(names)}
    matches = (folded.get(candidate.replace("_", " ")) for candidate in candidates)
    return next((name for name in matches if name is not None), None)
