"""The model server speaks to the providers' own clients."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import until

from lumigator_testing.behaviour import count_tokens, cut, pattern

openai = pytest.importorskip("openai")
any_llm = pytest.importorskip("any_llm")

pytestmark = pytest.mark.integration

TEXT = "The cat sat. The dog ran. A bird sang."


@pytest.fixture
def server(running):
    yield running
    running.configure(
        latency=0, tokens_per_second=None, refuse=0, fail=0, hang=0, retry_after=None, outage=False, reject={},
        api_key=None, models=None, quota=None, unsupported=(), reasoning=False,
    )  # fmt: skip
    running.reset()


def ask(client, text=TEXT, model="lead-1", **more):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def ask_any(provider, server, **more):
    """Ask through any-llm and return the completion, or all chunks."""

    async def work(client):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}]
        found = await client.acompletion("lead-2", messages, **{"max_tokens": 60} | more)
        return [chunk async for chunk in found] if more.get("stream") else found

    return with_any(provider, server, work)


def with_any(provider, server, work):
    async def opened():
        base = server.base_url if provider == "openai" else server.url
        client = any_llm.AnyLLM.create(provider, api_key="sk-mine", api_base=base)
        async with client.client:
            return await work(client)

    return asyncio.run(opened())


@pytest.mark.parametrize(
    ("model", "expected"),
    [("lead-1", "The cat sat."), ("some/lead-2", "The cat sat. The dog ran."), ("echo", TEXT), ("shout", TEXT.upper()),
     ("gpt-4o-mini", "The cat sat.")],
)  # fmt: skip
def test_a_models_name_decides_its_answer(client, model, expected) -> None:
    answer = ask(client, model=model)
    assert answer.choices[0].message.content == expected
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == count_tokens(TEXT)
    assert answer.usage.completion_tokens == count_tokens(expected)


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_cut_at_the_limit(client, limit) -> None:
    answer = ask(client, model="echo", **{limit: 2})
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("The cat", "length")
    assert answer.usage.completion_tokens == 2


def test_a_stream_brings_the_same_answer_and_its_usage(client) -> None:
    chunks = list(ask(client, model="echo", stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert chunks[-1].usage.completion_tokens == count_tokens(TEXT)
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "mistral"])
@pytest.mark.parametrize("stream", [False, True])
def test_any_llm_understands_every_protocol(server, provider, stream) -> None:
    found = ask_any(provider, server, **({"stream": True} if stream else {}))
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in found if chunk.choices)
    else:
        text = found.choices[0].message.content
        assert found.usage.prompt_tokens == count_tokens("Be brief.") + count_tokens(TEXT)
    assert text == "The cat sat. The dog ran."


@pytest.mark.parametrize("provider", ["openai", "anthropic", "mistral"])
def test_models_are_listed(server, provider) -> None:
    server.configure(models=("lead-1", "echo"))
    listed = with_any(provider, server, lambda client: client.alist_models())
    assert [model.id for model in listed] == ["lead-1", "echo"]


@pytest.mark.parametrize(("provider", "reasoning"), [("openai", "field"), ("mistral", True), ("anthropic", True)])
@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_come_apart_from_the_answer(server, provider, reasoning, stream) -> None:
    server.configure(reasoning=reasoning)
    found = ask_any(provider, server, **({"stream": True} if stream else {}))
    parts = [chunk.choices[0].delta for chunk in found if chunk.choices] if stream else [found.choices[0].message]
    assert "".join(part.content or "" for part in parts) == "The cat sat. The dog ran."
    assert "rule of lead-2" in "".join(part.reasoning.content for part in parts if part.reasoning)


def test_thoughts_in_the_text_use_up_the_limit(client, server) -> None:
    server.configure(reasoning=True)
    answer = ask(client)
    thoughts = answer.usage.completion_tokens_details.reasoning_tokens
    assert answer.choices[0].message.content.startswith("<think>\nThe text")
    assert answer.choices[0].message.content.endswith("</think>\n\nThe cat sat.")
    assert answer.usage.completion_tokens == thoughts + count_tokens("The cat sat.")
    short = ask(client, max_tokens=thoughts)
    assert "</think>" not in short.choices[0].message.content
    assert short.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("behaviour", "status", "code", "words"),
    [
        ({"refuse": 1}, 429, "rate_limit_exceeded", "Rate limit"),
        ({"fail": 1}, 500, "server_error", "error"),
        ({"outage": True}, 503, "service_unavailable", "overloaded"),
        ({"api_key": "sk-other"}, 401, "invalid_api_key", "sk-mine"),
        ({"models": ["echo"]}, 404, "model_not_found", "lead-1"),
        ({"quota": 0}, 429, "insufficient_quota", "quota"),
        ({"unsupported": ["temperature"]}, 400, "unsupported_parameter", "'temperature'"),
        ({"reject": {TEXT: [400, "context_length_exceeded"]}}, 400, "context_length_exceeded", "context length"),
        ({"reject": {TEXT: [400, "content_filter"]}}, 400, "content_filter", "content management"),
    ],
)
def test_each_fault_looks_as_the_provider_writes_it(client, server, behaviour, status, code, words) -> None:
    server.configure(**behaviour)
    with pytest.raises(openai.APIStatusError, match=words) as caught:
        ask(client, temperature=0)
    assert (caught.value.status_code, caught.value.body["code"]) == (status, code)
    assert caught.value.body["param"] == ("temperature" if code == "unsupported_parameter" else None)


def test_a_429_says_how_long_to_wait(client, server) -> None:
    server.configure(refuse=1, retry_after=2.5)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    headers = caught.value.response.headers
    assert (headers["retry-after"], headers["x-ratelimit-remaining-requests"]) == ("2.5", "0")


def test_a_quota_is_used_up(client, server) -> None:
    server.configure(quota=2)
    ask(client), ask(client)
    with pytest.raises(openai.RateLimitError, match="quota"):
        ask(client)


def status_of(client, text):
    try:
        ask(client, text)
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def test_a_quarter_is_exactly_a_quarter(client, server) -> None:
    server.configure(refuse=0.25, fail=0.1, latency=0.01)
    with ThreadPoolExecutor(8) as pool:
        seen = Counter(pool.map(lambda n: status_of(client, f"Text {n}."), range(80)))
    assert seen == {200: 52, 429: 20, 500: 8}
    stats = server.stats()
    assert (stats.calls, stats.answered, stats.refused, stats.failed) == (80, 52, 20, 8)
    assert 2 <= stats.most_at_once <= 8
    assert stats.in_flight == 0
    assert server.prompts() == {f"Text {n}.": 1 for n in range(80)}


@pytest.mark.parametrize("every", [2, 3, 4, 5])
def test_calls_in_a_steady_rhythm_do_not_meet_a_fault_each_time(every) -> None:
    faults = pattern({"refuse": 0.25})
    kinds = [next(faults) for _ in range(400)]
    assert all(kinds[start : start + 4].count("refuse") == 1 for start in range(0, 400, 4))
    for offset in range(every):
        share = [kind == "refuse" for kind in kinds[offset::every]]
        assert 0.1 < sum(share) / len(share) < 0.4


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        next(pattern({"refuse": 0.7, "fail": 0.4}))


@pytest.mark.parametrize(
    ("tokens", "expected"), [(0, ""), (1, "unbe"), (2, "unbelie"), (3, "unbelie is"), (9, "unbelie is")]
)
def test_cutting_counts_pieces_of_words(tokens, expected) -> None:
    assert cut("unbelie is", tokens) == expected


def test_a_hanging_call_ends_with_its_client(client, server) -> None:
    server.configure(hang=1)
    with pytest.raises(openai.APITimeoutError):
        ask(client, timeout=0.2)
    assert (server.stats().hung, server.stats().answered) == (1, 0)
    until(lambda: server.stats().in_flight == 0, "the call is given up")


def test_it_survives_clients_that_break_off(client, server) -> None:
    server.configure(latency=0.2, tokens_per_second=10)
    body = b'{"model": "echo", "stream": true, "messages": [{"role": "user", "content": "a b c d e f"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    host, port = server.url.removeprefix("http://").split(":")
    for sent, wait in ((head, 0), (head + body[:20], 0), (head + body, 0), (head + body, 0.4)):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
            time.sleep(wait)
    until(lambda: server.stats().in_flight == 0, "the calls are given up")
    server.configure(latency=0, tokens_per_second=None)
    assert ask(client).choices[0].message.content == "The cat sat."


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"model": "echo"}', b'{"model": "echo", "messages": 3}'])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_nonsense_is_a_bad_request(server, body, path) -> None:
    import httpx

    answer = httpx.post(server.url + path, content=body, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_speed_and_delay_are_kept(client, server) -> None:
    server.configure(latency=0.1, tokens_per_second=60)
    started = time.perf_counter()
    ask(client, model="echo")
    assert 0.1 + count_tokens(TEXT) / 60 <= time.perf_counter() - started < 1


def test_reset_counts_anew_and_keeps_settings(client, server) -> None:
    server.configure(models=("lead-1",))
    ask(client)
    server.reset()
    assert (server.stats().calls, server.prompts(), server.bodies()) == (0, {}, [])
    with pytest.raises(openai.NotFoundError):
        ask(client, model="echo")


def test_it_tells_what_was_sent(client, server) -> None:
    ask(client, temperature=0.5)
    assert server.bodies()[-1]["temperature"] == 0.5


def test_an_unknown_setting_is_refused(server) -> None:
    with pytest.raises(TypeError, match="slowness"):
        server.configure(slowness=1)


def test_it_ends_with_its_parent() -> None:
    program = (
        "import time\n"
        "from lumigator_testing import ModelServer\n"
        "with ModelServer() as server:\n"
        "    print(server._process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert _alive(child)
        parent.send_signal(signal.SIGKILL)
        until(lambda: not _alive(child), "the server is gone")


def _alive(pid: int) -> bool:
    import psutil

    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
