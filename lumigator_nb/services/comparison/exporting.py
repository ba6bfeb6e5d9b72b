"""A comparison as a file: a report to read, a workbook, a table, or a text for a wiki."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.text import elide, plain, reason
from lumigator_nb.errors import InvalidInputError, MissingExtraError
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
    writers: dict[str, Callable[[Comparison, Path], None]] = {
        ".html": _html, ".htm": _html, ".csv": _csv, ".md": _markdown, ".xlsx": _workbook
    }  # fmt: skip
    if target.suffix.lower() not in writers:
        raise InvalidInputError(
            f"cannot write a {target.suffix or 'nameless'} file", "end it in .html, .xlsx, .csv or .md"
        )
    # Whoever reads the old file meanwhile, or is cut off, keeps a whole one.
    draft = target.with_name(f".{target.name}.part{target.suffix}")
    try:
        writers[target.suffix.lower()](comparison, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _html(comparison: Comparison, path: Path) -> None:
    path.write_text(shown.report(comparison), encoding="utf-8")


def _csv(comparison: Comparison, path: Path) -> None:
    comparison.to_pandas().to_csv(path, index=False)


def _markdown(comparison: Comparison, path: Path) -> None:
    path.write_text(as_markdown(comparison), encoding="utf-8")


def _workbook(comparison: Comparison, path: Path) -> None:
    import pandas as pd

    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise MissingExtraError("export to .xlsx", "excel") from None
    with pd.ExcelWriter(path, engine="openpyxl") as book:
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
