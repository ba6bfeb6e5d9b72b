"""What every process of the cluster is fitted out with before it begins: API keys, and a log without secrets."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lumigator_nb import keys, layout
from lumigator_nb.keys import Redactor
from lumigator_nb.store import Store


def bring_keys(store: Store, workflow_id: str) -> dict[str, str]:
    """Put the API keys that came with a workflow into this process's environment, and return them."""
    sealed = store.find(layout.sealed_keys(workflow_id))
    brought = keys.unseal(sealed) if sealed else {}
    os.environ.update(brought)
    return brought


@contextmanager
def logged(redact: Redactor) -> Iterator[io.StringIO]:
    """Send what is logged, without secrets, to stdout, which the cluster keeps, and to a buffer."""
    buffer = io.StringIO()
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
