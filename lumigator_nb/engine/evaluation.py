"""The evaluation step: compute each metric by itself, so that one failure leaves the others alone."""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from lumigator_nb import metrics
from lumigator_nb.engine.asking import CachedAsker, budget_of
from lumigator_nb.errors import DamagedError, ExecutionError, InvalidInputError, LumigatorError, StoreUnavailableError
from lumigator_nb.metrics import FloatArray, Judging, JuryMetric, Metric, ScoreInfo, Scores
from lumigator_nb.metrics.base import FACTS, mean
from lumigator_nb.metrics.kernels import parallel
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import MetricResult, MetricSpec, ScoreResult, Step, WorkflowSpec, is_ground_truth
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.results import ProgressWriter
from lumigator_nb.storage.store import Store

log = logging.getLogger(__name__)

SCORED_ROWS_PER_FILE = 4096
_MOST_REASONS, _LONGEST_REASON = 10, 200


@dataclass
class Scored:
    """Sums of a metric's scores over some or all examples of a workflow.

    Attributes:
        totals: by name of the score.
        n_rows: number of examples; the predictions of `n_empty` are empty texts.
        signature, details, cost: of the metric after these examples.
    """

    totals: dict[str, Total] = field(default_factory=dict)
    n_rows: int = 0
    n_empty: int = 0
    signature: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    cost: float | None = None

    def add(self, other: Scored) -> None:
        """Add the sums over further examples."""
        for name, total in other.totals.items():
            self.totals.setdefault(name, Total(total.info)).merge(total)
        self.n_rows += other.n_rows
        self.n_empty += other.n_empty
        self.signature, self.details, self.cost = other.signature, other.details, other.cost


# Scores a whole workflow by one metric, in this process or in several.
Scorer = Callable[[MetricSpec, WorkflowSpec, Store, ProgressWriter, Redactor], Scored]


def evaluate(
    spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor, scorer: Scorer
) -> list[MetricResult]:
    """Compute the metrics that are missing for the workflow's predictions; return the results of all, in order.

    Args:
        scorer: scores all examples by one metric, such as :func:`score_here`.
    """
    inference = results.find_result(store, spec.workflow_id, Step.INFERENCE)
    answers_of = inference.attempt if inference else spec.attempt
    with results.open_table(store, spec.dataset) as parquet:
        columns = parquet.schema_arrow.names
    truth = _has_ground_truth(spec, store, columns)
    metric_results = []
    for index, metric in enumerate(spec.metrics):
        before = results.find_metric_result(store, spec.workflow_id, metric)
        # A result stays valid until an attempt changes the predictions.
        if before is not None and before.error is None and before.answers_of == answers_of:
            metric_results.append(before)
            continue
        progress.begin(0)
        if len(spec.metrics) > 1:
            progress.note(f"metric {index + 1} of {len(spec.metrics)}: {metric.title}")
        result = _evaluate(metric, answers_of, columns, truth, spec, store, progress, redact, scorer)
        results.write_metric_result(store, spec.workflow_id, result)
        metric_results.append(result)
    return metric_results


def _evaluate(
    asked: MetricSpec,
    answers_of: int,
    columns: Sequence[str],
    has_ground_truth: bool,
    spec: WorkflowSpec,
    store: Store,
    progress: ProgressWriter,
    redact: Redactor,
    scorer: Scorer,
) -> MetricResult:
    store.delete(layout.scores_folder(spec.workflow_id, asked))
    started, title = time.monotonic(), asked.title
    try:
        metadata = [name for name in columns if not _is_text(name)]
        language = spec.task.target
        try:
            # A missing package shows where the metric is computed, which may be another process.
            metrics.check([asked], has_ground_truth=has_ground_truth, language=language, columns=metadata, here=False)
        except InvalidInputError as error:
            # Without its hint, which is for those who choose metrics.
            raise InvalidInputError(error.message) from None
        scored = scorer(asked, spec, store, progress, redact)
        nothing = _why_nothing(scored)
        if nothing:
            log.error("metric %s is skipped: %s", title, nothing)
            store.delete(layout.scores_folder(spec.workflow_id, asked))
        return MetricResult(
            metric=asked,
            title=title,
            answers_of=answers_of,
            signature="" if nothing else scored.signature,
            scores={} if nothing else {name: total.result for name, total in scored.totals.items()},
            error=nothing,
            n_empty=scored.n_empty,
            cost=scored.cost,
            details=scored.details,
            seconds=time.monotonic() - started,
        )
    except (StoreUnavailableError, DamagedError, ExecutionError):
        raise  # not the metric's fault: the step fails, and can be resumed
    except Exception as error:  # anything that a metric's library may raise
        message = str(error) if isinstance(error, LumigatorError) else f"{type(error).__name__}: {error}"
        log.error("metric %s is skipped: %s", title, redact(message))
        if not isinstance(error, LumigatorError):
            log.info("%s", redact(traceback.format_exc(limit=-8)))
        return MetricResult(
            metric=asked,
            title=title,
            answers_of=answers_of,
            error=redact(message),
            seconds=time.monotonic() - started,
        )


def _has_ground_truth(spec: WorkflowSpec, store: Store, columns: Sequence[str]) -> bool:
    """Whether an example has ground truth that is not blank; it reads no further than to the first such example."""
    names = [name for name in columns if is_ground_truth(name)]
    if not names:
        return False
    shards = results.iter_shards(store, spec.dataset, names, spec.shard_size)
    return any(text and text.strip() for table in shards for column in table.columns for text in column.to_pylist())


