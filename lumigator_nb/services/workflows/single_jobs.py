"""Jobs that are asked for by themselves: predictions, ground truth or scores of one dataset, without an experiment.

Each is the one workflow of an experiment that no list shows, so that it is watched, stopped, resumed and found again
after a crash as any other. What a job still owes when its workflow has ended, a dataset of its predictions, is noted
in the database, and :meth:`Jobs.settle` makes it, in whatever process.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
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
# Of names that others take at the same moment, so many are tried.
_NAME_ATTEMPTS = 20
# Earlier versions added what holds a job before its workflow; whoever was killed in between left it alone.
ABANDONED_AFTER = timedelta(minutes=10)


class JobSummary(NamedTuple):
    """What a list shows of a job; fields in the order of `repositories.JOB_COLUMNS`.

    Attributes:
        recorded: status of its step.
        finished_at: of its step, or of the workflow where the step was ended with it.
        label: of the model.
        of: what its experiment is there for.
        asked_name, asked_problem, asked_samples: of `Experiment.asked`, where they are there.
        task: its kind.
        dataset_model, dataset_how: of `Dataset.generated` and `Dataset.derived`, where they are there.
        skipped: metrics that could not be computed, by title, with the reason; None where there are none.
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
        """Whether it was asked for by itself, and not as a part of an experiment."""
        return self.of != Purpose.COMPARISON

    @property
    def purpose(self) -> Purpose:
        """What it does: inference, annotation or evaluation."""
        if self.alone:
            return Purpose(self.of)
        return Purpose.INFERENCE if self.step == Step.INFERENCE else Purpose.EVALUATION

    @property
    def name(self) -> str:
        """What it was called."""
        return self.asked_name or "" if self.alone else f"{self.label}-{self.purpose.value}"

    @property
    def description(self) -> str:
        """In words."""
        return self.experiment_description if self.alone else self.workflow_description

    @property
    def status(self) -> Status:
        """How it stands; it has not ended while it owes a dataset."""
        owes = self.owes_dataset and self.recorded == Status.SUCCEEDED
        return Status.RUNNING if owes else Status(self.recorded)

    @property
    def problem(self) -> str | None:
        """Why it failed, why no dataset could be made of it, or which metrics were skipped, and why."""
        return self.error or self.asked_problem or "\n".join(skipped(self.skipped or {})) or None


