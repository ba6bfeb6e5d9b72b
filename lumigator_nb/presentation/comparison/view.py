"""A comparison that is kept while it is looked at, and its examples as a list that is searched and ordered."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd

from lumigator_nb.database.records import Experiment
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.specs import Status

if TYPE_CHECKING:
    from lumigator_nb.metrics import ScoreInfo
    from lumigator_nb.workspace import Workspace

Values = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

PER_PAGE = 20
MOST_KEPT = 4
MOST_VALUES = 30
# Longer texts are compared by their beginning only: the time grows with the square of the words.
MOST_WORDS = 1500

SORTS: dict[str, str] = {
    "-spread": "Largest disagreement first",
    "row": "Order of the dataset",
    "worst": "Hardest first (lowest mean)",
    "best": "Easiest first (highest mean)",
}

ONLY: dict[str, str] = {
    "": "All examples",
    "differ": "Where scores differ",
    "failed": "Where an answer is missing",
}


def slice_key(column: str, value: str) -> str:
    """Return a slice as one word of an address; empty for all examples."""
    return json.dumps([column, value]) if column and value else ""


def slice_of(key: str) -> dict[str, str | None]:
    """Return what a slice is in an address: its `column` and `value`, None for all examples."""
    column, value = json.loads(key) if key else (None, None)
    return {"column": column, "value": value}


class _Kept:
    """The comparisons of one workspace that were asked for last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.found: OrderedDict[tuple[object, ...], Examined] = OrderedDict()
        self.making: dict[tuple[object, ...], threading.Lock] = {}


_kept: WeakKeyDictionary[Workspace, _Kept] = WeakKeyDictionary()
_kept_lock = threading.Lock()


def examined(ws: Workspace, experiment: Experiment | str) -> Examined:
    """Return the comparison of an experiment; as long as nothing in it changes, the same one to all who ask.

    Raises:
        NotFoundError: there is no such experiment.
        InvalidInputError: there is nothing to compare yet.
    """
    record = ws.experiments.get(experiment)
    key = state_of(ws, record)
    with _kept_lock:
        kept = _kept.setdefault(ws, _Kept())
    with kept.lock:
        making = kept.making.setdefault(key, threading.Lock())
    with making:
        with kept.lock:
            found = kept.found.get(key)
        if found is None:
            found = Examined(ws.compare(record))
        with kept.lock:
            kept.found[key] = found
            kept.found.move_to_end(key)
            kept.making.pop(key, None)
            while len(kept.found) > MOST_KEPT:
                kept.found.popitem(last=False)
    return found


def state_of(ws: Workspace, experiment: Experiment) -> tuple[object, ...]:
    """Return what differs when the comparison of an experiment does."""
    workflows = ws.workflows.of(experiment)
    stands = tuple((each.id, each.attempt, each.status, each.finished_at) for each in workflows)
    return (experiment.id, tuple(repr(spec) for spec in experiment.metrics), stands)


def can_compare(ws: Workspace, experiment: Experiment) -> bool:
    """Return whether a model has succeeded."""
    return any(workflow.status is Status.SUCCEEDED for workflow in ws.workflows.of(experiment))


@dataclass(frozen=True)
class Query:
    """Which examples are looked for.

    Attributes:
        score: by which they are ordered and coloured; empty is the main score.
        search: what a text of them contains, in any case.
        column, value: of a slice; `column` is a metadata column.
        only: one of :data:`ONLY`.
    """

    score: str = ""
    search: str = ""
    sort: str = "-spread"
    column: str = ""
    value: str = ""
    only: str = ""
    page: int = 1

    @classmethod
    def of(cls, route: Route) -> Query:
        """Return what a route asks for."""
        found = {name: route.query.get(name, "") for name in ("score", "search", "column", "value", "only")}
        sort = route.query.get("sort", "-spread")
        return cls(**found, sort=sort if sort in SORTS else "-spread", page=route.number("page"))


@dataclass(frozen=True)
class ExamplePage:
    """A page of the examples.

    Attributes:
        rows: positions in the dataset, in the order asked for.
        order: of all examples found, for the way from one to the next.
        texts: of the page: the columns of :meth:`Comparison.examples`.
        scores: (rows, models) on the score; NaN where there is none.
    """

    query: Query
    rows: Positions
    order: Positions
    texts: pd.DataFrame
    scores: Values

    @property
    def total(self) -> int:
        """Examples found."""
        return len(self.order)


