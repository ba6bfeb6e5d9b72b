"""Datasets: upload, read, version, split, sample, archive and delete them."""

from __future__ import annotations

import builtins
import importlib.resources
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pandas as pd

from lumigator_nb import tables
from lumigator_nb.database.queries import Order, UnitOfWork, reading, writing
from lumigator_nb.database.records import Dataset, Experiment, key_of
from lumigator_nb.display.meter import metered
from lumigator_nb.errors import ConflictError, DatasetError, NotFoundError, did_you_mean
from lumigator_nb.security.redaction import refuse_secrets
from lumigator_nb.services import deletion
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.services.datasets import derived, versions
from lumigator_nb.services.datasets.sources import LocalCopy, Source, fetched, file_hash
from lumigator_nb.services.datasets.versions import DatasetDiff
from lumigator_nb.services.deletion import Deletion, Stop
from lumigator_nb.services.names import checked_name
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.specs import Model, Shot, Task, now
from lumigator_nb.storage import layout, results

# How often to take another number if other processes add versions at the same moment.
_VERSION_ATTEMPTS = 10
# Returns a stored dataset to use instead of the one about to be added, or None.
Find = Callable[[UnitOfWork, Dataset], Dataset | None]


class Annotator(Protocol):
    """Has a model write ground truth.

    An interface: the implementation needs workflows, a layer above datasets.
    """

    def annotate(
        self,
        datasets: Datasets,
        dataset: Dataset,
        model: Model | str,
        task: Task | None,
        name: str | None,
        options: dict[str, Any],
    ) -> Dataset:
        """Return the new dataset; see :meth:`Datasets.annotate`."""
        ...


# The sample datasets, with their columns of examples and ground truth.
_SAMPLES = {"dialogues": ("dialogue", "summary"), "support": ("ticket", "label")}


