"""Parameters and addresses that many routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

PREFIX = "/api/v1"

Skip = Annotated[int, Query(ge=0, le=2**31 - 1, description="how many to leave out")]
Limit = Annotated[int, Query(ge=1, le=1000, description="how many at most")]


def base(request: Request) -> str:
    """Return the address of the API as whoever asks reaches it, without a slash at the end."""
    return f"{str(request.base_url).rstrip('/')}{PREFIX}"


def location(request: Request, path: str) -> str:
    """Return the address of what was created."""
    return f"{base(request)}/{path}"
