"""Routes that Lumigator lacks: comparisons, estimates, races, pages of predictions, live progress."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from lumigator_nb.database.records import Experiment
from lumigator_nb.errors import InvalidInputError, LumigatorError, NotFoundError, did_you_mean
from lumigator_nb.rest.access import READ, WRITE
from lumigator_nb.rest.errors import responses
from lumigator_nb.rest.permissions import Permitted
from lumigator_nb.rest.routes.experiments import experiment_of
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.rest.wire import documents, wording
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.paging import Limit, Skip, location
from lumigator_nb.rest.wire.translation import model_of
from lumigator_nb.specs import Status

router = APIRouter(prefix="/experiments/{experiment_id}", tags=["decisions"])

_SELECTION_FIELDS = (
    "conclusion", "population", "beyond", "best", "remaining", "confidence", "indifference", "n_examples", "n_seen",
    "answers", "answers_saved", "dollars", "dollars_now", "dollars_saved", "ended_by", "failed", "seed",
)  # fmt: skip

# Proxies close connections that are silent for long: hence the keep-alive comments.
EVENT_INTERVAL_S, KEEP_ALIVE_INTERVAL_S = 1.0, 15.0


@router.get("/comparison", dependencies=[READ], responses=responses(404))
def get_comparison(
    services: Shared,
    experiment_id: UUID,
    score: Annotated[str | None, Query(max_length=200, description="score to rank by; default: the main score")] = None,
    confidence: Annotated[float, Query(gt=0, lt=1)] = 0.95,
    n_resamples: Annotated[int, Query(ge=100, le=20_000)] = 2000,
    seed: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> api.Comparison:
    """Compare the succeeded workflows: scores with intervals, ranks, costs, and a verdict in words."""
    comparison = services.ws.compare(
        experiment_of(services, experiment_id), confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    score = score or comparison.main_score
    names = [info.name for info in comparison.scores]
    if score not in names:
        raise InvalidInputError(f"the experiment has no score {score!r}", did_you_mean(score, names))
    return api.Comparison(experiment_id=experiment_id, **documents.of_comparison(comparison, score))


@router.post("/estimate", dependencies=[READ], responses=responses(404, 409))
def estimate(
    services: Shared, permissions: Permitted, experiment_id: UUID, body: api.EstimateRequest
) -> list[api.EstimateRow]:
    """Estimate tokens and cost of models, without asking any."""
    experiment = experiment_of(services, experiment_id)
    models = [model_of(services.ws, fields, permissions) for fields in body.models]
    frame = services.ws.workflows.estimate(experiment, models)
    return [api.EstimateRow(**row) for row in documents.records(frame)]


@router.post("/select", status_code=HTTPStatus.ACCEPTED, dependencies=[WRITE], responses=responses(404, 409))
def begin_selection(
    services: Shared,
    request: Request,
    response: Response,
    permissions: Permitted,
    experiment_id: UUID,
    body: api.SelectRequest,
) -> api.Selecting:
    """Start a race of models, which ends as soon as the best is certain. Its URL returns the state.

    The race runs in this server. If the server stops, start the race again: stored answers cost nothing.
    """
    experiment = experiment_of(services, experiment_id)
    models = [model_of(services.ws, fields, permissions) for fields in body.models]
    name = services.races.begin(
        experiment.id, models, metric=body.metric, confidence=body.confidence, indifference=body.indifference,
        population=body.population, budget=body.budget, seed=body.seed,
    )  # fmt: skip
    response.headers["Location"] = location(request, f"experiments/{experiment_id}/select/{name}")
    return api.Selecting(id=UUID(name), status="running")


@router.get("/select/{race_id}", dependencies=[READ], responses=responses(404))
def get_selection(services: Shared, experiment_id: UUID, race_id: UUID) -> api.Selecting:
    """Return the state of a race, and its conclusion once it has ended."""
    future = services.races.get(str(experiment_id), str(race_id))
    if not future.done():
        return api.Selecting(id=race_id, status="running")
    error = future.exception()
    if error is None:
        selection = future.result()
        result = {name: documents.plain(getattr(selection, name)) for name in _SELECTION_FIELDS}
        result["score"] = selection.info.name
        result["certificate"] = selection.certificate()
        result["summary"] = documents.records(selection.summary())
        return api.Selecting(id=race_id, status="succeeded", result=result)
    if not isinstance(error, LumigatorError):
        raise error
    return api.Selecting(id=race_id, status="failed", error=services.redact(wording.message(str(error)) or ""))


@router.get("/predictions", dependencies=[READ], responses={
    200: {"description": "Rows of predictions", "model": api.Predictions, "content": {
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    }},
    **responses(404),
})  # fmt: skip
def get_predictions(
    services: Shared,
    experiment_id: UUID,
    workflow: Annotated[UUID, Query(description="id of the workflow")],
    skip: Skip = 0,
    limit: Limit = 100,
    format: Annotated[Literal["json", "parquet"], Query()] = "json",
) -> Any:
    """Return a page of a workflow's predictions so far, in the order of the dataset, as JSON or Parquet."""
    experiment = experiment_of(services, experiment_id)
    record = services.ws.workflows.get(str(workflow))
    if record.experiment_id != experiment.id:
        raise NotFoundError("workflow", str(workflow), f"in experiment {experiment.name!r}")
    frame = documents.predictions(services.ws, record, skip, limit)
    if format == "parquet":
        return Response(documents.parquet_of(frame), media_type="application/vnd.apache.parquet")
    total = services.ws.datasets.of(experiment).n_examples
    return api.Predictions(total=total, items=documents.records(frame))


@router.get("/events", dependencies=[READ], response_class=StreamingResponse, responses={
    200: {"description": "Server-sent events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    **responses(404),
})  # fmt: skip
async def get_events(services: Shared, experiment_id: UUID) -> StreamingResponse:
    """Stream the progress of the workflows: an event `progress` for each change, and `end` when all have finished.

    If the stream stops without `end`, the server is shutting down: connect again.
    """
    experiment = await run_in_threadpool(experiment_of, services, experiment_id)
    return StreamingResponse(
        _events(services, experiment), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(services: Services, experiment: Experiment) -> AsyncIterator[str]:
    last_data, silent_s = "", 0.0
    while not services.ending:
        rows, ended = await run_in_threadpool(_progress, services, experiment)
        data = json.dumps(rows)
        if data != last_data:
            yield f"event: progress\ndata: {data}\n\n"
            last_data, silent_s = data, 0.0
        elif silent_s >= KEEP_ALIVE_INTERVAL_S:
            yield ": still here\n\n"
            silent_s = 0.0
        if ended:
            yield "event: end\ndata: {}\n\n"
            return
        await asyncio.sleep(EVENT_INTERVAL_S)
        silent_s += EVENT_INTERVAL_S


def _progress(services: Services, experiment: Experiment) -> tuple[list[dict[str, Any]], bool]:
    """Return one row per workflow, and whether all have finished. A deleted experiment has finished."""
    try:
        workflows = services.ws.workflows.of(experiment)  # the helper thread keeps these records up to date
        rows = services.ws.workflows.progress(workflows)
        total = services.ws.datasets.of(experiment).n_examples
    except NotFoundError:
        return [], True
    items = [
        {
            "workflow_id": workflow.id, "model": row.label, "status": workflow.status.value,
            "step": row.step.value if row.step else None,
            "done": total if workflow.status is Status.SUCCEEDED else row.done, "total": total,
            "error": wording.message(row.error),
        }
        for workflow, row in zip(workflows, rows, strict=True)
    ]  # fmt: skip
    return items, all(workflow.status.ended for workflow in workflows)
