"""Leniency of Lumigator's routes: fields without an effect are accepted, and named in a header of the response."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from fastapi import Response

from lumigator_nb import models

log = logging.getLogger(__name__)

HEADER = "X-Ignored-Fields"
# Lumigator's provider names for a user's server with OpenAI's protocol; its web UI uses the second.
OWN_SERVERS = ("hosted_vllm", "self_hosted")
# The client chooses the names of fields: only plain ones may reach a header or the log.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_MAX_NAME_LENGTH, _MAX_NAMES = 80, 20


def has_api(provider: str) -> bool:
    """Return whether a provider of a request is an API, so that settings such as keys apply to it."""
    return provider in OWN_SERVERS or models.has_api(provider)


def note_ignored(names: Sequence[str], response: Response, redact: Callable[[str], str]) -> None:
    """Name the ignored fields of a request in a header of the response and in the log, without secrets."""
    if not names:
        return
    plain = [name for name in names if len(name) <= _MAX_NAME_LENGTH and _PLAIN.fullmatch(name)][:_MAX_NAMES]
    public = [name for name in plain if redact(name) == name]
    n_more = len(names) - len(public)
    text = ", ".join([*public, *([f"{n_more} more"] if n_more else [])])
    response.headers[HEADER] = text
    log.info("ignored fields: %s", text)


def plain_secret_name(name: str) -> str:
    """Return the name of a secret, with "_" for characters that are not allowed: `my-key` becomes `my_key`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
