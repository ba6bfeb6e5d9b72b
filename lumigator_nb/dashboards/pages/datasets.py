"""Datasets: the list, the page of one dataset, and the upload."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.dropzone import Dropzone
from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.dialogs import ArchiveButton, DeleteDialog, dialog, problem, text_button
from lumigator_nb.dashboards.pages.lists import ListPage, archived_switch, search_field
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.database.records import Dataset
from lumigator_nb.display.html import join, tag
from lumigator_nb.display.text import size
from lumigator_nb.presentation.datasets import datasets
from lumigator_nb.presentation.datasets.uploading import NONE, UploadForm, field_of, preview
from lumigator_nb.presentation.markup import button, crumbs, heading, link
from lumigator_nb.presentation.routes import Route

_LIST = Route(("datasets",))


class DatasetsPage(ListPage):
    """The list. The route's query holds search, order and page."""

    title = "Datasets"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.search, self.archived = search_field(), archived_switch()
        upload = button(Route(("upload",)), "Upload a file", primary=True)
        self._lay_out(heading("Datasets", upload), search=self.search, archived=self.archived)

    def _read(self, route: Route) -> datasets.DatasetList:
        return datasets.dataset_list(self.context.ws, route)

    def _draw(self, view: datasets.DatasetList) -> None:
        self._filters.visible = view.any
        show(self._list, datasets.list_markup(view))


class DatasetPage(Page):
    """One dataset: its figures, examples and versions, and buttons to annotate, download, archive and delete it."""

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self._head, self._body, self._below = html(), html(), html()
        self.view = datasets.dataset_view(context.ws, route.path[1], route.number("page"))
        record, service = self.view.dataset, context.ws.datasets
        self.title = record.name
        self.annotation = AnnotateDialog(context, record)
        self.download = DownloadDialog(context, record)
        delete = partial(service.delete, record, cascade=True, stop=True)
        self.deletion = DeleteDialog(context, record.name, delete, datasets.deletion_markup, _LIST)
        self._archiving = ArchiveButton(
            context, partial(service.archive, record.id), partial(service.restore, record.id), self.refresh
        )
        self.archive = self._archiving.widget
        small: dict[str, Any] = {"size": "small", "color": "default"}
        buttons = pn.FlexBox(
            text_button("Write ground truth", self.annotation.open, icon="edit_note", **small),
            text_button("Download", self.download.open, icon="download", **small),
            self.archive,
            text_button("Delete", self.deletion.open, icon="delete", size="small", color="error"),
            gap="8px",
            margin=(16, 0, 0, 0),
        )
        self.layout = pn.Column(
            self._head, self._body, self._below, buttons,
            self.annotation.dialog, self.download.dialog, self.deletion.dialog, sizing_mode="stretch_width",
        )  # fmt: skip
        self._draw()

    def _draw(self) -> None:
        view, record = self.view, self.view.dataset
        path = crumbs(link(_LIST, "Datasets"), record.name)
        launch = button(Route(("launch",), {"dataset": view.key}), "New experiment", primary=True)
        upload = button(Route(("upload",), {"name": record.name}), "Upload a new version")
        title = f"{record.name}, version {record.version}" if record.version > 1 else record.name
        show(self._head, join([path, heading(title, launch, upload), datasets.facts_markup(view)]))
        show(self._body, datasets.rows_markup(view, self.route))
        parts = (
            datasets.statistics_markup(view), datasets.versions_markup(view),
            datasets.experiments_markup(view), datasets.about_markup(view),
        )  # fmt: skip
        show(self._below, join(parts))
        self._archiving.show(record.archived_at)

    def refresh(self) -> None:
        """Draw what has changed."""
        self.view = datasets.dataset_view(self.context.ws, self.view.key, self.route.number("page"))
        self._draw()

    def reroute(self, route: Route) -> bool:
        """Show another page of the examples."""
        self.route = route
        self.refresh()
        return True


