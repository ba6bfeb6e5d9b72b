"""Jobs: predictions, ground truth or scores of one dataset; and as Ray's own API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from lumigator_nb.errors import NotFoundError
from lumigator_nb.rest.access import READ, WRITE
from lumigator_nb.rest.errors import responses
from lumigator_nb.rest.permissions import Permissions, Permitted
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
from lumigator_nb.specs import Purpose, Status

router = APIRouter(prefix="/jobs", tags=["jobs"])
ray = APIRouter(prefix="/api/jobs", tags=["ray"])

_CREATED = {"status_code": HTTPStatus.CREATED, "dependencies": [WRITE], "responses": responses(404, 409)}


@router.post("/inference", **_CREATED)  # type: ignore[arg-type]
def create_inference_job(
    services: Shared, request: Request, response: Response, permissions: Permitted, asked: api.InferenceCreate
) -> api.JobResponse:
    """Have a model answer the examples of a dataset."""
    note_ignored(asked.ignored(), response, services.redact)
    return _created(services, request, response, _infer(services, permissions, asked))


def _infer(services: Services, permissions: Permissions, asked: api.InferenceCreate) -> Asked:
    config = asked.job_config
    return services.ws.jobs.infer(
        str(asked.dataset),
        model_of(services.ws, config, permissions, batch_size=asked.batch_size, prompt=config.system_prompt),
        task=task_of(config.task_definition),
        name=asked.name,
        description=asked.description,
        max_samples=sample_of(asked.max_samples),
        to_dataset=config.store_to_dataset,
        column=config.output_field or "predictions",
    )


@router.post("/annotate", **_CREATED)  # type: ignore[arg-type]
def create_annotation_job(
    services: Shared, request: Request, response: Response, permissions: Permitted, asked: api.AnnotateCreate
) -> api.JobResponse:
    """Have a model write the ground truth of a new dataset."""
    note_ignored(asked.ignored(), response, services.redact)
    config = asked.job_config
    job = services.ws.jobs.annotate(
        str(asked.dataset),
        model_of(services.ws, config, permissions, batch_size=asked.batch_size, prompt=config.system_prompt),
        task=task_of(config.task_definition),
        name=asked.name,
        description=asked.description,
        max_samples=sample_of(asked.max_samples),
    )
    return _created(services, request, response, job)


@router.post("/evaluator", **_CREATED)  # type: ignore[arg-type]
def create_evaluation_job(
    services: Shared, request: Request, response: Response, permissions: Permitted, asked: api.EvaluationCreate
) -> api.JobResponse:
    """Score the column `predictions` of a dataset.

    A metric that cannot be computed is skipped; `message` says why. Where none can, the job fails.
    """
    note_ignored(asked.ignored(), response, services.redact)
    config = asked.job_config
    job = services.ws.jobs.evaluate(
        str(asked.dataset),
        metrics=metrics_of(config.metrics, permissions, config.llm_as_judge),
        task=task_of(config.task_definition),
        name=asked.name,
        description=asked.description,
        max_samples=sample_of(asked.max_samples),
        skipping=True,
    )
    return _created(services, request, response, job)


def _created(services: Services, request: Request, response: Response, asked: Asked) -> api.JobResponse:
    services.submit_soon()
    response.headers["Location"] = location(request, f"jobs/{asked.job.id}")
    return job_response(asked.summary)


@router.get("", dependencies=[READ], response_model=api.Listing[api.JobResponse], responses=responses())
async def list_jobs(
    services: Shared,
    skip: AnySkip = 0,
    limit: AnyLimit = 100,
    job_types: Annotated[
        list[str], Query(description="inference, annotate, evaluator; default all; there are none of other types")
    ] = [],  # noqa: B006
) -> Response:
    """List the newest jobs but `skip`, in the order of their creation, as they are recorded.

    The server looks at those under way all the time.
    """
    purposes = [PURPOSES[each] for each in api.JobType if each.value in job_types]
    if job_types and not purposes:
        nothing = api.Listing[api.JobResponse](total=0, items=[])
        return Response(nothing.model_dump_json(), media_type="application/json")
    what = ("jobs", tuple(purposes), skip, limit)
    page = await services.lists.get(what, partial(_listed, services, purposes, skip, limit))
    return Response(page, media_type="application/json")


def _listed(services: Services, purposes: Sequence[Purpose], skip: int, limit: int) -> bytes:
    found = [job_response(each) for each in reversed(services.ws.jobs.list(purposes, limit=limit, offset=skip))]
    page = api.Listing[api.JobResponse](total=services.ws.jobs.count(purposes), items=found)
    # Written here: FastAPI would check each job once more, which takes longer than to read them.
    return page.model_dump_json().encode()


@router.get("/{job_id}", dependencies=[READ], responses=responses(404))
def get_job(services: Shared, job_id: UUID) -> api.JobResponse:
    """Return a job as it stands now."""
    return job_response(services.ws.jobs.look(str(job_id)).summary)


@router.get("/{job_id}/logs", dependencies=[READ], responses=responses(404))
def get_job_logs(services: Shared, job_id: UUID) -> api.Logs:
    """Return what the worker has printed."""
    return api.Logs(logs=services.ws.workflows.logs(services.ws.jobs.get(str(job_id)).workflow))


@router.get("/{job_id}/result", dependencies=[READ], responses=responses(404))
def get_job_result(services: Shared, job_id: UUID) -> api.JobResult:
    """Say whether a job has a result."""
    asked = _succeeded(services, job_id)
    return api.JobResult(id=UUID(asked.job.id), job_id=UUID(asked.job.id))


@router.get("/{job_id}/result/download", dependencies=[READ], responses=responses(404))
def get_job_result_download(services: Shared, request: Request, job_id: UUID) -> api.JobResultDownload:
    """Return the address of a job's result: an object of `metrics`, `parameters` and `artifacts`."""
    asked = _succeeded(services, job_id)
    path = services.links.path("job", asked.job.id, "results", f"job-{asked.job.id}.json")
    return api.JobResultDownload(id=UUID(asked.job.id), download_url=f"{base(request)}/{path}")


@router.get("/{job_id}/dataset", dependencies=[READ], responses=responses(404))
def get_job_dataset(services: Shared, job_id: UUID) -> api.DatasetResponse:
    """Return the dataset that was made of a job's predictions."""
    return dataset_response(services.ws.jobs.dataset(str(job_id)))


@ray.get("/{job_id}", dependencies=[READ], responses=responses(404))
def get_ray_job(services: Shared, job_id: UUID) -> api.RayJob:
    """Return a job as Ray's own API does, where Lumigator's SDK waits for it."""
    return ray_job(services.ws.jobs.look(str(job_id)).summary)


def _succeeded(services: Services, job_id: UUID) -> Asked:
    asked = services.ws.jobs.look(str(job_id))
    if asked.status is not Status.SUCCEEDED:
        raise NotFoundError("result of job", asked.job.id, f"the job is {asked.status.value}")
    return asked
