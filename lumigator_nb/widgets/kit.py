"""What the widgets share: markup, labelled fields, and the style sheet."""

from __future__ import annotations

import ipywidgets
from ipywidgets import HTML, Button, HBox, Layout, VBox

from lumigator_nb.display.html import Html, tag
from lumigator_nb.presentation.markup import style

# ipywidgets puts a label beside its field, which leaves too little room for words.
_STACKED = """
.lm-stacked.lm-stacked { flex-direction: column; align-items: stretch; height: auto; }
.lm-stacked.lm-stacked > .widget-label { width: auto; text-align: left; height: 22px; line-height: 22px; }
.lm-stacked.lm-stacked > :is(input, select, textarea) { width: 100%; flex: none; box-sizing: border-box; }
.lm-stacked.lm-stacked > select { min-height: var(--jp-widgets-inline-height); }
"""


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
