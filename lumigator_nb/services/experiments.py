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
        stop: ends workflows that are under way.
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
        """Decide what is compared, and by what.

        Args:
            name: to find it by.
            dataset: record, name or id.
            task: default summarization.
            metrics: names, :class:`MetricSpec` where one needs options, :class:`Judge`, or functions made by
                ``@lm.metric``; default the usual ones of the task that this dataset and installation allow.
            description: in words.
            max_samples: examples to use, drawn at random, always the same ones; default all. Rows of predictions,
                scores and labels are counted within them.

        Raises:
            UnknownMetricError: no metric has that name.
            MissingFieldsError: a metric needs ground truth that the dataset lacks.
            MissingExtraError, ConfigurationError: a metric needs packages or data that are not here.
            InvalidInputError: a metric does not know the task's language, two metrics report the same score, or the
                task's prompt or template does not fit or holds an API key.
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
        """Decide what models are asked, where their answers are wanted and no scores."""
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
        """As :meth:`create`, for models that bring their prompts along: a text generation without one is let pass.

        Args:
            numbered: give a name that is taken a number, "name (2)", instead of refusing it.
            skipping: take metrics that cannot be computed, too; the evaluation skips them, and says why.
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
        """Return what holds the one workflow of a job and is in no list, checked and not in the database yet.

        :meth:`Workflows.enqueue_alone` and :meth:`Workflows.record_alone` add it together with the workflow.

        Args:
            name: of the job, which others may have too.
            metrics: as of :meth:`create`; empty for none.
            asked: what the job was asked for, as JSON.
            owes_dataset: whether one is to be made of the predictions.
            skipping: as of :meth:`create_unprompted`.

        Raises:
            As :meth:`create`.
        """
        specs = None if metrics is None else parsed(metrics) if metrics else ()
        self._refuse_secrets(specs or (), task, {"name": name, "description": description})
        with reading(self._database) as work:
            return self._checked(
                work, dataset, specs, task, prompted=False, skipping=skipping, max_samples=max_samples,
                name=f"{checked_name(name)} ({uuid.uuid4()})", description=description, purpose=purpose,
                asked={**asked, "name": name}, owes_dataset=owes_dataset,
            )  # fmt: skip

    def add_metrics(
        self, experiment: Experiment | str, given: Sequence[Any] | Any, *, skipping: bool = False
    ) -> Experiment:
        """Let an experiment be scored by more metrics; those that it has already stay as they are.

        A function takes the place of one of the same name that did something else.

        Args:
            experiment: record, name or id.
            given: metrics, as of :meth:`create`.
            skipping: as of :meth:`create_unprompted`.

        Raises:
            As :meth:`create`.

        Examples:
            >>> record = ws.experiments.add_metrics(experiment, ["chrf"])
            >>> [each.name for each in record.metrics]
            ['rouge', 'length', 'chrf']
        """
        specs = parsed(given)
        self._refuse_secrets(specs)
        with writing(self._database) as work:
            record = work.experiments.get(experiment)
            added = localized(specs, record.task)
            joined = _joined(record.metrics, added)
            metrics.check_distinct(joined)
            if not skipping:
                # Not those that it has: the evaluation may have skipped some of them.
                check_metrics(added, work.datasets.get(record.dataset_id), record.task, here=self._computes_here)
            record.metrics = joined
            return record

    def _refuse_secrets(
        self, specs: Sequence[MetricSpec], task: Task | None = None, fields: Mapping[str, Any] | None = None
    ) -> None:
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
        record = work.datasets.get(dataset)
        specs = default_metrics(record, task) if chosen is None else localized(chosen, task)
        metrics.check_distinct(specs)
        if not skipping:
            check_metrics(specs, record, task, here=self._computes_here)
        check_task(task, record.profile["metadata"], prompted=prompted)
        sample = _sample(record, max_samples)
        return Experiment(dataset_id=record.id, sample=sample, task=task, metrics=specs, **fields)

    def get(self, key: Experiment | str) -> Experiment:
        """Return the experiment of that name or id; of a record, as it is now.

        Raises:
            NotFoundError: there is none.

        Examples:
            >>> ws.experiments.get("summaries").name
            'summaries'
        """
        with reading(self._database) as work:
            return work.experiments.get(key)

    def find(self, key: str) -> Experiment | None:
        """Return the experiment of that name or id, or None.

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
            limit, offset: how many, and how many to leave out before them.
            archived: also those that were put away.
            search: what their names contain, in any case.
            status: those with a workflow of that status, as it was last recorded.
            dataset: those on that dataset.
            order: "newest", "oldest" or "name" first; "-name" turns it round.

        Examples:
            >>> [each.name for each in ws.experiments.list(dataset=dataset, status="succeeded")]
            ['summaries']
        """
        with reading(self._database) as work:
            conditions = _shown(work, archived=archived, search=search, status=status, dataset=dataset)
            return work.experiments.list(*conditions, limit=limit, offset=offset, order=order)

    def count(
        self,
        *,
        archived: bool = False,
        search: str | None = None,
        status: Status | None = None,
        dataset: Dataset | str | None = None,
    ) -> int:
        """Return how many experiments there are that :meth:`list` would return without a limit.

        Examples:
            >>> ws.experiments.count()
            1
        """
        with reading(self._database) as work:
            conditions = _shown(work, archived=archived, search=search, status=status, dataset=dataset)
            return work.experiments.count(*conditions)

    def names(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the names of experiments by their ids; those that were deleted, or hold a single job, are left out."""
        with reading(self._database) as work:
            return work.experiments.names(ids)

    def archive(self, experiment: Experiment | str) -> Experiment:
        """Put an experiment away: lists leave it out, and it still opens by its name; nothing is lost.

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
            # Archiving again does not make it younger.
            record.archived_at = since and (record.archived_at or since)
            return record

    def delete(
        self, experiment: Experiment | str, *, dry_run: bool = False, stop: bool = False, wait: bool = True
    ) -> Deletion:
        """Remove an experiment, its workflows and their files, and what people said of its answers.

        Answers that models gave are kept for other experiments; ``ws.cache`` shows and removes them.

        Args:
            experiment: record, name or id.
            dry_run: only say what would go; nothing happens.
            stop: end workflows that are under way first, and wait for their end.
            wait: without it, return at once: it is gone from everywhere, and a server, or
                :meth:`Workflows.finish_deletions`, ends its workers and removes its files.

        Raises:
            NotFoundError: there is no such experiment.
            InUseError: a workflow has not ended.
            WaitTimeoutError: a workflow did not end although it was stopped; nothing was removed.
            ClusterUnavailableError: the cluster, which must stop one, does not answer.

        Examples:
            >>> ws.experiments.delete(experiment, dry_run=True).workflows
            {<Status.SUCCEEDED: 'succeeded'>: 3}
        """
        key = key_of(experiment)
        stopping = self._stop if stop else None
        return deletion.of_experiment(self._database, self._store, key, dry_run=dry_run, stop=stopping, wait=wait)


def _sample(dataset: Dataset, n: int | None) -> Sample | None:
    if n is not None and n < 1:
        raise InvalidInputError(f"max_samples is {n}", "give 1 or more, or leave it out for all examples")
    return None if n is None or n >= dataset.n_examples else Sample(n=n, of=dataset.n_examples)


def _shown(
    work: UnitOfWork, *, archived: bool, search: str | None, status: Status | None, dataset: Dataset | str | None
) -> builtins.list[ColumnElement[bool]]:
    conditions = work.experiments.shown(archived=archived, search=search)
    if status is not None:
        conditions.append(work.experiments.having(status))
    if dataset is not None:
        key = work.datasets.get(dataset).id if isinstance(dataset, str) else dataset.id
        conditions.append(col(Experiment.dataset_id) == key)
    return conditions


def parsed(given: Sequence[Any] | Any) -> tuple[MetricSpec, ...]:
    """Return the specifications of metrics, given one by one or as a list.

    Raises:
        UnknownMetricError, InvalidInputError: one is unknown or has a wrong option, or there is none.
    """
    several = given if isinstance(given, (list, tuple, set)) else [given]
    specs = tuple(metrics.parse(metric) for metric in several)
    if not specs:
        raise InvalidInputError("an experiment needs at least one metric", f"known: {', '.join(metrics.known())}")
    return specs


def _joined(before: Sequence[MetricSpec], added: Sequence[MetricSpec]) -> tuple[MetricSpec, ...]:
    kept = list(before)
    for spec in added:
        # A function that was loaded without its code gets it back.
        kept = [spec if each.key == spec.key else each for each in kept]
        if spec not in kept:
            kept = [each for each in kept if not metrics.replaces(spec, each)] + [spec]
    return tuple(kept)


def check_metrics(specs: Sequence[MetricSpec], dataset: Dataset, task: Task, *, here: bool = True) -> None:
    """Refuse metrics that cannot score this task on this dataset; see :func:`lumigator_nb.metrics.check`."""
    columns = dataset.profile["metadata"]
    metrics.check(specs, has_ground_truth=dataset.has_ground_truth, language=task.target, columns=columns, here=here)


def localized(specs: Sequence[MetricSpec], task: Task) -> tuple[MetricSpec, ...]:
    """Return metrics with the settings for the language of the task, where none were given and it is known."""
    return tuple(metrics.localized(spec, task.target) for spec in specs)


def default_metrics(dataset: Dataset, task: Task) -> tuple[MetricSpec, ...]:
    """Return the usual metrics of a task, less those that this dataset, language or installation does not allow."""
    chosen = []
    for name in metrics.defaults(task.kind):
        spec = metrics.localized(metrics.parse(name), task.target)
        with suppress(LumigatorError):
            check_metrics([spec], dataset, task)
            chosen.append(spec)
    return tuple(chosen)
