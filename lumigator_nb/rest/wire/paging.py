"""Parameters and addresses that many routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator

PREFIX = "/api/v1"
# So much of a list is in memory at once.
MOST = 1000
_LARGEST = 2**31 - 1

Skip = Annotated[int, Query(ge=0, le=_LARGEST, description="how many to leave out")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="how many at most")]
# What Lumigator's routes take: any number, as its database reads it, where a negative limit is none.
AnySkip = Annotated[
    int,
    Query(description="how many to leave out; less than 0 is 0"),
    AfterValidator(lambda n: min(max(n, 0), _LARGEST)),
]
AnyLimit = Annotated[
    int,
    Query(description=f"how many at most, up to {MOST}; more, and less than 0, are {MOST}"),
    AfterValidator(lambda n: n if 0 <= n <= MOST else MOST),
]


def base(request: Request) -> str:
    """Return the address of the API as whoever asks reaches it, without a slash at the end."""
    return f"{str(request.base_url).rstrip('/')}{PREFIX}"


def location(request: Request, path: str) -> str:
    """Return the address of what was created."""
    return f"{base(request)}/{path}"
