"""The kept answers of models: how much they take, and how they are kept within a limit.

A workflow or judgement appends to files named after itself, and reads those of others. Removing a file that is read
harms nobody: the answers in it are asked for again. Removing one that is written, or that a stopped workflow goes on
from, would lose what was paid for and how much that was; such files are in use and stay.
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

# Judgements, races and pilots ask from a process that no row tells of; while they work they write this often.
RECENT = timedelta(minutes=15)
_CHUNK = 1 << 20
_AT_ONCE = 1000
_DONE = Status.SUCCEEDED
_ROOT = layout.answers("").rstrip("/")
UNKNOWN = "unknown model"


@dataclass(frozen=True)
class CacheFolder:
    """The kept answers of one model with one set of settings.

    Attributes:
        model: its label; "unknown model" where no workflow is left that tells.
        fingerprint: names the folder.
        answers: how many; 0 where they were not counted.
        used_at: when an answer was last kept, or a workflow with the model last began, in UTC.
    """

    model: str
    fingerprint: str
    answers: int
    n_files: int
    n_bytes: int
    used_at: datetime


@dataclass(frozen=True)
class CacheSize(Rendered):
    """What all kept answers take; the largest folder first. `limit` is in bytes, None without one."""

    folders: tuple[CacheFolder, ...]
    limit: int | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of all."""
        return sum(folder.n_bytes for folder in self.folders)

    @property
    def answers(self) -> int:
        """Answers of all."""
        return sum(folder.answers for folder in self.folders)


@dataclass(frozen=True)
class Trimmed(Rendered):
    """What was taken out of the cache.

    Attributes:
        n_bytes: removed; `left` stay, `spared` of them since they are in use.
        models: labels of those of whom something was removed.
    """

    n_files: int
    n_bytes: int
    left: int
    spared: int = 0
    models: tuple[str, ...] = ()


@dataclass
class _Folder:
    """A folder of answers; `model` is the fingerprint of the model, without the commit that the folder's has in it."""

    fingerprint: str
    files: list[Entry] = field(default_factory=list)
    label: str = UNKNOWN
    model: str = ""
    used_at: datetime | None = None

    @property
    def last_use(self) -> datetime:
        times = [entry.modified for entry in self.files]
        return max([*times, self.used_at] if self.used_at else times)

    @property
    def n_bytes(self) -> int:
        return sum(entry.size for entry in self.files)


