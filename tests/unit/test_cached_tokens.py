"""Prompt tokens that a provider took from its cache, or put there: counted, priced, stored and shown."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import genai_prices
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb import models
from lumigator_nb.display.costs import cost_table
from lumigator_nb.models import Prediction, price_of
from lumigator_nb.models.prices import Price
from lumigator_nb.models.providers.api_payloads import Usage, prediction_from, usage_from
from lumigator_nb.specs import Model, Step
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.answer_cache import Answers

CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1741569952, "model": "some-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "A cup broke."}, "finish_reason": "stop"}],
}  # fmt: skip
# As the providers document their answers: https://platform.openai.com/docs/guides/prompt-caching,
# https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching, https://docs.mistral.ai/api,
# https://api-docs.deepseek.com/guides/kv_cache.
BODIES = {
    "openai": CHAT | {
        "usage": {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
        }
    },
    "anthropic": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "A cup broke."}],
        "usage": {
            "input_tokens": 50, "cache_creation_input_tokens": 248, "cache_read_input_tokens": 1800,
            "cache_creation": {"ephemeral_5m_input_tokens": 248, "ephemeral_1h_input_tokens": 0}, "output_tokens": 503,
        },
    },
    "mistral": CHAT | {
        "usage": {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
        }
    },
    "deepseek": CHAT | {
        "usage": {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_cache_hit_tokens": 1920, "prompt_cache_miss_tokens": 86,
        }
    },
}  # fmt: skip
# (prompt, completion, read from the cache, written to it); Anthropic counts the cached tokens beside its input.
TOKENS = {
    "openai": (2006, 300, 1920, None),
    "anthropic": (2098, 503, 1800, 248),
    "mistral": (2006, 300, 1920, None),
    "deepseek": (2006, 300, 1920, None),
}
PRICE = {"prompt": 100.0, "completion": 200.0, "cache_read": 10.0, "cache_write": 125.0}


@pytest.fixture(scope="module")
def address():
    """A server whose first part of the path names the provider whose body it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps(BODIES[self.path.split("/")[1]]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def asked(address: str, provider: str, **settings) -> Model:
    end = "" if provider in ("anthropic", "mistral") else "/v1"
    return Model("some-model", provider=provider, base_url=f"{address}/{provider}{end}", price=PRICE, **settings)


def dollars(prompt: int, completion: int, read: int | None, written: int | None) -> float:
    read, written = read or 0, written or 0
    return ((prompt - read - written) * 100 + read * 10 + written * 125 + completion * 200) / 1e6


@pytest.mark.parametrize("provider", BODIES)
def test_cached_tokens_are_counted_and_priced(address, provider, monkeypatch) -> None:
    for name in ("ANTHROPIC", "MISTRAL", "DEEPSEEK", "OPENAI"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-of-a-test")
    (found,) = models.predict(asked(address, provider, api_key_name="OPENAI_API_KEY"), ["A cup broke."])
    assert found.error is None
    counted = found.prompt_tokens, found.completion_tokens, found.cache_read_tokens, found.cache_write_tokens
    assert counted == TOKENS[provider]
    assert found.cost == pytest.approx(dollars(*TOKENS[provider]))


@pytest.mark.parametrize(
    ("provider", "name", "price_name"),
    [
        ("openai", "gpt-4o-mini", "openai"),
        ("openai", "gpt-6-luna", "openai"),  # depends on the length of the prompt, and charges for what is cached
        ("anthropic", "claude-haiku-4-5", "anthropic"),
        ("mistral", "mistral-small-latest", "mistral"),
        ("deepseek", "deepseek-chat", "deepseek"),
        ("gemini", "gemini-2.5-pro", "google"),
    ],
)
def test_list_prices_know_of_caches(provider, name, price_name) -> None:
    price = price_of(Model(name, provider=provider))
    for read, written in ((0, 0), (1920, 0), (0, 1920), (1000, 500)):
        tokens = {"input_tokens": 2006, "output_tokens": 300, "cache_read_tokens": read, "cache_write_tokens": written}
        listed = genai_prices.calc_price(genai_prices.Usage(**tokens), name, provider_id=price_name).total_price
        assert price(2006, 300, read, written) == pytest.approx(float(listed))
    assert price(2006, 300, 1920) < price(2006, 300) <= models.highest(price, 2006, 300)
    # A server that reports more cached tokens than tokens does not get a negative price.
    assert 0 < price(100, 0, 200, 200) <= price(100, 0)


def test_a_price_that_depends_on_the_time_of_day_is_looked_up_for_each_answer() -> None:
    """DeepSeek charges half at night; a server that runs for days must not go on with the price of its first hour."""
    assert isinstance(price_of(Model("openai/gpt-4o-mini")), Price)
    assert not isinstance(price_of(Model("deepseek/deepseek-chat")), Price)


def test_without_a_price_for_cached_tokens_they_cost_what_others_do() -> None:
    price = price_of(Model("openai/x", price={"prompt": 2, "completion": 4}))
    assert price(1_000_000, 0, 600_000, 400_000) == price(1_000_000, 0) == 2.0


def test_usage_of_providers_that_genai_prices_does_not_know_is_read_as_openais() -> None:
    usage = BODIES["openai"]["usage"]
    expected = (2006, 300, 64, 1920, None, {"output_reasoning_tokens": 64})
    assert usage_from(usage, "openai") == usage_from(usage, "no-such-provider") == expected
    assert usage_from({}, "openai") == usage_from({"prompt_tokens": None}, "openai") == Usage()


def test_a_server_that_reports_no_tokens_has_no_cost() -> None:
    for usage in (None, {}, {"prompt_tokens": 5}):
        found = prediction_from(
            CHAT | {"usage": usage}, prompt="", seconds=1, first=None, price=price_of(Model("openai/gpt-4o-mini"))
        )
        assert (found.text, found.cost) == ("A cup broke.", None)


def test_batches_take_half_of_the_price_with_the_cache() -> None:
    price = price_of(Model("openai/x", price=PRICE), batch=True)
    assert price(2006, 300, 1920) == pytest.approx(dollars(*TOKENS["openai"]) / 2)


def test_an_estimate_takes_the_price_of_a_prompts_length_and_not_of_all_prompts() -> None:
    few, many = (lm.estimate("openai/gpt-6-luna", ["word " * 200] * n) for n in (10, 10_000))
    assert many.prompt_tokens > 272_000, "from where on a longer prompt costs more"
    assert many.dollars == pytest.approx(1000 * few.dollars)
    assert many.dollars_at_most >= many.dollars


@pytest.fixture
def experiment(inline_ws):
    texts = [f"Cup {n} broke. We sent one." for n in range(4)]
    frame = pd.DataFrame({"example": texts, "ground_truth": ["A cup."] * 4})
    dataset = inline_ws.datasets.upload(frame, name="cups", progress=False)
    return inline_ws.experiments.create("e", dataset=dataset, metrics=["rouge"])


def test_cached_tokens_go_into_results_costs_and_estimates(inline_ws, experiment, address) -> None:
    model = asked(address, "openai", max_new_tokens=300)
    (estimated,) = inline_ws.workflows.estimate(experiment, model, pilot=2).to_dict("records")
    assert estimated["dollars"] == pytest.approx(2 * dollars(*TOKENS["openai"]), rel=0.02)
    assert estimated["dollars_at_most"] > 2 * dollars(2006, 300, 0, 0), "a prompt may be put into the cache"
    (workflow,) = inline_ws.wait(inline_ws.workflows.launch(experiment, model), progress=False, check=True)
    (costs,) = inline_ws.compare(experiment).costs().to_dict("records")
    assert (costs["prompt_tokens"], costs["cache_read_tokens"], costs["cache_write_tokens"]) == (8024, 7680, 0)
    assert costs["dollars"] == pytest.approx(4 * dollars(*TOKENS["openai"]))
    details = inline_ws.workflows.jobs(workflow)[0].details
    assert details["cache_read_tokens"] == 7680
    assert details["cost"] == pytest.approx(costs["dollars"])
    table = cost_table(pd.DataFrame([costs]), [costs["model"]])
    headers, (row,) = table.headers, table.rows
    assert row[headers.index("in from cache")] == "7,680"


def test_a_budget_counts_what_was_paid_not_what_the_list_says(inline_ws, experiment, address) -> None:
    model = asked(address, "openai", max_new_tokens=300, concurrency=1)
    # Enough for four answers at their real price, and for two without the cache.
    budget = 4 * dollars(*TOKENS["openai"]) + 0.01
    assert budget < 3 * dollars(2006, 300, 0, 0)
    (workflow,) = inline_ws.workflows.launch(experiment, model, budget=budget)
    inline_ws.wait(workflow, progress=False, check=True)
    assert inline_ws.workflows.predictions(workflow)["prediction"].notna().all()


def test_answers_and_results_of_earlier_versions_are_read(inline_ws, experiment, address) -> None:
    ws = inline_ws
    (workflow,) = ws.wait(ws.workflows.launch(experiment, asked(address, "openai")), progress=False, check=True)
    part = layout.part(workflow.id, Step.INFERENCE, 0)
    table = results.read_shard(ws.store, workflow.id, Step.INFERENCE, 0)
    results._write_table(ws.store, part, table.drop_columns(["cache_read_tokens", "cache_write_tokens"]))
    assert [each.cache_read_tokens for each in results.read_predictions(ws.store, workflow.id, 0)] == [None] * 4
    assert results.tally(ws.store, workflow.id).prompt_tokens == 8024
    (costs,) = ws.compare(experiment).costs().to_dict("records")
    assert (costs["prompt_tokens"], costs["cache_read_tokens"]) == (8024, 0)
    ws.store.write(f"{layout.answers('f')}/w.1-1-a.jsonl", b'{"key":"k","answer":{"text":"A cup.","cost":0.5}}\n')
    answers = Answers(ws.store, layout.answers("f"), "other")
    assert answers.find("k") == Prediction("A cup.", cost=0.5, cached=True)
    answers.close()
