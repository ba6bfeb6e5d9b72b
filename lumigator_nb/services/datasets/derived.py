"""Derived datasets: splits and samples of a dataset, stored as datasets that record their origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Tools:
    """Access to stored datasets.

    Attributes:
        read: returns the rows of a dataset.
        versions: returns all versions of a name.
        keep: stores a frame as the next version of a name, with its origin and notes.
    """

    read: Callable[[Dataset], pd.DataFrame]
    versions: Callable[[str], Sequence[Dataset]]
    keep: Callable[[pd.DataFrame, str, dict[str, Any], Sequence[str]], Dataset]


def split(
    dataset: Dataset,
    parts: Mapping[str, float],
    tools: Tools,
    *,
    by: str | None = None,
    groups: str | None = None,
    seed: int = 0,
    name: str | None = None,
) -> dict[str, Dataset]:
    """Split a dataset into datasets named "NAME-train" and so on. Parts that exist already are returned.

    If the names hold parts of an earlier version of the dataset, the new parts become their next versions. A repeated
    call completes an interrupted one.

    Args:
        dataset: dataset to split.
        parts, by, groups, seed: as for :func:`split_rows`.
        tools: access to stored datasets.
        name: prefix of the names; default: the dataset's name.

    Raises:
        InvalidInputError: as for :func:`split_rows`; nothing is stored.
        ConflictError: a name is taken by something else, or by a split with other settings; nothing is stored.
    """
    shares = dict(zip(sorted(parts), checked_shares(parts).tolist(), strict=True))
    settings = {"how": "split", "parts": shares, "by": by, "groups": groups, "seed": checked_seed(seed)}
    titles = {part: checked_name(f"{name or dataset.name}-{part}") for part in parts}
    # All names are checked before anything is stored.
    stored = {part: _stored(dataset, title, {**settings, "part": part}, tools) for part, title in titles.items()}
    if all(stored.values()):
        return {part: record for part, record in stored.items() if record is not None}
    frame = tools.read(dataset)
    rows = split_rows(frame, parts, by, groups, seed)
    for part, title in titles.items():
        if stored[part] is None:
            notes = strata_notes(frame, {part: rows[part]}, by)
            notes.insert(0, _note(dataset, "split off", rows[part], seed, by))
            stored[part] = tools.keep(
                frame.iloc[rows[part]].reset_index(drop=True),
                title,
                {**_origin(dataset), **settings, "part": part},
                notes,
            )
    return {part: record for part, record in stored.items() if record is not None}


def draw(
    dataset: Dataset,
    n_or_share: float,
    tools: Tools,
    *,
    by: str | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Draw a sample of a dataset's rows into a new dataset. If it exists already, return it.

    Args:
        dataset: dataset to draw from.
        n_or_share, by, seed: as for :func:`draw_rows`.
        tools: access to stored datasets.
        name: name of the new dataset; default: the old name with the number of rows, as in "NAME-200".

    Raises:
        InvalidInputError: as for :func:`draw_rows`.
        ConflictError: the name is taken by something else, or by a sample with other settings.
    """
    n = rows_of(n_or_share, dataset.n_examples)
    settings = {"how": "draw", "rows": n, "by": by, "seed": checked_seed(seed)}
    title = checked_name(name or f"{dataset.name}-{n}")
    stored = _stored(dataset, title, settings, tools)
    if stored is not None:
        return stored
    frame = tools.read(dataset)
    rows = draw_rows(frame, n, by, seed)
    notes = [_note(dataset, "drawn", rows, seed, by), *strata_notes(frame, {title: rows}, by)]
    return tools.keep(frame.iloc[rows].reset_index(drop=True), title, {**_origin(dataset), **settings}, notes)


def _stored(dataset: Dataset, title: str, settings: Mapping[str, Any], tools: Tools) -> Dataset | None:
    """Return the dataset that an earlier call derived from this version with the same settings, or None.

    Raises:
        ConflictError: the name is taken by something else. Datasets derived in the same way from other versions of the
            dataset do not count: the new one becomes their next version.
    """
    expected = {"dataset": dataset.name, **settings}
    for version in tools.versions(title):
        if {key: version.derived.get(key) for key in expected} != expected:
            raise ConflictError("dataset", title, "give another name=, or delete the existing one")
        if version.derived["dataset_id"] == dataset.id:
            return version
    return None


def _origin(dataset: Dataset) -> dict[str, Any]:
    return {"dataset_id": dataset.id, "dataset": dataset.name, "version": dataset.version}


def _note(dataset: Dataset, verb: str, rows: Positions, seed: int, by: str | None) -> str:
    share = f"{len(rows):,} of {count(dataset.n_examples, 'example')}"
    strata = f", by {by}" if by else ""
    return f"{verb} {dataset.name}@{dataset.version}: {share}{strata}, seed {seed}"
