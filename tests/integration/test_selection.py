"""Plans, races and audits over real HTTP: models of which one is known to be the best."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import BudgetReachedError, ConfigurationError, InvalidInputError
from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration
ROWS = 400
WORDS = [
    "the",
    "parcel",
    "came",
    "late",
    "and",
    "was",
    "open",
    "box",
    "label",
    "street",
    "van",
    "driver",
    "door",
    "bell",
]


@pytest.fixture(scope="module")
def server():
    with ModelServer() as running:
        yield running


@pytest.fixture(autouse=True)
def calm(server):
    yield
    server.configure(latency=0.0, models=None, api_key=None)
    server.reset()


@pytest.fixture
def ws(inline_ws):
    return inline_ws


def examples(rows: int = ROWS) -> pd.DataFrame:
    """Four sentences each, of which the first two are the ground truth, noisily: lead-2 is the best summary."""
    random = np.random.default_rng(5)

    def sentence() -> str:
        return " ".join(random.choice(WORDS, size=random.integers(5, 12))).capitalize() + "."

    texts, truths = [], []
    for row in range(rows):
        sentences = [f"Case {row}.", *(sentence() for _ in range(3))]
        words = " ".join(sentences[:2]).split()
        kept = [word if random.random() > 0.3 else str(random.choice(WORDS)) for word in words]
        texts.append(" ".join(sentences))
        truths.append(" ".join(kept))
    return pd.DataFrame({"example": texts, "ground_truth": truths, "day": [f"day {row % 7}" for row in range(rows)]})


@pytest.fixture
def experiment(ws):
    return ws.experiments.create(
        "race", dataset=ws.datasets.upload(examples(), name="cases"), metrics=["rouge", "length"]
    )


def model(server: ModelServer, name: str, **settings) -> lm.Model:
    # The name of a priced model, so that money is counted: the server answers by what follows the last slash.
    return lm.Model(name, provider="openai", base_url=server.base_url, concurrency=16, label=name, **settings)


def models(server: ModelServer, *names: str) -> list[lm.Model]:
    return [model(server, name) for name in names]


def test_a_race_names_the_best_and_asks_losers_no_more(ws, experiment, server) -> None:
    racing = models(server, "lead-1", "lead-2", "lead-3", "echo", "shout")
    found = ws.select(experiment, racing, metric="rougeL", progress=False)
    assert (found.conclusion, found.best, found.ended_by) == ("best", "lead-2", "decided")
    summary = found.summary().set_index("model")
    assert summary.loc["lead-2", "state"] == "leads"
    assert set(summary["state"].drop("lead-2")) == {"dropped"}
    assert summary["examples"].min() < summary["examples"].max() < ROWS
    assert server.stats().calls == found.answers
    assert found.answers + found.answers_saved == len(racing) * ROWS
    assert found.answers < 0.6 * len(racing) * ROWS
    assert "lead-2 is the best of 5 models on rougeL (at most 5% chance of error)." in str(found)
    # What was dropped first was asked least, and everything it was asked is there to be read.
    rows = found.to_pandas()
    assert len(rows) == found.answers
    assert rows["rougeL"].notna().all()


def test_the_same_race_again_asks_nobody_and_a_workflow_asks_only_for_the_rest(ws, experiment, server) -> None:
    racing = models(server, "lead-2", "echo")
    first = ws.select(experiment, racing, metric="rougeL", progress=False)
    asked = server.stats().calls
    again = ws.select(experiment, racing, metric="rougeL", progress=False)
    assert server.stats().calls == asked
    pd.testing.assert_frame_equal(again.summary(), first.summary())
    ws.workflows.launch(experiment, racing[0])
    ws.wait(experiment, progress=False, check=True)
    seen = int(first.summary().set_index("model").loc["lead-2", "examples"])
    assert server.stats().calls == asked + ROWS - seen
    scores = ws.compare(experiment).to_pandas().set_index("row")["rougeL"]
    mine = first.to_pandas().query("model == 'lead-2'").set_index("row")["rougeL"]
    pd.testing.assert_series_equal(mine, scores.loc[mine.index], check_names=False)


def test_equal_models_are_called_equivalent_or_undecided_but_no_winner_is_made_up(ws, experiment, server) -> None:
    twins = [model(server, "lead-2"), lm.Model("x/lead-2", provider="openai", base_url=server.base_url, label="twin")]
    found = ws.select(experiment, twins, metric="rougeL", indifference=0.05, progress=False)
    assert found.conclusion == "equivalent"
    assert set(found.remaining) == {"lead-2", "twin"}
    assert "differ by less than 0.050" in found.certificate()
    strict = ws.select(experiment, twins, metric="rougeL", progress=False)
    assert (strict.conclusion, strict.ended_by, strict.answers_saved) == ("equivalent", "decided", 0)
    assert strict.certificate().startswith("On these 400 examples, lead-2 and twin score the same on rougeL")
    assert "do not show it for examples like these" in strict.certificate()
    beyond = ws.select(experiment, twins, metric="rougeL", population="larger", progress=False)
    assert (beyond.conclusion, beyond.ended_by, beyond.answers_saved) == ("undecided", "examples", 0)
    assert "cannot be told apart" in beyond.certificate()


def test_the_budget_holds_for_all_models_together_and_over_attempts(ws, experiment, server) -> None:
    racing = [
        lm.Model(f"gpt-4o-mini/{name}", provider="openai", base_url=server.base_url, label=name,
                 price={"prompt": 1.0, "completion": 4.0}, max_new_tokens=100)
        for name in ("lead-2", "echo")
    ]  # fmt: skip
    found = ws.select(experiment, racing, metric="rougeL", budget=0.004, progress=False)
    assert (found.conclusion, found.ended_by) == ("undecided", "budget")
    assert 0.002 < found.dollars <= 0.004
    again = ws.select(experiment, racing, metric="rougeL", budget=0.004, progress=False)
    assert again.dollars == pytest.approx(found.dollars, rel=0.2)
    assert again.dollars <= 0.004
    enough = ws.select(experiment, racing, metric="rougeL", budget=10.0, progress=False)
    assert (enough.conclusion, enough.best) == ("best", "lead-2")
    assert enough.dollars_saved > 0


def test_a_model_that_cannot_answer_leaves_the_race(ws, experiment, server) -> None:
    server.configure(models=("lead-2", "echo"))
    found = ws.select(experiment, models(server, "lead-2", "lead-9", "echo"), metric="rougeL", progress=False)
    assert found.best == "lead-2"
    assert list(found.failed) == ["lead-9"]
    assert "lead-9 left the race" in str(found)
    with pytest.raises(InvalidInputError, match="fewer than two models can answer"):
        ws.select(experiment, models(server, "lead-2", "lead-9"), metric="rougeL", progress=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "words"}, "only describes"),
        ({"metric": "rouge"}, "reports 4 scores"),
        ({"metric": "rogueL"}, "no metric reports the score 'rogueL'"),
        ({"confidence": 1.0}, "confidence cannot be 1.0"),
        ({"indifference": -0.1}, "indifference"),
        ({"models": ["baseline/lead-1"]}, "two models or more"),
    ],
)
def test_a_race_that_cannot_be_is_refused_before_anybody_is_asked(ws, experiment, server, changes, said) -> None:
    racing = changes.pop("models", None) or models(server, "lead-1", "lead-2")
    with pytest.raises(InvalidInputError, match=said):
        ws.select(experiment, racing, progress=False, **changes)
    assert server.stats().calls == 0


def test_a_missing_key_is_told_before_anything_else(ws, experiment) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        ws.select(experiment, ["openai/gpt-4o-mini", "baseline/lead-1"], progress=False)


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_race_goes_on_where_it_ended(tmp_path, server, kills) -> None:
    server.configure(latency=0.05)
    script = tmp_path / "race.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys
            import pandas as pd
            import lumigator_nb as lm
            with lm.connect(lumigator_home={str(tmp_path / "home")!r}) as ws:
                file = {str(tmp_path / "cases.parquet")!r}
                data = ws.datasets.find("cases") or ws.datasets.upload(file, name="cases")
                ex = ws.experiments.find("race") or ws.experiments.create("race", dataset=data, metrics=["rouge"])
                models = [
                    lm.Model(name, provider="openai", base_url={server.base_url!r}, concurrency=4, label=name)
                    for name in ("lead-2", "lead-3", "lead-1")
                ]
                found = ws.select(ex, models, metric="rougeL", progress=False)
                print(found.best, found.conclusion, found.answers)
        """)
    )
    examples(120).to_parquet(tmp_path / "cases.parquet")
    for _ in range(kills):
        before = server.stats().calls
        process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
        while server.stats().calls < before + 25 and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    best, conclusion, answers = done.stdout.split()
    assert (best, conclusion) == ("lead-2", "best")
    # A kill takes what is under way, and what was answered in the last moment: at most twice 3 models of 4 at once.
    assert int(answers) <= server.stats().answered <= int(answers) + 3 * 24


