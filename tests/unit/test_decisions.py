"""What comparisons decide: ranks, recommendations, slices, disagreements, people, and files to hand on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import openpyxl
import pandas as pd
import pytest

from lumigator_nb import models
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.display import render
from lumigator_nb.display.tables import to_html
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import copying
from lumigator_nb.presentation.comparison import markup
from lumigator_nb.presentation.comparison.view import Examined
from lumigator_nb.services.comparison import tables
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.loading import data_of
from lumigator_nb.services.comparison.overview import notes
from lumigator_nb.specs import MetricSpec, Model, Status, Summarization

N = 300
NAN = float("nan")
MODELS = {"small": 0.42, "twin": 0.60, "large": 0.60, "slow": 0.55}
DOLLARS = {"small": 0.0001, "twin": 0.0004, "large": 0.0020, "slow": 0.0030}
SECONDS = {"small": 0.2, "twin": 0.5, "large": 0.4, "slow": 3.0}


def scores_of(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Scores in [0, 1] of examples that are alike hard for all; in calls, every third, the small model is the best."""
    hard = random.normal(0, 0.1, N)
    found = {}
    for model, mean in MODELS.items():
        own = mean + hard + random.normal(0, 0.04, N)
        if model == "small":
            own[::3] += 0.3
        found[model] = np.clip(own, 0, 1)
    return found


def make(
    labels: pd.DataFrame | None = None,
    text: str = "A note.",
    scores: dict[str, np.ndarray] | None = None,
    *,
    baselines: Sequence[str] = (),
    copying: Sequence[str] = (),
    **options,
) -> Comparison:
    """Compare four models, some of which may be baselines or repeat their input."""
    scores = scores or scores_of(np.random.default_rng(3))
    examples = pd.DataFrame(
        {
            "example": [text + " more" * (row % 40) for row in range(N)],
            "ground_truth": "Short.",
            "way": ["call" if row % 3 == 0 else "mail" for row in range(N)],
            "customer": [f"c{row // 6}" for row in range(N)],
            "rare": ["once" if row == 7 else "often" for row in range(N)],
        }
    )
    workflows = [
        Workflow(experiment_id="e", label=label, fingerprint=label, status=Status.SUCCEEDED,
                 model=Model("baseline/lead-1" if label in baselines else "openai/gpt-4o-mini", label=label))
        for label in MODELS
    ]  # fmt: skip
    predictions = {
        label: pd.DataFrame(
            {"row": range(N), "prediction": examples["example"] if label in copying else f"{label}: {text}",
             "cost": None if label in baselines else DOLLARS[label], "seconds": SECONDS[label]}
        )
        for label in MODELS
    }  # fmt: skip
    frames = {
        label: pd.DataFrame({"row": range(N), "rougeL": values, "rouge1": values**2, "words": 100 * values})
        for label, values in scores.items()
    }
    profile = {"has_ground_truth": True, "preview": [], "metadata": []}
    dataset = Dataset(
        name="notes", filename="notes.csv", content_hash="ab", size_bytes=1, n_examples=N,
        columns={"example": "example", "ground_truth": "ground_truth"}, profile=profile, notes=[],
    )  # fmt: skip
    experiment = Experiment(name="=SUM(1,1)", dataset_id="d", task=Summarization(), metrics=(MetricSpec(name="rouge"),))
    data = data_of(experiment, dataset, examples, workflows, [], predictions, frames, labels=labels)
    return Comparison(data, **options)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return make()


def test_the_ranking_names_those_that_cannot_be_told_apart(comparison) -> None:
    ranking = comparison.ranking().set_index("model")
    assert set(ranking.index[ranking["best_set"]]) >= {"twin", "large"}
    assert ranking["probability_best"].sum() == pytest.approx(1)
    assert ranking.loc["slow", "rank_low"] >= 2
    assert (ranking["rank_low"] <= ranking["rank_high"]).all()
    counts = ranking[["wins", "ties", "losses"]].sum(axis=1)
    assert (counts == N * (len(MODELS) - 1)).all()
    with pytest.raises(InvalidInputError, match="only describes"):
        comparison.ranking("words")


def test_p_values_are_corrected_for_pairs_and_for_all_scores(comparison) -> None:
    summary = comparison.summary().query("score == 'rougeL' and not best")
    assert (summary["p_adjusted"] >= summary["p_value"] - 1e-3).all()
    assert (summary["p_adjusted_all"] >= summary["p_adjusted"] - 0.02).all()
    words = comparison.summary().query("score == 'words'")
    assert words[["p_value", "p_adjusted", "rank_low"]].isna().all().all()
    pairs = comparison.pairwise()
    assert len(pairs) == 12
    assert (pairs[["wins", "ties", "losses"]].sum(axis=1) == N).all()
    both = pairs.set_index(["model", "other"])
    assert both.loc[("twin", "slow"), "difference"] == pytest.approx(-both.loc[("slow", "twin"), "difference"])


