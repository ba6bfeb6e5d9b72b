"""Every Eval Ever: `NAME.json` with the overall results of a model, and `NAME_samples.jsonl` with those of its samples.

Not the package `every-eval-ever`, which needs Python 3.12 and validates and converts, but does not compare.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumigator_nb.eval_logs.base import Better, ModelResults, malformed, number, results_of

_UNBOUNDED = {"Infinity": math.inf, "-Infinity": -math.inf}
_TOKENS = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "cache_read_tokens": "input_tokens_cache_read",
    "cache_write_tokens": "input_tokens_cache_write",
}
SAMPLES_SUFFIX = "_samples.jsonl"


def is_summary(document: Any) -> bool:
    """Return whether a JSON document holds the overall results of a model."""
    return isinstance(document, Mapping) and {"evaluation_results", "model_info", "evaluation_id"} <= document.keys()


def is_sample(line: Any) -> bool:
    """Return whether a line of JSON is the result of a sample."""
    return isinstance(line, Mapping) and {"sample_id", "evaluation_id", "evaluation", "input"} <= line.keys()


def samples_of(path: Path) -> Path:
    """Return the file of samples beside a summary.

    Raises:
        DamagedError: it is not there.
    """
    samples = path.with_name(path.name.removesuffix(".json") + SAMPLES_SUFFIX)
    if not samples.exists():
        raise malformed(path.name, f"it has overall results only, and {samples.name}, with samples, is not beside it")
    return samples


def read(path: Path, lines: Sequence[Mapping[str, Any]]) -> list[ModelResults]:
    """Return the results in a file of samples, one per model and evaluation.

    Raises:
        DamagedError: a line is no sample.
    """
    summary = _summary(path)
    described = {one.get("evaluation_result_id"): one for one in summary.get("evaluation_results") or ()}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for index, line in enumerate(lines):
        if not is_sample(line):
            raise malformed(path.name, f"line {index + 1} is no sample of Every Eval Ever")
        groups.setdefault((str(line["model_id"]), str(line["evaluation_name"])), []).append(line)
    library = summary.get("eval_library") or {}
    return [_results(path, model, task, own, described, library) for (model, task), own in groups.items()]


def _summary(samples: Path) -> dict[str, Any]:
    try:
        path = samples.with_name(samples.name.removesuffix(SAMPLES_SUFFIX) + ".json")
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _results(
    path: Path,
    model: str,
    task: str,
    lines: Sequence[Mapping[str, Any]],
    described: Mapping[Any, Mapping[str, Any]],
    library: Mapping[str, Any],
) -> ModelResults:
    # A sample has a line for each score; a second line with the same score is a repeat.
    seen: Counter[tuple[str, Any]] = Counter()
    records: dict[tuple[str, int], dict[str, Any]] = {}
    better: dict[str, Better] = {}
    ranges: dict[str, tuple[float, float]] = {}
    reported: dict[str, float] = {}
    for line in lines:
        key = line.get("evaluation_result_id")
        result = described.get(key) or {}
        config = result.get("metric_config") or {}
        name = str(config.get("metric_name") or config.get("metric_id") or key or "score")
        if "lower_is_better" in config:
            better[name] = "lower" if config["lower_is_better"] else "higher"
        low, high = config.get("min_score"), config.get("max_score")
        if low is not None and high is not None:
            ranges[name] = (float(_UNBOUNDED.get(low, low)), float(_UNBOUNDED.get(high, high)))
        if (overall := (result.get("score_details") or {}).get("score")) is not None:
            reported[name] = float(overall)
        sample = str(line["sample_id"])
        seen[sample, key] += 1
        record = records.setdefault((sample, seen[sample, key]), _record(line, sample))
        record["scores"][name] = math.nan if line.get("error") else number(line["evaluation"].get("score"))
    return results_of(
        model,
        list(records.values()),
        better=better,
        ranges=ranges,
        task=task,
        tool=str(library.get("name") or "Every Eval Ever"),
        source=str(path),
        reported=reported,
        details={"version": library.get("version")},
    )


def _record(line: Mapping[str, Any], sample: str) -> dict[str, Any]:
    reference = [str(one) for one in line["input"].get("reference") or ()]
    messages = [one for one in line.get("messages") or () if one.get("role") == "assistant" and one.get("content")]
    output = (line.get("output") or {}).get("raw") or [one["content"] for one in messages[-1:]]
    usage, latency = line.get("token_usage") or {}, (line.get("performance") or {}).get("latency_ms")
    return {
        "item": sample,
        "example": line["input"].get("raw"),
        "ground_truth": reference[0] if len(reference) == 1 else tuple(reference) or None,
        "prediction": output[0] if output and not line.get("error") else None,
        "error": line.get("error"),
        "seconds": None if latency is None else latency / 1000,
        **{name: usage.get(theirs) for name, theirs in _TOKENS.items()},
        "scores": {},
        "metadata": line.get("metadata"),
    }
