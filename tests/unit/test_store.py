from __future__ import annotations

import pytest

from lumigator_nb.errors import ConfigurationError, NotFoundError, StoreUnavailableError
from lumigator_nb.layout import safe_filename
from lumigator_nb.specs import StoreSpec
from lumigator_nb.store import Store


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    if request.param == "file":
        yield Store(StoreSpec(uri=(tmp_path / "it's a folder").as_uri()))
        return
    made = Store(StoreSpec(uri=f"memory://{tmp_path.name}"))
    yield made
    made.delete("")


def test_what_is_written_is_read_listed_and_deleted(store) -> None:
    store.write("a/b.txt", b"one")
    store.write("a/c/d.txt", b"two")
    store.write("a/b.txt", b"three")
    assert store.read("a/b.txt") == b"three"
    assert store.list("a") == ["a/b.txt", "a/c/d.txt"]
    assert store.exists("a/c/d.txt")
    store.delete("a/c")
    assert store.list("a") == ["a/b.txt"]


def test_absence_is_found_out(store) -> None:
    assert store.find("nothing") is None
    assert store.list("nothing") == []
    store.delete("nothing")
    with pytest.raises(NotFoundError, match=r"there is no file .*nothing"):
        store.read("nothing")


def test_a_write_that_fails_half_way_leaves_the_old_content(tmp_path) -> None:
    store = Store(StoreSpec(uri=tmp_path.as_uri()))
    store.write("x", b"old")
    with pytest.raises(RuntimeError, match="stop"), store.writing("x") as file:
        file.write(b"new")
        raise RuntimeError("stop")
    assert store.read("x") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_unfinished_write_of_a_killed_process_is_not_listed(tmp_path) -> None:
    store = Store(StoreSpec(uri=tmp_path.as_uri()))
    (tmp_path / "x.0123.part").write_bytes(b"half")
    assert store.list("") == []


def test_a_folder_in_the_way_is_explained(tmp_path) -> None:
    (tmp_path / "taken").write_text("a file where a folder must be")
    store = Store(StoreSpec(uri=(tmp_path / "taken").as_uri()))
    with pytest.raises(StoreUnavailableError, match="cannot reach"):
        store.write("x", b"")


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not a store's address"):
        Store(StoreSpec(uri="nosuch://place"))


def test_check_leaves_nothing_behind(store) -> None:
    store.check()
    assert store.list("") == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("data.csv", "data.csv"),
        ("../../x y'é.csv", "x_y_e.csv"),
        ("..\\..\\boot.ini", "boot.ini"),
        (".hidden", "hidden"),
        ("日本語.csv", "csv"),
        ("", "upload"),
        ("a" * 300 + ".csv", "a" * 96 + ".csv"),
        ("$(touch x).csv", "touch_x_.csv"),
    ],
)
def test_filenames_are_made_safe(given, kept) -> None:
    assert safe_filename(given) == kept
