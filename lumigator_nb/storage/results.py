"""A workflow's files in the store: predictions and scores shard by shard, progress, and each step's result."""

from __future__ import annotations

import json
import re
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from lumigator_nb.errors import DamagedError, LumigatorError
from lumigator_nb.metrics import Scores
from lumigator_nb.models import Prediction
from lumigator_nb.specs import (
    Example,
    MetricResult,
    MetricSpec,
    Progress,
    Sample,
    Step,
    StepResult,
    Value,
    WorkflowSpec,
    is_ground_truth,
    now,
)  # fmt: skip
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

V = TypeVar("V", bound=Value)

PREDICTION_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("prediction", pa.string()),
        ("error", pa.string()),
        ("prompt", pa.string()),
        ("reasoning", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("cache_read_tokens", pa.int64()),
        ("cache_write_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("first_token_seconds", pa.float64()),
        ("cost", pa.float64()),
        ("cached", pa.bool_()),
        ("truncated", pa.bool_()),
        ("finish", pa.string()),
    ]
)
TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cache_read_tokens", "cache_write_tokens")
# The columns that have the names of a prediction's fields; only its text has another name.
_FIELDS = [name for name in PREDICTION_SCHEMA.names if name not in ("row", "prediction")]
_READERS = 8  # files read at the same time
STATISTICS_SUFFIX, REASON_SUFFIX = ".statistics", ".reason"


def write_predictions(store: Store, spec: WorkflowSpec, shard: int, predictions: Sequence[Prediction]) -> None:
    """Publish the predictions of a shard, whose first row is ``shard * spec.shard_size``."""
    first = shard * spec.shard_size
    columns: dict[str, Sequence[Any]] = {
        "row": range(first, first + len(predictions)),
        "prediction": [prediction.text for prediction in predictions],
        **{name: [getattr(prediction, name) for prediction in predictions] for name in _FIELDS},
    }
    table = pa.table(columns, schema=PREDICTION_SCHEMA)
    _write_table(store, layout.part(spec.workflow_id, Step.INFERENCE, shard), table)


def read_predictions(store: Store, workflow_id: str, shard: int) -> list[Prediction]:
    """Return the predictions of a finished shard, in the order of its rows."""
    table = read_shard(store, workflow_id, Step.INFERENCE, shard)
    # Shards of earlier versions lack the newer columns.
    present = [name for name in _FIELDS if name in table.column_names]
    return [
        Prediction(row["prediction"], **{name: row[name] for name in present if row[name] is not None})
        for row in table.to_pylist()
    ]


