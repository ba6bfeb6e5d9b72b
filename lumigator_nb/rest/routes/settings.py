"""Routes of the model catalogue, secrets, and health checks."""

from __future__ import annotations

import os
from collections.abc import Callable
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
from lumigator_nb.rest.permissions import Permitted
from lumigator_nb.rest.state import Shared
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.leniency import note_ignored, plain_secret_name
from lumigator_nb.rest.wire.paging import location
from lumigator_nb.rest.wire.translation import model_response
from lumigator_nb.workspace import Workspace

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
    permissions: Permitted,
    tasks: Annotated[
        list[api.TaskKind], Query(description="only models for any of these tasks, such as summarization")
    ] = [],  # noqa: B006
) -> api.Listing[api.ModelResponse]:
    """List the models of the catalogue, and those of the server's machine that the caller may launch."""
    wanted = {task.value.replace("-", "_") for task in tasks}
    entries = [
        model
        for model in services.ws.models.list()
        if (not wanted or wanted & set(model.tasks)) and (model.found is None or permissions.allow(model.model()))
    ]
    return api.Listing(total=len(entries), items=[model_response(model) for model in entries])


@secrets.get("", responses=responses())
def list_secrets(services: Shared) -> list[api.SecretResponse]:
    """List the names of secrets, in lower case as in Lumigator. Values are never returned."""
    table = services.ws.secrets.list()
    return [
        api.SecretResponse(name=str(name).lower(), description=str(description))
        for name, description in zip(table["name"], table["description"], strict=True)
    ]


@secrets.put("/{name}", status_code=HTTPStatus.CREATED, response_class=Response, responses={
    201: {"description": "Stored"}, 204: {"description": "Replaced"}, **responses(),
})  # fmt: skip
def put_secret(services: Shared, request: Request, name: SecretName, secret: api.SecretUpload) -> Response:
    """Store or replace a secret, encrypted. Characters other than letters, digits and "_" become "_"."""
    is_new = name.upper() not in services.ws.secrets.names()
    services.ws.secrets.set(name, secret.value, description=secret.description)
    headers = {"Location": location(request, "settings/secrets")} if is_new else None
    response = Response(status_code=HTTPStatus.CREATED if is_new else HTTPStatus.NO_CONTENT, headers=headers)
    note_ignored(secret.ignored(), response, services.redact)
    return response


@secrets.delete("/{name}", status_code=HTTPStatus.NO_CONTENT, responses=responses())
def delete_secret(services: Shared, name: SecretName) -> None:
    """Delete a secret if it exists."""
    with suppress(NotFoundError, InvalidInputError):  # no secret has an invalid name
        services.ws.secrets.delete(name)


@health.get("")
def get_health(services: Shared) -> api.Health:
    """Return that the server runs. Needs no token."""
    return api.Health(deployment_type=services.ws.settings.deployment_type)


@health.get(
    "/ready", responses={503: {"description": "Database, store or cluster does not answer", "model": api.Readiness}}
)
def get_readiness(services: Shared) -> JSONResponse:
    """Return whether database, store and cluster answer. Needs no token, and so gives no details."""
    ws = services.ws
    checks: dict[str, Callable[[], str]] = {
        "database": lambda: "ok" if ws.datasets.count() >= 0 else "failed",
        "store": lambda: _store_state(ws),
        "cluster": lambda: "starting" if ws.cluster.info() is None else "ok",
    }
    states = dict.fromkeys(checks, "failed")
    for part, check in checks.items():
        with suppress(LumigatorError):
            states[part] = check()
    failed = "failed" in states.values()
    response = api.Readiness(status="failed" if failed else "ok", **states)
    return JSONResponse(response.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK)


def _store_state(ws: Workspace) -> str:
    if not ws.store.is_local:
        ws.store.exists("ready")  # raises if the store does not answer
        return "ok"
    folder = Folder(ws.store.root)
    if folder.exists():
        usable = folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    else:
        # The first file creates the folder. If there are datasets, the folder has been lost.
        usable = ws.datasets.count() == 0
    return "ok" if usable else "failed"
