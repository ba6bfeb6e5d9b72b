"""How a provider's errors are read, how the pace adapts, what texts and prices come to."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest

from lumigator_nb import models
from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError
from lumigator_nb.models import price_of
from lumigator_nb.models.pacing.throttle import Pace, Throttle
from lumigator_nb.models.prompts.reasoning import split_reasoning
from lumigator_nb.models.providers import api_failures, api_settings
from lumigator_nb.models.providers.api_failures import RefusedError, classify
from lumigator_nb.models.providers.api_payloads import prediction_from
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Model, Summarization

MODEL = Model("openai/gpt-4o-mini")


def refused(status: int, body: str = "{}", **headers: str) -> api_failures.Failure:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(RefusedError(status, body, named), MODEL, "OPENAI_API_KEY", Redactor({"K": "secret-value"}))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, "{}", "busy"),
        (503, "oops", "busy"),
        (529, "{}", "busy"),
        (500, "<html>", "transient"),
        (408, "{}", "transient"),
        (401, '{"error": {"message": "wrong secret-value"}}', "fatal"),
        (403, "{}", "fatal"),
        (403, '{"error": {"message": "flagged by moderation"}}', "row"),
        (404, "{}", "fatal"),
        (402, "{}", "fatal"),
        (429, '{"error": {"code": "insufficient_quota"}}', "fatal"),
        (400, '{"error": {"message": "Your credit balance is too low"}}', "fatal"),
        (400, '{"error": {"code": "unsupported_value", "param": "temperature"}}', "parameter"),
        (400, '{"error": {"code": "context_length_exceeded"}}', "row"),
        (422, "[]", "row"),
    ],
)
def test_what_an_error_means(status, body, kind) -> None:
    failure = refused(status, body)
    assert failure.kind == kind
    assert (failure.error is not None) == (kind == "fatal")
    assert "secret-value" not in failure.message + str(failure.error)


def test_a_time_out_and_a_lost_connection_are_asked_again() -> None:
    assert classify(TimeoutError(), MODEL, None, Redactor({})).kind == "slow"
    assert classify(ConnectionResetError("gone"), MODEL, None, Redactor({})).kind == "transient"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after": "99999"}, api_failures.LONGEST_HOLD_S),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_the_provider_asks_to_wait(headers, seconds) -> None:
    assert refused(429, **headers).wait == seconds


def test_a_date_to_wait_for() -> None:
    assert refused(429, retry_after=formatdate(time.time() + 30, usegmt=True)).wait == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "250ms"}, 0.25),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3"}, 3),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "9s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "?"}, None),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "never"}, None),
    ],
)
def test_a_used_up_limit_is_waited_for(headers, seconds) -> None:
    assert api_failures.hold(headers) == seconds


def test_the_pace_grows_until_the_first_complaint_and_then_carefully() -> None:
    throttle = Throttle(Pace(most=64, start=4, retry_for=1))
    for _ in range(12):
        throttle.went_well()
    assert throttle.capacity == 16
    throttle.slow_down(time.monotonic(), None)
    shrunk = throttle.capacity
    assert shrunk == 10
    throttle.slow_down(0.0, None)
    assert throttle.capacity == shrunk
    for _ in range(shrunk):
        throttle.went_well()
    assert throttle.capacity in (shrunk, shrunk + 1)


def test_who_asks_again_goes_first_and_nobody_enters_while_it_is_held() -> None:
    async def work() -> list[str]:
        throttle, order = Throttle(Pace(most=1, start=1, retry_for=1)), []

        async def enter(name: str, *, first: bool = False) -> None:
            await throttle.enter(first=first)
            order.append(name)
            await asyncio.sleep(0)
            throttle.leave()

        await throttle.enter()
        waiting = [asyncio.create_task(enter("second")), asyncio.create_task(enter("first", first=True))]
        await asyncio.sleep(0)
        throttle.hold(0.05)
        throttle.leave()
        started = time.monotonic()
        await asyncio.gather(*waiting)
        assert time.monotonic() - started >= 0.04
        return order

    assert asyncio.run(work()) == ["first", "second"]


def test_so_many_a_minute_are_begun_and_no_more() -> None:
    async def work() -> float:
        throttle = Throttle(Pace(most=10, start=10, retry_for=1, per_minute=1200))
        started = time.monotonic()
        await asyncio.gather(*(throttle.enter() for _ in range(5)))
        return time.monotonic() - started

    assert 0.19 <= asyncio.run(work()) < 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>why</think>\n\nSo.", ("why", "So.")),
        ("why</think>So.", ("why", "So.")),
        ("<think>never ends", ("never ends", "")),
        ("<think>\n</think>So.", (None, "So.")),
        ("Plain.", (None, "Plain.")),
    ],
)
def test_reasoning_is_split_off(text, expected) -> None:
    assert split_reasoning(text) == expected


@pytest.mark.parametrize(
    "payload", [{}, {"choices": []}, {"choices": [{}]}, [], "text", None, {"choices": [{"message": None}]}]
)
def test_an_answer_without_a_message_is_malformed(payload) -> None:
    with pytest.raises(api_failures.MalformedAnswerError):
        prediction_from(payload, prompt="", seconds=1, first=None, price=None)


@pytest.mark.parametrize(
    ("message", "finish", "words"),
    [
        ({"content": None, "refusal": "I will not"}, "stop_sequence", "the model refused: I will not"),
        ({"content": ""}, "length", "raise it"),
        ({"content": None}, "content_filter", "gave no text"),
        ({"content": "<think>so much"}, "length", "raise it"),
    ],
)
def test_an_empty_answer_says_why(message, finish, words) -> None:
    payload = {"choices": [{"message": message, "finish_reason": finish}]}
    assert words in prediction_from(payload, prompt="", seconds=1, first=None, price=None).error


def test_prices() -> None:
    assert price_of(MODEL)(1_000_000, 0) > 0
    assert price_of(Model("openai/no-such-model")) is None
    assert price_of(Model("gpt-4o-mini", provider="openai", base_url="http://x/v1")) is None
    own = Model("x", provider="openai", base_url="http://x/v1", price={"prompt": 2, "completion": 4})
    assert price_of(own)(500_000, 250_000) == 2.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timeout": 0}, "setting 'timeout'"),
        ({"concurency": 4}, "did you mean 'concurrency'"),
        ({"api_key_name": "sk-abc"}, "never the key itself"),
        ({"base_url": "localhost:80"}, "is not an address"),
        ({"base_url": "http://me:sk-abc@host/v1"}, "holds more than an address"),
        ({"base_url": "http://host/v1?key=sk-abc"}, "holds more than an address"),
        ({"extra": {"extra_headers": {"Authorization": "Bearer sk-abc"}}}, "has a field 'Authorization'"),
        ({"extra": {"x-api-key": "sk-abc"}}, "has a field 'x-api-key'"),
        ({"price": {"prompt": -1, "completion": 0}}, "setting 'price.prompt'"),
    ],
)
def test_settings_of_an_api_model_are_checked(settings, words) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        models.check(Model("openai/x", **settings))
    assert "sk-abc" not in str(caught.value)


def test_a_missing_client_is_named_with_its_extra(monkeypatch) -> None:
    find = api_settings.importlib.util.find_spec
    monkeypatch.setattr(
        api_settings.importlib.util, "find_spec", lambda name: None if name == "any_llm" else find(name)
    )
    with pytest.raises(MissingExtraError, match=r"lumigator-nb\[api\]"):
        models.check(Model("openai/gpt-4o-mini"))


def test_a_client_that_comes_with_no_extra_of_ours_is_named_too() -> None:
    with pytest.raises(ConfigurationError, match=r"any-llm-sdk\[cohere\]"):
        models.check(Model("cohere/command-a"))


def test_all_known_providers_are_any_llms() -> None:
    from any_llm import AnyLLM

    assert set(AnyLLM.get_supported_providers()) >= api_settings.PROVIDERS


def test_a_key_goes_to_its_owner_only(monkeypatch) -> None:
    assert models.key(Model("openai/x")) == ("OPENAI_API_KEY", True)
    assert models.key(Model("anthropic/x")) == ("ANTHROPIC_API_KEY", True)
    assert models.key(Model("vllm/x")).required is False
    assert models.key(Model("x", provider="openai", base_url="http://x/v1")) is None
    assert models.key(Model("x", provider="openai", base_url="http://x/v1", api_key_name="MINE")) == ("MINE", True)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY is not set"):
        models.load(Model("openai/x"), Summarization())


def test_it_works_where_an_event_loop_is_going_already() -> None:
    model = Model("x", provider="openai", base_url="http://127.0.0.1:9/v1", retry_for=0)

    async def cell() -> str | None:
        return models.predict(model, ["Hi."])[0].error

    assert "no answer within 0 s" in asyncio.run(cell())


def test_the_environments_proxy_is_used_but_not_for_this_machine(monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert api_settings.proxy_for("https://api.openai.com/v1") == "http://proxy:3128"
    assert api_settings.proxy_for("http://127.0.0.1:8000/v1") is None
