"""Results and datasets as files, generated while they are sent, so that no file is in memory as a whole.

A result has Lumigator's format: an object with `metrics`, `parameters` and `artifacts`, with Lumigator's names and
scales.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lumigator_nb import metrics
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.display.text import reason
from lumigator_nb.metrics.base import ScoreInfo, mean
from lumigator_nb.rest.wire import wording
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.overview import notes
from lumigator_nb.specs import MetricSpec, Purpose, Sample, Status, Step
from lumigator_nb.storage import layout, results
from lumigator_nb.workspace import Workspace

# Rows to read at a time, and characters of JSON to send at a time.
_ROWS, _CHUNK = 1024, 1 << 16
# Lumigator's names of a list of scores and of their mean, by metric, if they are not `x` and `x_mean`.
_NAMES = {"comet": ("scores", "mean_score")}
# Our value of what is 1 in Lumigator, by metric.
_SCALES = {"bleu": 100.0}
# Lumigator's pages show each score as a number, and a whole list not at all if one of them is null. So a missing score
# is sent as a number that no metric gives: JavaScript and Python read it as minus infinity.
_UNSCORED, _UNSCORED_TEXT = object(), "-1e999"


def of_inference(ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job) -> dict[str, Any]:
    """Return the result of an inference job. Lists that grow with the data are iterators, to be written once."""
    return {
        "metrics": inference_metrics(job),
        "parameters": parameters(experiment, workflow),
        "artifacts": {
            **_texts(ws, experiment, workflow),
            "reasoning": _of_predictions(ws, workflow, _reasoning),
            "inference_metrics": _of_predictions(ws, workflow, _tokens),
            "model": workflow.model.name,
            "inference_time": _seconds(job),
        },
    }


def of_evaluation(ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job) -> dict[str, Any]:
    """Return the result of an evaluation job, as :func:`of_inference`."""
    scores, unscored = _scores(ws, experiment, workflow, job)
    return {
        "metrics": scores,
        "parameters": parameters(experiment, workflow, job.skipped),
        "artifacts": {name: values for name, values in _texts(ws, experiment, workflow).items() if name != "examples"}
        | {"evaluation_time": _seconds(job), "unscored": unscored},
    }


def of_workflow(ws: Workspace, experiment: Experiment, workflow: Workflow) -> dict[str, Any]:
    """Return the results of both jobs of a workflow as one result."""
    jobs = {job.step: job for job in ws.workflows.jobs([workflow])}
    inference = of_inference(ws, experiment, workflow, jobs[Step.INFERENCE])
    evaluation = of_evaluation(ws, experiment, workflow, jobs[Step.EVALUATION])
    of_scores = {name: evaluation["artifacts"][name] for name in ("evaluation_time", "unscored")}
    return {
        "metrics": {**evaluation["metrics"], **inference["metrics"]},
        "parameters": evaluation["parameters"],
        "artifacts": {**inference["artifacts"], **of_scores},
    }


def parameters(experiment: Experiment, workflow: Workflow, skipped: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the parameters of a workflow: model, settings, prompt, metrics and notes on them.

    Args:
        experiment, workflow: the workflow and its experiment.
        skipped: for each metric that could not be computed, by title, the reason.
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
    """Return token counts (total, and mean per answer) and cost of an inference job, as far as they are known."""
    details = job.details
    totals = {name: details.get(name) for name in ("prompt_tokens", "completion_tokens", "cost")}
    values = {name: float(total) for name, total in totals.items() if isinstance(total, (int, float))}
    if job.status is not Status.SUCCEEDED:
        return values
    answered = details.get("answered")
    if answered and "prompt_tokens" in values:
        sums = _token_counts(*(details.get(name) or 0 for name in _TOKENS))
        values |= {f"avg_{name}": total / answered for name, total in sums.items()}
    return {**values, "n_failed": float(job.n_failed)}


def evaluation_metrics(experiment: Experiment, job: Job) -> dict[str, float]:
    """Return the mean of each score over the examples; overall scores that are not a mean are named `_overall`."""
    values = {}
    for spec in experiment.metrics:
        for info in metrics.create(spec).infos:
            overall, (_, name) = job.scores.get(info.name), _names(spec, info)
            if overall is None or not math.isfinite(overall):
                continue
            if info.aggregate is not mean:
                values[f"{spec.title}_{_short(spec, info)}_overall"] = overall / _scale(spec)
                overall = job.details.get("means", {}).get(info.name)  # earlier versions did not record it
            if overall is not None:
                values[f"{spec.title}_{name}"] = overall / _scale(spec)
    return values


def encoded(value: Any) -> Iterator[bytes]:
    """Yield a value as JSON, in chunks. Iterators become lists; NaN becomes null, or minus infinity among scores."""
    # Collect small pieces: each chunk that is sent costs a system call and a few bytes.
    buffer, size = [], 0
    for text in _pieces(value):
        buffer.append(text)
        size += len(text)
        if size > _CHUNK:
            yield "".join(buffer).encode()
            buffer, size = [], 0
    yield "".join(buffer).encode()


def csv_of(ws: Workspace, dataset: Dataset) -> Iterator[bytes]:
    """Yield the examples of a dataset as CSV in UTF-8."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for index, table in enumerate(_tables(ws, dataset)):
        if index == 0:
            writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
        yield buffer.getvalue().encode(errors="replace")
        buffer.seek(0)
        buffer.truncate()


