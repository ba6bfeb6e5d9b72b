"""A comparison as a file: a report to read, a workbook, a table, or a text for a wiki."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from lumigator_nb.display.text import elide, plain, reason
from lumigator_nb.errors import InvalidInputError, MissingExtraError
from lumigator_nb.files import whole_file
from lumigator_nb.services.comparison import view as shown
from lumigator_nb.services.comparison.markdown import as_markdown

if TYPE_CHECKING:
    import pandas as pd

    from lumigator_nb.services.comparison.comparison import Comparison

# What Excel takes into a cell, and into the name of a sheet.
_LONGEST_CELL, _LONGEST_SHEET = 32_767, 31


def export(comparison: Comparison, path: str | Path) -> Path:
    """Write a comparison in the format that the ending names; see :meth:`Comparison.export`."""
    target = Path(path).expanduser()
    writers: dict[str, Callable[[Comparison, IO[bytes]], None]] = {
        ".html": _html, ".htm": _html, ".csv": _csv, ".md": _markdown, ".xlsx": _workbook
    }  # fmt: skip
    if target.suffix.lower() not in writers:
        raise InvalidInputError(
            f"cannot write a {target.suffix or 'nameless'} file", "end it in .html, .xlsx, .csv or .md"
        )
    with whole_file(target) as file:
        writers[target.suffix.lower()](comparison, file)
    return target


def _html(comparison: Comparison, file: IO[bytes]) -> None:
    file.write(shown.report(comparison).encode())


def _csv(comparison: Comparison, file: IO[bytes]) -> None:
    comparison.to_pandas().to_csv(file, index=False)


def _markdown(comparison: Comparison, file: IO[bytes]) -> None:
    file.write(as_markdown(comparison).encode())


def _workbook(comparison: Comparison, file: IO[bytes]) -> None:
    import pandas as pd

    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise MissingExtraError("export to .xlsx", "excel") from None
    with pd.ExcelWriter(cast(BinaryIO, file), engine="openpyxl") as book:
        for name, frame in _sheets(comparison):
            title = elide(name, _LONGEST_SHEET)
            frame.map(_readable).rename(columns=_readable).to_excel(book, sheet_name=title, index=False)
            _tidy(book.sheets[title])


def _sheets(comparison: Comparison) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "Summary", comparison.summary()
    if comparison.decides:
        yield "Ranking", comparison.ranking()
        yield "Pairs", comparison.pairwise()
    if comparison.not_computed:
        import pandas as pd

        lacking = [
            (title, model, reason(error))
            for title, models in comparison.not_computed.items()
            for model, error in models.items()
        ]
        yield "Not computed", pd.DataFrame(lacking, columns=["metric", "model", "reason"])
    yield "Cost and speed", comparison.costs()
    yield "Examples", comparison.to_pandas()


def _readable(value: Any) -> Any:
    """Not every character is one for Excel, and no text may be longer than a cell."""
    return plain(value)[:_LONGEST_CELL] if isinstance(value, str) else value


def _tidy(sheet: Any) -> None:
    for column in sheet.columns:
        sheet.column_dimensions[column[0].column_letter].width = min(60, max(10, len(str(column[0].value)) + 2))
        for cell in column:
            if cell.data_type == "f":
                cell.data_type = "s"  # what a model or a user wrote is no formula
    sheet.freeze_panes = "A2"
