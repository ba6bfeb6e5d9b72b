"""Versions of a dataset: what there are, and which rows came, went and changed between two of them.

Rows are compared exactly, a column at a time, as whole numbers that stand for its distinct values; what is kept of a
row while comparing is four bytes per column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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
_WHOLE = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(), pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class DatasetDiff(Rendered):
    """What became of the rows of one frame in another.

    Attributes:
        added: rows of the new frame that the old one lacks; the index `row` is their position in it, from 0.
        removed: rows of the old frame that the new one lacks, likewise.
        changed: one line for each cell that differs in a row of both: `row_old`, `row_new`, `column`, `old`, `new`.
        n_old, n_new: rows of either frame.
        on: the column by which rows were matched.
        notes: columns that only one of them has, or whose type is another.
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
        """How many rows came."""
        return len(self.added)

    @property
    def n_removed(self) -> int:
        """How many rows went."""
        return len(self.removed)

    @property
    def n_changed(self) -> int:
        """How many rows, not cells, differ."""
        return int(self.changed["row_new"].nunique())

    @property
    def n_same(self) -> int:
        """How many rows are as they were, wherever they stand."""
        return self.n_new - self.n_added - self.n_changed

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.n_added or self.n_removed or self.n_changed)


def history(database: Database, store: Store, name: str) -> pd.DataFrame:
    """Return the versions of a dataset, oldest first, each with what it changed; two are in memory at a time.

    Args:
        name: of the dataset, or of one of its versions (``name@2``), or an id.

    Returns:
        Columns `version`, `id`, `created_at`, `n_examples`, `size_bytes`, `content_hash`, and `added`, `removed`,
        `changed`: numbers of rows against the version before that is still there; missing for the first.

    Raises:
        NotFoundError: there is no such dataset.
    """
    with reading(database) as work:
        versions = work.datasets.versions(name) or work.datasets.versions(work.datasets.get(name).name)
    versions = versions[::-1]
    table = pd.DataFrame([{fact: getattr(each, fact) for fact in _FACTS} for each in versions], columns=list(_FACTS))
    counts = [(pd.NA, pd.NA, pd.NA), *_changes(store, versions)]
    return table.join(pd.DataFrame(counts, columns=["added", "removed", "changed"], dtype="Int64"))


def _changes(store: Store, versions: Sequence[Dataset]) -> list[tuple[int, int, int]]:
    found = []
    before = None
    for old, new in pairwise(versions):
        if old.data_hash and old.data_hash == new.data_hash:
            found.append((0, 0, 0))
            continue  # `before` stays what both of them hold
        before = read(store, old) if before is None else before
        after = read(store, new)
        found.append(_counts(before, after))
        before = after
    return found


def read(store: Store, dataset: Dataset) -> pd.DataFrame:
    """Return the rows of a dataset with the types they have: whole numbers stay whole where others are missing.

    Otherwise pandas would make floating-point numbers of them, of which large ones, such as ids, look alike.
    """
    with results.open_table(store, layout.examples(dataset.id)) as parquet:
        frame: pd.DataFrame = parquet.read().to_pandas(types_mapper=_WHOLE.get, integer_object_nulls=True)
    return frame


def _counts(old: pd.DataFrame, new: pd.DataFrame) -> tuple[int, int, int]:
    codes = _coded(old, new)
    at_old, at_new = _matched(_shared(codes, old, new), "example", len(old))
    changed = np.zeros(len(at_old), dtype=bool)
    for column in codes.values():
        changed |= column[at_old] != column[len(old) + at_new]
    return len(new) - len(at_new), len(old) - len(at_old), int(changed.sum())


