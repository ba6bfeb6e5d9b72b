"""Experiments: a dataset, a task and metrics."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col

from lumigator_nb import metrics
from lumigator_nb.database.queries import Order, UnitOfWork, reading, writing
from lumigator_nb.database.records import Dataset, Experiment, key_of
from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.models.prompts.conversation import check as check_task
from lumigator_nb.security.redaction import refuse_secrets
from lumigator_nb.services import deletion
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.services.deletion import Deletion, Stop
from lumigator_nb.services.names import checked_name
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.specs import MetricSpec, Purpose, Sample, Status, Summarization, Task, now


class Experiments:
    """The experiments of a workspace.

    Args:
        runtime: database, store, cluster and settings.
        stop: stops running workflows, for :meth:`delete`.
    """

    def __init__(self, runtime: Runtime, stop: Stop) -> None:
        self._database, self._store, self._settings = runtime.database, runtime.store, runtime.settings
        self._computes_here = runtime.computes_here
        self._stop = stop

    def create(
        self,
        name: str,
        *,
        dataset: Dataset | str,
        task: Task | None = None,
        metrics: Sequence[Any] | Any = None,
        description: str = "",
        max_samples: int | None = None,
    ) -> Experiment:
        """Create an experiment: a dataset, a task, and the metrics to score by.

        Args:
            name: unique name of the experiment.
            dataset: record, name or id.
            task: default: summarization.
            metrics: names, :class:`MetricSpec` for a metric with options, :class:`Judge`, or functions made by
                ``@lm.metric``. Default: the usual metrics of the task, as far as dataset and installation allow.
            description: free text.
            max_samples: use only this many examples, drawn at random with a fixed seed; default: all. Row numbers of
                predictions, scores and labels count within the sample.

        Raises:
            UnknownMetricError: a metric is unknown.
            MissingFieldsError: a metric needs ground truth and the dataset has none.
            MissingExtraError, ConfigurationError: a metric needs packages or data that are not installed.
            InvalidInputError: a metric does not support the task's language, two metrics report the same score, or the
                task's prompt or template is invalid or contains an API key.
            NotFoundError: there is no such dataset.
            ConflictError: the name is taken.

        Examples:
            >>> made = ws.experiments.create("short", dataset=dataset, metrics=["rouge", "length"], max_samples=20)
            >>> made.name
            'short'
        """
        specs = None if metrics is None else parsed(metrics)
        return self._add(
            dataset, specs, task or Summarization(), max_samples=max_samples, name=checked_name(name),
            description=description,
        )  # fmt: skip

    def create_unscored(
        self, name: str, *, dataset: Dataset | str, task: Task, max_samples: int | None = None
    ) -> Experiment:
        """Create an experiment without metrics: for answers that need no scores."""
        return self._add(dataset, (), task, max_samples=max_samples, name=checked_name(name))

    def create_unprompted(
        self,
        name: str,
        *,
        dataset: Dataset | str,
        task: Task,
        metrics: Sequence[Any] | None,
        description: str = "",
        asked: Mapping[str, Any] | None = None,
        max_samples: int | None = None,
        numbered: bool = False,
        skipping: bool = False,
    ) -> Experiment:
        """Create an experiment whose models bring their own prompts, as the REST API allows.

        Like :meth:`create`, but a text generation needs no prompt.

        Args:
            name, dataset, task, metrics, description, max_samples: as for :meth:`create`.
            asked: the request that created it, as JSON.
            numbered: if the name is taken, append a number, as in "name (2)", instead of raising an error.
            skipping: accept metrics that cannot be computed; the evaluation skips them and records the reason.
        """
        specs = None if metrics is None else parsed(metrics)
        return self._add(
            dataset, specs, task, prompted=False, numbered=numbered, skipping=skipping, max_samples=max_samples,
            name=checked_name(name), description=description, asked=dict(asked or {}),
        )  # fmt: skip

    def prepare_for_job(
        self,
        purpose: Purpose,
        *,
        name: str,
        dataset: Dataset | str,
        task: Task,
        metrics: Sequence[Any] | None,
        asked: Mapping[str, Any],
        description: str = "",
        owes_dataset: bool = False,
        max_samples: int | None = None,
        skipping: bool = False,
    ) -> Experiment:
        """Return the hidden experiment of a single job, checked but not yet in the database.

        It holds the job's one workflow and appears in no list. :meth:`Workflows.enqueue_alone` and
        :meth:`Workflows.record_alone` store it together with the workflow, in one transaction.

        Args:
            purpose: kind of the job.
            name: name of the job; it need not be unique.
            dataset, task, description, max_samples: as for :meth:`create`.
            metrics: as for :meth:`create`; an empty list means no metrics.
            asked: the request, as JSON.
            owes_dataset: whether the predictions become a new dataset.
            skipping: as for :meth:`create_unprompted`.

        Raises:
            LumigatorError: the errors of :meth:`create`.
        """
        specs = None if metrics is None else parsed(metrics) if metrics else ()
        self._refuse_secrets(specs or (), task, {"name": name, "description": description})
        with reading(self._database) as work:
            return self._checked(
                work, dataset, specs, task, prompted=False, skipping=skipping, max_samples=max_samples,
                # Names of experiments are unique, names of jobs are not.
                name=f"{checked_name(name)} ({uuid.uuid4()})", description=description, purpose=purpose,
                asked={**asked, "name": name}, owes_dataset=owes_dataset,
            )  # fmt: skip

    def add_metrics(
        self, experiment: Experiment | str, given: Sequence[Any] | Any, *, skipping: bool = False
    ) -> Experiment:
        """Add metrics to an experiment. Its present metrics stay.

        A function replaces a function of the same name with other code.

        Args:
            experiment: record, name or id.
            given: metrics, as for :meth:`create`.
            skipping: as for :meth:`create_unprompted`.

        Raises:
            LumigatorError: the errors of :meth:`create`.

        Examples:
            >>> record = ws.experiments.add_metrics(experiment, ["chrf"])
            >>> [each.name for each in record.metrics]
            ['rouge', 'length', 'chrf']
        """
        specs = parsed(given)
        self._refuse_secrets(specs)
        with writing(self._database) as work:
            record = work.experiments.get(experiment)
            new = localized(specs, record.task)
            merged = list(record.metrics)
            for spec in new:
                # A function that was loaded from a file has no code; the same function with code replaces it.
                merged = [spec if present.key == spec.key else present for present in merged]
                if spec not in merged:
                    merged = [present for present in merged if not metrics.replaces(spec, present)] + [spec]
            metrics.check_distinct(merged)
            if not skipping:
                # Check only the new metrics: the evaluation may have skipped some of the present ones.
                check_metrics(new, work.datasets.get(record.dataset_id), record.task, here=self._computes_here)
            record.metrics = tuple(merged)
            return record

    def _refuse_secrets(
        self, specs: Sequence[MetricSpec], task: Task | None = None, fields: Mapping[str, Any] | None = None
    ) -> None:
        """Raise InvalidInputError if a text that reaches a provider or the database contains an API key."""
        texts = [("task's prompt", task.prompt), ("task's template", task.template)] if task else []
        texts += [(name, fields.get(name)) for name in ("name", "description")] if fields else []
        shots = task.shots if task else ()
        texts += [("few-shot example", text) for shot in shots for text in (shot.example, shot.answer)]
        for spec in specs:
            texts += [(f"metric {metrics.create(spec).title!r}", text) for text in metrics.texts_of(spec)]
        refuse_secrets(texts, redactor_of(self._settings))

    def _add(
        self,
        dataset: Dataset | str,
        chosen: tuple[MetricSpec, ...] | None,
        task: Task,
        *,
        prompted: bool = True,
        numbered: bool = False,
        skipping: bool = False,
        **fields: Any,
    ) -> Experiment:
        # Before the transaction: to look for secrets reads the database itself.
        self._refuse_secrets(chosen or (), task, fields)
        with writing(self._database) as work:
            experiment = self._checked(work, dataset, chosen, task, prompted=prompted, skipping=skipping, **fields)
            if numbered:
                experiment.name = work.experiments.free_name(experiment.name)
            return work.experiments.add(experiment)

    def _checked(
        self,
        work: UnitOfWork,
        dataset: Dataset | str,
        chosen: tuple[MetricSpec, ...] | None,
        task: Task,
        *,
        prompted: bool,
        skipping: bool = False,
        max_samples: int | None = None,
        **fields: Any,
    ) -> Experiment:
        """Return a new experiment after all checks that need the dataset."""
        record = work.datasets.get(dataset)
        specs = default_metrics(record, task) if chosen is None else localized(chosen, task)
        metrics.check_distinct(specs)
        if not skipping:
            check_metrics(specs, record, task, here=self._computes_here)
        check_task(task, record.profile["metadata"], prompted=prompted)
        if max_samples is not None and max_samples < 1:
            raise InvalidInputError(f"max_samples is {max_samples}", "give 1 or more, or leave it out for all examples")
        sample = None
        if max_samples is not None and max_samples < record.n_examples:
            sample = Sample(n=max_samples, of=record.n_examples)
        return Experiment(dataset_id=record.id, sample=sample, task=task, metrics=specs, **fields)

    def get(self, key: Experiment | str) -> Experiment:
        """Return an experiment by name or id; for a record, its current state.

        Raises:
            NotFoundError: there is no such experiment.

        Examples:
            >>> ws.experiments.get("summaries").name
            'summaries'
        """
        with reading(self._database) as work:
            return work.experiments.get(key)

    def find(self, key: str) -> Experiment | None:
        """Return an experiment by name or id, or None if there is none.

        Examples:
            >>> ws.experiments.find("not there") is None
            True
        """
        with reading(self._database) as work:
            return work.experiments.find(key)

    def list(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        archived: bool = False,
        search: str | None = None,
        status: Status | None = None,
        dataset: Dataset | str | None = None,
        order: Order = "newest",
    ) -> builtins.list[Experiment]:
        """Return experiments.

        Args:
            limit, offset: maximum number, and number to skip before.
            archived: include archived ones.
            search: text that their names contain; case does not matter.
            status: only experiments with a workflow of this status, as last recorded.
            dataset: only experiments on this dataset.
            order: "newest", "oldest", "name", or "-name" (Z to A).

        Examples:
            >>> [each.name for each in ws.experiments.list(dataset=dataset, status="succeeded")]
            ['summaries']
        """
        with reading(self._database) as work:
            conditions = _conditions(work, archived=archived, search=search, status=status, dataset=dataset)
            return work.experiments.list(*conditions, limit=limit, offset=offset, order=order)

    def count(
        self,
        *,
        archived: bool = False,
        search: str | None = None,
        status: Status | None = None,
        dataset: Dataset | str | None = None,
    ) -> int:
        """Return the number of experiments that :meth:`list` would return without a limit.

        Examples:
            >>> ws.experiments.count()
            1
        """
        with reading(self._database) as work:
            conditions = _conditions(work, archived=archived, search=search, status=status, dataset=dataset)
            return work.experiments.count(*conditions)

    def names(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the names of experiments by id, without deleted ones and those of single jobs."""
        with reading(self._database) as work:
            return work.experiments.names(ids)

    def archive(self, experiment: Experiment | str) -> Experiment:
        """Archive an experiment: hide it from lists. It still opens by name, and nothing is deleted.

        Examples:
            >>> _ = ws.experiments.archive(experiment)
            >>> ws.experiments.count()
            0
        """
        return self._archived(experiment, now())

    def restore(self, experiment: Experiment | str) -> Experiment:
        """Undo :meth:`archive`.

        Examples:
            >>> _ = ws.experiments.archive(experiment)
            >>> _ = ws.experiments.restore(experiment)
            >>> ws.experiments.count()
            1
        """
        return self._archived(experiment, None)

    def _archived(self, experiment: Experiment | str, since: datetime | None) -> Experiment:
        with writing(self._database) as work:
            record = work.experiments.get(experiment)
            # Archiving again keeps the first date.
            record.archived_at = since and (record.archived_at or since)
            return record

    def delete(
        self, experiment: Experiment | str, *, dry_run: bool = False, stop: bool = False, wait: bool = True
    ) -> Deletion:
        """Delete an experiment with its workflows, their files, and its human labels.

        Models' answers stay in the cache for other experiments; ``ws.cache`` shows and removes them.

        Args:
            experiment: record, name or id.
            dry_run: only report what would be deleted.
            stop: stop running workflows first, and wait until they have ended.
            wait: if False, return at once: the experiment disappears now, and a server or
                :meth:`Workflows.finish_deletions` stops its workers and removes its files later.

        Raises:
            NotFoundError: there is no such experiment.
            InUseError: a workflow is still running.
            WaitTimeoutError: a workflow did not end although it was stopped; nothing was deleted.
            ClusterUnavailableError: the cluster, which must stop one, does not answer.

        Examples:
            >>> ws.experiments.delete(experiment, dry_run=True).workflows
            {<Status.SUCCEEDED: 'succeeded'>: 3}
        """
        key = key_of(experiment)
        stopping = self._stop if stop else None
        return deletion.of_experiment(self._database, self._store, key, dry_run=dry_run, stop=stopping, wait=wait)


