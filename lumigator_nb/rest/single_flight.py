"""Single flight: build long lists one at a time, and only once for all requests that wait for the same list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from anyio.to_thread import run_sync


class Lists:
    """Builds lists in a thread, one after the other.

    SQLite releases the interpreter's lock at every row, so that several long lists at the same time take three times
    as long in all. Clients that poll ask for the same list: one list serves all requests that came before its
    construction started. No response is older than its request.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting: dict[Hashable, asyncio.Task[bytes]] = {}

    async def get(self, key: Hashable, build: Callable[[], bytes]) -> bytes:
        """Return the result of `build`; requests for the same list have the same `key`."""

        async def run() -> bytes:
            async with self._turn:
                # Later requests need a newer list.
                del self._waiting[key]
                return await run_sync(build)

        if key not in self._waiting:
            self._waiting[key] = asyncio.ensure_future(run())
        # shield(): a client that disconnects must not cancel the list for the others.
        return await asyncio.shield(self._waiting[key])
