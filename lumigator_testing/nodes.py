"""A Ray cluster of several nodes on this machine, for tests that kill a node. Each node is a group of processes.

with Nodes(cpus=1) as nodes:
    nodes.join(cpus=2, resources={"big": 1})
    ws = lm.connect(ray_address=nodes.address)  # with nodes.variables in the environment

Each node has its own loopback address (127.0.0.2, 127.0.0.3, …). Only Linux has them without configuration.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from lumigator_nb.cluster import processes
from lumigator_nb.cluster.api import RayApi
from lumigator_nb.cluster.head import START_SECONDS, free_port, node_environment, start_daemons
from lumigator_nb.errors import ClusterUnavailableError

_OBJECT_STORE_BYTES = 80 * 1024**2  # slightly above Ray's minimum
# Ray notices a killed node within 3 s instead of 15 s. The tolerance for slow nodes stays the same.
_HEALTH_CHECKS = {"RAY_health_check_period_ms": "500", "RAY_health_check_initial_delay_ms": "1000"}


class Node:
    """One node: Ray's processes, with all workers and Ray jobs on it.

    Attributes:
        ip: its address, which is also its name in Ray.
        offers: arguments of ``ray start`` for its resources.
        mark: text in the environment of its processes, by which they are found.
    """

    def __init__(self, ip: str, offers: list[str]) -> None:
        self.ip, self.offers = ip, offers
        self.mark = uuid.uuid4().hex

    def processes(self) -> list[psutil.Process]:
        """Return its running processes."""
        return processes.marked(self.mark)

    def kill(self) -> None:
        """Kill all its processes at once, as a power failure would."""
        processes.kill(self.mark)


class Nodes:
    """A cluster: a head with the Jobs API, and nodes that join it. All require a token, and end with this process.

    Args:
        cpus: CPUs of the head; with 0, all Ray jobs run on the other nodes.
        resources: further resources of the head.
        environment: variables of all nodes and Ray jobs, such as credentials of the store.

    Attributes:
        address: URL of the Jobs API.
        head: the first node.
        nodes: all nodes, including killed ones.
        folder: folder of Ray's files, removed at the end.
    """

    def __init__(
        self,
        cpus: int = 1,
        *,
        resources: Mapping[str, float] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._token = secrets.token_hex(32)
        self._environment = dict(environment or {})
        self._head_offers = _offers(cpus, 0, resources)
        self._port, self._gcs_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self.nodes: list[Node] = []

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables with which a client is admitted to the cluster."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}

    @property
    def gcs_address(self) -> str:
        """Address for ``ray.init(address=…)``."""
        return f"{self.head.ip}:{self._gcs_port}"

    @property
    def head(self) -> Node:
        """The first node."""
        return self.nodes[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the head, and wait until it accepts Ray jobs."""
        # Short, and in /tmp: the path of a Unix socket has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="nodes-", dir="/tmp"))
        self._undertaker = subprocess.Popen(
            [sys.executable, "-m", "lumigator_testing.nodes", self.folder],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self._start_head(self._new_node(self._head_offers))
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self) -> None:
        """Kill everything and start it again under the same addresses. The head then has forgotten all Ray jobs."""
        for node in self.nodes:
            node.kill()
        self._start_head(self.head)
        for node in self.nodes[1:]:
            self._join(node)

    def stop(self) -> None:
        """Stop all nodes."""
        self._undertaker.communicate()

    def join(self, cpus: int = 1, *, gpus: int = 0, resources: Mapping[str, float] | None = None) -> Node:
        """Start another node, and wait until the head knows it.

        Args:
            cpus, gpus, resources: resources of the node, whatever this machine has.
        """
        node = self._new_node(_offers(cpus, gpus, resources))
        self._join(node)
        return node

    def revive(self, node: Node) -> None:
        """Start a killed node again, under its old address."""
        self.wait_until_alive(node, alive=False)
        self._join(node)

    def alive(self) -> set[str]:
        """Return the addresses of the nodes that the head considers alive."""
        api = RayApi(self.address, self._token)
        reply = api.call("GET", "/api/v0/nodes")
        api.expect_success(reply)
        return {node["node_ip"] for node in reply.json()["data"]["result"]["result"] if node["state"] == "ALIVE"}

    def wait_until_alive(self, node: Node, *, alive: bool = True, seconds: float = START_SECONDS) -> None:
        """Wait until the head considers a node alive, or dead.

        Raises:
            TimeoutError: it does not happen in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            with suppress(ClusterUnavailableError):
                if (node.ip in self.alive()) is alive:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the head does not notice that node {node.ip} is {'alive' if alive else 'dead'}")
            time.sleep(0.1)

    def _start_head(self, head: Node) -> None:
        ports = ["--port", str(self._gcs_port), "--dashboard-port", str(self._port)]
        client = ["--ray-client-server-port", str(free_port())]
        dashboard = ["--include-dashboard", "true", "--dashboard-host", "127.0.0.1", "--no-monitor"]
        self._ray_start(head, ["--head", *ports, *client, *dashboard])
        self.wait_until_alive(head)

    def _join(self, node: Node) -> None:
        self._ray_start(node, ["--address", self.gcs_address])
        self.wait_until_alive(node)

    def _new_node(self, offers: list[str]) -> Node:
        node = Node(f"127.0.0.{len(self.nodes) + 2}", offers)
        self.nodes.append(node)
        assert self._undertaker.stdin
        self._undertaker.stdin.write(f"{node.mark}\n")
        self._undertaker.stdin.flush()
        return node

    def _ray_start(self, node: Node, arguments: list[str]) -> None:
        folder = self.folder / str(self.nodes.index(node))
        (folder / "empty").mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--log-color", "false"),
            *("--node-ip-address", node.ip, "--node-name", node.ip, "--temp-dir", str(folder / "ray")),
            *("--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"),
            *("--object-store-memory", str(_OBJECT_STORE_BYTES), "--include-log-monitor", "false"),
            *node.offers,
            *arguments,
        ]
        # On macOS and Windows, Ray refuses clusters of several nodes without this variable.
        variables = {**_HEALTH_CHECKS, **self._environment, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
        with (folder / "log").open("wb") as log:
            code = start_daemons(command, folder / "empty", node_environment(node.mark, self._token, variables), log)
        if code:
            raise ClusterUnavailableError(f"node {node.ip} did not start:\n{(folder / 'log').read_text()}")


def _offers(cpus: int, gpus: int, resources: Mapping[str, Any] | None) -> list[str]:
    return ["--num-cpus", str(cpus), "--num-gpus", str(gpus), "--resources", json.dumps(dict(resources or {}))]


def _bury(folder: str) -> None:
    """Read marks of nodes from standard input until the parent process ends, then kill their processes."""
    for mark in sys.stdin.read().split():
        processes.kill(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _bury(sys.argv[1])
