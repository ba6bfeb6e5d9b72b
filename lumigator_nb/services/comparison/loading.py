"""Collects what workflows left in the store, for a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.services.comparison.comparison import Comparison
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
    """Collect what the succeeded workflows left in the store.

    Args:
        labels: ratings by people; see :class:`Comparison`.

    Raises:
        InvalidInputError: no workflow has succeeded yet.
    """
    done = [workflow for workflow in workflows if workflow.status is Status.SUCCEEDED]
    pending = [workflow for workflow in workflows if workflow.status is not Status.SUCCEEDED]
    if not done:
        states = ", ".join(f"{workflow.label} {workflow.status}" for workflow in workflows) or "none was launched"
        raise InvalidInputError(
            f"experiment {experiment.name!r} has nothing to compare yet: {states}", "ws.wait(experiment) first"
        )
    return Comparison(
        experiment,
        dataset,
        examples,
        done,
        [job for job in jobs if job.workflow_id in {workflow.id for workflow in done}],
        {workflow.label: results.read_step(store, workflow.id, Step.INFERENCE) for workflow in done},
        {workflow.label: results.read_scores(store, workflow.id, experiment.metrics) for workflow in done},
        evaluations={workflow.label: _metric_results(store, workflow, experiment) for workflow in done},
        pending=pending,
        labels=labels,
        **options,
    )


def _metric_results(store: Store, workflow: Workflow, experiment: Experiment) -> list[MetricResult]:
    found = (results.find_metric_result(store, workflow.id, spec) for spec in experiment.metrics)
    return [result for result in found if result is not None]
