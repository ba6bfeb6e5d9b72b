"""The inference step: every example is answered once, whatever happens on the way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pyarrow as pa

from lumigator_nb import layout, models, results
from lumigator_nb.answers import Answers, key_of
from lumigator_nb.errors import BudgetReachedError, InvalidInputError
from lumigator_nb.keys import Redactor
from lumigator_nb.models import Conversation, LanguageModel, Prediction, Report, Request
from lumigator_nb.results import ProgressWriter
from lumigator_nb.specs import Launch, Model, Step, WorkflowSpec, digest, is_ground_truth
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
        self._purse = _Purse(spec, self._answers)
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
        example = self._redact(values.pop("example"))
        metadata = {
            name: self._redact(value) if isinstance(value, str) else value
            for name, value in values.items()
            if not is_ground_truth(name)
        }
        return self._conversation.request(row, example, metadata)

    def _key(self, request: Request) -> str:
        if self._answers is None:
            return ""
        key = key_of(request)
        if not self._samples:
            return key
        self._repeated[key] += 1
        return key_of(request, self._repeated[key] - 1)

    def _settle(self, request: Request, prediction: Prediction) -> None:
        clean = self._cleaned(prediction)
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

    def _cleaned(self, prediction: Prediction) -> Prediction:
        texts = {name: getattr(prediction, name) for name in ("text", "error", "prompt", "reasoning")}
        clean: dict[str, Any] = {name: self._redact(text) if text else text for name, text in texts.items()}
        return prediction if clean == texts else replace(prediction, **clean)


def _kept_answers(spec: WorkflowSpec, store: Store, progress: ProgressWriter) -> Answers | None:
    if not models.keeps_answers(spec.model):
        return None
    return open_answers(store, spec.model, spec.launch, spec.workflow_id, progress.note)


def open_answers(store: Store, model: Model, launch: Launch, owner: str, report: Report = lambda note: None) -> Answers:
    """Open the kept answers of a model that has some.

    Args:
        owner: whose files new answers go to.
    """
    if launch.cache == "off":
        return Answers(store, layout.own_answers(owner), owner)
    identity = models.identify(model, report)
    fingerprint = digest([model.fingerprint, identity]) if identity else model.fingerprint
    return Answers(store, layout.answers(fingerprint), owner, takes_others=launch.cache == "on")


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


@dataclass
class _Affordable:
    """Requests as long as there is money for them; the first that is too dear is left over."""

    purse: _Purse
    requests: Iterator[Request]
    left_over: list[Request]

    def __iter__(self) -> Iterator[Request]:
        for request in self.requests:
            if not self.purse.reserve(request):
                self.left_over.append(request)
                return
            yield request


class _Purse:
    """Keeps a workflow within its budget: what is under way counts with the most that it may cost."""

    def __init__(self, spec: WorkflowSpec, answers: Answers | None) -> None:
        self._budget = spec.launch.budget
        self._price = models.price_of(spec.model) if self._budget is not None else None
        self._discount = models.BATCH_DISCOUNT if spec.launch.mode == "batch" else 1.0
        self._longest = spec.model.generation.max_new_tokens
        self._spent = answers.spent() if answers is not None and self._price else 0.0
        self._reserved: dict[int, float] = {}
        self._reserved_sum = 0.0

    def within(self, first: Request, more: Iterator[Request]) -> _Affordable:
        """Return the requests that can be paid for."""
        return _Affordable(self, chain([first], more), [])

    def reserve(self, request: Request) -> bool:
        """Set money aside for a request; False where it might not suffice."""
        if self._budget is None or self._price is None:
            return True
        prompt = sum(models.most_tokens(turn["content"]) for turn in request.messages)
        most = self._price(prompt, self._longest) * self._discount
        if self._spent + self._reserved_sum + most > self._budget:
            return False
        self._reserved[request.row] = most
        self._reserved_sum += most
        return True

    def settle(self, request: Request, prediction: Prediction) -> None:
        """Replace what was set aside by what it cost."""
        if request.row in self._reserved:
            self._reserved_sum -= self._reserved.pop(request.row)
            self._spent += prediction.cost or 0.0

    def exceeded(self) -> BudgetReachedError:
        """The error that says so."""
        return BudgetReachedError(
            f"${self._spent:.4f} of the budget of ${self._budget:.4f} are spent, and the next question might exceed it",
            "raise it and go on where it stopped: ws.workflows.resume(…, budget=…)",
        )
