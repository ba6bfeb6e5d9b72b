"""Export of a comparison to a file: an HTML report, a workbook, a CSV table or Markdown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from lumigator_nb.display import render
from lumigator_nb.display.text import elide, plain
from lumigator_nb.errors import InvalidInputError, MissingExtraError
from lumigator_nb.files import whole_file
from lumigator_nb.services.comparison import every_eval_ever

if TYPE_CHECKING:
    import pandas as pd

# Excel's limits, in characters.
_LONGEST_CELL, _LONGEST_SHEET = 32_767, 31


class Exported(Protocol):
    """A value with views registered in :mod:`lumigator_nb.display.render`.

    A protocol, because :class:`Comparison` imports this module.
    """

    def to_pandas(self) -> pd.DataFrame: ...


def export(comparison: Exported, path: str | Path) -> Path:
    """Write a comparison in the format of the path's ending; see :meth:`Comparison.export`."""
    target = Path(path).expanduser()
    if target.name.lower().endswith(every_eval_ever.SUFFIX):
        return every_eval_ever.write(comparison, target)
    writers: dict[str, Callable[[IO[bytes]], object]] = {
        ".html": lambda file: file.write(render.as_page(comparison).encode()),
        ".md": lambda file: file.write(render.as_markdown(comparison).encode()),
        ".csv": lambda file: comparison.to_pandas().to_csv(file, index=False),
        ".xlsx": lambda file: _workbook(comparison, file),
    }
    writers[".htm"] = writers[".html"]
    write = writers.get(target.suffix.lower())
    if write is None:
        raise InvalidInputError(
            f"cannot write a {target.suffix or 'nameless'} file", "end it in .html, .xlsx, .csv, .md or .eee.json"
        )
    # A failure half-way must not leave half a file, or replace an earlier export.
    with whole_file(target) as file:
        write(file)
    return target


def _workbook(comparison: Exported, file: IO[bytes]) -> None:
    import pandas as pd

    # Imported to say which extra is missing; pandas would name the package alone.
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise MissingExtraError("export to .xlsx", "excel") from None
    with pd.ExcelWriter(cast(BinaryIO, file), engine="openpyxl") as book:
        for name, frame in render.as_sheets(comparison):
            title = elide(name, _LONGEST_SHEET)
            frame.map(_readable).rename(columns=_readable).to_excel(book, sheet_name=title, index=False)
            sheet = book.sheets[title]
            for column in sheet.columns:
                sheet.column_dimensions[column[0].column_letter].width = min(60, max(10, len(str(column[0].value)) + 2))
                for cell in column:
                    # openpyxl takes a text that begins with "=" for a formula. Excel must not run an answer.
                    if cell.data_type == "f":
                        cell.data_type = "s"
            sheet.freeze_panes = "A2"


def _readable(value: Any) -> Any:
    """Excel refuses control characters and texts longer than a cell."""
    return plain(value)[:_LONGEST_CELL] if isinstance(value, str) else value
