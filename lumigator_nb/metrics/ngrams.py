"""BLEU, chrF and TER with the scores of sacrebleu: its tokenizers, and its formulas over whole columns of texts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import WITHOUT_SPACES, FloatArray, Metric, Rows, ScoreInfo, Scores, choice
from lumigator_nb.metrics.kernels import counting
from lumigator_nb.metrics.registry import metric_class

BLEU_ORDER = 4
CHAR_ORDER, BETA = 6, 2
TOKENIZERS = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")
# sacrebleu's tokenizers for target languages, and the module that each of them needs.
_TOKENIZERS_OF = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
_DICTIONARIES = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}


def bleu(totals: FloatArray, effective_order: bool = False) -> FloatArray:
    """Return (…) BLEU in [0, 100] from sums of statistics, with exponential smoothing of n-gram orders without a match.

    Papineni et al. 2002 (https://aclanthology.org/P02-1040) with smoothing method 3 of Chen and Cherry 2014
    (https://aclanthology.org/W14-3346); equal to ``sacrebleu.BLEU.compute_bleu``.

    Args:
        totals: (…, 10) words of the predictions, words of the ground truth, 4 counts of matching n-grams, 4 of all
            n-grams of the predictions, for n from 1 to 4.
        effective_order: leave out orders for which the prediction is too short; for single sentences.
    """
    length, reference = totals[..., 0], totals[..., 1]
    correct, total = totals[..., 2 : 2 + BLEU_ORDER], totals[..., 2 + BLEU_ORDER :]
    present = total > 0
    # The k-th order without a match counts 1 / 2^k matches.
    halvings = np.cumsum((correct == 0) & present, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(correct > 0, correct, 0.5**halvings) / total
        # Without effective order, sacrebleu takes -9999999999 for the log of an order without n-grams.
        logs = np.where(present, np.log(precision * 100), 0.0 if effective_order else -9999999999.0)
        orders = present.sum(axis=-1) if effective_order else BLEU_ORDER
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
        score = brevity * np.exp(logs.sum(axis=-1) / orders)
    # exp(log(100)) is a little above 100.
    return np.where(correct.any(axis=-1), np.minimum(score, 100.0), 0.0)


def chrf(totals: FloatArray) -> FloatArray:
    """Return (…) chrF in [0, 100] from sums of statistics: F-beta of mean n-gram precision and recall.

    Popović 2015 (https://aclanthology.org/W15-3049); equal to sacrebleu's without eps smoothing.

    Args:
        totals: (…, 3 × orders) counts for each order: n-grams of the predictions, of the ground truth, and matches.
    """
    counts = totals.reshape(*totals.shape[:-1], totals.shape[-1] // 3, 3)
    predicted, reference, matches = counts[..., 0], counts[..., 1], counts[..., 2]
    present = (predicted > 0) & (reference > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        orders = present.sum(axis=-1)
        precision = np.where(present, matches / predicted, 0.0).sum(axis=-1) / orders
        recall = np.where(present, matches / reference, 0.0).sum(axis=-1) / orders
        score = 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
    return np.where(np.isnan(score), 0.0, np.minimum(score, 100.0))


@metric_class
class Bleu(Metric):
    """Corpus BLEU in [0, 100]; the score of one example is its sentence BLEU, whose mean is *not* the corpus BLEU.

    Args:
        tokenize: sacrebleu's tokenizer: "13a" (default), "intl", "char", "zh", "ja-mecab", "ko-mecab", "none".
        lowercase: ignore case.
    """

    name = "bleu"
    display_name = "BLEU"
    default_for = frozenset({"summarization", "translation", "text_generation"})
    packages = ("sacrebleu",)
    uses_pandas = False
    infos = (
        ScoreInfo(
            "bleu",
            "precision of word n-grams against the ground truth; overall over the corpus, per example with "
            "effective order",
            True,
            (0.0, 100.0),
            lambda totals, n: bleu(totals),
            headline=2,
        ),
    )

    def __init__(self, *, tokenize: str = "13a", lowercase: bool = False) -> None:
        choice(self.name, "tokenize", tokenize, TOKENIZERS)
        choice(self.name, "lowercase", lowercase, (True, False))
        self.tokenize, self.lowercase = tokenize, lowercase
        if not tokenize.endswith("-mecab"):
            return
        # sacrebleu would report a missing dictionary only when scoring, after all predictions have been made.
        try:
            self._reference()
        except (ImportError, RuntimeError) as error:
            extra = f"sacrebleu[{tokenize.removesuffix('-mecab')}]"
            raise InvalidInputError(
                f"the tokenizer {tokenize!r} of metric {self.name!r} is not installed",
                f"install it with: pip install '{extra}', or use tokenize='char'",
            ) from error

    @classmethod
    def options_for(cls, language: str) -> Mapping[str, Any]:
        """As in :class:`Metric`: sacrebleu's tokenizer for the language, or characters if its dictionary is missing."""
        chosen = _TOKENIZERS_OF.get(language, "char" if language in WITHOUT_SPACES else None)
        dictionary = _DICTIONARIES.get(chosen or "")
        if dictionary and importlib.util.find_spec(dictionary) is None:
            chosen = "char"
        return {"tokenize": chosen} if chosen else {}

    @property
    def signature(self) -> str:
        """Sacrebleu's signature, and the settings of the sentence scores."""
        return f"bleu|{_signature(self._reference())}|sentence:exp,effective-order"

    def _reference(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)

    def _score(self, rows: Rows) -> list[Scores]:
        reference = self._reference()
        statistics = _with_several(reference, rows, 2 + 2 * BLEU_ORDER, lambda *pairs: _bleu_counts(reference, *pairs))
        return [Scores(self.infos[0], bleu(statistics, effective_order=True), statistics)]


@metric_class
class Chrf(Metric):
    """Corpus chrF in [0, 100]; the score of one example is its sentence chrF.

    Args:
        word_order: 0 for chrF, 2 for chrF++.
        lowercase: ignore case.
    """

    name = "chrf"
    display_name = "chrF"
    default_for = frozenset({"summarization", "translation", "text_generation"})
    packages = ("sacrebleu",)
    uses_pandas = False
    infos = (
        ScoreInfo(
            "chrf",
            "F-measure of character n-grams shared with the ground truth; overall over the corpus",
            True,
            (0.0, 100.0),
            lambda totals, n: chrf(totals),
            headline=1,
        ),
    )

    def __init__(self, *, word_order: int = 0, lowercase: bool = False) -> None:
        choice(self.name, "word_order", word_order, (0, 1, 2))
        choice(self.name, "lowercase", lowercase, (True, False))
        self.word_order, self.lowercase = word_order, lowercase

    @property
    def signature(self) -> str:
        """Sacrebleu's signature."""
        return f"chrf|{_signature(self._reference())}"

    def _reference(self) -> Any:
        from sacrebleu.metrics import CHRF

        return CHRF(char_order=CHAR_ORDER, beta=BETA, word_order=self.word_order, lowercase=self.lowercase)

    def _score(self, rows: Rows) -> list[Scores]:
        reference = self._reference()
        width = 3 * (CHAR_ORDER + self.word_order)
        statistics = _with_several(reference, rows, width, lambda *pairs: _chrf_counts(reference, *pairs))
        return [Scores.of(self.infos[0], statistics)]


def ter(totals: FloatArray) -> FloatArray:
    """Return (…) TER in [0, ∞) from sums of statistics; equal to sacrebleu's.

    Snover et al. 2006 (https://aclanthology.org/2006.amta-papers.25).

    Args:
        totals: (…, 2) edits, and words of the ground truth (their mean over several references).
    """
    edits, length = totals[..., 0], totals[..., 1]
    empty = np.where(edits > 0, 100.0, 0.0)
    return np.where(length > 0, 100.0 * edits / np.where(length > 0, length, 1.0), empty)


@metric_class
class Ter(Metric):
    """Translation edit rate in percent, by sacrebleu: edits, shifts included, per word of the ground truth.

    Args:
        normalized: separate punctuation, as Tercom's normalization does.
        no_punct: leave punctuation out.
        asian_support: with one of the above, treat Chinese and Japanese characters as words.
        case_sensitive: tell upper from lower case.
    """

    name = "ter"
    display_name = "TER"
    default_for = frozenset({"translation"})
    packages = ("sacrebleu",)
    slow = True
    infos = (
        ScoreInfo(
            "ter",
            "words to insert, delete, replace or shift per 100 words of the ground truth; overall over the corpus",
            False,
            (0.0, np.inf),
            lambda totals, n: ter(totals),
        ),
    )

    def __init__(
        self,
        *,
        normalized: bool = False,
        no_punct: bool = False,
        asian_support: bool = False,
        case_sensitive: bool = False,
    ) -> None:
        self._options = {
            "normalized": normalized,
            "no_punct": no_punct,
            "asian_support": asian_support,
            "case_sensitive": case_sensitive,
        }
        for option, value in self._options.items():
            choice(self.name, option, value, (True, False))

    @property
    def signature(self) -> str:
        """Sacrebleu's signature."""
        return f"ter|{_signature(self._reference())}"

    def _reference(self) -> Any:
        from sacrebleu.metrics import TER

        return TER(**self._options)

    def _score(self, rows: Rows) -> list[Scores]:
        reference = self._reference()
        table = [_by_sacrebleu(reference, *pair) for pair in zip(rows.predictions, rows.ground_truth, strict=True)]
        return [Scores.of(self.infos[0], np.array(table, dtype=np.float64).reshape(len(rows), 2))]


def _signature(reference: Any) -> str:
    # The number of references belongs to the data, not to the metric, so it is left out.
    reference.num_refs = 1
    return str(reference.get_signature()).removeprefix("nrefs:1|")


def _by_sacrebleu(reference: Any, prediction: str, references: Sequence[str]) -> list[float]:
    # The public corpus_score() gives the score only, without the statistics that resampling needs.
    return list(reference._extract_corpus_statistics([prediction], [[text] for text in references])[0])


def _with_several(
    reference: Any, rows: Rows, width: int, count: Callable[[list[str], list[str]], FloatArray]
) -> FloatArray:
    """Return (n, width) statistics: from `count` for examples with one reference, from sacrebleu for the others."""
    several = np.array([len(references) > 1 for references in rows.ground_truth], dtype=bool)
    pairs = [
        (prediction, references[0])
        for prediction, references in zip(rows.predictions, rows.ground_truth, strict=True)
        if len(references) == 1
    ]
    table = np.empty((len(rows), width))
    table[~several] = count([prediction for prediction, _ in pairs], [truth for _, truth in pairs])
    for row in np.flatnonzero(several).tolist():
        table[row] = _by_sacrebleu(reference, rows.predictions[row], rows.ground_truth[row])
    return table


def _bleu_counts(reference: Any, predictions: list[str], truths: list[str]) -> FloatArray:
    """Return (n, 10) statistics; see :func:`bleu`."""
    words = _tokenizer(reference)
    left, right = counting.number(map(words, predictions), map(words, truths))
    lengths = [left.lengths[:, None], right.lengths[:, None]]
    return np.hstack([*lengths, counting.shared(left, right, BLEU_ORDER), counting.totals(left, BLEU_ORDER)])


def _tokenizer(reference: Any) -> Callable[[str], list[str]]:
    """Return a function that tokenizes a text as sacrebleu does, with a cache of words for the tokenizer 13a.

    The rules of 13a look at single characters and their neighbours, for which the end of a word is like a space. Words
    between spaces can therefore be tokenized separately. Only the replacements made before go beyond words: texts in
    which they apply are tokenized as a whole.
    """
    tokenizer = reference.tokenizer
    if tokenizer.signature() != "13a":
        return lambda text: list(reference._preprocess_segment(text).split())
    lowercase = reference.lowercase

    def split(text: str) -> list[str]:
        if "&" in text or "<skipped>" in text or "-\n" in text:
            return list(reference._preprocess_segment(text).split())
        words = (text.lower() if lowercase else text).split()
        return [token for word in words for token in _split_by_13a(word)]

    return split


@lru_cache(maxsize=65_536)
def _split_by_13a(word: str) -> tuple[str, ...]:
    if word.isascii() and word.isalnum():
        return (word,)
    return tuple(_tokenizer_13a()(word).split())


@lru_cache(maxsize=1)
def _tokenizer_13a() -> Any:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


def _chrf_counts(reference: Any, predictions: list[str], truths: list[str]) -> FloatArray:
    """Return (n, 3 × orders) statistics; see :func:`chrf`."""
    sides = [[reference._preprocess_segment(text) for text in texts] for texts in (predictions, truths)]
    bare = [["".join(text.split()) for text in texts] for texts in sides]
    counts = [_triples(*counting.characters(*bare), CHAR_ORDER)]
    if reference.word_order:
        words = [map(reference._remove_punctuation, texts) for texts in sides]
        counts.append(_triples(*counting.number(*words), reference.word_order))
    return np.hstack(counts)


def _triples(left: counting.Sequences, right: counting.Sequences, orders: int) -> FloatArray:
    """Return (n, 3 × orders) n-grams of predictions, of ground truth, and shared; see :func:`chrf`."""
    expected = counting.totals(right, orders)
    # As in sacrebleu, n-grams of the prediction do not count where the ground truth is too short to have any.
    predicted = np.where(expected > 0, counting.totals(left, orders), 0.0)
    return np.stack([predicted, expected, counting.shared(left, right, orders)], axis=-1).reshape(len(left), 3 * orders)
