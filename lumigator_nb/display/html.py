"""Building blocks of HTML: everything is escaped that was not built here; no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib.resources import files

from lumigator_nb.display.text import one_line, plain
from lumigator_nb.specs import Status

CLIP = 220
_DOTS = {Status.SUCCEEDED: "good", Status.FAILED: "bad", Status.STOPPED: "bad", Status.RUNNING: "busy"}


class Html(str):
    """Text that is markup already; any other text is escaped when it becomes part of a page."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return the value as markup that shows it."""
    return value if isinstance(value, Html) else Html(html.escape(plain(value)))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Put parts one after the other."""
    return Html(escape(separator).join(escape(part) for part in parts))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: of the element, never from a user.
        children: texts, which are escaped, and :class:`Html`; None is left out.
        attributes: `_` at the end of a name is dropped (``class_``), inside it becomes ``-``; None leaves one out,
            True writes only its name.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    return Html(f"<{name}{written}>{join(child for child in children if child is not None)}</{name}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'


@cache
def stylesheet(name: str = "style.css") -> str:
    """Return one of the style sheets beside this module, without its indentation."""
    text = (files("lumigator_nb.display") / name).read_text(encoding="utf-8")
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def fragment(*children: object) -> str:
    """Return what a notebook shows: the children with the style that they need."""
    return str(tag("div", Html(f"<style>{stylesheet()}</style>"), *children, class_="lm"))


def page(title: str, *children: object) -> str:
    """Return a whole document that needs no other file and follows the reader's light or dark preference."""
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        Html(f"<style>{stylesheet()}\n{stylesheet('report.css')}</style>"),
    )
    body = tag("body", tag("main", *children, class_="lm"))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def card(title: object, rows: Iterable[tuple[object, object]], footer: object | None = None) -> Html:
    """Return a titled list of facts.

    Args:
        title: the heading.
        rows: label and value; both are escaped unless they are :class:`Html`.
        footer: shown below the facts.
    """
    facts = [tag("tr", tag("th", label, scope="row"), tag("td", value)) for label, value in rows]
    below = None if footer is None else tag("div", footer, class_="lm-foot")
    body = tag("table", tag("tbody", *facts), class_="lm-facts")
    return tag("div", tag("div", title, class_="lm-title"), body, below, class_="lm-card")


def table(headers: Sequence[object], rows: Iterable[Sequence[object]], *, numeric: Collection[int] = ()) -> Html:
    """Return a table that scrolls sideways where the page is too narrow.

    Args:
        headers: one cell per column.
        rows: as many cells each.
        numeric: columns, from 0, that are aligned right with figures of equal width.
    """

    def line(cells: Sequence[object], kind: str) -> Html:
        return tag(
            "tr", *(tag(kind, cell, class_="lm-n" if index in numeric else None) for index, cell in enumerate(cells))
        )

    head = tag("thead", line(headers, "th"))
    body = tag("tbody", *(line(row, "td") for row in rows))
    return tag("div", tag("table", head, body, class_="lm-grid"), class_="lm-scroll")


def clipped(value: object, limit: int = CLIP) -> Html:
    """Return a text with its line breaks; a long one shows its beginning and unfolds on a click."""
    text = plain(value)
    if len(text) <= limit and text.count("\n") < 6:
        return tag("div", text, class_="lm-text")
    opener = tag("span", one_line(text, limit), class_="lm-more")
    closer = tag("span", "show less", class_="lm-less")
    return tag("details", tag("summary", opener, closer), tag("div", text, class_="lm-text"), class_="lm-clip")


def name(label: str) -> Html:
    """Return a model's name, which may break after a slash or an underscore before it breaks inside a word."""
    return Html(re.sub("([/_])", r"\1<wbr>", escape(label)))


def unfolding(summary: object, *children: object, open_: bool = False) -> Html:
    """Return children that unfold on a click on `summary`."""
    return tag("details", tag("summary", summary), *children, open=open_, class_="lm-fold")


def chip(text: object, kind: str = "") -> Html:
    """Return a short state with a coloured dot; `kind` is "good", "bad", "busy" or nothing."""
    return tag("span", text, class_=f"lm-chip lm-{kind}" if kind else "lm-chip")


def status_chip(status: Status, text: str | None = None) -> Html:
    """Return a status, or `text` in its place, with the dot of that status."""
    return chip(text or status, _DOTS.get(status, ""))
