"""Whether a result comes out again: its model is asked once more, and answers, scores and surroundings are compared."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

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
_MOST_SAID = 3
_SIGNS = {"equal": "=", "close": "≈", "differs": "→", "missing": "→"}


@dataclass(frozen=True)
class Again(Rendered):
    """An overall score, before and now; None where there is none.

    Attributes:
        verdict: "equal" (to the last bit), "close" (within 1e-9, relative or absolute), "differs", or "missing" now.
    """

    name: str
    before: float
    after: float | None

    @property
    def verdict(self) -> str:
        """See above."""
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
    """Whether a workflow's result came out again.

    Attributes:
        label, experiment: of the workflow that was to be reproduced.
        n: examples that had an answer; `identical` of them have the same text now, to the last character.
        scores: the overall scores that there were, the one that decides first.
        changes: what has changed since and may matter: data, revision, device, versions.
        examples: the first of those whose answers differ.
        temperature: of the model; above 0 it samples.
        remote: whether somebody else's service answers.
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
        """Of identical predictions, in [0, 1]; NaN where there was no answer."""
        return self.identical / self.n if self.n else math.nan

    @property
    def reproduced(self) -> bool:
        """Whether all predictions are identical and all scores the same within 1e-9."""
        return self.identical == self.n and all(score.agrees for score in self.scores)

    @property
    def sentence(self) -> str:
        """What a person should know."""
        return sentence(self)


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
    """Ask a workflow's model again, taking no kept answer, score it by the same metrics, and compare.

    The work is done in an experiment of its own, "NAME (reproduced)", which is removed afterwards, also after a
    failure; answers of judges are asked for again too. A batch is asked directly, at the full price.

    Args:
        workflow: record or id; it must have succeeded.
        model: the model as it was made, where it is a function that only this process has.
        budget: dollars that it may cost; default what the workflow was allowed.
        progress: show a display that updates.

    Raises:
        InvalidInputError: it has not succeeded, its predictions were recorded, its function is not in this process,
            or `model` is another one.
        NotFoundError: there is no such workflow.
        JobFailedError: the model did not answer this time, or the budget was reached.
        ConfigurationError, ClusterUnavailableError: as of :meth:`Workflows.launch`.
    """
    (before,) = workflows.refresh([workflows.get(workflow)])
    asked = _model(before, model)
    experiment = experiments.get(before.experiment_id)
    limit = before.launch.budget if budget is None else budget
    with _scratch(experiments, experiment) as place:
        (launched,) = workflows.launch(place, asked, cache="off", budget=limit, max_failed=1.0)
        (after,) = workflows.wait([launched], progress=progress)
        _require_answers(workflows, after)
        return _compared(database, store, workflows, experiment, before, after)


def _model(workflow: Workflow, given: Model | None) -> Model:
    if workflow.status is not Status.SUCCEEDED:
        raise InvalidInputError(
            f"{workflow.label!r} is {workflow.status}, and only what has succeeded can be reproduced",
            "ws.wait(…) for it, or ws.workflows.resume(…)",
        )
    if workflow.model.provider == RECORDED:
        raise InvalidInputError(
            f"the predictions of {workflow.label!r} were recorded, and there is no model to ask again",
            "make them again where they came from, and ws.workflows.record(…) them under another name",
        )
    if given is not None and given.fingerprint != workflow.fingerprint:
        raise InvalidInputError(
            f"{given.label!r} is not the model that answered for {workflow.label!r}: code or settings differ",
            "give the same function or model, or leave it out",
        )
    if models.runs_here(workflow.model) and (given is None or given.function is None):
        raise InvalidInputError(
            f"only the process that launched {workflow.label!r} has its function",
            "define it again, and hand it over: ws.reproduce(workflow, model=lm.Model.from_function(f))",
        )
    return given or workflow.model


@contextmanager
def _scratch(experiments: Experiments, like: Experiment) -> Iterator[Experiment]:
    """An experiment on the same data, with the same task and metrics, for as long as it is needed."""
    place = _created(experiments, like)
    try:
        yield place
    finally:
        try:
            experiments.delete(place.id, stop=True)
        except LumigatorError as error:  # it must hide neither a result nor the error that led here
            message = f"the experiment {place.name!r} could not be removed: {error.message}"
            warnings.warn(f"{message}; ws.experiments.delete({place.name!r}, stop=True) does", stacklevel=3)


def _created(experiments: Experiments, like: Experiment) -> Experiment:
    for number in itertools.count(1):
        name = f"{like.name} (reproduced)" if number == 1 else f"{like.name} (reproduced {number})"
        try:
            n = like.sample.n if like.sample else None
            if like.metrics:
                return experiments.create(
                    name, dataset=like.dataset_id, task=like.task, metrics=like.metrics, max_samples=n
                )
            return experiments.create_unscored(name, dataset=like.dataset_id, task=like.task, max_samples=n)
        except ConflictError:  # somebody else's is under way, or one was cut off
            continue
    raise AssertionError


def _require_answers(workflows: Workflows, after: Workflow) -> None:
    inference = next(job for job in workflows.jobs([after]) if job.step is Step.INFERENCE)
    if inference.status is not Status.SUCCEEDED:
        raise JobFailedError(
            f"{after.label} could not be asked again: it {after.status}: {inference.error or after.error}",
            "nothing was compared; the answers that there were are as they were",
            job_id=after.id,
        )


