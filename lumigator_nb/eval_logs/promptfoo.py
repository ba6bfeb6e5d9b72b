"""Results of promptfoo, from `promptfoo eval -o output.json`; it is a program of Node.js without a Python reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumigator_nb.eval_logs.base import ModelResults, malformed, number, results_of, text

_ERROR = 2  # failureReason of a test that could not be run, rather than failed


def is_output(document: Any) -> bool:
    """Return whether a JSON document is promptfoo's output, of version 3 or later."""
    if not isinstance(document, Mapping) or not isinstance(document.get("results"), Mapping):
        return False
    return bool({"results", "stats"} <= document["results"].keys())


def read(path: Path, document: Mapping[str, Any]) -> list[ModelResults]:
    """Return the results of each provider, or of each provider with each prompt.

    Raises:
        DamagedError: a result names no provider.
    """
    results = document["results"]
    rows: Sequence[Mapping[str, Any]] = results["results"]
    prompts = list(dict.fromkeys(_prompt(row) for row in rows))
    descriptions = {row.get("testIdx"): (row.get("testCase") or {}).get("description") for row in rows}
    # Descriptions tell examples apart between files, if each has one.
    has_names = None not in descriptions.values() and len(set(descriptions.values())) == len(descriptions)
    records: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        provider = row.get("provider") or {}
        label = provider.get("label") or provider.get("id")
        if not label:
            raise malformed(path.name, "a result names no provider")
        label = f"{label}, {_prompt(row)}" if len(prompts) > 1 else label
        item = descriptions[row.get("testIdx")] if has_names else row.get("testIdx")
        records.setdefault(str(label), []).append(_record(row, item))
    version = (document.get("metadata") or {}).get("promptfooVersion")
    task = (document.get("config") or {}).get("description") or ""
    return [
        results_of(
            label,
            own,
            ranges={"pass": (0.0, 1.0)},
            task=str(task),
            tool="promptfoo",
            source=str(path),
            reported=_reported(results.get("prompts") or [], label, len(prompts)),
            details={"promptfoo": version, "date": results.get("timestamp")},
        )
        for label, own in records.items()
    ]


def _prompt(row: Mapping[str, Any]) -> str:
    prompt = row.get("prompt") or {}
    return str(prompt.get("label") or prompt.get("raw") or "")


def _reported(prompts: Sequence[Mapping[str, Any]], label: str, n_prompts: int) -> dict[str, float]:
    """Promptfoo's own sums as means; nothing where answers failed, which it counts as 0 and we leave out."""
    for prompt in prompts:
        own = f"{prompt.get('provider')}, {prompt.get('label')}" if n_prompts > 1 else prompt.get("provider")
        counts = prompt.get("metrics") or {}
        tests = counts.get("testPassCount", 0) + counts.get("testFailCount", 0)
        if own == label and tests and not counts.get("testErrorCount"):
            return {"pass": counts["testPassCount"] / tests, "score": counts["score"] / tests}
    return {}


def _record(row: Mapping[str, Any], item: Any) -> dict[str, Any]:
    response, usage = row.get("response") or {}, row.get("tokenUsage") or {}
    failed = row.get("failureReason") == _ERROR
    error = (row.get("error") or response.get("error") or "the test could not be run") if failed else None
    latency, cost = row.get("latencyMs"), row.get("cost")
    scores = {"pass": number(bool(row.get("success"))), "score": number(row.get("score")), **_named(row)}
    return {
        "item": item,
        "example": text((row.get("prompt") or {}).get("raw")),
        "ground_truth": _expected((row.get("testCase") or {}).get("assert") or []),
        "prediction": None if failed else text(response.get("output")),
        "error": error,
        "seconds": None if latency is None or response.get("cached") else latency / 1000,
        # Promptfoo writes 0 for a provider whose prices it does not know.
        "cost": cost or None,
        "prompt_tokens": usage.get("prompt") or None,
        "completion_tokens": usage.get("completion") or None,
        "scores": {} if failed else scores,
        "metadata": {key: value for key, value in (row.get("vars") or {}).items() if not key.startswith("_")},
    }


def _named(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: number(value) for name, value in (row.get("namedScores") or {}).items()}


def _expected(assertions: Sequence[Mapping[str, Any]]) -> str | None:
    """The text that the first assertion expects, if it compares with one."""
    kinds = ("equals", "contains", "icontains", "similar", "factuality", "answer-relevance")
    values = [one.get("value") for one in assertions if one.get("type") in kinds]
    return values[0] if values and isinstance(values[0], str) else None
