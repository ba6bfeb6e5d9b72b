"""The estimate of a launch's cost and time, shown before the user launches."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from lumigator_nb import metrics, models
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import Html, join, name, table, tag, unfolding
from lumigator_nb.display.text import MISSING, count, duration, joined
from lumigator_nb.errors import LumigatorError
from lumigator_nb.services.workflows.estimates import estimate
from lumigator_nb.specs import MetricSpec, Model, Status, Step, Task
from lumigator_nb.storage import layout, results

if TYPE_CHECKING:
    from lumigator_nb.database.records import Dataset
    from lumigator_nb.workspace import Workspace

log = logging.getLogger(__name__)

# The first examples stand for all: to read a whole dataset again after every key press would take too long.
LOOKED_AT = 200
# The latest workflows among which the models' last runs are looked up.
_EARLIER = 200


@dataclass(frozen=True)
class ModelEstimate:
    """The estimate for one model.

    Attributes:
        label: of the model.
        tokens_in, tokens_out: expected number of tokens of all prompts and of all answers.
        dollars: expected cost; None if the model has no price.
        at_most: cost in dollars if every answer has the maximum length; None if that is unknown.
        judges, judges_at_most: expected and highest cost of judging its answers; None if a judge has no price.
        seconds: at the speed of the model's last run here; None if it never ran.
        alone: whether it uses all cores, so that other models wait for it.
    """

    label: str
    tokens_in: int
    tokens_out: int
    dollars: float | None
    at_most: float | None
    seconds: float | None
    alone: bool
    judges: float | None = 0.0
    judges_at_most: float | None = 0.0


@dataclass(frozen=True)
class LaunchEstimate:
    """The estimate for a launch.

    Attributes:
        n_examples: number of examples that each model answers.
        models: estimates of the models.
        judges: number of judge models.
        budget: limit in dollars for each model; None means no limit.
    """

    n_examples: int
    models: tuple[ModelEstimate, ...]
    judges: int = 0
    budget: float | None = None

    @property
    def priced(self) -> list[ModelEstimate]:
        """Estimates of the models that have a price."""
        return [model for model in self.models if model.dollars is not None]

    @property
    def dollars(self) -> float:
        """Expected cost of all models and judges that have a price."""
        return sum(model.dollars or 0.0 for model in self.models) + self.judges_dollars

    @property
    def judges_dollars(self) -> float:
        """Expected cost of the judges, if they have prices."""
        return sum(model.judges or 0.0 for model in self.models)

    @property
    def at_most(self) -> float:
        """Cost of all models and judges if every answer has the maximum length, within the budget."""
        limit = math.inf if self.budget is None else self.budget
        return sum(
            min(max(model.at_most or 0.0, model.dollars or 0.0) + (model.judges_at_most or 0.0), limit)
            for model in self.models
        )

    @property
    def seconds(self) -> float | None:
        """Seconds until the last model has finished; None if that is unknown for a model."""
        if any(model.seconds is None for model in self.models):
            return None
        # Models share the machine, except for those that use all cores, which run one after the other.
        together = max((model.seconds or 0.0 for model in self.models if not model.alone), default=0.0)
        return together + sum(model.seconds or 0.0 for model in self.models if model.alone)

    @property
    def over_budget(self) -> list[str]:
        """Labels of the models that are expected to reach the budget before they finish."""
        budget = math.inf if self.budget is None else self.budget
        return [model.label for model in self.models if (model.dollars or 0.0) + (model.judges or 0.0) > budget]


def estimate_launch(
    ws: Workspace,
    dataset: Dataset,
    task: Task,
    chosen: Sequence[Model],
    *,
    n_examples: int,
    specs: Sequence[MetricSpec] = (),
    budget: float | None = None,
) -> LaunchEstimate:
    """Estimate a launch from the first examples and from earlier workflows; may take a second."""
    texts: list[str] = []
    truths: list[str | None] = []
    shards = results.iter_shards(ws.store, layout.examples(dataset.id), ["example", "ground_truth"], LOOKED_AT)
    for rows in islice(shards, 1):
        columns = rows.to_pydict()
        texts = columns["example"]
        truths = columns.get("ground_truth", [None] * len(texts))
    scale = n_examples / max(1, len(texts))
    paces = _paces(ws, chosen)
    estimates = []
    for model in chosen:
        tokens_in = tokens_out = 0
        cost = at_most = judging = judging_at_most = None
        # A template may name columns that are not read here. Then the cost stays unknown.
        with suppress(LumigatorError):
            part = estimate(model, texts, task, ground_truth=truths, metrics=specs)
            tokens_in, tokens_out = round(part.prompt_tokens * scale), round(part.completion_tokens * scale)
            costs = (part.dollars, part.dollars_at_most, part.judge_dollars, part.judge_dollars_at_most)
            cost, at_most, judging, judging_at_most = (None if each is None else each * scale for each in costs)
        pace = paces.get((model.provider, model.name))
        seconds = None if pace is None else pace * n_examples
        if seconds is not None and (rate := models.hourly_rate(model)):
            cost = seconds * rate / 3600
        alone = models.uses_all_cores(model)
        estimates.append(
            ModelEstimate(model.label, tokens_in, tokens_out, cost, at_most, seconds, alone, judging, judging_at_most)
        )
    return LaunchEstimate(n_examples, tuple(estimates), len(metrics.models_of(specs)), budget)


def _paces(ws: Workspace, chosen: Sequence[Model]) -> dict[tuple[str, str], float]:
    """Return seconds per example of each model's last run here, by provider and name."""
    names = {(model.provider, model.name) for model in chosen}
    # Oldest first, so that a model's last run overwrites earlier ones.
    workflows = [
        workflow
        for workflow in reversed(ws.workflows.list(limit=_EARLIER, status=Status.SUCCEEDED))
        if (workflow.model.provider, workflow.model.name) in names
    ]
    by_id = {workflow.id: (workflow.model.provider, workflow.model.name) for workflow in workflows}
    paces: dict[tuple[str, str], float] = {}
    for job in ws.workflows.jobs(workflows) if workflows else []:
        if job.step is Step.INFERENCE and job.started_at and job.finished_at and job.n_examples:
            paces[by_id[job.workflow_id]] = (job.finished_at - job.started_at).total_seconds() / job.n_examples
    return paces


