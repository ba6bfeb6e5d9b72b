"""Processes for tests of what several do at once: they are forked from one that has everything imported."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext


def context() -> ForkServerContext:
    """Return what starts processes; each would import for two seconds otherwise."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["lumigator_nb.workspace", "lumigator_nb.engine.worker", "pandas", "pytest"])
    return found