def test_a_plan_comes_from_a_pilot_whose_answers_the_race_takes_over(ws, experiment, server) -> None:
    racing = models(server, "lead-1", "lead-2", "lead-3")
    study = ws.plan(experiment, racing, metric="rougeL", detect=0.05, pilot=30, progress=False)
    assert server.stats().calls == 90
    assert 10 < study.plan.needed_low <= study.plan.needed <= study.plan.needed_high
    quotes = study.quotes()
    assert quotes["answered"].tolist() == [30, 30, 30]
    assert (quotes["needed_seconds"] > 0).all()
    assert "examples" in str(study)
    found = ws.select(experiment, racing, metric="rougeL", progress=False)
    asked = found.summary()["examples"].clip(lower=30).sum()
    assert server.stats().calls == asked, "the pilot's examples are the first of the race"
    with pytest.raises(BudgetReachedError):
        priced = [
            model(server, f"gpt-4o-mini/{name}", price={"prompt": 1.0, "completion": 4.0})
            for name in ("lead-1", "lead-2")
        ]
        ws.plan(experiment, priced, metric="rougeL", budget=0.00001, progress=False)


def test_an_audit_says_whether_the_winner_hangs_on_the_ground_truth(ws, experiment, server) -> None:
    ws.workflows.launch(experiment, models(server, "lead-1", "lead-2", "lead-3"))
    ws.wait(experiment, progress=False, check=True)
    same = ws.audit(experiment, examples()["ground_truth"].tolist(), metric="rougeL")
    assert not same.winner_changes
    assert same.rank_correlation == pytest.approx(1)
    other = ws.audit(experiment, model(server, "lead-3"), metric="rougeL", progress=False)
    assert other.winner_changes
    assert other.contradicted
    assert other.summary().set_index("model")["other_overall"].idxmax() == "lead-3"
    assert "The winner changes" in str(other)
    assert "lead-3" in other._repr_html_()
    with pytest.raises(InvalidInputError, match="does not look at the ground truth"):
        ws.audit(experiment, examples()["ground_truth"].tolist(), metric="words")
    with pytest.raises(InvalidInputError, match="400 examples"):
        ws.audit(experiment, ["too", "few"])


