"""Overall scores, counted once more from the scores of the examples."""

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
    """What the scores of the examples come to, file by file."""

    def __init__(self, metric: MetricSpec) -> None:
        self._metric = metric
        self._sums: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()

    def add(self, table: pa.Table) -> None:
        """Add the sufficient statistics of a file; a score without any is a mean, and its own."""
        for name in table.column_names:
            if name == "row" or name.endswith((STATISTICS_SUFFIX, REASON_SUFFIX)):
                continue
            given = f"{name}{STATISTICS_SUFFIX}"
            values = table[given if given in table.column_names else name].drop_null().to_pylist()
            self._counts[name] += len(values)
            if values:
                self._sums[name] = self._sums.get(name, 0.0) + np.asarray(values, dtype=np.float64).sum(axis=0)

    def differing(self, result: MetricResult) -> list[str]:
        """Return the scores whose overall value is another."""
        return [name for name, score in result.scores.items() if not self._is(name, score.overall)]

    def _is(self, name: str, overall: float | None) -> bool:
        if not self._counts[name]:
            return overall is None
        total, count = self._sums[name], self._counts[name]
        expected = total / count if np.ndim(total) == 0 else self._aggregated(name, total, count)
        return expected is None or (overall is not None and _close(overall, expected))

    def _aggregated(self, name: str, total: Any, count: int) -> float | None:
        """None where the metric is not installed, or is a function, whose code is not run for this."""
        with suppress(LumigatorError):
            if metrics.class_of(self._metric).runs_user_code:
                return None
            infos = {info.name: info for info in metrics.create(self._metric).infos}
            return float(infos[name].aggregate(total, count)) if name in infos else None
        return None


def same_scores(stored: dict[str, float], recorded: dict[str, float]) -> bool:
    """Whether two records of overall scores agree, but for rounding."""
    return stored.keys() == recorded.keys() and all(_close(stored[name], recorded[name]) for name in stored)


def _close(one: float, other: float) -> bool:
    # Sums of other parts round in another way.
    return bool(np.isclose(one, other, rtol=1e-9, atol=1e-12))
