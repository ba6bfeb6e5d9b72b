"""A batch in the format of each provider."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from lumigator_testing.batching import Desk, Job

Show = Callable[[Desk, Job], dict[str, Any]]


def openai(desk: Desk, job: Job) -> dict[str, Any]:
    output, errors = desk.split(job) if job.ended else (None, None)
    total, done, failed = _counts(job)
    problem = {"object": "list", "data": [{"code": "invalid_batch", "message": job.problem, "line": None}]}
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": job.about["request"].get("endpoint"),
        "completion_window": "24h",
        "input_file_id": job.about["file"],
        "metadata": job.about["request"].get("metadata"),
        "status": job.state,
        "created_at": int(job.created),
        "errors": problem if job.state == "failed" else None,
        "output_file_id": output,
        "error_file_id": errors,
        "request_counts": {"total": total, "completed": done, "failed": failed},
    }


_MISTRAL_STATES = {
    "validating": "QUEUED",
    "in_progress": "RUNNING",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelled": "CANCELLED",
}


def mistral(desk: Desk, job: Job) -> dict[str, Any]:
    output, errors = desk.split(job) if job.ended else (None, None)
    total, done, failed = _counts(job)
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": job.about["request"].get("endpoint"),
        "input_files": [job.about["file"]],
        "model": job.about["request"].get("model"),
        "metadata": job.about["request"].get("metadata"),
        "status": _MISTRAL_STATES[job.state],
        "errors": [{"message": job.problem, "count": 1}] if job.state == "failed" else [],
        "created_at": int(job.created),
        "output_file": output,
        "error_file": errors,
        "total_requests": total,
        "completed_requests": done + failed,
        "succeeded_requests": done,
        "failed_requests": failed,
    }


def anthropic(desk: Desk, job: Job) -> dict[str, Any]:
    total, done, failed = _counts(job)
    left = total - done - failed
    states = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if job.ended:
        rest = "canceled" if job.cancelled is not None else "errored" if job.problem else "expired"
        states |= {"succeeded": done, "errored": failed}
        states[rest] += left
    else:
        states["processing"] = total
    return {
        "id": job.id,
        "type": "message_batch",
        "processing_status": "ended" if job.ended else "in_progress",
        "request_counts": states,
        "created_at": _stamp(job.created),
        "expires_at": _stamp(job.created, timedelta(days=1)),
        "ended_at": _stamp(job.created + job.seconds) if job.ended else None,
        "cancel_initiated_at": _stamp(job.cancelled) if job.cancelled is not None else None,
        "results_url": f"/v1/messages/batches/{job.id}/results" if job.ended else None,
    }


def _counts(job: Job) -> tuple[int, int, int]:
    """Return the number of rows, of answered rows, and of failed rows."""
    if job.results is None:
        return len(job.rows), int(job.share * len(job.rows)), 0
    good = sum(status == 200 for _, status, _ in job.results)
    return len(job.rows), good, len(job.results) - good


def _stamp(seconds: float, more: timedelta = timedelta(0)) -> str:
    return (datetime.fromtimestamp(seconds, UTC) + more).isoformat()
