"""Notifies screens of changes made by any process, with one query of the database for all screens."""

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
# Asking the cluster costs more than asking the database.
REFRESH_EVERY_S = 2.0

log = logging.getLogger(__name__)


class Watcher:
    """Polls a workspace while it has subscribers, and refreshes running workflows from the cluster.

    Args:
        ws: workspace.
        every: seconds between two polls.

    Attributes:
        problem: message about a service that does not answer now; None if all answer.
        pulse: number of changes so far.
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
        """Call a function after each change, from the watcher's thread, so it must be quick.

        Returns:
            Function that ends the subscription.
        """
        with self._lock:
            number = self._next_number = self._next_number + 1
            self._subscribers[number] = changed
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="lumigator-watcher", daemon=True)
                self._thread.start()

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.pop(number, None)
            self._wake.set()

        return unsubscribe

    def progress(self, experiment_id: str) -> list[ProgressRow]:
        """Return the progress of an experiment's workflows, read once between two changes for all callers."""
        pulse, rows = self._progress.get(experiment_id, (-1, []))
        if pulse != self.pulse:
            pulse = self.pulse
            rows = self._ws.workflows.progress(experiment_id)
            self._progress[experiment_id] = (pulse, rows)
        return rows

    def _poll(self) -> None:
        while True:
            with self._lock:
                # Under the lock of subscribe(), which starts a thread if there is none.
                if not self._subscribers:
                    self._thread = None
                    return
            self.look()
            self._wake.wait(self._every)
            self._wake.clear()

    def look(self) -> None:
        """Poll once, and notify all subscribers if something has changed."""
        problem, running = None, False
        try:
            if time.monotonic() - self._refreshed_at >= REFRESH_EVERY_S:
                running = bool(self._ws.workflows.refresh())
                self._refreshed_at = time.monotonic()
            state = self._ws.state()
        except LumigatorError as error:
            state, problem = self._state, error.message
        except Exception as error:
            log.exception("polling the workspace failed")
            state, problem = self._state, f"{type(error).__name__}: {error}"
        # The progress of a running workflow is in the store, so the database's state need not change with it.
        if not running and (state, problem) == (self._state, self.problem):
            return
        self._state, self.problem = state, problem
        self.pulse += 1
        with self._lock:
            subscribers = list(self._subscribers.values())
        for changed in subscribers:
            # A closed browser or widget must not keep the others from being notified.
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
