"""What judges are shown: what was asked, the example as the models saw it, and every reference."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb import metrics
from lumigator_nb.specs import DEFAULT_PROMPTS, MetricSpec, Model, Task, WorkflowSpec
from lumigator_testing import ModelServer
from lumigator_testing.judging import Judge as Planted

TEXTS = ["The cup broke. We sent one.", "The lid is lost. We sent two.", "The pot leaks. We sent none."]
TASK = lm.Summarization("Say it in three words.", template="Product {{ product }}: {{ example }}")


@pytest.fixture(scope="module")
def running():
    with ModelServer(judge=Planted()) as started:
        yield started


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def dataset(inline_ws):
    frame = pd.DataFrame({"example": TEXTS, "product": [1, 2, 3], "ground_truth": ["A cup.", "A lid.", "A pot."]})
    frame["ground_truth_2"] = ["One cup broke.", None, "One pot leaks."]
    return inline_ws.datasets.upload(frame, name="cases", progress=False)


def judging(server: ModelServer, **settings) -> MetricSpec:
    model = Model("judge", provider="openai", base_url=server.base_url, concurrency=1)
    return lm.Judge("quality", model, ground_truth=True, retest=0, **settings)


def questions(server: ModelServer) -> list[str]:
    """What the judge was asked, in the order of the examples."""
    asked = [body["messages"][-1]["content"] for body in server.bodies()]
    return sorted(asked, key=lambda text: next(n for n, each in enumerate(TEXTS) if each in text))


def test_a_judge_of_scores_sees_what_was_asked_and_all_references(inline_ws, dataset, server) -> None:
    experiment = inline_ws.experiments.create("e", dataset=dataset, task=TASK, metrics=[judging(server)])
    inline_ws.wait(inline_ws.workflows.launch(experiment, "baseline/lead-1"), progress=False, check=True)
    first, second, third = questions(server)
    for question, product, text in zip((first, second, third), "123", TEXTS, strict=True):
        assert "<task>\nSay it in three words.\n</task>" in question
        assert f"<source>\nProduct {product}: {text}\n</source>" in question
    assert "<reference_1>\nA cup.\n</reference_1>\n\n<reference_2>\nOne cup broke.\n</reference_2>" in first
    assert "<reference>\nA lid.\n</reference>" in second
    assert "reference_2" not in second
    assert "One pot leaks." in third


def test_judges_apply_the_experiments_task_to_all_models(inline_ws, dataset, server) -> None:
    experiment = inline_ws.experiments.create("e", dataset=dataset, metrics=[judging(server)])
    chosen = [Model("baseline/lead-1", prompt="Be brief."), Model("baseline/lead-1", prompt="Be long.", label="long")]
    inline_ws.wait(inline_ws.workflows.launch(experiment, chosen), progress=False, check=True)
    assert len(server.bodies()) == len(TEXTS), "the same answers to the same task are judged once"
    assert f"<task>\n{DEFAULT_PROMPTS['summarization']}\n</task>" in questions(server)[0]


def test_where_the_task_has_no_prompt_the_models_own_is_shown(inline_ws, dataset, server) -> None:
    task = Task(kind="text_generation")
    experiment = inline_ws.experiments.create_unprompted("e", dataset=dataset, task=task, metrics=[judging(server)])
    chosen = [Model("baseline/lead-1", prompt="Be brief."), Model("baseline/copy", prompt="Be long.")]
    inline_ws.wait(inline_ws.workflows.launch(experiment, chosen), progress=False, check=True)
    asked = questions(server)
    assert sum("<task>\nBe brief.\n</task>" in each for each in asked) == len(TEXTS)
    assert sum("<task>\nBe long.\n</task>" in each for each in asked) == len(TEXTS)
    server.reset()
    inline_ws.judge(experiment, judging(server), retest=0, progress=False)
    assert not any("<task>" in each for each in questions(server)), "they were not asked the same"


def test_a_judge_of_pairs_sees_them_too(inline_ws, dataset, server) -> None:
    experiment = inline_ws.experiments.create("e", dataset=dataset, task=TASK, metrics=["length"])
    chosen = ["baseline/lead-1", "baseline/copy"]
    inline_ws.wait(inline_ws.workflows.launch(experiment, chosen), progress=False, check=True)
    inline_ws.judge(experiment, judging(server), retest=0, progress=False)
    first = questions(server)[0]
    assert "<task>\nSay it in three words.\n</task>" in first
    assert f"<source>\nProduct 1: {TEXTS[0]}\n</source>" in first
    assert "<reference_2>\nOne cup broke.\n</reference_2>" in first


def test_a_plan_asks_judges_what_the_workflow_asks_them(inline_ws, dataset, server) -> None:
    others = Model("other", provider="openai", base_url=server.base_url)
    jury = lm.Jury([judging(server), lm.Judge("quality", others, ground_truth=True, retest=0)])
    experiment = inline_ws.experiments.create("e", dataset=dataset, task=TASK, metrics=[jury])
    chosen = ["baseline/lead-1", "baseline/copy"]
    inline_ws.plan(experiment, chosen, pilot=len(TEXTS), progress=False)
    before = server.stats().calls
    assert before == 2 * 2 * len(TEXTS)
    assert all("<task>\nSay it in three words.\n</task>" in each for each in questions(server))
    inline_ws.wait(inline_ws.workflows.launch(experiment, chosen), progress=False, check=True)
    assert server.stats().calls == before


def test_scoring_without_a_workspace_takes_the_task(server) -> None:
    lm.score(
        ["A cup."], [["A cup.", "One cup."]], examples=[TEXTS[0]], metrics=judging(server), task=lm.Summarization()
    )
    lm.score(["A cup."], [["A cup.", "One cup."]], examples=[TEXTS[0]], metrics=judging(server))
    with_task, without = questions(server)
    assert f"<task>\n{DEFAULT_PROMPTS['summarization']}\n</task>" in with_task
    assert "<task>" not in without
    assert "<reference_2>\nOne cup.\n</reference_2>" in without


def test_the_signature_tells_what_a_judge_was_shown(server) -> None:
    known, other, unknown = (metrics.create(judging(server)) for _ in range(3))
    known.set_task(TASK)
    other.set_task(lm.Summarization())
    assert "form:2" in known.signature
    assert len({each.signature for each in (known, other, unknown)}) == 3


def test_an_example_that_the_template_cannot_take_is_shown_as_it_is(server) -> None:
    judge = metrics.create(judging(server))
    judge.set_task(TASK)
    assert judge.material("A text.", (), {}).source == "A text."
    assert judge.material("A text.", (), {"product": 7}).source == "Product 7: A text."


def test_specifications_of_earlier_versions_are_read() -> None:
    spec = WorkflowSpec(
        workflow_id="w",
        dataset="d",
        n_examples=1,
        task=TASK,
        model=Model("baseline/copy"),
        metrics=(),
        judged_task=TASK,
    )
    earlier = json.loads(spec.model_dump_json())
    del earlier["judged_task"]
    assert WorkflowSpec.model_validate(earlier).judged_task is None
