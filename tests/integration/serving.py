"""A server in a process of its own, as the command starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from waiting import PATIENCE_S, until


class Serving:
    """A running server.

    Attributes:
        url: with the port, without a slash at the end.
    """

    def __init__(self, home: Path, *options: str, log: Path | None = None, **settings: str) -> None:
        self.log = log or home / "server.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "LUMIGATOR_HOME": str(home), "PYTHONUNBUFFERED": "1", **settings}
        port = [] if "--port" in options else ["--port", "0"]
        with self.log.open("ab") as file:
            begin = file.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lumigator_nb.cli", "serve", *port, *options],
                env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=home,
            )  # fmt: skip
        until(lambda: self._address(begin) or self.process.poll() is not None, "the server listens")
        found = self._address(begin)
        assert found, self.log.read_text()
        self.url = found

    def _address(self, begin: int) -> str | None:
        found = re.search(rb"Lumigator is at (http\S+?)/?, its API", self.log.read_bytes()[begin:])
        return found[1].decode() if found else None

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def api(self) -> str:
        return f"{self.url}/api/v1"

    def get(self, path: str, **options):
        answer = requests.get(f"{self.api}/{path}", timeout=PATIENCE_S, **options)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: dict, **options):
        answer = requests.post(f"{self.api}/{path}", json=body, timeout=PATIENCE_S, **options)
        answer.raise_for_status()
        return answer.json()

    def upload(self, text: str, name: str = "texts.csv", **options):
        answer = requests.post(
            f"{self.api}/datasets", files={"dataset": (name, text.encode())}, timeout=PATIENCE_S, **options
        )
        answer.raise_for_status()
        return answer.json()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def served(home: Path, *options: str, **settings: str) -> Iterator[Serving]:
    server = Serving(home, *options, **settings)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)