def differences(old: pd.DataFrame, new: pd.DataFrame, on: str | None = None) -> DatasetDiff:
    """Compare two frames of examples row by row; the order of rows and columns does not matter.

    Args:
        old, new: columns `example`, ground truth where there is one, and metadata, as :func:`read` gives.
        on: a column that names each row, such as an id, by which rows are matched. Without it the text of the example
            is; where it occurs several times, rows that are alike are matched first, the others in their order. A
            row whose example was edited then counts as one removed and one added.

    Raises:
        InvalidInputError: a frame lacks the column, or the values in `on` are missing, repeated or of different types.
    """
    key = on or "example"
    for frame, which in ((old, "old"), (new, "new")):
        _require_key(frame, key, which, unique=on is not None)
    if is_numeric_dtype(old[key]) != is_numeric_dtype(new[key]) and len(old) and len(new):
        raise InvalidInputError(
            f"column {key!r} holds {old[key].dtype} in the old data and {new[key].dtype} in the new",
            "bring both to one type, such as .astype(str)",
        )
    codes = _coded(old, new)
    at_old, at_new = _matched(_shared(codes, old, new), key, len(old))
    return DatasetDiff(
        added=_without(new, at_new),
        removed=_without(old, at_old),
        changed=_changed_cells(old, new, codes, at_old, at_new),
        n_old=len(old),
        n_new=len(new),
        on=key,
        notes=_notes(old, new),
    )


def coded(column: pd.Series[Any]) -> Codes:
    """Return a number for each value of a column: equal values have the same, from 0; missing ones have −1."""
    try:
        return pd.factorize(column)[0].astype(np.int32)
    except TypeError:  # lists and dictionaries cannot be looked up; as text they can
        return pd.factorize(column.map(_as_text, na_action="ignore"))[0].astype(np.int32)


