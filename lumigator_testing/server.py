"""The model server: ``python -m lumigator_testing.server --port 8000 --behaviour '{"latency": 0.05}'``.

It implements OpenAI's chat completions, files and batches, Mistral's variants of them, and Anthropic's messages and
batches. It recognizes Mistral's client by the header User-Agent, and Anthropic's by ``anthropic-version``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from lumigator_testing.batch_routes import add_routes
from lumigator_testing.behaviour import Behaviour
from lumigator_testing.incoming import ANTHROPIC, SERVICE, read_json, wire_of
from lumigator_testing.protocols import Fault
from lumigator_testing.service import MODELS, Service

UPLOAD_BYTES = 256 * 2**20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(behaviour: Behaviour) -> web.Application:
    """Return the application of the server."""
    app = web.Application(client_max_size=UPLOAD_BYTES, middlewares=[web.middleware(_errors)])
    app[SERVICE] = Service(behaviour)
    app.router.add_post("/v1/chat/completions", _converse)
    app.router.add_post("/v1/messages", _converse)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/control", _configure)
    app.router.add_post("/control/reset", _reset)
    app.router.add_get("/control/{what:stats|prompts|bodies}", _tell)
    add_routes(app)
    return app


async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/control"):
        return await handler(request)
    service, wire = request.app[SERVICE], wire_of(request)
    model_call = handler is _converse
    try:
        with service.call() if model_call else contextlib.nullcontext():
            service.admit(wire.key(request.headers))
            return await handler(request)
    except Fault as fault:
        if model_call:
            service.note(fault.status)
        return web.json_response(wire.error(fault), status=fault.status, headers=_pace(service.behaviour, fault))
    except web.HTTPNotFound:
        return web.json_response(wire.error(Fault(404, "not_found", f"no such address: {request.path}")), status=404)


def _pace(behaviour: Behaviour, fault: Fault) -> dict[str, str]:
    if fault.status != 429 or fault.code == "insufficient_quota":
        return {}
    wait = behaviour.retry_after
    limits = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
    if wait is None:
        return limits
    return {"Retry-After": f"{wait:g}", "x-ratelimit-reset-requests": f"{wait:g}s", **limits}


async def _converse(request: web.Request) -> web.StreamResponse:
    service, wire = request.app[SERVICE], wire_of(request)
    body = await read_json(request)
    fault = service.next_fault()
    # Before the fault is raised: prompts() counts calls with faults, too.
    answer = service.answer(wire, body)
    if fault == "hang":
        service.counts["hung"] += 1
        await asyncio.Event().wait()
    if fault == "refuse":
        raise Fault(429, "rate_limit_exceeded", "Rate limit reached for requests. Please try again later.")
    streamed = bool(body.get("stream"))
    seconds = service.pause() + (0 if streamed else service.writing(answer.completion_tokens))
    if seconds:
        await asyncio.sleep(seconds)
    if fault == "fail":
        raise Fault(500, "server_error", "The server had an error while processing your request.")
    service.charge(wire)
    if not streamed:
        return web.Response(body=json.dumps(wire.answer(answer)).encode(), content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    events = list(wire.stream(answer, body))
    pause = service.writing(answer.completion_tokens) / max(sum(words for words, _ in events), 1)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        for words, event in events:
            if words and pause:
                await asyncio.sleep(words * pause)
            await response.write(event)
        await response.write_eof()
    return response


async def _models(request: web.Request) -> web.Response:
    names = request.app[SERVICE].behaviour.models or MODELS
    if wire_of(request) is ANTHROPIC:
        rows: list[dict[str, Any]] = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names
        ]
        return web.json_response({"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]})
    # "type" and "capabilities" are fields of Mistral's API only.
    frame = {"object": "model", "created": 1767225600, "owned_by": "lumigator", "type": "base", "capabilities": {}}
    return web.json_response({"object": "list", "data": [{"id": name, **frame} for name in names]})


async def _configure(request: web.Request) -> web.Response:
    request.app[SERVICE].configure(Behaviour(**await read_json(request)))
    return web.json_response(None)


async def _reset(request: web.Request) -> web.Response:
    request.app[SERVICE].reset()
    return web.json_response(None)


async def _tell(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    what: dict[str, Callable[[], Any]] = {
        "stats": lambda: asdict(service.stats()),
        "prompts": lambda: service.prompts,
        "bodies": lambda: list(service.bodies),
    }
    return web.json_response(what[request.match_info["what"]]())


async def serve(port: int, behaviour: Behaviour) -> None:
    """Serve on 127.0.0.1 until killed. Prints the port first."""
    # handler_cancellation: a call ends when its client disconnects.
    runner = web.AppRunner(make_app(behaviour), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201
    await asyncio.Event().wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="A model server for tests.")
    parser.add_argument("--port", type=int, default=0, help="port; 0 picks a free one")
    parser.add_argument("--behaviour", type=json.loads, default={}, help="fields of Behaviour as a JSON object")
    parser.add_argument("--with-parent", action="store_true", help="exit at the end of standard input")
    arguments = parser.parse_args()
    if arguments.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.port, Behaviour(**arguments.behaviour)))


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
