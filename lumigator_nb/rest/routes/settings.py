"""Models to choose from, secrets, health."""

from __future__ import annotations

import os
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path as Folder
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator

from lumigator_nb.errors import InvalidInputError, LumigatorError, NotFoundError
from lumigator_nb.rest.access import ADMIN, READ
from lumigator_nb.rest.errors import responses
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.leniency import note_ignored, plain_secret_name
from lumigator_nb.rest.wire.paging import location
from lumigator_nb.rest.wire.translation import model_response

models = APIRouter(prefix="/models", tags=["models"])
secrets = APIRouter(prefix="/settings/secrets", tags=["settings"], dependencies=[ADMIN])
health = APIRouter(prefix="/health", tags=["health"])

SecretName = Annotated[
    str,
    Path(min_length=1, max_length=255, pattern=r"^[ -~]+$", examples=["openai_api_key"]),
    AfterValidator(plain_secret_name),
]


@models.get("", dependencies=[READ], response_model_exclude_none=True, responses=responses())
def list_models(
    services: Shared,
    tasks: Annotated[list[api.TaskKind], Query(description="such as summarization; those for any of them")] = [],  # noqa: B006
) -> api.Listing[api.ModelResponse]:
    """List models that are worth a try."""
    wanted = {task.value.replace("-", "_") for task in tasks}
    found = [each for each in services.ws.models.list() if not wanted or wanted & set(each.tasks)]
    return api.Listing(total=len(found), items=[model_response(each) for each in found])


@secrets.get("", responses=responses())
def list_secrets(services: Shared) -> list[api.SecretResponse]:
    """List secrets by their names in small letters, as Lumigator has them; no value is ever returned."""
    found = services.ws.secrets.list()
    return [
        api.SecretResponse(name=str(name).lower(), description=str(description))
        for name, description in zip(found["name"], found["description"], strict=True)
    ]


@secrets.put("/{name}", status_code=HTTPStatus.CREATED, response_class=Response, responses={
    201: {"description": "Stored"}, 204: {"description": "Replaced"}, **responses(),
})  # fmt: skip
def put_secret(services: Shared, request: Request, name: SecretName, secret: api.SecretUpload) -> Response:
    """Store or replace a secret, encrypted. What no variable's name has becomes "_": `my-key` is `my_key`."""
    is_new = name.upper() not in services.ws.secrets.names()
    services.ws.secrets.set(name, secret.value, description=secret.description)
    headers = {"Location": location(request, "settings/secrets")} if is_new else None
    response = Response(status_code=HTTPStatus.CREATED if is_new else HTTPStatus.NO_CONTENT, headers=headers)
    note_ignored(secret.ignored(), response, services.redact)
    return response


@secrets.delete("/{name}", status_code=HTTPStatus.NO_CONTENT, responses=responses())
def delete_secret(services: Shared, name: SecretName) -> None:
    """Delete a secret, where there is one of that name."""
    with suppress(NotFoundError, InvalidInputError):  # where the name is none, there is none either
        services.ws.secrets.delete(name)


@health.get("")
def get_health(services: Shared) -> api.Health:
    """Say that the server answers; needs no token."""
    return api.Health(deployment_type=services.ws.settings.deployment_type)


@health.get("/ready", responses={503: {"description": "Something that it needs does not", "model": api.Readiness}})
def get_readiness(services: Shared) -> JSONResponse:
    """Say whether database, store and cluster answer; needs no token, and says no more than that."""
    found = {"database": _database(services), "store": _store(services), "cluster": _cluster(services)}
    failed = "failed" in found.values()
    answer = api.Readiness(status="failed" if failed else "ok", **found)
    return JSONResponse(answer.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK)


def _database(services: Services) -> str:
    try:
        services.ws.datasets.count()
    except LumigatorError:
        return "failed"
    return "ok"


def _store(services: Services) -> str:
    store = services.ws.store
    try:
        if store.is_local:
            return "ok" if _is_usable(Folder(store.root), services) else "failed"
        store.exists("ready")
    except LumigatorError:
        return "failed"
    return "ok"


def _is_usable(folder: Folder, services: Services) -> bool:
    """Whether files can be written below a folder, which is made with the first; one that is gone holds none."""
    if folder.exists():
        return folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    return services.ws.datasets.count() == 0


def _cluster(services: Services) -> str:
    try:
        return "starting" if services.ws.cluster.info() is None else "ok"
    except LumigatorError:
        return "failed"
