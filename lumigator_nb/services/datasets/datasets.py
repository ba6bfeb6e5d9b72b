"""Datasets: upload, look, delete."""

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
from lumigator_nb.services.datasets import derived as parts_of
from lumigator_nb.services.datasets import versions
from lumigator_nb.services.datasets.sources import LocalCopy, Source, fetched, file_hash
from lumigator_nb.services.datasets.versions import DatasetDiff
from lumigator_nb.services.deletion import Deletion, Stop
from lumigator_nb.services.names import checked_name
from lumigator_nb.services.runtime import Runtime
from lumigator_nb.specs import Model, Shot, Task, now
from lumigator_nb.storage import layout, results

# Of others who add a version at the same moment, so many are waited for.
_VERSION_ATTEMPTS = 10
# What is there already in place of a dataset that is about to be added; None where nothing is.
Find = Callable[[UnitOfWork, Dataset], Dataset | None]


class Annotator(Protocol):
    """Has a model write ground truth; it needs workflows, which this room knows nothing of."""

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


class Datasets:
    """The datasets of a workspace.

    Args:
        stop: ends workflows that are under way.
        annotator: has models write ground truth.
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
        """Read, check and keep a dataset; memory does not grow with its size.

        Args:
            source: path, URL (any that fsspec opens), open file, pandas DataFrame or Hugging Face Dataset, or
                "hf://datasets/ORG/NAME?split=train"; files are CSV (any delimiter), JSON Lines, JSON arrays of
                objects, Parquet or Excel workbooks, also packed as .gz or alone in a .zip.
            name: to find it by; default the file's name without its ending.
            example: the column with the inputs; default the one named "example" or "examples".
            ground_truth: the column with the references, or a list of columns where an example has several; default
                those named "ground_truth", "ground_truth_2" and so on, if any.
            sheet: of an Excel workbook; default the first.
            new_version: where the name is taken by other content, keep this as its next version. The name then means
                the newest, and "name@1" the first.
            short_rows: what to do with a row of CSV that has fewer cells than the header: "refuse" it, or "fill" it
                with empty cells, which is noted on the dataset. Rows with more cells are always refused.
            progress: show how far it is, where it takes longer; or a function that is told how many bytes of how many
                are done.

        Returns:
            The dataset. Where the newest version of one has the same bytes with the same columns, that one, with a
            warning, unless another `name` is asked for.

        Raises:
            DatasetError: the file breaks a rule; the message names file, row and column. Nothing is kept.
            MissingFieldsError: the file has no such column.
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
            title = checked_name(name) if name is not None else _name_from(copy.filename)
            self._refuse_secrets(title, copy.filename)
            with reading(self._database) as work:
                twins = _twins(work, copy.content_hash, name)
            if not twins:
                self._next_version(title, new_version)  # refused before a large file is read
            with self._converted(copy, example, ground_truth, progress, sheet, short_rows) as (found, data):
                dataset = _described(copy, found, data, title)
                kept = next((twin for twin in twins if _is_twin(twin, dataset)), None)
                if kept is None:
                    dataset.version = self._next_version(title, new_version)
                    kept = self._keep(dataset, copy.path, data, new_version, unless=partial(_find_twin, name=name))
                if kept is not dataset:
                    warnings.warn(f"the same content is here already, as dataset {kept.name!r}", stacklevel=2)
                return kept

    def sample(self, name: str = "dialogues") -> Dataset:
        """Return a dataset that ships with the package, uploading it the first time.

        Raises:
            NotFoundError: no sample has that name.

        Examples:
            >>> ws.datasets.sample("dialogues").n_examples
            64
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
        """Keep a dataset of which a model wrote a column.

        Args:
            frame: columns `example`, `ground_truth` where there is one, and metadata.
            missing: examples without an answer.
            column: what the model wrote; only ground truth makes the dataset one that counts as generated.
            unless: finds what takes its place, in the transaction that would add it, or refuses to add it.
        """
        found = self.find(name)
        if found is not None and found.generated.get("workflow_id") == workflow_id:
            return found
        with fetched(frame) as copy, self._converted(copy, None, None, False) as (converted, data):
            dataset = _described(copy, converted, data, name)
            dataset.version = self._next_version(name, False)
            what = column.replace("_", " ") if column == "ground_truth" else f"column {column!r}"
            dataset.notes.insert(0, f"the {what} was generated by {model}")
            if missing:
                dataset.notes.append(f"{missing} examples have none: the model did not answer")
            dataset.generated = {"model": model, "workflow_id": workflow_id, "column": column}
            return self._keep(dataset, copy.path, data, unless=unless)

    def shots(
        self, dataset: Dataset | str, n: int, *, seed: int = 0, where: Mapping[str, object] | None = None
    ) -> tuple[Shot, ...]:
        """Draw solved examples for few-shot prompting: ``Summarization(shots=ws.datasets.shots("train", 3))``.

        Args:
            n: how many, drawn at random without repetition among the examples with ground truth.
            where: metadata that they must have, such as ``{"split": "train"}``.

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

    def get(self, key: Dataset | str) -> Dataset:
        """Return the dataset of that name or id; of a record, as it is now.

        Raises:
            NotFoundError: there is none.

        Examples:
            >>> ws.datasets.get("dialogues").n_examples
            64
        """
        with reading(self._database) as work:
            return work.datasets.get(key)

    def of(self, experiment: Experiment) -> Dataset:
        """Return the dataset of an experiment; where the experiment uses only some of its rows, cut down to these."""
        with reading(self._database) as work:
            return work.data_of(experiment)

    def find(self, key: str) -> Dataset | None:
        """Return the dataset of that name or id, or None.

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
            limit, offset: how many, and how many to leave out before them.
            archived: also those that were put away.
            search: what their names contain, in any case.
            order: "newest", "oldest", "name" or "size" (most examples) first; "-name" and "-size" turn it round.

        Examples:
            >>> [each.name for each in ws.datasets.list(search="dial")]
            ['dialogues']
        """
        with reading(self._database) as work:
            conditions = work.datasets.shown(archived=archived, search=search)
            return work.datasets.list(*conditions, limit=limit, offset=offset, order=order)

    def count(self, *, archived: bool = False, search: str | None = None) -> int:
        """Return how many datasets there are that :meth:`list` would return without a limit.

        Examples:
            >>> ws.datasets.count()
            1
        """
        with reading(self._database) as work:
            return work.datasets.count(*work.datasets.shown(archived=archived, search=search))

    def names(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the names of datasets by their ids; those that were deleted are left out."""
        with reading(self._database) as work:
            return work.datasets.names(ids)

    def to_pandas(self, dataset: Dataset | str) -> pd.DataFrame:
        """Return all examples: columns `example`, `ground_truth` where there is one, and the metadata.

        Examples:
            >>> ws.datasets.to_pandas(dataset).columns.tolist()
            ['example', 'ground_truth', 'topic', 'channel']
        """
        record = self.get(dataset) if isinstance(dataset, str) else dataset
        frame: pd.DataFrame = results.read_rows(self._store, layout.examples(record.id), record.sample).to_pandas()
        return frame

    def rows(self, dataset: Dataset | str, *, limit: int = 25, offset: int = 0) -> pd.DataFrame:
        """Return some of the examples, as :meth:`to_pandas` does all of them; the index counts from `offset`.

        Examples:
            >>> ws.datasets.rows(dataset, limit=2, offset=10)["topic"].tolist()
            ['school', 'work']
        """
        record = self.get(dataset) if isinstance(dataset, str) else dataset
        with results.row_reader(self._store, layout.examples(record.id), None, record.sample) as rows:
            frame: pd.DataFrame = rows(offset, limit).to_pandas()
        return frame.set_index(pd.RangeIndex(offset, offset + len(frame)))

    def original(self, dataset: Dataset | str) -> bytes:
        """Return the bytes as they were uploaded.

        Raises:
            NotFoundError: there is no such dataset.

        Examples:
            >>> len(ws.datasets.original(dataset)) > 10_000
            True
        """
        record = self.get(dataset) if isinstance(dataset, str) else dataset
        return self._store.read(layout.original(record.id, record.filename))

    def history(self, name: str) -> pd.DataFrame:
        """Return the versions of a dataset, oldest first, each with the rows that it added, removed and changed.

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
            on: a column that names each row; default the text of the example.

        Raises:
            InvalidInputError: a dataset lacks the column, or its values do not tell rows apart.

        Examples:
            >>> pairs = pd.DataFrame({"example": ["a", "b"], "ground_truth": ["A", "B"]})
            >>> _ = ws.datasets.upload(pairs, name="letters", progress=False)
            >>> newer = pairs.replace("B", "Bee")
            >>> _ = ws.datasets.upload(newer, name="letters", new_version=True, progress=False)
            >>> ws.datasets.differences("letters@1", "letters@2").n_changed
            1
        """
        before, after = (versions.read(self._store, self.get(each)) for each in (old, new))
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
        """Divide a dataset: ``split("tickets", {"train": 0.8, "test": 0.2})``; examples that repeat stay together.

        Args:
            dataset: record, name or id.
            parts: the share of each part by its name; they sum to 1. Datasets are named "tickets-train" and so on.
            by: a column whose proportions every part keeps.
            groups: a column whose values are never divided, such as an author.
            seed: the same one gives the same parts, which are returned where they are there already.
            name: what the names begin with; default the dataset's.

        Raises:
            InvalidInputError: shares do not sum to 1, there is no such column, or a part would be empty.
            ConflictError: a name is taken by something else.

        Examples:
            >>> parts = ws.datasets.split(dataset, {"train": 0.75, "test": 0.25}, by="topic", seed=0)
            >>> parts["test"].n_examples
            16
        """
        return parts_of.split(self.get(dataset), parts, by=by, groups=groups, seed=seed, name=name, **self._parts())

    def draw(
        self,
        dataset: Dataset | str,
        n_or_share: float,
        *,
        by: str | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Dataset:
        """Draw rows of a dataset at random into one of their own.

        Args:
            dataset: record, name or id.
            n_or_share: how many (200), or a share (0.1).
            by: a column whose proportions are kept.
            seed: the same one draws the same rows.
            name: of the new dataset; default "tickets-200".

        Raises:
            InvalidInputError: more are asked for than there are, or there is no such column.
            ConflictError: the name is taken by something else.

        Examples:
            >>> ws.datasets.draw(dataset, 10, seed=0).n_examples
            10
        """
        return parts_of.draw(self.get(dataset), n_or_share, by=by, seed=seed, name=name, **self._parts())

    def _parts(self) -> parts_of.Tools:
        read = partial(versions.read, self._store)
        return {"read": read, "versions": self._versions, "keep": self._keep_derived}

    def _versions(self, name: str) -> Sequence[Dataset]:
        with reading(self._database) as work:
            return work.datasets.versions(name)

    def _keep_derived(self, frame: pd.DataFrame, name: str, derived: dict[str, Any], notes: Sequence[str]) -> Dataset:
        with fetched(frame) as copy, self._converted(copy, None, None, False) as (found, data):
            dataset = _described(copy, found, data, name)
            dataset.version = self._next_version(name, True)
            dataset.derived, dataset.notes = derived, [*notes, *dataset.notes]
            return self._keep(dataset, copy.path, data, True)

    def archive(self, dataset: Dataset | str) -> Dataset:
        """Put a dataset away: lists leave it out, and it still opens by its name; nothing is lost.

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
            # Archiving again does not make it younger.
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
        """Remove a dataset (of several versions the newest, or the one that is named) and its files.

        Args:
            dataset: record, name or id.
            cascade: the experiments on it go too, with all that is theirs.
            dry_run: only say what would go; nothing happens.
            stop: end workflows that are under way first, and wait for their end.
            wait: as of :meth:`Experiments.delete`.

        Raises:
            NotFoundError: there is no such dataset.
            InUseError: experiments use it, or, with `cascade`, a workflow has not ended.
            WaitTimeoutError: a workflow did not end although it was stopped; nothing was removed.

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
        """Write the examples into a file that ends with the block."""
        with (
            TemporaryDirectory(prefix=layout.temporary("upload")) as folder,
            metered(copy.filename, enabled=progress is True) as meter,
        ):
            data, meter.total = Path(folder) / "data.parquet", copy.size_bytes
            tell = progress if callable(progress) else lambda done, _: meter.reach(done)
            found = tables.convert(
                copy.path,
                data,
                filename=copy.filename,
                example=example,
                ground_truth=ground_truth,
                sheet=sheet,
                short_rows=short_rows,
                report=lambda done: tell(done, copy.size_bytes),
            )
            yield found, data

    def _next_version(self, name: str, wanted: bool) -> int:
        with reading(self._database) as work:
            newest = work.datasets.named(name)
        if newest is None:
            return 1
        if newest.name != name:  # such as "tickets@1"
            raise ConflictError("dataset", name, "give another name=")
        if not wanted:
            hint = (
                f"give another name=, delete the old one, or new_version=True keeps it as version {newest.version + 1}"
            )
            raise ConflictError("dataset", name, hint)
        return newest.version + 1

    def _keep(
        self, dataset: Dataset, original: Path, data: Path, new_version: bool = False, *, unless: Find | None = None
    ) -> Dataset:
        """Files first, the row last: whoever finds the row finds everything.

        Args:
            unless: finds what takes its place, in the transaction that would add it.
        """
        self._refuse_secrets(dataset.name, dataset.filename)
        kept = None
        try:
            self._store.copy_in(data, layout.examples(dataset.id))
            self._store.copy_in(original, layout.original(dataset.id, dataset.filename))
            kept = self._added(dataset, new_version, unless)
            return kept
        finally:
            if kept is not dataset:
                self._store.delete(layout.dataset_folder(dataset.id))

    def _refuse_secrets(self, name: str, filename: str) -> None:
        refuse_secrets([("dataset's name", name), ("dataset's file name", filename)], redactor_of(self._settings))

    def _added(self, dataset: Dataset, new_version: bool, unless: Find | None) -> Dataset:
        for _ in range(_VERSION_ATTEMPTS):
            try:
                with writing(self._database) as work:
                    return (unless and unless(work, dataset)) or work.datasets.add(dataset)
            except ConflictError:
                # Somebody else's came in between; without new_version this is refused, with a hint.
                dataset.version = self._next_version(dataset.name, new_version)
        raise ConflictError("dataset", dataset.name, "others keep adding versions: try again")


def _described(copy: LocalCopy, found: tables.Converted, data: Path, name: str) -> Dataset:
    return Dataset(
        id=str(uuid.uuid4()),
        name=name,
        filename=copy.filename,
        content_hash=copy.content_hash,
        data_hash=file_hash(data),
        size_bytes=copy.size_bytes,
        n_examples=found.n_examples,
        columns=found.columns,
        profile=found.profile,
        notes=list(found.notes),
    )


def _twins(work: UnitOfWork, content_hash: str, name: str | None) -> list[Dataset]:
    """Newest versions of the same bytes; with `name` only of that name."""
    twins = work.datasets.with_content(content_hash)
    newest = [twin for twin in twins if twin.version == work.datasets.versions(twin.name)[0].version]
    return [twin for twin in newest if name in (None, twin.name)]


def _find_twin(work: UnitOfWork, dataset: Dataset, name: str | None) -> Dataset | None:
    twins = _twins(work, dataset.content_hash, name)
    return next((twin for twin in twins if _is_twin(twin, dataset)), None)


def _is_twin(one: Dataset, other: Dataset) -> bool:
    # The rows, too: another sheet of the same workbook may have the same columns.
    return (one.columns, one.n_examples, one.profile["preview"]) == (
        other.columns, other.n_examples, other.profile["preview"]
    )  # fmt: skip


def _name_from(filename: str) -> str:
    stem = Path(layout.safe_filename(filename).removesuffix(".gz")).stem
    return stem or "dataset"