class AnnotateDialog:
    """Has a model write ground truth, which makes a new dataset."""

    def __init__(self, context: Context, dataset: Dataset) -> None:
        self._context, self._dataset = context, dataset
        self._entries = {model.name: model for model in context.ws.models.list()}
        self.model = pmui.AutocompleteInput(
            label="Model", options=list(self._entries), restrict=False, min_characters=0, search_strategy="includes",
            width=420, margin=(8, 0),
        )  # fmt: skip
        self.name = pmui.TextInput(
            label="Name of the new dataset", value=f"{dataset.name}-annotated", width=420, margin=(8, 0)
        )
        self.budget = pmui.FloatInput(label="Budget in dollars (optional)", start=0, step=0.1, width=420, margin=(8, 0))
        self.problem = html()
        self.start = pmui.Button(
            label="Write ground truth", variant="contained", margin=0, on_click=lambda _: self._start()
        )
        text = (
            "A model answers every example. Its answers become the ground truth of a new dataset, "
            "which names the model as their author."
        )
        self.dialog = dialog(
            "Write ground truth", html(tag("p", text)), self.model, self.name, self.budget, self.problem,
            buttons=[text_button("Close", self.close), self.start],
        )  # fmt: skip

    def open(self) -> None:
        """Ask for the model."""
        self._ready()
        self.dialog.open = True

    def close(self) -> None:
        """Close the dialog; a model that is at work goes on."""
        self.dialog.open = False

    def _ready(self, message: str = "") -> None:
        self.start.param.update(disabled=False, label="Write ground truth")
        show(self.problem, problem(message))

    def _start(self) -> None:
        model = (self.model.value or self.model.value_input or "").strip()
        if not model:
            self._ready("Choose a model.")
            return
        self.start.param.update(disabled=True, label="Writing…")
        show(
            self.problem,
            tag("p", "You may close this: the model goes on, and Workflows shows its progress.", class_="lm-soft"),
        )
        entry = self._entries.get(model)
        work = partial(
            # A model of a server on this machine brings its address along.
            self._context.ws.datasets.annotate, self._dataset, model=entry.model() if entry else model,
            name=self.name.value.strip() or None, budget=self.budget.value or None, progress=False,
        )  # fmt: skip

        def done(dataset: Dataset) -> None:
            self.close()
            self._context.notify(f"{dataset.name} now has ground truth")
            self._context.go(Route(("datasets", dataset.name)))

        self._context.background(work, done, lambda error: self._ready(in_words(error)))


class DownloadDialog:
    """Offers a dataset as CSV, as Parquet, or as it was uploaded."""

    def __init__(self, context: Context, dataset: Dataset) -> None:
        frame = partial(context.ws.datasets.to_pandas, dataset)
        name = dataset.name.replace("/", "-")

        def parquet() -> io.BytesIO:
            sink = io.BytesIO()
            frame().to_parquet(sink)
            sink.seek(0)
            return sink

        files: list[tuple[str, str, Callable[[], io.BytesIO]]] = [
            ("CSV", f"{name}.csv", lambda: io.BytesIO(frame().to_csv(index=False).encode())),
            ("Parquet", f"{name}.parquet", parquet),
            (f"As it was uploaded ({size(dataset.size_bytes)})", dataset.filename,
             lambda: io.BytesIO(context.ws.datasets.original(dataset))),
        ]  # fmt: skip
        buttons = [
            pmui.FileDownload(label=label, filename=filename, callback=callback, margin=(4, 0), width=420)
            for label, filename, callback in files
        ]
        self.dialog = dialog("Download", *buttons, buttons=[text_button("Close", self.close)])

    def open(self) -> None:
        """Ask for the format."""
        self.dialog.open = True

    def close(self) -> None:
        """Close the dialog."""
        self.dialog.open = False


