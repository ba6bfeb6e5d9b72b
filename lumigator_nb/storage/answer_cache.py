"""Answers that are kept: written as they come, found again by what was asked.

One line of JSON per answer. In a store on this machine the lines go to a file at once, so that a killed process loses
nothing that it was told; an object store cannot append, so there they wait for 64 answers or 2 seconds. A workflow
writes only files named after itself, and joins them when it ends, so that workflows never disturb each other.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from lumigator_nb.errors import NotFoundError
from lumigator_nb.models import Prediction
from lumigator_nb.storage.store import Store

log = logging.getLogger(__name__)

MOST_WAITING, LONGEST_WAIT_S = 64, 2.0
_MOST_BEHIND = 4096
_FIELDS = [field.name for field in fields(Prediction) if field.name not in ("error", "cached")]


class Answers:
    """The kept answers of one model.

    Args:
        store: where they are.
        folder: of this model there.
        owner: names this workflow's files.
        takes_others: whether answers that other workflows left are found too.
        joins: whether closing joins this workflow's files, which no other process may be writing then.
    """

    def __init__(self, store: Store, folder: str, owner: str, *, takes_others: bool = True, joins: bool = True) -> None:
        self._store, self._folder, self._owner, self._joins = store, folder, owner, joins
        # A private temporary database: in memory while it is small, on disk beyond that, gone when closed.
        # Threads of a race take turns at it.
        self._index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._index.execute("PRAGMA journal_mode = OFF")
        self._index.execute(
            "CREATE TABLE answer (key TEXT PRIMARY KEY, value TEXT NOT NULL, mine INTEGER) WITHOUT ROWID"
        )
        for name in sorted(store.list(folder), key=lambda name: (_owner(name) == owner, _written(name))):
            if takes_others or _owner(name) == owner:
                self._read(name)
        self._journal: _Journal
        if store.is_local:
            self._journal = _LocalJournal(store.local_path(self._new_name()))
        else:
            self._journal = _RemoteJournal(store, self._new_name)

    def find(self, key: str) -> Prediction | None:
        """Return the kept answer, marked as cached where another workflow asked for it; None where there is none."""
        row = self._index.execute("SELECT value, mine FROM answer WHERE key = ?", (key,)).fetchone()
        return None if row is None else Prediction(**json.loads(row[0]), cached=not row[1])

    def keep(self, key: str, prediction: Prediction) -> None:
        """Keep an answer. Of an error only what it cost is kept, for :func:`spent`."""
        if prediction.text is None:
            if prediction.cost:
                self._journal.append(f'{{"key":"","answer":{{"cost":{prediction.cost!r}}}}}\n')
            return
        values = ((name, getattr(prediction, name)) for name in _FIELDS)
        given = {name: value for name, value in values if value is not None and value is not False}
        value = json.dumps(given, ensure_ascii=False)
        self._journal.append(f'{{"key":"{key}","answer":{value}}}\n')
        self._index.execute("INSERT OR REPLACE INTO answer VALUES (?, ?, 1)", (key, value))

    def close(self) -> None:
        """Publish what waits, and join this workflow's files into one."""
        self._journal.close()
        self._index.close()
        if not self._joins:
            return
        mine = [name for name in self._store.list(self._folder) if _owner(name) == self._owner]
        if len(mine) > 1 or any(not name.endswith(".gz") for name in mine):
            self._join(mine)

    def _new_name(self) -> str:
        # The time is in the name, so that of two answers to the same question the later one wins, also where both
        # were written in one millisecond.
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        return f"{self._folder}/{self._owner}.{milliseconds:013d}-{rest:06d}-{uuid.uuid4().hex[:8]}.jsonl"

    def _read(self, name: str) -> None:
        try:
            mine = _owner(name) == self._owner
            lines = _lines(self._store, name)
            rows = ((key, json.dumps(answer, ensure_ascii=False), mine) for key, answer in lines if key)
            self._index.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", rows)
        except NotFoundError:
            log.info("%s was joined into another file meanwhile", name)

    def _join(self, names: Sequence[str]) -> None:
        """Write one compressed file of all, then remove the parts; whoever reads meanwhile finds either."""
        joined = f"{self._new_name()}.gz"
        with self._store.writing(joined) as file, gzip.open(file, "wb", compresslevel=5) as packed:
            for name in names:
                for key, answer in _lines(self._store, name):
                    packed.write(f"{json.dumps({'key': key, 'answer': answer}, ensure_ascii=False)}\n".encode())
        for name in names:
            self._store.delete(name)


def spent(store: Store, folder: str, owner: str) -> float:
    """Return the dollars of the answers in a folder that an owner asked for itself, in all attempts."""
    mine = [name for name in store.list(folder) if _owner(name) == owner]
    return sum(answer.get("cost") or 0.0 for name in mine for _, answer in _lines(store, name))


def _lines(store: Store, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with ExitStack() as opened:
        file = opened.enter_context(store.reading(name))
        lines: Iterable[bytes] = opened.enter_context(gzip.open(file)) if name.endswith(".gz") else file
        for line in lines:
            try:
                entry = json.loads(line)
                yield entry["key"], entry["answer"]
            except (ValueError, KeyError):
                # The last line of a process that was killed while it wrote.
                log.info("%s has an unfinished line", name)


def _owner(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _written(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2]


class _Journal(Protocol):
    def append(self, line: str) -> None: ...

    def close(self) -> None: ...


class _LocalJournal:
    """Appends lines to a file; what was appended survives the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def append(self, line: str) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._file, line.encode())

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _RemoteJournal:
    """Publishes lines as small objects, from a thread of its own."""

    def __init__(self, store: Store, new_name: Callable[[], str]) -> None:
        self._store, self._new_name = store, new_name
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="lumigator-answers", daemon=True)
        self._thread.start()

    def append(self, line: str) -> None:
        with self._changed:
            # A store that cannot keep up holds the asking back, rather than letting memory fill.
            self._changed.wait_for(lambda: len(self._lines) < _MOST_BEHIND or self._error is not None)
            self._raise_error()
            self._lines.append(line)
            if len(self._lines) >= MOST_WAITING:
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while lines := self._next_lines():
                self._store.write(self._new_name(), "".join(lines).encode())
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next_lines(self) -> list[str]:
        """Wait for lines that are due, and take them; none where the journal is closed."""
        with self._changed:
            while not self._closed and len(self._lines) < MOST_WAITING:
                if not self._changed.wait(LONGEST_WAIT_S) and self._lines:
                    break
            lines, self._lines = self._lines, []
            self._changed.notify_all()
            return lines
