"""A Ray cluster of several nodes on this machine, as separate processes, of which one node can be killed: for tests.

with Nodes(cpus=1) as nodes:
    nodes.join(cpus=2, resources={"big": 1})
    ws = lm.connect(ray_address=nodes.address)  # with nodes.variables in the environment

Each node has a loopback address of its own (127.0.0.2, 127.0.0.3, …), which only Linux has ready.
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

_OBJECT_STORE_BYTES = 80 * 1024**2  # little above Ray's least
# A node that was killed is noticed within 3 s instead of 15; one that is only slow has as long as ever.
_HEALTH_CHECKS = {"RAY_health_check_period_ms": "500", "RAY_health_check_initial_delay_ms": "1000"}


class Node:
    """One node: Ray's processes and all workers and jobs on it.

    Attributes:
        ip: its address, by which Ray names it.
        offers: arguments of ``ray start``.
    """

    def __init__(self, ip: str, offers: list[str]) -> None:
        self.ip, self.offers = ip, offers
        self.mark = uuid.uuid4().hex

    def processes(self) -> list[psutil.Process]:
        """Return its running processes."""
        return processes.marked(self.mark)

    def kill(self) -> None:
        """Kill all its processes at once, as a power cut would; Ray notices by itself."""
        processes.kill(self.mark)


class Nodes:
    """A head with the Jobs API and any number of nodes that join it; all end with this process, however that ends.

    All of them ask for a token.

    Args:
        cpus: that the head offers; 0 has all jobs run on the other nodes.
        resources: further ones that the head offers.
        environment: variables of all nodes and jobs, such as credentials of the store.

    Attributes:
        address: of the Jobs API.
        head: the first node.
        nodes: all of them, also those that were killed.
        folder: with Ray's files; gone at the end.
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
        """What a client of the cluster has in its environment or in `.env` to be let in."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}

    @property
    def gcs_address(self) -> str:
        """What ``ray.init(address=…)`` takes."""
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
        """Start the head, and wait until it takes jobs."""
        # Unix sockets below it may have 107 characters in all.
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
        """Kill everything, and start it again under the same addresses; the head has forgotten all jobs."""
        for node in self.nodes:
            node.kill()
        self._start_head(self.head)
        for node in self.nodes[1:]:
            self._join(node)

    def stop(self) -> None:
        """End all nodes."""
        self._undertaker.communicate()

    def join(self, cpus: int = 1, *, gpus: int = 0, resources: Mapping[str, float] | None = None) -> Node:
        """Have one more node join, and wait until the head counts on it.

        Args:
            cpus, gpus, resources: that it offers, whatever the machine has.
        """
        node = self._new_node(_offers(cpus, gpus, resources))
        self._join(node)
        return node

    def revive(self, node: Node) -> None:
        """Have a node that was killed join again, under its old address."""
        self.wait_until_alive(node, alive=False)
        self._join(node)

    def alive(self) -> set[str]:
        """Return the addresses of the nodes that the head believes to be alive."""
        api = RayApi(self.address, self._token)
        reply = api.call("GET", "/api/v0/nodes")
        api.expect_success(reply)
        return {node["node_ip"] for node in reply.json()["data"]["result"]["result"] if node["state"] == "ALIVE"}

    def wait_until_alive(self, node: Node, *, alive: bool = True, seconds: float = START_SECONDS) -> None:
        """Wait until the head knows that a node is there, or that it is gone.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + seconds
        while True:
            with suppress(ClusterUnavailableError):
                if (node.ip in self.alive()) is alive:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the head does not see node {node.ip} {'come' if alive else 'go'}")
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
        # Ray lets no other node join where it takes the machine for one without clusters.
        variables = {**_HEALTH_CHECKS, **self._environment, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
        with (folder / "log").open("wb") as log:
            code = start_daemons(command, folder / "empty", node_environment(node.mark, self._token, variables), log)
        if code:
            raise ClusterUnavailableError(f"node {node.ip} did not start:\n{(folder / 'log').read_text()}")


def _offers(cpus: int, gpus: int, resources: Mapping[str, Any] | None) -> list[str]:
    return ["--num-cpus", str(cpus), "--num-gpus", str(gpus), "--resources", json.dumps(dict(resources or {}))]


def _bury(folder: str) -> None:
    """Learn marks from standard input until it ends, as it does with the parent, and end what carries them."""
    for mark in sys.stdin.read().split():
        processes.kill(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _bury(sys.argv[1])
