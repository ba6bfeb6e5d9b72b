"""What each of the processes does that share a workflow: take a lot from the board, work on it, report, go on."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from lumigator_nb import metrics
from lumigator_nb.engine import evaluation, inference, process_setup
from lumigator_nb.engine.asking import open_answers
from lumigator_nb.engine.inference import Written
from lumigator_nb.engine.pool import shared_rates
from lumigator_nb.errors import LumigatorError
from lumigator_nb.models import price_list
from lumigator_nb.security.redaction import Redactor, redactor
from lumigator_nb.specs import MetricSpec, StoreSpec, WorkflowSpec
from lumigator_nb.storage import layout

log = logging.getLogger(__name__)


class Lots(Protocol):
    """The board, as a process reaches it; it is called from several threads."""

    def take(self) -> tuple[int, ...] | None: ...

    def report(self, item: int, outcome: Any) -> None: ...

    def note(self, text: str) -> None: ...

    def leave(self) -> None:
        """Return when all that was reported has arrived."""


@dataclass(frozen=True)
class Ended:
    """How a process came to an end.

    Attributes:
        details: what it used, for the record.
        error: why nobody can go on, rather than only this process.
        log: what it logged.
    """

    details: dict[str, Any] = field(default_factory=dict)
    error: LumigatorError | None = None
    log: str = ""


class Hand:
    """One of the processes. Ray makes it an actor, which holds its model for as long as there is work.

    Args:
        store: where the workflow is.
        spec: of the workflow.
    """

    def __init__(self, store: StoreSpec, spec: WorkflowSpec) -> None:
        self._store, self._spec = process_setup.open_store(store), spec
        price_list.look_in(self._store, layout.PRICES)
        self._redact = redactor(process_setup.bring_keys(self._store, spec.workflow_id))
        shared_rates.join([spec.model])

    def infer(self, lots: Lots, reopened: frozenset[int]) -> Ended:
        """Answer the examples of shards."""
        return _ended(lambda: self._infer(lots, reopened), lots, self._redact)

    def score(self, lots: Lots, asked: MetricSpec) -> Ended:
        """Score groups of examples by a metric."""
        return _ended(lambda: self._score(lots, asked), lots, self._redact)

    def join_answers(self) -> None:
        """Join this workflow's files of kept answers; no process may be writing to them."""
        open_answers(self._store, self._spec.model, self._spec.launch, self._spec.workflow_id).close()

    def _infer(self, lots: Lots, reopened: frozenset[int]) -> Ended:
        def written(shard: Written) -> None:
            lots.report(shard.shard, shard)

        listener = _Listener(lots)
        with inference.Work(
            self._spec, self._store, listener, self._redact, reopened, written=written, shared=True
        ) as work:
            return Ended(details=work.answer(_items(lots)))

    def _score(self, lots: Lots, asked: MetricSpec) -> Ended:
        metric = metrics.create(asked)
        metric.prepare()
        lots.note("")
        with evaluation.group_scorer(asked, metric, self._spec, self._store, all_cores=False) as score:
            for group in _items(lots):
                lots.report(group, score(group))
        return Ended()


class _Listener:
    """Passes on what is being done; how far it is the board knows from the shards."""

    def __init__(self, lots: Lots) -> None:
        self._lots = lots

    def note(self, text: str) -> None:
        self._lots.note(text)

    def begin(self, resumed: int) -> None:
        self._lots.note("")

    def advance(self, count: int, *, failed: int = 0, cost: float | None = None) -> None:
        return


def _items(lots: Lots) -> Iterator[int]:
    while (lot := lots.take()) is not None:
        yield from lot


def _ended(work: Callable[[], Ended], lots: Lots, redact: Redactor) -> Ended:
    """Do the work; a failure is a value, since exceptions do not cross processes well."""
    with process_setup.logged(redact) as printed:
        try:
            done = work()
            lots.leave()
        except LumigatorError as error:
            done = Ended(error=error)
        except Exception as error:  # whatever a model's or a metric's library raises
            log.error("%s", redact(traceback.format_exc(limit=-8)))
            done = Ended(error=LumigatorError(redact(f"{type(error).__name__}: {error}")))
        return Ended(done.details, done.error, printed.getvalue())