class Cache:
    """The kept answers of a workspace.

    Args:
        limit: bytes that they may take; None is no bound.
    """

    def __init__(self, database: Database, store: Store, limit: int | None = None) -> None:
        self._database = database
        self._store = store
        self.limit = limit

    def size(self, *, count: bool = True) -> CacheSize:
        """Say what the kept answers of each model take.

        Args:
            count: count the answers too, for which every file is read.

        Examples:
            >>> _ = ws.workflows.launch(experiment, model)
            >>> _ = ws.wait(experiment, progress=False)
            >>> ws.cache.size().answers
            64
        """
        folders = [
            CacheFolder(
                model=each.label,
                fingerprint=each.fingerprint,
                answers=sum(self._count(entry.name) for entry in each.files) if count else 0,
                n_files=len(each.files),
                n_bytes=each.n_bytes,
                used_at=each.last_use,
            )
            for each in self._folders()
        ]
        return CacheSize(tuple(sorted(folders, key=lambda folder: -folder.n_bytes)), self.limit)

    def trim(self, gigabytes: float | None = None) -> Trimmed:
        """Remove answers, those first whose model was not used for longest, until the rest is within a limit.

        What is in use stays, also above the limit: what a workflow that has not succeeded writes or may go on from,
        and what others are still writing.

        Args:
            gigabytes: to keep at most, of 10⁹ bytes; default LUMIGATOR_CACHE_GB.

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
                "ws.cache.trim(5) keeps 5 GB; LUMIGATOR_CACHE_GB sets a limit for always",
            )
        return self._remove(self._folders(), limit, spare=[status for status in Status if status is not _DONE])

    def keep_to_limit(self) -> Trimmed | None:
        """Trim where a limit is set and exceeded; None where nothing was to be done.

        Meant for the moment after a launch: the store is talked to anyway, the cache grows from then on, and what
        was launched is known to the database, so that nothing is taken away from it. It costs one listing.
        """
        if self.limit is None or sum(entry.size for entry in self._store.entries(_ROOT)) <= self.limit:
            return None
        return self.trim()

    def clear(self, model: str | Model | None = None) -> Trimmed:
        """Remove all kept answers, or those of one model; what workflows under way write stays.

        A stopped workflow that had a budget forgets with its answers what it has spent.

        Args:
            model: label as in :meth:`size`, ``"provider/name"``, the beginning of a fingerprint, or the model;
                default all.

        Raises:
            NotFoundError: nothing is kept of that model.

        Examples:
            >>> _ = ws.workflows.launch(experiment, model)
            >>> _ = ws.wait(experiment, progress=False)
            >>> ws.cache.clear(model).n_bytes > 0
            True
        """
        folders = self._folders()
        chosen = folders if model is None else [each for each in folders if _is(each, model)]
        if model is not None and not chosen:
            asked = model if isinstance(model, str) else model.label
            known = sorted({each.label for each in folders})
            raise NotFoundError("kept answer of", asked, did_you_mean(asked, known) if known else "the cache is empty")
        return self._remove(chosen, 0, spare=[status for status in Status if not status.ended])

    def _remove(self, folders: Sequence[_Folder], limit: int, *, spare: Sequence[Status]) -> Trimmed:
        total, spared, removed = sum(each.n_bytes for each in folders), 0, 0
        busy = self._owners(spare)
        left, models = total, dict[str, None]()
        for folder in sorted(folders, key=lambda each: each.last_use):
            # Of a folder the oldest answers go first: what follows may fit in.
            for entry in sorted(folder.files, key=lambda each: each.modified):
                if left <= limit:
                    break
                if _owner(entry) in busy or _may_be_open(entry):
                    spared += entry.size
                    continue
                self._store.delete(entry.name)
                left -= entry.size
                removed += 1
                models[folder.label] = None
        return Trimmed(removed, total - left, left, spared, tuple(models))

    def _owners(self, statuses: Sequence[Status]) -> set[str]:
        values = [status.value for status in statuses]
        with reading(self._database) as work:
            return set(work.session.exec(select(Workflow.id).where(col(Workflow.status).in_(values))))

    def _folders(self) -> list[_Folder]:
        found: dict[str, _Folder] = {}
        for entry in self._store.entries(_ROOT):
            _, fingerprint, *_ = entry.name.split("/")
            found.setdefault(fingerprint, _Folder(fingerprint)).files.append(entry)
        folders = list(found.values())
        with reading(self._database) as work:
            _name_folders(work, folders)
        return folders

    def _count(self, name: str) -> int:
        """Lines, which are answers; of a model that failed at a price there is a line as well."""
        try:
            with ExitStack() as opened:
                file = opened.enter_context(self._store.reading(name))
                lines = opened.enter_context(gzip.open(file)) if name.endswith(".gz") else file
                return sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(_CHUNK), b""))
        except NotFoundError:  # joined into another file meanwhile
            return 0


def _owner(entry: Entry) -> str:
    return entry.name.rpartition("/")[2].partition(".")[0]


def _may_be_open(entry: Entry) -> bool:
    """Whoever has ended has packed its answers, unless it was killed."""
    return not entry.name.endswith(".gz") and now() - entry.modified < RECENT


def _is(folder: _Folder, model: str | Model) -> bool:
    if isinstance(model, Model):
        return folder.model == model.fingerprint
    return folder.label == model or (len(model) >= MIN_ID_PREFIX and folder.fingerprint.startswith(model))


def _name_folders(work: UnitOfWork, folders: Sequence[_Folder]) -> None:
    """Find out whose answers these are, and when they were last of use.

    A folder is named after the model's fingerprint, of a model of the hub mixed with the commit: then the workflows
    that wrote its files tell.
    """
    known = _by_fingerprint(work, [folder.fingerprint for folder in folders])
    judges = _judges(work)
    writers = _by_id(work, {_owner(entry) for folder in folders for entry in folder.files})
    for folder in folders:
        written_by = (writers.get(_owner(entry), "") for entry in folder.files)
        by_commit = next((each for each in written_by if each and each not in known), "")
        folder.model = folder.fingerprint if folder.fingerprint in known | judges else by_commit
    known = known | _by_fingerprint(work, [each.model for each in folders if each.model not in known])
    for folder in folders:
        if folder.model in known:
            folder.label, folder.used_at = known[folder.model]
        else:
            folder.label = judges.get(folder.model, UNKNOWN)


def _by_fingerprint(work: UnitOfWork, fingerprints: Sequence[str]) -> dict[str, tuple[str, datetime]]:
    """The label of each model, and when a workflow with it last began."""
    label, began = sa.func.min(col(Workflow.label)), sa.func.max(col(Workflow.attempted_at))
    query = sa.select(col(Workflow.fingerprint), label, began)
    grouped = query.where(col(Workflow.fingerprint).in_(fingerprints)).group_by(col(Workflow.fingerprint))
    return {fingerprint: (name, time) for fingerprint, name, time in work.session.execute(grouped)}


def _by_id(work: UnitOfWork, ids: set[str]) -> dict[str, str]:
    """The fingerprint of the model of each workflow."""
    found: dict[str, str] = {}
    ordered = sorted(ids)
    for start in range(0, len(ordered), _AT_ONCE):
        chosen = col(Workflow.id).in_(ordered[start : start + _AT_ONCE])
        found |= dict(work.session.exec(select(Workflow.id, Workflow.fingerprint).where(chosen)).all())
    return found


def _judges(work: UnitOfWork) -> dict[str, str]:
    """The labels of the models that metrics ask, by fingerprint."""
    specs = {spec.key: spec for chosen in work.session.exec(select(Experiment.metrics)) for spec in chosen}
    found: dict[str, str] = {}
    for spec in specs.values():
        # A function's code is not run for this, and a metric that is no longer installed asks nobody.
        with suppress(LumigatorError):
            if not metrics.class_of(spec).runs_user_code:
                found |= {model.fingerprint: model.label for model in metrics.models_of([spec])}
    return found


@render.as_text.register
def _cache_text(cache: CacheSize) -> str:
    """Return what the kept answers take as aligned lines."""
    rows = [
        (each.model, count(each.answers, "answer"), size(each.n_bytes), f"used {moment(each.used_at)}")
        for each in cache.folders
    ]
    return "\n".join([_cache_title(cache), *columns(rows)])


@render.as_html.register
def _cache_html(cache: CacheSize) -> str:
    """Return what the kept answers take as a table."""
    rows = [[name(each.model), f"{each.answers:,}", size(each.n_bytes), moment(each.used_at)] for each in cache.folders]
    found = table(["Model", "Answers", "Size", "Last used"], rows, numeric=(1, 2)) if rows else None
    return fragment(tag("div", _cache_title(cache), class_="lm-title"), found)


def _cache_title(cache: CacheSize) -> str:
    limit = f" of {size(cache.limit)}" if cache.limit is not None else ", without limit (LUMIGATOR_CACHE_GB)"
    return f"Kept answers: {count(cache.answers, 'answer')}, {size(cache.n_bytes)}{limit}"


@render.as_text.register
def _trimmed_text(trimmed: Trimmed) -> str:
    """Return what was taken out of the cache in a line or two."""
    gone = f" of {listed(trimmed.models)}" if trimmed.models else ""
    line = f"Removed {count(trimmed.n_files, 'file')} of kept answers{gone}, {size(trimmed.n_bytes)}"
    spared = f"; {size(trimmed.spared)} are in use and stay" if trimmed.spared else ""
    return f"{line}; {size(trimmed.left)} are left{spared}"


@render.as_html.register
def _trimmed_html(trimmed: Trimmed) -> str:
    """Return the same in a notebook."""
    return fragment(tag("div", str(trimmed)))