@dataclass
class Tally:
    """Totals of a workflow's predictions.

    Attributes:
        answered: number of examples with a prediction; `cached` of them came from the answer cache.
        errors: number of occurrences of each error.
        truncated: number of inputs that were cut to fit the model.
        cut_off: number of answers that stopped at `max_new_tokens`.
        cost: what all answers cost when they were made, in dollars; None if none of them has a price.
        seconds: latencies of the answers, one array per shard, in seconds.
    """

    answered: int = 0
    cached: int = 0
    truncated: int = 0
    cut_off: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost: float | None = None
    errors: Counter[str] = field(default_factory=Counter)
    seconds: list[np.ndarray] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Add a shard."""
        # Not at the top of the file: workers with plain metrics never need it.
        import pyarrow.compute as pc

        self.errors.update(error for error in table["error"].to_pylist() if error is not None)
        answered = table.filter(pc.is_valid(table["prediction"]))
        self.answered += len(answered)
        self.cached += pc.sum(answered["cached"]).as_py() or 0
        self.seconds.append(answered["seconds"].drop_null().to_numpy())
        # From here on all rows count: a model that reasons until its tokens are used up costs money without an answer.
        self.truncated += pc.sum(table["truncated"]).as_py() or 0
        self.cut_off += pc.sum(pc.equal(table["finish"], "length")).as_py() or 0
        for name in TOKENS:
            setattr(self, name, getattr(self, name) + (pc.sum(table[name]).as_py() or 0))
        cost = pc.sum(table["cost"]).as_py()
        self.cost = self.cost if cost is None else (self.cost or 0.0) + cost

    @property
    def details(self) -> dict[str, Any]:
        """The counts that are not zero, and the median and 95th percentile of the latency, for the database."""
        names = ("answered", "cached", "truncated", "cut_off", *TOKENS)
        details: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name)}
        if self.cost is not None:
            details["cost"] = self.cost
        seconds = np.concatenate(self.seconds) if self.seconds else np.empty(0)
        if len(seconds):
            details["seconds_p50"] = float(np.quantile(seconds, 0.5))
            details["seconds_p95"] = float(np.quantile(seconds, 0.95))
        return details


def tally(store: Store, workflow_id: str) -> Tally:
    """Count the predictions in the finished shards of a workflow, with one shard in memory at a time."""
    total = Tally()
    for shard in sorted(finished_shards(store, workflow_id, Step.INFERENCE)):
        table = read_shard(store, workflow_id, Step.INFERENCE, shard)
        # Shards of earlier versions lack the newer columns.
        for column in PREDICTION_SCHEMA:
            if column.name not in table.column_names:
                table = table.append_column(column, pa.nulls(len(table), column.type))
        total.add(table)
    return total


def write_scores(
    store: Store, workflow_id: str, metric: MetricSpec, shard: int, first_row: int, scores: Sequence[Scores]
) -> None:
    """Publish a metric's scores of consecutive rows from `first_row` on.

    Sufficient statistics are stored only for scores whose overall value is not the mean of the rows' values.
    """
    # All scores of a metric are of the same rows.
    count = len(scores[0].values)
    columns: dict[str, pa.Array] = {"row": pa.array(range(first_row, first_row + count), pa.int64())}
    for score in scores:
        columns[score.info.name] = pa.array(score.values, pa.float64(), from_pandas=True)
        if score.statistics.shape[1] > 1:
            rows = [None if np.isnan(row).any() else row for row in score.statistics]
            columns[score.info.name + STATISTICS_SUFFIX] = pa.array(rows, pa.list_(pa.float64()))
        if any(score.reasons):
            columns[score.info.name + REASON_SUFFIX] = pa.array(score.reasons, pa.string())
    _write_table(store, layout.scores_part(workflow_id, metric, shard), pa.table(columns))


def write_metric_result(store: Store, workflow_id: str, result: MetricResult) -> None:
    """Publish a metric's result. Call it after :func:`write_scores`, since readers trust the scores of a result."""
    _write_value(store, layout.metric_result(workflow_id, result.metric), result)


def find_metric_result(store: Store, workflow_id: str, metric: MetricSpec) -> MetricResult | None:
    """Return a metric's result, or None if it has not been computed."""
    return _find_value(store, layout.metric_result(workflow_id, metric), MetricResult)


