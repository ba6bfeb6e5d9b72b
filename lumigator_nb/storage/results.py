"""What a workflow leaves in the store: predictions and scores shard by shard, progress, and each step's result."""

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
# The fields of a prediction, besides its text, under their own names.
_FIELDS = [name for name in PREDICTION_SCHEMA.names if name not in ("row", "prediction")]
_READERS = 8  # files that are read at once
STATISTICS_SUFFIX, REASON_SUFFIX = ".statistics", ".reason"


def write_predictions(store: Store, spec: WorkflowSpec, shard: int, predictions: Sequence[Prediction]) -> None:
    """Publish the predictions of a shard; its rows begin at ``shard * spec.shard_size``."""
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
    present = [name for name in _FIELDS if name in table.column_names]
    return [
        Prediction(row["prediction"], **{name: row[name] for name in present if row[name] is not None})
        for row in table.to_pylist()
    ]


@dataclass
class Tally:
    """What the predictions of a workflow come to.

    Attributes:
        answered: examples with a prediction; `cached` of them were found in the store.
        errors: how often each error occurs.
        truncated: inputs that were cut to fit the model; `cut_off`: answers that ended at `max_new_tokens`.
        cost: dollars that all answers cost when they were made; None where none has a price.
        seconds: (answered,) each answer's latency.
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
        """Count a shard."""
        import pyarrow.compute as pc

        self.errors.update(error for error in table["error"].to_pylist() if error is not None)
        answered = table.filter(pc.is_valid(table["prediction"]))
        self.answered += len(answered)
        self.cached += pc.sum(answered["cached"]).as_py() or 0
        self.seconds.append(answered["seconds"].drop_null().to_numpy())
        # A model that thinks until its tokens are used up gives no answer, and is paid for all the same.
        self.truncated += pc.sum(table["truncated"]).as_py() or 0
        self.cut_off += pc.sum(pc.equal(table["finish"], "length")).as_py() or 0
        for name in TOKENS:
            setattr(self, name, getattr(self, name) + (pc.sum(table[name]).as_py() or 0))
        cost = pc.sum(table["cost"]).as_py()
        self.cost = self.cost if cost is None else (self.cost or 0.0) + cost

    @property
    def details(self) -> dict[str, Any]:
        """The counts that are not zero, and the median and 95th percentile of the latency, for the record."""
        counts = (
            "answered",
            "cached",
            "truncated",
            "cut_off",
            *TOKENS,
        )
        found: dict[str, Any] = {name: getattr(self, name) for name in counts if getattr(self, name)}
        if self.cost is not None:
            found["cost"] = self.cost
        seconds = np.concatenate(self.seconds) if self.seconds else np.empty(0)
        if len(seconds):
            found |= {"seconds_p50": float(np.quantile(seconds, 0.5)), "seconds_p95": float(np.quantile(seconds, 0.95))}
        return found


def tally(store: Store, workflow_id: str) -> Tally:
    """Count what the finished shards of a workflow hold; one shard in memory at a time."""
    total = Tally()
    for shard in sorted(finished_shards(store, workflow_id, Step.INFERENCE)):
        total.add(_complete(read_shard(store, workflow_id, Step.INFERENCE, shard)))
    return total


def write_scores(
    store: Store, workflow_id: str, metric: MetricSpec, shard: int, first_row: int, scores: Sequence[Scores]
) -> None:
    """Publish a metric's scores of some rows, which begin at `first_row`.

    A score that is a plain mean is its own sufficient statistic, so only the others store theirs.
    """
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
    """Publish how a metric went, after its scores."""
    _write_value(store, layout.metric_result(workflow_id, result.metric), result)


def find_metric_result(store: Store, workflow_id: str, metric: MetricSpec) -> MetricResult | None:
    """Return how a metric went; None where it has not been computed."""
    return _find_value(store, layout.metric_result(workflow_id, metric), MetricResult)


def read_scores(store: Store, workflow_id: str, metrics: Sequence[MetricSpec]) -> pd.DataFrame:
    """Return the scores of all examples by those of the metrics that are there: `row`, and a column for each score.

    Beside a score stand, where they are needed, ``<score>.statistics`` and ``<score>.reason``.
    """
    import pandas as pd

    # Before metrics had folders of their own all of them shared the step's files.
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
    return joined.loc[:, ~joined.columns.duplicated(keep="last")].reset_index()


def finished_shards(store: Store, workflow_id: str, step: Step) -> set[int]:
    """Return the indices of the shards whose file is there."""
    names = store.list(layout.step_folder(workflow_id, step))
    found = (re.search(rf"/{step}/part-(\d+)\.parquet$", name) for name in names)
    return {int(match[1]) for match in found if match}


def read_step(store: Store, workflow_id: str, step: Step) -> pd.DataFrame:
    """Return the finished shards of a step in one frame, ordered by `row`; empty where there is none yet."""
    import pandas as pd

    names = [layout.part(workflow_id, step, shard) for shard in sorted(finished_shards(store, workflow_id, step))]
    if not names:
        return pd.DataFrame(columns=PREDICTION_SCHEMA.names)
    frame: pd.DataFrame = _read_tables(store, names).to_pandas()
    return frame


def _complete(table: pa.Table) -> pa.Table:
    """Add the columns that were not written yet when the shard was."""
    for field_ in PREDICTION_SCHEMA:
        if field_.name not in table.column_names:
            table = table.append_column(field_, pa.nulls(len(table), field_.type))
    return table


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
        columns: those to read, as far as they are there, or what says of each name whether to; None reads all.
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
    """Return (n,) numbers of the rows that a sample is made of, ascending."""
    # The stream of this generator is the same in every version of NumPy; that of newer ones is not promised to be.
    keys = np.random.RandomState(sample.seed).random_sample(sample.of)
    return np.sort(np.argsort(keys, kind="stable")[: sample.n])


def read_rows(store: Store, name: str, sample: Sample | None = None) -> pa.Table:
    """Read the rows of a sample of a Parquet file in the store, or all of them.

    Raises:
        As :func:`open_table`.
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
    """Open a Parquet file of the store, and yield what reads up to ``count`` of its rows from row ``first`` on.

    One row group is in memory at a time, so that neighbouring rows are read once, whoever asks for them in pieces.

    Args:
        columns: as of :func:`iter_shards`.
        sample: with it, ``first`` and ``count`` are positions in the sample, whose rows ascend.
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
        neighbours = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
        return pa.concat_tables([rows(int(each[0]), len(each)) for each in neighbours])

    return sampled


def write_spec(store: Store, spec: WorkflowSpec) -> None:
    """Publish what the worker must know."""
    _write_value(store, layout.spec(spec.workflow_id), spec)


def read_spec(store: Store, workflow_id: str) -> WorkflowSpec:
    """Return what :func:`write_spec` published.

    Raises:
        NotFoundError: there is none.
        DamagedError: it is not what was written.
    """
    name = layout.spec(workflow_id)
    return _parsed(store, name, store.read(name), WorkflowSpec)


def write_result(store: Store, workflow_id: str, result: StepResult) -> None:
    """Publish how a step ended, and then that it has."""
    _write_value(store, layout.result(workflow_id, result.step), result)
    store.write(layout.ended(workflow_id, result.step), b"")


def ended_steps(store: Store) -> list[tuple[str, Step]]:
    """Return of which workflows (by id) and steps results were published that nobody has recorded yet; one listing.

    It may lack some, where a worker was killed just then or is of an earlier version, and name some that are recorded.
    """
    names = (name.rpartition("/")[2].partition(".") for name in store.list(layout.ENDED))
    return [(workflow_id, Step(step)) for workflow_id, _, step in names if step in list(Step)]


def forget_ended(store: Store, workflow_ids: Iterable[str]) -> None:
    """Take back that steps of workflows have ended; the results stay."""
    for workflow_id in workflow_ids:
        for step in Step:
            store.delete(layout.ended(workflow_id, step))


def find_result(store: Store, workflow_id: str, step: Step) -> StepResult | None:
    """Return how a step ended in its latest attempt; None where none has."""
    return _find_value(store, layout.result(workflow_id, step), StepResult)


def find_results(store: Store, workflow_ids: Sequence[str]) -> dict[str, dict[Step, StepResult]]:
    """Return how the steps of workflows ended in their latest attempts, by the workflows' ids; what is there of it."""
    found: dict[str, dict[Step, StepResult]] = {key: {} for key in workflow_ids}
    for step in Step:
        values = _find_values(store, {key: layout.result(key, step) for key in workflow_ids}, StepResult)
        for key, value in values.items():
            found[key][step] = value
    return found


