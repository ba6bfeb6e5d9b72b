"""Panel panes that show markup in the project's style."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import panel as pn

from lumigator_nb.display.html import Html, tag
from lumigator_nb.presentation.markup import style


@cache
def sheet(name: str) -> str:
    """Return a file beside this module: a style sheet or a script."""
    return (files("lumigator_nb.dashboards") / name).read_text(encoding="utf-8")


@cache
def stylesheet() -> str:
    """Return the style of every pane of the dashboard."""
    return style() + sheet("colours.css")


def html(markup: Html | str = "", **params: Any) -> pn.pane.HTML:
    """Return a pane that shows markup; :func:`show` changes it.

    Args:
        markup: built with :mod:`lumigator_nb.display.html`, so that texts of users are escaped.
        params: of the pane.
    """
    params = {"sizing_mode": "stretch_width", "margin": 0, **params}
    sheets = [stylesheet(), *params.pop("stylesheets", [])]
    return pn.pane.HTML(_framed(markup), stylesheets=sheets, sanitize_html=False, **params)


def show(pane: pn.pane.HTML, markup: Html | str) -> None:
    """Change the markup of a pane of :func:`html`."""
    # Nothing is sent to the browser where nothing differs, so that a selection or an open detail stays.
    framed = _framed(markup)
    if pane.object != framed:
        pane.object = framed


def _framed(markup: Html | str) -> str:
    return str(tag("div", Html(markup), class_="lm")) if markup else ""