def _why_nothing(scored: Scored) -> str | None:
    """Return the reason why no example has a score; None where one has."""
    scores = [total.result for total in scored.totals.values()]
    if not scores or any(score.n_scored for score in scores):
        return None
    reasons = scores[0].unscored
    if len(reasons) == 1:
        return f"no example has a score: {next(iter(reasons))}"
    return f"no example has a score: {'; '.join(f'{reason} ({n:,})' for reason, n in reasons.items())}"


def score_here(
    asked: MetricSpec, spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor
) -> Scored:
    """Score all examples of a workflow in this process; judges are asked from here, too.

    Raises:
        Exception: any that the metric's library raises.
    """
    metric = metrics.create(asked)
    metric.prepare()
    scored = Scored()
    with ExitStack() as opened:
        if isinstance(metric, (Judging, JuryMetric)):
            ask = CachedAsker(
                store, spec.launch, spec.workflow_id, redact, budget_of(store, spec),
                note=lambda label, text: progress.note(text), paid=progress.spend,
            )  # fmt: skip
            metric.ask = opened.enter_context(ask)
            metric.set_task(spec.judged_task or spec.task)
        score = opened.enter_context(group_scorer(asked, metric, spec, store))
        for group in range(n_groups(spec)):
            part = score(group)
            scored.add(part)
            progress.advance(part.n_rows)
    return scored


def n_groups(spec: WorkflowSpec) -> int:
    """Return the number of files that hold the scores of a workflow's examples."""
    return -(-spec.n_examples // _group_size(spec))


@contextmanager
def group_scorer(
    asked: MetricSpec, metric: Metric, spec: WorkflowSpec, store: Store, *, all_cores: bool = True
) -> Iterator[Callable[[int], Scored]]:
    """Yield a function that scores one group of some thousand examples, by its number, and stores the scores.

    Args:
        metric: created from `asked`, and prepared.
        all_cores: let a slow metric use all cores; False where other processes score on the same machine.
    """
    size = _group_size(spec)
    columns = None if "metadata" in metric.needs else _is_text

    def score_group(group: int) -> Scored:
        first = group * size
        rows = results.examples_in(read(first, size), first)
        answers = _answers(spec, store, first, len(rows))
        predictions = [text for part in answers for text in part["prediction"].to_pylist()]
        facts = None
        if "facts" in metric.needs:
            facts = [row for part in answers for row in part.select(FACTS).to_pylist()]
        metadata = [example.metadata for example in rows] if "metadata" in metric.needs else None
        examples, truth = [example.text for example in rows], [example.references for example in rows]
        if all_cores:
            scores = parallel.score(asked, metric, predictions, truth, examples, metadata, facts)
        else:
            scores = metric.score(predictions, truth, examples, metadata, facts)
        results.write_scores(store, spec.workflow_id, asked, group, first, scores)
        scored = Scored({}, len(rows), predictions.count(""), metric.signature, metric.details, metric.cost)
        for score in scores:
            scored.totals.setdefault(score.info.name, Total(score.info)).add(score)
        return scored

    with results.row_reader(store, spec.dataset, columns, spec.sample) as read:
        yield score_group


def _group_size(spec: WorkflowSpec) -> int:
    """Return the examples per file of scores: whole shards of predictions, so that none is read twice."""
    return max(1, SCORED_ROWS_PER_FILE // spec.shard_size) * spec.shard_size


def _is_text(column: str) -> bool:
    return column == "example" or is_ground_truth(column)


def _answers(spec: WorkflowSpec, store: Store, first: int, count: int) -> list[pa.Table]:
    shards = range(first // spec.shard_size, -(-(first + count) // spec.shard_size))
    return [results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard) for shard in shards]


class Total:
    """The running sum of a score's sufficient statistics, from which its overall value is computed."""

    def __init__(self, info: ScoreInfo) -> None:
        self.info = info
        self._sum: FloatArray | float = 0.0
        self._values = 0.0
        self._count = 0
        self._unscored: Counter[str] = Counter()

    def add(self, scores: Scores) -> None:
        """Add the scores of some examples."""
        scored = scores.statistics[scores.scored]
        self._sum = self._sum + scored.sum(axis=0)
        self._values += float(scores.values[scores.scored].sum())
        self._count += len(scored)
        self._unscored.update(scores.unscored)

    def merge(self, other: Total) -> None:
        """Add the sum over other examples."""
        self._sum = self._sum + other._sum
        self._values += other._values
        self._count += other._count
        self._unscored.update(other._unscored)

    @property
    def result(self) -> ScoreResult:
        """The score over all examples added so far."""
        overall = float(self.info.aggregate(np.asarray(self._sum), self._count)) if self._count else None
        low, high = (None if np.isinf(bound) else float(bound) for bound in self.info.range)
        # Each failure of a judge may be worded differently, so only the commonest reasons are kept.
        common = Counter(
            {reason[:_LONGEST_REASON]: count for reason, count in self._unscored.most_common(_MOST_REASONS)}
        )
        if others := self._unscored.total() - common.total():
            common["other reasons"] = others
        return ScoreResult(
            overall=overall,
            mean=self._values / self._count if self._count and self.info.aggregate is not mean else None,
            n_scored=self._count,
            unscored=dict(common),
            description=self.info.description,
            higher_is_better=self.info.higher_is_better,
            range=(low, high),
        )