def test_answers_that_equal_the_ground_truth_do_not_end_a_race_on_bleu(ws, server) -> None:
    cases = examples(60)
    cases["ground_truth"] = [". ".join(text.split(". ")[:2]) + "." for text in cases["example"]]
    dataset = ws.datasets.upload(cases, name="equal")
    bleu = ws.experiments.create("equal answers", dataset=dataset, metrics=["bleu"])
    found = ws.select(bleu, models(server, "lead-2", "shout"), metric="bleu", progress=False)
    assert (found.conclusion, found.best) == ("best", "lead-2")
    assert found.summary().set_index("model").loc["lead-2", "mean"] == 100


def test_whole_groups_are_asked_one_after_another(ws, experiment, server) -> None:
    racing = models(server, "lead-2", "echo")
    found = ws.select(experiment, racing, metric="rougeL", groups="day", progress=False)
    assert found.best == "lead-2"
    assert (found.conclusion, found.by_last_test) == ("best", ())
    # Of more days than these, seven are too few witnesses for the race, however many rows each has, but not for one
    # test of all of them.
    larger = ws.select(experiment, racing, metric="rougeL", groups="day", population="larger", progress=False)
    assert (larger.conclusion, larger.n_seen, larger.by_last_test) == ("best", ROWS, ("echo",))
    with pytest.raises(InvalidInputError, match="no metadata column 'dya'"):
        ws.select(experiment, racing, metric="rougeL", groups="dya", progress=False)
