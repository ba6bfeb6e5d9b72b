"""Tells screens of changes: one look at the database for all of them, whoever changed something, in which process."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lumigator_nb.display.progress import ProgressRow
from lumigator_nb.errors import LumigatorError

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

LOOK_EVERY_S = 1.0
REFRESH_EVERY_S = 2.0

log = logging.getLogger(__name__)


class Watcher:
    """Looks at a workspace while anybody wants to know, and asks the cluster about what is under way.

    Args:
        ws: workspace.
        every: seconds between two looks.

    Attributes:
        problem: what is out of reach at the moment, in words; None while all is well.
        pulse: counts the changes that were seen.
    """

    def __init__(self, ws: Workspace, every: float = LOOK_EVERY_S) -> None:
        self._ws, self._every = ws, every
        self._subscribers: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._next_number = 0
        self._state = ""
        self._refreshed_at = float("-inf")
        self._progress: dict[str, tuple[int, list[ProgressRow]]] = {}
        self.problem: str | None = None
        self.pulse = 0

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after each change, from the watcher's thread; it must not take long.

        Returns:
            What ends it.
        """
        with self._lock:
            number = self._next_number = self._next_number + 1
            self._subscribers[number] = changed
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="lumigator-watcher", daemon=True)
                self._thread.start()

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.pop(number, None)
            self._wake.set()

        return unsubscribe

    def progress(self, experiment_id: str) -> list[ProgressRow]:
        """Return how far the workflows of an experiment are; read once for all who ask between two changes."""
        pulse, rows = self._progress.get(experiment_id, (-1, []))
        if pulse != self.pulse:
            pulse = self.pulse
            rows = self._ws.workflows.progress(experiment_id)
            self._progress[experiment_id] = (pulse, rows)
        return rows

    def _watch(self) -> None:
        while True:
            with self._lock:
                if not self._subscribers:
                    self._thread = None
                    return
            self.look()
            self._wake.wait(self._every)
            self._wake.clear()

    def look(self) -> None:
        """Look once, and tell all subscribers where something has changed."""
        problem, under_way = None, False
        try:
            under_way = self._refresh()
            state = self._ws.state()
        except LumigatorError as error:
            state, problem = self._state, error.message
        except Exception as error:
            log.exception("looking at the workspace failed")
            state, problem = self._state, f"{type(error).__name__}: {error}"
        if under_way or (state, problem) != (self._state, self.problem):
            self._state, self.problem = state, problem
            self.pulse += 1
            self._tell()

    def _refresh(self) -> bool:
        if time.monotonic() - self._refreshed_at < REFRESH_EVERY_S:
            return False
        workflows = self._ws.workflows.refresh()
        self._refreshed_at = time.monotonic()
        return bool(workflows)

    def _tell(self) -> None:
        with self._lock:
            subscribers = list(self._subscribers.values())
        for changed in subscribers:
            # A closed browser or widget must not keep others from hearing of it.
            with contextlib.suppress(Exception):
                changed()


_watchers: WeakKeyDictionary[Workspace, Watcher] = WeakKeyDictionary()
_watchers_lock = threading.Lock()


def watcher_of(ws: Workspace) -> Watcher:
    """Return the one watcher of a workspace."""
    with _watchers_lock:
        if ws not in _watchers:
            _watchers[ws] = Watcher(ws)
        return _watchers[ws]
