"""The metrics: ``metrics.create(MetricSpec(name="rouge"))`` and the plain function :func:`score`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    metrics: str | MetricSpec | Sequence[str | MetricSpec] = ("rouge", "bleu", "chrf"),
) -> pd.DataFrame:
    """Score texts, without a workspace or a cluster.

    Args:
        predictions: n texts; None (or NaN, as pandas writes it) where there is none. An empty text is an answer.
        ground_truth: n texts; needed by most metrics.
        examples: n inputs; only needed by metrics that look at them, such as the compression of "length".
        metrics: names, or :class:`MetricSpec` where one needs options.

    Returns:
        One row per prediction and one column per score, NaN where a row cannot be scored. ``attrs["overall"]`` holds
        the values over all rows, ``attrs["signatures"]`` what makes them reproducible.

    Raises:
        InvalidInputError: the lengths differ, a value is no text, or a metric is named twice.
        UnknownMetricError: there is no such metric.
        MissingFieldsError: a metric needs ground truth.
    """
    import pandas as pd

    chosen = _chosen([metrics] if isinstance(metrics, (str, MetricSpec)) else metrics, ground_truth is not None)
    answers = _texts("predictions", predictions)
    truth = _aligned("ground_truth", ground_truth, len(answers))
    inputs = [text or "" for text in _aligned("examples", examples, len(answers))]
    scores = [found for metric in chosen for found in metric.score(answers, truth, inputs)]
    frame = pd.DataFrame({found.info.name: found.values for found in scores})
    frame.attrs["overall"] = {found.info.name: found.overall for found in scores}
    frame.attrs["signatures"] = {metric.name: metric.signature for metric in chosen}
    return frame


def _chosen(metrics: Sequence[str | MetricSpec], has_ground_truth: bool) -> list[Metric]:
    specs = [parse(metric) for metric in metrics]
    names = [spec.name for spec in specs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InvalidInputError(f"metric {twice!r} is named twice", "score with each of its settings by itself")
    check(specs, has_ground_truth=has_ground_truth)
    return [create(spec) for spec in specs]


def _aligned(name: str, given: Sequence[str | None] | None, n: int) -> list[str | None]:
    if given is None:
        return [None] * n
    texts = _texts(name, given)
    if len(texts) != n:
        raise InvalidInputError(
            f"{n} predictions, but {len(texts)} {name}", "give one for each prediction, in its order"
        )
    return texts


def _texts(name: str, given: Sequence[Any]) -> list[str | None]:
    if isinstance(given, str):
        raise InvalidInputError(f"{name} is a single text", f"put it into a list: {name}=[…]")
    return [_text(name, row, value) for row, value in enumerate(given)]


def _text(name: str, row: int, value: Any) -> str | None:
    import pandas as pd

    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    raise InvalidInputError(f"{name}, row {row}: {value!r} is no text", "turn numbers into text with str()")
