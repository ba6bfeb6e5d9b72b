"""Tiny random models, saved as real ones are: they exercise every path but write nonsense."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from waiting import PATIENCE_S

from lumigator_nb import models
from lumigator_nb.errors import InvalidInputError, MissingExtraError, UnavailableError, UnknownModelError
from lumigator_nb.models import Conversation
from lumigator_nb.models.prompts.prompting import Encoded
from lumigator_nb.models.providers.transformer import Room, batches
from lumigator_nb.specs import Example, Model, Shot, Summarization, Task, TextGeneration

TASK = Task(prompt="Be brief.")
TEXTS = ["a", "Anna: shall we meet at nine?\nTom: better at ten.", "", "zz top", "naïve café 日本", "a" * 60]
MARKS = ["<pad>", "</s>", "<s>", "<|im_start|>", "<|im_end|>"]
PAD, EOS, BOS, IM_START, IM_END = range(len(MARKS))

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM_ROLE = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
IGNORES_SYSTEM_ROLE = CHATML.replace("in messages %}", "in messages if m.role != 'system' %}")


def byte_tokenizer(*, end, template=None, ends_inputs=False):
    """One token per byte, so that any text is known and lengths are easy to foresee."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={token: at for at, token in enumerate(MARKS + letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if ends_inputs:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token=end,
        additional_special_tokens=MARKS[3:],
        chat_template=template,
    )


def save(folder, config, tokenizer, **generation):
    torch.manual_seed(1)
    kinds = transformers.AutoModelForSeq2SeqLM, transformers.AutoModelForCausalLM
    network = kinds[not config.is_encoder_decoder].from_config(config)
    # Freshly initialised weights are so small that the answer would not depend on the text.
    for weight in network.parameters():
        weight.data.mul_(8)
    for name, value in generation.items():
        setattr(network.generation_config, name, value)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf/{folder}"


def llama(folder, *, template=CHATML, window=200, **generation):
    config = transformers.LlamaConfig(
        vocab_size=261,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=window,
        eos_token_id=IM_END,
        pad_token_id=PAD,
        bos_token_id=BOS,
    )
    return save(folder, config, byte_tokenizer(end="<|im_end|>", template=template), **generation)


def bart(folder):
    config = transformers.BartConfig(
        vocab_size=261,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        decoder_start_token_id=EOS,
    )
    forced = {"forced_bos_token_id": BOS, "forced_eos_token_id": EOS}
    return save(folder, config, byte_tokenizer(end="</s>", ends_inputs=True), num_beams=4, min_length=12, **forced)


def t5(folder):
    config = transformers.T5Config(
        vocab_size=261,
        d_model=32,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        n_positions=64,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        task_specific_params={"summarization": {"prefix": "summarize: ", "min_length": 30}},
    )
    return save(folder, config, byte_tokenizer(end="</s>", ends_inputs=True))


BUILDERS = {"llama": llama, "bart": bart, "t5": t5}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in BUILDERS.items()}


def load(name, task=TASK, max_new_tokens=12, batch_size=4, **settings):
    options = {"batch_size": batch_size, "device": "cpu", **settings.pop("options", {})}
    loaded = models.load(Model(name, max_new_tokens=max_new_tokens, options=options, **settings), task)

    def predict(texts):
        answers = {request.row: prediction for request, prediction in loaded.answer(requests(texts, task))}
        return [answers[row] for row in range(len(texts))]

    loaded.predict = predict
    return loaded


def requests(texts, task=TASK, metadata=None):
    conversation = Conversation(task)
    return [conversation.request(Example(row, text, metadata=metadata or {})) for row, text in enumerate(texts)]


def texts(predictions):
    assert [each.error for each in predictions] == [None] * len(predictions)
    return [each.text for each in predictions]


@pytest.mark.parametrize("kind", BUILDERS)
def test_answers_come_in_the_order_of_the_examples_whatever_the_batch_size(saved, kind):
    alone = [texts(load(saved[kind], batch_size=1).predict([text]))[0] for text in TEXTS]
    assert len(set(alone)) > 3
    for batch_size in (1, 2, 4, 50):
        assert texts(load(saved[kind], batch_size=batch_size).predict(TEXTS)) == alone


@pytest.mark.parametrize("kind", BUILDERS)
def test_tokens_and_seconds_are_counted(saved, kind):
    predictions = load(saved[kind]).predict(TEXTS)
    assert all(0 <= each.completion_tokens <= 12 and each.seconds > 0 for each in predictions)
    # Every byte is a token: the two texts differ by 59 letters.
    assert predictions[5].prompt_tokens - predictions[0].prompt_tokens == 59 or predictions[5].truncated


