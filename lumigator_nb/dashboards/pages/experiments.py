"""Experiments: the list, and one of them with its live progress and what can be done with it."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Literal

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.progress import ProgressPanel, dialog
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.database.records import Experiment
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.display.text import size
from lumigator_nb.presentation.folders import temporary
from lumigator_nb.presentation.markup import button, crumbs, empty, heading, link
from lumigator_nb.presentation.progress import experiments as shown
from lumigator_nb.presentation.progress.markup import word
from lumigator_nb.presentation.progress.view import ProgressView
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.deletion import Deletion
from lumigator_nb.specs import Status

ANY = "Any status"
_STATUSES = {ANY: "", **{word(status).capitalize(): str(status) for status in Status}}


def status_filter(route: Route) -> pmui.Select:
    """Return a field that chooses a status; its value stands in the route's query as `status`."""
    return pmui.Select(label="Status", options=_STATUSES, value=route.query.get("status", ""), width=180, margin=0)


class ExperimentsPage(Page):
    """The list: search, filter, sort and page; the route's query holds what is chosen."""

    title = "Experiments"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        query = route.query
        self.search = pmui.TextInput(label="Search by name", value=query.get("search", ""), width=260, margin=0)
        self.status = status_filter(route)
        self.archived = pmui.Switch(label="Show archived", value="archived" in query, margin=(8, 0))
        self.search.param.watch(lambda event: self._searched(event.new), "value_input")
        self.status.param.watch(lambda event: self._go(status=event.new), "value")
        self.archived.param.watch(lambda event: self._go(archived="1" if event.new else None), "value")
        self._list = html()
        self._filters = pn.FlexBox(
            self.search, self.status, self.archived, gap="16px", align_items="center", margin=(16, 0, 8, 0)
        )
        new = button(Route(("launch",)), "New experiment", primary=True)
        self.layout = pn.Column(
            html(heading("Experiments", new)), self._filters, self._list, sizing_mode="stretch_width"
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
        view = shown.experiment_list(self.context.ws, route)
        self._filters.visible = view.any
        show(self._list, shown.list_markup(view))

    def refresh(self) -> None:
        """Draw what has changed."""
        route = self.route
        self.context.background(
            lambda: shown.experiment_list(self.context.ws, route),
            lambda view: show(self._list, shown.list_markup(view)),
        )

    def reroute(self, route: Route) -> bool:
        """Show other choices."""
        self.route = route
        query = route.query
        self.search.param.update(value=query.get("search", ""), value_input=query.get("search", ""))
        self.status.value = query.get("status", "") if query.get("status") in _STATUSES.values() else ""
        self.archived.value = "archived" in query
        self._draw(route)
        return True


class ExperimentPage(Page):
    """One experiment: its progress, live, its facts, and what can be done with it."""

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.facts = shown.experiment_facts(context.ws, route.path[1])
        self.title = self.facts.experiment.name
        self._head, self._about, self._nothing = html(), html(margin=(24, 0, 0, 0)), html()
        self.progress = ProgressPanel(context, self.facts.experiment, route, self._draw)
        self.export = ExportDialog(context, self.facts.experiment)
        self.deletion = DeleteDialog(context, self.facts.experiment)
        self.archive = _manage("Archive", "archive", lambda _: self._archive())
        manage = pn.FlexBox(
            _manage("Export a file", "download", lambda _: self.export.open()),
            self.archive,
            _manage("Delete", "delete", lambda _: self.deletion.open(), color="error"),
            gap="8px",
            margin=(16, 0, 0, 0),
        )
        self.layout = pn.Column(
            self._head,
            self._nothing,
            self.progress.layout,
            self._about,
            manage,
            self.export.dialog,
            self.deletion.dialog,
            sizing_mode="stretch_width",
        )

    def _draw(self, view: ProgressView) -> None:
        record = self.facts.experiment
        actions = _actions(record.name, view)
        way = crumbs(link(Route(("experiments",)), "Experiments"), record.name)
        show(self._head, join([way, heading(record.name, *actions, under=shown.under_title(self.facts))]))
        self._nothing.visible = not view.models
        show(self._nothing, _nothing_launched(record.name) if not view.models else "")
        show(self._about, shown.facts_markup(self.facts))

    def refresh(self) -> None:
        """Draw what has changed."""
        self.facts = shown.experiment_facts(self.context.ws, self.facts.experiment.id)
        archived = self.facts.experiment.archived_at is not None
        self.archive.param.update(
            label="Restore" if archived else "Archive", icon="unarchive" if archived else "archive"
        )
        self._draw(self.progress.view)
        self.progress.update()

    def reroute(self, route: Route) -> bool:
        """Show another page of models."""
        self.route = route
        self.progress.turn_to(route)
        return True

    def _archive(self) -> None:
        record, service = self.facts.experiment, self.context.ws.experiments
        act = service.archive if record.archived_at is None else service.restore
        said = "Archived: lists leave it out" if record.archived_at is None else "Restored"

        def done(_: Experiment) -> None:
            self.context.notify(said)
            self.refresh()

        self.context.background(partial(act, record), done)


class ExportDialog:
    """Makes the file that a colleague's workspace takes in."""

    def __init__(self, context: Context, experiment: Experiment) -> None:
        self._context, self._experiment = context, experiment
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        context.at_end(self._clean)
        text = "A file with everything that the comparison needs, and no API keys. A colleague takes it in with"
        self.data = pmui.Switch(label="With the examples of the dataset", value=True, margin=(8, 0))
        self.problem = html()
        self.make = pmui.Button(label="Make the file", variant="contained", margin=0, on_click=lambda _: self._make())
        self.download = pmui.FileDownload(label="Download", visible=False, auto=True, margin=0)
        self.data.param.watch(lambda _: self._ready(None), "value")
        close = pmui.Button(label="Close", variant="text", margin=0, on_click=lambda _: self.close())
        said = html(tag("p", text, " ", tag("code", "ws.load(…)"), "."))
        self.dialog = dialog("Export", said, self.data, self.problem, buttons=[close, self.make, self.download])

    def open(self) -> None:
        """Ask what the file shall hold."""
        self._ready(None)
        self.dialog.open = True

    def close(self) -> None:
        """Put the dialog away."""
        self.dialog.open = False

    def _make(self) -> None:
        self.make.param.update(disabled=True, label="Making the file…")
        data: Literal["full", "hash"] = "full" if self.data.value else "hash"
        self._clean()
        self._folder = tempfile.TemporaryDirectory(prefix=temporary("export"))
        path = Path(self._folder.name) / f"{_file_name(self._experiment.name)}.lumi.zip"
        work = partial(self._context.ws.export, self._experiment, path, data=data, progress=False)
        self._context.background(work, self._ready, self._failed)

    def _ready(self, path: Path | None) -> None:
        self.problem.object = ""
        self.make.param.update(disabled=False, label="Make the file", visible=path is None)
        self.download.visible = path is not None
        if path is not None:
            label = f"Download ({size(path.stat().st_size)})"
            self.download.param.update(file=str(path), filename=path.name, label=label)

    def _failed(self, error: Exception) -> None:
        self._ready(None)
        show(self.problem, tag("p", in_words(error), class_="lm-error", role="alert"))

    def _clean(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class DeleteDialog:
    """Shows what a deletion takes with it before it happens."""

    def __init__(self, context: Context, experiment: Experiment) -> None:
        self._context, self._experiment = context, experiment
        self._preview = html()
        self.confirm = pmui.Button(
            label="Delete", color="error", variant="contained", margin=0, on_click=lambda _: self._delete()
        )
        cancel = pmui.Button(label="Cancel", variant="text", margin=0, on_click=lambda _: self.close())
        title = f"Delete {experiment.name}?"
        self.dialog = dialog(title, self._preview, buttons=[cancel, self.confirm])

    def open(self) -> None:
        """Find out what would go, and ask."""
        work = partial(self._context.ws.experiments.delete, self._experiment, dry_run=True, stop=True)
        self._context.background(work, self._previewed)

    def close(self) -> None:
        """Put the dialog away; nothing has happened."""
        self.dialog.open = False

    def _previewed(self, deletion: Deletion) -> None:
        show(self._preview, shown.deletion_markup(deletion))
        self.confirm.param.update(disabled=False, label="Delete")
        self.dialog.open = True

    def _delete(self) -> None:
        self.confirm.param.update(disabled=True, label="Deleting…")
        work = partial(self._context.ws.experiments.delete, self._experiment, stop=True)
        self._context.background(work, self._deleted, self._failed)

    def _deleted(self, deletion: Deletion) -> None:
        self.dialog.open = False
        problems = "; ".join(deletion.problems)
        self._context.notify(f"{self._experiment.name} was deleted" + (f"; {problems}" if problems else ""))
        self._context.go(Route(("experiments",)))

    def _failed(self, error: Exception) -> None:
        self.confirm.param.update(disabled=False, label="Delete")
        show(self._preview, tag("p", in_words(error), class_="lm-error", role="alert"))


def _actions(name: str, view: ProgressView) -> list[Html]:
    if not view.models:
        return []
    compare = button(Route(("experiments", name, "comparison")), "Compare", primary=True) if view.succeeded else None
    more = button(Route(("launch",), {"experiment": name}), "Launch more models")
    clone = button(Route(("launch",), {"clone": name}), "Clone")
    return [*([compare] if compare else []), more, clone]


def _nothing_launched(name: str) -> Html:
    launch = button(Route(("launch",), {"experiment": name}), "Launch models", primary=True)
    clone = button(Route(("launch",), {"clone": name}), "Clone")
    return empty(
        "No model launched yet", "Choose the models to compare; here you will see how far they are.", launch, clone
    )


def _manage(label: str, icon: str, act: Any, color: str = "default") -> pmui.Button:
    return pmui.Button(label=label, icon=icon, variant="text", size="small", color=color, on_click=act)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "experiment"
