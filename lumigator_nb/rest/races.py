"""Races of models that are run by this process; see :meth:`Workspace.select`."""

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

# Each takes memory and money; who wants more of them waits.
AT_ONCE, UNDER_WAY, KEPT = 2, 8, 100


class Races:
    """Begun by one request and asked after by others; their answers are kept in the store, their results here."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._pool = ThreadPoolExecutor(AT_ONCE, "lumigator-race")
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Future[Selection]] = OrderedDict()

    def begin(self, experiment_id: str, models: Sequence[Model], **options: Any) -> str:
        """Begin a race and return its id.

        Raises:
            InUseError: too many are under way.
            NotFoundError: there is no such experiment.
        """
        self._ws.experiments.get(experiment_id)
        with self._lock:
            if sum(not future.done() for future in self._known.values()) >= UNDER_WAY:
                raise InUseError(f"{UNDER_WAY} races are under way", "wait until one has ended")
            name = str(uuid.uuid4())
            self._known[experiment_id, name] = self._pool.submit(
                self._ws.select, experiment_id, models, progress=False, **options
            )
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return name

    def get(self, experiment_id: str, name: str) -> Future[Selection]:
        """Return a race.

        Raises:
            NotFoundError: this process has none of that id.
        """
        with self._lock:
            found = self._known.get((experiment_id, name))
        if found is None:
            raise NotFoundError("race", name, "post it again: answers that were given are kept")
        return found

    def close(self) -> None:
        """Begin no other."""
        self._pool.shutdown(wait=False, cancel_futures=True)
