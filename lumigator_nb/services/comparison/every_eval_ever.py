"""A comparison as Every Eval Ever: per model a file of overall results, and one with a line per sample and score.

Not the package `every-eval-ever`, which needs Python 3.12; the tests validate by its schemas.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb._version import __version__
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.files import whole_file
from lumigator_nb.specs import Step, now

# `Comparison` is not named as a type, because it imports what exports it.
SUFFIX = ".eee.json"
_SCHEMA = "0.3.0"
_TOKENS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "input_tokens_cache_read": "cache_read_tokens",
    "input_tokens_cache_write": "cache_write_tokens",
}


def write(comparison: Any, path: Path) -> Path:
    """Write the files of every model, and return the path of the first one's overall results.

    With several models the name gets each one's label: `x.eee.json` becomes `x.MODEL.eee.json`. Scores without better
    and worse are left out, since the format has no place for them.

    Raises:
        InvalidInputError: no score has a better and a worse.
    """
    stem = path.name[: -len(SUFFIX)]
    names = [re.sub(r"[^\w.-]+", "-", label) for label in comparison.models]
    several = len(names) > 1
    if len(set(names)) < len(names):
        names = [f"{name}-{number}" for number, name in enumerate(names, 1)]
    paths = [path.with_name(f"{stem}.{name}{SUFFIX}" if several else path.name) for name in names]
    for label, target in zip(comparison.models, paths, strict=True):
        _write_model(comparison, label, target)
    return paths[0]


def _write_model(comparison: Any, label: str, path: Path) -> None:
    moment = str(int(now().timestamp()))
    model_id = label if "/" in label else f"unknown/{label}"
    evaluation_id = f"{comparison.dataset.name}/{model_id.replace('/', '_')}/{moment}"
    lines = [json.dumps(line, ensure_ascii=False) for line in _samples(comparison, label, model_id, evaluation_id)]
    content = "".join(f"{line}\n" for line in lines).encode()
    samples = path.with_name(path.name.removesuffix(".json") + "_samples.jsonl")
    with whole_file(samples) as file:
        file.write(content)
    summary = {
        "schema_version": _SCHEMA,
        "evaluation_id": evaluation_id,
        "retrieved_timestamp": moment,
        "source_metadata": {
            "source_name": comparison.experiment.name,
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": _library(comparison, label),
        "model_info": {
            "name": label,
            "id": model_id,
            "additional_details": {"deployment_type": "unknown", "model_availability": "unknown"},
        },
        "evaluation_results": _results(comparison, label),
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": _place(comparison, model_id, content),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(content).hexdigest(),
            "total_rows": len(lines),
        },
    }
    with whole_file(path) as file:
        file.write(json.dumps(summary, indent=2, ensure_ascii=False).encode())


def _place(comparison: Any, model_id: str, content: bytes) -> str:
    """Where the samples would lie in the public collection; its name is a UUID, here of the content."""
    digest = hashlib.sha256(content).hexdigest()
    uuid = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
    parts = [re.sub(r"[^\w.-]+", "-", part) for part in (comparison.dataset.name, *model_id.split("/", 1))]
    return f"data/{'/'.join(parts)}/{uuid}_samples.jsonl"


def _library(comparison: Any, label: str) -> dict[str, str]:
    """The tool that computed the scores."""
    model = next(model for model in comparison.workflows if model.label == label)
    details: Any = next((step.details for step in model.steps if step.step == Step.INFERENCE), {})
    if comparison.experiment.metrics or "tool" not in details:
        return {"name": "lumigator_nb", "version": __version__}
    versions = (details.get(name) for name in ("inspect_ai", "lm_eval", "promptfoo", "version"))
    return {"name": str(details["tool"]), "version": str(next(filter(None, versions), "unknown"))}


def _scores(comparison: Any) -> list[Any]:
    infos = [info for info in comparison.scores if info.higher_is_better is not None]
    if not infos:
        raise InvalidInputError(
            "no score has a better and a worse, which Every Eval Ever requires", "export to .html, .xlsx, .csv or .md"
        )
    return infos


def _results(comparison: Any, label: str) -> list[dict[str, Any]]:
    summary = comparison.summary().set_index(["score", "model"])
    results = []
    for info in _scores(comparison):
        row = summary.loc[(info.name, label)]
        values = comparison.values(info.name).to_numpy()
        is_binary = bool(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all())
        uncertainty: dict[str, Any] = {"num_samples": int(row["n"])}
        if math.isfinite(row["low"]) and math.isfinite(row["high"]):
            uncertainty["confidence_interval"] = {
                "lower": float(row["low"]),
                "upper": float(row["high"]),
                "confidence_level": comparison.confidence,
                "method": "Wilson" if is_binary else "BCa bootstrap",
            }
        low, high = info.range
        results.append(
            {
                "evaluation_result_id": info.name,
                "evaluation_name": comparison.dataset.name,
                "source_data": {"dataset_name": comparison.dataset.name, "source_type": "other"},
                "metric_config": {
                    "evaluation_description": info.description,
                    "metric_id": info.name,
                    "metric_name": info.name,
                    "lower_is_better": not info.higher_is_better,
                    "score_type": "binary" if is_binary else "continuous",
                    "min_score": low if math.isfinite(low) else "-Infinity",
                    "max_score": high if math.isfinite(high) else "Infinity",
                },
                "score_details": {"score": float(row["overall"]), "uncertainty": uncertainty},
            }
        )
    return results


def _samples(comparison: Any, label: str, model_id: str, evaluation_id: str) -> Iterator[dict[str, Any]]:
    """A line per sample and score; none for a sample without a score from every model, which none is compared on."""
    predictions = comparison.data.predictions[label].set_index("row")
    examples, references = comparison.examples(), comparison.references()
    metadata = comparison.metadata().to_dict("records")
    ids = comparison.data.items or tuple(map(str, range(len(examples))))
    for info in _scores(comparison):
        values = comparison.values(info.name)[label]
        best = info.range[1] if info.higher_is_better else info.range[0]
        for row in values.index[values.notna()]:
            prediction = predictions.loc[row]
            example, score = str(examples["example"][row]), float(values[row])
            yield {
                "schema_version": _SCHEMA,
                "evaluation_id": evaluation_id,
                "model_id": model_id,
                "evaluation_name": comparison.dataset.name,
                "evaluation_result_id": info.name,
                "sample_id": ids[row],
                "sample_hash": _digest(example, *references[row]),
                "interaction_type": "single_turn",
                "input": {"raw": example, "reference": list(references[row])},
                "output": {"raw": [str(prediction["prediction"])]},
                "messages": None,
                "answer_attribution": [],
                "evaluation": {"score": score, "is_correct": score == best},
                **_usage(prediction),
                "metadata": {str(name): str(value) for name, value in metadata[row].items() if not pd.isna(value)},
            }


def _usage(prediction: pd.Series) -> dict[str, Any]:
    """Tokens and latency, as far as they are known."""
    tokens = {
        theirs: int(prediction[ours])
        for theirs, ours in _TOKENS.items()
        if ours in prediction and not pd.isna(prediction[ours])
    }
    usage: dict[str, Any] = {}
    if {"input_tokens", "output_tokens"} <= tokens.keys():
        usage["token_usage"] = {**tokens, "total_tokens": tokens["input_tokens"] + tokens["output_tokens"]}
    seconds = prediction.get("seconds")
    if seconds is not None and not pd.isna(seconds):
        usage["performance"] = {"latency_ms": 1000 * float(seconds)}
    return usage


def _digest(*texts: str) -> str:
    return hashlib.sha256("".join(texts).encode(errors="replace")).hexdigest()