def test_end_mark_and_padding_are_not_counted(tmp_path):
    name = llama(tmp_path)
    model = load(name)
    before = model.predict(["a"])[0].completion_tokens
    network = model._model

    def end_at_once(module, inputs, logits):
        logits[:] = 0
        logits[..., IM_END] = 1
        return logits

    network.lm_head.register_forward_hook(end_at_once)
    after = model.predict(["a"])[0]
    assert before > 0
    assert (after.completion_tokens, after.text, after.error) == (0, "", None)


def test_requests_are_taken_as_there_is_room(saved):
    taken = []

    def source():
        for request in requests([f"text {n}" for n in range(600)]):
            taken.append(request.row)
            yield request

    answers = load(saved["llama"], max_new_tokens=1, batch_size=50).answer(source())
    next(answers)
    assert len(taken) == 256
    assert sum(1 for _ in answers) == 599


def encoded(*lengths):
    asked = requests([""] * len(lengths))
    return [Encoded(request, [1] * length, False, "") for request, length in zip(asked, lengths, strict=True)]


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ((1, 9, 3, 2), Room(2, 100), [[9, 3], [2, 1]]),
        ((1, 9, 3, 2), Room(50, 9), [[9], [3, 2, 1]]),
        ((500,), Room(4, 100), [[500]]),
        ((), Room(4, 100), []),
    ],
)
def test_batches_hold_like_lengths_within_the_room(lengths, room, expected):
    assert [[len(each.ids) for each in batch] for batch in batches(encoded(*lengths), room)] == expected


def test_the_prompt_is_what_the_model_saw(saved):
    model = load(saved["llama"])
    prediction = model.predict(["the text"])[0]
    assert prediction.prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nthe text<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prediction.finish in ("stop", "length")


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM_ROLE, None])
def test_few_shot_turns_and_templates_reach_the_model(tmp_path, template):
    task = Summarization("Be brief.", template="<{{ example }}>", shots=[Shot(example="Old.", answer="New.")])
    prompt = load(llama(tmp_path, template=template), task).predict(["Now."])[0].prompt
    places = [prompt.index(part) for part in ("Be brief.", "<Old.>", "New.", "<Now.>")]
    assert places == sorted(places)


def test_a_cut_example_leaves_the_template_around_it_whole(saved):
    task = Summarization("Be brief.", template="Text: {{ example }} (end of text)")
    prediction = load(saved["llama"], task).predict(["x" * 400])[0]
    assert prediction.truncated
    assert re.search(r"Text: x+ \(end of text\)<", prediction.prompt)


def test_text_generation_puts_the_instruction_before_the_text_of_a_t5(saved):
    prediction = load(saved["t5"], TextGeneration("Answer.")).predict(["Why?"])[0]
    assert prediction.prompt == "Answer.\n\nWhy?"


def test_a_retrained_model_in_the_same_folder_is_another(tmp_path):
    name = t5(tmp_path)
    before = models.identify(Model(name))
    assert models.identify(Model(name)) == before
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert models.identify(Model(name)) != before


def test_a_server_address_is_refused():
    with pytest.raises(InvalidInputError, match="base_url is for servers"):
        models.check(Model("hf/some/model", base_url="http://localhost:8000/v1"))


def test_nothing_to_answer_is_no_error(saved):
    assert load(saved["llama"]).predict([]) == []


@pytest.mark.parametrize(
    ("template", "described"),
    [
        (CHATML, "chat: instruction as system prompt"),
        (NO_SYSTEM_ROLE, "chat: instruction before the first text"),
        (IGNORES_SYSTEM_ROLE, "chat: instruction before the first text"),
        (None, "instruction, text, 'Summary:'"),
    ],
)
def test_the_instruction_reaches_every_kind_of_decoder_only_model(tmp_path, template, described):
    name = llama(tmp_path, template=template)
    model = load(name)
    assert model.details["prompt"] == described
    seen = []
    model._model.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    model.predict(["the text"])
    prompt = model._tokenizer.decode(seen[0][0])
    assert "Be brief." in prompt
    assert prompt.index("Be brief.") < prompt.index("the text")


def test_t5_gets_the_prefix_of_its_configuration_and_bart_none(saved):
    assert load(saved["t5"]).details["prompt"] == "text, after 'summarize: '"
    assert load(saved["bart"]).details["prompt"] == "text"