def test_the_cheapest_that_is_not_worse_is_recommended(comparison) -> None:
    found = comparison.recommend(margin=0.03)
    assert found.choice == "twin"
    assert found.saved == pytest.approx(0.8) if found.best == "large" else found.saved is None
    table = found.table.set_index("model")
    assert table.loc["twin", "not_worse"]
    assert not table.loc["slow", "not_worse"]
    assert "Take twin" in str(found)
    assert "✓" in found._repr_html_()
    # A margin so wide that everything is good enough takes the cheapest of all.
    assert comparison.recommend(margin=0.5).choice == "small"
    assert comparison.recommend(margin=0.5, by="seconds").choice == "small"
    # One so narrow that nothing but the best is shown to be within it.
    assert comparison.recommend(margin=1e-6).choice == comparison.best()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": 0.0}, "margin cannot be 0"),
        ({"by": "euros"}, "by cannot be 'euros'"),
        ({"score": "words"}, "only describes"),
    ],
)
def test_recommendations_that_make_no_sense_are_refused(comparison, options, said) -> None:
    with pytest.raises(InvalidInputError, match=said):
        comparison.recommend(**options)


def test_baselines_are_references_and_not_recommended() -> None:
    comparison = make(baselines=["large", "small"])
    found = comparison.recommend()
    assert comparison.best() == "large"
    assert (found.best, found.choice, found.by) == ("twin", "twin", "dollars")
    assert found.best_set == ("twin",)
    assert [(each.model, each.other) for each in found.baselines] == [("twin", "small"), ("twin", "large")]
    assert found.table["model"].tolist() == ["twin", "slow", "large", "small"]
    assert found.table["baseline"].tolist() == [False, False, True, True]
    said = str(found)
    assert said.startswith(
        "Take twin: it has the highest rougeL of the models, 0.603. Against baselines, twin is not shown"
    )
    unclear = r"not shown to be better than large \(difference −?0\.00\d \[−0\.\d{3}, 0\.\d{3}\], p = 0\.\d+\)"
    better = r"better than small by 0\.0\d\d \[0\.0\d\d, 0\.\d{3}\]"
    assert re.search(rf"Against baselines, twin is {unclear} and is {better}\.", said)
    assert said.endswith("twin is better than every other model at 95% confidence.")
    assert str(comparison).count("Take twin") == 1, "the verdict speaks of a baseline that leads"
    assert "baseline</span>" in found._repr_html_()


def test_a_baseline_that_beats_every_model_is_named() -> None:
    found = make(baselines=["twin", "large"], copying=["small"]).recommend()
    assert found.choice == "slow"
    assert re.search(r"Against baselines, slow is worse than twin by 0\.0\d\d \[.*\] and large by 0", str(found))


def test_a_single_model_is_held_against_the_baselines() -> None:
    comparison = make(baselines=["twin", "large", "small"])
    found = comparison.recommend()
    assert str(found).startswith(
        "slow is the only model besides the baselines: its rougeL is 0.557. Against baselines, "
    )
    assert "slow is the only model" in str(comparison)
    assert "–" in found._repr_html_()
    assert "slow is the only model" in render.as_page(comparison)


def test_baselines_alone_give_no_recommendation() -> None:
    comparison = make(baselines=list(MODELS))
    found = comparison.recommend()
    assert found.choice is None
    assert str(found).startswith("There is no model to recommend: baselines only serve for comparison")
    assert "There is no model to recommend" in str(comparison)
    assert not comparison.pareto()["front"].any()


def test_baselines_cost_nothing() -> None:
    comparison = make(baselines=["small"])
    costs = comparison.costs().set_index("model")
    assert costs.loc["small", ["dollars", "dollars_per_1000"]].tolist() == [0, 0]
    assert "no price" not in str(comparison)
    # A price of nothing takes no model off the front, and none of them is recommended for the price of another.
    front = comparison.pareto().set_index("model")["front"]
    assert front.to_dict() == {"small": False, "twin": True, "large": True, "slow": False}
    assert comparison.recommend(margin=0.5).choice == "twin"
    assert "small" in comparison.plot("pareto")._repr_html_()
    assert models.price_of(Model("baseline/lead-1"))(1000, 1000) == 0


def test_models_without_a_price_are_not_called_dearer() -> None:
    comparison = make()
    comparison._predictions[comparison.best()]["cost"] = None
    assert "cheaper" not in str(comparison.recommend(by="dollars"))


