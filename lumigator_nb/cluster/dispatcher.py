"""Hands waiting workflows to the cluster: ``python -m lumigator_nb.cluster.dispatcher STORE NAME --limit 16``.

It is a job of the cluster that needs no CPU, so it goes on whatever becomes of the process that launched the workflows,
and ends when nothing waits any more. Should it be killed, the next who launches, waits or looks starts another. Two at
the same time do no harm, as Ray takes no id twice.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from lumigator_nb.cluster import Cluster
from lumigator_nb.cluster.queue import EXPERIMENT, Queue, Waiting, in_turn
from lumigator_nb.engine import process_setup
from lumigator_nb.errors import UnavailableError
from lumigator_nb.security.redaction import redactor
from lumigator_nb.specs import Status, StoreSpec

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
# Of the head's time at most a fifth: it takes longer to list its jobs the more it has had.
_PAUSE_FACTOR = 4.0
# Whoever launches one experiment often launches another soon.
IDLE_S = 5.0
_KEEP_PACKAGES_EVERY_S = 120.0


class Dispatcher:
    """Keeps as many workflows at work as there may be.

    Args:
        name: its own submission id.
        limit: workflows that the cluster may have at once.
        package: URI of the shipped package, for what waited while the head was restarted, which forgets packages.
    """

    def __init__(self, queue: Queue, cluster: Cluster, name: str, limit: int, package: str) -> None:
        self._queue, self._cluster, self._name, self._limit = queue, cluster, name, limit
        self._package = package
        self._kept_at = float("-inf")

    def run(self) -> None:
        """Work until nothing waits."""
        for each in self._queue.ending():
            self._queue.withdraw_end(each)  # of earlier ones; and of one of the same name before a head's restart
        busy_at = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                if self.turn():
                    busy_at = time.monotonic()
                elif time.monotonic() - busy_at > IDLE_S and self._queue.announce_end(self._name):
                    return
            except UnavailableError as error:
                log.warning("%s; it is tried again", error)
            time.sleep(max(LOOK_EVERY_S, _PAUSE_FACTOR * (time.monotonic() - began)))

    def turn(self) -> bool:
        """Hand over what there is room for; return whether anything waited.

        Raises:
            UnavailableError: store or cluster does not answer.
        """
        waiting = self._queue.waiting()
        if not waiting:
            return False
        self._keep_packages(waiting)
        at_work = under_way(self._cluster)
        for entry in islice(in_turn(waiting, at_work), max(0, self._limit - at_work.total())):
            self._hand_over(entry)
        return True

    def _hand_over(self, entry: Waiting) -> None:
        if not self._queue.holds(entry.submission_id):
            return  # it was stopped, or another dispatcher was quicker
        job = entry.job
        if not all(map(self._cluster.has_package, job["runtime_env"]["py_modules"])):
            job = {**job, "runtime_env": {**job["runtime_env"], "py_modules": [self._package]}}
        self._cluster.post([job])
        self._queue.remove([entry.submission_id])
        log.info("handed over %s (priority %d)", entry.submission_id, entry.priority)

    def _keep_packages(self, waiting: Sequence[Waiting]) -> None:
        """Ray removes packages that no job has used for some minutes, unless somebody asks for them."""
        if time.monotonic() - self._kept_at < _KEEP_PACKAGES_EVERY_S:
            return
        for uri in {uri for each in waiting for uri in each.job["runtime_env"]["py_modules"]}:
            self._cluster.has_package(uri)
        self._kept_at = time.monotonic()


def under_way(cluster: Cluster) -> Counter[str]:
    """Return how many workflows of each experiment the cluster has, whoever launched them.

    Raises:
        ClusterUnavailableError: it does not answer.
    """
    return Counter(
        job.metadata[EXPERIMENT]
        for job in cluster.jobs().values()
        if EXPERIMENT in job.metadata and job.status in (Status.PENDING, Status.RUNNING)
    )


def address_inside() -> str:
    """Return where the Jobs API is for a job of the cluster, which may be elsewhere than for those outside."""
    import ray

    with ray.init(log_to_driver=False) as context:
        found = str(context.dashboard_url)
    return found if "://" in found else f"http://{found}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Work until nothing waits."""
    parser = argparse.ArgumentParser(prog="lumigator_nb.cluster.dispatcher")
    parser.add_argument("store")
    parser.add_argument("name")
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--package", required=True)
    parser.add_argument("--address", help="of the Jobs API; default where Ray says that it is")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--path-style", action=argparse.BooleanOptionalAction)
    given = parser.parse_args(arguments)
    # The node's environment holds the store's credentials and the cluster's token.
    with process_setup.logged(redactor()):
        store = process_setup.open_store(
            StoreSpec(uri=given.store, endpoint_url=given.endpoint_url, path_style=given.path_style)
        )
        cluster = Cluster(given.address or address_inside())
        Dispatcher(Queue(store), cluster, given.name, given.limit, given.package).run()


if __name__ == "__main__":
    main()
