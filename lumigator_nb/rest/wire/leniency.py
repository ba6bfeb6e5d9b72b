"""What Lumigator's own routes take although it means nothing here, and how it is named in the answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from fastapi import Response

from lumigator_nb import models

log = logging.getLogger(__name__)

HEADER = "X-Ignored-Fields"
# Lumigator's names for a server of the user's own that speaks OpenAI's protocol; the second is its web UI's.
OWN_SERVERS = ("hosted_vllm", "self_hosted")
# The caller writes the names: none but plain ones come into a header or a log.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LONGEST_NAME, _MOST_NAMES = 80, 20


def has_api(provider: str) -> bool:
    """Whether a request's provider is asked by requests, so that settings of a server mean something to it."""
    return provider in OWN_SERVERS or models.has_api(provider)


def note_ignored(names: Sequence[str], response: Response, redact: Callable[[str], str]) -> None:
    """Name the fields of a request that have no effect, in a header of the answer and in the log, without secrets."""
    if not names:
        return
    plain = [name for name in names if len(name) <= _LONGEST_NAME and _PLAIN.fullmatch(name)][:_MOST_NAMES]
    shown = [name for name in plain if redact(name) == name]
    others = len(names) - len(shown)
    text = ", ".join([*shown, *([f"{others} more"] if others else [])])
    response.headers[HEADER] = text
    log.info("ignored fields: %s", text)


def plain_secret_name(name: str) -> str:
    """Return a secret's name, of printable ASCII, with "_" for what no variable's name has: `my-key` is `my_key`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
