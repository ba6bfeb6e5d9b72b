"""Models behind an API, over real HTTP against a server that misbehaves on demand."""

from __future__ import annotations

import json
import random
import time
from functools import partial

import pytest
from inferring import Bench, examples, kill_after, server_model
from waiting import PATIENCE_S, until

from lumigator_nb.models import predict
from lumigator_nb.models.pacing import asker
from lumigator_nb.specs import Model, Shot, Status, Summarization, TextGeneration, Translation
from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration

KEY = "sk-local-0123456789abcdef"


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def shared_server():
    with ModelServer(latency=0.01) as started:
        yield started


@pytest.fixture
def server(shared_server):
    shared_server.reset()
    yield shared_server
    shared_server.configure(**dict(DEFAULTS.items()))


DEFAULTS = {
    "latency": 0.01,
    "refuse": 0.0,
    "fail": 0.0,
    "hang": 0.0,
    "retry_after": None,
    "outage": False,
    "reject": {},
    "api_key": None,
    "models": None,
    "quota": None,
    "unsupported": (),
    "reasoning": False,
}


def test_answers_come_back_in_the_datasets_order_with_what_they_took(bench, server) -> None:
    texts = examples(40)
    result, rows = bench.ask(server_model(server, "lead-1", price={"prompt": 1.0, "completion": 2.0}), texts)
    assert result.status is Status.SUCCEEDED
    assert list(rows["row"]) == list(range(40))
    assert list(rows["prediction"]) == [f"Case {i} came in." for i in range(40)]
    first = rows.iloc[0]
    assert json.loads(first["prompt"])[-1] == {"role": "user", "content": texts[0]}
    assert first["cost"] == pytest.approx((first["prompt_tokens"] + 2 * first["completion_tokens"]) / 1e6)
    assert first["seconds"] >= 0.01
    assert result.details["cost"] == pytest.approx(rows["cost"].sum())
    assert server.stats().answered == 40


def test_as_many_as_allowed_are_asked_at_once(bench, server) -> None:
    server.configure(latency=0.05)
    bench.ask(server_model(server, concurrency=7), examples(60))
    assert server.stats().most_at_once == 7


def test_without_a_number_it_grows_to_the_default(bench, server) -> None:
    server.configure(latency=0.05)
    bench.ask(server_model(server), examples(400))
    assert 32 < server.stats().most_at_once <= 64


def test_every_row_is_answered_once_by_a_server_that_refuses_fails_and_hangs(bench, server) -> None:
    server.configure(refuse=0.25, fail=0.05, hang=0.01, retry_after=0.05)
    result, rows = bench.ask(server_model(server, concurrency=16, timeout=1.5), examples(500))
    stats = server.stats()
    assert rows["prediction"].notna().all()
    assert stats.answered == 500
    assert stats.calls <= 1.5 * 500
    assert stats.hung > 0
    assert result.details["retries"] == stats.calls - 500


def test_a_busy_provider_is_asked_less_at_once(bench, server) -> None:
    server.configure(refuse=0.4, latency=0.02)
    bench.ask(server_model(server, concurrency=64), examples(64))
    assert server.stats().answered == 64
    assert server.stats().calls <= 120


def test_retry_after_is_honoured(bench, server) -> None:
    server.configure(refuse=0.5, retry_after=1.0)
    result, _ = bench.ask(server_model(server, concurrency=1), examples(4))
    seconds = (result.finished_at - result.started_at).total_seconds()
    assert seconds >= 2.0


@pytest.mark.parametrize(
    ("faults", "model", "words"),
    [
        ({"api_key": KEY}, {}, "refuses the API key"),
        ({"models": ("other",)}, {}, "there is no model 'lead-1'"),
        ({"quota": 0}, {}, "takes no more requests from this account"),
    ],
)
def test_what_would_fail_every_row_stops_at_once(bench, server, faults, model, words) -> None:
    server.configure(**faults)
    result, _rows = bench.ask(server_model(server, concurrency=4, **model), examples(200))
    assert result.status is Status.FAILED
    assert words in str(result.error)
    assert server.stats().calls <= 8


