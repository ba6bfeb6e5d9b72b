"""Sessions of blind labelling: a person compares two answers, or rates one, without seeing the models' names.

A session draws nothing: a widget, a terminal or a test displays `current` and passes on the person's answer.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.services.labelling.plans import Pair, Question, Texts
from lumigator_nb.services.labelling.rows import number_of

Given = str | float
_PREFERENCE = {"a": 1.0, "b": -1.0, "tie": 0.0}


@dataclass(frozen=True)
class Item:
    """What a person sees. It does not contain the names of the models.

    Attributes:
        number, total: position among all items, from 1, and their number; earlier sessions count.
        row: row of the dataset, from 0.
        example: the input.
        ground_truth: None if there is none.
        answers: texts by name: "A" and "B", or "Answer" if one answer is rated.
        given, comment: the person's answer and comment in this session; None if the item is new.
    """

    number: int
    total: int
    row: int
    example: str
    ground_truth: str | None
    answers: Mapping[str, str]
    given: Given | None = None
    comment: str | None = None


# Stores an answer: the question, the value, the comment, and the seconds that the person took.
Keep = Callable[[Question, float, str | None, float], None]


class Session(ABC):
    """The session of one person: presents item after item and stores each answer at once.

    It can be left at any time. A new session with the same options continues where this one stopped.

    Args:
        questions: the questions, in order.
        texts: the texts to show.
        keep: stores one answer.
        read: returns all answers of this rater on the criterion.
        rater: name of the person.
        criterion: what the person judges.
        labelled: number of items answered in earlier sessions.
    """

    names: tuple[str, ...]

    def __init__(
        self,
        questions: Sequence[Question],
        texts: Texts,
        keep: Keep,
        read: Callable[[], pd.DataFrame],
        *,
        rater: str,
        criterion: str,
        labelled: int = 0,
    ) -> None:
        self.rater, self.criterion = rater, criterion
        self._questions, self._texts, self._keep, self._read, self._labelled = questions, texts, keep, read, labelled
        self._position = 0
        self._given: dict[int, tuple[Given, str | None]] = {}
        self._shown_at: float | None = None  # on the monotonic clock

    @property
    def done(self) -> bool:
        """Whether every item was answered or skipped."""
        return self._position == len(self._questions)

    @property
    def progress(self) -> tuple[int, int]:
        """The number of labelled items, and of all items. Earlier sessions count."""
        return self._labelled + len(self._given), self._total

    @property
    def current(self) -> Item | None:
        """The current item; None when done. The first access starts the clock of the answer."""
        if self.done:
            return None
        if self._shown_at is None:
            self._shown_at = time.monotonic()
        question = self._questions[self._position]
        given, comment = self._given.get(self._position, (None, None))
        answers = [str(self._texts.answers[label][question.row]) for label in question.models]
        return Item(
            number=self._labelled + self._position + 1,
            total=self._total,
            row=question.row,
            example=str(self._texts.examples["example"].iloc[question.row]),
            ground_truth=self._texts.ground_truth(question.row),
            answers=dict(zip(self.names, answers, strict=True)),
            given=given,
            comment=comment,
        )

    def answer(self, given: Given, comment: str | None = None) -> None:
        """Store the person's answer to the current item, and move on to the next.

        Args:
            given: "A", "B" or "tie"; if one answer is rated, a number on the scale.
            comment: the person's reason, as free text.

        Raises:
            InvalidInputError: the answer is not valid, or no item is left.
            NotFoundError: the experiment was deleted in the meantime.
        """
        if self.done:
            raise InvalidInputError("nothing is left to label", "session.back() shows the last item again")
        value = self.value_of(given)
        seconds = 0.0 if self._shown_at is None else time.monotonic() - self._shown_at
        self._keep(self._questions[self._position], value, comment, seconds)
        self._given[self._position] = given, comment
        self._move(1)

    def skip(self) -> None:
        """Move on without an answer; a later session asks again. Does nothing when done."""
        self._move(1)

    def back(self) -> None:
        """Return to the previous item, where a new answer replaces the old one. Does nothing at the first item."""
        self._move(-1)

    def summary(self) -> pd.DataFrame:
        """Reveal the models: return the result of all answers of this person on these models.

        Columns for preferences: `model`, `other`, `wins`, `ties`, `losses` (of `model`), `n`, `identical` (pairs of
        equal answers, which are not asked about); for ratings: `model`, `mean`, `n`.

        Raises:
            InvalidInputError: the session is not done. A rater who knows the models is no longer blind.
        """
        if not self.done:
            labelled, total = self.progress
            raise InvalidInputError(
                f"the models are revealed at the end; {labelled} of {total} items are labelled",
                "answer or skip the others",
            )
        return self._summary(self._read())

    @abstractmethod
    def value_of(self, given: Given) -> float:
        """Return the number to store for an answer.

        Raises:
            InvalidInputError: the answer is not valid.
        """

    @abstractmethod
    def _summary(self, labels: pd.DataFrame) -> pd.DataFrame: ...

    @property
    def _total(self) -> int:
        return self._labelled + len(self._questions)

    def _move(self, step: int) -> None:
        self._position = min(max(self._position + step, 0), len(self._questions))
        # The clock starts when the next item is displayed, which may be in another cell, minutes later.
        self._shown_at = None

    def __repr__(self) -> str:
        labelled, total = self.progress
        return f"<{type(self).__name__} of {self.rater}: {labelled} of {total} labelled>"


class ComparingSession(Session):
    """A session that asks which of two answers is better.

    Args:
        identical: number of equal answers, which are not asked about, for each pair in alphabetical order.
    """

    names = ("A", "B")

    def __init__(self, *args: Any, identical: Mapping[Pair, int], **options: Any) -> None:
        super().__init__(*args, **options)
        self._identical = identical

    @property
    def identical(self) -> int:
        """Number of pairs of equal answers, which are not asked about."""
        return sum(self._identical.values())

    def value_of(self, given: Given) -> float:
        """Return 1 for "A", −1 for "B", 0 for "tie"."""
        key = str(given).strip().lower()
        if key not in _PREFERENCE:
            raise InvalidInputError(f"{given!r} is not a valid answer", 'use "A", "B" or "tie"')
        return _PREFERENCE[key]

    def _summary(self, labels: pd.DataFrame) -> pd.DataFrame:
        rows = []
        for (model, other), identical in self._identical.items():
            values = labels["preference"][(labels["model"] == model) & (labels["other"] == other)]
            counts = {name: int((values == sign).sum()) for name, sign in (("wins", 1), ("ties", 0), ("losses", -1))}
            rows.append({"model": model, "other": other, **counts, "n": len(values), "identical": identical})
        return pd.DataFrame(rows)


class RatingSession(Session):
    """A session that asks how good an answer is, on a scale."""

    names = ("Answer",)

    def __init__(self, *args: Any, scale: tuple[float, float], **options: Any) -> None:
        super().__init__(*args, **options)
        self.scale = scale

    def value_of(self, given: Given) -> float:
        """Return the number, which must be on the scale."""
        (low, high), number = self.scale, number_of(given)
        if number is None or not low <= number <= high:
            raise InvalidInputError(f"{given!r} is not a valid answer", f"use a number from {low:g} to {high:g}")
        return number

    def _summary(self, labels: pd.DataFrame) -> pd.DataFrame:
        ratings = {model: labels["rating"][labels["model"] == model] for model in self._texts.answers}
        rows = [{"model": model, "mean": values.mean(), "n": len(values)} for model, values in ratings.items()]
        return pd.DataFrame(rows)
