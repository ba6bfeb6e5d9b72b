"""The comparison of an experiment in a notebook cell: summary, charts, examples side by side, slices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ipywidgets import HTML, Button, Dropdown, HBox, Layout, SelectMultiple, Text, ToggleButtons, VBox

from lumigator_nb.database.records import Experiment
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.display.text import one_line
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.comparison import markup
from lumigator_nb.presentation.comparison.view import (
    ONLY,
    PER_PAGE,
    SORTS,
    Examined,
    ExamplePage,
    Query,
    can_compare,
    examined,
    slice_key,
    slice_of,
    state_of,
)
from lumigator_nb.presentation.markup import empty
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.widgets.kit import CellWidget, alert, put, sheet, visible, with_hint
from lumigator_nb.workspace import Workspace

_LIST = ("All listed examples", -1)
# A cell has no room for more answers side by side.
_MODELS_SHOWN = 6


def compare(ws: Workspace, experiment: Experiment | str) -> Compare:
    """Show the comparison of an experiment: summary, charts, examples and slices.

    Charts and tests are computed in the background, and the kernel stays free. A model that succeeds later is added
    automatically.

    Args:
        ws: workspace.
        experiment: record, name or id.

    Raises:
        NotFoundError: there is no such experiment.

    Examples:
        >>> widget = lm.ui.compare(ws, experiment)
        >>> widget.close()
    """
    return with_hint(Compare(ws, experiment))


class Compare(CellWidget):
    """The comparison in a cell; made by :func:`compare`.

    Attributes:
        found: the comparison with its examples; None until it is read, and while no model has succeeded.
        page: the listed examples.
    """

    def __init__(self, ws: Workspace, experiment: Experiment | str) -> None:
        super().__init__(layout=Layout(width="100%"))
        self._ws = ws
        self._experiment = ws.experiments.get(experiment)
        self.found: Examined | None = None
        self.page: ExamplePage | None = None
        self._state: object = None
        # Counts what was drawn, so that a chart that is ready late does not replace a newer one.
        self._turn, self._filling = 0, False
        self._reading = threading.Lock()
        self._make_fields()
        self._read_soon()
        self._unsubscribe: Callable[[], None] | None = watcher_of(ws).subscribe(self._read_soon)

    def close(self) -> None:
        """Remove the display."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        super().close()

    # --- Fields ---

    def _make_fields(self) -> None:
        self.head, self.body = HTML(), HTML(layout=Layout(overflow="auto"))
        self.tab = ToggleButtons(
            options=[(title, key) for key, title in markup.TABS.items()], style={"button_width": "auto"}
        )
        self.score = _dropdown("Score")
        self.search = Text(placeholder="Search texts", description="Search", layout=Layout(width="260px"))
        self.sort = _dropdown("Order", [(title, key) for key, title in SORTS.items()], "260px")
        self.only = _dropdown("Show", [(title, key) for key, title in ONLY.items()], "260px")
        self.slice = _dropdown("Slice", [("All", "")])
        self.against = _dropdown("Against")
        self.models = SelectMultiple(description="Models", rows=3, layout=Layout(width="360px"))
        self.example = _dropdown("Example", [_LIST], "420px")
        self.before, self.after = (
            Button(description="Previous", icon="arrow-left"),
            Button(description="Next", icon="arrow-right"),
        )
        self.filters = _line(self.search, self.sort, self.only, self.slice)
        self.sides = _line(self.against, self.models)
        self.way = _line(self.example, self.before, self.after)
        for field in (self.tab, self.score, self.against, self.models, self.example):
            field.observe(lambda _: self._draw(), "value")
        for field in (self.search, self.sort, self.only, self.slice):
            field.observe(lambda _: self._filter(), "value")
        self.before.on_click(lambda _: self._step(-1))
        self.after.on_click(lambda _: self._step(1))
        self._number = 1
        self._below = VBox([self.tab, self.score, self.filters, self.way, self.sides, self.body])
        self._below.layout.display = "none"
        self.children = [self.head, self._below]
        put(self.head, self._titled(tag("p", "Reading answers and scores…", class_="lm-note", role="status")))

    def _titled(self, below: Html) -> Html:
        return join([sheet(), tag("h1", f"Comparison of {self._experiment.name}"), below])

    # --- Reading the comparison ---

    def _read_soon(self) -> None:
        threading.Thread(target=self._read, name="lumigator-compare", daemon=True).start()

    def _read(self) -> None:
        with self._reading:
            try:
                record = self._ws.experiments.get(self._experiment.id)
                state = state_of(self._ws, record)
                if state == self._state:
                    return
                found = examined(self._ws, record) if can_compare(self._ws, record) else None
                self._state, self._experiment = state, record
            except LumigatorError as error:
                put(self.head, self._titled(alert(str(error))))
                return
            self.found = found
            if found is None:
                put(self.head, self._titled(_nothing(self._experiment)))
            else:
                self._fill(found)

    def _fill(self, found: Examined) -> None:
        """Show the comparison, with its models, scores and slices in the fields."""
        put(self.head, self._titled(tag("p", markup.title_of(found.comparison), class_="lm-soft")))
        comparison, chosen = found.comparison, self.score.value
        self._filling = True
        try:
            self.score.options = [info.name for info in comparison.scores]
            self.score.value = found.score(chosen or "")
            parts = [
                (f"{column}: {value}", slice_key(column, value))
                for column, values in found.columns.items()
                for value in values
            ]
            self.slice.options = [("All", ""), *parts]
            self.against.options = list(markup.standards(found).items())
            self.against.value = next(iter(markup.standards(found).values()))
            self.models.options = comparison.models
            self.models.value = comparison.models[:_MODELS_SHOWN]
        finally:
            self._filling = False
        self._below.layout.display = ""
        self._filter()

    # --- Choices of the user ---

    @property
    def query(self) -> Query:
        """The examples that the fields select."""
        part = {name: value or "" for name, value in slice_of(self.slice.value).items()}
        return Query(
            score=self.score.value or "", search=self.search.value, sort=self.sort.value, only=self.only.value,
            page=self._number, **part,
        )  # fmt: skip

    def show_example(self, row: int) -> None:
        """Show one example side by side.

        Args:
            row: of the dataset, from 0.
        """
        self.tab.value = "examples"
        if row not in [value for _, value in self.example.options]:
            self.example.options = [*self.example.options, (str(row), row)]
        self.example.value = row

    def _filter(self) -> None:
        if not self._filling:
            self._number = 1
            self._turn_page()

    def _turn_page(self) -> None:
        """List the examples of the current page."""
        if self.found is None:
            return
        self.page = self.found.page(self.query)
        texts = self.page.texts["example"]
        rows = [(f"{row}  {one_line(text, 60)}", int(row)) for row, text in zip(self.page.rows, texts, strict=True)]
        self._filling = True
        try:
            self.example.options = [_LIST, *rows]
            self.example.value = -1
        finally:
            self._filling = False
        self._draw()

    def _step(self, by: int) -> None:
        """Go to the example or page before or after the current one."""
        if self.found is None or self.page is None:
            return
        row = self.example.value
        if row < 0:
            last = max(1, -(-self.page.total // PER_PAGE))
            self._number = min(max(1, self._number + by), last)
            self._turn_page()
            return
        order = self.page.order.tolist()
        place = order.index(row) + by if row in order else 0
        if 0 <= place < len(order):
            self.show_example(order[place])

    # --- Drawing ---

    def _draw(self) -> None:
        if self._filling or self.found is None:
            return
        self._turn += 1
        found, tab, row, score = self.found, self.tab.value, self.example.value, self.score.value
        examples = tab == "examples"
        visible(self.filters, examples and row < 0)
        visible(self.way, examples)
        visible(self.sides, examples and row >= 0)
        if examples and row < 0:
            put(self.body, markup.example_list(found, found.page(self.query), None))
        elif examples:
            models, against = list(self.models.value), self.against.value
            put(self.body, markup.example_view(found, row, models, against, self.query, None))
        else:
            put(self.body, markup.first_look(found, score, tab))
            parts: dict[str, Callable[[Examined, str], Html]] = {
                "summary": markup.summary, "charts": _charts, "slices": markup.slices,
            }  # fmt: skip
            self._draw_later(partial(parts[tab], found, score))

    def _draw_later(self, work: Callable[[], Html]) -> None:
        turn = self._turn

        def run() -> None:
            try:
                body = work()
            except LumigatorError as error:
                body = alert(str(error))
            if turn == self._turn:
                put(self.body, body)

        threading.Thread(target=run, daemon=True).start()

    def __repr__(self) -> str:
        return f"Compare({self._experiment.name!r})"

    @property
    def otherwise(self) -> str:
        return f"call ws.compare({self._experiment.name!r})"

    def static(self) -> Html:
        # For a reader without a kernel, who sees only what is saved in the notebook: wait for the comparison.
        self._read()
        return markup.static(self.found.comparison) if self.found else _nothing(self._experiment)


def _charts(found: Examined, score: str) -> Html:
    return tag("div", *(markup.chart(found, score, kind) for kind in markup.CHARTS), class_="lm-charts")


def _nothing(experiment: Experiment) -> Html:
    code = tag("code", f"lm.ui.progress(ws, {experiment.name!r})")
    return empty("Nothing to compare yet", join(["At least one model must have succeeded. See the progress: ", code]))


def _dropdown(label: str, options: list[tuple[str, Any]] | tuple[()] = (), width: str = "220px") -> Dropdown:
    return Dropdown(description=label, options=options, layout=Layout(width=width))


def _line(*widgets: Any) -> HBox:
    return HBox(widgets, layout=Layout(flex_flow="row wrap"))
