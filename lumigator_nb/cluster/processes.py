"""Processes that belong together because they inherited the same mark in their environment."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil

MARK = "LUMIGATOR_HEAD_ID"


def marked(mark: str) -> list[psutil.Process]:
    """Return the running processes that carry `mark`, except this one."""
    found = []
    for process in psutil.process_iter():
        # Other users' processes deny, kernel threads and zombies have no environment.
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def end(mark: str, grace: float = 2.0) -> bool:
    """End all processes that carry `mark`: asked first, killed after `grace` seconds. Return whether there were any."""
    found = marked(mark)
    _signal(found, signal.SIGTERM)
    _wait(mark, grace)
    kill(mark)
    return bool(found)


def kill(mark: str) -> None:
    """Kill all processes that carry `mark` at once, as a power cut would; returns when they are gone."""
    while left := marked(mark):
        # Again and again, as one that is about to die may have started another.
        _signal(left, signal.SIGKILL)
        _wait(mark, 1.0)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait(mark: str, seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
