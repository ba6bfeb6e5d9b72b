"""ROUGE (Lin 2004, https://aclanthology.org/W04-1013) with the scores of Google's rouge-score.

rouge-score fills tables of longest common subsequences in Python, text by text. Here whole columns of texts are scored
at once; benchmarks/scoring.py compares the speed, tests/unit/test_scoring.py the scores.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np

from lumigator_nb.metrics.base import WITHOUT_SPACES, FloatArray, Metric, Rows, ScoreInfo, Scores, best, choice
from lumigator_nb.metrics.kernels import counting
from lumigator_nb.metrics.registry import metric_class

NO_WORDS = "the ground truth has no word of the letters a to z: use tokenize='words' or 'characters'"

Tokenizer = Callable[[str], list[str]]

_ENGLISH = re.compile("[a-z0-9]+")
_WORD = re.compile(r"\w+")
_CHARACTER = re.compile(r"\w")
_PATTERNS = {"rouge-score": _ENGLISH, "words": _WORD, "characters": _CHARACTER}
# rouge-score stems only words of more than three letters.
_STEMMED_FROM = 4
# Symbols are written as the code points of their numbers. From the first surrogate on, numbers skip the surrogates,
# which cannot be decoded.
_PLAIN_POINTS, _SURROGATES = 0xD800, 0x800


def _f_measure(name: str, overlap: str, headline: int = 0) -> ScoreInfo:
    description = f"F-measure of the {overlap} that prediction and ground truth share"
    return ScoreInfo(name, description, True, (0.0, 1.0), headline=headline)


@metric_class
class Rouge(Metric):
    """ROUGE-1, -2, -L and -Lsum, as F-measures in [0, 1]; the overall value is the mean over the examples.

    Of several references the best counts, separately for each score.

    Args:
        stemmer: compare words by their Porter stem (English).
        tokenize: the definition of a word. "rouge-score": runs of a-z and 0-9, as in the reference implementation,
            which is made for English; "words": runs of letters and digits of any script; "characters": each of these
            as a word, for scripts that do not separate words, such as Chinese and Japanese.
    """

    name = "rouge"
    display_name = "ROUGE"
    default_for = frozenset({"summarization", "text_generation"})
    packages = ("rapidfuzz",)
    uses_pandas = False
    infos = (
        _f_measure("rouge1", "words"),
        _f_measure("rouge2", "pairs of words"),
        _f_measure("rougeL", "longest common subsequence of words", headline=3),
        _f_measure("rougeLsum", "longest common subsequences, line by line,"),
    )

    def __init__(self, *, stemmer: bool = False, tokenize: str = "rouge-score") -> None:
        choice(self.name, "stemmer", stemmer, (True, False))
        choice(self.name, "tokenize", tokenize, tuple(_PATTERNS))
        self.stemmer, self.tokenize = stemmer, tokenize

    @classmethod
    def options_for(cls, language: str) -> Mapping[str, Any]:
        """As in :class:`Metric`."""
        return {"tokenize": "characters"} if language in WITHOUT_SPACES else {}

    @property
    def signature(self) -> str:
        """As in :class:`Metric`. Lsum takes each line for a sentence, like the reference implementation."""
        stemmer = "porter" if self.stemmer else "no"
        return (
            f"rouge|impl:lumigator_nb,equal-to:rouge-score-0.1.2|rapidfuzz:{version('rapidfuzz')}"
            f"|tok:{self.tokenize}|stemmer:{stemmer}|Lsum:lines|f-measure|references:best"
        )

    def _score(self, rows: Rows) -> list[Scores]:
        predictions, references, starts = rows.pairs()
        find = _PATTERNS[self.tokenize].findall

        def tokenize(text: str) -> list[str]:
            words = find(text.lower())
            return [stem for stem in map(_stem, words) if stem] if self.stemmer else words

        measures = _f_measures(predictions, references, tokenize)
        # A score of 0 would be wrong where the tokenizer does not know the letters of the ground truth.
        reasons: list[str | None] = [None] * len(rows)
        if self.tokenize == "rouge-score":
            for row, texts in enumerate(rows.ground_truth):
                if all(not text.isascii() and _has_no_known_word(text) for text in texts):
                    reasons[row] = NO_WORDS
        unknown = np.array([reason is not None for reason in reasons], dtype=bool)
        scores = []
        for info, values in zip(self.infos, measures, strict=True):
            statistics = best(values, starts)
            statistics[unknown] = np.nan
            scores.append(Scores.of(info, statistics, reasons))
        return scores


def _has_no_known_word(text: str) -> bool:
    return not _ENGLISH.search(text.lower()) and any(map(str.isalpha, text))


def _f_measures(predictions: Sequence[str], references: Sequence[str], tokenizer: Tokenizer) -> list[FloatArray]:
    """Return four arrays of (pairs,): ROUGE-1, -2, -L and -Lsum."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cpdist

    if not predictions:  # cpdist() refuses empty lists
        return [np.empty(0)] * 4
    left, right = counting.number(map(tokenizer, predictions), map(tokenizer, references))
    shared, of_left, of_right = counting.shared(left, right, 2), counting.totals(left, 2), counting.totals(right, 2)
    texts, others = _as_texts(left), _as_texts(right)
    # The lengths of the longest common subsequences, by rapidfuzz's bit-parallel algorithm.
    longest = np.asarray(cpdist(texts, others, scorer=LCSseq.similarity, dtype=np.float64, workers=-1))
    by_line = longest.copy()
    for pair, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        # For texts of one line Lsum equals L.
        if "\n" in prediction or "\n" in reference:
            by_line[pair] = _summary_hits(_lines(reference, tokenizer), _lines(prediction, tokenizer))
    return [
        _f(shared[:, 0], of_left[:, 0], of_right[:, 0]),
        _f(shared[:, 1], of_left[:, 1], of_right[:, 1]),
        _f(longest, of_left[:, 0], of_right[:, 0]),
        _f(by_line, of_left[:, 0], of_right[:, 0]),
    ]


