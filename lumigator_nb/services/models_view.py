"""The catalogue of models as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lumigator_nb.display.html import chip, fragment, name, table, tag
from lumigator_nb.display.text import MISSING, elide

_HEADERS = ("model", "for", "parameters", "licence", "context", "")
_TASKS = {"summarization": "summarization", "translation": "translation", "text_generation": "text"}


@dataclass(frozen=True)
class CatalogueRow:
    """One model.

    Attributes:
        obstacle: why it cannot be used; None where it can.
    """

    name: str
    display_name: str
    tasks: Sequence[str]
    parameters: int | None
    licence: str | None
    context_tokens: int | None
    link: str | None
    obstacle: str | None


def as_html(rows: Sequence[CatalogueRow]) -> str:
    """Return a table with a line per model."""
    cells = [
        (
            tag("div", name(row.name), tag("div", _linked(row), class_="lm-soft")),
            ", ".join(_TASKS[task] for task in row.tasks),
            _count(row.parameters),
            row.licence or MISSING,
            _count(row.context_tokens),
            chip(row.obstacle or "ready", "" if row.obstacle else "good"),
        )
        for row in rows
    ]
    return fragment(table(_HEADERS, cells, numeric=(2, 4)))


def as_text(rows: Sequence[CatalogueRow]) -> str:
    """Return a line per model."""
    if not rows:
        return "no model"
    width = min(42, max(len(row.name) for row in rows))
    return "\n".join(
        f"{elide(row.name, width):<{width}}  {_count(row.parameters):>5}  {_count(row.context_tokens):>5}  "
        f"{elide(row.licence or MISSING, 14):<14}  {row.obstacle or 'ready'}"
        for row in rows
    )


def _linked(row: CatalogueRow) -> object:
    return tag("a", row.display_name, href=row.link, target="_blank", rel="noopener") if row.link else row.display_name


def _count(number: int | None) -> str:
    """A number with its magnitude: 135M, 1.7B, 128k."""
    if number is None:
        return MISSING
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
