"""The catalogue of models, with what each one still needs before it can be launched."""

from __future__ import annotations

from typing import Any

import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import show
from lumigator_nb.dashboards.pages.lists import ListPage
from lumigator_nb.dashboards.shell import Context
from lumigator_nb.display.html import Html, tag
from lumigator_nb.presentation.launch import models as catalogue
from lumigator_nb.presentation.markup import button, heading
from lumigator_nb.presentation.routes import Route

_UNDER = (
    "Any other model works too, by its name provider/name. "
    "To add your own models to this list, put them into models.yaml in the workspace's home."
)
_FIELD: dict[str, Any] = {
    "margin": 0,
    "sizing_mode": "stretch_width",
    "styles": {"flex": "1 1 140px", "max-width": "280px"},
}


class ModelsPage(ListPage):
    """The list. The route's query holds search, filters, order and page."""

    title = "Models"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        # Read once and not for each letter of a search: prices are looked up for all models.
        self._models = catalogue.catalogue(context.ws)
        self.search = pmui.TextInput(label="Search", **_FIELD)
        labels = {"task": "Task", "provider": "Provider", "size": "Size"}
        self.choices = {
            name: pmui.Select(label=labels[name], options=options, value="", **_FIELD)
            for name, options in catalogue.choices(self._models).items()
        }
        self.usable = pmui.Switch(label="Ready to launch", margin=(8, 0))
        launch = button(Route(("launch",)), "Compare models", primary=True)
        head = heading("Models", launch, under=tag("span", _UNDER))
        self._lay_out(head, search=self.search, **self.choices, usable=self.usable)

    def _read(self, route: Route) -> Html:
        return catalogue.models_list(catalogue.Filter.of(route)(self._models), route)

    def _draw(self, view: Html) -> None:
        show(self._list, view)

    def refresh(self) -> None:
        """Draw what has changed: a key that was set makes its models ready."""

        def arrived(models: tuple[catalogue.ModelView, ...]) -> None:
            if models != self._models:
                self._models = models
                self._draw(self._read(self.route))

        self.context.background(lambda: catalogue.catalogue(self.context.ws), arrived)
