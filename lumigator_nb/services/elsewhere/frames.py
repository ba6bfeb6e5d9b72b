"""Scores in a DataFrame, long (one row per model and item) or wide (one column per model), as results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.eval_logs.base import NUMBERS, TEXTS, Better, ModelResults, describe
from lumigator_nb.metrics import FloatArray, ScoreInfo

Names = str | Sequence[str]
_ITEMS = ("item", "id", "item_id", "sample_id", "example_id", "doc_id", "question_id", "row")


def of_frame(
    frame: pd.DataFrame,
    *,
    model: str | None = None,
    item: str | None = None,
    score: Names | None = None,
    metadata: Names | None = None,
    better: Mapping[str, Better] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> list[ModelResults]:
    """Return one result per model.

    Args:
        frame: long with a column of models, or wide: every column of numbers besides `item` and `metadata` is a model.
        model: the column of models; default "model", if there is one; else the frame is wide.
        item: the column of ids; default the first of "item", "id" and similar names; else a wide frame's index, and in
            a long frame each model's rows in their order.
        score: the columns of scores; default all columns of numbers that are not used otherwise. For a wide frame, the
            name of the score, default "score".
        metadata: the examples' other columns; default those of a long frame with one value per item.
        better, ranges: see :func:`compare`.

    Raises:
        InvalidInputError: a column is missing, a score is no number, or the frame is empty.
    """
    if frame.columns.duplicated().any():
        raise InvalidInputError(
            f"the column {frame.columns[frame.columns.duplicated()][0]!r} occurs twice", "rename one of them"
        )
    if not len(frame):
        raise InvalidInputError("the table has no rows", "give one row per item, or per item and model")
    table = frame.rename(columns=str)
    model = _column(table, model, "model") or ("model" if "model" in table else None)
    item = _column(table, item, "item") or next((name for name in _ITEMS if name in table), None)
    others = [metadata] if isinstance(metadata, str) else list(metadata) if metadata is not None else None
    for name in others or ():
        _column(table, name, "metadata")
    if model is None:
        return _of_wide(table, item, score, others or [], better, ranges)
    return _of_long(table, model, item, score, others, better, ranges)


def _of_wide(
    table: pd.DataFrame,
    item: str | None,
    score: Names | None,
    metadata: list[str],
    better: Mapping[str, Better] | None,
    ranges: Mapping[str, tuple[float, float]] | None,
) -> list[ModelResults]:
    if score is not None and not isinstance(score, str):
        raise InvalidInputError(
            "a table with a column per model has one score",
            "name it, score='accuracy'; or give a row per model and item, and model='…', its column",
        )
    name = score or "score"
    models = [
        column for column in table.columns if column not in (item, *metadata, *TEXTS) and _is_number(table[column])
    ]
    if len(models) < 1:
        raise InvalidInputError("no column holds numbers", "one column of scores per model, or model='…', its column")
    ids = table[item] if item is not None else table.index.to_series()
    texts = [column for column in TEXTS[:2] if column in table]
    rows = table[texts].assign(item=ids.to_numpy()).reset_index(drop=True)
    values = {column: _numbers(table[column]) for column in models}
    info = describe(name, np.concatenate(list(values.values())), "", better, (ranges or {}).get(name))
    others = table[metadata].reset_index(drop=True)
    return [ModelResults(column, rows, {name: values[column]}, {name: info}, others) for column in models]


def _of_long(
    table: pd.DataFrame,
    model: str,
    item: str | None,
    score: Names | None,
    metadata: list[str] | None,
    better: Mapping[str, Better] | None,
    ranges: Mapping[str, tuple[float, float]] | None,
) -> list[ModelResults]:
    if table[model].isna().any():
        row = int(np.flatnonzero(table[model].isna())[0])
        raise InvalidInputError(f"row {row} names no model", f"fill the column {model!r}, or drop the row")
    taken = {model, item, *TEXTS, *(metadata or ())}
    if score is None:
        names = [name for name in table.columns if name not in taken and _is_number(table[name])]
    else:
        names = [score] if isinstance(score, str) else list(score)
    if not names:
        raise InvalidInputError("no column holds scores", "name them: score=['accuracy']")
    for name in names:
        _column(table, name, "score")
    values = {name: _numbers(table[name]) for name in names}
    infos = {name: describe(name, own, "", better, (ranges or {}).get(name)) for name, own in values.items()}
    ids = table[item] if item is not None else table.groupby(model, sort=False).cumcount()
    others = metadata if metadata is not None else _constant(table, ids, {*taken, *names})
    # Costs and times are shown as such, whether or not they are among the scores.
    facts = [name for name in (*TEXTS, *NUMBERS) if name in table]
    rows = table[facts].assign(item=ids.to_numpy()).reset_index(drop=True)
    codes, models = pd.factorize(table[model])
    return [
        _part(str(label), np.flatnonzero(codes == code), rows, values, infos, table[others].reset_index(drop=True))
        for code, label in enumerate(models)
    ]


def _part(
    label: str,
    positions: np.ndarray,
    rows: pd.DataFrame,
    values: Mapping[str, FloatArray],
    infos: Mapping[str, ScoreInfo],
    metadata: pd.DataFrame,
) -> ModelResults:
    """One model's rows; without the scores that it has on no row."""
    own = {name: column[positions] for name, column in values.items()}
    own = {name: column for name, column in own.items() if not np.isnan(column).all()}
    return ModelResults(
        label,
        rows.iloc[positions].reset_index(drop=True),
        own,
        {name: infos[name] for name in own},
        metadata.iloc[positions].reset_index(drop=True),
    )


def _constant(table: pd.DataFrame, ids: pd.Series, taken: set[str | None]) -> list[str]:
    """The columns that have the same value in all rows of an item: facts about the example, not about an answer."""
    codes, uniques = pd.factorize(ids)
    first = np.zeros(len(uniques), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    constant = []
    for name in table.columns:
        if name in taken or name in NUMBERS:
            continue
        values, _ = pd.factorize(table[name])
        if (values[first][codes] == values).all():
            constant.append(name)
    return constant


def _column(table: pd.DataFrame, name: str | None, role: str) -> str | None:
    if name is not None and name not in table:
        raise InvalidInputError(f"there is no column {name!r} for {role}=", did_you_mean(name, list(table.columns)))
    return name


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


def _numbers(column: pd.Series) -> FloatArray:
    """A column of scores; NaN for none.

    Raises:
        InvalidInputError: a value is no number, or infinite.
    """
    if _is_number(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        wrong = np.isnan(values) & column.notna().to_numpy()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InvalidInputError(
                f"{column.name}, row {row}: {column.iloc[row]!r} is not a number", "scores are numbers; empty for none"
            )
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise InvalidInputError(f"{column.name}, row {row} is infinite", "leave it empty if there is no score")
    return values


def of_columns(by_model: Mapping[str, Any]) -> pd.DataFrame:
    """Return a wide table from a list of numbers per model.

    Raises:
        InvalidInputError: the lists differ in length.
    """
    lengths = {str(model): len(values) for model, values in by_model.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} of {model}" for model, length in lengths.items())
        raise InvalidInputError(f"the models have different numbers of scores: {told}", "give one for each example")
    return pd.DataFrame({str(model): list(values) for model, values in by_model.items()})
