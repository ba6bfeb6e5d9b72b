"""What the cluster executes: ``python -m lumigator_nb.engine.worker STORE WORKFLOW_ID [--endpoint-url URL]``.

It needs the store and nothing else. Credentials come from the node's environment, everything else from the spec.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder

import pyarrow as pa

from lumigator_nb import metrics, models
from lumigator_nb.engine import process_setup, steps
from lumigator_nb.engine.pool import ray_connection, shared_rates, sizing, supervisor
from lumigator_nb.errors import LumigatorError
from lumigator_nb.models import price_list
from lumigator_nb.security.redaction import Redactor, redactor
from lumigator_nb.specs import Status, Step, StepResult, StoreSpec, WorkflowSpec
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Work through the steps that have not succeeded yet; return 0 when all have."""
    parser = argparse.ArgumentParser(prog="lumigator_nb.engine.worker")
    parser.add_argument("store")
    parser.add_argument("workflow_id")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--path-style", action=argparse.BooleanOptionalAction)
    options = parser.parse_args(arguments)
    store = process_setup.open_store(
        StoreSpec(uri=options.store, endpoint_url=options.endpoint_url, path_style=options.path_style)
    )
    price_list.look_in(store, layout.PRICES)
    spec = results.read_spec(store, options.workflow_id)
    if not _may_use_pandas(spec):
        _do_without_pandas()
    redact = redactor(process_setup.bring_keys(store, spec.workflow_id))
    with process_setup.logged(redact) as printed:
        try:
            if ray_connection.is_possible():
                shared_rates.join([spec.model, *metrics.models_of(spec.metrics)])
            shared = None
            if sizing.is_spread(spec.model, spec.launch, spec.n_examples) and ray_connection.is_possible():
                shared = supervisor.Crew(spec, store)
            return 0 if all(_succeeds(step, spec, store, redact, shared) for step in Step) else 1
        finally:
            # The cluster forgets its logs when the head restarts; the store does not.
            store.write(layout.log(spec.workflow_id, spec.attempt), printed.getvalue().encode())
            store.delete(layout.sealed_keys(spec.workflow_id))


def _may_use_pandas(spec: WorkflowSpec) -> bool:
    if models.runs_user_code(spec.model.provider):
        return True
    try:
        return any(metrics.class_of(metric).uses_pandas for metric in spec.metrics)
    except LumigatorError:  # a metric that is not installed here: reported in its turn
        return True


def _do_without_pandas() -> None:
    """Keep pyarrow from importing pandas, 0.3 s, only to ask of the first list whether it is a Series.

    It asks once, and remembers; where data frames are wanted of it later, it imports pandas all the same. Until then it
    would take a Series for any sequence, so this is for where no function of the user's may hand it one.
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


def _succeeds(step: Step, spec: WorkflowSpec, store: Store, redact: Redactor, shared: steps.Crew | None) -> bool:
    before = results.find_result(store, spec.workflow_id, step)
    if before is not None and before.status is Status.SUCCEEDED:
        log.info("%s succeeded in attempt %d already", step, before.attempt)
        return True

    def hung(result: StepResult) -> None:
        results.write_result(store, spec.workflow_id, result)
        log.error("%s does not end although its time is up: this process ends itself", step)
        os._exit(1)

    return steps.execute(step, spec, store, redact, crew=shared, hung=hung).status is Status.SUCCEEDED


if __name__ == "__main__":
    # Ray stops a job by SIGTERM: leave by an exception, so that answers so far reach the store.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
