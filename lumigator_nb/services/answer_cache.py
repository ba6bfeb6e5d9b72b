"""The answer cache: its size, and how to keep it within a limit.

Each workflow or judge run appends to its own files and reads the files of others. Removing a file that others read
costs money at most: they ask again. Removing a file that is being written, or that a stopped workflow can resume from,
would lose answers that were paid for, and the record of what was spent. Such files are "in use" and stay.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import col, select

from lumigator_nb import metrics
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import MIN_ID_PREFIX, UnitOfWork, reading
from lumigator_nb.database.records import Experiment, Workflow
from lumigator_nb.display import render
from lumigator_nb.display.html import fragment, name, table, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import columns, count, listed, moment, size
from lumigator_nb.errors import InvalidInputError, LumigatorError, NotFoundError, did_you_mean
from lumigator_nb.specs import Model, Status, now
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Entry, Store

# Judge runs, races and pilots have no row in the database. A file that was written this recently may be theirs.
RECENT = timedelta(minutes=15)
_CHUNK = 1 << 20
# Databases limit the number of parameters of a query.
_IDS_PER_QUERY = 1000
_DONE = Status.SUCCEEDED
_ROOT = layout.answers("").rstrip("/")
UNKNOWN = "unknown model"


@dataclass(frozen=True)
class CacheFolder:
    """The cached answers of one model with one set of settings.

    Attributes:
        model: label of the model; "unknown model" if no workflow with it exists any more.
        fingerprint: name of the folder.
        answers: number of answers; 0 if they were not counted.
        n_files, n_bytes: files in the folder and their size.
        used_at: when an answer was last stored, or a workflow with the model last started, in UTC.
    """

    model: str
    fingerprint: str
    answers: int
    n_files: int
    n_bytes: int
    used_at: datetime


@dataclass(frozen=True)
class CacheSize(Rendered):
    """The size of the answer cache, largest folder first. `limit` is in bytes; None means no limit."""

    folders: tuple[CacheFolder, ...]
    limit: int | None = None

    @property
    def n_bytes(self) -> int:
        """Total size in bytes."""
        return sum(folder.n_bytes for folder in self.folders)

    @property
    def answers(self) -> int:
        """Total number of answers."""
        return sum(folder.answers for folder in self.folders)


@dataclass(frozen=True)
class Trimmed(Rendered):
    """What was removed from the cache.

    Attributes:
        n_files, n_bytes: number and size of the removed files.
        left: bytes that remain, `spared` of them because they are in use.
        models: labels of the models whose answers were removed.
    """

    n_files: int
    n_bytes: int
    left: int
    spared: int = 0
    models: tuple[str, ...] = ()


@dataclass
class _Folder:
    """One folder of the cache.

    `fingerprint` is the folder's name. `model` is the fingerprint of the model in the database. They differ for a
    model of the Hugging Face Hub, whose folder name includes the commit of the weights.
    """

    fingerprint: str
    files: list[Entry] = field(default_factory=list)
    label: str = UNKNOWN
    model: str = ""
    used_at: datetime | None = None

    @property
    def last_use(self) -> datetime:
        # A workflow that finds all answers in the cache writes none: its start counts as use, too.
        times = [entry.modified for entry in self.files]
        return max([*times, self.used_at] if self.used_at else times)

    @property
    def n_bytes(self) -> int:
        return sum(entry.size for entry in self.files)


class Cache:
    """The answer cache of a workspace.

    Args:
        limit: maximum size in bytes; None means no limit.
    """

    def __init__(self, database: Database, store: Store, limit: int | None = None) -> None:
        self._database = database
        self._store = store
        self.limit = limit

    def size(self, *, count: bool = True) -> CacheSize:
        """Return the size of the answer cache, by model.

        Args:
            count: also count the answers, which reads every file.

        Examples:
            >>> _ = ws.workflows.launch(experiment, model)
            >>> _ = ws.wait(experiment, progress=False)
            >>> ws.cache.size().answers
            64
        """
        folders = [
            CacheFolder(
                model=folder.label,
                fingerprint=folder.fingerprint,
                answers=sum(self._count(entry.name) for entry in folder.files) if count else 0,
                n_files=len(folder.files),
                n_bytes=folder.n_bytes,
                used_at=folder.last_use,
            )
            for folder in self._folders()
        ]
        return CacheSize(tuple(sorted(folders, key=lambda folder: -folder.n_bytes)), self.limit)

    def trim(self, gigabytes: float | None = None) -> Trimmed:
        """Remove answers of the least recently used models until the rest is within a limit.

        Files in use stay, even above the limit: files of workflows that have not succeeded and may be resumed, and
        files that were written a moment ago.

        Args:
            gigabytes: maximum size in GB (10⁹ bytes); default: LUMIGATOR_CACHE_GB.

        Raises:
            InvalidInputError: no limit is given or set, or it is negative.

        Examples:
            >>> ws.cache.trim(gigabytes=1.0).n_files
            0
        """
        limit = self.limit if gigabytes is None else round(gigabytes * 1e9)
        if limit is None or limit < 0:
            raise InvalidInputError(
                "the cache has no limit" if limit is None else f"gigabytes must not be negative, got {gigabytes}",
                "ws.cache.trim(5) keeps 5 GB; the setting LUMIGATOR_CACHE_GB sets a permanent limit",
            )
        return self._remove(self._folders(), limit, spare=[status for status in Status if status is not _DONE])

    def keep_to_limit(self) -> Trimmed | None:
        """Trim the cache if a limit is set and exceeded; otherwise return None.

        To be called after a launch: the store is in use anyway, and the launched workflows are in the database, so
        that their files count as in use. It costs one listing of the cache.
        """
        if self.limit is None or sum(entry.size for entry in self._store.entries(_ROOT)) <= self.limit:
            return None
        return self.trim()

    def clear(self, model: str | Model | None = None) -> Trimmed:
        """Remove all cached answers, or those of one model. Files of running workflows stay.

        The record of what was spent is stored with the answers: a stopped workflow with a budget starts from zero.

        Args:
            model: label as in :meth:`size`, ``"provider/name"``, the first characters of a fingerprint, or the model;
                default: all models.

        Raises:
            NotFoundError: the cache has no answers of that model.

        Examples:
            >>> _ = ws.workflows.launch(experiment, model)
            >>> _ = ws.wait(experiment, progress=False)
            >>> ws.cache.clear(model).n_bytes > 0
            True
        """
        folders = self._folders()
        if model is not None:
            labels = sorted({folder.label for folder in folders})
            folders = [folder for folder in folders if _is_of(folder, model)]
            if not folders:
                label = model if isinstance(model, str) else model.label
                hint = did_you_mean(label, labels) if labels else "the cache is empty"
                raise NotFoundError("cached answer of", label, hint)
        return self._remove(folders, 0, spare=[status for status in Status if not status.ended])

    def _remove(self, folders: Sequence[_Folder], limit: int, *, spare: Sequence[Status]) -> Trimmed:
        """Remove files, least recently used first, until `limit` bytes are left.

        Args:
            folders: where to remove.
            limit: in bytes; 0 removes everything that is not in use.
            spare: files of workflows with these statuses stay.
        """
        query = select(Workflow.id).where(col(Workflow.status).in_([status.value for status in spare]))
        with reading(self._database) as work:
            busy = set(work.session.exec(query))
        total = left = sum(folder.n_bytes for folder in folders)
        n_spared = n_removed = 0
        models: dict[str, None] = {}  # a dict keeps the order
        for folder in sorted(folders, key=lambda folder: folder.last_use):
            for entry in sorted(folder.files, key=lambda entry: entry.modified):
                if left <= limit:
                    break
                # A writer compresses its file at the end, unless it was killed.
                may_be_open = not entry.name.endswith(".gz") and now() - entry.modified < RECENT
                if _owner(entry) in busy or may_be_open:
                    n_spared += entry.size
                    continue
                self._store.delete(entry.name)
                left -= entry.size
                n_removed += 1
                models[folder.label] = None
        return Trimmed(n_removed, total - left, left, n_spared, tuple(models))

    def _folders(self) -> list[_Folder]:
        """Return the folders of the cache with their models and last use.

        A folder is named after the fingerprint of its model. For a model of the Hugging Face Hub the commit is mixed
        in, so that the name is not in the database; then the workflows that wrote its files identify the model.
        """
        by_name: dict[str, _Folder] = {}
        for entry in self._store.entries(_ROOT):
            _, fingerprint, *_ = entry.name.split("/")
            by_name.setdefault(fingerprint, _Folder(fingerprint)).files.append(entry)
        folders = list(by_name.values())
        with reading(self._database) as work:
            models = _models_of_workflows(work, list(by_name))
            judges = _judges(work)
            writers = _fingerprints_of(work, {_owner(entry) for folder in folders for entry in folder.files})
            for folder in folders:
                if folder.fingerprint in models or folder.fingerprint in judges:
                    folder.model = folder.fingerprint
                else:
                    written_by = (writers.get(_owner(entry), "") for entry in folder.files)
                    # Workflows write the answers of their judges, too: skip models that have their own folder.
                    folder.model = next((key for key in written_by if key and key not in models), "")
            models |= _models_of_workflows(work, [folder.model for folder in folders if folder.model not in models])
        for folder in folders:
            if folder.model in models:
                folder.label, folder.used_at = models[folder.model]
            else:
                folder.label = judges.get(folder.model, UNKNOWN)
        return folders

    def _count(self, name: str) -> int:
        """Return the number of lines: one per answer, and one per failure that cost money."""
        try:
            with ExitStack() as stack:
                file = stack.enter_context(self._store.reading(name))
                lines = stack.enter_context(gzip.open(file)) if name.endswith(".gz") else file
                return sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(_CHUNK), b""))
        except NotFoundError:  # merged into another file meanwhile
            return 0


def _owner(entry: Entry) -> str:
    """Return the id of the workflow or judge run that wrote a file."""
    return entry.name.rpartition("/")[2].partition(".")[0]


def _is_of(folder: _Folder, model: str | Model) -> bool:
    if isinstance(model, Model):
        return folder.model == model.fingerprint
    return folder.label == model or (len(model) >= MIN_ID_PREFIX and folder.fingerprint.startswith(model))


def _models_of_workflows(work: UnitOfWork, fingerprints: Sequence[str]) -> dict[str, tuple[str, datetime]]:
    """Return the label of each model and when a workflow with it last started, by fingerprint."""
    label, started_at = sa.func.min(col(Workflow.label)), sa.func.max(col(Workflow.attempted_at))
    query = sa.select(col(Workflow.fingerprint), label, started_at)
    grouped = query.where(col(Workflow.fingerprint).in_(fingerprints)).group_by(col(Workflow.fingerprint))
    return {fingerprint: (name, time) for fingerprint, name, time in work.session.execute(grouped)}


def _fingerprints_of(work: UnitOfWork, workflow_ids: set[str]) -> dict[str, str]:
    """Return the fingerprint of the model of each workflow, by the workflow's id."""
    fingerprints: dict[str, str] = {}
    ids = sorted(workflow_ids)
    for start in range(0, len(ids), _IDS_PER_QUERY):
        batch = ids[start : start + _IDS_PER_QUERY]
        query = select(Workflow.id, Workflow.fingerprint).where(col(Workflow.id).in_(batch))
        fingerprints |= dict(work.session.exec(query).all())
    return fingerprints


