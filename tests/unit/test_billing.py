"""What answers cost is what the provider bills: per kind of token, per batch, per machine-hour, and with judges."""

from __future__ import annotations

import genai_prices
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.engine.pool.sizing import is_spread
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models import GuardedModel, price_of
from lumigator_nb.models.asking import Budget
from lumigator_nb.models.base import Prediction, Request
from lumigator_nb.models.prices import SharedTime
from lumigator_nb.models.providers.api_payloads import usage_from
from lumigator_nb.specs import Launch, Model
from lumigator_testing import ModelServer
from lumigator_testing.judging import Judge as Planted

PRICE = {"prompt": 1000.0, "completion": 2000.0, "cache_read": 100.0, "cache_write": 1250.0}
# The provider asked, the format of its usage, and the shares of prompts that it reads from its cache and writes to it.
FORMS = {
    "OpenAI, chat": ("openai", {"cache_read": 0.5, "cache_write": 0.25}),
    "OpenAI, responses": ("openai", {"usage": "responses", "cache_read": 0.5, "cache_write": 0.25}),
    "Anthropic": ("anthropic", {"cache_read": 0.5, "cache_write": 0.25}),
    "Mistral": ("mistral", {"cache_read": 0.5}),
    "DeepSeek": ("deepseek", {"usage": "deepseek", "cache_read": 0.5}),
}
PLAIN = {"usage": "chat", "cache_read": 0.0, "cache_write": 0.0, "latency": 0.0}
ROWS, PILOT = 20, 5


@pytest.fixture(scope="module")
def server():
    with ModelServer() as started:
        yield started


@pytest.fixture
def experiment(inline_ws):
    texts = [f"Case {row:02d} came in with a broken cup. We sent another one to the customer." for row in range(ROWS)]
    frame = pd.DataFrame({"example": texts, "ground_truth": ["A cup broke."] * ROWS})
    dataset = inline_ws.datasets.upload(frame, name="cups", progress=False)
    return inline_ws.experiments.create("e", dataset=dataset, metrics=["length"])


@pytest.mark.parametrize("form", FORMS)
def test_an_estimate_and_the_bill_agree_to_the_cent(inline_ws, experiment, server, form, monkeypatch) -> None:
    provider, behaviour = FORMS[form]
    server.configure(**{**PLAIN, **behaviour})
    monkeypatch.setenv("SOME_KEY", "sk-of-a-test")
    url = server.url if provider in ("anthropic", "mistral") else server.base_url
    model = Model("echo", provider=provider, base_url=url, api_key_name="SOME_KEY", price=PRICE, max_new_tokens=50)
    (estimated,) = inline_ws.workflows.estimate(experiment, model, pilot=PILOT).to_dict("records")
    inline_ws.wait(inline_ws.workflows.launch(experiment, model), progress=False, check=True)
    (costs,) = inline_ws.compare(experiment).costs().to_dict("records")
    read, written = costs["cache_read_tokens"], costs["cache_write_tokens"]
    assert (read > 0, written > 0) == (True, "cache_write" in behaviour)
    others = costs["prompt_tokens"] - read - written
    bill = (others * 1000 + read * 100 + written * 1250 + costs["completion_tokens"] * 2000) / 1e6
    assert costs["dollars"] == pytest.approx(bill)
    rest = bill * (ROWS - PILOT) / ROWS
    assert rest > 0.25
    assert round(estimated["dollars"], 2) == round(rest, 2)


# What a provider reports, what any-llm makes of it (None: it passes it on), and the form's name in genai-prices.
CONVERTED = {"prompt_tokens": 2098, "completion_tokens": 503}
REPORTED = {
    "anthropic/claude-sonnet-4-5": (
        {
            "input_tokens": 50, "cache_creation_input_tokens": 248, "cache_read_input_tokens": 1800,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 248}, "output_tokens": 503,
        },
        CONVERTED | {
            "prompt_tokens_details": {
                "cached_tokens": 1800, "cache_write_tokens": 248,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 248},
            }
        },
        "default",
    ),
    "gemini/gemini-2.5-flash": (
        {
            "promptTokenCount": 2098, "candidatesTokenCount": 103,
            "thoughtsTokenCount": 400, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 100}],
        },
        CONVERTED | {
            "prompt_tokens_details": {"audio_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 400},
        },
        "default",
    ),
    "openai/gpt-6-luna": (
        CONVERTED | {
            "prompt_tokens_details": {"cached_tokens": 1800, "cache_write_tokens": 248, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
        },
        None,
        "chat",
    ),
    "xai/grok-4": (
        {"prompt_tokens": 2098, "completion_tokens": 103, "completion_tokens_details": {"reasoning_tokens": 400}},
        None,
        "chat",
    ),
    "openrouter/perplexity/sonar-deep-research": (
        CONVERTED | {"completion_tokens_details": {"reasoning_tokens": 400}}, None, "chat",
    ),
    "mistral/mistral-small-latest": (CONVERTED | {"prompt_tokens_details": {"cached_tokens": 1800}}, None, "default"),
    "deepseek/deepseek-chat": (CONVERTED | {"prompt_tokens_details": {"cached_tokens": 1800}}, None, "chat"),
}  # fmt: skip
LISTED = {"gemini": "google", "xai": "x-ai"}


