"""A form that uploads a dataset, in a notebook cell: choose a file, say which column is what, upload."""

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
from lumigator_nb.presentation.folders import temporary
from lumigator_nb.widgets.kit import alert, labelled, line, put, sheet, visible
from lumigator_nb.workspace import Workspace

# JupyterLab closes the connection to the kernel where one message is larger.
MOST_MEGABYTES = 10
_PLACEHOLDER = "tickets.csv, https://…, s3://…, hf://datasets/ORG/NAME"


def upload(ws: Workspace) -> Upload:
    """Show a form that uploads a dataset; the kernel stays free.

    A file that is chosen in the browser goes through the kernel's connection, which takes about 10 MB; a larger one is
    named by its path or address, and is read in pieces.

    Args:
        ws: workspace.

    Examples:
        >>> widget = lm.ui.upload(ws)
        >>> widget.close()
    """
    return Upload(ws)


class Upload(VBox):  # type: ignore[misc]
    """The form; made by :func:`upload`.

    Attributes:
        form: what has been chosen.
        dataset: what was uploaded last; None before.
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
        """Take the form away."""
        self._forget()
        super().close()

    # --- Its parts ---

    def _make_source(self) -> None:
        self.problems = {name: HTML() for name in ("source", "name", "example", "ground_truth")}
        self.chooser = FileUpload(description="Choose a file", multiple=False, layout=Layout(width="14em"))
        self.chooser.tooltip = "CSV, TSV, JSON, JSON lines, Parquet or Excel; also zipped"
        self.address = Text(placeholder=_PLACEHOLDER, layout=_wide(), continuous_update=False)
        self.look = Button(description="Look", icon="search", layout=Layout(width="7em"))
        self.chooser.observe(lambda _: self._chose(), "value")
        self.address.observe(lambda change: self._look(change["new"]), "value")
        self.look.on_click(lambda _: self._look(self.address.value))
        hint = tag("div", f"CSV, JSON, Parquet or Excel, up to about {MOST_MEGABYTES} MB; name larger ones below.",
                   class_="lm-note")  # fmt: skip
        below = HTML(str(tag("div", hint, class_="lm")))
        place = labelled("Or a path, an address, or a dataset of the Hugging Face hub", self.address)
        self.source = VBox([HBox([self.chooser, below], layout=Layout(align_items="center")), line(place, self.look)])

    def _make_mapping(self) -> None:
        self.preview = HTML(layout=Layout(overflow="auto"))
        self.name = Text(layout=_wide(), continuous_update=False)
        self.example, self.truth = Dropdown(layout=_wide()), Dropdown(layout=_wide())
        self.again = Checkbox(description="Keep it as a new version of that dataset", indent=False, layout=_wide())
        for field in (self.name, self.example, self.truth, self.again):
            field.observe(lambda _: self._entered(), "value")
        self.button = Button(description="Upload", button_style="primary", icon="upload", layout=Layout(width="12em"))
        self.button.on_click(lambda _: self._submit())
        self.progress = FloatProgress(min=0, max=1, layout=Layout(width="100%"))
        below = self.problems
        fields = line(
            labelled("Example: what models are asked", self.example, below["example"]),
            labelled("Ground truth: the answer wished for", self.truth, below["ground_truth"]),
            labelled("Name", self.name, below["name"], self.again),
        )
        self.mapping = VBox([self.preview, fields, self.button, self.progress])
        visible(self.mapping, False)
        visible(self.progress, False)

    # --- Looking at a file ---

    def _chose(self) -> None:
        if not self.chooser.value:
            return
        chosen = self.chooser.value[0]
        filename = PurePath(str(chosen["name"]).replace("\\", "/")).name or "file"
        self._forget()
        self._folder = tempfile.TemporaryDirectory(prefix=temporary("upload"))
        path = Path(self._folder.name) / filename
        path.write_bytes(chosen["content"])
        # The bytes would be saved with the notebook, and another choice of the same file would be none.
        self.chooser.value = ()
        self._look(str(path), filename)

    def _look(self, source: str, filename: str | None = None) -> None:
        if not source.strip():
            self._tell({"source": "write a path or an address first"})
            return
        if source == self._looking:
            return  # leaving the field for the button asks twice
        self._looking = source
        visible(self.mapping, False)
        put(self.done, "")
        put(self.problems["source"], tag("div", "Looking at it…", class_="lm-note", role="status"))
        self._in_thread(partial(self.form.take, source, filename), lambda _: self._looked())

    def _looked(self) -> None:
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

    # --- What a reader enters ---

    def _entered(self) -> None:
        if self._filling:
            return
        form = self.form
        form.name, form.example, form.new_version = self.name.value, self.example.value, self.again.value
        form.ground_truth = None if self.truth.value == NONE else self.truth.value
        self._tell(form.validate())
        put(self.preview, preview(form))

    def _tell(self, wrong: dict[str, str]) -> None:
        for field, place in self.problems.items():
            put(place, alert(wrong.get(field)))
        visible(self.again, self.form.taken)

    def _submit(self) -> None:
        if wrong := self.form.validate():
            self._tell(wrong)
            return
        self.button.disabled, self.button.description = True, "Uploading…"
        self.progress.value = 0
        visible(self.progress, True)
        self._in_thread(partial(self.form.submit, self._report), self._uploaded)

    def _report(self, done: int, total: int) -> None:
        share = done / max(total, 1)
        # Each step is a message to the browser.
        if share - self.progress.value >= 0.01:
            self.progress.value = min(share, 1)

    def _uploaded(self, dataset: Dataset) -> None:
        self._forget()
        self._rest()
        visible(self.mapping, False)
        put(self.done, uploaded(dataset))
        self.dataset = dataset

    # --- Threads ---

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        def run() -> None:
            try:
                found = work()
            except Exception as error:
                self._failed(error)
            else:
                then(found)

        threading.Thread(target=run, name="lumigator-upload", daemon=True).start()

    def _failed(self, error: Exception) -> None:
        self._rest()
        self._looking = ""
        own = isinstance(error, LumigatorError)
        self._tell({field_of(error): str(error) if own else f"{type(error).__name__}: {error}"})

    def _rest(self) -> None:
        self.button.disabled, self.button.description = False, "Upload"
        visible(self.progress, False)

    def _forget(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __repr__(self) -> str:
        # The default lists everything inside.
        return f"Upload({self.dataset.name if self.dataset else self.form.filename!r})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        said = tag("div", "A form that uploads a dataset: run the cell to use it.", class_="lm-note")
        shown = uploaded(self.dataset) if self.dataset else join([said, preview(self.form)])
        return {**bundle, "text/html": str(tag("div", sheet(), shown, class_="lm")), "text/plain": repr(self)}


def _wide() -> Layout:
    # One for each: a layout that fields shared would hide them all together.
    return Layout(width="auto")


def uploaded(dataset: Dataset) -> Html:
    """Return what was uploaded, and what to do next."""
    notes = [tag("div", note, class_="lm-note") for note in dataset.notes]
    code = tag("code", f"lm.ui.launch(ws, {dataset.name!r})")
    said = tag("p", tag("b", dataset.name), f": {count(dataset.n_examples, 'example')} are here.", role="status")
    return join([said, *notes, tag("div", "Ask models: ", code, class_="lm-note")])
