"""Panel's building blocks, dressed as the rest of the project."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import panel as pn

from lumigator_nb.display.html import Html, tag
from lumigator_nb.presentation.markup import style


@cache
def sheet(name: str) -> str:
    """Return a style sheet that lies beside this module."""
    return (files("lumigator_nb.dashboards") / name).read_text(encoding="utf-8")


@cache
def stylesheet() -> str:
    """Return the style of every pane of the dashboard."""
    return style() + sheet("colours.css")


def html(markup: Html | str = "", **params: Any) -> pn.pane.HTML:
    """Return a pane that shows markup; redraw it with :func:`show`.

    Args:
        markup: built with :mod:`lumigator_nb.display.html`, so that users' texts are escaped.
        params: of the pane.
    """
    params = {"sizing_mode": "stretch_width", "margin": 0, **params}
    sheets = [stylesheet(), *params.pop("stylesheets", [])]
    return pn.pane.HTML(_framed(markup), stylesheets=sheets, sanitize_html=False, **params)


def show(pane: pn.pane.HTML, markup: Html | str) -> None:
    """Draw a pane of :func:`html` anew, where it differs from what it shows."""
    framed = _framed(markup)
    if pane.object != framed:
        pane.object = framed


def _framed(markup: Html | str) -> str:
    return str(tag("div", Html(markup), class_="lm")) if markup else ""
