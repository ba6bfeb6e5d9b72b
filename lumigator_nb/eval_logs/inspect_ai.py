"""Logs of Inspect: `.eval`, a zip archive of JSON files, and `.json`.

Not `inspect_ai.log`: it takes seconds to import and holds back other packages, and the format is open JSON. The tests
compare with the means that Inspect itself reports.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from lumigator_nb.eval_logs.base import ModelResults, malformed, number, references, results_of, text

_ZSTANDARD = 93
# Lengths of the two variable fields at the end of a zip's local header, which has 30 bytes.
_LOCAL_HEADER = struct.Struct("<26xHH")
_ATTACHMENT = "attachment://"
_USAGE = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "cache_read_tokens": "input_tokens_cache_read",
    "cache_write_tokens": "input_tokens_cache_write",
    "cost": "total_cost",
}


def is_log(document: Any) -> bool:
    """Return whether a JSON document is a log of Inspect."""
    return isinstance(document, Mapping) and {"eval", "status"} <= document.keys() and "task" in document["eval"]


def read_archive(path: Path) -> ModelResults:
    """Return the results in an `.eval` file.

    Raises:
        DamagedError: it is not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = {info.filename: info for info in archive.infolist()}
            # A run that was interrupted has no header yet.
            header = members.get("header.json") or members.get("_journal/start.json")
            if header is None:
                raise malformed(path.name, "it is a zip archive without the header of an Inspect log")
            document = json.loads(_content(archive, file, header))
            samples = [
                json.loads(_content(archive, file, info))
                for name, info in members.items()
                if name.startswith("samples/") and name.endswith(".json")
            ]
    except (zipfile.BadZipFile, json.JSONDecodeError, OSError, pa.ArrowInvalid) as error:
        raise malformed(path.name, f"it cannot be read as an Inspect log ({error})") from error
    return read_log(path, {**document, "samples": samples})


def _content(archive: zipfile.ZipFile, file: Any, info: zipfile.ZipInfo) -> bytes:
    """A member of the archive. Inspect compresses with Zstandard, which Python's zipfile reads from 3.14 on."""
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    file.seek(info.header_offset)
    lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    file.seek(sum(lengths), 1)
    return bytes(pa.input_stream(pa.py_buffer(file.read(info.compress_size)), compression="zstd").read())


def read_log(path: Path, log: Mapping[str, Any]) -> ModelResults:
    """Return the results in the JSON of a log.

    Raises:
        DamagedError: it has no samples.
    """
    samples, spec = log.get("samples") or [], log["eval"]
    if not samples:
        raise malformed(path.name, "the log has no samples; Inspect leaves them out with --no-log-samples")
    # The order of the dataset: a zip has them in the order in which they ended.
    order = {str(key): place for place, key in enumerate((spec.get("dataset") or {}).get("sample_ids") or [])}
    samples = sorted(samples, key=lambda one: (order.get(str(one["id"]), len(order)), one.get("epoch", 1)))
    records = [_record(sample) for sample in samples]
    scorers = (log.get("results") or {}).get("scores") or []
    names = {name for record in records for name in record["scores"]}
    reported = {}
    for scorer in scorers:
        values = {metric: one.get("value") for metric, one in (scorer.get("metrics") or {}).items()}
        mean = next((values[name] for name in ("accuracy", "mean") if name in values), None)
        if mean is not None and scorer.get("name") in names:
            reported[scorer["name"]] = number(mean)
    config = {**(log.get("plan") or {}).get("config", {}), **(spec.get("model_generate_config") or {})}
    status = log.get("status")
    partial = f"Inspect's run has the status {status!r}, so that samples may be missing"
    return results_of(
        str(spec["model"]),
        records,
        task=str(spec["task"]),
        tool="Inspect",
        source=str(path),
        reported=reported if status == "success" else {},
        details={
            "inspect_ai": (spec.get("packages") or {}).get("inspect_ai"),
            "date": spec.get("created"),
            **{key: value for key, value in config.items() if isinstance(value, (str, int, float, bool))},
            "notes": [] if status == "success" else [partial],
        },
    )


def _record(sample: Mapping[str, Any]) -> dict[str, Any]:
    attachments = sample.get("attachments") or {}
    error = (sample.get("error") or {}).get("message")
    output = sample.get("output") or {}
    choices = output.get("choices") or [{}]
    completion = output.get("completion") or text((choices[0].get("message") or {}).get("content"))
    return {
        "item": sample["id"],
        "example": _resolved(text(sample.get("input")), attachments),
        "ground_truth": references(sample.get("target")),
        "prediction": None if error else _resolved(completion, attachments),
        "error": error,
        "seconds": sample.get("working_time") or sample.get("total_time"),
        **_usage(sample.get("model_usage") or {}),
        "scores": dict(_scores(sample.get("scores") or {})),
        "metadata": sample.get("metadata"),
    }


def _resolved(value: str | None, attachments: Mapping[str, str]) -> str | None:
    """Long texts lie once in the sample's attachments."""
    if value is None or not value.startswith(_ATTACHMENT):
        return value
    return attachments.get(value.removeprefix(_ATTACHMENT), value)


def _usage(by_model: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    usage: dict[str, float | None] = {}
    for name, theirs in _USAGE.items():
        counts = [one[theirs] for one in by_model.values() if one.get(theirs) is not None]
        usage[name] = sum(counts) if counts else None
    return usage


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for scorer, score in scores.items():
        value = score.get("value")
        if isinstance(value, Mapping):
            yield from ((f"{scorer}/{key}", number(own)) for key, own in value.items())
        elif not isinstance(value, list):
            yield scorer, number(value)