def find_progress(store: Store, attempts: Mapping[str, int]) -> dict[str, Progress]:
    """Return how far workflows are in an attempt, by their ids; those that have not begun it are left out.

    Args:
        attempts: by the ids of workflows.
    """

    def of(step: Step, keys: Iterable[str]) -> dict[str, Progress]:
        found = _find_values(store, {key: layout.progress(key, step) for key in keys}, Progress)
        return {key: value for key, value in found.items() if value.attempt == attempts[key]}

    answering = of(Step.INFERENCE, attempts)
    # As long as answers are missing, nothing is scored.
    busy = {key for key, value in answering.items() if value.done < value.total}
    return answering | of(Step.EVALUATION, attempts.keys() - busy)


def write_model_details(store: Store, workflow_id: str, details: dict[str, Any]) -> None:
    """Publish what was loaded, for an attempt that finds all answers there and loads nothing."""
    store.write(layout.model_details(workflow_id), json.dumps(details).encode())


def find_model_details(store: Store, workflow_id: str) -> dict[str, Any]:
    """Return what an earlier attempt loaded; empty where none did."""
    name = layout.model_details(workflow_id)
    data = store.find(name)
    try:
        return {} if data is None else dict(json.loads(data))
    except ValueError as error:
        raise _damaged(store, name, str(error)) from error


