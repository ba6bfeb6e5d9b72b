"""Tables as data, written once and drawn alike for pages and notebooks, for terminals and for Markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from lumigator_nb.display import html
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.display.text import elide, one_line

# Columns of a terminal: for a label, at most; for the figures beside it; between two columns.
_LABEL, _FIGURES, _GAP = 36, 64, 3
_SPECIAL = "\\`*_{}[]<>#|~$&"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell or a header, as plain text.

    Attributes:
        beside: told beside the text; smaller on a page.
        bold: whether a page has it stand out.
        hint: what a page says of it under the pointer.
        key: of a header: the score by which a screen may order.
    """

    text: str
    beside: str = ""
    bold: bool = False
    hint: str = ""
    key: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.beside}".rstrip()


@dataclass(frozen=True)
class Table:
    """A table, true where it has rows.

    Attributes:
        headers: one per column; those that are names stand in a :class:`Cell` and keep their letters on a page.
        rows: as many cells each; the first labels the row.
        title: what it shows.
        note: what a reader needs to know of it.
        words: the columns of text; the others hold figures and are aligned right.
    """

    headers: Sequence[str | Cell]
    rows: Sequence[Sequence[str | Cell]]
    title: str = ""
    note: str = ""
    words: Collection[int] = (0,)

    def __bool__(self) -> bool:
        return bool(self.rows)


def to_html(table: Table, titled: Callable[[str, Html], Html] = lambda _, header: header) -> Html:
    """Return the table and its note; `titled` makes the headers that have a key, from the key and the markup."""

    def header(cell: str | Cell) -> object:
        if isinstance(cell, str):
            return f"{cell[:1].upper()}{cell[1:]}"
        return titled(cell.key, _marked_up(cell)) if cell.key else _marked_up(cell)

    rows = [[html.name(cell) if isinstance(cell, str) else _marked_up(cell) for cell in row] for row in table.rows]
    numeric = [column for column in range(len(table.headers)) if column not in table.words]
    note = tag("div", table.note, class_="lm-note") if table.note else ""
    return join([html.table(list(map(header, table.headers)), rows, numeric=numeric), note])


def _marked_up(cell: Cell) -> Html:
    text = html.name(cell.text)
    parts = [tag("b", text) if cell.bold else text]
    if cell.beside:
        parts += [html.escape(" "), tag("span", cell.beside, class_="lm-sub")]
    return tag("span", *parts, title=cell.hint) if cell.hint else join(parts)


def to_text(table: Table, width: int) -> str:
    """Return title, table and note in lines of at most `width` characters.

    As many columns stand side by side as fit, the others below; the labels stand in each part.
    """
    limit = max(12, min(_LABEL, width - _FIGURES))
    rows = [[elide(str(row[0]), limit), *map(str, row[1:])] for row in table.rows]
    headers = list(map(str, table.headers))
    parts = [
        _drawn([[line[0], *(line[column] for column in part)] for line in (headers, *rows)], width)
        for part in _fitting([[row[0] for row in rows], *list(zip(headers, *rows, strict=True))[1:]], width)
    ]
    note = [wrapped(table.note, width)] if table.note else []
    return "\n".join([*([table.title] if table.title else []), "\n\n".join(parts), *note])


def wrapped(text: str, width: int) -> str:
    """Return a text in lines of at most `width` characters."""
    # Names of models are copied from here, so they are never broken.
    return textwrap.fill(one_line(text, 10_000), width, break_on_hyphens=False, break_long_words=False)


def _fitting(cells: Sequence[Sequence[str]], width: int) -> Iterator[list[int]]:
    """Part the columns after the first, which stands in every part, so that each part is as wide as the terminal."""
    first, *widths = (max(map(len, column)) for column in cells)
    part: list[int] = []
    used = first
    for index, column in enumerate(widths, start=1):
        if part and used + _GAP + column > width:
            yield part
            part, used = [], first
        part.append(index)
        used += _GAP + column
    yield part


def _drawn(lines: Sequence[Sequence[str]], width: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    # As Text, so that a name in brackets is not taken for markup.
    for index, header in enumerate(lines[0]):
        grid.add_column(Text(header), justify="right" if index else "left", no_wrap=bool(index))
    for row in lines[1:]:
        grid.add_row(*map(Text, row))
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False, force_jupyter=False).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def to_markdown(table: Table) -> Iterator[str]:
    """Return title, table and note as lines of Markdown."""
    if table.title:
        yield f"## {escaped(table.title)}\n"
    yield _line(table.headers)
    yield "|" + " --- |" * len(table.headers)
    yield from map(_line, table.rows)
    yield ""
    if table.note:
        yield escaped(table.note) + "\n"


def _line(cells: Sequence[str | Cell]) -> str:
    return f"| {' | '.join(escaped(str(cell)) for cell in cells)} |"


def escaped(text: str) -> str:
    """Return a text in one line in which no character is Markdown."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in one_line(text, 10_000))
