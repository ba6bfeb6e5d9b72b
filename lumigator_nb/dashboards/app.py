"""One page per session: choose an experiment, watch it, compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import panel as pn

from lumigator_nb.display.progress import as_html
from lumigator_nb.errors import LumigatorError
from lumigator_nb.records import Experiment
from lumigator_nb.specs import Status
from lumigator_nb.workspace import Workspace

POLL_INTERVAL_MS = 2000
EMPTY = """### No experiment yet
Make one in a notebook or a terminal, then reload this page:

    make quickstart
    lumigator-nb run YOUR.csv --example COLUMN --ground-truth COLUMN -m baseline/lead-2
"""


def serve_pages(make_page: Callable[[], Any], *, port: int, show: bool) -> None:
    """Serve a page factory on loopback; blocks."""
    pn.serve(
        {"/": make_page},
        port=port,
        address="127.0.0.1",
        websocket_origin=["127.0.0.1", "localhost"] if port == 0 else [f"127.0.0.1:{port}", f"localhost:{port}"],
        show=show,
        title="Lumigator",
    )


def page(ws: Workspace) -> _Page:
    """Build the page of one browser session; the chosen experiment stands in its address."""
    experiments = {experiment.name: experiment for experiment in ws.experiments.list(limit=1000)}
    chooser = pn.widgets.Select(name="Experiment", options=list(experiments), sizing_mode="stretch_width")
    if pn.state.location:
        pn.state.location.sync(chooser, {"value": "experiment"})
    view = _ExperimentView(ws)
    if experiments:
        chooser.param.watch(lambda event: view.choose(experiments[event.new]), "value")
        view.choose(experiments[chooser.value])
        pn.state.add_periodic_callback(view.refresh, period=POLL_INTERVAL_MS)
    body = view.layout if experiments else pn.pane.Markdown(EMPTY)
    return _Page(title="Lumigator", sidebar=[chooser, pn.pane.HTML(ws._repr_html_())], main=[body], sidebar_width=330)


class _Page(pn.template.VanillaTemplate):  # type: ignore[misc] # panel is untyped
    """Panel's plain template without the font that it would fetch from elsewhere."""

    _resources: ClassVar[dict[str, Any]] = {}


class _ExperimentView:
    """Progress and comparison of the chosen experiment; redrawn only when something has changed."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._experiment: Experiment | None = None
        self._compared: tuple[str, ...] = ()
        self._progress = pn.pane.HTML(sizing_mode="stretch_width")
        self._comparison = pn.pane.HTML(sizing_mode="stretch_width")
        self.layout = pn.Column(self._progress, self._comparison, sizing_mode="stretch_width")

    def choose(self, experiment: Experiment) -> None:
        self._experiment, self._compared = experiment, ()
        self._comparison.object = ""
        self.refresh()

    def refresh(self) -> None:
        if self._experiment is None:
            return
        try:
            workflows = self._ws.workflows.refresh(self._experiment)
            html = as_html(self._ws.workflows.progress(workflows))
            if html != self._progress.object:
                self._progress.object = html
            done = tuple(workflow.id for workflow in workflows if workflow.status is Status.SUCCEEDED)
            if done and done != self._compared:
                self._comparison.object = self._ws.compare(self._experiment)._repr_html_()
                self._compared = done
        except LumigatorError as error:
            self._progress.object = f"<p>{error.message}</p>"
