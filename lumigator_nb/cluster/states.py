"""What Ray says of jobs and of itself, in our words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lumigator_nb.specs import Status

# Between claiming a workflow in the database and handing it to the cluster lie seconds; more means that the
# launching process died in between.
SUBMISSION_GRACE = timedelta(seconds=90)
_STATUSES = {
    "PENDING": Status.PENDING,
    "RUNNING": Status.RUNNING,
    "STOPPED": Status.STOPPED,
    "SUCCEEDED": Status.SUCCEEDED,
    "FAILED": Status.FAILED,
}


@dataclass(frozen=True)
class JobState:
    """What Ray knows of one submission.

    Attributes:
        message: Ray's words; for a failure they end with the last lines of the log.
        submitted_at, ended_at: in UTC.
        exit_code: of the job's process, once it has ended by itself.
        metadata: what it was submitted with.
    """

    status: Status
    message: str = ""
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterInfo:
    """What a cluster is and has.

    Attributes:
        memory: bytes that jobs may use, over all nodes.
        is_local: whether it is this package's own head on this machine.
    """

    address: str
    ray_version: str
    python_version: str
    cpus: float
    gpus: float
    memory: float
    is_local: bool

    def __str__(self) -> str:
        kind = "local Ray head" if self.is_local else "Ray cluster"
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        return f"{kind} at {self.address}: {self.cpus:g} CPUs{gpus}, {self.memory / 2**30:.0f} GiB"


def job_state(job: Mapping[str, Any]) -> JobState:
    """Return what Ray's answer about a job says."""
    return JobState(
        status=_STATUSES[job["status"]],
        message=job.get("message") or "",
        submitted_at=_time(job.get("start_time")),
        ended_at=_time(job.get("end_time")),
        exit_code=job.get("driver_exit_code"),
        metadata=job.get("metadata") or {},
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def cluster_info(
    address: str, version: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], *, is_local: bool
) -> ClusterInfo:
    """Return what Ray's answers about itself and its nodes say."""
    alive = [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]
    total = {name: sum(each.get(name, 0.0) for each in alive) for name in ("CPU", "GPU", "memory")}
    return ClusterInfo(
        address=address,
        ray_version=version["rayVersion"],
        python_version=version["pythonVersion"],
        cpus=total["CPU"],
        gpus=total["GPU"],
        memory=total["memory"],
        is_local=is_local,
    )