@pytest.mark.parametrize("name", REPORTED)
def test_list_prices_bill_all_kinds_of_tokens_as_the_provider_reports_them(name) -> None:
    model = Model(name)
    provider = LISTED.get(model.provider, model.provider)
    reported, converted, flavor = REPORTED[name]
    payload = {"usageMetadata" if model.provider == "gemini" else "usage": reported}
    usage = genai_prices.extract_usage(payload, provider_id=provider, api_flavor=flavor).usage
    bill = float(genai_prices.calc_price(usage, model.name, provider_id=provider).total_price)
    found = usage_from(converted or reported, "openai" if converted else model.provider)
    tokens = (found.prompt, found.completion, found.cache_read or 0, found.cache_write or 0, found.others)
    assert price_of(model)(*tokens) == pytest.approx(bill)
    assert bill > 0


def test_more_audio_than_tokens_is_billed_as_text() -> None:
    price = price_of(Model("gemini/gemini-2.5-flash"))
    assert price(10, 10, 0, 0, {"input_audio_tokens": 20}) == price(10, 10)


def test_a_batch_costs_what_the_list_says_and_half_where_it_says_nothing() -> None:
    assert price_of(Model("openai/gpt-4o-mini"), batch=True)(1e6, 1e6) == pytest.approx(0.375)
    # OpenAI does not halve the price of what it reads from the cache.
    assert price_of(Model("openai/gpt-4o-mini"), batch=True)(1e6, 0, 1e6) == pytest.approx(0.075)
    name = Model("deepseek/deepseek-chat")
    assert price_of(name, batch=True)(1e6, 1e6) == pytest.approx(price_of(name)(1e6, 1e6) / 2)
    assert price_of(Model("openai/no-such-model"), batch=True) is None


# --- Machine-hours ---


def test_answers_share_the_time_of_a_machine_equally() -> None:
    now = [0.0]
    shared = SharedTime(lambda: now[0])
    shares = {}
    # (time, what begins, what ends): alone for 2 s, two together for 4 s, alone for 1 s, idle for 3 s, alone for 1 s.
    for at, begins, ends in [(0, 1, None), (2, 2, None), (6, None, 1), (7, None, 2), (10, 3, None), (11, None, 3)]:
        now[0] = at
        if begins:
            shared.begin(begins)
        if ends:
            shares[ends] = shared.end(ends)
    assert shares == {1: 4.0, 2: 3.0, 3: 1.0}
    assert sum(shares.values()) == 8, "the idle time belongs to no answer"


class Slow:
    """A model that answers two questions at once; its clock is the test's."""

    def __init__(self, now: list[float]) -> None:
        self.details, self._now = {}, now

    def answer(self, requests):
        waiting = list(requests)
        for request in waiting:
            self._now[0] += 1
            yield request, Prediction(request.example)


def test_an_answer_of_an_own_machine_costs_its_share_of_the_hour() -> None:
    model = Model("x", provider="hf", price={"hour": 3600})
    now, paid = [0.0], Budget()
    guarded = GuardedModel(model, lambda: Slow(now), str, budget=paid)
    guarded._time = SharedTime(lambda: now[0])
    pairs = guarded.answers([Request(row, f"{row}", f"{row}") for row in range(3)])
    assert [answer.cost for _, answer in pairs] == pytest.approx([1 / 3, 1 / 3 + 1 / 2, 1 / 3 + 1 / 2 + 1])
    assert paid.paid == pytest.approx(3), "three seconds, at a dollar each"


