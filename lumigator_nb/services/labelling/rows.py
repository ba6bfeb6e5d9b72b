"""Labels as database records, made from the answers of a session or from a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from lumigator_nb.database.records import Label
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.services.labelling.plans import Question
from lumigator_nb.services.names import checked_name

Kind = Literal["preference", "rating"]
Scale = tuple[float, float]


@dataclass(frozen=True)
class Topic:
    """What a set of labels is about. `scale` is None for preferences, and where it does not matter."""

    experiment_id: str
    kind: Kind
    criterion: str
    scale: Scale | None = None

    def label(
        self, rater: str, question: Question, value: float, comment: str | None = None, seconds: float | None = None
    ) -> Label:
        """Return a label. A preference is stored with its models in alphabetical order, with the sign turned to fit."""
        model, other = (*question.models, "")[:2]
        turned = self.kind == "preference" and model > other
        low, high = self.scale or (None, None)
        return Label(
            experiment_id=self.experiment_id,
            kind=self.kind,
            criterion=self.criterion,
            rater=rater,
            row=question.row,
            model=other if turned else model,
            other=model if turned else other,
            value=0.0 - value if turned else value,  # not -value, which makes -0.0 of a tie
            scale_low=low,
            scale_high=high,
            comment=comment,
            seconds=seconds,
        )


def checked_kind(kind: str) -> Kind:
    """Return the kind of label.

    Raises:
        InvalidInputError: there is no such kind.
    """
    for allowed in get_args(Kind):
        if kind == allowed:
            return allowed  # type: ignore[no-any-return]
    raise InvalidInputError(f"there is no kind of label {kind!r}", f"known: {', '.join(get_args(Kind))}")


def checked_scale(scale: Scale) -> Scale:
    """Return the ends of a scale as floats.

    Raises:
        InvalidInputError: the scale is not a pair of numbers, the lower one first.
    """
    ends = [number_of(end) for end in scale] if isinstance(scale, (tuple, list)) else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None or ends[0] >= ends[1]:
        raise InvalidInputError(f"{scale!r} is not a scale", "give the lowest and the highest rating, such as (1, 5)")
    return ends[0], ends[1]


def comment_of(value: object) -> str | None:
    """Return a comment without characters that databases refuse (NUL, lone surrogates); None if it is empty."""
    if value is None or value != value:  # only NaN differs from itself
        return None
    return str(value).encode(errors="replace").decode().replace("\0", "").strip() or None


@dataclass(frozen=True)
class TableReader:
    """Converts rows of a table to labels.

    Attributes:
        topic: what the labels are about.
        models: labels of the experiment's models.
        n_examples: number of examples of the dataset.
        rater: name of the rater; None: the column `rater` has it.
    """

    topic: Topic
    models: Sequence[str]
    n_examples: int
    rater: str | None

    def labels(self, rows: Sequence[Mapping[Any, Any]]) -> dict[str, list[Label]]:
        """Return the labels by rater.

        Raises:
            InvalidInputError: a row is malformed, or two rows of a rater are about the same answers.
        """
        by_rater: dict[str, list[Label]] = {}
        first_positions: dict[tuple[str, int, str, str], int] = {}
        for position, row in enumerate(rows):
            cells = _Cells(row, position)
            rater = cells.rater() if self.rater is None else self.rater
            row_number = cells.row(self.n_examples)
            models: tuple[str, ...] = (cells.model("model", self.models),)
            if self.topic.kind == "preference":
                models = (*models, cells.model("other", self.models))
                if models[0] == models[1]:
                    raise cells.error("other", "is compared with itself", "name two models")
                value = cells.preference()
            else:
                value = cells.rating(self.topic.scale or (1, 5))
            comment = comment_of(row.get("comment"))
            label = self.topic.label(rater, Question(row_number, models), value, comment, cells.seconds())
            first = first_positions.setdefault(label.subject, position)
            if first != position:
                raise InvalidInputError(
                    f"labels, rows {first} and {position} (from 0) label the same, by {label.rater!r}", "keep one"
                )
            by_rater.setdefault(label.rater, []).append(label)
        return by_rater


@dataclass(frozen=True)
class _Cells:
    """One row of a table of labels. Errors name its position and the column."""

    cells: Mapping[Any, Any]
    position: int

    def error(self, column: str, problem: str, hint: str | None = None) -> InvalidInputError:
        value = self.cells[column]
        return InvalidInputError(f"labels, row {self.position} (from 0), column {column!r}: {value!r} {problem}", hint)

    def value(self, column: str) -> Any:
        if column not in self.cells:
            raise InvalidInputError(
                f"labels, row {self.position} (from 0): there is no column {column!r}",
                "preferences have row, model, other, preference; ratings have row, model, rating",
            )
        return self.cells[column]

    def rater(self) -> str:
        if "rater" not in self.cells:
            raise InvalidInputError("no rater is named", 'give rater="…", or a column rater')
        try:
            return checked_name(str(self.cells["rater"]) if self.cells["rater"] is not None else "")
        except InvalidInputError as error:
            raise self.error("rater", "is not a name", error.hint) from error

    def row(self, n_examples: int) -> int:
        number = number_of(self.value("row"))
        if number is None or not number.is_integer() or not 0 <= number < n_examples:
            raise self.error("row", "is not a row of the dataset", f"it has rows 0 to {n_examples - 1}")
        return int(number)

    def model(self, column: str, labels: Sequence[str]) -> str:
        label = self.value(column)
        if label not in labels:
            raise self.error(column, "is not a model of the experiment", did_you_mean(str(label), labels))
        return str(label)

    def preference(self) -> float:
        number = number_of(self.value("preference"))
        if number not in (1, 0, -1):
            raise self.error("preference", "is not 1, 0 or -1", "1: the model is better, -1: the other, 0: neither")
        return float(number)

    def rating(self, scale: Scale) -> float:
        number = number_of(self.value("rating"))
        if number is None or not scale[0] <= number <= scale[1]:
            raise self.error("rating", f"is not on the scale from {scale[0]:g} to {scale[1]:g}", "give scale=(…, …)")
        return number

    def seconds(self) -> float | None:
        value = self.cells.get("seconds")
        if value is None or value != value:
            return None
        number = number_of(value)
        if number is None or number < 0:
            raise self.error("seconds", "is not a duration", "give seconds, or leave it empty")
        return number


def number_of(value: object) -> float | None:
    """Return a number as a float (databases refuse NumPy's types), or None if the value is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return float(value)
