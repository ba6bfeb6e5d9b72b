"""HTTP to a Ray head: its Jobs API and the package upload, without importing Ray.

Ray's own client is not used: importing it costs a notebook 2 s where JupyterLab is installed, RAY_ADDRESS wins over
the address that it is given, the environment's proxies apply even to 127.0.0.1, and it waits without end for a head
that hangs.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
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
        """The body as JSON.

        Raises:
            ClusterUnavailableError: it is none.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise ClusterUnavailableError(
                f"what answers is no Ray cluster: {self.text.strip()[:100]!r}",
                "check RAY_ADDRESS, its path too; a proxy may have answered with a page of its own",
            ) from None


class RayApi:
    """One Ray head over HTTP. Holds no connection, so any number of threads may use it.

    Args:
        address: ``http(s)://host:port/path`` of the head's dashboard; the path is a proxy's, where there is one.
        token: sent as bearer token where the head asks for one.
        certificates: file of the authorities to trust for https; default the system's, and SSL_CERT_FILE.
    """

    def __init__(self, address: str, token: str | None = None, certificates: str | None = None) -> None:
        parts = urlsplit(address)
        self.address = address
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/")
        self._certificates = certificates
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
            ConfigurationError: the head wants another token, or cannot be trusted.
        """
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(timeout)
            payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"Content-Type": "application/json", **self._headers}
            connection.request(method, self._prefix + path, payload, headers)
            response = connection.getresponse()
            reply = Reply(response.status, response.read())
        except ssl.SSLError as error:
            raise self._distrust(error) from error
        except (OSError, HTTPException) as error:
            raise ClusterUnavailableError(
                f"the Ray cluster at {self.address} does not answer: {type(error).__name__}: {error}",
                "check that it runs, and RAY_ADDRESS, or RAY_HEAD_NODE_HOST and RAY_DASHBOARD_PORT",
            ) from error
        finally:
            connection.close()
        if reply.status in (401, 403):
            raise ConfigurationError(
                f"the Ray cluster at {self.address} refuses the token: {reply.text[:200]}",
                "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's token, in the environment or in .env",
            )
        if reply.status in (301, 302, 303, 307, 308):
            raise ConfigurationError(
                f"the Ray cluster at {self.address} is elsewhere: {response.headers.get('Location', '')[:200]}",
                "set RAY_ADDRESS to that place; a login page there means that it wants another way in",
            )
        return reply

    def _connection(self) -> HTTPConnection:
        if self._tls:
            trusted = _trusted(self._certificates)
            return HTTPSConnection(self._host, self._port, timeout=CONNECT_SECONDS, context=trusted)
        return HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)

    def _distrust(self, error: ssl.SSLError) -> ConfigurationError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConfigurationError(
                f"the Ray cluster at {self.address} cannot be trusted: {error.verify_message}",
                "set REQUESTS_CA_BUNDLE to the file of the authority that signed its certificate, and RAY_ADDRESS to "
                "the name in the certificate",
            )
        return ConfigurationError(
            f"the Ray cluster at {self.address} does not speak TLS: {error.reason or error}",
            "write http:// in RAY_ADDRESS, or check its port",
        )

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


@lru_cache(maxsize=8)
def _trusted(certificates: str | None) -> ssl.SSLContext:
    """Reading the system's certificates takes longer than a request."""
    try:
        return ssl.create_default_context(cafile=certificates)
    except OSError as error:
        raise ConfigurationError(
            f"REQUESTS_CA_BUNDLE={certificates} cannot be read: {error}", "let it name a file of certificates (PEM)"
        ) from None


def token(variable: Callable[[str], str | None]) -> str | None:
    """Return the token for a remote cluster by Ray's own rule, or None where RAY_AUTH_MODE does not ask for one.

    Args:
        variable: what goes by a name, such as :meth:`Settings.configured`.

    Raises:
        ConfigurationError: RAY_AUTH_TOKEN_PATH cannot be read, or what it or RAY_AUTH_TOKEN holds is no token.
    """
    if (variable("RAY_AUTH_MODE") or "").lower() != "token":
        return None
    found = (variable("RAY_AUTH_TOKEN") or _token_of_file(variable("RAY_AUTH_TOKEN_PATH"))).strip()
    # The error of the HTTP library would show it.
    if not found.isascii() or not found.isprintable():
        raise ConfigurationError("the token for the Ray cluster has characters that none has", "copy it once more")
    return found or None


def _token_of_file(path: str | None) -> str:
    file = Path(path).expanduser() if path else Path.home() / ".ray" / "auth_token"
    if not path and not file.is_file():
        return ""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the token for the Ray cluster cannot be read from {file}: {type(error).__name__}",
            "set RAY_AUTH_TOKEN_PATH to the file that holds it, or RAY_AUTH_TOKEN to the token",
        ) from None
