"""Hands workflows to whoever does the work: the cluster, or this process where only it has the function."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from lumigator_nb import metrics, models
from lumigator_nb.cluster.queue import EXPERIMENT
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.engine import steps
from lumigator_nb.engine.pool import sizing
from lumigator_nb.errors import InvalidInputError, NotFoundError, StoreNotSharedError
from lumigator_nb.security import redaction
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.services.workflows.dispatching import Dispatching, store_arguments
from lumigator_nb.specs import MetricSpec, Model, Progress, Resources, Status, Step, WorkflowSpec
from lumigator_nb.storage import layout, results

SMALL_SHARD, MEDIUM_SHARD, LARGE_SHARD = 16, 128, 1024
SOME_EXAMPLES, MANY_EXAMPLES = 5_000, 20_000
# A worker that waits for a batch leaves its core to others all the time.
BATCH_CPUS = 0.1


class Submitter:
    """Knows what a worker must be given.

    Args:
        submitted: called with workflows once the cluster has them, or they wait for it safely.

    Attributes:
        dispatching: who waits, and that it goes on.
    """

    def __init__(self, runtime: Runtime, submitted: Callable[[Sequence[Workflow]], None]) -> None:
        self._database, self._store = runtime.database, runtime.store
        self._cluster, self._settings = runtime.cluster, runtime.settings
        self._submitted = submitted
        self.dispatching = Dispatching(self._database, self._store, self._cluster, self._settings.lumigator_max_running)

    def check(self, chosen: Sequence[Model], specs: Sequence[MetricSpec] = ()) -> None:
        """Refuse what could not work once it is launched, without asking a cluster elsewhere.

        Args:
            specs: metrics that will score the answers, by which other models may be asked.

        Raises:
            StoreNotSharedError: the cluster is elsewhere and the store is a folder of this machine.
            ConfigurationError: an API key is missing.
        """
        shared = self._settings.lumigator_store_shared
        if self._store.is_local and not shared and not self._cluster.shares_files:
            raise StoreNotSharedError(
                f"the store {self._store.spec.uri} is a folder of this machine, which the cluster cannot read",
                "set S3_BUCKET (and S3_ENDPOINT_URL); or LUMIGATOR_STORE_SHARED=true where all nodes have that folder "
                "mounted, under the same path; or unset RAY_ADDRESS and RAY_HEAD_NODE_HOST to compute here",
            )
        self.check_keys([*chosen, *metrics.models_of(specs)])

    def check_cluster(self, specs: Sequence[MetricSpec]) -> None:
        """Refuse a cluster whose versions do not go with ours.

        Args:
            specs: metrics that will score the answers; functions among them may need one version of Python.

        Raises:
            ConfigurationError: they do not.
            ClusterUnavailableError: the cluster does not answer.
        """
        self._cluster.check(metrics.pickled_by(specs))

    def check_keys(self, chosen: Sequence[Model]) -> None:
        """Refuse models whose API key is missing, or whose settings hold a secret, as they are stored.

        Raises:
            ConfigurationError: a key is missing.
            InvalidInputError: a name, label, prompt, address or other setting holds a secret.
        """
        redact = self.redact
        for model in chosen:
            redaction.refuse_secrets(_texts_of(model), redact)
        for model in chosen:
            key = models.key(model)
            # The nodes of a remote cluster may have keys of their own.
            if key and key.required and self._cluster.head and not self._settings.variable(key.name):
                raise models.missing_key(model, key.name)

    def submit(self, workflows: Sequence[Workflow], given: Sequence[Model] = ()) -> None:
        """Begin the work on workflows.

        Args:
            given: models as the caller made them; only those still hold a function of this process.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
            ConfigurationError: its versions do not go with ours.
            InvalidInputError: a function of another process is asked for.
        """
        if workflows:
            self._cluster.check()
        functions = {model.fingerprint: model for model in given if model.function is not None}
        for workflow in workflows:
            if self._asks_here(workflow) and workflow.fingerprint not in functions:
                raise InvalidInputError(
                    f"the function of {workflow.label!r} is not in this process",
                    "launch it again with lm.Model.from_function(f); what it answered is kept",
                )
        here = [workflow for workflow in workflows if self._asks_here(workflow)]
        names = {workflow.id for workflow in here}
        self._hand_over([workflow for workflow in workflows if workflow.id not in names])
        for workflow in here:
            (spec,) = self._specs([workflow])
            results.write_spec(self._store, spec)
            self._infer_here(spec.model_copy(update={"model": functions[workflow.fingerprint]}))
            self._hand_over([workflow])

    @contextmanager
    def keys_in_environment(self, model: Model) -> Iterator[None]:
        """Put a model's API key from `.env` or the database into the environment for as long as it is asked here."""
        found = models.key(model)
        # No variable holds the value while the model is asked: a traceback may show the variables.
        if found is None or os.environ.get(found.name) or not self._put_into_environment(found.name):
            yield
            return
        try:
            yield
        finally:
            del os.environ[found.name]

    def _put_into_environment(self, name: str) -> bool:
        value = self._settings.variable(name)
        if value:
            os.environ[name] = value
        return bool(value)

    @property
    def redact(self) -> redaction.Redactor:
        """Takes out the secrets that this process, `.env` and the database hold."""
        return redactor_of(self._settings)

    def _hand_over(self, workflows: Sequence[Workflow]) -> None:
        """Give the cluster as many as there is room for, and have the others wait.

        Those that wait are safe, and recorded, before the cluster is given any.
        """
        if not workflows:
            return
        # Those that take a whole machine go last: they would keep the quick ones waiting.
        ordered = sorted(workflows, key=lambda each: (-each.launch.priority, models.uses_all_cores(each.model)))
        jobs = self._jobs(ordered)
        room = self.dispatching.room(len(ordered))
        self.dispatching.put(ordered[room:], jobs[room:])
        self._submitted(ordered[room:])
        self._cluster.post(jobs[:room])
        self._submitted(ordered[:room])
        if room < len(ordered):
            self.dispatching.ensure()

    def _jobs(self, workflows: Sequence[Workflow]) -> list[dict[str, Any]]:
        """Put what the workers need into the store, and return the jobs that start them."""
        specs = self._specs(workflows)
        self._store.write_all(
            {layout.spec(each.workflow_id): each.model_dump_json(indent=2).encode() for each in specs}
        )
        found: list[dict[str, Any]] = []
        with self._cluster.together():
            for workflow, spec in zip(workflows, specs, strict=True):
                self._seal_keys(workflow, spec)
                self._submit(workflow, spec, found.append)
        return found

    def _submit(self, workflow: Workflow, spec: WorkflowSpec, keep: Callable[[dict[str, Any]], None]) -> None:
        self._cluster.submit(
            workflow.submission_id,
            [self._store.spec.uri, workflow.id, *store_arguments(self._store)],
            **_place(spec),
            metadata={EXPERIMENT: workflow.experiment_id},
            keep=keep,
        )

    def _asks_here(self, workflow: Workflow) -> bool:
        """Whether a function of this process is still to answer."""
        if not models.runs_here(workflow.model):
            return False
        answered = results.find_result(self._store, workflow.id, Step.INFERENCE)
        return answered is None or answered.status is not Status.SUCCEEDED

    def _infer_here(self, spec: WorkflowSpec) -> None:
        with live_progress() as show:

            def report(progress: Progress) -> None:
                show([ProgressRow.of(spec.model.label, Status.RUNNING, progress)])

            steps.execute(Step.INFERENCE, spec, self._store, self.redact, report)

    def _seal_keys(self, workflow: Workflow, spec: WorkflowSpec) -> None:
        asked = [workflow.model, *metrics.models_of(spec.metrics)]
        wanted = [key.name for key in map(models.key, asked) if key]
        names = self._settings.having(wanted) if wanted else set()
        secret = self._cluster.secret() if names else None
        if secret:
            # No variable holds the values while they are written: a traceback may show the variables.
            sealed = redaction.seal({name: self._settings.variable(name) or "" for name in names}, secret)
            self._store.write(layout.sealed_keys(workflow.id), sealed)

    def _specs(self, workflows: Sequence[Workflow]) -> list[WorkflowSpec]:
        with reading(self._database) as work:
            experiments = {key: work.experiments.get(key) for key in {each.experiment_id for each in workflows}}
            datasets = {key: work.data_of(each) for key, each in experiments.items()}
        return [self._spec(each, experiments[each.experiment_id], datasets) for each in workflows]

    def _spec(self, workflow: Workflow, experiment: Experiment, datasets: Mapping[str, Dataset]) -> WorkflowSpec:
        dataset = datasets[experiment.id]
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
            resources=self._resources(workflow.model),
        )

    def _shard_size(self, workflow: Workflow, n_examples: int) -> int:
        """Finished shards are known by their number: an attempt divides the examples as the first one did."""
        if workflow.attempt > 1:
            with suppress(NotFoundError):
                return results.read_spec(self._store, workflow.id).shard_size
        return shard_size(workflow.model, n_examples, workflow.launch.workers or 1)

    def _resources(self, model: Model) -> Resources:
        """What the model's settings say, else what holds for all."""
        own = model.resources
        return own if own.num_gpus is not None else own.model_copy(update={"num_gpus": self._settings.ray_worker_gpus})