def test_an_exhausted_account_keeps_what_was_answered_and_asks_only_for_the_rest(bench, server) -> None:
    server.configure(quota=50)
    spec = bench.workflow(server_model(server, concurrency=4), examples(100))
    assert bench.infer(spec).status is Status.FAILED
    assert 40 <= bench.predictions(spec)["prediction"].notna().sum() <= 50
    server.configure(quota=None)
    server.reset()
    assert bench.infer(bench.again(spec)).status is Status.SUCCEEDED
    assert server.stats().calls <= 54


def test_a_server_that_is_not_there_is_given_up_soon(bench, free_port, monkeypatch) -> None:
    monkeypatch.setattr(asker, "NEVER_ANSWERED_S", 2.0)
    model = Model("m", provider="openai", base_url=f"http://127.0.0.1:{free_port}/v1")
    result, _ = bench.ask(model, examples(5))
    assert result.status is Status.FAILED
    assert "no answer for" in str(result.error)


def test_one_rejected_example_is_one_failed_row(bench, server) -> None:
    texts = examples(30)
    server.configure(reject={texts[7]: (400, "context_length_exceeded")})
    spec = bench.workflow(server_model(server), texts)
    result = bench.infer(spec)
    rows = bench.predictions(spec)
    assert result.status is Status.SUCCEEDED
    assert (result.n_failed, result.n_examples) == (1, 30)
    assert rows["prediction"].isna().sum() == 1
    assert rows["error"][7].startswith("HTTP 400")
    server.configure(reject={})
    server.reset()
    again = bench.infer(bench.again(spec))
    assert again.n_failed == 0
    assert server.stats().calls == 1


def test_too_many_failed_rows_fail_the_workflow(bench, server) -> None:
    texts = examples(20)
    server.configure(reject=dict.fromkeys(texts[:3], (400, "content_filter")))
    result, _ = bench.ask(server_model(server), texts)
    assert result.status is Status.FAILED
    assert "3 of 20 examples have no answer" in str(result.error)
    allowed, _ = bench.ask(server_model(server), texts, max_failed=0.15)
    assert allowed.status is Status.SUCCEEDED


def test_a_prompt_that_is_always_rejected_is_not_put_for_every_row(bench, server) -> None:
    texts = examples(300)
    server.configure(reject=dict.fromkeys(texts, (400, "invalid_request")))
    result, _ = bench.ask(server_model(server, concurrency=4), texts)
    assert "were all rejected" in str(result.error)
    assert server.stats().calls <= 40


def test_answers_are_never_paid_for_twice(bench, server) -> None:
    model = server_model(server)
    bench.ask(model, examples(40))
    result, rows = bench.ask(model, examples(50))
    assert server.stats().calls == 50
    assert rows["cached"].sum() == 40
    assert result.details["cached"] == 40
    bench.ask(model, examples(50)[::-1])
    bench.ask(server_model(server, timeout=5, label="other name"), examples(50))
    assert server.stats().calls == 50


def test_other_settings_prompts_and_repeats_are_other_questions(bench, server) -> None:
    texts = examples(5)
    bench.ask(server_model(server), texts)
    bench.ask(server_model(server, max_new_tokens=7), texts)
    bench.ask(server_model(server, repeat=2), texts)
    bench.ask(server_model(server), texts, task=Summarization("Otherwise."))
    bench.ask(server_model(server, "lead-2"), texts)
    assert server.stats().calls == 25


def test_duplicates_are_asked_once_unless_the_model_samples(bench, server) -> None:
    texts = examples(3) * 20
    _, rows = bench.ask(server_model(server), texts)
    assert server.stats().calls == 3
    assert rows["prediction"].nunique() == 3
    bench.ask(server_model(server, temperature=0.7), texts)
    assert server.stats().calls == 3 + 60
    bench.ask(server_model(server, temperature=0.7), texts)
    assert server.stats().calls == 3 + 60


def test_a_cache_that_is_off_or_refreshed_asks_again(bench, server) -> None:
    model, texts = server_model(server), examples(5)
    bench.ask(model, texts)
    bench.ask(model, texts, cache="off")
    assert server.stats().calls == 10
    bench.ask(model, texts, cache="refresh")
    assert server.stats().calls == 15
    bench.ask(model, texts)
    assert server.stats().calls == 15