def _conditions(
    work: UnitOfWork, *, archived: bool, search: str | None, status: Status | None, dataset: Dataset | str | None
) -> builtins.list[ColumnElement[bool]]:
    conditions = work.experiments.shown(archived=archived, search=search)
    if status is not None:
        conditions.append(work.experiments.having(status))
    if dataset is not None:
        key = work.datasets.get(dataset).id if isinstance(dataset, str) else dataset.id
        conditions.append(col(Experiment.dataset_id) == key)
    return conditions


def parsed(chosen: Sequence[Any] | Any) -> tuple[MetricSpec, ...]:
    """Return the specifications of one metric or of a list of metrics.

    Raises:
        UnknownMetricError, InvalidInputError: a metric is unknown or has a wrong option, or the list is empty.
    """
    specs = tuple(map(metrics.parse, chosen if isinstance(chosen, (list, tuple, set)) else [chosen]))
    if not specs:
        raise InvalidInputError("an experiment needs at least one metric", f"known: {', '.join(metrics.known())}")
    return specs


def check_metrics(specs: Sequence[MetricSpec], dataset: Dataset, task: Task, *, here: bool = True) -> None:
    """Raise an error if a metric cannot score this task on this dataset; see :func:`lumigator_nb.metrics.check`."""
    columns = dataset.profile["metadata"]
    metrics.check(specs, has_ground_truth=dataset.has_ground_truth, language=task.target, columns=columns, here=here)


def localized(specs: Sequence[MetricSpec], task: Task) -> tuple[MetricSpec, ...]:
    """Return metrics with default settings for the task, its language included, unless they have settings for it."""
    return tuple(metrics.localized(spec, task.target, task) for spec in specs)


def default_metrics(dataset: Dataset, task: Task) -> tuple[MetricSpec, ...]:
    """Return the usual metrics of a task, without those that dataset, language or installation do not allow."""
    usable = []
    for name in metrics.defaults(task.kind):
        spec = metrics.localized(metrics.parse(name), task.target, task)
        with suppress(LumigatorError):
            check_metrics([spec], dataset, task)
            usable.append(spec)
    return tuple(usable)
