"""Samples of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, beside `results_DATE.json`.

Not `lm_eval` itself, which has no reader of its own files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumigator_nb.eval_logs.base import Better, ModelResults, malformed, number, results_of

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[\d\-.]+))?\.jsonl")


def is_sample(line: Any) -> bool:
    """Return whether a line of JSON is a sample of lm-evaluation-harness."""
    return isinstance(line, Mapping) and {"doc_id", "doc", "target"} <= line.keys()


def is_summary(document: Any) -> bool:
    """Return whether a JSON document is the summary of a run, which has no samples."""
    return isinstance(document, Mapping) and {"results", "configs", "versions"} <= document.keys()


def read(path: Path, lines: Sequence[Mapping[str, Any]]) -> ModelResults:
    """Return the results in the samples of one task.

    Raises:
        DamagedError: a line is no sample.
    """
    match = _NAME.fullmatch(path.name)
    task, date = (match["task"], match["date"]) if match else (path.stem, None)
    summary = _summary(path, date)
    by_document: dict[Any, dict[str, Any]] = {}
    for index, line in enumerate(lines):
        if not is_sample(line):
            raise malformed(path.name, f"line {index + 1} is no sample of lm-evaluation-harness")
        # A document has a line for each filter, such as gsm8k's strict-match and flexible-extract.
        record = by_document.setdefault(line["doc_id"], _record(line))
        record["scores"] |= _scores(line)
    config = (summary.get("configs") or {}).get(task) or {}
    means = {one.get("metric") for one in config.get("metric_list") or () if one.get("aggregation") == "mean"}
    reported = {
        _name(metric): number(value)
        for metric, value in ((summary.get("results") or {}).get(task) or {}).items()
        if metric.partition(",")[0] in means
    }
    names = {name for record in by_document.values() for name in record["scores"]}
    stated = (summary.get("higher_is_better") or {}).get(task) or {}
    better: dict[str, Better] = {}
    for name in names:
        if name.partition(",")[0] in stated:
            better[name] = "higher" if stated[name.partition(",")[0]] else "lower"
    return results_of(
        summary.get("model_name") or path.parent.name.replace("__", "/"),
        list(by_document.values()),
        better=better,
        task=task,
        tool="lm-evaluation-harness",
        source=str(path),
        reported={name: value for name, value in reported.items() if name in names},
        details={"lm_eval": summary.get("lm_eval_version"), "date": date, "few_shot": config.get("num_fewshot")},
    )


def _summary(path: Path, date: str | None) -> dict[str, Any]:
    """The run's summary beside the samples; empty if it is not there."""
    try:
        summary = json.loads((path.parent / f"results_{date}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _name(metric: str) -> str:
    """A score's name with its filter, as in `exact_match,strict-match`; "none" is the filter that does nothing."""
    return metric.removesuffix(",none")


def _scores(line: Mapping[str, Any]) -> dict[str, float]:
    names = line.get("metrics") or [name for name, value in line.items() if isinstance(value, float)]
    return {
        _name(f"{name},{line.get('filter', 'none')}"): number(line.get(name))
        for name in names
        # Pairs, such as those of a perplexity, are no scores of one example.
        if not isinstance(line.get(name), (list, tuple, dict))
    }


def _record(line: Mapping[str, Any]) -> dict[str, Any]:
    requests = line.get("arguments") or []
    asked = list(requests.values()) if isinstance(requests, Mapping) else list(requests)
    arguments = [list(one.values()) if isinstance(one, Mapping) else list(one) for one in asked]
    responses = line.get("filtered_resps") or line.get("resps") or [None]
    prediction, truth = responses[0], str(line["target"])
    if isinstance(prediction, list) and len(prediction) == 2 and all(len(one) > 1 for one in arguments):
        # Log-likelihoods of the choices: the answer is the most likely one, and the target a position.
        choices = [str(one[1]).strip() for one in arguments]
        likelihoods = [number(one[0]) for one in responses]
        prediction = choices[max(range(len(likelihoods)), key=likelihoods.__getitem__)] if choices else None
        truth = choices[int(truth)] if truth.isdigit() and int(truth) < len(choices) else truth
    elif isinstance(prediction, list):
        prediction = prediction[0] if prediction else None
    example = str(arguments[0][0]) if arguments and arguments[0] else json.dumps(line["doc"], ensure_ascii=False)
    document = line["doc"] if isinstance(line["doc"], Mapping) else {}
    return {
        "item": line["doc_id"],
        "example": example,
        "ground_truth": truth,
        "prediction": None if prediction is None else str(prediction),
        "scores": {},
        # What the question already says divides no examples.
        "metadata": {
            str(key): value
            for key, value in document.items()
            if isinstance(value, (str, int, float, bool)) and str(value) not in example and str(value) != truth
        },
    }
