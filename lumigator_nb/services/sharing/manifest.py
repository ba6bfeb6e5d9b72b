"""What is in the file of an experiment: the names of its members, and the values that they hold.

Every value is checked on the way in; fields may join with a default under the same version of the format, and nothing
changes its meaning without a new one.
"""

from __future__ import annotations

import re
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
_PART = r"(?P<part>[0-9]{5,9})\.parquet"
_NAMES = re.compile(
    r"dataset\.json|experiment\.json|labels\.jsonl|dataset/data\.parquet"
    r"|dataset/original/[A-Za-z0-9-][A-Za-z0-9._-]{0,99}"
    r"|workflows/(?P<workflow>[0-9]{5})/(?:"
    r"(?P<file>workflow\.json|model\.json|inference\.json|evaluation\.json)"
    rf"|predictions/{_PART}"
    rf"|scores/(?P<metric>all|[0-9]{{3}})/(?:result\.json|{_PART.replace('part', 'scored')}))"
)


def _in_utc(time: datetime) -> datetime:
    """The zone of a database's server is nothing to anybody else."""
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Name = Annotated[str, AfterValidator(checked_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[
    datetime, AfterValidator(lambda time: time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC))
]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class Member(Value):
    """A file within the file; `size` in bytes."""

    name: str
    size: int = Field(ge=0)
    sha256: Sha256


class Manifest(Value):
    """The table of contents.

    Attributes:
        data: "full", or "hash" where the examples themselves did not go along.
        as_of: the latest time that anything in it changed; the clock of the export would make each file another one.
        made_by: versions of the package, of Python and of what decides numbers.
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
    """As :class:`lumigator_nb.database.records.Workflow`, with its jobs; the fingerprint is computed anew."""

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
    """As :class:`lumigator_nb.database.records.Label`; one line each."""

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


def is_known(name: str) -> bool:
    """Whether a member of that name belongs into the file; none of them leads out of a folder."""
    return _NAMES.fullmatch(name) is not None


def original(filename: str) -> str:
    """The member with the bytes as uploaded."""
    return ORIGINAL + layout.safe_filename(filename)


def of_workflow(index: int, name: str) -> str:
    """A member that belongs to the workflow of that index."""
    return f"workflows/{index:05d}/{name}"


def workflow_of(name: str) -> int | None:
    """The index of the workflow that a member belongs to; None where it belongs to none."""
    match = _NAMES.fullmatch(name)
    return int(match["workflow"]) if match and match["workflow"] else None


def member_of(stored: str, workflow_id: str, metrics: tuple[MetricSpec, ...]) -> str | None:
    """Return what a file of a workflow is called in the file; None where it stays behind (logs, keys, the cache).

    Args:
        stored: name in the store.
        metrics: of the experiment; what others found is left out.
    """
    documents = {layout.result(workflow_id, step): f"{step}.json" for step in Step}
    documents[layout.model_details(workflow_id)] = "model.json"
    folders = {
        layout.step_folder(workflow_id, Step.INFERENCE): "predictions",
        layout.step_folder(workflow_id, Step.EVALUATION): "scores/all",
    }
    for index, metric in enumerate(metrics):
        documents[layout.metric_result(workflow_id, metric)] = f"scores/{index:03d}/result.json"
        folders[layout.scores_folder(workflow_id, metric)] = f"scores/{index:03d}"
    folder, _, file = stored.rpartition("/")
    part = re.fullmatch(r"part-([0-9]+)\.parquet", file)
    return f"{folders[folder]}/{part[1]}.parquet" if part and folder in folders else documents.get(stored)


def stored_as(name: str, workflow_id: str, metrics: tuple[MetricSpec, ...]) -> str:
    """Return the store's name of a workflow's member; the opposite of :func:`member_of`.

    Raises:
        IndexError: it belongs to a metric that the experiment does not have.
    """
    match = _NAMES.fullmatch(name)
    if match is None or match["file"] == "workflow.json":
        raise ValueError(f"{name} is no file of the store")
    if match["file"]:
        step = Step(match["file"].partition(".")[0]) if match["file"] != "model.json" else None
        return layout.result(workflow_id, step) if step else layout.model_details(workflow_id)
    if match["part"]:
        return layout.part(workflow_id, Step.INFERENCE, int(match["part"]))
    if match["metric"] == "all":
        return layout.part(workflow_id, Step.EVALUATION, int(match["scored"]))
    metric = metrics[int(match["metric"])]
    if match["scored"] is None:
        return layout.metric_result(workflow_id, metric)
    return layout.scores_part(workflow_id, metric, int(match["scored"]))
