"""Results and datasets as files, made while they are sent, so that nothing is whole in memory.

A result is what Lumigator calls one: an object of `metrics`, `parameters` and `artifacts`, with Lumigator's names and
scales.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, cast

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

_ROWS, _CHUNK = 1024, 1 << 16
# What Lumigator calls a list of scores and their mean, by metric, where it is not `x` and `x_mean`.
_NAMES = {"comet": ("scores", "mean_score")}
# What is 1 there, by metric.
_ONE = {"bleu": 100.0}
# Lumigator's pages show each score as a number, and nothing at all where one is null. This one, which is minus infinity
# in JavaScript and in Python, is nobody's score.
_UNSCORED, _UNSCORED_TEXT = object(), "-1e999"


def of_inference(ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job) -> dict[str, Any]:
    """Return the result of an inference; lists that grow with the data are iterators, to be written once."""
    return {
        "metrics": inference_metrics(job),
        "parameters": parameters(experiment, workflow),
        "artifacts": {
            **_texts(ws, experiment, workflow),
            "reasoning": _answers(ws, workflow, _reasoning),
            "inference_metrics": _answers(ws, workflow, _tokens),
            "model": workflow.model.name,
            "inference_time": _seconds(job),
        },
    }


def of_evaluation(ws: Workspace, experiment: Experiment, workflow: Workflow, job: Job) -> dict[str, Any]:
    """Return the result of an evaluation, as :func:`of_inference`."""
    scores, unscored = _scores(ws, experiment, workflow, job)
    return {
        "metrics": scores,
        "parameters": parameters(experiment, workflow, job.skipped),
        "artifacts": {name: values for name, values in _texts(ws, experiment, workflow).items() if name != "examples"}
        | {"evaluation_time": _seconds(job), "unscored": unscored},
    }


def of_workflow(ws: Workspace, experiment: Experiment, workflow: Workflow) -> dict[str, Any]:
    """Return the results of both jobs of a workflow as one."""
    jobs = {job.step: job for job in ws.workflows.jobs([workflow])}
    inference = of_inference(ws, experiment, workflow, jobs[Step.INFERENCE])
    evaluation = of_evaluation(ws, experiment, workflow, jobs[Step.EVALUATION])
    own = {name: evaluation["artifacts"][name] for name in ("evaluation_time", "unscored")}
    return {
        "metrics": {**evaluation["metrics"], **inference["metrics"]},
        "parameters": evaluation["parameters"],
        "artifacts": {**inference["artifacts"], **own},
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
    """Return what an inference counted: tokens, in all and as the mean of an answer, and dollars, if they are known."""
    details = job.details
    counted = {name: details.get(name) for name in ("prompt_tokens", "completion_tokens", "cost")}
    found = {name: float(value) for name, value in counted.items() if isinstance(value, (int, float))}
    if job.status is not Status.SUCCEEDED:
        return found
    answered = details.get("answered")
    if answered and "prompt_tokens" in found:
        sums = _token_counts(*(details.get(name) or 0 for name in _TOKENS))
        found |= {f"avg_{name}": total / answered for name, total in sums.items()}
    return {**found, "n_failed": float(job.n_failed)}


def evaluation_metrics(experiment: Experiment, job: Job) -> dict[str, float]:
    """Return means over the examples by metric and score, and what is no mean as `_overall`."""
    found = {}
    for spec in experiment.metrics:
        for info in metrics.create(spec).infos:
            overall, (_, name) = job.scores.get(info.name), _names(spec, info)
            if overall is None or not math.isfinite(overall):
                continue
            if info.aggregate is not mean:
                found[f"{spec.title}_{_short(spec, info)}_overall"] = overall / _one(spec)
                overall = job.details.get("means", {}).get(info.name)  # earlier versions did not note it
            if overall is not None:
                found[f"{spec.title}_{name}"] = overall / _one(spec)
    return found


def encoded(value: Any) -> Iterator[bytes]:
    """Write a value as JSON, piece by piece; iterators become lists, and NaN null, or minus infinity among scores."""
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
    for index, table in enumerate(_tables(ws, dataset)):
        if index == 0:
            writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
        yield buffer.getvalue().encode(errors="replace")
        buffer.seek(0)
        buffer.truncate()


def json_lines_of(ws: Workspace, dataset: Dataset) -> Iterator[bytes]:
    """Write the examples of a dataset as JSON Lines."""
    for table in _tables(ws, dataset):
        yield "".join(f"{json.dumps(plain(row), ensure_ascii=False)}\n" for row in table.to_pylist()).encode()


def arrow_of(ws: Workspace, dataset: Dataset) -> Iterator[bytes]:
    """Write the examples of a dataset as an Arrow stream, which is how Hugging Face's `datasets` keeps its own."""
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
    """The examples of a dataset, some rows at a time, with Lumigator's name for what is answered."""
    for table in results.iter_shards(ws.store, layout.examples(dataset.id), None, _ROWS):
        names = ["examples" if name == "example" else name for name in table.column_names]
        yield table.rename_columns(names) if len({*names}) == len(names) else table


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
    return found.assign(error=found["error"].map(wording.message, na_action="ignore"))


