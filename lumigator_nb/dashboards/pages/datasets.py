"""Datasets: the list, one of them, and the upload."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.dropzone import Dropzone
from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.progress import dialog
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.database.records import Dataset
from lumigator_nb.display.html import join, tag
from lumigator_nb.display.text import size
from lumigator_nb.presentation.datasets import datasets as shown
from lumigator_nb.presentation.datasets.uploading import NONE, UploadForm, field_of, preview
from lumigator_nb.presentation.markup import button, crumbs, heading, link
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.deletion import Deletion

_LIST = Route(("datasets",))


class DatasetsPage(Page):
    """The list: search, sort and page; the route's query holds what is chosen."""

    title = "Datasets"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.search = pmui.TextInput(
            label="Search by name", value=route.query.get("search", ""), width=260, margin=0, size="small"
        )
        self.archived = pmui.Switch(label="Show archived", value="archived" in route.query, margin=(8, 0))
        self.search.param.watch(lambda event: self._searched(event.new), "value_input")
        self.archived.param.watch(lambda event: self._go(archived="1" if event.new else None), "value")
        self._list = html()
        self._filters = pn.FlexBox(self.search, self.archived, gap="16px", align_items="center")
        upload = button(Route(("upload",)), "Upload a file", primary=True)
        self.layout = pn.Column(
            html(heading("Datasets", upload)), self._filters, self._list, sizing_mode="stretch_width"
        )
        self._draw(route)

    def _with(self, **query: str | None) -> Route:
        return self.route.with_(page=None, **query)

    def _go(self, **query: str | None) -> None:
        route = self._with(**query)
        if route != self.route:
            self.context.go(route)

    def _searched(self, text: str) -> None:
        if text != self.route.query.get("search", ""):
            self.route = self._with(search=text)
            self.context.replace(self.route)
            self._draw(self.route)

    def _draw(self, route: Route) -> None:
        view = shown.dataset_list(self.context.ws, route)
        self._filters.visible = view.any
        show(self._list, shown.list_markup(view))

    def refresh(self) -> None:
        """Draw what has changed."""
        self._draw(self.route)

    def reroute(self, route: Route) -> bool:
        """Show other choices."""
        self.route = route
        search = route.query.get("search", "")
        self.search.param.update(value=search, value_input=search)
        self.archived.value = "archived" in route.query
        self._draw(route)
        return True


class DatasetPage(Page):
    """One dataset: its figures, examples and versions, and what can be done with it."""

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self._head, self._body, self._below = html(), html(), html()
        self._pulse = context.watcher.pulse
        self.view = shown.dataset_view(context.ws, route.path[1], route.number("page"))
        self.title = self.view.dataset.name
        self.annotation = AnnotateDialog(context, self.view.dataset)
        self.download = DownloadDialog(context, self.view.dataset)
        self.deletion = DeleteDialog(context, self.view.dataset)
        self.archive = _manage("Archive", "archive", lambda _: self._archive())
        manage = pn.FlexBox(
            _manage("Write ground truth", "edit_note", lambda _: self.annotation.open()),
            _manage("Download", "download", lambda _: self.download.open()),
            self.archive,
            _manage("Delete", "delete", lambda _: self.deletion.open(), color="error"),
            gap="8px",
            margin=(16, 0, 0, 0),
        )
        self.layout = pn.Column(
            self._head, self._body, self._below, manage,
            self.annotation.dialog, self.download.dialog, self.deletion.dialog, sizing_mode="stretch_width",
        )  # fmt: skip
        self._draw()

    def _draw(self) -> None:
        view, record = self.view, self.view.dataset
        way = crumbs(link(_LIST, "Datasets"), record.name)
        launch = button(Route(("launch",), {"dataset": view.key}), "New experiment", primary=True)
        again = button(Route(("upload",), {"name": record.name}), "Upload a new version")
        title = f"{record.name}, version {record.version}" if record.version > 1 else record.name
        show(self._head, join([way, heading(title, launch, again), shown.facts_markup(view)]))
        show(self._body, shown.rows_markup(view, self.route))
        parts = (
            shown.statistics_markup(view), shown.versions_markup(view),
            shown.experiments_markup(view), shown.about_markup(view),
        )  # fmt: skip
        show(self._below, join(parts))
        archived = record.archived_at is not None
        self.archive.param.update(
            label="Restore" if archived else "Archive", icon="unarchive" if archived else "archive"
        )

    def refresh(self) -> None:
        """Draw what has changed."""
        self.view = shown.dataset_view(self.context.ws, self.view.key, self.route.number("page"))
        self._draw()

    def reroute(self, route: Route) -> bool:
        """Show another page of the examples."""
        self.route = route
        self.refresh()
        return True

    def _archive(self) -> None:
        record, service = self.view.dataset, self.context.ws.datasets
        act = service.archive if record.archived_at is None else service.restore
        said = "Archived: lists leave it out" if record.archived_at is None else "Restored"

        def done(_: Dataset) -> None:
            self.context.notify(said)
            self.refresh()

        self.context.background(partial(act, record.id), done)


