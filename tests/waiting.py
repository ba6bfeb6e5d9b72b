"""Waiting for what happens elsewhere: in another process, thread or browser."""

from __future__ import annotations

import time
from collections.abc import Callable

# Long enough for a machine that is busy with other work. Only what is broken waits so long: slow machines stay green.
PATIENCE_S = 600.0


def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, and fail when it does not come true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what or condition}"
        time.sleep(0.02)
