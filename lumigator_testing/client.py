"""Starts, configures and stops a model server for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

from lumigator_testing.behaviour import Behaviour, Stats


class ModelServer:
    """A model server in a separate process, which ends with this process.

    Args:
        port: port on 127.0.0.1; 0 picks a free one.
        behaviour: fields of :class:`Behaviour`.

    Attributes:
        url: URL without a path, for Anthropic's and Mistral's clients.
        base_url: URL with ``/v1``, for OpenAI's clients.
    """

    def __init__(self, port: int = 0, **behaviour: Any) -> None:
        self._behaviour = Behaviour(**behaviour)
        self._port = port
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "lumigator_testing.server", "--with-parent", "--port", str(self._port)]
        command += ["--behaviour", json.dumps(asdict(self._behaviour))]
        # The server ends with its standard input, which the system closes even if this process is killed.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        first = self._process.stdout.readline()
        if not first.strip().isdigit():
            raise RuntimeError(f"the model server did not start; it ended with {self._process.wait()}")
        self._port = int(first)
        return self

    def stop(self) -> None:
        """Stop the process."""
        assert self._process
        self._process.kill()
        self._process.communicate()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def configure(self, **faults: Any) -> None:
        """Change fields of :class:`Behaviour` while it runs. The pattern of faults starts again."""
        self._behaviour = replace(self._behaviour, **faults)
        self._ask("POST", "/control", asdict(self._behaviour))

    def stats(self) -> Stats:
        """Return its counts."""
        return Stats(**self._ask("GET", "/control/stats"))

    def prompts(self) -> dict[str, int]:
        """Return how often each last user message was sent, including refused calls."""
        return dict(self._ask("GET", "/control/prompts"))

    def bodies(self) -> list[dict[str, Any]]:
        """Return the bodies of the last 100 model calls, oldest first."""
        return list(self._ask("GET", "/control/bodies"))

    def reset(self) -> None:
        """Set all counts to zero and restart the pattern of faults. Batches and settings stay."""
        self._ask("POST", "/control/reset")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
