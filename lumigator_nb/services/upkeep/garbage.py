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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
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
from lumigator_nb.storage.store import Abandoned, Entry, Store

OLDER_THAN = timedelta(hours=24)
KEPT_BACKUPS = 5
# Of this many folders a database that is the store's own knows at least one.
_FOREIGN = 20
_NEVER = datetime.min.replace(tzinfo=UTC)
_ENDED = [status.value for status in Status if status.ended]
DATASET, WORKFLOW, UPLOAD, KEYS = "dataset", "workflow", "upload cut off", "API keys of an ended workflow"
BACKUP, ANNOTATION, NOTE = "database backup", "annotation", "note of an ended workflow"
TEMPORARY = "temporary folder of a killed process"
_TABLES: dict[str, type[Dataset] | type[Workflow]] = {"datasets": Dataset, "workflows": Workflow}
_KINDS = {"datasets": DATASET, "workflows": WORKFLOW}
# The store may lie in a bucket beside other people's files: only what is named like ours is ever looked at.
_OURS = re.compile(r"(datasets|workflows)/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")
_NOTE = re.compile(
    rf"(?:{layout.ENDED}|{layout.QUEUE})/([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})[-.][a-z0-9.]+"
)


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
            if _REMOVERS[orphan.kind](database, store, orphan, older_than):
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


@dataclass
class _Folder:
    """One folder of a dataset or workflow, as far as its files have been counted."""

    kind: str
    name: str
    id: str
    n_files: int = 0
    n_bytes: int = 0
    modified: datetime = _NEVER

    def add(self, entry: Entry | Orphan) -> None:
        self.n_files += 1
        self.n_bytes += entry.size if isinstance(entry, Entry) else entry.n_bytes
        self.modified = max(self.modified, entry.modified)

    @property
    def orphan(self) -> Orphan:
        return Orphan(self.kind, self.name, self.n_files, self.n_bytes, self.modified)


def _all(database: Database, store: Store) -> Iterator[Orphan]:
    # Files are listed before rows: of what was uploaded in between the row is seen.
    uploads = [_upload(store, each) for each in store.abandoned_uploads()]
    folders: dict[str, _Folder] = {}
    keys: list[Entry] = []
    listed: Iterable[Entry | Orphan] = chain(uploads, *(store.entries(root) for root in _TABLES))
    for entry in listed:
        match = _OURS.match(entry.name)
        if match:
            root, key = match[1], match[2]
            folders.setdefault(match[0], _Folder(_KINDS[root], f"{root}/{key}", key)).add(entry)
            keys += [entry] if isinstance(entry, Entry) and entry.name == layout.sealed_keys(key) else []
    notes = [*store.entries(layout.ENDED), *store.entries(layout.QUEUE)]
    known = {root: _known(database, table) for root, table in _TABLES.items()}
    orphaned = [folder for folder in folders.values() if folder.id not in known[folder.name.partition("/")[0]]]
    yield from (folder.orphan for folder in orphaned)
    gone = {folder.name for folder in orphaned}
    yield from (upload for upload in uploads if _parent(upload.name) not in gone)
    ended = [each for each in keys if known["workflows"].get(_parent(each.name).partition("/")[2])]
    yield from (Orphan(KEYS, each.name, 1, each.size, each.modified) for each in ended)
    yield from _notes(notes, known["workflows"])
    yield from _backups(database)
    yield from _annotations(database)


def _upload(store: Store, found: Abandoned) -> Orphan:
    size = 0
    if store.is_local:
        with suppress(OSError):
            size = store.local_path(found.name).stat().st_size
    return Orphan(UPLOAD, found.name, 1, size, found.started, found.upload_id)


def _parent(name: str) -> str:
    """The folder of the dataset or workflow that a file belongs to."""
    return "/".join(name.split("/")[:2])


def _known(database: Database, table: type[Dataset] | type[Workflow]) -> dict[str, bool]:
    """The ids of all rows; of workflows, whether they have ended."""
    ended = col(Workflow.status).in_(_ENDED) if table is Workflow else sa.false()
    with reading(database) as work:
        rows = work.session.execute(sa.select(col(table.id), ended).select_from(table))
        return {key: bool(value) for key, value in rows}


def _notes(entries: Iterable[Entry], workflows: dict[str, bool]) -> Iterator[Orphan]:
    """Those of workflows that are recorded as ended, or gone: whoever was to remove them was killed."""
    for entry in entries:
        match = _NOTE.fullmatch(entry.name)
        if match and workflows.get(match[1], True):
            yield Orphan(NOTE, entry.name, 1, entry.size, entry.modified)


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


def _remove_folder(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """Whoever was about to write a row for this would have written files lately, or the row by now: look again.

    Between this look and the removal lie milliseconds, between the last file and its row at most the time of a
    commit, and the last file is `older_than` old: nobody can still be about to write the row.
    """
    root, _, key = orphan.name.partition("/")
    if any(not _is_old(entry.modified, older_than) for entry in store.entries(orphan.name)):
        return False
    with reading(database) as work:
        if work.session.get(_TABLES[root], key) is not None:
            return False
    store.delete(orphan.name)
    return True


def _remove_upload(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    # Nobody can come to point to it: it was never published under its name.
    store.remove_abandoned(Abandoned(orphan.name, orphan.modified, orphan.upload_id))
    return True


def _remove_keys(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """Keys of a workflow that was resumed meanwhile were sealed anew, and are young."""
    with reading(database) as work:
        workflow = work.workflows.find(_parent(orphan.name).partition("/")[2])
    files = {each.name: each for each in store.entries(_parent(orphan.name))}
    entry = files.get(orphan.name)
    if entry is None or not _is_old(entry.modified, older_than) or (workflow and not workflow.status.ended):
        return False
    store.delete(orphan.name)
    return True


def _remove_note(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """Of a workflow that was resumed meanwhile results are found without it, and its place in the queue is another."""
    store.delete(orphan.name)
    return True


def _remove_backup(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    Path(orphan.name).unlink(missing_ok=True)
    return True


def _remove_temporary(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    shutil.rmtree(orphan.name, ignore_errors=True)
    return not Path(orphan.name).exists()


def _remove_annotation(database: Database, store: Store, orphan: Orphan, older_than: timedelta) -> bool:
    """The deletion looks again, under lock, and refuses where the experiment has come to life."""
    try:
        deletion.of_experiment(database, store, orphan.name)
    except (InUseError, NotFoundError):
        return False
    return True


_REMOVERS: dict[str, Callable[[Database, Store, Orphan, timedelta], bool]] = {
    DATASET: _remove_folder,
    WORKFLOW: _remove_folder,
    UPLOAD: _remove_upload,
    KEYS: _remove_keys,
    BACKUP: _remove_backup,
    ANNOTATION: _remove_annotation,
    NOTE: _remove_note,
    TEMPORARY: _remove_temporary,
}
