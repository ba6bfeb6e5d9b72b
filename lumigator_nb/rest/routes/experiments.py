"""Experiments and their workflows."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from lumigator_nb.database.records import Experiment, Workflow
from lumigator_nb.errors import NotFoundError
from lumigator_nb.rest.access import READ, WRITE
from lumigator_nb.rest.errors import responses
from lumigator_nb.rest.permissions import Permitted
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.leniency import note_ignored
from lumigator_nb.rest.wire.paging import PREFIX, AnyLimit, AnySkip, base, location
from lumigator_nb.rest.wire.translation import (
    Page,
    experiment_response,
    metrics_of,
    model_of,
    sample_of,
    task_of,
    workflow_response,
)
from lumigator_nb.specs import Launch, Purpose, Status, Step
from lumigator_nb.storage import layout

router = APIRouter(tags=["experiments"])


@router.post("/experiments", status_code=HTTPStatus.CREATED, dependencies=[WRITE], responses=responses(404, 409))
def create_experiment(
    services: Shared, request: Request, response: Response, permissions: Permitted, asked: api.ExperimentCreate
) -> api.ExperimentResponse:
    """Decide what models are compared on. A name that is taken gets a number."""
    note_ignored(asked.ignored(), response, services.redact)
    ws = services.ws
    made = ws.experiments.create_unprompted(
        asked.name, dataset=str(asked.dataset), task=task_of(asked.task_definition),
        metrics=metrics_of(asked.metrics, permissions), description=asked.description,
        asked={"max_samples": asked.max_samples}, max_samples=sample_of(asked.max_samples), numbered=True,
        skipping=True,
    )  # fmt: skip
    response.headers["Location"] = location(request, f"experiments/{made.id}")
    return _experiments(services, request, [made])[0]


@router.get("/experiments", dependencies=[READ], responses=responses())
@router.get("/experiments/all", dependencies=[READ], responses=responses(), operation_id="list_all_experiments")
def list_experiments(
    services: Shared, request: Request, skip: AnySkip = 0, limit: AnyLimit = 100
) -> api.Listing[api.ExperimentResponse]:
    """List experiments, newest first, with their workflows as they are recorded."""
    found = services.ws.experiments.list(limit=limit, offset=skip)
    return api.Listing(total=services.ws.experiments.count(), items=_experiments(services, request, found))


@router.get("/experiments/{experiment_id}", dependencies=[READ], responses=responses(404))
def get_experiment(services: Shared, request: Request, experiment_id: UUID) -> api.ExperimentResponse:
    """Return an experiment with its workflows as they stand now."""
    record = experiment_of(services, experiment_id)
    services.ws.workflows.refresh(record)
    return _experiments(services, request, [record])[0]


@router.delete("/experiments/{experiment_id}", dependencies=[WRITE], responses=responses(404, 409))
def delete_experiment(services: Shared, experiment_id: UUID) -> None:
    """Delete an experiment and its workflows, at once; workers that are under way are ended afterwards."""
    services.ws.experiments.delete(experiment_of(services, experiment_id), stop=True, wait=False)
    services.submit_soon()


@router.post("/workflows", status_code=HTTPStatus.CREATED, dependencies=[WRITE], responses=responses(404, 409))
def create_workflow(
    services: Shared, request: Request, response: Response, permissions: Permitted, asked: api.WorkflowCreate
) -> api.WorkflowResponse:
    """Send a model through an experiment; metrics that it asks for join the experiment's.

    A metric that cannot be computed is skipped; `message` of the workflow and of its job says why.
    """
    note_ignored(asked.ignored(), response, services.redact)
    ws = services.ws
    experiment = experiment_of(services, asked.experiment_id)
    model = model_of(ws, asked, permissions, batch_size=asked.batch_size, prompt=asked.system_prompt, label=asked.name)
    chosen = metrics_of(asked.metrics, permissions, asked.llm_as_judge)
    if chosen:
        experiment = ws.experiments.add_metrics(experiment, chosen, skipping=True)
    # Lumigator runs the same model as often as it is asked to, and gives no name twice.
    made = ws.workflows.enqueue(
        experiment, [model], launch=Launch(timeout=asked.job_timeout_sec), description=asked.description, numbered=True
    )[0]
    services.submit_soon()
    response.headers["Location"] = location(request, f"workflows/{made.id}")
    return workflow_response(experiment, made)


@router.get("/workflows/{workflow_id}", dependencies=[READ], responses=responses(404))
def get_workflow(services: Shared, request: Request, workflow_id: UUID) -> api.WorkflowDetails:
    """Return a workflow as it stands now, with its jobs and results."""
    workflow = _refreshed(services, workflow_id)
    return _details(services, request, workflow)


@router.get("/workflows/{workflow_id}/logs", dependencies=[READ], responses=responses(404))
def get_workflow_logs(services: Shared, workflow_id: UUID) -> api.Logs:
    """Return what the worker of both jobs has printed; when all is done, with where in the store the results are."""
    workflow = _workflow(services, workflow_id)
    logs = services.ws.workflows.logs(workflow)
    return api.Logs(logs=f"{logs}{_stored(services, workflow)}" if workflow.status is Status.SUCCEEDED else logs)


@router.get("/workflows/{workflow_id}/result/download", dependencies=[READ], responses=responses(404))
def get_workflow_result_download(services: Shared, request: Request, workflow_id: UUID) -> str:
    """Return the address of a workflow's result: an object of `metrics`, `parameters` and `artifacts`."""
    workflow = _refreshed(services, workflow_id)
    if workflow.status is not Status.SUCCEEDED:
        raise NotFoundError("result of workflow", workflow.id, f"the workflow is {workflow.status.value}")
    path = services.links.path("workflow", workflow.id, "results", f"workflow-{workflow.id}.json")
    return f"{base(request)}/{path}"


