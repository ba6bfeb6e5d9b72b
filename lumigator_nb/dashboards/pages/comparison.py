"""The comparison of an experiment: what it says, charts, examples side by side, slices, and reports to take along."""

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
from lumigator_nb.presentation.comparison import markup as shown
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
    """`?tab=` says which part, `?score=` of which score, `?example=` which example; filters stand there as well."""

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.record = context.ws.experiments.get(route.path[1])
        self.title = f"Comparison of {self.record.name}"
        self.found: Examined | None = None
        self._state: object = None
        self._turn = 0
        self._filling = False
        self._head, self._tabs, self._body = html(), html(), html()
        self.score = pmui.Select(label="Score", options=[], **_FIELD)
        self.score.param.watch(lambda event: self._choose(score=event.new), "value")
        self.filters = Filters(self._choose, self._search)
        self.sides = Sides(self._choose)
        self.reports = [self._report(label, ending) for label, ending in _REPORTS.items()]
        self.bar = pn.FlexBox(
            self.score, *self.filters.fields, *self.sides.fields, gap="16px", align_items="center",
            margin=(0, 0, 16, 0), sizing_mode="stretch_width", visible=False,
        )  # fmt: skip
        self.take = pn.FlexBox(*self.reports, gap="8px", margin=(24, 0, 0, 0), visible=False)
        self.layout = pn.Column(self._head, self._tabs, self.bar, self._body, self.take, sizing_mode="stretch_width")
        self._draw_head()
        self._read()

    # --- Reading it ---

    def _read(self) -> None:
        ws, record = self.context.ws, self.record
        if self.found is None:
            show(self._body, tag("p", "Reading answers and scores…", class_="lm-note", role="status"))

        def work() -> tuple[object, Examined | None]:
            return state_of(ws, record), examined(ws, record) if can_compare(ws, record) else None

        self.context.background(work, self._arrived, self._failed)

    def _arrived(self, read: tuple[object, Examined | None]) -> None:
        self._state, self.found = read
        if self.found is None:
            back = button(Route(("experiments", self.record.name)), "See how far they are")
            show(self._body, empty("Nothing to compare yet", "A model has to have succeeded first.", back))
            return
        self.take.visible = True
        self._draw()

    def _failed(self, error: Exception) -> None:
        again = button(Route(("experiments", self.record.name)), "To the experiment")
        show(self._body, empty("The comparison cannot be shown", in_words(error), again))

    def refresh(self) -> None:
        """Compare anew where a model has come, or its scores have."""
        ws, record = self.context.ws, self.context.ws.experiments.get(self.record.id)
        self.record = record

        def read(state: object) -> None:
            if state != self._state:
                self._read()

        self.context.background(partial(state_of, ws, record), read)

    def reroute(self, route: Route) -> bool:
        """Show another part, score or example."""
        self.route = route
        if self.found is not None:
            self._draw()
        return True

    # --- What a reader chooses ---

    def _choose(self, **query: str | None) -> None:
        if self._filling:
            return
        fresh = {} if "example" in self.route.query else {"page": None}
        route = self.route.with_(**{**fresh, **query})
        if route != self.route:
            self.context.go(route)

    def _search(self, text: str) -> None:
        """Show what is found while it is typed."""
        if self.found is not None and not self._filling:
            self.route = self.route.with_(search=text, page=None)
            self.context.replace(self.route)
            self._show_list(self.found, self.route)

    # --- What is shown ---

    def _draw_head(self) -> None:
        name = self.record.name
        back = Route(("experiments", name))
        way = [link(Route(("experiments",)), "Experiments"), link(back, name)]
        actions = [] if self.found is None else [button(Route(("launch",), {"experiment": name}), "Launch more models")]
        under = None if self.found is None else shown.title_of(self.found.comparison)
        show(self._head, join([crumbs(*way, "Comparison"), heading(name, *actions, under=under)]))

    def _draw(self) -> None:
        found, route = self.found, self.route
        assert found is not None
        self._draw_head()
        tab = self._tab()
        show(self._tabs, shown.tabs(route, tab))
        self._fill(found, tab)
        self._turn += 1
        if tab == "examples":
            self._show_examples(found)
        elif tab == "charts":
            self._show_charts(found, self._turn)
        else:
            score = self.score.value
            summary = partial(shown.summary, found, score, route)
            make = summary if tab == "summary" else partial(shown.slices, found, score)
            show(self._body, shown.first_look(found, score, tab))
            self._later(self._turn, make, partial(show, self._body))

    def _tab(self) -> str:
        query = self.route.query
        asked = query.get("tab", "examples" if "example" in query else "summary")
        return asked if asked in shown.TABS else "summary"

    def _fill(self, found: Examined, tab: str) -> None:
        """Show in the fields what the address says."""
        query, one = Query.of(self.route), "example" in self.route.query and tab == "examples"
        self._filling = True
        try:
            self.score.options = [info.name for info in found.comparison.scores]
            self.score.value = found.score(query.score)
            self.filters.show(found, query, visible=tab == "examples" and not one)
            self.sides.show(found, self.route, visible=one)
        finally:
            self._filling = False
        self.bar.visible = True

    def _show_examples(self, found: Examined) -> None:
        if "example" not in self.route.query:
            self._show_list(found, self.route)
            return
        row, route = self.route.number("example", least=0), self.route
        models, against = self.sides.chosen
        view = shown.example_view(found, row, models, against, Query.of(route), route)
        show(self._body, view)

    def _show_list(self, found: Examined, route: Route) -> None:
        show(self._body, shown.example_list(found, found.page(Query.of(route)), route))

    def _show_charts(self, found: Examined, turn: int) -> None:
        """Draw one after the other, so that the first is there at once."""
        kinds, score = list(shown.CHARTS), self.score.value
        done: list[Html] = []
        waiting = tag("p", "Drawing…", class_="lm-note", role="status")

        def drawn(chart: Html) -> None:
            done.append(chart)
            more = len(done) < len(kinds)
            show(self._body, join([tag("div", *done, class_="lm-charts"), waiting if more else ""]))
            if more:
                self._later(turn, partial(shown.chart, found, score, kinds[len(done)]), drawn)

        show(self._body, waiting)
        self._later(turn, partial(shown.chart, found, score, kinds[0]), drawn)

    def _later(self, turn: int, work: Callable[[], Html], then: Callable[[Html], None]) -> None:
        """Make something in a thread; it comes to nothing if the reader has gone on meanwhile."""

        def arrived(made: Html) -> None:
            if turn == self._turn:
                then(made)

        self.context.background(work, arrived, self._failed)

    # --- What a reader takes along ---

    def _report(self, label: str, ending: str) -> pmui.FileDownload:
        return pmui.FileDownload(
            label=label, filename=f"{self.record.name}{ending}", margin=0, size="small", auto=True,
            callback=partial(self._exported, ending), embed=False,
        )  # fmt: skip

    def _exported(self, ending: str) -> io.BytesIO | None:
        assert self.found is not None
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = self.found.comparison.export(Path(folder) / f"comparison{ending}")
                return io.BytesIO(path.read_bytes())
        except Exception as error:
            self.context.notify(in_words(error), "error")
            return None


