"""What a launch would cost and how long it would take, told before the button."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from lumigator_nb import models
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import Html, join, name, table, tag, unfolding
from lumigator_nb.display.text import MISSING, count, duration, joined
from lumigator_nb.errors import LumigatorError
from lumigator_nb.services.workflows.estimates import estimate
from lumigator_nb.specs import Model, Status, Step, Task
from lumigator_nb.storage import layout, results

if TYPE_CHECKING:
    from lumigator_nb.database.records import Dataset
    from lumigator_nb.workspace import Workspace

log = logging.getLogger(__name__)

# Their length stands for that of all: reading a whole dataset again for every key press would take too long.
LOOKED_AT = 200
_EARLIER = 200


@dataclass(frozen=True)
class ModelEstimate:
    """What one model would take.

    Attributes:
        dollars: expected; `at_most` where all answers are as long as they may be. None: it has no price.
        seconds: as fast as when it last ran here; None where it never did.
        alone: whether it wants the whole machine, so that others wait for it.
    """

    label: str
    tokens_in: int
    tokens_out: int
    dollars: float | None
    at_most: float | None
    seconds: float | None
    alone: bool


@dataclass(frozen=True)
class LaunchEstimate:
    """What a launch would take.

    Attributes:
        n_examples: that each model is asked.
        judges: how many models judge besides, which is not counted.
        budget: dollars that each model may spend; None is no bound.
    """

    n_examples: int
    models: tuple[ModelEstimate, ...]
    judges: int = 0
    budget: float | None = None

    @property
    def priced(self) -> list[ModelEstimate]:
        """Those that have a price."""
        return [each for each in self.models if each.dollars is not None]

    @property
    def dollars(self) -> float:
        """Expected in all."""
        return sum(each.dollars or 0.0 for each in self.priced)

    @property
    def at_most(self) -> float:
        """Where all answers are as long as they may be, or the budget ends them."""
        return sum(self._within(each.at_most or 0.0) for each in self.priced)

    @property
    def seconds(self) -> float | None:
        """Until the last model is ready; None where nobody knows."""
        known = [each for each in self.models if each.seconds is not None]
        if len(known) < len(self.models):
            return None
        together = max((each.seconds or 0.0 for each in known if not each.alone), default=0.0)
        return together + sum(each.seconds or 0.0 for each in known if each.alone)

    @property
    def too_dear(self) -> list[str]:
        """Who is expected to reach the budget before the end."""
        budget = self.budget
        return [] if budget is None else [each.label for each in self.priced if (each.dollars or 0.0) > budget]

    def _within(self, amount: float) -> float:
        return amount if self.budget is None else min(amount, self.budget)


def estimate_launch(
    ws: Workspace,
    dataset: Dataset,
    task: Task,
    chosen: Sequence[Model],
    *,
    n_examples: int,
    judges: int = 0,
    budget: float | None = None,
) -> LaunchEstimate:
    """Return what asking models would take, from the first examples and from earlier workflows; takes a moment."""
    texts, truths = _first(ws, dataset)
    pace = _pace(ws, chosen)
    rows = []
    for model in chosen:
        seconds = pace.get((model.provider, model.name))
        rows.append(_of_model(model, task, texts, truths, n_examples, seconds))
    return LaunchEstimate(n_examples, tuple(rows), judges, budget)


def _of_model(
    model: Model, task: Task, texts: Sequence[str], truths: Sequence[str | None], n: int, pace: float | None
) -> ModelEstimate:
    scale = n / max(1, len(texts))
    tokens_in = tokens_out = 0
    cost = at_most = None
    # A template may name columns, which are not looked at here: then nothing is said of its cost.
    with suppress(LumigatorError):
        found = estimate(model, texts, task, ground_truth=truths)
        tokens_in, tokens_out = round(found.prompt_tokens * scale), round(found.completion_tokens * scale)
        cost = None if found.dollars is None else found.dollars * scale
        at_most = None if found.dollars_at_most is None else found.dollars_at_most * scale
    seconds = None if pace is None else pace * n
    return ModelEstimate(model.label, tokens_in, tokens_out, cost, at_most, seconds, models.uses_all_cores(model))


def _first(ws: Workspace, dataset: Dataset) -> tuple[list[str], list[str | None]]:
    name = layout.examples(dataset.id)
    for rows in islice(results.iter_shards(ws.store, name, ["example", "ground_truth"], LOOKED_AT), 1):
        found = rows.to_pydict()
        texts = found["example"]
        return texts, found.get("ground_truth", [None] * len(texts))
    return [], []


def _pace(ws: Workspace, chosen: Sequence[Model]) -> dict[tuple[str, str], float]:
    """Seconds for an example, by provider and name, when a model last ran here."""
    wanted = {(model.provider, model.name) for model in chosen}
    known = [
        each
        for each in ws.workflows.list(limit=_EARLIER, status=Status.SUCCEEDED)
        if (each.model.provider, each.model.name) in wanted
    ]
    by_id = {each.id: (each.model.provider, each.model.name) for each in reversed(known)}
    found: dict[tuple[str, str], float] = {}
    for job in ws.workflows.jobs(known[::-1]) if known else []:
        if job.step is Step.INFERENCE and job.started_at and job.finished_at and job.n_examples:
            found[by_id[job.workflow_id]] = (job.finished_at - job.started_at).total_seconds() / job.n_examples
    return found


def estimate_html(found: LaunchEstimate | None) -> Html:
    """Return an estimate: a sentence, what to know besides, and the figures of each model to unfold."""
    if found is None:
        return tag("div", "Choose a dataset and models to see what they would cost.", class_="lm-soft")
    work = f"{count(len(found.models), 'model')}, {count(found.n_examples, 'example')} each"
    notes = [tag("div", note, class_="lm-note") for note in _notes(found)]
    return join([
        tag("div", tag("b", _headline(found)), tag("span", f" · {work}", class_="lm-soft")),
        *notes,
        unfolding("Figures for each model", _figures(found)),
    ])  # fmt: skip


def _headline(found: LaunchEstimate) -> str:
    cost = f"About {dollars(found.dollars)}, at most {dollars(found.at_most)}" if found.at_most else "No fee"
    time = "" if found.seconds is None else f"; about {duration(max(1.0, found.seconds))}"
    return cost + time


def _notes(found: LaunchEstimate) -> list[str]:
    free = len(found.models) - len(found.priced)
    said = []
    if found.priced and free:
        said.append(f"{count(free, 'model')} without a list price {'is' if free == 1 else 'are'} not counted.")
    if found.seconds is None:
        said.append("How long it takes shows after the first answers.")
    if found.judges:
        said.append(f"{count(found.judges, 'judge')} will cost extra.")
    if found.too_dear:
        verb = "is" if len(found.too_dear) == 1 else "are"
        said.append(f"{joined(found.too_dear)} {verb} expected to stop at the budget.")
    return said


def _figures(found: LaunchEstimate) -> Html:
    rows = [
        (
            name(each.label),
            f"{each.tokens_in:,}" if each.tokens_in else MISSING,
            f"{each.tokens_out:,}" if each.tokens_out else MISSING,
            MISSING if each.dollars is None else dollars(each.dollars),
            MISSING if each.at_most is None else dollars(each.at_most),
            MISSING if each.seconds is None else duration(max(1.0, each.seconds)),
        )
        for each in found.models
    ]
    return table(("Model", "Tokens in", "Tokens out", "Cost", "At most", "Time"), rows, numeric=range(1, 6))


class Debounced:
    """Does work in a thread once nobody has asked for more of it for a moment; only the newest result counts.

    Args:
        then: called with the result, from that thread.
        wait: seconds without a further question.
    """

    def __init__(self, then: Callable[[Html], None], wait: float = 0.3) -> None:
        self._then, self._wait = then, wait
        self._timer: threading.Timer | None = None
        self._number = 0

    def ask(self, work: Callable[[], Html]) -> None:
        """Have `work` done soon, in the place of what was asked before."""
        if self._timer is not None:
            self._timer.cancel()
        self._number += 1
        self._timer = threading.Timer(self._wait, self._do, (self._number, work))
        self._timer.daemon = True
        self._timer.start()

    def _do(self, number: int, work: Callable[[], Html]) -> None:
        try:
            found = work()
        except Exception as error:
            # An estimate is a service: without it one can launch all the same.
            log.info("no estimate: %s", error)
            reason = error.message if isinstance(error, LumigatorError) else type(error).__name__
            found = tag("div", f"The cost cannot be told now: {reason}", class_="lm-soft")
        if number == self._number:
            self._then(found)
