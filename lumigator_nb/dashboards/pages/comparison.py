"""The comparison of an experiment: summary, charts, examples side by side, slices, and reports to download."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.presentation.comparison import markup
from lumigator_nb.presentation.comparison.view import (
    ONLY,
    SORTS,
    Examined,
    Query,
    can_compare,
    examined,
    slice_key,
    slice_of,
    state_of,
)
from lumigator_nb.presentation.markup import button, crumbs, empty, heading, link
from lumigator_nb.presentation.routes import Route

_REPORTS = {"Report": ".html", "Workbook": ".xlsx", "CSV": ".csv"}
_WIDE: dict[str, Any] = {
    "margin": 0,
    "sizing_mode": "stretch_width",
    "styles": {"flex": "1 1 168px", "min-width": "0", "max-width": "320px"},
}
_FIELD: dict[str, Any] = {**_WIDE, "size": "small"}


class ComparisonPage(Page):
    """The page. Its query holds the tab, the score, the example and the filters."""

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.record = context.ws.experiments.get(route.path[1])
        self.title = f"Comparison of {self.record.name}"
        self.examined: Examined | None = None
        self._state: object = None
        # Counts what was drawn, so that a chart that is ready late does not replace a newer one.
        self._turn = 0
        self._filling = False
        self._head, self._tabs, self._body = html(), html(), html()
        self.score = pmui.Select(label="Score", options=[], **_FIELD)
        self.score.param.watch(lambda event: self._choose(score=event.new), "value")
        self.filters = Filters(self._choose, self._search)
        self.sides = Sides(self._choose)
        self.reports = [
            pmui.FileDownload(
                label=label, filename=f"{self.record.name}{ending}", margin=0, size="small", auto=True,
                callback=partial(self._export, ending), embed=False,
            )
            for label, ending in _REPORTS.items()
        ]  # fmt: skip
        self.bar = pn.FlexBox(
            self.score, *self.filters.fields, *self.sides.fields, gap="16px", align_items="center",
            margin=(0, 0, 16, 0), sizing_mode="stretch_width", visible=False,
        )  # fmt: skip
        self._downloads = pn.FlexBox(*self.reports, gap="8px", margin=(24, 0, 0, 0), visible=False)
        self.layout = pn.Column(
            self._head, self._tabs, self.bar, self._body, self._downloads, sizing_mode="stretch_width"
        )
        self._draw_head()
        self._read()

    # --- Reading the comparison ---

    def _read(self) -> None:
        ws, record = self.context.ws, self.record
        if self.examined is None:
            show(self._body, tag("p", "Reading answers and scores…", class_="lm-note", role="status"))

        def work() -> tuple[object, Examined | None]:
            return state_of(ws, record), examined(ws, record) if can_compare(ws, record) else None

        def arrived(result: tuple[object, Examined | None]) -> None:
            self._state, self.examined = result
            if self.examined is None:
                back = button(Route(("experiments", record.name)), "See the progress")
                show(self._body, empty("Nothing to compare yet", "At least one model must have succeeded.", back))
                return
            self._downloads.visible = True
            self._draw()

        self.context.background(work, arrived, self._failed)

    def _failed(self, error: Exception) -> None:
        back = button(Route(("experiments", self.record.name)), "To the experiment")
        show(self._body, empty("The comparison cannot be shown", in_words(error), back))

    def refresh(self) -> None:
        """Compare again if a model or a score was added."""
        ws, record = self.context.ws, self.context.ws.experiments.get(self.record.id)
        self.record = record

        def read(state: object) -> None:
            if state != self._state:
                self._read()

        self.context.background(partial(state_of, ws, record), read)

    def reroute(self, route: Route) -> bool:
        """Show another part, score or example."""
        self.route = route
        if self.examined is not None:
            self._draw()
        return True

    # --- Choices of the user ---

    def _choose(self, **query: str | None) -> None:
        if self._filling:
            return
        # Other filters make another list, which begins at its first page. Beside one example the list stays.
        first_page = {} if "example" in self.route.query else {"page": None}
        route = self.route.with_(**{**first_page, **query})
        if route != self.route:
            self.context.go(route)

    def _search(self, text: str) -> None:
        """List the examples that match, while the user types."""
        if self.examined is not None and not self._filling:
            self.route = self.route.with_(search=text, page=None)
            self.context.replace(self.route)
            self._show_list(self.examined)

    # --- Drawing ---

    def _draw_head(self) -> None:
        name = self.record.name
        back = Route(("experiments", name))
        path = crumbs(link(Route(("experiments",)), "Experiments"), link(back, name), "Comparison")
        actions: list[Html] = []
        under: str | None = None
        if self.examined is not None:
            actions = [button(Route(("launch",), {"experiment": name}), "Launch more models")]
            under = markup.title_of(self.examined.comparison)
        show(self._head, join([path, heading(name, *actions, under=under)]))

    def _draw(self) -> None:
        examined, route = self.examined, self.route
        assert examined is not None
        self._draw_head()
        tab = route.query.get("tab", "examples" if "example" in route.query else "summary")
        if tab not in markup.TABS:
            tab = "summary"
        show(self._tabs, markup.tabs(route, tab))
        single = tab == "examples" and "example" in route.query
        query = Query.of(route)
        self._filling = True
        try:
            self.score.options = [info.name for info in examined.comparison.scores]
            self.score.value = examined.score(query.score)
            self.filters.show(examined, query, visible=tab == "examples" and not single)
            self.sides.show(examined, route, visible=single)
        finally:
            self._filling = False
        self.bar.visible = True
        self._turn += 1
        score = self.score.value
        if single:
            row = route.number("example", least=0)
            models, against = self.sides.chosen
            show(self._body, markup.example_view(examined, row, models, against, query, route))
        elif tab == "examples":
            self._show_list(examined)
        elif tab == "charts":
            self._show_charts(examined, score)
        else:
            show(self._body, markup.first_look(examined, score, tab))
            summary = partial(markup.summary, examined, score, route)
            work = summary if tab == "summary" else partial(markup.slices, examined, score)
            self._later(work, partial(show, self._body))

    def _show_list(self, examined: Examined) -> None:
        show(self._body, markup.example_list(examined, examined.page(Query.of(self.route)), self.route))

    def _show_charts(self, examined: Examined, score: str) -> None:
        """Draw one chart after the other, so that the first appears early."""
        kinds = list(markup.CHARTS)
        charts: list[Html] = []
        waiting = tag("p", "Drawing…", class_="lm-note", role="status")

        def drawn(chart: Html) -> None:
            charts.append(chart)
            more = len(charts) < len(kinds)
            show(self._body, join([tag("div", *charts, class_="lm-charts"), waiting if more else ""]))
            if more:
                self._later(partial(markup.chart, examined, score, kinds[len(charts)]), drawn)

        show(self._body, waiting)
        self._later(partial(markup.chart, examined, score, kinds[0]), drawn)

    def _later(self, work: Callable[[], Html], then: Callable[[Html], None]) -> None:
        """Do work in a thread; its result is dropped if something else is drawn in the meantime."""
        turn = self._turn

        def arrived(result: Html) -> None:
            if turn == self._turn:
                then(result)

        self.context.background(work, arrived, self._failed)

    def _export(self, ending: str) -> io.BytesIO | None:
        """Write a report for download."""
        assert self.examined is not None
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = self.examined.comparison.export(Path(folder) / f"comparison{ending}")
                return io.BytesIO(path.read_bytes())
        except Exception as error:
            self.context.notify(in_words(error), "error")
            return None


class Filters:
    """The fields that search, order and filter the list of examples.

    Args:
        choose: called with what changes in the route's query.
        search: called with the text, for each letter.
    """

    def __init__(self, choose: Callable[..., None], search: Callable[[str], None]) -> None:
        self.search = pmui.TextInput(label="Search texts", **_FIELD)
        self.sort = pmui.Select(label="Order", options={title: key for key, title in SORTS.items()}, **_FIELD)
        self.only = pmui.Select(label="Show", options={title: key for key, title in ONLY.items()}, value="", **_FIELD)
        self.slice = pmui.Select(label="Slice", options={"All": ""}, value="", **_FIELD)
        self.search.param.watch(lambda event: search(event.new), "value_input")
        self.sort.param.watch(lambda event: choose(sort=event.new if event.new != "-spread" else None), "value")
        self.only.param.watch(lambda event: choose(only=event.new), "value")
        self.slice.param.watch(lambda event: choose(**slice_of(event.new)), "value")
        self.fields = (self.search, self.sort, self.only, self.slice)

    def show(self, examined: Examined, query: Query, *, visible: bool) -> None:
        """Show the choices of a query."""
        for field in self.fields:
            field.visible = visible
        if not visible:
            return
        options = {"All": ""} | {
            f"{column}: {value}": slice_key(column, value)
            for column, values in examined.columns.items()
            for value in values
        }
        if self.slice.options != options:
            self.slice.options = options
        self.slice.visible = len(options) > 1
        chosen = slice_key(query.column, query.value)
        self.slice.value = chosen if chosen in options.values() else ""
        self.search.param.update(value=query.search, value_input=query.search)
        self.sort.value, self.only.value = query.sort, query.only


class Sides:
    """The fields of one example: the models side by side, and the text their answers are compared with.

    Args:
        choose: called with what changes in the route's query.
    """

    def __init__(self, choose: Callable[..., None]) -> None:
        self.models = pmui.MultiChoice(
            label="Models", options=[], margin=0, sizing_mode="stretch_width", styles={"flex": "3 1 320px"}
        )
        self.against = pmui.Select(label="Compared with", options=[], **_FIELD)

        def chosen(models: list[str]) -> None:
            # Positions in the address, since names of models may hold any character.
            positions = [str(self._all.index(model)) for model in models]
            choose(models=None if len(positions) == len(self._all) else ",".join(positions))

        self.models.param.watch(lambda event: chosen(event.new), "value")
        self.against.param.watch(lambda event: choose(against=event.new), "value")
        self.fields = (self.against, self.models)
        self._all: list[str] = []

    @property
    def chosen(self) -> tuple[list[str], str]:
        """Models in the order of the comparison, and the key of the text that their answers are compared with."""
        models = set(self.models.value)
        return [model for model in self._all if model in models] or self._all, self.against.value

    def show(self, examined: Examined, route: Route, *, visible: bool) -> None:
        """Show the choices of a route."""
        for field in self.fields:
            field.visible = visible
        if not visible:
            return
        self._all = list(examined.comparison.models)
        standards = markup.standards(examined)
        self.models.options = self._all
        self.models.value = markup.chosen_models(self._all, route)
        self.against.options = standards
        against = route.query.get("against", next(iter(standards.values())))
        self.against.value = against if against in standards.values() else markup.NOTHING
