"""Results and datasets as files, made while they are sent, so that nothing is whole in memory.

A result is what Lumigator calls one: an object of `metrics`, `parameters` and `artifacts`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from lumigator_nb import layout, metrics, results
from lumigator_nb.display.overview import notes
from lumigator_nb.display.text import reason
from lumigator_nb.metrics.base import mean
from lumigator_nb.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.services.comparisons import Comparison
from lumigator_nb.specs import Sample, Status, Step
from lumigator_nb.workspace import Workspace

_ROWS, _CHUNK = 1024, 1 << 16


def of_inference(ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job) -> dict[str, Any]:
    """Return the result of an inference; lists that grow with the data are iterators, to be written once."""
    return {
        "metrics": inference_metrics(job),
        "parameters": parameters(experiment, workflow),
        "artifacts": {
            **_texts(ws, experiment, workflow),
            "model": workflow.model.name,
            "inference_time": _seconds(job),
        },
    }


def of_evaluation(ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job) -> dict[str, Any]:
    """Return the result of an evaluation, as :func:`of_inference`."""
    return {
        "metrics": _scores(ws, experiment, workflow, job),
        "parameters": parameters(experiment, workflow, job.skipped),
        "artifacts": {name: values for name, values in _texts(ws, experiment, workflow).items() if name != "examples"}
        | {"evaluation_time": _seconds(job)},
    }


def of_workflow(ws: Workspace, experiment: Experiment, workflow: Workflow) -> dict[str, Any]:
    """Return the results of both jobs of a workflow as one."""
    jobs = {job.step: job for job in ws.workflows.jobs([workflow])}
    inference = of_inference(ws, experiment, workflow, jobs[Step.INFERENCE])
    evaluation = of_evaluation(ws, experiment, workflow, jobs[Step.EVALUATION])
    return {
        "metrics": {**evaluation["metrics"], **inference["metrics"]},
        "parameters": evaluation["parameters"],
        "artifacts": {**inference["artifacts"], "evaluation_time": evaluation["artifacts"]["evaluation_time"]},
    }


def parameters(experiment: Experiment, workflow: Workflow, skipped: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what was asked, of whom, and how; and what to know of the metrics.

    Args:
        skipped: metrics that could not be computed, by title, with the reason.
    """
    model = workflow.model
    notes = {spec.title: note for spec in experiment.metrics if (note := metrics.create(spec).note)}
    return {
        "name": workflow.label,
        "dataset": {"id": experiment.dataset_id},
        "model": model.name,
        "provider": model.provider,
        "base_url": model.base_url,
        "system_prompt": model.worded(experiment.task).instruction,
        "generation_config": model.generation.model_dump(mode="json"),
        "metrics": [spec.title for spec in experiment.metrics],
        **({"skipped_metrics": {title: reason(error) for title, error in skipped.items()}} if skipped else {}),
        **({"metric_notes": notes} if notes else {}),
    }


def inference_metrics(job: Job) -> dict[str, float]:
    """Return what an inference counted: tokens and dollars, as far as they are known."""
    counted = {name: job.details.get(name) for name in ("prompt_tokens", "completion_tokens", "cost")}
    found = {name: float(value) for name, value in counted.items() if isinstance(value, (int, float))}
    return {**found, "n_failed": float(job.n_failed)} if job.status is Status.SUCCEEDED else found


def evaluation_metrics(experiment: Experiment, job: Job) -> dict[str, float]:
    """Return overall scores by metric and score, with `_mean` where that is what they are."""
    found = {}
    for spec in experiment.metrics:
        for info in metrics.create(spec).infos:
            value = job.scores.get(info.name)
            if value is not None and math.isfinite(value):
                short = info.name.removeprefix(f"{spec.title}_")
                found[f"{spec.title}_{short}{'_mean' if info.aggregate is mean else ''}"] = value
    return found


def encoded(value: Any) -> Iterator[bytes]:
    """Write a value as JSON, piece by piece; iterators become lists, and NaN null."""
    buffer, size = [], 0
    for text in _pieces(value):
        buffer.append(text)
        size += len(text)
        if size > _CHUNK:
            yield "".join(buffer).encode()
            buffer, size = [], 0
    yield "".join(buffer).encode()


def csv_of(ws: Workspace, dataset: Dataset) -> Iterator[bytes]:
    """Write the examples of a dataset as CSV in UTF-8."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for index, table in enumerate(results.iter_shards(ws.store, layout.examples(dataset.id), None, _ROWS)):
        if index == 0:
            writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
        yield buffer.getvalue().encode(errors="replace")
        buffer.seek(0)
        buffer.truncate()


def stored(ws: Workspace, name: str) -> Iterator[bytes]:
    """Read a file of the store."""
    with ws.store.reading(name) as file:
        while chunk := file.read(1 << 20):
            yield chunk


def begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first piece now, so that what cannot be read at all is refused before anything is sent."""
    first = next(chunks, b"")

    def rest() -> Iterator[bytes]:
        yield first
        yield from chunks

    return rest()


