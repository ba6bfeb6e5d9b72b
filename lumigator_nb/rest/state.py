"""What all routes share."""

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

# Of one address within five minutes. Nobody guesses 256 random bits; but who tries is to be seen, and costs little.
MOST_WRONG_TOKENS = 100


@dataclass
class Services:
    """A workspace, and what the API keeps beside it.

    Attributes:
        links: signs addresses of files.
        open: let programs of this machine in without a token.
        local: whether only this machine reaches the server, so that callers may ask what it reaches.
        knows_host: whether browsers reach this server under a name.
        admits_origin: whether a page of that origin may send more than questions.
        submit_soon: called when something waits for the cluster, or is to be removed.
        max_upload: bytes of a file.
        ending: whether the server was told to end, so that what would go on without end stops.
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
    attempts: Attempts = field(default_factory=lambda: Attempts(most=MOST_WRONG_TOKENS))

    def __post_init__(self) -> None:
        self.replies = Replies(self.ws.database)
        self.races = Races(self.ws)
        self.lists = Lists()

    def redact(self, text: str) -> str:
        """Take the secrets that are known here out of a text."""
        return redactor_of(self.ws.settings)(text)


async def services_of(request: Request) -> Services:
    """Return what the application was made with; a coroutine, since each function would take a thread."""
    return cast(Services, request.app.state.services)


Shared = Annotated[Services, Depends(services_of)]
