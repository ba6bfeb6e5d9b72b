"""Reading of requests: protocol and body."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from lumigator_testing.protocols import Anthropic, Fault, Mistral, OpenAI, Wire
from lumigator_testing.service import Service

SERVICE = web.AppKey("service", Service)
OPENAI, MISTRAL, ANTHROPIC = OpenAI(), Mistral(), Anthropic()


def wire_of(request: web.Request) -> Wire:
    """Return the protocol of the client."""
    if "anthropic-version" in request.headers or request.path.startswith("/v1/messages"):
        return ANTHROPIC
    return MISTRAL if "mistral" in request.headers.get("User-Agent", "") else OPENAI


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the body of a request; raise a 400 unless it is a JSON object."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Fault(400, "invalid_request_error", "We could not parse the JSON body of your request.")
    return body