def _judges(work: UnitOfWork) -> dict[str, str]:
    """Return the labels of the models that metrics ask (judges), by fingerprint."""
    specs = {spec.key: spec for row in work.session.exec(select(Experiment.metrics)) for spec in row}
    judges: dict[str, str] = {}
    for spec in specs.values():
        # Do not run the user's code for this, and skip metrics that are no longer installed.
        with suppress(LumigatorError):
            if not metrics.class_of(spec).runs_user_code:
                judges |= {model.fingerprint: model.label for model in metrics.models_of([spec])}
    return judges


@render.as_text.register
def _cache_text(cache: CacheSize) -> str:
    """Return the size of the cache as aligned lines."""
    rows = [
        (folder.model, count(folder.answers, "answer"), size(folder.n_bytes), f"used {moment(folder.used_at)}")
        for folder in cache.folders
    ]
    return "\n".join([_cache_title(cache), *columns(rows)])


@render.as_html.register
def _cache_html(cache: CacheSize) -> str:
    """Return the size of the cache as a table."""
    rows = [
        [name(folder.model), f"{folder.answers:,}", size(folder.n_bytes), moment(folder.used_at)]
        for folder in cache.folders
    ]
    body = table(["Model", "Answers", "Size", "Last used"], rows, numeric=(1, 2)) if rows else None
    return fragment(tag("div", _cache_title(cache), class_="lm-title"), body)


def _cache_title(cache: CacheSize) -> str:
    limit = f" of {size(cache.limit)}" if cache.limit is not None else ", without limit (LUMIGATOR_CACHE_GB)"
    return f"Answer cache: {count(cache.answers, 'answer')}, {size(cache.n_bytes)}{limit}"


@render.as_text.register
def _trimmed_text(trimmed: Trimmed) -> str:
    """Return what was removed from the cache in one line."""
    files = f"{count(trimmed.n_files, 'file')} ({size(trimmed.n_bytes)})"
    models = f": answers of {listed(trimmed.models)}" if trimmed.models else ""
    in_use = f", {size(trimmed.spared)} of it in use" if trimmed.spared else ""
    return f"Removed {files} from the answer cache{models}. {size(trimmed.left)} remain{in_use}."


@render.as_html.register
def _trimmed_html(trimmed: Trimmed) -> str:
    """Return the same line as HTML."""
    return fragment(tag("div", str(trimmed)))