class UploadPage(Page):
    """Choose a file, say which columns hold example and ground truth, and upload it."""

    title = "Upload"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.form = UploadForm(context.ws)
        self._filling = False
        most = context.ws.settings.lumigator_max_upload_mb * 10**6
        self.dropzone = Dropzone(self._arrived, self._refused, most, margin=(16, 0, 0, 0))
        context.at_end(self.dropzone.clear)
        self.address = pmui.TextInput(
            label="Or a path on the server, a URL, or a dataset of the Hugging Face hub",
            placeholder="/data/tickets.csv, https://…, s3://…, hf://datasets/ORG/NAME",
            size="small", sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self.look_button = pmui.Button(
            label="Preview", variant="outlined", margin=0, on_click=lambda _: self._look(self.address.value)
        )
        self.problem = html()
        self.name = pmui.TextInput(label="Name", margin=0, sizing_mode="stretch_width")
        self.example = pmui.Select(label="Example: the input that models answer", margin=0, sizing_mode="stretch_width")
        self.truth = pmui.Select(label="Ground truth: the answer you expect", margin=0, sizing_mode="stretch_width")
        self.again = pmui.Switch(label="Upload as a new version of that dataset", visible=False, margin=0)
        self.preview = html()
        self.progress = pmui.LinearProgress(value=0, visible=False, sizing_mode="stretch_width", margin=(8, 0))
        self.start = pmui.Button(label="Upload", variant="contained", margin=0, on_click=lambda _: self._submit())
        for widget in (self.name, self.example, self.truth, self.again):
            widget.param.watch(self._chosen, "value")
        self.name.param.watch(lambda event: self._chosen(), "value_input")
        fields = pn.Column(
            self.name, self.again, self.example, self.truth, sizing_mode="stretch_width", max_width=520,
            styles={"gap": "16px"}, margin=(16, 0),
        )  # fmt: skip
        self.mapping = pn.Column(
            self.preview, fields, self.progress, self.start, visible=False, sizing_mode="stretch_width"
        )
        line = pn.Row(
            self.address, self.look_button, sizing_mode="stretch_width", styles={"gap": "8px"}, margin=(16, 0, 0, 0)
        )
        path = crumbs(link(_LIST, "Datasets"), "Upload")
        self.layout = pn.Column(
            html(join([path, heading("Upload a dataset")])), self.dropzone, line, self.problem, self.mapping,
            sizing_mode="stretch_width",
        )  # fmt: skip

    def _arrived(self, path: Path) -> None:
        self._look(str(path), path.name)

    def _refused(self, reason: str) -> None:
        show(self.problem, problem(reason))

    def _look(self, source: str, filename: str | None = None) -> None:
        if not source.strip():
            self._refused("Enter a path or a URL first.")
            return
        if filename is None and not self.context.local and ("://" not in source or source.strip().startswith("file:")):
            # The server's files are those of the person who runs it, not of everyone who reaches the page.
            self._refused("This dashboard is open to others, so it takes no path on its server: choose the file above.")
            return
        show(self.problem, "")
        self.look_button.disabled = True
        self.context.background(partial(self.form.take, source, filename), self._looked, self._failed)

    def _looked(self, _: None) -> None:
        """Fill the fields with what the file suggests."""
        self.look_button.disabled = False
        form, look = self.form, self.form.look
        if look is None:
            return
        form.name = self.route.query.get("name", form.name)
        form.new_version = "name" in self.route.query
        columns = list(look.columns)
        self._filling = True
        self.example.param.update(options=columns, value=form.example)
        self.truth.param.update(options=[NONE, *columns], value=form.ground_truth or NONE)
        self.name.param.update(value=form.name, value_input=form.name)
        self.again.value = form.new_version
        self._filling = False
        self._chosen()
        self.mapping.visible = True

    def _chosen(self, *_: Any) -> None:
        if self._filling:
            return
        form = self.form
        form.name = self.name.value_input or self.name.value
        form.example, form.new_version = self.example.value, self.again.value
        form.ground_truth = None if self.truth.value in (None, NONE) else self.truth.value
        self._mark(form.validate())
        show(self.preview, preview(form))

    def _mark(self, errors: dict[str, str]) -> None:
        """Show each error beside its field."""
        fields = {"name": self.name, "example": self.example, "ground_truth": self.truth}
        for field, widget in fields.items():
            widget.param.update(error_state=field in errors, helper_text=errors.get(field, ""))
        self.again.visible = self.form.taken
        show(self.problem, problem(errors.get("source")))

    def _submit(self) -> None:
        errors = self.form.validate()
        self._mark(errors)
        if errors:
            return
        self.start.param.update(disabled=True, label="Uploading…")
        self.progress.param.update(value=0, visible=True)
        shown_percent = 0

        def report(done: int, total: int) -> None:
            # Called from the thread that uploads, many times a second: only whole percents go to the browser.
            nonlocal shown_percent
            percent = round(100 * done / max(total, 1))
            if percent > shown_percent:
                shown_percent = percent
                self.context.later(partial(self.progress.param.update, value=min(percent, 100)))

        self.context.background(partial(self.form.submit, report), self._done, self._failed)

    def _done(self, dataset: Dataset) -> None:
        self.dropzone.clear()
        self.context.notify(f"{dataset.name}: {dataset.n_examples:,} examples uploaded")
        self.context.go(Route(("datasets", dataset.name)))

    def _failed(self, error: Exception) -> None:
        self.look_button.disabled = False
        self.start.param.update(disabled=False, label="Upload")
        self.progress.visible = False
        self._mark({field_of(error): in_words(error)})
