"""The progress of models, what it cost so far, and what the user can do: for widgets and pages alike."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from lumigator_nb.database.records import Experiment, Job, Workflow
from lumigator_nb.display.progress import STALE, ProgressRow
from lumigator_nb.display.text import one_line
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.progress.interim_score import InterimScore, Main, interim_score, main_of, recorded
from lumigator_nb.services.workflows.workflows import Target
from lumigator_nb.specs import Status, Step, now

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

Act = Literal["stop", "resume", "retry", "score"]
ACTS: tuple[Act, ...] = ("stop", "resume", "retry", "score")
LOG_LINES = 30
# The order on screens: running models first, then those that need a decision.
ORDER = (Status.RUNNING, Status.PENDING, Status.CREATED, Status.FAILED, Status.STOPPED, Status.SUCCEEDED)
_STATES = {Status.CREATED: "waiting", Status.PENDING: "queued", Status.RUNNING: "starting"}
_STEPS = {Step.INFERENCE: "answering", Step.EVALUATION: "scoring"}
# The time left is not estimated from fewer examples. An estimate that rises by a smaller share is noise.
_FEWEST, _NOISE = 3, 0.25


@dataclass(frozen=True)
class ModelProgress:
    """The progress of one model.

    Attributes:
        state: status and step in a word, such as "answering".
        done, total: examples of the current step.
        rate: examples per second; None if unknown, and after the end.
        left_s: estimated seconds until the step ends, rounded so that the figure stays calm; None if unknown.
        took_s: seconds from start to end of the last attempt; None while it runs.
        cost: dollars so far; None without a price.
        failed: number of examples without an answer.
        interim_score: main score so far; None before the first scores.
        notes: other remarks.
        skipped: metrics that could not be computed, with the reasons.
        error: why it failed or was stopped.
        log: last lines of its log; None until they are read.
        read: whether its scores were read since it ended.
        act: what the user can do with it.
        budget: its budget in dollars, if it was stopped because of that.
    """

    workflow: Workflow
    state: str
    done: int = 0
    total: int = 0
    rate: float | None = None
    left_s: float | None = None
    took_s: float | None = None
    cost: float | None = None
    failed: int = 0
    interim_score: InterimScore | None = None
    notes: tuple[str, ...] = ()
    skipped: str = ""
    error: str = ""
    log: str | None = None
    read: bool = False
    act: Act | None = None
    budget: float | None = None

    @property
    def status(self) -> Status:
        """The status that was recorded last."""
        return self.workflow.status

    @property
    def share(self) -> float:
        """Share of the step that is done, in [0, 1]."""
        if self.status is Status.SUCCEEDED:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True)
class ProgressView:
    """The progress of several models.

    Attributes:
        title: name of the experiment, or of the models.
        name: name of the experiment; None if the models are not those of one experiment.
        models: the models, in the order of their launch.
        took_s: seconds in which at least one model ran.
    """

    title: str
    name: str | None
    models: tuple[ModelProgress, ...]
    took_s: float = 0.0

    @property
    def counts(self) -> Counter[Status]:
        """Number of models by status."""
        return Counter(model.status for model in self.models)

    @property
    def ended(self) -> bool:
        """Whether all models have ended."""
        return all(model.status.ended for model in self.models)

    @property
    def succeeded(self) -> int:
        """Number of models that can be compared."""
        return self.counts[Status.SUCCEEDED]

    @property
    def cost(self) -> float | None:
        """Dollars so far; None if no model has a price."""
        costs = [model.cost for model in self.models if model.cost is not None]
        return sum(costs) if costs else None

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until all models have ended their current steps; None if unknown for one of them."""
        estimates = [model.left_s for model in self.models if not model.status.ended]
        seconds = [estimate for estimate in estimates if estimate is not None]
        return max(seconds) if seconds and len(seconds) == len(estimates) else None

    def able(self, act: Act) -> list[ModelProgress]:
        """Return the models that an act is possible for."""
        return [model for model in self.models if model.act == act]