def _compared(
    database: Database, store: Store, workflows: Workflows, experiment: Experiment, before: Workflow, after: Workflow
) -> Reproduction:
    n, identical, differing = _predictions(store, before, after)
    return Reproduction(
        label=before.label,
        experiment=experiment.name,
        n=n,
        identical=identical,
        scores=_scores(_overall(workflows, before), _overall(workflows, after)),
        changes=provenance.changes(provenance.of(database, before), provenance.of(database, after)),
        examples=tuple(differing),
        temperature=before.model.generation.temperature,
        remote=models.keeps_answers(before.model) and not models.uses_all_cores(before.model),
    )


def _predictions(store: Store, before: Workflow, after: Workflow) -> tuple[int, int, list[Differing]]:
    """Examples that had an answer, those that have the same, and the first that have not."""
    n = identical = 0
    differing: list[Differing] = []
    pairs = zip(_texts(store, before), _texts(store, after), strict=True)
    for row, (old, new) in enumerate(pairs):
        if old is None:
            continue  # no answer is nothing to reproduce
        n += 1
        identical += old == new
        if old != new and len(differing) < MOST_EXAMPLES:
            differing.append(Differing(row, old, new))
    return n, identical, differing


def _texts(store: Store, workflow: Workflow) -> Iterator[str | None]:
    """The predictions in the order of the dataset, one shard at a time."""
    spec: WorkflowSpec = results.read_spec(store, workflow.id)
    for shard in range(-(-spec.n_examples // spec.shard_size)):
        yield from results.read_shard(store, workflow.id, Step.INFERENCE, shard)["prediction"].to_pylist()


def _overall(workflows: Workflows, workflow: Workflow) -> Mapping[str, float]:
    return next(job.scores for job in workflows.jobs([workflow]) if job.step is Step.EVALUATION)


def _scores(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[Again, ...]:
    order = sorted(before, key=metrics.headline, reverse=True)
    return tuple(Again(name, before[name], after.get(name)) for name in order)


@render.as_text.register
def _as_text(found: Reproduction) -> str:
    """Return whether a result came out again, with scores and what has changed since."""
    lines = [_heading(found), f"  {found.sentence}"]
    lines += [f"  {score_text(each)} ({each.verdict})" for each in found.scores]
    lines += [f"  {what}: {before} → {after}" for what, before, after in _change_rows(found)]
    return "\n".join(lines)


@render.as_html.register
def _as_html(found: Reproduction) -> str:
    """Return the same, with tables."""
    title = chip(_heading(found), "good" if found.reproduced else "bad")
    scores, changed = _score_rows(found), _change_rows(found)
    rows = [
        [str(each.row), clipped(value_text(each.before)), clipped(value_text(each.after))] for each in found.examples
    ]
    return fragment(
        tag("div", title, class_="lm-title"),
        tag("div", found.sentence, class_="lm-verdict"),
        table(["Score", "Before", "Now", ""], scores, numeric=(1, 2)) if scores else None,
        table(["Changed since", "Before", "Now"], changed) if changed else None,
        unfolding(count(len(rows), "answer") + " that differ", table(["Row", "Before", "Now"], rows)) if rows else None,
    )


@render.as_text.register
def score_text(score: Again) -> str:
    """Return a score before and now: "rougeL 0.412 = 0.412"; as many digits as it takes to see a difference."""
    before, after = _figures(score)
    return f"{score.name} {before} {_SIGNS[score.verdict]} {after}"


def _figures(score: Again) -> tuple[str, str]:
    if score.after is None:
        return f"{score.before:.4g}", MISSING
    for digits in range(4, 18):
        texts = f"{score.before:.{digits}g}", f"{score.after:.{digits}g}"
        if score.agrees or texts[0] != texts[1]:
            break
    return texts


def sentence(found: Reproduction) -> str:
    """Return in words whether predictions and scores are the same, and where they are not, what may be the reason."""
    differing = found.n - found.identical
    same = f"the predictions of {found.identical:,} of {count(found.n, 'example')} are identical"
    said = [f"{differing:,} of {found.n:,} predictions differ" if differing else same]
    notable = [score for score in found.scores if not score.agrees] or found.scores[:1]
    said += [score_text(score) for score in notable[:_MOST_SAID]]
    return "; ".join([*said, *([] if found.reproduced else _reasons(found))])


def _reasons(found: Reproduction) -> Iterator[str]:
    if found.changes:
        told = [f"{each.what} went from {_short(each.before)} to {_short(each.after)}" for each in found.changes]
        more = [f"{len(told) - _MOST_SAID} more changed"] if len(told) > _MOST_SAID else []
        yield f"since then {joined([*told[:_MOST_SAID], *more])}"
    if found.identical == found.n:
        return
    if found.temperature > 0:
        yield f"temperature is {found.temperature:g}: sampled answers differ by nature"
    elif not found.changes:
        who = "the service answers in another way" if found.remote else "the model answers in another way each time"
        yield f"nothing that was noted has changed: {who}"


def _short(value: object) -> str:
    return one_line(value_text(value), 60)


def _heading(found: Reproduction) -> str:
    return f"{one_line(found.label)} in {one_line(found.experiment)}: {'reproduced' if found.reproduced else 'differs'}"


def _score_rows(found: Reproduction) -> list[Sequence[str]]:
    return [(each.name, *_figures(each), each.verdict) for each in found.scores]


def _change_rows(found: Reproduction) -> list[Sequence[str]]:
    return [(each.what, one_line(value_text(each.before)), one_line(value_text(each.after))) for each in found.changes]
