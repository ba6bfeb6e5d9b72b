"""The steps of a workflow, free of Ray: each goes over the examples shard by shard and skips what is finished."""

from __future__ import annotations

import logging
import platform
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lumigator_nb import __version__, metrics, models, results
from lumigator_nb.metrics import Aggregate, FloatArray, Metric
from lumigator_nb.results import ProgressWriter
from lumigator_nb.specs import Status, Step, StepResult, WorkflowSpec, now
from lumigator_nb.store import Store

log = logging.getLogger(__name__)

SCORED_ROWS_PER_FILE = 1024


@dataclass(frozen=True)
class _Outcome:
    n_failed: int
    scores: dict[str, float]
    details: dict[str, Any]
    error: str | None = None


def execute(step: Step, spec: WorkflowSpec, store: Store) -> StepResult:
    """Work through one step and publish its result last; a failure is a result too, never an exception."""
    started_at = now()
    log.info("%s of %s begins: %d examples", step, spec.model.label, spec.n_examples)
    try:
        outcome = _STEPS[step](spec, store, ProgressWriter(store, spec, step))
    except Exception as error:
        log.exception("%s failed", step)
        outcome = _Outcome(0, {}, {"traceback": traceback.format_exc(limit=-8)}, f"{type(error).__name__}: {error}")
    result = StepResult(
        step=step,
        attempt=spec.attempt,
        status=Status.FAILED if outcome.error else Status.SUCCEEDED,
        started_at=started_at,
        finished_at=now(),
        n_examples=spec.n_examples,
        n_failed=outcome.n_failed,
        error=outcome.error,
        scores=outcome.scores,
        details={**outcome.details, "lumigator_nb": __version__, "python": platform.python_version()},
    )
    results.write_result(store, spec.workflow_id, result)
    log.info("%s ended: %s", step, result.status)
    return result


def _infer(spec: WorkflowSpec, store: Store, progress: ProgressWriter) -> _Outcome:
    shards = -(-spec.n_examples // spec.shard_size)
    finished = results.finished_shards(store, spec.workflow_id, Step.INFERENCE)
    details: dict[str, Any] = {"shards_reused": len(finished)}
    if len(finished) < shards:
        model = models.load(spec.model, spec.task, progress.note)
        details |= model.details
        progress.begin(_rows_in(finished, spec))
        for shard, table in _unfinished(spec, store, finished):
            predictions = model.predict(table["example"].to_pylist())
            results.write_predictions(store, spec, shard, predictions)
            progress.advance(len(predictions))
    errors = _prediction_errors(spec, store)
    n_failed = errors.total()
    error = None
    if n_failed == spec.n_examples:
        error = f"no example was answered; the commonest error: {errors.most_common(1)[0][0]}"
    return _Outcome(n_failed, {}, details, error)


def _evaluate(spec: WorkflowSpec, store: Store, progress: ProgressWriter) -> _Outcome:
    chosen = [metrics.create(metric) for metric in spec.metrics]
    # Scores are cheap beside predictions, so an evaluation that was cut off begins anew.
    progress.begin(0)
    totals: dict[str, _Total] = {}
    per_file = max(1, SCORED_ROWS_PER_FILE // spec.shard_size)
    tables = results.iter_shards(store, spec.dataset, ["example", "ground_truth"], per_file * spec.shard_size)
    for index, table in enumerate(tables):
        predictions = _predictions(spec, store, range(index * per_file, (index + 1) * per_file))
        scores = [score for metric in chosen for score in _score(metric, table, predictions)]
        for score in scores:
            totals.setdefault(score.info.name, _Total(score.info.aggregate)).add(score.statistics)
        if scores:
            results.write_scores(store, spec, index, index * per_file * spec.shard_size, scores)
        progress.advance(len(table))
    return _Outcome(
        n_failed=max((total.unscored for total in totals.values()), default=0),
        scores={name: total.overall for name, total in totals.items() if total.count},
        details={
            "signatures": {metric.name: metric.signature for metric in chosen},
            "n_scored": {name: total.count for name, total in totals.items()},
        },
    )


_STEPS: dict[Step, Callable[[WorkflowSpec, Store, ProgressWriter], _Outcome]] = {
    Step.INFERENCE: _infer,
    Step.EVALUATION: _evaluate,
}


class _Total:
    """The running sum of a score's sufficient statistics, which is all that its overall value needs."""

    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._sum: FloatArray | float = 0.0
        self.count = 0
        self.unscored = 0

    def add(self, statistics: FloatArray) -> None:
        scored = statistics[~np.isnan(statistics).any(axis=1)]
        self._sum = self._sum + scored.sum(axis=0)
        self.count += len(scored)
        self.unscored += len(statistics) - len(scored)

    @property
    def overall(self) -> float:
        return float(self._aggregate(np.asarray(self._sum), self.count))


def _predictions(spec: WorkflowSpec, store: Store, shards: range) -> list[str | None]:
    last = -(-spec.n_examples // spec.shard_size)
    parts = (results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard) for shard in shards if shard < last)
    return [text for part in parts for text in part["prediction"].to_pylist()]


def _score(metric: Metric, table: pa.Table, predictions: list[str | None]) -> list[metrics.Score]:
    blank = [None] * len(table)
    ground_truth = table["ground_truth"].to_pylist() if "ground_truth" in table.column_names else blank
    return metric.score(predictions, ground_truth, table["example"].to_pylist())


def _unfinished(spec: WorkflowSpec, store: Store, finished: set[int]) -> Iterator[tuple[int, pa.Table]]:
    shards = results.iter_shards(store, spec.dataset, ["example"], spec.shard_size)
    return ((shard, table) for shard, table in enumerate(shards) if shard not in finished)


def _rows_in(shards: set[int], spec: WorkflowSpec) -> int:
    return sum(min(spec.shard_size, spec.n_examples - shard * spec.shard_size) for shard in shards)


def _prediction_errors(spec: WorkflowSpec, store: Store) -> Counter[str]:
    errors: Counter[str] = Counter()
    for shard in results.finished_shards(store, spec.workflow_id, Step.INFERENCE):
        column = results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard)["error"]
        errors.update(error for error in column.to_pylist() if error is not None)
    return errors
