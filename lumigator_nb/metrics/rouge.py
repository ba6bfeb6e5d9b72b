"""ROUGE (Lin 2004, https://aclanthology.org/W04-1013), by Google's rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from lumigator_nb.metrics.base import FloatArray, Metric, ScoreInfo, choice, metric_class


def _f_measure(name: str, overlap: str) -> ScoreInfo:
    return ScoreInfo(name, f"F-measure of the {overlap} that prediction and ground truth share", True, (0.0, 1.0))


@metric_class
class Rouge(Metric):
    """ROUGE-1, -2, -L and -Lsum, as F-measures in [0, 1]; the overall value is the mean over the examples.

    Args:
        stemmer: compare words by their Porter stem (English).
    """

    name = "rouge"
    infos = (
        _f_measure("rouge1", "words"),
        _f_measure("rouge2", "pairs of words"),
        _f_measure("rougeL", "longest common subsequence of words"),
        _f_measure("rougeLsum", "longest common subsequences, line by line,"),
    )

    def __init__(self, *, stemmer: bool = False) -> None:
        choice(self.name, "stemmer", stemmer, (True, False))
        self.stemmer = stemmer

    @property
    def signature(self) -> str:
        """As of :class:`Metric`; Lsum takes each line for a sentence, as the reference implementation does."""
        stemmer = "porter" if self.stemmer else "no"
        return f"rouge|impl:rouge-score|version:{version('rouge-score')}|stemmer:{stemmer}|Lsum:lines|f-measure"

    def _score(
        self, predictions: Sequence[str], ground_truth: Sequence[str], examples: Sequence[str]
    ) -> list[FloatArray]:
        from rouge_score.rouge_scorer import RougeScorer

        names = [info.name for info in self.infos]
        scorer = RougeScorer(names, use_stemmer=self.stemmer)
        pairs = (scorer.score(truth, prediction) for prediction, truth in zip(predictions, ground_truth, strict=True))
        rows = [[scores[name].fmeasure for name in names] for scores in pairs]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
        return [table[:, [column]] for column in range(len(names))]
