"""Problems as RFC 9457 has them, and which error has which status."""

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

# The first that fits; what is not there is our own mistake.
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
    """A request that is not let through to the workspace."""

    def __init__(
        self, status: HTTPStatus, detail: str, hint: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint, self.headers = status, detail, hint, headers or {}

    def answer(self, request_id: str | None) -> JSONResponse:
        """Return what is answered."""
        return problem(self.status, self.detail, self.hint, request_id=request_id, headers=self.headers)


def status_of(error: errors.LumigatorError) -> HTTPStatus:
    """Return the status of an error that was raised on purpose."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(
    status: int, detail: str, hint: str | None = None, *, request_id: str | None = None, headers: Any = None
) -> JSONResponse:
    """Return the answer that describes a problem."""
    title = HTTPStatus(status).phrase
    found = Problem(title=title, status=status, detail=detail, hint=wording.hint(hint), request_id=request_id)
    return JSONResponse(found.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have an application answer errors as problems."""

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
        hint = None if _names_others(error) else error.hint
        return answer(request, status, redact(_detail(error)), hint and redact(hint), headers=headers)

    @app.exception_handler(RefusedError)
    async def _refused(request: Request, error: RefusedError) -> JSONResponse:
        return error.answer(request.scope.get("request_id"))

    @app.exception_handler(RequestValidationError)
    async def _malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        said = [_words(each) for each in error.errors()]
        is_no_json = any(tuple(each["loc"]) == ("body",) for each in error.errors())
        hint = "send JSON, with the header Content-Type: application/json" if is_no_json else "see /api/v1/docs"
        return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(said[:10]), hint)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request, error.status_code, str(error.detail), headers=error.headers)


def _names_others(error: errors.LumigatorError) -> bool:
    """Whether a hint lists what else there is, which does not concern a program that asks for something by its id."""
    hint = error.hint or ""
    return isinstance(error, errors.NotFoundError) and hint.startswith(("known: ", "there is no "))


def _detail(error: errors.LumigatorError) -> str:
    """What is wrong; of what has no such id in Lumigator's words, which programs look at."""
    if isinstance(error, errors.NotFoundError) and error.kind in ("dataset", "experiment", "job", "workflow"):
        with suppress(ValueError):
            return f"{error.kind.capitalize()} with ID {UUID(error.key)} not found"
    return error.message


def _words(error: dict[str, Any]) -> str:
    """One finding, without the value, which may be a secret."""
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}"


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route declares of its problems, besides those that all routes have."""
    usual = (400, 401, 403, 422, 429, 500, 503)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted({*usual, *statuses})
    }
