"""Metrics for answers that are right or wrong, or nearly right: short answers, formats, labels."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import Metric, Rows, ScoreInfo, Scores, best, choice
from lumigator_nb.metrics.registry import metric_class

# As in SQuAD's evaluation script, which is for English.
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Return a text in lower case without punctuation, English articles and spare white space.

    As in the evaluation script of SQuAD (Rajpurkar et al. 2016, https://aclanthology.org/D16-1264).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


@metric_class
class ExactMatch(Metric):
    """Whether the prediction equals one of the references: 1 or 0.

    Args:
        normalize: ignore case, punctuation, English articles and spare white space, as SQuAD does. If False, only
            white space around the texts is ignored.
    """

    name = "exact_match"
    uses_pandas = False
    infos = (ScoreInfo("exact_match", "share of predictions that equal the ground truth", True, (0.0, 1.0)),)

    def __init__(self, *, normalize: bool = False) -> None:
        choice(self.name, "normalize", normalize, (True, False))
        self.normalize = normalize

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return f"exact_match|impl:lumigator_nb|normalize:{'squad' if self.normalize else 'strip'}|references:any"

    def _score(self, rows: Rows) -> list[Scores]:
        simplify: Callable[[str], str] = normalized if self.normalize else str.strip
        hits = [
            simplify(prediction) in set(map(simplify, references))
            for prediction, references in zip(rows.predictions, rows.ground_truth, strict=True)
        ]
        return [Scores.of(self.infos[0], hits)]


@metric_class
class TokenF1(Metric):
    """F-measure of the words that prediction and ground truth share, in any order, normalized as SQuAD does."""

    name = "token_f1"
    display_name = "Token F1"
    uses_pandas = False
    infos = (ScoreInfo("token_f1", "F-measure of shared words, regardless of order", True, (0.0, 1.0)),)

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return "token_f1|impl:lumigator_nb|normalize:squad|references:best"

    def _score(self, rows: Rows) -> list[Scores]:
        predictions, references, starts = rows.pairs()
        values = np.empty(len(predictions))
        for pair, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            words, expected = normalized(prediction).split(), normalized(reference).split()
            if not words or not expected:
                values[pair] = words == expected  # as SQuAD: two texts without words agree
            else:
                common = (Counter(words) & Counter(expected)).total()
                values[pair] = 2 * common / (len(words) + len(expected))
        return [Scores.of(self.infos[0], best(values, starts))]


@metric_class
class EditSimilarity(Metric):
    """Levenshtein distance in characters, and similarity: 1 − distance / length of the longer text.

    Levenshtein 1966, "Binary codes capable of correcting deletions, insertions, and reversals"; computed by rapidfuzz.
    Of several references the nearest counts.
    """

    name = "edit_distance"
    packages = ("rapidfuzz",)
    uses_pandas = False
    infos = (
        ScoreInfo("edit_distance", "characters to insert, delete or replace", False, (0.0, np.inf)),
        ScoreInfo("edit_similarity", "share of the longer text that need not be edited", True, (0.0, 1.0)),
    )

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return f"edit_distance|impl:rapidfuzz|version:{version('rapidfuzz')}|unit:character|references:nearest"

    def _score(self, rows: Rows) -> list[Scores]:
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cpdist

        predictions, references, starts = rows.pairs()
        scores = []
        scorers: tuple[Any, Any] = (Levenshtein.distance, Levenshtein.normalized_similarity)
        for info, scorer, sign in zip(self.infos, scorers, (-1, 1), strict=True):
            values: Any = np.empty(0)
            if predictions:  # cpdist() refuses empty lists
                values = cpdist(predictions, references, scorer=scorer, dtype=np.float64, workers=-1)
            # The best is the greatest similarity and the smallest distance.
            scores.append(Scores.of(info, sign * best(sign * np.asarray(values), starts)))
        return scores


@metric_class
class ValidJson(Metric):
    """Whether the prediction is JSON, and nothing else: 1 or 0.

    Args:
        required: keys that the object must have.
    """

    name = "json"
    display_name = "Valid JSON"
    needs = frozenset()
    infos = (ScoreInfo("valid_json", "share of predictions that are JSON with the required keys", True, (0.0, 1.0)),)

    def __init__(self, *, required: Sequence[str] = ()) -> None:
        if isinstance(required, str) or not all(isinstance(key, str) for key in required):
            raise InvalidInputError(f"option 'required' of metric 'json' cannot be {required!r}", "give a list of keys")
        self.required = list(required)

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return f"json|impl:python-json|required:{','.join(self.required) or 'none'}"

    def _score(self, rows: Rows) -> list[Scores]:
        faults: list[str | None] = []
        for text in rows.predictions:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:  # the latter from thousands of opening brackets
                faults.append(f"not JSON: {error}")
                continue
            missing = [key for key in self.required if not isinstance(value, dict) or key not in value]
            faults.append(f"no key {missing[0]!r}" if missing else None)
        return [Scores.of(self.infos[0], [fault is None for fault in faults], faults)]


@metric_class
class RegexMatch(Metric):
    """Whether a regular expression matches the prediction: 1 or 0.

    Args:
        pattern: a regular expression of Python's `re`.
        whole: it must match the whole prediction, except white space around it; if False, any part.
    """

    name = "regex"
    needs = frozenset()
    infos = (ScoreInfo("regex_match", "share of predictions that the pattern matches", True, (0.0, 1.0)),)

    def __init__(self, *, pattern: str, whole: bool = False) -> None:
        choice(self.name, "whole", whole, (True, False))
        try:
            self._find = re.compile(pattern)
        except (re.error, TypeError) as error:
            raise InvalidInputError(f"option 'pattern' of metric 'regex' is malformed: {error}") from None
        self.pattern, self.whole = pattern, whole

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        return f"regex|impl:python-re|pattern:{self.pattern}|whole:{'yes' if self.whole else 'no'}"

    def _score(self, rows: Rows) -> list[Scores]:
        match = self._find.fullmatch if self.whole else self._find.search
        return [Scores.of(self.infos[0], [match(text.strip()) is not None for text in rows.predictions])]
