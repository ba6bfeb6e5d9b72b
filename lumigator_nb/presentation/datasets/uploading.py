"""The form that uploads a dataset: look at the file, say which column is what, check, upload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from lumigator_nb import tables
from lumigator_nb.database.records import Dataset
from lumigator_nb.display.html import Html, join, table, tag
from lumigator_nb.display.text import one_line
from lumigator_nb.errors import ConflictError, LumigatorError, MissingFieldsError
from lumigator_nb.services.datasets.sources import fetched
from lumigator_nb.services.names import checked_name

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

NONE = "(none)"
MOST_COLUMNS, CELL = 6, 160


@dataclass
class UploadForm:
    """What is chosen for an upload.

    Attributes:
        source: path, address, or name of a dataset on the Hugging Face hub.
        filename: as the user calls the file.
        look: what the file begins with; None until :meth:`take` has looked.
        example, ground_truth: columns; `ground_truth` is None where there is none.
        name: of the dataset.
        new_version: keep it as the next version where the name is taken.
    """

    ws: Workspace
    source: str = ""
    filename: str = ""
    look: tables.Look | None = None
    example: str | None = None
    ground_truth: str | None = None
    name: str = ""
    new_version: bool = False

    def take(self, source: str, filename: str | None = None) -> None:
        """Look at a file, and propose columns and a name. What comes from an address is fetched for that.

        Args:
            source: path, address, or name of a dataset on the hub.
            filename: how the user calls it; default the last part of `source`.

        Raises:
            LumigatorError: it cannot be read; the form is as it was.
        """
        source = source.strip()
        path = Path(source).expanduser()
        if "://" not in source and path.is_file():
            called = filename or path.name
            found = tables.look(path, called)
        else:
            with fetched(source) as copy:
                called = filename or copy.filename
                found = tables.look(copy.path, called)
        self.source, self.filename, self.look = source, called, found
        self.example = found.example or found.columns[0]
        self.ground_truth = found.ground_truth if found.ground_truth != self.example else None
        self.name, self.new_version = PurePath(called.split("?")[0]).name.partition(".")[0] or called, False

    @property
    def taken(self) -> bool:
        """Whether a dataset has that name already."""
        return bool(self.name.strip()) and self.ws.datasets.find(self.name.strip()) is not None

    def validate(self) -> dict[str, str]:
        """Return what is wrong, by field; empty where the upload may begin."""
        if self.look is None:
            return {"source": "choose a file first"}
        wrong = {}
        if self.example not in self.look.columns:
            wrong["example"] = "choose the column with the inputs"
        if self.ground_truth is not None and self.ground_truth == self.example:
            wrong["ground_truth"] = "the example cannot be its own ground truth"
        try:
            checked_name(self.name)
        except LumigatorError as error:
            wrong["name"] = f"{error.message}: {error.hint}" if self.name.strip() else "write a name"
        else:
            if self.taken and not self.new_version:
                wrong["name"] = (
                    f"there is a dataset {self.name.strip()!r} already: choose another name, or a new version"
                )
        return wrong

    def submit(self, report: Callable[[int, int], None] | None = None) -> Dataset:
        """Upload: one call of ``ws.datasets.upload``.

        Args:
            report: told how many bytes of how many are done.

        Raises:
            LumigatorError: the file breaks a rule; nothing is kept.
        """
        return self.ws.datasets.upload(
            self.source,
            name=self.name.strip(),
            example=self.example,
            ground_truth=self.ground_truth,
            new_version=self.new_version,
            progress=report or False,
        )


def field_of(error: Exception) -> str:
    """Return the field of the form that an error of an upload concerns; empty for the form as a whole."""
    if isinstance(error, ConflictError):
        return "name"
    if isinstance(error, MissingFieldsError):
        return "example"
    return "source"


def preview(form: UploadForm) -> Html:
    """Return the file's first rows, the chosen columns first, and what the reader decided by itself."""
    if form.look is None:
        return Html("")
    chosen = [name for name in (form.example, form.ground_truth) if name]
    others = [name for name in form.look.columns if name not in chosen]
    shown = [*chosen, *others][:MOST_COLUMNS]
    roles = {form.example: "example", form.ground_truth: "ground truth"}
    headers = [join([name, tag("span", roles.get(name, "metadata"), class_="lm-sub")]) for name in shown]
    rows = [[_cell(row.get(name)) for name in shown] for row in form.look.rows]
    more = len(form.look.columns) - len(shown)
    notes = [*form.look.notes, *([f"{more} more columns are kept as metadata"] if more > 0 else [])]
    said = tag("p", "; ".join(notes), class_="lm-note") if notes else ""
    return join([tag("h3", f"{form.filename} begins with"), table(headers, rows), said])


def _cell(value: object) -> str:
    return "" if value is None else one_line(value, CELL)
