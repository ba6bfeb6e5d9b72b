"""Being one of a Ray cluster's processes."""

from __future__ import annotations

import logging
import os


def is_possible() -> bool:
    """Whether this process is one of a Ray cluster's jobs, so that it can have others work with it."""
    return "RAY_ADDRESS" in os.environ


def connect() -> None:
    """Join the cluster, unless this process has already."""
    import ray

    if not ray.is_initialized():
        ray.init(address="auto", namespace="lumigator", log_to_driver=False, logging_level=logging.WARNING)