class AnnotateDialog:
    """Has a model write the ground truth, as a new dataset."""

    def __init__(self, context: Context, dataset: Dataset) -> None:
        self._context, self._dataset = context, dataset
        names = [model.name for model in context.ws.models.list()]
        self.model = pmui.AutocompleteInput(
            label="Model", options=names, restrict=False, min_characters=0, search_strategy="includes", width=420,
            margin=(8, 0),
        )  # fmt: skip
        self.name = pmui.TextInput(
            label="Name of the new dataset", value=f"{dataset.name}-annotated", width=420, margin=(8, 0)
        )
        self.budget = pmui.FloatInput(label="Budget in dollars (optional)", start=0, step=0.1, width=420, margin=(8, 0))
        self.problem = html()
        self.start = pmui.Button(
            label="Write ground truth", variant="contained", margin=0, on_click=lambda _: self._start()
        )
        close = pmui.Button(label="Close", variant="text", margin=0, on_click=lambda _: self._show(False))
        text = "A model answers every example, and its answers become the ground truth of a new dataset that says so."
        self.dialog = dialog(
            "Write ground truth", html(tag("p", text)), self.model, self.name, self.budget, self.problem,
            buttons=[close, self.start],
        )  # fmt: skip

    def open(self) -> None:
        """Ask for the model."""
        self._ready()
        self._show(True)

    def _show(self, shown_: bool) -> None:
        self.dialog.open = shown_

    def _ready(self, problem: str = "") -> None:
        self.start.param.update(disabled=False, label="Write ground truth")
        show(self.problem, tag("p", problem, class_="lm-error", role="alert") if problem else "")

    def _start(self) -> None:
        model = (self.model.value or self.model.value_input or "").strip()
        if not model:
            self._ready("Choose a model.")
            return
        self.start.param.update(disabled=True, label="Writing…")
        show(self.problem, tag("p", "It goes on if you close this; Jobs shows how far it is.", class_="lm-soft"))
        work = partial(
            self._context.ws.datasets.annotate, self._dataset, model=model, name=self.name.value.strip() or None,
            budget=self.budget.value or None, progress=False,
        )  # fmt: skip
        self._context.background(work, self._done, lambda error: self._ready(in_words(error)))

    def _done(self, dataset: Dataset) -> None:
        self._show(False)
        self._context.notify(f"{dataset.name} has ground truth now")
        self._context.go(Route(("datasets", dataset.name)))


class DownloadDialog:
    """Gives a dataset as CSV, as Parquet, or as it was uploaded."""

    def __init__(self, context: Context, dataset: Dataset) -> None:
        frame = partial(context.ws.datasets.to_pandas, dataset)
        name = dataset.name.replace("/", "-")
        files: list[tuple[str, str, Callable[[], io.BytesIO]]] = [
            ("CSV", f"{name}.csv", lambda: io.BytesIO(frame().to_csv(index=False).encode())),
            ("Parquet", f"{name}.parquet", lambda: _parquet(frame())),
            (f"As it was uploaded ({size(dataset.size_bytes)})", dataset.filename,
             lambda: io.BytesIO(context.ws.datasets.original(dataset))),
        ]  # fmt: skip
        buttons = [
            pmui.FileDownload(label=label, filename=filename, callback=callback, margin=(4, 0), width=420)
            for label, filename, callback in files
        ]
        close = pmui.Button(label="Close", variant="text", margin=0, on_click=lambda _: self._close())
        self.dialog = dialog("Download", *buttons, buttons=[close])

    def open(self) -> None:
        """Ask for the format."""
        self.dialog.open = True

    def _close(self) -> None:
        self.dialog.open = False


class DeleteDialog:
    """Shows what a deletion takes with it before it happens."""

    def __init__(self, context: Context, dataset: Dataset) -> None:
        self._context, self._dataset = context, dataset
        self._preview = html()
        self.confirm = pmui.Button(
            label="Delete", color="error", variant="contained", margin=0, on_click=lambda _: self._delete()
        )
        cancel = pmui.Button(label="Cancel", variant="text", margin=0, on_click=lambda _: self._close())
        self.dialog = dialog(f"Delete {dataset.name}?", self._preview, buttons=[cancel, self.confirm])

    def open(self) -> None:
        """Find out what would go, and ask."""
        work = partial(self._context.ws.datasets.delete, self._dataset, cascade=True, dry_run=True)
        self._context.background(work, self._previewed)

    def _close(self) -> None:
        self.dialog.open = False

    def _previewed(self, deletion: Deletion) -> None:
        show(self._preview, shown.deletion_markup(deletion))
        self.confirm.param.update(disabled=False, label="Delete")
        self.dialog.open = True

    def _delete(self) -> None:
        self.confirm.param.update(disabled=True, label="Deleting…")
        work = partial(self._context.ws.datasets.delete, self._dataset, cascade=True, stop=True)
        self._context.background(work, self._deleted, self._failed)

    def _deleted(self, _: Deletion) -> None:
        self._close()
        self._context.notify(f"{self._dataset.name} was deleted")
        self._context.go(_LIST)

    def _failed(self, error: Exception) -> None:
        self.confirm.param.update(disabled=False, label="Delete")
        show(self._preview, tag("p", in_words(error), class_="lm-error", role="alert"))


