"""Slices of a comparison, by metadata column, length or language, and where another model leads in them."""

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
    """Return (rows,) codes of the groups in a metadata column, None for no column.

    Each example without a value gets a separate group.

    Raises:
        InvalidInputError: the dataset has no such metadata column.
    """
    if column is None:
        return None
    columns = metadata_columns(examples)
    if column not in columns:
        raise InvalidInputError(f"the dataset has no metadata column {column!r}", did_you_mean(column, columns))
    codes, _ = pd.factorize(examples[column])
    # factorize() gives missing values the code -1. That would be one group, although such examples need not be related.
    ungrouped = np.flatnonzero(codes < 0)
    codes[ungrouped] = codes.max(initial=-1) + 1 + np.arange(len(ungrouped))
    return codes


def slices(
    models: Sequence[str], scored: Scored, examples: pd.DataFrame, column: str | None, *, has_texts: bool = True
) -> pd.DataFrame:
    """See :meth:`Comparison.slices`; without texts there are no slices by length."""
    rows = examples.loc[scored.rows]
    if column is None:
        names = list(dict.fromkeys([*metadata_columns(rows), *([LENGTH] if has_texts else [])]))
        bins = {name: _bins(rows, name) for name in names}
        # Neither a column with one value for all, nor one with nearly as many values as examples, makes slices.
        chosen = {name: texts for name, texts in bins.items() if 1 < len(set(texts)) <= MOST_VALUES}
        chosen = chosen or {LENGTH: bins[LENGTH] if has_texts else ["all examples"] * len(rows)}
    else:
        chosen = {column: _bins(rows, column)}
    # dtype=object: NumPy's string arrays drop NUL characters at the end, and labels have to stay distinct.
    labels = np.stack([np.array(texts, dtype=object) for texts in chosen.values()], axis=1)
    index, overall = [], []
    for name, column_labels in zip(chosen, labels.T, strict=True):
        for label in sorted(set(column_labels), key=_bin_order):
            inside = np.flatnonzero(column_labels == label)
            values = scored.info.aggregate(scored.statistics[:, inside].sum(axis=1), len(inside))
            index.append((name, label))
            overall.append({"n": len(inside), **dict(zip(models, map(float, values), strict=True))})
    table = pd.DataFrame(overall, index=pd.MultiIndex.from_tuples(index, names=["column", "slice"]))
    if scored.decides:
        table = table.join(_flips(models, scored, list(chosen), labels))
    return table if column is None else table.droplevel(0).rename_axis(column)


def _bins(rows: pd.DataFrame, column: str) -> list[str]:
    columns = metadata_columns(rows)
    if column in columns:
        return parts_of(rows[column])
    if column == LENGTH:
        return length_bins(rows["example"].tolist())
    if column == LANGUAGE:
        return language_bins(rows["example"].tolist())
    raise InvalidInputError(
        f"the dataset has no metadata column {column!r}", did_you_mean(column, [*columns, LENGTH, LANGUAGE])
    )


def _bin_order(label: str) -> tuple[int, str]:
    """Sorts the names of bins by their numbers: "up to 3", "4 to 7", "more than 7"."""
    return (0 if label.startswith("up to ") else 2 if label.startswith("more than ") else 1, label)


def _flips(models: Sequence[str], scored: Scored, columns: Sequence[str], labels: np.ndarray) -> pd.DataFrame:
    """Per slice, the model that leads there against the one that leads on all examples.

    Args:
        models: labels of the models.
        scored: the score.
        columns: names of the columns that make the slices.
        labels: (n, columns) label of each example in each column.
    """
    # The pseudo-values of a single example are not defined; its score is its contribution.
    values = scored.contributions if scored.n > 1 else scored.values
    flips = statistics.slice_flips(
        values,
        labels,
        leader=int(scored.best or 0),
        higher_is_better=bool(scored.info.higher_is_better),
        confidence=scored.resampling.confidence,
    )
    # `slice_flips` returns the slices column by column, labels in the order of their first example.
    names = [name for name, column in zip(columns, labels.T, strict=True) for _ in dict.fromkeys(column)]
    rows = [
        {
            "leader": models[flip.leader],
            "difference": flip.difference,
            "low": flip.low,
            "high": flip.high,
            "p_adjusted": flip.p_adjusted,
            "flips": flip.flips,
            "detectable": flip.detectable,
            "too_small": flip.too_small,
            "too_skewed": flip.too_skewed,
        }
        for flip in flips
    ]
    index = pd.MultiIndex.from_tuples([(name, flip.label) for name, flip in zip(names, flips, strict=True)])
    return pd.DataFrame(rows, index=index.set_names(["column", "slice"]))
