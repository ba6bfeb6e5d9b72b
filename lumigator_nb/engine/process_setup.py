"""Process setup for workers: open the store, load API keys, redact logs, enforce the time-out."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lumigator_nb.errors import ExecutionError
from lumigator_nb.security import redaction
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

STORE_PATIENCE_S = 180.0
# Seconds that a step has to write finished work down after its time-out.
HANG_GRACE_S = 60.0
# Characters of a log's beginning and of its end that are kept: a function of the user's may fail in a million rows.
LOG_PART = 2**20


def open_store(spec: StoreSpec) -> Store:
    """Open the store, with long retries: nobody watches a worker, and a network that is down comes back."""
    return Store(spec, patience=STORE_PATIENCE_S)


def bring_keys(store: Store, workflow_id: str) -> dict[str, str]:
    """Put the API keys that came with a workflow into this process's environment, and return them."""
    sealed = store.find(layout.sealed_keys(workflow_id))
    keys = redaction.unseal(sealed) if sealed else {}
    os.environ.update(keys)
    return keys


class Log(io.TextIOBase):
    """Takes any amount of text, and keeps the beginning and the end of it."""

    def __init__(self, part: int = LOG_PART) -> None:
        self._part, self._begin, self._end, self._length = part, io.StringIO(), io.StringIO(), 0

    def write(self, text: str) -> int:
        """Take a piece of text."""
        room = max(0, self._part - self._length)
        self._begin.write(text[:room])
        self._end.write(text[room:])
        self._length += len(text)
        if self._end.tell() > 2 * self._part:  # not each time, as it copies
            kept = self._end.getvalue()[-self._part :]
            self._end = io.StringIO()
            self._end.write(kept)
        return len(text)

    def getvalue(self) -> str:
        """Return the beginning and the end, and between them the number of characters left out."""
        begin, end = self._begin.getvalue(), self._end.getvalue()[-self._part :]
        lost = self._length - len(begin) - len(end)
        return f"{begin}\n[{lost:,} characters left out]\n{end}" if lost else begin + end


@contextmanager
def logged(redact: Redactor) -> Iterator[Log]:
    """Send log records, without secrets, to stdout, which Ray keeps, and to the buffer that is yielded."""
    buffer = Log()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), logging.StreamHandler(buffer)]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    for handler in handlers:
        handler.addFilter(redact.filter)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(handler)
    try:
        yield buffer
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)


@contextmanager
def bounded(seconds: float | None, hung: Callable[[ExecutionError], None] | None = None) -> Iterator[None]:
    """Raise an error in the work after some seconds; only in the main thread, the only one that signals interrupt.

    Args:
        seconds: None sets no time-out.
        hung: called from another thread where the work goes on for another minute after the error, as code that waits
            in C may; it may end the process.

    Raises:
        ExecutionError: time is up.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    error = ExecutionError(
        f"the step took longer than its time-out of {seconds:g} s",
        "resume goes on from the last finished shard; launch(…, timeout=…) sets the time",
    )

    def ring(*_: Any) -> None:
        raise error

    last_resort = threading.Timer(seconds + HANG_GRACE_S, hung or (lambda _: None), [error])
    last_resort.daemon = True
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    last_resort.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        last_resort.cancel()