class UploadPage(Page):
    """Choose a file, say which column is what, upload."""

    title = "Upload"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.form = UploadForm(context.ws)
        self._filling = False
        most = context.ws.settings.lumigator_max_upload_mb * 10**6
        self.dropzone = Dropzone(self._arrived, self._refused, most, margin=(16, 0, 0, 0))
        context.at_end(self.dropzone.clear)
        self.address = pmui.TextInput(
            label="Or a path on the server, an address, or a dataset of the hub", sizing_mode="stretch_width", margin=0,
            placeholder="/data/tickets.csv, https://…, s3://…, hf://datasets/ORG/NAME", size="small",
        )  # fmt: skip
        self.look_button = pmui.Button(
            label="Look", variant="outlined", margin=0, on_click=lambda _: self._look(self.address.value)
        )
        self.problem = html()
        self.name = pmui.TextInput(label="Name", margin=0, sizing_mode="stretch_width")
        self.example = pmui.Select(label="Example: what models are asked", margin=0, sizing_mode="stretch_width")
        self.truth = pmui.Select(label="Ground truth: the answer wished for", margin=0, sizing_mode="stretch_width")
        self.again = pmui.Switch(label="Keep it as a new version of that dataset", visible=False, margin=0)
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
        way = crumbs(link(_LIST, "Datasets"), "Upload")
        self.layout = pn.Column(
            html(join([way, heading("Upload a dataset")])), self.dropzone, line, self.problem, self.mapping,
            sizing_mode="stretch_width",
        )  # fmt: skip

    def _arrived(self, path: Path) -> None:
        self._look(str(path), path.name)

    def _refused(self, why: str) -> None:
        show(self.problem, tag("p", why, class_="lm-error", role="alert"))

    def _look(self, source: str, filename: str | None = None) -> None:
        if not source.strip():
            self._refused("Write a path or an address first.")
            return
        if filename is None and not self.context.local and ("://" not in source or source.strip().startswith("file:")):
            self._refused("This dashboard is open to others, so it takes no path on its server: choose the file above.")
            return
        show(self.problem, "")
        self.look_button.disabled = True
        self.context.background(partial(self.form.take, source, filename), lambda _: self._looked(), self._failed)

    def _looked(self) -> None:
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
        self._tell(form.validate())
        show(self.preview, preview(form))

    def _tell(self, wrong: dict[str, str]) -> None:
        fields = {"name": self.name, "example": self.example, "ground_truth": self.truth}
        for field, widget in fields.items():
            widget.param.update(error_state=field in wrong, helper_text=wrong.get(field, ""))
        self.again.visible = self.form.taken
        show(self.problem, tag("p", wrong["source"], class_="lm-error", role="alert") if "source" in wrong else "")

    def _submit(self) -> None:
        wrong = self.form.validate()
        self._tell(wrong)
        if wrong:
            return
        self.start.param.update(disabled=True, label="Uploading…")
        self.progress.param.update(value=0, visible=True)
        self.context.background(partial(self.form.submit, self._report()), self._done, self._failed)

    def _report(self) -> Callable[[int, int], None]:
        shown_share = 0

        def report(done: int, total: int) -> None:
            nonlocal shown_share
            share = round(100 * done / max(total, 1))
            if share > shown_share:
                shown_share = share
                self.context.later(partial(self.progress.param.update, value=min(share, 100)))

        return report

    def _done(self, dataset: Dataset) -> None:
        self.dropzone.clear()
        self.context.notify(f"{dataset.name}: {dataset.n_examples:,} examples are here")
        self.context.go(Route(("datasets", dataset.name)))

    def _failed(self, error: Exception) -> None:
        self.look_button.disabled = False
        self.start.param.update(disabled=False, label="Upload")
        self.progress.visible = False
        field = field_of(error)
        self._tell({field: in_words(error)})


def _parquet(frame: pd.DataFrame) -> io.BytesIO:
    sink = io.BytesIO()
    frame.to_parquet(sink)
    sink.seek(0)
    return sink


def _manage(label: str, icon: str, act: Any, color: str = "default") -> pmui.Button:
    return pmui.Button(label=label, icon=icon, variant="text", size="small", color=color, on_click=act)
