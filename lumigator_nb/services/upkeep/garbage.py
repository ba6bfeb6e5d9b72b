"""What belongs to nobody: found, and removed once it is old enough.

Whoever uploads puts files before the row, and whoever deletes removes the row before the files; killed in between,
either leaves files without a row. What is found is removed only once nothing in it was written for some time
(24 hours), since an upload under way looks the same; no upload lasts that long without writing.
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
# Of this many folders a database that is the store's own knows at least one.
_FOREIGN = 20
_ENDED = [status.value for status in Status if status.ended]
DATASET, WORKFLOW, UPLOAD, KEYS = "dataset", "workflow", "upload cut off", "API keys of an ended workflow"
BACKUP, ANNOTATION, NOTE = "database backup", "annotation", "note of an ended workflow"
TEMPORARY = "temporary folder of a killed process"
_TABLES: dict[str, type[Dataset] | type[Workflow]] = {"datasets": Dataset, "workflows": Workflow}
_KINDS = {"datasets": DATASET, "workflows": WORKFLOW}
# The store may lie in a bucket beside other people's files: only what is named like ours is ever looked at.
_ID = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_OURS = re.compile(f"(datasets|workflows)/{_ID}/")
_NOTE = re.compile(f"(?:{layout.ENDED}|{layout.QUEUE})/{_ID}[-.][a-z0-9.]+")


@dataclass(frozen=True)
class Orphan:
    """Files that belong to nobody.

    Attributes:
        kind: "dataset", "workflow", "upload cut off", "API keys of an ended workflow", "database backup", "temporary
            folder of a killed process", "annotation" (an experiment whose dataset is gone) or "note of an ended
            workflow" (that a step has ended, or that it waits for its turn).
        name: in the store, or a path for a backup or temporary folder, or the experiment's name.
        modified: when the newest of the files was written, in UTC.
        upload_id: of an S3 multipart upload that was cut off.
    """

    kind: str
    name: str
    n_files: int
    n_bytes: int
    modified: datetime
    upload_id: str = ""


@dataclass(frozen=True)
class Garbage(Rendered):
    """What was found, or removed.

    Attributes:
        collected: whether it was removed.
        n_younger: what was left alone, since it was written lately.
        problems: what could not be removed, and why.
    """

    orphans: tuple[Orphan, ...]
    older_than: timedelta = OLDER_THAN
    collected: bool = False
    n_younger: int = 0
    problems: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes of all."""
        return sum(orphan.n_bytes for orphan in self.orphans)


def find(
    database: Database, store: Store, older_than: timedelta = OLDER_THAN, *, temporary: Path | None = None
) -> Garbage:
    """Say what belongs to nobody; nothing is removed.

    Args:
        older_than: what was written later is left alone.
        temporary: where processes of this machine have their temporary folders; None leaves those alone.

    Raises:
        InvalidInputError: `older_than` is negative.
    """
    if older_than < timedelta(0):
        raise InvalidInputError(f"older_than must not be negative, got {older_than}", "timedelta(hours=24) is usual")
    found = [*_all(database, store), *(_temporary(temporary) if temporary is not None else ())]
    old = [orphan for orphan in found if _is_old(orphan.modified, older_than)]
    return Garbage(tuple(old), older_than, n_younger=len(found) - len(old))


def collect(
    database: Database,
    store: Store,
    older_than: timedelta = OLDER_THAN,
    *,
    temporary: Path | None = None,
    force: bool = False,
) -> Garbage:
    """Remove what belongs to nobody, and say what was removed.

    Args:
        older_than, temporary: as of :func:`find`. Less than a day is for those who know that nobody uploads now.
        force: also where the database knows none of the many folders in the store.

    Raises:
        InvalidInputError: `older_than` is negative; or the store seems to belong to another database.
    """
    found = find(database, store, older_than, temporary=temporary)
    if not force:
        _refuse_foreign(database, found)
    removed, problems = [], []
    for orphan in found.orphans:
        try:
            if _remove(database, store, orphan, older_than):
                removed.append(orphan)
        except LumigatorError as error:
            problems.append(f"{orphan.name} could not be removed: {error.message}")
    return Garbage(tuple(removed), older_than, True, found.n_younger, tuple(problems))


def _refuse_foreign(database: Database, found: Garbage) -> None:
    folders = [orphan for orphan in found.orphans if orphan.kind in (DATASET, WORKFLOW)]
    if len(folders) < _FOREIGN:
        return
    with reading(database) as work:
        known = work.datasets.count() + work.workflows.count()
    if not known:
        raise InvalidInputError(
            f"the database {database.label} knows none of the {len(folders)} folders in the store",
            "they may be another database's: check SQLALCHEMY_DATABASE_URL; if they are nobody's, say force=True",
        )


def _is_old(modified: datetime, older_than: timedelta) -> bool:
    return now() - modified >= older_than


