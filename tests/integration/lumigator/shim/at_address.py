"""A plugin for the pytest that runs Lumigator's own tests: they meet the server at $LUMIGATOR_ADDRESS, always empty.

It works in an environment of its own, which holds nothing of this project.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import requests
from lumigator_sdk.lumigator import DEFAULT_RETRY, LumigatorClient

ADDRESS = os.environ["LUMIGATOR_ADDRESS"]
API = f"http://{ADDRESS}/api/v1"
PATIENCE_S = 300

# Ray's own API, which the SDK asks about jobs.
LumigatorClient.__init__.__defaults__ = (ADDRESS, DEFAULT_RETRY)


def pytest_plugin_registered(plugin: object) -> None:
    if hasattr(plugin, "LUMI_HOST"):  # the conftest of the SDK's tests
        plugin.LUMI_HOST = ADDRESS


@pytest.fixture(autouse=True)
def empty_server() -> None:
    """Lumigator rolls its database back after each test."""
    deadline = time.monotonic() + PATIENCE_S
    while left := [delete(kind, item) for kind, item in everything()]:
        assert time.monotonic() < deadline, f"the server cannot be emptied: {left}"
        time.sleep(0.2)


def everything() -> Iterator[tuple[str, dict[str, str]]]:
    for kind in ("experiments", "datasets", "settings/secrets", "jobs"):
        yield from ((kind, item) for item in get(kind))


def get(kind: str) -> list[dict[str, str]]:
    answer = requests.get(f"{API}/{kind}", timeout=PATIENCE_S)
    answer.raise_for_status()
    found = answer.json()
    return found["items"] if isinstance(found, dict) else found


def delete(kind: str, item: dict[str, str]) -> str:
    """Ask for it; a job goes with its dataset."""
    name = item["id" if "id" in item else "name"]
    if kind != "jobs":
        # What is under way is refused, or goes later: it is asked for again.
        requests.delete(f"{API}/{kind}/{name}", params={"cascade": "true"}, timeout=PATIENCE_S)
    return f"{kind}/{name}"