def read_scores(store: Store, workflow_id: str, metrics: Sequence[MetricSpec]) -> pd.DataFrame:
    """Return the scores of all examples, of the metrics that have been computed: `row`, and a column for each score.

    Some scores have further columns, ``<score>.statistics`` and ``<score>.reason``.
    """
    import pandas as pd

    # In earlier versions, all metrics shared the step's files; now each has a folder.
    frames = [read_step(store, workflow_id, Step.EVALUATION)]
    names = store.list(layout.step_folder(workflow_id, Step.EVALUATION))
    for metric in metrics:
        folder = layout.scores_folder(workflow_id, metric)
        parts = [name for name in names if name.startswith(f"{folder}/part-")]
        if parts:
            frames.append(_read_tables(store, parts).to_pandas())
    filled = [frame.set_index("row") for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame({"row": []})
    joined = pd.concat(filled, axis=1)
    # A metric that was computed again is in both places; the folder's scores are the newer ones.
    return joined.loc[:, ~joined.columns.duplicated(keep="last")].reset_index()


def finished_shards(store: Store, workflow_id: str, step: Step) -> set[int]:
    """Return the indices of the shards whose files exist."""
    names = store.list(layout.step_folder(workflow_id, step))
    # With the step's folder in the pattern, since the metrics' folders below it have parts, too.
    matches = (re.search(rf"/{step}/part-(\d+)\.parquet$", name) for name in names)
    return {int(match[1]) for match in matches if match}


def read_step(store: Store, workflow_id: str, step: Step) -> pd.DataFrame:
    """Return the finished shards of a step in one frame, ordered by `row`; empty if there are none yet."""
    import pandas as pd

    names = [layout.part(workflow_id, step, shard) for shard in sorted(finished_shards(store, workflow_id, step))]
    # An empty frame gets its columns, so that callers need no special case.
    if not names:
        return pd.DataFrame(columns=PREDICTION_SCHEMA.names)
    frame: pd.DataFrame = _read_tables(store, names).to_pandas()
    return frame


def read_shard(store: Store, workflow_id: str, step: Step, shard: int) -> pa.Table:
    """Return one finished shard."""
    return _read_table(store, layout.part(workflow_id, step, shard))


def iter_shards(
    store: Store,
    name: str,
    columns: Sequence[str] | Callable[[str], bool] | None,
    shard_size: int,
    sample: Sample | None = None,
) -> Iterator[pa.Table]:
    """Yield consecutive tables of `shard_size` rows (the last may be shorter) of a Parquet file in the store.

    Args:
        columns: names of the columns to read, where absent ones are ignored; or a function that returns whether to read
            a column; None for all.
        sample: the rows to read; None for all.
    """
    if sample is not None:
        with row_reader(store, name, columns, sample) as rows:
            for first in range(0, sample.n, shard_size):
                yield rows(first, shard_size)
        return
    with open_table(store, name) as parquet:
        present = _present(parquet, columns)
        waiting: list[pa.Table] = []
        # Small shards are cut from larger batches: each batch has a fixed cost.
        for batch in parquet.iter_batches(batch_size=max(shard_size, 1024), columns=present):
            waiting.append(pa.Table.from_batches([batch]))
            table = pa.concat_tables(waiting)
            whole = len(table) - len(table) % shard_size
            yield from (table.slice(start, shard_size) for start in range(0, whole, shard_size))
            waiting = [table.slice(whole)]
        rest = pa.concat_tables(waiting) if waiting else None
        if rest is not None and len(rest):
            yield rest


def _present(parquet: pq.ParquetFile, columns: Sequence[str] | Callable[[str], bool] | None) -> list[str]:
    names: list[str] = parquet.schema_arrow.names
    if callable(columns):
        return [name for name in names if columns(name)]
    return names if columns is None else [column for column in columns if column in names]


def examples_in(table: pa.Table, first: int = 0) -> list[Example]:
    """Return the examples of a part of a dataset, of which `first` is the first row."""
    truths = [name for name in table.column_names if is_ground_truth(name)]
    others = [name for name in table.column_names if name != "example" and name not in truths]
    references = zip(*(table[name].to_pylist() for name in truths), strict=True) if truths else repeat(())
    metadata = table.select(others).to_pylist() if others else repeat({})
    return [
        Example(row, text, tuple([each for each in texts if each is not None]) if texts else (), values)
        for row, (text, texts, values) in enumerate(
            zip(table["example"].to_pylist(), references, metadata, strict=False), first
        )
    ]


def sampled_rows(sample: Sample) -> Any:
    """Return the row numbers of a sample: an integer array of shape (n,), ascending."""
    # NumPy guarantees the stream of the legacy RandomState in every version, but not that of default_rng.
    keys = np.random.RandomState(sample.seed).random_sample(sample.of)
    return np.sort(np.argsort(keys, kind="stable")[: sample.n])


def read_rows(store: Store, name: str, sample: Sample | None = None) -> pa.Table:
    """Read a sample of the rows of a Parquet file in the store, or all rows.

    Raises:
        NotFoundError: there is no such file.
        DamagedError: the file is truncated or altered.
    """
    if sample is not None:
        with row_reader(store, name, None, sample) as rows:
            return rows(0, sample.n)
    with open_table(store, name) as parquet:
        return parquet.read()


@contextmanager
def row_reader(
    store: Store,
    name: str,
    columns: Sequence[str] | Callable[[str], bool] | None,
    sample: Sample | None = None,
) -> Iterator[Callable[[int, int], pa.Table]]:
    """Open a Parquet file of the store, and yield a function that reads up to ``count`` rows from row ``first`` on.

    The last row group stays in memory, so reading neighbouring rows piece by piece reads the file only once.

    Args:
        columns: as in :func:`iter_shards`.
        sample: if given, ``first`` and ``count`` refer to the sample, whose rows are in ascending order.
    """
    with open_table(store, name) as parquet:
        present = _present(parquet, columns)
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        starts = [0, *accumulate(sizes)]
        held: tuple[int, pa.Table] | None = None

        def of_group(group: int) -> pa.Table:
            nonlocal held
            if held is None or held[0] != group:
                held = group, parquet.read_row_group(group, columns=present, use_threads=False)
            return held[1]

        def rows(first: int, count: int) -> pa.Table:
            parts, last = [], min(first + count, starts[-1])
            while first < last:
                group = bisect_right(starts, first) - 1
                parts.append(of_group(group).slice(first - starts[group], last - first))
                first += len(parts[-1])
            return pa.concat_tables(parts) if parts else parquet.schema_arrow.empty_table().select(present)

        yield rows if sample is None else _of_sample(rows, sampled_rows(sample))


def _of_sample(rows: Callable[[int, int], pa.Table], numbers: Any) -> Callable[[int, int], pa.Table]:
    def sampled(first: int, count: int) -> pa.Table:
        wanted = numbers[first : first + count]
        if not len(wanted):
            return rows(0, 0)
        # Runs of consecutive rows, so that each is one slice.
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
        return pa.concat_tables([rows(int(run[0]), len(run)) for run in runs])

    return sampled


def write_spec(store: Store, spec: WorkflowSpec) -> None:
    """Publish a workflow's spec, which its worker reads."""
    _write_value(store, layout.spec(spec.workflow_id), spec)


def read_spec(store: Store, workflow_id: str) -> WorkflowSpec:
    """Return the spec that :func:`write_spec` published.

    Raises:
        NotFoundError: the workflow has no spec.
        DamagedError: the file is truncated or altered.
    """
    name = layout.spec(workflow_id)
    return _parsed(store, name, store.read(name), WorkflowSpec)


def write_result(store: Store, workflow_id: str, result: StepResult) -> None:
    """Publish a step's result, and then the marker that there is one."""
    # In this order, so that a reader who finds the marker finds the result, too.
    _write_value(store, layout.result(workflow_id, result.step), result)
    store.write(layout.ended(workflow_id, result.step), b"")


def ended_steps(store: Store) -> list[tuple[str, Step]]:
    """Return the workflows (by id) and steps whose results are not recorded in the database yet, from one listing.

    Some may be missing (the worker was killed between result and marker, or is of an earlier version), and some may
    already be recorded.
    """
    names = (name.rpartition("/")[2].partition(".") for name in store.list(layout.ENDED))
    return [(workflow_id, Step(step)) for workflow_id, _, step in names if step in list(Step)]


def forget_ended(store: Store, workflow_ids: Iterable[str]) -> None:
    """Remove the markers of workflows whose results are recorded. The results stay."""
    for workflow_id in workflow_ids:
        for step in Step:
            store.delete(layout.ended(workflow_id, step))


def find_result(store: Store, workflow_id: str, step: Step) -> StepResult | None:
    """Return a step's latest result, or None."""
    return _find_value(store, layout.result(workflow_id, step), StepResult)


def find_results(store: Store, workflow_ids: Sequence[str]) -> dict[str, dict[Step, StepResult]]:
    """Return the latest results of workflows' steps, by workflow id; steps without a result are absent."""
    results: dict[str, dict[Step, StepResult]] = {workflow_id: {} for workflow_id in workflow_ids}
    for step in Step:
        names = {workflow_id: layout.result(workflow_id, step) for workflow_id in workflow_ids}
        for workflow_id, result in _find_values(store, names, StepResult).items():
            results[workflow_id][step] = result
    return results


def find_progress(store: Store, attempts: Mapping[str, int]) -> dict[str, Progress]:
    """Return the progress of workflows by id; workflows that have not begun the attempt are absent.

    Args:
        attempts: the number of each workflow's attempt, by workflow id.
    """

    def of(step: Step, workflow_ids: Iterable[str]) -> dict[str, Progress]:
        names = {workflow_id: layout.progress(workflow_id, step) for workflow_id in workflow_ids}
        values = _find_values(store, names, Progress)
        # An earlier attempt's file stays until this attempt writes its first.
        return {key: value for key, value in values.items() if value.attempt == attempts[key]}

    inference = of(Step.INFERENCE, attempts)
    # Evaluation begins after the last answer, so the others' files need not be looked for.
    unfinished = {key for key, value in inference.items() if value.done < value.total}
    return inference | of(Step.EVALUATION, attempts.keys() - unfinished)


def write_model_details(store: Store, workflow_id: str, details: dict[str, Any]) -> None:
    """Publish a loaded model's details, for a later attempt that finds all answers in the cache and loads no model."""
    store.write(layout.model_details(workflow_id), json.dumps(details).encode())


def find_model_details(store: Store, workflow_id: str) -> dict[str, Any]:
    """Return the details of the model that an earlier attempt loaded; empty if none did."""
    name = layout.model_details(workflow_id)
    data = store.find(name)
    try:
        return {} if data is None else dict(json.loads(data))
    except ValueError as error:
        raise _damaged(store, name, str(error)) from error


class ProgressWriter:
    """Publishes a step's progress, at most once a second, since each update is a request to the store.

    As a context manager it also publishes a heartbeat while nothing changes.

    Args:
        report: called with each published value.
    """

    INTERVAL_S, BEAT_S = 1.0, 20.0

    def __init__(
        self, store: Store, spec: WorkflowSpec, step: Step, report: Callable[[Progress], None] | None = None
    ) -> None:
        self._store, self._workflow_id, self._report = store, spec.workflow_id, report
        self._value = Progress(
            step=step, attempt=spec.attempt, done=0, total=spec.n_examples, started_at=now(), updated_at=now()
        )
        self._written_at = 0.0
        self._lock = threading.RLock()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._ended.clear()
        # A daemon, so that it never keeps a process alive whose work has failed.
        threading.Thread(target=self._beat, name="lumigator-heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # Wait for a heartbeat that is being written; it must not replace a newer value later.
        with self._lock:
            return

    def note(self, text: str) -> None:
        """Publish a short note on the current activity, at once."""
        self._publish(note=text)

    def begin(self, resumed: int) -> None:
        """Publish that the first example is about to begin. An earlier attempt has finished `resumed` examples."""
        self._publish(note="", done=resumed, resumed=resumed, started_at=now(), first_at=None, first_done=0)

    def advance(self, count: int, *, failed: int = 0, cost: float | None = None) -> None:
        """Count `count` more finished examples, of which `failed` have no answer, and their `cost` in dollars."""
        before = self._value
        changes: dict[str, Any] = {**before.finished(count), "failed": before.failed + failed}
        if cost is not None:
            changes["cost"] = (before.cost or 0.0) + cost
        if time.monotonic() - self._written_at >= self.INTERVAL_S or changes["done"] >= before.total:
            self._publish(**changes)
        else:
            self._value = before.model_copy(update=changes)

    def spend(self, cost: float | None) -> None:
        """Add `cost` dollars without a finished example."""
        self.advance(0, cost=cost)

    def _publish(self, **changes: object) -> None:
        with self._lock:
            self._value = self._value.model_copy(update={**changes, "updated_at": now()})
            _write_value(self._store, layout.progress(self._workflow_id, self._value.step), self._value)
            self._written_at = time.monotonic()
        if self._report:
            self._report(self._value)

    def _beat(self) -> None:
        while not self._ended.wait(self.BEAT_S):
            with self._lock:
                silent = time.monotonic() - self._written_at >= self.BEAT_S and not self._ended.is_set()
                if silent:
                    # A failing store stops the work at its next read or write, with an error that users see.
                    with suppress(LumigatorError):
                        value = self._value.model_copy(update={"updated_at": now()})
                        _write_value(self._store, layout.progress(self._workflow_id, value.step), value)


def _write_value(store: Store, name: str, value: Value) -> None:
    store.write(name, value.model_dump_json(indent=2).encode())


def _find_value(store: Store, name: str, kind: type[V]) -> V | None:
    data = store.find(name)
    return None if data is None else _parsed(store, name, data, kind)


def _find_values(store: Store, names: Mapping[str, str], kind: type[V]) -> dict[str, V]:
    """Return the values of the files in `names` that exist, under the keys of `names`."""
    contents = store.find_all(list(names.values()))
    return {key: _parsed(store, name, contents[name], kind) for key, name in names.items() if name in contents}


def _parsed(store: Store, name: str, data: bytes, kind: type[V]) -> V:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _damaged(store, name, f"it is not a {kind.__name__}: {error.errors()[0]['msg']}") from error


def _write_table(store: Store, name: str, table: pa.Table) -> None:
    # Checksums find damage by disks and networks. They cost about 5 % of the reading time (docs/storage.md).
    with store.writing(name) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _read_table(store: Store, name: str) -> pa.Table:
    with open_table(store, name) as parquet:
        # For a few hundred rows, starting threads takes longer than reading.
        return parquet.read(use_threads=False)


def _read_tables(store: Store, names: Sequence[str]) -> pa.Table:
    """Read several small files at the same time, for remote stores above all, and concatenate them."""
    with ThreadPoolExecutor(min(_READERS, len(names))) as readers:
        tables = list(readers.map(partial(_read_table, store), names))
    # Some columns, such as reasons, exist only in the files that have values for them.
    return pa.concat_tables(tables, promote_options="permissive")


@contextmanager
def open_table(store: Store, name: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of the store. If its pages have checksums, they are verified as they are read.

    Raises:
        NotFoundError: there is no such file.
        DamagedError: the file is truncated or altered; also from within the block, while it reads.
    """
    with store.reading(name) as file:
        try:
            yield pq.ParquetFile(file, page_checksum_verification=True)
        except pa.ArrowException as error:
            raise _damaged(store, name, str(error)) from error
        except OSError as error:
            # For damaged data, Arrow raises a plain OSError without a number. Errors of the file itself have a number,
            # or are explained already.
            if type(error) is not OSError or error.errno is not None:
                raise
            raise _damaged(store, name, str(error)) from error


def _damaged(store: Store, name: str, reason: str) -> DamagedError:
    if name.startswith("datasets/"):
        remedy = "restore it from a backup, or upload the dataset again"
    else:
        remedy = (
            f"restore it from a backup; or ws.store.delete({name!r}) and resume the workflow, which computes it again"
        )
    return DamagedError(f"{store.url(name)} is damaged: {' '.join(reason.split())[:200]}", remedy)
