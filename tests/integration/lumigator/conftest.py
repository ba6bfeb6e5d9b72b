from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import hub as stand_ins
import pytest
from installing import installed
from serving import served

import lumigator_nb as lm

# What Lumigator's tests and notebooks import besides its own packages.
PACKAGES = (
    "datasets", "fastapi", "httpx", "ipykernel", "loguru", "matplotlib", "nbclient", "pandas", "pydantic", "pytest",
    "pytest-asyncio", "pyyaml", "requests", "requests-mock",
)  # fmt: skip


@pytest.fixture(scope="session")
def programs(checkout, tmp_path_factory) -> Path:
    """The programs of an environment for Lumigator's own code, with nothing of ours."""
    return installed(tmp_path_factory.mktemp("lumigators"), *PACKAGES)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Lumigator's repository, which is only read."""
    given = os.environ.get("LUMIGATOR_REPO")
    if not given:
        pytest.skip("NOT TESTED: Lumigator's own tests, UI and notebooks; LUMIGATOR_REPO=… names its repository")
    return Path(given).resolve(strict=True)


@pytest.fixture(scope="session")
def hub(tmp_path_factory) -> Path:
    """A folder to be HF_HOME, with stand-ins for models."""
    pytest.importorskip("transformers", reason="pip install 'lumigator-nb[hf]'")
    folder = tmp_path_factory.mktemp("hub")
    stand_ins.fill(folder)
    return folder


@pytest.fixture(scope="session")
def serve(hub, tmp_path_factory):
    """Serves a fresh home with the stand-ins, and ends its cluster, too."""

    @contextmanager
    def serving(*options: str, home: Path | None = None, **settings: str):
        home = home or tmp_path_factory.mktemp("h")
        try:
            with served(home, *options, HF_HOME=str(hub), HF_HUB_OFFLINE="1", **settings) as server:
                yield server
        finally:
            with lm.connect(lumigator_home=home) as ws:
                ws.cluster.shutdown()

    return serving
