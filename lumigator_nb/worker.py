"""What the cluster executes: ``python -m lumigator_nb.worker STORE WORKFLOW_ID [--endpoint-url URL]``.

It needs the store and nothing else. Credentials come from the node's environment, everything else from the spec.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder

import pyarrow as pa

from lumigator_nb import keys, layout, results, steps
from lumigator_nb.keys import redactor
from lumigator_nb.specs import Status, Step, StoreSpec, WorkflowSpec
from lumigator_nb.store import Store

log = logging.getLogger(__name__)

# Metrics whose code makes data frames of nothing.
_PLAIN = {"bleu", "chrf", "edit_distance", "exact_match", "length", "meteor", "rouge", "token_f1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Work through the steps that have not succeeded yet; return 0 when all have."""
    parser = argparse.ArgumentParser(prog="lumigator_nb.worker")
    parser.add_argument("store")
    parser.add_argument("workflow_id")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--path-style", action=argparse.BooleanOptionalAction)
    given = parser.parse_args(arguments)
    store = Store(StoreSpec(uri=given.store, endpoint_url=given.endpoint_url, path_style=given.path_style))
    spec = results.read_spec(store, given.workflow_id)
    if spec.model.provider == "baseline" and all(metric.name in _PLAIN for metric in spec.metrics):
        _do_without_pandas()
    brought = _brought_keys(store, spec)
    redact = redactor(brought)
    with _logged(redact) as printed:
        try:
            return 0 if all(_succeeds(step, spec, store, redact) for step in Step) else 1
        finally:
            # The cluster forgets its logs when the head restarts; the store does not.
            store.write(layout.log(spec.workflow_id, spec.attempt), printed.getvalue().encode())
            store.delete(layout.sealed_keys(spec.workflow_id))


def _do_without_pandas() -> None:
    """Keep pyarrow from importing pandas, 0.3 s, only to ask of the first list whether it is a Series.

    It asks once, and remembers; where data frames are wanted of it later, it imports pandas all the same. Until then it
    would take a Series for any sequence, so this is for what is all our own code.
    """

    class Refusing(MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pandas":
                raise ImportError("not now")

    finder = Refusing()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def _brought_keys(store: Store, spec: WorkflowSpec) -> dict[str, str]:
    """Put the API keys that came with the workflow into this process's environment, and return them."""
    sealed = store.find(layout.sealed_keys(spec.workflow_id))
    brought = keys.unseal(sealed) if sealed else {}
    os.environ.update(brought)
    return brought


def _succeeds(step: Step, spec: WorkflowSpec, store: Store, redact: keys.Redactor) -> bool:
    before = results.find_result(store, spec.workflow_id, step)
    if before is not None and before.status is Status.SUCCEEDED:
        log.info("%s succeeded in attempt %d already", step, before.attempt)
        return True
    return steps.execute(step, spec, store, redact).status is Status.SUCCEEDED


@contextmanager
def _logged(redact: keys.Redactor) -> Iterator[io.StringIO]:
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


if __name__ == "__main__":
    # A stop shall find what was answered so far in the store.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
