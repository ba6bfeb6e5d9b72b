"""Workflows: launch models on the cluster, watch, stop and resume them."""

from __future__ import annotations

import builtins
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import pandas as pd
from sqlalchemy import ColumnElement
from sqlmodel import col

from lumigator_nb.cluster import JobState
from lumigator_nb.database.queries import UnitOfWork, reading, writing
from lumigator_nb.database.records import Experiment, Job, Workflow, key_of
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.display.text import skipped
from lumigator_nb.errors import (
    ConflictError,
    InvalidInputError,
    JobFailedError,
    LumigatorError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from lumigator_nb.models import fitted, runs_here
from lumigator_nb.security.redaction import refuse_secrets
from lumigator_nb.services import deletion, removal
from lumigator_nb.services.answer_cache import Cache
from lumigator_nb.services.deletion import Deletion
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.services.workflows import estimates, provenance, recording, reservation, snapshots
from lumigator_nb.services.workflows.snapshots import Snapshot
from lumigator_nb.services.workflows.status import Verdict, apply
from lumigator_nb.services.workflows.submission import Submitter, shard_size
from lumigator_nb.specs import Launch, MetricSpec, Model, Progress, Status, Step, now
from lumigator_nb.storage import layout, results


@runtime_checkable
class HasId(Protocol):
    """A workflow, or a model of a comparison, which has the id of its workflow."""

    @property
    def id(self) -> str:
        """Id of the workflow."""
        ...


Target = Experiment | Workflow | HasId | str | Sequence[HasId]
# The pause between two refreshes grows with the time waited, so that polling delays a result by a few percent at most.
SHORTEST_POLL_S, LONGEST_POLL_S = 0.1, 1.0


class Workflows:
    """The workflows of a workspace.

    Attributes:
        submitter: checks and submits workflows.
        cache: the answer cache; every launch trims it to its limit.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._database, self._store, self._cluster = runtime.database, runtime.store, runtime.cluster
        self.cache = Cache(runtime.database, runtime.store, runtime.settings.cache_limit)
        self.submitter = Submitter(runtime, self._mark_submitted)
        self._machine_hour = runtime.settings.lumigator_machine_hour
        self._dispatching = self.submitter.dispatching

    def launch(
        self,
        experiment: Experiment | str,
        models: Sequence[str | Model] | str | Model,
        *,
        cache: Literal["on", "off", "refresh"] = "on",
        mode: Literal["direct", "batch"] = "direct",
        repeats: int = 1,
        budget: float | None = None,
        max_failed: float = 0.1,
        workers: int | None = None,
        priority: int = 0,
        timeout: float | None = None,
    ) -> builtins.list[Workflow]:
        """Launch models on the cluster, one workflow each, and return at once.

        It is safe to launch again: a model that is running or has succeeded in this experiment is left alone, and one
        that failed or was stopped is resumed with the new options. A function that only this process has is called
        here, before this returns.

        Args:
            experiment: record, name or id.
            models: ``"provider/name"`` or :class:`Model`.
            cache: whether to use and fill the answer cache; see :class:`Launch`.
            mode: "batch" uses the provider's batch service: half the price, within a day.
            repeats: workflows per model, each with its own answers and sampling seed; a comparison counts them as one
                model, with the mean over repeats.
            budget: dollars that each workflow may spend.
            max_failed: share of examples, in [0, 1], that may stay unanswered.
            workers: processes of the cluster that share each workflow; default by the number of examples.
            priority: of the workflows in the queue, those with a higher priority go first.
            timeout: seconds after which a step ends as failed.

        Returns:
            The workflows, in the order of `models`.

        Raises:
            UnknownModelError, InvalidInputError, MissingExtraError: a model cannot work; then none is launched.
            ConfigurationError: an API key is missing, or the cluster's versions do not match those here; then none is
                launched.
            StoreNotSharedError: the cluster is remote and the store is a folder of this machine.
            ClusterUnavailableError: the cluster does not answer; launch again later.

        Examples:
            >>> shouting = lm.Model.from_function(str.upper, label="shouting")
            >>> launched = ws.workflows.launch(experiment, ["baseline/lead-2", shouting])
            >>> [workflow.label for workflow in launched]
            ['baseline/lead-2', 'shouting']
        """
        launch = reservation.launch_options(
            cache=cache, mode=mode, budget=budget, max_failed=max_failed,
            workers=workers, priority=priority, timeout=timeout,
        )  # fmt: skip
        workflows, chosen = self._reserve(experiment, models, launch, repeats)
        self.submitter.submit([workflow for workflow in workflows if workflow.status is Status.CREATED], chosen)
        self.cache.keep_to_limit()
        return self.of(workflows)

    def enqueue(
        self,
        experiment: Experiment | str,
        models: Sequence[str | Model] | str | Model,
        *,
        launch: Launch | None = None,
        description: str = "",
        numbered: bool = False,
    ) -> builtins.list[Workflow]:
        """Record workflows as :meth:`launch` does, and leave their submission to :meth:`submit_waiting`.

        So the caller does not wait for the cluster, and a recorded workflow is not lost if a process is killed.

        Args:
            description: of the workflows, in words.
            numbered: if the experiment has the model or its label already, add a number instead of refusing it.

        Raises:
            As :meth:`launch`; and InvalidInputError for a function that only this process has.
            ConflictError: the experiment has the same model already; a repeat counts as a different one.
        """
        launch = launch or Launch()
        chosen = self._models_to_enqueue(models, launch)
        return self._reserve(experiment, chosen, launch, 1, description, fresh=True, numbered=numbered)[0]

    def enqueue_alone(self, holder: Experiment, model: str | Model, *, launch: Launch | None = None) -> Workflow:
        """As :meth:`enqueue`, for the one workflow of a single job; it is added together with its experiment.

        Args:
            holder: as of :meth:`Experiments.prepare_for_job`.

        Raises:
            As :meth:`enqueue`.
        """
        launch = launch or Launch()
        (chosen,) = self._models_to_enqueue(model, launch)
        self.submitter.check([chosen])
        reservation.check_prompts([chosen], holder.task)
        return self._add_alone(holder, reservation.draft(holder, chosen, launch), Step.INFERENCE)

    def record_alone(self, holder: Experiment, column: str) -> Workflow:
        """As :meth:`enqueue_alone`, but score predictions from a column of the dataset.

        Raises:
            As :meth:`record`.
        """
        with reading(self._database) as work:
            dataset = work.data_of(holder)
        rows = recording.read(self._store, dataset, column)
        workflow = reservation.draft(holder, recording.model_of(column, rows), Launch(max_failed=1.0))
        self.submitter.check_keys([workflow.model])
        try:
            # Files first: a server may submit the workflow as soon as its row exists.
            recording.write(self._store, workflow, rows, shard_size(workflow.model, dataset.n_examples))
            return self._add_alone(holder, workflow, Step.EVALUATION)
        except BaseException:
            self._store.delete(layout.workflow_folder(workflow.id))
            raise

    def _models_to_enqueue(self, models: Sequence[str | Model] | str | Model, launch: Launch) -> builtins.list[Model]:
        chosen = reservation.checked_models(
            models, 1, launch, here=self._cluster.head is not None, machine_hour=self._machine_hour
        )
        for model in chosen:
            if runs_here(model):
                raise InvalidInputError(f"{model.label!r} is a function of this process", "launch it from a notebook")
        return chosen

    def _add_alone(self, holder: Experiment, workflow: Workflow, listed: Step) -> Workflow:
        """Add experiment and workflow in one transaction, so that no reader ever finds a job without its workflow."""
        with reading(self._database) as work:
            circumstances = provenance.Circumstances({holder.id: (holder, work.data_of(holder))})
        with writing(self._database) as work:
            work.datasets.get(holder.dataset_id)  # locked, so that it is not deleted meanwhile
            work.experiments.add(holder)
            return reservation.add(work, workflow, circumstances, [listed])

    def submit_waiting(self, *, older_than: timedelta = timedelta(0)) -> builtins.list[Workflow]:
        """Submit the workflows that are recorded and never reached the cluster; return those submitted.

        Several processes may do so at the same time: the cluster never accepts an id twice. A workflow that cannot be
        submitted because of its settings fails, with the reason. If a service does not answer, it stays as it is.

        Args:
            older_than: younger workflows are left alone: their own process may be about to submit them.

        Raises:
            UnavailableError: a service does not answer.
        """
        with reading(self._database) as work:
            waiting = [workflow for workflow in work.workflows.unfinished() if workflow.status is Status.CREATED]
        submitted = []
        for workflow in waiting:
            if now() - workflow.attempted_at < older_than or runs_here(workflow.model):
                continue
            try:
                self.submitter.submit([workflow])
            except UnavailableError:
                raise
            except NotFoundError:
                continue  # it was deleted meanwhile
            except LumigatorError as error:
                verdict = Verdict(Status.FAILED, self.submitter.redact(str(error)))
                with writing(self._database) as work:
                    for current in work.workflows.of_ids([workflow.id]):
                        apply(current, work.jobs.of_workflows([workflow.id]), verdict, {}, now())
            else:
                submitted.append(workflow)
        return submitted

    def renew_waiting(self) -> None:
        """Let the workflows that never reached the cluster wait from now on, so that they do not count as lost."""
        with writing(self._database) as work:
            for workflow in work.workflows.unfinished():
                if workflow.status is Status.CREATED:
                    workflow.attempted_at = now()

    def delete(self, workflow: Workflow | str, *, stop: bool = False, wait: bool = True) -> Deletion:
        """Delete a workflow and its files; the answer cache is kept, as in :meth:`Experiments.delete`.

        Args:
            workflow: record or id.
            stop: if it is running, stop it first and wait for its end.
            wait: as of :meth:`Experiments.delete`.

        Raises:
            NotFoundError, InUseError, WaitTimeoutError, ClusterUnavailableError: as :meth:`Experiments.delete`.

        Examples:
            >>> deletion = ws.workflows.delete(workflows[0])
            >>> len(ws.workflows.of(experiment))
            2
        """
        key = key_of(workflow)
        return deletion.of_workflow(self._database, self._store, key, stop=self.stop if stop else None, wait=wait)

    def finish_deletions(self) -> None:
        """Stop and delete what deletions with ``wait=False`` have left, as far as possible without waiting.

        A server calls it regularly.

        Raises:
            UnavailableError: a service does not answer; call it again later.

        Examples:
            >>> deletion = ws.experiments.delete(experiment, wait=False)
            >>> ws.workflows.finish_deletions()
            >>> ws.experiments.count()
            0
        """
        removal.finish(self._database, self._store, self._cluster, self._dispatching.queue)

    def _reserve(
        self,
        experiment: Experiment | str,
        models: Sequence[str | Model] | str | Model,
        launch: Launch,
        repeats: int,
        description: str = "",
        *,
        fresh: bool = False,
        numbered: bool = False,
    ) -> tuple[builtins.list[Workflow], builtins.list[Model]]:
        chosen = reservation.checked_models(
            models, repeats, launch, here=self._cluster.head is not None, machine_hour=self._machine_hour
        )
        with reading(self._database) as work:
            record = work.experiments.get(experiment)
            dataset = work.data_of(record)
        truth = partial(reservation.ground_truth, self._store, dataset)
        chosen = [fitted(model, record.task, truth) for model in chosen]
        refuse_secrets([("description of a workflow", description)], self.submitter.redact)
        if fresh:  # to enqueue must not wait for the cluster; a judge without its key is skipped later
            self.submitter.check(chosen)
        else:
            self.submitter.check(chosen, record.metrics)
            self.submitter.check_cluster(record.metrics)
        circumstances = provenance.circumstances(self._database, [record.id])
        with writing(self._database) as work:
            record = work.experiments.get(record.id)
            existing = {workflow.fingerprint: workflow for workflow in work.workflows.of_experiment(record.id)}
            if numbered:
                chosen = [reservation.in_free_slot(model, existing.values()) for model in chosen]
            for model in chosen:
                if fresh and model.fingerprint in existing:
                    label = existing[model.fingerprint].label
                    raise ConflictError("workflow", label, "Model(…, repeat=2) is a different one")
            reservation.check_labels(chosen, existing.values())
            reservation.check_prompts(chosen, record.task)
            workflows = [
                existing.get(model.fingerprint)
                or reservation.claim(work, record, model, launch, circumstances, description=description)
                for model in chosen
            ]
            for workflow, model in zip(workflows, chosen, strict=True):
                if workflow.status in (Status.FAILED, Status.STOPPED):
                    # The fingerprint is the same, and so are the answers; rate limits or resources may be new.
                    workflow.model, workflow.launch = model.model_copy(update={"label": workflow.label}), launch
                    reservation.begin_attempt(work, workflow, circumstances)
        return workflows, chosen

    def resume(self, target: Target, *, budget: float | None = None) -> builtins.list[Workflow]:
        """Resume failed and stopped workflows; only examples without an answer are asked.

        Args:
            budget: dollars that each may spend in all its attempts together; default its present budget.

        Raises:
            ClusterUnavailableError: the cluster does not answer.

        Examples:
            >>> [workflow.status.value for workflow in ws.workflows.resume(experiment)]
            ['succeeded', 'succeeded', 'succeeded']
        """
        return self._again(target, budget, lambda workflow: workflow.status in (Status.FAILED, Status.STOPPED))

    def retry_failed(self, target: Target, *, budget: float | None = None) -> builtins.list[Workflow]:
        """Ask again the examples without an answer, also in workflows that succeeded, and score again.

        Raises:
            ClusterUnavailableError: the cluster does not answer.

        Examples:
            >>> [workflow.status.value for workflow in ws.workflows.retry_failed(experiment)]
            ['succeeded', 'succeeded', 'succeeded']
        """
        ids = {workflow.id for workflow in self.of(target) if workflow.status.ended}
        failed = {job.workflow_id for job in self.jobs(target) if job.step is Step.INFERENCE and job.n_failed}
        for workflow_id in ids & failed:
            # If the process is killed between here and the submission, a resume completes the workflow.
            for step in reversed(Step):
                self._store.delete(layout.result(workflow_id, step))
        return self._again(target, budget, lambda workflow: workflow.id in ids & failed)

    def evaluate(
        self,
        experiment: Experiment | str,
        *,
        only: Sequence[Workflow] | None = None,
        skipping: bool = False,
        budget: float | None = None,
    ) -> builtins.list[Workflow]:
        """Compute the metrics that ended workflows of the experiment lack, or that failed; no model is asked again.

        Args:
            experiment: record, name or id.
            only: the workflows to score; default all of the experiment.
            skipping: skip a judge whose API key is missing instead of refusing.
            budget: dollars that each may spend in all, its judges included; default its present budget.

        Raises:
            ConfigurationError: a judge's API key is missing, or the cluster's versions do not match those here.
            ClusterUnavailableError: the cluster does not answer.

        Examples:
            >>> _ = ws.experiments.add_metrics(experiment, ["chrf"])
            >>> [workflow.label for workflow in ws.workflows.evaluate(experiment)]
            ['baseline/lead-1', 'baseline/lead-3', 'baseline/copy']
        """
        with reading(self._database) as work:
            record = work.experiments.get(experiment)
        self.submitter.check([], () if skipping else record.metrics)
        self.submitter.check_cluster(record.metrics)
        ended = [workflow for workflow in self.refresh(record if only is None else only) if workflow.status.ended]
        incomplete = {workflow.id for workflow in ended if self._lacks_scores(workflow, record.metrics)}
        for workflow_id in incomplete:
            # If the process is killed between here and the submission, a resume completes the workflow.
            self._store.delete(layout.result(workflow_id, Step.EVALUATION))
        return self._again(record, budget, lambda workflow: workflow.id in incomplete)

    def _lacks_scores(self, workflow: Workflow, specs: Sequence[MetricSpec]) -> bool:
        """Return whether all answers are there, and not all scores."""
        inference = results.find_result(self._store, workflow.id, Step.INFERENCE)
        if inference is None or inference.status is not Status.SUCCEEDED:
            return False
        metric_results = [results.find_metric_result(self._store, workflow.id, spec) for spec in specs]
        return any(result is None or result.error is not None for result in metric_results)

    def record(
        self,
        experiment: Experiment | str,
        *,
        name: str,
        predictions: pd.DataFrame | Path | str,
        scores: Mapping[str, Sequence[float | None]] | None = None,
    ) -> Workflow:
        """Record predictions that were made elsewhere, and score them like those of the other models.

        Args:
            experiment: record, name or id.
            name: what tables call the model.
            predictions: a DataFrame or file (CSV, JSON Lines, Parquet) with a column `prediction`, or the name of a
                column of the dataset. Rows are in the dataset's order, unless there is a column `row` (from 0) or
                `example` (its text). `prompt_tokens`, `completion_tokens`, `seconds` and `cost` (dollars) are used too.
            scores: values of scores that another tool computed, by name, one per example; of an experiment that
                :meth:`Workspace.load_results` made.

        Returns:
            The workflow, whose evaluation has been launched.

        Raises:
            DatasetError: rows are missing, there are too many, or one belongs to no example.
            InvalidInputError: the experiment has no such recorded score, or it has another number of values.

        Examples:
            >>> recorded = ws.workflows.record(experiment, name="the topic", predictions="topic")
            >>> recorded.label
            'the topic'
        """
        with reading(self._database) as work:
            record = work.experiments.get(experiment)
            dataset, before = work.data_of(record), work.workflows.of_experiment(record.id)
        rows = recording.read(self._store, dataset, predictions)
        recorded = recording.scores_of(record.metrics, scores or {}, len(rows))
        draft = reservation.draft(record, recording.model_of(name, rows), Launch(max_failed=1.0))
        self.submitter.check_keys([draft.model])
        circumstances = provenance.circumstances(self._database, [record.id])
        reservation.check_labels([draft.model], before)
        same = next((workflow for workflow in before if workflow.fingerprint == draft.fingerprint), draft)
        if same.status in (Status.CREATED, Status.FAILED, Status.STOPPED):
            # Files first: a server may submit the workflow as soon as its row exists.
            recording.write(self._store, same, rows, shard_size(draft.model, dataset.n_examples), recorded)
        with writing(self._database) as work:
            existing = {workflow.fingerprint: workflow for workflow in work.workflows.of_experiment(record.id)}
            reservation.check_labels([draft.model], existing.values())
            workflow = existing.get(draft.fingerprint) or reservation.add(work, draft, circumstances, tuple(Step))
            if workflow.status in (Status.FAILED, Status.STOPPED):
                reservation.begin_attempt(work, workflow, circumstances)
        if workflow.status is Status.CREATED:
            self.submitter.submit([workflow])
        return self.get(workflow.id)

    def estimate(
        self,
        experiment: Experiment | str,
        models: Sequence[str | Model] | str | Model,
        *,
        pilot: int = 0,
        budget: float | None = None,
    ) -> pd.DataFrame:
        """Return what asking models takes, before anything is paid; one row per model.

        Columns: `model`, `examples`, `to_ask` (not in the answer cache), `prompt_tokens`, `completion_tokens`
        (expected), `dollars` (expected; empty without a price), `dollars_at_most`, `basis` ("count" or "pilot of n"),
        `judge_dollars` and `judge_dollars_at_most` of the experiment's judges, whose answers are expected to have two
        sentences.

        Args:
            pilot: number of examples, drawn at random, that are asked now to measure the length of answers. They cost
                money, and their answers are cached, so that they are not paid for again.
            budget: dollars that the pilots of all models may spend together. If they are spent, the estimate rests on
                the answers so far, as `basis` says.

        Examples:
            >>> table = ws.workflows.estimate(experiment, ["baseline/lead-2", "openai/gpt-4o-mini"])
            >>> table[["model", "dollars"]]
                            model   dollars
            0     baseline/lead-2  0.000000
            1  openai/gpt-4o-mini  0.005127
        """
        chosen = reservation.checked_models(models, 1, Launch(), here=True, machine_hour=self._machine_hour)
        with reading(self._database) as work:
            record = work.experiments.get(experiment)
            dataset = work.data_of(record)
        return estimates.of_experiment(self._store, record, dataset, chosen, pilot, budget, self.submitter)

    def _again(
        self, target: Target, budget: float | None, chosen: Callable[[Workflow], bool]
    ) -> builtins.list[Workflow]:
        targets = self.of(target)
        circumstances = provenance.circumstances(self._database, {workflow.experiment_id for workflow in targets})
        with writing(self._database) as work:
            workflows = work.workflows.of_ids([workflow.id for workflow in targets])
            self.submitter.check([workflow.model for workflow in workflows if chosen(workflow)])
            for workflow in filter(chosen, workflows):
                if budget is not None:
                    workflow.launch = workflow.launch.model_copy(update={"budget": budget})
                reservation.begin_attempt(work, workflow, circumstances)
        self.submitter.submit([workflow for workflow in workflows if workflow.status is Status.CREATED])
        return self.of(workflows)

    def refresh(self, target: Target | None = None) -> builtins.list[Workflow]:
        """Ask cluster and store for the status of workflows, and record it.

        Args:
            target: default all workflows that have not ended.

        Examples:
            >>> [workflow.status.value for workflow in ws.workflows.refresh(experiment)]
            ['succeeded', 'succeeded', 'succeeded']
        """
        with reading(self._database) as work:
            workflows = work.workflows.unfinished() if target is None else _resolve(work, target)
        current = snapshots.refresh(self._database, self._store, self._cluster, self._dispatching.queue, workflows)
        if any(workflow.status is Status.PENDING for workflow in current):
            self._dispatching.look()
        return current

    def wait(
        self, target: Target, *, timeout: float | None = None, progress: bool = True, check: bool = False
    ) -> builtins.list[Workflow]:
        """Wait until workflows have ended. They go on even if no process waits.

        Args:
            target: experiment, workflow or workflows.
            timeout: seconds; default no limit.
            progress: show a display that updates, in a notebook or a terminal.
            check: raise an error if a workflow did not succeed.

        Raises:
            WaitTimeoutError: the time is over; the workflows go on.
            JobFailedError: with `check`, a workflow failed or was stopped.

        Examples:
            >>> _ = ws.workflows.launch(experiment, "baseline/lead-2")
            >>> ended = ws.workflows.wait(experiment, timeout=600, progress=False, check=True)
            >>> len(ended)
            4
        """
        began = time.monotonic()
        with live_progress(enabled=progress) as show:
            workflows = self.refresh(target)
            # The local head may have ended, and the dispatcher with it: start it again for the queued workflows.
            with suppress(UnavailableError):
                self._dispatching.ensure()
            show(self.progress(workflows))
            while not all(workflow.status.ended for workflow in workflows):
                waited = time.monotonic() - began
                if timeout is not None and waited > timeout:
                    unfinished = next(workflow for workflow in workflows if not workflow.status.ended)
                    raise WaitTimeoutError(
                        f"{unfinished.label} is still {unfinished.status} after {timeout:g} s",
                        "it goes on: wait again, or look later",
                        job_id=unfinished.id,
                    )
                time.sleep(min(max(waited / 20, SHORTEST_POLL_S), LONGEST_POLL_S))
                workflows = self.refresh(workflows)
                show(self.progress(workflows))
        failed = [workflow for workflow in workflows if workflow.status is not Status.SUCCEEDED]
        if check and failed:
            reasons = "; ".join(f"{workflow.label} {workflow.status}: {workflow.error}" for workflow in failed)
            hint = "look at ws.workflows.logs(…), then ws.workflows.resume(…)"
            raise JobFailedError(reasons, hint, job_id=failed[0].id)
        return workflows

    def progress(self, target: Target) -> builtins.list[ProgressRow]:
        """Return the progress of workflows, one row each; it asks the store, not the cluster.

        Examples:
            >>> [(row.label, row.status.value) for row in ws.workflows.progress(workflows[:2])]
            [('baseline/lead-1', 'succeeded'), ('baseline/lead-3', 'succeeded')]
        """
        workflows = self.of(target)
        is_queued = any(workflow.status is Status.PENDING for workflow in workflows)
        places = self._dispatching.places() if is_queued else {}
        # A workflow that is recorded as pending may be running by now. Those that failed or were stopped have progress
        # too: how far they came, and at what cost.
        attempts = {
            workflow.id: workflow.attempt
            for workflow in workflows
            if workflow.status is not Status.SUCCEEDED and workflow.submission_id not in places
        }
        progress = results.find_progress(self._store, attempts)
        succeeded = [workflow.id for workflow in workflows if workflow.status is Status.SUCCEEDED]
        reasons: dict[str, dict[str, str]] = {}
        if succeeded:
            with reading(self._database) as work:
                reasons = work.jobs.skipped(succeeded)
        rows = []
        for workflow in workflows:
            row = _progress_row(workflow, progress.get(workflow.id), places.get(workflow.submission_id))
            if workflow.id in reasons:
                row = replace(row, skipped="; ".join(skipped(reasons[workflow.id])))
            rows.append(row)
        return rows

    def stop(self, target: Target) -> builtins.list[Workflow]:
        """Stop workflows; finished shards stay, and :meth:`resume` goes on from them.

        Raises:
            ClusterUnavailableError: the cluster does not answer.

        Examples:
            >>> [workflow.status.value for workflow in ws.workflows.stop(workflows)]
            ['succeeded', 'succeeded', 'succeeded']
        """
        workflows = self.refresh(target)
        active = [workflow for workflow in workflows if not workflow.status.ended]
        stopped = {workflow.id for workflow in self._stop_waiting(active)}
        for workflow in active:
            if workflow.id not in stopped:
                self._cluster.stop(workflow.submission_id)
        return self.refresh(workflows)

    def _stop_waiting(self, workflows: Sequence[Workflow]) -> builtins.list[Workflow]:
        """Remove workflows from the queue, record them as stopped, and return them."""
        queue = self._dispatching.queue
        waiting = queue.ids() & {workflow.submission_id for workflow in workflows}
        if not waiting:
            return []
        self._cluster.statuses(waiting)  # raises before anything is changed if the cluster does not answer
        queue.remove(waiting)
        # One that the dispatcher submitted just then must be stopped by the cluster.
        known = self._cluster.statuses(waiting)
        stopped = [
            workflow
            for workflow in workflows
            if workflow.submission_id in waiting and known[workflow.submission_id] is None
        ]
        states = {workflow.submission_id: JobState(Status.STOPPED) for workflow in stopped}
        snapshots.record(self._database, stopped, Snapshot(states))
        return stopped

    def logs(self, workflow: HasId | str) -> str:
        """Return the log of the worker of the latest attempt; empty if it has not printed anything yet.

        Examples:
            >>> "64 of 64 examples answered" in ws.workflows.logs(workflows[0])
            True
        """
        record = self.of(workflow)[0]
        stored = self._store.find(layout.log(record.id, record.attempt))
        return self._cluster.logs(record.submission_id) if stored is None else stored.decode(errors="replace")

    def of(self, target: Target) -> builtins.list[Workflow]:
        """Return the workflows of an experiment (record, name, id), or these workflows, as they are recorded now.

        Raises:
            NotFoundError: no experiment or workflow has that name or id.

        Examples:
            >>> [workflow.label for workflow in ws.workflows.of("summaries")]
            ['baseline/lead-1', 'baseline/lead-3', 'baseline/copy']
        """
        with reading(self._database) as work:
            return _resolve(work, target)

    def of_experiments(self, experiments: Sequence[Experiment]) -> dict[str, builtins.list[Workflow]]:
        """Return the workflows of experiments by the experiments' ids, in the order of their launch, in one query."""
        workflows: dict[str, builtins.list[Workflow]] = {experiment.id: [] for experiment in experiments}
        with reading(self._database) as work:
            for workflow in work.workflows.of_experiments(list(workflows)):
                workflows[workflow.experiment_id].append(workflow)
        return workflows

    def get(self, key: Workflow | str) -> Workflow:
        """Return the workflow with this id (or at least its first 6 characters); for a record, as it is now.

        Examples:
            >>> ws.workflows.get(workflows[0].id[:8]).label
            'baseline/lead-1'
        """
        with reading(self._database) as work:
            return work.workflows.get(key)

    def list(self, *, limit: int = 100, offset: int = 0, status: Status | None = None) -> builtins.list[Workflow]:
        """Return workflows, newest first; with `status` only those whose recorded status it is.

        Examples:
            >>> len(ws.workflows.list(status=lm.Status.SUCCEEDED))
            3
        """
        with reading(self._database) as work:
            return work.workflows.list(*_of_status(status), limit=limit, offset=offset)

    def count(self, *, status: Status | None = None) -> int:
        """Return the number of workflows; with `status` only of those whose recorded status it is.

        Examples:
            >>> ws.workflows.count()
            3
        """
        with reading(self._database) as work:
            return work.workflows.count(*_of_status(status))

    def counts(self, experiments: Sequence[Experiment | str]) -> dict[str, Counter[Status]]:
        """Return the number of workflows by recorded status, for each experiment by its id.

        Args:
            experiments: records or ids.
        """
        with reading(self._database) as work:
            return work.workflows.counts([key_of(experiment) for experiment in experiments])

    def jobs(self, target: Target) -> builtins.list[Job]:
        """Return the jobs of workflows, in the order of workflows and steps.

        Examples:
            >>> [step.step.value for step in ws.workflows.jobs(workflows[0])]
            ['inference', 'evaluation']
        """
        with reading(self._database) as work:
            order = {workflow.id: index for index, workflow in enumerate(_resolve(work, target))}
            jobs = work.jobs.of_workflows(list(order))
        return sorted(jobs, key=lambda job: (order[job.workflow_id], list(Step).index(job.step)))

    def predictions(self, workflow: Workflow | str) -> pd.DataFrame:
        """Return the predictions so far, one row per example.

        Columns: `row` (from 0), `prediction`, `error`, `prompt` (as it was sent), `reasoning`, `prompt_tokens`,
        `completion_tokens`, `reasoning_tokens`, `cache_read_tokens`, `cache_write_tokens`, `seconds`,
        `first_token_seconds`, `cost` (dollars), `cached`, `truncated`, `finish`; see
        :class:`lumigator_nb.models.Prediction`.

        Examples:
            >>> ws.workflows.predictions(workflows[0])["prediction"][0]
            'Library: Dear Mr Ferreira, "The Salt Road" is waiting for you at the desk until Saturday.'
        """
        return results.read_step(self._store, self.of(workflow)[0].id, Step.INFERENCE)

    def scores(self, workflow: Workflow | str, metrics: Sequence[MetricSpec] | None = None) -> pd.DataFrame:
        """Return the examples' scores so far: `row` (from 0), and a column for each score.

        Args:
            metrics: the metrics to read; default all of the experiment.

        Examples:
            >>> ws.workflows.scores(workflows[0])[["row", "rougeL"]].round(3).head(2)
               row  rougeL
            0    0   0.226
            1    1   0.196
        """
        record = self.of(workflow)[0]
        if metrics is None:
            with reading(self._database) as work:
                metrics = work.experiments.get(record.experiment_id).metrics
        return results.read_scores(self._store, record.id, metrics)

    def _mark_submitted(self, workflows: Sequence[Workflow]) -> None:
        """Record workflows as pending."""
        if not workflows:
            return
        attempts = {workflow.id: workflow.attempt for workflow in workflows if workflow.attempt > 1}
        # Results of earlier attempts count at once: the new worker does not publish them again.
        earlier = {
            key: {step: result for step, result in by_step.items() if result.attempt < attempts[key]}
            for key, by_step in results.find_results(self._store, list(attempts)).items()
        }
        states = {workflow.submission_id: JobState(Status.PENDING) for workflow in workflows}
        current = {record.id for record in snapshots.record(self._database, workflows, Snapshot(states, found=earlier))}
        if deleted := [workflow for workflow in workflows if workflow.id not in current]:
            with writing(self._database) as work:
                removal.note(work, deleted)  # they were deleted during the submission, and must be stopped


def _progress_row(workflow: Workflow, progress: Progress | None, place: int | None) -> ProgressRow:
    row = ProgressRow.of(workflow.label, workflow.status, progress, error=workflow.error, stale=workflow.stale)
    if place is None or workflow.status is not Status.PENDING:
        return row
    return replace(row, note=f"queued, {place:,} before it" if place else "queued, next in turn")


def _of_status(status: Status | None) -> builtins.list[ColumnElement[bool]]:
    return [] if status is None else [col(Workflow.status) == status]


def _resolve(work: UnitOfWork, target: Target) -> builtins.list[Workflow]:
    if isinstance(target, str):
        experiment = work.experiments.find(target)
        return [work.workflows.get(target)] if experiment is None else work.workflows.of_experiment(experiment.id)
    if isinstance(target, Experiment):
        return work.workflows.of_experiment(target.id)
    chosen = [target] if isinstance(target, HasId) else list(target)
    ids = [workflow.id for workflow in chosen]
    current = {workflow.id: workflow for workflow in work.workflows.of_ids(ids)}
    if deleted := set(ids) - current.keys():
        raise NotFoundError("workflow", min(deleted), "it was deleted")
    return [current[key] for key in ids]