def estimate_html(launch: LaunchEstimate | None) -> Html:
    """Return an estimate: a sentence, notes, and a table of the models that the reader can unfold."""
    if launch is None:
        return tag("div", "Choose a dataset and models to see an estimate.", class_="lm-soft")
    headline = "No fee"
    if launch.at_most:
        headline = f"About {dollars(launch.dollars)}, at most {dollars(launch.at_most)}"
    if launch.seconds is not None:
        headline += f"; about {_time(launch.seconds)}"
    work = f"{count(len(launch.models), 'model')}, {count(launch.n_examples, 'example')} each"
    rows = [
        (
            name(model.label),
            f"{model.tokens_in:,}" if model.tokens_in else MISSING,
            f"{model.tokens_out:,}" if model.tokens_out else MISSING,
            MISSING if model.dollars is None else dollars(model.dollars),
            MISSING if model.at_most is None else dollars(model.at_most),
            *([MISSING if model.judges is None else dollars(model.judges)] if launch.judges else []),
            MISSING if model.seconds is None else _time(model.seconds),
        )
        for model in launch.models
    ]
    headers = ("Model", "Tokens in", "Tokens out", "Cost", "At most", *(["Judges"] if launch.judges else []), "Time")
    return join([
        tag("div", tag("b", headline), tag("span", f" · {work}", class_="lm-soft")),
        *(tag("div", note, class_="lm-note") for note in _notes(launch)),
        unfolding("Figures for each model", table(headers, rows, numeric=range(1, len(headers)))),
    ])  # fmt: skip


def _time(seconds: float) -> str:
    return duration(max(1.0, seconds))


def _notes(launch: LaunchEstimate) -> list[str]:
    """Return what the figures leave out."""
    unpriced = len(launch.models) - len(launch.priced)
    notes = []
    if launch.priced and unpriced:
        verb = "is" if unpriced == 1 else "are"
        notes.append(f"{count(unpriced, 'model')} without a list price {verb} not included.")
    if launch.judges_dollars:
        notes.append(f"{count(launch.judges, 'judge')} included, at about {dollars(launch.judges_dollars)}.")
    elif launch.judges and any(model.judges is None for model in launch.models):
        notes.append(f"The cost of {count(launch.judges, 'judge')} is not known, and not included.")
    if launch.seconds is None:
        notes.append("The time is known after the first answers.")
    if launch.over_budget:
        verb = "is" if len(launch.over_budget) == 1 else "are"
        notes.append(f"{joined(launch.over_budget)} {verb} expected to stop at the budget.")
    return notes


class Debounced:
    """Does work in a thread after a pause without further requests. Only the result of the last request counts.

    Args:
        then: called with the result, from that thread.
        wait: length of the pause in seconds.
    """

    def __init__(self, then: Callable[[Html], None], wait: float = 0.3) -> None:
        self._then, self._wait = then, wait
        self._timer: threading.Timer | None = None
        self._number = 0

    def ask(self, work: Callable[[], Html]) -> None:
        """Request `work`, in place of earlier requests."""
        if self._timer is not None:
            self._timer.cancel()
        self._number += 1
        number = self._number

        def run() -> None:
            try:
                markup = work()
            except Exception as error:
                # The user can launch without an estimate, so its failure must not stop the form.
                log.info("no estimate: %s", error)
                reason = error.message if isinstance(error, LumigatorError) else type(error).__name__
                markup = tag("div", f"No estimate now: {reason}", class_="lm-soft")
            # cancel() does not stop work that has begun.
            if number == self._number:
                self._then(markup)

        self._timer = threading.Timer(self._wait, run)
        self._timer.daemon = True
        self._timer.start()
