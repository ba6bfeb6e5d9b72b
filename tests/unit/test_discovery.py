"""Models that the machine has already: found at real servers over HTTP, in a cache and in a folder."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import lumigator_nb as lm
from lumigator_nb.errors import ConfigurationError, UnknownModelError
from lumigator_nb.models import discovery
from lumigator_nb.models.discovery import Server
from lumigator_nb.presentation.launch.models import _missing
from lumigator_nb.services.models import Models
from lumigator_nb.workspace import doctor
from lumigator_testing.client import ModelServer

TAGS = {
    "models": [
        {
            "name": "qwen3:4b", "model": "qwen3:4b", "size": 2_600_000_000, "digest": "ab",
            "capabilities": ["completion", "tools"],
            "details": {"family": "qwen3", "parameter_size": "4.0B", "context_length": 40_960},
        },
        {"name": "older:latest", "model": "older:latest", "size": "?", "details": {"parameter_size": "many"}},
        {"name": "gpt-oss:120b-cloud", "model": "gpt-oss:120b-cloud", "remote_host": "https://ollama.com:443"},
        {"name": "embeds:latest", "model": "embeds:latest", "capabilities": ["embedding"]},
        {"name": "nomic-embed-text:latest", "model": "nomic-embed-text:latest", "details": {"family": "nomic-bert"}},
    ]
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers as the test says, and counts what was asked."""

    answers: Callable[[Handler], None]
    asked: Counter[str]

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        type(self).answers(self)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked[self.path] += 1
        message = {"role": "assistant", "content": f"{body['model']} has answered"}
        self.reply({"id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}})  # fmt: skip

    def reply(self, payload: object, status: int = 200, **headers: str) -> None:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(answers: Callable[[Handler], None]) -> Iterator[tuple[int, Counter[str]]]:
    asked: Counter[str] = Counter()
    kind = type("OneHandler", (Handler,), {"answers": staticmethod(answers), "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.handle_error = lambda *_: None  # the client hangs up in some tests
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def patient(monkeypatch) -> None:
    """Servers of a busy machine may take their time; what hangs is given less in its own tests."""
    monkeypatch.setattr(discovery, "TIMEOUT_S", 10.0)


def ollama(handler: Handler) -> None:
    handler.reply(TAGS if handler.path == "/api/tags" else {}, 200 if handler.path == "/api/tags" else 404)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(tmp_path: Path, servers: str = "none", **values: Any) -> lm.Settings:
    return lm.Settings(
        lumigator_home=tmp_path, lumigator_discovery=True, lumigator_model_servers=servers, hf_home=tmp_path / "hf",
        **values,
    )  # fmt: skip


def test_models_of_an_ollama_server_come_first_with_their_facts(tmp_path) -> None:
    with serving(ollama) as (port, _):
        listed = Models(settings(tmp_path, f"ollama={port}")).list()
    assert [model.name for model in listed[:4]] == [
        "ollama/qwen3:4b", "ollama/older:latest", "ollama/gpt-oss:120b-cloud", "baseline/lead-3",
    ]  # fmt: skip
    model = listed[0]
    assert (model.parameters, model.size_gb, model.context_tokens) == (4 * 10**9, 2.6, 40_960)
    assert model.obstacle({}) is None
    assert listed[1].size_gb is None
    assert "sends all texts on to https://ollama.com" in listed[2].notes
    assert "ollama/qwen3:4b" in str(listed)


def test_a_found_model_needs_nothing_on_screens(tmp_path) -> None:
    with serving(ollama) as (port, _):
        entry = Models(settings(tmp_path, f"ollama={port}")).get("ollama/qwen3:4b")
    assert _missing(entry, set(), here=True) is None
    suggestion = _missing(entry.model_copy(update={"found": None}), set(), here=True)
    assert suggestion is not None
    assert suggestion.text == "Needs a server"


def test_a_found_model_is_launched_by_the_name_in_the_list(tmp_path) -> None:
    with serving(ollama) as (port, asked):
        model = Models(settings(tmp_path, f"ollama={port}")).get("ollama/qwen3:4b").model()
        answers = lm.models.predict(model, ["One."])
    assert (model.label, model.base_url) == ("ollama/qwen3:4b", f"http://127.0.0.1:{port}/v1")
    assert [answer.text for answer in answers] == ["qwen3:4b has answered"]
    assert asked["/v1/chat/completions"] == 1


@pytest.mark.parametrize("provider", ["ollama", "lmstudio"])
def test_usual_servers_need_no_library_of_their_own(provider) -> None:
    if find_spec(provider):
        pytest.skip("its own library is installed, which asks in another protocol")
    model = lm.Model(f"{provider}/qwen3:4b")
    lm.models.check(model)
    assert lm.models.key(model) is None or not lm.models.key(model).required
    assert lm.models.speaks_openai(model)
    assert lm.models.follows_no_redirects(model)
    port = {"ollama": 11434, "lmstudio": 1234}[provider]
    for host in ("localhost", "127.0.0.1"):
        assert lm.models.is_own_address(lm.Model(f"{provider}/x", base_url=f"http://{host}:{port}/v1"))
    assert not lm.models.is_own_address(lm.Model(f"{provider}/x", base_url=f"http://example.org:{port}/v1"))


def test_models_of_other_servers(tmp_path) -> None:
    with ModelServer(models=["lead-1", "text-embedding-x"]) as one, ModelServer(api_key="sk-0123456789") as two:
        ports = [int(server.url.rpartition(":")[2]) for server in (one, two)]
        servers = f"vllm={ports[0]}, lmstudio={ports[1]}"
        found = discovery.look(settings(tmp_path, servers))
    assert [model.name for model in found.models] == ["vllm/lead-1"]
    assert [check.problem for check in found.servers] == [None, "asks for an API key"]


def test_a_llama_cpp_server_is_named_after_its_file() -> None:
    row = {"id": "/home/me/models/Qwen3-4B-Q4.gguf", "owned_by": "llamacpp", "meta": {"n_params": 7, "n_ctx": 512}}
    with serving(lambda handler: handler.reply({"models": [{}], "data": [row]})) as (port, _):
        (model,) = discovery.check(Server("llamacpp", port)).models
    assert (model.name, model.parameters, model.context_tokens) == ("llamacpp/Qwen3-4B-Q4", 7, 512)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (lambda handler: handler.reply(b"<!doctype html><title>Hello</title>"), "no list of models"),
        (lambda handler: handler.reply({"data": "none"}), "no list of models"),
        (lambda handler: handler.reply([1, 2]), "no list of models"),
        (lambda handler: handler.reply(b"[" * 100_000), "no list of models"),
        (lambda handler: handler.reply({"data": [None, {"id": 5}, {"id": "\x1b[31m"}]}), "has no language model"),
        (lambda handler: handler.reply({"data": []}), "has no language model"),
        (lambda handler: handler.reply(b"", 302, Location="http://example.org/v1/models"), "HTTP 302"),
        (lambda handler: handler.reply({}, 404), "HTTP 404"),
        (lambda handler: handler.reply({}, 500), "HTTP 500"),
        (lambda handler: handler.reply({}, 401), "asks for an API key"),
        (lambda handler: handler.reply(b" " * (2**20 + 2)), "more than 1 MiB"),
        (lambda handler: handler.wfile.write(b"220 smtp.example.org ESMTP\r\n"), "no list of models"),
        (lambda handler: None, "no list of models"),
    ],
)  # fmt: skip
def test_what_else_answers_at_a_port_is_no_model_server(answers, problem) -> None:
    with serving(answers) as (port, _):
        check = discovery.check(Server("vllm", port))
    assert check.models == ()
    assert problem in check.problem


def drip(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(40):
        handler.wfile.write(b"X-Y: z\r\n")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize("answers", [lambda handler: time.sleep(1), drip], ids=["hangs", "drips"])
def test_a_server_has_little_time_in_all(answers, monkeypatch) -> None:
    monkeypatch.setattr(discovery, "TIMEOUT_S", 0.2)
    with serving(answers) as (port, asked):
        check = discovery.check(Server("ollama", port))
    assert check == discovery.ServerCheck(Server("ollama", port), (), "gives no answer within 0.2 s", late=True)
    assert asked == {"/api/tags": 1}, "a second path is not tried"


def test_a_busy_server_keeps_its_models_and_one_that_is_gone_does_not(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(discovery, "KEPT_S", -1.0)
    busy = threading.Event()
    with serving(lambda handler: (busy.is_set() and time.sleep(1)) or ollama(handler)) as (port, asked):
        chosen = Models(settings(tmp_path, f"ollama={port}"))
        assert len(chosen.list(provider="ollama")) == 3
        busy.set()
        monkeypatch.setattr(discovery, "TIMEOUT_S", 0.1)
        assert len(chosen.list(provider="ollama")) == 3
        assert asked == {"/api/tags": 2}
    assert len(chosen.list(provider="ollama")) == 0


def test_the_number_of_models_of_a_server_is_limited() -> None:
    rows = [{"id": f"m{number}"} for number in range(1000)]
    with serving(lambda handler: handler.reply({"data": rows})) as (port, _):
        assert len(discovery.check(Server("vllm", port)).models) == 200


def test_nothing_listens(tmp_path) -> None:
    found = discovery.look(settings(tmp_path, f"ollama={free_port()},vllm={free_port()}"))
    assert found.models == ()
    assert [check.problem for check in found.servers] == [None, None]


def test_many_lists_ask_a_server_once(tmp_path) -> None:
    with serving(ollama) as (port, asked):
        chosen = Models(settings(tmp_path, f"ollama={port}"))
        threads = [threading.Thread(target=chosen.list) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert asked == {"/api/tags": 1}
        chosen.get("baseline/lead-3")
        with pytest.raises(UnknownModelError, match="did you mean 'ollama/qwen3:4b'"):
            chosen.get("ollama/qwen3:4bb")
        assert asked == {"/api/tags": 1}


def test_a_catalogue_entry_wins_over_a_found_model(tmp_path) -> None:
    (tmp_path / "models.yaml").write_text(
        "- {name: 'ollama/qwen3:4b', display_name: Ours, tasks: [translation], base_url: 'http://ours:1/v1'}\n"
    )
    with serving(ollama) as (port, _):
        chosen = Models(settings(tmp_path, f"ollama={port}"))
        assert next(iter(chosen.list())).display_name == "Ours"
        assert chosen.get("ollama/qwen3:4b").base_url == "http://ours:1/v1"


def test_the_entry_for_any_model_of_a_server_gives_way_to_its_models(tmp_path) -> None:
    ours = "- {{name: llamacpp/default, display_name: Any, tasks: [translation], base_url: 'http://localhost:{}/v1'}}\n"
    rows = {"data": [{"id": "one"}]}
    with serving(lambda handler: handler.reply(rows)) as (port, _):
        (tmp_path / "models.yaml").write_text(ours.format(port))
        chosen = Models(settings(tmp_path, f"llamacpp={port}"))
        assert [model.name for model in chosen.list(provider="llamacpp")] == ["llamacpp/one"]
        assert chosen.get("llamacpp/default").display_name == "Any"


@pytest.mark.parametrize("values", [{"lumigator_discovery": False}, {"ray_address": "http://cluster:8265"}])
def test_nothing_is_asked_where_it_is_off_or_the_cluster_is_elsewhere(tmp_path, values) -> None:
    with serving(ollama) as (port, asked):
        chosen = Models(settings(tmp_path, f"ollama={port}").model_copy(update=values))
        assert all(model.found is None for model in chosen.list())
    assert not asked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ollama", "'ollama' is not PROVIDER=PORT"),
        ("ollama=0", "is not PROVIDER=PORT"),
        ("ollama=65536", "is not PROVIDER=PORT"),
        ("ollama=²", "is not PROVIDER=PORT"),
        ("olama=11434", "unknown provider 'olama'"),
        ("11434", "unknown provider '11434'"),
    ],
)
def test_a_malformed_list_of_servers_is_refused(tmp_path, text, words) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Models(settings(tmp_path, text)).list()


def cache(tmp_path: Path, name: str, config: object, weights: str = "model.safetensors") -> Path:
    repository = tmp_path / "hf" / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    (snapshot / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights:
        (snapshot / weights).write_bytes(b"0" * 2_000_000)
    return snapshot


def test_language_models_in_the_hubs_cache(tmp_path) -> None:
    chat = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "max_position_embeddings": 40_960}
    cache(tmp_path, "Qwen/Qwen3-0.6B", chat)
    cache(tmp_path, "Helsinki-NLP/opus-mt-de-en", {"architectures": ["MarianMTModel"], "model_type": "marian"})
    cache(tmp_path, "gpt2", {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "pytorch_model.bin")
    cache(
        tmp_path, "facebook/bart-large-cnn", {"architectures": ["BartForConditionalGeneration"], "model_type": "bart"}
    )
    cache(tmp_path, "x/embeds", {"architectures": ["BertModel"], "model_type": "bert"})
    cache(tmp_path, "x/hears", {"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper"})
    cache(tmp_path, "x/interrupted", chat, weights="")
    cache(tmp_path, "x/damaged", "{")
    cache(tmp_path, "x/odd", [3])
    (tmp_path / "hf" / "hub" / "models--x--empty").mkdir()
    (tmp_path / "hf" / "hub" / "datasets--x--y").mkdir()
    found = discovery.look(settings(tmp_path)).cached
    assert {model.name: model.tasks for model in found} == {
        "hf/Helsinki-NLP/opus-mt-de-en": ("translation",),
        "hf/Qwen/Qwen3-0.6B": ("summarization", "translation", "text_generation", "classification"),
        "hf/facebook/bart-large-cnn": ("summarization",),
        "hf/gpt2": ("summarization", "translation", "text_generation", "classification"),
    }
    assert (found[1].size_gb, found[1].context_tokens) == (0.002, 40_960)
    # The catalogue knows more of this one.
    listed = {model.name: model for model in Models(settings(tmp_path)).list()}
    assert listed["hf/facebook/bart-large-cnn"].licence == "MIT"


def test_gguf_files_in_the_hubs_cache(tmp_path) -> None:
    snapshot = cache(tmp_path, "Qwen/Qwen3-GGUF", {}, "qwen3-q4.gguf")
    (snapshot / "qwen3-q4.gguf").write_bytes(b"GGUF\x03")
    (found,) = discovery.look(settings(tmp_path)).cached
    assert (found.name, found.found) == ("gguf/Qwen/Qwen3-GGUF/qwen3-q4.gguf", "hub cache")


def test_gguf_files_of_a_folder(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "my models"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.gguf", "deep/a.GGUF", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "mmproj-b.gguf"):
        (folder / name).write_bytes(b"GGUF\x03")
    (folder / "half.gguf").write_bytes(b"")
    (folder / "page.gguf").write_bytes(b"<html>")
    (folder / "notes.txt").write_bytes(b"GGUF")
    (folder / "gone.gguf").symlink_to(folder / "nowhere")
    found = discovery.look(settings(tmp_path, lumigator_gguf_folder=folder)).files
    assert [model.name.partition("/")[2] for model in found] == [
        f"{folder}/{name}" for name in ("b.gguf", "big-00001-of-00002.gguf", "deep/a.GGUF")
    ]
    assert lm.models.is_local_path(found[0].model())


def test_the_folder_of_gguf_files_is_relative_to_the_file_of_settings(tmp_path, monkeypatch) -> None:
    (tmp_path / ".env").write_text("LUMIGATOR_GGUF_FOLDER=weights\n")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert lm.config.load().lumigator_gguf_folder == tmp_path / "weights"


def test_the_doctor_tells_what_was_found(tmp_path) -> None:
    cache(tmp_path, "gpt2", {"architectures": ["GPT2LMHeadModel"]})
    silent = free_port()
    with serving(ollama) as (port, _), serving(lambda handler: handler.reply({}, 404)) as (other, _):
        servers = f"ollama={port},vllm={other},llamacpp={silent}"
        chosen = settings(tmp_path, servers, lumigator_gguf_folder=tmp_path / "nowhere")
        found = {finding.message: finding.state for finding in doctor._models_here(chosen)}
    assert found == {
        f"Ollama at port {port}: ollama/qwen3:4b, ollama/older:latest and ollama/gpt-oss:120b-cloud": "ok",
        f"port {other}, the usual one of vLLM: it is no model server: HTTP 404 for /v1/models": "note",
        f"no server at port {silent} (llama.cpp)": "ok",
        f"in the hub's cache {tmp_path / 'hf' / 'hub'}: hf/gpt2": "ok",
        f"LUMIGATOR_GGUF_FOLDER names {tmp_path / 'nowhere'}, which is no folder": "wrong",
    }


def test_the_doctor_tells_why_nothing_is_looked_for(tmp_path) -> None:
    off = settings(tmp_path).model_copy(update={"lumigator_discovery": False})
    wrong = settings(tmp_path, "ollama=x")
    assert ["off" in finding.message for finding in doctor._models_here(off)] == [True]
    assert [finding.state for finding in doctor._models_here(wrong)] == ["wrong"]
