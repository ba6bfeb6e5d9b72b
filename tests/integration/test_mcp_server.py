"""The MCP server in a process of its own, asked by the protocol's own client over stdio and over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import requests
from waiting import PATIENCE_S, until

pytest.importorskip("mcp", reason="pip install 'lumigator-nb[mcp]'")

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

pytestmark = pytest.mark.integration

COMMAND = ["-m", "lumigator_nb.cli", "mcp"]
KEY = "sk-not-a-real-key-0123456789"
N = 40
CSV = "ticket,summary\n" + "".join(
    f"Case {n} came in. It was about a broken cup. {KEY if n == 0 else 'Support sent a new one.'},Case {n} came in.\n"
    for n in range(N)
)
# The second is a server that the user has added to the catalogue.
MODELS = [{"model": "baseline/copy"}, {"model": "openai/lead-1", "label": "ours"}]


@pytest.fixture
def server(running, home):
    running.reset()
    entry = "- {name: openai/lead-1, display_name: Ours, tasks: [summarization], base_url: '%s'}\n"
    (home / "models.yaml").write_text(entry % running.base_url)
    yield running
    (home / "models.yaml").unlink()


@pytest.fixture
def environment(home) -> dict[str, str]:
    return {**os.environ, "LUMIGATOR_HOME": str(home), "TEAM_API_KEY": KEY, "PYTHONUNBUFFERED": "1"}


async def get(client: Client, tool: str, **arguments) -> dict:
    result = await client.call_tool(tool, arguments, read_timeout_seconds=PATIENCE_S)
    assert not result.is_error, result.content
    assert KEY not in result.model_dump_json()
    return result.structured_content


async def main_job(client: Client, name: str) -> None:
    """From the dataset `name` to the examples that decide."""
    rows = (await get(client, "show_dataset", dataset=name, limit=1))["rows"]
    assert rows[0]["ground_truth"] == "Case 0 came in."
    await get(client, "create_experiment", name=name, dataset=name, task="summarization", metrics=["rouge"])
    names = [row["name"] for row in (await get(client, "list_models", provider="openai"))["models"]]
    assert "openai/lead-1" in names
    estimates = (await get(client, "estimate", experiment=name, models=MODELS))["estimates"]
    assert [row["dollars"] for row in estimates] == [0.0, None]
    await get(client, "launch", experiment=name, models=MODELS, budget=0.5)
    progress = {"ended": False}
    while not progress["ended"]:
        progress = await get(client, "progress", experiment=name, wait=20)
    assert {row["status"] for row in progress["models"]} == {"succeeded"}, progress
    comparison = await get(client, "compare", experiment=name)
    assert comparison["verdict"].startswith("ours has the highest rougeL (1.000)")
    assert comparison["recommendation"].startswith("ours")
    (contrast,) = comparison["contrasts"]
    assert contrast["told_apart"]
    assert contrast["difference"] < 0
    examples = (await get(client, "why", experiment=name, limit=3))["examples"]
    assert [example["ours"] for example in examples] == [example["ground_truth"] for example in examples]


def test_the_main_job_over_stdio(server, environment, tmp_path) -> None:
    (tmp_path / "tickets.csv").write_text(CSV)
    asked = StdioServerParameters(command=sys.executable, args=COMMAND, env=environment, cwd=tmp_path)

    async def work() -> None:
        async with Client(asked) as client:
            await get(client, "upload_file", path="tickets.csv", example="ticket", ground_truth="summary")
            await main_job(client, "tickets")

    anyio.run(work)
    assert server.stats().answered == N


@pytest.fixture
def address(environment, tmp_path):
    """The address of a server over HTTP; it ends by itself when it is told to."""
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *COMMAND, "--http", "--port", "0"], env=environment, stdout=file, stderr=file, cwd=tmp_path
        )
    until(lambda: _address(log) or process.poll() is not None, "the server listens")
    yield _address(log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM), log.read_text()
    assert "Traceback" not in log.read_text()


def _address(log: Path) -> str | None:
    found = re.search(r"MCP server is at (\S+)", log.read_text())
    return found[1] if found else None


@asynccontextmanager
async def connected(address: str, token: str):
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        yield client


def test_the_main_job_over_http(server, address, ws) -> None:
    token = ws.tokens.create("assistant", scope="write")

    async def work() -> None:
        async with connected(address, token) as client:
            columns = {"example": "ticket", "ground_truth": "summary"}
            await get(
                client, "upload_dataset", filename="over-http.csv", content=CSV.replace("Case", "Call"), **columns
            )
            await get(client, "create_experiment", name="calls", dataset="over-http", task="summarization")
            await get(client, "launch", experiment="calls", models=[{"model": "baseline/lead-1"}])
            while not (await get(client, "progress", experiment="calls", wait=20))["ended"]:
                pass
            assert "rougeL" in (await get(client, "compare", experiment="calls"))["verdict"]

    anyio.run(work)


def test_http_lets_nobody_in_without_a_token(address, ws) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for headers in ({}, {"Authorization": "Bearer lmgt_wrong"}):
        assert requests.post(address, json=body, headers=headers, timeout=PATIENCE_S).status_code == 401
    token = ws.tokens.create("reader", scope="read")

    async def work() -> None:
        async with connected(address, token) as client:
            assert await get(client, "list_experiments")
            refused = await client.call_tool("stop", {"experiment": "x"})
            assert refused.is_error
            assert "needs an API token of the scope 'write'" in refused.content[0].text

    anyio.run(work)