def asks_or_ended(server, worker, before: int) -> bool:
    """On a slow machine the last workers may find all rows answered."""
    return server.stats().calls > before or worker.poll() is not None


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_answers_every_row_once(bench, kills) -> None:
    rows, at_once = 50 * kills, 8
    with ModelServer(latency=0.2) as server:
        spec = bench.workflow(server_model(server, concurrency=at_once), examples(rows))
        moments, in_flight = random.Random(7), 0
        for _ in range(kills):
            before = server.stats().calls
            worker = bench.worker(spec)
            until(partial(asks_or_ended, server, worker, before), "the worker asks")
            time.sleep(moments.uniform(0, 0.6))
            in_flight += server.stats().in_flight
            kill_after(worker, 0)
            spec = bench.again(spec)
        assert in_flight > 0
        worker = bench.worker(spec)
        printed = worker.communicate(timeout=PATIENCE_S)[0].decode()
        assert worker.returncode == 0, printed
        predictions = bench.predictions(spec)
        assert list(predictions["row"]) == list(range(rows))
        assert list(predictions["prediction"]) == [f"Case {i} came in." for i in range(rows)]
        asked = server.stats()
        # A kill takes what is under way, and the answers of the last moment that are not written down yet.
        assert rows < asked.calls
        assert asked.calls - asked.answered <= kills * at_once
        assert asked.answered - rows <= kills * at_once
        server.reset()
        bench.ask(server_model(server, concurrency=at_once), examples(rows))
        assert server.stats().calls == 0


def test_a_stopped_worker_leaves_what_it_has(bench) -> None:
    with ModelServer(latency=0.1) as server:
        spec = bench.workflow(server_model(server, concurrency=4), examples(200), cache="off")
        process = bench.worker(spec)
        while server.stats().answered < 20:
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        assert bench.predictions(spec)["prediction"].notna().sum() >= 16


def test_a_budget_is_not_exceeded_and_can_be_raised(bench, server) -> None:
    model = server_model(server, concurrency=4, max_new_tokens=20, price={"prompt": 1000.0, "completion": 1000.0})
    spec = bench.workflow(model, examples(60), budget=2.0)
    result = bench.infer(spec)
    spent = bench.predictions(spec)["cost"].sum()
    assert result.status is Status.STOPPED
    assert "of the budget of $2.0000 are spent" in str(result.error)
    assert 1.8 < spent <= 2.0
    answered = server.stats().calls
    done = bench.infer(bench.again(spec, budget=100.0))
    assert done.status is Status.SUCCEEDED
    assert server.stats().calls == 60
    assert answered < 60


def test_no_key_is_left_anywhere(bench, server, monkeypatch, caplog) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", KEY)
    texts = [*examples(3), f"My key is {KEY}, keep it safe. It is new."]
    server.configure(api_key="another-key-entirely")
    model = server_model(server, "echo", api_key_name="LOCAL_API_KEY")
    result, _ = bench.ask(model, texts)
    assert "refuses the API key" in str(result.error)
    assert "check LOCAL_API_KEY in the environment, .env or the stored secrets" in str(result.error)
    server.configure(api_key=KEY)
    result, rows = bench.ask(model, texts)
    assert result.status is Status.SUCCEEDED
    assert rows["prediction"][3].startswith("My key is [LOCAL_API_KEY removed], keep")
    process = bench.worker(bench.workflow(model, examples(2, 50)), LOCAL_API_KEY="wrong-" + KEY)
    printed = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 1
    for place in (bench.everything(), caplog.text.encode(), repr(result).encode(), printed):
        assert KEY.encode() not in place
    assert KEY not in str(server.prompts())


