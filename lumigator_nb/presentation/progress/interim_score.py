"""The main score of a model while its answers are scored, and after that."""

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
class InterimScore:
    """The main score of a model so far.

    Attributes:
        score: name of the score.
        value: mean of the examples scored so far, formatted.
        interval: such as ``[0.29, 0.33]``. It holds at all times at once, so that a reader who watches it shrink may
            stop at any time; empty if the overall score is not a mean, or if there are too few examples.
        n: number of scored examples; 0 for an overall score that a finished step has left.
    """

    score: str
    value: str
    interval: str = ""
    n: int = 0


def main_of(experiment: Experiment) -> Main | None:
    """Return the main score of an experiment and the metric that reports it; None if it has no score."""
    scores: dict[str, Main] = {}
    for spec in experiment.metrics:
        with suppress(LumigatorError):  # the metric's package is not installed here
            scores |= {info.name: (spec, info) for info in metrics.create(spec).infos}
    name = main_score([info for _, info in scores.values()])
    return None if name is None else scores[name]


def interim_score(ws: Workspace, workflow: Workflow, main: Main) -> InterimScore | None:
    """Return a model's main score from the scores in the store; None if there are none yet.

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
    # An ordinary interval is valid for one look only. The bounds for scores without a known range are asymptotic.
    low, high = info.range
    if math.isfinite(low) and math.isfinite(high):
        bounds = statistics.betting_bounds(np.clip(values, low, high), low, high, confidence=CONFIDENCE)
    else:
        lows, highs = statistics.normal_sequence(values, confidence=CONFIDENCE)
        bounds = float(lows[-1]), float(highs[-1])
    figures = Figures(info, [float(values.mean())])
    interval = figures.interval(*bounds) if all(map(math.isfinite, bounds)) else ""
    return InterimScore(info.name, figures.number(values.mean()), interval, len(values))


def recorded(scores: dict[str, float], main: Main | None) -> InterimScore | None:
    """Return the overall main score of a finished step, without an interval; None if the step has none."""
    if main is None or main[1].name not in scores:
        return None
    value = scores[main[1].name]
    return InterimScore(main[1].name, Figures(main[1], [value]).number(value))
