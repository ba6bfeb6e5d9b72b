"""Races of models that this server runs in the background; see :meth:`Workspace.select`."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from lumigator_nb.errors import InUseError, NotFoundError
from lumigator_nb.services.adaptive.race import Selection
from lumigator_nb.specs import Model
from lumigator_nb.workspace import Workspace

# Races that run at the same time, that may be unfinished, and whose results are kept.
MAX_RUNNING, MAX_UNFINISHED, MAX_KEPT = 2, 8, 100


class Races:
    """The races of this process. One request starts a race, later ones ask for its result.

    The models' answers are in the answer cache, the results only in this process.
    """

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._pool = ThreadPoolExecutor(MAX_RUNNING, "lumigator-race")
        self._lock = threading.Lock()
        self._futures: OrderedDict[tuple[str, str], Future[Selection]] = OrderedDict()

    def begin(self, experiment_id: str, models: Sequence[Model], **options: Any) -> str:
        """Start a race and return its id.

        Raises:
            InUseError: too many races are unfinished.
            NotFoundError: there is no such experiment.
        """
        self._ws.experiments.get(experiment_id)
        with self._lock:
            if sum(not future.done() for future in self._futures.values()) >= MAX_UNFINISHED:
                raise InUseError(f"{MAX_UNFINISHED} races are under way", "wait until one has finished")
            name = str(uuid.uuid4())
            self._futures[experiment_id, name] = self._pool.submit(
                self._ws.select, experiment_id, models, progress=False, **options
            )
            while len(self._futures) > MAX_KEPT:
                self._futures.popitem(last=False)
        return name

    def get(self, experiment_id: str, name: str) -> Future[Selection]:
        """Return a race.

        Raises:
            NotFoundError: this process has no race with that id.
        """
        with self._lock:
            future = self._futures.get((experiment_id, name))
        if future is None:
            raise NotFoundError("race", name, "post it again: the answers so far are cached")
        return future

    def close(self) -> None:
        """Start no more races."""
        self._pool.shutdown(wait=False, cancel_futures=True)
