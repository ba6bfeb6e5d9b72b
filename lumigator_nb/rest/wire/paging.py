"""Query parameters of lists, and URLs of the API."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator

PREFIX = "/api/v1"
# Items of a list in memory at a time.
MAX_LIMIT = 1000
_MAX_INT = 2**31 - 1  # of PostgreSQL

Skip = Annotated[int, Query(ge=0, le=_MAX_INT, description="number of items to skip")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="maximum number of items")]
# Lumigator accepts any number, as its database does, for which a negative limit means no limit.
AnySkip = Annotated[
    int,
    Query(description="number of items to skip; negative numbers count as 0"),
    AfterValidator(lambda n: min(max(n, 0), _MAX_INT)),
]
AnyLimit = Annotated[
    int,
    Query(description=f"maximum number of items, up to {MAX_LIMIT}; larger and negative numbers count as {MAX_LIMIT}"),
    AfterValidator(lambda n: n if 0 <= n <= MAX_LIMIT else MAX_LIMIT),
]


def base(request: Request) -> str:
    """Return the URL of the API under which the client reaches it, without a slash at the end."""
    return f"{str(request.base_url).rstrip('/')}{PREFIX}"


def location(request: Request, path: str) -> str:
    """Return the URL of a new resource, for the header `Location`."""
    return f"{base(request)}/{path}"
