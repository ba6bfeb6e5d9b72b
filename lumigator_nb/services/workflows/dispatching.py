"""Who goes to the cluster at once, who waits, and that somebody is there who lets in those who wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlmodel import col

from lumigator_nb.cluster import Cluster
from lumigator_nb.cluster.dispatcher import under_way
from lumigator_nb.cluster.queue import Queue, Waiting, in_turn
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Workflow
from lumigator_nb.errors import UnavailableError
from lumigator_nb.specs import Resources, Status, digest, now
from lumigator_nb.storage.store import Store

LOOK_EVERY_S = 10.0


def store_arguments(store: Store) -> list[str]:
    """What a job is told about where the store is, besides its address."""
    spec = store.spec
    endpoint = ["--endpoint-url", spec.endpoint_url] if spec.endpoint_url else []
    style = [] if spec.path_style is None else ["--path-style" if spec.path_style else "--no-path-style"]
    return [*endpoint, *style]


class Dispatching:
    """Holds a cluster to so many workflows at a time; the others wait in the store.

    Args:
        limit: workflows that the cluster may have at once.
    """

    def __init__(self, database: Database, store: Store, cluster: Cluster, limit: int) -> None:
        self._database, self._store, self._cluster, self._limit = database, store, cluster, limit
        self.queue = Queue(store)
        self._prefix = f"lumigator-dispatcher-{digest(store.spec.uri)[:8]}-"
        self._looked_at = float("-inf")

    def room(self, wanted: int) -> int:
        """Return how many of so many workflows may go to the cluster at once; none while others wait.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        if self.queue.ids():
            return 0
        with reading(self._database) as work:
            recorded = work.workflows.count(col(Workflow.status).in_([Status.PENDING, Status.RUNNING]))
        if recorded + wanted <= self._limit:
            return wanted
        # Some of them may have ended without anybody having looked.
        return max(0, self._limit - under_way(self._cluster).total())

    def put(self, workflows: Sequence[Workflow], jobs: Sequence[dict[str, Any]]) -> None:
        """Have workflows wait, in the order given."""
        self.queue.put([
            Waiting(
                submission_id=workflow.submission_id,
                experiment_id=workflow.experiment_id,
                priority=workflow.launch.priority,
                since=now(),
                job=job,
            )
            for workflow, job in zip(workflows, jobs, strict=True)
        ])  # fmt: skip

    def places(self) -> dict[str, int]:
        """Return how many are before each of those that wait, by submission id."""
        return {each.submission_id: place for place, each in enumerate(in_turn(self.queue.waiting(), {}))}

    def ensure(self) -> None:
        """Have a dispatcher at work while anybody waits; a local head is started for it.

        Raises:
            UnavailableError: store or cluster does not answer.
        """
        if not self.queue.ids():
            return
        jobs, ending = self._cluster.jobs(), self.queue.ending()
        mine = {name: job for name, job in jobs.items() if name.startswith(self._prefix)}
        at_work = (name for name, job in mine.items() if job.status in (Status.PENDING, Status.RUNNING))
        if any(name not in ending for name in at_work):
            return
        last = max((int(name.removeprefix(self._prefix)) for name in mine), default=0)
        self._start(f"{self._prefix}{last + 1}")

    def look(self) -> None:
        """As :meth:`ensure`, every now and then, where the cluster is running; whoever looks next does it otherwise."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        with suppress(UnavailableError):
            if self._cluster.address is not None:
                self.ensure()

    def _start(self, name: str) -> None:
        # The local head is on loopback for its jobs, too; another's address may be another one inside.
        self._cluster.start()
        here = ["--address", self._cluster.address or ""] if self._cluster.head else []
        with self._cluster.together():
            options = ["--limit", str(self._limit), "--package", self._cluster.package(), *here]
            words = [self._store.spec.uri, name, *options, *store_arguments(self._store)]
            self._cluster.submit(
                name, words, resources=Resources(num_cpus=0.0), module="lumigator_nb.cluster.dispatcher"
            )
