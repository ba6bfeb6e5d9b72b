"""Markup that all screens share: links, lists with pages and sorting, tiles, and empty states."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from lumigator_nb.display.html import Html, join, stylesheet, tag
from lumigator_nb.display.text import count
from lumigator_nb.presentation.routes import Route

PER_PAGE = 25


@cache
def style() -> str:
    """Return the style sheet of the screens: that of all displays, and rules for lists and forms."""
    own = (files("lumigator_nb.presentation") / "screens.css").read_text(encoding="utf-8")
    return stylesheet() + "\n" + "\n".join(line.strip() for line in own.splitlines() if line.strip())


def link(route: Route, *children: object, **attributes: object) -> Html:
    """Return a link to a page of the dashboard."""
    # Panel scrolls to an element if the address begins with #. The space prevents that, and browsers ignore it.
    return tag("a", *children, href=f" {route}", **attributes)


def button(route: Route, text: str, *, primary: bool = False) -> Html:
    """Return a link that looks like a button."""
    return link(route, text, class_="lm-button lm-primary" if primary else "lm-button")


def empty(title: str, text: object, *actions: Html) -> Html:
    """Return an empty state: what would be listed here, and links to create it."""
    below = tag("div", *actions, class_="lm-actions") if actions else None
    return tag("div", tag("div", title, class_="lm-title"), tag("p", text), below, class_="lm-empty")


def heading(title: object, *beside: object, under: object = None) -> Html:
    """Return the title of a page, with buttons at its right and a line below it."""
    right = tag("div", *beside, class_="lm-actions") if beside else None
    first = tag("div", tag("h1", title), right, class_="lm-head")
    return join([first, tag("div", under, class_="lm-soft") if under else ""])


def crumbs(*steps: object) -> Html:
    """Return the path to a page, from the list down."""
    return tag("nav", join(steps, Html(' <span aria-hidden="true">›</span> ')), class_="lm-crumbs", aria_label="Path")


def tiles(facts: Iterable[tuple[str, object]]) -> Html:
    """Return labelled figures side by side."""
    return tag(
        "dl",
        *(tag("div", tag("dt", label), tag("dd", value), class_="lm-tile") for label, value in facts),
        class_="lm-tiles",
    )


def sortable(route: Route, key: str, title: str, *, default: str = "") -> Html:
    """Return a column header that sorts by its column: `sort` in the route's query is `key`, or `-key` if descending.

    Args:
        default: the order if the query names none, such as "-created".
    """
    current = route.query.get("sort", default)
    arrow, other = {key: (" ↑", f"-{key}"), f"-{key}": (" ↓", key)}.get(current, ("", key))
    return link(route.with_(sort=other, page=None), title, arrow, class_="lm-sort")


def pager(route: Route, page: int, per_page: int, total: int, noun: str = "item") -> Html:
    """Return "1–25 of 60 items" with links to other pages; only the number of items if one page holds them all.

    Args:
        page: from 1.
        noun: name of one item.
    """
    pages = max(1, math.ceil(total / per_page))
    if pages == 1:
        return tag("div", count(total, noun), class_="lm-pager") if total else Html("")
    first = (page - 1) * per_page + 1
    extent = f"{first:,}–{min(page * per_page, total):,} of {count(total, noun)}"
    links = []
    before = 0
    for number in sorted({1, 2, page - 1, page, page + 1, pages} & set(range(1, pages + 1))):
        if number > before + 1:
            links.append(tag("span", "…"))
        if number == page:
            links.append(tag("b", f"{number:,}", aria_current="page"))
        else:
            place = route.with_(page=number if number > 1 else None)
            links.append(link(place, f"{number:,}", aria_label=f"Page {number}"))
        before = number
    return tag(
        "nav", tag("span", extent), tag("span", *links, class_="lm-pages"), class_="lm-pager", aria_label="Pages"
    )


def listing(headers: Sequence[object], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Html:
    """Return a list whose rows become cards on a narrow page. The first cell names the row."""

    def cells(row: Sequence[object]) -> Iterable[Html]:
        for index, (header, cell) in enumerate(zip(headers, row, strict=True)):
            # On cards, which have no header row, each cell needs its own label.
            label = None if index == 0 else tag("span", header, class_="lm-label")
            yield tag("td", label, cell, class_="lm-n" if index in numeric else None)

    head = tag("tr", *(tag("th", header, scope="col", class_="lm-n" if index in numeric else None)
                       for index, header in enumerate(headers)))  # fmt: skip
    body = tag("tbody", *(tag("tr", *cells(row)) for row in rows))
    return tag("table", tag("thead", head), body, class_="lm-grid lm-list")
