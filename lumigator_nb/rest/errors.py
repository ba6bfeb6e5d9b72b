"""Errors as problem documents (RFC 9457), and the HTTP status of each class of errors."""

from __future__ import annotations

import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lumigator_nb import errors
from lumigator_nb.rest.wire import wording
from lumigator_nb.rest.wire.schemas import Problem
from lumigator_nb.services.access.idempotency import UnderWayError, UsedKeyError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# The first class that fits decides. Other errors are bugs of the server: status 500.
STATUSES: tuple[tuple[type[errors.LumigatorError], HTTPStatus], ...] = (
    (errors.NotFoundError, HTTPStatus.NOT_FOUND),
    (UnderWayError, HTTPStatus.CONFLICT),
    (UsedKeyError, HTTPStatus.CONFLICT),
    (errors.ConflictError, HTTPStatus.CONFLICT),
    (errors.InUseError, HTTPStatus.CONFLICT),
    (errors.WaitTimeoutError, HTTPStatus.CONFLICT),
    (errors.BudgetReachedError, HTTPStatus.CONFLICT),
    (errors.UnknownModelError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.DatasetError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.InvalidInputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.MissingExtraError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.StoreNotSharedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.ConfigurationError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.SecretError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.DamagedError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (errors.JobError, HTTPStatus.CONFLICT),
)


class RefusedError(Exception):
    """A request that is refused before it reaches the workspace."""

    def __init__(
        self, status: HTTPStatus, detail: str, hint: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint, self.headers = status, detail, hint, headers or {}

    def answer(self, request_id: str | None) -> JSONResponse:
        """Return the response."""
        return problem(self.status, self.detail, self.hint, request_id=request_id, headers=self.headers)


def status_of(error: errors.LumigatorError) -> HTTPStatus:
    """Return the HTTP status of an error."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(
    status: int, detail: str, hint: str | None = None, *, request_id: str | None = None, headers: Any = None
) -> JSONResponse:
    """Return the response that describes a problem."""
    title = HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail, hint=wording.hint(hint), request_id=request_id)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Install handlers that answer errors with problem documents."""

    def answer(
        request: Request, status: int, detail: str, hint: str | None = None, headers: Any = None
    ) -> JSONResponse:
        return problem(status, detail, hint, request_id=request.scope.get("request_id"), headers=headers)

    @app.exception_handler(errors.LumigatorError)
    async def _ours(request: Request, error: errors.LumigatorError) -> JSONResponse:
        status = status_of(error)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s", error.message)
        redact = request.app.state.services.redact
        headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        detail, hint = error.message, error.hint
        if isinstance(error, errors.NotFoundError):
            if error.kind in ("dataset", "experiment", "job", "workflow"):
                with suppress(ValueError):  # the key is not an id
                    # Lumigator's sentence: its clients look for it.
                    detail = f"{error.kind.capitalize()} with ID {UUID(error.key)} not found"
            # Names of other objects do not help a program that asks for an id.
            if hint and hint.startswith(("known: ", "there is no ")):
                hint = None
        return answer(request, status, redact(detail), hint and redact(hint), headers=headers)

    @app.exception_handler(RefusedError)
    async def _refused(request: Request, error: RefusedError) -> JSONResponse:
        return error.answer(request.scope.get("request_id"))

    @app.exception_handler(RequestValidationError)
    async def _malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without the values, which may be secrets.
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        is_not_json = any(tuple(fault["loc"]) == ("body",) for fault in error.errors())
        hint = "send JSON, with the header Content-Type: application/json" if is_not_json else "see /api/v1/docs"
        return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(faults[:10]), hint)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request, error.status_code, str(error.detail), headers=error.headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a route's problems: those of all routes, and `statuses`."""
    common = (400, 401, 403, 422, 429, 500, 503)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*common, *statuses})
    }