def test_an_own_server_costs_by_the_hour_and_a_budget_holds(inline_ws, experiment, server) -> None:
    ws = inline_ws
    server.configure(**{**PLAIN, "latency": 0.05})
    model = Model("echo", provider="openai", base_url=server.base_url, price={"hour": 3600.0}, concurrency=1)
    counted, piloted = (ws.workflows.estimate(experiment, model, pilot=n)["dollars"][0] for n in (0, 2))
    assert pd.isna(counted), "the time of an answer is not known yet"
    assert piloted >= (ROWS - 2) * 0.05
    (workflow,) = ws.workflows.launch(experiment, model, budget=0.3)
    ws.wait(workflow, progress=False)
    answers = ws.workflows.predictions(workflow)
    answered = answers["prediction"].notna().sum()
    assert 1 <= answered < ROWS / 2, "each costs 0.05 dollars or more"
    assert answers["cost"].sum() >= (answered - 1) * 0.05


def test_one_process_asks_a_server_that_costs_by_the_hour() -> None:
    """Each of several would count all of the server's time."""
    server = {"base_url": "http://localhost:8000/v1", "price": {"prompt": 1.0, "completion": 1.0}}
    assert is_spread(Model("openai/x", **server), Launch(), 1_000_000)
    assert not is_spread(Model("openai/x", **{**server, "price": {"hour": 2.5}}), Launch(), 1_000_000)
    assert is_spread(Model("hf/x/y", price={"hour": 2.5}), Launch(), 1_000_000), (
        "each process has its part of a machine"
    )


def test_a_price_is_of_tokens_or_of_hours() -> None:
    with pytest.raises(InvalidInputError, match="'hour', per hour"):
        lm.models.check(Model("openai/x", price={"prompt": 1.0}))
    with pytest.raises(InvalidInputError, match="runs on your own machine"):
        lm.models.check(Model("hf/x/y", price={"prompt": 1.0, "completion": 1.0}))
    lm.models.check(Model("openai/x", base_url="http://localhost:8000/v1", price={"hour": 2.5}))


# --- Judges ---


def test_estimates_include_what_judges_cost(inline_ws, experiment, server) -> None:
    ws = inline_ws
    server.configure(**PLAIN)
    with ModelServer(judge=Planted()) as judging:
        price = {"prompt": 100.0, "completion": 100.0}
        judge = lm.Judge("quality", Model("judge", provider="openai", base_url=judging.base_url, price=price), retest=4)
        judged = ws.experiments.create("judged", dataset=experiment.dataset_id, metrics=["length", judge])
        model = Model("echo", provider="openai", base_url=server.base_url, price=PRICE)
        (before,) = ws.workflows.estimate(judged, model).to_dict("records")
        assert judging.stats().calls == 0
        (workflow,) = ws.wait(ws.workflows.launch(judged, model), progress=False, check=True)
        bill = next(job.details["cost"] for job in ws.workflows.jobs(workflow) if job.step == "evaluation")
        assert judging.stats().calls == ROWS + 4
        assert before["judge_dollars"] == pytest.approx(bill, rel=0.3)
        assert before["judge_dollars"] < before["judge_dollars_at_most"]
        assert bill < before["judge_dollars_at_most"]
        (after,) = ws.workflows.estimate(judged, model).to_dict("records")
        assert (after["dollars"], after["judge_dollars"], after["judge_dollars_at_most"]) == (0, 0, 0)
    assert ws.workflows.estimate(experiment, model)["judge_dollars"].tolist() == [0]


def test_estimates_without_a_workspace_include_judges() -> None:
    texts = ["The bus is late. We walk."] * 3
    alone = lm.estimate("openai/gpt-4o-mini", texts)
    one = lm.estimate("openai/gpt-4o-mini", texts, metrics=lm.Judge("fluency", retest=0))
    two = lm.estimate(
        "openai/gpt-4o-mini", texts, metrics=["rouge", lm.Judge("fluency", retest=0), lm.Judge("fluency")]
    )
    assert (alone.judge_dollars, alone.dollars) == (0.0, one.dollars)
    assert 0 < 2 * one.judge_dollars < two.judge_dollars
    unknown = lm.estimate("openai/gpt-4o-mini", texts, metrics=lm.Judge("fluency", "openai/no-such-model"))
    assert unknown.judge_dollars is None
