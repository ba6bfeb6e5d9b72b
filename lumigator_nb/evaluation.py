"""The evaluation step: every metric by itself, so that one that fails takes no other with it."""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from lumigator_nb import layout, metrics, results
from lumigator_nb.errors import DamagedError, LumigatorError, StoreUnavailableError
from lumigator_nb.kept import KeptAsking
from lumigator_nb.keys import Redactor
from lumigator_nb.metrics import FloatArray, Judging, JuryMetric, Metric, ScoreInfo, Scores, parallel
from lumigator_nb.metrics.judge import TASK
from lumigator_nb.results import ProgressWriter
from lumigator_nb.specs import MetricResult, MetricSpec, Model, ScoreResult, Step, WorkflowSpec, is_ground_truth
from lumigator_nb.store import Store

log = logging.getLogger(__name__)

SCORED_ROWS_PER_FILE = 4096
_MOST_REASONS, _LONGEST_REASON = 10, 200


def evaluate(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> list[MetricResult]:
    """Compute the metrics that the workflow's predictions do not have yet; return how each went, in order."""
    inference = results.find_result(store, spec.workflow_id, Step.INFERENCE)
    answers_of = inference.attempt if inference else spec.attempt
    found = []
    for index, metric in enumerate(spec.metrics):
        before = results.find_metric_result(store, spec.workflow_id, metric)
        if before is not None and before.error is None and before.answers_of == answers_of:
            found.append(before)
            continue
        progress.begin(0)
        if len(spec.metrics) > 1:
            progress.note(f"metric {index + 1} of {len(spec.metrics)}: {metric.title}")
        found.append(_evaluate(metric, answers_of, spec, store, progress, redact))
        results.write_metric_result(store, spec.workflow_id, found[-1])
    return found


def _evaluate(
    asked: MetricSpec, answers_of: int, spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor
) -> MetricResult:
    store.delete(layout.scores_folder(spec.workflow_id, asked))
    started, title = time.monotonic(), asked.title
    try:
        metric = metrics.create(asked)
        metric.prepare()
        if isinstance(metric, (Judging, JuryMetric)):
            metric.ask = _asker(spec, store, progress, redact)
        totals, n_empty = _score_shards(asked, metric, spec, store, progress)
        return MetricResult(
            metric=asked,
            title=title,
            answers_of=answers_of,
            signature=metric.signature,
            scores={name: total.result for name, total in totals.items()},
            n_empty=n_empty,
            cost=metric.cost,
            details=metric.details,
            seconds=time.monotonic() - started,
        )
    except (StoreUnavailableError, DamagedError):
        raise  # no fault of the metric's: the step fails, and is resumed
    except Exception as error:  # whatever a metric's own library raises
        message = str(error) if isinstance(error, LumigatorError) else f"{type(error).__name__}: {error}"
        log.error("metric %s failed: %s", title, redact(message))
        if not isinstance(error, LumigatorError):
            log.info("%s", redact(traceback.format_exc(limit=-8)))
        return MetricResult(
            metric=asked,
            title=title,
            answers_of=answers_of,
            error=redact(message),
            seconds=time.monotonic() - started,
        )


def _asker(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> KeptAsking:
    def spent(judge: Model) -> float:
        others = [each for each in spec.metrics if judge not in metrics.models_of([each])]
        found = [results.find_metric_result(store, spec.workflow_id, metric) for metric in others]
        return sum(each.cost or 0.0 for each in found if each) + (results.tally(store, spec.workflow_id).cost or 0.0)

    return KeptAsking(
        store, spec.launch, spec.workflow_id, redact, TASK, progress.note, spent=spent, answered=progress.spend
    )


def _score_shards(
    asked: MetricSpec, metric: Metric, spec: WorkflowSpec, store: Store, progress: ProgressWriter
) -> tuple[dict[str, _Total], int]:
    totals: dict[str, _Total] = {}
    first = n_empty = 0
    for shard, (predictions, table) in enumerate(_shards(metric, spec, store)):
        truth = _references(table)
        metadata = _metadata(table) if "metadata" in metric.needs else None
        scores = parallel.score(asked, metric, predictions, truth, table["example"].to_pylist(), metadata)
        results.write_scores(store, spec.workflow_id, asked, shard, first, scores)
        for each in scores:
            totals.setdefault(each.info.name, _Total(each.info)).add(each)
        n_empty += predictions.count("")
        first += len(table)
        progress.advance(len(table))
    return totals, n_empty


def _shards(metric: Metric, spec: WorkflowSpec, store: Store) -> Iterator[tuple[list[str | None], pa.Table]]:
    """Yield predictions and the rows that they belong to, some thousands at once."""
    per_file = max(1, SCORED_ROWS_PER_FILE // spec.shard_size)
    columns = None if "metadata" in metric.needs else _is_text
    for index, table in enumerate(results.iter_shards(store, spec.dataset, columns, per_file * spec.shard_size)):
        yield _predictions(spec, store, range(index * per_file, (index + 1) * per_file)), table


def _is_text(column: str) -> bool:
    return column == "example" or is_ground_truth(column)


def _predictions(spec: WorkflowSpec, store: Store, shards: range) -> list[str | None]:
    last = -(-spec.n_examples // spec.shard_size)
    parts = (results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard) for shard in shards if shard < last)
    return [text for part in parts for text in part["prediction"].to_pylist()]


def _references(table: pa.Table) -> list[tuple[str, ...]]:
    columns = [table[name].to_pylist() for name in table.column_names if is_ground_truth(name)]
    if not columns:
        return [()] * len(table)
    return [tuple(text for text in row if text is not None) for row in zip(*columns, strict=True)]


def _metadata(table: pa.Table) -> list[dict[str, Any]]:
    kept = [name for name in table.column_names if not _is_text(name)]
    return list(table.select(kept).to_pylist()) if kept else [{} for _ in range(len(table))]


class _Total:
    """The running sum of a score's sufficient statistics, which is all that its overall value needs."""

    def __init__(self, info: ScoreInfo) -> None:
        self._info = info
        self._sum: FloatArray | float = 0.0
        self._count = 0
        self._unscored: Counter[str] = Counter()

    def add(self, scores: Scores) -> None:
        scored = scores.statistics[scores.scored]
        self._sum = self._sum + scored.sum(axis=0)
        self._count += len(scored)
        self._unscored.update(scores.unscored)

    @property
    def result(self) -> ScoreResult:
        overall = float(self._info.aggregate(np.asarray(self._sum), self._count)) if self._count else None
        low, high = (None if np.isinf(bound) else float(bound) for bound in self._info.range)
        # A judge's failures each have words of their own.
        common = Counter(
            {reason[:_LONGEST_REASON]: count for reason, count in self._unscored.most_common(_MOST_REASONS)}
        )
        if others := self._unscored.total() - common.total():
            common["other reasons"] = others
        return ScoreResult(
            overall=overall,
            n_scored=self._count,
            unscored=dict(common),
            description=self._info.description,
            higher_is_better=self._info.higher_is_better,
            range=(low, high),
        )
