"""What happens to the records before a workflow is handed over: checked, claimed, begun anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from lumigator_nb import models
from lumigator_nb.database.queries import UnitOfWork
from lumigator_nb.database.records import Experiment, Job, Workflow
from lumigator_nb.errors import InvalidInputError, MissingExtraError
from lumigator_nb.services.workflows.provenance import Circumstances
from lumigator_nb.specs import Launch, Model, Status, Step, Task, now


def launch_options(**options: Any) -> Launch:
    try:
        return Launch(**options)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None


def checked_models(
    given: Sequence[str | Model] | str | Model, repeats: int, launch: Launch, *, here: bool
) -> list[Model]:
    """Return the models with their repeats; `here` tells whether they work with the packages of this machine."""
    if isinstance(given, (str, Model)):
        given = [given]
    chosen = [Model(model) if isinstance(model, str) else model for model in given]
    if not chosen:
        raise InvalidInputError("there is no model to launch", f"providers: {', '.join(models.known())}")
    if repeats < 1:
        raise InvalidInputError(f"repeats must be 1 or more, got {repeats}")
    for model in chosen:
        try:
            models.check(model)
        except MissingExtraError:
            if here:
                raise
        if launch.mode == "batch" and not models.supports_batches(model):
            raise InvalidInputError(f"{model.provider} has no batch service for {model.label!r}", "leave mode='direct'")
    again = [_repeated(model, repeat) for model in chosen for repeat in range(1, repeats + 1)]
    return list({model.fingerprint: model for model in again}.values())


def _repeated(model: Model, repeat: int) -> Model:
    if repeat == 1:
        return model
    return model.model_copy(update={"repeat": repeat, "label": f"{model.label} (repeat {repeat})"})


def check_labels(chosen: Sequence[Model], known: Iterable[Workflow]) -> None:
    taken = {workflow.label: workflow.fingerprint for workflow in known}
    for model in chosen:
        if taken.setdefault(model.label, model.fingerprint) != model.fingerprint:
            raise InvalidInputError(
                f"two models with different settings are both called {model.label!r}",
                "tell them apart: Model(…, label='…')",
            )


def in_free_slot(model: Model, known: Iterable[Workflow]) -> Model:
    """Return a model as it can join others: under a label that is free, and told apart from the same one before.

    The same model again is a repeat, whose sampling seed differs.
    """
    taken, asked = {each.label for each in known}, {each.fingerprint for each in known}
    number, label = 2, model.label
    while label in taken:
        label, number = f"{model.label} ({number})", number + 1
    repeat = model.repeat
    while model.model_copy(update={"repeat": repeat}).fingerprint in asked:
        repeat += 1
    return model.model_copy(update={"label": label, "repeat": repeat})


def check_prompts(chosen: Sequence[Model], task: Task) -> None:
    for model in chosen:
        if task.kind == "text_generation" and not (model.worded(task).prompt or "").strip():
            raise InvalidInputError(
                f"text generation needs a prompt, and {model.label!r} has none", "Model(…, prompt=…)"
            )


def claim(
    work: UnitOfWork,
    experiment: Experiment,
    model: Model,
    launch: Launch,
    known: Circumstances,
    *,
    description: str = "",
) -> Workflow:
    return add(work, draft(experiment, model, launch, description), known, tuple(Step))


def draft(experiment: Experiment, model: Model, launch: Launch, description: str = "") -> Workflow:
    """Return a workflow that is not in the database yet."""
    return Workflow(
        experiment_id=experiment.id, label=model.label, fingerprint=model.fingerprint, model=model, launch=launch,
        description=description,
    )  # fmt: skip


def add(work: UnitOfWork, workflow: Workflow, known: Circumstances, listed: Sequence[Step]) -> Workflow:
    """Add a workflow with its jobs; `listed` are the steps that are jobs that were asked for."""
    workflow.provenance = known.of(workflow)
    work.workflows.add(workflow)
    for step in Step:
        job = Job(workflow_id=workflow.id, step=step, listed=step in listed)
        if job.listed and len(listed) == 1:
            job.id = workflow.id  # the only one that anybody asks after goes by the name that the cluster knows
        work.session.add(job)
    return workflow


def begin_attempt(work: UnitOfWork, workflow: Workflow, known: Circumstances) -> None:
    workflow.attempt += 1
    workflow.status, workflow.error, workflow.stale = Status.CREATED, None, False
    workflow.attempted_at, workflow.finished_at = now(), None
    workflow.provenance = known.of(workflow)
    for job in work.jobs.of_workflows([workflow.id]):
        job.status, job.error = Status.CREATED, None
