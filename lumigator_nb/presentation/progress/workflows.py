"""Workflows: the list, and one of them with its steps and its log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lumigator_nb.database.records import Experiment, Job, Workflow
from lumigator_nb.display.descriptions import describe_details, describe_launch, describe_model
from lumigator_nb.display.html import Html, card, clipped, join, name, status_chip, tag
from lumigator_nb.display.text import count, first_line, moment
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.markup import PER_PAGE, button, empty, link, listing, pager
from lumigator_nb.presentation.progress.experiments import status_of
from lumigator_nb.presentation.progress.markup import took, word
from lumigator_nb.presentation.progress.view import ProgressView, progress_view
from lumigator_nb.presentation.routes import Route
from lumigator_nb.specs import Status, Step

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

# Characters of a log that a page shows; the whole log is a download.
TAIL = 20_000
# The logs read last, so that several browsers on one workflow do not each ask the cluster for its log.
_MOST_LOGS = 16
_logs: WeakKeyDictionary[Workspace, dict[str, tuple[tuple[int, Status, int], str]]] = WeakKeyDictionary()
_STEP_NAMES = {Step.INFERENCE: "Answers", Step.EVALUATION: "Scores"}


@dataclass(frozen=True)
class WorkflowList:
    """A page of the list.

    Attributes:
        route: of the page; its query holds `page` and `status`.
        experiments: names of experiments by id.
        page: from 1.
        total: workflows on all pages.
    """

    route: Route
    workflows: tuple[Workflow, ...]
    experiments: dict[str, str]
    page: int
    total: int


@dataclass(frozen=True)
class WorkflowView:
    """One workflow with its progress, its steps, and the end of its log.

    Attributes:
        progress: of this workflow alone.
        log: its last lines; None before it is read, and if it cannot be read for the reason in `log_problem`.
        cut: whether the log has earlier lines.
    """

    workflow: Workflow
    experiment: Experiment
    jobs: tuple[Job, ...]
    progress: ProgressView
    log: str | None = None
    log_problem: str = ""
    cut: bool = False


def workflow_list(ws: Workspace, route: Route) -> WorkflowList:
    """Return the page of a route, in a number of queries that does not grow with the number of workflows."""
    status = status_of(route)
    total = ws.workflows.count(status=status)
    page = min(route.number("page"), max(1, -(-total // PER_PAGE)))
    workflows = ws.workflows.list(limit=PER_PAGE, offset=(page - 1) * PER_PAGE, status=status)
    names = ws.experiments.names(list({workflow.experiment_id for workflow in workflows}))
    return WorkflowList(route, tuple(workflows), names, page, total)


def workflow_view(ws: Workspace, key: str, before: WorkflowView | None = None) -> WorkflowView:
    """Return a workflow as it is recorded. Its log is that of `before`; :func:`with_log` reads a new one.

    Args:
        before: the view shown now.

    Raises:
        NotFoundError: there is no such workflow.
    """
    record = ws.workflows.get(key)
    experiment = before.experiment if before else ws.experiments.get(record.experiment_id)
    progress = progress_view(ws, [record], before=before.progress if before else None)
    view = WorkflowView(record, experiment, tuple(ws.workflows.jobs([record])), progress)
    if before is None:
        return view
    return replace(view, log=before.log, log_problem=before.log_problem, cut=before.cut)


def with_log(ws: Workspace, view: WorkflowView, pulse: int = 0) -> WorkflowView:
    """Add the end of the log: from the store, or from the cluster while the workflow runs.

    Args:
        pulse: of the watcher. The log is read once for all calls with the same pulse.
    """
    workflow, logs = view.workflow, _logs.setdefault(ws, {})
    state = workflow.attempt, workflow.status, pulse
    cached = logs.get(workflow.id)
    if cached is None or cached[0] != state:
        try:
            cached = logs[workflow.id] = state, ws.workflows.logs(workflow)
        except LumigatorError as error:
            return replace(view, log=None, log_problem=f"The log cannot be read now: {error.message}", cut=False)
        while len(logs) > _MOST_LOGS:
            # Several threads share the logs, and another one may have removed the oldest first.
            logs.pop(next(iter(logs)), None)
    text = cached[1]
    start = 0
    if len(text) > TAIL:
        # Begin with a whole line, unless the last line alone is too long.
        end_of_line = text.find("\n", len(text) - TAIL)
        start = end_of_line + 1 if end_of_line >= 0 else len(text) - TAIL
    return replace(view, log=text[start:], log_problem="", cut=start > 0)


def wants_log(view: WorkflowView, before: WorkflowView | None) -> bool:
    """Return whether the log may have grown since it was read."""
    if before is None or before.log is None or not view.workflow.status.ended:
        return True
    return (before.workflow.attempt, before.workflow.status) != (view.workflow.attempt, view.workflow.status)


def list_markup(view: WorkflowList) -> Html:
    """Return the list, or what to do if it is empty."""
    status = status_of(view.route)
    if not view.workflows and status is not None:
        text = "Workflows with another status may exist."
        return empty(f"No workflow is {word(status)}", text, button(Route(("workflows",)), "Show all workflows"))
    if not view.workflows:
        text = "Each model of an experiment runs as a workflow. This page shows their status and their logs."
        return empty("No workflow yet", text, button(Route(("launch",)), "New experiment", primary=True))
    rows = []
    for workflow in view.workflows:
        experiment = view.experiments.get(workflow.experiment_id, "")
        reason = first_line(workflow.error, 160) if workflow.error else ""
        state = status_chip(workflow.status, word(workflow.status))
        ended = workflow.finished_at
        row: list[object] = [
            link(Route(("workflows", workflow.id)), name(workflow.label)),
            link(Route(("experiments", experiment)), name(experiment)) if experiment else "",
            tag("div", state, tag("div", reason, class_="lm-note lm-reason") if reason else None),
            tag("span", moment(workflow.attempted_at), class_="lm-time"),
            "" if ended is None else took((ended - workflow.attempted_at).total_seconds()),
        ]
        rows.append(row)
    headers = ["Model", "Experiment", "Status", "Started", "Took"]
    return join([listing(headers, rows), pager(view.route, view.page, PER_PAGE, view.total, "workflow")])


def facts_markup(view: WorkflowView) -> Html:
    """Return the facts of a workflow as a table."""
    record, experiment = view.workflow, view.experiment
    owner: tuple[object, object] = "Experiment", link(Route(("experiments", experiment.name)), name(experiment.name))
    if experiment.job_name is not None:
        owner = "Job", name(experiment.job_name)  # its experiment exists only to hold this job
    rows: list[tuple[object, object]] = [
        owner,
        ("Model", name(f"{record.model.provider}/{record.model.name}")),
        ("Settings", clipped(describe_model(record.model))),
        ("Launch", describe_launch(record.launch)),
        ("Attempt", str(record.attempt) if record.attempt > 1 else ""),
        ("Started", moment(record.attempted_at)),
        ("Ended", moment(record.finished_at) if record.finished_at else ""),
        ("Id", record.id),
    ]
    return card("About", [(label, value) for label, value in rows if value])


def steps_markup(view: WorkflowView) -> list[Html]:
    """Return a card with the results of each step, in the order in which they run."""
    cards = []
    for job in view.jobs:
        examples = count(job.n_examples, "example") if job.n_examples else ""
        if job.n_failed:
            examples += f", {job.n_failed:,} without {'an answer' if job.step is Step.INFERENCE else 'a score'}"
        scores = ", ".join(f"{score} {value:.4g}" for score, value in job.scores.items())
        # The page shows the error of the workflow at its top already.
        error = "" if job.error == view.workflow.error else job.error
        rows: list[tuple[object, object]] = [
            ("Examples", examples),
            ("Scores", clipped(scores) if scores else ""),
            ("Error", tag("span", clipped(error), class_="lm-error") if error else ""),
            *((label, clipped(text)) for label, text in describe_details(job.details) if label != "traceback"),
        ]
        state = tag("span", status_chip(job.status, word(job.status)), class_="lm-state")
        cards.append(card(join([_STEP_NAMES[job.step], " ", state]), [row for row in rows if row[1]]))
    return cards


def log_markup(view: WorkflowView) -> Html:
    """Return the end of the log."""
    if view.log is None:
        return tag("p", view.log_problem or "Reading the log…", class_="lm-soft")
    if not view.log.strip():
        return tag("p", "The log is empty." if view.workflow.status.ended else "The log is still empty.")
    cut = tag("p", "The end of the log. Download it to see all of it.", class_="lm-note") if view.cut else Html("")
    # Its style reverses the scroll direction, so that the log opens at its end and stays there while it grows.
    return join([cut, tag("div", tag("pre", view.log), class_="lm-tail", tabindex="0", aria_label="Log", role="log")])