def json_lines_of(ws: Workspace, dataset: Dataset) -> Iterator[bytes]:
    """Yield the examples of a dataset as JSON Lines."""
    for table in _tables(ws, dataset):
        yield "".join(f"{json.dumps(plain(row), ensure_ascii=False)}\n" for row in table.to_pylist()).encode()


def arrow_of(ws: Workspace, dataset: Dataset) -> Iterator[bytes]:
    """Yield the examples of a dataset as an Arrow stream, the format of Hugging Face's `datasets`."""
    buffer, writer = io.BytesIO(), None
    for table in _tables(ws, dataset):
        writer = writer or pa.ipc.new_stream(buffer, table.schema)
        writer.write_table(table)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if writer is not None:
        writer.close()
    yield buffer.getvalue()


WRITERS: Mapping[str, tuple[Callable[[Workspace, Dataset], Iterator[bytes]], str]] = {
    "csv": (csv_of, "text/csv; charset=utf-8"),
    "jsonl": (json_lines_of, "application/jsonl"),
    "arrow": (arrow_of, "application/vnd.apache.arrow.stream"),
}


def _tables(ws: Workspace, dataset: Dataset) -> Iterator[pa.Table]:
    """Yield the examples of a dataset, some rows at a time, with Lumigator's name of the input column."""
    for table in results.iter_shards(ws.store, layout.examples(dataset.id), None, _ROWS):
        names = ["examples" if name == "example" else name for name in table.column_names]
        yield table.rename_columns(names) if len({*names}) == len(names) else table


def stored(ws: Workspace, name: str) -> Iterator[bytes]:
    """Yield a file of the store, in chunks."""
    with ws.store.reading(name) as file:
        while chunk := file.read(1 << 20):
            yield chunk


