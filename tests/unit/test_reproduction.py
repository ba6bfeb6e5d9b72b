"""Whether asking again gives the same numbers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.database.queries import writing
from lumigator_nb.errors import ClusterUnavailableError, InvalidInputError, JobFailedError, NotFoundError
from lumigator_nb.services.workflows import reproduction
from lumigator_nb.services.workflows.provenance import Change
from lumigator_nb.services.workflows.reproduction import Again, Differing, Reproduction
from lumigator_testing import ModelServer

N = 40
FRAME = pd.DataFrame(
    {
        "example": [f"The bus number {n} is late. We walk." for n in range(N)],
        "ground_truth": [f"Bus {n} is late." for n in range(N)],
    }
)


@pytest.fixture
def experiment(inline_ws):
    return inline_ws.experiments.create("e", dataset=inline_ws.datasets.upload(FRAME, name="d"), metrics=["rouge"])


def launched(ws, experiment, model):
    return ws.wait(ws.workflows.launch(experiment, [model]), progress=False)[0]


def reproduce(ws, workflow, **options) -> Reproduction:
    return reproduction.reproduce(
        ws.database, ws.store, ws.experiments, ws.workflows, workflow, progress=False, **options
    )


def changing(after: int):
    """A function that answers in another way from its call number `after` on, every fourth time."""
    calls = itertools.count()

    def answer(example: str) -> str:
        number = next(calls)
        return "Something else." if number >= after and number % 4 == 0 else example.split(".")[0]

    return lm.Model.from_function(answer, label="changing")


@pytest.fixture
def leaves_nothing(inline_ws):
    """Everything that was there before is there afterwards, and nothing else."""
    yield
    assert [each.name for each in inline_ws.experiments.list()] == ["e"]
    workflows = {f"workflows/{each.id}" for each in inline_ws.workflows.list()}
    folders = {"/".join(name.split("/")[:2]) for name in inline_ws.store.list("") if name.startswith("workflows/")}
    assert folders == workflows


@pytest.mark.usefixtures("leaves_nothing")
def test_a_rule_gives_the_same_answers_and_scores(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, "baseline/lead-1")
    found = reproduce(inline_ws, workflow)
    assert found.reproduced
    assert (found.n, found.identical, found.share, found.examples) == (N, N, 1.0, ())
    assert found.scores[0].name == "rougeL"
    assert {score.verdict for score in found.scores} == {"equal"}
    assert found.changes == ()
    value = f"{found.scores[0].before:.4g}"
    assert found.sentence == f"the predictions of 40 of 40 examples are identical; rougeL {value} = {value}"


@pytest.mark.usefixtures("leaves_nothing")
def test_a_model_that_answers_in_another_way_is_found_out(inline_ws, experiment) -> None:
    model = changing(after=N)
    workflow = launched(inline_ws, experiment, model)
    found = reproduce(inline_ws, workflow, model=model)
    assert not found.reproduced
    assert (found.n, found.identical) == (N, N - 10)
    first = found.examples[0]
    assert (first.before, first.after) == (f"The bus number {first.row} is late", "Something else.")
    assert [each.row for each in found.examples] == list(range(0, N, 4))
    assert found.scores[0].verdict == "differs"
    assert "10 of 40 predictions differ; rougeL" in found.sentence
    assert "nothing that was noted has changed" in found.sentence
    assert "Something else." in found._repr_html_()


@pytest.mark.usefixtures("leaves_nothing")
def test_what_has_changed_since_is_said(inline_ws, experiment) -> None:
    model = changing(after=N)
    workflow = launched(inline_ws, experiment, model)
    with writing(inline_ws.database) as work:
        for job in work.jobs.of_workflows([workflow.id]):
            job.details = {**job.details, "versions": {**job.details["versions"], "numpy": "0.1"}}
    found = reproduce(inline_ws, workflow.id, model=model)
    (change,) = found.changes
    assert (change.what, change.before) == ("numpy", "0.1")
    assert f"since then numpy went from 0.1 to {change.after}" in found.sentence
    assert "numpy" in str(found)


def test_kept_answers_are_not_taken_and_the_money_is_bounded(inline_ws, experiment, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-for-tests")
    with ModelServer() as server:
        model = lm.Model("openai/tiny", base_url=server.base_url, price={"prompt": 1.0, "completion": 1.0})
        workflow = launched(inline_ws, experiment, model)
        asked = server.stats().calls
        assert asked == N
        assert reproduce(inline_ws, workflow).reproduced
        assert server.stats().calls == 2 * asked
        with pytest.raises(JobFailedError, match="could not be asked again"):
            reproduce(inline_ws, workflow, budget=1e-9)
        assert server.stats().calls == 2 * asked
    assert [each.name for each in inline_ws.experiments.list()] == ["e"]


@pytest.mark.usefixtures("leaves_nothing")
def test_a_model_that_fails_this_time_is_an_error_that_says_why(inline_ws, experiment) -> None:
    calls = itertools.count()

    def answer(example: str) -> str:
        if next(calls) >= N:
            raise OSError("the power is out")
        return example

    model = lm.Model.from_function(answer)
    workflow = launched(inline_ws, experiment, model)
    with pytest.raises(JobFailedError, match="the power is out"):
        reproduce(inline_ws, workflow, model=model)


@pytest.mark.usefixtures("leaves_nothing")
def test_examples_without_an_answer_do_not_count(inline_ws, experiment) -> None:
    calls = itertools.count()

    def answer(example: str) -> str:
        if next(calls) in (0, N + 1):
            raise OSError("now and then")
        return example

    model = lm.Model.from_function(answer)
    found = reproduce(inline_ws, launched(inline_ws, experiment, model), model=model)
    assert (found.n, found.identical) == (N - 1, N - 2)
    assert found.examples == (Differing(1, FRAME["example"][1], None),)


@pytest.mark.usefixtures("leaves_nothing")
def test_recorded_predictions_cannot_be_reproduced(inline_ws, experiment) -> None:
    workflow = inline_ws.workflows.record(experiment, name="mine", predictions="ground_truth")
    inline_ws.wait(workflow, progress=False)
    with pytest.raises(InvalidInputError, match="were recorded"):
        reproduce(inline_ws, workflow)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_function_of_another_process_is_asked_for(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, changing(after=N))
    with pytest.raises(InvalidInputError, match="has its function") as caught:
        reproduce(inline_ws, workflow)
    assert "from_function" in str(caught.value.hint)


@pytest.mark.usefixtures("leaves_nothing")
def test_another_model_is_refused(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, "baseline/lead-1")
    with pytest.raises(InvalidInputError, match="not the model"):
        reproduce(inline_ws, workflow, model=lm.Model("baseline/lead-2"))


@pytest.mark.usefixtures("leaves_nothing")
def test_what_has_not_succeeded_is_refused(inline_ws, experiment, cluster) -> None:
    cluster.execute = False
    (workflow,) = inline_ws.workflows.launch(experiment, ["baseline/copy"])
    with pytest.raises(InvalidInputError, match="is pending"):
        reproduce(inline_ws, workflow)


@pytest.mark.usefixtures("leaves_nothing")
def test_where_the_cluster_does_not_answer_the_error_is_its_own(inline_ws, experiment, cluster, monkeypatch) -> None:
    workflow = launched(inline_ws, experiment, "baseline/copy")
    cluster.reachable = False
    stop = cluster.stop
    monkeypatch.setattr(cluster, "stop", lambda key: cluster.statuses([key]) and stop(key))
    with pytest.warns(UserWarning, match="could not be removed"), pytest.raises(ClusterUnavailableError):
        reproduce(inline_ws, workflow)
    cluster.reachable = True
    inline_ws.experiments.delete("e (reproduced)", stop=True)


def test_a_name_that_is_taken_is_not_touched(inline_ws, experiment) -> None:
    workflow = launched(inline_ws, experiment, "baseline/copy")
    own = inline_ws.experiments.create("e (reproduced)", dataset="d", metrics=["length"])
    assert reproduce(inline_ws, workflow).reproduced
    assert {each.id for each in inline_ws.experiments.list()} == {experiment.id, own.id}


def test_an_experiment_is_not_taken_for_its_first_workflow(inline_ws, experiment) -> None:
    launched(inline_ws, experiment, "baseline/copy")
    with pytest.raises(NotFoundError, match="workflow"):
        reproduce(inline_ws, "e")


def test_an_experiment_without_metrics_compares_predictions_alone(inline_ws) -> None:
    inline_ws.datasets.upload(FRAME, name="d")
    made = inline_ws.datasets.annotate("d", model="baseline/lead-1", name="annotated", progress=False)
    found = reproduce(inline_ws, made.generated["workflow_id"])
    assert found.reproduced
    assert found.scores == ()
    assert found.sentence == "the predictions of 40 of 40 examples are identical"


@pytest.mark.parametrize(
    ("before", "after", "verdict", "text"),
    [
        (0.412, 0.412, "equal", "x 0.412 = 0.412"),
        (0.1 + 0.2, 0.3, "close", "x 0.3 ≈ 0.3"),
        (0.0, 1e-12, "close", "x 0 ≈ 1e-12"),
        (1e6, 1e6 + 1e-4, "close", "x 1e+06 ≈ 1e+06"),
        (0.412, 0.398, "differs", "x 0.412 → 0.398"),
        (0.41231, 0.41233, "differs", "x 0.41231 → 0.41233"),
        (0.412, None, "missing", "x 0.412 → –"),
        (float("nan"), float("nan"), "equal", "x nan = nan"),
    ],
)
def test_a_score_agrees_within_a_billionth(before, after, verdict, text) -> None:
    score = Again("x", before, after)
    assert (score.verdict, str(score)) == (verdict, text)
    assert score.agrees is (verdict in ("equal", "close"))


DIFFERS = Reproduction("m", "e", n=64, identical=52, scores=(Again("rougeL", 0.5, 0.5),))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "12 of 64 predictions differ; rougeL 0.5 = 0.5; nothing that was noted has changed: the model answers"),
        ({"remote": True}, "the service answers in another way"),
        ({"temperature": 0.8}, "temperature is 0.8: sampled answers differ by nature"),
        ({"changes": (Change("transformers", "5.22", "5.23"),)}, "; since then transformers went from 5.22 to 5.23"),
        ({"changes": tuple(Change(f"p{n}", "1", "2") for n in range(5))}, "p2 went from 1 to 2 and 2 more changed"),
        ({"identical": 64, "scores": (Again("a", 1.0, 1.0), Again("b", 1.0, 2.0))}, "identical; b 1 → 2"),
    ],
)
def test_the_sentence_names_the_reason(changed, said) -> None:
    found = replace(DIFFERS, **changed)
    assert not found.reproduced
    assert said in found.sentence
    assert found.sentence in str(found)


def test_where_all_agrees_no_reason_is_sought() -> None:
    found = replace(DIFFERS, identical=64, temperature=0.8, changes=(Change("host", "a", "b"),))
    assert found.reproduced
    assert found.sentence == "the predictions of 64 of 64 examples are identical; rougeL 0.5 = 0.5"
    assert "host: a → b" in str(found)
