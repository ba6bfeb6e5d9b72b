"""Load the results of an experiment's workflows from the store into a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.errors import InvalidInputError, NotFoundError
from lumigator_nb.metrics import FloatArray
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.data import (
    ComparedDataset,
    ComparedExperiment,
    ComparedModel,
    ComparedStep,
    ComparisonData,
    LazyFrames,
    PendingModel,
)
from lumigator_nb.services.comparison.repeats import averaged, label_of, tables
from lumigator_nb.specs import MetricResult, Status, Step
from lumigator_nb.storage import results
from lumigator_nb.storage.store import Store


@dataclass(frozen=True)
class RepeatedModel:
    """A model with the workflows that are its repeats.

    Attributes:
        label: of the model, without the number of the repeat.
        workflows: by number of the repeat; one for a model that was asked once.
    """

    label: str
    workflows: tuple[Workflow, ...]


def repeated_models(workflows: Sequence[Workflow]) -> list[RepeatedModel]:
    """Return the models of the workflows, in the order of launch.

    Repeats have the same settings and, but for the number, the same label: two labels of the user's own choice remain
    two models.
    """
    groups: dict[tuple[str, str], list[Workflow]] = {}
    for workflow in workflows:
        first = workflow.model.model_copy(update={"repeat": 1})
        groups.setdefault((first.fingerprint, label_of(workflow.label, workflow.model)), []).append(workflow)
    ordered = {key: sorted(group, key=lambda workflow: workflow.model.repeat) for key, group in groups.items()}
    return [RepeatedModel(label, tuple(group)) for (_, label), group in ordered.items()]


def gather(
    store: Store,
    experiment: Experiment,
    dataset: Dataset,
    examples: pd.DataFrame,
    workflows: Sequence[Workflow],
    jobs: Sequence[Job],
    labels: pd.DataFrame,
    **options: Any,
) -> Comparison:
    """Load the results of the workflows that succeeded.

    Args:
        store: the store with the workflows' results.
        experiment: the experiment to compare.
        dataset: the experiment's dataset.
        examples: (rows, …) the dataset's columns, in its order.
        workflows: all workflows of the experiment.
        jobs: the records of their steps, inference and evaluation.
        labels: human ratings; see :class:`ComparisonData`.
        options: the keyword arguments of :class:`Comparison` about intervals.

    Raises:
        InvalidInputError: no workflow has succeeded yet.
    """
    # A comparison of those that are ready is useful while others still run.
    done = [workflow for workflow in workflows if workflow.status is Status.SUCCEEDED]
    pending = [workflow for workflow in workflows if workflow.status is not Status.SUCCEEDED]
    if not done:
        states = ", ".join(f"{workflow.label} {workflow.status}" for workflow in workflows) or "none was launched"
        raise InvalidInputError(
            f"experiment {experiment.name!r} has nothing to compare yet: {states}", "ws.wait(experiment) first"
        )
    models = repeated_models(done)
    evaluations = {
        model.label: [
            result
            for workflow in model.workflows
            for spec in experiment.metrics
            if (result := results.find_metric_result(store, workflow.id, spec)) is not None
        ]
        for model in models
    }
    scores = [
        [results.read_scores(store, workflow.id, experiment.metrics) for workflow in model.workflows]
        for model in models
    ]
    data = data_of(
        experiment,
        dataset,
        examples,
        done,
        jobs,
        # Texts are large, and the verdict needs none of them.
        LazyFrames([model.label for model in models], _predictions(store, models, dataset.n_examples)),
        {model.label: averaged(frames) for model, frames in zip(models, scores, strict=True)},
        evaluations=evaluations,
        pending=pending,
        labels=_by_model(labels, models),
        repeats=tables(scores),
        answers=LazyFrames(
            [model.label for model in models if len(model.workflows) > 1], _all_predictions(store, models)
        ),
    )
    return Comparison(data, **options)


def _predictions(store: Store, models: Sequence[RepeatedModel], n_examples: int) -> Callable[[str], pd.DataFrame]:
    """What reads the predictions of a model, by its label, when they are first needed."""
    # The texts of the first repeat stand for those of all.
    ids = {model.label: model.workflows[0].id for model in models}

    def read(label: str) -> pd.DataFrame:
        frame = results.read_step(store, ids[label], Step.INFERENCE)
        if len(frame) != n_examples:
            hint = "they were deleted, or are being made again, since the comparison: compare again"
            raise NotFoundError("file", f"with all predictions of {label}", hint)
        return frame

    return read


def _all_predictions(store: Store, models: Sequence[RepeatedModel]) -> Callable[[str], pd.DataFrame]:
    ids = {model.label: [workflow.id for workflow in model.workflows] for model in models}
    return lambda label: pd.concat(
        [results.read_step(store, one, Step.INFERENCE) for one in ids[label]], ignore_index=True
    )


def _by_model(labels: pd.DataFrame, models: Sequence[RepeatedModel]) -> pd.DataFrame:
    """Return the human ratings with those of a model's repeats under its label."""
    names = {workflow.label: model.label for model in models for workflow in model.workflows}
    return labels.assign(model=labels["model"].replace(names))


def data_of(
    experiment: Experiment,
    dataset: Dataset,
    examples: pd.DataFrame,
    workflows: Sequence[Workflow],
    jobs: Sequence[Job],
    predictions: Mapping[str, pd.DataFrame],
    scores: Mapping[str, pd.DataFrame],
    *,
    evaluations: Mapping[str, Sequence[MetricResult]] | None = None,
    pending: Sequence[Workflow] = (),
    labels: pd.DataFrame | None = None,
    repeats: Mapping[str, FloatArray] | None = None,
    answers: Mapping[str, pd.DataFrame] | None = None,
) -> ComparisonData:
    """Return the data of a comparison, with frozen values for the records of the database.

    Args:
        workflows: to compare, in the order of launch; those that are repeats of one model become one.
        jobs: the records of their steps; those of other workflows are ignored.
        pending: the other workflows of the experiment.
        experiment, dataset, examples, predictions, scores, evaluations, labels, repeats, answers: see
            :class:`ComparisonData`.
    """
    return ComparisonData(
        ComparedExperiment(experiment.name, experiment.task, tuple(experiment.metrics), experiment.id),
        ComparedDataset(
            dataset.name, dataset.n_examples, dataset.id, dataset.version, dataset.filename, dataset.content_hash,
            dataset.size_bytes, dict(dataset.columns), dataset.author,
        ),
        tuple(_model(model, jobs) for model in repeated_models(workflows)),
        examples,
        predictions,
        scores,
        evaluations=evaluations or {},
        pending=tuple(PendingModel(workflow.label, workflow.status, workflow.error) for workflow in pending),
        labels=labels,
        repeats=repeats or {},
        answers=answers or {},
    )  # fmt: skip


def _model(model: RepeatedModel, jobs: Sequence[Job]) -> ComparedModel:
    steps = [
        ComparedStep(job.step, job.n_failed, dict(job.scores), dict(job.details), job.started_at, job.finished_at)
        for workflow in model.workflows
        for job in jobs
        if job.workflow_id == workflow.id
    ]
    first = model.workflows[0]
    return ComparedModel(
        model.label, first.model, first.id, first.fingerprint, dict(first.provenance), first.created_at,
        max((one.finished_at for one in model.workflows if one.finished_at), default=None), tuple(steps),
        repeats=len(model.workflows),
    )  # fmt: skip
