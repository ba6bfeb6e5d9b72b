"""Comparisons that screens show: read once for all, with examples that are searched, filtered and ordered."""

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
# Comparisons of a workspace in memory at once; each holds all its answers.
MOST_KEPT = 4
# A column with more values is text rather than a category, and no filter.
MOST_VALUES = 30
# Of longer texts only the beginning is compared, because the time grows with the square of the number of words.
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
    """Return a slice as one text for a field or an address; empty means all examples."""
    return json.dumps([column, value]) if column and value else ""


def slice_of(key: str) -> dict[str, str | None]:
    """Return `column` and `value` of a text of :func:`slice_key`, as in an address; None means all examples."""
    column, value = json.loads(key) if key else (None, None)
    return {"column": column, "value": value}


class _Cache:
    """The comparisons of one workspace that were read last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.comparisons: OrderedDict[tuple[object, ...], Examined] = OrderedDict()
        # One lock per comparison being read, so that several screens read it once, and others do not wait.
        self.reading: dict[tuple[object, ...], threading.Lock] = {}


_caches: WeakKeyDictionary[Workspace, _Cache] = WeakKeyDictionary()
_caches_lock = threading.Lock()


def examined(ws: Workspace, experiment: Experiment | str) -> Examined:
    """Return the comparison of an experiment. All callers share one, until a model or a score of it changes.

    Raises:
        NotFoundError: there is no such experiment.
        InvalidInputError: there is nothing to compare yet.
    """
    record = ws.experiments.get(experiment)
    key = state_of(ws, record)
    with _caches_lock:
        cache = _caches.setdefault(ws, _Cache())
    with cache.lock:
        reading = cache.reading.setdefault(key, threading.Lock())
    with reading:
        with cache.lock:
            comparison = cache.comparisons.get(key)
        if comparison is None:
            comparison = Examined(ws.compare(record))
        with cache.lock:
            cache.comparisons[key] = comparison
            cache.comparisons.move_to_end(key)
            cache.reading.pop(key, None)
            while len(cache.comparisons) > MOST_KEPT:
                cache.comparisons.popitem(last=False)
    return comparison


def state_of(ws: Workspace, experiment: Experiment) -> tuple[object, ...]:
    """Return a value that changes whenever the comparison of an experiment does."""
    workflows = tuple(
        (workflow.id, workflow.attempt, workflow.status, workflow.finished_at)
        for workflow in ws.workflows.of(experiment)
    )
    return (experiment.id, tuple(repr(spec) for spec in experiment.metrics), workflows)


def can_compare(ws: Workspace, experiment: Experiment) -> bool:
    """Return whether at least one model has succeeded."""
    return any(workflow.status is Status.SUCCEEDED for workflow in ws.workflows.of(experiment))


@dataclass(frozen=True)
class Query:
    """Which examples to list.

    Attributes:
        score: orders and shades the examples; empty means the main score.
        search: text that one of an example's texts contains, ignoring case.
        sort: one of :data:`SORTS`.
        column, value: of a slice; `column` is a metadata column.
        only: one of :data:`ONLY`.
        page: from 1.
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
        """Return the query of a route."""
        texts = {name: route.query.get(name, "") for name in ("score", "search", "column", "value", "only")}
        sort = route.query.get("sort", "-spread")
        return cls(**texts, sort=sort if sort in SORTS else "-spread", page=route.number("page"))


@dataclass(frozen=True)
class ExamplePage:
    """A page of the examples.

    Attributes:
        query: what it answers.
        rows: positions in the dataset, in the query's order.
        order: positions of the matching examples on all pages, for links to the next one.
        texts: of the page, with the columns of :meth:`Comparison.examples`.
        scores: array of shape (rows, models); NaN means no score.
    """

    query: Query
    rows: Positions
    order: Positions
    texts: pd.DataFrame
    scores: Values

    @property
    def total(self) -> int:
        """Number of matching examples."""
        return len(self.order)


