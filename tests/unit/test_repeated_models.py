"""A model that is launched with repeats is one model of a comparison, scored by its mean over them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.services.comparison.audit import audit
from lumigator_nb.services.comparison.overview import notes
from lumigator_nb.services.comparison.repeats import averaged, tables
from lumigator_nb.services.comparison.report import recipe, report

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards", "box"]
N = 20


def examples() -> pd.DataFrame:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 12)) for _ in range(N)]
    return pd.DataFrame({"example": texts, "ground_truth": texts})


def guessing(share: float, name: str) -> lm.Model:
    """A model that repeats a word of its input or says another one, by chance; every second input is easy for it."""
    random = np.random.default_rng(int(100 * share))

    def answer(text: str) -> str:
        words = text.split()
        if words[0] < "j":
            return text
        return " ".join(word if random.random() < share else "banana" for word in words)

    return lm.Model.from_function(answer, name=name)


@pytest.fixture
def ws(inline_ws):
    dataset = inline_ws.datasets.upload(examples(), name="words", example="example", ground_truth="ground_truth")
    inline_ws.experiments.create("guesses", dataset=dataset, metrics=["rouge", "bleu", "exact_match"])
    return inline_ws


def launched(ws, models, repeats):
    workflows = ws.workflows.launch("guesses", models, repeats=repeats)
    ws.wait("guesses", progress=False, check=True)
    return workflows


def test_three_models_with_three_repeats_are_three_models_everywhere(ws) -> None:
    workflows = launched(ws, [guessing(0.9, "good"), guessing(0.6, "fair"), "baseline/lead-1"], 3)
    assert len(workflows) == 9
    comparison = ws.compare("guesses")
    assert comparison.models == ("function/good", "function/fair", "baseline/lead-1")
    assert len(comparison.pairwise("rougeL")) == 6
    for table in (comparison.ranking("rougeL"), comparison.costs(), comparison.pareto("rougeL")):
        assert sorted(table["model"]) == sorted(comparison.models)
    for text in (str(comparison), comparison._repr_html_(), report(comparison), comparison.verdict("rougeL")):
        assert "(repeat" not in text
    assert comparison.costs()["answered"].tolist() == [3 * N] * 3

    values = np.stack([ws.workflows.scores(workflow)["rougeL"].to_numpy() for workflow in workflows[:3]], axis=1)
    np.testing.assert_allclose(comparison.values("rougeL")["function/good"], values.mean(axis=1))
    overall = comparison.summary().set_index(["score", "model"])["overall"]
    assert overall["rougeL", "function/good"] == pytest.approx(values.mean())


def test_the_verbs_of_workflows_take_the_models_of_a_comparison(ws) -> None:
    workflows = launched(ws, ["baseline/lead-1", "baseline/copy"], 1)
    compared = ws.compare("guesses").workflows
    assert [workflow.id for workflow in ws.workflows.of(compared)] == [workflow.id for workflow in workflows]
    assert ws.workflows.logs(compared[0]) == ws.workflows.logs(workflows[0])
    assert ws.provenance(compared[0]).to_dict() == ws.provenance(workflows[0]).to_dict()


def test_an_overall_score_that_is_no_mean_is_that_of_all_answers_together(ws) -> None:
    workflows = launched(ws, [guessing(0.7, "good")], 3)
    answers = pd.concat([ws.workflows.predictions(workflow) for workflow in workflows])
    truths = examples()["ground_truth"].iloc[answers["row"]].tolist()
    together = lm.score(answers["prediction"].tolist(), truths, metrics=["bleu"])
    summary = ws.compare("guesses").summary().set_index("score")["overall"]
    assert summary["bleu"] == pytest.approx(together.attrs["overall"]["bleu"])


def test_a_comparison_says_how_stable_its_models_are(ws) -> None:
    launched(ws, [guessing(0.9, "good"), "baseline/copy"], 4)
    comparison = ws.compare("guesses")
    stable = comparison.repeats("rougeL").set_index("model")
    assert stable.loc["baseline/copy", ["repeats", "within", "unstable"]].tolist() == [4, 0, 0]
    good = stable.loc["function/good"]
    assert 0 < good["unstable"] < 1
    assert good["error"] ** 2 == pytest.approx(good["error_examples"] ** 2 + good["error_repeats"] ** 2)

    worst = comparison.unstable("rougeL", 3, model="function/good")
    assert worst["spread"].is_monotonic_decreasing
    scores = worst[[f"repeat {number}" for number in (1, 2, 3, 4)]]
    np.testing.assert_allclose(worst["spread"], scores.max(axis=1) - scores.min(axis=1))
    assert worst["example"].tolist() == examples()["example"].loc[worst.index].tolist()

    passes = comparison.passes(2, "exact_match").set_index("model").loc["function/good"]
    assert passes["pass_hat_k"] < comparison.values("exact_match")["function/good"].mean() < passes["pass_at_k"]
    (note,) = [line for line in notes(comparison) if line.startswith("function/good was asked 4 times")]
    assert "More repeats would narrow its interval by at most" in note


@pytest.mark.parametrize("score", ["rougeL", "bleu"])
def test_an_audit_by_the_same_ground_truth_finds_the_same_scores(ws, score) -> None:
    launched(ws, [guessing(0.8, "good"), guessing(0.6, "fair")], 3)
    table = audit(ws.compare("guesses"), examples()["ground_truth"].tolist(), "another author", score).summary()
    np.testing.assert_allclose(table["overall"], table["other_overall"])


def test_models_that_were_asked_once_have_no_repeats_to_tell_of(ws) -> None:
    launched(ws, ["baseline/lead-1", "baseline/copy"], 1)
    comparison = ws.compare("guesses")
    assert not comparison.data.repeats
    for call in (comparison.repeats, comparison.unstable, lambda: comparison.passes(1)):
        with pytest.raises(InvalidInputError, match="asked repeatedly"):
            call()
    assert "repeats=" not in recipe(comparison)


def test_the_code_of_a_report_asks_as_often(ws) -> None:
    launched(ws, ["baseline/lead-1", "baseline/copy"], 3)
    code = recipe(ws.compare("guesses"))
    assert "repeats=3)" in code
    assert "repeat=" not in code.replace("repeats=", "")


def test_labels_of_the_users_own_choice_remain_two_models(ws) -> None:
    launched(ws, [lm.Model("baseline/lead-1", label="once"), lm.Model("baseline/lead-1", repeat=2, label="again")], 1)
    assert ws.compare("guesses").models == ("once", "again")


def test_ratings_of_any_repeat_are_ratings_of_the_model(ws) -> None:
    workflows = launched(ws, [guessing(0.9, "good")], 2)
    ratings = [
        {"row": row, "model": workflow.label, "rater": "ana", "rating": 1 + row % 4 + number}
        for number, workflow in enumerate(workflows)
        for row in range(10)
    ]
    ws.labels.add("guesses", pd.DataFrame(ratings))
    assert ws.compare("guesses").trust()["n"].max() == 10


def test_a_shared_file_with_repeats_compares_as_in_the_workspace(ws, tmp_path) -> None:
    launched(ws, [guessing(0.8, "good"), "baseline/copy"], 3)
    expected = ws.compare("guesses")
    comparison = lm.compare(ws.export("guesses", tmp_path / "guesses.lumi.zip", progress=False))
    assert comparison.models == expected.models
    pd.testing.assert_frame_equal(comparison.summary(), expected.summary())
    pd.testing.assert_frame_equal(comparison.repeats("rougeL"), expected.repeats("rougeL"))


def test_repeats_in_results_from_elsewhere_are_told_of_in_the_same_way() -> None:
    random = np.random.default_rng(1)
    chances = np.repeat(random.beta(3, 2, size=60), 3)
    rows = [
        {"model": model, "id": f"q{index // 3}", "right": float(random.random() < chance)}
        for model in ("a", "b")
        for index, chance in enumerate(chances)
    ]
    comparison = lm.compare(pd.DataFrame(rows), model="model", item="id", score="right")
    table = comparison.repeats().set_index("model")
    assert table.loc["a", ["repeats", "n"]].tolist() == [3, 60]
    assert 0.5 < table.loc["a", "share_within"] < 1
    assert comparison.passes(3)["pass_hat_k"].max() < comparison.passes(3)["pass_at_k"].min()
    assert any(line.startswith("a was asked 3 times") for line in notes(comparison))


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame({"row": range(len(next(iter(columns.values())))), **columns})


def test_what_one_repeat_lacks_is_left_out_of_the_mean() -> None:
    nan = np.nan
    first = frame(
        **{
            "s": [1.0, nan, nan],
            "s.reason": [None, "no answer", "no answer"],
            "s.statistics": [np.array([1.0, 2.0]), None, None],
        }
    )
    second = frame(
        **{
            "s": [0.0, 0.5, nan],
            "s.reason": [None, None, "too long"],
            "s.statistics": [np.array([3.0, 2.0]), np.array([5.0, 6.0]), None],
            "only here": [1.0, 2.0, 3.0],
        }
    )
    third = frame(s=[nan, nan, nan])
    mean = averaged([first, second, third])
    np.testing.assert_array_equal(mean["s"], [0.5, 0.5, nan])
    assert mean["s.reason"].tolist()[1:] == ["no answer", "no answer"]
    assert mean["s.statistics"][0].tolist() == [2.0, 2.0]
    assert mean["s.statistics"][1].tolist() == [5.0, 6.0]
    assert mean["only here"].tolist() == [1.0, 2.0, 3.0]
    assert averaged([first]) is first


def test_repeats_of_models_that_were_asked_unequally_often_share_a_table() -> None:
    once, twice = [frame(s=[0.1, 0.2])], [frame(s=[0.3, 0.4]), frame(s=[0.5, 0.6]).iloc[1:]]
    table = tables([once, twice])["s"]
    np.testing.assert_array_equal(table, [[[0.1, np.nan], [0.2, np.nan]], [[0.3, np.nan], [0.4, 0.6]]])
    assert tables([once, once]) == {}
