"""The form that uploads a dataset: read the file's beginning, choose its columns, check, upload."""

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
    """The choices for an upload.

    Attributes:
        source: path, URL, or name of a dataset on the Hugging Face hub.
        filename: the user's name of the file.
        look: the file's first rows and columns; None before :meth:`take`.
        example, ground_truth: names of columns; `ground_truth` may be None.
        name: of the dataset.
        new_version: make it the next version if the name is taken.
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
        """Read the beginning of a file, and propose columns and a name. A URL is downloaded for that.

        Args:
            source: path, URL, or name of a dataset on the hub.
            filename: the user's name of the file; default the last part of `source`.

        Raises:
            LumigatorError: the file cannot be read; the form stays unchanged.
        """
        source = source.strip()
        path = Path(source).expanduser()
        if "://" not in source and path.is_file():
            filename = filename or path.name
            look = tables.look(path, filename)
        else:
            with fetched(source) as copy:
                filename = filename or copy.filename
                look = tables.look(copy.path, filename)
        self.source, self.filename, self.look = source, filename, look
        self.example = look.example or look.columns[0]
        self.ground_truth = look.ground_truth if look.ground_truth != self.example else None
        # Without folders, endings and the query of a URL.
        self.name = PurePath(filename.split("?")[0]).name.partition(".")[0] or filename
        self.new_version = False

    @property
    def taken(self) -> bool:
        """Whether another dataset has the name."""
        return bool(self.name.strip()) and self.ws.datasets.find(self.name.strip()) is not None

    def validate(self) -> dict[str, str]:
        """Return errors by field; empty if the upload may begin."""
        if self.look is None:
            return {"source": "choose a file first"}
        errors = {}
        if self.example not in self.look.columns:
            errors["example"] = "choose the column with the inputs"
        if self.ground_truth is not None and self.ground_truth == self.example:
            errors["ground_truth"] = "the example cannot be its own ground truth"
        try:
            checked_name(self.name)
        except LumigatorError as error:
            errors["name"] = f"{error.message}: {error.hint}" if self.name.strip() else "enter a name"
        else:
            if self.taken and not self.new_version:
                errors["name"] = (
                    f"a dataset {self.name.strip()!r} exists already: choose another name, or upload a new version"
                )
        return errors

    def submit(self, report: Callable[[int, int], None] | None = None) -> Dataset:
        """Upload the file by one call of ``ws.datasets.upload``.

        Args:
            report: called with the number of bytes done and of all bytes.

        Raises:
            LumigatorError: the file breaks a rule; nothing is stored.
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
    """Return the field of the form that an error of an upload belongs to."""
    if isinstance(error, ConflictError):
        return "name"
    if isinstance(error, MissingFieldsError):
        return "example"
    return "source"


def preview(form: UploadForm) -> Html:
    """Return the file's first rows, chosen columns first, and the notes of the file's reader, such as its encoding."""
    if form.look is None:
        return Html("")
    chosen = [name for name in (form.example, form.ground_truth) if name]
    others = [name for name in form.look.columns if name not in chosen]
    columns = [*chosen, *others][:MOST_COLUMNS]
    roles = {form.example: "example", form.ground_truth: "ground truth"}
    headers = [join([name, tag("span", roles.get(name, "metadata"), class_="lm-sub")]) for name in columns]
    rows = [
        ["" if (value := row.get(name)) is None else one_line(value, CELL) for name in columns]
        for row in form.look.rows
    ]
    more = len(form.look.columns) - len(columns)
    notes = [*form.look.notes, *([f"{more} more columns are kept as metadata"] if more > 0 else [])]
    below = tag("p", "; ".join(notes), class_="lm-note") if notes else ""
    return join([tag("h3", f"{form.filename} begins with"), table(headers, rows), below])
