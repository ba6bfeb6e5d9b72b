"""Tables as data, rendered as HTML for pages and notebooks, as text for terminals, and as Markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from lumigator_nb.display import html
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.display.text import elide, one_line

# In characters: the most for a label, the least for the numbers beside it, and the gap between columns.
_LABEL, _FIGURES, _GAP = 36, 64, 3
_SPECIAL = "\\`*_{}[]<>#|~$&"


@dataclass(frozen=True)
class Cell:
    """A cell or a header, as plain text.

    Attributes:
        beside: a secondary text after the first, in smaller letters on a page.
        bold: whether the text is bold on a page.
        hint: the tooltip on a page.
        key: for a header, the score by which screens can sort.
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
    """A table. It is true if it has rows.

    Attributes:
        headers: one per column. On a page, a text is capitalized; a :class:`Cell`, for names, is not.
        rows: rows with one cell per column; the first cell is the row's label.
        title: the heading.
        note: a note for the reader.
        words: indices of the columns of text; the others contain numbers and are aligned right.
    """

    headers: Sequence[str | Cell]
    rows: Sequence[Sequence[str | Cell]]
    title: str = ""
    note: str = ""
    words: Collection[int] = (0,)

    def __bool__(self) -> bool:
        return bool(self.rows)


def to_html(table: Table, titled: Callable[[str, Html], Html] = lambda _, header: header) -> Html:
    """Return the table and its note as HTML.

    Args:
        titled: returns the markup of a header with a key, from the key and the header's plain markup.
    """

    def header(cell: str | Cell) -> object:
        if isinstance(cell, str):
            return f"{cell[:1].upper()}{cell[1:]}"
        return titled(cell.key, _markup(cell)) if cell.key else _markup(cell)

    rows = [[html.name(cell) if isinstance(cell, str) else _markup(cell) for cell in row] for row in table.rows]
    numeric = [column for column in range(len(table.headers)) if column not in table.words]
    note = tag("div", table.note, class_="lm-note") if table.note else ""
    return join([html.table(list(map(header, table.headers)), rows, numeric=numeric), note])


def _markup(cell: Cell) -> Html:
    text = html.name(cell.text)
    parts = [tag("b", text) if cell.bold else text]
    if cell.beside:
        parts += [html.escape(" "), tag("span", cell.beside, class_="lm-sub")]
    return tag("span", *parts, title=cell.hint) if cell.hint else join(parts)


def to_text(table: Table, width: int) -> str:
    """Return title, table and note in lines of at most `width` characters.

    If the columns do not fit side by side, the table is split into parts below each other, each with the labels.
    """
    limit = max(12, min(_LABEL, width - _FIGURES))
    rows = [[elide(str(row[0]), limit), *map(str, row[1:])] for row in table.rows]
    headers = list(map(str, table.headers))
    # The header above the labels does not widen their column: it may wrap.
    columns = [[row[0] for row in rows], *list(zip(headers, *rows, strict=True))[1:]]
    parts = []
    for group in _column_groups(columns, width):
        lines = [[line[0], *(line[column] for column in group)] for line in (headers, *rows)]
        parts.append(_draw_grid(lines, width))
    note = [wrapped(table.note, width)] if table.note else []
    return "\n".join([*([table.title] if table.title else []), "\n\n".join(parts), *note])


def wrapped(text: str, width: int) -> str:
    """Return a text in lines of at most `width` characters."""
    # Readers copy names of models from here, so names are never broken.
    return textwrap.fill(one_line(text, 10_000), width, break_on_hyphens=False, break_long_words=False)


def _column_groups(columns: Sequence[Sequence[str]], width: int) -> Iterator[list[int]]:
    """Yield groups of columns that fit into `width` together with the first column, which is part of each group."""
    first, *widths = (max(map(len, column)) for column in columns)
    group: list[int] = []
    used = first
    for index, column_width in enumerate(widths, start=1):
        if group and used + _GAP + column_width > width:
            yield group
            group, used = [], first
        group.append(index)
        used += _GAP + column_width
    yield group


def _draw_grid(lines: Sequence[Sequence[str]], width: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    # Rich would take a name in square brackets for markup; as Text it does not.
    for index, header in enumerate(lines[0]):
        grid.add_column(Text(header), justify="right" if index else "left", no_wrap=bool(index))
    for row in lines[1:]:
        grid.add_row(*map(Text, row))
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False, force_jupyter=False).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def to_markdown(table: Table) -> Iterator[str]:
    """Yield title, table and note as lines of Markdown."""
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
    """Return a text on a single line, with all special characters of Markdown escaped."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in one_line(text, 10_000))
