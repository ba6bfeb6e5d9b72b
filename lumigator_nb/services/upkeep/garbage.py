"""Garbage collection: find orphans, which no row needs, and remove them once they are old enough.

An upload writes its files before the row, and a deletion removes the row before the files. A process that is killed in
between leaves files without a row. An upload that is still running looks the same, so orphans are removed only after
nothing was written to them for some time (24 hours); no upload pauses that long.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import sqlalchemy as sa
from sqlmodel import col, select

from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.display.render import Rendered
from lumigator_nb.errors import InUseError, InvalidInputError, LumigatorError, NotFoundError
from lumigator_nb.services import deletion
from lumigator_nb.specs import Status, now
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Abandoned, Store

OLDER_THAN = timedelta(hours=24)
KEPT_BACKUPS = 5
# If the database has no row at all and the store has this many folders, they probably belong to another database.
_FOREIGN = 20
_ENDED = [status.value for status in Status if status.ended]
DATASET, WORKFLOW, UPLOAD, KEYS = "dataset", "workflow", "upload cut off", "API keys of an ended workflow"
BACKUP, ANNOTATION, NOTE = "database backup", "annotation", "note of an ended workflow"
TEMPORARY = "temporary folder of a killed process"
_TABLES: dict[str, type[Dataset] | type[Workflow]] = {"datasets": Dataset, "workflows": Workflow}
_KINDS = {"datasets": DATASET, "workflows": WORKFLOW}
# The store may share a bucket with foreign files: only names of this form are considered.
_ID = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_OURS = re.compile(f"(datasets|workflows)/{_ID}/")
_NOTE = re.compile(f"(?:{layout.ENDED}|{layout.QUEUE})/{_ID}[-.][a-z0-9.]+")


@dataclass(frozen=True)
class Orphan:
    """Files that no row needs.

    Attributes:
        kind: "dataset", "workflow", "upload cut off", "API keys of an ended workflow", "database backup", "temporary
            folder of a killed process", "annotation" (an experiment whose dataset was deleted) or "note of an ended
            workflow" (that a step has ended, or that it waits in the queue).
        name: in the store, or a path for a backup or temporary folder, or the experiment's name.
        modified: when the newest file was written, in UTC.
        upload_id: of an unfinished S3 multipart upload.
    """

    kind: str
    name: str
    n_files: int
    n_bytes: int
    modified: datetime
    upload_id: str = ""


@dataclass(frozen=True)
class Garbage(Rendered):
    """The orphans that were found, or removed.

    Attributes:
        older_than: the age from which orphans count.
        collected: whether the orphans were removed.
        n_younger: how many orphans were left alone because they were written recently.
        problems: which orphans could not be removed, and why.
    """

    orphans: tuple[Orphan, ...]
    older_than: timedelta = OLDER_THAN
    collected: bool = False
    n_younger: int = 0
    problems: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes of all orphans."""
        return sum(orphan.n_bytes for orphan in self.orphans)


def find(
    database: Database, store: Store, older_than: timedelta = OLDER_THAN, *, temporary: Path | None = None
) -> Garbage:
    """Return the orphans without removing any.

    Args:
        older_than: orphans that are younger are left alone.
        temporary: the folder in which processes of this machine create temporary folders; None ignores those.

    Raises:
        InvalidInputError: `older_than` is negative.
    """
    if older_than < timedelta(0):
        raise InvalidInputError(f"older_than must not be negative, got {older_than}", "timedelta(hours=24) is usual")
    orphans = [*_stored(database, store), *_backups(database), *_annotations(database)]
    orphans += _temporary(temporary) if temporary is not None else ()
    old = [orphan for orphan in orphans if _is_old(orphan.modified, older_than)]
    return Garbage(tuple(old), older_than, n_younger=len(orphans) - len(old))


