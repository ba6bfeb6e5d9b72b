"""Translation between Lumigator's requests and responses and our own values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from lumigator_nb import models
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.display.text import skipped as skipped_lines
from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.metrics import check_of
from lumigator_nb.models.catalogue import CatalogueModel
from lumigator_nb.rest.permissions import Permissions
from lumigator_nb.rest.wire import documents, wording
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.leniency import OWN_SERVERS, has_api
from lumigator_nb.services.workflows.single_jobs import JobSummary
from lumigator_nb.specs import (
    Classification,
    GenerationConfig,
    MetricSpec,
    Model,
    Purpose,
    Status,
    Step,
    Summarization,
    Task,
    Translation,
)
from lumigator_nb.storage import layout
from lumigator_nb.workspace import Workspace

JOB_TYPES = {
    Purpose.INFERENCE: api.JobType.INFERENCE,
    Purpose.ANNOTATION: api.JobType.ANNOTATION,
    Purpose.EVALUATION: api.JobType.EVALUATION,
}
PURPOSES = {kind: purpose for purpose, kind in JOB_TYPES.items()}
_WORKFLOW_STATUS = {Status.PENDING: "created", Status.STOPPED: "failed"}
_RAY_STATUS = {Status.CREATED: "PENDING"}
_MAX_BATCH_SIZE = 1000


def task_of(definition: api.TaskDefinition) -> Task:
    """Return the task of a request. A text generation has no prompt: each model brings its own.

    Raises:
        InvalidInputError: a language is unknown, or labels are alike.
    """
    if isinstance(definition, api.ClassificationTask):
        return Classification(
            definition.labels, multi_label=definition.multi_label, descriptions=definition.descriptions
        )
    if isinstance(definition, api.TranslationTask):
        return Translation(definition.source_language, definition.target_language)
    return Summarization() if isinstance(definition, api.SummarizationTask) else Task(kind="text_generation")


def task_definition(task: Task) -> dict[str, Any]:
    """Return a task in Lumigator's format."""
    if task.kind == "classification":
        more = {"labels": list(task.labels), "descriptions": task.descriptions, "multi_label": task.multi_label}
        return {"task": "classification", **more}
    if task.kind == "translation":
        return {"task": "translation", "source_language": task.source or "", "target_language": task.target or ""}
    return {"task": _task_name(task.kind)}


def _task_name(kind: str) -> str:
    return kind.replace("_", "-")


def model_of(
    ws: Workspace,
    fields: api.ModelFields,
    permissions: Permissions,
    *,
    batch_size: int = 1,
    prompt: str | None = None,
    label: str | None = None,
) -> Model:
    """Return the model that a request describes.

    Raises:
        ConfigurationError: the secret that it names does not exist.
        RefusedError: the caller may not use this model, key or address.
        InvalidInputError, UnknownModelError: a setting is not valid for this provider.
    """
    config = fields.generation_config
    # A top_p of 0 means only the most probable token, as does temperature 0. Providers refuse a top_p of 0, and some
    # refuse any top_p but 1 if the temperature is 0.
    temperature, top_p = (0.0, 1.0) if config.top_p == 0 else (config.temperature, config.top_p)
    generation = GenerationConfig(max_new_tokens=config.max_new_tokens, temperature=temperature, top_p=top_p)
    model = Model(
        fields.model, provider=_provider(fields), label=label, base_url=fields.base_url or None,
        generation=generation, prompt=prompt or None, options=_options(fields, batch_size),
    )  # fmt: skip
    permissions.check_model(model)
    if model.options.get("trust_remote_code"):
        permissions.check_remote_code()
    if not fields.secret_key_name:
        return model
    # Only secrets of the database: a request must not choose among the server's environment variables.
    name = ws.secrets.check_name(fields.secret_key_name)
    if name not in ws.secrets.names():
        raise ConfigurationError(f"there is no secret {fields.secret_key_name!r}", "store it with PUT first")
    if not has_api(model.provider):
        return model
    permissions.check_key(model, name)
    return model.model_copy(update={"options": {**model.options, "api_key_name": name}})


def _provider(fields: api.ModelFields) -> str:
    """Return our name of the provider. Lumigator has other names for a server of the user."""
    if fields.provider not in OWN_SERVERS:
        return fields.provider
    if not fields.base_url:
        raise InvalidInputError(
            f"provider {fields.provider!r} stands for your own server and needs a base_url",
            "for example http://localhost:8000/v1",
        )
    return "openai"


