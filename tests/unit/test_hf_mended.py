"""Local models in trouble: cut-off answers, thoughts that the prompt opens, damaged files, full folders."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
import torch
from test_huggingface import CHATML, EOS, IM_END, bart, byte_tokenizer, llama, load, t5

from lumigator_nb import models
from lumigator_nb.errors import UnknownModelError
from lumigator_nb.models.prompts.reasoning import split_reasoning
from lumigator_nb.specs import Example, Model, Task, TextGeneration, Translation

THINKS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
THINKS_NOT = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}")
USED_UP = "max_new_tokens was used up before the answer began: raise it"
WEIGHTS = "model.safetensors"


def says(model, text, *, end):
    """Let the model write `text` and the end mark, then z for ever."""
    script = [*model._tokenizer(text, add_special_tokens=False)["input_ids"], end]
    filler = model._tokenizer("z", add_special_tokens=False)["input_ids"][0]
    written = iter(script)

    def speak(module, inputs, logits):
        logits[:] = 0
        logits[..., next(written, filler)] = 1
        return logits

    model._model.get_output_embeddings().register_forward_hook(speak)
    return model


def reads_and_says(folder, template, text, max_new_tokens=60, prompt="What now?"):
    name = llama(folder, template=template, window=400)
    model = says(load(name, max_new_tokens=max_new_tokens), text, end=IM_END)
    return model.predict([prompt])[0]


def test_a_bart_that_is_cut_off_does_not_look_finished(tmp_path):
    answer = says(load(bart(tmp_path)), "x" * 50, end=EOS).predict(["a"])[0]
    # The first of twelve is the start mark that the decoder is forced to begin with.
    assert (answer.finish, answer.text, answer.completion_tokens) == ("length", "x" * 11, 11)


def test_a_bart_that_comes_to_an_end_is_finished(tmp_path):
    # What it would write first gives way to the forced start mark.
    answer = says(load(bart(tmp_path)), "xdone", end=EOS).predict(["a"])[0]
    assert (answer.finish, answer.text) == ("stop", "done")


@pytest.mark.parametrize(
    ("template", "written", "reasoning", "text"),
    [
        (THINKS, "why\n</think>\n\nSo.", "why", "So."),
        (THINKS, "<think>why</think>So.", "why", "So."),
        (THINKS, "</think>So.", None, "So."),
        (THINKS_NOT, "So.", None, "So."),
        (CHATML, "<think>why</think>So.", "why", "So."),
        (CHATML, "So.", None, "So."),
    ],
)
def test_a_thought_is_split_off_whoever_opened_it(tmp_path, template, written, reasoning, text):
    answer = reads_and_says(tmp_path, template, written)
    assert (answer.reasoning, answer.text, answer.error, answer.finish) == (reasoning, text, None, "stop")
    assert answer.reasoning_tokens == (len(reasoning) if reasoning else None)


@pytest.mark.parametrize(("template", "opening"), [(THINKS, ""), (CHATML, "<think>")])
def test_a_thought_that_is_cut_off_is_no_answer(tmp_path, template, opening):
    answer = reads_and_says(tmp_path, template, f"{opening}on and on and on", max_new_tokens=16)
    assert (answer.text, answer.error, answer.finish) == (None, USED_UP, "length")
    assert answer.reasoning == "on and on and on"[: 16 - len(opening)]
    assert answer.completion_tokens == 16


def test_a_thought_that_ends_without_an_answer_is_an_empty_answer(tmp_path):
    answer = reads_and_says(tmp_path, THINKS, "hm")
    assert (answer.text, answer.reasoning, answer.error, answer.finish) == ("", "hm", None, "stop")


def test_a_tag_in_the_example_opens_no_thought(tmp_path):
    answer = reads_and_says(tmp_path, CHATML, "So.", prompt="What does this tag mean: <think>")
    assert (answer.text, answer.reasoning) == ("So.", None)


@pytest.mark.parametrize(
    ("text", "expected"), [("why", ("why", "")), ("why</think>So.", ("why", "So.")), ("", (None, ""))]
)
def test_what_follows_an_open_thought_belongs_to_it(text, expected):
    assert split_reasoning(text, opened=True) == expected


def with_template(folder, build):
    name = build(folder)
    byte_tokenizer(end="</s>", template=CHATML, ends_inputs=True).save_pretrained(folder)
    return name


@pytest.mark.parametrize("build", [bart, t5])
@pytest.mark.parametrize(
    "task",
    [Task(prompt="Hi."), TextGeneration("Hi."), Translation("en", "de", prompt="Hi.")],
    ids=lambda task: task.kind,
)
def test_a_chat_template_goes_before_the_plain_text_of_an_encoder_decoder(tmp_path, build, task):
    model = load(with_template(tmp_path, build), task)
    assert model.details["prompt"] == "chat: instruction as system prompt"
    request = models.Conversation(task).request(Example(0, "ab"))
    encoded = model._encode(request)
    assert encoded.prompt.endswith("<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n")


def overwrite(file, content):
    return lambda folder: (folder / file).write_bytes(content)


def halve(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def configure(**fields):
    def write(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return write


def pickled(content):
    def write(folder):
        (folder / WEIGHTS).unlink()
        (folder / "pytorch_model.bin").write_bytes(content)

    return write


def saved_tensors():
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(99)}, buffer)
    return buffer.getvalue()


DAMAGES = {
    "weights cut short": halve,
    "weights that are text": overwrite(WEIGHTS, b"<html>not found</html>" * 20),
    "weights that are zeros": overwrite(WEIGHTS, bytes(1000)),
    "empty weights": overwrite(WEIGHTS, b""),
    "weights left to git lfs": overwrite(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\nsize 12345\n"),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "weights of another size": configure(hidden_size=64),
    "pickle cut short": pickled(saved_tensors()[:300]),
    "pickle that is text": pickled(b"garbage" * 99),
    "empty pickle": pickled(b""),
    "configuration that is text": overwrite("config.json", b"<html>"),
    "configuration that is no text": overwrite("config.json", b"\xff\xfe\x00\x81"),
    "configuration that is a list": overwrite("config.json", b"[1]"),
    "configuration with words for numbers": configure(hidden_size="large"),
    "configuration with unknown parts": configure(hidden_act="no-such-function"),
    "configuration with no heads": configure(num_attention_heads=0),
    "tokenizer that is text": overwrite("tokenizer.json", b"{"),
    "tokenizer without parts": overwrite("tokenizer.json", b"{}"),
    "tokenizer settings that are a list": overwrite("tokenizer_config.json", b"[]"),
    "generation settings that are a list": overwrite("generation_config.json", b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_files_are_explained(tmp_path, damage):
    name = llama(tmp_path)
    damage(tmp_path)
    with pytest.raises(UnknownModelError) as caught:
        load(name)
    assert caught.value.message.startswith(f"model {name!r} (folder {tmp_path}) cannot be loaded: ")
    assert f"a file in {tmp_path} may be damaged" in caught.value.hint
    assert "weights_only" not in str(caught.value)


def test_a_damaged_gguf_file_is_explained(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF\x03\0\0\0" + (1).to_bytes(8, "little") * 2 + b"cut")
    with pytest.raises(UnknownModelError, match=rf"\(file {file}\) cannot be loaded: .+\nHint: .*damaged"):
        load(f"hf/{file}")


def clutter(folder: Path) -> None:
    for name in (".git", "logs", "checkpoint-500"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
    for name in ("README.md", ".gitattributes", "log.txt", "training_args.bin", "trainer_state.json", "optimizer.pt"):
        (folder / name).write_text("other")
    (folder / "all_results.json").write_text("{}")


def test_what_else_lies_in_its_folder_does_not_make_it_another_model(tmp_path):
    name = llama(tmp_path)
    before = models.identify(Model(name))
    clutter(tmp_path)
    assert models.identify(Model(name)) == before
    os.utime(tmp_path / "README.md", (1, 1))
    assert models.identify(Model(name)) == before


@pytest.mark.parametrize(
    "file",
    [
        *("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors", "model.safetensors.index.json"),
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"),
        *("special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "source.spm"),
        *("chat_template.jinja", "modeling_own.py", "adapter_model.safetensors", "adapter_config.json"),
    ],
)
def test_what_decides_its_answers_makes_it_another_model(tmp_path, file):
    (tmp_path / "config.json").write_text("{}")
    before = models.identify(Model(f"hf/{tmp_path}"))
    (tmp_path / file).write_text("changed")
    assert models.identify(Model(f"hf/{tmp_path}")) != before
