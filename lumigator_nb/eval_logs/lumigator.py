"""Results downloaded from Mozilla's Lumigator or this package's REST API: `metrics`, `parameters`, `artifacts`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lumigator_nb.eval_logs.base import ModelResults, malformed, number, references, results_of, text


def is_result(document: Any) -> bool:
    """Return whether a JSON document is the result of a job or a workflow."""
    return isinstance(document, Mapping) and {"metrics", "parameters", "artifacts"} <= document.keys()


def read(path: Path, document: Mapping[str, Any]) -> ModelResults:
    """Return the results of a workflow or an evaluation.

    Raises:
        DamagedError: it has no scores of single examples.
    """
    artifacts, parameters = document["artifacts"], document["parameters"]
    predictions = artifacts.get("predictions") or []
    n = len(predictions)
    scores = {name: values for name, values in _scores(document["metrics"]) if len(values) == n}
    if not n or not scores:
        raise malformed(path.name, "it has no scores of single examples; download the result of an evaluation")
    columns: dict[str, list[Any]] = {
        "example": [text(value) for value in artifacts.get("examples") or [None] * n],
        "ground_truth": [references(value) for value in artifacts.get("ground_truth") or [None] * n],
        "prediction": [text(value) for value in predictions],
    }
    records = [
        {
            "item": row,
            **{name: values[row] for name, values in columns.items() if len(values) == n},
            "scores": {name: values[row] for name, values in scores.items()},
        }
        for row in range(n)
    ]
    dataset = parameters.get("dataset") or {}
    model = parameters.get("name") or artifacts.get("model") or parameters.get("model") or path.stem
    if isinstance(model, Mapping):
        model = model.get("name") or model.get("path") or path.stem
    return results_of(
        str(model),
        records,
        task=str(dataset.get("name") or dataset.get("id") or "") if isinstance(dataset, Mapping) else "",
        tool="Lumigator",
        source=str(path),
        details={"model": parameters.get("model"), "provider": parameters.get("provider")},
    )


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    """The lists among the metrics. Their names have the metric in front, unless it is there already."""
    for metric, values in metrics.items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, list) and value:
                yield _name(metric, name), [_number(one) for one in value]


def _name(metric: str, name: str) -> str:
    return name if metric in name else f"{metric}_{name}"


def _number(value: Any) -> float:
    # G-Eval's scores come with a reason; a missing one is sent as minus infinity.
    own = number(value.get("score") if isinstance(value, Mapping) else value)
    return own if np.isfinite(own) else float("nan")
