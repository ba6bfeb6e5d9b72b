"""Parts of a dataset as datasets of their own, which say where they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import pandas as pd

from lumigator_nb.database.records import Dataset
from lumigator_nb.display.text import count
from lumigator_nb.errors import ConflictError
from lumigator_nb.services.datasets.sampling import (
    Positions,
    checked_seed,
    checked_shares,
    draw_rows,
    rows_of,
    split_rows,
    strata_notes,
)
from lumigator_nb.services.names import checked_name

# Keeps a frame as the next version of a name, with what it was derived from and with notes.
Keep = Callable[[pd.DataFrame, str, dict[str, Any], Sequence[str]], Dataset]
# All versions of a name.
Versions = Callable[[str], Sequence[Dataset]]


class Tools(TypedDict):
    """What drawing needs of the datasets: how to read one, its versions, and how to keep a part."""

    read: Callable[[Dataset], pd.DataFrame]
    versions: Versions
    keep: Keep


def split(
    dataset: Dataset,
    parts: Mapping[str, float],
    *,
    by: str | None = None,
    groups: str | None = None,
    seed: int = 0,
    name: str | None = None,
    read: Callable[[Dataset], pd.DataFrame],
    versions: Versions,
    keep: Keep,
) -> dict[str, Dataset]:
    """Divide a dataset into datasets named "NAME-train" and so on; asked again, return those that are there.

    Parts of an earlier version of the dataset get a next version. What was cut off half-way is completed.

    Args:
        dataset: what to divide.
        parts, by, groups, seed: as of :func:`split_rows`.
        name: what the names begin with; default the dataset's.
        read, versions, keep: see :data:`Keep`; `versions` returns all versions of a name.

    Raises:
        InvalidInputError: as of :func:`split_rows`; nothing is kept.
        ConflictError: a name is taken by something else, or by a split with other settings; nothing is kept.
    """
    shares = dict(zip(sorted(parts), checked_shares(parts).tolist(), strict=True))
    how = {"how": "split", "parts": shares, "by": by, "groups": groups, "seed": checked_seed(seed)}
    wanted = {part: checked_name(f"{name or dataset.name}-{part}") for part in parts}
    found = {part: _found(dataset, title, {**how, "part": part}, versions) for part, title in wanted.items()}
    if None not in found.values():
        return {part: each for part, each in found.items() if each is not None}
    frame = read(dataset)
    rows = split_rows(frame, parts, by, groups, seed)
    kept = {}
    for part, title in wanted.items():
        notes = [_told(dataset, "split off", rows[part], seed, by), *strata_notes(frame, {part: rows[part]}, by)]
        derived = {**_origin(dataset), **how, "part": part}
        kept[part] = found[part] or keep(_taken(frame, rows[part]), title, derived, notes)
    return kept


def draw(
    dataset: Dataset,
    n_or_share: float,
    *,
    by: str | None = None,
    seed: int = 0,
    name: str | None = None,
    read: Callable[[Dataset], pd.DataFrame],
    versions: Versions,
    keep: Keep,
) -> Dataset:
    """Draw rows into a dataset of their own; asked again, return the one that is there.

    Args:
        dataset: what to draw from.
        n_or_share, by, seed: as of :func:`draw_rows`.
        name: of the new dataset; default the old one's with the number of rows: "NAME-200".
        read, versions, keep: as of :func:`split`.

    Raises:
        InvalidInputError: as of :func:`draw_rows`.
        ConflictError: the name is taken by something else, or by a draw with other settings.
    """
    n = rows_of(n_or_share, dataset.n_examples)
    how = {"how": "draw", "rows": n, "by": by, "seed": checked_seed(seed)}
    title = checked_name(name or f"{dataset.name}-{n}")
    found = _found(dataset, title, how, versions)
    if found is not None:
        return found
    frame = read(dataset)
    rows = draw_rows(frame, n, by, seed)
    notes = [_told(dataset, "drawn", rows, seed, by), *strata_notes(frame, {title: rows}, by)]
    return keep(_taken(frame, rows), title, {**_origin(dataset), **how}, notes)


def _found(dataset: Dataset, title: str, how: Mapping[str, Any], versions: Versions) -> Dataset | None:
    """What is there already; None where there is nothing, or only what came from other versions in the same way."""
    likewise = {"dataset": dataset.name, **how}
    for each in versions(title):
        if {key: each.derived.get(key) for key in likewise} != likewise:
            raise ConflictError("dataset", title, "give another name=, or delete the one that is there")
        if each.derived["dataset_id"] == dataset.id:
            return each
    return None


def _origin(dataset: Dataset) -> dict[str, Any]:
    return {"dataset_id": dataset.id, "dataset": dataset.name, "version": dataset.version}


def _taken(frame: pd.DataFrame, rows: Positions) -> pd.DataFrame:
    return frame.iloc[rows].reset_index(drop=True)


def _told(dataset: Dataset, verb: str, rows: Positions, seed: int, by: str | None) -> str:
    share = f"{len(rows):,} of {count(dataset.n_examples, 'example')}"
    kept = f", by {by}" if by else ""
    return f"{verb} {dataset.name}@{dataset.version}: {share}{kept}, seed {seed}"
