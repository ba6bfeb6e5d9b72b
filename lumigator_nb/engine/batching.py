"""Inference through a provider's batch service: submit all questions at once, collect the answers hours later."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from lumigator_nb.errors import LumigatorError, UnavailableError
from lumigator_nb.models import Prediction, Report, Request
from lumigator_nb.models.providers.api import ApiModel
from lumigator_nb.models.providers.api_batches import BatchClient
from lumigator_nb.specs import WorkflowSpec
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

log = logging.getLogger(__name__)

FIRST_POLL_S, LONGEST_POLL_S = 1.0, 60.0
# Seconds for which the service may be unavailable.
OUTAGE_S = 3600.0

T = TypeVar("T")


class Batched:
    """Answers through batches.

    Each batch is recorded in the store as soon as it is submitted, so that after an interruption the next attempt
    collects it instead of paying again.

    Args:
        model: the same model for direct questions. It is asked the first one, so that a wrong key, name or parameter
            shows at once, and not when a batch is done.
        report: takes notes for a progress display.
    """

    def __init__(self, model: ApiModel, spec: WorkflowSpec, store: Store, report: Report) -> None:
        self._direct = model
        self._spec, self._store, self._report = spec, store, report
        self.details: dict[str, Any] = {**model.details, "mode": "batch", "batches": []}

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Prediction]]:
        """Collect the batches of earlier attempts, submit the other questions, and yield answers as batches end."""
        waiting = {request.row: request for request in requests}
        noted = {name: [row for row in rows if row in waiting] for name, rows in self._noted().items()}
        under_way = {name: {row: waiting.pop(row) for row in rows} for name, rows in noted.items() if rows}
        if waiting:
            first = next(iter(waiting))
            yield from self._direct.answer([waiting.pop(first)])
        with BatchClient(self._direct.client(), self._spec.model, self._direct.dropped) as client:
            for part in client.parts(list(waiting.values())):
                name = self._patiently(lambda part=part: client.submit(part))  # type: ignore[misc]
                under_way[name] = {request.row: request for request in part}
                self._note({**self._noted(), name: list(under_way[name])})
                log.info("batch %s: %d examples handed over", name, len(part))
            self.details["batches"] += list(under_way)
            for name, rows in under_way.items():
                yield from self._collected(client, name, rows)

    def _collected(
        self, client: BatchClient, name: str, rows: dict[int, Request]
    ) -> Iterator[tuple[Request, Prediction]]:
        pause = FIRST_POLL_S
        while (status := self._patiently(lambda: client.status(name))).state == "waiting":
            self._report(f"the provider's batch service has answered {status.done} of {status.total}")
            time.sleep(pause)
            pause = min(LONGEST_POLL_S, pause * 1.5)
        self._report("")
        yield from self._patiently(lambda: list(client.collect(name, rows)))
        self._note({other: noted for other, noted in self._noted().items() if other != name})
        if status.state == "failed":
            raise UnavailableError(f"the provider gave batch {name} up: {status.message}", "resume to hand it in again")

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until it works; give up after an error that does not pass, or after :data:`OUTAGE_S`."""
        begun, pause = time.monotonic(), FIRST_POLL_S
        while True:
            try:
                return call()
            except LumigatorError:
                raise
            except Exception as caught:
                failure = self._direct.classify(caught)
                if failure.error is not None:
                    raise failure.error from None
                if failure.kind in ("row", "parameter") or time.monotonic() - begun > OUTAGE_S:
                    raise UnavailableError(
                        f"the batch service of {self._spec.model.provider} does not work: {failure.message}",
                        "resume later: what was handed over is collected then",
                    ) from None
                log.warning("the batch service does not answer: %s", failure.message)
            time.sleep(pause)
            pause = min(LONGEST_POLL_S, pause * 2)

    def _noted(self) -> dict[str, list[int]]:
        data = self._store.find(layout.batches(self._spec.workflow_id))
        return {} if data is None else dict(json.loads(data))

    def _note(self, batches: dict[str, list[int]]) -> None:
        self._store.write(layout.batches(self._spec.workflow_id), json.dumps(batches).encode())