@dataclass(frozen=True)
class Asked:
    """A job with what it belongs to."""

    job: Job
    workflow: Workflow
    experiment: Experiment
    dataset: Dataset

    @property
    def summary(self) -> JobSummary:
        """What a list shows of it."""
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
        """The dataset that was made of its predictions; None where there is none."""
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
        """Have a model answer a dataset. Noted down at once; a server or :meth:`Workflows.submit_waiting` submits it.

        Args:
            dataset: record, name or id.
            model: who answers.
            task: what it is asked; default summarization.
            name, description: of the job.
            max_samples: examples to answer, drawn at random; default all.
            to_dataset: make a dataset of the examples with the predictions as `column`.
            launch: how to go about it.

        Raises:
            As :meth:`Workflows.launch`.
            InvalidInputError: the dataset has a column of that name already.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", max_samples=5, to_dataset=True)
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        chosen = self._datasets.get(dataset)
        taken = {"example", *chosen.profile["metadata"], *(["ground_truth"] if chosen.has_ground_truth else [])}
        if to_dataset and column in taken:
            raise InvalidInputError(f"dataset {chosen.name!r} has a column {column!r} already", "name another one")
        return self._asked(
            Purpose.INFERENCE, chosen, model, column, max_samples, task=task, name=name, description=description,
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
        """Have a model write the ground truth of a new dataset; arguments, errors and the rest as of :meth:`infer`.

        Examples:
            >>> job = ws.jobs.annotate(dataset, "baseline/lead-1", max_samples=5)
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        chosen = self._datasets.get(dataset)
        return self._asked(
            Purpose.ANNOTATION, chosen, model, "ground_truth", max_samples, task=task, name=name,
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
        """Score predictions that are a column of a dataset.

        Args:
            dataset: record, name or id.
            metrics: as of :meth:`Experiments.create`.
            column: with the predictions.
            skipping: take metrics that cannot be computed, too; the job skips them, and says why.

        Raises:
            DatasetError: there is no such column.
            As :meth:`Experiments.create` and :meth:`Workflows.record`.

        Examples:
            >>> job = ws.jobs.evaluate(dataset, metrics=["rouge"], column="topic")
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        chosen = self._datasets.get(dataset)
        if column not in chosen.profile["metadata"]:
            raise DatasetError(
                f"dataset {chosen.name!r} has no column {column!r} with predictions to score",
                "an inference job with store_to_dataset makes one",
            )
        holder = self._experiments.prepare_for_job(
            Purpose.EVALUATION, name=name, dataset=chosen, task=task or Summarization(), metrics=metrics,
            asked={"max_samples": max_samples or -1}, description=description, max_samples=max_samples,
            skipping=skipping,
        )  # fmt: skip
        return self.get(self._workflows.record_alone(holder, column).id)

    def get(self, key: str) -> Asked:
        """Return a job as it is recorded, by its id.

        Raises:
            NotFoundError: there is none.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", name="nightly")
            >>> ws.jobs.get(job.summary.id).summary.name
            'nightly'
        """
        with reading(self._database) as work:
            return _found(work, key)

    def look(self, key: str) -> Asked:
        """As :meth:`get`, after asking how it stands now, and making the dataset that it owes.

        Raises:
            As :meth:`get`; StoreUnavailableError.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", max_samples=5, to_dataset=True)
            >>> _ = ws.workflows.submit_waiting()
            >>> ws.jobs.look(job.summary.id).status.value
            'succeeded'
        """
        asked = self.get(key)
        if not asked.status.ended:
            self._workflows.refresh([asked.workflow])
            asked = self.get(key)
            if asked.experiment.owes_dataset and asked.workflow.status.ended:
                self._settle(asked.experiment)
                asked = self.get(key)
        return asked

    def list(self, purposes: Sequence[Purpose] = (), *, limit: int = 100, offset: int = 0) -> builtins.list[JobSummary]:
        """Return jobs as they are recorded, newest first: those asked for by themselves, and those of experiments.

        Args:
            purposes: those to return; none for all.
            limit, offset: how many, and how many to leave out before them.

        Examples:
            >>> [job.purpose.value for job in ws.jobs.list(limit=2)]
            ['evaluation', 'inference']
        """
        with reading(self._database) as work:
            found = work.jobs.asked_for(_kinds(purposes), limit=limit, offset=offset)
        return [JobSummary(*each) for each in found]

    def count(self, purposes: Sequence[Purpose] = ()) -> int:
        """Return how many jobs :meth:`list` would return without a limit.

        Examples:
            >>> ws.jobs.count()
            6
        """
        with reading(self._database) as work:
            return work.jobs.count_asked_for(_kinds(purposes))

    def dataset(self, key: str) -> Dataset:
        """Return the dataset that was made of a job's predictions.

        Raises:
            NotFoundError: there is no such job, or no dataset was made of it, or not yet, or it was deleted.

        Examples:
            >>> job = ws.jobs.infer(dataset, "baseline/lead-1", max_samples=5, to_dataset=True)
            >>> _ = ws.workflows.submit_waiting()
            >>> _ = ws.jobs.look(job.summary.id)
            >>> ws.jobs.dataset(job.summary.id).n_examples
            5
        """
        asked = self.look(key)
        if asked.dataset_id is None:
            problem = asked.summary.problem or "store_to_dataset makes one, when the job has succeeded"
            raise NotFoundError("dataset of job", key, problem)
        return self._datasets.get(asked.dataset_id)

    def settle(self) -> None:
        """Make the datasets that jobs owe whose workflows have ended, and remove what held jobs that are gone.

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
            return  # it may be resumed, and owes it still
        try:
            made = self._made(experiment, workflows[0])
        except UnavailableError:
            raise
        except LumigatorError as error:  # where the experiment was deleted meanwhile, nothing is written
            self._end(experiment.id, {"problem": str(error)})
        else:
            self._end(experiment.id, {"dataset_id": made.id})

    def _made(self, experiment: Experiment, workflow: Workflow) -> Dataset:
        source = self._datasets.of(experiment)
        frame = self._datasets.to_pandas(source)
        predictions = self._workflows.predictions(workflow).set_index("row")["prediction"]
        predictions = predictions.str.replace("\0", "\ufffd")  # which text has not
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
                    return twin  # somebody else was quicker
        return keep(name=f"{title} ({workflow.id})")

    def _end(self, experiment_id: str, said: Mapping[str, str]) -> None:
        with writing(self._database) as work:
            current = work.experiments.find(experiment_id)
            if current is not None:
                current.asked, current.owes_dataset = {**current.asked, **said}, False

    def _asked(
        self,
        purpose: Purpose,
        dataset: Dataset,
        model: Model | str,
        column: str,
        max_samples: int | None,
        *,
        task: Task | None,
        launch: Launch | None,
        **said: Any,
    ) -> Asked:
        holder = self._experiments.prepare_for_job(
            purpose, dataset=dataset, task=task or Summarization(), metrics=(),
            asked={"column": column, "max_samples": max_samples or -1}, max_samples=max_samples, **said,
        )  # fmt: skip
        return self.get(self._workflows.enqueue_alone(holder, model, launch=launch).id)


def _unless_deleted(work: UnitOfWork, dataset: Dataset) -> None:
    """Refuse what was made of data that were deleted meanwhile."""
    work.workflows.get(dataset.generated["workflow_id"])


_BY = {Purpose.INFERENCE: "predictions of", Purpose.ANNOTATION: "annotated by"}


def _found(work: UnitOfWork, key: str) -> Asked:
    job = work.jobs.find(key)
    if job is None or not job.listed:
        raise NotFoundError("job", key)
    workflow = work.workflows.get(job.workflow_id)
    experiment = work.experiments.get(workflow.experiment_id)
    return Asked(job, workflow, experiment, work.datasets.get(experiment.dataset_id))


def _kinds(purposes: Sequence[Purpose]) -> builtins.list[tuple[Step, Purpose | None]]:
    kinds: dict[Purpose, builtins.list[tuple[Step, Purpose | None]]] = {
        Purpose.INFERENCE: [(Step.INFERENCE, Purpose.INFERENCE), (Step.INFERENCE, Purpose.COMPARISON)],
        Purpose.ANNOTATION: [(Step.INFERENCE, Purpose.ANNOTATION)],
        Purpose.EVALUATION: [(Step.EVALUATION, None)],
        Purpose.COMPARISON: [],
    }
    return [kind for purpose in purposes for kind in kinds[purpose]]
