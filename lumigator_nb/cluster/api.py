"""HTTP to a Ray head: its Jobs API and the package upload, without importing Ray.

Ray's own client is not used: importing it costs a notebook 2 s where JupyterLab is installed, RAY_ADDRESS wins over
the address that it is given, the environment's proxies apply even to 127.0.0.1, and it waits without end for a head
that hangs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lumigator_nb.errors import ClusterUnavailableError, ConfigurationError

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
SUBMIT_SECONDS = 60.0


class Reply(NamedTuple):
    """An answer of the head, whatever its status."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class RayApi:
    """One Ray head over HTTP. Holds no connection, so any number of threads may use it.

    Args:
        address: ``http://host:port`` of the head's dashboard.
        token: sent as bearer token where the head asks for one.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        parts = urlsplit(address)
        self.address = address
        self._host, self._port = parts.hostname or "", parts.port or 8265
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(
        self, method: str, path: str, body: bytes | Mapping[str, Any] | None = None, timeout: float = READ_SECONDS
    ) -> Reply:
        """Send one request.

        Args:
            body: sent as it is, or a mapping as JSON.
            timeout: seconds to wait for the answer; a head that accepts no connection is given up after 2 s.

        Raises:
            ClusterUnavailableError: no answer.
            ConfigurationError: the head wants another token.
        """
        connection = HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(timeout)
            payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, payload, {"Content-Type": "application/json", **self._headers})
            response = connection.getresponse()
            reply = Reply(response.status, response.read())
        except (OSError, HTTPException) as error:
            raise ClusterUnavailableError(
                f"the Ray cluster at {self.address} does not answer: {type(error).__name__}: {error}",
                "check that it runs, and RAY_HEAD_NODE_HOST and RAY_DASHBOARD_PORT",
            ) from error
        finally:
            connection.close()
        if reply.status in (401, 403):
            raise ConfigurationError(
                f"the Ray cluster at {self.address} refuses the token: {reply.text}",
                "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's token",
            )
        return reply

    def answers(self) -> bool:
        """Whether a head that takes our token is there.

        Raises:
            ClusterUnavailableError: something is there but does not answer in time, so nobody can tell.
        """
        try:
            return self.call("GET", "/api/version").status == 200
        except ConfigurationError:
            return False
        except ClusterUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            return False

    def jobs(self) -> list[dict[str, Any]]:
        """Everything that the head knows of each job, in its own words."""
        reply = self.call("GET", "/api/jobs/")
        self.expect_success(reply)
        return [job for job in reply.json() if job.get("submission_id")]

    def expect_success(self, reply: Reply) -> None:
        """Raise ClusterUnavailableError unless `reply` is a success."""
        if reply.status >= 400:
            reason = reply.text.strip().rpartition("\n")[2]
            raise ClusterUnavailableError(
                f"the Ray cluster at {self.address} answered {reply.status}: {reason[:500]}",
                "its dashboard's log says more; try again, or restart the cluster",
            )


def token_from_environment() -> str | None:
    """Return the token for a remote cluster by Ray's own rule, or None where RAY_AUTH_MODE does not ask for one."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return file.read_text().strip() if file.is_file() else None
