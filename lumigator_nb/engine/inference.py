"""The inference step: every example is answered once, whatever happens on the way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa

from lumigator_nb import models
from lumigator_nb.engine.asking import Purse, cleaned, open_answers
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models import Conversation, LanguageModel, Prediction, Request
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Step, WorkflowSpec, is_ground_truth
from lumigator_nb.storage import results
from lumigator_nb.storage.answer_cache import Answers, key_of
from lumigator_nb.storage.results import ProgressWriter
from lumigator_nb.storage.store import Store

log = logging.getLogger(__name__)

NOT_ASKED = "not asked yet"
# Finished shards that may wait to be written while the next are being answered.
_WRITES_AHEAD = 4


@dataclass(frozen=True)
class Todo:
    """The shards of a workflow that have no predictions yet, or gaps in them.

    Attributes:
        shards: ascending.
        reopened: those of them that an earlier attempt has written, with examples that have no answer.
    """

    shards: tuple[int, ...]
    reopened: frozenset[int]


@dataclass(frozen=True)
class Written:
    """A shard whose predictions have been published.

    Attributes:
        n_failed: of its rows have no prediction.
        cost: dollars that were paid for it in this attempt; None where nothing has a price.
    """

    shard: int
    n_rows: int
    n_failed: int
    cost: float | None


class Listener(Protocol):
    """Whoever is told how far the work is; a :class:`ProgressWriter` is one."""

    def note(self, text: str) -> None: ...

    def begin(self, resumed: int) -> None: ...

    def advance(self, count: int, *, failed: int = 0, cost: float | None = None) -> None: ...


def infer(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> dict[str, Any]:
    """Answer all examples that have no answer yet; return what was used, for the record.

    Finished shards stay as they are; from the second attempt on, examples without an answer in them are asked again.

    Raises:
        BudgetReachedError: the money is spent; what was answered stays.
        LumigatorError: no further example can be answered; what was answered stays.
    """
    todo = unfinished(spec, store)
    if not todo.shards:
        return results.find_model_details(store, spec.workflow_id)
    resumed = spec.n_examples - rows_of(spec, todo.shards)
    with Work(spec, store, progress, redact, todo.reopened, resumed=resumed) as work:
        return work.answer(todo.shards)


def unfinished(spec: WorkflowSpec, store: Store) -> Todo:
    """Look up which shards are left to do."""
    finished = results.finished_shards(store, spec.workflow_id, Step.INFERENCE)
    reopened = set() if spec.attempt == 1 else {each for each in finished if _has_gaps(store, spec, each)}
    shards = range(-(-spec.n_examples // spec.shard_size))
    return Todo(tuple(each for each in shards if each not in finished - reopened), frozenset(reopened))


def rows_of(spec: WorkflowSpec, shards: Iterable[int]) -> int:
    """Return how many examples are in shards."""
    return sum(min(spec.shard_size, spec.n_examples - shard * spec.shard_size) for shard in shards)


def request_of(conversation: Conversation, redact: Redactor, row: int, values: Mapping[str, Any]) -> Request:
    """Return what is asked about a row of the dataset; no secret and no ground truth goes along.

    Raises:
        InvalidInputError: the task's template cannot be filled in with it.
    """
    metadata = {
        name: redact(value) if isinstance(value, str) else value
        for name, value in values.items()
        if name != "example" and not is_ground_truth(name)
    }
    # Before, since a template may change what it is given; and after, since prompt and template are texts, too.
    return conversation.request(row, redact(values["example"]), metadata).redacted(redact)


def _has_gaps(store: Store, spec: WorkflowSpec, shard: int) -> bool:
    column = results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard)["prediction"]
    return bool(column.null_count)


class Work:
    """Answers examples shard by shard; a context, at whose end everything is in the store.

    Args:
        reopened: shards whose answers of an earlier attempt are taken over.
        resumed: examples in other shards that are finished, for the progress display.
        written: called with each shard that was published, from another thread.
        shared: other processes work for the same workflow: shards that are cut off are left to them unwritten, and
            the files of kept answers are not joined.
    """

    def __init__(
        self,
        spec: WorkflowSpec,
        store: Store,
        progress: Listener,
        redact: Redactor,
        reopened: Set[int],
        *,
        resumed: int = 0,
        written: Callable[[Written], None] = lambda written: None,
        shared: bool = False,
    ) -> None:
        self._spec, self._store, self._progress, self._redact = spec, store, progress, redact
        self._reopened, self._resumed = reopened, resumed
        self._conversation = Conversation(spec.task)
        self._shards = _ShardWriter(store, spec, written, keep_partial=not shared)
        self._answers = _kept_answers(spec, store, progress, joins=not shared)
        self._purse = Purse(spec.model, spec.launch, self._answers)
        self._repeated: Counter[str] = Counter()
        self._counted = 0
        self._keys: dict[int, str] = {}
        self._waiting: dict[str, list[int]] = {}

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._shards.close()
        finally:
            if self._answers:
                self._answers.close()

    def answer(self, shards: Iterable[int]) -> dict[str, Any]:
        """Answer what is open in these shards; the model is loaded when the first example turns out to need it.

        Returns:
            What was used, for the record.

        Raises:
            As :func:`infer`.
        """
        pending = self._pending(shards)
        self._progress.begin(self._resumed)
        first = next(pending, None)
        if first is None:
            return results.find_model_details(self._store, self._spec.workflow_id)
        model = self._loaded()
        pending = chain([first], pending)
        try:
            while (request := next(pending, None)) is not None:
                # What is under way is reserved at its highest price. Once it is settled there may be money left.
                affordable = self._purse.within(request, pending)
                asked = 0
                for answered, prediction in model.answer(affordable):
                    asked += 1
                    self._settle(answered, prediction)
                pending = chain(affordable.left_over, pending)
                if not asked:
                    raise self._purse.exceeded()
        finally:
            results.write_model_details(self._store, self._spec.workflow_id, model.details)
        return model.details

    def _loaded(self) -> LanguageModel:
        spec = self._spec
        # Neither answers that were there nor loading say anything of how fast the model is.
        self._progress.begin(self._shards.rows_done + self._resumed)
        model = models.load(spec.model, spec.task, self._progress.note)
        if spec.launch.mode == "batch":
            from lumigator_nb.engine.batching import Batched
            from lumigator_nb.models.providers.api import ApiModel

            assert isinstance(model, ApiModel)  # launch() lets no other provider through
            model = Batched(model, spec, self._store, self._progress.note)
        self._progress.begin(self._shards.rows_done + self._resumed)
        results.write_model_details(self._store, spec.workflow_id, model.details)
        return model

    def _pending(self, shards: Iterable[int]) -> Iterator[Request]:
        """The requests that nothing in the store answers; the others are settled on the way."""
        all_columns = self._spec.task.template or models.runs_user_code(self._spec.model.provider)
        columns = None if all_columns else ["example"]
        with results.row_reader(self._store, self._spec.dataset, columns, self._spec.sample) as rows:
            for shard in shards:
                if self._samples:
                    self._count_before(shard, rows)
                first = shard * self._spec.shard_size
                yield from self._pending_in(shard, first, rows(first, self._spec.shard_size))

    def _count_before(self, shard: int, rows: Callable[[int, int], pa.Table]) -> None:
        """Count what is asked in earlier shards: each time the same is asked has an answer of its own."""
        if shard < self._counted:
            self._repeated.clear()
            self._counted = 0
        size = self._spec.shard_size
        for earlier in range(self._counted, shard):
            for at, values in enumerate(rows(earlier * size, size).to_pylist()):
                with suppress(InvalidInputError):
                    self._key(self._request(earlier * size + at, values))
        self._counted = shard + 1

    def _pending_in(self, shard: int, first: int, table: pa.Table) -> Iterator[Request]:
        self._shards.open(shard, len(table))
        before: list[Prediction] = []
        if shard in self._reopened:
            before = results.read_predictions(self._store, self._spec.workflow_id, shard)
        for at, values in enumerate(table.to_pylist()):
            try:
                request = self._request(first + at, values)
            except InvalidInputError as error:
                self._finish([first + at], Prediction(None, error=self._redact(str(error))))
                continue
            key = self._key(request)
            if before and before[at].text is not None:
                self._finish([request.row], before[at], paid_now=False)
            elif self._is_new(request, key):
                yield request

    def _is_new(self, request: Request, key: str) -> bool:
        """Whether the model must be asked; if not, the request is settled, or will be together with its twin."""
        if self._answers is None:
            return True
        kept = self._answers.find(key)
        if kept is not None:
            self._finish([request.row], kept, paid_now=False)
        elif key in self._waiting:
            self._waiting[key].append(request.row)
        else:
            self._waiting[key], self._keys[request.row] = [], key
            return True
        return False

    @property
    def _samples(self) -> bool:
        """Whether the same question may be answered in another way each time."""
        return self._answers is not None and self._spec.model.generation.temperature > 0

    def _request(self, row: int, values: dict[str, Any]) -> Request:
        return request_of(self._conversation, self._redact, row, values)

    def _key(self, request: Request) -> str:
        if self._answers is None:
            return ""
        key = key_of(request)
        if not self._samples:
            return key
        self._repeated[key] += 1
        return key_of(request, self._repeated[key] - 1)

    def _settle(self, request: Request, prediction: Prediction) -> None:
        clean = cleaned(prediction, self._redact)
        self._purse.settle(request, clean)
        if self._answers is not None:
            key = self._keys.pop(request.row)
            self._answers.keep(key, clean)
            self._finish(self._waiting.pop(key), replace(clean, cached=clean.text is not None), paid_now=False)
        self._finish([request.row], clean)

    def _finish(self, rows: list[int], prediction: Prediction, *, paid_now: bool = True) -> None:
        if not rows:
            return
        cost = prediction.cost if paid_now else None
        for row in rows:
            self._shards.put(row, prediction, cost)
        self._progress.advance(len(rows), failed=len(rows) if prediction.text is None else 0, cost=cost)


def _kept_answers(spec: WorkflowSpec, store: Store, progress: Listener, *, joins: bool) -> Answers | None:
    if not models.keeps_answers(spec.model):
        return None
    return open_answers(store, spec.model, spec.launch, spec.workflow_id, progress.note, joins=joins)


class _OpenShard:
    """The predictions of a shard as they come."""

    def __init__(self, n_rows: int) -> None:
        self.predictions: list[Prediction | None] = [None] * n_rows
        self.missing = n_rows
        self.cost: float | None = None

    def put(self, at: int, prediction: Prediction, cost: float | None) -> None:
        self.predictions[at] = prediction
        self.missing -= 1
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost


class _ShardWriter:
    """Collects predictions by row and writes each shard when it is whole, in a thread of its own."""

    def __init__(
        self, store: Store, spec: WorkflowSpec, written: Callable[[Written], None], *, keep_partial: bool
    ) -> None:
        self._store, self._spec, self._written, self._keep_partial = store, spec, written, keep_partial
        self._open: dict[int, _OpenShard] = {}
        self._pool = ThreadPoolExecutor(1, "lumigator-shards")
        self._writes: list[Future[None]] = []
        self.rows_done = 0

    def open(self, shard: int, n_rows: int) -> None:
        """Rows of this shard will follow."""
        self._open[shard] = _OpenShard(n_rows)

    def put(self, row: int, prediction: Prediction, cost: float | None) -> None:
        """Take a row's prediction, and what was paid for it; each row once."""
        shard, at = divmod(row, self._spec.shard_size)
        self._open[shard].put(at, prediction, cost)
        self.rows_done += 1
        if not self._open[shard].missing:
            self._write(shard)

    def close(self) -> None:
        """Write what is there, rows without a prediction as such, and wait until all is written."""
        for shard in list(self._open):
            found = self._open[shard]
            if self._keep_partial and found.missing < len(found.predictions):
                self._write(shard)
        self._pool.shutdown(wait=True)
        for write in self._writes:
            write.result()

    def _write(self, shard: int) -> None:
        found = self._open.pop(shard)
        while len(self._writes) >= _WRITES_AHEAD:
            self._writes.pop(0).result()
        self._writes.append(self._pool.submit(self._publish, shard, found))

    def _publish(self, shard: int, found: _OpenShard) -> None:
        predictions = [each or Prediction(None, error=NOT_ASKED) for each in found.predictions]
        results.write_predictions(self._store, self._spec, shard, predictions)
        n_failed = sum(each.text is None for each in predictions)
        self._written(Written(shard, len(predictions), n_failed, found.cost))
