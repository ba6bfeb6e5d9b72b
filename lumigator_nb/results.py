"""What a workflow leaves in the store: predictions and scores shard by shard, progress, and each step's result."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb import layout
from lumigator_nb.metrics import Score
from lumigator_nb.models import Prediction
from lumigator_nb.specs import Progress, Step, StepResult, Value, WorkflowSpec, now
from lumigator_nb.store import Store

V = TypeVar("V", bound=Value)

PREDICTION_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("prediction", pa.string()),
        ("error", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("truncated", pa.bool_()),
    ]
)
STATISTICS_SUFFIX = ".statistics"


def write_predictions(store: Store, spec: WorkflowSpec, shard: int, predictions: Sequence[Prediction]) -> None:
    """Publish the predictions of a shard; its rows begin at ``shard * spec.shard_size``."""
    first = shard * spec.shard_size
    columns = {
        "row": list(range(first, first + len(predictions))),
        "prediction": [p.text for p in predictions],
        "error": [p.error for p in predictions],
        "prompt_tokens": [p.prompt_tokens for p in predictions],
        "completion_tokens": [p.completion_tokens for p in predictions],
        "seconds": [p.seconds for p in predictions],
        "truncated": [p.truncated for p in predictions],
    }
    table = pa.table(columns, schema=PREDICTION_SCHEMA)
    _write_table(store, layout.part(spec.workflow_id, Step.INFERENCE, shard), table)


def write_scores(store: Store, spec: WorkflowSpec, shard: int, first_row: int, scores: Sequence[Score]) -> None:
    """Publish the scores of a shard whose rows begin at `first_row`.

    A score that is a plain mean is its own sufficient statistic, so only the others store theirs.
    """
    count = len(scores[0].values)
    columns: dict[str, pa.Array] = {"row": pa.array(range(first_row, first_row + count), pa.int64())}
    for score in scores:
        columns[score.info.name] = pa.array(score.values, pa.float64(), from_pandas=True)
        if score.statistics.shape[1] > 1:
            rows = [None if np.isnan(row).any() else row for row in score.statistics]
            columns[score.info.name + STATISTICS_SUFFIX] = pa.array(rows, pa.list_(pa.float64()))
    _write_table(store, layout.part(spec.workflow_id, Step.EVALUATION, shard), pa.table(columns))


def finished_shards(store: Store, workflow_id: str, step: Step) -> set[int]:
    """Return the indices of the shards whose file is there."""
    names = store.list(layout.step_folder(workflow_id, step))
    found = (re.search(r"part-(\d+)\.parquet$", name) for name in names)
    return {int(match[1]) for match in found if match}


def read_step(store: Store, workflow_id: str, step: Step) -> pd.DataFrame:
    """Return the finished shards of a step in one frame, ordered by `row`; empty where there is none yet."""
    names = [layout.part(workflow_id, step, shard) for shard in sorted(finished_shards(store, workflow_id, step))]
    if not names:
        return pd.DataFrame(columns=PREDICTION_SCHEMA.names)
    frames: list[pd.DataFrame] = [_read_table(store, name).to_pandas() for name in names]
    return pd.concat(frames, ignore_index=True)


def read_shard(store: Store, workflow_id: str, step: Step, shard: int) -> pa.Table:
    """Return one finished shard."""
    return _read_table(store, layout.part(workflow_id, step, shard))


def iter_shards(store: Store, name: str, columns: Sequence[str], shard_size: int) -> Iterator[pa.Table]:
    """Yield consecutive tables of `shard_size` rows (the last may be shorter) of a Parquet file in the store."""
    with store.reading(name) as file:
        parquet = pq.ParquetFile(file)
        present = [column for column in columns if column in parquet.schema_arrow.names]
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


def write_spec(store: Store, spec: WorkflowSpec) -> None:
    """Publish what the worker must know."""
    _write_value(store, layout.spec(spec.workflow_id), spec)


def read_spec(store: Store, workflow_id: str) -> WorkflowSpec:
    """Return what :func:`write_spec` published.

    Raises:
        NotFoundError: there is none.
    """
    return WorkflowSpec.model_validate_json(store.read(layout.spec(workflow_id)))


def write_result(store: Store, workflow_id: str, result: StepResult) -> None:
    """Publish how a step ended."""
    _write_value(store, layout.result(workflow_id, result.step), result)


def find_result(store: Store, workflow_id: str, step: Step) -> StepResult | None:
    """Return how a step ended in its latest attempt; None where none has."""
    return _find_value(store, layout.result(workflow_id, step), StepResult)


def find_progress(store: Store, workflow_id: str, step: Step) -> Progress | None:
    """Return how far a step is; None where it has not begun."""
    return _find_value(store, layout.progress(workflow_id, step), Progress)


class ProgressWriter:
    """Publishes how far a step is, at most once a second, since each time is a request to the store."""

    INTERVAL_S = 1.0

    def __init__(self, store: Store, spec: WorkflowSpec, step: Step) -> None:
        self._store, self._workflow_id = store, spec.workflow_id
        self._value = Progress(
            step=step, attempt=spec.attempt, done=0, total=spec.n_examples, started_at=now(), updated_at=now()
        )
        self._written_at = 0.0

    def note(self, text: str) -> None:
        """Say what is being done besides; published at once."""
        self._publish(note=text)

    def begin(self, resumed: int) -> None:
        """The first example is about to be worked on; `resumed` were finished by an earlier attempt."""
        self._publish(note="", done=resumed, resumed=resumed, started_at=now())

    def advance(self, count: int) -> None:
        """`count` more examples are finished."""
        done = self._value.done + count
        due = time.monotonic() - self._written_at >= self.INTERVAL_S
        if due or done >= self._value.total:
            self._publish(done=done)
        else:
            self._value = self._value.model_copy(update={"done": done})

    def _publish(self, **changes: object) -> None:
        self._value = self._value.model_copy(update={**changes, "updated_at": now()})
        _write_value(self._store, layout.progress(self._workflow_id, self._value.step), self._value)
        self._written_at = time.monotonic()


def _write_value(store: Store, name: str, value: Value) -> None:
    store.write(name, value.model_dump_json(indent=2).encode())


def _find_value(store: Store, name: str, kind: type[V]) -> V | None:
    data = store.find(name)
    return None if data is None else kind.model_validate_json(data)


def _write_table(store: Store, name: str, table: pa.Table) -> None:
    with store.writing(name) as file:
        pq.write_table(table, file, compression="zstd")


def _read_table(store: Store, name: str) -> pa.Table:
    with store.reading(name) as file:
        return pq.read_table(file)
