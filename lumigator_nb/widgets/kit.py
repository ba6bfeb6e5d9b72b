"""What the widgets share: a static form, markup, labelled fields, and the style sheet."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import ipywidgets
from ipywidgets import HTML, Button, HBox, Layout, VBox

from lumigator_nb.display.html import Html, tag
from lumigator_nb.display.place import Place, place
from lumigator_nb.display.progress import say
from lumigator_nb.presentation.markup import style

# ipywidgets puts a label beside its field, which leaves too little room for words.
_STACKED = """
.lm-stacked.lm-stacked { flex-direction: column; align-items: stretch; height: auto; }
.lm-stacked.lm-stacked > .widget-label { width: auto; text-align: left; height: 22px; line-height: 22px; }
.lm-stacked.lm-stacked > :is(input, select, textarea) { width: 100%; flex: none; box-sizing: border-box; }
.lm-stacked.lm-stacked > select { min-height: var(--jp-widgets-inline-height); }
"""

_VIEW = "application/vnd.jupyter.widget-view+json"


class CellWidget(VBox):  # type: ignore[misc]
    """A widget of ``lm.ui``. Where it cannot be shown, its state and what to do instead are shown.

    Front ends of Jupyter without widgets, and saved notebooks, show the text or HTML of the MIME bundle; marimo asks
    for `_mime_`.
    """

    in_dashboard = True

    @property
    def otherwise(self) -> str:
        """The call or command that does the same as the widget: "call ws.compare('mails')"."""
        raise NotImplementedError

    def static(self) -> Html:
        """Return the state of the widget, for a reader without a kernel."""
        raise NotImplementedError

    @property
    def instead(self) -> str:
        """What to do where the widget cannot be shown, in one sentence."""
        here = place()
        # The dashboard of a Colab machine cannot be reached.
        dashboard = self.in_dashboard and here is not Place.COLAB
        ways = ["open the dashboard with lumigator-nb dashboard"] if dashboard else []
        if here is Place.NOTEBOOK:
            *first, last = ["run it again", *ways, self.otherwise]
            return f"This is the state when the cell ran; to go on, {', '.join(first)} or {last}."
        return f"No widget can be shown here: {' or '.join([*ways, self.otherwise])}."

    def _static_page(self) -> str:
        note = tag("div", self.instead, class_="lm-note")
        return str(tag("div", sheet(), self.static(), note, class_="lm"))

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        if place() is Place.COLAB:
            bundle.pop(_VIEW, None)
        return {**bundle, "text/html": self._static_page(), "text/plain": f"{self!r}\n{self.instead}"}

    def _mime_(self) -> tuple[str, str]:
        return "text/html", self._static_page()


class Instead(Protocol):
    """What has a sentence for where it cannot be shown."""

    @property
    def instead(self) -> str:
        """What to do, in one sentence."""
        ...


T = TypeVar("T", bound=Instead)


def with_hint(widget: T) -> T:
    """Return a widget. Scripts and Python's own prompt cannot show it, so there its sentence is printed."""
    if place() is Place.PYTHON:
        say(widget.instead)
    return widget


def sheet() -> Html:
    """Return the style sheet of a widget. It is sent once and applies to all parts of the widget."""
    return Html(f"<style>{style()}{_STACKED}</style>")


def put(view: HTML, markup: Html | str) -> None:
    """Change markup, and send it only if it differs, so that nothing flickers and unfolded parts stay open."""
    framed = str(tag("div", Html(markup), class_="lm")) if markup else ""
    if view.value != framed:
        view.value = framed


def heading(title: str) -> HTML:
    """Return the title of a section."""
    return HTML(str(tag("div", tag("h2", title), class_="lm")))


def alert(text: str | None) -> Html:
    """Return an error that a screen reader announces; nothing without a text."""
    return tag("div", text, class_="lm-error lm-text", role="alert") if text else Html("")


def labelled(label: str, field: ipywidgets.DOMWidget, *below: ipywidgets.Widget) -> VBox:
    """Return a field under its label."""
    # The field's own description, so that screen readers connect the two.
    field.description = label
    field.add_class("lm-stacked")
    return VBox([field, *below], layout=Layout(flex="1 1 14em", min_width="0", margin="0 16px 4px 0"))


def line(*widgets: ipywidgets.Widget) -> HBox:
    """Return fields of :func:`labelled` and buttons side by side, or below each other in a narrow cell."""
    for widget in widgets:
        if isinstance(widget, Button):
            widget.layout.margin = "24px 0 0"  # beside the fields, below their labels
    return HBox(widgets, layout=Layout(flex_flow="row wrap", align_items="flex-start"))


def visible(widget: ipywidgets.DOMWidget, show: bool) -> None:
    """Show or hide a widget."""
    display = None if show else "none"
    if widget.layout.display != display:
        widget.layout.display = display
