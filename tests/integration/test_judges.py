"""Judges over real HTTP: a server that judges with planted biases, whose values the judge reports must find."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import BudgetReachedError, ConfigurationError, InvalidInputError
from lumigator_nb.specs import Status, Step
from lumigator_nb.storage import layout
from lumigator_testing import ModelServer
from lumigator_testing.judging import Judge as Planted

pytestmark = pytest.mark.integration
ROWS = 240


@pytest.fixture
def ws(inline_ws):
    return inline_ws


def answer(row: int, model: str) -> str:
    # Lengths that say nothing about who wrote it; no two answers to an example are equally long.
    words = 4 + (row * 7 + {"a": 0, "b": 5, "c": 11}[model]) % 17
    return f"Model {model} on case {row}: " + "word " * words + "x" * {"a": 0, "b": 1, "c": 2}[model]


@pytest.fixture
def experiment(ws):
    frame = pd.DataFrame(
        {
            "example": [f"Case {row} came in." for row in range(ROWS)],
            "ground_truth": [f"Case {row}." for row in range(ROWS)],
        }
    )
    experiment = ws.experiments.create("judged", dataset=ws.datasets.upload(frame, name="cases"), metrics=["length"])
    for model in "abc":
        rows = pd.DataFrame({"prediction": [answer(row, model) for row in range(ROWS)]})
        ws.workflows.record(experiment, name=model, predictions=rows)
    ws.wait(experiment, progress=False, check=True)
    return experiment


def judge_model(server: ModelServer, **settings) -> lm.Model:
    return lm.Model("judge", provider="openai", base_url=server.base_url, concurrency=32, **settings)


def test_the_report_finds_the_planted_biases(ws, experiment) -> None:
    planted = Planted(position=0.3, length=0.4, malformed=0.1)
    with ModelServer(judge=planted) as server:
        judge = lm.Judge("quality", judge_model(server))
        found = ws.judge(experiment, judge, models=["a", "b"], retest=60, progress=False)
        (report,) = found.judge_reports()
        position, length = report.find("position"), report.find("length")
        assert position.low <= 0.3 <= position.high
        assert position.high - position.low < 0.3
        assert length.low <= 0.4 <= length.high
        assert report.find("agreement with itself").value == 1
        both = report.find("agreement of both orders")
        # Where one order follows the place, the other agrees by chance; where none does, unless one follows the length.
        assert both.low <= 2 * 0.3 * 0.7 / 2 + 0.7**2 * (1 - 0.4 * 0.6) <= both.high
        verdicts = found.to_pandas()
        unread = verdicts[verdicts["preference"].isna()]
        assert len(verdicts) == 2 * ROWS
        assert report.asked == 2 * ROWS
        assert report.unread == len(unread), "every row is judged or counted as not"
        assert unread["reason"].str.startswith("the judge's answer holds no preference").all()
        summary = found.summary()
        assert summary[["wins", "ties", "losses"]].sum(axis=1).tolist() == summary["n"].tolist()
        assert "position" in str(found)
        # The same again is not asked again.
        before = server.stats().calls
        again = ws.judge(experiment, judge, models=["a", "b"], retest=60, progress=False)
        assert server.stats().calls == before
        pd.testing.assert_frame_equal(again.to_pandas(), verdicts)


def test_a_judge_without_fault_has_a_clean_report(ws, experiment) -> None:
    with ModelServer(judge=Planted(position=0.0, length=0.0, malformed=0.0)) as server:
        found = ws.judge(experiment, lm.Judge("quality", judge_model(server)), sample=80, progress=False)
        (report,) = found.judge_reports()
    assert report.find("position").value == pytest.approx(0)
    assert report.find("agreement of both orders").value == 1
    length = report.find("length")
    assert length.low <= 0 <= length.high
    assert len(found.summary()) == 3, "each of three models against each"
    assert report.unread == 0


def test_agreement_with_people_is_measured(ws, experiment) -> None:
    with ModelServer(judge=Planted(position=0.0, length=0.0, malformed=0.0)) as server:
        judge = lm.Judge("quality", judge_model(server))
        first = ws.judge(experiment, judge, models=["a", "b"], sample=60, progress=False)
        agreed = first.to_pandas()
        people = agreed.rename(columns={"first": "model", "second": "other"})[["row", "model", "other", "preference"]]
        people = people[people["model"] == "b"]
        found = ws.judge(experiment, judge, models=["a", "b"], sample=60, human=people, progress=False)
        (report,) = found.judge_reports()
        assert report.find("agreement with people (α)").value == pytest.approx(1)
        assert report.find("agreement with people (τ)").value == pytest.approx(1)
        chance = people.assign(preference=np.random.default_rng(0).choice([1, -1], len(people)))
        found = ws.judge(experiment, judge, models=["a", "b"], sample=60, human=chance, progress=False)
        low = found.judge_reports()[0].find("agreement with people (α)")
        assert low.low < 0.1 < 1
    with pytest.raises(InvalidInputError, match="no column 'other'"):
        ws.judge(experiment, judge, models=["a", "b"], human=people.drop(columns="other"), progress=False)


def test_scores_come_with_reasons_and_a_report(ws, experiment) -> None:
    planted = Planted(position=0.0, length=0.0, malformed=0.1)
    with ModelServer(judge=planted) as server:
        judge = lm.Judge("coherence", judge_model(server, price={"prompt": 1.0, "completion": 2.0}), retest=30)
        ws.wait(ws.evaluate(experiment, judge), progress=False, check=True)
        comparison = ws.compare(experiment)
        job = ws.workflows.jobs(experiment)[1]
    scored, unscored = job.details["n_scored"]["coherence"], job.details.get("unscored", {}).get("coherence", {})
    assert scored + sum(unscored.values()) == ROWS
    assert scored > 0.9 * ROWS, "most of a malformed tenth is read at the second attempt"
    assert job.details["cost"] > 0
    reasons = comparison.reasons("coherence")
    assert reasons.notna().all(axis=None)
    (report,) = comparison.judge_reports()
    assert report.find("agreement with itself").value == pytest.approx(1)
    assert report.find("length").low <= 0 <= report.find("length").high
    assert "Judge report: coherence, by openai/judge" in str(comparison)
    assert "Judge report" in comparison._repr_html_()
    values = comparison.to_pandas()["coherence"].dropna()
    assert values.between(1, 5).all()
    assert (values % 1 != 0).any(), "weighted by the probabilities that the server tells"


def test_a_length_bias_of_scores_is_found(ws, experiment) -> None:
    with ModelServer(judge=Planted(position=0.0, length=0.9, malformed=0.0)) as server:
        ws.wait(ws.evaluate(experiment, lm.Judge("coherence", judge_model(server))), progress=False, check=True)
        (report,) = ws.compare(experiment).judge_reports()
    assert report.find("length").low > 0.3


def test_verdicts_that_are_kept_are_not_paid_for_again(ws, experiment) -> None:
    with ModelServer(judge=Planted(position=0.0, length=0.0, malformed=0.0)) as server:
        judge = lm.Judge("fluency", judge_model(server), retest=0)
        ws.wait(ws.evaluate(experiment, judge), progress=False, check=True)
        assert server.stats().calls == 3 * ROWS
        other = ws.experiments.create("again", dataset="cases", metrics=[judge])
        rows = pd.DataFrame({"prediction": [answer(row, "a") for row in range(ROWS)]})
        ws.workflows.record(other, name="a", predictions=rows)
        ws.wait(other, progress=False, check=True)
        assert server.stats().calls == 3 * ROWS


def test_a_jury_combines_and_names_its_members(ws, experiment) -> None:
    with ModelServer(judge=Planted(position=0.0, length=0.0, malformed=0.0)) as server:
        fair = lm.Judge("quality", judge_model(server, label="one"), retest=0)
        with ModelServer(judge=Planted(position=0.0, length=0.5, malformed=0.0)) as biased:
            other = lm.Judge("quality", judge_model(biased, label="two"), retest=0)
            jury = lm.Jury([fair, other], name="both")
            ws.wait(ws.evaluate(experiment, jury), progress=False, check=True)
            comparison = ws.compare(experiment)
            found = ws.judge(experiment, jury, models=["a", "b"], sample=40, progress=False)
    frame = comparison.to_pandas()
    mean = frame[["both by one", "both by two"]].mean(axis=1)
    np.testing.assert_allclose(frame["both"], mean)
    assert comparison.judge_reports()[0].judge == "both, by a jury"
    assert list(found.judges) == ["one", "two"]
    assert len(found.judge_reports()) == 2
    assert found.summary()["n"].tolist() == [40]


def test_a_budget_holds_for_judges_too(ws, experiment) -> None:
    with ModelServer(judge=Planted(position=0.0, length=0.0, malformed=0.0)) as server:
        model = judge_model(server, price={"prompt": 10.0, "completion": 10.0})
        with pytest.raises(BudgetReachedError):
            ws.judge(experiment, lm.Judge("quality", model), models=["a", "b"], budget=0.05, progress=False)
        asked = server.stats().calls
        assert 0 < asked < 2 * ROWS
        found = ws.judge(experiment, lm.Judge("quality", model), models=["a", "b"], retest=0, progress=False)
        assert server.stats().calls == 2 * ROWS, "what was paid for is not asked again"
        assert found.cost > 0.05


def test_a_judge_that_refuses_loses_no_other_metric(ws, experiment) -> None:
    with ModelServer(judge=Planted(), api_key="sk-right-key") as server:
        ws.evaluate(experiment, [lm.Judge("quality", judge_model(server)), "rouge"])
        workflows = ws.workflows.refresh(experiment)
        assert {workflow.status for workflow in workflows} == {Status.SUCCEEDED}
        job = ws.workflows.jobs(workflows[0])[1]
        assert "refuses the API key" in job.details["failed_metrics"]["quality"]
        assert "rougeL" in job.scores
        assert "quality could not be computed for a" in str(ws.compare(experiment))
        server.configure(api_key=None)
        ws.wait(ws.evaluate(experiment), progress=False, check=True)
        assert "quality" in {info.name for info in ws.compare(experiment).scores}, "tried again, it is there"


def test_rows_that_a_judge_does_not_answer_are_counted(ws, experiment) -> None:
    with ModelServer(judge=Planted(), fail=0.3) as server:
        ws.evaluate(experiment, lm.Judge("quality", judge_model(server, retry_for=0)))
        ws.wait(experiment, progress=False, check=True)
        job = ws.workflows.jobs(experiment)[1]
    assert 0 < job.details["n_scored"]["quality"] < ROWS
    unscored = job.details["unscored"]["quality"]
    assert sum(unscored.values()) == ROWS - job.details["n_scored"]["quality"]
    assert all(reason.startswith("the judge gave no answer: ") for reason in unscored)
    assert "Not scored by quality: the judge gave no answer" in str(ws.compare(experiment))


def test_a_judge_that_answers_nothing_is_skipped_with_the_reason(ws, experiment) -> None:
    with ModelServer(judge=Planted(), fail=1.0) as server:
        ws.evaluate(experiment, lm.Judge("quality", judge_model(server, retry_for=0)))
        ws.wait(experiment, progress=False, check=True)
        server.configure(fail=0.0)
        jobs = [job for job in ws.workflows.jobs(experiment) if job.step is Step.EVALUATION]
        assert {job.skipped["quality"].partition(": ")[0] for job in jobs} == {"no example has a score"}
        said = " ".join(str(ws.compare(experiment)).split())
        assert "quality could not be computed for any model: no example has a score: the judge gave no answer" in said
        ws.evaluate(experiment)
        ws.wait(experiment, progress=False, check=True)
    assert ws.compare(experiment).not_computed == {}


def test_a_judges_key_is_wanted_before_anything_is_asked(ws, experiment, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        ws.judge(experiment, lm.Judge("quality", "openai/gpt-4o-mini"), progress=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        ws.evaluate(experiment, lm.Judge("quality", "openai/gpt-4o-mini"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "coherent"}, "did you mean 'coherence'"),
        ({"criterion": "tone", "description": " "}, "say in 1 to"),
        ({"criterion": "quality", "scale": (5, 1)}, "scale cannot be"),
        ({"criterion": "quality", "attempts": 0}, "attempts of a judge cannot be 0"),
    ],
)
def test_a_judge_that_cannot_work_is_refused(options, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        lm.Judge(**{"model": "baseline/copy", **options})


def test_only_judges_and_juries_judge(ws, experiment) -> None:
    with pytest.raises(InvalidInputError, match="'rouge' is not a judge"):
        ws.judge(experiment, "rouge", progress=False)
    with pytest.raises(InvalidInputError, match="two models or more"):
        ws.judge(experiment, lm.Judge("quality", "baseline/copy"), models=["a"], progress=False)
    with pytest.raises(InvalidInputError, match="two judges or more"):
        lm.Jury([lm.Judge("quality", "baseline/copy")])


def test_no_verdict_is_lost_when_the_server_fails_now_and_then(ws, experiment) -> None:
    planted = Planted(position=0.0, length=0.0, malformed=0.05)
    with ModelServer(judge=planted, refuse=0.1, fail=0.05, retry_after=0.05) as server:
        found = ws.judge(experiment, lm.Judge("quality", judge_model(server)), models=["a", "c"], progress=False)
    verdicts = found.to_pandas()
    assert len(verdicts) == 2 * ROWS
    assert verdicts["preference"].notna().mean() > 0.98


def test_answers_of_judges_lie_beside_those_of_models(ws, experiment) -> None:
    with ModelServer(judge=Planted(position=0.0, length=0.0, malformed=0.0)) as server:
        ws.judge(experiment, lm.Judge("quality", judge_model(server)), models=["a", "b"], sample=5, progress=False)
    assert any(name.startswith("predictions/") for name in ws.store.list(""))
    workflow = ws.workflows.of(experiment)[0]
    assert ws.store.list(layout.step_folder(workflow.id, Step.EVALUATION))
