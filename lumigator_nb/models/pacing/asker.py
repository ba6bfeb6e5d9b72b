"""Ask one provider many questions at once: adapt the concurrency to its limits, and retry each question."""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, suppress

from lumigator_nb.errors import LumigatorError, UnavailableError
from lumigator_nb.models.base import Prediction, Request
from lumigator_nb.models.pacing.throttle import Pace, Reserve, Throttle
from lumigator_nb.models.providers.api_failures import Failure

log = logging.getLogger(__name__)

Ask = Callable[[Request], Awaitable[Prediction]]
Answered = tuple[Request, Prediction]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
# A provider that never answered is given up sooner than one that did and fell silent.
NEVER_ANSWERED_S, SILENT_S = 20.0, 180.0
# Seconds for which answers gather before they are handed to the thread that stores them.
LOT_S = 0.004
# Models refuse three parameters at most. The bound keeps a server that refuses everything from being asked for ever.
MOST_ADAPTATIONS = 5
# After this many rejections and not one answer the task or the settings are wrong, not the examples.
REJECTED_IN_A_ROW = 20


class Asker:
    """Asks on an event loop in another thread, so that a notebook's loop is not disturbed.

    Args:
        opened: a context on the loop, which yields a function that sends one request once. Its exceptions are those
            that `classify` explains.
        classify: returns the meaning of an exception.
        pace: concurrency, rate limit and time for retries.
        adapt: takes the name of a parameter that the model refuses; returns whether to try again without it.
        reserve: as of :class:`Throttle`.
    """

    def __init__(
        self,
        opened: Callable[[Throttle], AbstractAsyncContextManager[Ask]],
        classify: Callable[[Exception], Failure],
        pace: Pace,
        adapt: Callable[[str], bool],
        reserve: Reserve | None = None,
    ) -> None:
        self._opened, self._classify, self._pace, self._adapt = opened, classify, pace, adapt
        self._reserve = reserve
        self.retries = 0
        self.peak = 0

    def answer(self, requests: Iterable[Request]) -> Iterator[Answered]:
        """Yield answers as they come; requests are taken a little ahead of the room that there is.

        Raises:
            LumigatorError: no further example can be answered; those answered so far were yielded before.
        """
        session = _Session(self._opened, self._classify, self._pace, self._adapt, self._reserve)
        # Twice as many as may be under way, so that none waits for this thread while it stores answers.
        window = 2 * self._pace.most
        waiting, source = 0, iter(requests)
        exhausted = False
        session.start()
        try:
            while waiting or not exhausted:
                batch: list[Request] = []
                while not exhausted and waiting + len(batch) < window:
                    request = next(source, None)
                    exhausted = request is None
                    if request is not None:
                        batch.append(request)
                session.put(batch)
                waiting += len(batch)
                for answered in session.take() if waiting else ():
                    waiting -= 1
                    yield answered
        finally:
            session.stop()
            self.retries += session.retries
            self.peak = max(self.peak, session.throttle.peak)