class Datasets:
    """The datasets of a workspace.

    Args:
        runtime: database, store, cluster and settings.
        stop: stops running workflows, for :meth:`delete`.
        annotator: has a model write ground truth, for :meth:`annotate`.
    """

    def __init__(self, runtime: Runtime, stop: Stop, annotator: Annotator) -> None:
        self._database, self._store, self._settings = runtime.database, runtime.store, runtime.settings
        self._stop, self._annotator = stop, annotator

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        example: str | None = None,
        ground_truth: str | Sequence[str] | None = None,
        sheet: str | None = None,
        new_version: bool = False,
        short_rows: tables.ShortRows = "refuse",
        progress: bool | Callable[[int, int], None] = True,
    ) -> Dataset:
        """Read, check and store a dataset. Memory use does not grow with its size.

        Args:
            source: path, URL (any that fsspec opens), open file, pandas DataFrame or Hugging Face Dataset, or
                "hf://datasets/ORG/NAME?split=train". Formats: CSV (any delimiter), JSON Lines, JSON arrays of
                objects, Parquet, and Excel workbooks; also compressed as .gz, or as the only file in a .zip.
            name: name of the dataset; default: the file's name without its suffix.
            example: column with the inputs; default: the one named "example" or "examples".
            ground_truth: column with the ground truth, or a list of columns if an example has several references;
                default: those named "ground_truth", "ground_truth_2" and so on, if any.
            sheet: sheet of an Excel workbook; default: the first.
            new_version: if the name is taken by other content, store this as the dataset's next version. The plain
                name then means the newest version, and "name@1" the first.
            short_rows: what to do with a CSV row that has fewer cells than the header: "refuse" the file, or "fill"
                the row with empty cells and record a note. Rows with more cells are always refused.
            progress: show progress if it takes longer; or a function to call with the bytes done and the total.

        Returns:
            The dataset. If the newest version of a dataset has the same bytes and columns, that dataset, with a
            warning, unless `name` is another one.

        Raises:
            DatasetError: the file is invalid; the message names file, row and column. Nothing is stored.
            MissingFieldsError: the file lacks a column.
            ConflictError: the name is taken by other content.
            MissingExtraError: the source needs a package that is not installed.
            StoreUnavailableError: the store, or the folder for temporary files, is full or out of reach.

        Examples:
            >>> table = pd.DataFrame({"body": ["The parcel is lost.", "The app crashes."], "product": ["shop", "app"]})
            >>> tickets = ws.datasets.upload(table, name="tickets", example="body", progress=False)
            >>> tickets.n_examples
            2
        """
        with fetched(source) as copy:
            stem = Path(layout.safe_filename(copy.filename).removesuffix(".gz")).stem
            title = checked_name(name) if name is not None else stem or "dataset"
            self._refuse_secrets(title, copy.filename)
            with reading(self._database) as work:
                twins = _twins(work, copy.content_hash, name)
            if not twins:
                self._next_version(title, new_version)  # raises if the name is taken, before reading a large file
            with self._converted(copy, example, ground_truth, progress, sheet, short_rows) as (converted, data):
                dataset = _described(copy, converted, data, title)
                stored = next((twin for twin in twins if _is_twin(twin, dataset)), None)
                if stored is None:
                    dataset.version = self._next_version(title, new_version)

                    def uploaded_meanwhile(work: UnitOfWork, dataset: Dataset) -> Dataset | None:
                        twins = _twins(work, dataset.content_hash, name)
                        return next((twin for twin in twins if _is_twin(twin, dataset)), None)

                    stored = self._keep(dataset, copy.path, data, new_version, unless=uploaded_meanwhile)
                if stored is not dataset:
                    warnings.warn(f"the same content is already stored as dataset {stored.name!r}", stacklevel=2)
                return stored

    def sample(self, name: str = "dialogues") -> Dataset:
        """Return a sample dataset of the package; the first call uploads it.

        Args:
            name: "dialogues", 64 conversations with summaries; or "support", 120 tickets, each with one of the
                labels account, billing, delivery, privacy, product and returns.

        Raises:
            NotFoundError: no sample has that name.

        Examples:
            >>> ws.datasets.sample("dialogues").n_examples
            64
        """
        dataset = self.find(name)
        if dataset is not None:
            return dataset
        source = importlib.resources.files("lumigator_nb") / "samples" / f"{name}.jsonl"
        if name not in _SAMPLES:
            raise NotFoundError("sample dataset", name, f"known: {', '.join(_SAMPLES)}")
        example, ground_truth = _SAMPLES[name]
        with importlib.resources.as_file(source) as path:
            return self.upload(path, name=name, example=example, ground_truth=ground_truth)

    def annotate(
        self,
        dataset: Dataset | str,
        *,
        model: Model | str,
        task: Task | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Dataset:
        """Have a model write ground truth, and return the new dataset. Blocks until it is complete.

        The new dataset records the model, and drops ground truth that the old one had. A repeated call continues an
        interrupted one.

        Args:
            dataset: record, name or id.
            model: model that writes the ground truth.
            task: what to ask it; default: summarization.
            name: name of the new dataset.
            options: options of :meth:`Workflows.launch` (`cache`, `mode`, `budget`, `max_failed`) and of
                :meth:`Workflows.wait` (`timeout`, `progress`).

        Raises:
            JobFailedError: too many examples have no answer.
            ConflictError: the name is taken.

        Examples:
            >>> annotated = ws.datasets.annotate(dataset, model="baseline/lead-1", name="annotated", progress=False)
            >>> annotated.has_ground_truth
            True
        """
        return self._annotator.annotate(self, self.get(dataset), model, task, name, options)

    def keep_generated(
        self,
        frame: pd.DataFrame,
        *,
        name: str,
        model: str,
        workflow_id: str,
        missing: int = 0,
        column: str = "ground_truth",
        unless: Find | None = None,
    ) -> Dataset:
        """Store a dataset with a column that a model wrote.

        Args:
            frame: columns `example`, optionally `ground_truth`, and metadata.
            name: name of the dataset. If it is stored already for this workflow, return it.
            model: label of the model.
            workflow_id: workflow that produced the column.
            missing: number of examples without an answer.
            column: the column. Only if it is the ground truth does the dataset count as generated.
            unless: called in the transaction that adds the dataset: returns one to use instead, or raises.
        """
        present = self.find(name)
        if present is not None and present.generated.get("workflow_id") == workflow_id:
            return present
        with fetched(frame) as copy, self._converted(copy, None, None, False) as (converted, data):
            dataset = _described(copy, converted, data, name)
            dataset.version = self._next_version(name, False)
            title = "ground truth" if column == "ground_truth" else f"column {column!r}"
            dataset.notes.insert(0, f"the {title} was generated by {model}")
            if missing:
                dataset.notes.append(f"{missing} examples have none: the model did not answer")
            dataset.generated = {"model": model, "workflow_id": workflow_id, "column": column}
            return self._keep(dataset, copy.path, data, unless=unless)

    def shots(
        self, dataset: Dataset | str, n: int, *, seed: int = 0, where: Mapping[str, object] | None = None
    ) -> tuple[Shot, ...]:
        """Draw examples with ground truth for few-shot prompting.

        Pass them to a task: ``Summarization(shots=ws.datasets.shots("train", 3))``.

        Args:
            dataset: record, name or id.
            n: number of examples, drawn at random without replacement.
            seed: random seed.
            where: only examples with these metadata values, such as ``{"split": "train"}``.

        Raises:
            DatasetError: there are fewer.

        Examples:
            >>> shots = ws.datasets.shots(dataset, 2)
            >>> task = lm.Summarization(shots=shots)
            >>> len(task.shots)
            2
        """
        frame = self.to_pandas(dataset)
        frame = frame[frame["ground_truth"].notna()] if "ground_truth" in frame else frame.head(0)
        for column, value in (where or {}).items():
            if column not in frame:
                raise DatasetError(f"the dataset has no column {column!r}", did_you_mean(column, map(str, frame)))
            frame = frame[frame[column] == value]
        if len(frame) < n:
            raise DatasetError(
                f"{n} examples with ground truth are needed, and there are {len(frame)}", "use a smaller n"
            )
        drawn = frame.sample(n, random_state=seed).to_dict("records")
        return tuple(
            Shot(
                example=row["example"],
                answer=row["ground_truth"],
                metadata={key: row[key] for key in row if key not in ("example", "ground_truth")},
            )
            for row in drawn
        )

    def get(self, key: Dataset | str) -> Dataset:
        """Return a dataset by name or id; for a record, its current state.

        Raises:
            NotFoundError: there is no such dataset.

        Examples:
            >>> ws.datasets.get("dialogues").n_examples
            64
        """
        with reading(self._database) as work:
            return work.datasets.get(key)

    def of(self, experiment: Experiment) -> Dataset:
        """Return the dataset of an experiment, reduced to the rows that the experiment uses."""
        with reading(self._database) as work:
            return work.data_of(experiment)

    def find(self, key: str) -> Dataset | None:
        """Return a dataset by name or id, or None if there is none.

        Examples:
            >>> ws.datasets.find("not there") is None
            True
        """
        with reading(self._database) as work:
            return work.datasets.find(key)

    def list(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        archived: bool = False,
        search: str | None = None,
        order: Order = "newest",
    ) -> builtins.list[Dataset]:
        """Return datasets.

        Args:
            limit, offset: maximum number, and number to skip before.
            archived: include archived ones.
            search: text that their names contain; case does not matter.
            order: "newest", "oldest", "name" or "size" (most examples first), or "-name", "-size" for the reverse.

        Examples:
            >>> [each.name for each in ws.datasets.list(search="dial")]
            ['dialogues']
        """
        with reading(self._database) as work:
            conditions = work.datasets.shown(archived=archived, search=search)
            return work.datasets.list(*conditions, limit=limit, offset=offset, order=order)

    def count(self, *, archived: bool = False, search: str | None = None) -> int:
        """Return the number of datasets that :meth:`list` would return without a limit.

        Examples:
            >>> ws.datasets.count()
            1
        """
        with reading(self._database) as work:
            return work.datasets.count(*work.datasets.shown(archived=archived, search=search))

    def names(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the names of datasets by id, without deleted ones."""
        with reading(self._database) as work:
            return work.datasets.names(ids)

    def to_pandas(self, dataset: Dataset | str) -> pd.DataFrame:
        """Return all examples: columns `example`, `ground_truth` (if the dataset has any), and the metadata.

        Examples:
            >>> ws.datasets.to_pandas(dataset).columns.tolist()
            ['example', 'ground_truth', 'topic', 'channel']
        """
        record = self.get(dataset) if isinstance(dataset, str) else dataset
        frame: pd.DataFrame = results.read_rows(self._store, layout.examples(record.id), record.sample).to_pandas()
        return frame

    def rows(self, dataset: Dataset | str, *, limit: int = 25, offset: int = 0) -> pd.DataFrame:
        """Return a page of examples, with the columns of :meth:`to_pandas`; the index starts at `offset`.

        Examples:
            >>> ws.datasets.rows(dataset, limit=2, offset=10)["topic"].tolist()
            ['school', 'work']
        """
        record = self.get(dataset) if isinstance(dataset, str) else dataset
        with results.row_reader(self._store, layout.examples(record.id), None, record.sample) as rows:
            frame: pd.DataFrame = rows(offset, limit).to_pandas()
        return frame.set_index(pd.RangeIndex(offset, offset + len(frame)))

    def original(self, dataset: Dataset | str) -> bytes:
        """Return the bytes of the uploaded file.

        Raises:
            NotFoundError: there is no such dataset.

        Examples:
            >>> len(ws.datasets.original(dataset)) > 10_000
            True
        """
        record = self.get(dataset) if isinstance(dataset, str) else dataset
        return self._store.read(layout.original(record.id, record.filename))

    def history(self, name: str) -> pd.DataFrame:
        """Return the versions of a dataset, oldest first, with the number of rows that each added, removed and changed.

        Columns: `version`, `id`, `created_at`, `n_examples`, `size_bytes`, `content_hash`, `added`, `removed`,
        `changed`.

        Raises:
            NotFoundError: there is no such dataset.

        Examples:
            >>> pairs = pd.DataFrame({"example": ["a", "b"], "ground_truth": ["A", "B"]})
            >>> _ = ws.datasets.upload(pairs, name="letters", progress=False)
            >>> newer = pairs.replace("B", "Bee")
            >>> _ = ws.datasets.upload(newer, name="letters", new_version=True, progress=False)
            >>> ws.datasets.history("letters")[["version", "n_examples", "added", "removed", "changed"]]
               version  n_examples  added  removed  changed
            0        1           2   <NA>     <NA>     <NA>
            1        2           2      0        0        1
        """
        return versions.history(self._database, self._store, name)

    def differences(self, old: Dataset | str, new: Dataset | str, *, on: str | None = None) -> DatasetDiff:
        """Compare two datasets, such as "tickets@1" and "tickets", row by row.

        Args:
            old, new: record, name or id.
            on: column that identifies each row; default: the text of the example.

        Raises:
            InvalidInputError: a dataset lacks the column, or its values are not unique.

        Examples:
            >>> pairs = pd.DataFrame({"example": ["a", "b"], "ground_truth": ["A", "B"]})
            >>> _ = ws.datasets.upload(pairs, name="letters", progress=False)
            >>> newer = pairs.replace("B", "Bee")
            >>> _ = ws.datasets.upload(newer, name="letters", new_version=True, progress=False)
            >>> ws.datasets.differences("letters@1", "letters@2").n_changed
            1
        """
        before, after = (versions.read(self._store, self.get(dataset)) for dataset in (old, new))
        return versions.differences(before, after, on)

    def split(
        self,
        dataset: Dataset | str,
        parts: Mapping[str, float],
        *,
        by: str | None = None,
        groups: str | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> dict[str, Dataset]:
        """Split a dataset: ``split("tickets", {"train": 0.8, "test": 0.2})``. Duplicates stay in the same part.

        Args:
            dataset: record, name or id.
            parts: share of each part, by name. Shares sum to 1. The datasets are named "tickets-train" and so on.
            by: column to stratify by: every part keeps the proportions of its values.
            groups: column whose values are never divided between parts, such as an author.
            seed: random seed. The same seed gives the same parts; existing ones are returned.
            name: prefix of the names; default: the dataset's name.

        Raises:
            InvalidInputError: shares do not sum to 1, there is no such column, or a part would be empty.
            ConflictError: a name is taken by something else.

        Examples:
            >>> parts = ws.datasets.split(dataset, {"train": 0.75, "test": 0.25}, by="topic", seed=0)
            >>> parts["test"].n_examples
            16
        """
        return derived.split(self.get(dataset), parts, self._tools(), by=by, groups=groups, seed=seed, name=name)

    def draw(
        self,
        dataset: Dataset | str,
        n_or_share: float,
        *,
        by: str | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Dataset:
        """Draw a random sample of a dataset's rows into a new dataset.

        Args:
            dataset: record, name or id.
            n_or_share: number of rows (200), or share of the rows (0.1).
            by: column to stratify by: the sample keeps the proportions of its values.
            seed: random seed. The same seed draws the same rows.
            name: name of the new dataset; default: such as "tickets-200".

        Raises:
            InvalidInputError: the dataset has fewer rows, or no such column.
            ConflictError: the name is taken by something else.

        Examples:
            >>> ws.datasets.draw(dataset, 10, seed=0).n_examples
            10
        """
        return derived.draw(self.get(dataset), n_or_share, self._tools(), by=by, seed=seed, name=name)

    def _tools(self) -> derived.Tools:
        def versions_of(name: str) -> Sequence[Dataset]:
            with reading(self._database) as work:
                return work.datasets.versions(name)

        def keep(frame: pd.DataFrame, name: str, origin: dict[str, Any], notes: Sequence[str]) -> Dataset:
            with fetched(frame) as copy, self._converted(copy, None, None, False) as (converted, data):
                dataset = _described(copy, converted, data, name)
                dataset.version = self._next_version(name, True)
                dataset.derived, dataset.notes = origin, [*notes, *dataset.notes]
                return self._keep(dataset, copy.path, data, True)

        return derived.Tools(read=partial(versions.read, self._store), versions=versions_of, keep=keep)

    def archive(self, dataset: Dataset | str) -> Dataset:
        """Archive a dataset: hide it from lists. It still opens by name, and nothing is deleted.

        Examples:
            >>> _ = ws.datasets.archive(dataset)
            >>> ws.datasets.count(), ws.datasets.count(archived=True)
            (0, 1)
        """
        return self._archived(dataset, now())

    def restore(self, dataset: Dataset | str) -> Dataset:
        """Undo :meth:`archive`.

        Examples:
            >>> _ = ws.datasets.archive(dataset)
            >>> _ = ws.datasets.restore(dataset)
            >>> ws.datasets.count()
            1
        """
        return self._archived(dataset, None)

    def _archived(self, dataset: Dataset | str, since: datetime | None) -> Dataset:
        with writing(self._database) as work:
            record = work.datasets.get(dataset)
            # Archiving again keeps the first date.
            record.archived_at = since and (record.archived_at or since)
            return record

    def delete(
        self,
        dataset: Dataset | str,
        *,
        cascade: bool = False,
        dry_run: bool = False,
        stop: bool = False,
        wait: bool = True,
    ) -> Deletion:
        """Delete one version of a dataset (default: the newest) and its files.

        Args:
            dataset: record, name or id.
            cascade: also delete the experiments on it, with their workflows and results.
            dry_run: only report what would be deleted.
            stop: stop running workflows first, and wait until they have ended.
            wait: as for :meth:`Experiments.delete`.

        Raises:
            NotFoundError: there is no such dataset.
            InUseError: experiments use it, or, with `cascade`, a workflow is still running.
            WaitTimeoutError: a workflow did not end although it was stopped; nothing was deleted.

        Examples:
            >>> deletion = ws.datasets.delete(dataset, cascade=True, dry_run=True)
            >>> deletion.experiments
            ('summaries',)
        """
        key = key_of(dataset)
        stopping = self._stop if stop else None
        return deletion.of_dataset(
            self._database, self._store, key, cascade=cascade, dry_run=dry_run, stop=stopping, wait=wait
        )

    @contextmanager
    def _converted(
        self,
        copy: LocalCopy,
        example: str | None,
        ground_truth: str | Sequence[str] | None,
        progress: bool | Callable[[int, int], None],
        sheet: str | None = None,
        short_rows: tables.ShortRows = "refuse",
    ) -> Iterator[tuple[tables.Converted, Path]]:
        """Convert a source to Parquet, in a temporary file that exists until the block ends."""
        with (
            # The prefix lets the garbage collector recognize the folder if this process is killed.
            TemporaryDirectory(prefix=layout.temporary("upload")) as folder,
            metered(copy.filename, enabled=progress is True) as meter,
        ):
            data, meter.total = Path(folder) / "data.parquet", copy.size_bytes
            report = progress if callable(progress) else lambda done, _: meter.reach(done)
            converted = tables.convert(
                copy.path,
                data,
                filename=copy.filename,
                example=example,
                ground_truth=ground_truth,
                sheet=sheet,
                short_rows=short_rows,
                report=lambda done: report(done, copy.size_bytes),
            )
            yield converted, data

    def _next_version(self, name: str, allowed: bool) -> int:
        """Return the version number of new content under a name: 1 if it is free, else the next if `allowed`."""
        with reading(self._database) as work:
            newest = work.datasets.named(name)
        if newest is None:
            return 1
        if newest.name != name:  # such as "tickets@1"
            raise ConflictError("dataset", name, "give another name=")
        if not allowed:
            hint = "give another name=, delete the old one, or new_version=True keeps it as version"
            raise ConflictError("dataset", name, f"{hint} {newest.version + 1}")
        return newest.version + 1

    def _keep(
        self, dataset: Dataset, original: Path, data: Path, new_version: bool = False, *, unless: Find | None = None
    ) -> Dataset:
        """Store a dataset, or return the one that `unless` finds in the transaction that would add it.

        Files are written first, the row last: a row that exists always has its files.
        """
        self._refuse_secrets(dataset.name, dataset.filename)
        stored = None
        try:
            self._store.copy_in(data, layout.examples(dataset.id))
            self._store.copy_in(original, layout.original(dataset.id, dataset.filename))
            for _ in range(_VERSION_ATTEMPTS):
                try:
                    with writing(self._database) as work:
                        stored = (unless and unless(work, dataset)) or work.datasets.add(dataset)
                    return stored
                except ConflictError:
                    # Another process took this version number. Without new_version, this raises with a hint.
                    dataset.version = self._next_version(dataset.name, new_version)
            raise ConflictError("dataset", dataset.name, "others keep adding versions: try again")
        finally:
            if stored is not dataset:
                self._store.delete(layout.dataset_folder(dataset.id))

    def _refuse_secrets(self, name: str, filename: str) -> None:
        refuse_secrets([("dataset's name", name), ("dataset's file name", filename)], redactor_of(self._settings))


def _described(copy: LocalCopy, converted: tables.Converted, data: Path, name: str) -> Dataset:
    """Return the record of a converted source, not yet in the database."""
    return Dataset(
        id=str(uuid.uuid4()),
        name=name,
        filename=copy.filename,
        content_hash=copy.content_hash,
        data_hash=file_hash(data),
        size_bytes=copy.size_bytes,
        n_examples=converted.n_examples,
        columns=converted.columns,
        profile=converted.profile,
        notes=list(converted.notes),
    )


def _twins(work: UnitOfWork, content_hash: str, name: str | None) -> list[Dataset]:
    """Return datasets whose newest version has the same bytes; with `name`, only the dataset of that name."""
    twins = work.datasets.with_content(content_hash)
    newest = [twin for twin in twins if twin.version == work.datasets.versions(twin.name)[0].version]
    return [twin for twin in newest if name in (None, twin.name)]


def _is_twin(one: Dataset, other: Dataset) -> bool:
    # Compare rows, too: another sheet of the same workbook has the same bytes and may have the same columns.
    return (one.columns, one.n_examples, one.profile["preview"]) == (
        other.columns, other.n_examples, other.profile["preview"]
    )  # fmt: skip
