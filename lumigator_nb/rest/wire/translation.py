"""From Lumigator's words to ours, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from lumigator_nb import models
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.display.text import skipped as skipped_lines
from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.models.catalogue import CatalogueModel
from lumigator_nb.rest.permissions import Permissions
from lumigator_nb.rest.wire import documents, wording
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.leniency import OWN_SERVERS, has_api
from lumigator_nb.services.workflows.single_jobs import JobSummary
from lumigator_nb.specs import (
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
_MOST_AT_ONCE = 1000


def task_of(given: api.SummarizationTask | api.TranslationTask | api.TextGenerationTask) -> Task:
    """Return the task; a text generation has no prompt yet, which each model brings along.

    Raises:
        InvalidInputError: a language is unknown.
    """
    if isinstance(given, api.TranslationTask):
        return Translation(given.source_language, given.target_language)
    return Summarization() if isinstance(given, api.SummarizationTask) else Task(kind="text_generation")


def task_definition(task: Task) -> dict[str, str]:
    """Return a task as Lumigator defines it."""
    if task.kind == "translation":
        return {"task": "translation", "source_language": task.source or "", "target_language": task.target or ""}
    return {"task": _task_name(task.kind)}


def _task_name(kind: str) -> str:
    return kind.replace("_", "-")


def model_of(
    ws: Workspace,
    given: api.ModelFields,
    permissions: Permissions,
    *,
    batch_size: int = 1,
    prompt: str | None = None,
    label: str | None = None,
) -> Model:
    """Return the model that a request describes.

    Raises:
        ConfigurationError: the secret that it names is not there.
        RefusedError: the caller may not ask for that.
        InvalidInputError, UnknownModelError: a setting is not one of this provider.
    """
    model = Model(
        given.model, provider=_provider(given), label=label, base_url=given.base_url or None,
        generation=_generation(given.generation_config), prompt=prompt or None, options=_options(given, batch_size),
    )  # fmt: skip
    permissions.check_model(model)
    if model.options.get("trust_remote_code"):
        permissions.check_remote_code()
    return _with_key(ws, model, given.secret_key_name, permissions) if given.secret_key_name else model


def _provider(given: api.ModelFields) -> str:
    """Return our name of the provider: Lumigator has others for a server of the user's own."""
    if given.provider not in OWN_SERVERS:
        return given.provider
    if not given.base_url:
        raise InvalidInputError(
            f"provider {given.provider!r} is a server of your own, and base_url does not say where it is",
            "such as http://localhost:8000/v1",
        )
    return "openai"


def _generation(asked: api.GenerationConfig) -> GenerationConfig:
    """Return how a model generates; `top_p` 0 leaves the most probable token alone, as a temperature of 0 does.

    Providers refuse 0 for `top_p`, and some refuse another `top_p` than 1 where the temperature is 0.
    """
    if asked.top_p == 0:
        return GenerationConfig(max_new_tokens=asked.max_new_tokens, temperature=0.0, top_p=1.0)
    return GenerationConfig(max_new_tokens=asked.max_new_tokens, temperature=asked.temperature, top_p=asked.top_p)


def _with_key(ws: Workspace, model: Model, secret_name: str, permissions: Permissions) -> Model:
    """Return the model that is asked with a secret of the database, never with a variable of the server's."""
    name = ws.secrets.check_name(secret_name)
    if name not in ws.secrets.names():
        raise ConfigurationError(f"there is no secret {secret_name!r}", "store it with PUT first")
    if not has_api(model.provider):
        return model
    permissions.check_key(model, name)
    return model.model_copy(update={"options": {**model.options, "api_key_name": name}})


def _options(given: api.ModelFields, batch_size: int) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if given.generation_config.frequency_penalty and has_api(given.provider):
        options["extra"] = {"frequency_penalty": given.generation_config.frequency_penalty}
    elif given.generation_config.frequency_penalty and not isinstance(given, api.LenientModelFields):
        raise InvalidInputError(f"provider {given.provider!r} has no frequency_penalty", "leave it at 0")
    parallel = models.parallel_option(_provider(given))
    if batch_size > 1 and parallel:
        # Lumigator's default is 1, which asks for nothing; this server chooses better ones by itself.
        options[parallel] = min(batch_size, _MOST_AT_ONCE)
    if given.provider == "hf" and isinstance(given, api.InferenceConfig):
        options |= _hugging_face(given)
    return options


