"""Reproducing a result: launch its model again without the answer cache, and compare answers, scores and provenance."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lumigator_nb import metrics, models
from lumigator_nb.database.engine import Database
from lumigator_nb.database.records import Experiment, Workflow
from lumigator_nb.display import render
from lumigator_nb.display.html import chip, clipped, fragment, table, tag, unfolding
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import MISSING, count, joined, one_line
from lumigator_nb.errors import ConflictError, InvalidInputError, JobFailedError, LumigatorError
from lumigator_nb.models import RECORDED
from lumigator_nb.services.experiments import Experiments
from lumigator_nb.services.workflows import provenance
from lumigator_nb.services.workflows.provenance import Change, value_text
from lumigator_nb.services.workflows.workflows import Workflows
from lumigator_nb.specs import Model, Status, Step, WorkflowSpec
from lumigator_nb.storage import results
from lumigator_nb.storage.store import Store

TOLERANCE = 1e-9
MOST_EXAMPLES = 10
_MOST_NAMED = 3
_SIGNS = {"equal": "=", "close": "≈", "differs": "→", "missing": "→"}


@dataclass(frozen=True)
class Again(Rendered):
    """An overall score, before and now; `after` is None if there is none now.

    Attributes:
        verdict: "equal" (to the last bit), "close" (within 1e-9, relative or absolute), "differs", or "missing" now.
    """

    name: str
    before: float
    after: float | None

    @property
    def verdict(self) -> str:
        """How the two compare, as above."""
        if self.after is None:
            return "missing"
        if self.after == self.before or (math.isnan(self.after) and math.isnan(self.before)):
            return "equal"
        is_close = math.isclose(self.after, self.before, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return "close" if is_close else "differs"

    @property
    def agrees(self) -> bool:
        """Whether it is the same but for rounding."""
        return self.verdict in ("equal", "close")


@dataclass(frozen=True)
class Differing:
    """An example of the dataset, by its row from 0, with another answer than before; None is no answer."""

    row: int
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Reproduction(Rendered):
    """How the answers and scores of a second launch compare with the first.

    Attributes:
        label, experiment: of the workflow that was reproduced.
        n: examples that had an answer; `identical` of them have the same text now, to the last character.
        scores: the overall scores that there were, the main score first.
        changes: what has changed since and may matter: data, revision, device, versions.
        examples: the first examples whose answers differ.
        temperature: of the model; above 0 it samples.
        remote: whether a service outside this cluster answers.
    """

    label: str
    experiment: str
    n: int
    identical: int
    scores: tuple[Again, ...] = ()
    changes: tuple[Change, ...] = ()
    examples: tuple[Differing, ...] = ()
    temperature: float = 0.0
    remote: bool = False

    @property
    def share(self) -> float:
        """Share of identical predictions, in [0, 1]; NaN if there was no answer."""
        return self.identical / self.n if self.n else math.nan

    @property
    def reproduced(self) -> bool:
        """Whether all predictions are identical and all scores the same within 1e-9."""
        return self.identical == self.n and all(score.agrees for score in self.scores)

    @property
    def sentence(self) -> str:
        """Whether predictions and scores are the same and, if they are not, what may be the reason."""
        differing, total = self.n - self.identical, count(self.n, "example")
        if differing:
            parts = [f"{differing:,} of {self.n:,} predictions differ"]
        else:
            parts = [f"the predictions of {self.identical:,} of {total} are identical"]
        notable = [score for score in self.scores if not score.agrees] or self.scores[:1]
        parts += map(score_text, notable[:_MOST_NAMED])
        if self.reproduced:
            return "; ".join(parts)
        if self.changes:
            rows = [f"{what} went from {before} to {after}" for what, before, after in _change_rows(self, 60)]
            more = [f"{len(rows) - _MOST_NAMED} more changed"] if len(rows) > _MOST_NAMED else []
            parts.append(f"since then {joined([*rows[:_MOST_NAMED], *more])}")
        if differing and self.temperature > 0:
            parts.append(f"temperature is {self.temperature:g}: sampled answers differ by nature")
        elif differing and not self.changes:
            reason = (
                "the service answers in another way" if self.remote else "the model answers in another way each time"
            )
            parts.append(f"nothing that was noted has changed: {reason}")
        return "; ".join(parts)


def reproduce(
    database: Database,
    store: Store,
    experiments: Experiments,
    workflows: Workflows,
    workflow: Workflow | str,
    *,
    model: Model | None = None,
    budget: float | None = None,
    progress: bool = True,
) -> Reproduction:
    """Ask a workflow's model again without the answer cache, score the answers by the same metrics, and compare.

    This happens in a temporary experiment, "NAME (reproduced)", which is deleted afterwards, also after a failure.
    Judges are asked again too. A workflow that used a batch service is asked directly, at the full price.

    Args:
        workflow: record or id; it must have succeeded.
        model: the same model, needed if it is a function that only this process has.
        budget: dollars that it may cost; default the budget of the workflow.
        progress: show a display that updates.

    Raises:
        InvalidInputError: it has not succeeded, its predictions were recorded, its function is not in this process,
            or `model` is another one.
        NotFoundError: there is no such workflow.
        JobFailedError: the model did not answer this time, or the budget was reached.
        ConfigurationError, ClusterUnavailableError: as of :meth:`Workflows.launch`.
    """
    (before,) = workflows.refresh([workflows.get(workflow)])
    same = _model(before, model)
    experiment = experiments.get(before.experiment_id)
    limit = before.launch.budget if budget is None else budget
    with _temporary(experiments, experiment) as place:
        # Any number of failed answers is accepted: they are compared like the others.
        (launched,) = workflows.launch(place, same, cache="off", budget=limit, max_failed=1.0)
        (after,) = workflows.wait([launched], progress=progress)
        old, new = ({job.step: job for job in workflows.jobs([workflow])} for workflow in (before, after))
        inference = new[Step.INFERENCE]
        if inference.status is not Status.SUCCEEDED:
            raise JobFailedError(
                f"{after.label} could not be asked again: it {after.status}: {inference.error or after.error}",
                "nothing was compared; the first answers are unchanged",
                job_id=after.id,
            )
        n, identical, differing = _compare_predictions(store, before, after)
        scores, scores_now = old[Step.EVALUATION].scores, new[Step.EVALUATION].scores
        return Reproduction(
            label=before.label,
            experiment=experiment.name,
            n=n,
            identical=identical,
            scores=tuple(
                Again(name, scores[name], scores_now.get(name))
                for name in sorted(scores, key=metrics.headline, reverse=True)
            ),
            changes=provenance.changes(provenance.of(database, before), provenance.of(database, after)),
            examples=tuple(differing),
            temperature=before.model.generation.temperature,
            remote=models.keeps_answers(before.model) and not models.uses_all_cores(before.model),
        )


def _model(workflow: Workflow, model: Model | None) -> Model:
    """Return the model to ask again: `model`, or that of the record if it can be asked from anywhere."""
    if workflow.status is not Status.SUCCEEDED:
        raise InvalidInputError(
            f"{workflow.label!r} is {workflow.status}, and only a workflow that has succeeded can be reproduced",
            "ws.wait(…) for it, or ws.workflows.resume(…)",
        )
    if workflow.model.provider == RECORDED:
        raise InvalidInputError(
            f"the predictions of {workflow.label!r} were recorded, and there is no model to ask again",
            "make them again where they came from, and ws.workflows.record(…) them under another name",
        )
    if model is not None and model.fingerprint != workflow.fingerprint:
        raise InvalidInputError(
            f"{model.label!r} is not the model that answered for {workflow.label!r}: code or settings differ",
            "give the same function or model, or leave it out",
        )
    if models.runs_here(workflow.model) and (model is None or model.function is None):
        raise InvalidInputError(
            f"only the process that launched {workflow.label!r} has its function",
            "define it again, and pass it: ws.reproduce(workflow, model=lm.Model.from_function(f))",
        )
    return model or workflow.model


@contextmanager
def _temporary(experiments: Experiments, like: Experiment) -> Iterator[Experiment]:
    """Create an experiment with the same data, task and metrics, and delete it when the block ends."""
    place = _create(experiments, like)
    try:
        yield place
    finally:
        try:
            experiments.delete(place.id, stop=True)
        except LumigatorError as error:  # it must hide neither a result nor the error that led here
            message = f"the experiment {place.name!r} could not be removed: {error.message}"
            warnings.warn(f"{message}; ws.experiments.delete({place.name!r}, stop=True) does", stacklevel=3)


def _create(experiments: Experiments, like: Experiment) -> Experiment:
    options: dict[str, Any] = {
        "dataset": like.dataset_id,
        "task": like.task,
        "max_samples": like.sample.n if like.sample else None,
    }
    for number in itertools.count(1):
        name = f"{like.name} (reproduced)" if number == 1 else f"{like.name} (reproduced {number})"
        # The name is taken if another reproduction is under way, or one was killed.
        with suppress(ConflictError):
            if like.metrics:
                return experiments.create(name, metrics=like.metrics, **options)
            return experiments.create_unscored(name, **options)
    raise AssertionError


def _compare_predictions(store: Store, before: Workflow, after: Workflow) -> tuple[int, int, list[Differing]]:
    """Return how many examples had an answer, how many have the same, and the first that do not."""
    n = identical = 0
    differing: list[Differing] = []
    for row, (old, new) in enumerate(zip(_texts(store, before), _texts(store, after), strict=True)):
        if old is None:
            continue  # an example that failed before has nothing to reproduce
        n += 1
        identical += old == new
        if old != new and len(differing) < MOST_EXAMPLES:
            differing.append(Differing(row, old, new))
    return n, identical, differing


def _texts(store: Store, workflow: Workflow) -> Iterator[str | None]:
    """Yield the predictions in the order of the dataset; only one shard is in memory."""
    spec: WorkflowSpec = results.read_spec(store, workflow.id)
    for shard in range(-(-spec.n_examples // spec.shard_size)):
        yield from results.read_shard(store, workflow.id, Step.INFERENCE, shard)["prediction"].to_pylist()


@render.as_text.register
def score_text(score: Again) -> str:
    """Return a score before and now: "rougeL 0.412 = 0.412"."""
    before, after = _figures(score)
    return f"{score.name} {before} {_SIGNS[score.verdict]} {after}"


def _figures(score: Again) -> tuple[str, str]:
    """Return both numbers with as many digits as it takes to see a difference."""
    if score.after is None:
        return f"{score.before:.4g}", MISSING
    for digits in range(4, 18):
        texts = f"{score.before:.{digits}g}", f"{score.after:.{digits}g}"
        if score.agrees or texts[0] != texts[1]:
            break
    return texts


def _change_rows(result: Reproduction, limit: int = 200) -> list[tuple[str, str, str]]:
    return [
        (change.what, one_line(value_text(change.before), limit), one_line(value_text(change.after), limit))
        for change in result.changes
    ]


def _heading(result: Reproduction) -> str:
    verdict = "reproduced" if result.reproduced else "differs"
    return f"{one_line(result.label)} in {one_line(result.experiment)}: {verdict}"


@render.as_text.register
def _as_text(result: Reproduction) -> str:
    """Return the verdict with scores and changes, a line each."""
    lines = [_heading(result), f"  {result.sentence}"]
    lines += [f"  {score_text(score)} ({score.verdict})" for score in result.scores]
    lines += [f"  {what}: {before} → {after}" for what, before, after in _change_rows(result)]
    return "\n".join(lines)


@render.as_html.register
def _as_html(result: Reproduction) -> str:
    """Return the verdict with tables of scores, changes and answers that differ."""
    scores = [(score.name, *_figures(score), score.verdict) for score in result.scores]
    changes = _change_rows(result)
    answers = [
        (str(example.row), clipped(value_text(example.before)), clipped(value_text(example.after)))
        for example in result.examples
    ]
    differing = count(len(answers), "answer") + " that differ"
    return fragment(
        tag("div", chip(_heading(result), "good" if result.reproduced else "bad"), class_="lm-title"),
        tag("div", result.sentence, class_="lm-verdict"),
        table(["Score", "Before", "Now", ""], scores, numeric=(1, 2)) if scores else None,
        table(["Changed since", "Before", "Now"], changes) if changes else None,
        unfolding(differing, table(["Row", "Before", "Now"], answers)) if answers else None,
    )
