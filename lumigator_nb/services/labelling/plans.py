"""What a person is asked when labelling, in which order, and which model stands on which side."""

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
    """What is asked: the answers of `models`, as they stand, to the example in `row`."""

    row: int
    models: tuple[str, ...]

    @property
    def subject(self) -> tuple[int, frozenset[str]]:
        """The same for either order of the models."""
        return self.row, frozenset(self.models)


@dataclass(frozen=True)
class Texts:
    """What can be shown.

    Attributes:
        examples: the dataset, one row per example.
        answers: by label of the model, one text per row of the dataset; missing where it gave none.
    """

    examples: pd.DataFrame
    answers: Mapping[str, pd.Series]

    def answered(self) -> list[int]:
        """Return the rows that every model answered."""
        known = np.logical_and.reduce([each.notna().to_numpy() for each in self.answers.values()])
        return [int(row) for row in np.flatnonzero(known)]

    def alike(self, row: int, pair: Pair) -> bool:
        """Whether two answers read the same."""
        first, second = (str(self.answers[label][row]).strip() for label in pair)
        return first == second

    def ground_truth(self, row: int) -> str | None:
        """Return the reference, where the example has one."""
        found = next((name for name in self.examples.columns if is_ground_truth(name)), None)
        value = None if found is None else self.examples[found].iloc[row]
        return None if value is None or pd.isna(value) else str(value)


def pairs_of(models: Sequence[str]) -> list[Pair]:
    """Return each model against each other, every pair in alphabetical order."""
    return list(combinations(sorted(models), 2))


def chosen_rows(texts: Texts, order: Sequence[int] | None, sample: int | None, seed: int) -> list[int]:
    """Return the rows to label: those of `order` first, then others by chance, `sample` of them in all.

    They do not hang on the rater, so that raters with the same seed share examples, and a larger sample holds the
    smaller one.

    Raises:
        InvalidInputError: no example was answered by all models, or `order`, `sample` or `seed` is out of range.
    """
    answered = texts.answered()
    if not answered:
        raise InvalidInputError("no example was answered by all of these models", "label fewer models")
    if sample is not None and (isinstance(sample, bool) or sample < 1):
        raise InvalidInputError(f"sample cannot be {sample}", "give the number of examples to label")
    first = list(dict.fromkeys(order)) if order is not None else []
    for row in first:
        if row not in range(len(texts.examples)):
            raise InvalidInputError(f"order names row {row!r}", f"the dataset has rows 0 to {len(texts.examples) - 1}")
    known, ahead = set(answered), set(first)
    drawn = _generator(seed).permutation(answered).tolist()
    rows = [int(row) for row in first if row in known] + [row for row in drawn if row not in ahead]
    return rows[:sample]


def pair_questions(
    texts: Texts, rows: Sequence[int], pairs: Sequence[Pair], seed: int, rater: str
) -> tuple[list[Question], dict[Pair, int]]:
    """Return the questions about pairs, and how many pairs of answers read the same.

    Which model stands as A is drawn so that over a pair's questions each does so equally often, or once more.
    """
    questions, identical = [], {}
    for pair in pairs:
        asked = sorted(row for row in rows if not texts.alike(row, pair))
        identical[pair] = len(rows) - len(asked)
        generator = _generator(seed, rater, *pair)
        turned = generator.permutation((np.arange(len(asked)) + generator.integers(2)) % 2)
        questions += [Question(row, pair[::-1] if turn else pair) for row, turn in zip(asked, turned, strict=True)]
    return questions, identical


def shuffled(questions: Sequence[Question], order: Sequence[int] | None, seed: int, rater: str) -> list[Question]:
    """Return the questions in the order of this rater; those on the rows of `order` come first, as they stand there."""
    mixed = [questions[place] for place in _generator(seed, rater).permutation(len(questions))]
    ranks = {row: rank for rank, row in enumerate(dict.fromkeys(order if order is not None else ()))}
    return sorted(mixed, key=lambda each: ranks.get(each.row, len(ranks)))


def _generator(seed: int, *words: str) -> np.random.Generator:
    if seed < 0:
        raise InvalidInputError(f"seed cannot be {seed}", "give a whole number of 0 or more")
    return np.random.default_rng([seed, *"\0".join(words).encode()])