def test_a_long_text_is_cut_at_its_end_and_the_template_stays_whole(saved):
    model = load(saved["llama"])
    short, long = model.predict(["begin", "begin " + "x" * 500])
    assert (short.truncated, long.truncated) == (False, True)
    assert long.prompt_tokens == model.details["max_prompt_tokens"] == 200 - 12
    encoded = model._encode(requests(["begin " + "日本" * 200])[0])
    prompt = model._tokenizer.decode(encoded.ids)
    assert long.prompt.endswith("<|im_start|>assistant\n")
    assert "system\nBe brief.<|im_end|>" in prompt
    assert re.search(r"[日本]<\|im_end\|>\n<\|im_start\|>assistant\n$", prompt)


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_a_summarizer_keeps_the_end_mark_of_a_cut_text(saved, kind):
    model = load(saved[kind])
    encoded = model._encode(requests(["y" * 500])[0])
    assert (len(encoded.ids), encoded.ids[-1], encoded.truncated) == (64, EOS, True)


def test_a_wish_for_more_tokens_than_fit_is_lowered_and_noted(saved):
    details = load(saved["llama"], max_new_tokens=5000).details
    assert (details["max_new_tokens"], details["max_prompt_tokens"]) == (100, 100)
    assert "lowered from 5000 to 100" in details["notes"][0]
    assert load(saved["bart"], max_new_tokens=5000).details["max_new_tokens"] == 63
    assert load(saved["t5"], max_new_tokens=5000).details["max_new_tokens"] == 5000


def test_an_instruction_that_does_not_fit_is_every_examples_error(saved):
    predictions = load(saved["llama"], Task(prompt="long " * 80)).predict(["a", "b"])
    assert all("the instruction alone takes" in each.error and each.text is None for each in predictions)


def test_one_failing_example_costs_no_other(saved):
    model = load(saved["llama"], batch_size=50)
    expected = texts(model.predict(TEXTS))
    poison = 5 + sorted(pre_tokenizers.ByteLevel.alphabet()).index("~")

    def refuse(_, args, kwargs):
        ids = kwargs["input_ids"]
        if ids.shape[1] > 1 and (ids == poison).any():  # in a prompt; the model may well write one itself
            raise RuntimeError("cannot digest ~\nat layer 3")

    model._model.model.register_forward_pre_hook(refuse, with_kwargs=True)
    predictions = model.predict([*TEXTS[:3], "a ~ b", *TEXTS[3:]])
    failed = predictions.pop(3)
    assert (failed.text, failed.error) == (None, "RuntimeError: cannot digest ~")
    assert texts(predictions) == expected


def test_a_batch_too_large_for_the_memory_is_halved(saved):
    model = load(saved["llama"], batch_size=50)
    expected = texts(model.predict(TEXTS))

    def exhaust(_, args, kwargs):
        if len(kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model._model.model.register_forward_pre_hook(exhaust, with_kwargs=True)
    assert texts(model.predict(TEXTS)) == expected


def test_a_text_that_is_no_unicode_fails_alone(saved):
    predictions = load(saved["llama"]).predict(["fine", "half a pair \ud83d", "fine"])
    assert [each.error is None for each in predictions] == [True, False, True]


def test_the_models_own_generation_settings_change_nothing(tmp_path, saved, capfd, monkeypatch):
    own = {"do_sample": True, "temperature": 9.0, "top_k": 3, "max_length": 20, "min_new_tokens": 12, "num_beams": 3}
    name = llama(tmp_path, **own)
    capfd.readouterr()
    assert texts(load(name).predict(TEXTS)) == texts(load(saved["llama"]).predict(TEXTS))
    assert capfd.readouterr().err == ""


def test_sampling_follows_the_seed(saved):
    def sample(seed):
        return texts(load(saved["llama"], temperature=1.5, seed=seed).predict(TEXTS))

    model = load(saved["llama"], temperature=1.5, seed=3)
    assert sample(3) == sample(3) == texts(model.predict(TEXTS)) == texts(model.predict(TEXTS))
    assert sample(3) != sample(4)


def test_details_are_json_and_say_what_was_loaded(saved):
    details = json.loads(json.dumps(load(saved["llama"], options={"dtype": "bfloat16"}).details))
    assert details["source"] == f"folder {saved['llama'].removeprefix('hf/')}"
    assert details | {"device": "cpu", "dtype": "bfloat16", "batch_size": 4} == details
    assert details["parameters"] > 10_000


def test_loading_tells_what_it_does(saved):
    notes = []
    models.load(Model(saved["bart"]), TASK, notes.append)
    assert notes == ["loading the model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batchsize": 4}, "unknown setting 'batchsize'.*\n.*did you mean 'batch_size'"),
        ({"batch_size": 0}, "option 'batch_size'.*greater than or equal to 1"),
        ({"batch_size": "8"}, "option 'batch_size'.*integer"),
        ({"batch_size": True}, "option 'batch_size'.*integer"),
        ({"device": "tpu"}, "option 'device'.*'cuda'"),
        ({"dtype": "int8"}, "option 'dtype'"),
        ({"trust_remote_code": "yes"}, "option 'trust_remote_code'"),
    ],
)
def test_bad_options_are_refused_before_launch(options, message):
    with pytest.raises(InvalidInputError, match=message):
        models.check(Model("hf/some/model", options=options))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("hf/a/b/c", UnknownModelError, "neither a model on the Hugging Face hub nor a path"),
        ("hf/two words", UnknownModelError, "neither"),
        ("hf//no/such/folder", UnknownModelError, "there is no model at /no/such/folder"),
        ("hf/~/no-such-model.gguf", UnknownModelError, "there is no model at"),
        ("hf/./nothing-here", UnknownModelError, "there is no model at nothing-here"),
    ],
)
def test_bad_names_are_refused_before_launch(name, error, message):
    with pytest.raises(error, match=message):
        models.check(Model(name))


