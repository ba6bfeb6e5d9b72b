"""Submission: hand workflows to the cluster, after answering here if only this process has the model's function."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from lumigator_nb import metrics, models
from lumigator_nb.cluster.queue import EXPERIMENT
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.engine import steps
from lumigator_nb.engine.pool import sizing
from lumigator_nb.errors import DatabaseUnavailableError, InvalidInputError, NotFoundError, StoreNotSharedError
from lumigator_nb.security import redaction
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.services.workflows.dispatching import Dispatching, store_arguments
from lumigator_nb.specs import MetricSpec, Model, Progress, Resources, Status, Step, WorkflowSpec
from lumigator_nb.storage import layout, results

SMALL_SHARD, MEDIUM_SHARD, LARGE_SHARD = 16, 128, 1024
SOME_EXAMPLES, MANY_EXAMPLES = 5_000, 20_000
# A worker that waits for a batch hardly computes, so that many of them share a core.
BATCH_CPUS = 0.1


class Submitter:
    """Checks workflows, writes what their workers need, and submits them.

    Args:
        submitted: called with workflows once the cluster or the queue has them.

    Attributes:
        dispatching: the admission control.
    """

    def __init__(self, runtime: Runtime, submitted: Callable[[Sequence[Workflow]], None]) -> None:
        self._database, self._store = runtime.database, runtime.store
        self._cluster, self._settings = runtime.cluster, runtime.settings
        self._submitted = submitted
        self.dispatching = Dispatching(self._database, self._store, self._cluster, self._settings.lumigator_max_running)

    def check(self, chosen: Sequence[Model], specs: Sequence[MetricSpec] = ()) -> None:
        """Refuse models and metrics that could not work, without asking a remote cluster.

        Args:
            specs: metrics that will score the answers; judges among them ask other models.

        Raises:
            StoreNotSharedError: the cluster is elsewhere and the store is a folder of this machine.
            ConfigurationError: an API key is missing.
        """
        shared = self._settings.lumigator_store_shared
        if self._store.is_local and not shared and not self._cluster.shares_files:
            raise StoreNotSharedError(
                f"the store {self._store.spec.uri} is a folder of this machine, which the cluster cannot read",
                "set S3_BUCKET (and S3_ENDPOINT_URL); or LUMIGATOR_STORE_SHARED=true if all nodes have that folder "
                "mounted under the same path; or unset RAY_ADDRESS and RAY_HEAD_NODE_HOST to compute here",
            )
        self.check_keys([*chosen, *metrics.models_of(specs)])

    def check_cluster(self, specs: Sequence[MetricSpec]) -> None:
        """Refuse a cluster whose versions do not match those here.

        Args:
            specs: metrics that will score the answers; pickled functions among them need the same version of Python.

        Raises:
            ConfigurationError: they do not match.
            ClusterUnavailableError: the cluster does not answer.
        """
        self._cluster.check(metrics.pickled_by(specs))

    def check_keys(self, chosen: Sequence[Model]) -> None:
        """Refuse models whose API key is missing, or whose settings hold a secret: settings are stored in plain text.

        Raises:
            ConfigurationError: a key is missing.
            InvalidInputError: a name, label, prompt, address or other setting holds a secret.
        """
        redact = self.redact
        for model in chosen:
            texts = [
                (f"{field} of a model", text)
                for field, value in model.model_dump(mode="json").items()
                for text in redaction.texts_in(value)
            ]
            redaction.refuse_secrets(texts, redact)
        for model in chosen:
            key = models.key(model)
            # The nodes of a remote cluster may have the key in their environment.
            if key and key.required and self._cluster.head and not self._settings.variable(key.name):
                raise models.missing_key(model, key.name)

    def has(self, experiment: Experiment) -> bool:
        """Return whether an experiment is still there; True where the database does not answer."""
        try:
            with reading(self._database) as work:
                return work.experiments.find(experiment.id) is not None
        except DatabaseUnavailableError:
            return True

    def submit(self, workflows: Sequence[Workflow], originals: Sequence[Model] = ()) -> None:
        """Submit workflows.

        Args:
            originals: the models as the caller made them; models from the database have lost their function.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
            ConfigurationError: its versions do not match those here.
            InvalidInputError: a function is needed that another process has.
        """
        if workflows:
            self._cluster.check()
        functions = {model.fingerprint: model for model in originals if model.function is not None}
        for workflow in workflows:
            if self._asks_here(workflow) and workflow.fingerprint not in functions:
                raise InvalidInputError(
                    f"the function of {workflow.label!r} is not in this process",
                    "launch it again with lm.Model.from_function(f); its answers so far are kept",
                )
        here = [workflow for workflow in workflows if self._asks_here(workflow)]
        ids = {workflow.id for workflow in here}
        # The cluster begins with the others while the functions answer here; it only scores their answers.
        self._hand_over([workflow for workflow in workflows if workflow.id not in ids])
        for workflow in here:
            (spec,) = self._specs([workflow])
            results.write_spec(self._store, spec)
            model = functions[workflow.fingerprint]
            with live_progress() as show:

                def report(progress: Progress, label: str = model.label) -> None:
                    show([ProgressRow.of(label, Status.RUNNING, progress)])

                spec = spec.model_copy(update={"model": model})
                steps.execute(Step.INFERENCE, spec, self._store, self.redact, report)
            self._hand_over([workflow])

    @contextmanager
    def keys_in_environment(self, model: Model) -> Iterator[None]:
        """Put a model's API key from `.env` or the database into the environment while the block asks it."""
        key = models.key(model)
        # No local variable holds the value while the model is asked: a traceback may show local variables.
        if key is None or os.environ.get(key.name) or not self._put_into_environment(key.name):
            yield
            return
        try:
            yield
        finally:
            del os.environ[key.name]

    def _put_into_environment(self, name: str) -> bool:
        """Set the variable; return False if it has no value."""
        value = self._settings.variable(name)
        if value:
            os.environ[name] = value
        return bool(value)

    @property
    def redact(self) -> redaction.Redactor:
        """A redactor of all secrets of the environment, `.env` and the database."""
        return redactor_of(self._settings)

    def _hand_over(self, workflows: Sequence[Workflow]) -> None:
        """Submit as many workflows as the limit allows, and queue the others.

        The queued ones are stored and recorded first, so that none is lost if the submission fails.
        """
        if not workflows:
            return
        # Models that use a whole machine go last: quick ones would have to wait for them.
        ordered = sorted(
            workflows, key=lambda workflow: (-workflow.launch.priority, models.uses_all_cores(workflow.model))
        )
        jobs = self._jobs(ordered)
        room = self.dispatching.room(len(ordered))
        self.dispatching.put(ordered[room:], jobs[room:])
        self._submitted(ordered[room:])
        self._cluster.post(jobs[:room])
        self._submitted(ordered[:room])
        if room < len(ordered):
            self.dispatching.ensure()

    def _jobs(self, workflows: Sequence[Workflow]) -> list[dict[str, Any]]:
        """Put what the workers need into the store, and return the Ray jobs that start them, not submitted yet."""
        specs = self._specs(workflows)
        self._store.write_all(
            {layout.spec(spec.workflow_id): spec.model_dump_json(indent=2).encode() for spec in specs}
        )
        jobs: list[dict[str, Any]] = []
        with self._cluster.together():
            for workflow, spec in zip(workflows, specs, strict=True):
                self._seal_keys(workflow, spec)
                self._cluster.submit(
                    workflow.submission_id,
                    [self._store.spec.uri, workflow.id, *store_arguments(self._store)],
                    **_place(spec),
                    metadata={EXPERIMENT: workflow.experiment_id},
                    keep=jobs.append,
                )
        return jobs

    def _asks_here(self, workflow: Workflow) -> bool:
        """Return whether a function of this process still has to answer."""
        if not models.runs_here(workflow.model):
            return False
        inference = results.find_result(self._store, workflow.id, Step.INFERENCE)
        return inference is None or inference.status is not Status.SUCCEEDED

    def _seal_keys(self, workflow: Workflow, spec: WorkflowSpec) -> None:
        """Write the API keys that the worker needs into the store, encrypted."""
        needed = [key.name for key in map(models.key, [workflow.model, *metrics.models_of(spec.metrics)]) if key]
        names = self._settings.having(needed) if needed else set()
        secret = self._cluster.secret() if names else None
        if secret:
            # No local variable holds the values while they are written: a traceback may show local variables.
            sealed = redaction.seal({name: self._settings.variable(name) or "" for name in names}, secret)
            self._store.write(layout.sealed_keys(workflow.id), sealed)

    def _specs(self, workflows: Sequence[Workflow]) -> list[WorkflowSpec]:
        with reading(self._database) as work:
            ids = {workflow.experiment_id for workflow in workflows}
            experiments = {key: work.experiments.get(key) for key in ids}
            datasets = {key: work.data_of(experiment) for key, experiment in experiments.items()}
        return [
            self._spec(workflow, experiments[workflow.experiment_id], datasets[workflow.experiment_id])
            for workflow in workflows
        ]

    def _spec(self, workflow: Workflow, experiment: Experiment, dataset: Dataset) -> WorkflowSpec:
        own = workflow.model.resources
        # A model's own setting replaces the one for all models.
        default = {} if own.num_gpus is not None else {"num_gpus": self._settings.ray_worker_gpus}
        return WorkflowSpec(
            workflow_id=workflow.id,
            attempt=workflow.attempt,
            dataset=layout.examples(dataset.id),
            n_examples=dataset.n_examples,
            sample=dataset.sample,
            task=workflow.model.worded(experiment.task),
            judged_task=workflow.model.judged_by(experiment.task),
            model=workflow.model,
            metrics=experiment.metrics,
            shard_size=self._shard_size(workflow, dataset.n_examples),
            launch=workflow.launch,
            resources=own.model_copy(update=default),
        )

    def _shard_size(self, workflow: Workflow, n_examples: int) -> int:
        """Return the shard size of the first attempt: finished shards are found again by their number."""
        if workflow.attempt > 1:
            with suppress(NotFoundError):
                return results.read_spec(self._store, workflow.id).shard_size
        return shard_size(workflow.model, n_examples, workflow.launch.workers or 1)


