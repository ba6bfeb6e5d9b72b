"""Results from elsewhere as an experiment of a workspace: what its dataset, metrics and workflows are made of."""

from __future__ import annotations

import pandas as pd

from lumigator_nb.metrics.recorded import recorded
from lumigator_nb.services.comparison.data import ComparisonData
from lumigator_nb.specs import MetricSpec


def examples_of(data: ComparisonData) -> pd.DataFrame:
    """Return the examples as a table to upload: texts, or ids where there are none; metadata, with the ids."""
    frame = data.examples.copy()
    items = list(data.items) or [str(row) for row in range(len(frame))]
    frame["example"] = [text or f"item {item}" for text, item in zip(frame["example"], items, strict=True)]
    if data.items and data.has_texts and "item" not in frame:
        frame["item"] = items
    return frame


def metrics_of(data: ComparisonData) -> list[MetricSpec]:
    """Return a metric for each score of the tools."""
    tools = {step.details.get("tool", "") for model in data.models for step in model.steps[:1]}
    tool = str(tools.pop()) if len(tools) == 1 else ""
    return [recorded(info, tool) for info in data.infos.values()]


def scores_of(data: ComparisonData, label: str) -> dict[str, list[float | None]]:
    """Return a model's scores by name, one per example; None for none."""
    frame = data.scores[label]
    names = [name for name in data.infos if name in frame]
    return {name: [None if value != value else float(value) for value in frame[name]] for name in names}
