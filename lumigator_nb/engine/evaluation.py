"""The evaluation step: every metric by itself, so that one that fails takes no other with it."""

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

from lumigator_nb import metrics
from lumigator_nb.engine.asking import CachedAsker, budget_of
from lumigator_nb.errors import DamagedError, ExecutionError, InvalidInputError, LumigatorError, StoreUnavailableError
from lumigator_nb.metrics import FloatArray, Judging, JuryMetric, Metric, ScoreInfo, Scores
from lumigator_nb.metrics.base import mean
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
    """What a metric found in some of a workflow's examples, or in all of them.

    Attributes:
        totals: by the score's name.
        n_rows: examples looked at; `n_empty` of their predictions are empty texts.
        signature, details, cost: of the metric, as far as it had got then.
    """

    totals: dict[str, Total] = field(default_factory=dict)
    n_rows: int = 0
    n_empty: int = 0
    signature: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    cost: float | None = None

    def add(self, other: Scored) -> None:
        """Add what was found in further examples."""
        for name, total in other.totals.items():
            self.totals.setdefault(name, Total(total.info)).merge(total)
        self.n_rows += other.n_rows
        self.n_empty += other.n_empty
        self.signature, self.details, self.cost = other.signature, other.details, other.cost


# Scores a whole workflow by one metric: here, or on several processes.
Scorer = Callable[[MetricSpec, WorkflowSpec, Store, ProgressWriter, Redactor], Scored]


def evaluate(
    spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor, scorer: Scorer
) -> list[MetricResult]:
    """Compute the metrics that the workflow's predictions do not have yet; return how each went, in order.

    Args:
        scorer: scores all examples by one metric, such as :func:`score_here`.
    """
    inference = results.find_result(store, spec.workflow_id, Step.INFERENCE)
    answers_of = inference.attempt if inference else spec.attempt
    with results.open_table(store, spec.dataset) as parquet:
        columns = parquet.schema_arrow.names
    truth = _has_ground_truth(spec, store, columns)
    found = []
    for index, metric in enumerate(spec.metrics):
        before = results.find_metric_result(store, spec.workflow_id, metric)
        if before is not None and before.error is None and before.answers_of == answers_of:
            found.append(before)
            continue
        progress.begin(0)
        if len(spec.metrics) > 1:
            progress.note(f"metric {index + 1} of {len(spec.metrics)}: {metric.title}")
        found.append(_evaluate(metric, answers_of, columns, truth, spec, store, progress, redact, scorer))
        results.write_metric_result(store, spec.workflow_id, found[-1])
    return found


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
        _refuse_impossible(asked, columns, has_ground_truth, spec)
        scored = scorer(asked, spec, store, progress, redact)
        nothing = _why_nothing(scored)
        if nothing:
            log.error("metric %s is skipped: %s", title, nothing)
            store.delete(layout.scores_folder(spec.workflow_id, asked))  # which hold nothing
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
        raise  # no fault of the metric's: the step fails, and is resumed
    except Exception as error:  # whatever a metric's own library raises
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
    """Whether at least one example has ground truth with a word in it; as a rule the first one has."""
    names = [name for name in columns if is_ground_truth(name)]
    if not names:
        return False
    shards = results.iter_shards(store, spec.dataset, names, spec.shard_size)
    return any(text and text.strip() for table in shards for column in table.columns for text in column.to_pylist())


def _refuse_impossible(asked: MetricSpec, columns: Sequence[str], has_ground_truth: bool, spec: WorkflowSpec) -> None:
    """Refuse a metric that this dataset or language rules out; what is not installed shows where it is computed."""
    metadata = [name for name in columns if not _is_text(name)]
    language = spec.task.target
    try:
        metrics.check([asked], has_ground_truth=has_ground_truth, language=language, columns=metadata, here=False)
    except InvalidInputError as error:  # its hint is for those who choose metrics
        raise InvalidInputError(error.message) from None


