"""Scores that another tool computed: they are loaded with its answers, and never computed here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import Metric, Rows, ScoreInfo, Scores, choice
from lumigator_nb.metrics.registry import metric_class
from lumigator_nb.specs import MetricSpec

_DIRECTIONS = {"higher": True, "lower": False, "none": None}


@metric_class
class RecordedScore(Metric):
    """One score of another tool; :meth:`Workspace.load_results` makes its options."""

    name = "_recorded"
    needs = frozenset()

    def __init__(
        self,
        *,
        name: str,
        tool: str = "",
        description: str = "",
        better: str = "higher",
        range: Sequence[float | None] = (None, None),
    ) -> None:
        choice(self.name, "better", better, tuple(_DIRECTIONS))
        low, high = range
        bounds = (-np.inf if low is None else float(low), np.inf if high is None else float(high))
        self._name, self._tool = name, tool
        self.infos = (ScoreInfo(name, description, _DIRECTIONS[better], bounds),)

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """As in :class:`Metric`."""
        return f"{spec.title} (as computed by {spec.options.get('tool') or 'another tool'})"

    @property
    def title(self) -> str:
        """As in :class:`Metric`."""
        return self._name

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return f"recorded|score:{self._name}|tool:{self._tool or 'unknown'}"

    def _score(self, rows: Rows) -> list[Scores]:
        tool = self._tool or "another tool"
        raise InvalidInputError(
            f"{self._name} was computed by {tool}, and cannot be computed here",
            "load the model's results from its file",
        )


def recorded(info: ScoreInfo, tool: str) -> MetricSpec:
    """Return the metric that stands for a score of another tool."""
    better = next(name for name, value in _DIRECTIONS.items() if value == info.higher_is_better)
    bounds = [float(bound) if np.isfinite(bound) else None for bound in info.range]
    options = {"name": info.name, "tool": tool, "description": info.description, "better": better, "range": bounds}
    return MetricSpec(name=RecordedScore.name, options=options)
