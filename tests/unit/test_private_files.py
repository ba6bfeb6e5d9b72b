"""What other accounts of the machine cannot read: the home, the database, the store."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lumigator_nb import config
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import connect

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_of(home: Path) -> dict[str, int]:
    return {path.name: mode(path) for path in home.glob("lumigator.db*") if not path.name.endswith(".lock")}


def test_a_new_home_is_its_owners_alone(tmp_path) -> None:
    home = tmp_path / "above" / "home"
    with connect(lumigator_home=home) as ws:
        ws.store.write("x", b"x")
        backup = ws.database.backup()
        assert mode(home) == 0o700
        assert mode(home / "store") == 0o700
        assert mode(backup) == 0o600
        assert set(files_of(home).values()) == {0o600}
        assert {"lumigator.db", "lumigator.db-wal"} <= set(files_of(home))


def test_a_database_and_a_store_elsewhere_are_too(tmp_path) -> None:
    database, store = tmp_path / "db" / "x.db", tmp_path / "store"
    (tmp_path / "db").mkdir()
    with connect(lumigator_home=tmp_path / "home", sqlalchemy_database_url=f"sqlite:///{database}"):
        assert mode(database) == 0o600
    Store(StoreSpec(uri=store.as_uri())).write("folder/x", b"x")
    assert mode(store) == 0o700


def test_a_home_that_earlier_versions_left_open_is_closed(tmp_path, monkeypatch) -> None:
    home = tmp_path / ".lumigator"
    monkeypatch.setattr(config, "DEFAULT_HOME", home)
    home.mkdir(mode=0o755)
    (home / "lumigator.db").touch(mode=0o644)
    with connect(lumigator_home=home):
        assert mode(home) == 0o700


@pytest.mark.parametrize("opened", [0o755, 0o2770, 0o2775])
def test_a_folder_that_somebody_has_opened_stays_open(tmp_path, opened) -> None:
    home = tmp_path / "team"
    home.mkdir()
    home.chmod(opened)
    os.umask(0o002)
    with connect(lumigator_home=home) as ws:
        ws.store.write("x", b"x")
        assert mode(home) == opened
        shared = bool(opened & 0o020)
        assert set(files_of(home).values()) == {0o660 if shared else 0o600}
        assert mode(home / "store") & 0o777 == (0o770 if shared else 0o700)
