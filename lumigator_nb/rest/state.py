"""The state that all routes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from lumigator_nb.rest.races import Races
from lumigator_nb.rest.signed_links import Links
from lumigator_nb.rest.single_flight import Lists
from lumigator_nb.services.access.attempts import Attempts
from lumigator_nb.services.access.idempotency import Replies
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.workspace import Workspace

# Per address and five minutes. 256 random bits cannot be guessed; the limit makes attempts visible, and cheap.
MAX_WRONG_TOKENS = 100


@dataclass
class Services:
    """A workspace, and the state of the API beside it.

    Attributes:
        ws: the workspace.
        links: signs URLs of files.
        open: whether clients need no token (on loopback).
        local: whether only this machine reaches the server. Then models may call any address that it reaches.
        knows_host: returns whether the server serves a host name.
        admits_origin: returns whether web pages of an origin may send requests that change something.
        submit_soon: called after a workflow was queued or something was deleted.
        max_upload: maximum size of a file, in bytes.
        ending: whether the server is shutting down, so that endless responses stop.
        attempts: counts wrong tokens.
    """

    ws: Workspace
    links: Links
    open: bool = True
    local: bool = True
    knows_host: Callable[[str], bool] = lambda host: True
    admits_origin: Callable[[str, str], bool] = lambda origin, host: False
    submit_soon: Callable[[], None] = lambda: None
    max_upload: int = 2_000_000_000
    ending: bool = False
    attempts: Attempts = field(default_factory=lambda: Attempts(most=MAX_WRONG_TOKENS))

    def __post_init__(self) -> None:
        self.replies = Replies(self.ws.database)
        self.races = Races(self.ws)
        self.lists = Lists()

    def redact(self, text: str) -> str:
        """Replace all known secrets in a text."""
        return redactor_of(self.ws.settings)(text)


async def services_of(request: Request) -> Services:
    """Return the state of the application. A coroutine: FastAPI runs plain functions in a thread each."""
    return cast(Services, request.app.state.services)


Shared = Annotated[Services, Depends(services_of)]
