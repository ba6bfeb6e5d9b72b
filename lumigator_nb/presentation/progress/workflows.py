"""Workflows as a list, and one of them with its steps and its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lumigator_nb.database.record_views import describe_details, describe_launch, describe_model
from lumigator_nb.database.records import Experiment, Job, Workflow
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

# Characters of a log that a page shows; the whole of it is a download.
TAIL = 20_000
# Logs as they were read last, so that several who look at one job do not all ask the cluster for it.
_MOST_LOGS = 16
_logs: WeakKeyDictionary[Workspace, dict[str, tuple[tuple[int, Status, int], str]]] = WeakKeyDictionary()
_STEP_NAMES = {Step.INFERENCE: "Answers", Step.EVALUATION: "Scores"}


@dataclass(frozen=True)
class JobList:
    """A page of the list.

    Attributes:
        route: where it is; its query holds `page` and `status`.
        experiments: their names by id.
        page: from 1.
        total: workflows on all pages.
    """

    route: Route
    workflows: tuple[Workflow, ...]
    experiments: dict[str, str]
    page: int
    total: int


@dataclass(frozen=True)
class JobView:
    """One workflow: how it stands, its steps, and the end of its log.

    Attributes:
        progress: of this one workflow.
        log: its last lines; None where it could not be read, for the reason in `log_problem`.
        cut: whether there is more of the log before it.
    """

    workflow: Workflow
    experiment: Experiment
    jobs: tuple[Job, ...]
    progress: ProgressView
    log: str | None = None
    log_problem: str = ""
    cut: bool = False


def job_list(ws: Workspace, route: Route) -> JobList:
    """Return the page that a route names; the number of queries does not depend on how many workflows there are."""
    status = status_of(route)
    total = ws.workflows.count(status=status)
    page = min(route.number("page"), max(1, -(-total // PER_PAGE)))
    found = ws.workflows.list(limit=PER_PAGE, offset=(page - 1) * PER_PAGE, status=status)
    names = ws.experiments.names(list({each.experiment_id for each in found}))
    return JobList(route, tuple(found), names, page, total)


def job_view(ws: Workspace, key: str, before: JobView | None = None) -> JobView:
    """Return how a workflow stands, as it is recorded; without its log, for which :func:`with_log` asks.

    Args:
        before: the view that was shown.

    Raises:
        NotFoundError: there is no such workflow.
    """
    record = ws.workflows.get(key)
    experiment = before.experiment if before else ws.experiments.get(record.experiment_id)
    progress = progress_view(ws, [record], before=before.progress if before else None)
    view = JobView(record, experiment, tuple(ws.workflows.jobs([record])), progress)
    return view if before is None else _keeping_log(view, before)


def with_log(ws: Workspace, view: JobView, pulse: int = 0) -> JobView:
    """Add the end of the log, from the store or, while the worker is at work, from the cluster.

    Args:
        pulse: of the watcher; for all who ask within one the log is read once.
    """
    try:
        text = _log_of(ws, view.workflow, pulse)
    except LumigatorError as error:
        return _logged(view, None, f"The log cannot be read now: {error.message}")
    start = 0 if len(text) <= TAIL else text.index("\n", len(text) - TAIL) + 1 if "\n" in text[-TAIL:] else -TAIL
    return _logged(view, text[start:], cut=start != 0)


def _log_of(ws: Workspace, workflow: Workflow, pulse: int) -> str:
    known = _logs.setdefault(ws, {})
    state = workflow.attempt, workflow.status, pulse
    if workflow.id not in known or known[workflow.id][0] != state:
        known[workflow.id] = state, ws.workflows.logs(workflow)
        while len(known) > _MOST_LOGS:
            known.pop(next(iter(known)), None)
    return known[workflow.id][1]


def wants_log(view: JobView, shown: JobView | None) -> bool:
    """Whether the log may have grown since it was read."""
    if shown is None or shown.log is None or not view.workflow.status.ended:
        return True
    return (shown.workflow.attempt, shown.workflow.status) != (view.workflow.attempt, view.workflow.status)


def _logged(view: JobView, log: str | None, problem: str = "", *, cut: bool = False) -> JobView:
    return JobView(view.workflow, view.experiment, view.jobs, view.progress, log, problem, cut)


def _keeping_log(view: JobView, before: JobView) -> JobView:
    return _logged(view, before.log, before.log_problem, cut=before.cut)


def list_markup(view: JobList) -> Html:
    """Return the list, or what to do where it is empty."""
    if not view.workflows:
        return _nothing(view.route)
    rows = [_cells(each, view.experiments.get(each.experiment_id, "")) for each in view.workflows]
    headers = ["Model", "Experiment", "Status", "Started", "Took"]
    return join([listing(headers, rows), pager(view.route, view.page, PER_PAGE, view.total, "job")])


def _nothing(route: Route) -> Html:
    status = status_of(route)
    if status is not None:
        return empty(f"No job is {word(status)}", "Others may be.", button(Route(("jobs",)), "Show all jobs"))
    text = "Each model of an experiment runs as a job on the cluster. Here you see how it stands, and its log."
    return empty("No job yet", text, button(Route(("launch",)), "New experiment", primary=True))


def _cells(workflow: Workflow, experiment: str) -> list[object]:
    reason = first_line(workflow.error, 160) if workflow.error else ""
    state = status_chip(workflow.status, word(workflow.status))
    return [
        link(Route(("jobs", workflow.id)), name(workflow.label)),
        link(Route(("experiments", experiment)), name(experiment)) if experiment else "",
        tag("div", state, tag("div", reason, class_="lm-note lm-reason") if reason else None),
        tag("span", moment(workflow.attempted_at), class_="lm-time"),
        _took(workflow),
    ]


def _took(workflow: Workflow) -> str:
    if workflow.finished_at is None:
        return ""
    return took((workflow.finished_at - workflow.attempted_at).total_seconds())


def facts_markup(view: JobView) -> Html:
    """Return what the workflow is."""
    record = view.workflow
    rows: list[tuple[object, object]] = [
        _belonging(view.experiment),
        ("Model", name(f"{record.model.provider}/{record.model.name}")),
        ("Settings", clipped(describe_model(record.model))),
        ("Launch", describe_launch(record.launch)),
        ("Attempt", str(record.attempt) if record.attempt > 1 else ""),
        ("Begun", moment(record.attempted_at)),
        ("Ended", moment(record.finished_at) if record.finished_at else ""),
        ("Id", record.id),
    ]
    return card("About", [(label, value) for label, value in rows if value])


def _belonging(experiment: Experiment) -> tuple[str, object]:
    if experiment.job_name is not None:
        return "Job", name(experiment.job_name)
    return "Experiment", link(Route(("experiments", experiment.name)), name(experiment.name))


def steps_markup(view: JobView) -> list[Html]:
    """Return the steps, in the order in which they run."""
    return [_step(job, view.workflow.error) for job in view.jobs]


def _step(job: Job, told: str | None) -> Html:
    """What a step left; not its error, where that is told already."""
    examples = f"{count(job.n_examples, 'example')}" if job.n_examples else ""
    without = "an answer" if job.step is Step.INFERENCE else "a score"
    rows: list[tuple[object, object]] = [
        ("Examples", examples + (f", {job.n_failed:,} without {without}" if job.n_failed else "")),
        ("Scores", clipped(", ".join(f"{score} {value:.4g}" for score, value in job.scores.items()))),
        ("Error", tag("span", clipped(job.error), class_="lm-error") if job.error and job.error != told else ""),
        *((label, clipped(text)) for label, text in describe_details(job.details) if label != "traceback"),
    ]
    title = join(
        [_STEP_NAMES[job.step], " ", tag("span", status_chip(job.status, word(job.status)), class_="lm-state")]
    )
    return card(title, [(label, value) for label, value in rows if value and (label != "Scores" or job.scores)])


def log_markup(view: JobView) -> Html:
    """Return the end of the log."""
    if view.log is None:
        said = view.log_problem or "Reading the log…"
        return tag("p", said, class_="lm-soft")
    if not view.log.strip():
        return tag("p", "Nothing was printed yet." if not view.workflow.status.ended else "Nothing was printed.")
    cut = tag("p", "The end of the log; download it to see the whole.", class_="lm-note") if view.cut else Html("")
    # Turned round, so that it opens at its end and stays there while it grows.
    return join([cut, tag("div", tag("pre", view.log), class_="lm-tail", tabindex="0", aria_label="Log", role="log")])