def progress_view(
    ws: Workspace,
    target: Target,
    *,
    before: ProgressView | None = None,
    rows: Callable[[str], Sequence[ProgressRow]] | None = None,
) -> ProgressView:
    """Return the recorded progress, from a few queries and a look at the store. The cluster is not asked.

    Args:
        target: experiment, workflow or workflows.
        before: the view shown now. The new one keeps its scores and logs, and stays close to its estimates.
        rows: reads the progress of an experiment by its id. Screens pass one that they share.

    Raises:
        NotFoundError: there is no such experiment or workflow.
    """
    experiment = target if isinstance(target, Experiment) else None
    experiment = ws.experiments.find(target) if isinstance(target, str) else experiment
    workflows = ws.workflows.of(target if experiment is None else experiment.id)
    progress: Sequence[ProgressRow] = []
    if rows and experiment:
        progress = rows(experiment.id)
    elif workflows:
        progress = ws.workflows.progress(workflows)
    # Shared rows may have been read a moment before or after the workflows, so they are matched by label.
    by_label = {row.label: row for row in progress} if rows else {}
    jobs: dict[str, list[Job]] = defaultdict(list)
    for job in ws.workflows.jobs(workflows) if workflows else []:
        jobs[job.workflow_id].append(job)
    earlier = {model.workflow.id: model for model in before.models} if before else {}
    main = main_of(experiment) if experiment else None
    models = []
    for index, workflow in enumerate(workflows):
        row = by_label.get(workflow.label) if rows else progress[index]
        models.append(_model(workflow, row, jobs[workflow.id], main, earlier.get(workflow.id)))
    if experiment:
        title = experiment.name
    else:
        title = workflows[0].label if len(workflows) == 1 else f"{len(workflows):,} models"
    return ProgressView(title, experiment.name if experiment else None, tuple(models), _time_with_work(workflows))


def detailed(ws: Workspace, view: ProgressView, ids: Iterable[str] | None = None) -> ProgressView:
    """Add what takes longer to read: interim scores, and the logs of failed models.

    Scores and log of a model that has ended are read once.

    Args:
        ids: of the visible workflows; default all.
    """
    visible = {model.workflow.id for model in view.models} if ids is None else set(ids)
    owners = {model.workflow.experiment_id for model in view.models if model.workflow.id in visible}
    mains = {key: main_of(ws.experiments.get(key)) for key in owners}
    models = []
    for model in view.models:
        if model.workflow.id in visible:
            # If the store does not answer, or the model was just deleted, the rest of the view is still right.
            with suppress(LumigatorError):
                model = _with_scores(ws, model, mains[model.workflow.experiment_id])
            with suppress(LumigatorError):
                if model.log is None and model.status is Status.FAILED:
                    lines = ws.workflows.logs(model.workflow).rstrip().splitlines()
                    model = replace(model, log="\n".join(lines[-LOG_LINES:]))
        models.append(model)
    return replace(view, models=tuple(models))


def perform(ws: Workspace, act: Act, target: Target, *, budget: float | None = None) -> list[Workflow]:
    """Stop workflows, resume failed or stopped ones, retry missing answers, or compute skipped metrics.

    Args:
        budget: dollars that each workflow may spend in all when it goes on; default its earlier budget.

    Raises:
        ClusterUnavailableError: the cluster does not answer.
    """
    if act == "stop":
        return ws.workflows.stop(target)
    if act == "score":
        # Scoring works on experiments, and the workflows may belong to several.
        by_experiment = defaultdict(list)
        for workflow in ws.workflows.of(target):
            by_experiment[workflow.experiment_id].append(workflow)
        return [
            workflow
            for experiment, only in by_experiment.items()
            for workflow in ws.workflows.evaluate(experiment, only=only, skipping=True, budget=budget)
        ]
    if act == "resume":
        return ws.workflows.resume(target, budget=budget)
    return ws.workflows.retry_failed(target, budget=budget)


def perform_all(ws: Workspace, act: Act, models: Sequence[ModelProgress], budget: float | None = None) -> None:
    """Like :func:`perform`. The budget applies only to models that had used up theirs."""
    out_of_budget = [model.workflow for model in models if model.budget is not None]
    others = [model.workflow for model in models if model.budget is None]
    if out_of_budget:
        perform(ws, act, out_of_budget, budget=budget if act == "resume" else None)
    if others:
        perform(ws, act, others)


