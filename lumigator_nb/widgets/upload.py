"""The form that uploads a dataset in a notebook cell: choose a file, choose its columns, upload."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from ipywidgets import HTML, Button, Checkbox, Dropdown, FileUpload, FloatProgress, HBox, Layout, Text, VBox

from lumigator_nb.database.records import Dataset
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.display.text import count
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.datasets.uploading import NONE, UploadForm, field_of, preview
from lumigator_nb.storage.layout import temporary
from lumigator_nb.widgets.kit import CellWidget, alert, labelled, line, put, sheet, visible, with_hint
from lumigator_nb.workspace import Workspace

# JupyterLab closes the connection to the kernel after a larger message.
MOST_MEGABYTES = 10
_PLACEHOLDER = "tickets.csv, https://…, s3://…, hf://datasets/ORG/NAME"


def upload(ws: Workspace) -> Upload:
    """Show a form that uploads a dataset. The kernel stays free.

    A file that is chosen in the browser goes through the kernel's connection, which is limited to about 10 MB. For a
    larger file, enter its path or URL.

    Args:
        ws: workspace.

    Examples:
        >>> widget = lm.ui.upload(ws)
        >>> widget.close()
    """
    return with_hint(Upload(ws))


class Upload(CellWidget):
    """The form; made by :func:`upload`.

    Attributes:
        form: the user's choices.
        dataset: the dataset uploaded last; None before the first upload.
    """

    def __init__(self, ws: Workspace) -> None:
        super().__init__(layout=Layout(max_width="860px"))
        self.form = UploadForm(ws)
        self.dataset: Dataset | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._filling, self._looking = False, ""
        self._make_source()
        self._make_mapping()
        self.done = HTML()
        title = HTML(str(tag("div", sheet(), tag("h1", "Upload a dataset"), class_="lm")))
        self.children = [title, self.source, self.problems["source"], self.mapping, self.done]

    def close(self) -> None:
        """Remove the form."""
        self._forget()
        super().close()

    # --- Widgets ---

    def _make_source(self) -> None:
        self.problems = {name: HTML() for name in ("source", "name", "example", "ground_truth")}
        self.chooser = FileUpload(description="Choose a file", multiple=False, layout=Layout(width="14em"))
        self.chooser.tooltip = "CSV, TSV, JSON, JSON Lines, Parquet or Excel, also compressed"
        self.address = Text(placeholder=_PLACEHOLDER, layout=_wide(), continuous_update=False)
        self.look = Button(description="Preview", icon="search", layout=Layout(width="8em"))
        self.chooser.observe(lambda _: self._chose(), "value")
        self.address.observe(lambda change: self._look(change["new"]), "value")
        self.look.on_click(lambda _: self._look(self.address.value))
        text = f"CSV, JSON, Parquet or Excel, up to about {MOST_MEGABYTES} MB. For a larger file, enter its path below."
        below = HTML(str(tag("div", tag("div", text, class_="lm-note"), class_="lm")))
        place = labelled("Or a path, a URL, or a dataset of the Hugging Face hub", self.address)
        self.source = VBox([HBox([self.chooser, below], layout=Layout(align_items="center")), line(place, self.look)])

    def _make_mapping(self) -> None:
        self.preview = HTML(layout=Layout(overflow="auto"))
        self.name = Text(layout=_wide(), continuous_update=False)
        self.example, self.truth = Dropdown(layout=_wide()), Dropdown(layout=_wide())
        self.again = Checkbox(description="Upload as a new version of that dataset", indent=False, layout=_wide())
        for field in (self.name, self.example, self.truth, self.again):
            field.observe(lambda _: self._entered(), "value")
        self.button = Button(description="Upload", button_style="primary", icon="upload", layout=Layout(width="12em"))
        self.button.on_click(lambda _: self._submit())
        self.progress = FloatProgress(min=0, max=1, layout=Layout(width="100%"))
        below = self.problems
        fields = line(
            labelled("Example: the input that models answer", self.example, below["example"]),
            labelled("Ground truth: the answer you expect", self.truth, below["ground_truth"]),
            labelled("Name", self.name, below["name"], self.again),
        )
        self.mapping = VBox([self.preview, fields, self.button, self.progress])
        visible(self.mapping, False)
        visible(self.progress, False)

    # --- Reading a file ---

    def _chose(self) -> None:
        if not self.chooser.value:
            return
        file = self.chooser.value[0]
        filename = PurePath(str(file["name"]).replace("\\", "/")).name or "file"
        self._forget()
        self._folder = tempfile.TemporaryDirectory(prefix=temporary("upload"))
        path = Path(self._folder.name) / filename
        path.write_bytes(file["content"])
        # Else the bytes would be saved with the notebook, and choosing the same file again would be no change.
        self.chooser.value = ()
        self._look(str(path), filename)

    def _look(self, source: str, filename: str | None = None) -> None:
        if not source.strip():
            self._mark({"source": "enter a path or a URL first"})
            return
        if source == self._looking:
            return  # a click on the button also leaves the field, which starts the same preview
        self._looking = source
        visible(self.mapping, False)
        put(self.done, "")
        put(self.problems["source"], tag("div", "Reading the file…", class_="lm-note", role="status"))
        self._in_thread(partial(self.form.take, source, filename), self._fill)

    def _fill(self, _: None) -> None:
        """Fill the fields with what the file suggests."""
        form = self.form
        assert form.look is not None
        self._looking = ""
        columns = list(form.look.columns)
        self._filling = True
        try:
            self.example.options, self.example.value = columns, form.example
            self.truth.options, self.truth.value = [NONE, *columns], form.ground_truth or NONE
            self.name.value, self.again.value = form.name, form.new_version
        finally:
            self._filling = False
        self._entered()
        visible(self.mapping, True)

    # --- Input of the user ---

    def _entered(self) -> None:
        if self._filling:
            return
        form = self.form
        form.name, form.example, form.new_version = self.name.value, self.example.value, self.again.value
        form.ground_truth = None if self.truth.value == NONE else self.truth.value
        self._mark(form.validate())
        put(self.preview, preview(form))

    def _mark(self, errors: dict[str, str]) -> None:
        """Show each error beside its field."""
        for field, place in self.problems.items():
            put(place, alert(errors.get(field)))
        visible(self.again, self.form.taken)

    def _submit(self) -> None:
        errors = self.form.validate()
        if errors:
            self._mark(errors)
            return
        self.button.disabled, self.button.description = True, "Uploading…"
        self.progress.value = 0
        visible(self.progress, True)

        def report(done: int, total: int) -> None:
            share = done / max(total, 1)
            # Each change is a message to the browser.
            if share - self.progress.value >= 0.01:
                self.progress.value = min(share, 1)

        def done(dataset: Dataset) -> None:
            self._forget()
            self._stop_progress()
            visible(self.mapping, False)
            put(self.done, uploaded(dataset))
            self.dataset = dataset

        self._in_thread(partial(self.form.submit, report), done)

    # --- Threads ---

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        def run() -> None:
            try:
                result = work()
            except Exception as error:
                self._stop_progress()
                self._looking = ""
                text = str(error) if isinstance(error, LumigatorError) else f"{type(error).__name__}: {error}"
                self._mark({field_of(error): text})
            else:
                then(result)

        threading.Thread(target=run, name="lumigator-upload", daemon=True).start()

    def _stop_progress(self) -> None:
        self.button.disabled, self.button.description = False, "Upload"
        visible(self.progress, False)

    def _forget(self) -> None:
        """Delete the copy of a file that the browser sent."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __repr__(self) -> str:
        # ipywidgets' own lists every widget inside.
        return f"Upload({self.dataset.name if self.dataset else self.form.filename!r})"

    @property
    def otherwise(self) -> str:
        return "call ws.datasets.upload('FILE')"

    def static(self) -> Html:
        if self.dataset:
            return uploaded(self.dataset)
        return preview(self.form) or tag("div", "Upload a dataset", class_="lm-title")


def _wide() -> Layout:
    # A new one for each field: one that several share would hide them together.
    return Layout(width="auto")


def uploaded(dataset: Dataset) -> Html:
    """Return the name and size of an uploaded dataset, its notes, and the next step."""
    notes = [tag("div", note, class_="lm-note") for note in dataset.notes]
    code = tag("code", f"lm.ui.launch(ws, {dataset.name!r})")
    text = tag("p", tag("b", dataset.name), f": {count(dataset.n_examples, 'example')} uploaded.", role="status")
    return join([text, *notes, tag("div", "Ask models: ", code, class_="lm-note")])
