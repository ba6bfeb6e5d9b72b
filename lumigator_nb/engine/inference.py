"""The inference step: have a model answer every example, shard by shard, resuming where an attempt ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from lumigator_nb import models
from lumigator_nb.engine.asking import budget_of, open_answers
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models import Conversation, GuardedModel, LanguageModel, Prediction, Repeats, Request
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Example, Step, WorkflowSpec
from lumigator_nb.storage import results
from lumigator_nb.storage.answer_cache import Answers
from lumigator_nb.storage.results import ProgressWriter
from lumigator_nb.storage.store import Store

NOT_ASKED = "not asked yet"
# Finished shards that may wait to be written while the next are answered: a slow store then holds the asking back,
# rather than letting memory fill.
_WRITES_AHEAD = 4


@dataclass(frozen=True)
class Todo:
    """The shards of a workflow that are not finished.

    Attributes:
        shards: their numbers, ascending.
        reopened: those of them that an earlier attempt wrote, in which examples have no prediction.
    """

    shards: tuple[int, ...]
    reopened: frozenset[int]


@dataclass(frozen=True)
class Written:
    """A shard whose predictions are in the store.

    Attributes:
        n_failed: rows without a prediction.
        cost: dollars paid for it in this attempt; None without a price.
    """

    shard: int
    n_rows: int
    n_failed: int
    cost: float | None


class Listener(Protocol):
    """Takes reports of progress; :class:`ProgressWriter` is one."""

    def note(self, text: str) -> None: ...

    def begin(self, resumed: int) -> None: ...

    def advance(self, count: int, *, failed: int = 0, cost: float | None = None) -> None: ...


def infer(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> dict[str, Any]:
    """Have the model answer all examples that have no answer yet; return the details of the model for the record.

    Finished shards stay as they are. From the second attempt on, their examples without an answer are asked again.

    Raises:
        BudgetReachedError: the next question might exceed the budget; answers so far are kept.
        LumigatorError: the model can answer no further example; answers so far are kept.
    """
    todo = unfinished(spec, store)
    if not todo.shards:
        return results.find_model_details(store, spec.workflow_id)
    resumed = spec.n_examples - rows_of(spec, todo.shards)
    with Work(spec, store, progress, redact, todo.reopened, resumed=resumed) as work:
        return work.answer(todo.shards)


def unfinished(spec: WorkflowSpec, store: Store) -> Todo:
    """Return the shards that are left to do."""
    finished = results.finished_shards(store, spec.workflow_id, Step.INFERENCE)
    reopened = set()
    if spec.attempt > 1:
        for shard in finished:
            predictions = results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard)["prediction"]
            if predictions.null_count:
                reopened.add(shard)
    shards = range(-(-spec.n_examples // spec.shard_size))
    return Todo(tuple(shard for shard in shards if shard not in finished - reopened), frozenset(reopened))


def rows_of(spec: WorkflowSpec, shards: Iterable[int]) -> int:
    """Return the number of examples in shards."""
    return sum(min(spec.shard_size, spec.n_examples - shard * spec.shard_size) for shard in shards)


class Work:
    """Has the model answer examples shard by shard; leaving the context waits until all is in the store.

    Args:
        reopened: shards of an earlier attempt, whose answers are taken over.
        resumed: examples in finished shards, for the progress display.
        written: called with each shard that is in the store, from another thread.
        shared: other processes work for the same workflow. An unfinished shard is then left to them instead of being
            written with gaps, and the files of kept answers are not joined.
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
        self._answers: Answers | None = None
        if models.keeps_answers(spec.model):
            self._answers = open_answers(
                store, spec.model, spec.launch, spec.workflow_id, progress.note, joins=not shared
            )
        self._repeats = Repeats() if models.draws_answers(spec.model) else None
        self._n_counted = 0  # shards of which `_repeats` has counted the questions
        self._guarded = GuardedModel(
            spec.model,
            self._load,
            redact,
            cache=self._answers,
            budget=budget_of(store, spec),
            batch=spec.launch.mode == "batch",
            repeats=self._repeats,
        )

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._shards.close()
        finally:
            if self._answers:
                self._answers.close()

    def answer(self, shards: Iterable[int]) -> dict[str, Any]:
        """Answer what is open in shards; the model is loaded once an example needs it.

        Returns:
            Details of the model, for the record.

        Raises:
            As :func:`infer`.
        """
        self._progress.begin(self._resumed)
        try:
            self._guarded.answer(self._questions(shards), self._take)
        finally:
            if self._guarded.loaded is not None:
                results.write_model_details(self._store, self._spec.workflow_id, self._guarded.loaded.details)
        if self._guarded.loaded is None:
            return results.find_model_details(self._store, self._spec.workflow_id)
        return self._guarded.loaded.details

    def _load(self) -> LanguageModel:
        spec = self._spec
        # The rate of the display begins anew, before and after: kept answers and loading do not tell how fast the
        # model is.
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

    def _questions(self, shards: Iterable[int]) -> Iterator[Request]:
        """Yield the question about each example that has no answer yet."""
        all_columns = self._spec.task.template or models.runs_user_code(self._spec.model.provider)
        columns = None if all_columns else ["example"]
        size = self._spec.shard_size
        with results.row_reader(self._store, self._spec.dataset, columns, self._spec.sample) as rows:
            for shard in shards:
                if self._repeats is not None:
                    self._count_before(shard, rows, self._repeats)
                yield from self._questions_in(shard, results.examples_in(rows(shard * size, size), shard * size))

    def _count_before(self, shard: int, rows: Callable[[int, int], pa.Table], repeats: Repeats) -> None:
        """Count equal questions of earlier shards: the number of a question is part of its answer's key."""
        if shard < self._n_counted:
            repeats.clear()
            self._n_counted = 0
        size = self._spec.shard_size
        for earlier in range(self._n_counted, shard):
            for example in results.examples_in(rows(earlier * size, size), earlier * size):
                with suppress(InvalidInputError):
                    repeats.numbered(self._conversation.request(example, self._redact).redacted(self._redact))
        self._n_counted = shard + 1

    def _questions_in(self, shard: int, examples: Sequence[Example]) -> Iterator[Request]:
        self._shards.open(shard, len(examples))
        before: list[Prediction] = []
        if shard in self._reopened:
            before = results.read_predictions(self._store, self._spec.workflow_id, shard)
        for at, example in enumerate(examples):
            try:
                request = self._conversation.request(example, self._redact)
            except InvalidInputError as error:
                self._put(example.row, Prediction(None, error=self._redact(str(error))), None)
                continue
            if not before or before[at].text is None:
                yield request
                continue
            if self._repeats is not None:
                self._repeats.numbered(request.redacted(self._redact))
            self._put(example.row, before[at], None)

    def _take(self, request: Request, prediction: Prediction, paid_now: bool) -> None:
        self._put(request.row, prediction, prediction.cost if paid_now else None)

    def _put(self, row: int, prediction: Prediction, cost: float | None) -> None:
        self._shards.put(row, prediction, cost)
        self._progress.advance(1, failed=int(prediction.text is None), cost=cost)


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
    """Collects predictions by row, and writes each shard once it is whole, in another thread."""

    def __init__(
        self, store: Store, spec: WorkflowSpec, written: Callable[[Written], None], *, keep_partial: bool
    ) -> None:
        self._store, self._spec, self._written, self._keep_partial = store, spec, written, keep_partial
        self._open: dict[int, _OpenShard] = {}
        self._pool = ThreadPoolExecutor(1, "lumigator-shards")
        self._writes: list[Future[None]] = []
        self.rows_done = 0

    def open(self, shard: int, n_rows: int) -> None:
        """Expect the rows of a shard."""
        self._open[shard] = _OpenShard(n_rows)

    def put(self, row: int, prediction: Prediction, cost: float | None) -> None:
        """Take the prediction for a row, once, and the dollars paid for it now."""
        shard, at = divmod(row, self._spec.shard_size)
        self._open[shard].put(at, prediction, cost)
        self.rows_done += 1
        if not self._open[shard].missing:
            self._write(shard)

    def close(self) -> None:
        """Write unfinished shards, with errors in the gaps, and wait until all is written."""
        for number, shard in list(self._open.items()):
            if self._keep_partial and shard.missing < len(shard.predictions):
                self._write(number)
        self._pool.shutdown(wait=True)
        for write in self._writes:
            write.result()

    def _write(self, number: int) -> None:
        shard = self._open.pop(number)
        while len(self._writes) >= _WRITES_AHEAD:
            self._writes.pop(0).result()
        self._writes.append(self._pool.submit(self._publish, number, shard))

    def _publish(self, number: int, shard: _OpenShard) -> None:
        predictions = [prediction or Prediction(None, error=NOT_ASKED) for prediction in shard.predictions]
        results.write_predictions(self._store, self._spec, number, predictions)
        n_failed = sum(prediction.text is None for prediction in predictions)
        self._written(Written(number, len(predictions), n_failed, shard.cost))
