"""A browser, a dashboard and a JupyterLab for tests, screenshots and benchmarks of the screens.

Needs playwright and an installed Chromium. Does not use the developer's settings.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_LOCAL = ("127.0.0.1", "localhost", "")
_FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")


def chromium() -> str | None:
    """Return the path of the installed browser, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Watched:
    """Problems of pages in a browser: errors on the console, and requests to other hosts."""

    problems: list[str] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)

    def watch(self, page: Any) -> Any:
        """Record the problems of a page from now on; return the page."""
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._request(request.url))
        page.on("websocket", lambda opened: self._request(opened.url))
        return page

    def _request(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        host = rest.split("/")[0].rsplit(":", 1)[0]
        if scheme in ("http", "https", "ws", "wss") and host not in _LOCAL:
            self.elsewhere.add(host)


@contextmanager
def browser() -> Iterator[Any]:
    """Open a headless browser, as playwright's `Browser`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def dashboard(home: Path, *options: str, log: Path | None = None) -> Iterator[str]:
    """Serve the dashboard of a workspace in a separate process; yields its URL.

    Args:
        home: the workspace's folder; created if missing.
        options: further options of `lumigator-nb dashboard`.
        log: file for its output.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "lumigator_nb.cli", "dashboard", "--port", str(port), "--no-show", *options]
    address = f"{'https' if '--certificate' in options else 'http'}://127.0.0.1:{port}/"
    with _process(command, {"LUMIGATOR_HOME": str(home)}, log, home):
        wait_for(address)
        yield address


@contextmanager
def jupyterlab(folder: Path, variables: Mapping[str, str] | None = None, log: Path | None = None) -> Iterator[str]:
    """Serve JupyterLab with separate settings; yields the URL of its files, such as ".../lab/tree/".

    Args:
        folder: folder with notebooks.
        variables: environment variables.
        log: file for its output.
    """
    port = free_port()
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--IdentityProvider.token="]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"]
    settings = {name: str(folder / f".{name.lower()}") for name in _FOLDERS}
    with _process(command, {**settings, **(variables or {})}, log, folder):
        wait_for(f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}/lab/tree/"


def notebook(path: Path, cells: Sequence[str]) -> None:
    """Write a notebook of code cells."""
    blank: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    written = [{**blank, "id": f"cell-{number}", "source": source} for number, source in enumerate(cells)]
    content = {"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content), encoding="utf-8")


def wait_for(address: str, seconds: float = 600) -> None:
    """Wait until a server answers.

    Raises:
        TimeoutError: it does not answer in time.
    """
    deadline = time.monotonic() + seconds
    while not _answers(address):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{address} does not answer within {seconds:g} s")
        time.sleep(0.1)


@contextmanager
def _process(command: Sequence[str], variables: Mapping[str, str], log: Path | None, folder: Path) -> Iterator[None]:
    sink: Any = log.open("ab") if log else subprocess.DEVNULL
    # The process must not find the developer's .env, which is searched upwards from the current folder.
    process = subprocess.Popen(command, env=os.environ | dict(variables), stdout=sink, stderr=sink, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if log:
            sink.close()


def _answers(address: str) -> bool:
    try:
        # Only for our own servers, whose test certificates are not signed by a known authority.
        trusting = ssl._create_unverified_context()  # noqa: S323
        with urllib.request.urlopen(address, timeout=2, context=trusting) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
