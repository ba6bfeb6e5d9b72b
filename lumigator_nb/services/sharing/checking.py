"""Refusing the file of an experiment that is not of one piece, or holds what no export writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lumigator_nb import metrics
from lumigator_nb.errors import LumigatorError
from lumigator_nb.services.sharing import manifest as parts
from lumigator_nb.services.sharing.reading import Archive
from lumigator_nb.services.sharing.safety import harmless_metric, harmless_model
from lumigator_nb.services.workflows.status import Results
from lumigator_nb.specs import MetricResult, MetricSpec, Status, Step, StepResult
from lumigator_nb.storage.results import PREDICTION_SCHEMA

_SCORE_TYPES = (pa.float64(), pa.string(), pa.list_(pa.float64()))


@dataclass(frozen=True)
class Content:
    """What a file says, checked.

    Attributes:
        results: per workflow, of the steps that ended.
        taken: what was taken out of it for safety, in words.
    """

    dataset: parts.SharedDataset
    experiment: parts.SharedExperiment
    workflows: Sequence[parts.SharedWorkflow]
    results: Sequence[Results]
    metrics: tuple[MetricSpec, ...]
    taken: Sequence[str]


def content_of(archive: Archive) -> Content:
    """Return what a file says, after everything in it was looked at.

    Raises:
        DamagedError: it is no experiment of one piece.
    """
    dataset = archive.value(parts.DATASET, parts.SharedDataset)
    experiment = archive.value(parts.EXPERIMENT, parts.SharedExperiment)
    taken: list[str] = []
    specs = []
    for spec in experiment.metrics:
        safe, removed = harmless_metric(spec)
        specs.append(safe)
        taken += removed + _unknown(archive, safe)
    workflows = []
    for index in sorted({found for name in archive.names if (found := parts.workflow_of(name)) is not None}):
        workflow = archive.value(parts.of_workflow(index, "workflow.json"), parts.SharedWorkflow)
        model, removed = harmless_model(workflow.model)
        workflows.append(workflow.model_copy(update={"model": model}))
        taken += removed
        if index != len(workflows) - 1:
            raise archive.damaged(f"workflow {len(workflows) - 1} is missing")
    ended = [_results(archive, index) for index in range(len(workflows))]
    content = Content(dataset, experiment, workflows, ended, tuple(specs), taken)
    _check(archive, content)
    return content


def _results(archive: Archive, index: int) -> Results:
    names = {step: parts.of_workflow(index, f"{step}.json") for step in Step}
    return {step: archive.value(name, StepResult) for step, name in names.items() if name in archive.names}


def _unknown(archive: Archive, spec: MetricSpec) -> list[str]:
    """Say which metric cannot be computed here; a package that is not installed is no damage."""
    try:
        _ = spec.title
        metrics.create(spec)
    except LumigatorError as error:
        return [f"metric {spec.name!r} cannot be computed here: {error.message}"]
    except Exception as error:  # options that its class would never have written
        raise archive.damaged(f"metric {spec.name!r} is malformed: {error}") from error
    return []


def _check(archive: Archive, content: Content) -> None:
    """Refuse what is not of one piece, so that no row points at nothing and no file at no row."""
    workflows = content.workflows
    n_metrics, n_examples = len(content.metrics), content.dataset.n_examples
    if sample := content.experiment.sample:
        if sample.of != n_examples or sample.n > n_examples:
            raise archive.damaged(f"{sample.n:,} of {sample.of:,} examples were used, and there are {n_examples:,}")
        n_examples = sample.n
    unique = [workflow.label for workflow in workflows], [workflow.model.fingerprint for workflow in workflows]
    ids = [content.dataset.id, content.experiment.id, *(workflow.id for workflow in workflows)]
    ids += [job.id for workflow in workflows for job in workflow.jobs]
    if any(len(set(values)) < len(values) for values in (*unique, ids, [spec.key for spec in content.metrics])):
        raise archive.damaged("two of its workflows, jobs or metrics are the same")
    for name in archive.names:
        _, _, rest = name.partition("/scores/")
        if rest[:3].isdecimal() and int(rest[:3]) >= n_metrics:
            raise archive.damaged(f"{name} belongs to no metric of the experiment")
    for index, workflow in enumerate(workflows):
        if [job.step for job in workflow.jobs] != list(Step):
            raise archive.damaged(f"workflow {workflow.label!r} has other jobs than {', '.join(Step)}")
        _check_workflow(archive, index, workflow, n_examples)
    for label in archive.lines(parts.LABELS, parts.SharedLabel):
        if label.row >= n_examples:
            raise archive.damaged(f"a label is of row {label.row}, which the dataset has not")
    _check_dataset(archive, content.dataset)


def _check_workflow(archive: Archive, index: int, workflow: parts.SharedWorkflow, n_examples: int) -> None:
    own = [name for name in archive.names if name.startswith(parts.of_workflow(index, ""))]
    folders: dict[str, list[str]] = {}
    for name in own:
        if name.endswith(".parquet"):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
        elif name.endswith("/result.json"):
            archive.value(name, MetricResult)
    counts = {folder: _check_shards(archive, names, n_examples) for folder, names in folders.items()}
    answered = counts.get(parts.of_workflow(index, "predictions"), 0)
    if workflow.status is Status.SUCCEEDED and answered != n_examples:
        raise archive.damaged(f"workflow {workflow.label!r} has {answered:,} predictions for {n_examples:,} examples")


def _check_dataset(archive: Archive, dataset: parts.SharedDataset) -> None:
    if archive.manifest.data == "hash":
        return
    member = archive.require(parts.EXAMPLES)
    if dataset.data_hash and member.sha256 != dataset.data_hash:
        raise archive.damaged(f"{parts.EXAMPLES} is not what the dataset's hash says")
    own = parts.original(dataset.filename)
    for name in archive.names:
        if name.startswith(parts.ORIGINAL) and (name != own or archive.require(name).sha256 != dataset.content_hash):
            raise archive.damaged(f"{name} is not what the dataset's hash says")
    _check_examples(archive, dataset.n_examples)


def _check_examples(archive: Archive, n_examples: int) -> None:
    """Refuse a file of examples that is not one.

    Raises:
        DamagedError: it has other rows than the dataset says, no examples, or columns of unknown types.
    """
    with archive.parquet(parts.EXAMPLES) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
    if rows != n_examples:
        raise archive.damaged(f"{parts.EXAMPLES} has {rows:,} rows, and the dataset {n_examples:,}")
    texts = (pa.string(), pa.large_string())
    if "example" not in schema.names or schema.field("example").type not in texts:
        raise archive.damaged(f"{parts.EXAMPLES} has no texts called 'example'")
    _refuse_extensions(archive, parts.EXAMPLES, schema)


def _check_shards(archive: Archive, names: Sequence[str], n_examples: int) -> int:
    """Refuse predictions or scores of which two belong to one example, or one to none; return how many there are.

    Raises:
        DamagedError: see above.
    """
    taken: list[tuple[int, int]] = []
    for name in names:
        with archive.parquet(name) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            _check_columns(archive, name, schema)
            if count > n_examples:
                raise archive.damaged(f"{name} has more rows than the dataset")
            rows = file.read(columns=["row"])["row"].to_pylist()
        if rows:
            if rows != list(range(rows[0], rows[0] + len(rows))):
                raise archive.damaged(f"the rows of {name} do not follow one another")
            taken.append((rows[0], rows[-1] + 1))
    taken.sort()
    ends = [0, *(end for _, end in taken)]
    if any(start < end for (start, _), end in zip(taken, ends, strict=False)) or ends[-1] > n_examples:
        raise archive.damaged(f"{names[0].rpartition('/')[0]} has rows twice, or rows that the dataset has not")
    return sum(end - start for start, end in taken)


def _check_columns(archive: Archive, name: str, schema: pa.Schema) -> None:
    _refuse_extensions(archive, name, schema)
    if "row" not in schema.names or schema.field("row").type != pa.int64() or len(set(schema.names)) < len(schema):
        raise archive.damaged(f"{name} has no column 'row' of whole numbers")
    if "/predictions/" in name:
        known = {field.name: field.type for field in PREDICTION_SCHEMA}
        wrong = [field.name for field in schema if known.get(field.name) != field.type]
        wrong += [] if "prediction" in schema.names else ["prediction"]
    else:
        wrong = [field.name for field in schema if field.name != "row" and field.type not in _SCORE_TYPES]
    if wrong:
        raise archive.damaged(f"the column {wrong[0]!r} of {name} is not what it should be")


def _refuse_extensions(archive: Archive, name: str, schema: pa.Schema) -> None:
    # Types of third parties bring code of their own to be read with.
    own = [field.name for field in schema if isinstance(field.type, pa.BaseExtensionType)]
    if own:
        raise archive.damaged(f"the column {own[0]!r} of {name} has a type that no exported experiment has")