def predictions(ws: Workspace, workflow: Workflow, skip: int, limit: int) -> pd.DataFrame:
    """Return rows of a workflow's predictions so far; only the files that hold them are read."""
    size = results.read_spec(ws.store, workflow.id).shard_size
    shards = sorted(results.finished_shards(ws.store, workflow.id, Step.INFERENCE))
    wanted = [shard for shard in shards if skip // size <= shard <= (skip + limit - 1) // size]
    frames = [results.read_shard(ws.store, workflow.id, Step.INFERENCE, shard).to_pandas() for shard in wanted]
    if not frames:
        return ws.workflows.predictions(workflow).head(0)
    frame = pd.concat(frames)
    found: pd.DataFrame = frame[(frame["row"] >= skip) & (frame["row"] < skip + limit)].reset_index(drop=True)
    return found


def parquet_of(frame: pd.DataFrame) -> bytes:
    """Write a table as a Parquet file."""
    import pyarrow as pa

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    return buffer.getvalue()


def of_comparison(comparison: Comparison, score: str) -> dict[str, Any]:
    """Return what a comparison says, one of its scores ranked."""
    decides = next(info for info in comparison.scores if info.name == score).higher_is_better is not None
    return {
        "main_score": score,
        "best": comparison.best(score) if decides else None,
        "n_scored": comparison.n_scored,
        "confidence": comparison.confidence,
        "verdict": comparison.verdict(score),
        "contrasts": [plain(asdict(each)) for each in comparison.contrasts(score)],
        "summary": records(comparison.summary()),
        "ranking": records(comparison.ranking(score)) if decides else [],
        "costs": records(comparison.costs()),
        "notes": notes(comparison),
        "not_computed": {
            title: {model: reason(error) for model, error in reasons.items()}
            for title, reasons in comparison.not_computed.items()
        },
        "uncompared": comparison.uncompared,
    }


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON has them: no NaN, no types of NumPy."""
    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    value = value.item() if hasattr(value, "item") else value
    if value is None or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield "{"
        for index, (name, each) in enumerate(value.items()):
            yield f"{', ' if index else ''}{json.dumps(str(name))}: "
            yield from _pieces(each)
        yield "}"
    elif isinstance(value, Iterator):
        yield "["
        for index, each in enumerate(value):
            yield f"{', ' if index else ''}{json.dumps(plain(each))}"
        yield "]"
    else:
        yield json.dumps(plain(value))


def _texts(ws: Workspace, experiment: Experiment, workflow: Workflow) -> dict[str, Iterator[Any]]:
    examples = layout.examples(experiment.dataset_id)
    with results.open_table(ws.store, examples) as parquet:
        columns = [name for name in ("example", "ground_truth") if name in parquet.schema_arrow.names]
    names = {"example": "examples", "ground_truth": "ground_truth"}
    found: dict[str, Iterator[Any]] = {
        names[column]: _column(ws, examples, column, experiment.sample) for column in columns
    }
    return {**found, "predictions": _predictions(ws, workflow)}


def _column(ws: Workspace, name: str, column: str, sample: Sample | None) -> Iterator[Any]:
    for table in results.iter_shards(ws.store, name, [column], _ROWS, sample):
        yield from table.column(0).to_pylist()


def _predictions(ws: Workspace, workflow: Workflow) -> Iterator[Any]:
    for shard in sorted(results.finished_shards(ws.store, workflow.id, Step.INFERENCE)):
        yield from results.read_shard(ws.store, workflow.id, Step.INFERENCE, shard).column("prediction").to_pylist()


def _scores(ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job) -> dict[str, dict[str, Any]]:
    frame = ws.workflows.scores(workflow, experiment.metrics)
    found: dict[str, dict[str, Any]] = {}
    for spec in experiment.metrics:
        if spec.title in job.skipped:
            continue
        for info in metrics.create(spec).infos:
            if info.name not in frame:
                continue
            short = info.name.removeprefix(f"{spec.title}_")
            values: Iterable[float] = frame[info.name]
            mine = found.setdefault(spec.title, {})
            mine[short] = iter(values)
            mine[f"{short}_mean"] = float(frame[info.name].mean())
            if info.aggregate is not mean:
                mine[f"{short}_overall"] = job.scores.get(info.name)
    return found


def _seconds(job: Job) -> float | None:
    return (job.finished_at - job.started_at).total_seconds() if job.started_at and job.finished_at else None