def _options(fields: api.ModelFields, batch_size: int) -> dict[str, Any]:
    options: dict[str, Any] = {}
    penalty = fields.generation_config.frequency_penalty
    if penalty and has_api(fields.provider):
        options["extra"] = {"frequency_penalty": penalty}
    elif penalty and not isinstance(fields, api.LenientModelFields):
        raise InvalidInputError(f"provider {fields.provider!r} has no frequency_penalty", "leave it at 0")
    parallel = models.parallel_option(_provider(fields))
    if batch_size > 1 and parallel:
        # 1 is Lumigator's default; then this server chooses a better size itself.
        options[parallel] = min(batch_size, _MAX_BATCH_SIZE)
    if fields.provider == "hf" and isinstance(fields, api.InferenceConfig):
        if fields.revision not in (None, "main"):
            options["revision"] = fields.revision
        if fields.trust_remote_code:
            options["trust_remote_code"] = True
        if fields.torch_dtype != "auto":
            options["dtype"] = fields.torch_dtype
        if fields.accelerator not in (None, "auto"):
            options["device"] = fields.accelerator
    return options


def metrics_of(
    asked: Sequence[str | api.CheckFields] | None, permissions: Permissions, judge: api.LocalJudge | None = None
) -> list[str | MetricSpec] | None:
    """Return metrics in alphabetical order, then checks. With `judge`, the metrics that need one use that model.

    Raises:
        RefusedError: the caller may not use the judge's address.
        InvalidInputError: a check has an unknown condition, or a malformed one.
    """
    if asked is None:
        return None
    chosen: list[str | MetricSpec] = []
    for name in sorted({name for name in asked if isinstance(name, str)}):
        if judge is None or not name.startswith("g_eval_"):
            chosen.append(name)
            continue
        model = Model(judge.model_name, provider="openai", base_url=judge.model_base_url)
        permissions.check_model(model)
        chosen.append(MetricSpec(name=name, options={"model": model.model_dump(mode="json")}))
    return chosen + [check_of(fields.check) for fields in asked if not isinstance(fields, str)]


def sample_of(max_samples: int) -> int | None:
    """Return the number of examples to use; None for all."""
    return max_samples if max_samples > 0 else None


def dataset_response(record: Dataset) -> api.DatasetResponse:
    """Return a dataset in Lumigator's format."""
    workflow_id = record.generated.get("workflow_id")
    notes = list(record.notes)
    if record.has_ground_truth:
        n_missing = record.profile["n_missing_ground_truth"]
        if n_missing:
            notes.append(
                f"{n_missing:,} of {record.n_examples:,} examples have no ground truth: scores that need it leave "
                "them out"
            )
        if not record.profile["ground_truth_words"]["min"]:
            notes.append("some ground truth is white space, and predictions are compared with it as it is")
    return api.DatasetResponse(
        id=UUID(record.id),
        filename=filename_of(record),
        size=record.size_bytes,
        ground_truth=record.has_all_ground_truth,
        run_id=UUID(workflow_id) if workflow_id else None,
        generated=record.author is not None,
        generated_by=record.author,
        created_at=record.created_at,
        notes=notes,
    )


def filename_of(record: Dataset) -> str:
    """Return the name of a dataset's file. A dataset that was never a file is named after the dataset."""
    return _filename(record.name, record.filename, made_here=bool(record.generated or record.derived))


def _filename(name: str, uploaded: str, *, made_here: bool) -> str:
    return f"{layout.filename_of(name)}.csv" if made_here or uploaded == "dataframe.parquet" else uploaded


def job_response(job: JobSummary) -> api.JobResponse:
    """Return a job in Lumigator's format."""
    made_here = job.dataset_model is not None or job.dataset_how is not None
    model = None if job.purpose is Purpose.EVALUATION else job.model
    config = {
        "name": job.name,
        "dataset": {
            "id": job.dataset_id,
            "name": _filename(job.dataset_name, job.dataset_filename, made_here=made_here),
        },
        "max_samples": job.asked_samples or -1,
        "model_name_or_path": model,
        # Lumigator's pages read `hf_pipeline` of jobs of every provider.
        "hf_pipeline": {"model_name_or_path": model, "task": _task_name(job.task)},
    }
    return api.JobResponse(
        id=UUID(job.id),
        job_id=UUID(job.id),
        name=job.name,
        description=job.description,
        status=job.status.value,
        job_type=JOB_TYPES[job.purpose],
        created_at=job.created_at,
        updated_at=job.finished_at or job.started_at,
        experiment_id=None if job.alone else UUID(job.experiment_id),
        submission_id=job.id,
        config=config,
        metadata={"job_type": JOB_TYPES[job.purpose].value},
        message=wording.message(job.problem),
        start_time=job.started_at or job.attempted_at,
        end_time=job.finished_at,
    )


def ray_job(job: JobSummary) -> api.RayJob:
    """Return a job in the format of Ray's Jobs API."""
    start, end = job.started_at or job.attempted_at, job.finished_at if job.status.ended else None
    return api.RayJob(
        submission_id=job.id,
        status=_RAY_STATUS.get(job.status, job.status.value.upper()),
        message=wording.message(job.problem),
        start_time=int(start.timestamp() * 1000),
        end_time=int(end.timestamp() * 1000) if end else None,
        metadata={"job_type": JOB_TYPES[job.purpose].value},
    )


