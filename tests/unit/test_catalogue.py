from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb import models
from lumigator_nb.errors import InvalidInputError, UnknownModelError
from lumigator_nb.models import catalogue
from lumigator_nb.models.catalogue import TASKS, CatalogueModel
from lumigator_nb.services.models import Models

BUNDLED = catalogue.load()


@pytest.fixture
def chosen(tmp_path) -> Models:
    return Models(lm.Settings(lumigator_home=tmp_path))


def test_there_is_enough_to_choose_from() -> None:
    assert len(BUNDLED) >= 20
    for task in TASKS:
        assert sum(task in model.tasks for model in BUNDLED) >= 5


@pytest.mark.parametrize("model", BUNDLED, ids=lambda model: model.name)
def test_every_entry_is_true_to_what_is_installed(model) -> None:
    from any_llm import AnyLLM

    assert model.provider in models.known()
    if model.provider in AnyLLM.get_supported_providers() and model.provider != "gemini":
        name = AnyLLM.get_provider_class(model.provider).ENV_API_KEY_NAME
        assert model.api_key in ((None, name) if model.base_url else (name,))
    assert model.link or model.provider == "baseline"
    if model.obstacle({model.api_key or "": "x"}) is None:
        models.check(model.model())


def test_the_defaults_of_a_task_go_with_the_model() -> None:
    entry = next(model for model in BUNDLED if model.name == "hf/facebook/bart-large-cnn")
    assert entry.model(lm.Summarization()).generation.max_new_tokens == 142
    assert entry.model(lm.Summarization(), max_new_tokens=7).generation.max_new_tokens == 7
    server = next(model for model in BUNDLED if model.name == "vllm/default")
    assert server.model().base_url == "http://localhost:8000/v1"


def test_what_stands_in_the_way_is_said(chosen, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    frame = chosen.list().to_pandas().set_index("name")
    assert frame.loc["openai/gpt-4o-mini", "obstacle"] == "OPENAI_API_KEY is not set"
    assert pd.isna(frame.loc["baseline/lead-3", "obstacle"])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    listed = chosen.list()
    assert pd.isna(listed.to_pandas().set_index("name").loc["openai/gpt-4o-mini", "obstacle"])
    assert "sk-0123456789" not in str(listed) + listed._repr_html_()


def test_a_package_that_is_missing_is_named() -> None:
    entry = CatalogueModel(name="x/y", display_name="Y", tasks=("translation",), needs="gemini")
    assert entry.obstacle({}) == "pip install 'any-llm-sdk[gemini]'"


def test_lists_by_task_and_provider(chosen) -> None:
    assert all("translation" in model.tasks for model in chosen.list("translation"))
    assert chosen.list(lm.TextGeneration("Answer.")) == chosen.list("text-generation")
    assert {model.provider for model in chosen.list(provider="mistral")} == {"mistral"}
    with pytest.raises(InvalidInputError, match="did you mean 'translation'"):
        chosen.list("translations")


def test_the_table_shows_every_model_and_escapes(chosen) -> None:
    chosen.add({"name": "x/<b>", "display_name": "<i>", "tasks": ["translation"]})
    html = chosen.list()._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<i>" not in html
    assert all(len(line) < 120 for line in str(chosen.list()).splitlines())


def test_own_models_from_the_home_a_file_and_code(chosen, tmp_path) -> None:
    (tmp_path / "models.yaml").write_text("- {name: hf/own/one, display_name: One, tasks: [translation]}\n")
    other = tmp_path / "other.yaml"
    other.write_text("- {name: baseline/copy, display_name: Mine, tasks: [text_generation]}\n")
    chosen.add(other)
    chosen.add(CatalogueModel(name="hf/own/two", display_name="Two", tasks=("translation",)))
    assert chosen.get("hf/own/one").display_name == "One"
    assert chosen.get("hf/own/two").display_name == "Two"
    assert chosen.get("baseline/copy").display_name == "Mine"
    with pytest.raises(UnknownModelError, match="did you mean 'hf/own/one'"):
        chosen.get("hf/own/onee")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b", "must be a list of models"),
        ("- [", "is not YAML"),
        ("- 3", "model 1: expected fields"),
        ("- {name: x/y, tasks: [translation]}", r"model 1 \(x/y\), display_name: Field required"),
        ("- {name: nope, display_name: N, tasks: [translation]}", "name: String should match"),
        ("- {name: x/y, display_name: N, tasks: [dancing]}", r"tasks\.0"),
        ("- {name: x/y, display_name: N, tasks: [translation], colour: red}", "colour: Extra inputs"),
        ("- {name: x/y, display_name: N, tasks: [translation], defaults: {dance: {}}}", "'dance' is not a task"),
        ("- {name: x/y, display_name: N, tasks: [translation], link: 'http://x'}", "link"),
        ("- {name: x/y, display_name: N, tasks: [translation]}\n" * 2, "more than once"),
    ],
)
def test_a_malformed_catalogue_is_explained(tmp_path, text, words) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=words):
        catalogue.load(file)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        catalogue.load(Path("nowhere.yaml"))


def test_a_server_of_ones_own_is_asked_with_the_key_that_the_catalogue_names() -> None:
    fields = {"name": "openai/ours", "display_name": "Ours", "tasks": ["summarization"]}
    ours = catalogue.entry({**fields, "base_url": "http://localhost:1/v1", "api_key": "OURS_API_KEY"}, "a test")
    assert ours.model().options.get("api_key_name") == "OURS_API_KEY"
    assert ours.model(api_key_name="MINE").options.get("api_key_name") == "MINE"
    assert ours.model(base_url="http://localhost:2/v1").options.get("api_key_name") is None
    theirs = catalogue.entry({**fields, "api_key": "OPENAI_API_KEY"}, "a test")
    assert theirs.model().options.get("api_key_name") is None