def test_a_key_is_not_sent_to_another_address_than_its_owners(bench, server, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.configure(api_key=KEY)
    result, _ = bench.ask(server_model(server), examples(1))
    assert "name the variable with its key" in str(result.error)


def test_streamed_answers_know_their_first_token(bench, server) -> None:
    _, rows = bench.ask(server_model(server, "echo", stream=True), examples(3))
    assert (rows["first_token_seconds"] <= rows["seconds"]).all()
    assert list(rows["prediction"]) == examples(3)
    assert rows["completion_tokens"].notna().all()


@pytest.mark.parametrize("reasoning", [True, "field", "hidden"])
@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_kept_apart_from_the_answer(bench, server, reasoning, stream) -> None:
    server.configure(reasoning=reasoning)
    _, rows = bench.ask(server_model(server, stream=stream), examples(2))
    assert list(rows["prediction"]) == ["Case 0 came in.", "Case 1 came in."]
    assert rows["reasoning"].notna().all() == (reasoning != "hidden")
    assert (rows["reasoning_tokens"] > 0).all()


def test_parameters_that_a_model_does_not_take_are_left_out_or_renamed(bench, server) -> None:
    server.configure(unsupported=("temperature", "max_tokens"))
    result, rows = bench.ask(server_model(server, max_new_tokens=3), examples(20))
    assert rows["prediction"].notna().all()
    assert set(rows["finish"]) == {"length"}
    assert result.details["cut_off"] == 20
    assert len(result.details["notes"]) == 2


@pytest.mark.parametrize("provider", ["anthropic", "mistral"])
def test_other_protocols_answer_too(bench, server, monkeypatch, provider) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", KEY)
    server.configure(api_key=KEY)
    model = Model("lead-2", provider=provider, base_url=server.url, api_key_name="LOCAL_API_KEY")
    result, rows = bench.ask(model, examples(5))
    assert result.status is Status.SUCCEEDED, result.error
    assert rows["prediction"][0] == "Case 0 came in. It was about a broken cup."
    assert rows["prompt_tokens"].notna().all()


def test_what_is_asked_follows_the_task(server) -> None:
    model = server_model(server, "echo")
    shots = [Shot(example="Old.", answer="New.")]
    task = Translation("English", "German", template="Text: {{ example }}", shots=shots)
    assert predict(model, ["Hi."], task)[0].text == "Text: Hi."
    assert server.bodies()[-1]["messages"] == [
        {
            "role": "system",
            "content": "Translate the text from English into German. Answer with the translation only.",
        },
        {"role": "user", "content": "Text: Old."},
        {"role": "assistant", "content": "New."},
        {"role": "user", "content": "Text: Hi."},
    ]
    predict(model, ["Why?"], TextGeneration("Answer briefly."))
    assert server.bodies()[-1]["messages"][0]["content"] == "Answer briefly."


def test_metadata_reaches_the_template(bench, server) -> None:
    task = Summarization(template="[{{ product }}] {{ example }}")
    _, rows = bench.ask(server_model(server, "echo"), ["One.", "Two."], task=task, metadata={"product": ["cup", "pot"]})
    assert list(rows["prediction"]) == ["[cup] One.", "[pot] Two."]


@pytest.mark.parametrize(
    "provider", ["openai", *(pytest.param(each, marks=pytest.mark.slow) for each in ("anthropic", "mistral"))]
)
def test_batches_are_collected_by_whoever_comes_later(bench, monkeypatch, provider) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", KEY)
    with ModelServer(batch_seconds=6.0) as server:
        model = Model(
            "lead-1",
            provider=provider,
            base_url=server.base_url if provider == "openai" else server.url,
            api_key_name="LOCAL_API_KEY",
            price={"prompt": 10.0, "completion": 10.0},
        )
        spec = bench.workflow(model, examples(30), mode="batch")
        process = bench.worker(spec)
        while server.stats().batches == 0:
            assert process.poll() is None
        kill_after(process, 1.0)
        spec = bench.again(spec)
        result = bench.infer(spec)
        rows = bench.predictions(spec)
    assert result.status is Status.SUCCEEDED, result.error
    assert list(rows["prediction"]) == [f"Case {i} came in." for i in range(30)]
    full = (rows["prompt_tokens"] + rows["completion_tokens"]) * 10 / 1e6
    assert list(rows["cost"][1:]) == pytest.approx(list(full[1:] / 2))


def test_a_row_that_the_template_cannot_take_is_one_failed_row(bench, server) -> None:
    task = Summarization(template="{{ product.upper() }} {{ example }}")
    metadata = {"product": ["cup", None, "pot"]}
    result, rows = bench.ask(server_model(server, "echo"), examples(3), task=task, metadata=metadata, max_failed=0.5)
    assert result.n_failed == 1
    assert "cannot be filled in" in rows["error"][1]
    assert rows["prediction"][2].startswith("POT Case 2")
