"""METEOR (Lavie and Agarwal 2007, https://aclanthology.org/W07-0734) with the scores of NLTK, which `evaluate` uses.

Words of both texts are aligned in three stages: equal words, equal Porter stems, WordNet synonyms. NLTK looks up the
synonyms of stems, not of words ("automobil" has none), and compares them with stems. Its scores are therefore lower
than the paper's, but they are the ones that are reported everywhere.

WordNet's synonyms are English. For another language the third stage is left out: English synonyms of words that only
look English (German "Gift", "Rat") would be wrong.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import Metric, Rows, ScoreInfo, Scores, choice
from lumigator_nb.metrics.kernels import treebank, wordnet
from lumigator_nb.metrics.registry import metric_class
from lumigator_nb.models.loading import module_alone

# Words with their positions in a text, the last first; and the positions of each word, in ascending order.
Words = list[tuple[int, str]]
Places = dict[str, list[int]]


@metric_class
class Meteor(Metric):
    """METEOR in [0, 1]; of several references the best counts, the overall value is the mean.

    It compares words, and cannot score languages written without spaces between them.

    Args:
        synonyms: whether English synonyms count as equal words; False for another language.
        alpha: weight of recall in its harmonic mean with precision, in [0, 1]; 0.9 weighs it nine times as much.
        beta: exponent of the penalty, which grows with the number of chunks of shared words, at least 0.
        gamma: the greatest penalty, in [0, 1].
    """

    name = "meteor"
    display_name = "METEOR"
    default_for = frozenset({"summarization", "translation", "text_generation"})
    extra = "meteor"
    optional_modules = ("punkt",)
    packages = ("nltk",)
    uses_pandas = False
    infos = (
        ScoreInfo(
            "meteor",
            "weighted F-measure of the words shared, also by stem or as synonyms, less a penalty for another order",
            True,
            (0.0, 1.0),
        ),
    )
    needs_spaces = True

    def __init__(self, *, synonyms: bool = True, alpha: float = 0.9, beta: float = 3.0, gamma: float = 0.5) -> None:
        choice(self.name, "synonyms", synonyms, (True, False))
        self.synonyms = synonyms
        self.alpha = _number("alpha", alpha, 1.0)
        self.beta = _number("beta", beta, math.inf)
        self.gamma = _number("gamma", gamma, 1.0)

    @classmethod
    def options_for(cls, language: str) -> Mapping[str, Any]:
        """As in :class:`Metric`; synonyms are English."""
        return {} if language == "en" else {"synonyms": False}

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        words, synonyms = (wordnet.VERSION, "of-stems") if self.synonyms else ("none", "none")
        return (
            f"meteor|impl:lumigator_nb,equal-to:nltk-{version('nltk')}|wordnet:{words}"
            f"|tok:word_tokenize,punkt:english|stemmer:porter|synonyms:{synonyms}|alpha:{self.alpha:g}"
            f"|beta:{self.beta:g}|gamma:{self.gamma:g}|references:best"
        )

    @property
    def note(self) -> str | None:
        """As in :class:`Metric`."""
        if self.synonyms:
            return None
        return "METEOR without synonyms (equal words and English stems only): not comparable with METEOR of English"

    def prepare(self) -> None:
        """As in :class:`Metric`."""
        if self.synonyms:
            wordnet.find()
        treebank.prepare()

    def _score(self, rows: Rows) -> list[Scores]:
        tokens = _tokenizer()
        values = []
        for prediction, references in zip(rows.predictions, rows.ground_truth, strict=True):
            words = tokens(prediction)
            values.append(max(self._score_pair(words, tokens(reference)) for reference in references))
        return [Scores.of(self.infos[0], values)]

    def _score_pair(self, prediction: list[str], reference: list[str]) -> float:
        pairs = _align(prediction, reference, synonyms=self.synonyms)
        if not pairs:
            return 0.0
        precision, recall = len(pairs) / len(prediction), len(pairs) / len(reference)
        f_measure = (precision * recall) / (self.alpha * precision + (1 - self.alpha) * recall)
        # A chunk is a run of words that follow each other in both texts. One begins at every word whose predecessor is
        # not aligned with the predecessor of its partner.
        chunks = sum(1 for place, other in pairs.items() if pairs.get(place - 1) != other - 1)
        penalty = self.gamma * (chunks / len(pairs)) ** self.beta
        return float((1 - penalty) * f_measure)


def _number(option: str, value: Any, greatest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= greatest or value == math.inf:
        rule = f"give a number from 0 to {greatest:g}" if greatest < math.inf else "give a number of at least 0"
        raise InvalidInputError(f"option {option!r} of metric 'meteor' cannot be {value!r}", rule)
    return float(value)


def _align(prediction: list[str], reference: list[str], *, synonyms: bool) -> dict[int, int]:
    """Return the position in the reference for positions of words in the prediction; `synonyms` adds the third stage.

    Each stage sees only the words that the stages before left over. Like NLTK it goes through the prediction from its
    end, and takes the last word of the reference that fits.
    """
    pairs: dict[int, int] = {}
    right = _places(enumerate(reference))
    left = _pair_equal(list(enumerate(prediction))[::-1], right, pairs)
    rest = sorted((place, word) for word, places in right.items() for place in places)
    if left and rest:
        right = _places((place, _stem(word)) for place, word in rest)
        left = _pair_equal([(place, _stem(word)) for place, word in left], right, pairs)
        if synonyms:
            _pair_synonyms(left, right, pairs)
    return pairs


def _places(words: Iterable[tuple[int, str]]) -> Places:
    places: Places = defaultdict(list)
    for place, word in words:
        places[word].append(place)
    return places


def _pair_equal(left: Words, right: Places, pairs: dict[int, int]) -> Words:
    """Add the positions of equal words to `pairs`, remove them from `right`, and return the words left over."""
    rest = []
    for place, word in left:
        places = right.get(word)
        if places:
            pairs[place] = places.pop()
        else:
            rest.append((place, word))
    return rest


def _pair_synonyms(left: Words, right: Places, pairs: dict[int, int]) -> None:
    """Add the positions of synonyms to `pairs`, and remove them from `right`."""
    words = {word for word, places in right.items() if places}
    wordnet_synonyms = _wordnet().synonyms
    for place, word in left:
        synonyms = wordnet_synonyms(word)
        if synonyms.isdisjoint(words):
            continue
        last = max(synonyms & words, key=lambda other: right[other][-1])
        pairs[place] = right[last].pop()
        if not right[last]:
            words.remove(last)


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    return str(_porter().stem(word))


@lru_cache(maxsize=1)
def _porter() -> Any:
    # Alone: importing all of NLTK takes more than a second.
    return module_alone("nltk.stem.porter").PorterStemmer()


@lru_cache(maxsize=1)
def _tokenizer() -> treebank.Tokenizer:
    return treebank.Tokenizer(str.lower)


@lru_cache(maxsize=1)
def _wordnet() -> wordnet.WordNet:
    return wordnet.WordNet(wordnet.find())
