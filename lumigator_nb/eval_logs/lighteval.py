"""Details of lighteval: `details/MODEL/DATE/details_TASK_DATE.parquet`, beside `results/MODEL/results_DATE.json`.

Not `lighteval` itself, which needs torch and reads its details only to evaluate again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lumigator_nb.eval_logs.base import ModelResults, number, results_of

_COLUMNS = ("doc", "metric", "model_response")


def is_details(columns: Collection[str]) -> bool:
    """Return whether a Parquet file with these columns is of lighteval (0.10 or later)."""
    return set(_COLUMNS) <= set(columns)


def read(path: Path) -> ModelResults:
    """Return the results in the details of one task."""
    rows = pq.read_table(path, columns=list(_COLUMNS)).to_pylist()
    date = path.parent.name
    folders = path.parts
    # A model's name may contain a slash, and so be two folders.
    start = len(folders) - 1 - folders[::-1].index("details") if "details" in folders else len(folders) - 3
    model = "/".join(folders[start + 1 : -2]) or path.stem
    task = path.stem.removeprefix("details_").removesuffix(f"_{date}")
    summary = _summary(Path(*folders[:start]) / "results" / model / f"results_{date}.json")
    records = [_record(row) for row in rows]
    # Multi-process runs write rows in any order; ids are positions in the dataset.
    records.sort(key=lambda one: (0, int(one["item"]), "") if one["item"].isdigit() else (1, 0, one["item"]))
    names = {name for record in records for name in record["scores"]}
    reported = (summary.get("results") or {}).get(task) or {}
    return results_of(
        model,
        records,
        task=task,
        tool="lighteval",
        source=str(path),
        reported={name: number(value) for name, value in reported.items() if name in names},
        details={"date": date},
    )


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    document, response = row["doc"], row["model_response"] or {}
    gold = document.get("gold_index")
    positions = gold if isinstance(gold, list) else [gold]
    choices = document.get("choices") or []
    truths = tuple(str(choices[one]) for one in positions if isinstance(one, int) and 0 <= one < len(choices))
    texts = response.get("text_post_processed") or response.get("text") or []
    likelihoods = response.get("logprobs") or []
    prediction = texts[0] if texts else None
    if prediction is None and likelihoods and len(likelihoods) == len(choices):
        prediction = str(choices[max(range(len(choices)), key=likelihoods.__getitem__)])
    return {
        "item": str(document["id"]),
        "example": document.get("query"),
        "ground_truth": truths[0] if len(truths) == 1 else truths or None,
        "prediction": prediction,
        "scores": {name: number(value) for name, value in (row["metric"] or {}).items()},
        "metadata": document.get("specific"),
    }
