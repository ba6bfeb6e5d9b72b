"""Checking that an archive is complete and consistent, so that no row points at nothing and no file at no row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lumigator_nb import metrics
from lumigator_nb.errors import LumigatorError
from lumigator_nb.services.sharing import manifest as format_
from lumigator_nb.services.sharing.manifest import SharedDataset, SharedExperiment, SharedWorkflow
from lumigator_nb.services.sharing.reading import Archive
from lumigator_nb.services.sharing.safety import harmless_metric, harmless_model
from lumigator_nb.services.workflows.status import Results
from lumigator_nb.specs import MetricResult, Status, Step, StepResult
from lumigator_nb.storage import layout
from lumigator_nb.storage.results import PREDICTION_SCHEMA

# Shards of an export have far fewer rows.
MOST_ROWS = 1_000_000
_TEXT_TYPES = (pa.string(), pa.large_string())
_SCORE_TYPES = (pa.float64(), pa.string(), pa.list_(pa.float64()))


@dataclass(frozen=True)
class Content:
    """The checked values of an archive, with models and metrics that are safe to store.

    Attributes:
        results: for each workflow, of the steps that ended.
        removed: a description of each setting that was removed for safety.
    """

    dataset: SharedDataset
    experiment: SharedExperiment
    workflows: Sequence[SharedWorkflow]
    results: Sequence[Results]
    removed: Sequence[str]

    @property
    def n_examples(self) -> int:
        """How many examples the experiment uses."""
        return self.experiment.sample.n if self.experiment.sample else self.dataset.n_examples


def content_of(archive: Archive) -> Content:
    """Return the values of an archive after checking all of its members but the labels.

    Raises:
        DamagedError: it is incomplete or contradicts itself, or holds what no export writes.
    """
    removed: list[str] = []
    experiment = archive.value(format_.EXPERIMENT, SharedExperiment)
    specs = []
    for spec in experiment.metrics:
        spec, settings = harmless_metric(spec)
        removed += settings
        try:
            _ = spec.title
            metrics.create(spec)
        except LumigatorError as error:  # such as a package that is not installed here, which is no damage
            removed.append(f"metric {spec.name!r} cannot be computed here: {error.message}")
        except Exception as error:  # options that its class would not have written
            raise archive.damaged(f"metric {spec.name!r} is malformed: {error}") from error
        specs.append(spec)
    workflows, results = [], []
    for index in range(sum(name.endswith("/workflow.json") for name in archive.members)):
        workflow = archive.value(format_.in_workflow(index, "workflow.json"), SharedWorkflow)
        model, settings = harmless_model(workflow.model)
        removed += settings
        workflows.append(workflow.model_copy(update={"model": model}))
        names = {step: format_.in_workflow(index, f"{step}.json") for step in Step}
        results.append(
            {step: archive.value(name, StepResult) for step, name in names.items() if name in archive.members}
        )
    content = Content(
        dataset=archive.value(format_.DATASET, SharedDataset),
        experiment=experiment.model_copy(update={"metrics": tuple(specs)}),
        workflows=workflows,
        results=results,
        removed=removed,
    )
    _check_records(archive, content)
    _check_dataset(archive, content.dataset)
    _check_files(archive, content)
    return content


def _check_records(archive: Archive, content: Content) -> None:
    """Check what the database does not: it refuses ids, labels and models that occur twice."""
    sample, n_examples = content.experiment.sample, content.dataset.n_examples
    if sample and (sample.of != n_examples or sample.n > n_examples):
        raise archive.damaged(f"{sample.n:,} of {sample.of:,} examples were used, and there are {n_examples:,}")
    keys = [spec.key for spec in content.experiment.metrics]
    if len(set(keys)) < len(keys):
        raise archive.damaged(f"two of its metrics are the same: {max(keys, key=keys.count)!r}")
    for workflow in content.workflows:
        if [job.step for job in workflow.jobs] != list(Step):
            raise archive.damaged(f"workflow {workflow.label!r} has other jobs than {', '.join(Step)}")


def _check_dataset(archive: Archive, dataset: SharedDataset) -> None:
    if archive.manifest.data == "hash":
        return
    with archive.parquet(format_.EXAMPLES) as file:
        n_rows, schema = file.metadata.num_rows, file.schema_arrow
    if dataset.data_hash and archive.members[format_.EXAMPLES].sha256 != dataset.data_hash:
        raise archive.damaged(f"{format_.EXAMPLES} is not what the dataset's hash says")
    original = format_.ORIGINAL + layout.safe_filename(dataset.filename)
    for name, member in archive.members.items():
        if name.startswith(format_.ORIGINAL) and (name != original or member.sha256 != dataset.content_hash):
            raise archive.damaged(f"{name} is not what the dataset's hash says")
    if n_rows != dataset.n_examples:
        raise archive.damaged(f"{format_.EXAMPLES} has {n_rows:,} rows, and the dataset {dataset.n_examples:,}")
    if "example" not in schema.names or schema.field("example").type not in _TEXT_TYPES:
        raise archive.damaged(f"{format_.EXAMPLES} has no texts called 'example'")
    # Extension types bring their own code for reading.
    if columns := [field.name for field in schema if isinstance(field.type, pa.BaseExtensionType)]:
        raise archive.damaged(f"the column {columns[0]!r} of {format_.EXAMPLES} has a type that no dataset has")


def _check_files(archive: Archive, content: Content) -> None:
    folders: dict[str, list[str]] = {}
    for name in archive.members:
        folder = name.rpartition("/")[0]
        if name.startswith("workflows/") and name.endswith(".parquet"):
            folders.setdefault(folder, []).append(name)
        elif "/scores/" in name:
            archive.value(name, MetricResult)
    n_examples = content.n_examples
    counts = {folder: _count_rows(archive, names, n_examples) for folder, names in folders.items()}
    for index, workflow in enumerate(content.workflows):
        n_answers = counts.get(format_.in_workflow(index, "predictions"), 0)
        if workflow.status is Status.SUCCEEDED and n_answers != n_examples:
            raise archive.damaged(
                f"workflow {workflow.label!r} has {n_answers:,} predictions for {n_examples:,} examples"
            )


def _count_rows(archive: Archive, names: Sequence[str], n_examples: int) -> int:
    """Check the shards of one folder, and return how many rows they have.

    Raises:
        DamagedError: two rows belong to one example, or one to none; or a column is not as it should be.
    """
    ranges = []
    for name in names:
        with archive.parquet(name) as file:
            _check_columns(archive, name, file.schema_arrow)
            # Before the rows are read: a small file can claim billions of them.
            if file.metadata.num_rows > min(n_examples, MOST_ROWS):
                raise archive.damaged(f"{name} has more rows than the dataset, or than {MOST_ROWS:,}")
            rows = file.read(columns=["row"])["row"].to_pylist()
        if rows and rows != list(range(rows[0] or 0, (rows[0] or 0) + len(rows))):
            raise archive.damaged(f"the rows of {name} do not follow one another")
        ranges += [range(rows[0], rows[-1] + 1)] if rows else []
    ranges.sort(key=lambda rows: rows.start)
    overlap = any(first.stop > second.start for first, second in itertools.pairwise(ranges))
    if overlap or any(rows.start < 0 or rows.stop > n_examples for rows in ranges):
        raise archive.damaged(f"{names[0].rpartition('/')[0]} has rows twice, or rows that the dataset does not have")
    return sum(map(len, ranges))


def _check_columns(archive: Archive, name: str, schema: pa.Schema) -> None:
    if "row" not in schema.names or schema.field("row").type != pa.int64() or len(set(schema.names)) < len(schema):
        raise archive.damaged(f"{name} has no column 'row' of whole numbers, or a column twice")
    if "/predictions/" in name:
        types = {field.name: field.type for field in PREDICTION_SCHEMA}
        wrong = [field.name for field in schema if types.get(field.name) != field.type]
        wrong += [] if "prediction" in schema.names else ["prediction"]
    else:
        wrong = [field.name for field in schema if field.name != "row" and field.type not in _SCORE_TYPES]
    if wrong:
        raise archive.damaged(f"the column {wrong[0]!r} of {name} is missing, or has another type")
