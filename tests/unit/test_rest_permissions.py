"""What REST callers may have a model do: be sent secrets, run code, read files, ask addresses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from lumigator_nb import models
from lumigator_nb.config import load
from lumigator_nb.errors import ConfigurationError
from lumigator_nb.models import discovery
from lumigator_nb.models.providers.api_settings import provider_in_name
from lumigator_nb.rest.app import make_app
from lumigator_nb.rest.permissions import _is_public
from lumigator_nb.services.models import Models
from lumigator_nb.specs import Model

API = "/api/v1"
VALUE = "TOP-VALUE-123456"
OPENAI = {"provider": "openai", "model": "m"}


class Recorder(BaseHTTPRequestHandler):
    """Answers as OpenAI does, notes the keys that arrive, and sends what is asked below /moved on to /v1."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers.get("Authorization"))
        self.server.headers = str(self.headers)
        if self.path.startswith("/moved"):
            self.send_response(307)
            self.send_header("Location", "/v1/chat/completions")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        message = {"role": "assistant", "content": "yes"}
        choice, known = (
            {"index": 0, "message": message, "finish_reason": "stop"},
            {"id": "1", "created": 1, "model": "m"},
        )
        body = json.dumps({**known, "object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        server.keys = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def address(recorder) -> str:
    return f"http://127.0.0.1:{recorder.server_port}/v1"


@pytest.fixture
def dataset(inline_ws):
    return inline_ws.datasets.upload(
        pd.DataFrame({"example": ["One. Two."], "ground_truth": ["One."]}), name="texts"
    ).id


@pytest.fixture
def client(services) -> Iterator[TestClient]:
    with TestClient(make_app(services), base_url="http://localhost") as made:
        yield made


@pytest.fixture
def asked(client, dataset):
    """Ask for an inference job, and return the answer."""

    def ask(token: str | None = None, **config):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = {"name": "x", "dataset": dataset, "job_config": config}
        return client.post(f"{API}/jobs/inference", json=body, headers=headers)

    return ask


def test_no_variable_of_the_server_is_sent(asked, inline_ws, recorder, address, monkeypatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", VALUE)
    for name in ("SOME_TOKEN", "some_token"):
        refused = asked(**OPENAI, base_url=address, secret_key_name=name)
        assert (refused.status_code, "no secret" in refused.json()["detail"]) == (422, True)
    for name in ("PATH", "HOME"):
        assert asked(**OPENAI, base_url=address, secret_key_name=name).status_code == 422
    # Also not in place of a secret that has its name and may be sent there.
    inline_ws.secrets.set("some_token", "another-value")
    inline_ws.settings.lumigator_rest_keys = f"SOME_TOKEN={address}"
    assert asked(**OPENAI, base_url=address, secret_key_name="some_token").status_code == 422
    assert recorder.keys == []


def test_a_secret_goes_to_the_provider_in_its_name_alone(asked, inline_ws, cluster, recorder, address) -> None:
    cluster.execute = False
    for name in ("openai_api_key", "team_openai_key", "team_secret"):
        inline_ws.secrets.set(name, VALUE)
    assert asked(**OPENAI, secret_key_name="openai_api_key").status_code == 201
    assert asked(**OPENAI, secret_key_name="team_openai_key").status_code == 201
    assert asked(**OPENAI, base_url="https://api.openai.com/v1/", secret_key_name="openai_api_key").status_code == 201
    for more in (
        {"base_url": address, "secret_key_name": "openai_api_key"},
        {"base_url": "https://api.openai.com.example.org/v1", "secret_key_name": "openai_api_key"},
        {"provider": "mistral", "secret_key_name": "openai_api_key"},
        {"provider": "vllm", "secret_key_name": "openai_api_key"},
        {"secret_key_name": "team_secret"},
    ):
        refused = asked(**{**OPENAI, **more})
        assert refused.status_code == 403, more
        assert "LUMIGATOR_REST_KEYS" in refused.json()["hint"]
        assert VALUE not in refused.text


def test_settings_bind_a_secret_to_another_address(asked, inline_ws, cluster, recorder, address, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-this-cluster")
    monkeypatch.setattr(cluster, "secret", lambda: "of-this-cluster")
    monkeypatch.setenv("TEAM_SECRET", "")  # a worker puts it there, and here it is this process
    inline_ws.secrets.set("team_secret", VALUE)
    inline_ws.settings.lumigator_rest_keys = f"team_secret={address}/, TEAM_SECRET=openai"
    assert asked(**OPENAI, base_url=address, secret_key_name="team_secret").status_code == 201
    assert recorder.keys == [f"Bearer {VALUE}"]
    monkeypatch.setenv("TEAM_SECRET", "")
    cluster.execute = False
    assert asked(**OPENAI, secret_key_name="team_secret").status_code == 201
    assert asked(**OPENAI, base_url=f"{address}/other", secret_key_name="team_secret").status_code == 403


def test_no_request_has_the_value_of_a_secret_stored(client, dataset, asked, inline_ws) -> None:
    inline_ws.secrets.set("team_secret", VALUE)
    text, job = f"about {VALUE}", {"provider": "baseline", "model": "lead-1"}
    experiment = client.post(f"{API}/experiments", json={"name": "x", "dataset": dataset, "metrics": ["rouge"]}).json()
    begun = {"experiment_id": experiment["id"], "name": "x", **job}
    for path, body in (
        ("experiments", {"name": text, "dataset": dataset}),
        ("experiments", {"name": "y", "dataset": dataset, "description": text}),
        ("workflows", {**begun, "name": text}),
        ("workflows", {**begun, "description": text}),
        ("workflows", {**begun, **OPENAI, "system_prompt": text}),
        ("workflows", {**begun, **OPENAI, "base_url": f"http://127.0.0.1:9/{VALUE}/v1"}),
        ("jobs/inference", {"name": text, "dataset": dataset, "job_config": job}),
        ("jobs/annotate", {"name": "x", "dataset": dataset, "description": text, "job_config": job}),
        ("jobs/inference", {"name": "x", "dataset": dataset, "job_config": {**job, "system_prompt": text}}),
    ):
        refused = client.post(f"{API}/{path}", json=body)
        assert (refused.status_code, "TEAM_SECRET" in refused.json()["detail"]) == (422, True), (path, refused.text)
        assert VALUE not in refused.text
    upload = client.post(f"{API}/datasets", files={"dataset": (f"{VALUE}.csv", b"example\nOne.\n")})
    assert (upload.status_code, VALUE in upload.text) == (422, False)
    assert client.put(f"{API}/settings/secrets/ld_preload", json={"value": "x", "description": ""}).status_code == 422


@pytest.mark.parametrize(("name", "owner"), [
    ("OPENAI_API_KEY", "openai"), ("MY_OPENAI_KEY_2", "openai"), ("AZURE_OPENAI_API_KEY", "azureopenai"),
    ("MISTRAL_KEY", "mistral"), ("TEAM_SECRET", None), ("OPEN_SESAME", None),
])  # fmt: skip
def test_names_say_whose_a_key_is(name, owner) -> None:
    assert provider_in_name(name) == owner


def test_bindings_are_checked_where_they_are_read() -> None:
    with pytest.raises(ConfigurationError, match="NAME=address"):
        _ = load(lumigator_rest_keys="TEAM_SECRET").rest_keys


def test_code_of_a_model_is_not_run(asked, inline_ws, cluster) -> None:
    cluster.execute = False
    config = {"provider": "hf", "model": "owner/name", "trust_remote_code": True}
    write, admin = (inline_ws.tokens.create(scope, scope=scope) for scope in ("write", "admin"))
    for token in (None, write):
        refused = asked(token, **config)
        assert (refused.status_code, "LUMIGATOR_REST_TRUST_REMOTE_CODE" in refused.json()["hint"]) == (403, True)
    assert asked(admin, **config).status_code == 201
    inline_ws.settings.lumigator_rest_trust_remote_code = True
    assert asked(write, **config).status_code == 201


def test_paths_of_the_server_are_not_looked_at(asked, inline_ws, cluster) -> None:
    cluster.execute = False
    write, admin = (inline_ws.tokens.create(scope, scope=scope) for scope in ("write", "admin"))
    for path in ("/etc/passwd", "/nowhere", "~/x", "./x", "../x", "x.gguf"):
        for token in (None, write):
            refused = asked(token, provider="hf", model=path)
            assert (refused.status_code, "LUMIGATOR_REST_LOCAL_MODELS" in refused.json()["hint"]) == (403, True), path
    assert asked(admin, provider="hf", model="/nowhere").status_code == 422
    inline_ws.settings.lumigator_rest_local_models = True
    assert asked(write, provider="hf", model="/nowhere").status_code == 422


NOT_PUBLIC = (
    "http://127.0.0.1:8961/v1", "http://localhost/v1", "http://[::1]:80/v1", "http://10.1.2.3/v1", "http://2130706433/",
    "http://169.254.169.254/latest", "http://192.168.0.1/v1", "http://[fe80::1]/v1", "http://[::ffff:127.0.0.1]/v1",
    "http://0.0.0.0/v1", "http://[64:ff9b::7f00:1]/v1", "http://nowhere.invalid/v1", "http://a\\@b/v1", "nonsense",
)  # fmt: skip


def test_a_server_for_others_asks_nothing_of_its_own_network(client, services, dataset, asked) -> None:
    services.local = False
    experiment = client.post(f"{API}/experiments", json={"name": "x", "dataset": dataset, "metrics": ["rouge"]}).json()
    for url in NOT_PUBLIC:
        assert asked(**OPENAI, base_url=url).status_code in (403, 422), url
    url = NOT_PUBLIC[0]
    judge = {"model_name": "m", "model_base_url": url}
    for path, body in (
        ("workflows", {"name": "x", "experiment_id": experiment["id"], **OPENAI, "base_url": url}),
        (f"experiments/{experiment['id']}/estimate", {"models": [{**OPENAI, "base_url": url}]}),
        (f"experiments/{experiment['id']}/select", {"models": [{**OPENAI, "base_url": url}] * 2}),
        ("jobs/evaluator", {"name": "x", "dataset": dataset, "job_config": {
            "metrics": ["g_eval_summarization"], "llm_as_judge": judge,
        }}),
    ):  # fmt: skip
        assert client.post(f"{API}/{path}", json=body).status_code == 403, path


def test_what_may_be_sent_on_elsewhere_is_not_asked_for_others(asked, services, cluster) -> None:
    cluster.execute = False
    named = {"provider": "llamafile", "model": "m", "base_url": "http://93.184.216.34/v1"}
    assert asked(**named).status_code == 201
    services.local = False
    assert asked(**named).status_code == 403
    assert asked(**{**named, "provider": "openai"}).status_code == 201


def test_hosts_that_settings_name_are_asked(asked, services, recorder, address) -> None:
    services.local = False
    services.ws.settings.lumigator_rest_hosts = "other, 127.0.0.1:1"
    refused = asked(**OPENAI, base_url=address)
    assert (refused.status_code, refused.json()["hint"]) == (
        403, "start the server with LUMIGATOR_REST_HOSTS=127.0.0.1",
    )  # fmt: skip
    services.ws.settings.lumigator_rest_hosts = f"other, 127.0.0.1:{recorder.server_port}"
    assert asked(**OPENAI, base_url=address).status_code == 201
    assert recorder.keys == ["Bearer no-key"]


def test_on_this_machine_alone_every_address_may_be_asked(asked, recorder, address) -> None:
    assert asked(**OPENAI, base_url=address).status_code == 201
    assert recorder.keys == ["Bearer no-key"]


@pytest.mark.parametrize("more", [
    {"provider": "anthropic", "base_url": "http://127.0.0.1:9/v1"},  # sends ANTHROPIC_AUTH_TOKEN of the environment
    {"provider": "azureopenai", "base_url": "http://127.0.0.1:9/v1"},
    {"provider": "huggingface", "model": "https://example.org/m"},  # asks that address, with HF_TOKEN
])  # fmt: skip
def test_no_library_sends_keys_of_the_environment_elsewhere(asked, more) -> None:
    assert asked(**{**OPENAI, **more}).status_code == 403


@pytest.mark.parametrize("provider", ["openai", "llamafile"])
def test_headers_of_the_environment_stay_here(asked, recorder, address, monkeypatch, provider) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Gateway-Key: {VALUE}\nAuthorization: Bearer {VALUE}")
    monkeypatch.setenv("OPENAI_ORG_ID", VALUE)
    assert asked(provider=provider, model="m", base_url=address).status_code == 201
    assert len(recorder.keys) == 1
    assert VALUE not in recorder.headers


@pytest.mark.parametrize(("text", "public"), [
    ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("100.64.0.1", False), ("224.0.0.1", False), ("::", False),
    ("fe80::1%eth0", False), ("fd00::1", False), ("2002:7f00:1::", False), ("64:ff9b::a00:1", False),
])  # fmt: skip
def test_what_is_public(text, public) -> None:
    assert _is_public(text) is public


def test_a_server_that_sends_on_elsewhere_is_not_followed(recorder) -> None:
    moved = Model("m", provider="openai", base_url=f"http://127.0.0.1:{recorder.server_port}/moved", retry_for=0)
    with pytest.raises(ConfigurationError, match="redirects to /v1/chat/completions"):
        models.predict(moved, ["text"])
    assert len(recorder.keys) == 1


@pytest.mark.parametrize("local", [True, False])
def test_models_of_the_servers_machine_are_listed_if_the_caller_may_launch_them(
    services, tmp_path, monkeypatch, local
) -> None:
    """Not paths, nor servers at unusual ports where others reach this server."""
    monkeypatch.setattr(discovery, "TIMEOUT_S", 10.0)
    (tmp_path / "one.gguf").write_bytes(b"GGUF")
    rows = {"data": [{"id": "a-model"}]}

    class Listing(Recorder):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(rows).encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Listing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        chosen = load(
            lumigator_discovery=True, lumigator_model_servers=f"vllm={server.server_port}",
            lumigator_gguf_folder=tmp_path, hf_home=tmp_path,
        )  # fmt: skip
        services.ws.models, services.local = Models(chosen), local
        assert len([model for model in services.ws.models.list() if model.found]) == 2
        with TestClient(make_app(services), base_url="http://localhost") as client:
            items = client.get(f"{API}/models").json()["items"]
        server.shutdown()
    names = {(item["provider"], item["model"]) for item in items}
    assert ("baseline", "lead-3") in names
    assert (("vllm", "a-model") in names) is local
    assert "one.gguf" not in json.dumps(items)
