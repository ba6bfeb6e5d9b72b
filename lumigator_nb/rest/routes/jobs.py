"""Routes of single jobs (predictions, ground truth or scores of a dataset), also in the format of Ray's API."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from lumigator_nb.errors import NotFoundError
from lumigator_nb.rest.access import READ, WRITE
from lumigator_nb.rest.errors import responses
from lumigator_nb.rest.permissions import Permitted
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.leniency import note_ignored
from lumigator_nb.rest.wire.paging import AnyLimit, AnySkip, base, location
from lumigator_nb.rest.wire.translation import (
    PURPOSES,
    dataset_response,
    job_response,
    metrics_of,
    model_of,
    ray_job,
    sample_of,
    task_of,
)
from lumigator_nb.services.workflows.single_jobs import Asked
from lumigator_nb.specs import Status

router = APIRouter(prefix="/jobs", tags=["jobs"])
ray = APIRouter(prefix="/api/jobs", tags=["ray"])

_CREATED = {"status_code": HTTPStatus.CREATED, "dependencies": [WRITE], "responses": responses(404, 409)}


@router.post("/inference", **_CREATED)  # type: ignore[arg-type]
def create_inference_job(
    services: Shared, request: Request, response: Response, permissions: Permitted, body: api.InferenceCreate
) -> api.JobResponse:
    """Have a model answer the examples of a dataset."""
    note_ignored(body.ignored(), response, services.redact)
    config = body.job_config
    job = services.ws.jobs.infer(
        str(body.dataset),
        model_of(services.ws, config, permissions, batch_size=body.batch_size, prompt=config.system_prompt),
        task=task_of(config.task_definition),
        name=body.name,
        description=body.description,
        max_samples=sample_of(body.max_samples),
        to_dataset=config.store_to_dataset,
        column=config.output_field or "predictions",
    )
    return _created(services, request, response, job)


@router.post("/annotate", **_CREATED)  # type: ignore[arg-type]
def create_annotation_job(
    services: Shared, request: Request, response: Response, permissions: Permitted, body: api.AnnotateCreate
) -> api.JobResponse:
    """Have a model write ground truth, and make a new dataset of it."""
    note_ignored(body.ignored(), response, services.redact)
    config = body.job_config
    job = services.ws.jobs.annotate(
        str(body.dataset),
        model_of(services.ws, config, permissions, batch_size=body.batch_size, prompt=config.system_prompt),
        task=task_of(config.task_definition),
        name=body.name,
        description=body.description,
        max_samples=sample_of(body.max_samples),
    )
    return _created(services, request, response, job)


@router.post("/evaluator", **_CREATED)  # type: ignore[arg-type]
def create_evaluation_job(
    services: Shared, request: Request, response: Response, permissions: Permitted, body: api.EvaluationCreate
) -> api.JobResponse:
    """Score the column `predictions` of a dataset.

    A metric that cannot be computed is skipped; `message` gives the reason. If none can be computed, the job fails.
    """
    note_ignored(body.ignored(), response, services.redact)
    config = body.job_config
    job = services.ws.jobs.evaluate(
        str(body.dataset),
        metrics=metrics_of(config.metrics, permissions, config.llm_as_judge),
        task=task_of(config.task_definition),
        name=body.name,
        description=body.description,
        max_samples=sample_of(body.max_samples),
        skipping=True,
    )
    return _created(services, request, response, job)


def _created(services: Services, request: Request, response: Response, job: Asked) -> api.JobResponse:
    services.submit_soon()
    response.headers["Location"] = location(request, f"jobs/{job.job.id}")
    return job_response(job.summary)


@router.get("", dependencies=[READ], response_model=api.Listing[api.JobResponse], responses=responses())
async def list_jobs(
    services: Shared,
    skip: AnySkip = 0,
    limit: AnyLimit = 100,
    job_types: Annotated[
        list[str], Query(description="inference, annotate or evaluator; default: all; other types match no job")
    ] = [],  # noqa: B006
) -> Response:
    """List the newest jobs after skipping `skip` of them, oldest first, as last recorded.

    The server updates the records of running jobs every second.
    """
    purposes = [PURPOSES[kind] for kind in api.JobType if kind.value in job_types]
    if job_types and not purposes:
        nothing = api.Listing[api.JobResponse](total=0, items=[])
        return Response(nothing.model_dump_json(), media_type="application/json")

    def build() -> bytes:
        newest_first = services.ws.jobs.list(purposes, limit=limit, offset=skip)
        items = [job_response(job) for job in reversed(newest_first)]
        page = api.Listing[api.JobResponse](total=services.ws.jobs.count(purposes), items=items)
        # As bytes: FastAPI would validate each job again, which takes longer than to read them.
        return page.model_dump_json().encode()

    page = await services.lists.get(("jobs", tuple(purposes), skip, limit), build)
    return Response(page, media_type="application/json")


@router.get("/{job_id}", dependencies=[READ], responses=responses(404))
def get_job(services: Shared, job_id: UUID) -> api.JobResponse:
    """Return the current state of a job."""
    return job_response(services.ws.jobs.look(str(job_id)).summary)


@router.get("/{job_id}/logs", dependencies=[READ], responses=responses(404))
def get_job_logs(services: Shared, job_id: UUID) -> api.Logs:
    """Return the log of a job."""
    return api.Logs(logs=services.ws.workflows.logs(services.ws.jobs.get(str(job_id)).workflow))


@router.get("/{job_id}/result", dependencies=[READ], responses=responses(404))
def get_job_result(services: Shared, job_id: UUID) -> api.JobResult:
    """Return the id of a job's result; 404 while it has none."""
    job = _succeeded(services, job_id)
    return api.JobResult(id=UUID(job.job.id), job_id=UUID(job.job.id))


@router.get("/{job_id}/result/download", dependencies=[READ], responses=responses(404))
def get_job_result_download(services: Shared, request: Request, job_id: UUID) -> api.JobResultDownload:
    """Return the URL of a job's result: an object with `metrics`, `parameters` and `artifacts`."""
    job = _succeeded(services, job_id)
    path = services.links.path("job", job.job.id, "results", f"job-{job.job.id}.json")
    return api.JobResultDownload(id=UUID(job.job.id), download_url=f"{base(request)}/{path}")


@router.get("/{job_id}/dataset", dependencies=[READ], responses=responses(404))
def get_job_dataset(services: Shared, job_id: UUID) -> api.DatasetResponse:
    """Return the dataset that a job's predictions were stored in."""
    return dataset_response(services.ws.jobs.dataset(str(job_id)))


@ray.get("/{job_id}", dependencies=[READ], responses=responses(404))
def get_ray_job(services: Shared, job_id: UUID) -> api.RayJob:
    """Return a job in the format of Ray's Jobs API, which Lumigator's SDK polls."""
    return ray_job(services.ws.jobs.look(str(job_id)).summary)


def _succeeded(services: Services, job_id: UUID) -> Asked:
    job = services.ws.jobs.look(str(job_id))
    if job.status is not Status.SUCCEEDED:
        raise NotFoundError("result of job", job.job.id, f"the job is {job.status.value}")
    return job