def test_answers_that_copy_their_input_are_named() -> None:
    comparison = make(text="The parcel never came and I want my money back.", copying=["twin", "large"])
    found = comparison.recommend()
    assert found.copying == ("twin", "large")
    assert f"Most answers of {found.choice} copy their input." in str(found)
    assert "150 of 150 answers of twin mostly copy the input: 90% or more of their words" in str(comparison)
    assert "of slow mostly copy" not in str(comparison)


@pytest.mark.parametrize(
    ("text", "answer", "covered", "compressed", "copied"),
    [
        ("The cat sat. It slept.", "the cat SAT it slept", 1, 1, True),
        ("The cat sat. It slept.", "The cat sat.", 1, 5 / 3, False),
        ("The cat sat. It slept.", "Ein Tier schlief auf Stroh.", 0, 1, False),
        ("a b c d", "a b x y", 0.5, 1, False),
        ("a b c d", "…", NAN, NAN, False),
    ],
)
def test_coverage_and_compression(text, answer, covered, compressed, copied) -> None:
    assert copying.coverage(text, answer) == pytest.approx(covered, nan_ok=True)
    assert copying.compression(text, answer) == pytest.approx(compressed, nan_ok=True)
    assert copying.copies(text, answer) is copied


def test_the_pareto_front_leaves_out_what_another_beats_in_everything(comparison) -> None:
    front = comparison.pareto().set_index("model")["front"]
    assert front["small"]
    assert not front["slow"]


def test_slices_show_where_the_order_flips(comparison) -> None:
    by_way = comparison.slices("way")
    assert by_way.index.tolist() == ["call", "mail"]
    assert by_way["flips"].tolist() == [True, False]
    assert by_way.loc["call", "leader"] == "small"
    assert by_way.loc["call", "low"] > 0.1
    assert by_way["n"].tolist() == [100, 200]
    everywhere = comparison.slices()
    assert set(everywhere.index.get_level_values("column")) == {"way", "rare", "length"}, "50 customers are no slices"
    assert everywhere.loc[("way", "call"), "flips"]
    rare = everywhere.loc[("rare", "once")]
    assert rare["too_small"]
    assert not rare["flips"]
    with pytest.raises(InvalidInputError, match="no metadata column 'weigh'"):
        comparison.slices("weigh")


def test_differences_that_few_examples_decide_are_named_beside_the_result(comparison) -> None:
    assert comparison.needed_for_skewness == {}
    assert not any("Cochran" in note for note in notes(comparison))
    assert not comparison.slices("way")["too_skewed"].any()
    random = np.random.default_rng(4)
    scores = {label: 0.5 + random.normal(0, 1e-3, N) for label in MODELS}
    scores[next(iter(MODELS))][:4] = 0.0
    rare = make(scores=scores)
    needed = rare.needed_for_skewness["rougeL"]
    assert needed > N
    (said,) = [note for note in notes(rare) if "Cochran" in note]
    assert f"rougeL needs about {needed:,} examples" in said
    assert said.split(":")[0] in rare._repr_html_()
    assert rare.slices("way")["too_skewed"].all()


def test_lengths_and_languages_are_slices_by_themselves() -> None:
    german = make(text="Das Paket kam zu spät an, und niemand hat auf meine Anfrage geantwortet.")
    assert "German" in german.slices("language").index
    lengths = german.slices("length")
    assert lengths["n"].sum() == N
    assert lengths.index[0].startswith("up to ")


def test_groups_make_intervals_honest() -> None:
    alone, grouped = make(), make(groups="way")
    apart, together = (
        each.summary().set_index(["score", "model"]).loc[("rougeL", "small")] for each in (alone, grouped)
    )
    assert together["overall"] == apart["overall"]
    # In calls the small model is far better, so that examples of one way are alike.
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])
    with pytest.raises(InvalidInputError, match="no metadata column 'client'"):
        make(groups="client")


def test_disagreements_come_first_where_scores_lie_furthest_apart(comparison) -> None:
    found = comparison.disagreements(n=4)
    spread = found[[f"rougeL of {label}" for label in MODELS]].apply(np.ptp, axis=1)
    assert spread.is_monotonic_decreasing
    everything = comparison.to_pandas().pivot(index="row", columns="model", values="rougeL").apply(np.ptp, axis=1)
    assert spread.iloc[0] == pytest.approx(everything.max())
    assert {"example", "ground_truth", "small"} <= set(found)


def ratings(n: int, raters=("Ada", "Ben")) -> pd.DataFrame:
    random = np.random.default_rng(1)
    scores = scores_of(np.random.default_rng(3))
    rows = random.choice(N, n, replace=False)
    return pd.DataFrame(
        [
            {"row": row, "model": label, "rater": rater, "rating": 1 + 4 * scores[label][row] + random.normal(0, 0.3)}
            for row in rows
            for label in ("small", "large")
            for rater in raters
        ]
    )


