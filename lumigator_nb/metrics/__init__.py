"""The metrics: ``metrics.create(MetricSpec(name="rouge"))`` and the plain function :func:`score`."""

from __future__ import annotations

from lumigator_nb.metrics import (
    bertscore,
    checks,
    classification,
    comet,
    functions,
    length,
    matching,
    meteor,
    ngrams,
    recorded,
    registry,
    rouge,
)
from lumigator_nb.metrics.base import Aggregate, FloatArray, Metric, References, Rows, Score, ScoreInfo, Scores
from lumigator_nb.metrics.checks import Check, check_of
from lumigator_nb.metrics.functions import metric, pickled_by, replaces
from lumigator_nb.metrics.judges import judge, jury
from lumigator_nb.metrics.judges.judge import Judge, Judging
from lumigator_nb.metrics.judges.jury import Jury, JuryMetric
from lumigator_nb.metrics.registry import (
    catalogue,
    check,
    check_distinct,
    class_of,
    create,
    defaults,
    extra_of,
    headline,
    info,
    known,
    localized,
    metric_class,
    models_of,
    parse,
    reporting,
    shown,
    texts_of,
)
from lumigator_nb.metrics.scoring import score

__all__ = [
    "Aggregate",
    "Check",
    "FloatArray",
    "Judge",
    "Judging",
    "Jury",
    "JuryMetric",
    "Metric",
    "References",
    "Rows",
    "Score",
    "ScoreInfo",
    "Scores",
    "catalogue",
    "check",
    "check_distinct",
    "check_of",
    "class_of",
    "create",
    "defaults",
    "extra_of",
    "headline",
    "info",
    "known",
    "localized",
    "metric",
    "metric_class",
    "models_of",
    "parse",
    "pickled_by",
    "replaces",
    "reporting",
    "score",
    "shown",
    "texts_of",
]

# Importing the modules registers their metrics; none loads a heavy library. Lists show them in this order: the most
# common first.
registry.arrange(
    (
        rouge,
        bertscore,
        meteor,
        ngrams,
        comet,
        classification,
        matching,
        checks,
        length,
        functions,
        judge,
        jury,
        recorded,
    )
)
