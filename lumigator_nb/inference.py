"""The inference step: every example is answered once, whatever happens on the way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import pyarrow as pa

from lumigator_nb import models, results
from lumigator_nb.answers import Answers, key_of
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.kept import Purse, cleaned, open_answers
from lumigator_nb.keys import Redactor
from lumigator_nb.models import Conversation, LanguageModel, Prediction, Request
from lumigator_nb.results import ProgressWriter
from lumigator_nb.specs import Step, WorkflowSpec, is_ground_truth
from lumigator_nb.store import Store

log = logging.getLogger(__name__)

NOT_ASKED = "not asked yet"
# Finished shards that may wait to be written while the next are being answered.
_WRITES_AHEAD = 4


def infer(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> dict[str, Any]:
    """Answer all examples that have no answer yet; return what was used, for the record.

    Finished shards stay as they are; from the second attempt on, examples without an answer in them are asked again.

    Raises:
        BudgetReachedError: the money is spent; what was answered stays.
        LumigatorError: no further example can be answered; what was answered stays.
    """
    finished = results.finished_shards(store, spec.workflow_id, Step.INFERENCE)
    reopened = set() if spec.attempt == 1 else {each for each in finished if _has_gaps(store, spec, each)}
    if len(finished - reopened) == -(-spec.n_examples // spec.shard_size):
        return results.find_model_details(store, spec.workflow_id)
    with _Work(spec, store, progress, redact, finished - reopened, reopened) as work:
        return work.answer_all()


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
    return conversation.request(row, redact(values["example"]), metadata)


def _has_gaps(store: Store, spec: WorkflowSpec, shard: int) -> bool:
    column = results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard)["prediction"]
    return bool(column.null_count)


class _Work:
    """One attempt at the examples that have no answer yet."""

    def __init__(
        self,
        spec: WorkflowSpec,
        store: Store,
        progress: ProgressWriter,
        redact: Redactor,
        whole: Set[int],
        reopened: Set[int],
    ) -> None:
        self._spec, self._store, self._progress, self._redact = spec, store, progress, redact
        self._whole, self._reopened = whole, reopened
        self._conversation = Conversation(spec.task)
        self._shards = _ShardWriter(store, spec)
        self._answers = _kept_answers(spec, store, progress)
        self._purse = Purse(spec.model, spec.launch, self._answers)
        self._repeated: Counter[str] = Counter()
        self._keys: dict[int, str] = {}
        self._waiting: dict[str, list[int]] = {}

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._shards.close()
        finally:
            if self._answers:
                self._answers.close()

    def answer_all(self) -> dict[str, Any]:
        """Go through all rows; the model is loaded when the first turns out to need it."""
        pending = self._pending()
        self._progress.begin(self._rows_done())
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
        model = models.load(spec.model, spec.task, self._progress.note)
        if spec.launch.mode == "batch":
            from lumigator_nb.batching import Batched
            from lumigator_nb.models.api import ApiModel

            assert isinstance(model, ApiModel)  # launch() lets no other provider through
            model = Batched(model, spec, self._store, self._progress.note)
        self._progress.begin(self._shards.rows_done + self._rows_done())
        results.write_model_details(self._store, spec.workflow_id, model.details)
        return model

    def _rows_done(self) -> int:
        size, total = self._spec.shard_size, self._spec.n_examples
        return sum(min(size, total - shard * size) for shard in self._whole)

    def _pending(self) -> Iterator[Request]:
        """The requests that nothing in the store answers; the others are settled on the way."""
        columns = None if self._spec.task.template or self._spec.model.provider == "function" else ["example"]
        tables = results.iter_shards(self._store, self._spec.dataset, columns, self._spec.shard_size)
        for shard, table in enumerate(tables):
            first = shard * self._spec.shard_size
            if shard not in self._whole:
                yield from self._pending_in(shard, first, table)
            elif self._samples:
                for at, values in enumerate(table.to_pylist()):
                    with suppress(InvalidInputError):
                        self._key(self._request(first + at, values))

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
        for row in rows:
            self._shards.put(row, prediction)
        cost = prediction.cost if paid_now else None
        self._progress.advance(len(rows), failed=len(rows) if prediction.text is None else 0, cost=cost)


def _kept_answers(spec: WorkflowSpec, store: Store, progress: ProgressWriter) -> Answers | None:
    if not models.keeps_answers(spec.model):
        return None
    return open_answers(store, spec.model, spec.launch, spec.workflow_id, progress.note)


class _ShardWriter:
    """Collects predictions by row and writes each shard when it is whole, in a thread of its own."""

    def __init__(self, store: Store, spec: WorkflowSpec) -> None:
        self._store, self._spec = store, spec
        self._open: dict[int, list[Prediction | None]] = {}
        self._missing: dict[int, int] = {}
        self._pool = ThreadPoolExecutor(1, "lumigator-shards")
        self._writes: list[Future[None]] = []
        self.rows_done = 0

    def open(self, shard: int, n_rows: int) -> None:
        """Rows of this shard will follow."""
        self._open[shard], self._missing[shard] = [None] * n_rows, n_rows

    def put(self, row: int, prediction: Prediction) -> None:
        """Take a row's prediction; each row once."""
        shard, at = divmod(row, self._spec.shard_size)
        self._open[shard][at] = prediction
        self._missing[shard] -= 1
        self.rows_done += 1
        if not self._missing[shard]:
            self._write(shard)

    def close(self) -> None:
        """Write what is there, rows without a prediction as such, and wait until all is written."""
        for shard in list(self._open):
            if self._missing[shard] < len(self._open[shard]):
                self._write(shard)
        self._pool.shutdown(wait=True)
        for write in self._writes:
            write.result()

    def _write(self, shard: int) -> None:
        predictions = [each or Prediction(None, error=NOT_ASKED) for each in self._open.pop(shard)]
        del self._missing[shard]
        while len(self._writes) >= _WRITES_AHEAD:
            self._writes.pop(0).result()
        self._writes.append(self._pool.submit(results.write_predictions, self._store, self._spec, shard, predictions))
