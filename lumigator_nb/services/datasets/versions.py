"""Versions of a dataset: list them, and find the rows that were added, removed and changed between two of them.

Rows are compared exactly, column by column. To save memory, the values of a column are first replaced by integer codes
of their distinct values, four bytes per cell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype

from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Dataset
from lumigator_nb.display import render
from lumigator_nb.display.html import Html, card, clipped, fragment, join, table, unfolding
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import MISSING, aligned, count, joined, one_line
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

Positions = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
_FACTS = ("version", "id", "created_at", "n_examples", "size_bytes", "content_hash")
_NULLABLE_INTEGERS = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class DatasetDiff(Rendered):
    """The differences between two frames of examples.

    Attributes:
        added: rows that only the new frame has; the index `row` is their position in it, from 0.
        removed: rows that only the old frame has; the index `row` is their position in it, from 0.
        changed: one row per changed cell of a row that both have: `row_old`, `row_new`, `column`, `old`, `new`.
        n_old, n_new: number of rows of each frame.
        on: column by which rows were matched.
        notes: columns that were added or removed, or whose type changed.
    """

    added: pd.DataFrame
    removed: pd.DataFrame
    changed: pd.DataFrame
    n_old: int
    n_new: int
    on: str
    notes: tuple[str, ...] = ()

    @property
    def n_added(self) -> int:
        """Number of added rows."""
        return len(self.added)

    @property
    def n_removed(self) -> int:
        """Number of removed rows."""
        return len(self.removed)

    @property
    def n_changed(self) -> int:
        """Number of changed rows (not cells)."""
        return int(self.changed["row_new"].nunique())

    @property
    def n_same(self) -> int:
        """Number of unchanged rows, in whatever position."""
        return self.n_new - self.n_added - self.n_changed

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.n_added or self.n_removed or self.n_changed)


def history(database: Database, store: Store, name: str) -> pd.DataFrame:
    """Return the versions of a dataset, oldest first, with the number of rows that each changed.

    At most two versions are in memory at a time.

    Args:
        name: name of the dataset, or of one of its versions (``name@2``), or an id.

    Returns:
        Columns `version`, `id`, `created_at`, `n_examples`, `size_bytes`, `content_hash`, and `added`, `removed`,
        `changed`: numbers of rows compared with the previous version that still exists; missing for the first.

    Raises:
        NotFoundError: there is no such dataset.
    """
    with reading(database) as work:
        versions = work.datasets.versions(name) or work.datasets.versions(work.datasets.get(name).name)
    versions = versions[::-1]
    rows = [{fact: getattr(version, fact) for fact in _FACTS} for version in versions]
    counts: list[tuple[Any, Any, Any]] = [(pd.NA, pd.NA, pd.NA)]
    before = None
    for old, new in pairwise(versions):
        if old.data_hash and old.data_hash == new.data_hash:
            counts.append((0, 0, 0))
            continue  # `before` holds the rows of both
        before = read(store, old) if before is None else before
        after = read(store, new)
        codes = _coded(before, after)
        at_old, at_new = _matched(_shared(codes, before, after), "example", len(before))
        changed = np.zeros(len(at_old), dtype=bool)
        for column in codes.values():
            changed |= column[at_old] != column[len(before) + at_new]
        counts.append((len(after) - len(at_new), len(before) - len(at_old), int(changed.sum())))
        before = after
    table = pd.DataFrame(rows, columns=list(_FACTS))
    return table.join(pd.DataFrame(counts, columns=["added", "removed", "changed"], dtype="Int64"))


def read(store: Store, dataset: Dataset) -> pd.DataFrame:
    """Return the rows of a dataset. Integer columns with missing values stay integers.

    By default pandas converts them to floats, which cannot tell large integers, such as ids, apart.
    """
    with results.open_table(store, layout.examples(dataset.id)) as parquet:
        frame: pd.DataFrame = parquet.read().to_pandas(types_mapper=_NULLABLE_INTEGERS.get, integer_object_nulls=True)
    return frame


def differences(old: pd.DataFrame, new: pd.DataFrame, on: str | None = None) -> DatasetDiff:
    """Compare two frames of examples row by row. The order of rows and columns does not matter.

    Args:
        old, new: frames as :func:`read` returns them: columns `example`, optionally ground truth, and metadata.
        on: column that identifies each row, such as an id. Default: the example's text. If a text occurs several
            times, equal rows are matched first, and the others in their order. A row whose example was edited then
            counts as one removed and one added row.

    Raises:
        InvalidInputError: a frame lacks the column, or its values in `on` are missing, repeated or of different types.
    """
    key = on or "example"
    for frame, which in ((old, "old"), (new, "new")):
        _require_key(frame, key, which, unique=on is not None)
    if is_numeric_dtype(old[key]) != is_numeric_dtype(new[key]) and len(old) and len(new):
        raise InvalidInputError(
            f"column {key!r} holds {old[key].dtype} in the old data and {new[key].dtype} in the new data",
            "convert both to one type, for example with .astype(str)",
        )
    codes = _coded(old, new)
    at_old, at_new = _matched(_shared(codes, old, new), key, len(old))
    row_added, row_removed = _others(len(new), at_new), _others(len(old), at_old)
    return DatasetDiff(
        added=new.iloc[row_added].set_axis(pd.Index(row_added, name="row")),
        removed=old.iloc[row_removed].set_axis(pd.Index(row_removed, name="row")),
        changed=_changed_cells(old, new, codes, at_old, at_new),
        n_old=len(old),
        n_new=len(new),
        on=key,
        notes=_notes(old, new),
    )


def coded(column: pd.Series[Any]) -> Codes:
    """Return an integer code for each value of a column: from 0, equal for equal values, −1 for missing values."""

    def plain(value: object) -> object:
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)

    try:
        return pd.factorize(column)[0].astype(np.int32)
    except TypeError:  # lists and dictionaries are not hashable; their JSON is
        texts = column.map(lambda value: json.dumps(value, default=plain, sort_keys=True), na_action="ignore")
        return pd.factorize(texts)[0].astype(np.int32)


def _coded(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Codes]:
    """Return the codes of each column of both frames, first the rows of the old frame, then those of the new."""
    names = dict.fromkeys([*old.columns, *new.columns])
    return {name: coded(pd.concat([_column(old, name), _column(new, name)], ignore_index=True)) for name in names}


def _shared(codes: dict[str, Codes], old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Codes]:
    """Return the codes of the columns that both frames have. With the others, no two rows would be equal."""
    return {name: column for name, column in codes.items() if name in old and name in new}


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return a column, or missing values if the frame lacks it."""
    if name in frame:
        return frame[name]
    return pd.Series([None] * len(frame), dtype=object)


