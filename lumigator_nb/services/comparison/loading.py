"""Load the results of an experiment's workflows from the store into a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.specs import Status, Step
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
        labels: human ratings; see :class:`Comparison`.
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
    return Comparison(
        experiment,
        dataset,
        examples,
        done,
        [job for job in jobs if job.workflow_id in {workflow.id for workflow in done}],
        {workflow.label: results.read_step(store, workflow.id, Step.INFERENCE) for workflow in done},
        {workflow.label: results.read_scores(store, workflow.id, experiment.metrics) for workflow in done},
        evaluations=evaluations,
        pending=pending,
        labels=labels,
        **options,
    )
