"""Workflows: launch models on the cluster, watch, stop, resume."""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterable, Sequence

import pandas as pd

from lumigator_nb import layout, models, results
from lumigator_nb.cluster import Cluster, JobState
from lumigator_nb.db import Database
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.errors import (
    ClusterUnavailableError,
    InvalidInputError,
    JobFailedError,
    StoreNotSharedError,
    WaitTimeoutError,
)
from lumigator_nb.records import Experiment, Job, Workflow
from lumigator_nb.repositories import UnitOfWork, reading, writing
from lumigator_nb.services.status import Results, apply, derive_status
from lumigator_nb.specs import Model, Status, Step, WorkflowSpec, now
from lumigator_nb.store import Store

Target = Experiment | Workflow | str | Sequence[Workflow]
POLL_INTERVAL_S = 1.0
SMALL_SHARD, LARGE_SHARD, MANY_EXAMPLES = 16, 256, 5_000


class Workflows:
    """The workflows of a workspace."""

    def __init__(self, database: Database, store: Store, cluster: Cluster) -> None:
        self._database = database
        self._store = store
        self._cluster = cluster

    def launch(self, experiment: Experiment | str, models: Sequence[str | Model]) -> builtins.list[Workflow]:
        """Hand models to the cluster, one workflow each, and return at once.

        Launching is safe to repeat: a model that is under way or has succeeded in this experiment is left alone, one
        that failed or was stopped is resumed.

        Args:
            experiment: record, name or id.
            models: ``"provider/name"`` or :class:`Model`.

        Returns:
            The workflows, in the order of `models`.

        Raises:
            UnknownModelError, InvalidInputError, MissingExtraError: a model cannot work; then none is launched.
            StoreNotSharedError: the cluster is elsewhere and the store is a folder of this machine.
            ClusterUnavailableError: the cluster does not answer; launch again later.
        """
        chosen = _checked_models(models)
        self._require_shared_store()
        with writing(self._database) as work:
            record = work.experiments.get(experiment if isinstance(experiment, str) else experiment.id)
            known = {workflow.fingerprint: workflow for workflow in work.workflows.of_experiment(record.id)}
            _check_labels(chosen, known.values())
            workflows = [known.get(model.fingerprint) or _claim(work, record, model) for model in chosen]
            _begin_attempts(work, workflows)
        self._submit([workflow for workflow in workflows if workflow.status is Status.CREATED])
        return self.of(workflows)

    def resume(self, target: Target) -> builtins.list[Workflow]:
        """Take failed and stopped workflows up where they ended; finished shards are not computed again.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        self._require_shared_store()
        ids = [workflow.id for workflow in self.of(target)]
        with writing(self._database) as work:
            workflows = [work.workflows.get(key) for key in ids]
            _begin_attempts(work, workflows)
        self._submit([workflow for workflow in workflows if workflow.status is Status.CREATED])
        return self.of(workflows)

    def refresh(self, target: Target | None = None) -> builtins.list[Workflow]:
        """Ask the cluster and the store how workflows stand, and record it; the only place that writes a status.

        Args:
            target: default all that have not ended.
        """
        with reading(self._database) as work:
            workflows = work.workflows.unfinished() if target is None else _resolve(work, target)
        waiting = [workflow for workflow in workflows if not workflow.status.ended]
        if waiting:
            states, reachable = self._ask_cluster(waiting)
            found = {workflow.id: self._results(workflow.id) for workflow in waiting}
            with writing(self._database) as work:
                for workflow in waiting:
                    state = states.get(workflow.submission_id)
                    _record(work, workflow, found[workflow.id], state, reachable)
        return self.of(workflows)

    def wait(
        self, target: Target, *, timeout: float | None = None, progress: bool = True, check: bool = False
    ) -> builtins.list[Workflow]:
        """Wait until workflows have ended; the work does not depend on anybody waiting.

        Args:
            target: experiment, workflow or workflows.
            timeout: seconds; default for ever.
            progress: show a display that updates, in a notebook or a terminal.
            check: raise where a workflow did not succeed.

        Raises:
            WaitTimeoutError: time is up; the work goes on.
            JobFailedError: with `check`, a workflow failed or was stopped.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with live_progress(enabled=progress) as show:
            workflows = self.refresh(target)
            show(self.progress(workflows))
            while not all(workflow.status.ended for workflow in workflows):
                if deadline is not None and time.monotonic() > deadline:
                    late = next(workflow for workflow in workflows if not workflow.status.ended)
                    raise WaitTimeoutError(
                        f"{late.label} is still {late.status} after {timeout:g} s",
                        "it goes on: wait again, or look later",
                        job_id=late.id,
                    )
                time.sleep(POLL_INTERVAL_S)
                workflows = self.refresh(workflows)
                show(self.progress(workflows))
        if check:
            _raise_failures(workflows)
        return workflows

    def progress(self, target: Target) -> builtins.list[ProgressRow]:
        """Return how far workflows are, one row each; asks the store, not the cluster."""
        return [self._progress_row(workflow) for workflow in self.of(target)]

    def stop(self, target: Target) -> builtins.list[Workflow]:
        """End workflows that are under way; finished shards stay, and :meth:`resume` goes on from them.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        workflows = self.refresh(target)
        for workflow in workflows:
            if not workflow.status.ended:
                self._cluster.stop(workflow.submission_id)
        return self.refresh(workflows)

    def logs(self, workflow: Workflow | str) -> str:
        """Return what the worker of the latest attempt printed; empty where it has not printed anything yet."""
        record = self.of(workflow)[0]
        kept = self._store.find(layout.log(record.id, record.attempt))
        return self._cluster.logs(record.submission_id) if kept is None else kept.decode(errors="replace")

    def of(self, target: Target) -> builtins.list[Workflow]:
        """Return the workflows of an experiment (record, name, id), or those given, as they are recorded now.

        Raises:
            NotFoundError: no experiment or workflow has that name or id.
        """
        with reading(self._database) as work:
            return _resolve(work, target)

    def get(self, key: str) -> Workflow:
        """Return the workflow of that id, or of 6 or more characters of its beginning."""
        with reading(self._database) as work:
            return work.workflows.get(key)

    def list(self, *, limit: int = 100, offset: int = 0) -> builtins.list[Workflow]:
        """Return workflows, newest first."""
        with reading(self._database) as work:
            return work.workflows.list(limit=limit, offset=offset)

    def jobs(self, target: Target) -> builtins.list[Job]:
        """Return the jobs of workflows, in the order of workflows and steps."""
        with reading(self._database) as work:
            order = [workflow.id for workflow in _resolve(work, target)]
            jobs = work.jobs.of_workflows(order)
        return sorted(jobs, key=lambda job: (order.index(job.workflow_id), list(Step).index(job.step)))

    def predictions(self, workflow: Workflow | str) -> pd.DataFrame:
        """Return the predictions so far.

        Columns: `row` (from 0), `prediction`, `error`, `prompt_tokens`, `completion_tokens`, `seconds`, `truncated`.
        """
        return results.read_step(self._store, self.of(workflow)[0].id, Step.INFERENCE)

    def _submit(self, workflows: Sequence[Workflow]) -> None:
        # Those that take a whole machine go last: they would keep the quick ones waiting.
        for workflow in sorted(workflows, key=lambda workflow: models.uses_all_cores(workflow.model)):
            spec = self._spec(workflow)
            results.write_spec(self._store, spec)
            store = self._store.spec
            endpoint = ["--endpoint-url", store.endpoint_url] if store.endpoint_url else []
            self._cluster.submit(
                workflow.submission_id,
                [store.uri, workflow.id, *endpoint],
                all_cores=models.uses_all_cores(workflow.model),
            )
            with writing(self._database) as work:
                _record(work, workflow, {}, JobState(Status.PENDING), reachable=True)

    def _spec(self, workflow: Workflow) -> WorkflowSpec:
        with reading(self._database) as work:
            experiment = work.experiments.get(workflow.experiment_id)
            dataset = work.datasets.get(experiment.dataset_id)
        return WorkflowSpec(
            workflow_id=workflow.id,
            attempt=workflow.attempt,
            dataset=layout.examples(dataset.id),
            n_examples=dataset.n_examples,
            task=experiment.task,
            model=workflow.model,
            metrics=experiment.metrics,
            shard_size=LARGE_SHARD if dataset.n_examples > MANY_EXAMPLES else SMALL_SHARD,
        )

    def _ask_cluster(self, workflows: Sequence[Workflow]) -> tuple[dict[str, JobState | None], bool]:
        try:
            return self._cluster.statuses([workflow.submission_id for workflow in workflows]), True
        except ClusterUnavailableError:
            return {}, False

    def _results(self, workflow_id: str) -> Results:
        found = {step: results.find_result(self._store, workflow_id, step) for step in Step}
        return {step: result for step, result in found.items() if result is not None}

    def _progress_row(self, workflow: Workflow) -> ProgressRow:
        current = None
        if not workflow.status.ended:
            steps = (results.find_progress(self._store, workflow.id, step) for step in reversed(Step))
            current = next((step for step in steps if step is not None and step.attempt == workflow.attempt), None)
        return ProgressRow.of(workflow.label, workflow.status, current, error=workflow.error, stale=workflow.stale)

    def _require_shared_store(self) -> None:
        if self._store.is_local and not self._cluster.shares_files:
            raise StoreNotSharedError(
                f"the store {self._store.spec.uri} is a folder of this machine, which the cluster cannot read",
                "set S3_BUCKET (and S3_ENDPOINT_URL), or unset RAY_HEAD_NODE_HOST to compute here",
            )


def _checked_models(given: Sequence[str | Model]) -> builtins.list[Model]:
    if isinstance(given, (str, Model)):
        given = [given]
    chosen = [Model(model) if isinstance(model, str) else model for model in given]
    if not chosen:
        raise InvalidInputError("there is no model to launch", f"providers: {', '.join(models.providers())}")
    for model in chosen:
        models.check(model)
    return list({model.fingerprint: model for model in chosen}.values())


def _check_labels(chosen: Sequence[Model], known: Iterable[Workflow]) -> None:
    taken = {workflow.label: workflow.fingerprint for workflow in known}
    for model in chosen:
        if taken.setdefault(model.label, model.fingerprint) != model.fingerprint:
            raise InvalidInputError(
                f"two models with different settings are both called {model.label!r}",
                "tell them apart: Model(…, label='…')",
            )


def _claim(work: UnitOfWork, experiment: Experiment, model: Model) -> Workflow:
    workflow = Workflow(experiment_id=experiment.id, label=model.label, fingerprint=model.fingerprint, model=model)
    work.workflows.add(workflow)
    for step in Step:
        work.jobs.add(Job(workflow_id=workflow.id, step=step))
    return workflow


def _begin_attempts(work: UnitOfWork, workflows: Iterable[Workflow]) -> None:
    for workflow in workflows:
        if workflow.status in (Status.FAILED, Status.STOPPED):
            _begin_attempt(work, workflow)


def _begin_attempt(work: UnitOfWork, workflow: Workflow) -> None:
    workflow.attempt += 1
    workflow.status, workflow.error, workflow.stale = Status.CREATED, None, False
    workflow.attempted_at, workflow.finished_at = now(), None
    for job in work.jobs.of_workflows([workflow.id]):
        if job.status is not Status.SUCCEEDED:
            job.status, job.error = Status.CREATED, None


def _record(work: UnitOfWork, seen: Workflow, found: Results, state: JobState | None, reachable: bool) -> None:
    workflow = work.workflows.get(seen.id)
    if workflow.attempt != seen.attempt:
        return  # somebody resumed it meanwhile: what was seen is about the attempt before
    verdict = derive_status(workflow, found, state, reachable=reachable, time=now())
    apply(workflow, work.jobs.of_workflows([workflow.id]), verdict, found, now())


def _resolve(work: UnitOfWork, target: Target) -> builtins.list[Workflow]:
    if isinstance(target, str):
        experiment = work.experiments.find(target)
        return [work.workflows.get(target)] if experiment is None else work.workflows.of_experiment(experiment.id)
    if isinstance(target, Experiment):
        return work.workflows.of_experiment(target.id)
    chosen = [target] if isinstance(target, Workflow) else target
    return [work.workflows.get(workflow.id) for workflow in chosen]


def _raise_failures(workflows: Sequence[Workflow]) -> None:
    failed = [workflow for workflow in workflows if workflow.status is not Status.SUCCEEDED]
    if failed:
        reasons = "; ".join(f"{workflow.label} {workflow.status}: {workflow.error}" for workflow in failed)
        raise JobFailedError(reasons, "look at ws.workflows.logs(…), then ws.workflows.resume(…)", job_id=failed[0].id)
