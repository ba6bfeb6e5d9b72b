from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb.database.engine import Database
from lumigator_nb.errors import DatabaseUnavailableError

pytestmark = pytest.mark.integration
UNIT = Path(__file__).parent.parent / "unit"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("database", "concurrency"), id="concurrency"),
        pytest.param(
            ("migrations", "services", "labels", "rest", "max_samples", "deletion"), id="all", marks=pytest.mark.slow
        ),
    ],
)
def test_the_database_suites_pass_on_postgresql(postgres_url, names) -> None:
    suites = [str(UNIT / f"test_{name}.py") for name in names]
    environment = os.environ | {"SQLALCHEMY_DATABASE_URL": postgres_url}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=6 * PATIENCE_S)
    assert done.returncode == 0, done.stdout[-5000:]


def test_a_server_is_never_migrated_silently(postgres_url, tmp_path) -> None:
    with pytest.raises(DatabaseUnavailableError, match="revision none") as caught:
        lm.connect(lumigator_home=tmp_path, sqlalchemy_database_url=postgres_url)
    assert "lumigator-nb db upgrade" in caught.value.hint
    database = Database(postgres_url)
    database.upgrade()
    with lm.connect(lumigator_home=tmp_path, sqlalchemy_database_url=postgres_url) as ws:
        assert ws.datasets.list() == []
    database.downgrade("base")
    database.close()