def _hugging_face(given: api.InferenceConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if given.revision not in (None, "main"):
        found["revision"] = given.revision
    if given.trust_remote_code:
        found["trust_remote_code"] = True
    if given.torch_dtype != "auto":
        found["dtype"] = given.torch_dtype
    if given.accelerator not in (None, "auto"):
        found["device"] = given.accelerator
    return found


def metrics_of(
    names: Sequence[str] | None, permissions: Permissions, judge: api.LocalJudge | None = None
) -> list[str | MetricSpec] | None:
    """Return metrics, in a fixed order; those that ask a judge ask `judge`, where one is given.

    Raises:
        RefusedError: the caller may not ask the judge's address.
    """
    if names is None:
        return None
    chosen: list[str | MetricSpec] = []
    for name in sorted(set(names)):
        if judge is None or not name.startswith("g_eval_"):
            chosen.append(name)
            continue
        model = Model(judge.model_name, provider="openai", base_url=judge.model_base_url)
        permissions.check_model(model)
        chosen.append(MetricSpec(name=name, options={"model": model.model_dump(mode="json")}))
    return chosen


def sample_of(max_samples: int) -> int | None:
    """Return how many examples are meant; None for all."""
    return max_samples if max_samples > 0 else None


def dataset_response(record: Dataset) -> api.DatasetResponse:
    """Return a dataset as Lumigator shows one."""
    run = record.generated.get("workflow_id")
    return api.DatasetResponse(
        id=UUID(record.id),
        filename=filename_of(record),
        size=record.size_bytes,
        ground_truth=record.has_all_ground_truth,
        run_id=UUID(run) if run else None,
        generated=record.author is not None,
        generated_by=record.author,
        created_at=record.created_at,
        notes=[*record.notes, *_on_ground_truth(record)],
    )


def _on_ground_truth(record: Dataset) -> list[str]:
    """Say what scores make of examples without ground truth, where others have some."""
    if not record.has_ground_truth:
        return []
    missing, words = record.profile["n_missing_ground_truth"], record.profile["ground_truth_words"]
    left_out = f"{missing:,} of {record.n_examples:,} examples have no ground truth: scores that need it leave them out"
    blank = "some ground truth is white space, and predictions are compared with it as it is"
    return [*([left_out] if missing else []), *([] if words["min"] else [blank])]


def filename_of(record: Dataset) -> str:
    """Return what a dataset's file is called; what was never a file is called by its name."""
    return _filename(record.name, record.filename, made_here=bool(record.generated or record.derived))


def _filename(name: str, given: str, *, made_here: bool) -> str:
    return f"{layout.filename_of(name)}.csv" if made_here or given == "dataframe.parquet" else given


def job_response(job: JobSummary) -> api.JobResponse:
    """Return a job as Lumigator shows one."""
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
        config=_config(job),
        metadata={"job_type": JOB_TYPES[job.purpose].value},
        message=wording.message(job.problem),
        start_time=job.started_at or job.attempted_at,
        end_time=job.finished_at,
    )


def _config(job: JobSummary) -> dict[str, Any]:
    """What Lumigator's pages show of a job's settings; `hf_pipeline` is there for every provider, since they look."""
    made_here = job.dataset_model is not None or job.dataset_how is not None
    filename = _filename(job.dataset_name, job.dataset_filename, made_here=made_here)
    model = None if job.purpose is Purpose.EVALUATION else job.model
    return {
        "name": job.name,
        "dataset": {"id": job.dataset_id, "name": filename},
        "max_samples": job.asked_samples or -1,
        "model_name_or_path": model,
        "hf_pipeline": {"model_name_or_path": model, "task": _task_name(job.task)},
    }


def ray_job(job: JobSummary) -> api.RayJob:
    """Return a job as Ray shows one."""
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
    """Workflows with their jobs, read at once, to be shown one by one.

    Args:
        base: address of the API, up to `/api/v1`.
        sign: makes the path of a file below it, as :meth:`Links.path`.
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
        done = workflow.status is Status.SUCCEEDED
        return api.WorkflowDetails(
            **workflow_response(experiment, workflow).model_dump(),
            jobs=jobs,
            metrics={each.name: each.value for job in jobs for each in job.metrics},
            parameters=documents.parameters(experiment, workflow, skipped),
            artifacts_download_url=self._url("workflow", workflow.id) if done else None,
            message=workflow.error or "\n".join(skipped_lines(skipped)) or None,
        )

    def _job(self, experiment: Experiment, workflow: Workflow, job: Job) -> api.WorkflowJob:
        evaluation = job.step is Step.EVALUATION
        found = documents.evaluation_metrics(experiment, job) if evaluation else documents.inference_metrics(job)
        url = self._url("job", job.id) if job.status is Status.SUCCEEDED else ""
        return api.WorkflowJob(
            id=UUID(job.id),
            metrics=[api.NamedValue(name=name, value=value) for name, value in found.items()],
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
    """Return a workflow as Lumigator shows one."""
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
    """Return an experiment as Lumigator shows one."""
    return api.ExperimentResponse(
        id=UUID(experiment.id),
        name=experiment.name,
        description=experiment.description,
        created_at=experiment.created_at,
        updated_at=max((each.finished_at for each in workflows if each.finished_at), default=None),
        max_samples=experiment.asked.get("max_samples", -1),
        task_definition=task_definition(experiment.task),
        dataset=UUID(experiment.asked.get("dataset", experiment.dataset_id)),
        workflows=[page.details(experiment, workflow) for workflow in workflows],
    )


def model_response(model: CatalogueModel) -> api.ModelResponse:
    """Return a model of the catalogue as Lumigator shows one."""
    info = None
    if model.parameters is not None:
        size = f"{model.size_gb:g} GB" if model.size_gb else ""
        info = api.ModelInfo(parameter_count=_count(model.parameters), model_size=size)
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
        tasks=[{task.replace("_", "-"): model.defaults.get(task, {})} for task in model.tasks],
    )


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.3g}M"