class Page:
    """A page of workflows with their jobs, which are read with one query.

    Args:
        ws: the workspace.
        workflows: the workflows of the page.
        base: URL of the API, up to `/api/v1`.
        sign: returns the path of a signed URL below it, as :meth:`Links.path`.
    """

    def __init__(self, ws: Workspace, workflows: Sequence[Workflow], base: str, sign: Any) -> None:
        self._base, self._sign = base, sign
        self._jobs: dict[str, list[Job]] = {workflow.id: [] for workflow in workflows}
        for job in ws.workflows.jobs(workflows) if workflows else ():
            self._jobs[job.workflow_id].append(job)

    def details(self, experiment: Experiment, workflow: Workflow) -> api.WorkflowDetails:
        """Return a workflow with its jobs and results."""
        jobs = [self._job(experiment, workflow, job) for job in self._jobs[workflow.id] if job.listed]
        skipped = {title: error for job in self._jobs[workflow.id] for title, error in job.skipped.items()}
        succeeded = workflow.status is Status.SUCCEEDED
        return api.WorkflowDetails(
            **workflow_response(experiment, workflow).model_dump(),
            jobs=jobs,
            metrics={metric.name: metric.value for job in jobs for metric in job.metrics},
            parameters=documents.parameters(experiment, workflow, skipped),
            artifacts_download_url=self._url("workflow", workflow.id) if succeeded else None,
            message=workflow.error or "\n".join(skipped_lines(skipped)) or None,
        )

    def _job(self, experiment: Experiment, workflow: Workflow, job: Job) -> api.WorkflowJob:
        if job.step is Step.EVALUATION:
            values = documents.evaluation_metrics(experiment, job)
        else:
            values = documents.inference_metrics(job)
        url = self._url("job", job.id) if job.status is Status.SUCCEEDED else ""
        return api.WorkflowJob(
            id=UUID(job.id),
            metrics=[api.NamedValue(name=name, value=value) for name, value in values.items()],
            parameters=[
                api.NamedValue(name="model", value=workflow.model.name),
                api.NamedValue(name="ray_job_id", value=job.id),
                *([api.NamedValue(name="skipped_metrics", value=job.skipped)] if job.skipped else []),
            ],
            metric_url=url,
            artifact_url=url,
        )

    def _url(self, kind: str, key: str) -> str:
        return f"{self._base}/{self._sign(kind, key, 'results', f'{kind}-{key}.json')}"


def workflow_response(experiment: Experiment, workflow: Workflow) -> api.WorkflowResponse:
    """Return a workflow in Lumigator's format."""
    status = _WORKFLOW_STATUS.get(workflow.status, workflow.status.value)
    return api.WorkflowResponse(
        id=UUID(workflow.id),
        experiment_id=UUID(experiment.id),
        model=workflow.model.name,
        name=workflow.label,
        description=workflow.description,
        system_prompt=workflow.model.worded(experiment.task).instruction,
        status=status,
        created_at=workflow.created_at,
        updated_at=workflow.finished_at,
    )


def experiment_response(experiment: Experiment, workflows: Sequence[Workflow], page: Page) -> api.ExperimentResponse:
    """Return an experiment in Lumigator's format."""
    return api.ExperimentResponse(
        id=UUID(experiment.id),
        name=experiment.name,
        description=experiment.description,
        created_at=experiment.created_at,
        updated_at=max((workflow.finished_at for workflow in workflows if workflow.finished_at), default=None),
        max_samples=experiment.asked.get("max_samples", -1),
        task_definition=task_definition(experiment.task),
        dataset=UUID(experiment.asked.get("dataset", experiment.dataset_id)),
        workflows=[page.details(experiment, workflow) for workflow in workflows],
    )


def model_response(model: CatalogueModel) -> api.ModelResponse:
    """Return a model of the catalogue in Lumigator's format."""
    info = None
    if model.parameters is not None:
        size = f"{model.size_gb:g} GB" if model.size_gb else ""
        billions = model.parameters / 1e9
        parameter_count = f"{billions:.3g}B" if billions >= 1 else f"{billions * 1000:.3g}M"
        info = api.ModelInfo(parameter_count=parameter_count, model_size=size)
    return api.ModelResponse(
        display_name=model.display_name,
        model=model.name.partition("/")[2],
        provider=model.provider,
        base_url=model.base_url,
        website_url=model.link or "",
        description=model.notes or "",
        requirements=[
            *(["api_key"] if model.api_key else []),
            *(["llamafile"] if model.provider == "llamafile" else []),
        ],
        info=info,
        tasks=[
            {task.replace("_", "-"): model.defaults.get(task, {})}
            # Lumigator's clients know no other tasks; whatever generates text classifies.
            for task in model.tasks
            if task != "classification" or len(model.tasks) == 1
        ],
    )
