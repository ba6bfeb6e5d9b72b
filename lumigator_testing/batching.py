"""Storage of files and batches at the provider. Both stay until the server ends."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from lumigator_testing.protocols import Anthropic, Fault, Mistral, OpenAI, Wire
from lumigator_testing.service import Service


@dataclass(slots=True)
class Job:
    """One batch.

    Attributes:
        rows: `custom_id` and body of each request.
        about: properties from the client's request, which responses repeat: input file, endpoint, metadata, model.
        seconds: duration of the batch.
        end: state in which it ends: "completed", "failed" or "expired".
        problem: why it failed as a whole.
        cancelled: when it was cancelled.
        results: once it has ended: `custom_id`, HTTP status and body of each finished row.
        files: ids of the output file and the error file, once they have been requested.
    """

    id: str
    wire: Wire
    rows: list[tuple[str, dict[str, Any]]]
    about: dict[str, Any]
    seconds: float
    end: str
    problem: str | None = None
    created: float = field(default_factory=time.time)
    cancelled: float | None = None
    results: list[tuple[str, int, dict[str, Any]]] | None = None
    files: tuple[str | None, str | None] | None = None

    @property
    def share(self) -> float:
        """Share of the rows that are finished, in [0, 1]."""
        until = time.time() if self.cancelled is None else self.cancelled
        done = min((until - self.created) / self.seconds, 1.0) if self.seconds else 1.0
        return done / 2 if self.end == "expired" else done

    @property
    def state(self) -> str:
        """OpenAI's name of the current state."""
        if self.cancelled is not None:
            return "cancelled"
        passed = (time.time() - self.created) / self.seconds if self.seconds else 1.0
        if passed >= 1:
            return "failed" if self.problem else self.end
        return "validating" if passed < 0.2 else "in_progress"

    @property
    def ended(self) -> bool:
        return self.state not in ("validating", "in_progress")


class Desk:
    """The files and batches of all clients."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.files: dict[str, tuple[str, str, bytes]] = {}
        self.jobs: dict[str, Job] = {}

    def keep(self, name: str, purpose: str, content: bytes, key: str | None = None) -> str:
        """Store a file and return its id."""
        key = key or f"file-{len(self.files) + 1:06d}"
        self.files[key] = name, purpose, content
        return key

    def file(self, key: str) -> tuple[str, str, bytes]:
        if key not in self.files:
            raise Fault(404, "not_found", f"No such File object: {key}")
        return self.files[key]

    def open(self, wire: Wire, rows: list[tuple[str, dict[str, Any]]], problem: str | None, **about: Any) -> Job:
        """Accept a batch."""
        behaviour = self.service.behaviour
        if behaviour.batch_end == "failed":
            problem = problem or "The batch failed."
        self.service.counts["batches"] += 1
        self.service.counts["batched"] += len(rows)
        key = f"{'msgbatch' if isinstance(wire, Anthropic) else 'batch'}_{len(self.jobs) + 1:06d}"
        self.jobs[key] = Job(key, wire, rows, about, behaviour.batch_seconds, behaviour.batch_end, problem)
        return self.jobs[key]

    def job(self, key: str) -> Job:
        """Return a batch, with results if it has ended."""
        if key not in self.jobs:
            raise Fault(404, "not_found", f"No batch found with id '{key}'.")
        job = self.jobs[key]
        if job.ended and job.results is None:
            done = 0 if job.problem else int(job.share * len(job.rows))
            # In reverse: no provider guarantees the order of the results.
            job.results = [(key, *self._answer(job, body)) for key, body in reversed(job.rows[:done])]
        return job

    def cancel(self, key: str) -> Job:
        job = self.job(key)
        if not job.ended:
            job.cancelled = time.time()
        return self.job(key)

    def _answer(self, job: Job, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            return 200, job.wire.answer(self.service.answer(job.wire, job.about.get("defaults", {}) | body))
        except Fault as fault:
            return fault.status, job.wire.error(fault)

    def split(self, job: Job) -> tuple[str | None, str | None]:
        """Return the ids of the output file and the error file of a finished batch; None for an empty file."""
        if job.files is None:
            job.files = self._write(job)
        return job.files

    def _write(self, job: Job) -> tuple[str | None, str | None]:
        results = job.results or []
        good, bad = ([row for row in results if (row[1] == 200) is ok] for ok in (True, False))
        lines = [_line(*row) for row in bad]
        if isinstance(job.wire, OpenAI) and not isinstance(job.wire, Mistral) and job.end == "expired":
            lines += [_expired(key) for key, _ in job.rows[len(results) :]]
        ids = f"file-{job.id}-output", f"file-{job.id}-errors"
        output = self.keep("output.jsonl", "batch_output", jsonl([_line(*row) for row in good]), ids[0])
        errors = self.keep("errors.jsonl", "batch_output", jsonl(lines), ids[1])
        return output if good else None, errors if lines else None


def _line(key: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": f"req-{key}", "body": body}
    return {"id": f"batch_req_{key}", "custom_id": key, "response": response, "error": None}


def _expired(key: str) -> dict[str, Any]:
    error = {"code": "batch_expired", "message": "This request could not be executed before the batch expired."}
    return {"id": f"batch_req_{key}", "custom_id": key, "response": None, "error": error}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
