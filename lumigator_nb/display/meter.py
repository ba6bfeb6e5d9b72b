"""A progress display for large files, which appears only after two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lumigator_nb.display.progress import ProgressRow, Show, live_progress
from lumigator_nb.specs import Status

# Most files take less than two seconds; a display that flashes up would only distract.
_SHOWN_AFTER_S, _INTERVAL_S = 2.0, 0.5


class Meter:
    """Counts bytes and displays the count.

    Attributes:
        total: the number of bytes to expect; 0 if it is unknown.
        shown: whether anything has been displayed.
    """

    def __init__(self, label: str, show: Show) -> None:
        self._label, self._show = label, show
        self._done = 0
        self._next = time.monotonic() + _SHOWN_AFTER_S
        self.total = 0
        self.shown = False

    def add(self, count: int) -> None:
        """Add `count` bytes."""
        self.reach(self._done + count)

    def reach(self, done: int) -> None:
        """Set the count to `done` bytes."""
        self._done = done
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL_S
            self._draw(Status.RUNNING)

    def end(self) -> None:
        """Display the end, but only if something was displayed before."""
        if self.shown:
            self._draw(Status.SUCCEEDED)

    def _draw(self, status: Status) -> None:
        self.shown = True
        of = f" of {self.total / 1e6:,.0f}" if self.total else ""
        self._show([ProgressRow(self._label, status, note=f"{self._done / 1e6:,.0f}{of} MB")])


@contextmanager
def metered(label: str, *, enabled: bool) -> Iterator[Meter]:
    """Yield a meter. Its display ends with the block."""
    with live_progress(enabled) as show:
        meter = Meter(label, show)
        yield meter
        meter.end()
