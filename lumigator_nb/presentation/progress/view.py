"""How far models are, what that took so far, and what can be done about it: for a cell and a page alike."""

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
from lumigator_nb.presentation.progress.interim_score import Main, Standing, main_of, recorded, standing
from lumigator_nb.services.workflows.workflows import Target
from lumigator_nb.specs import Status, Step, now

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

Act = Literal["stop", "resume", "retry", "score"]
ACTS: tuple[Act, ...] = ("stop", "resume", "retry", "score")
LOG_LINES = 30
# What is under way stands first in words, what needs a decision next.
ORDER = (Status.RUNNING, Status.PENDING, Status.CREATED, Status.FAILED, Status.STOPPED, Status.SUCCEEDED)
_STATES = {Status.CREATED: "waiting", Status.PENDING: "queued", Status.RUNNING: "starting"}
_STEPS = {Step.INFERENCE: "answering", Step.EVALUATION: "scoring"}
# An estimate of the time left from fewer examples says nothing; a rise smaller than this share is noise.
_FEWEST, _NOISE = 3, 0.25


@dataclass(frozen=True)
class ModelProgress:
    """How far one model is.

    Attributes:
        state: status and step in a word, such as "answering".
        done, total: examples of the step under way.
        rate: examples per second.
        left_s: seconds that the step still takes, in steps that do not jump about; None where nothing is known.
        took_s: seconds from the begin to the end of the last attempt; None while it goes on.
        cost: dollars so far; None without a price.
        failed: examples without an answer.
        notes: what else there is to say.
        skipped: which metrics could not be computed, and why.
        error: why it failed or was stopped; `log` are the last lines that its worker printed, None until they are read.
        read: whether its scores were read since it ended.
        act: what can be done about it.
        budget: dollars that it may spend, where that is why it was stopped.
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
    standing: Standing | None = None
    notes: tuple[str, ...] = ()
    skipped: str = ""
    error: str = ""
    log: str | None = None
    read: bool = False
    act: Act | None = None
    budget: float | None = None

    @property
    def status(self) -> Status:
        """As it was last recorded."""
        return self.workflow.status

    @property
    def share(self) -> float:
        """How much of the step is done, in [0, 1]."""
        if self.status is Status.SUCCEEDED:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True)
class ProgressView:
    """How far all models are.

    Attributes:
        title: the experiment's name, or what stands for several workflows.
        name: the experiment's name; None where what is shown is not one experiment.
        took_s: seconds in which at least one model was under way.
    """

    title: str
    name: str | None
    models: tuple[ModelProgress, ...]
    took_s: float = 0.0

    @property
    def counts(self) -> Counter[Status]:
        """Models by status."""
        return Counter(model.status for model in self.models)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return all(model.status.ended for model in self.models)

    @property
    def succeeded(self) -> int:
        """Models that can be compared."""
        return self.counts[Status.SUCCEEDED]

    @property
    def cost(self) -> float | None:
        """Dollars so far; None where nothing has a price."""
        known = [model.cost for model in self.models if model.cost is not None]
        return sum(known) if known else None

    @property
    def left_s(self) -> float | None:
        """Seconds until all have ended the step that they are at; None where that is unknown for one."""
        waiting = [model.left_s for model in self.models if not model.status.ended]
        known = [left for left in waiting if left is not None]
        return max(known) if known and len(known) == len(waiting) else None

    def able(self, act: Act) -> list[ModelProgress]:
        """Return the models with which that can be done."""
        return [model for model in self.models if model.act == act]


def progress_view(
    ws: Workspace,
    target: Target,
    *,
    before: ProgressView | None = None,
    rows: Callable[[str], Sequence[ProgressRow]] | None = None,
) -> ProgressView:
    """Return how far models are, as it is recorded: a few queries and a look at the store, none at the cluster.

    Args:
        target: experiment, workflow or workflows.
        before: the view that was shown, from which it does not jump away, and whose scores and logs it keeps.
        rows: reads the progress of an experiment by its id, for all who show it at once; default for this one only.

    Raises:
        NotFoundError: there is no such experiment or workflow.
    """
    experiment = target if isinstance(target, Experiment) else None
    experiment = ws.experiments.find(target) if isinstance(target, str) else experiment
    workflows = ws.workflows.of(target if experiment is None else experiment.id)
    found = rows(experiment.id) if rows and experiment else ws.workflows.progress(workflows) if workflows else []
    by_label = {row.label: row for row in found} if rows else {}
    jobs = _by_workflow(ws.workflows.jobs(workflows) if workflows else [])
    known = {model.workflow.id: model for model in before.models} if before else {}
    main = main_of(experiment) if experiment else None
    models = []
    for index, each in enumerate(workflows):
        row = by_label.get(each.label) if rows else found[index]
        models.append(_model(each, row, jobs[each.id], main, known.get(each.id)))
    title = experiment.name if experiment else _title(workflows)
    return ProgressView(title, experiment.name if experiment else None, tuple(models), _at_work(workflows))


def detailed(ws: Workspace, view: ProgressView, shown: Iterable[str] | None = None) -> ProgressView:
    """Add what takes longer to read: scores with intervals of those that have some, logs of those that failed.

    What was read before of a model that has ended is not read again.

    Args:
        shown: ids of the workflows that are looked at; default all.
    """
    wanted = {model.workflow.id for model in view.models} if shown is None else set(shown)
    owners = {model.workflow.experiment_id for model in view.models if model.workflow.id in wanted}
    mains = {key: main_of(ws.experiments.get(key)) for key in owners}
    models = []
    for model in view.models:
        if model.workflow.id in wanted:
            with suppress(LumigatorError):  # a store that is out of reach, or what was just deleted: the rest stays
                model = _with_scores(ws, model, mains[model.workflow.experiment_id])
            with suppress(LumigatorError):
                model = _with_log(ws, model)
        models.append(model)
    return replace(view, models=tuple(models))


def perform(ws: Workspace, act: Act, target: Target, *, budget: float | None = None) -> list[Workflow]:
    """Do it: stop, resume what failed or was stopped, ask again for missing answers, or compute skipped metrics.

    Args:
        budget: dollars that each may spend in all, where it is to go on; default what it had before.

    Raises:
        ClusterUnavailableError: the cluster does not answer.
    """
    if act == "stop":
        return ws.workflows.stop(target)
    if act == "score":
        chosen = defaultdict(list)
        for workflow in ws.workflows.of(target):
            chosen[workflow.experiment_id].append(workflow)
        return [
            each
            for owner, only in chosen.items()
            for each in ws.workflows.evaluate(owner, only=only, skipping=True, budget=budget)
        ]
    again = ws.workflows.resume if act == "resume" else ws.workflows.retry_failed
    return again(target, budget=budget)


def perform_all(ws: Workspace, act: Act, models: Sequence[ModelProgress], budget: float | None = None) -> None:
    """As :func:`perform`; the budget is for those only that had used up theirs."""
    short = [model.workflow for model in models if model.budget is not None]
    others = [model.workflow for model in models if model.budget is None]
    if short:
        perform(ws, act, short, budget=budget if act == "resume" else None)
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
    same = before if before and before.workflow.attempt == workflow.attempt else None
    known = same is not None and same.status is workflow.status
    scores = next((job.scores for job in jobs if job.step is Step.EVALUATION), {})
    return ModelProgress(
        workflow=workflow,
        state=str(workflow.status) if ended else _STEPS[step] if step else _STATES[workflow.status],
        done=row.done,
        total=row.total,
        rate=None if ended else row.rate,
        left_s=None if ended else _calm(row, same),
        took_s=_took(workflow),
        cost=_cost(workflow, row, jobs),
        failed=failed,
        standing=same.standing if same and same.standing and (known or not ended) else recorded(scores, main),
        notes=_notes(workflow, row),
        skipped=row.skipped,
        error=workflow.error or "",
        log=same.log if same and known else None,
        read=bool(same and known and same.read),
        act=_act(workflow, failed, row.skipped),
        budget=workflow.launch.budget if workflow.status is Status.STOPPED and workflow.error else None,
    )


def _act(workflow: Workflow, failed: int, skipped: str) -> Act | None:
    if not workflow.status.ended:
        return "stop"
    if workflow.status is not Status.SUCCEEDED:
        return "resume"
    return "retry" if failed else "score" if skipped else None


def _notes(workflow: Workflow, row: ProgressRow) -> tuple[str, ...]:
    stale = STALE if workflow.stale else ""
    note = "" if workflow.status.ended else one_line(row.note)
    return tuple(text for text in (row.result, stale, note) if text)


def _calm(row: ProgressRow, before: ModelProgress | None) -> float | None:
    """The time left; it rises only where it does so clearly, and else falls."""
    if row.seconds_left is None or row.done < min(_FEWEST, row.total):
        return None
    last = before.left_s if before and before.state == _STEPS.get(row.step or Step.INFERENCE) else None
    rounded = _rounded(row.seconds_left)
    return last if last is not None and last < rounded < (1 + _NOISE) * last + 5 else rounded


def _rounded(seconds: float) -> float:
    """Upwards, the more coarsely the longer: 5 s, then minutes, then tens of minutes."""
    grain = 5 if seconds < 60 else 60 if seconds < 3600 else 600
    return float(math.ceil(seconds / grain) * grain)


def _took(workflow: Workflow) -> float | None:
    if workflow.finished_at is None or not workflow.status.ended:
        return None
    return max(0.0, (workflow.finished_at - workflow.attempted_at).total_seconds())


def _cost(workflow: Workflow, row: ProgressRow, jobs: Sequence[Job]) -> float | None:
    """What steps left that came to their end, and what the one spent since that did not, or not yet."""
    known = [job.details["cost"] for job in jobs if job.details.get("cost") is not None]
    ended = [job.finished_at for job in jobs if job.step is row.step and job.finished_at is not None]
    counted = any(at >= workflow.attempted_at for at in ended)
    if row.cost is not None and not counted:
        known.append(row.cost)
    return float(sum(known)) if known else None


def _with_scores(ws: Workspace, model: ModelProgress, main: Main | None) -> ModelProgress:
    ended = model.status.ended
    if main is None or model.read or (model.standing is None if ended else model.state != _STEPS[Step.EVALUATION]):
        return model
    return replace(model, standing=standing(ws, model.workflow, main) or model.standing, read=ended)


def _with_log(ws: Workspace, model: ModelProgress) -> ModelProgress:
    if model.log is not None or model.status is not Status.FAILED:
        return model
    lines = ws.workflows.logs(model.workflow).rstrip().splitlines()
    return replace(model, log="\n".join(lines[-LOG_LINES:]))


def _by_workflow(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        found[job.workflow_id].append(job)
    return found


def _at_work(workflows: Sequence[Workflow]) -> float:
    """Seconds in which at least one was under way: those of models side by side count once, pauses do not."""
    total, until = 0.0, None
    for begin, end in sorted((each.attempted_at, each.finished_at or now()) for each in workflows):
        start: datetime = begin if until is None else max(begin, until)
        total += max(0.0, (end - start).total_seconds())
        until = end if until is None else max(until, end)
    return total


def _title(workflows: Sequence[Workflow]) -> str:
    return workflows[0].label if len(workflows) == 1 else f"{len(workflows):,} models"