def _as_text(value: object) -> str:
    return json.dumps(value, default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _coded(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Codes]:
    """The values of each column of either frame as numbers, the old frame's rows first."""
    names = dict.fromkeys([*old.columns, *new.columns])
    return {name: coded(pd.concat([_column(old, name), _column(new, name)], ignore_index=True)) for name in names}


def _shared(codes: dict[str, Codes], old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Codes]:
    """Without the columns that only one of them has, or no row would be like another."""
    return {name: column for name, column in codes.items() if name in old and name in new}


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name in frame:
        return frame[name]
    return pd.Series([None] * len(frame), dtype=object)


def _matched(codes: dict[str, Codes], key: str, n_old: int) -> tuple[Positions, Positions]:
    """Find the rows that belong together: those that are alike first, then those with the same key."""
    whole = codes[key].astype(np.int64)
    for name, column in codes.items():
        if name != key:
            # Both factors are below 2³¹, so the product fits.
            whole = pd.factorize(whole * (int(column.max(initial=0)) + 2) + column + 1)[0]
    same_old, same_new = _pairs(whole[:n_old], whole[n_old:])
    rest_old, rest_new = _others(n_old, same_old), _others(len(whole) - n_old, same_new)
    at_old, at_new = _pairs(codes[key][:n_old][rest_old], codes[key][n_old:][rest_new])
    return np.concatenate([same_old, rest_old[at_old]]), np.concatenate([same_new, rest_new[at_new]])


def _others(n_rows: int, positions: Positions) -> Positions:
    left = np.ones(n_rows, dtype=bool)
    left[positions] = False
    return np.flatnonzero(left)


def _pairs(old: npt.NDArray[np.integer], new: npt.NDArray[np.integer]) -> tuple[Positions, Positions]:
    """Match equal numbers one to one: the first with the first, the second with the second."""
    n_times = max(_times(old).max(initial=0), _times(new).max(initial=0)) + 1
    _, at_old, at_new = np.intersect1d(
        old.astype(np.int64) * n_times + _times(old),
        new.astype(np.int64) * n_times + _times(new),
        assume_unique=True,
        return_indices=True,
    )
    return at_old.astype(np.int64), at_new.astype(np.int64)


def _times(codes: npt.NDArray[np.integer]) -> Positions:
    """How often each number has occurred before."""
    times: Positions = np.asarray(pd.Series(codes).groupby(codes, sort=False).cumcount(), dtype=np.int64)
    return times


def _changed_cells(
    old: pd.DataFrame, new: pd.DataFrame, codes: dict[str, Codes], at_old: Positions, at_new: Positions
) -> pd.DataFrame:
    parts = []
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
        # Cells of all columns are below each other, so their types must not be guessed anew.
        parts.append(pd.DataFrame({key: pd.Series(value, dtype=value.dtype) for key, value in cells.items()}))
    return pd.concat(parts, ignore_index=True).sort_values("row_new", kind="stable", ignore_index=True)


def _without(frame: pd.DataFrame, positions: Positions) -> pd.DataFrame:
    others = _others(len(frame), positions)
    return frame.iloc[others].set_axis(pd.Index(others, name="row"))


def _notes(old: pd.DataFrame, new: pd.DataFrame) -> tuple[str, ...]:
    gone = [f"column {name!r} is gone" for name in old if name not in new]
    fresh = [f"column {name!r} is new" for name in new if name not in old]
    typed = [
        f"column {name!r} held {old[name].dtype}, and now {new[name].dtype}"
        for name in old
        if name in new and old[name].dtype != new[name].dtype
    ]
    return (*gone, *fresh, *typed)


def _require_key(frame: pd.DataFrame, key: str, which: str, *, unique: bool) -> None:
    if key not in frame:
        raise InvalidInputError(f"the {which} data have no column {key!r}", did_you_mean(key, map(str, frame)))
    if not unique:
        return
    missing = np.flatnonzero(frame[key].isna())
    if len(missing):
        raise InvalidInputError(
            f"column {key!r} of the {which} data has no value in row {missing[0]}", "match by a column that is full"
        )
    repeated = np.flatnonzero(_times(coded(frame[key])))
    if len(repeated):
        value = one_line(frame[key].iloc[repeated[0]], 60)
        raise InvalidInputError(
            f"column {key!r} of the {which} data has {value!r} again in row {repeated[0]}",
            "match by a column that names each row, or leave out on= to match by the example's text",
        )


_MOST_ROWS = 10


@render.as_text.register
def _text(diff: DatasetDiff) -> str:
    """Return the counts as aligned lines."""
    return aligned(_title(diff), [(label, one_line(text, 1000)) for label, text in _facts(diff)])


@render.as_html.register
def _as_html(diff: DatasetDiff) -> str:
    """Return the counts as a card, below which the first rows of each kind unfold."""
    tables = [
        _unfolding("changed cell", diff.changed),
        _unfolding("added row", diff.added.reset_index()),
        _unfolding("removed row", diff.removed.reset_index()),
    ]
    return fragment(card(_title(diff), _facts(diff), join(tables) if diff else None))


def _title(diff: DatasetDiff) -> str:
    counts = {"added": diff.n_added, "removed": diff.n_removed, "changed": diff.n_changed}
    said = joined([f"{number:,} {verb}" for verb, number in counts.items() if number])
    return f"Rows: {said}" if said else "The same rows"


def _facts(diff: DatasetDiff) -> list[tuple[str, str]]:
    cells = diff.changed["column"].value_counts(sort=False)
    facts = [
        ("Rows", f"{diff.n_old:,} before, {diff.n_new:,} after, {diff.n_same:,} as they were"),
        ("Matched by", diff.on),
        ("Changed", ", ".join(f"{column} in {count(number, 'row')}" for column, number in cells.items())),
        *(("Note", note) for note in diff.notes),
    ]
    return [(label, text) for label, text in facts if text]


def _unfolding(noun: str, frame: pd.DataFrame) -> Html:
    if frame.empty:
        return Html()
    shown = frame.head(_MOST_ROWS)
    title = count(len(frame), noun) + (f", of which the first {len(shown)}" if len(frame) > len(shown) else "")
    return unfolding(title, table(list(map(str, shown)), [_cells(row) for row in shown.to_numpy(object)]))


def _cells(row: Iterable[Any]) -> list[Html | str]:
    return [MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else clipped(value, 160) for value in row]
