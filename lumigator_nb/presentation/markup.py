"""Markup that all screens share: links, lists that page and sort, tiles, empty states."""

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
    """Return the style sheet of the screens: what all displays share, and what lists and forms add."""
    own = (files("lumigator_nb.presentation") / "screens.css").read_text(encoding="utf-8")
    return stylesheet() + "\n" + "\n".join(line.strip() for line in own.splitlines() if line.strip())


def link(route: Route, *children: object, **attributes: object) -> Html:
    """Return a link to a place of the dashboard."""
    # Browsers pass over the space; Panel takes what begins with # for an element to scroll to.
    return tag("a", *children, href=f" {route}", **attributes)


def button(route: Route, text: str, *, primary: bool = False) -> Html:
    """Return a link that looks like a button."""
    return link(route, text, class_="lm-button lm-primary" if primary else "lm-button")


def empty(title: str, text: object, *actions: Html) -> Html:
    """Return what stands where there is nothing yet: what belongs here, and how to get it."""
    below = tag("div", *actions, class_="lm-actions") if actions else None
    return tag("div", tag("div", title, class_="lm-title"), tag("p", text), below, class_="lm-empty")


def heading(title: object, *beside: object, under: object = None) -> Html:
    """Return the title of a page, what stands at its right, and a line below it."""
    right = tag("div", *beside, class_="lm-actions") if beside else None
    first = tag("div", tag("h1", title), right, class_="lm-head")
    return join([first, tag("div", under, class_="lm-soft") if under else ""])


def crumbs(*steps: object) -> Html:
    """Return the way to a page, from the list down."""
    return tag("nav", join(steps, Html(' <span aria-hidden="true">›</span> ')), class_="lm-crumbs", aria_label="Path")


def tiles(facts: Iterable[tuple[str, object]]) -> Html:
    """Return figures side by side, each over its label."""
    return tag(
        "dl",
        *(tag("div", tag("dt", label), tag("dd", value), class_="lm-tile") for label, value in facts),
        class_="lm-tiles",
    )


def sortable(route: Route, key: str, title: str, *, default: str = "") -> Html:
    """Return the header of a column that sorts by it, in the route's query as `sort`; `-key` is descending.

    Args:
        default: the order where the query names none, such as "-created".
    """
    current = route.query.get("sort", default)
    arrow, other = {key: (" ↑", f"-{key}"), f"-{key}": (" ↓", key)}.get(current, ("", key))
    return link(route.with_(sort=other, page=None), title, arrow, class_="lm-sort")


def pager(route: Route, page: int, per_page: int, total: int, noun: str = "item") -> Html:
    """Return which of how many items are shown, with links to the pages around; nothing of a list of one page.

    Args:
        page: from 1.
        noun: what is listed, in the singular.
    """
    pages = max(1, math.ceil(total / per_page))
    if pages == 1:
        return tag("div", count(total, noun), class_="lm-pager") if total else Html("")
    first = (page - 1) * per_page + 1
    shown = f"{first:,}–{min(page * per_page, total):,} of {count(total, noun)}"
    links = [_page(route, number, page) for number in _around(page, pages)]
    return tag("nav", tag("span", shown), tag("span", *links, class_="lm-pages"), class_="lm-pager", aria_label="Pages")


def _page(route: Route, number: int | None, current: int) -> Html:
    if number is None:
        return tag("span", "…")
    if number == current:
        return tag("b", f"{number:,}", aria_current="page")
    return link(route.with_(page=number if number > 1 else None), f"{number:,}", aria_label=f"Page {number}")


def _around(page: int, pages: int) -> list[int | None]:
    wanted = sorted({1, 2, page - 1, page, page + 1, pages} & set(range(1, pages + 1)))
    found: list[int | None] = []
    for number in wanted:
        if found and number - (found[-1] or 0) > 1:
            found.append(None)
        found.append(number)
    return found


def listing(headers: Sequence[object], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Html:
    """Return a list whose rows become cards where the page is narrow; the first cell names the row."""

    def cells(row: Sequence[object]) -> Iterable[Html]:
        for index, (header, cell) in enumerate(zip(headers, row, strict=True)):
            label = None if index == 0 else tag("span", header, class_="lm-label")
            yield tag("td", label, cell, class_="lm-n" if index in numeric else None)

    head = tag("tr", *(tag("th", each, scope="col", class_="lm-n" if index in numeric else None)
                       for index, each in enumerate(headers)))  # fmt: skip
    body = tag("tbody", *(tag("tr", *cells(row)) for row in rows))
    return tag("table", tag("thead", head), body, class_="lm-grid lm-list")
