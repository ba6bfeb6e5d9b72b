"""The application: routes, and what every request passes through."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lumigator_nb._version import __version__
from lumigator_nb.errors import LumigatorError
from lumigator_nb.rest import errors
from lumigator_nb.rest.access import READ, Doorman
from lumigator_nb.rest.idempotency import HEADER, Repeating
from lumigator_nb.rest.routes import datasets, decisions, experiments, jobs, settings
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.rest.wire import leniency
from lumigator_nb.rest.wire.description_page import described
from lumigator_nb.rest.wire.examples import example_of
from lumigator_nb.rest.wire.paging import PREFIX
from lumigator_nb.rest.wire.schemas import Problem
from lumigator_nb.specs import Status

log = logging.getLogger(__name__)

_DESCRIPTION = "Lumigator's routes, and what goes beyond them: datasets, jobs, experiments, workflows, decisions."
REQUEST_ID = "X-Request-ID"
_LONGEST_REQUEST_ID = 100
# No answer runs or loads anything.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# The id of the request that is worked on, also in the threads that work on it.
CURRENT: ContextVar[str | None] = ContextVar("request_id", default=None)


def make_app(services: Services, origins: Sequence[str] = ()) -> FastAPI:
    """Return the application of a workspace.

    Args:
        origins: of pages elsewhere that may use it from a browser, such as ``https://example.org``; "*" is all.
    """
    app = FastAPI(
        title="Lumigator", version=__version__, openapi_url=f"{PREFIX}/openapi.json", docs_url=None,
        redoc_url=None, redirect_slashes=False, description=_DESCRIPTION, strict_content_type=False,
    )  # fmt: skip
    app.state.services = services
    errors.install(app)
    api = APIRouter(prefix=PREFIX)
    for router in (
        datasets.router, datasets.files, jobs.router, experiments.router, decisions.router, settings.models,
        settings.secrets, settings.health,
    ):  # fmt: skip
        api.include_router(router)
    app.include_router(api)
    app.include_router(jobs.ray)
    counted = _Metrics(services)
    app.get("/metrics", tags=["health"], dependencies=[READ], responses=errors.responses(), response_class=Response)(
        counted.show
    )
    app.get(f"{PREFIX}/docs", include_in_schema=False)(_page)
    app.add_middleware(_Methods, app_=app)
    app.add_middleware(Repeating, replies=lambda: services.replies)
    app.add_middleware(Doorman, services=services)
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"],
            expose_headers=["Location", REQUEST_ID, leniency.HEADER],
        )  # fmt: skip
    app.add_middleware(_Watched, counted=counted)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _page(request: Request) -> HTMLResponse:
    text = described(request.app.openapi(), str(request.base_url).rstrip("/"))
    return HTMLResponse(text, headers={"Content-Security-Policy": f"{_POLICY}; style-src 'unsafe-inline'"})


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with what routes have in common."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = found["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name, schema in schemas.items():
            if (example := example_of(name)) is not None:
                schema["examples"] = [example]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        found["components"]["securitySchemes"]["basic"] = {"type": "http", "scheme": "basic"}
        for path in found["paths"].values():
            for verb, operation in path.items():
                if operation.get("security"):
                    operation["security"].append({"basic": []})
                if verb == "post":
                    operation.setdefault("parameters", []).append({
                        "name": HEADER, "in": "header", "required": False,
                        "description": "the same key with the same request gets the same answer, for a day",
                        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
                    })  # fmt: skip
        app.openapi_schema = found
    return app.openapi_schema


class _Methods:
    """Middleware that refuses what a path does not take, and says what it does; Starlette looks at one route alone."""

    def __init__(self, app: ASGIApp, app_: FastAPI) -> None:
        self._app, self._described = app, app_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            allowed = self._allowed(scope["path"].removeprefix(scope.get("root_path", "")))
            if allowed and scope["method"] not in allowed:
                request_id, headers = scope.get("request_id"), {"Allow": ", ".join(allowed)}
                answer = errors.problem(
                    405, f"this takes {' and '.join(allowed)}", request_id=request_id, headers=headers
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _allowed(self, path: str) -> list[str]:
        paths = self._described.openapi()["paths"]
        found = path if path in paths else next((each for each in paths if _pattern(each).fullmatch(path)), None)
        return [verb.upper() for verb in paths[found]] if found else []


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """What paths look like that a template describes."""
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)))


class _Metrics:
    """Counts requests, for Prometheus."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("lumigator_requests", "Requests answered.", labels, registry=self._registry)
        self.seconds = Histogram(
            "lumigator_request_seconds", "Seconds until the last byte.", labels[:2], registry=self._registry
        )
        self.workflows = Gauge("lumigator_workflows", "Workflows as recorded.", ("status",), registry=self._registry)

    def show(self, services: Shared) -> Response:
        """Return what was counted, as Prometheus reads it."""
        for status in Status:
            self.workflows.labels(status.value).set(services.ws.workflows.count(status=status))
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class _Watched:
    """Middleware that names, times, counts and logs each request, and answers where nobody has."""

    def __init__(self, app: ASGIApp, counted: _Metrics) -> None:
        self._app, self._counted = app, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, scope["request_id"], seen = time.perf_counter(), _request_id(scope), _Seen()
        CURRENT.set(scope["request_id"])
        if len(scope["path"]) > 1:
            scope["path"] = scope["path"].rstrip("/") or "/"  # both are asked for, and neither is redirected

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers.append(REQUEST_ID, scope["request_id"])
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("Content-Security-Policy", _POLICY)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:
            if not isinstance(error, LumigatorError):
                log.exception("a request failed")
            if seen.status is not None:
                raise
            detail = "the server made a mistake; its log says more"
            answer = errors.problem(500, detail, request_id=scope["request_id"])
            await answer(scope, receive, noted)
        finally:
            self._note(scope, seen.status, time.perf_counter() - begun)

    def _note(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = _route(scope)
        code = str(status or "cut off")
        self._counted.requests.labels(scope["method"], route, code).inc()
        self._counted.seconds.labels(scope["method"], route).observe(seconds)
        client = scope.get("client") or ("",)
        quiet = scope["path"].startswith((f"{PREFIX}/health", "/metrics"))
        path = quote(scope["path"], safe="/{}:@")  # no line of the log is anybody's to write
        shown = "/".join([*path.split("/")[:4], "…"]) if "/files/" in path else path
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %s %.0f ms from %s", scope["method"], shown, code, seconds * 1000, client[0],
            extra={"request": {
                "method": scope["method"], "path": shown, "status": status,
                "ms": round(seconds * 1000, 1), "address": client[0], "token": scope.get("token_name"),
            }},
        )  # fmt: skip


def _route(scope: Scope) -> str:
    """The path with the names of its parameters, of which there are but a few; empty where there is no such path."""
    if scope.get("route") is None:
        return ""
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(names.get(part, part) for part in scope["path"].split("/"))


class _Seen:
    status: int | None = None


def _request_id(scope: Scope) -> str:
    """The one that a proxy gave it, where that is harmless in a log."""
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()), b"")
    text = given.decode("latin-1")
    plain = text.isascii() and text.replace("-", "").isalnum() and len(text) <= _LONGEST_REQUEST_ID
    return text if plain else str(uuid.uuid4())
