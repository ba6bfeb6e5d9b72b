"""Datasets: upload, look, delete."""

from __future__ import annotations

import importlib.resources
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from lumigator_nb import layout, tables
from lumigator_nb.db import Database
from lumigator_nb.errors import ConfigurationError, ConflictError, DatasetError, InUseError, NotFoundError, did_you_mean
from lumigator_nb.records import Dataset
from lumigator_nb.repositories import reading, writing
from lumigator_nb.services.annotation import Annotator
from lumigator_nb.services.names import checked_name
from lumigator_nb.services.sources import LocalCopy, Source, fetched
from lumigator_nb.specs import Model, Shot, Task
from lumigator_nb.store import Store

ROW_GROUP_SIZE = 8192


class Datasets:
    """The datasets of a workspace."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self.annotator: Annotator | None = None

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        example: str | None = None,
        ground_truth: str | Sequence[str] | None = None,
    ) -> Dataset:
        """Read, check and keep a dataset.

        Args:
            source: path, URL (any that fsspec opens), open file or DataFrame; CSV (any delimiter), JSON Lines or
                Parquet.
            name: to find it by; default the file's name without its ending.
            example: the column with the inputs; default the one named "example" or "examples".
            ground_truth: the column with the references, or a list of columns where an example has several; default
                those named "ground_truth", "ground_truth_2" and so on, if any.

        Returns:
            The dataset. Where the same bytes with the same columns are here already, that one, with a warning,
            unless another `name` is asked for.

        Raises:
            DatasetError: the file breaks a rule; the message names file, row and column. Nothing is kept.
            MissingFieldsError: the file has no such column.
            ConflictError: the name is taken by other content.
        """
        with fetched(source) as copy:
            examples = tables.read_examples(
                copy.path, filename=copy.filename, example=example, ground_truth=ground_truth
            )
            twin = self._twin(copy, examples.columns, name)
            if twin is not None:
                warnings.warn(f"the same content is here already, as dataset {twin.name!r}", stacklevel=2)
                return twin
            title = checked_name(name) if name is not None else _name_from(copy.filename)
            dataset = self._described(copy, examples, title)
            return self._keep(dataset, copy, examples)

    def sample(self, name: str = "dialogues") -> Dataset:
        """Return a dataset that ships with the package, uploading it the first time.

        Raises:
            NotFoundError: no sample has that name.
        """
        found = self.find(name)
        if found is not None:
            return found
        source = importlib.resources.files("lumigator_nb") / "samples" / f"{name}.jsonl"
        if not source.is_file():
            raise NotFoundError("sample dataset", name, "known: dialogues")
        with importlib.resources.as_file(source) as path:
            return self.upload(path, name=name, example="dialogue", ground_truth="summary")

    def annotate(
        self,
        dataset: Dataset | str,
        *,
        model: Model | str,
        task: Task | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Dataset:
        """Have a model write the ground truth, and return a new dataset that says so; waits until it is there.

        Doing it again after it was cut off goes on where it ended. Ground truth that was there is not taken over.

        Args:
            dataset: record, name or id.
            model: who answers.
            task: what it is asked; default summarization.
            name: of the new dataset.
            options: of :meth:`Workflows.launch` (`cache`, `mode`, `budget`, `max_failed`) and of
                :meth:`Workflows.wait` (`timeout`, `progress`).

        Raises:
            JobFailedError: too many examples have no answer.
            ConflictError: the name is taken.
        """
        record = self.get(dataset if isinstance(dataset, str) else dataset.id)
        if self.annotator is None:
            raise ConfigurationError("annotating needs a workspace", "lm.connect().datasets.annotate(…)")
        return self.annotator.annotate(record, model, task, name, options)

    def keep_generated(
        self, frame: pd.DataFrame, *, name: str, model: str, workflow_id: str, missing: int = 0
    ) -> Dataset:
        """Keep a dataset whose ground truth a model wrote.

        Args:
            frame: columns `example`, `ground_truth` and metadata.
            missing: examples without an answer.
        """
        found = self.find(name)
        if found is not None and found.generated.get("workflow_id") == workflow_id:
            return found
        with fetched(frame) as copy:
            examples = tables.read_examples(copy.path, filename=copy.filename)
            notes = [f"the ground truth was generated by {model}", *examples.notes]
            if missing:
                notes.append(f"{missing} examples have none: the model did not answer")
            dataset = self._described(copy, examples, name)
            dataset.notes, dataset.generated = notes, {"model": model, "workflow_id": workflow_id}
            return self._keep(dataset, copy, examples)

    def shots(
        self, dataset: Dataset | str, n: int, *, seed: int = 0, where: Mapping[str, object] | None = None
    ) -> tuple[Shot, ...]:
        """Draw solved examples for few-shot prompting: ``Summarization(shots=ws.datasets.shots("train", 3))``.

        Args:
            n: how many, drawn at random without repetition among the examples with ground truth.
            where: metadata that they must have, such as ``{"split": "train"}``.

        Raises:
            DatasetError: there are fewer.
        """
        frame = self.to_pandas(dataset)
        frame = frame[frame["ground_truth"].notna()] if "ground_truth" in frame else frame.head(0)
        for column, value in (where or {}).items():
            if column not in frame:
                raise DatasetError(f"the dataset has no column {column!r}", did_you_mean(column, map(str, frame)))
            frame = frame[frame[column] == value]
        if len(frame) < n:
            raise DatasetError(f"{n} solved examples are asked for, and there are {len(frame)}", "ask for fewer")
        drawn = frame.sample(n, random_state=seed).to_dict("records")
        return tuple(
            Shot(
                example=row["example"],
                answer=row["ground_truth"],
                metadata={key: row[key] for key in row if key not in ("example", "ground_truth")},
            )
            for row in drawn
        )

    def get(self, key: str) -> Dataset:
        """Return the dataset of that name or id.

        Raises:
            NotFoundError: there is none.
        """
        with reading(self._database) as work:
            return work.datasets.get(key)

    def find(self, key: str) -> Dataset | None:
        """Return the dataset of that name or id, or None."""
        with reading(self._database) as work:
            return work.datasets.find(key)

    def list(self, *, limit: int = 100, offset: int = 0) -> list[Dataset]:
        """Return datasets, newest first."""
        with reading(self._database) as work:
            return work.datasets.list(limit=limit, offset=offset)

    def to_pandas(self, dataset: Dataset | str) -> pd.DataFrame:
        """Return all examples: columns `example`, `ground_truth` where there is one, and the metadata."""
        record = self.get(dataset) if isinstance(dataset, str) else dataset
        with self._store.reading(layout.examples(record.id)) as file:
            frame: pd.DataFrame = pq.read_table(file).to_pandas()
        return frame

    def delete(self, dataset: Dataset | str) -> None:
        """Remove a dataset and its files.

        Raises:
            InUseError: experiments use it.
        """
        with writing(self._database) as work:
            record = work.datasets.get(dataset if isinstance(dataset, str) else dataset.id)
            users = work.experiments.of_dataset(record.id)
            if users:
                names = ", ".join(experiment.name for experiment in users)
                raise InUseError(f"dataset {record.name!r} is used by: {names}", "delete those experiments first")
            work.datasets.delete(record)
        self._store.delete(layout.dataset_folder(record.id))

    def _twin(self, copy: LocalCopy, columns: dict[str, str], name: str | None) -> Dataset | None:
        with reading(self._database) as work:
            twins = [twin for twin in work.datasets.with_content(copy.content_hash) if twin.columns == columns]
        return next((twin for twin in twins if name in (None, twin.name)), None)

    @staticmethod
    def _described(copy: LocalCopy, examples: tables.Examples, name: str) -> Dataset:
        return Dataset(
            id=str(uuid.uuid4()),
            name=name,
            filename=copy.filename,
            content_hash=copy.content_hash,
            size_bytes=copy.size_bytes,
            n_examples=len(examples.table),
            columns=examples.columns,
            profile=tables.profile(examples.table),
            notes=list(examples.notes),
        )

    def _keep(self, dataset: Dataset, copy: LocalCopy, examples: tables.Examples) -> Dataset:
        """Files first, the row last: whoever finds the row finds everything."""
        with reading(self._database) as work:
            if work.datasets.named(dataset.name) is not None:
                raise ConflictError("dataset", dataset.name, "give another name=, or delete the old one")
        try:
            with self._store.writing(layout.examples(dataset.id)) as file:
                pq.write_table(examples.table, file, compression="zstd", row_group_size=ROW_GROUP_SIZE)
            with (
                copy.path.open("rb") as source,
                self._store.writing(layout.original(dataset.id, copy.filename)) as file,
            ):
                shutil.copyfileobj(source, file, 1 << 20)
            with writing(self._database) as work:
                return work.datasets.add(dataset)
        except BaseException:
            self._store.delete(layout.dataset_folder(dataset.id))
            raise


def _name_from(filename: str) -> str:
    stem = Path(layout.safe_filename(filename)).stem
    return stem or "dataset"