@dataclass
class Examined:
    """A comparison with what looking at its examples needs, worked out once."""

    comparison: Comparison
    _matrices: dict[str, Values] = field(default_factory=dict)

    @cached_property
    def texts(self) -> pd.DataFrame:
        """All texts side by side, as of :meth:`Comparison.examples`."""
        return self.comparison.examples()

    @cached_property
    def _lower(self) -> list[pd.Series]:
        return [self.texts[column].astype("string").str.lower() for column in self.texts]

    @cached_property
    def _metadata(self) -> pd.DataFrame:
        return self.comparison.metadata()

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """Metadata columns with few values, each with its values, the most frequent first."""
        found = {}
        for name, cells in self._metadata.items():
            values = cells.dropna().astype(str)
            if 1 < values.nunique() <= MOST_VALUES:
                found[str(name)] = [str(value) for value in values.value_counts().index]
        return found

    def score(self, name: str) -> str:
        """Return the name of a score that is there: that one, or the main one."""
        return name if name in {info.name for info in self.comparison.scores} else self.comparison.main_score

    def info(self, name: str) -> ScoreInfo:
        """Return what describes that score, or the main one."""
        return next(info for info in self.comparison.scores if info.name == self.score(name))

    def values(self, score: str) -> Values:
        """Return (examples, models) scores, in the dataset's order; NaN where there is none."""
        if score not in self._matrices:
            self._matrices[score] = self.comparison.values(score).to_numpy(dtype=np.float64)
        return self._matrices[score]

    def page(self, query: Query, per_page: int = PER_PAGE) -> ExamplePage:
        """Return the examples that a query asks for."""
        values = self.values(self.score(query.score))
        order = self._ordered(np.flatnonzero(self._fits(query, values)), query, values)
        number = min(query.page, max(1, -(-len(order) // per_page)))
        rows = order[(number - 1) * per_page : number * per_page]
        return ExamplePage(query, rows, order, self.texts.iloc[rows], values[rows])

    def _fits(self, query: Query, values: Values) -> npt.NDArray[np.bool_]:
        fits = np.ones(len(self.texts), dtype=bool)
        if search := query.search.strip().lower():
            found = np.zeros(len(self.texts), dtype=bool)
            for texts in self._lower:
                found |= texts.str.contains(search, regex=False).fillna(False).to_numpy(dtype=bool)
            fits &= found
        if query.column in self.columns and query.value:
            fits &= (self._metadata[query.column].astype(str) == query.value).to_numpy(dtype=bool)
        if query.only == "differ":
            fits &= _spread(values) > 0
        if query.only == "failed":
            fits &= self.texts[list(self.comparison.models)].isna().any(axis=1).to_numpy(dtype=bool)
        return fits

    def _ordered(self, rows: npt.NDArray[np.intp], query: Query, values: Values) -> Positions:
        if query.sort == "row":
            return rows.astype(np.int64)
        if query.sort == "-spread":
            keys = -_spread(values)[rows]
        else:
            lower_is_better = self.info(query.score).higher_is_better is False
            means = _mean(values)[rows]
            # Those without any score stay last.
            rising = (query.sort == "worst") is not lower_is_better
            keys = means if rising else np.where(np.isinf(means), means, -means)
        return rows[np.argsort(keys, kind="stable")].astype(np.int64)


def _spread(values: Values) -> Values:
    spread: Values = np.nan_to_num(np.fmax.reduce(values, axis=1) - np.fmin.reduce(values, axis=1))
    return spread


def _mean(values: Values) -> Values:
    counted = (~np.isnan(values)).sum(axis=1)
    return np.where(counted, np.nansum(values, axis=1) / np.maximum(counted, 1), np.inf)


Piece = tuple[Literal["same", "added", "missing"], str]


def differences(text: str, other: str) -> list[Piece]:
    """Return a text word by word against another: what is the same, what only it has, what only the other has.

    Args:
        text: what is read.
        other: what it is held against, such as the ground truth.
    """
    old, new = _words(other), _words(text)
    cut = len(old) > MOST_WORDS or len(new) > MOST_WORDS
    rest = "".join(new[MOST_WORDS:])
    old, new = old[:MOST_WORDS], new[:MOST_WORDS]
    matcher = SequenceMatcher(
        None, [word.strip().lower() for word in old], [word.strip().lower() for word in new], False
    )
    pieces: list[Piece] = []
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind != "equal" and j > i:
            pieces.append(("missing", "".join(old[i:j])))
        if m > k:
            pieces.append(("same" if kind == "equal" else "added", "".join(new[k:m])))
    return [*pieces, ("same", rest)] if cut and rest else pieces


def _words(text: str) -> list[str]:
    """Words and punctuation, each with the white space behind it."""
    return re.findall(r"\w+\s*|[^\w\s]\s*|\s+", text)
