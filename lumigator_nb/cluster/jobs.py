"""The client of a cluster's jobs: submit, look, stop."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

import psutil

from lumigator_nb.cluster import versions
from lumigator_nb.cluster.address import jobs_api
from lumigator_nb.cluster.api import SUBMIT_SECONDS, RayApi, token
from lumigator_nb.cluster.head import LocalHead, Report
from lumigator_nb.cluster.shipping import PACKAGE, ship
from lumigator_nb.cluster.states import ClusterInfo, JobState, cluster_info, job_state
from lumigator_nb.config import Settings
from lumigator_nb.errors import ClusterUnavailableError, ConfigurationError
from lumigator_nb.specs import Resources, Status

STOP_SECONDS = 10.0
# Above this many, one list of all jobs is quicker than one request for each.
_FEW = 3
_ONE_CPU = Resources(num_cpus=1.0)
_POSTS_AT_ONCE = 4


class Cluster:
    """Jobs of one Ray cluster. Threads may share it.

    Args:
        target: ``http(s)://host:port`` of a head that runs already, or the local head, started by the first submission.
        secret: shared with the nodes of a remote cluster; the local head has one of its own.
        report: called with a line about what takes time, such as starting the local head.
        package: folder shipped with each job.
        variable: what goes by a name: RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH and REQUESTS_CA_BUNDLE say
            how to reach a remote cluster, as they do to Ray's own tools.
    """

    def __init__(
        self,
        target: str | LocalHead,
        *,
        secret: str | None = None,
        report: Report | None = None,
        package: Path = PACKAGE,
        variable: Callable[[str], str | None] = os.environ.get,
    ) -> None:
        self._target = target
        self._secret = secret
        self._report = report
        self._package = package
        self._variable = variable
        self._python: str | None = None
        self._once = threading.local()

    @property
    def head(self) -> LocalHead | None:
        """The local head, or None where the cluster is somebody else's."""
        return self._target if isinstance(self._target, LocalHead) else None

    @property
    def shares_files(self) -> bool:
        """Whether its jobs see the folders of this machine."""
        if isinstance(self._target, LocalHead):
            return True
        if urlsplit(self._target).hostname not in ("localhost", "127.0.0.1", "::1"):
            return False
        # What listens here may be a tunnel to a cluster elsewhere (kubectl port-forward, ssh -L).
        try:
            return all(_is_here(node["node_ip"]) for node in _nodes(self._api()) if node["state"] == "ALIVE")
        except ClusterUnavailableError:
            return True

    def check(self, pickled: Iterable[str] = ()) -> None:
        """Refuse a cluster whose versions do not go with ours; a remote one is asked once, a local head never.

        Args:
            pickled: Python versions, such as "3.11", by which functions were pickled that the jobs will need.

        Raises:
            ConfigurationError: they do not; the hint says what to install where.
            ClusterUnavailableError: the cluster does not answer.
        """
        python = platform.python_version() if self.head else self._checked_python()
        for other in pickled:
            if versions.minor(other) != versions.minor(python):
                raise ConfigurationError(
                    f"a metric that is a function was pickled by Python {other}, and the cluster's nodes have {python}",
                    "use the same minor version here and there, or put the function into a package that is installed "
                    "on both",
                )

    def _checked_python(self) -> str:
        if self._python is None:
            version = _get(self._api(), "/api/v0/cluster_metadata")["data"]
            if wrong := versions.misfit(version["rayVersion"], version["pythonVersion"]):
                raise ConfigurationError(*wrong)
            self._python = version["pythonVersion"]
        return self._python

    def secret(self) -> str | None:
        """Return what the jobs can open sealed keys with; a local head is started for it. None: there is nothing.

        Raises:
            ClusterUnavailableError: the local head could not be started.
        """
        if self.head:
            self._started()
            return self.head.secret
        return self._secret

    def start(self) -> None:
        """Start the local head where none answers; a remote cluster is somebody else's to start.

        Raises:
            ClusterUnavailableError: it could not be started.
        """
        if self.head:
            self.head.ensure(self._report)

    def shutdown(self) -> bool:
        """End the local head and the jobs on it; return False where there was none."""
        return self.head.stop() if self.head else False

    def submit(
        self,
        submission_id: str,
        arguments: Sequence[str],
        *,
        all_cores: bool = False,
        resources: Resources = _ONE_CPU,
        metadata: dict[str, str] | None = None,
        module: str = "lumigator_nb.engine.worker",
        keep: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Run ``python -m module arguments…`` on the cluster as soon as a CPU is free.

        Submitting an id a second time does nothing, so this is safe to repeat.

        Args:
            all_cores: wait for a whole node of the cluster's largest kind, unless the job computes on GPUs; Ray
                tells numerical libraries in the job to use as many threads as it has cores.
            resources: to wait for otherwise: less than one CPU for a job that mostly waits, none for one that only
                looks after others.
            arguments: arrive as they are, whatever characters they hold; anybody who reaches the cluster can read
                them, and the metadata.
            keep: is given the job, for :meth:`post` later, instead of the cluster.

        Raises:
            ClusterUnavailableError: the cluster does not answer or does not take the job.
            ConfigurationError: the local machine has fewer GPUs than asked for.
        """
        api = self._started()
        self._check_gpus(api, resources.num_gpus or 0.0)
        python = sys.executable if self.head else "python"
        # -P keeps a package that happens to lie in the node's working directory from being run instead of ours.
        words = [python, "-P", "-m", module, *arguments]
        job = {
            "submission_id": submission_id,
            "entrypoint": f"exec {shlex.join(words)}",
            "metadata": metadata or {},
            "runtime_env": {"py_modules": [self._shipped(api)]},
            "entrypoint_num_cpus": _largest_node(api) if all_cores else resources.num_cpus,
            "entrypoint_num_gpus": resources.num_gpus,
            "entrypoint_memory": resources.memory,
            "entrypoint_resources": resources.resources or None,
        }
        if keep is not None:
            keep(job)
        else:
            _post_job(api, job)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Look for the head and check the shipped package once for all that this thread submits in the block."""
        self._once.api = self._once.package = None
        self._once.active = True
        try:
            yield
        finally:
            self._once.active = False

    def post(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Submit jobs that were kept, some at once; an id that Ray knows already is submitted.

        Raises:
            ClusterUnavailableError: the cluster does not answer or does not take one of them; others it may have.
        """
        api = self._started()
        if len(jobs) < 2:
            for job in jobs:
                _post_job(api, job)
            return
        with ThreadPoolExecutor(min(_POSTS_AT_ONCE, len(jobs))) as posting:
            for _ in posting.map(lambda job: _post_job(api, job), jobs):
                pass

    def jobs(self) -> dict[str, JobState]:
        """Return all that Ray knows, by submission id; empty where the local head is not running.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        api = self._running()
        return {job["submission_id"]: job_state(job) for job in api.jobs()} if api else {}

    @property
    def address(self) -> str | None:
        """Of the head; None where the local one is not running.

        Raises:
            ClusterUnavailableError: the local head runs but does not answer.
        """
        api = self._running()
        return api.address if api else None

    def package(self) -> str:
        """Return the URI of the package that is shipped with jobs; the cluster has it from now on.

        Raises:
            ClusterUnavailableError: the cluster does not answer or does not take it.
        """
        return self._shipped(self._started())

    def has_package(self, uri: str) -> bool:
        """Whether a package that was shipped once is still there; it stays for some minutes from now.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        api = self._running()
        return api is not None and api.call("GET", f"/api/packages/{uri.replace('://', '/')}").status == 200

    def statuses(self, ids: Iterable[str]) -> dict[str, JobState | None]:
        """Return what Ray knows of each submission; None where it knows nothing, as after its head was restarted.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        wanted = list(dict.fromkeys(ids))
        api = self._running() if wanted else None
        if api is None:
            return dict.fromkeys(wanted)
        if len(wanted) <= _FEW:
            return {name: _find_job(api, name) for name in wanted}
        known = {job["submission_id"]: job for job in api.jobs()}
        return {name: job_state(known[name]) if name in known else None for name in wanted}

    def logs(self, submission_id: str) -> str:
        """Return what the job printed so far; empty where Ray does not know it or it has not begun.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        api = self._running()
        if api is None:
            return ""
        reply = api.call("GET", f"{_path(submission_id)}/logs")
        if reply.status == 404:
            return ""
        api.expect_success(reply)
        return cast(str, reply.json()["logs"])

    def stop(self, submission_id: str, *, wait: bool = True) -> None:
        """End a job: asked first, killed by Ray after 3 s. Returns when it has ended, or after 10 s.

        For a job that has not begun it returns at once: it stays pending, and Ray ends it when its turn comes.

        Args:
            wait: without it, it returns at once in any case.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        api = self._running()
        if api is None:
            return
        reply = api.call("POST", f"{_path(submission_id)}/stop")
        if reply.status == 404:
            return
        api.expect_success(reply)
        if not wait:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while (state := _find_job(api, submission_id)) and state.status is Status.RUNNING:
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)

    def info(self) -> ClusterInfo | None:
        """Return what the cluster has; None where the local head is not running.

        Raises:
            ClusterUnavailableError: the cluster does not answer.
        """
        api = self._running()
        if api is None:
            return None
        version = _get(api, "/api/v0/cluster_metadata")["data"]
        return cluster_info(api.address, version, _nodes(api), is_local=self.head is not None)

    def _running(self) -> RayApi | None:
        return self.head.api() if self.head else self._api()

    def _api(self) -> RayApi:
        assert isinstance(self._target, str)
        return RayApi(self._target, token(self._variable), self._variable("REQUESTS_CA_BUNDLE"))

    def _started(self) -> RayApi:
        together = getattr(self._once, "active", False)
        if together and self._once.api is not None:
            return cast(RayApi, self._once.api)
        if self.head:
            self.head.ensure(self._report)
        api = self._running()
        if api is None:
            raise ClusterUnavailableError("the local Ray head ended just after it had started", "try again")
        if together:
            self._once.api = api
        return api

    def _shipped(self, api: RayApi) -> str:
        if not getattr(self._once, "active", False):
            return ship(api, self._package)
        if self._once.package is None:
            self._once.package = ship(api, self._package)
        return cast(str, self._once.package)

    def _check_gpus(self, api: RayApi, wanted: float) -> None:
        """A remote cluster may add a node with GPUs; a local one would let the job wait for ever."""
        if not self.head or wanted <= 0:
            return
        have = sum(node["resources_total"].get("GPU", 0.0) for node in _nodes(api))
        if wanted > have:
            raise ConfigurationError(
                f"each job asks for {wanted:g} GPUs, but the local Ray head has {have:g}",
                "set RAY_WORKER_GPUS=0 or Model(…, num_gpus=0), or RAY_ADDRESS to a cluster with GPUs",
            )


def connect_cluster(settings: Settings, report: Report | None = None) -> Cluster:
    """Return the cluster of the settings; nothing is started or asked yet.

    Raises:
        ConfigurationError: the settings name two, see :func:`jobs_api`.
    """
    address = jobs_api(settings)
    if address is None:
        head = LocalHead(settings.home / "head", settings.node_environment)
        return Cluster(head, report=report)
    return Cluster(
        address,
        secret=settings.node_secret,
        report=report,
        variable=settings.configured,
    )


def _post_job(api: RayApi, job: dict[str, Any]) -> None:
    deadline = time.monotonic() + SUBMIT_SECONDS
    while True:
        reply = api.call("POST", "/api/jobs/", job, timeout=SUBMIT_SECONDS)
        # Ray has no status of its own for an id that was submitted before.
        if reply.status == 200 or "already exists" in reply.text:
            return
        # A head that has just started takes jobs only when its agent is up; an id makes it safe to ask again.
        if "No available agent" not in reply.text or time.monotonic() > deadline:
            api.expect_success(reply)
        time.sleep(0.5)


def _find_job(api: RayApi, submission_id: str) -> JobState | None:
    reply = api.call("GET", _path(submission_id))
    if reply.status == 404:
        return None
    api.expect_success(reply)
    return job_state(reply.json())


def _largest_node(api: RayApi) -> float:
    return max((node["resources_total"].get("CPU", 1.0) for node in _nodes(api)), default=1.0)


def _nodes(api: RayApi) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], _get(api, "/api/v0/nodes")["data"]["result"]["result"])


def _is_here(ip: str) -> bool:
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return ip.startswith("127.") or ip in own


def _get(api: RayApi, path: str) -> Any:
    reply = api.call("GET", path)
    api.expect_success(reply)
    return reply.json()


def _path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"