def parquet_of(frame: pd.DataFrame) -> bytes:
    """Write a table as a Parquet file."""
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
            yield f"{', ' if index else ''}{_UNSCORED_TEXT if each is _UNSCORED else json.dumps(plain(each))}"
        yield "]"
    else:
        yield json.dumps(plain(value))


def _texts(ws: Workspace, experiment: Experiment, workflow: Workflow) -> dict[str, Iterator[Any] | None]:
    examples = layout.examples(experiment.dataset_id)
    with results.open_table(ws.store, examples) as parquet:
        has_ground_truth = "ground_truth" in parquet.schema_arrow.names
    texts, answers = _column(ws, examples, "example", experiment.sample), _answers(ws, workflow, _prediction)
    if experiment.purpose is Purpose.ANNOTATION:
        return {"examples": texts, "ground_truth": answers, "predictions": None}
    truth = _column(ws, examples, "ground_truth", experiment.sample) if has_ground_truth else None
    return {"examples": texts, "ground_truth": truth, "predictions": answers}


def _column(ws: Workspace, name: str, column: str, sample: Sample | None) -> Iterator[Any]:
    for table in results.iter_shards(ws.store, name, [column], _ROWS, sample):
        yield from table.column(0).to_pylist()


def _answers(ws: Workspace, workflow: Workflow, of: Callable[[pa.Table], Iterable[Any]]) -> Iterator[Any]:
    for shard in sorted(results.finished_shards(ws.store, workflow.id, Step.INFERENCE)):
        yield from of(results.read_shard(ws.store, workflow.id, Step.INFERENCE, shard))


def _prediction(table: pa.Table) -> Iterable[Any]:
    return cast(Iterable[Any], table.column("prediction").to_pylist())


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
    """Scores by metric, and which rows have none, by metric and score; a score that no row has is left out."""
    frame = ws.workflows.scores(workflow, experiment.metrics)
    found: dict[str, dict[str, Any]] = {}
    unscored: dict[str, list[int]] = {}
    for spec in experiment.metrics:
        if spec.title in job.skipped:
            continue
        for info in metrics.create(spec).infos:
            if info.name not in frame or not (scored := frame[info.name].notna()).any():
                continue
            values, mine = frame[info.name] / _one(spec), found.setdefault(spec.title, {})
            name, mean_name = _names(spec, info)
            reasons = frame.get(info.name + results.REASON_SUFFIX)
            mine[name] = _explained(values, reasons) if _is_g_eval(spec) else _numbers(values)
            mine[mean_name] = float(values.mean())
            if info.aggregate is not mean:
                overall = job.scores.get(info.name)
                mine[f"{_short(spec, info)}_overall"] = None if overall is None else overall / _one(spec)
            if not scored.all():
                unscored[f"{spec.title}_{_short(spec, info)}"] = frame["row"][~scored].tolist()
    return found, unscored


def _numbers(values: pd.Series) -> Iterator[Any]:
    return (value if math.isfinite(value) else _UNSCORED for value in values)


def _explained(values: pd.Series, reasons: pd.Series | None) -> Iterator[dict[str, Any]]:
    words = [None] * len(values) if reasons is None else reasons
    return ({"score": value, "reason": said or ""} for value, said in zip(values, words, strict=True))


def _is_g_eval(spec: MetricSpec) -> bool:
    return spec.name.startswith("g_eval_")


def _one(spec: MetricSpec) -> float:
    return _ONE.get(spec.name, 1.0)


def _short(spec: MetricSpec, info: ScoreInfo) -> str:
    return info.name.removeprefix(f"{spec.title}_")


def _names(spec: MetricSpec, info: ScoreInfo) -> tuple[str, str]:
    """What Lumigator calls the values of a score, and their mean."""
    short = _short(spec, info)
    return _NAMES.get(spec.name, (short, f"{short}_mean"))


def _seconds(job: Job) -> float | None:
    return (job.finished_at - job.started_at).total_seconds() if job.started_at and job.finished_at else None
