"""A plugin for the pytest that runs the tests of Lumigator's backend: its TestClient speaks to a server over HTTP.

What those tests import of the backend and its libraries, and do not need over HTTP, is stood in for by mocks.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import fastapi.testclient
import httpx
from at_address import ADDRESS, PATIENCE_S
from lumigator_schemas.jobs import JobStatus

MOCKED = (
    "sqlalchemy", "mlflow", "s3fs", "fsspec", "evaluator", "inference", "backend.main", "backend.api.deps",
    "backend.api.router", "backend.records", "backend.repositories", "backend.services", "backend.settings",
    "backend.tracking",
)  # fmt: skip
ENDED = {JobStatus.FAILED.value, JobStatus.SUCCEEDED.value, JobStatus.STOPPED.value}


class App:
    """What tests ask of the application besides requests."""

    dependency_overrides: dict[Any, Any] = {}  # noqa: RUF012

    def on_event(self, _: str) -> Callable[[Any], Any]:
        return lambda function: function


class OverHTTP(httpx.Client):
    """Has TestClient's arguments, and takes the path of the base alone."""

    def __init__(self, _: App, base_url: str = "http://localhost/") -> None:
        base = f"http://{ADDRESS}{httpx.URL(base_url).path}"
        super().__init__(base_url=base, timeout=PATIENCE_S, follow_redirects=True)


REAL: dict[str, dict[str, Any]] = {
    "backend.main": {"app": App(), "create_app": App},
    "backend.services.jobs": {"JobService": SimpleNamespace(TERMINAL_STATUS=ENDED)},
}


class Mocked(ModuleType):
    """A module that has whatever is imported from it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = REAL.get(self.__name__, {}).get(name) or MagicMock(name=f"{self.__name__}.{name}")
        setattr(self, name, found)
        return found


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that are mocked, with all below them."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if any(name == each or name.startswith(f"{each}.") for each in MOCKED):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return Mocked(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to execute."""


sys.meta_path.insert(0, Finder())
fastapi.testclient.TestClient = OverHTTP
