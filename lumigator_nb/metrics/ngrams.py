"""BLEU and chrF, by sacrebleu: its n-gram counts per example, and its formulas over whole arrays of sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import FloatArray, Metric, ScoreInfo, choice, metric_class

BLEU_ORDER = 4
CHAR_ORDER, BETA = 6, 2
TOKENIZERS = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")


def bleu(totals: FloatArray, effective_order: bool = False) -> FloatArray:
    """BLEU in [0, 100] from sums of statistics, with exponential smoothing of n-gram orders without a match.

    Papineni et al. 2002 (https://aclanthology.org/P02-1040) with smoothing method 3 of Chen and Cherry 2014
    (https://aclanthology.org/W14-3346); equal to ``sacrebleu.BLEU.compute_bleu``.

    Args:
        totals: (…, 10) length of predictions, length of ground truth, 4 counts of matching n-grams, 4 of all.
        effective_order: leave out the orders for which a prediction is too short, as for single sentences.
    """
    length, reference = totals[..., 0], totals[..., 1]
    correct, total = totals[..., 2 : 2 + BLEU_ORDER], totals[..., 2 + BLEU_ORDER :]
    present = total > 0
    halvings = np.cumsum((correct == 0) & present, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(correct > 0, correct, 0.5**halvings) / total
        # An order that is not there ends the product in sacrebleu: its factor is what log(0) stands for.
        logs = np.where(present, np.log(precision * 100), 0.0 if effective_order else -9999999999.0)
        orders = present.sum(axis=-1) if effective_order else BLEU_ORDER
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
        score = brevity * np.exp(logs.sum(axis=-1) / orders)
    return np.where(correct.any(axis=-1), score, 0.0)


def chrf(totals: FloatArray) -> FloatArray:
    """ChrF in [0, 100] from sums of statistics: F-beta of mean n-gram precision and recall.

    Popović 2015 (https://aclanthology.org/W15-3049); equal to sacrebleu's without eps smoothing.

    Args:
        totals: (…, 3 × orders) for each order the n-grams of the predictions, of the ground truth, and the matches.
    """
    counts = totals.reshape(*totals.shape[:-1], totals.shape[-1] // 3, 3)
    predicted, reference, matches = counts[..., 0], counts[..., 1], counts[..., 2]
    present = (predicted > 0) & (reference > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        orders = present.sum(axis=-1)
        precision = np.where(present, matches / predicted, 0.0).sum(axis=-1) / orders
        recall = np.where(present, matches / reference, 0.0).sum(axis=-1) / orders
        score = 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
    return np.where(np.isnan(score), 0.0, score)


@metric_class
class Bleu(Metric):
    """Corpus BLEU in [0, 100]; the score of one example is its sentence BLEU, whose mean is *not* the corpus BLEU.

    Args:
        tokenize: how sacrebleu splits words: "13a" (default), "intl", "char", "zh", "ja-mecab", "ko-mecab", "none".
        lowercase: ignore case.
    """

    name = "bleu"
    infos = (
        ScoreInfo(
            "bleu",
            "precision of word n-grams against the ground truth; overall over the corpus, per example with "
            "effective order",
            True,
            (0.0, 100.0),
            lambda totals, n: bleu(totals),
        ),
    )

    def __init__(self, *, tokenize: str = "13a", lowercase: bool = False) -> None:
        choice(self.name, "tokenize", tokenize, TOKENIZERS)
        choice(self.name, "lowercase", lowercase, (True, False))
        self.tokenize, self.lowercase = tokenize, lowercase
        if tokenize.endswith("-mecab"):
            self._check_dictionary()

    def _check_dictionary(self) -> None:
        # sacrebleu would notice it only when scoring, after all predictions have been made.
        try:
            self._reference()
        except (ImportError, RuntimeError) as error:
            extra = f"sacrebleu[{self.tokenize.removesuffix('-mecab')}]"
            raise InvalidInputError(
                f"the tokenizer {self.tokenize!r} of metric {self.name!r} is not installed",
                f"install it with: pip install '{extra}', or take tokenize='char'",
            ) from error

    @property
    def signature(self) -> str:
        """Sacrebleu's own, and how the sentence scores are made."""
        return f"bleu|{_signature(self._reference())}|sentence:exp,effective-order"

    def _reference(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)

    def _score(
        self, predictions: Sequence[str], ground_truth: Sequence[str], examples: Sequence[str]
    ) -> list[FloatArray]:
        return [_statistics(self._reference(), predictions, ground_truth, 2 + 2 * BLEU_ORDER)]

    def _values(self, info: ScoreInfo, statistics: FloatArray) -> FloatArray:
        return bleu(statistics, effective_order=True)


@metric_class
class Chrf(Metric):
    """Corpus chrF in [0, 100]; the score of one example is its sentence chrF.

    Args:
        word_order: 0 for chrF, 2 for chrF++.
        lowercase: ignore case.
    """

    name = "chrf"
    infos = (
        ScoreInfo(
            "chrf",
            "F-measure of character n-grams shared with the ground truth; overall over the corpus",
            True,
            (0.0, 100.0),
            lambda totals, n: chrf(totals),
        ),
    )

    def __init__(self, *, word_order: int = 0, lowercase: bool = False) -> None:
        choice(self.name, "word_order", word_order, (0, 1, 2))
        choice(self.name, "lowercase", lowercase, (True, False))
        self.word_order, self.lowercase = word_order, lowercase

    @property
    def signature(self) -> str:
        """Sacrebleu's own."""
        return f"chrf|{_signature(self._reference())}"

    def _reference(self) -> Any:
        from sacrebleu.metrics import CHRF

        return CHRF(char_order=CHAR_ORDER, beta=BETA, word_order=self.word_order, lowercase=self.lowercase)

    def _score(
        self, predictions: Sequence[str], ground_truth: Sequence[str], examples: Sequence[str]
    ) -> list[FloatArray]:
        width = 3 * (CHAR_ORDER + self.word_order)
        return [_statistics(self._reference(), predictions, ground_truth, width)]


def _signature(reference: Any) -> str:
    reference.num_refs = 1
    return str(reference.get_signature())


def _statistics(reference: Any, predictions: Sequence[str], ground_truth: Sequence[str], width: int) -> FloatArray:
    if not predictions:
        return np.empty((0, width))
    rows = reference._extract_corpus_statistics(predictions, [list(ground_truth)])
    return np.array(rows, dtype=np.float64)