class Filters:
    """What the list of examples is searched, ordered and narrowed by.

    Args:
        choose: called with what changes in the address.
        search: called with each letter.
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

    def show(self, found: Examined, query: Query, *, visible: bool) -> None:
        """Show what a query asks for."""
        for field in self.fields:
            field.visible = visible
        if not visible:
            return
        options = {"All": ""} | {
            f"{column}: {value}": slice_key(column, value)
            for column, values in found.columns.items()
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
    """Whose answers stand side by side, and what they are held against.

    Args:
        choose: called with what changes in the address.
    """

    def __init__(self, choose: Callable[..., None]) -> None:
        self.models = pmui.MultiChoice(
            label="Models", options=[], margin=0, sizing_mode="stretch_width", styles={"flex": "3 1 320px"}
        )
        self.against = pmui.Select(label="Held against", options=[], **_FIELD)
        self.models.param.watch(lambda event: choose(models=self._named(event.new)), "value")
        self.against.param.watch(lambda event: choose(against=event.new), "value")
        self.fields = (self.against, self.models)
        self._all: list[str] = []

    @property
    def chosen(self) -> tuple[list[str], str]:
        """Models in the order of the comparison, and the standard that they are held against."""
        models = set(self.models.value)
        return [model for model in self._all if model in models] or self._all, self.against.value

    def show(self, found: Examined, route: Route, *, visible: bool) -> None:
        """Show what an address asks for."""
        for field in self.fields:
            field.visible = visible
        if not visible:
            return
        self._all = list(found.comparison.models)
        standards = shown.standards(found)
        self.models.options = self._all
        self.models.value = shown.asked_models(self._all, route)
        self.against.options = standards
        asked = route.query.get("against", next(iter(standards.values())))
        self.against.value = asked if asked in standards.values() else shown.NOTHING

    def _named(self, models: list[str]) -> str | None:
        """Numbers in the address, since names of models may hold anything."""
        places = [str(self._all.index(model)) for model in models]
        return None if len(places) == len(self._all) else ",".join(places)
