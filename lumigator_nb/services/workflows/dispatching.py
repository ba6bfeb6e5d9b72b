"""Admission control: submit up to `limit` workflows, queue the rest in the store, and keep one dispatcher running.

The dispatcher is a Ray job, so that the queue moves on although no process of the user is running.
"""

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
    """Return the arguments, besides the address, by which a Ray job finds the store."""
    spec = store.spec
    endpoint = ["--endpoint-url", spec.endpoint_url] if spec.endpoint_url else []
    style = [] if spec.path_style is None else ["--path-style" if spec.path_style else "--no-path-style"]
    return [*endpoint, *style]


class Dispatching:
    """Limits how many workflows a cluster has at a time; the others wait in a queue in the store.

    Args:
        limit: workflows that the cluster may have at the same time.

    Attributes:
        queue: the waiting workflows.
    """

    def __init__(self, database: Database, store: Store, cluster: Cluster, limit: int) -> None:
        self._database, self._store, self._cluster, self._limit = database, store, cluster, limit
        self.queue = Queue(store)
        self._prefix = f"lumigator-dispatcher-{digest(store.spec.uri)[:8]}-"
        self._looked_at = float("-inf")

    def room(self, wanted: int) -> int:
        """Return how many of `wanted` workflows may be submitted now; 0 while others are queued.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        if self.queue.ids():
            return 0
        with reading(self._database) as work:
            recorded = work.workflows.count(col(Workflow.status).in_([Status.PENDING, Status.RUNNING]))
        if recorded + wanted <= self._limit:
            return wanted
        # Some of them may have ended without a refresh having recorded it, so ask the cluster.
        return max(0, self._limit - under_way(self._cluster).total())

    def put(self, workflows: Sequence[Workflow], jobs: Sequence[dict[str, Any]]) -> None:
        """Queue workflows with their Ray jobs, in this order."""
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
        """Return how many workflows are before each queued one, by submission id."""
        return {waiting.submission_id: place for place, waiting in enumerate(in_turn(self.queue.waiting(), {}))}

    def ensure(self) -> None:
        """Start a dispatcher if workflows are queued and none is running; this may start a local head.

        Raises:
            UnavailableError: store or cluster does not answer.
        """
        if not self.queue.ids():
            return
        jobs, ending = self._cluster.jobs(), self.queue.ending()
        dispatchers = {name: job for name, job in jobs.items() if name.startswith(self._prefix)}
        running = (name for name, job in dispatchers.items() if job.status in (Status.PENDING, Status.RUNNING))
        # One that has announced its end may have looked at the queue for the last time.
        if any(name not in ending for name in running):
            return
        # Ray never accepts an id twice; if two processes start the next one at the same time, one of them is refused.
        last = max((int(name.removeprefix(self._prefix)) for name in dispatchers), default=0)
        self._start(f"{self._prefix}{last + 1}")

    def look(self) -> None:
        """Call :meth:`ensure` at most every `LOOK_EVERY_S` seconds, and only if the cluster is running.

        If it fails, the next refresh tries again.
        """
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        with suppress(UnavailableError):
            if self._cluster.address is not None:
                self.ensure()

    def _start(self, name: str) -> None:
        # The address of a remote cluster may differ inside it; the local head is on loopback for its Ray jobs too.
        self._cluster.start()
        here = ["--address", self._cluster.address or ""] if self._cluster.head else []
        with self._cluster.together():
            options = ["--limit", str(self._limit), "--package", self._cluster.package(), *here]
            words = [self._store.spec.uri, name, *options, *store_arguments(self._store)]
            self._cluster.submit(
                name, words, resources=Resources(num_cpus=0.0), module="lumigator_nb.cluster.dispatcher"
            )
