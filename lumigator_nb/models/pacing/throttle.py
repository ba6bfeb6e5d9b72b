"""Concurrency and rate limits: how many requests may be in flight, learned from the provider's responses."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

# Reserves turns for a number of requests, which begin some seconds apart; returns in how many seconds the first may
# begin. Processes that share a rate limit share it.
Reserve = Callable[[int, float], float]


@dataclass(frozen=True)
class Pace:
    """Concurrency and rate limit for a model.

    Attributes:
        most: the most requests in flight.
        start: requests in flight at first; the number grows with each answer, and shrinks when the provider is busy.
        retry_for: seconds after which an example that still has no answer is given up.
        per_minute: the most requests begun in a minute; None sets no bound.
    """

    most: int
    start: int
    retry_for: float
    per_minute: float | None = None


class Turns:
    """Turns to begin a request, under a rate limit that several processes share.

    Args:
        gap: seconds from one turn to the next.
    """

    # Turns that are reserved and not used are lost to the others, so a process reserves those of one second at most.
    _AHEAD_S = 1.0

    def __init__(self, reserve: Reserve, gap: float) -> None:
        self._reserve, self._gap = reserve, gap
        self._lock = asyncio.Lock()
        self._left, self._next = 0, 0.0

    async def wait(self) -> None:
        """Wait for the next turn."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if not self._left:
                self._left = max(1, int(self._AHEAD_S / self._gap))
                seconds = await loop.run_in_executor(None, self._reserve, self._left, self._gap)
                self._next = loop.time() + seconds
            self._left -= 1
            turn, self._next = self._next, self._next + self._gap
        await asyncio.sleep(turn - loop.time())


class Throttle:
    """Lets requests through, adapting how many may be under way (additive increase, multiplicative decrease).

    The first growth doubles in each round trip, as TCP's slow start does (Jacobson 1988, "Congestion Avoidance and
    Control", SIGCOMM), until the provider first complains. Belongs to one event loop; first come, first served,
    except that who asks again goes first.

    Args:
        reserve: takes the rate of requests from where others take theirs, too; default it is this throttle's alone.
    """

    def __init__(self, pace: Pace, reserve: Reserve | None = None) -> None:
        self._most, self._capacity = pace.most, float(min(pace.start, pace.most))
        gap = 60.0 / pace.per_minute if pace.per_minute else 0.0
        self._turns = Turns(reserve, gap) if reserve and gap else None
        self._gap = 0.0 if self._turns else gap
        self._grows_fast = True
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opens_at = self._shrank_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.peak = 0

    @property
    def capacity(self) -> int:
        """The number of requests that may be in flight now."""
        return max(1, int(self._capacity))

    async def enter(self, *, first: bool = False) -> None:
        """Wait for a turn; with `first`, before all that wait already, as for a retry."""
        if self._turns:
            await self._turns.wait()
        if not self._waiting and self._has_room():
            self._let_in()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(turn)
        self._wake()
        await turn

    def leave(self) -> None:
        """Give the place of a finished request to the next."""
        self._under_way -= 1
        self._wake()

    def went_well(self) -> None:
        """After an answer: allow a little more."""
        self._capacity = min(self._most, self._capacity + (1.0 if self._grows_fast else 1.0 / self._capacity))

    def slow_down(self, since: float, wait: float | None) -> None:
        """After a refusal because the provider is busy: allow a third less, and nothing for `wait` seconds.

        Args:
            since: when the refused request was sent; requests from before the last reduction say nothing new.
            wait: None where the provider named no time.
        """
        self._grows_fast = False
        if since >= self._shrank_at:
            self._capacity = max(1.0, self._capacity * 0.67)
            self._shrank_at = time.monotonic()
        if wait:
            self.hold(wait)

    def hold(self, seconds: float) -> None:
        """Let nothing through for some seconds."""
        self._opens_at = max(self._opens_at, time.monotonic() + seconds)

    def _has_room(self) -> bool:
        return self._under_way < self.capacity and time.monotonic() >= self._opens_at

    def _let_in(self) -> None:
        self._under_way += 1
        self.peak = max(self.peak, self._under_way)
        if self._gap:
            self._opens_at = max(self._opens_at, time.monotonic()) + self._gap

    def _wake(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                self._let_in()
                turn.set_result(None)
        wait = self._opens_at - time.monotonic()
        if self._waiting and wait > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._opened)

    def _opened(self) -> None:
        self._timer = None
        self._wake()
