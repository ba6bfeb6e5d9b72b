"""Long lists, made one after the other, and once for all who wait for the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from anyio.to_thread import run_sync


class Lists:
    """Makes lists in threads.

    SQLite hands the interpreter on with every row: many long lists at once take three times as long in all. And those
    who watch ask for the same one: it is made once for everybody who asked before it was begun, and nobody is given
    one that is older than the question.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._to_be_made: dict[Hashable, asyncio.Task[bytes]] = {}

    async def get(self, what: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returns; `what` is the same where the list is."""
        if what not in self._to_be_made:
            self._to_be_made[what] = asyncio.ensure_future(self._made(what, make))
        # Whoever goes away takes it from nobody else.
        return await asyncio.shield(self._to_be_made[what])

    async def _made(self, what: Hashable, make: Callable[[], bytes]) -> bytes:
        async with self._turn:
            del self._to_be_made[what]
            return await run_sync(make)
