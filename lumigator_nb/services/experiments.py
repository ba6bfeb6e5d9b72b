"""Experiments: a dataset, a task and metrics."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from lumigator_nb import layout, metrics
from lumigator_nb.config import Settings
from lumigator_nb.db import Database
from lumigator_nb.errors import InUseError, InvalidInputError
from lumigator_nb.keys import redactor, refuse_secrets, secrets_in
from lumigator_nb.models.conversation import check as check_task
from lumigator_nb.records import Dataset, Experiment
from lumigator_nb.repositories import reading, writing
from lumigator_nb.services.names import checked_name
from lumigator_nb.specs import MetricSpec, Summarization, Task
from lumigator_nb.store import Store

DEFAULT_METRICS = ("rouge", "bleu", "chrf", "length")


class Experiments:
    """The experiments of a workspace."""

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        self._database = database
        self._store = store
        self._settings = settings

    def create(
        self,
        name: str,
        *,
        dataset: Dataset | str,
        task: Task | None = None,
        metrics: Sequence[str | MetricSpec] = DEFAULT_METRICS,
    ) -> Experiment:
        """Decide what is compared, and by what.

        Args:
            name: to find it by.
            dataset: record, name or id.
            task: default summarization.
            metrics: names, or :class:`MetricSpec` where one needs options.

        Raises:
            UnknownMetricError: no metric has that name.
            MissingFieldsError: a metric needs ground truth that the dataset lacks.
            InvalidInputError: the task's prompt or template does not fit, or holds an API key.
            NotFoundError: there is no such dataset.
            ConflictError: the name is taken.
        """
        return self._add(name, dataset, task or Summarization(), _checked_metrics(metrics))

    def create_unscored(self, name: str, *, dataset: Dataset | str, task: Task) -> Experiment:
        """Decide what models are asked, where their answers are wanted and no scores."""
        return self._add(name, dataset, task, ())

    def _add(self, name: str, dataset: Dataset | str, task: Task, specs: tuple[MetricSpec, ...]) -> Experiment:
        texts = [("task's prompt", task.prompt), ("task's template", task.template)]
        texts += [("few-shot example", text) for shot in task.shots for text in (shot.example, shot.answer)]
        refuse_secrets(texts, redactor(secrets_in(self._settings.env_file_variables)))
        with writing(self._database) as work:
            record = work.datasets.get(dataset if isinstance(dataset, str) else dataset.id)
            _check_fields(specs, record)
            check_task(task, record.profile["metadata"])
            return work.experiments.add(
                Experiment(name=checked_name(name), dataset_id=record.id, task=task, metrics=specs)
            )

    def get(self, key: str) -> Experiment:
        """Return the experiment of that name or id.

        Raises:
            NotFoundError: there is none.
        """
        with reading(self._database) as work:
            return work.experiments.get(key)

    def find(self, key: str) -> Experiment | None:
        """Return the experiment of that name or id, or None."""
        with reading(self._database) as work:
            return work.experiments.find(key)

    def list(self, *, limit: int = 100, offset: int = 0) -> builtins.list[Experiment]:
        """Return experiments, newest first."""
        with reading(self._database) as work:
            return work.experiments.list(limit=limit, offset=offset)

    def delete(self, experiment: Experiment | str) -> None:
        """Remove an experiment, its workflows and their files.

        Raises:
            InUseError: a workflow has not ended.
        """
        with writing(self._database) as work:
            record = work.experiments.get(experiment if isinstance(experiment, str) else experiment.id)
            workflows = work.workflows.of_experiment(record.id)
            active = [workflow.label for workflow in workflows if not workflow.status.ended]
            if active:
                raise InUseError(
                    f"experiment {record.name!r} has workflows under way: {', '.join(active)}",
                    "wait for them, or stop them: ws.workflows.stop(experiment)",
                )
            for workflow in workflows:
                work.workflows.delete(workflow)
            work.session.flush()
            work.experiments.delete(record)
        for workflow in workflows:
            self._store.delete(layout.workflow_folder(workflow.id))


def _checked_metrics(given: Sequence[str | MetricSpec]) -> tuple[MetricSpec, ...]:
    if isinstance(given, str):
        given = [given]
    specs = tuple(metrics.parse(metric) for metric in given)
    if not specs:
        raise InvalidInputError("an experiment needs at least one metric", f"known: {', '.join(metrics.known())}")
    names = [spec.name for spec in specs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InvalidInputError(f"metric {twice!r} is named twice", "name each metric once")
    return specs


def _check_fields(specs: tuple[MetricSpec, ...], dataset: Dataset) -> None:
    metrics.check(specs, has_ground_truth=dataset.has_ground_truth)
