"""Labelling plans: the questions for a rater, their order, and the side on which each model appears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.specs import is_ground_truth

Pair = tuple[str, str]


@dataclass(frozen=True)
class Question:
    """A question to a rater: the answers of `models`, in this order, to the example in `row`."""

    row: int
    models: tuple[str, ...]

    @property
    def subject(self) -> tuple[int, frozenset[str]]:
        """What the question is about, whatever the order of the models."""
        return self.row, frozenset(self.models)


@dataclass(frozen=True)
class Texts:
    """The texts that a rater can see.

    Attributes:
        examples: the dataset, one row per example.
        answers: for each model label, one text per row of the dataset; missing if there is no answer.
    """

    examples: pd.DataFrame
    answers: Mapping[str, pd.Series]

    def answered(self) -> list[int]:
        """Return the rows that every model answered."""
        complete = np.logical_and.reduce([texts.notna().to_numpy() for texts in self.answers.values()])
        return [int(row) for row in np.flatnonzero(complete)]

    def alike(self, row: int, pair: Pair) -> bool:
        """Whether the answers of two models are equal."""
        # Raters cannot see white space at the ends.
        first, second = (str(self.answers[label][row]).strip() for label in pair)
        return first == second

    def ground_truth(self, row: int) -> str | None:
        """Return the first ground truth of an example, or None."""
        column = next((name for name in self.examples.columns if is_ground_truth(name)), None)
        value = None if column is None else self.examples[column].iloc[row]
        return None if value is None or pd.isna(value) else str(value)


def pairs_of(models: Sequence[str]) -> list[Pair]:
    """Return all pairs of models, each pair in alphabetical order."""
    return list(combinations(sorted(models), 2))


def chosen_rows(texts: Texts, order: Sequence[int] | None, sample: int | None, seed: int) -> list[int]:
    """Return the rows to label: first those of `order`, then random ones, at most `sample` in all.

    The rows do not depend on the rater, so that raters with the same seed share examples. A larger sample contains a
    smaller one.

    Raises:
        InvalidInputError: no example was answered by all models, or `order`, `sample` or `seed` is out of range.
    """
    answered = texts.answered()
    if not answered:
        raise InvalidInputError("no example was answered by all of these models", "choose fewer models")
    if sample is not None and (isinstance(sample, bool) or sample < 1):
        raise InvalidInputError(f"sample cannot be {sample}", "give the number of examples to label")
    first = list(dict.fromkeys(order)) if order is not None else []
    for row in first:
        if row not in range(len(texts.examples)):
            raise InvalidInputError(f"order names row {row!r}", f"the dataset has rows 0 to {len(texts.examples) - 1}")
    random_order = _generator(seed).permutation(answered).tolist()
    complete, ahead = set(answered), set(first)
    rows = [int(row) for row in first if row in complete] + [row for row in random_order if row not in ahead]
    return rows[:sample]


def pair_questions(
    texts: Texts, rows: Sequence[int], pairs: Sequence[Pair], seed: int, rater: str
) -> tuple[list[Question], dict[Pair, int]]:
    """Return the questions about pairs of models, and the number of equal answers of each pair, which need no question.

    Sides are random but balanced: each model of a pair is A equally often, or once more than the other.
    """
    questions, identical = [], {}
    for pair in pairs:
        different = sorted(row for row in rows if not texts.alike(row, pair))
        identical[pair] = len(rows) - len(different)
        # A generator for each pair: models that join the experiment later do not change the sides of this pair, so that
        # a rater who continues sees the same questions.
        generator = _generator(seed, rater, *pair)
        turned = generator.permutation((np.arange(len(different)) + generator.integers(2)) % 2)
        questions += [Question(row, pair[::-1] if turn else pair) for row, turn in zip(different, turned, strict=True)]
    return questions, identical


def shuffled(questions: Sequence[Question], order: Sequence[int] | None, seed: int, rater: str) -> list[Question]:
    """Return the questions in random order, different for each rater; rows of `order` come first, in that order."""
    random_order = [questions[index] for index in _generator(seed, rater).permutation(len(questions))]
    ranks = {row: rank for rank, row in enumerate(dict.fromkeys(order if order is not None else ()))}
    return sorted(random_order, key=lambda question: ranks.get(question.row, len(ranks)))


def _generator(seed: int, *words: str) -> np.random.Generator:
    if seed < 0:
        raise InvalidInputError(f"seed cannot be {seed}", "give an integer of 0 or more")
    # NUL keeps the words apart, so that ("ab", "c") and ("a", "bc") give different streams.
    return np.random.default_rng([seed, *"\0".join(words).encode()])