def _model(
    workflow: Workflow, row: ProgressRow | None, jobs: Sequence[Job], main: Main | None, before: ModelProgress | None
) -> ModelProgress:
    row = row or ProgressRow(workflow.label, workflow.status)
    ended = workflow.status.ended
    step = row.step
    answers = next((job for job in jobs if job.step is Step.INFERENCE), None)
    failed = row.failed if step is Step.INFERENCE else answers.n_failed if answers else 0
    # What was shown of an earlier attempt says nothing about this one.
    same = before if before and before.workflow.attempt == workflow.attempt else None
    unchanged = same is not None and same.status is workflow.status
    score = same.interim_score if same and (unchanged or not ended) else None
    if score is None:
        score = recorded(next((job.scores for job in jobs if job.step is Step.EVALUATION), {}), main)
    took_s = None
    if workflow.finished_at is not None and ended:
        took_s = max(0.0, (workflow.finished_at - workflow.attempted_at).total_seconds())
    notes = (row.result, STALE if workflow.stale else "", "" if ended else one_line(row.note))
    return ModelProgress(
        workflow=workflow,
        state=str(workflow.status) if ended else _STEPS[step] if step else _STATES[workflow.status],
        done=row.done,
        total=row.total,
        rate=None if ended else row.rate,
        left_s=None if ended else _time_left(row, same),
        took_s=took_s,
        cost=_cost(workflow, row, jobs),
        failed=failed,
        interim_score=score,
        notes=tuple(note for note in notes if note),
        skipped=row.skipped,
        error=workflow.error or "",
        log=same.log if same and unchanged else None,
        read=bool(same and unchanged and same.read),
        act=_possible_act(workflow, failed, row.skipped),
        budget=workflow.launch.budget if workflow.status is Status.STOPPED and workflow.error else None,
    )


def _possible_act(workflow: Workflow, failed: int, skipped: str) -> Act | None:
    if not workflow.status.ended:
        return "stop"
    if workflow.status is not Status.SUCCEEDED:
        return "resume"
    return "retry" if failed else "score" if skipped else None


def _time_left(row: ProgressRow, before: ModelProgress | None) -> float | None:
    """Return the estimated time left in seconds. It falls, or rises by more than noise."""
    if row.seconds_left is None or row.done < min(_FEWEST, row.total):
        return None
    last = before.left_s if before and before.state == _STEPS.get(row.step or Step.INFERENCE) else None
    rounded = _rounded(row.seconds_left)
    return last if last is not None and last < rounded < (1 + _NOISE) * last + 5 else rounded


def _rounded(seconds: float) -> float:
    """Round up: to 5 s below a minute, to minutes below an hour, then to tens of minutes."""
    grain = 5 if seconds < 60 else 60 if seconds < 3600 else 600
    return float(math.ceil(seconds / grain) * grain)


def _cost(workflow: Workflow, row: ProgressRow, jobs: Sequence[Job]) -> float | None:
    """Return the cost of finished steps, and of the current one unless its job includes it already."""
    costs = [job.details["cost"] for job in jobs if job.details.get("cost") is not None]
    ends = [job.finished_at for job in jobs if job.step is row.step and job.finished_at is not None]
    included = any(end >= workflow.attempted_at for end in ends)
    if row.cost is not None and not included:
        costs.append(row.cost)
    return float(sum(costs)) if costs else None


def _with_scores(ws: Workspace, model: ModelProgress, main: Main | None) -> ModelProgress:
    ended = model.status.ended
    has_scores = model.interim_score is not None if ended else model.state == _STEPS[Step.EVALUATION]
    if main is None or model.read or not has_scores:
        return model
    score = interim_score(ws, model.workflow, main) or model.interim_score
    return replace(model, interim_score=score, read=ended)


def _time_with_work(workflows: Sequence[Workflow]) -> float:
    """Return the seconds in which at least one workflow ran. Parallel time counts once, pauses do not count."""
    total, until = 0.0, None
    periods = sorted((workflow.attempted_at, workflow.finished_at or now()) for workflow in workflows)
    for begin, end in periods:
        start: datetime = begin if until is None else max(begin, until)
        total += max(0.0, (end - start).total_seconds())
        until = end if until is None else max(until, end)
    return total
