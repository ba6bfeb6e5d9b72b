"""Batches through any-llm, against a server that speaks each provider's protocol."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from waiting import until

import lumigator_nb.models.providers.api_batches as batches
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.base import Request
from lumigator_nb.models.providers.api_batches import BatchClient, supports_batches
from lumigator_nb.specs import Model
from lumigator_testing import ModelServer

any_llm = pytest.importorskip("any_llm")

pytestmark = pytest.mark.integration

PROVIDERS = ["openai", "anthropic", "mistral"]
REQUESTS = {row: Request(row=row, example="", user=f"First of {row}. Second.", system="Be brief.") for row in range(9)}


@pytest.fixture(scope="module")
def running():
    with ModelServer(batch_seconds=0.2) as server:
        yield server


@pytest.fixture
def server(running):
    yield running
    running.configure(
        batch_seconds=0.2, batch_end="completed", reject={}, models=None, unsupported=(), reasoning=False, api_key=None
    )
    running.reset()


@pytest.fixture
def make(server):
    """Makes batch clients as a new process would."""
    made = []

    def new(provider, without=(), **settings):
        base = server.base_url if provider == "openai" else server.url
        client = any_llm.AnyLLM.create(provider, api_key="sk-mine", api_base=base)
        made.append(BatchClient(client, Model("lead-1", provider=provider, **settings), without))
        return made[-1]

    yield new
    for each in made:
        each.close()


def wait(client, batch_id, state="ended"):
    until(lambda: client.status(batch_id).state != "waiting", "the batch is through")
    status = client.status(batch_id)
    assert status.state == state
    return status


def collect(client, batch_id, requests=REQUESTS):
    found = list(client.collect(batch_id, requests))
    assert sorted(request.row for request, _ in found) == sorted(requests)
    return {request.row: prediction for request, prediction in found}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_another_process_collects_what_one_has_submitted(make, server, provider) -> None:
    first = make(provider)
    batch_id = first.submit(list(REQUESTS.values()))
    assert first.status(batch_id).state == "waiting"
    first.close()

    second = make(provider)
    status = wait(second, batch_id)
    assert (status.done, status.total) == (9, 9)
    for row, prediction in collect(second, batch_id).items():
        assert (prediction.text, prediction.error, prediction.finish) == (f"First of {row}.", None, "stop")
        # "Be | brie f. | Firs t | of | 3. | Seco nd." and "Firs t | of | 3."
        assert (prediction.prompt_tokens, prediction.completion_tokens) == (9, 4)
        assert json.loads(prediction.prompt)[-1] == {"role": "user", "content": f"First of {row}. Second."}
    assert server.prompts() == {f"First of {row}. Second.": 1 for row in REQUESTS}
    assert server.stats().batches == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_rows_that_fail_carry_the_providers_words(make, server, provider) -> None:
    server.configure(reject={"First of 3. Second.": (400, "context_length_exceeded")})
    client = make(provider)
    batch_id = client.submit(list(REQUESTS.values()))
    wait(client, batch_id)
    found = collect(client, batch_id)
    assert [row for row, prediction in found.items() if prediction.error] == [3]
    assert found[3].text is None
    assert "maximum context length" in found[3].error
    if provider != "anthropic":
        assert found[3].error.startswith("HTTP 400: context_length_exceeded")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_expired_batch_keeps_what_was_answered(make, server, provider) -> None:
    server.configure(batch_end="expired")
    client = make(provider)
    batch_id = client.submit(list(REQUESTS.values()))
    wait(client, batch_id)
    found = collect(client, batch_id)
    assert [row for row in REQUESTS if found[row].text] == [0, 1, 2, 3]
    assert all("expired" in found[row].error for row in range(4, 9))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_cancelled_batch_ends(make, server, provider) -> None:
    server.configure(batch_seconds=100)
    client = make(provider)
    batch_id = client.submit(list(REQUESTS.values()))
    client.cancel(batch_id)
    wait(client, batch_id)
    assert all("cancel" in prediction.error for prediction in collect(client, batch_id).values())


@pytest.mark.parametrize("provider", ["openai", "mistral"])
def test_a_failed_batch_says_why(make, server, provider) -> None:
    server.configure(batch_end="failed")
    client = make(provider)
    batch_id = client.submit(list(REQUESTS.values()))
    status = wait(client, batch_id, "failed")
    assert status.message == "the batch is failed" + ("; The batch failed." if provider == "openai" else "")
    assert all("the batch is failed" in prediction.error for prediction in collect(client, batch_id).values())


@pytest.mark.parametrize(
    ("provider", "reasoning"), [("openai", "field"), ("openai", True), ("anthropic", True), ("mistral", True)]
)
def test_thoughts_come_apart_from_the_answer(make, server, provider, reasoning) -> None:
    server.configure(reasoning=reasoning)
    client = make(provider)
    batch_id = client.submit([REQUESTS[0]])
    wait(client, batch_id)
    prediction = collect(client, batch_id, {0: REQUESTS[0]})[0]
    assert prediction.text == "First of 0."
    assert "rule of lead-1" in prediction.reasoning


@pytest.mark.parametrize(
    ("provider", "settings", "expected"),
    [
        ("openai", {}, {"temperature": 0.0, "max_completion_tokens": 7}),
        ("mistral", {"top_p": 0.5}, {"temperature": 0.0, "max_tokens": 7}),
        ("anthropic", {"temperature": 0.5}, {"temperature": 0.5, "max_tokens": 7, "system": "Be brief."}),
        ("openai", {"temperature": 1, "top_p": 0.9}, {"temperature": 1.0, "top_p": 0.9, "max_completion_tokens": 7}),
        ("openai", {"without": ["temperature"]}, {"max_completion_tokens": 7}),
    ],
)
def test_generation_settings_are_sent(make, server, provider, settings, expected) -> None:
    client = make(provider, max_new_tokens=7, **settings)
    wait(client, client.submit([REQUESTS[0]]))
    body = server.bodies()[-1]
    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == expected


def test_an_answer_that_was_cut_off_says_so(make) -> None:
    client = make("openai", max_new_tokens=2)
    batch_id = client.submit([REQUESTS[0]])
    wait(client, batch_id)
    prediction = collect(client, batch_id, {0: REQUESTS[0]})[0]
    assert (prediction.text, prediction.finish) == ("First", "length")


def test_unusual_characters_survive(make) -> None:
    client = make("openai")
    request = Request(row=1, example="", user="Grüße\u2028und\x85Küsse 🎈 aus Łódź.")
    batch_id = client.submit([request])
    wait(client, batch_id)
    assert collect(client, batch_id, {1: request})[1].text == request.user


def test_it_works_where_an_event_loop_runs_already(make) -> None:
    async def cell():
        client = make("openai")
        return client.submit([REQUESTS[0]])

    assert asyncio.run(cell()).startswith("batch_")


@pytest.mark.parametrize("count", [0, 4])
def test_a_batch_of_the_wrong_size_is_refused(make, server, monkeypatch, count) -> None:
    monkeypatch.setattr(batches, "MAX_REQUESTS", 3)
    with pytest.raises(InvalidInputError, match=f"1 to 3 requests.* got {count} "):
        make("openai").submit(list(REQUESTS.values())[:count])
    assert server.stats().batches == 0


@pytest.mark.parametrize(
    ("most", "size", "expected"), [(4, 10**6, [4, 4, 1]), (100, 600, [2, 2, 2, 2, 1]), (9, 1, [1] * 9)]
)
def test_parts_are_as_large_as_may_be(make, monkeypatch, most, size, expected) -> None:
    monkeypatch.setattr(batches, "MAX_REQUESTS", most)
    monkeypatch.setattr(batches, "MAX_BYTES", size)
    parts = list(make("openai").parts(list(REQUESTS.values())))
    assert [len(part) for part in parts] == expected
    assert [request for part in parts for request in part] == list(REQUESTS.values())


def test_closing_leaves_no_thread(make) -> None:
    before = threading.active_count()
    client = make("anthropic")
    client.submit([REQUESTS[0]])
    client.close()
    client.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("provider", "expected"), [*((name, True) for name in PROVIDERS), ("groq", False), ("nobody", False)]
)
def test_batch_services_are_known(provider, expected) -> None:
    assert supports_batches(provider) is expected


@pytest.mark.parametrize(
    "content", [b"{", b'{"custom_id": "1"}', b'{"custom_id": "1", "body": {}}\n{"custom_id": "1", "body": {}}']
)
def test_the_server_fails_a_malformed_batch_as_openai_does(server, content) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=server.base_url, api_key="x") as client:
        file = client.files.create(file=("x.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "test"}
        )
        until(lambda: client.batches.retrieve(batch.id).status == "failed", "the batch fails")
        listed = client.batches.list().data[0]
        assert (listed.id, listed.metadata, len(listed.errors.data)) == (batch.id, {"for": "test"}, 1)
        assert client.files.content(file.id).read() == content