def collect(
    database: Database,
    store: Store,
    older_than: timedelta = OLDER_THAN,
    *,
    temporary: Path | None = None,
    force: bool = False,
) -> Garbage:
    """Remove the orphans, and return those that were removed.

    Args:
        older_than, temporary: as of :func:`find`. Less than a day is safe only if no upload is running.
        force: remove orphans even if the database has no row for any of the many folders in the store.

    Raises:
        InvalidInputError: `older_than` is negative; or the store seems to belong to another database.
    """
    garbage = find(database, store, older_than, temporary=temporary)
    n_folders = sum(orphan.kind in (DATASET, WORKFLOW) for orphan in garbage.orphans)
    if n_folders >= _FOREIGN and not force:
        with reading(database) as work:
            n_rows = work.datasets.count() + work.workflows.count()
        if not n_rows:
            raise InvalidInputError(
                f"the database {database.label} knows none of the {n_folders} folders in the store",
                "they may belong to another database: check SQLALCHEMY_DATABASE_URL; if they do not, use force=True",
            )
    removed, problems = [], []
    for orphan in garbage.orphans:
        try:
            if _remove(database, store, orphan, older_than):
                removed.append(orphan)
        except LumigatorError as error:
            problems.append(f"{orphan.name} could not be removed: {error.message}")
    return Garbage(tuple(removed), older_than, True, garbage.n_younger, tuple(problems))


def _is_old(modified: datetime, older_than: timedelta) -> bool:
    return now() - modified >= older_than


def _stored(database: Database, store: Store) -> Iterator[Orphan]:
    """Yield the orphans in the store: a folder without a row is one orphan."""
    # Files are listed before rows: if an upload ends in between, its row is seen.
    uploads = list(store.abandoned_uploads())
    entries = [entry for root in (*_TABLES, layout.ENDED, layout.QUEUE) for entry in store.entries(root)]
    rows = {root: _ids(database, table) for root, table in _TABLES.items()}
    files = []
    for entry in entries:
        if orphan := _orphan_of(entry.name, rows):
            files.append(Orphan(*orphan, 1, entry.size, entry.modified))
    for upload in uploads:
        size = 0
        if store.is_local:
            with suppress(OSError):
                size = store.local_path(upload.name).stat().st_size
        kind, name = _orphan_of(upload.name, rows) or (UPLOAD, "")
        if kind in (DATASET, WORKFLOW):
            # It is part of the folder, which is kept while any part of it is young.
            files.append(Orphan(kind, name, 1, size, upload.started))
        else:
            files.append(Orphan(UPLOAD, upload.name, 1, size, upload.started, upload.upload_id))
    groups: dict[tuple[str, str, str], list[Orphan]] = {}
    for file in files:
        groups.setdefault((file.kind, file.name, file.upload_id), []).append(file)
    for parts in groups.values():
        size, newest = sum(part.n_bytes for part in parts), max(part.modified for part in parts)
        yield replace(parts[0], n_files=len(parts), n_bytes=size, modified=newest)


def _orphan_of(name: str, rows: Mapping[str, Mapping[str, bool]]) -> tuple[str, str] | None:
    """Return kind and name of the orphan that a file is part of; None if the file is needed, or is not ours.

    Args:
        rows: by root folder and id of a row, whether it is a workflow that has ended.
    """
    if match := _OURS.match(name):
        root, key = match.groups()
        if key not in rows[root]:
            return _KINDS[root], f"{root}/{key}"
        # The worker removes the keys at its end, unless it is killed.
        return (KEYS, name) if rows[root][key] and name == layout.sealed_keys(key) else None
    # The process that should remove a note may be killed too.
    match = _NOTE.fullmatch(name)
    return (NOTE, name) if match and rows["workflows"].get(match[1], True) else None


def _ids(database: Database, table: type[Dataset] | type[Workflow]) -> dict[str, bool]:
    """Return the ids of all rows, and whether each is a workflow that has ended."""
    ended = col(Workflow.status).in_(_ENDED) if table is Workflow else sa.false()
    with reading(database) as work:
        rows = work.session.execute(sa.select(col(table.id), ended).select_from(table))
        return {key: bool(value) for key, value in rows}


def _backups(database: Database) -> Iterator[Orphan]:
    if not database.is_sqlite or not database.engine.url.database:
        return
    file = Path(database.engine.url.database)
    copies = ((path, path.stat()) for path in file.parent.glob(f"{glob.escape(file.name)}.*.backup"))
    newest_first = sorted(copies, key=lambda copy: copy[1].st_mtime, reverse=True)
    for path, info in newest_first[KEPT_BACKUPS:]:
        yield Orphan(BACKUP, str(path), 1, info.st_size, datetime.fromtimestamp(info.st_mtime, UTC))


