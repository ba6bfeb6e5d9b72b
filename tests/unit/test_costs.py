"""Cost and speed: the figures, and how they show themselves."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from test_display import EVIL, Page, assert_harmless, make_comparison, make_dataset, make_workflow

from lumigator_nb.database import record_views
from lumigator_nb.database.records import Experiment, Job
from lumigator_nb.display.costs import dollars, remarks, seconds, unanswered
from lumigator_nb.display.descriptions import TALLIED, describe_details, describe_launch, describe_model, describe_task
from lumigator_nb.display.progress import ProgressRow, as_html
from lumigator_nb.services.comparison import view
from lumigator_nb.services.comparison.costs import costs
from lumigator_nb.services.comparison.report import recipe, report
from lumigator_nb.specs import Launch, Model, Shot, Status, Step, Summarization, Translation
from lumigator_nb.storage.results import TOKENS, Tally

FRAME = pd.DataFrame(
    {
        "row": range(4),
        "prediction": ["a", "b", "c", None],
        "error": [None, None, None, "no"],
        "prompt_tokens": [100, 200, 300, None],
        "completion_tokens": [10, 20, 30, None],
        "seconds": [1.0, 2.0, 4.0, None],
        "cost": [0.01, 0.02, None, None],
        "cached": [True, None, False, None],
        "truncated": [False, True, False, None],
        "finish": ["stop", "length", "length", None],
    }
)


def test_costs_of_a_model_are_added_up() -> None:
    (row,) = costs({"m": FRAME}).to_dict("records")
    assert (row["examples"], row["answered"], row["failed"], row["cached"], row["truncated"], row["cut_off"]) == (
        *(4, 3, 1, 1, 1, 2),
    )
    assert (row["prompt_tokens"], row["completion_tokens"]) == (600, 60)
    assert row["dollars"] == pytest.approx(0.03)
    assert row["dollars_per_1000"] == pytest.approx(15.0)
    assert (row["seconds_p50"], row["seconds_p95"]) == (2.0, pytest.approx(3.8))
    assert row["tokens_per_second"] == 10.0


def test_predictions_without_any_of_it_cost_nothing_known() -> None:
    (row,) = costs({"m": pd.DataFrame({"row": [0], "prediction": ["a"]})}).to_dict("records")
    assert (row["answered"], row["cached"], row["completion_tokens"]) == (1, 0, 0)
    assert all(math.isnan(row[name]) for name in ("dollars", "seconds_p50", "tokens_per_second"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.3, "$12.30"),
        (1234.5, "$1,234.50"),
        (0.5, "$0.50"),
        (0.134, "$0.134"),
        (0.0132, "$0.0132"),
        (0.0012, "$0.0012"),
        (0.00000456, "$0.00000456"),
        (0.99999, "$1.00"),
        (0, "$0.00"),
        (float("nan"), "no price"),
    ],
)
def test_dollars_show_three_figures_and_cents(value, text) -> None:
    assert dollars(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00004, "<1 ms"),
        (0.0852, "85 ms"),
        (0.9996, "1 s"),
        (1.2345, "1.23 s"),
        (125, "2 min 05 s"),
        (float("nan"), "–"),
    ],
)
def test_latencies(value, text) -> None:
    assert seconds(value) == text


def priced(label: str, **options):
    comparison = make_comparison({label: 0.3, "other": 0.2}, n=4, **options)
    comparison._predictions[label] = FRAME
    return comparison


def test_a_comparison_shows_cost_and_speed_and_what_to_know() -> None:
    comparison = priced("a <b>")
    page = assert_harmless(view.as_html(comparison))
    assert "$0.03" in page.text
    assert "latency" in page.text
    text = view.as_text(comparison, 80)
    assert "$0.03" in text
    assert "a <b>: 2 of 4 answers (50%) ended at max_new_tokens: raise max_new_tokens." in text
    assert "a <b>: 1 of 4 inputs was cut to fit the model." in text
    assert "1 of 4 examples has no answer from a <b> and is left out for all models." in text
    assert re.search(r"other +no price", text)
    assert "cached: answers from the answer cache" in text
    assert "Cost and speed" in assert_harmless(report(comparison)).text


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_what_does_not_fit_beside_stands_below(width) -> None:
    comparison = priced("hf/some-organisation/a-model-with-a-very-long-name")
    block = view.as_text(comparison, width).partition("Cost and speed\n")[2].partition("\n\n*")[0]
    assert all(len(line) <= width for line in block.splitlines())
    headers = [line.split() for line in block.splitlines() if line.startswith("model ")]
    columns = "cost per 1,000 latency 95% within tokens/s tokens in tokens out cached"
    assert " ".join(word for line in headers for word in line[1:]) == columns


def test_a_note_on_cut_off_answers_appears_above_a_twentieth() -> None:
    def said(cut_off: int) -> list[str]:
        finish = ["length"] * cut_off + ["stop"] * (100 - cut_off)
        frame = pd.DataFrame({"row": range(100), "prediction": "a", "finish": finish})
        return remarks(costs({"m": frame}))

    assert said(5) == []
    assert said(6) == ["m: 6 of 100 answers (6%) ended at max_new_tokens: raise max_new_tokens."]


def test_a_single_model_leaves_nothing_out_for_others() -> None:
    assert unanswered(costs({"m": FRAME})) == ["1 of 4 examples has no answer from m and is left out."]


def test_without_prices_and_times_there_is_no_such_table() -> None:
    bare = make_comparison({"a": 0.3, "b": 0.2})
    for drawn in (view.as_text(bare, 100), view.as_html(bare), report(bare)):
        assert "Cost and speed" not in drawn
    assert remarks(bare.costs()) == []


def test_costs_come_in_the_order_of_launch_and_are_the_callers_to_change() -> None:
    comparison = priced("a")
    taken = comparison.costs()
    taken["dollars"] = 0.0
    assert list(comparison.costs()["model"]) == ["a", "other"]
    assert comparison.costs()["dollars"][0] == pytest.approx(0.03)


def test_progress_tells_money_and_failures() -> None:
    row = ProgressRow("m", Status.RUNNING, Step.INFERENCE, done=5, total=9, failed=2, cost=0.0132)
    assert "2 failed · $0.0132 so far" in assert_harmless(as_html([row])).text


DETAILS = {
    "source": "http://me:sesame@host:8000/v1?key=sesame",
    "notes": ["no temperature"],
    "batches": [],
    "priced": True,
    "parameters": 405_000_000,
    "answered": 61,
    "cached": 20,
    "cut_off": 9,
    "prompt_tokens": 16_000,
    "completion_tokens": 3_900,
    "reasoning_tokens": 1_952,
    "cost": 0.012566,
    "seconds_p50": 0.82,
    "seconds_p95": 3.4,
}


def test_a_job_tells_its_details_readably() -> None:
    assert describe_details(DETAILS) == [
        ("Answers", "61 (20 cached, 9 ended at max_new_tokens)"),
        ("Cost", "$0.0126"),
        ("Latency", "median 820 ms, 95% within 3.4 s"),
        ("Tokens", "16,000 in, 3,900 out (1,952 of them reasoning)"),
        ("source", "http://host:8000/v1"),
        ("notes", "no temperature"),
        ("priced", "yes"),
        ("parameters", "405,000,000"),
    ]


def test_all_that_a_tally_holds_is_told_in_words() -> None:
    counts = dict.fromkeys(("answered", "cached", "truncated", "cut_off", *TOKENS), 1)
    details = Tally(**counts, cost=1.0, seconds=[np.ones(1)]).details
    assert details.keys() == TALLIED
    told = dict(describe_details(details | {"cache_read_tokens": 1_920, "cache_write_tokens": 7}))
    assert told["Tokens"].startswith("1 in (1,920 from the provider's cache, 7 into the provider's cache), 1 out")


def test_the_report_tells_what_was_noticed_but_no_figure_twice() -> None:
    comparison = make_comparison({"a": 0.3, "b": 0.2}, details=DETAILS)
    page = Page(report(comparison))
    assert "a: no temperature." in page.text
    assert "Answers 61" not in page.text
    assert "sesame" not in page.text


def test_no_key_is_shown() -> None:
    options = {"api_key": "sesame", "api_key_name": "MY_KEY", "extra": {"access_token": "sesame", "top_k": 3}}
    model = Model("m", provider="openai", base_url="http://me:sesame@host/v1?key=sesame", repeat=2, **options)
    assert describe_model(model) == ("base_url='http://host/v1', repeat=2, api_key_name='MY_KEY', extra={'top_k': 3}")
    comparison = make_comparison({"a": 0.3}, models={"a": model})
    assert "sesame" not in report(comparison)


def test_what_models_brought_along_is_shown_as_text() -> None:
    details, task = DETAILS | {"notes": [EVIL], EVIL: EVIL}, Summarization(template=EVIL)
    comparison = priced(EVIL, details=details, task=task)
    shots = assert_harmless(report(comparison)), assert_harmless(view.as_html(comparison))
    assert all(EVIL in page.text for page in shots)
    dataset = make_dataset()
    dataset.generated = {"model": EVIL, "workflow_id": "w"}
    job = Job(step=Step.INFERENCE, workflow_id="w", details=details)
    for record in (job, Experiment(name="e", dataset_id="d", task=task, metrics=()), dataset):
        assert EVIL in assert_harmless(record._repr_html_()).text


def test_records_tell_how_they_were_launched_and_made() -> None:
    launch = Launch(budget=5, mode="batch", cache="off", max_failed=0.5)
    assert describe_launch(launch) == "budget $5.00, batch mode, cache off, up to 50% may fail"
    assert describe_launch(Launch()) == ""
    assert "budget $5.00" in record_views.as_text(make_workflow("m", launch=launch))
    dataset = make_dataset()
    dataset.generated = {"model": "openai/x", "workflow_id": "w"}
    assert "generated by openai/x" in record_views.as_text(dataset)
    assert "base_url='http://x/v1'" in describe_model(Model("m", provider="openai", base_url="http://x/v1"))
    task = Translation("de", "en", shots=[Shot(example="a", answer="b")])
    assert describe_task(task) == "translation, German to English, 1 few-shot example"


def test_the_recipe_repeats_the_task() -> None:
    task = Summarization(template="> {{ example }}", shots=[Shot(example="a", answer="b")])
    comparison = make_comparison({"a": 0.3, "b": 0.2}, task=task)
    code = recipe(comparison)
    compile(code, "recipe", "exec")
    assert "template='> {{ example }}'" in code
    assert "lm.Shot(example='a'" in code or "lm.Shot(**{'example': 'a'" in code


def test_an_answer_that_was_all_thought_is_paid_for_and_counted_as_cut_off() -> None:
    spent = {"prompt_tokens": 50, "completion_tokens": 900, "cost": 0.09, "finish": "length"}
    frame = pd.DataFrame([{"row": 0, "prediction": None, "error": "max_new_tokens was used up", **spent}])
    (row,) = costs({"m": frame}).to_dict("records")
    assert (row["failed"], row["dollars"], row["completion_tokens"], row["cut_off"]) == (1, 0.09, 900, 1)


def test_the_recipe_leaves_a_gap_for_what_only_its_owner_has() -> None:
    mine = Model("mine", provider="recorded", label="mine", options={"digest": "0"})
    comparison = make_comparison({"a": 0.3, "mine": 0.2}, models={"mine": mine})
    code = recipe(comparison)
    compile(code, "recipe", "exec")
    assert "ws.workflows.record(ex, name='mine', predictions=...)" in code
    assert "recorded/" not in code
