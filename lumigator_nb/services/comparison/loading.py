"""Load the results of an experiment's workflows from the store into a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.errors import InvalidInputError, NotFoundError
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
from lumigator_nb.specs import MetricResult, Status, Step
from lumigator_nb.storage import results
from lumigator_nb.storage.store import Store


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
    evaluations = {
        workflow.label: [
            result
            for spec in experiment.metrics
            if (result := results.find_metric_result(store, workflow.id, spec)) is not None
        ]
        for workflow in done
    }
    data = data_of(
        experiment,
        dataset,
        examples,
        done,
        jobs,
        # Texts are large, and the verdict needs none of them.
        LazyFrames([workflow.label for workflow in done], _predictions(store, done, dataset.n_examples)),
        {workflow.label: results.read_scores(store, workflow.id, experiment.metrics) for workflow in done},
        evaluations=evaluations,
        pending=pending,
        labels=labels,
    )
    return Comparison(data, **options)


def _predictions(store: Store, workflows: Sequence[Workflow], n_examples: int) -> Callable[[str], pd.DataFrame]:
    """What reads the predictions of a model, by its label, when they are first needed."""
    ids = {workflow.label: workflow.id for workflow in workflows}

    def read(label: str) -> pd.DataFrame:
        frame = results.read_step(store, ids[label], Step.INFERENCE)
        if len(frame) != n_examples:
            hint = "they were deleted, or are being made again, since the comparison: compare again"
            raise NotFoundError("file", f"with all predictions of {label}", hint)
        return frame

    return read


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
) -> ComparisonData:
    """Return the data of a comparison, with frozen values for the records of the database.

    Args:
        workflows: to compare, in the order of launch.
        jobs: the records of their steps; those of other workflows are ignored.
        pending: the other workflows of the experiment.
        experiment, dataset, examples, predictions, scores, evaluations, labels: see :class:`ComparisonData`.
    """
    return ComparisonData(
        ComparedExperiment(experiment.name, experiment.task, tuple(experiment.metrics), experiment.id),
        ComparedDataset(
            dataset.name, dataset.n_examples, dataset.id, dataset.version, dataset.filename, dataset.content_hash,
            dataset.size_bytes, dict(dataset.columns), dataset.author,
        ),
        tuple(_model(workflow, [job for job in jobs if job.workflow_id == workflow.id]) for workflow in workflows),
        examples,
        predictions,
        scores,
        evaluations=evaluations or {},
        pending=tuple(PendingModel(workflow.label, workflow.status, workflow.error) for workflow in pending),
        labels=labels,
    )  # fmt: skip


def _model(workflow: Workflow, jobs: Sequence[Job]) -> ComparedModel:
    steps = [
        ComparedStep(job.step, job.n_failed, dict(job.scores), dict(job.details), job.started_at, job.finished_at)
        for job in jobs
    ]
    return ComparedModel(
        workflow.label, workflow.model, workflow.id, workflow.fingerprint, dict(workflow.provenance),
        workflow.created_at, workflow.finished_at, tuple(steps),
    )  # fmt: skip