def _matched(codes: dict[str, Codes], key: str, n_old: int) -> tuple[Positions, Positions]:
    """Match rows one to one: first equal rows, then rows with the same key.

    Returns:
        Positions of the matched rows in the old and in the new frame, each of shape (n_matches,).
    """
    rows = codes[key].astype(np.int64)  # becomes a code of whole rows, column by column
    for name, column in codes.items():
        if name != key:
            # Both factors are below 2³¹, so that the product does not overflow.
            rows = pd.factorize(rows * (int(column.max(initial=0)) + 2) + column + 1)[0]
    same_old, same_new = _pairs(rows[:n_old], rows[n_old:])
    rest_old, rest_new = _others(n_old, same_old), _others(len(rows) - n_old, same_new)
    at_old, at_new = _pairs(codes[key][:n_old][rest_old], codes[key][n_old:][rest_new])
    return np.concatenate([same_old, rest_old[at_old]]), np.concatenate([same_new, rest_new[at_new]])


def _others(n_rows: int, positions: Positions) -> Positions:
    """Return the positions below `n_rows` that are not in `positions`."""
    left = np.ones(n_rows, dtype=bool)
    left[positions] = False
    return np.flatnonzero(left)


def _pairs(old: npt.NDArray[np.integer], new: npt.NDArray[np.integer]) -> tuple[Positions, Positions]:
    """Return the positions of equal codes, matched one to one: first with first, second with second, and so on."""
    # Combine each code with the number of its earlier occurrences, so that all are distinct.
    n_times = max(_times(old).max(initial=0), _times(new).max(initial=0)) + 1
    _, at_old, at_new = np.intersect1d(
        old.astype(np.int64) * n_times + _times(old),
        new.astype(np.int64) * n_times + _times(new),
        assume_unique=True,
        return_indices=True,
    )
    return at_old.astype(np.int64), at_new.astype(np.int64)


def _times(codes: npt.NDArray[np.integer]) -> Positions:
    """Return, for each code, the number of its earlier occurrences."""
    times: Positions = np.asarray(pd.Series(codes).groupby(codes, sort=False).cumcount(), dtype=np.int64)
    return times


