"""The metrics: ``metrics.create(MetricSpec(name="rouge"))`` and the plain function :func:`score`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import length, ngrams, rouge
from lumigator_nb.metrics.base import (
    Aggregate,
    FloatArray,
    Metric,
    Score,
    ScoreInfo,
    check,
    create,
    info,
    known,
    metric_class,
    parse,
)
from lumigator_nb.specs import MetricSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Aggregate",
    "FloatArray",
    "Metric",
    "Score",
    "ScoreInfo",
    "check",
    "create",
    "info",
    "known",
    "metric_class",
    "parse",
    "score",
]

# Importing these registers them; none loads a heavy library.
_BUILT_IN = (length, ngrams, rouge)


def score(
    predictions: Sequence[str | None],
    ground_truth: Sequence[str | None] | None = None,
    *,
    examples: Sequence[str] | None = None,
    metrics: Sequence[str | MetricSpec] = ("rouge", "bleu", "chrf"),
) -> pd.DataFrame:
    """Score texts, without a workspace or a cluster.

    Args:
        predictions: n texts; None where there is none.
        ground_truth: n texts; needed by most metrics.
        examples: n inputs; only needed by metrics that look at them.
        metrics: names, or :class:`MetricSpec` where one needs options.

    Returns:
        One row per prediction and one column per score, NaN where a row cannot be scored. ``attrs["overall"]`` holds
        the values over all rows, ``attrs["signatures"]`` what makes them reproducible.

    Raises:
        InvalidInputError: the lengths differ.
        UnknownMetricError: there is no such metric.
        MissingFieldsError: a metric needs ground truth.
    """
    import pandas as pd

    predictions = list(predictions)
    fields = {"ground_truth": ground_truth, "examples": examples}
    for name, texts in fields.items():
        if texts is not None and len(texts) != len(predictions):
            raise InvalidInputError(
                f"{len(predictions)} predictions, but {len(texts)} {name}", "give one for each prediction, in its order"
            )
    specs = [parse(metric) for metric in ([metrics] if isinstance(metrics, str) else metrics)]
    check(specs, has_ground_truth=ground_truth is not None)
    chosen = [create(spec) for spec in specs]
    truth = list(ground_truth) if ground_truth is not None else [None] * len(predictions)
    inputs = list(examples) if examples is not None else [""] * len(predictions)
    scores = [found for metric in chosen for found in metric.score(predictions, truth, inputs)]
    frame = pd.DataFrame({found.info.name: found.values for found in scores})
    frame.attrs["overall"] = {found.info.name: found.overall for found in scores}
    frame.attrs["signatures"] = {metric.name: metric.signature for metric in chosen}
    return frame
