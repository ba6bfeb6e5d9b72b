"""lm.compare: answers, scores and tables from anywhere, aligned by item, without a workspace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import InvalidInputError, MissingFieldsError, NotFoundError
from lumigator_nb.services.comparison.markdown import as_markdown
from lumigator_nb.services.comparison.overview import notes
from lumigator_nb.services.comparison.report import recipe
from lumigator_nb.specs import Step
from lumigator_nb.storage import layout

TRUTH = ["the cat sat on the mat", "rain fell all day", "prices rose again"]
ANSWERS = {
    "good": ["the cat sat on the mat", "rain fell all day", "prices rose"],
    "weak": ["a cat", "it was sunny", None],
}


def long(n: int = 40, models: int = 3) -> pd.DataFrame:
    """Scores of models m0 (best), m1, …; right or wrong, with a cost, by item; topics alternate."""
    random = np.random.default_rng(1)
    rows = [
        {"id": f"q{i}", "model": f"m{m}", "accuracy": float(random.random() < 0.9 - 0.3 * m), "cost": 0.01 * (m + 1)}
        for m in range(models)
        for i in range(n)
    ]
    frame = pd.DataFrame(rows)
    frame["topic"] = np.where(frame["id"].str[1:].astype(int) % 2, "odd", "even")
    return frame


def told(comparison: lm.Comparison) -> str:
    return " ".join(notes(comparison))


def test_answers_are_scored_as_lm_score_does() -> None:
    comparison = lm.compare(ANSWERS, TRUTH, metrics=["rouge", "bleu"], n_resamples=200)
    both = {model: texts[:2] for model, texts in ANSWERS.items()}
    scores = lm.score(both, TRUTH[:2], metrics=["rouge", "bleu"]).attrs["overall"]
    summary = comparison.summary().set_index(["score", "model"])["overall"]
    assert summary["rougeL", "good"] == pytest.approx(scores["good"]["rougeL"])
    assert summary["bleu", "weak"] == pytest.approx(scores["weak"]["bleu"]), "a corpus's BLEU is no mean"
    assert comparison.best("rougeL") == "good"
    assert "1 of 3 examples has no answer from weak" in told(comparison)


def test_every_view_of_answers_without_inputs_works(tmp_path: Path) -> None:
    metadata = pd.DataFrame({"topic": ["a", "b", "b"]})
    comparison = lm.compare(ANSWERS, TRUTH, metrics=["rouge"], metadata=metadata, n_resamples=100, name="my answers")
    assert "my answers: 2 models" in str(comparison)
    assert "rougeL" in comparison._repr_html_()
    assert as_markdown(comparison).startswith("# my answers")
    assert comparison.slices("topic")["n"].tolist() == [1, 1]
    for name in ("r.html", "r.csv", "r.md"):
        assert comparison.export(tmp_path / name).stat().st_size > 300
    assert "lm.compare(answers, ground_truth, examples=examples, metrics=['rouge']" in recipe(comparison)
    compile(recipe(comparison), "recipe", "exec")


def test_long_and_wide_tables_say_the_same() -> None:
    frame = long()
    of_long = lm.compare(frame, score="accuracy")
    wide = frame.pivot(index="id", columns="model", values="accuracy").loc[frame["id"].unique()]
    of_wide = lm.compare(wide.reset_index(), score="accuracy")
    pd.testing.assert_frame_equal(of_long.summary(), of_wide.summary())
    expected = frame.groupby("model")["accuracy"].mean()
    assert of_long.summary().set_index("model")["overall"].to_dict() == pytest.approx(expected.to_dict())
    assert of_long.scores[0].range == (0, 1)


def test_the_index_of_a_wide_table_has_the_ids() -> None:
    wide = long().pivot(index="id", columns="model", values="accuracy")
    assert set(lm.compare(wide).data.items) == set(wide.index)


def test_a_cost_is_better_when_it_is_lower_and_that_is_said() -> None:
    comparison = lm.compare(long(), n_resamples=100)
    assert [info.name for info in comparison.scores] == ["accuracy", "cost"]
    assert comparison.best("cost") == "m0"
    assert "Of cost, less is taken to be better, by the name" in told(comparison)
    other = lm.compare(long(), better={"cost": "higher"}, n_resamples=100)
    assert other.best("cost") == "m2"
    assert "less is taken" not in told(other)
    described = lm.compare(long(), better={"cost": None}, n_resamples=100)
    with pytest.raises(InvalidInputError, match="only describes"):
        described.best("cost")
    assert comparison.costs()["dollars_per_1000"].tolist() == pytest.approx([10, 20, 30])


def test_columns_with_one_value_per_item_divide_the_items() -> None:
    comparison = lm.compare(long(), score="accuracy", groups="topic", n_resamples=100)
    assert comparison.metadata().columns.tolist() == ["topic"]
    assert comparison.slices("topic")["n"].tolist() == [20, 20]
    assert comparison.to_pandas()["item"].iloc[0] == "q0"


def test_what_a_model_lacks_is_counted_and_named() -> None:
    frame = long(10)
    frame = frame[~((frame["model"] == "m1") & frame["id"].isin(["q3", "q7"]))]
    comparison = lm.compare(frame, score="accuracy", n_resamples=100)
    assert comparison.n_scored == 8
    assert "Not among the results of m1: q3, q7." in told(comparison)
    assert "2 of 10 examples have no answer from m1 and are left out for all models." in told(comparison)
    kept = frame[~frame["id"].isin(["q3", "q7"])].groupby("model")["accuracy"].mean()
    assert comparison.summary().set_index("model")["overall"].to_dict() == pytest.approx(kept.to_dict())


def test_rows_of_one_item_are_repeats() -> None:
    frame = pd.DataFrame(
        {"id": list("aabbc") + list("abc"), "model": ["x"] * 5 + ["y"] * 3, "right": [1, 0, 1, 1, 0, 0, 1, np.nan]}
    )
    comparison = lm.compare(frame, n_resamples=100)
    assert comparison.values("right")["x"].tolist()[:2] == [0.5, 1.0]
    assert "up to 2 of x, count once" in told(comparison)
    repeats = comparison.data.repeats["right"]
    assert repeats.shape == (2, 3, 2)
    np.testing.assert_array_equal(repeats[0], [[1, 0], [1, 1], [0, np.nan]])
    assert comparison.n_scored == 2


def test_ids_of_different_types_are_the_same() -> None:
    a = pd.DataFrame({"id": [1, 2, 3], "model": "a", "s": [1.0, 2.0, 3.0]})
    b = pd.DataFrame({"id": ["3", "2", "1"], "model": "b", "s": [30.0, 20.0, 10.0]})
    comparison = lm.compare(pd.concat([a, b]), n_resamples=100)
    assert comparison.values("s").to_numpy().tolist() == [[1, 10], [2, 20], [3, 30]]


def test_numbers_by_model_are_scores() -> None:
    comparison = lm.compare({"a": [1, 0, 1], "b": [0, 0, None]}, n_resamples=100)
    assert (comparison.n_scored, comparison.best()) == (2, "a")


def test_scores_without_texts_show_no_texts(tmp_path: Path) -> None:
    comparison = lm.compare(long(60), score="accuracy", n_resamples=100)
    assert comparison.copied == {}
    page = comparison.export(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Examples side by side" not in page
    assert "length:" not in page
    assert comparison.worst(n=1)["example"].iloc[0].startswith("q")


def test_tables_in_files_are_read_like_frames(tmp_path: Path) -> None:
    frame = long(12)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    expected = lm.compare(frame, score="accuracy", n_resamples=100).summary()
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        comparison = lm.compare(tmp_path / name, score="accuracy", n_resamples=100)
        pd.testing.assert_frame_equal(comparison.summary(), expected)
    assert f"lm.compare('{tmp_path / 'a.csv'}', confidence=0.95" in recipe(lm.compare(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (({},), {}, "nothing to compare"),
        (({"a": ["x"], "b": ["x", "y"]}, ["x"]), {}, "1 answers of 'a', but 2 answers of 'b'"),
        (({"a": ["x"]}, ["x", "y"]), {}, "1 answers of 'a', but 2 ground_truth"),
        (({"a": "text"}, ["x"]), {}, "ground_truth is for answers"),
        (({"a": [1, 2], "b": [1]},), {}, "different numbers of scores: 2 of a, 1 of b"),
        ((pd.DataFrame({"m": ["a"], "s": [1]}),), {"model": "modell"}, "no column 'modell' for model="),
        ((pd.DataFrame({"model": ["a"], "s": [1]}),), {"score": "t"}, "no column 't' for score="),
        ((pd.DataFrame({"model": ["a"], "s": ["x"]}),), {"score": "s"}, "s, row 0: 'x' is not a number"),
        ((pd.DataFrame({"model": ["a"], "s": [np.inf]}),), {}, "s, row 0 is infinite"),
        ((pd.DataFrame({"model": ["a", None], "s": [1, 2]}),), {}, "row 1 names no model"),
        ((pd.DataFrame({"model": [], "s": []}),), {}, "no rows"),
        ((pd.DataFrame({"id": [1], "text": ["x"]}),), {}, "no column holds numbers"),
        ((pd.DataFrame({"id": [1, 2], "model": ["a", "b"], "s": [1, 2]}),), {}, "no example has a result from every"),
        ((pd.DataFrame({"model": ["a"], "s": [7]}),), {"ranges": {"s": (0, 5)}}, "s has the value 7, outside of"),
        ((pd.DataFrame({"model": ["a"], "s": [7]}),), {"metrics": ["rouge"]}, "metrics need answers"),
        ((pd.DataFrame({"model": ["a"], "s": [7]}), ["x"]), {}, "ground_truth is for answers"),
        (({"a": ["x"]}, ["x"]), {"metadata": "topic"}, "metadata of answers is a DataFrame"),
    ],
)
def test_what_cannot_be_compared_says_why(arguments, options, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        lm.compare(*arguments, **options)


def test_metrics_that_need_ground_truth_name_those_that_do_not() -> None:
    with pytest.raises(MissingFieldsError, match="ground truth is needed for: rouge, bleu, chrf"):
        lm.compare(ANSWERS)
    assert lm.compare(ANSWERS, metrics=["length"]).scores[0].name == "words"


def test_a_missing_file_and_an_unknown_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no file .*nowhere\.eval"):
        lm.compare(tmp_path / "nowhere.eval")
    (tmp_path / "x.docx").write_text("x")
    with pytest.raises(InvalidInputError, match="x.docx is of no known format"):
        lm.compare(tmp_path / "x.docx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="holds no results"):
        lm.compare(tmp_path / "empty")


def test_comparing_needs_neither_ray_nor_a_database() -> None:
    code = """
