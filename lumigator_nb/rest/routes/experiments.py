"""Routes of experiments and their workflows."""

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
    services: Shared, request: Request, response: Response, permissions: Permitted, body: api.ExperimentCreate
) -> api.ExperimentResponse:
    """Create an experiment: a dataset, a task and metrics. If the name is taken, a number is appended."""
    note_ignored(body.ignored(), response, services.redact)
    ws = services.ws
    experiment = ws.experiments.create_unprompted(
        body.name, dataset=str(body.dataset), task=task_of(body.task_definition),
        metrics=metrics_of(body.metrics, permissions), description=body.description,
        asked={"max_samples": body.max_samples}, max_samples=sample_of(body.max_samples), numbered=True,
        skipping=True,
    )  # fmt: skip
    response.headers["Location"] = location(request, f"experiments/{experiment.id}")
    return _responses(services, request, [experiment])[0]


@router.get("/experiments", dependencies=[READ], responses=responses())
@router.get("/experiments/all", dependencies=[READ], responses=responses(), operation_id="list_all_experiments")
def list_experiments(
    services: Shared, request: Request, skip: AnySkip = 0, limit: AnyLimit = 100
) -> api.Listing[api.ExperimentResponse]:
    """List experiments, newest first, with their workflows as last recorded."""
    records = services.ws.experiments.list(limit=limit, offset=skip)
    return api.Listing(total=services.ws.experiments.count(), items=_responses(services, request, records))


@router.get("/experiments/{experiment_id}", dependencies=[READ], responses=responses(404))
def get_experiment(services: Shared, request: Request, experiment_id: UUID) -> api.ExperimentResponse:
    """Return an experiment with the current state of its workflows."""
    record = experiment_of(services, experiment_id)
    services.ws.workflows.refresh(record)
    return _responses(services, request, [record])[0]


@router.delete("/experiments/{experiment_id}", dependencies=[WRITE], responses=responses(404, 409))
def delete_experiment(services: Shared, experiment_id: UUID) -> None:
    """Delete an experiment and its workflows. Running workers are stopped afterwards."""
    services.ws.experiments.delete(experiment_of(services, experiment_id), stop=True, wait=False)
    services.submit_soon()


@router.post("/workflows", status_code=HTTPStatus.CREATED, dependencies=[WRITE], responses=responses(404, 409))
def create_workflow(
    services: Shared, request: Request, response: Response, permissions: Permitted, body: api.WorkflowCreate
) -> api.WorkflowResponse:
    """Run a model on an experiment. Its metrics are added to the experiment's.

    A metric that cannot be computed is skipped; `message` of the workflow and of its job gives the reason.
    """
    note_ignored(body.ignored(), response, services.redact)
    ws = services.ws
    experiment = experiment_of(services, body.experiment_id)
    model = model_of(ws, body, permissions, batch_size=body.batch_size, prompt=body.system_prompt, label=body.name)
    chosen = metrics_of(body.metrics, permissions, body.llm_as_judge)
    if chosen:
        experiment = ws.experiments.add_metrics(experiment, chosen, skipping=True)
    # numbered: Lumigator runs the same model as often as requested; our names are unique.
    workflow = ws.workflows.enqueue(
        experiment, [model], launch=Launch(timeout=body.job_timeout_sec), description=body.description, numbered=True
    )[0]
    services.submit_soon()
    response.headers["Location"] = location(request, f"workflows/{workflow.id}")
    return workflow_response(experiment, workflow)


@router.get("/workflows/{workflow_id}", dependencies=[READ], responses=responses(404))
def get_workflow(services: Shared, request: Request, workflow_id: UUID) -> api.WorkflowDetails:
    """Return the current state of a workflow, with its jobs and results."""
    workflow = _refreshed(services, workflow_id)
    return _details(services, request, workflow)


@router.get("/workflows/{workflow_id}/logs", dependencies=[READ], responses=responses(404))
def get_workflow_logs(services: Shared, workflow_id: UUID) -> api.Logs:
    """Return the log of a workflow's jobs; once they have succeeded, also where the results are stored."""
    workflow = _workflow(services, workflow_id)
    logs = services.ws.workflows.logs(workflow)
    if workflow.status is not Status.SUCCEEDED:
        return api.Logs(logs=logs)
    # Clients of Lumigator look for these sentences of its logs, in this order, to see that both jobs are done.
    answers, scores = (layout.step_folder(workflow.id, step) for step in Step)
    on_s3 = scores if services.ws.store.protocol == "s3" else "a bucket is left out: the store is no bucket"
    return api.Logs(
        logs=f"{logs}Inference results stored at {answers}\n"
        f"Storing evaluation results to {scores}\n"
        f"Storing evaluation results for S3 to {on_s3}\n"
    )


@router.get("/workflows/{workflow_id}/result/download", dependencies=[READ], responses=responses(404))
def get_workflow_result_download(services: Shared, request: Request, workflow_id: UUID) -> str:
    """Return the URL of a workflow's result: an object with `metrics`, `parameters` and `artifacts`."""
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
    force: Annotated[bool, Query(description="also delete a running workflow")] = False,
) -> api.WorkflowDetails:
    """Delete a workflow and return its last state. With `force`, its worker is stopped afterwards."""
    workflow = _workflow(services, workflow_id)
    details = _details(services, request, workflow)
    services.ws.workflows.delete(workflow, stop=force, wait=False)
    services.submit_soon()
    return details


def experiment_of(services: Services, experiment_id: UUID) -> Experiment:
    """Return an experiment, but not the hidden experiment of a single job.

    Raises:
        NotFoundError: there is no such experiment.
    """
    experiment = services.ws.experiments.get(str(experiment_id))
    if experiment.purpose is not Purpose.COMPARISON:
        raise NotFoundError("experiment", str(experiment_id))
    return experiment


def _workflow(services: Services, workflow_id: UUID) -> Workflow:
    """Return a workflow, but not the one of a single job."""
    workflow = services.ws.workflows.get(str(workflow_id))
    if services.ws.experiments.get(workflow.experiment_id).purpose is not Purpose.COMPARISON:
        raise NotFoundError("workflow", str(workflow_id), f"it is a job: GET {PREFIX}/jobs/{workflow_id}")
    return workflow


def _refreshed(services: Services, workflow_id: UUID) -> Workflow:
    workflows = services.ws.workflows.refresh([_workflow(services, workflow_id)])
    if not workflows:  # deleted in the meantime
        raise NotFoundError("workflow", str(workflow_id))
    return workflows[0]


def _details(services: Services, request: Request, workflow: Workflow) -> api.WorkflowDetails:
    experiment = services.ws.experiments.get(workflow.experiment_id)
    return Page(services.ws, [workflow], base(request), services.links.path).details(experiment, workflow)


def _responses(services: Services, request: Request, records: list[Experiment]) -> list[api.ExperimentResponse]:
    by_experiment = services.ws.workflows.of_experiments(records)
    workflows = [workflow for group in by_experiment.values() for workflow in group]
    page = Page(services.ws, workflows, base(request), services.links.path)
    return [experiment_response(record, by_experiment[record.id], page) for record in records]
