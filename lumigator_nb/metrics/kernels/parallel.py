"""Scoring with all cores of the machine, where a metric is slow and there is much to score."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lumigator_nb.metrics.base import Metric, References, Scores
from lumigator_nb.metrics.registry import create
from lumigator_nb.specs import MetricSpec

# Starting processes takes about a second each, so that fewer rows are quicker done here.
MIN_ROWS = 3_000


def score(
    spec: MetricSpec,
    metric: Metric,
    predictions: Sequence[str | None],
    ground_truth: Sequence[References],
    examples: Sequence[str],
    metadata: Sequence[Mapping[str, Any]] | None = None,
) -> list[Scores]:
    """Score as :meth:`Metric.score` does, in several processes where that is quicker.

    Args:
        spec: what `metric` was created from.
    """
    n, cores = len(predictions), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not metric.slow or n < MIN_ROWS or (cores or 1) < 2:
        return metric.score(predictions, ground_truth, examples, metadata)
    from joblib import Parallel, delayed

    size = -(-n // (cores or 1))
    spans = [slice(begin, begin + size) for begin in range(0, n, size)]
    # joblib's processes do not import the user's script again, as those of multiprocessing would.
    parts = Parallel(n_jobs=cores)(
        delayed(_score)(spec, predictions[span], ground_truth[span], examples[span], metadata and metadata[span])
        for span in spans
    )
    return _joined(metric, parts)


def _score(spec: MetricSpec, *columns: Any) -> list[dict[str, Any]]:
    """Score some rows in another process; functions cannot come back, so the infos are left out."""
    return [
        {"name": each.info.name, "values": each.values, "statistics": each.statistics, "reasons": each.reasons}
        for each in create(spec).score(*columns)
    ]


def _joined(metric: Metric, parts: Sequence[list[dict[str, Any]]]) -> list[Scores]:
    found = []
    for name in dict.fromkeys(each["name"] for part in parts for each in part):
        pieces = [next(each for each in part if each["name"] == name) for part in parts]
        reasons = [reason for piece in pieces for reason in (piece["reasons"] or (None,) * len(piece["values"]))]
        info = next(info for info in metric.infos if info.name == name)
        values, statistics = (np.concatenate([piece[key] for piece in pieces]) for key in ("values", "statistics"))
        found.append(Scores(info, values, statistics, tuple(reasons) if any(reasons) else ()))
    return found