import sys
import lumigator_nb as lm
comparison = lm.compare({"a": ["x y"], "b": ["x"]}, ["x y"], metrics=["rouge"], n_resamples=50)
str(comparison), comparison._repr_html_(), comparison.recommend()
heavy = {"ray", "sqlmodel", "sqlalchemy", "fastapi", "panel", "ipywidgets", "torch", "transformers", "inspect_ai"}
print(sorted(heavy & sys.modules.keys()))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_comparison_reads_answers_only_when_a_view_needs_them(inline_ws) -> None:
    frame = pd.DataFrame(
        {"example": ["A cat sat. It purred.", "Rain fell. It was cold."], "ground_truth": ["Cat.", "Rain."]}
    )
    dataset = inline_ws.datasets.upload(frame, name="d")
    experiment = inline_ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    inline_ws.workflows.launch(experiment, ["baseline/lead-1", "baseline/copy"])
    inline_ws.wait(experiment, progress=False, check=True)
    comparison = inline_ws.compare(experiment)
    for model in comparison.workflows:
        inline_ws.store.delete(layout.part(model.id, Step.INFERENCE, 0))
    assert comparison.best() == "baseline/lead-1"
    with pytest.raises(NotFoundError, match="predictions of baseline/lead-1"):
        comparison.costs()
