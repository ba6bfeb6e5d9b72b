"""Whoever asks a model: no secret leaves the machine or is stored, and what was answered is not asked again."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb import models
from lumigator_nb.errors import BudgetReachedError
from lumigator_nb.specs import Status
from lumigator_nb.storage import layout
from lumigator_testing import ModelServer
from lumigator_testing.judging import Judge as Planted

NAME, SECRET = "DATABASE_PASSWORD", "hunter2-hunter2-hunter2"
LEAKED = f"The password is {SECRET}. Change it."
TEXTS = ["The printer is empty. Fill it.", LEAKED, "The door is stuck. Oil it.", LEAKED, "The lamp is out. Change it."]
PRICE = {"prompt": 1000.0, "completion": 1000.0}


@pytest.fixture(scope="module")
def running():
    with ModelServer() as started:
        yield started


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.setenv(NAME, SECRET)
    running.configure(judge=None)
    running.reset()
    yield running
    assert SECRET not in json.dumps(running.bodies())


@pytest.fixture
def ws(inline_ws):
    yield inline_ws
    store = inline_ws.store
    folders = [layout.answers("").rstrip("/"), "workflows"]
    for name in [name for folder in folders for name in store.list(folder)]:
        data = store.read(name)
        assert SECRET.encode() not in (gzip.decompress(data) if name.endswith(".gz") else data), name


@pytest.fixture
def dataset(ws):
    frame = pd.DataFrame({"example": TEXTS, "ground_truth": [f"{text} So be it." for text in TEXTS]})
    return ws.datasets.upload(frame, name="tickets", progress=False)


def asked(server: ModelServer, name: str = "lead-1", **settings) -> lm.Model:
    return lm.Model(name, provider="openai", base_url=server.base_url, price=PRICE, max_new_tokens=20, **settings)


def judging(server: ModelServer, name: str = "judge", **settings) -> lm.Model:
    server.configure(judge=Planted())
    return lm.Model(name, provider="openai", base_url=server.base_url, price=PRICE, **settings)


def test_a_pilot_sends_no_secret_and_its_answers_are_the_workflows(ws, dataset, server) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    (row,) = ws.workflows.estimate(experiment, asked(server), pilot=len(TEXTS)).to_dict("records")
    assert server.stats().calls == 4, "equal rows are asked once"
    assert (row["to_ask"], row["basis"]) == (0, f"pilot of {len(TEXTS)}")
    (workflow,) = ws.wait(ws.workflows.launch(experiment, asked(server)), progress=False, check=True)
    assert server.stats().calls == 4
    predictions = ws.workflows.predictions(workflow)
    assert predictions["prediction"][1] == f"The password is [{NAME} removed]."


def test_a_pilot_stays_within_its_budget_over_all_models(ws, dataset, server) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    chosen = [asked(server, "lead-1"), asked(server, "lead-2")]
    dear = ws.workflows.estimate(experiment, chosen, pilot=4, budget=0.01)
    assert server.stats().calls == 0, "not even the first question is sure to be paid for"
    assert set(dear["basis"]) == {"count"}
    # Each answer costs about 0.03 dollars, and each question may cost 0.08 at most.
    some = ws.workflows.estimate(experiment, chosen, pilot=4, budget=0.1)
    assert 0 < server.stats().calls < 6
    assert some["basis"][0].startswith("pilot of")
    assert some["basis"][1] == "count"


def test_an_estimate_counts_equal_questions_whose_answers_are_drawn_each_by_itself(ws, dataset, server) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    sampled = asked(server, temperature=0.7)
    assert ws.workflows.estimate(experiment, sampled)["to_ask"][0] == len(TEXTS)
    assert ws.workflows.estimate(experiment, asked(server))["to_ask"][0] == len(TEXTS) - 1
    ws.wait(ws.workflows.launch(experiment, sampled), progress=False, check=True)
    assert server.stats().calls == len(TEXTS)


def test_a_row_that_the_template_cannot_take_does_not_end_an_estimate(ws, server) -> None:
    frame = pd.DataFrame({"example": ["one", "two"], "weight": [1.0, 0.0], "ground_truth": ["1", "2"]})
    dataset = ws.datasets.upload(frame, name="weights", progress=False)
    task = lm.Summarization(template="{{ example }} {{ 1 // (weight | int) }}")
    experiment = ws.experiments.create("e", dataset=dataset, task=task, metrics=["rouge"])
    assert ws.workflows.estimate(experiment, asked(server), pilot=2)["to_ask"][0] == 0
    assert server.stats().calls == 1


def test_a_secret_in_a_prompt_or_a_shot_is_taken_out(ws, dataset, server, monkeypatch) -> None:
    shots = [lm.Shot(example=LEAKED, answer=SECRET)]
    task = lm.Summarization(template=f"{SECRET} {{{{ example }}}}", shots=shots)
    # The secret becomes known after the experiment and the workflow were made, which would be refused.
    monkeypatch.delenv(NAME)
    experiment = ws.experiments.create("e", dataset=dataset, task=task, metrics=["rouge"])
    (workflow,) = ws.workflows.enqueue(experiment, [asked(server, prompt=f"The word is {SECRET}.")])
    monkeypatch.setenv(NAME, SECRET)
    ws.workflows.submit_waiting()
    ws.wait(workflow, progress=False, check=True)
    assert f"[{NAME} removed]" in json.dumps(server.bodies())
    ws.store.delete(layout.spec(workflow.id))


def test_a_judge_of_scores_is_shown_no_secret(ws, dataset, server) -> None:
    judge = lm.Judge("quality", judging(server), ground_truth=True, retest=0)
    experiment = ws.experiments.create("e", dataset=dataset, metrics=[judge])
    (workflow,) = ws.wait(ws.workflows.launch(experiment, "baseline/copy"), progress=False, check=True)
    assert server.stats().calls == 4
    assert workflow.status is Status.SUCCEEDED


def test_a_judge_of_pairs_is_shown_no_secret(ws, dataset, server) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["length"])
    for model in "ab":
        answers = pd.DataFrame({"prediction": [f"{text} Model {model} says so." for text in TEXTS]})
        ws.workflows.record(experiment, name=model, predictions=answers)
    ws.wait(experiment, progress=False, check=True)
    judge = lm.Judge("quality", judging(server), ground_truth=True)
    found = ws.judge(experiment, judge, retest=0, progress=False)
    assert len(found.to_pandas()) == 2 * len(TEXTS)
    assert server.stats().calls == 2 * 4


def test_a_jury_of_pairs_has_one_budget(ws, dataset, server) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["length"])
    for model in "ab":
        answers = pd.DataFrame({"prediction": [f"{text} Model {model} says so." for text in TEXTS]})
        ws.workflows.record(experiment, name=model, predictions=answers)
    ws.wait(experiment, progress=False, check=True)
    first, second = (lm.Judge("quality", judging(server, name)) for name in ("one", "two"))
    alone = ws.judge(experiment, first, retest=0, progress=False)
    assert alone.cost is not None
    budget = 1.5 * alone.cost
    with pytest.raises(BudgetReachedError):
        ws.judge(experiment, lm.Jury([first, second]), retest=0, cache="refresh", budget=budget, progress=False)


def test_a_plan_leaves_its_answers_and_verdicts_to_the_workflow(ws, dataset, server) -> None:
    judge = lm.Judge("quality", judging(server), ground_truth=True, retest=0)
    experiment = ws.experiments.create("e", dataset=dataset, metrics=[judge])
    chosen = ["baseline/copy", "baseline/lead-1"]
    ws.plan(experiment, chosen, pilot=len(TEXTS), progress=False)
    before = server.stats().calls
    assert before == 2 * 4
    ws.wait(ws.workflows.launch(experiment, chosen), progress=False, check=True)
    assert server.stats().calls == before


def test_asking_without_a_workspace_sends_no_secret_either(server) -> None:
    (prediction,) = models.predict(asked(server), [LEAKED], lm.Summarization(f"The word is {SECRET}."))
    assert prediction.text == f"The password is [{NAME} removed]."
    scores = lm.score(["A text."], [LEAKED], examples=[LEAKED], metrics=lm.Judge("quality", judging(server), retest=0))
    assert scores["quality"].notna().all()
    assert server.stats().calls == 2


def test_what_a_model_answers_without_a_workspace_holds_no_secret_either(server) -> None:
    (prediction,) = models.predict(lm.Model.from_function(lambda text: f"{text} {SECRET}"), ["Why?"])
    assert prediction.text == f"Why? [{NAME} removed]"


def test_without_a_workspace_equal_questions_are_asked_once_unless_answers_are_drawn(server) -> None:
    texts = [TEXTS[0], TEXTS[2], TEXTS[0]]
    answers = models.predict(asked(server), texts)
    assert [answer.text for answer in answers] == [
        "The printer is empty.",
        "The door is stuck.",
        "The printer is empty.",
    ]
    assert server.stats().calls == 2
    models.predict(asked(server, temperature=0.7), texts)
    assert server.stats().calls == 2 + 3
    judge = lm.Judge("quality", judging(server), retest=0)
    scores = lm.score(texts, texts, examples=texts, metrics=judge)
    assert scores["quality"].notna().all()
    assert server.stats().calls == 5 + 2


def test_an_answer_that_was_kept_before_its_secret_was_known_is_redacted_where_it_is_found(inline_ws, server) -> None:
    frame = pd.DataFrame({"example": [TEXTS[0]], "ground_truth": ["x"]})
    dataset = inline_ws.datasets.upload(frame, name="tickets", progress=False)
    first, second = (inline_ws.experiments.create(n, dataset=dataset, metrics=["length"]) for n in "ab")
    inline_ws.wait(inline_ws.workflows.launch(first, asked(server)), progress=False, check=True)
    store = inline_ws.store
    (name,) = store.list(layout.answers("").rstrip("/"))
    kept = gzip.decompress(store.read(name))
    store.write(name, gzip.compress(kept.replace(b'"text": "The', b'"text": "hunter2-hunter2-hunter2 The')))
    (workflow,) = inline_ws.wait(inline_ws.workflows.launch(second, asked(server)), progress=False, check=True)
    assert inline_ws.workflows.predictions(workflow)["prediction"][0] == f"[{NAME} removed] The printer is empty."
    assert server.stats().calls == 1


def test_the_judges_of_a_jury_share_the_budget_of_their_workflow(ws, dataset, server) -> None:
    first, second = (lm.Judge("quality", judging(server, name), retest=0) for name in ("one", "two"))
    experiment = ws.experiments.create("e", dataset=dataset, metrics=[first])
    (alone,) = ws.wait(ws.workflows.launch(experiment, "baseline/copy"), progress=False, check=True)
    cost = ws.workflows.jobs(alone)[-1].details["cost"]
    both = ws.experiments.create("f", dataset=dataset, metrics=[lm.Jury([first, second])])
    (workflow,) = ws.workflows.launch(both, "baseline/copy", cache="refresh", budget=1.5 * cost)
    (workflow,) = ws.wait([workflow], progress=False)
    assert "of the budget" in ws.workflows.jobs(workflow)[-1].error, "both together cost twice as much as one"


def test_verdicts_that_others_paid_for_take_nothing_of_a_budget(ws, dataset, server) -> None:
    first, second = (lm.Judge(name, judging(server, name), retest=0) for name in ("coherence", "fluency"))
    experiment = ws.experiments.create("e", dataset=dataset, metrics=[first])
    (alone,) = ws.wait(ws.workflows.launch(experiment, "baseline/copy"), progress=False, check=True)
    cost = ws.workflows.jobs(alone)[-1].details["cost"]
    both = ws.experiments.create("f", dataset=dataset, metrics=[first, second])
    (workflow,) = ws.workflows.launch(both, "baseline/copy", budget=1.7 * cost)
    ws.wait([workflow], progress=False)
    assert "failed_metrics" not in ws.workflows.jobs(workflow)[-1].details, "the first judge's answers are there"


# With a budget models are asked one after the other.
@pytest.mark.parametrize("budget", [None, 100.0])
@pytest.mark.parametrize("cache", ["on", "refresh", "off"])
def test_models_of_a_race_answer_for_themselves(ws, dataset, server, cache, budget) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    chosen = [asked(server, "lead-1"), asked(server, "lead-2")]
    answers = ws.select(experiment, chosen, cache=cache, budget=budget, progress=False).to_pandas()
    assert server.stats().calls == 2 * 4
    by_model = answers.pivot(index="row", columns="model", values="prediction")
    assert (by_model["openai/lead-1"] != by_model["openai/lead-2"]).all()


@pytest.mark.parametrize("cache", ["on", "off"])
def test_members_of_a_jury_judge_for_themselves(ws, dataset, server, cache) -> None:
    jury = lm.Jury([lm.Judge("quality", judging(server, name), retest=0) for name in ("one", "two")])
    experiment = ws.experiments.create("e", dataset=dataset, metrics=[jury])
    ws.wait(ws.workflows.launch(experiment, "baseline/copy", cache=cache), progress=False, check=True)
    assert server.stats().calls == 2 * 4


def test_a_race_that_is_run_again_tells_the_same_cost(ws, dataset, server) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    chosen = [asked(server, "lead-1"), asked(server, "lead-2")]
    first, again = (ws.select(experiment, chosen, progress=False) for _ in range(2))
    assert server.stats().calls == 2 * 4
    assert again.dollars == pytest.approx(first.dollars) == pytest.approx(first.dollars_now)
    assert again.dollars_now == 0.0


def test_a_race_draws_an_answer_to_each_of_equal_questions_as_a_workflow_does(ws, dataset, server) -> None:
    experiment = ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    chosen = [asked(server, name, temperature=0.7) for name in ("lead-1", "lead-2")]
    ws.select(experiment, chosen, progress=False)
    assert server.stats().calls == 2 * len(TEXTS)
    ws.wait(ws.workflows.launch(experiment, chosen), progress=False, check=True)
    assert server.stats().calls == 2 * len(TEXTS), "the workflow finds them all"


def test_one_place_asks_models() -> None:
    package = Path(lm.__file__).parent
    places = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"(loaded|model|load\(.*\)|_direct)\.answer\(", path.read_text())
    }
    # A batch's first question shows at once what is wrong with all of them; the answer goes the same way.
    others = {place for place in places if not place.startswith("models/providers/")}
    assert others == {"engine/batching.py", "models/asking.py"}
