"""What the widgets share: markup that is sent where it differs, fields below their labels, the style sheet."""

from __future__ import annotations

import ipywidgets
from ipywidgets import HTML, Button, HBox, Layout, VBox

from lumigator_nb.display.html import Html, tag
from lumigator_nb.presentation.markup import style

_STACKED = """
.lm-stacked.lm-stacked { flex-direction: column; align-items: stretch; height: auto; }
.lm-stacked.lm-stacked > .widget-label { width: auto; text-align: left; height: 22px; line-height: 22px; }
.lm-stacked.lm-stacked > :is(input, select, textarea) { width: 100%; flex: none; box-sizing: border-box; }
.lm-stacked.lm-stacked > select { min-height: var(--jp-widgets-inline-height); }
"""


def sheet() -> Html:
    """Return the style of a widget; sent once for all of its parts."""
    return Html(f"<style>{style()}{_STACKED}</style>")


def put(view: HTML, markup: Html | str) -> None:
    """Send markup where it differs, so that nothing flickers."""
    framed = str(tag("div", Html(markup), class_="lm")) if markup else ""
    if view.value != framed:
        view.value = framed


def heading(title: str) -> HTML:
    """Return the title of a part."""
    return HTML(str(tag("div", tag("h2", title), class_="lm")))


def alert(text: str | None) -> Html:
    """Return what is wrong, in words; nothing where nothing is."""
    return tag("div", text, class_="lm-error lm-text", role="alert") if text else Html("")


def labelled(label: str, field: ipywidgets.DOMWidget, *below: ipywidgets.Widget) -> VBox:
    """Return a field under its label."""
    # Real labels, for screen readers, above their fields: beside them they would be too narrow for words.
    field.description = label
    field.add_class("lm-stacked")
    return VBox([field, *below], layout=Layout(flex="1 1 14em", min_width="0", margin="0 16px 4px 0"))


def line(*widgets: ipywidgets.Widget) -> HBox:
    """Return fields of :func:`labelled`, and buttons, side by side; below each other where it is narrow."""
    for widget in widgets:
        if isinstance(widget, Button):
            widget.layout.margin = "24px 0 0"  # beside the fields, below their labels
    return HBox(widgets, layout=Layout(flex_flow="row wrap", align_items="flex-start"))


def visible(widget: ipywidgets.DOMWidget, wanted: bool) -> None:
    """Show a widget or take it away."""
    display = None if wanted else "none"
    if widget.layout.display != display:
        widget.layout.display = display
