"""Overall scores, aggregated again from the scores of the examples."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from lumigator_nb import metrics
from lumigator_nb.errors import LumigatorError
from lumigator_nb.specs import MetricResult, MetricSpec
from lumigator_nb.storage.results import REASON_SUFFIX, STATISTICS_SUFFIX


class Totals:
    """Aggregates the scores of the examples, one file at a time."""

    def __init__(self, metric: MetricSpec) -> None:
        self._metric = metric
        self._sums: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()

    def add(self, table: pa.Table) -> None:
        """Add the sufficient statistics of a file. The overall value of a score without any is its mean."""
        for name in table.column_names:
            if name == "row" or name.endswith((STATISTICS_SUFFIX, REASON_SUFFIX)):
                continue
            statistics = f"{name}{STATISTICS_SUFFIX}"
            values = table[statistics if statistics in table.column_names else name].drop_null().to_pylist()
            self._counts[name] += len(values)
            if values:
                self._sums[name] = self._sums.get(name, 0.0) + np.asarray(values, dtype=np.float64).sum(axis=0)

    def differing(self, result: MetricResult) -> list[str]:
        """Return the scores whose overall value differs from the aggregated one."""
        names = []
        for name, score in result.scores.items():
            count = self._counts[name]
            if not count:
                agrees = score.overall is None
            else:
                total = self._sums[name]
                expected = total / count if np.ndim(total) == 0 else self._aggregate(name, total, count)
                # Without an expected value nothing can be said against the recorded one.
                agrees = expected is None or (score.overall is not None and _is_close(score.overall, expected))
            if not agrees:
                names.append(name)
        return names

    def _aggregate(self, name: str, total: Any, count: int) -> float | None:
        """Return the overall value; None if the metric is not installed, or is a function, whose code must not run."""
        with suppress(LumigatorError):
            if metrics.class_of(self._metric).runs_user_code:
                return None
            infos = {info.name: info for info in metrics.create(self._metric).infos}
            return float(infos[name].aggregate(total, count)) if name in infos else None
        return None


def same_scores(stored: dict[str, float], recorded: dict[str, float]) -> bool:
    """Return whether two records of overall scores agree within rounding."""
    return stored.keys() == recorded.keys() and all(_is_close(stored[name], recorded[name]) for name in stored)


def _is_close(one: float, other: float) -> bool:
    # Sums over shards of another size are rounded differently.
    return bool(np.isclose(one, other, rtol=1e-9, atol=1e-12))
