"""How long predictions are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumigator_nb.metrics.base import FloatArray, Metric, ScoreInfo, metric_class


@metric_class
class Length(Metric):
    """Words of the prediction, and their share of the example's words; both only describe."""

    name = "length"
    needs_ground_truth = False
    infos = (
        ScoreInfo("words", "words of the prediction, split at white space", None, (0.0, np.inf)),
        ScoreInfo(
            "compression",
            "words of the prediction per word of the example; none for an example without words",
            None,
            (0.0, np.inf),
        ),
    )

    @property
    def signature(self) -> str:
        """As of :class:`Metric`."""
        return "length|impl:lumigator_nb|words:white-space"

    def _score(
        self, predictions: Sequence[str], ground_truth: Sequence[str], examples: Sequence[str]
    ) -> list[FloatArray]:
        words, available = _words(predictions), _words(examples)
        return [words, words / np.where(available > 0, available, np.nan)]


def _words(texts: Sequence[str]) -> FloatArray:
    return np.array([len(text.split()) for text in texts], dtype=np.float64).reshape(-1, 1)
