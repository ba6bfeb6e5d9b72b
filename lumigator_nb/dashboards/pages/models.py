"""The catalogue of models: what there is, and what each still needs."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.shell import Context, Page
from lumigator_nb.display.html import tag
from lumigator_nb.presentation.launch import models as shown
from lumigator_nb.presentation.markup import button, heading
from lumigator_nb.presentation.routes import Route

_UNDER = (
    "Any other model works too, by the name provider/name. Models of your own: models.yaml in the workspace's home."
)

_FIELD: dict[str, Any] = {
    "margin": 0,
    "sizing_mode": "stretch_width",
    "styles": {"flex": "1 1 140px", "max-width": "280px"},
}


class ModelsPage(Page):
    """The list: search, filters, order and page stand in the route's query."""

    title = "Models"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self._models = shown.catalogue(context.ws)
        self.search = pmui.TextInput(label="Search", value=route.query.get("search", ""), **_FIELD)
        labels = {"task": "Task", "provider": "Provider", "size": "Size"}
        self.choices = {
            name: pmui.Select(label=labels[name], options=options, value=_chosen(route, name, options), **_FIELD)
            for name, options in shown.choices(self._models).items()
        }
        self.usable = pmui.Switch(label="Ready to launch", value="usable" in route.query, margin=(8, 0))
        self.search.param.watch(lambda event: self._searched(event.new), "value_input")
        for name, select in self.choices.items():
            select.param.watch(lambda event, name=name: self._go(**{name: event.new}), "value")
        self.usable.param.watch(lambda event: self._go(usable="1" if event.new else None), "value")
        self._list = html()
        filters = pn.FlexBox(
            self.search,
            *self.choices.values(),
            self.usable,
            gap="16px",
            align_items="center",
            margin=(16, 0, 8, 0),
            sizing_mode="stretch_width",
        )
        launch = button(Route(("launch",)), "Compare models", primary=True)
        self.layout = pn.Column(
            html(heading("Models", launch, under=tag("span", _UNDER))), filters, self._list, sizing_mode="stretch_width"
        )
        self._draw(route)

    def _with(self, **query: str | None) -> Route:
        return self.route.with_(page=None, **query)

    def _go(self, **query: str | None) -> None:
        route = self._with(**query)
        if route != self.route:
            self.context.go(route)

    def _searched(self, text: str) -> None:
        if text != self.route.query.get("search", ""):
            self.route = self._with(search=text)
            self.context.replace(self.route)
            self._draw(self.route)

    def _draw(self, route: Route) -> None:
        show(self._list, shown.models_list(shown.Filter.of(route)(self._models), route))

    def refresh(self) -> None:
        """Draw what has changed: a key that was set makes its models ready."""
        self.context.background(lambda: shown.catalogue(self.context.ws), self._arrived)

    def _arrived(self, models: tuple[shown.ModelView, ...]) -> None:
        if models != self._models:
            self._models = models
            self._draw(self.route)

    def reroute(self, route: Route) -> bool:
        """Show other choices."""
        self.route = route
        searched = route.query.get("search", "")
        self.search.param.update(value=searched, value_input=searched)
        for name, select in self.choices.items():
            select.value = _chosen(route, name, select.options)
        self.usable.value = "usable" in route.query
        self._draw(route)
        return True


def _chosen(route: Route, name: str, options: dict[str, str]) -> str:
    wanted = route.query.get(name, "")
    return wanted if wanted in options.values() else ""
