"""The MCP server, in this process: what an assistant can do, and what it cannot."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager

import pytest
from commands import Command

pytest.importorskip("mcp", reason="pip install 'lumigator-nb[mcp]'")

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from lumigator_nb.mcp.server import PATH, Server

TEXTS = [f"Case {n} came in. It was about a broken cup. Support sent a new one." for n in range(12)]
CSV = "ticket,summary\n" + "".join(f"{text},Case {n} came in.\n" for n, text in enumerate(TEXTS))
COLUMNS = {"filename": "tickets.csv", "content": CSV, "example": "ticket", "ground_truth": "summary"}
BASELINES = [{"model": "baseline/lead-1"}, {"model": "baseline/copy"}]


class Assistant:
    """Calls tools of a server, each over a connection of its own."""

    def __init__(self, connect) -> None:
        self._connect = connect

    def tools(self):
        async def ask():
            async with self._connect() as client:
                return (await client.list_tools()).tools

        return anyio.run(ask)

    def ask(self, tool: str, **arguments):
        async def ask():
            async with self._connect() as client:
                return await client.call_tool(tool, arguments)

        return anyio.run(ask)

    def get(self, tool: str, **arguments) -> dict:
        result = self.ask(tool, **arguments)
        assert not result.is_error, result.content
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    def refused(self, tool: str, **arguments) -> str:
        result = self.ask(tool, **arguments)
        assert result.is_error, result.structured_content
        return result.content[0].text


@pytest.fixture
def assistant(inline_ws, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    return Assistant(lambda: Client(Server(inline_ws, folder=folder, needs_token=False)))


@pytest.fixture
def experiment(assistant) -> str:
    assistant.get("upload_dataset", **COLUMNS)
    made = assistant.get("create_experiment", name="short", dataset="tickets", task="summarization")
    return made["name"]


@pytest.fixture
def over_http(inline_ws):
    """Makes assistants that use the application over HTTP, each with its token."""

    def made(token: str) -> Assistant:
        headers = {"Authorization": f"Bearer {token}"}

        @asynccontextmanager
        async def connect():
            app = Server(inline_ws, needs_token=True).http_app()  # it starts only once
            async with app.router.lifespan_context(app):
                transport = httpx2.ASGITransport(app)
                async with (
                    httpx2.AsyncClient(transport=transport, headers=headers) as http,
                    Client(streamable_http_client(f"http://localhost{PATH}", http_client=http)) as client,
                ):
                    yield client

        return Assistant(connect)

    return made


def test_an_assistant_comes_from_a_dataset_to_a_verdict(assistant, experiment) -> None:
    assert assistant.get("list_datasets")["datasets"][0]["examples"] == 12
    rows = assistant.get("show_dataset", dataset="tickets", limit=2)["rows"]
    assert [row["example"] for row in rows] == TEXTS[:2]
    estimates = assistant.get("estimate", experiment=experiment, models=BASELINES)["estimates"]
    assert [(row["model"], row["dollars"]) for row in estimates] == [("baseline/lead-1", 0.0), ("baseline/copy", 0.0)]
    launched = assistant.get("launch", experiment=experiment, models=BASELINES)
    assert [row["model"] for row in launched["models"]] == ["baseline/lead-1", "baseline/copy"]
    progress = assistant.get("progress", experiment=experiment, wait=50)
    assert (progress["ended"], {row["status"] for row in progress["models"]}) == (True, {"succeeded"})
    comparison = assistant.get("compare", experiment=experiment, score="rougeL")
    assert comparison["verdict"].startswith("baseline/lead-1 has the highest rougeL (1.000).")
    best = comparison["models"][0]
    assert (best["model"], best["overall"], best["high"]) == ("baseline/lead-1", 1.0, 1.0)
    assert 0 < best["low"] < 1
    assert comparison["contrasts"][0]["told_apart"] is True
    assert comparison["recommendation"].startswith("There is no model to recommend")
    (example,) = assistant.get("why", experiment=experiment, score="rougeL", limit=1)["examples"]
    assert example["rougeL of baseline/lead-1"] == 1.0
    assert example["baseline/copy"] == example["example"]
    assert assistant.get("list_experiments")["experiments"][0]["models"] == {"succeeded": 2}
    assert assistant.get("stop", experiment=experiment)["ended"] is True


def test_an_assistant_creates_a_classification(assistant, experiment) -> None:
    made = assistant.get(
        "create_experiment", name="routing", dataset="tickets", task="classification", labels=["billing", "delivery"]
    )
    assert (made["task"], made["metrics"]) == ("classification", ["classification"])


def test_every_tool_and_argument_is_described(assistant) -> None:
    tools = assistant.tools()
    assert len(tools) == 13
    for tool in tools:
        assert tool.description
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description"), (tool.name, name)


def test_a_budget_is_needed_where_a_model_has_a_price(assistant, experiment) -> None:
    pytest.importorskip("genai_prices", reason="pip install 'lumigator-nb[api]'")
    models = [*BASELINES, {"model": "openai/gpt-4o-mini"}]
    (dear,) = (
        row for row in assistant.get("estimate", experiment=experiment, models=models)["estimates"] if row["dollars"]
    )
    assert dear["model"] == "openai/gpt-4o-mini"
    text = assistant.refused("launch", experiment=experiment, models=models)
    assert "a budget is needed, since openai/gpt-4o-mini may cost money" in text
    assert assistant.get("progress", experiment=experiment)["models"] == []


def test_a_budget_is_needed_where_a_judge_scores(assistant, experiment) -> None:
    pytest.importorskip("openai", reason="pip install 'lumigator-nb[judge]'")
    assistant.get(
        "create_experiment", name="judged", dataset="tickets", task="summarization", metrics=["g_eval_summarization"]
    )
    text = assistant.refused("launch", experiment="judged", models=BASELINES)
    assert "a budget is needed" in text


@pytest.mark.parametrize("budget", [-1, "much"])
def test_a_budget_is_a_number_of_dollars(assistant, experiment, budget) -> None:
    assert "budget" in assistant.refused("launch", experiment=experiment, models=BASELINES, budget=budget)


def test_mistakes_are_answered_with_what_to_do(assistant, experiment) -> None:
    assert "Hint: Known: " in assistant.refused("list_models", task="poetry")
    assert "there is no" in assistant.refused("show_dataset", dataset="other").lower()
    assert "translation needs two languages" in assistant.refused(
        "create_experiment", name="x", dataset="tickets", task="translation"
    )
    assert "row 2" in assistant.refused("upload_dataset", filename="x.csv", content="example,b\n1,2\n1,2,3\n")
    assert "wait" in assistant.refused("progress", experiment=experiment, wait=1000)
    assert "no_such" in assistant.refused("no_such")


def test_one_model_is_asked_in_two_ways(assistant, experiment) -> None:
    twice = [{"model": "baseline/lead-1", "label": "a", "prompt": "x"}, {"model": "baseline/lead-1", "label": "b"}]
    rows = assistant.get("launch", experiment=experiment, models=twice)["models"]
    assert [row["model"] for row in rows] == ["a", "b"]


def test_a_file_is_read_only_below_the_folder(assistant, tmp_path) -> None:
    folder = tmp_path / "project"
    (folder / "tickets.csv").write_text(CSV)
    (tmp_path / "private.csv").write_text(CSV)
    (folder / "link.csv").symlink_to(tmp_path / "private.csv")
    columns = {"example": "ticket", "ground_truth": "summary"}
    assert assistant.get("upload_file", path="tickets.csv", **columns)["examples"] == 12
    outside = ("../private.csv", str(tmp_path / "private.csv"), "link.csv", "~/private.csv", "file:///etc/passwd")
    for path in outside:
        text = assistant.refused("upload_file", path=path, **columns)
        assert "is not below" in text or "there is no file" in text, path
    assert assistant.get("list_datasets")["total"] == 1


def test_no_path_is_taken_without_a_folder(inline_ws, over_http) -> None:
    local = Assistant(lambda: Client(Server(inline_ws, needs_token=False)))
    remote = over_http(inline_ws.tokens.create("all", scope="admin"))
    for assistant in (local, remote):
        assert "upload_file" not in {tool.name for tool in assistant.tools()}
        assert "upload_file" in assistant.refused("upload_file", path="tickets.csv")


@pytest.mark.parametrize("secret", ["sk-not-a-real-key-0123456789", 'sk-not"a-real-key-0123456789'])
def test_no_secret_is_in_an_answer(assistant, inline_ws, secret) -> None:
    inline_ws.secrets.set("TEAM_API_KEY", secret)
    content = json.dumps([{"example": f"The key is {secret}."}])
    assistant.get("upload_dataset", filename="keys.json", content=content)
    result = assistant.ask("show_dataset", dataset="keys")
    assert "The key is" in str(result.structured_content)
    text = assistant.refused("show_dataset", dataset=secret)
    for shown in (result.model_dump_json(), str(result.structured_content), text):
        assert "real-key" not in shown
        assert "0123456789" not in shown


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"model": "hf/https://example.org/x"}, "is an address"),
        ({"model": "hf//etc/weights"}, "may not be read here"),
        ({"model": "openai/x", "base_url": "https://example.org/v1"}, "base_url"),
        ({"model": "openai/x", "api_key_name": "TEAM_API_KEY"}, "api_key_name"),
        ({"model": "hf/x/y", "trust_remote_code": True}, "trust_remote_code"),
        ({"model": "function/os:system"}, "function"),
    ],
)
def test_an_assistant_names_no_address_path_key_or_code(assistant, experiment, model, said) -> None:
    pytest.importorskip("transformers", reason="pip install 'lumigator-nb[hf]'")
    assert said in assistant.refused("launch", experiment=experiment, models=[model], budget=0)
    assert said in assistant.refused("estimate", experiment=experiment, models=[model])
    assert assistant.get("progress", experiment=experiment)["models"] == []


def test_a_token_does_what_its_scope_allows(assistant, experiment, over_http, inline_ws) -> None:
    read, write = (over_http(inline_ws.tokens.create(scope, scope=scope)) for scope in ("read", "write"))
    hints = {tool.name: tool.annotations.read_only_hint for tool in read.tools()}
    changing = sorted(name for name, only_reads in hints.items() if not only_reads)
    assert changing == ["create_experiment", "launch", "stop", "upload_dataset"]
    arguments = {
        "create_experiment": {"name": "x", "dataset": "tickets", "task": "summarization"},
        "launch": {"experiment": experiment, "models": BASELINES},
        "stop": {"experiment": experiment},
        "upload_dataset": COLUMNS | {"filename": "again.csv"},
    }
    for name in changing:
        assert f"{name} needs an API token of the scope 'write'" in read.refused(name, **arguments[name])
    assert read.get("list_experiments")["total"] == 1
    assert read.get("estimate", experiment=experiment, models=BASELINES)["estimates"]
    for name in changing:
        write.get(name, **arguments[name])


def test_only_an_admin_names_a_model_by_its_path(assistant, experiment, over_http, inline_ws) -> None:
    pytest.importorskip("transformers", reason="pip install 'lumigator-nb[hf]'")
    write, admin = (over_http(inline_ws.tokens.create(scope, scope=scope)) for scope in ("write", "admin"))
    question = {"experiment": experiment, "models": [{"model": "hf//nowhere/weights"}]}
    assert "may not be read here" in write.refused("estimate", **question)
    assert "may not be read here" not in admin.ask("estimate", **question).content[0].text


def test_nobody_comes_in_without_a_valid_token(over_http, inline_ws) -> None:
    revoked = inline_ws.tokens.create("revoked", scope="admin")
    inline_ws.tokens.revoke("revoked")
    app = Server(inline_ws, needs_token=True).http_app()

    async def statuses() -> list[int]:
        found = []
        async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            for headers in ({}, {"Authorization": "Bearer lmgt_wrong"}, {"Authorization": f"Bearer {revoked}"}):
                answer = await http.post(f"http://localhost{PATH}", json=body, headers=headers)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                found.append(answer.status_code)
        return found

    assert anyio.run(statuses) == [401, 401, 401]


def test_a_missing_package_is_named(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mcp", None)
    command = Command(monkeypatch, capsys)
    assert "pip install 'lumigator-nb[mcp]'" in command("mcp", code=1)
