"""Routes of the providers' batch APIs: submit many requests at once, fetch the responses later."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from lumigator_testing.batch_views import Show, anthropic, mistral, openai
from lumigator_testing.batching import Desk, jsonl
from lumigator_testing.incoming import SERVICE, read_json
from lumigator_testing.protocols import Anthropic, Fault, Mistral, OpenAI, Wire

MAX_ROWS = 50_000

DESK = web.AppKey("desk", Desk)


def add_routes(app: web.Application) -> None:
    """Add the routes of files and batches."""
    app[DESK] = Desk(app[SERVICE])
    add = app.router.add_route
    add("POST", "/v1/files", _upload)
    add("GET", "/v1/files/{id}", _file)
    add("GET", "/v1/files/{id}/content", _content)
    for path, wire, show in (("/v1/batches", OpenAI(), openai), ("/v1/batch/jobs", Mistral(), mistral)):
        add("POST", path, _creator(wire, show))
        _add_common(app, path, show)
    add("POST", "/v1/messages/batches", _create_anthropic)
    add("GET", "/v1/messages/batches/{id}/results", _results_anthropic)
    _add_common(app, "/v1/messages/batches", anthropic)


def _add_common(app: web.Application, path: str, show: Show) -> None:
    async def retrieve(request: web.Request) -> web.Response:
        desk = request.app[DESK]
        return web.json_response(show(desk, desk.job(request.match_info["id"])))

    async def cancel(request: web.Request) -> web.Response:
        desk = request.app[DESK]
        return web.json_response(show(desk, desk.cancel(request.match_info["id"])))

    async def listing(request: web.Request) -> web.Response:
        desk = request.app[DESK]
        jobs = [show(desk, desk.job(key)) for key, job in reversed(desk.jobs.items()) if job.about["path"] == path]
        return web.json_response({"object": "list", "data": jobs, "has_more": False, "total": len(jobs)})

    app.router.add_get(path, listing)
    app.router.add_get(f"{path}/{{id}}", retrieve)
    app.router.add_post(f"{path}/{{id}}/cancel", cancel)


async def _upload(request: web.Request) -> web.Response:
    fields = await request.post()
    upload = fields.get("file")
    if not isinstance(upload, web.FileField):
        raise Fault(400, "invalid_request_error", "'file' is a required property", "file")
    key = request.app[DESK].keep(upload.filename, str(fields.get("purpose", "")), upload.file.read())
    return web.json_response(_describe(key, *request.app[DESK].file(key)))


async def _file(request: web.Request) -> web.Response:
    key = request.match_info["id"]
    return web.json_response(_describe(key, *request.app[DESK].file(key)))


async def _content(request: web.Request) -> web.Response:
    content = request.app[DESK].file(request.match_info["id"])[2]
    return web.Response(body=content, content_type="application/octet-stream")


def _describe(key: str, name: str, purpose: str, content: bytes) -> dict[str, Any]:
    # "sample_type" and "source" are fields of Mistral's API only; OpenAI's client ignores them.
    common = {"id": key, "object": "file", "bytes": len(content), "created_at": int(time.time()), "filename": name}
    return common | {"purpose": purpose, "status": "processed", "sample_type": "batch_request", "source": "upload"}


def _creator(wire: Wire, show: Show) -> Callable[[web.Request], Any]:
    async def create(request: web.Request) -> web.Response:
        desk, body = request.app[DESK], await read_json(request)
        key = body.get("input_file_id") or "".join(body.get("input_files") or ())
        rows, problem = _parse(desk.file(key)[2])
        defaults = {"model": body["model"]} if body.get("model") else {}
        job = desk.open(wire, rows, problem, path=request.path, file=key, defaults=defaults, request=body)
        return web.json_response(show(desk, job))

    return create


def _parse(content: bytes) -> tuple[list[tuple[str, dict[str, Any]]], str | None]:
    try:
        lines = [json.loads(line) for line in content.decode().split("\n") if line.strip()]
        rows = _rows(lines, "body")
    except Fault as fault:
        return [], fault.message
    except ValueError:
        return [], "A line of the input file is not JSON."
    return rows, _problem(rows)


def _rows(lines: list[Any], body: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        return [(str(line["custom_id"]), dict(line[body])) for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise Fault(400, "invalid_request_error", f"A request is malformed: {error!r}") from None


def _problem(rows: list[tuple[str, dict[str, Any]]]) -> str | None:
    if len({key for key, _ in rows}) < len(rows):
        return "The custom_id of each request must be unique."
    return f"The batch has more than {MAX_ROWS} requests." if len(rows) > MAX_ROWS else None


async def _create_anthropic(request: web.Request) -> web.Response:
    desk, body = request.app[DESK], await read_json(request)
    rows = _rows(body.get("requests") or [], "params")
    problem = _problem(rows) or (None if rows else "requests: at least one is required")
    if problem:
        raise Fault(400, "invalid_request_error", problem)
    job = desk.open(Anthropic(), rows, None, path=request.path)
    return web.json_response(anthropic(desk, job))


async def _results_anthropic(request: web.Request) -> web.Response:
    desk = request.app[DESK]
    job = desk.job(request.match_info["id"])
    results = job.results or []
    lines = [{"custom_id": key, "result": _outcome(status, body)} for key, status, body in results]
    left = "canceled" if job.cancelled is not None else "errored" if job.problem else "expired"
    rest = {"type": left} | ({"error": Anthropic().error(Fault(500, "", job.problem))} if job.problem else {})
    lines += [{"custom_id": key, "result": rest} for key, _ in job.rows[len(results) :]]
    return web.Response(body=jsonl(lines), content_type="application/x-jsonl")


def _outcome(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"type": "succeeded", "message": body} if status == 200 else {"type": "errored", "error": body}