def _changed_cells(
    old: pd.DataFrame, new: pd.DataFrame, codes: dict[str, Codes], at_old: Positions, at_new: Positions
) -> pd.DataFrame:
    """Return one row per cell that differs between matched rows; see :class:`DatasetDiff`."""
    changes = []
    for name, column in codes.items():
        differs = column[at_old] != column[len(old) + at_new]
        rows_old, rows_new = at_old[differs], at_new[differs]
        cells = {
            "row_old": rows_old,
            "row_new": rows_new,
            "column": np.full(len(rows_old), name, dtype=object),
            "old": _column(old, name).iloc[rows_old].to_numpy(object),
            "new": _column(new, name).iloc[rows_new].to_numpy(object),
        }
        # Keep the types as they are: pandas would infer them anew, and other ones for each column of the dataset.
        changes.append(pd.DataFrame({key: pd.Series(values, dtype=values.dtype) for key, values in cells.items()}))
    return pd.concat(changes, ignore_index=True).sort_values("row_new", kind="stable", ignore_index=True)


def _notes(old: pd.DataFrame, new: pd.DataFrame) -> tuple[str, ...]:
    """Describe the differences between the columns of two frames."""
    removed = [f"column {name!r} was removed" for name in old if name not in new]
    added = [f"column {name!r} is new" for name in new if name not in old]
    retyped = [
        f"column {name!r} changed from {old[name].dtype} to {new[name].dtype}"
        for name in old
        if name in new and old[name].dtype != new[name].dtype
    ]
    return (*removed, *added, *retyped)


def _require_key(frame: pd.DataFrame, key: str, which: str, *, unique: bool) -> None:
    """Raise InvalidInputError unless the frame has the column and, with `unique`, a distinct value in each row."""
    if key not in frame:
        raise InvalidInputError(f"the {which} data have no column {key!r}", did_you_mean(key, map(str, frame)))
    if not unique:
        return
    missing = np.flatnonzero(frame[key].isna())
    if len(missing):
        raise InvalidInputError(
            f"column {key!r} of the {which} data has no value in row {missing[0]}",
            "match by a column without missing values",
        )
    repeated = np.flatnonzero(_times(coded(frame[key])))
    if len(repeated):
        value = one_line(frame[key].iloc[repeated[0]], 60)
        raise InvalidInputError(
            f"column {key!r} of the {which} data repeats {value!r} in row {repeated[0]}",
            "match by a column with distinct values, or leave out on= to match by the example's text",
        )


_MAX_ROWS_SHOWN = 10


@render.as_text.register
def _text(diff: DatasetDiff) -> str:
    """Return the numbers of rows as aligned lines."""
    return aligned(_title(diff), [(label, one_line(text, 1000)) for label, text in _facts(diff)])


@render.as_html.register
def _as_html(diff: DatasetDiff) -> str:
    """Return the numbers of rows as a card, with the first rows of each kind to unfold."""
    tables = [
        _unfolding("changed cell", diff.changed),
        _unfolding("added row", diff.added.reset_index()),
        _unfolding("removed row", diff.removed.reset_index()),
    ]
    return fragment(card(_title(diff), _facts(diff), join(tables) if diff else None))


def _title(diff: DatasetDiff) -> str:
    counts = {"added": diff.n_added, "removed": diff.n_removed, "changed": diff.n_changed}
    summary = joined([f"{number:,} {verb}" for verb, number in counts.items() if number])
    return f"Rows: {summary}" if summary else "The same rows"


def _facts(diff: DatasetDiff) -> list[tuple[str, str]]:
    cells = diff.changed["column"].value_counts(sort=False)
    facts = [
        ("Rows", f"{diff.n_old:,} before, {diff.n_new:,} after, {diff.n_same:,} unchanged"),
        ("Matched by", diff.on),
        ("Changed", ", ".join(f"{column} in {count(number, 'row')}" for column, number in cells.items())),
        *(("Note", note) for note in diff.notes),
    ]
    return [(label, text) for label, text in facts if text]


def _unfolding(noun: str, frame: pd.DataFrame) -> Html:
    if frame.empty:
        return Html()
    first = frame.head(_MAX_ROWS_SHOWN)
    title = count(len(frame), noun) + (f", the first {len(first)} of them" if len(frame) > len(first) else "")
    cells = [
        # isna() of a list would be an array
        [MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else clipped(value, 160) for value in row]
        for row in first.to_numpy(object)
    ]
    return unfolding(title, table(list(map(str, first)), cells))