def _why_nothing(scored: Scored) -> str | None:
    """Return why no example has a score; None where one has."""
    found = [total.result for total in scored.totals.values()]
    if not found or any(result.n_scored for result in found):
        return None
    reasons = found[0].unscored
    if len(reasons) == 1:
        return f"no example has a score: {next(iter(reasons))}"
    return f"no example has a score: {'; '.join(f'{reason} ({n:,})' for reason, n in reasons.items())}"


def score_here(
    asked: MetricSpec, spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor
) -> Scored:
    """Score all examples of a workflow in this process, judges included.

    Raises:
        Whatever the metric's own library does.
    """
    metric = metrics.create(asked)
    metric.prepare()
    scored = Scored()
    with ExitStack() as opened:
        if isinstance(metric, (Judging, JuryMetric)):
            metric.ask = opened.enter_context(
                CachedAsker(
                    store,
                    spec.launch,
                    spec.workflow_id,
                    redact,
                    budget_of(store, spec),
                    note=lambda label, text: progress.note(text),
                    paid=progress.spend,
                )
            )
            metric.set_task(spec.judged_task or spec.task)
        score = opened.enter_context(group_scorer(asked, metric, spec, store))
        for group in range(n_groups(spec)):
            found = score(group)
            scored.add(found)
            progress.advance(found.n_rows)
    return scored


def n_groups(spec: WorkflowSpec) -> int:
    """Return how many files the scores of a workflow's examples go into."""
    return -(-spec.n_examples // _group_size(spec))


@contextmanager
def group_scorer(
    asked: MetricSpec, metric: Metric, spec: WorkflowSpec, store: Store, *, all_cores: bool = True
) -> Iterator[Callable[[int], Scored]]:
    """Yield what scores one group of examples, some thousands of them, and publishes their scores.

    Args:
        metric: made from `asked`, and prepared.
        all_cores: take all of the machine's where a metric is slow; not where other processes score beside this one.
    """
    size = _group_size(spec)
    columns = None if "metadata" in metric.needs else _is_text

    def score(group: int) -> Scored:
        first = group * size
        rows = results.examples_in(read(first, size), first)
        predictions = _predictions(spec, store, first, len(rows))
        metadata = [example.metadata for example in rows] if "metadata" in metric.needs else None
        examples, truth = [example.text for example in rows], [example.references for example in rows]
        if all_cores:
            scores = parallel.score(asked, metric, predictions, truth, examples, metadata)
        else:
            scores = metric.score(predictions, truth, examples, metadata)
        results.write_scores(store, spec.workflow_id, asked, group, first, scores)
        found = Scored({}, len(rows), predictions.count(""), metric.signature, metric.details, metric.cost)
        for each in scores:
            found.totals.setdefault(each.info.name, Total(each.info)).add(each)
        return found

    with results.row_reader(store, spec.dataset, columns, spec.sample) as read:
        yield score


def _group_size(spec: WorkflowSpec) -> int:
    """Examples per file of scores: whole shards of predictions, so that none is read twice."""
    return max(1, SCORED_ROWS_PER_FILE // spec.shard_size) * spec.shard_size


def _is_text(column: str) -> bool:
    return column == "example" or is_ground_truth(column)


def _predictions(spec: WorkflowSpec, store: Store, first: int, count: int) -> list[str | None]:
    shards = range(first // spec.shard_size, -(-(first + count) // spec.shard_size))
    parts = (results.read_shard(store, spec.workflow_id, Step.INFERENCE, shard) for shard in shards)
    return [text for part in parts for text in part["prediction"].to_pylist()]


class Total:
    """The running sum of a score's sufficient statistics, which is all that its overall value needs."""

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
        """What it comes to."""
        overall = float(self.info.aggregate(np.asarray(self._sum), self._count)) if self._count else None
        low, high = (None if np.isinf(bound) else float(bound) for bound in self.info.range)
        # A judge's failures each have words of their own.
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