@router.delete("/workflows/{workflow_id}", dependencies=[WRITE], responses=responses(404, 409))
def delete_workflow(
    services: Shared,
    request: Request,
    workflow_id: UUID,
    force: Annotated[bool, Query(description="also where it is under way")] = False,
) -> api.WorkflowDetails:
    """Delete a workflow, at once, and return what it was; with `force` its worker is ended afterwards."""
    workflow = _workflow(services, workflow_id)
    found = _details(services, request, workflow)
    services.ws.workflows.delete(workflow, stop=force, wait=False)
    services.submit_soon()
    return found


def experiment_of(services: Services, experiment_id: UUID) -> Experiment:
    """Return an experiment; what holds a single job is none.

    Raises:
        NotFoundError: there is none.
    """
    found = services.ws.experiments.get(str(experiment_id))
    if found.purpose is not Purpose.COMPARISON:
        raise NotFoundError("experiment", str(experiment_id))
    return found


def _workflow(services: Services, workflow_id: UUID) -> Workflow:
    found = services.ws.workflows.get(str(workflow_id))
    if services.ws.experiments.get(found.experiment_id).purpose is not Purpose.COMPARISON:
        raise NotFoundError("workflow", str(workflow_id), f"it is a job: GET {PREFIX}/jobs/{workflow_id}")
    return found


def _refreshed(services: Services, workflow_id: UUID) -> Workflow:
    found = services.ws.workflows.refresh([_workflow(services, workflow_id)])
    if not found:  # it was deleted at this moment
        raise NotFoundError("workflow", str(workflow_id))
    return found[0]


def _stored(services: Services, workflow: Workflow) -> str:
    """The sentences by which programs recognise in Lumigator's logs that both jobs are done, in their order."""
    answers, scores = (layout.step_folder(workflow.id, step) for step in Step)
    on_s3 = scores if services.ws.store.protocol == "s3" else "a bucket is left out: the store is no bucket"
    return (
        f"Inference results stored at {answers}\n"
        f"Storing evaluation results to {scores}\n"
        f"Storing evaluation results for S3 to {on_s3}\n"
    )


def _details(services: Services, request: Request, workflow: Workflow) -> api.WorkflowDetails:
    experiment = services.ws.experiments.get(workflow.experiment_id)
    return Page(services.ws, [workflow], base(request), services.links.path).details(experiment, workflow)


def _experiments(services: Services, request: Request, found: list[Experiment]) -> list[api.ExperimentResponse]:
    mine = services.ws.workflows.of_experiments(found)
    page = Page(
        services.ws, [each for several in mine.values() for each in several], base(request), services.links.path
    )
    return [experiment_response(each, mine[each.id], page) for each in found]