def _all(database: Database, store: Store) -> Iterator[Orphan]:
    # Files are listed before rows: of what was uploaded in between the row is seen.
    uploads = [_upload(store, each) for each in store.abandoned_uploads()]
    entries = [entry for root in (*_TABLES, layout.ENDED, layout.QUEUE) for entry in store.entries(root)]
    known = {root: _known(database, table) for root, table in _TABLES.items()}
    files = []
    for entry in entries:
        if orphan := _orphan_of(entry.name, known):
            files.append(Orphan(*orphan, 1, entry.size, entry.modified))
    for upload in uploads:
        kind, name = _orphan_of(upload.name, known) or (UPLOAD, "")
        # What was cut off in a folder without a row is part of the folder, and keeps it while it is young.
        inside = kind in (DATASET, WORKFLOW)
        files.append(replace(upload, kind=kind, name=name, upload_id="") if inside else upload)
    together: dict[tuple[str, str, str], list[Orphan]] = {}
    for file in files:
        together.setdefault((file.kind, file.name, file.upload_id), []).append(file)
    for parts in together.values():
        size, newest = sum(part.n_bytes for part in parts), max(part.modified for part in parts)
        yield replace(parts[0], n_files=len(parts), n_bytes=size, modified=newest)
    yield from _backups(database)
    yield from _annotations(database)


def _orphan_of(name: str, known: Mapping[str, Mapping[str, bool]]) -> tuple[str, str] | None:
    """The kind and name of the orphan that a file is, or belongs to; None where it is needed, or is not ours.

    Args:
        known: by the root folder, of each row's id whether it is of a workflow that has ended.
    """
    if match := _OURS.match(name):
        root, key = match.groups()
        if key not in known[root]:
            return _KINDS[root], f"{root}/{key}"
        # A workflow's end takes its keys along, unless its worker is killed.
        return (KEYS, name) if known[root][key] and name == layout.sealed_keys(key) else None
    # Notes, too, are removed by somebody who may be killed.
    match = _NOTE.fullmatch(name)
    return (NOTE, name) if match and known["workflows"].get(match[1], True) else None


def _upload(store: Store, found: Abandoned) -> Orphan:
    size = 0
    if store.is_local:
        with suppress(OSError):
            size = store.local_path(found.name).stat().st_size
    return Orphan(UPLOAD, found.name, 1, size, found.started, found.upload_id)


def _known(database: Database, table: type[Dataset] | type[Workflow]) -> dict[str, bool]:
    """The ids of all rows; of workflows, whether they have ended."""
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
    """Where an upload was copied and converted by a process that is no more; as large as what was uploaded."""
    for path in folder.glob("lumigator-*"):
        match = layout.TEMPORARY.match(path.name)
        with suppress(FileNotFoundError):  # whoever is at work tidies up at any moment
            own = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
            if match and own and path.is_dir() and not path.is_symlink():
                files = [each.lstat() for each in (path, *path.rglob("*"))]
                newest = max(info.st_mtime for info in files)
                if not _lives(int(match[1]), newest):
                    modified = datetime.fromtimestamp(newest, UTC)
                    yield Orphan(
                        TEMPORARY, str(path), len(files) - 1, sum(info.st_size for info in files[1:]), modified
                    )


def _lives(process: int, then: float) -> bool:
    """Whether a process that was there at a moment still is; a later one may have its number."""
    try:
        return bool(psutil.Process(process).create_time() <= then)
    except psutil.Error:
        return False


def _annotations(database: Database) -> Iterator[Orphan]:
    """Experiments in which a model wrote ground truth, and whose dataset was deleted or never came to be.

    Only such an experiment has no metrics, besides those that hold single jobs, which stay. The answers are kept, so
    that annotating again pays for none twice.
    """
    with reading(database) as work:
        unscored = sa.cast(col(Experiment.metrics), sa.String) == "[]"
        experiments = list(work.session.exec(select(Experiment).where(unscored, *work.experiments.visible())))
        if not experiments:
            return
        used = {by["workflow_id"] for by in work.session.exec(select(Dataset.generated)) if "workflow_id" in by}
        ids = [experiment.id for experiment in experiments]
        workflows = list(work.session.exec(select(Workflow).where(col(Workflow.experiment_id).in_(ids))))
    for experiment in experiments:
        own = [workflow for workflow in workflows if workflow.experiment_id == experiment.id]
        if all(workflow.status.ended and workflow.id not in used for workflow in own):
            times = [workflow.finished_at or workflow.attempted_at for workflow in own]
            yield Orphan(ANNOTATION, experiment.name, 0, 0, max([experiment.created_at, *times]))


def _remove(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """Remove an orphan, and return whether it still was one."""
    if orphan.kind in (DATASET, WORKFLOW, KEYS):
        return _remove_files(database, store, orphan, older_than)
    if orphan.kind == ANNOTATION:
        # The deletion looks again, under lock, and refuses where the experiment has come to life.
        try:
            deletion.of_experiment(database, store, orphan.name)
        except (InUseError, NotFoundError):
            return False
    elif orphan.kind == UPLOAD:
        # Nobody can come to point to it: it was never published under its name.
        store.remove_abandoned(Abandoned(orphan.name, orphan.modified, orphan.upload_id))
    elif orphan.kind == NOTE:
        # Of a workflow that was resumed meanwhile results are found without it, and its place in the queue is another.
        store.delete(orphan.name)
    elif orphan.kind == BACKUP:
        Path(orphan.name).unlink(missing_ok=True)
    else:
        shutil.rmtree(orphan.name, ignore_errors=True)
        return not Path(orphan.name).exists()
    return True


def _remove_files(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """Remove what had no row, or the keys of what had ended, unless a second look shows otherwise.

    Whoever was about to write a row would have written files lately, or the row by now; keys of a workflow that was
    resumed were sealed anew, and are young. Between this look and the removal lie milliseconds, between the last file
    and its row at most the time of a commit, and the last file is `older_than` old: nobody can still be about to write
    the row.
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