def _temporary(folder: Path) -> Iterator[Orphan]:
    """Yield the temporary folders of processes that ended without removing them; each may be as large as an upload."""
    for path in folder.glob("lumigator-*"):
        match = layout.TEMPORARY.match(path.name)
        with suppress(FileNotFoundError):  # a running process may remove its folder at any moment
            own = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
            if match and own and path.is_dir() and not path.is_symlink():
                files = [file.lstat() for file in (path, *path.rglob("*"))]
                newest = max(info.st_mtime for info in files)
                if not _lives(int(match[1]), newest):
                    modified = datetime.fromtimestamp(newest, UTC)
                    yield Orphan(
                        TEMPORARY, str(path), len(files) - 1, sum(info.st_size for info in files[1:]), modified
                    )


def _lives(process: int, then: float) -> bool:
    """Return whether the process that had this number at a moment is still running; a later one may have it now."""
    try:
        return bool(psutil.Process(process).create_time() <= then)
    except psutil.Error:
        return False


def _annotations(database: Database) -> Iterator[Orphan]:
    """Yield the experiments in which a model wrote ground truth for a dataset that was deleted or never created.

    They are the visible experiments without metrics. The answer cache is kept, so that annotating again costs nothing.
    """
    with reading(database) as work:
        unscored = sa.cast(col(Experiment.metrics), sa.String) == "[]"
        experiments = list(work.session.exec(select(Experiment).where(unscored, *work.experiments.visible())))
        if not experiments:
            return
        origins = work.session.exec(select(Dataset.generated))
        used = {origin["workflow_id"] for origin in origins if "workflow_id" in origin}
        ids = [experiment.id for experiment in experiments]
        workflows = list(work.session.exec(select(Workflow).where(col(Workflow.experiment_id).in_(ids))))
    for experiment in experiments:
        members = [workflow for workflow in workflows if workflow.experiment_id == experiment.id]
        if all(workflow.status.ended and workflow.id not in used for workflow in members):
            times = [workflow.finished_at or workflow.attempted_at for workflow in members]
            yield Orphan(ANNOTATION, experiment.name, 0, 0, max([experiment.created_at, *times]))


def _remove(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """Remove an orphan unless it is needed by now; return whether it was removed."""
    if orphan.kind in (DATASET, WORKFLOW, KEYS):
        return _remove_files(database, store, orphan, older_than)
    if orphan.kind == ANNOTATION:
        # The deletion checks again, under a lock, and refuses if the experiment is in use by now.
        try:
            deletion.of_experiment(database, store, orphan.name)
        except (InUseError, NotFoundError):
            return False
    elif orphan.kind == UPLOAD:
        # No row can ever point to it: it was never published under its name.
        store.remove_abandoned(Abandoned(orphan.name, orphan.modified, orphan.upload_id))
    elif orphan.kind == NOTE:
        # A workflow that was resumed meanwhile does not need it: its results are found without notes, and its new
        # attempt has another place in the queue.
        store.delete(orphan.name)
    elif orphan.kind == BACKUP:
        Path(orphan.name).unlink(missing_ok=True)
    else:
        shutil.rmtree(orphan.name, ignore_errors=True)
        return not Path(orphan.name).exists()
    return True


def _remove_files(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """Remove a folder without a row, or the keys of an ended workflow, unless a second look shows otherwise.

    A process that is about to write the row has written files recently. The keys of a workflow that was resumed were
    sealed again, and are young. Only milliseconds pass between this look and the removal, and at most a commit between
    the last file and its row. Since the last file is `older_than` old, no process can still be about to write the row.
    """
    root, key, *_ = orphan.name.split("/")
    entries = store.entries(f"{root}/{key}")
    if orphan.kind == KEYS:
        entries = [entry for entry in entries if entry.name == orphan.name]
    if any(not _is_old(entry.modified, older_than) for entry in entries):
        return False
    with reading(database) as work:
        row = work.session.get(_TABLES[root], key)
    if row is not None and not (orphan.kind == KEYS and isinstance(row, Workflow) and row.status.ended):
        return False
    store.delete(orphan.name)
    return True
