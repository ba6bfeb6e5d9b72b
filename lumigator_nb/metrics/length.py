"""The length of predictions: scores that describe, without a better or worse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumigator_nb.metrics.base import FloatArray, Metric, Rows, ScoreInfo, Scores
from lumigator_nb.metrics.registry import metric_class

NO_WORDS = "the example has no words"
# A token is about three quarters of an English word: OpenAI's rule of thumb, which Mozilla's Lumigator uses too. Its
# scores of the same names must come out equal.
WORDS_PER_TOKEN = 0.75


@metric_class
class Length(Metric):
    """Words of the prediction, and their number relative to the example's words."""

    name = "length"
    default_for = frozenset({"summarization", "translation", "text_generation"})
    uses_pandas = False
    needs = frozenset()
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
        """As in :class:`Metric`."""
        return "length|impl:lumigator_nb|words:white-space"

    def _score(self, rows: Rows) -> list[Scores]:
        words, available = _words(rows.predictions), _words(rows.examples)
        share = words / np.where(available > 0, available, np.nan)
        reasons = [None if count else NO_WORDS for count in available]
        return [Scores.of(self.infos[0], words), Scores.of(self.infos[1], share, reasons)]


@metric_class
class TokenLength(Metric):
    """Tokens of prediction and ground truth, estimated from their words as Lumigator does: rough, and for English.

    ``Comparison.costs()`` has the tokens that the model itself counted.
    """

    name = "token_length"
    display_name = "Length in tokens"
    infos = (
        ScoreInfo("pred_token_length", "tokens of the prediction, at 0.75 words a token", None, (0.0, np.inf)),
        ScoreInfo("ref_token_length", "tokens of the ground truth, at 0.75 words a token", None, (0.0, np.inf)),
    )

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return f"token_length|impl:lumigator_nb|words-per-token:{WORDS_PER_TOKEN}|references:first"

    def _score(self, rows: Rows) -> list[Scores]:
        first = [references[0] for references in rows.ground_truth]
        return [
            Scores.of(info, np.floor(_words(texts) / WORDS_PER_TOKEN))
            for info, texts in zip(self.infos, (rows.predictions, first), strict=True)
        ]


def _words(texts: Sequence[str]) -> FloatArray:
    return np.array([len(text.split()) for text in texts], dtype=np.float64)