def shard_size(model: Model, n_examples: int, n_workers: int = 1) -> int:
    """Return how many predictions go into one file: few if each takes long, so that the first ones are soon visible.

    Args:
        n_workers: share the work; each should have about eight files, so that all end at about the same time.
    """
    if n_examples > MANY_EXAMPLES:
        size = LARGE_SHARD
    else:
        size = MEDIUM_SHARD if n_examples > SOME_EXAMPLES or models.waits(model) else SMALL_SHARD
    return size if n_workers == 1 else max(1, min(size, n_examples // (8 * n_workers)))


def _place(spec: WorkflowSpec) -> dict[str, Any]:
    """Return the resources for the workflow's own worker, as arguments of :meth:`Cluster.submit`."""
    if sizing.is_spread(spec.model, spec.launch, spec.n_examples):
        # It only supervises the workers that share the work, and those ask for their own resources.
        return {"resources": Resources(num_cpus=0.0)}
    uses_all_cores = any(map(models.uses_all_cores, [spec.model, *metrics.models_of(spec.metrics)]))
    if spec.resources.num_cpus is None and uses_all_cores and not spec.resources.num_gpus:
        return {"resources": spec.resources, "all_cores": True}
    cpus = BATCH_CPUS if spec.launch.mode == "batch" else sizing.WAITING_CPUS if models.waits(spec.model) else 1.0
    default = {} if spec.resources.num_cpus is not None else {"num_cpus": cpus}
    return {"resources": spec.resources.model_copy(update=default)}
