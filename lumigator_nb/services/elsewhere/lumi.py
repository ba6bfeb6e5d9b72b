"""Experiments of this package in a file, `.lumi.zip`, compared without loading them into a workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.display.meter import metered
from lumigator_nb.errors import InvalidInputError, UnknownMetricError
from lumigator_nb.eval_logs.base import NUMBERS, ModelResults
from lumigator_nb.metrics import ScoreInfo, info
from lumigator_nb.services.comparison.repeats import label_of
from lumigator_nb.services.sharing import manifest as format_
from lumigator_nb.services.sharing.manifest import SharedDataset, SharedExperiment, SharedWorkflow
from lumigator_nb.services.sharing.reading import Archive, opened
from lumigator_nb.specs import MetricResult, ScoreResult, Status, is_ground_truth
from lumigator_nb.storage.results import REASON_SUFFIX, STATISTICS_SUFFIX, sampled_rows

SUFFIX = ".lumi.zip"


def read(path: str | PathLike[str]) -> list[ModelResults]:
    """Return the results of the workflows that succeeded. Nothing in the file is executed, no metric is created.

    Raises:
        DamagedError: the file is not as it was written.
        InvalidInputError: no workflow in it has succeeded.
    """
    with opened(Path(path)) as archive:
        with metered(archive.path.name, enabled=False) as meter:
            archive.verify(meter)
        experiment = archive.value(format_.EXPERIMENT, SharedExperiment)
        dataset = archive.value(format_.DATASET, SharedDataset)
        n = experiment.sample.n if experiment.sample else dataset.n_examples
        examples = _examples(archive, experiment, n)
        n_workflows = sum(name.endswith("/workflow.json") for name in archive.members)
        results = []
        for index in range(n_workflows):
            workflow = archive.value(format_.in_workflow(index, "workflow.json"), SharedWorkflow)
            if workflow.status is Status.SUCCEEDED:
                results.append(_workflow(archive, index, workflow, experiment, dataset, examples, n))
    if not results:
        raise InvalidInputError(f"no model in {Path(path).name} has succeeded", "export the experiment when it has")
    return results


def _examples(archive: Archive, experiment: SharedExperiment, n: int) -> pd.DataFrame:
    """The examples of the experiment; without columns if the file holds only their hash."""
    if archive.manifest.data == "hash":
        return pd.DataFrame(index=range(n))
    with archive.parquet(format_.EXAMPLES) as file:
        frame: pd.DataFrame = file.read().to_pandas()
    if experiment.sample:
        frame = frame.iloc[sampled_rows(experiment.sample)]
    if len(frame) != n or "example" not in frame:
        raise archive.damaged(f"{format_.EXAMPLES} does not hold the {n:,} examples of the experiment")
    return frame.reset_index(drop=True)


def _workflow(
    archive: Archive,
    index: int,
    workflow: SharedWorkflow,
    experiment: SharedExperiment,
    dataset: SharedDataset,
    examples: pd.DataFrame,
    n: int,
) -> ModelResults:
    predictions = _table(archive, format_.in_workflow(index, "predictions/"), n)
    truths = [name for name in examples if is_ground_truth(str(name))]
    columns: dict[str, Any] = {"item": range(n)}
    if "example" in examples:
        columns["example"] = examples["example"]
    if truths:
        texts = examples[truths].itertuples(index=False, name=None)
        columns["ground_truth"] = [tuple(text for text in row if isinstance(text, str)) or None for row in texts]
    columns |= {name: predictions[name] for name in ("prediction", "error", *NUMBERS) if name in predictions}
    rows = pd.DataFrame(columns)
    scores, infos, statistics, reported = {}, {}, {}, {}
    for name, column, result in _scores(archive, index, experiment, n):
        if name.endswith(STATISTICS_SUFFIX):
            statistics[name.removesuffix(STATISTICS_SUFFIX)] = _stacked(column, n)
        elif not name.endswith(REASON_SUFFIX):
            scores[name] = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
            infos[name] = _info(name, result)
            if result is not None and result.overall is not None and name not in statistics:
                reported[name] = result.overall
    return ModelResults(
        label_of(workflow.label, workflow.model),
        rows,
        scores,
        infos,
        examples.drop(columns=["example", *truths], errors="ignore"),
        task=dataset.name,
        tool="lumigator_nb",
        source=str(archive.path),
        reported={name: value for name, value in reported.items() if name not in statistics},
        details={"experiment": experiment.name, "lumigator_nb": archive.manifest.made_by.get("lumigator_nb")},
        statistics={name: values for name, values in statistics.items() if name in scores},
        spec=workflow.model,
    )


def _table(archive: Archive, prefix: str, n: int) -> pd.DataFrame:
    """The shards of one folder as a table with a row per example; missing rows are empty."""
    frames = []
    for name in sorted(name for name in archive.members if name.startswith(prefix) and name.endswith(".parquet")):
        with archive.parquet(name) as file:
            # Before the rows are read: a small file can claim billions of them.
            if file.metadata.num_rows > n or "row" not in file.schema_arrow.names:
                raise archive.damaged(f"{name} has more rows than the dataset, or no column 'row'")
            frames.append(file.read().to_pandas())
    if not frames:
        return pd.DataFrame(index=range(n))
    frame = pd.concat(frames, ignore_index=True).set_index("row")
    if frame.index.has_duplicates or not frame.index.isin(range(n)).all():
        raise archive.damaged(f"{prefix} has rows twice, or rows that the dataset does not have")
    whole: pd.DataFrame = frame.reindex(range(n))
    return whole


def _scores(
    archive: Archive, index: int, experiment: SharedExperiment, n: int
) -> Iterator[tuple[str, pd.Series, ScoreResult | None]]:
    """Every column of a workflow's scores, with what its metric's result says about it."""
    folders = [f"scores/{number:03d}/" for number in range(len(experiment.metrics))]
    for folder in [*folders, "scores/all/"]:
        frame = _table(archive, format_.in_workflow(index, folder), n)
        name = format_.in_workflow(index, f"{folder}result.json")
        results: Mapping[str, ScoreResult] = {}
        if name in archive.members:
            results = archive.value(name, MetricResult).scores
        for column in frame:
            yield str(column), frame[column], results.get(str(column))


def _stacked(column: pd.Series, n: int) -> Any:
    """Lists of sufficient statistics as (n, k) numbers; NaN for an example without."""
    known = [value for value in column if isinstance(value, (list, np.ndarray))]
    width = len(known[0]) if known else 1
    empty = np.full(width, np.nan)
    values = [value if isinstance(value, (list, np.ndarray)) and len(value) == width else empty for value in column]
    return np.array(values, dtype=np.float64).reshape(n, width)


def _info(name: str, result: ScoreResult | None) -> ScoreInfo:
    """The description of a score: this package's, or as the file has it."""
    try:
        own = info(name)
    except UnknownMetricError:
        if result is None:
            return ScoreInfo(name, "as given", True, (-np.inf, np.inf))
        low, high = result.range
        bounds = (-np.inf if low is None else low, np.inf if high is None else high)
        return ScoreInfo(name, result.description, result.higher_is_better, bounds)
    return own if result is None else replace(own, higher_is_better=result.higher_is_better)
