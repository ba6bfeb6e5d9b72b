from __future__ import annotations

import pickle

import pytest

from lumigator_nb import errors
from lumigator_nb.specs import GenerationConfig, MetricSpec, Model, Summarization, WorkflowSpec


def test_a_model_is_named_by_provider_and_name() -> None:
    model = Model("hf/facebook/bart-large-cnn", max_new_tokens=60)
    assert (model.provider, model.name, model.label) == ("hf", "facebook/bart-large-cnn", "hf/facebook/bart-large-cnn")
    assert model.generation == GenerationConfig(max_new_tokens=60)


def test_the_provider_may_be_given_apart() -> None:
    assert Model("x/y", provider="hf").fingerprint == Model("hf/x/y").fingerprint


@pytest.mark.parametrize("name", ["gpt", "", "hf/", "/x"])
def test_a_name_without_a_provider_is_refused(name) -> None:
    with pytest.raises(errors.UnknownModelError, match="does not name a model"):
        Model(name)


def test_a_misspelt_setting_is_refused_with_advice() -> None:
    with pytest.raises(errors.InvalidInputError, match="did you mean 'temperature'"):
        Model("hf/x", temprature=0)


def test_a_setting_out_of_range_is_refused() -> None:
    with pytest.raises(errors.InvalidInputError, match="setting 'top_p'.*got 2"):
        Model("hf/x", top_p=2)


def test_the_fingerprint_follows_the_settings_and_not_the_label() -> None:
    model = Model("hf/x")
    assert model.fingerprint == Model("hf/x", label="mine").fingerprint
    assert model.fingerprint != Model("hf/x", temperature=1).fingerprint
    assert model.fingerprint != Model("hf/x", options={"dtype": "float16"}).fingerprint


def test_a_spec_survives_json_with_any_text() -> None:
    text = 'it\'s "quoted"; $(touch x) `y`\n\t🙂\x07\u2028'
    spec = WorkflowSpec(
        workflow_id="w",
        dataset="d",
        n_examples=1,
        task=Summarization(text),
        model=Model("hf/x", label=text),
        metrics=(MetricSpec(name="rouge"),),
    )
    assert WorkflowSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.task.instruction == text


@pytest.mark.parametrize(
    "error",
    [
        errors.LumigatorError("what", "do"),
        errors.NotFoundError("dataset", "x", "known: y"),
        errors.ConflictError("dataset", "x"),
        errors.MissingExtraError("hf models", "hf"),
        errors.JobFailedError("what", job_id="j"),
    ],
)
def test_errors_cross_process_borders_whole(error) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__
