"""Reservation: what is checked and recorded before a workflow is submitted.

The rows are written first. If the process is killed before the submission, a server or a resume submits them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from lumigator_nb import models
from lumigator_nb.database.queries import UnitOfWork
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.errors import InvalidInputError, MissingExtraError
from lumigator_nb.services.workflows.provenance import Circumstances
from lumigator_nb.specs import Launch, Model, Status, Step, Task, now
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store


def launch_options(**options: Any) -> Launch:
    """Return the options, or raise InvalidInputError for the first one that is out of range."""
    try:
        return Launch(**options)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None


def checked_models(
    models_or_names: Sequence[str | Model] | str | Model,
    repeats: int,
    launch: Launch,
    *,
    here: bool,
    machine_hour: float | None,
) -> list[Model]:
    """Return the models with their repeats.

    Args:
        here: whether workers use the packages of this machine, so that a missing package is an error now.
        machine_hour: dollars of an hour of an own machine, for models without a price.

    Raises:
        InvalidInputError, MissingExtraError, UnknownModelError: a model cannot work.
    """
    if isinstance(models_or_names, (str, Model)):
        models_or_names = [models_or_names]
    chosen = [Model(model) if isinstance(model, str) else model for model in models_or_names]
    if not chosen:
        raise InvalidInputError("there is no model to launch", f"providers: {', '.join(models.provider_names())}")
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
    chosen = [models.at_machine_hour(model, machine_hour) for model in chosen]
    repeated = [
        model.model_copy(update={"repeat": repeat, "label": f"{model.label} (repeat {repeat})"})
        if repeat > 1
        else model
        for model in chosen
        for repeat in range(1, repeats + 1)
    ]
    return list({model.fingerprint: model for model in repeated}.values())


def check_labels(chosen: Sequence[Model], existing: Iterable[Workflow]) -> None:
    """Refuse a label that stands for two different models."""
    taken = {workflow.label: workflow.fingerprint for workflow in existing}
    for model in chosen:
        if taken.setdefault(model.label, model.fingerprint) != model.fingerprint:
            raise InvalidInputError(
                f"two models with different settings are both called {model.label!r}",
                "tell them apart: Model(…, label='…')",
            )


def in_free_slot(model: Model, existing: Iterable[Workflow]) -> Model:
    """Return the model with a free label; if the experiment has it already, as a repeat with another sampling seed."""
    labels = {workflow.label for workflow in existing}
    fingerprints = {workflow.fingerprint for workflow in existing}
    number, label = 2, model.label
    while label in labels:
        label, number = f"{model.label} ({number})", number + 1
    repeat = model.repeat
    while model.model_copy(update={"repeat": repeat}).fingerprint in fingerprints:
        repeat += 1
    return model.model_copy(update={"label": label, "repeat": repeat})


def check_prompts(chosen: Sequence[Model], task: Task) -> None:
    """Refuse models without a prompt if the task needs one."""
    for model in chosen:
        if task.kind == "text_generation" and not (model.worded(task).prompt or "").strip():
            raise InvalidInputError(
                f"text generation needs a prompt, and {model.label!r} has none", "Model(…, prompt=…)"
            )


def ground_truth(store: Store, dataset: Dataset) -> Iterator[str]:
    """Yield the first reference of each example that has one; `dataset` has the rows of the experiment alone."""
    for table in results.iter_shards(store, layout.examples(dataset.id), ["ground_truth"], 4096, dataset.sample):
        if table.num_columns:
            yield from (text for text in table["ground_truth"].to_pylist() if text is not None)


def claim(
    work: UnitOfWork,
    experiment: Experiment,
    model: Model,
    launch: Launch,
    circumstances: Circumstances,
    *,
    description: str = "",
) -> Workflow:
    """Add the workflow of a model to an experiment."""
    return add(work, draft(experiment, model, launch, description), circumstances, tuple(Step))


def draft(experiment: Experiment, model: Model, launch: Launch, description: str = "") -> Workflow:
    """Return a workflow that is not in the database yet."""
    return Workflow(
        experiment_id=experiment.id, label=model.label, fingerprint=model.fingerprint, model=model, launch=launch,
        description=description,
    )  # fmt: skip


def add(work: UnitOfWork, workflow: Workflow, circumstances: Circumstances, listed: Sequence[Step]) -> Workflow:
    """Add a workflow with its jobs; `listed` are the steps that lists of jobs show."""
    workflow.provenance = circumstances.of(workflow)
    work.workflows.add(workflow)
    for step in Step:
        job = Job(workflow_id=workflow.id, step=step, listed=step in listed)
        if job.listed and len(listed) == 1:
            job.id = workflow.id  # Lumigator's SDK polls Ray itself with the id of the job
        work.session.add(job)
    return workflow


def begin_attempt(work: UnitOfWork, workflow: Workflow, circumstances: Circumstances) -> None:
    """Record that a new attempt of the workflow begins."""
    workflow.attempt += 1
    workflow.status, workflow.error, workflow.stale = Status.CREATED, None, False
    workflow.attempted_at, workflow.finished_at = now(), None
    workflow.provenance = circumstances.of(workflow)
    for job in work.jobs.of_workflows([workflow.id]):
        job.status, job.error = Status.CREATED, None
