"""MLflow's evaluation tables: `eval_results_table.json` of `mlflow.models.evaluate`, and saved `result_df` of
`mlflow.genai.evaluate` (JSON, CSV or Parquet).

Not MLflow itself: its tables are plain, and its client takes seconds to import.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.eval_logs.base import ModelResults, describe, number, plain_columns, references, text

_SUFFIXES = ("/value", "/score")
_EXPECTED = ("expected_response/value", "expected_response")
_INPUTS = ("request", "inputs", "input", "question", "prompt", "query")
_ANSWERS = ("response", "outputs", "output", "prediction", "predictions", "answer")
_TRUTHS = ("targets", "target", "ground_truth", "expected", "truth", "answer_key")
_IDS = ("id", "item", "item_id", "sample_id", "example_id", "client_request_id")
# What MLflow adds to a row about its own storage.
_OWN = (
    "trace_id", "trace", "state", "request_time", "trace_metadata", "tags", "spans", "assessments",
    "execution_duration",
)  # fmt: skip


def is_table(columns: Collection[Any]) -> bool:
    """Return whether a table with these columns is of MLflow: it has scores like `exact/value` or `exact/score`."""
    return any(str(name).endswith(_SUFFIXES) and name not in _EXPECTED for name in columns)


def read(path: Path, table: pd.DataFrame) -> ModelResults:
    """Return the results in a table. It does not say which model it is of, so that the file's name does.

    Raises:
        InvalidInputError: no column of scores holds numbers.
    """
    scores = {}
    for name in table.columns:
        if str(name).endswith(_SUFFIXES) and name not in _EXPECTED:
            values = np.array([_value(value) for value in table[name]], dtype=np.float64)
            if not np.isnan(values).all():
                scores[str(name).rpartition("/")[0]] = values
    if not scores:
        raise InvalidInputError(f"{path.name}: no score is a number", "log scores as numbers, or as yes and no")
    columns: dict[str, Any] = {}
    inputs, answers, truths = (_find(table, names) for names in (_INPUTS, _ANSWERS, (*_EXPECTED, *_TRUTHS)))
    if inputs:
        columns["example"] = [_input(value) for value in table[inputs]]
    if answers:
        columns["prediction"] = [_text(value) for value in table[answers]]
    if truths:
        columns["ground_truth"] = [references(_text(value)) for value in table[truths]]
    if "execution_duration" in table:
        milliseconds = pd.to_numeric(table["execution_duration"], errors="coerce")
        columns["seconds"] = milliseconds.where(milliseconds > 0) / 1000
    ids = _find(table, _IDS)
    # Traces have other ids in every run; what was asked is the same.
    columns["item"] = table[ids] if ids else columns["example"] if inputs else range(len(table))
    used = {*_OWN, inputs, answers, truths, ids}
    others = [name for name in table.columns if name not in used and "/" not in str(name)]
    return ModelResults(
        path.stem,
        pd.DataFrame(columns),
        scores,
        {name: describe(name, values, "MLflow") for name, values in scores.items()},
        plain_columns(table[others].reset_index(drop=True)),
        tool="MLflow",
        source=str(path),
    )


def _find(table: pd.DataFrame, names: Collection[str]) -> str | None:
    return next((name for name in names if name in table and table[name].notna().any()), None)


def _value(value: Any) -> float:
    """A score; the judges of MLflow answer yes and no, and CSV writes truth values as words."""
    words = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
    return words.get(value.lower(), number(value)) if isinstance(value, str) else number(value)


def _text(value: Any) -> str | None:
    is_missing = value is None or bool(value != value)
    return None if is_missing else text(value)


def _input(value: Any) -> str | None:
    """What was asked; the only argument of a call as its text, several as JSON."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            # A CSV file holds Python's notation of a dictionary.
            value = json.loads(value) if value.startswith('{"') else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return str(value)
    if isinstance(value, dict):
        first = next(iter(value.values()), None)
        if len(value) == 1 and isinstance(first, str):
            return first
        return json.dumps(value, ensure_ascii=False, default=str)
    return _text(value)
