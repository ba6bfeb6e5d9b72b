"""Scoring on all cores of the machine, for slow metrics and many examples."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lumigator_nb.metrics.base import Metric, References, Scores
from lumigator_nb.metrics.registry import create
from lumigator_nb.specs import MetricSpec

# Each process takes about a second to start: fewer rows are scored faster in this process.
MIN_ROWS = 3_000


def score(
    spec: MetricSpec,
    metric: Metric,
    predictions: Sequence[str | None],
    ground_truth: Sequence[References],
    examples: Sequence[str],
    metadata: Sequence[Mapping[str, Any]] | None = None,
    facts: Sequence[Mapping[str, Any]] | None = None,
) -> list[Scores]:
    """Score like :meth:`Metric.score`, in several processes if that is faster.

    Args:
        spec: the specification of `metric`.
        metric, predictions, ground_truth, examples, metadata, facts: as in :meth:`Metric.score`.
    """
    # The cores that this process may use, which a container or a batch system may restrict.
    n, cores = len(predictions), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not metric.slow or n < MIN_ROWS or (cores or 1) < 2:
        return metric.score(predictions, ground_truth, examples, metadata, facts)
    from joblib import Parallel, delayed

    size = -(-n // (cores or 1))
    spans = [slice(begin, begin + size) for begin in range(0, n, size)]
    # joblib, as processes of multiprocessing would import and run the user's script again.
    columns = (predictions, ground_truth, examples, metadata, facts)
    parts = Parallel(n_jobs=cores)(
        delayed(_score)(spec, *[column and column[span] for column in columns]) for span in spans
    )
    joined = []
    for name in dict.fromkeys(score["name"] for part in parts for score in part):
        pieces = [next(score for score in part if score["name"] == name) for part in parts]
        reasons = [reason for piece in pieces for reason in (piece["reasons"] or (None,) * len(piece["values"]))]
        info = next(info for info in metric.infos if info.name == name)
        values, statistics = (np.concatenate([piece[key] for piece in pieces]) for key in ("values", "statistics"))
        joined.append(Scores(info, values, statistics, tuple(reasons) if any(reasons) else ()))
    return joined


def _score(spec: MetricSpec, *columns: Any) -> list[dict[str, Any]]:
    """Score some rows in another process. Infos hold functions, which cannot be pickled, so they are left out."""
    return [
        {"name": score.info.name, "values": score.values, "statistics": score.statistics, "reasons": score.reasons}
        for score in create(spec).score(*columns)
    ]
