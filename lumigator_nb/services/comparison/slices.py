"""Slices of a comparison: metadata columns, and bins of length and language."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.services.comparison.binning import MOST_VALUES, language_bins, length_bins, parts_of
from lumigator_nb.services.comparison.score_samples import Scored
from lumigator_nb.specs import is_ground_truth

LENGTH, LANGUAGE = "length", "language"


def metadata_columns(examples: pd.DataFrame) -> list[str]:
    """Return the columns besides example and ground truth."""
    return [name for name in examples.columns if name != "example" and not is_ground_truth(name)]


def group_codes(examples: pd.DataFrame, column: str | None) -> np.ndarray | None:
    """(rows,) codes of the groups in a metadata column; an example without one stands for itself."""
    if column is None:
        return None
    known = metadata_columns(examples)
    if column not in known:
        raise InvalidInputError(f"the dataset has no metadata column {column!r}", did_you_mean(column, known))
    codes, _ = pd.factorize(examples[column])
    alone = np.flatnonzero(codes < 0)
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(len(alone))
    return codes


def slices(models: Sequence[str], scored: Scored, examples: pd.DataFrame, column: str | None) -> pd.DataFrame:
    """See :meth:`Comparison.slices`."""
    rows = examples.loc[scored.rows]
    chosen = _ways(rows) if column is None else [column]
    # As objects, so that a column is only what it says and not what others make of it.
    labels = np.stack([np.array(_parts(rows, name), dtype=object) for name in chosen], axis=1)
    table = _table(models, scored, chosen, labels)
    return table if column is None else table.droplevel(0).rename_axis(column)


def _ways(rows: pd.DataFrame) -> list[str]:
    """The columns that part the examples, but not into single ones; and the length."""
    ways = dict.fromkeys([*metadata_columns(rows), LENGTH])
    parting = [name for name in ways if 1 < len(set(_parts(rows, name))) <= MOST_VALUES]
    return parting or [LENGTH]


def _parts(rows: pd.DataFrame, column: str) -> list[str]:
    known = metadata_columns(rows)
    if column in known:
        return parts_of(rows[column])
    if column == LENGTH:
        return length_bins(rows["example"].tolist())
    if column == LANGUAGE:
        return language_bins(rows["example"].tolist())
    raise InvalidInputError(
        f"the dataset has no metadata column {column!r}", did_you_mean(column, [*known, LENGTH, LANGUAGE])
    )


def _table(models: Sequence[str], scored: Scored, ways: Sequence[str], labels: np.ndarray) -> pd.DataFrame:
    members = [
        (name, label, np.flatnonzero(way == label))
        for name, way in zip(ways, labels.T, strict=True)
        for label in sorted(set(way), key=_natural)
    ]
    frame = pd.DataFrame(
        [_overall(models, scored, inside) for _, _, inside in members],
        index=pd.MultiIndex.from_tuples([(name, label) for name, label, _ in members], names=["column", "slice"]),
    )
    return frame.join(_flips(models, scored, ways, labels)) if scored.decides else frame


def _natural(label: str) -> tuple[int, str]:
    """Bins in their order: up to, from to, more than."""
    return (0 if label.startswith("up to ") else 2 if label.startswith("more than ") else 1, label)


def _overall(models: Sequence[str], scored: Scored, inside: np.ndarray) -> dict[str, float]:
    overall = scored.info.aggregate(scored.statistics[:, inside].sum(axis=1), len(inside))
    return {"n": len(inside), **dict(zip(models, map(float, overall), strict=True))}


def _flips(models: Sequence[str], scored: Scored, ways: Sequence[str], labels: np.ndarray) -> pd.DataFrame:
    better = bool(scored.info.higher_is_better)
    # A corpus of one example has no contributions but its score.
    values = scored.contributions if scored.n > 1 else scored.values
    found = statistics.slice_flips(
        values, labels, leader=int(scored.best or 0), higher_is_better=better,
        confidence=scored.resampling.confidence,
    )  # fmt: skip
    names = [name for name, way in zip(ways, labels.T, strict=True) for _ in dict.fromkeys(way)]
    rows = [
        {
            "leader": models[each.leader],
            "difference": each.difference,
            "low": each.low,
            "high": each.high,
            "p_adjusted": each.p_adjusted,
            "flips": each.flips,
            "detectable": each.detectable,
            "too_small": each.too_small,
            "too_skewed": each.too_skewed,
        }
        for each in found
    ]
    index = pd.MultiIndex.from_tuples([(name, each.label) for name, each in zip(names, found, strict=True)])
    return pd.DataFrame(rows, index=index.set_names(["column", "slice"]))