class _Session:
    """One event loop, and the requests in flight on it."""

    def __init__(
        self,
        opened: Callable[[Throttle], AbstractAsyncContextManager[Ask]],
        classify: Callable[[Exception], Failure],
        pace: Pace,
        adapt: Callable[[str], bool],
        reserve: Reserve | None,
    ) -> None:
        self._opened, self._classify, self._pace, self._adapt = opened, classify, pace, adapt
        self.throttle = Throttle(pace, reserve)
        self.retries = 0
        self._results: queue.SimpleQueue[list[Answered] | BaseException] = queue.SimpleQueue()
        self._fresh: list[Answered] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="lumigator-asking", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: asyncio.Event | None = None
        self._ready = threading.Event()
        self._started_at = time.monotonic()
        self._answered_at: float | None = None
        self._rejected = 0

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def put(self, requests: list[Request]) -> None:
        if requests and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop ended meanwhile; its reason is in the results
                self._loop.call_soon_threadsafe(self._begin, requests)

    def take(self) -> list[Answered]:
        """Wait for the next answers."""
        answers = self._results.get()
        if isinstance(answers, BaseException):
            raise answers
        return answers

    def stop(self) -> None:
        if self._done is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._results.put(error)
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        async with self._opened(self.throttle) as ask:
            self._ask = ask
            self._ready.set()
            await self._done.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, requests: list[Request]) -> None:
        for request in requests:
            task = self._loop.create_task(self._one(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, request: Request) -> None:
        try:
            self._hand_over((request, await self._until_answered(request)))
        except LumigatorError as error:
            self._fail(error)
        except Exception as error:  # a defect of ours: better one clear end than a thread that hangs
            log.exception("asking failed")
            self._fail(error)

    def _hand_over(self, answered: Answered) -> None:
        """Give answers to the other thread in batches: waking it up for each costs both threads too much."""
        if not self._fresh:
            self._loop.call_later(LOT_S, self._publish)
        self._fresh.append(answered)

    def _publish(self) -> None:
        if self._fresh:
            self._results.put(self._fresh)
            self._fresh = []

    def _fail(self, error: Exception) -> None:
        self._publish()
        self._results.put(error)

    async def _until_answered(self, request: Request) -> Prediction:
        attempt, begun = 0, time.monotonic()
        while True:
            await self.throttle.enter(first=attempt > 0)
            sent = time.monotonic()
            try:
                prediction = await self._ask(request)
            except Exception as caught:
                failure = self._classify(caught)
            else:
                self._note_answer()
                return prediction
            finally:
                self.throttle.leave()
            given_up = self._given_up(failure, begun, attempt)
            if given_up is not None:
                return given_up
            attempt += 1
            self.retries += 1
            await self._wait_before_retry(failure, attempt, sent)

    def _given_up(self, failure: Failure, begun: float, attempt: int) -> Prediction | None:
        """Return the prediction of a failure that asking again does not help; None where it may."""
        if failure.error is not None:
            raise failure.error
        if failure.kind == "parameter" and attempt < MOST_ADAPTATIONS and self._adapt(failure.parameter or ""):
            return None
        if failure.kind in ("row", "parameter"):
            self._note_rejection(failure)
            return Prediction(None, error=failure.message)
        self._check_outage(failure)
        if time.monotonic() - begun >= self._pace.retry_for:
            return Prediction(None, error=f"no answer within {self._pace.retry_for:g} s; last: {failure.message}")
        return None

    async def _wait_before_retry(self, failure: Failure, attempt: int, sent: float) -> None:
        if failure.kind == "parameter":
            return
        if failure.kind in ("busy", "slow"):
            self.throttle.slow_down(sent, failure.wait)
        # Full jitter, so that those who failed together do not come back together (Brooker 2015, AWS Architecture
        # Blog, "Exponential Backoff And Jitter").
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
        await asyncio.sleep(failure.wait if failure.wait is not None else random.uniform(0, longest))  # noqa: S311

    def _note_answer(self) -> None:
        self._answered_at = time.monotonic()
        self._rejected = 0
        self.throttle.went_well()

    def _note_rejection(self, failure: Failure) -> None:
        self._rejected += 1
        if self._answered_at is None and self._rejected >= REJECTED_IN_A_ROW:
            raise UnavailableError(
                f"the first {self._rejected} examples were all rejected, so the rest is not asked: {failure.message}",
                "look at the prompt, the settings and the model, then launch again",
            )

    def _check_outage(self, failure: Failure) -> None:
        now = time.monotonic()
        silent = now - (self._answered_at or self._started_at)
        if failure.kind != "busy" and silent > (NEVER_ANSWERED_S if self._answered_at is None else SILENT_S):
            raise UnavailableError(
                f"no answer for {silent:.0f} s; last: {failure.message}",
                "check the address, the provider's status page, and the model's timeout; answers so far are kept",
            )