def with_first_chunk(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first chunk now, so that a file that cannot be read is an error response, and not half a file."""
    first = next(chunks, b"")

    def rest() -> Iterator[bytes]:
        yield first
        yield from chunks

    return rest()


def predictions(ws: Workspace, workflow: Workflow, skip: int, limit: int) -> pd.DataFrame:
    """Return a page of a workflow's predictions so far. Reads only the files that contain it."""
    size = results.read_spec(ws.store, workflow.id).shard_size
    shards = sorted(results.finished_shards(ws.store, workflow.id, Step.INFERENCE))
    wanted = [shard for shard in shards if skip // size <= shard <= (skip + limit - 1) // size]
    frames = [results.read_shard(ws.store, workflow.id, Step.INFERENCE, shard).to_pandas() for shard in wanted]
    if not frames:
        return ws.workflows.predictions(workflow).head(0)
    frame = pd.concat(frames)
    page: pd.DataFrame = frame[(frame["row"] >= skip) & (frame["row"] < skip + limit)].reset_index(drop=True)
    return page.assign(error=page["error"].map(wording.message, na_action="ignore"))


def parquet_of(frame: pd.DataFrame) -> bytes:
    """Return a table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    return buffer.getvalue()


def of_comparison(comparison: Comparison, score: str) -> dict[str, Any]:
    """Return a comparison as JSON, ranked by one of its scores."""
    # A score such as the length of an answer is neither better nor worse, and ranks nothing.
    ranks = next(info for info in comparison.scores if info.name == score).higher_is_better is not None
    return {
        "main_score": score,
        "best": comparison.best(score) if ranks else None,
        "n_scored": comparison.n_scored,
        "confidence": comparison.confidence,
        "verdict": comparison.verdict(score),
        "contrasts": [plain(asdict(contrast)) for contrast in comparison.contrasts(score)],
        "summary": records(comparison.summary()),
        "ranking": records(comparison.ranking(score)) if ranks else [],
        "costs": records(comparison.costs()),
        "notes": notes(comparison),
        "not_computed": {
            title: {model: reason(error) for model, error in reasons.items()}
            for title, reasons in comparison.not_computed.items()
        },
        "uncompared": comparison.uncompared,
    }


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as values of JSON: without NaN and NumPy types."""
    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """Return a value as one of JSON; NaN, infinities and missing values become None."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if value is None or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield "{"
        for index, (name, item) in enumerate(value.items()):
            yield f"{', ' if index else ''}{json.dumps(str(name))}: "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, Iterator):
        yield "["
        for index, item in enumerate(value):
            yield f"{', ' if index else ''}{_UNSCORED_TEXT if item is _UNSCORED else json.dumps(plain(item))}"
        yield "]"
    else:
        yield json.dumps(plain(value))


def _texts(ws: Workspace, experiment: Experiment, workflow: Workflow) -> dict[str, Iterator[Any] | None]:
    """Return the examples, ground truth and predictions of a workflow; None for what it does not have."""
    examples = layout.examples(experiment.dataset_id)
    with results.open_table(ws.store, examples) as parquet:
        has_ground_truth = "ground_truth" in parquet.schema_arrow.names
    texts = _column(ws, examples, "example", experiment.sample)
    answers = _of_predictions(ws, workflow, lambda table: table.column("prediction").to_pylist())
    if experiment.purpose is Purpose.ANNOTATION:
        return {"examples": texts, "ground_truth": answers, "predictions": None}
    truth = _column(ws, examples, "ground_truth", experiment.sample) if has_ground_truth else None
    return {"examples": texts, "ground_truth": truth, "predictions": answers}


def _column(ws: Workspace, name: str, column: str, sample: Sample | None) -> Iterator[Any]:
    for table in results.iter_shards(ws.store, name, [column], _ROWS, sample):
        yield from table.column(0).to_pylist()


def _of_predictions(ws: Workspace, workflow: Workflow, values_of: Callable[[pa.Table], Iterable[Any]]) -> Iterator[Any]:
    """Yield the values that `values_of` takes from each table of a workflow's predictions."""
    for shard in sorted(results.finished_shards(ws.store, workflow.id, Step.INFERENCE)):
        yield from values_of(results.read_shard(ws.store, workflow.id, Step.INFERENCE, shard))


def _reasoning(table: pa.Table) -> Iterable[Any]:
    return table.column("reasoning").to_pylist() if "reasoning" in table.column_names else [None] * len(table)


_TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens")


def _tokens(table: pa.Table) -> Iterable[Any]:
    present = [name for name in _TOKENS if name in table.column_names]
    for row in table.select(present).to_pylist():
        prompt, completion, reasoning = (row.get(name) for name in _TOKENS)
        known = prompt is not None and completion is not None
        yield _token_counts(prompt, completion, reasoning or 0) if known else None


def _token_counts(prompt: int, completion: int, reasoning: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion,
        "reasoning_tokens": reasoning, "answer_tokens": completion - reasoning,
    }  # fmt: skip


def _scores(
    ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job
) -> tuple[dict[str, dict[str, Any]], dict[str, list[int]]]:
    """Return the scores by metric, and the rows without a score by metric and score.

    A score that no row has is left out.
    """
    frame = ws.workflows.scores(workflow, experiment.metrics)
    scores: dict[str, dict[str, Any]] = {}
    unscored: dict[str, list[int]] = {}
    for spec in experiment.metrics:
        if spec.title in job.skipped:
            continue
        for info in metrics.create(spec).infos:
            if info.name not in frame or not (is_scored := frame[info.name].notna()).any():
                continue
            values, of_metric = frame[info.name] / _scale(spec), scores.setdefault(spec.title, {})
            name, mean_name = _names(spec, info)
            if spec.name.startswith("g_eval_"):
                reasons = frame.get(info.name + results.REASON_SUFFIX, [None] * len(values))
                pairs = zip(values, reasons, strict=True)
                of_metric[name] = ({"score": value, "reason": reason or ""} for value, reason in pairs)
            else:
                of_metric[name] = (value if math.isfinite(value) else _UNSCORED for value in values)
            of_metric[mean_name] = float(values.mean())
            if info.aggregate is not mean:
                overall = job.scores.get(info.name)
                of_metric[f"{_short(spec, info)}_overall"] = None if overall is None else overall / _scale(spec)
            if not is_scored.all():
                unscored[f"{spec.title}_{_short(spec, info)}"] = frame["row"][~is_scored].tolist()
    return scores, unscored


def _scale(spec: MetricSpec) -> float:
    return _SCALES.get(spec.name, 1.0)


def _short(spec: MetricSpec, info: ScoreInfo) -> str:
    return info.name.removeprefix(f"{spec.title}_")


def _names(spec: MetricSpec, info: ScoreInfo) -> tuple[str, str]:
    """Return Lumigator's names of the values of a score and of their mean."""
    short = _short(spec, info)
    return _NAMES.get(spec.name, (short, f"{short}_mean"))


def _seconds(job: Job) -> float | None:
    return (job.finished_at - job.started_at).total_seconds() if job.started_at and job.finished_at else None
