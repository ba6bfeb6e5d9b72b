"""What is known of a model's main score while it is being scored and when it has been."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lumigator_nb import metrics, statistics
from lumigator_nb.display.scores import Figures
from lumigator_nb.errors import LumigatorError
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.metrics.base import mean
from lumigator_nb.services.comparison.score_samples import main_score
from lumigator_nb.specs import MetricSpec

if TYPE_CHECKING:
    from lumigator_nb.database.records import Experiment, Workflow
    from lumigator_nb.workspace import Workspace

CONFIDENCE = 0.95
Main = tuple[MetricSpec, ScoreInfo]


@dataclass(frozen=True)
class Standing:
    """How a model stands on the main score.

    Attributes:
        score: its name.
        value: over the examples scored so far.
        interval: ``[0.29, 0.33]``, which holds at every look at once, so that watching it shrink misleads nobody;
            empty where the overall score is no mean, or too little is known.
        n: examples that were scored.
    """

    score: str
    value: str
    interval: str = ""
    n: int = 0


def main_of(experiment: Experiment) -> Main | None:
    """Return the main score of an experiment and the metric that reports it; None where it has none."""
    found: dict[str, Main] = {}
    for spec in experiment.metrics:
        with suppress(LumigatorError):  # of a package that is not installed here
            found |= {info.name: (spec, info) for info in metrics.create(spec).infos}
    name = main_score([info for _, info in found.values()])
    return None if name is None else found[name]


def standing(ws: Workspace, workflow: Workflow, main: Main) -> Standing | None:
    """Return how a model stands, from the scores that the store has by now; None where it has none.

    Raises:
        StoreUnavailableError: the store does not answer.
    """
    spec, info = main
    frame = ws.workflows.scores(workflow, [spec])
    if info.name not in frame or info.aggregate is not mean:
        return None
    values = frame[info.name].dropna().to_numpy(dtype=float)
    if not len(values):
        return None
    show = Figures(info, [float(values.mean())])
    low, high = _bounds(values, info)
    known = math.isfinite(low) and math.isfinite(high)
    return Standing(info.name, show.number(values.mean()), show.interval(low, high) if known else "", len(values))


def recorded(scores: dict[str, float], main: Main | None) -> Standing | None:
    """Return the overall score that a job left, without an interval; None where it left none."""
    if main is None or main[1].name not in scores:
        return None
    value = scores[main[1].name]
    return Standing(main[1].name, Figures(main[1], [value]).number(value))


def _bounds(values: np.ndarray, info: ScoreInfo) -> tuple[float, float]:
    low, high = info.range
    if math.isfinite(low) and math.isfinite(high):
        return statistics.betting_bounds(np.clip(values, low, high), low, high, confidence=CONFIDENCE)
    lows, highs = statistics.normal_sequence(values, confidence=CONFIDENCE)
    return float(lows[-1]), float(highs[-1])
