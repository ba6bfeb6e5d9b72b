"""The FastAPI application: routes, and the middleware that every request passes through."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
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
from lumigator_nb.rest.access import READ, AuthMiddleware
from lumigator_nb.rest.idempotency import HEADER, IdempotencyMiddleware
from lumigator_nb.rest.routes import datasets, decisions, experiments, jobs, settings
from lumigator_nb.rest.state import Services, Shared
from lumigator_nb.rest.wire import leniency
from lumigator_nb.rest.wire.description_page import described
from lumigator_nb.rest.wire.examples import example_of
from lumigator_nb.rest.wire.paging import PREFIX
from lumigator_nb.rest.wire.schemas import Problem
from lumigator_nb.specs import Status

log = logging.getLogger(__name__)

_DESCRIPTION = "Lumigator's API and extensions: datasets, jobs, experiments, workflows, comparisons, races."
REQUEST_ID = "X-Request-ID"
_MAX_REQUEST_ID = 100
# No response may load or run anything in a browser.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# The id of the current request, for its log lines. Threads of the request inherit it.
CURRENT: ContextVar[str | None] = ContextVar("request_id", default=None)


def make_app(services: Services, origins: Sequence[str] = ()) -> FastAPI:
    """Return the application of a workspace.

    Args:
        services: the workspace and the state of the API.
        origins: origins of web pages that may call the API (CORS), such as ``https://example.org``; "*" allows all.
    """
    # redirect_slashes: see _RequestMiddleware. strict_content_type: some clients send JSON without a Content-Type.
    # docs_url, redoc_url: FastAPI's pages load scripts from other sites; our own page replaces them.
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
    request_metrics = _Metrics()
    app.get("/metrics", tags=["health"], dependencies=[READ], responses=errors.responses(), response_class=Response)(
        request_metrics.show
    )
    page_policy = f"{_POLICY}; style-src 'unsafe-inline'"

    @app.get(f"{PREFIX}/docs", include_in_schema=False)
    def page(request: Request) -> HTMLResponse:
        text = described(request.app.openapi(), str(request.base_url).rstrip("/"))
        return HTMLResponse(text, headers={"Content-Security-Policy": page_policy})

    # Starlette runs the middleware that is added last first: id and log; CORS, before tokens, because browsers send
    # preflight requests without one; the token, before a body is read or a stored response is repeated.
    app.add_middleware(_MethodMiddleware, app_=app)
    app.add_middleware(IdempotencyMiddleware, replies=lambda: services.replies)
    app.add_middleware(AuthMiddleware, services=services)
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"],
            expose_headers=["Location", REQUEST_ID, leniency.HEADER],
        )  # fmt: skip
    app.add_middleware(_RequestMiddleware, request_metrics=request_metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: FastAPI's, with examples, problems, Basic authentication and idempotency keys."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name, schema in schemas.items():
            if (example := example_of(name)) is not None:
                schema["examples"] = [example]
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, in place of which we send a Problem
            schemas.pop(name, None)
        document["components"]["securitySchemes"]["basic"] = {"type": "http", "scheme": "basic"}
        for path in document["paths"].values():
            for verb, operation in path.items():
                if operation.get("security"):
                    operation["security"].append({"basic": []})
                if verb == "post":
                    operation.setdefault("parameters", []).append({
                        "name": HEADER, "in": "header", "required": False,
                        "description": "a repeated request with the same key gets the stored response, for a day",
                        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
                    })  # fmt: skip
        app.openapi_schema = document
    return app.openapi_schema


class _MethodMiddleware:
    """Middleware that answers 405 with the header `Allow` for a method that a path does not support.

    Starlette names the methods of the first matching route only, but several routes may share a path.
    """

    def __init__(self, app: ASGIApp, app_: FastAPI) -> None:
        self._app, self._fastapi = app, app_
        self._patterns: dict[re.Pattern[str], list[str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            allowed = self._allowed(scope["path"].removeprefix(scope.get("root_path", "")))
            if allowed and scope["method"] not in allowed:
                response = errors.problem(
                    405, f"this path supports {' and '.join(allowed)}",
                    request_id=scope.get("request_id"), headers={"Allow": ", ".join(allowed)},
                )  # fmt: skip
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _allowed(self, path: str) -> list[str]:
        """Return the methods of a path; empty for an unknown path."""
        paths = self._fastapi.openapi()["paths"]
        if path in paths:  # before templates: /experiments/all also matches /experiments/{experiment_id}
            return [method.upper() for method in paths[path]]
        if not self._patterns:
            for template, operations in paths.items():
                pattern = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)))
                self._patterns[pattern] = [method.upper() for method in operations]
        return next((methods for pattern, methods in self._patterns.items() if pattern.fullmatch(path)), [])


class _Metrics:
    """Metrics of requests and workflows, for Prometheus."""

    def __init__(self) -> None:
        # Its own registry: several applications in one process (tests) must not share counts.
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("lumigator_requests", "Requests answered.", labels, registry=self._registry)
        self.seconds = Histogram(
            "lumigator_request_seconds", "Seconds until the last byte.", labels[:2], registry=self._registry
        )
        self.workflows = Gauge("lumigator_workflows", "Workflows as recorded.", ("status",), registry=self._registry)

    def show(self, services: Shared) -> Response:
        """Return all metrics in Prometheus' text format."""
        for status in Status:
            self.workflows.labels(status.value).set(services.ws.workflows.count(status=status))
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class _RequestMiddleware:
    """Outermost middleware: gives each request an id, measures and logs it, sets headers, answers unexpected errors."""

    def __init__(self, app: ASGIApp, request_metrics: _Metrics) -> None:
        self._app, self._metrics = app, request_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int | None = None
        # A proxy's request id is kept if it is harmless in a log.
        header = next((value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()), b"")
        request_id = header.decode("latin-1")
        if not request_id.isascii() or not request_id.replace("-", "").isalnum() or len(request_id) > _MAX_REQUEST_ID:
            request_id = str(uuid.uuid4())
        scope["request_id"] = request_id
        CURRENT.set(request_id)
        # Clients ask with and without a slash at the end. No redirect: not all clients repeat the body of a POST.
        scope["path"] = scope["path"].rstrip("/") or "/"

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers.append(REQUEST_ID, request_id)
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("Content-Security-Policy", _POLICY)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # no client is left to answer
        except Exception as error:
            if not isinstance(error, LumigatorError):
                log.exception("a request failed")
            if status is not None:  # the response has begun, so that its status cannot change any more
                raise
            detail = "internal error of the server; see its log"
            response = errors.problem(500, detail, request_id=request_id)
            await response(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Count and log a request."""
        # The route's path with names of parameters: Prometheus needs labels with few distinct values.
        route = ""
        if scope.get("route") is not None:
            names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
            route = "/".join(names.get(part, part) for part in scope["path"].split("/"))
        code = str(status or "cut off")
        self._metrics.requests.labels(scope["method"], route, code).inc()
        self._metrics.seconds.labels(scope["method"], route).observe(seconds)
        client = scope.get("client") or ("",)
        is_routine = scope["path"].startswith((f"{PREFIX}/health", "/metrics"))
        path = quote(scope["path"], safe="/{}:@")  # a client must not be able to write lines of the log
        if "/files/" in path:
            path = "/".join([*path.split("/")[:4], "…"])  # names of files may be confidential
        log.log(
            logging.DEBUG if is_routine else logging.INFO,
            "%s %s %s %.0f ms from %s", scope["method"], path, code, seconds * 1000, client[0],
            extra={"request": {
                "method": scope["method"], "path": path, "status": status,
                "ms": round(seconds * 1000, 1), "address": client[0], "token": scope.get("token_name"),
            }},
        )  # fmt: skip