def test_local_folders_are_checked_before_launch(tmp_path, monkeypatch, saved):
    models.check(Model(saved["llama"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownModelError, match=r"has no config\.json"):
        models.check(Model(f"hf/{tmp_path}/empty"))
    (tmp_path / "empty" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=f"is relative(.|\n)*write hf/{tmp_path}/empty"):
        models.check(Model("hf/./empty"))


def test_missing_packages_are_named_before_launch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"lumigator-nb\[hf\]"):
        models.check(Model("hf/some/model"))


def test_a_folder_that_transformers_cannot_read_is_explained(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-architecture"}')
    with pytest.raises(UnknownModelError, match=r"cannot be loaded: .*no-such-architecture"):
        load(f"hf/{tmp_path}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused(saved):
    with pytest.raises(InvalidInputError, match="device 'cuda' is not on the machine"):
        load(saved["bart"], options={"device": "cuda"})


SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Knows the model a/known and nothing else."""

    def do_GET(self):
        known = self.path.startswith("/api/models/a/known")
        body = json.dumps({"id": "a/known", "sha": SHA} if known else {"error": "Repository not found"}).encode()
        self.send_response(200 if known else 404)
        if not known:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def locate(name, home, endpoint="http://127.0.0.1:9", **environment):
    """Locate a model in a fresh process, since huggingface_hub reads its settings when it is imported."""
    code = (
        "import sys, dataclasses, json; from lumigator_nb.models.providers import weights as resolving\n"
        "try: print(json.dumps(dataclasses.asdict(resolving.locate(sys.argv[1], None, lambda note: None))))\n"
        "except Exception as error: print(json.dumps([type(error).__name__, str(error)]))"
    )
    env = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "no_proxy": "127.0.0.1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, name], env=env, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return json.loads(done.stdout)


def test_the_hub_decides_which_commit_is_loaded(hub, tmp_path):
    found = locate("a/known", tmp_path, hub)
    assert (found["location"], found["described"], found["revision"]) == ("a/known", "hub", SHA)


def test_a_model_that_the_hub_does_not_know(hub, tmp_path):
    error, message = locate("a/unknown", tmp_path, hub)
    assert (error, message.startswith("there is no model 'a/unknown' on the hub")) == (UnknownModelError.__name__, True)


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_without_the_hub_and_a_copy_the_message_says_what_was_tried(tmp_path, environment):
    error, message = locate("a/known", tmp_path, **environment)
    assert error == UnavailableError.__name__
    assert "the hub cannot be reached" in message
    assert "neither the cache nor an installed package has it" in message


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
@pytest.mark.parametrize("complete", [True, False])
def test_without_the_hub_a_complete_cached_copy_is_taken(tmp_path, environment, complete):
    repository = tmp_path / "hub" / "models--a--known"
    snapshot = repository / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SHA)
    (snapshot / "config.json").write_text("{}")
    if complete:
        (snapshot / "model.safetensors").write_bytes(b"")
    found = locate("a/known", tmp_path, **environment)
    if complete:
        assert (found["location"], found["described"], found["revision"]) == (str(snapshot), "hub cache", SHA)
    else:
        assert found[0] == UnavailableError.__name__
