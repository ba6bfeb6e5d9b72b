"""Labels as rows of the database, made from what a session or somebody's table says."""

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
    """What labels of one kind are about; `scale` is None for preferences, and where it does not matter."""

    experiment_id: str
    kind: Kind
    criterion: str
    scale: Scale | None = None

    def label(
        self, rater: str, asked: Question, value: float, comment: str | None = None, seconds: float | None = None
    ) -> Label:
        """Return a label; a preference is turned where its models are not in alphabetical order."""
        model, other = (*asked.models, "")[:2]
        turned = self.kind == "preference" and model > other
        low, high = self.scale or (None, None)
        return Label(
            experiment_id=self.experiment_id,
            kind=self.kind,
            criterion=self.criterion,
            rater=rater,
            row=asked.row,
            model=other if turned else model,
            other=model if turned else other,
            value=0.0 - value if turned else value,
            scale_low=low,
            scale_high=high,
            comment=comment,
            seconds=seconds,
        )


def checked_kind(kind: str) -> Kind:
    """Return the kind.

    Raises:
        InvalidInputError: there is none of that name.
    """
    for known in get_args(Kind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise InvalidInputError(f"there is no kind of label {kind!r}", f"known: {', '.join(get_args(Kind))}")


def checked_scale(scale: Scale) -> Scale:
    """Return the ends of a scale as plain numbers.

    Raises:
        InvalidInputError: these are not two numbers, the lower one first.
    """
    ends = [number_of(end) for end in scale] if isinstance(scale, (tuple, list)) else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None or ends[0] >= ends[1]:
        raise InvalidInputError(f"{scale!r} is no scale", "give its lowest and its highest number, such as (1, 5)")
    return ends[0], ends[1]


def comment_of(value: object) -> str | None:
    """Return a comment as every database takes it; None where nothing was said."""
    if value is None or value != value:  # only NaN differs from itself
        return None
    return str(value).encode(errors="replace").decode().replace("\0", "").strip() or None


@dataclass(frozen=True)
class TableReader:
    """Turns rows of a table into labels.

    Attributes:
        models: labels of the experiment's models.
        n_examples: of the dataset.
        rater: who labelled; None takes the column `rater`.
    """

    topic: Topic
    models: Sequence[str]
    n_examples: int
    rater: str | None

    def labels(self, rows: Sequence[Mapping[Any, Any]]) -> dict[str, list[Label]]:
        """Return the labels by rater.

        Raises:
            InvalidInputError: a row is malformed, or says again what another one said; all rows are looked at first.
        """
        found: dict[str, list[Label]] = {}
        places: dict[tuple[str, int, str, str], int] = {}
        for place, row in enumerate(rows):
            label = self._label(_Cells(row, place))
            first = places.setdefault(label.subject, place)
            if first != place:
                raise InvalidInputError(
                    f"labels, rows {first} and {place} (from 0) are about the same, by {label.rater!r}", "keep one"
                )
            found.setdefault(label.rater, []).append(label)
        return found

    def _label(self, cells: _Cells) -> Label:
        rater = cells.rater() if self.rater is None else self.rater
        asked = Question(cells.row(self.n_examples), self._models(cells))
        value = cells.preference() if self.topic.kind == "preference" else cells.rating(self.topic.scale or (1, 5))
        return self.topic.label(rater, asked, value, comment_of(cells.found.get("comment")), cells.seconds())

    def _models(self, cells: _Cells) -> tuple[str, ...]:
        if self.topic.kind == "rating":
            return (cells.model("model", self.models),)
        model, other = cells.model("model", self.models), cells.model("other", self.models)
        if model == other:
            raise cells.error("other", "is compared with itself", "name two models")
        return model, other


@dataclass(frozen=True)
class _Cells:
    """One row of a table, whose errors name row and column."""

    found: Mapping[Any, Any]
    place: int

    def error(self, column: str, problem: str, hint: str | None = None) -> InvalidInputError:
        value = self.found[column]
        return InvalidInputError(f"labels, row {self.place} (from 0), column {column!r}: {value!r} {problem}", hint)

    def value(self, column: str) -> Any:
        if column not in self.found:
            raise InvalidInputError(
                f"labels, row {self.place} (from 0): there is no column {column!r}",
                "preferences have row, model, other, preference; ratings have row, model, rating",
            )
        return self.found[column]

    def rater(self) -> str:
        if "rater" not in self.found:
            raise InvalidInputError("nobody is named as the rater", 'give rater="…", or a column rater')
        try:
            return checked_name(str(self.found["rater"]) if self.found["rater"] is not None else "")
        except InvalidInputError as error:
            raise self.error("rater", "is no name", error.hint) from error

    def row(self, n_examples: int) -> int:
        number = number_of(self.value("row"))
        if number is None or not number.is_integer() or not 0 <= number < n_examples:
            raise self.error("row", "is no row of the dataset", f"it has rows 0 to {n_examples - 1}")
        return int(number)

    def model(self, column: str, known: Sequence[str]) -> str:
        label = self.value(column)
        if label not in known:
            raise self.error(column, "is no model of the experiment", did_you_mean(str(label), known))
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
        value = self.found.get("seconds")
        if value is None or value != value:
            return None
        number = number_of(value)
        if number is None or number < 0:
            raise self.error("seconds", "is no duration", "give seconds, or leave it empty")
        return number


def number_of(value: object) -> float | None:
    """The value as a plain number, since a database takes none of NumPy's; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return float(value)
