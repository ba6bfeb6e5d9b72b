"""Experiments: the list, and the page of one experiment with its live progress."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Literal

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.dialogs import ArchiveButton, DeleteDialog, dialog, problem, text_button
from lumigator_nb.dashboards.pages.lists import ListPage, archived_switch, search_field, status_filter
from lumigator_nb.dashboards.pages.progress import ProgressPanel
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.database.records import Experiment
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.display.text import size
from lumigator_nb.presentation.markup import button, crumbs, empty, heading, link
from lumigator_nb.presentation.progress import experiments
from lumigator_nb.presentation.progress.view import ProgressView
from lumigator_nb.presentation.routes import Route
from lumigator_nb.storage.layout import temporary

_LIST = Route(("experiments",))


class ExperimentsPage(ListPage):
    """The list. The route's query holds search, filters, order and page."""

    title = "Experiments"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.search, self.status, self.archived = search_field(), status_filter(), archived_switch()
        new = button(Route(("launch",)), "New experiment", primary=True)
        head = heading("Experiments", new)
        self._lay_out(head, search=self.search, status=self.status, archived=self.archived)

    def _read(self, route: Route) -> experiments.ExperimentList:
        return experiments.experiment_list(self.context.ws, route)

    def _draw(self, view: experiments.ExperimentList) -> None:
        self._filters.visible = view.any
        show(self._list, experiments.list_markup(view))


class ExperimentPage(Page):
    """One experiment: its live progress, its facts, and buttons to compare, export, archive and delete it."""

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.facts = experiments.experiment_facts(context.ws, route.path[1])
        record, service = self.facts.experiment, context.ws.experiments
        self.title = record.name
        self._head, self._about, self._nothing = html(), html(margin=(24, 0, 0, 0)), html()
        self.progress = ProgressPanel(context, record, route, self._draw)
        self.export = ExportDialog(context, record)
        delete = partial(service.delete, record, stop=True)
        self.deletion = DeleteDialog(context, record.name, delete, experiments.deletion_markup, _LIST)
        self._archiving = ArchiveButton(
            context, partial(service.archive, record), partial(service.restore, record), self.refresh
        )
        self._archiving.show(record.archived_at)
        self.archive = self._archiving.widget
        buttons = pn.FlexBox(
            text_button("Export a file", self.export.open, icon="download", size="small", color="default"),
            self.archive,
            text_button("Delete", self.deletion.open, icon="delete", size="small", color="error"),
            gap="8px",
            margin=(16, 0, 0, 0),
        )
        self.layout = pn.Column(
            self._head,
            self._nothing,
            self.progress.layout,
            self._about,
            buttons,
            self.export.dialog,
            self.deletion.dialog,
            sizing_mode="stretch_width",
        )

    def _draw(self, view: ProgressView) -> None:
        name = self.facts.experiment.name
        clone = button(Route(("launch",), {"clone": name}), "Clone")
        more = Route(("launch",), {"experiment": name})
        actions: list[Html] = []
        if view.models:
            actions = [button(more, "Launch more models"), clone]
        if view.succeeded:
            actions.insert(0, button(Route((*_LIST.path, name, "comparison")), "Compare", primary=True))
        path = crumbs(link(_LIST, "Experiments"), name)
        show(self._head, join([path, heading(name, *actions, under=experiments.under_title(self.facts))]))
        self._nothing.visible = not view.models
        text = "Choose the models to compare. This page then shows their progress."
        launch = button(more, "Launch models", primary=True)
        show(self._nothing, "" if view.models else empty("No model launched yet", text, launch, clone))
        show(self._about, experiments.facts_markup(self.facts))

    def refresh(self) -> None:
        """Draw what has changed."""
        self.facts = experiments.experiment_facts(self.context.ws, self.facts.experiment.id)
        self._archiving.show(self.facts.experiment.archived_at)
        self._draw(self.progress.view)
        self.progress.update()

    def reroute(self, route: Route) -> bool:
        """Show another page of models."""
        self.route = route
        self.progress.turn_to(route)
        return True


class ExportDialog:
    """Writes an experiment to a file that another workspace can load."""

    def __init__(self, context: Context, experiment: Experiment) -> None:
        self._context, self._experiment = context, experiment
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        context.at_end(self._clean)
        text = "A file with everything the comparison needs, and no API keys. A colleague opens it with"
        self.data = pmui.Switch(label="Include the examples of the dataset", value=True, margin=(8, 0))
        self.problem = html()
        self.make = pmui.Button(label="Create the file", variant="contained", margin=0, on_click=lambda _: self._make())
        self.download = pmui.FileDownload(label="Download", visible=False, auto=True, margin=0)
        self.data.param.watch(lambda _: self._ready(None), "value")
        close = text_button("Close", self.close)
        about = html(tag("p", text, " ", tag("code", "ws.load(…)"), "."))
        self.dialog = dialog("Export", about, self.data, self.problem, buttons=[close, self.make, self.download])

    def open(self) -> None:
        """Ask what the file should hold."""
        self._ready(None)
        self.dialog.open = True

    def close(self) -> None:
        """Close the dialog."""
        self.dialog.open = False

    def _make(self) -> None:
        def failed(error: Exception) -> None:
            self._ready(None)
            show(self.problem, problem(in_words(error)))

        self.make.param.update(disabled=True, label="Creating the file…")
        data: Literal["full", "hash"] = "full" if self.data.value else "hash"
        self._clean()
        self._folder = tempfile.TemporaryDirectory(prefix=temporary("export"))
        # Names of experiments may hold any character; names of files may not.
        stem = re.sub(r"[^\w.-]+", "-", self._experiment.name).strip("-.")[:80] or "experiment"
        path = Path(self._folder.name) / f"{stem}.lumi.zip"
        work = partial(self._context.ws.export, self._experiment, path, data=data, progress=False)
        self._context.background(work, self._ready, failed)

    def _ready(self, path: Path | None) -> None:
        """Offer the file for download, or, without one, the button that creates it."""
        self.problem.object = ""
        self.make.param.update(disabled=False, label="Create the file", visible=path is None)
        self.download.visible = path is not None
        if path is not None:
            label = f"Download ({size(path.stat().st_size)})"
            self.download.param.update(file=str(path), filename=path.name, label=label)

    def _clean(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
