"""The steps of a workflow, free of Ray: each goes over the examples shard by shard and skips what is finished."""

from __future__ import annotations

import logging
import platform
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from lumigator_nb import __version__, inference, metrics, results
from lumigator_nb.errors import BudgetReachedError, LumigatorError
from lumigator_nb.keys import Redactor, redactor
from lumigator_nb.metrics import Aggregate, FloatArray, Metric
from lumigator_nb.results import ProgressWriter
from lumigator_nb.specs import Progress, Status, Step, StepResult, WorkflowSpec, now
from lumigator_nb.store import Store

log = logging.getLogger(__name__)

SCORED_ROWS_PER_FILE = 1024


Ended = Literal[Status.SUCCEEDED, Status.FAILED, Status.STOPPED]


@dataclass(frozen=True)
class _Outcome:
    n_failed: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    status: Ended = Status.SUCCEEDED
    error: str | None = None


def execute(
    step: Step,
    spec: WorkflowSpec,
    store: Store,
    redact: Redactor | None = None,
    report: Callable[[Progress], None] | None = None,
) -> StepResult:
    """Work through one step and publish its result last; a failure is a result too, never an exception.

    Args:
        redact: takes secrets out of everything that is stored; default those of this process's environment.
        report: called whenever progress is published.
    """
    redact = redact or redactor()
    started_at = now()
    log.info("%s of %s begins: %d examples", step, spec.model.label, spec.n_examples)
    try:
        outcome = _STEPS[step](spec, store, ProgressWriter(store, spec, step, report), redact)
    except BudgetReachedError as error:
        log.info("stopped: %s", error)
        outcome = _Outcome(status=Status.STOPPED, error=str(error))
    except Exception as error:
        log.exception("%s failed", step)
        trace = {} if isinstance(error, LumigatorError) else {"traceback": redact(traceback.format_exc(limit=-8))}
        message = str(error) if isinstance(error, LumigatorError) else f"{type(error).__name__}: {error}"
        outcome = _Outcome(details=trace, status=Status.FAILED, error=redact(message))
    result = StepResult(
        step=step,
        attempt=spec.attempt,
        status=outcome.status,
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


def _infer(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> _Outcome:
    finished = len(results.finished_shards(store, spec.workflow_id, Step.INFERENCE))
    used = inference.infer(spec, store, progress, redact)
    tally = results.tally(store, spec.workflow_id)
    n_failed = tally.errors.total()
    log.info("%d of %d examples answered", tally.answered, spec.n_examples)
    return _Outcome(
        n_failed=n_failed,
        details={"shards_reused": finished, **used, **tally.details},
        status=Status.FAILED if _too_many(n_failed, spec) else Status.SUCCEEDED,
        error=_unanswered(n_failed, spec, tally.errors) if _too_many(n_failed, spec) else None,
    )


def _too_many(n_failed: int, spec: WorkflowSpec) -> bool:
    return n_failed > 0 and (n_failed == spec.n_examples or n_failed > spec.launch.max_failed * spec.n_examples)


def _unanswered(n_failed: int, spec: WorkflowSpec, errors: Counter[str]) -> str:
    commonest = f"the commonest error: {errors.most_common(1)[0][0]}"
    if n_failed == spec.n_examples:
        return f"no example was answered; {commonest}"
    allowed = f"max_failed={spec.launch.max_failed:g} allows {int(spec.launch.max_failed * spec.n_examples)}"
    return f"{n_failed} of {spec.n_examples} examples have no answer, and {allowed}; {commonest}"


def _evaluate(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> _Outcome:
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


_STEPS: dict[Step, Callable[[WorkflowSpec, Store, ProgressWriter, Redactor], _Outcome]] = {
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
