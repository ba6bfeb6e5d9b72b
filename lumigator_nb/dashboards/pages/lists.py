"""The frame of the pages that list something: fields above a list, and what they hold in the route's query."""

from __future__ import annotations

from functools import partial
from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html
from lumigator_nb.dashboards.shell import Context, Page
from lumigator_nb.display.html import Html
from lumigator_nb.presentation.progress.markup import word
from lumigator_nb.presentation.routes import Route
from lumigator_nb.specs import Status

_STATUSES = {"Any status": "", **{word(status).capitalize(): str(status) for status in Status}}


class ListPage(Page):
    """A list that is searched, filtered and paged by the route's query.

    A subclass reads the list in :meth:`_read`, draws it in :meth:`_draw`, and calls :meth:`_lay_out` once.
    """

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self._list = html()

    def _read(self, route: Route) -> Any:
        """Return what the list shows at a route; may run in a thread, so it must not touch the page."""
        raise NotImplementedError

    def _draw(self, view: Any) -> None:
        """Show what :meth:`_read` returned."""
        raise NotImplementedError

    def _lay_out(self, head: Html, **fields: Any) -> None:
        """Put the fields between the heading and the list, and draw all of it.

        Args:
            head: heading of the page.
            fields: widgets by their key in the query. A text field searches while the user types, a select chooses
                one of its options, and a switch is on while the key is present.
        """
        self._fields = fields
        self._fill()
        for key, field in fields.items():
            if isinstance(field, pmui.TextInput):
                field.param.watch(partial(self._search, key), "value_input")
            else:
                field.param.watch(partial(self._choose, key), "value")
        self._filters = pn.FlexBox(
            *fields.values(), gap="16px", align_items="center", margin=(16, 0, 8, 0), sizing_mode="stretch_width"
        )
        self.layout = pn.Column(html(head), self._filters, self._list, sizing_mode="stretch_width")
        self._draw(self._read(self.route))

    def _fill(self) -> None:
        for key, field in self._fields.items():
            value = self._value(key)
            if isinstance(field, pmui.TextInput):
                field.param.update(value=value, value_input=value)
            else:
                field.value = value

    def _value(self, key: str) -> str | bool:
        """Return what a field should hold at the current route; an option that does not exist counts as none."""
        field = self._fields[key]
        if isinstance(field, pmui.Switch):
            return key in self.route.query
        text = self.route.query.get(key, "")
        return text if isinstance(field, pmui.TextInput) or text in field.options.values() else ""

    def _search(self, key: str, event: Any) -> None:
        if event.new == self._value(key):
            return
        # Replaced rather than opened: each letter would otherwise become a step of the browser's history.
        self.route = self.route.with_(page=None, **{key: event.new})
        self.context.replace(self.route)
        self._draw(self._read(self.route))

    def _choose(self, key: str, event: Any) -> None:
        # :meth:`_fill` sets fields too. Only a value that differs from the route's is a choice of the user.
        if event.new != self._value(key):
            value = "1" if event.new is True else event.new or None
            self.context.go(self.route.with_(page=None, **{key: value}))

    def refresh(self) -> None:
        """Draw what has changed."""
        route = self.route

        def arrived(view: Any) -> None:
            # The user may have searched for something else in the meantime.
            if route == self.route:
                self._draw(view)

        self.context.background(partial(self._read, route), arrived)

    def reroute(self, route: Route) -> bool:
        """Show other choices."""
        self.route = route
        self._fill()
        self._draw(self._read(route))
        return True


def search_field(label: str = "Search by name") -> pmui.TextInput:
    """Return the text field of a list that searches while the user types."""
    return pmui.TextInput(label=label, width=260, margin=0)


def status_filter() -> pmui.Select:
    """Return a field that chooses a status, or none."""
    return pmui.Select(label="Status", options=_STATUSES, value="", width=180, margin=0)


def archived_switch() -> pmui.Switch:
    """Return a switch that includes what was archived."""
    return pmui.Switch(label="Show archived", margin=(8, 0))
