"""Single jobs, as the REST API creates them: predictions, ground truth or scores of one dataset.

Each job is the only workflow of an experiment that no list shows, so that it is watched, stopped, resumed and found
again after a crash like any other. Some jobs also create a dataset of their predictions. The database records that
they still owe it when the workflow has ended, and :meth:`Jobs.settle` creates it, in any process.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import UnitOfWork, reading, writing
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.display.text import skipped
from lumigator_nb.errors import (
    ConflictError,
    DatasetError,
    InvalidInputError,
    LumigatorError,
    NotFoundError,
    UnavailableError,
)
from lumigator_nb.services.datasets.datasets import Datasets
from lumigator_nb.services.experiments import Experiments
from lumigator_nb.services.workflows.workflows import Workflows
from lumigator_nb.specs import Launch, Model, Purpose, Status, Step, Summarization, Task, is_ground_truth, now

PREDICTIONS = "predictions"
# Another process may take a name at the same moment; then the next number is tried, this many times.
_NAME_ATTEMPTS = 20
# Earlier versions added the experiment of a job before its workflow. If they were killed in between, it stayed alone.
ABANDONED_AFTER = timedelta(minutes=10)


class JobSummary(NamedTuple):
    """The data of a job in a list; fields in the order of `JOB_COLUMNS` in :mod:`lumigator_nb.database.queries`.

    Attributes:
        recorded: status of its step.
        finished_at: of its step or, if the step ended with its workflow, of the workflow.
        label: of the model.
        of: purpose of its experiment.
        asked_name, asked_problem, asked_samples: from `Experiment.asked`; None if missing there.
        task: its kind.
        dataset_model, dataset_how: from `Dataset.generated` and `Dataset.derived`; None if missing there.
        skipped: metrics that could not be computed, by title, with the reason; None if there are none.
    """

    id: str
    step: Step
    recorded: Status
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    label: str
    workflow_description: str
    attempted_at: datetime
    model: str
    experiment_id: str
    of: Purpose
    experiment_description: str
    dataset_id: str
    owes_dataset: bool
    asked_name: str | None
    asked_problem: str | None
    asked_samples: int | None
    task: str
    dataset_name: str
    dataset_filename: str
    dataset_model: str | None
    dataset_how: str | None
    skipped: dict[str, str] | None

    @property
    def alone(self) -> bool:
        """Whether it is a single job, and not part of a visible experiment."""
        return self.of != Purpose.COMPARISON

    @property
    def purpose(self) -> Purpose:
        """Inference, annotation or evaluation."""
        if self.alone:
            return Purpose(self.of)
        return Purpose.INFERENCE if self.step == Step.INFERENCE else Purpose.EVALUATION

    @property
    def name(self) -> str:
        """The name that the user gave, or the label with the purpose."""
        return self.asked_name or "" if self.alone else f"{self.label}-{self.purpose.value}"

    @property
    def description(self) -> str:
        """The description that the user gave."""
        return self.experiment_description if self.alone else self.workflow_description

    @property
    def status(self) -> Status:
        """The status; a job that still owes a dataset is running."""
        owes = self.owes_dataset and self.recorded == Status.SUCCEEDED
        return Status.RUNNING if owes else Status(self.recorded)

    @property
    def problem(self) -> str | None:
        """Why it failed, why its dataset could not be created, or which metrics were skipped, and why."""
        return self.error or self.asked_problem or "\n".join(skipped(self.skipped or {})) or None


@dataclass(frozen=True)
class Asked:
    """A job with its workflow, experiment and dataset."""

    job: Job
    workflow: Workflow
    experiment: Experiment
    dataset: Dataset

    @property
    def summary(self) -> JobSummary:
        """The data of the job in a list."""
        job, workflow, experiment, dataset = self.job, self.workflow, self.experiment, self.dataset
        return JobSummary(
            id=job.id, step=job.step, recorded=job.status, error=job.error, created_at=job.created_at,
            started_at=job.started_at, finished_at=job.finished_at or workflow.finished_at, label=workflow.label,
            workflow_description=workflow.description, attempted_at=workflow.attempted_at,
            model=workflow.model.name, experiment_id=experiment.id, of=experiment.purpose,
            experiment_description=experiment.description, dataset_id=experiment.dataset_id,
            owes_dataset=experiment.owes_dataset, asked_name=experiment.asked.get("name"),
            asked_problem=experiment.asked.get("problem"), asked_samples=experiment.asked.get("max_samples"),
            task=experiment.task.kind, dataset_name=dataset.name, dataset_filename=dataset.filename,
            dataset_model=dataset.generated.get("model"), dataset_how=dataset.derived.get("how"),
            skipped=job.skipped,
        )  # fmt: skip

    @property
    def status(self) -> Status:
        """As of :class:`JobSummary`."""
        return self.summary.status

    @property
    def dataset_id(self) -> str | None:
        """The id of the dataset of its predictions; None if there is none."""
        return self.experiment.asked.get("dataset_id")


class Jobs:
    """The jobs of a workspace."""

    def __init__(self, database: Database, datasets: Datasets, experiments: Experiments, workflows: Workflows) -> None:
        self._database = database
        self._datasets, self._experiments, self._workflows = datasets, experiments, workflows

    def infer(
        self,
        dataset: Dataset | str,
        model: Model | str,
        *,
        task: Task | None = None,
        name: str = "inference",
        description: str = "",
        max_samples: int | None = None,
        to_dataset: bool = False,
        column: str = PREDICTIONS,
        launch: Launch | None = None,
    ) -> Asked:
        """Record a job in which a model answers a dataset; a server or :meth:`Workflows.submit_waiting` submits it.

        Args:
            dataset: record, name or id.
            model: record, or ``"provider/name"``.
            task: default summarization.
            name, description: of the job.
            max_samples: examples to answer, drawn at random; default all.
            to_dataset: create a dataset of the examples with the predictions as `column`.
            launch: launch options.

        Raises:
            As :meth:`Workflows.launch`.
            InvalidInputError: the dataset has a column of that name already.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", max_samples=5, to_dataset=True)
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        record = self._datasets.get(dataset)
        taken = {"example", *record.profile["metadata"], *(["ground_truth"] if record.has_ground_truth else [])}
        if to_dataset and column in taken:
            raise InvalidInputError(f"dataset {record.name!r} has a column {column!r} already", "name another one")
        return self._create(
            Purpose.INFERENCE, record, model, column, max_samples, task=task, name=name, description=description,
            launch=launch, owes_dataset=to_dataset,
        )  # fmt: skip

    def annotate(
        self,
        dataset: Dataset | str,
        model: Model | str,
        *,
        task: Task | None = None,
        name: str = "annotation",
        description: str = "",
        max_samples: int | None = None,
        launch: Launch | None = None,
    ) -> Asked:
        """Record a job in which a model writes the ground truth of a new dataset; otherwise as :meth:`infer`.

        Examples:
            >>> job = ws.jobs.annotate(dataset, "baseline/lead-1", max_samples=5)
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        record = self._datasets.get(dataset)
        return self._create(
            Purpose.ANNOTATION, record, model, "ground_truth", max_samples, task=task, name=name,
            description=description, launch=launch, owes_dataset=True,
        )  # fmt: skip

    def evaluate(
        self,
        dataset: Dataset | str,
        *,
        metrics: Sequence[Any] | None = None,
        task: Task | None = None,
        name: str = "evaluation",
        description: str = "",
        max_samples: int | None = None,
        column: str = PREDICTIONS,
        skipping: bool = False,
    ) -> Asked:
        """Record a job that scores predictions from a column of a dataset.

        Args:
            dataset: record, name or id.
            metrics: as of :meth:`Experiments.create`.
            column: holds the predictions.
            skipping: accept metrics that cannot be computed; the job skips them, and says why.

        Raises:
            DatasetError: there is no such column.
            As :meth:`Experiments.create` and :meth:`Workflows.record`.

        Examples:
            >>> job = ws.jobs.evaluate(dataset, metrics=["rouge"], column="topic")
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        record = self._datasets.get(dataset)
        if column not in record.profile["metadata"]:
            raise DatasetError(
                f"dataset {record.name!r} has no column {column!r} with predictions to score",
                "an inference job with store_to_dataset creates one",
            )
        holder = self._experiments.prepare_for_job(
            Purpose.EVALUATION, name=name, dataset=record, task=task or Summarization(), metrics=metrics,
            asked={"max_samples": max_samples or -1}, description=description, max_samples=max_samples,
            skipping=skipping,
        )  # fmt: skip
        return self.get(self._workflows.record_alone(holder, column).id)

    def get(self, key: str) -> Asked:
        """Return a job as it is recorded, by its id.

        Raises:
            NotFoundError: there is no such job.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", name="nightly")
            >>> ws.jobs.get(job.summary.id).summary.name
            'nightly'
        """
        with reading(self._database) as work:
            job = work.jobs.find(key)
            if job is None or not job.listed:
                raise NotFoundError("job", key)
            workflow = work.workflows.get(job.workflow_id)
            experiment = work.experiments.get(workflow.experiment_id)
            return Asked(job, workflow, experiment, work.datasets.get(experiment.dataset_id))

    def look(self, key: str) -> Asked:
        """As :meth:`get`, after refreshing its status and creating the dataset that it owes.

        Raises:
            As :meth:`get`; StoreUnavailableError.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", max_samples=5, to_dataset=True)
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        job = self.get(key)
        if not job.status.ended:
            self._workflows.refresh([job.workflow])
            job = self.get(key)
            if job.experiment.owes_dataset and job.workflow.status.ended:
                self._settle(job.experiment)
                job = self.get(key)
        return job

    def list(self, purposes: Sequence[Purpose] = (), *, limit: int = 100, offset: int = 0) -> builtins.list[JobSummary]:
        """Return jobs as they are recorded, newest first: single jobs, and the jobs of experiments.

        Args:
            purposes: of the jobs to return; empty for all.
            limit, offset: how many to return, and how many to skip before them.

        Examples:
            >>> [job.purpose.value for job in ws.jobs.list(limit=2)]
            ['evaluation', 'inference']
        """
        with reading(self._database) as work:
            rows = work.jobs.asked_for(_kinds(purposes), limit=limit, offset=offset)
        return [JobSummary(*row) for row in rows]

    def count(self, purposes: Sequence[Purpose] = ()) -> int:
        """Return the number of jobs that :meth:`list` returns without a limit.

        Examples:
            >>> ws.jobs.count()
            6
        """
        with reading(self._database) as work:
            return work.jobs.count_asked_for(_kinds(purposes))

    def dataset(self, key: str) -> Dataset:
        """Return the dataset of a job's predictions.

        Raises:
            NotFoundError: there is no such job, or it has no dataset, or not yet, or the dataset was deleted.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", max_samples=5, to_dataset=True)
            >>> _ = ws.workflows.submit_waiting()
            >>> _ = ws.jobs.look(job.summary.id)
            >>> ws.jobs.dataset(job.summary.id).n_examples
            5
        """
        job = self.look(key)
        if job.dataset_id is None:
            problem = job.summary.problem or "store_to_dataset creates one when the job has succeeded"
            raise NotFoundError("dataset of job", key, problem)
        return self._datasets.get(job.dataset_id)

    def settle(self) -> None:
        """Create the datasets that ended jobs owe, and delete experiments of single jobs that have lost their job.

        Raises:
            UnavailableError: a service does not answer; nothing is lost.
        """
        with reading(self._database) as work:
            owing = work.experiments.owing()
            abandoned = work.experiments.abandoned(before=now() - ABANDONED_AFTER)
        for experiment in owing:
            self._settle(experiment)
        for experiment in abandoned:
            with suppress(NotFoundError):
                self._experiments.delete(experiment)

    def _settle(self, experiment: Experiment) -> None:
        workflows = self._workflows.of(experiment)
        if not workflows or workflows[0].status is not Status.SUCCEEDED:
            return  # it may be resumed, and then still owes the dataset
        try:
            outcome = {"dataset_id": self._create_dataset(experiment, workflows[0]).id}
        except UnavailableError:
            raise
        except LumigatorError as error:
            outcome = {"problem": str(error)}
        with writing(self._database) as work:
            # If it was deleted meanwhile, there is nothing to record.
            if current := work.experiments.find(experiment.id):
                current.asked, current.owes_dataset = {**current.asked, **outcome}, False

    def _create_dataset(self, experiment: Experiment, workflow: Workflow) -> Dataset:
        source = self._datasets.of(experiment)
        frame = self._datasets.to_pandas(source)
        predictions = self._workflows.predictions(workflow).set_index("row")["prediction"]
        predictions = predictions.str.replace("\0", "\ufffd")  # PostgreSQL accepts no zero byte in a text
        column = experiment.asked["column"]
        if is_ground_truth(column):
            frame = frame[[name for name in frame if not is_ground_truth(str(name))]]
        frame[column] = predictions.reindex(range(len(frame))).to_numpy()
        missing = int(frame[column].isna().sum())
        if missing == len(frame):
            raise DatasetError("no example was answered")
        keep = partial(
            self._datasets.keep_generated, frame, model=workflow.model.name, workflow_id=workflow.id, missing=missing,
            column=column, unless=_unless_deleted,
        )  # fmt: skip
        title = f"{source.name}, {_BY[experiment.purpose]} {workflow.model.name}"
        for number in range(1, _NAME_ATTEMPTS):
            name = title if number == 1 else f"{title} ({number})"
            try:
                return keep(name=name)
            except ConflictError:
                twin = self._datasets.find(name)
                if twin is not None and twin.generated.get("workflow_id") == workflow.id:
                    return twin  # another process created it
        return keep(name=f"{title} ({workflow.id})")

    def _create(
        self,
        purpose: Purpose,
        dataset: Dataset,
        model: Model | str,
        column: str,
        max_samples: int | None,
        *,
        task: Task | None,
        launch: Launch | None,
        **options: Any,
    ) -> Asked:
        holder = self._experiments.prepare_for_job(
            purpose, dataset=dataset, task=task or Summarization(), metrics=(),
            asked={"column": column, "max_samples": max_samples or -1}, max_samples=max_samples, **options,
        )  # fmt: skip
        return self.get(self._workflows.enqueue_alone(holder, model, launch=launch).id)


def _unless_deleted(work: UnitOfWork, dataset: Dataset) -> None:
    """Refuse to keep the dataset if its workflow was deleted meanwhile."""
    work.workflows.get(dataset.generated["workflow_id"])


# Names of the datasets that jobs create: "tickets, annotated by gpt-4o".
_BY = {Purpose.INFERENCE: "predictions of", Purpose.ANNOTATION: "annotated by"}


def _kinds(purposes: Sequence[Purpose]) -> builtins.list[tuple[Step, Purpose | None]]:
    kinds: dict[Purpose, builtins.list[tuple[Step, Purpose | None]]] = {
        Purpose.INFERENCE: [(Step.INFERENCE, Purpose.INFERENCE), (Step.INFERENCE, Purpose.COMPARISON)],
        Purpose.ANNOTATION: [(Step.INFERENCE, Purpose.ANNOTATION)],
        Purpose.EVALUATION: [(Step.EVALUATION, None)],
        Purpose.COMPARISON: [],
    }
    return [kind for purpose in purposes for kind in kinds[purpose]]