def _f(hits: FloatArray, predicted: FloatArray, expected: FloatArray) -> FloatArray:
    """Return (pairs,) F-measures from counts of shared, predicted and reference units; 0 where there are none."""
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(expected, 1)
    both = precision + recall
    return np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), 0.0)


def _as_texts(sequences: counting.Sequences) -> list[str]:
    """Return each sequence as a string with one character per symbol, rapidfuzz's fastest input."""
    points = sequences.symbols + _SURROGATES * (sequences.symbols >= _PLAIN_POINTS)
    joined = points.astype("<u4").tobytes().decode("utf-32-le")
    ends = np.cumsum(sequences.lengths).tolist()
    return [joined[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    return str(_porter().stem(word)) if len(word) >= _STEMMED_FROM else word


@lru_cache(maxsize=1)
def _porter() -> Any:
    from nltk.stem.porter import PorterStemmer  # slow to import, and only needed with stemmer=True

    return PorterStemmer()


def _lines(text: str, tokenizer: Tokenizer) -> list[list[str]]:
    return [tokenizer(line) for line in text.split("\n") if line]


def _summary_hits(reference: list[list[str]], prediction: list[list[str]]) -> int:
    """Return the number of words of the reference in the union LCS with the prediction's lines.

    Lin 2004, section 3.2. A word counts at most as often as it occurs in either text, as in ROUGE 1.5.5.
    """
    left = Counter(word for line in prediction for word in line)
    lines = _Lines(prediction)
    hits = 0
    for line in reference:
        for word in lines.union(line):
            if left[word] > 0:
                hits += 1
                left[word] -= 1
    return hits


class _Lines:
    """The prediction's lines side by side in one bit vector, so that a line is compared with all of them at once.

    Hyyrö 2004, "Bit-parallel LCS-length computation revisited". After each line one bit stays 0, which stops carries of
    the addition from running into the next line.
    """

    def __init__(self, lines: list[list[str]]) -> None:
        self._spans: list[tuple[int, int]] = []
        self._places: dict[str, int] = {}
        at = 0
        for line in lines:
            self._spans.append((at, at + len(line)))
            for word in line:
                self._places[word] = self._places.get(word, 0) | 1 << at
                at += 1
            at += 1
        self._used = sum(((1 << end) - 1) ^ ((1 << begin) - 1) for begin, end in self._spans)

    def union(self, line: list[str]) -> list[str]:
        """Return the words of `line` that are in its LCS with at least one of the lines, in order."""
        # rows[i] has a 0 bit wherever the LCS with the first i words grows.
        places = [self._places.get(word, 0) for word in line]
        rows = [self._used]
        for place in places:
            row = rows[-1]
            both = row & place
            rows.append(((row + both) | (row - both)) & self._used if both else row)
        taken: set[int] = set()
        steps = self._used & ~rows[-1]
        for begin, end in self._spans:
            length = ((steps >> begin) & ((1 << (end - begin)) - 1)).bit_count()
            if length:
                _backtrack(rows, places, begin, end, length, taken)
        return [line[index] for index in sorted(taken)]


def _backtrack(rows: list[int], places: list[int], begin: int, end: int, length: int, taken: set[int]) -> None:
    """Add the positions of one LCS to `taken`. Of several longest ones, it is the one that rouge-score finds."""
    i, j = len(places), end
    while length:
        if places[i - 1] >> (j - 1) & 1:
            taken.add(i - 1)
            length -= 1
            i, j = i - 1, j - 1
        # The LCS lengths of rows i and i - 1 up to column j differ by 0 or 1: the parity of their differing bits.
        elif (((rows[i] ^ rows[i - 1]) >> begin) & ((1 << (j - begin)) - 1)).bit_count() & 1:
            j -= 1
        else:
            i -= 1