class ProgressWriter:
    """Publishes how far a step is, at most once a second, since each time is a request to the store.

    As a context it gives a sign of life every now and then, also where nothing else has changed.
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
        threading.Thread(target=self._beat, name="lumigator-heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._lock:  # whatever is being published is published now, and not later over something newer
            return

    def note(self, text: str) -> None:
        """Say what is being done besides; published at once."""
        self._publish(note=text)

    def begin(self, resumed: int) -> None:
        """The first example is about to be worked on; `resumed` were finished by an earlier attempt."""
        self._publish(note="", done=resumed, resumed=resumed, started_at=now(), first_at=None, first_done=0)

    def advance(self, count: int, *, failed: int = 0, cost: float | None = None) -> None:
        """`count` more examples are finished, `failed` of them without an answer, for `cost` dollars."""
        before = self._value
        changes: dict[str, Any] = {**before.finished(count), "failed": before.failed + failed}
        if cost is not None:
            changes["cost"] = (before.cost or 0.0) + cost
        if time.monotonic() - self._written_at >= self.INTERVAL_S or changes["done"] >= before.total:
            self._publish(**changes)
        else:
            self._value = before.model_copy(update=changes)

    def spend(self, cost: float | None) -> None:
        """`cost` dollars were spent, while the number of finished examples stays as it is."""
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
                    # What is wrong with the store is said where the work needs it.
                    with suppress(LumigatorError):
                        value = self._value.model_copy(update={"updated_at": now()})
                        _write_value(self._store, layout.progress(self._workflow_id, value.step), value)


def _write_value(store: Store, name: str, value: Value) -> None:
    store.write(name, value.model_dump_json(indent=2).encode())


def _find_value(store: Store, name: str, kind: type[V]) -> V | None:
    data = store.find(name)
    return None if data is None else _parsed(store, name, data, kind)


def _find_values(store: Store, names: Mapping[str, str], kind: type[V]) -> dict[str, V]:
    """The values of those that are there of several names, by the keys of the names."""
    data = store.find_all(list(names.values()))
    return {key: _parsed(store, name, data[name], kind) for key, name in names.items() if name in data}


def _parsed(store: Store, name: str, data: bytes, kind: type[V]) -> V:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _damaged(store, name, f"it is no {kind.__name__}: {error.errors()[0]['msg']}") from error


def _write_table(store: Store, name: str, table: pa.Table) -> None:
    with store.writing(name) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _read_table(store: Store, name: str) -> pa.Table:
    with open_table(store, name) as parquet:
        # For a few hundred rows threads cost more than they bring.
        return parquet.read(use_threads=False)


def _read_tables(store: Store, names: Sequence[str]) -> pa.Table:
    """Read many small files at once, most of all for a store with a way to it, and put them one after the other."""
    with ThreadPoolExecutor(min(_READERS, len(names))) as readers:
        tables = list(readers.map(partial(_read_table, store), names))
    # A column such as reasons is only in the files that have some.
    return pa.concat_tables(tables, promote_options="permissive")


@contextmanager
def open_table(store: Store, name: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of the store, whose pages are checked as they are read where they have checksums.

    Raises:
        NotFoundError: nothing has that name.
        DamagedError: the file is cut short or altered; also from within the block, while it reads.
    """
    with store.reading(name) as file:
        try:
            yield pq.ParquetFile(file, page_checksum_verification=True)
        except pa.ArrowException as error:
            raise _damaged(store, name, str(error)) from error
        except OSError as error:
            # Arrow's own have no number; those of the file itself have one, or are explained already.
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
