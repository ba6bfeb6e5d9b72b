"""What Lumigator has not: comparisons, estimates, races, predictions page by page, progress as it happens."""

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
from lumigator_nb.services.adaptive.race import Selection
from lumigator_nb.specs import Status

router = APIRouter(prefix="/experiments/{experiment_id}", tags=["decisions"])

# Proxies close what is silent for long.
EVENT_EVERY_S, ALIVE_EVERY_S = 1.0, 15.0


@router.get("/comparison", dependencies=[READ], responses=responses(404))
def get_comparison(
    services: Shared,
    experiment_id: UUID,
    score: Annotated[str | None, Query(max_length=200, description="default the main score")] = None,
    confidence: Annotated[float, Query(gt=0, lt=1)] = 0.95,
    n_resamples: Annotated[int, Query(ge=100, le=20_000)] = 2000,
    seed: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> api.Comparison:
    """Compare the workflows that have succeeded, with intervals, ranks, costs and the verdict in words."""
    found = services.ws.compare(
        experiment_of(services, experiment_id), confidence=confidence, n_resamples=n_resamples, seed=seed
    )
    chosen, infos = score or found.main_score, {info.name: info for info in found.scores}
    if chosen not in infos:
        raise InvalidInputError(f"there is no score {chosen!r} here", did_you_mean(chosen, infos))
    return api.Comparison(experiment_id=experiment_id, **documents.of_comparison(found, chosen))


@router.post("/estimate", dependencies=[READ], responses=responses(404, 409))
def estimate(
    services: Shared, permissions: Permitted, experiment_id: UUID, asked: api.EstimateRequest
) -> list[api.EstimateRow]:
    """Say what asking models would take and cost; none is asked."""
    experiment = experiment_of(services, experiment_id)
    models = [model_of(services.ws, each, permissions) for each in asked.models]
    frame = services.ws.workflows.estimate(experiment, models)
    return [api.EstimateRow(**row) for row in documents.records(frame)]


@router.post("/select", status_code=HTTPStatus.ACCEPTED, dependencies=[WRITE], responses=responses(404, 409))
def begin_selection(
    services: Shared,
    request: Request,
    response: Response,
    permissions: Permitted,
    experiment_id: UUID,
    asked: api.SelectRequest,
) -> api.Selecting:
    """Begin a race of models, which ends as soon as the best is certain; its address says how it stands.

    It is run by this server: where that is stopped it has to be begun again, and pays for nothing twice.
    """
    experiment = experiment_of(services, experiment_id)
    models = [model_of(services.ws, each, permissions) for each in asked.models]
    name = services.races.begin(
        experiment.id, models, metric=asked.metric, confidence=asked.confidence, indifference=asked.indifference,
        budget=asked.budget, seed=asked.seed,
    )  # fmt: skip
    response.headers["Location"] = location(request, f"experiments/{experiment_id}/select/{name}")
    return api.Selecting(id=UUID(name), status="running")


@router.get("/select/{race_id}", dependencies=[READ], responses=responses(404))
def get_selection(services: Shared, experiment_id: UUID, race_id: UUID) -> api.Selecting:
    """Return how a race stands."""
    future = services.races.get(str(experiment_id), str(race_id))
    if not future.done():
        return api.Selecting(id=race_id, status="running")
    error = future.exception()
    if error is None:
        return api.Selecting(id=race_id, status="succeeded", result=_selection(future.result()))
    if not isinstance(error, LumigatorError):
        raise error
    return api.Selecting(id=race_id, status="failed", error=services.redact(wording.message(str(error)) or ""))


def _selection(found: Selection) -> dict[str, Any]:
    names = (
        "conclusion", "best", "remaining", "confidence", "indifference", "n_examples", "n_seen", "answers",
        "answers_saved", "dollars", "dollars_now", "dollars_saved", "ended_by", "failed", "seed",
    )  # fmt: skip
    values = {name: documents.plain(getattr(found, name)) for name in names}
    return {
        **values,
        "score": found.info.name,
        "certificate": found.certificate(),
        "summary": documents.records(found.summary()),
    }


@router.get("/predictions", dependencies=[READ], responses={
    200: {"description": "Rows of predictions", "model": api.Predictions, "content": {
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    }},
    **responses(404),
})  # fmt: skip
def get_predictions(
    services: Shared,
    experiment_id: UUID,
    workflow: Annotated[UUID, Query(description="whose predictions")],
    skip: Skip = 0,
    limit: Limit = 100,
    format: Annotated[Literal["json", "parquet"], Query()] = "json",
) -> Any:
    """Return rows of a workflow's predictions so far, in the order of the dataset, as JSON or Parquet."""
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
    """Send how far the workflows are, as it changes: events `progress`, and `end` when all have ended.

    Where it stops without `end` the server was told to end: connect again, to the next one.
    """
    experiment = await run_in_threadpool(experiment_of, services, experiment_id)
    return StreamingResponse(
        _events(services, experiment), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(services: Services, experiment: Experiment) -> AsyncIterator[str]:
    before, silent = "", 0.0
    while not services.ending:
        rows, ended = await run_in_threadpool(_progress, services, experiment)
        text = json.dumps(rows)
        if text != before:
            yield f"event: progress\ndata: {text}\n\n"
            before, silent = text, 0.0
        elif silent >= ALIVE_EVERY_S:
            yield ": still here\n\n"
            silent = 0.0
        if ended:
            yield "event: end\ndata: {}\n\n"
            return
        await asyncio.sleep(EVENT_EVERY_S)
        silent += EVENT_EVERY_S


def _progress(services: Services, experiment: Experiment) -> tuple[list[dict[str, Any]], bool]:
    try:
        return _rows(services, experiment)
    except NotFoundError:
        return [], True  # it was deleted


def _rows(services: Services, experiment: Experiment) -> tuple[list[dict[str, Any]], bool]:
    workflows = services.ws.workflows.of(experiment)  # as the server records them all the time
    rows = services.ws.workflows.progress(workflows)
    total = services.ws.datasets.of(experiment).n_examples
    found = [
        {
            "workflow_id": workflow.id, "model": row.label, "status": workflow.status.value,
            "step": row.step.value if row.step else None,
            "done": total if workflow.status is Status.SUCCEEDED else row.done, "total": total,
            "error": wording.message(row.error),
        }
        for workflow, row in zip(workflows, rows, strict=True)
    ]  # fmt: skip
    return found, all(workflow.status.ended for workflow in workflows)
