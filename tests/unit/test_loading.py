"""One module of a package that imports all of itself."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from lumigator_nb.models.loading import module_alone


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package `heavy` whose `__init__` sets a mark and whose modules lie two deep."""
    inner = tmp_path / "heavy" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "heavy" / "__init__.py").write_text("whole = True\n")
    (inner / "__init__.py").write_text("from heavy import whole\n")
    (inner / "part.py").write_text("from heavy.inner.near import value\n")
    (inner / "near.py").write_text("value = 7\n")
    (inner / "needy.py").write_text("from heavy import whole\n")
    (inner / "broken.py").write_text("from heavy import nothing\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "heavy"
    for name in [name for name in sys.modules if name.partition(".")[0] == "heavy"]:
        del sys.modules[name]


def test_only_the_module_and_what_it_imports_is_loaded(package: str) -> None:
    assert module_alone("heavy.inner.part").value == 7
    assert not [name for name in sys.modules if name.startswith(package)]


def test_whoever_wants_the_package_later_gets_it_whole(package: str) -> None:
    module_alone("heavy.inner.part")
    assert import_module(package).whole
    assert import_module("heavy.inner").whole


def test_a_module_that_needs_its_package_gets_it(package: str) -> None:
    assert module_alone("heavy.inner.needy").whole
    assert sys.modules[package].whole


def test_a_package_that_is_loaded_is_used(package: str) -> None:
    loaded = import_module("heavy.inner.part")
    assert module_alone("heavy.inner.part") is loaded
    assert sys.modules["heavy.inner.part"] is loaded


@pytest.mark.parametrize("name", ["heavy.inner.broken", "heavy.inner.none", "heavy.none.part", "nowhere_at_all.part"])
def test_what_cannot_be_imported_says_so_as_always(name: str, package: str) -> None:
    with pytest.raises(ImportError):
        module_alone(name)


def test_nltk_s_stemmer_comes_without_the_rest_of_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nltk")
    for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
        monkeypatch.delitem(sys.modules, name)
    assert module_alone("nltk.stem.porter").PorterStemmer().stem("running") == "run"
    assert "nltk" not in sys.modules