def _texts_of(model: Model) -> list[tuple[str, str]]:
    """What each text of a model's settings is, and the text."""
    return [
        (f"{field} of a model", text)
        for field, value in model.model_dump(mode="json").items()
        for text in redaction.texts_in(value)
    ]


def shard_size(model: Model, n_examples: int, n_workers: int = 1) -> int:
    """Return how many predictions go into one file: few where each takes long, so that they are soon to be seen.

    Args:
        n_workers: that share the work, and shall have several files each to do.
    """
    if n_examples > MANY_EXAMPLES:
        size = LARGE_SHARD
    else:
        size = MEDIUM_SHARD if n_examples > SOME_EXAMPLES or models.waits(model) else SMALL_SHARD
    return size if n_workers == 1 else max(1, min(size, n_examples // (8 * n_workers)))


def _place(spec: WorkflowSpec) -> dict[str, Any]:
    """What the workflow's own worker waits for on the cluster, as :meth:`Cluster.submit` takes it."""
    if sizing.is_spread(spec.model, spec.launch, spec.n_examples):
        # It only looks after those that share the work, and they find room by themselves.
        return {"resources": Resources(num_cpus=0.0)}
    everything = any(map(models.uses_all_cores, [spec.model, *metrics.models_of(spec.metrics)]))
    if spec.resources.num_cpus is None and everything and not spec.resources.num_gpus:
        return {"resources": spec.resources, "all_cores": True}
    cpus = BATCH_CPUS if spec.launch.mode == "batch" else sizing.WAITING_CPUS if models.waits(spec.model) else 1.0
    given = {} if spec.resources.num_cpus is not None else {"num_cpus": cpus}
    return {"resources": spec.resources.model_copy(update=given)}
