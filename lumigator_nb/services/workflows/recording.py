"""Recorded predictions: made elsewhere, and stored as if an inference step had made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb import tables
from lumigator_nb.database.records import Dataset, Workflow
from lumigator_nb.errors import DatasetError, InvalidInputError, did_you_mean
from lumigator_nb.metrics import Scores, create
from lumigator_nb.metrics.recorded import RecordedScore
from lumigator_nb.models import RECORDED, Prediction
from lumigator_nb.services.datasets.sources import fetched
from lumigator_nb.specs import (
    MetricResult,
    MetricSpec,
    Model,
    ScoreResult,
    Status,
    Step,
    StepResult,
    Task,
    WorkflowSpec,
    now,
)
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

_NUMBERS = {"prompt_tokens": int, "completion_tokens": int, "seconds": float, "cost": float}
MISSING, NO_SCORE = "no prediction was recorded", "no score was recorded"
Recorded = list[tuple[MetricSpec, Scores]]


def read(store: Store, dataset: Dataset, predictions: pd.DataFrame | Path | str) -> list[Prediction]:
    """Return one prediction per example, in the dataset's order.

    Raises:
        DatasetError: a row is missing, doubled, or belongs to no example; or there is no such file or column.
    """
    examples: pd.DataFrame = results.read_rows(store, layout.examples(dataset.id), dataset.sample).to_pandas()
    frame = _frame(predictions, examples)
    if "prediction" not in frame:
        raise DatasetError(
            "the predictions have no column 'prediction'", did_you_mean("prediction", map(str, frame.columns))
        )
    aligned = _aligned(frame.rename(columns=str), examples)
    return [_prediction({str(name): value for name, value in row.items()}) for row in aligned.to_dict("records")]


def content_digest(predictions: list[Prediction]) -> str:
    """Return 16 hex digits that identify the predictions, so that different ones make a different workflow."""
    return hashlib.sha256(repr(predictions).encode()).hexdigest()[:16]


def model_of(name: str, predictions: list[Prediction]) -> Model:
    """Return the stand-in for the model that made the predictions."""
    return Model(name, provider=RECORDED, label=name, options={"digest": content_digest(predictions)})


def write(
    store: Store,
    workflow: Workflow,
    predictions: list[Prediction],
    shard_size: int,
    scores: Sequence[tuple[MetricSpec, Scores]] = (),
) -> None:
    """Store the predictions as an inference step does, its result last: the result says that they are complete.

    `scores` are stored as the evaluation would, which then does not compute them.
    """
    started = now()
    spec = WorkflowSpec(
        workflow_id=workflow.id,
        attempt=workflow.attempt,
        dataset="",
        n_examples=len(predictions),
        task=Task(),
        model=workflow.model,
        metrics=(),
        shard_size=shard_size,
    )
    for shard, start in enumerate(range(0, len(predictions), shard_size)):
        results.write_predictions(store, spec, shard, predictions[start : start + shard_size])
    for metric, own in scores:
        results.write_scores(store, workflow.id, metric, 0, 0, [own])
        results.write_metric_result(store, workflow.id, _metric_result(workflow, metric, own))
    tally = results.tally(store, workflow.id)
    result = StepResult(
        step=Step.INFERENCE,
        attempt=workflow.attempt,
        status=Status.SUCCEEDED,
        started_at=started,
        finished_at=now(),
        n_examples=len(predictions),
        n_failed=tally.errors.total(),
        details={"source": "recorded by the user", **tally.details},
    )
    results.write_result(store, workflow.id, result)


def scores_of(metrics: Sequence[MetricSpec], given: Mapping[str, Sequence[float | None]], n: int) -> Recorded:
    """Return the scores of those metrics that stand for scores of another tool.

    Raises:
        InvalidInputError: none of the metrics stands for a score, or it has another number of values.
    """
    recorded = {spec.title: spec for spec in metrics if spec.name == RecordedScore.name}
    pairs = []
    for name, values in given.items():
        if name not in recorded:
            raise InvalidInputError(
                f"the experiment has no recorded score {name!r}", did_you_mean(name, recorded) if recorded else None
            )
        if len(values) != n:
            raise InvalidInputError(f"{len(values)} values of {name!r} for {n} examples", "give one for each")
        (info,) = create(recorded[name]).infos
        numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        reasons = [NO_SCORE if missing else None for missing in np.isnan(numbers)]
        pairs.append((recorded[name], Scores.of(info, numbers, reasons if any(reasons) else ())))
    return pairs


def _metric_result(workflow: Workflow, metric: MetricSpec, scores: Scores) -> MetricResult:
    low, high = (None if np.isinf(bound) else float(bound) for bound in scores.info.range)
    result = ScoreResult(
        overall=scores.overall if scores.scored.any() else None,
        n_scored=int(scores.scored.sum()),
        unscored=dict(scores.unscored),
        description=scores.info.description,
        higher_is_better=scores.info.higher_is_better,
        range=(low, high),
    )
    return MetricResult(
        metric=metric,
        title=metric.title,
        answers_of=workflow.attempt,
        signature=create(metric).signature,
        scores={scores.info.name: result},
    )


def _frame(predictions: pd.DataFrame | Path | str, examples: pd.DataFrame) -> pd.DataFrame:
    if isinstance(predictions, pd.DataFrame):
        return predictions.reset_index(drop=True)
    if isinstance(predictions, str) and predictions in examples.columns:
        return pd.DataFrame({"prediction": examples[predictions]})
    if isinstance(predictions, str) and "." not in predictions and not Path(predictions).exists():
        columns = [str(name) for name in examples.columns if name not in ("example", "ground_truth")]
        raise DatasetError(
            f"{predictions!r} is neither a file nor a column of the dataset", did_you_mean(predictions, columns)
        )
    with fetched(predictions) as copy:
        table = tables.read_examples(copy.path, filename=copy.filename, example="prediction").table
    names = ["prediction" if name == "example" else name for name in table.column_names]
    return pd.DataFrame(table.rename_columns(names).to_pandas())


def _aligned(frame: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    if "row" in frame:
        rows = pd.to_numeric(frame["row"], errors="coerce")
    elif "example" in frame:
        positions = pd.Series(range(len(examples)), index=examples["example"])
        repeated = examples["example"][examples["example"].duplicated()]
        if len(repeated):
            raise DatasetError(
                f"the dataset has {str(repeated.iloc[0])[:60]!r} more than once, so a text does not identify a row",
                "give a column 'row' with the row's number, from 0",
            )
        rows = frame["example"].map(positions)
    elif len(frame) == len(examples):
        return frame
    else:
        raise DatasetError(
            f"there are {len(frame)} predictions for {len(examples)} examples",
            "give one per example in the dataset's order, or a column 'row' or 'example' to find them by",
        )
    n_examples = len(examples)
    wrong = rows[~rows.isin(range(n_examples))]
    if len(wrong):
        raise DatasetError(
            f"prediction {int(wrong.index[0]) + 1} belongs to no example of the dataset",
            f"rows are numbered from 0 to {n_examples - 1}, and a text in 'example' must be one of the dataset",
        )
    repeated = rows[rows.duplicated()]
    if len(repeated):
        raise DatasetError(f"example {int(repeated.iloc[0])} has more than one prediction", "keep one of them")
    missing = n_examples - len(rows)
    if missing:
        first = min(set(range(n_examples)) - set(rows.astype(int)))
        raise DatasetError(
            f"{missing} of {n_examples} examples have no prediction; the first is row {first}",
            "for an example that the model did not answer, add a row with an empty prediction",
        )
    return frame.assign(row=rows.astype(int)).sort_values("row", kind="stable").reset_index(drop=True)


def _prediction(values: dict[str, Any]) -> Prediction:
    text = values["prediction"]
    if pd.isna(text):
        return Prediction(None, error=MISSING)
    numbers = {
        name: kind(values[name]) for name, kind in _NUMBERS.items() if name in values and not pd.isna(values[name])
    }
    return Prediction(str(text), **numbers)
