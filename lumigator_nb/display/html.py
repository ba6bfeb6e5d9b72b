"""Building blocks of HTML without scripts and external resources. All text is escaped, except :class:`Html`."""

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
    """Text that is markup. Any other text is escaped when it becomes part of a page."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return a value as markup; :class:`Html` is returned unchanged."""
    return value if isinstance(value, Html) else Html(html.escape(plain(value)))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Concatenate parts, each escaped unless it is :class:`Html`."""
    return Html(escape(separator).join(escape(part) for part in parts))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: the element's name. It is not escaped, so it must never come from a user.
        children: texts, which are escaped, and :class:`Html`; None is skipped.
        attributes: attributes by name. A trailing `_` of a name is removed (``class_``), others become ``-``. None
            and False omit the attribute, and True writes only its name.
    """
    written = []
    for key, value in attributes.items():
        if value is not None and value is not False:  # 0 is a value
            attribute = key.rstrip("_").replace("_", "-")
            written.append(f" {attribute}" if value is True else f' {attribute}="{escape(value)}"')
    content = join(child for child in children if child is not None)
    return Html(f"<{name}{''.join(written)}>{content}</{name}>")


# Cached: a notebook asks for it with each output.
@cache
def stylesheet(name: str = "style.css") -> str:
    """Return one of the style sheets beside this module, without its indentation."""
    text = (files("lumigator_nb.display") / name).read_text(encoding="utf-8")
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def fragment(*children: object) -> str:
    """Return the children for a notebook, with their style sheet: each output is shown by itself."""
    return str(tag("div", Html(f"<style>{stylesheet()}</style>"), *children, class_="lm"))


def page(title: str, *children: object) -> str:
    """Return a self-contained document that follows the reader's preference for light or dark."""
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
        rows: pairs of label and value, each escaped unless it is :class:`Html`.
        footer: text below the facts.
    """
    facts = [tag("tr", tag("th", label, scope="row"), tag("td", value)) for label, value in rows]
    below = None if footer is None else tag("div", footer, class_="lm-foot")
    body = tag("table", tag("tbody", *facts), class_="lm-facts")
    return tag("div", tag("div", title, class_="lm-title"), body, below, class_="lm-card")


def table(headers: Sequence[object], rows: Iterable[Sequence[object]], *, numeric: Collection[int] = ()) -> Html:
    """Return a table that scrolls horizontally if the page is too narrow.

    Args:
        headers: one cell per column.
        rows: rows with one cell per column.
        numeric: indices of columns to align right, with digits of equal width.
    """

    def line(cells: Sequence[object], kind: str) -> Html:
        return tag(
            "tr", *(tag(kind, cell, class_="lm-n" if index in numeric else None) for index, cell in enumerate(cells))
        )

    head = tag("thead", line(headers, "th"))
    body = tag("tbody", *(line(row, "td") for row in rows))
    return tag("div", tag("table", head, body, class_="lm-grid"), class_="lm-scroll")


def clipped(value: object, limit: int = CLIP) -> Html:
    """Return a text with its line breaks. A long text is shortened, and expands on a click."""
    text = plain(value)
    if len(text) <= limit and text.count("\n") < 6:
        return tag("div", text, class_="lm-text")
    opener = tag("span", one_line(text, limit), class_="lm-more")
    closer = tag("span", "show less", class_="lm-less")
    return tag("details", tag("summary", opener, closer), tag("div", text, class_="lm-text"), class_="lm-clip")


def name(label: str) -> Html:
    """Return a model's name, with line breaks allowed after slashes and underscores."""
    return Html(re.sub("([/_])", r"\1<wbr>", escape(label)))


def unfolding(summary: object, *children: object, open_: bool = False) -> Html:
    """Return children that expand on a click on `summary`."""
    return tag("details", tag("summary", summary), *children, open=open_, class_="lm-fold")


def chip(text: object, kind: str = "") -> Html:
    """Return a short state with a coloured dot; `kind` is "good", "bad", "busy" or "" for a neutral dot."""
    return tag("span", text, class_=f"lm-chip lm-{kind}" if kind else "lm-chip")


def status_chip(status: Status, text: str | None = None) -> Html:
    """Return a status, or `text` instead of its name, with a dot in the status's colour."""
    return chip(text or status, _DOTS.get(status, ""))