@dataclass
class Examined:
    """A comparison with its texts and scores, read once, to search and order its examples."""

    comparison: Comparison
    _matrices: dict[str, Values] = field(default_factory=dict)

    @cached_property
    def texts(self) -> pd.DataFrame:
        """All texts side by side, as :meth:`Comparison.examples` returns them."""
        return self.comparison.examples()

    @cached_property
    def _lower_case(self) -> list[pd.Series]:
        return [self.texts[column].astype("string").str.lower() for column in self.texts]

    @cached_property
    def _metadata(self) -> pd.DataFrame:
        return self.comparison.metadata()

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """Metadata columns that have few values, with these values, the most frequent first."""
        columns = {}
        for name, cells in self._metadata.items():
            values = cells.dropna().astype(str)
            if 1 < values.nunique() <= MOST_VALUES:
                columns[str(name)] = [str(value) for value in values.value_counts().index]
        return columns

    def score(self, name: str) -> str:
        """Return `name` if the comparison has such a score, else the name of its main score."""
        return name if name in {info.name for info in self.comparison.scores} else self.comparison.main_score

    def info(self, name: str) -> ScoreInfo:
        """Return the description of a score, or of the main score if there is none of that name."""
        return next(info for info in self.comparison.scores if info.name == self.score(name))

    def values(self, score: str) -> Values:
        """Return scores as an array of shape (examples, models), in the dataset's order; NaN means no score."""
        if score not in self._matrices:
            self._matrices[score] = self.comparison.values(score).to_numpy(dtype=np.float64)
        return self._matrices[score]

    def page(self, query: Query, per_page: int = PER_PAGE) -> ExamplePage:
        """Return a page of the examples that match a query, in its order."""
        values = self.values(self.score(query.score))
        order = self._order(np.flatnonzero(self._matches(query, values)), query, values)
        number = min(query.page, max(1, -(-len(order) // per_page)))
        rows = order[(number - 1) * per_page : number * per_page]
        return ExamplePage(query, rows, order, self.texts.iloc[rows], values[rows])

    def _matches(self, query: Query, values: Values) -> npt.NDArray[np.bool_]:
        matches = np.ones(len(self.texts), dtype=bool)
        if search := query.search.strip().lower():
            contain = np.zeros(len(self.texts), dtype=bool)
            for texts in self._lower_case:
                contain |= texts.str.contains(search, regex=False).fillna(False).to_numpy(dtype=bool)
            matches &= contain
        if query.column in self.columns and query.value:
            matches &= (self._metadata[query.column].astype(str) == query.value).to_numpy(dtype=bool)
        if query.only == "differ":
            matches &= _spread(values) > 0
        if query.only == "failed":
            matches &= self.texts[list(self.comparison.models)].isna().any(axis=1).to_numpy(dtype=bool)
        return matches

    def _order(self, rows: npt.NDArray[np.intp], query: Query, values: Values) -> Positions:
        if query.sort == "row":
            return rows.astype(np.int64)
        if query.sort == "-spread":
            keys = -_spread(values)[rows]
        else:
            lower_is_better = self.info(query.score).higher_is_better is False
            scored = (~np.isnan(values)).sum(axis=1)
            means = np.nansum(values, axis=1) / np.maximum(scored, 1)
            rising = (query.sort == "worst") is not lower_is_better
            # Examples without any score come last in either order.
            keys = np.where(scored, means if rising else -means, np.inf)[rows]
        # Stable, so that equal examples keep the dataset's order.
        return rows[np.argsort(keys, kind="stable")].astype(np.int64)


def _spread(values: Values) -> Values:
    """Return the difference between the highest and the lowest score of each example; 0 without two scores."""
    spread: Values = np.nan_to_num(np.fmax.reduce(values, axis=1) - np.fmin.reduce(values, axis=1))
    return spread


Piece = tuple[Literal["same", "added", "missing"], str]


def differences(text: str, other: str) -> list[Piece]:
    """Compare two texts word by word, ignoring case and white space.

    Args:
        text: the text to read.
        other: the text it is compared with, such as the ground truth.

    Returns:
        Pieces in reading order: in both texts, only in `text` ("added"), or only in `other` ("missing").
    """
    old, new = _words(other), _words(text)
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
    return [*pieces, ("same", rest)] if rest else pieces


def _words(text: str) -> list[str]:
    """Return words and punctuation marks, each with the white space after it."""
    return re.findall(r"\w+\s*|[^\w\s]\s*|\s+", text)
