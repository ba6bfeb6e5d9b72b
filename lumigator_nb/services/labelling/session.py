"""Blind labelling: a person says which of two answers is better, or how good one is, without knowing whose it is.

Nothing here draws: a widget, a terminal or a test shows `current` and hands on what the person says.
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
    """What a person is shown; whose answers these are is not in it.

    Attributes:
        number, total: place among all items, from 1; what was labelled before the session is counted.
        row: of the dataset, from 0.
        ground_truth: None where there is none.
        answers: the texts by the names "A" and "B", or "Answer" where one is rated.
        given, comment: what the person said of it in this session; None where it is new.
    """

    number: int
    total: int
    row: int
    example: str
    ground_truth: str | None
    answers: Mapping[str, str]
    given: Given | None = None
    comment: str | None = None


# Called with the question, the value, the comment and the seconds that it took.
Keep = Callable[[Question, float, str | None, float], None]


class Session(ABC):
    """One person at work: shows item after item and stores each answer at once.

    It can be left at any time; a new session with the same options goes on where this one ended.

    Args:
        questions: in the order in which they are asked.
        texts: to show.
        keep: stores one answer.
        said: reads all answers of this rater on the criterion.
        rater: whose session it is.
        criterion: what the person looks at.
        labelled: how many items were answered in earlier sessions.
    """

    names: tuple[str, ...]

    def __init__(
        self,
        questions: Sequence[Question],
        texts: Texts,
        keep: Keep,
        said: Callable[[], pd.DataFrame],
        *,
        rater: str,
        criterion: str,
        labelled: int = 0,
    ) -> None:
        self.rater, self.criterion = rater, criterion
        self._questions, self._texts, self._keep, self._said, self._labelled = questions, texts, keep, said, labelled
        self._place = 0
        self._given: dict[int, tuple[Given, str | None]] = {}
        self._shown_at: float | None = None

    @property
    def done(self) -> bool:
        """Whether every item was answered or skipped."""
        return self._place == len(self._questions)

    @property
    def progress(self) -> tuple[int, int]:
        """How many items are labelled, and of how many; those of earlier sessions are counted."""
        return self._labelled + len(self._given), self._total

    @property
    def current(self) -> Item | None:
        """What is asked now; None when done. The clock of the answer starts when it is first looked at."""
        if self.done:
            return None
        if self._shown_at is None:
            self._shown_at = time.monotonic()
        asked = self._questions[self._place]
        given, comment = self._given.get(self._place, (None, None))
        answers = [str(self._texts.answers[label][asked.row]) for label in asked.models]
        return Item(
            number=self._labelled + self._place + 1,
            total=self._total,
            row=asked.row,
            example=str(self._texts.examples["example"].iloc[asked.row]),
            ground_truth=self._texts.ground_truth(asked.row),
            answers=dict(zip(self.names, answers, strict=True)),
            given=given,
            comment=comment,
        )

    def answer(self, given: Given, comment: str | None = None) -> None:
        """Store what the person says of the current item, and go on to the next.

        Args:
            given: "A", "B" or "tie"; where one answer is rated, a number on the scale.
            comment: why, in the person's words.

        Raises:
            InvalidInputError: that is no answer here, or nothing is left to answer.
            NotFoundError: the experiment was deleted meanwhile.
        """
        if self.done:
            raise InvalidInputError("nothing is left to label", "session.back() shows the last item again")
        value = self.value_of(given)
        seconds = 0.0 if self._shown_at is None else time.monotonic() - self._shown_at
        self._keep(self._questions[self._place], value, comment, seconds)
        self._given[self._place] = given, comment
        self._move(1)

    def skip(self) -> None:
        """Go on without an answer; a later session asks again. Does nothing when done."""
        self._move(1)

    def back(self) -> None:
        """Show the item before again, where another answer replaces the first; the first item of a session stays."""
        self._move(-1)

    def summary(self) -> pd.DataFrame:
        """Return who was behind the names, from all answers of this person on these models.

        Columns, of preferences: `model`, `other`, `wins`, `ties`, `losses` (of `model`), `n`, `identical` (pairs that
        nobody was asked about, since both answers read the same); of ratings: `model`, `mean`, `n`.

        Raises:
            InvalidInputError: the session is not done: whoever knows the models is no blind rater any more.
        """
        if not self.done:
            labelled, total = self.progress
            raise InvalidInputError(
                f"the models are revealed at the end; {labelled} of {total} items are labelled",
                "answer or skip the others",
            )
        return self._summary(self._said())

    @abstractmethod
    def value_of(self, given: Given) -> float:
        """Return the number that is stored for an answer.

        Raises:
            InvalidInputError: that is no answer here.
        """

    @abstractmethod
    def _summary(self, said: pd.DataFrame) -> pd.DataFrame: ...

    @property
    def _total(self) -> int:
        return self._labelled + len(self._questions)

    def _move(self, step: int) -> None:
        self._place = min(max(self._place + step, 0), len(self._questions))
        self._shown_at = None

    def __repr__(self) -> str:
        labelled, total = self.progress
        return f"<{type(self).__name__} of {self.rater}: {labelled} of {total} labelled>"


class ComparingSession(Session):
    """Which of two answers is better.

    Args:
        identical: by pair in alphabetical order, how many of its answers read the same and are not asked about.
    """

    names = ("A", "B")

    def __init__(self, *args: Any, identical: Mapping[Pair, int], **options: Any) -> None:
        super().__init__(*args, **options)
        self._identical = identical

    @property
    def identical(self) -> int:
        """Pairs of answers that are not asked about, since they read the same."""
        return sum(self._identical.values())

    def value_of(self, given: Given) -> float:
        """Return 1 for "A", −1 for "B", 0 for "tie"."""
        key = str(given).strip().lower()
        if key not in _PREFERENCE:
            raise InvalidInputError(f"{given!r} is no answer here", 'say "A", "B" or "tie"')
        return _PREFERENCE[key]

    def _summary(self, said: pd.DataFrame) -> pd.DataFrame:
        rows = []
        for (model, other), identical in self._identical.items():
            values = said["preference"][(said["model"] == model) & (said["other"] == other)]
            counts = {name: int((values == sign).sum()) for name, sign in (("wins", 1), ("ties", 0), ("losses", -1))}
            rows.append({"model": model, "other": other, **counts, "n": len(values), "identical": identical})
        return pd.DataFrame(rows)


class RatingSession(Session):
    """How good an answer is, on a scale."""

    names = ("Answer",)

    def __init__(self, *args: Any, scale: tuple[float, float], **options: Any) -> None:
        super().__init__(*args, **options)
        self.scale = scale

    def value_of(self, given: Given) -> float:
        """Return the number, which lies on the scale."""
        (low, high), number = self.scale, number_of(given)
        if number is None or not low <= number <= high:
            raise InvalidInputError(f"{given!r} is no answer here", f"give a number from {low:g} to {high:g}")
        return number

    def _summary(self, said: pd.DataFrame) -> pd.DataFrame:
        groups = [(label, said["rating"][said["model"] == label]) for label in self._texts.answers]
        return pd.DataFrame([{"model": label, "mean": found.mean(), "n": len(found)} for label, found in groups])
