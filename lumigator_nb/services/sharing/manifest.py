"""The format of a shared experiment: the archive's members, their allow-list, and the values in its JSON.

Every value is validated when a file is read. Within one version of the format a field may be added if it has a default,
and no field changes its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from lumigator_nb.services.names import checked_name
from lumigator_nb.specs import Launch, MetricSpec, Model, Sample, Status, Step, Task, Value
from lumigator_nb.storage import layout

FORMAT: Final = "lumigator-experiment"
VERSION = 1
DataMode = Literal["full", "hash"]

MANIFEST = "manifest.json"
DATASET, EXPERIMENT, LABELS = "dataset.json", "experiment.json", "labels.jsonl"
EXAMPLES, ORIGINAL = "dataset/data.parquet", "dataset/original/"
_SHARD = r"(?:[0-9]{5}|[1-9][0-9]{5,8})\.parquet"
# The names that a member may have. None is absolute, contains "..", or ends in a slash.
ALLOWED = re.compile(
    r"(?:manifest|dataset|experiment)\.json|labels\.jsonl|dataset/data\.parquet"
    r"|dataset/original/[A-Za-z0-9-][A-Za-z0-9._-]{0,99}"
    r"|workflows/[0-9]{5}/(?:"
    r"(?:workflow|model|inference|evaluation)\.json"
    rf"|predictions/{_SHARD}|scores/all/{_SHARD}"
    rf"|scores/[0-9]{{3}}/(?:result\.json|{_SHARD}))"
)


def _in_utc(time: datetime) -> datetime:
    """Drop the zone of the sender's database server, so that the same moment is always written the same way."""
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Name = Annotated[str, AfterValidator(checked_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
# What an INTEGER column of every database takes.
Count = Annotated[int, Field(ge=0, lt=2**31)]


class Member(Value):
    """A member of the archive; `size` in bytes."""

    name: str
    size: int = Field(ge=0)
    sha256: Sha256


class Manifest(Value):
    """The table of contents.

    Attributes:
        data: "full", or "hash" if the file does not contain the examples.
        as_of: when anything in the file last changed. The time of the export would make every file different.
        made_by: versions of the package, of Python and of the packages that affect numbers.
        members: all members but the manifest.
    """

    format: Literal["lumigator-experiment"] = FORMAT
    version: int = VERSION
    data: DataMode
    as_of: Moment
    made_by: dict[str, str]
    members: tuple[Member, ...]


class SharedDataset(Value):
    """As :class:`lumigator_nb.database.records.Dataset`."""

    id: Id
    name: Name
    version: Count = 1
    filename: str
    content_hash: Sha256
    data_hash: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    size_bytes: int = Field(ge=0, lt=2**63)
    n_examples: Count
    columns: dict[str, str]
    profile: dict[str, Any]
    notes: list[str] = Field(default_factory=list)
    generated: dict[str, str] = Field(default_factory=dict)
    derived: dict[str, Any] = Field(default_factory=dict)
    created_at: Moment


class SharedExperiment(Value):
    """As :class:`lumigator_nb.database.records.Experiment`, without its dataset's id."""

    id: Id
    name: Name
    sample: Sample | None = None
    task: Task
    metrics: tuple[MetricSpec, ...]
    created_at: Moment


class SharedJob(Value):
    """As :class:`lumigator_nb.database.records.Job`."""

    id: Id
    step: Step
    status: Status
    n_examples: Count = 0
    n_failed: Count = 0
    error: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
    created_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None


class SharedWorkflow(Value):
    """As :class:`lumigator_nb.database.records.Workflow`, with its jobs. Its fingerprint is computed again."""

    id: Id
    label: str
    model: Model
    launch: Launch
    status: Status
    attempt: int = Field(ge=1, lt=2**31)
    error: str | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)
    created_at: Moment
    attempted_at: Moment
    finished_at: Moment | None = None
    jobs: tuple[SharedJob, ...]


class SharedLabel(Value):
    """As :class:`lumigator_nb.database.records.Label`; one line per label."""

    id: Id
    kind: Literal["preference", "rating"]
    criterion: str
    rater: str
    row: Count
    model: str
    other: str = ""
    value: float = Field(allow_inf_nan=False)
    scale_low: float | None = Field(default=None, allow_inf_nan=False)
    scale_high: float | None = Field(default=None, allow_inf_nan=False)
    comment: str | None = None
    seconds: float | None = Field(default=None, allow_inf_nan=False)
    created_at: Moment


def in_workflow(index: int, name: str) -> str:
    """Return the name of a member that belongs to the workflow with that index."""
    return f"workflows/{index:05d}/{name}"


def stored_names(workflow_id: str, metrics: tuple[MetricSpec, ...]) -> dict[str, str]:
    """Return the store's names for the files of a workflow, by their names in the archive.

    Shards are listed by the prefix before their number. What is not listed stays behind: logs, keys, the answer cache,
    and scores of other metrics.
    """
    first = "00000.parquet"
    names = {f"{step}.json": layout.result(workflow_id, step) for step in Step}
    names["model.json"] = layout.model_details(workflow_id)
    names["predictions/"] = layout.part(workflow_id, Step.INFERENCE, 0).removesuffix(first)
    names["scores/all/"] = layout.part(workflow_id, Step.EVALUATION, 0).removesuffix(first)
    for index, metric in enumerate(metrics):
        names[f"scores/{index:03d}/result.json"] = layout.metric_result(workflow_id, metric)
        names[f"scores/{index:03d}/"] = layout.scores_part(workflow_id, metric, 0).removesuffix(first)
    return names


def translated(name: str, names: Mapping[str, str]) -> str | None:
    """Return what a file is called on the other side, or None if it has no place there.

    Args:
        names: of :func:`stored_names`, or its inverse.
    """
    match = re.fullmatch(f"(.*?)({_SHARD})", name)
    prefix, shard = match.groups() if match else (name, "")
    return f"{names[prefix]}{shard}" if prefix in names else None