def test_people_say_which_metric_to_trust_and_what_they_would_say_of_all() -> None:
    rated = make(labels=ratings(60))
    assert rated.rated
    trust = rated.trust().set_index("score")
    assert trust["n"].tolist() == [120, 120]
    assert trust.loc["rougeL", "kendall"] > 0.5
    assert trust.loc["rougeL", "kendall_low"] < trust.loc["rougeL", "kendall"] < trust.loc["rougeL", "kendall_high"]
    found = rated.prediction_powered("rougeL").set_index("model")
    assert set(found.index) == {"small", "large"}
    truth = {label: 1 + 4 * values.mean() for label, values in scores_of(np.random.default_rng(3)).items()}
    for label, row in found.iterrows():
        assert row["low"] - 0.05 < truth[label] < row["high"] + 0.05
        assert row["high"] - row["low"] < 0.9 * (row["human_high"] - row["human_low"])
    drawn = rated.next_to_label(n=20)
    assert not set(drawn["row"]) & set(ratings(60)["row"])
    assert drawn["probability"].between(0, 1).all()


def test_without_people_nothing_is_made_up(comparison) -> None:
    with pytest.raises(InvalidInputError, match="there are no ratings yet"):
        comparison.trust()
    with pytest.raises(InvalidInputError, match="no column 'rating'"):
        comparison.trust(pd.DataFrame({"row": [0], "model": ["small"]}))
    with pytest.raises(InvalidInputError, match="name the model 'smol'"):
        comparison.trust(pd.DataFrame({"row": [0], "model": ["smol"], "rating": [1]}))


@pytest.mark.parametrize("kind", ["intervals", "pairwise", "pareto", "slices", "distribution"])
def test_every_chart_is_drawn_and_follows_the_theme(comparison, kind) -> None:
    markup = comparison.plot(kind)._repr_html_()
    assert "<svg" in markup
    assert "large" in markup
    assert "var(--lm-" in markup


def test_a_chart_that_there_is_not_is_refused(comparison) -> None:
    with pytest.raises(InvalidInputError, match="no chart 'pie'"):
        comparison.plot("pie")


def test_a_workbook_holds_texts_as_texts(tmp_path) -> None:
    path = make(text="=HYPERLINK(1)\x07").export(tmp_path / "out.xlsx")
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Summary", "Ranking", "Pairs", "Cost and speed", "Examples"]
    sheet = book["Examples"]
    headers = [cell.value for cell in sheet[1]]
    cell = sheet.cell(2, headers.index("example") + 1)
    assert cell.data_type == "s"
    assert cell.value.startswith("=HYPERLINK(1)�")
    assert sheet.max_row == 1 + N * len(MODELS)
    assert [found.name for found in tmp_path.iterdir()] == ["out.xlsx"]


def test_markdown_says_what_was_found_and_nothing_in_it_is_markup(comparison, tmp_path) -> None:
    text = make(text="A note.").export(tmp_path / "out.md").read_text()
    assert text.startswith("# =SUM(1,1)\n")
    assert "Take twin" in text or "twin" in text
    assert "| model | rougeL | interval | rank | p, corrected |" in text


def test_the_report_says_which_model_to_take_how_sure_and_where_not(tmp_path) -> None:
    text = make(labels=ratings(40)).export(tmp_path / "out.html").read_text()
    for heading in ("Which model to take", "How sure it is", "Slices", "Agreement with human ratings"):
        assert f"<h2>{heading}</h2>" in text
    assert "small is better (p" in text
    assert not re.search(r'(src|href)="(?!#)', text), "nothing is loaded from elsewhere"


def test_a_table_is_the_same_in_the_report_and_on_the_screen(comparison) -> None:
    page, screen = render.as_page(comparison), Examined(comparison)
    ranking, slices = to_html(tables.ranking(comparison)), to_html(tables.slices(comparison))
    assert "is better (p" in slices
    assert "Slices marked few are too small" in slices
    assert slices in page
    assert slices == markup.slices(screen, "")
    assert ranking in page
    assert ranking in markup.summary(screen, "")


def test_a_file_is_whole_or_not_there(comparison, tmp_path, monkeypatch) -> None:
    (tmp_path / "out.html").write_text("old")
    monkeypatch.setattr("lumigator_nb.services.comparison.exporting.render.as_page", lambda comparison: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        comparison.export(tmp_path / "out.html")
    assert (tmp_path / "out.html").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InvalidInputError, match=r"cannot write a \.pdf file"):
        comparison.export(tmp_path / "out.pdf")
