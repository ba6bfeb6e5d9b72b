"""Examples from a file: read without loss, or refused with the row and column that break a rule.

Everything that CSV holds is text, and stays the text that was written: `007`, `NA` and `1.10` are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lumigator_nb.tables.columns import Wanted, assemble
from lumigator_nb.tables.delimited import read_delimited
from lumigator_nb.tables.formats import Format, detect
from lumigator_nb.tables.frames import frame_to_bytes
from lumigator_nb.tables.jsonl import read_jsonl
from lumigator_nb.tables.parquet import read_parquet
from lumigator_nb.tables.profiles import profile

__all__ = ["Examples", "frame_to_bytes", "profile", "read_examples"]

_READERS = {Format.DELIMITED: read_delimited, Format.JSONL: read_jsonl, Format.PARQUET: read_parquet}


@dataclass(frozen=True)
class Examples:
    """Examples as read from one file.

    Attributes:
        table: `example` (string, no nulls: an empty cell is ""), `ground_truth` (string, null where missing; only
            where there is such a column), then all other columns of the file under their own names.
        columns: which column of the file became "example", and which "ground_truth" ("ground_truth_2", …).
        notes: what the reader decided by itself, in words.
    """

    table: pa.Table
    columns: dict[str, str]
    notes: tuple[str, ...]


def read_examples(
    path: Path, *, filename: str, example: str | None = None, ground_truth: str | Sequence[str] | None = None
) -> Examples:
    """Read CSV (comma, semicolon, tab or pipe), JSON Lines or Parquet.

    Args:
        path: a local file.
        filename: how the user calls it; its ending decides the format, its content where the ending is unknown.
        example: the column with the inputs; default the one named "example" or "examples", in any case.
        ground_truth: the column with the references, or several where an example has more than one; default those
            named "ground_truth", "ground_truth_2" and so on, if any.

    Raises:
        DatasetError: the file breaks a rule; the message names file, row and column.
        MissingFieldsError: the file lacks a column that was asked for.
    """
    read = _READERS[detect(path, filename)]
    truths = [ground_truth] if isinstance(ground_truth, str) else list(ground_truth or ())
    wanted = Wanted(filename, example, truths[0] if truths else None, tuple(truths[1:]))
    raw = read(path, wanted)
    table, notes = assemble(raw, filename)
    return Examples(table, raw.columns, (*raw.notes, *notes))
