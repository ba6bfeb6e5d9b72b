"""Workflows: the list, and one of them with its steps and its log."""

from __future__ import annotations

import io
from functools import partial

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.lists import ListPage, status_filter
from lumigator_nb.dashboards.pages.progress import ActButton, BudgetDialog
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.display.html import join, tag
from lumigator_nb.presentation.markup import crumbs, heading, link
from lumigator_nb.presentation.progress import workflows
from lumigator_nb.presentation.progress.markup import done_words, own_block
from lumigator_nb.presentation.progress.view import ModelProgress, perform_all
from lumigator_nb.presentation.routes import Route


class WorkflowsPage(ListPage):
    """The list, newest first. The route's query holds page and status."""

    title = "Workflows"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.status = status_filter()
        under = "One for each model of an experiment, newest first."
        self._lay_out(heading("Workflows", under=under), status=self.status)

    def _read(self, route: Route) -> workflows.WorkflowList:
        return workflows.workflow_list(self.context.ws, route)

    def _draw(self, view: workflows.WorkflowList) -> None:
        self._filters.visible = bool(view.total) or "status" in view.route.query
        show(self._list, workflows.list_markup(view))


class WorkflowPage(Page):
    """One workflow: its progress, its steps, its log, and the button that stops, resumes or retries it."""

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.view = workflows.workflow_view(context.ws, route.path[1])
        self.title = self.view.workflow.label
        self._reading = self._due = self._busy = False
        self._head, self._model, self._steps, self._log = html(), html(), html(margin=(16, 0, 0, 0)), html()
        self._act, self._budget = ActButton(self._press), BudgetDialog()
        self.download = pmui.FileDownload(
            label="Download the log", size="small", callback=self._whole_log, auto=True,
            filename=f"{self.view.workflow.id}.log.txt",
        )  # fmt: skip
        log_head = pn.FlexBox(
            html(tag("h2", "Log"), sizing_mode=None), self.download, justify_content="space-between", align_items="end"
        )
        self.layout = pn.Column(
            self._head, self._model, self._act.widget, self._steps, log_head, self._log, self._budget.dialog,
            sizing_mode="stretch_width",
        )  # fmt: skip
        self._draw(self.view)
        self.refresh()

    def _draw(self, view: workflows.WorkflowView) -> None:
        self.view = view
        record = view.workflow
        experiment = view.experiment
        owner = link(Route(("experiments", experiment.name)), experiment.name)
        # A single job has a hidden experiment, which no page shows.
        path = crumbs(link(Route(("workflows",)), "Workflows"), *([owner] if experiment.job_name is None else []))
        show(self._head, join([path, heading(record.label)]))
        show(self._model, own_block(view.progress.models[0]))
        self._act.show(view.progress.models[0], busy=self._busy)
        show(self._steps, tag("div", *workflows.steps_markup(view), workflows.facts_markup(view), class_="lm-cards"))
        show(self._log, workflows.log_markup(view))

    def refresh(self) -> None:
        """Draw what has changed, and read the log while it may grow."""
        # One read at a time. A change during a read starts one more after it.
        self._due = True
        if self._reading:
            return
        self._reading, self._due = True, False
        before = self.view

        def read() -> workflows.WorkflowView:
            view = workflows.workflow_view(self.context.ws, before.workflow.id, before)
            if workflows.wants_log(view, before):
                return workflows.with_log(self.context.ws, view, self.context.watcher.pulse)
            return view

        def arrived(view: workflows.WorkflowView) -> None:
            self._reading = False
            self._draw(view)
            if self._due:
                self.refresh()

        def failed(_: Exception) -> None:
            # The banner of the shell reports the error; the next change reads again.
            self._reading = False

        self.context.background(read, arrived, failed)

    def _whole_log(self) -> io.BytesIO:
        return io.BytesIO(self.context.ws.workflows.logs(self.view.workflow).encode())

    def _press(self, model: ModelProgress) -> None:
        if model.act == "resume" and model.budget is not None:
            self._budget.ask([model], partial(self._start, model))
        else:
            self._start(model)

    def _start(self, model: ModelProgress, budget: float | None = None) -> None:
        act = model.act
        if act is None:
            return
        self._busy = True
        self._draw(self.view)

        def ended(message: str, kind: str) -> None:
            self._busy = False
            self.context.notify(message, kind)
            self._draw(self.view)
            self.refresh()

        self.context.background(
            partial(perform_all, self.context.ws, act, [model], budget),
            lambda _: ended(done_words(act, 1), "success"),
            lambda error: ended(in_words(error), "error"),
        )
