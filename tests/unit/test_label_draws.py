"""Ratings of examples that were drawn with unequal probabilities, and what intervals from few ratings are about."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.services.labelling.draws import inclusion_probabilities, with_draw
from lumigator_nb.statistics import next_to_label, prediction_powered_mean

COPY, FIRST = "baseline/copy", "baseline/lead-1"
N = 60


def population(generator: np.random.Generator, n: int = 100):
    """Human labels, a judge's scores, and how unsure the judge is; humans are kinder where it is unsure."""
    unsure = 0.1 + generator.exponential(size=n)
    human = 3 + 0.3 * unsure + generator.normal(size=n)
    return human, human + unsure * generator.normal(size=n), unsure


def powered(human, judge, indices, **options):
    return prediction_powered_mean(human[indices], judge[indices], np.delete(judge, indices), **options)


def test_without_the_judge_the_interval_about_these_examples_has_the_correction_for_a_finite_population() -> None:
    human, judge, _ = population(np.random.default_rng(0))
    found = powered(human, judge, np.arange(40), weight=0.0, about="these")
    half = scipy.stats.t.ppf(0.975, 39) * human[:40].std(ddof=1) / np.sqrt(40) * np.sqrt(1 - 40 / 100)
    assert (found.low, found.high) == pytest.approx((human[:40].mean() - half, human[:40].mean() + half))
    assert (found.about, found.human_only.high) == ("these", pytest.approx(found.high))


@pytest.mark.parametrize("case", ["equal chances", "unequal chances"])
def test_intervals_about_these_examples_hold_their_mean_and_are_narrower(case) -> None:
    generator, held, alone, narrower = np.random.default_rng(1), [], [], []
    for seed in range(300):
        human, judge, unsure = population(generator)
        draw = next_to_label(unsure, 40, seed=seed, uniform=1.0 if case == "equal chances" else 0.3)
        options = {} if case == "equal chances" else {"probabilities": draw.probabilities}
        these = powered(human, judge, draw.indices, about="these", **options)
        more = powered(human, judge, draw.indices, **options)
        assert these.estimate == more.estimate
        held.append(these.low <= human.mean() <= these.high)
        alone.append(these.human_only.low <= human.mean() <= these.human_only.high)
        narrower.append((these.high - these.low) / (more.high - more.low))
    assert 0.91 <= np.mean(held) <= 0.98
    assert 0.91 <= np.mean(alone) <= 0.98
    assert np.mean(narrower) < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("uniform", [1.0, 0.3])
@pytest.mark.parametrize(("n", "total"), [(30, 60), (50, 200), (100, 1000)])
def test_intervals_about_these_examples_cover_as_often_as_they_say(n, total, uniform) -> None:
    generator, held, errors = np.random.default_rng(2), [], []
    for seed in range(2000):
        human, judge, unsure = population(generator, total)
        draw = next_to_label(unsure, n, seed=seed, uniform=uniform)
        found = powered(human, judge, draw.indices, probabilities=draw.probabilities, about="these")
        held.append(found.low <= human.mean() <= found.high)
        errors.append(found.estimate - human.mean())
    assert 0.93 <= np.mean(held) <= 0.97
    assert abs(np.mean(errors)) < 3.5 * np.std(errors) / np.sqrt(2000)


def test_where_all_are_labelled_their_mean_is_known() -> None:
    human, judge, _ = population(np.random.default_rng(3), 30)
    found = powered(human, judge, np.arange(30), about="these")
    assert (found.low, found.estimate, found.high) == pytest.approx((human.mean(),) * 3)
    assert powered(human, judge, np.arange(30)).low < human.mean()


def test_one_is_asked_about_these_or_more() -> None:
    with pytest.raises(InvalidInputError, match="about cannot be 'all'"):
        powered(*population(np.random.default_rng(4))[:2], np.arange(20), about="all")


def test_the_probability_of_a_row_is_that_of_the_latest_draw() -> None:
    asked = with_draw({"name": "x"}, "quality", {7: 0.5, 3: 0.2, 9: 1.0, 4: 0.25}, rated=[1, 1])
    assert asked["name"] == "x"
    assert np.isnan(inclusion_probabilities(asked, "quality", [1])).all(), "nothing of the draw is rated yet"
    # Two of four are rated; row 1 was rated before, row 8 besides.
    np.testing.assert_array_equal(inclusion_probabilities(asked, "quality", [1, 7, 3, 8]), [1.0, 0.25, 0.1, np.nan])
    assert np.isnan(inclusion_probabilities(asked, "tone", [7])).all()
    assert with_draw(asked, "quality", {7: 0.5, 3: 0.2, 9: 1.0, 4: 0.25}, rated=[1, 7]) == asked
    later = with_draw(asked, "quality", {2: 0.5}, rated=[1, 7])
    np.testing.assert_array_equal(inclusion_probabilities(later, "quality", [1, 7, 3, 2]), [1.0, 1.0, np.nan, 0.5])


@pytest.fixture
def ws(inline_ws):
    frame = pd.DataFrame(
        {
            "example": [f"Ann waits at stop {n}. " + "Bob walks. " * (n % 12) for n in range(N)],
            "ground_truth": [f"Ann waits at stop {n}." for n in range(N)],
        }
    )
    dataset = inline_ws.datasets.upload(frame, name="d")
    experiment = inline_ws.experiments.create("e", dataset=dataset, metrics=["rouge"])
    inline_ws.workflows.launch(experiment, [COPY, FIRST])
    inline_ws.wait(experiment, progress=False)
    return inline_ws


def rate_all(session) -> None:
    """Rate an answer by the number of its sentences, from 1 to 5."""
    while item := session.current:
        session.answer(max(1, 5 - item.answers["Answer"].count(".") // 3))


def test_ratings_asked_for_by_a_draw_keep_its_probabilities_and_weigh_by_them(ws) -> None:
    drawn = ws.compare("e").next_to_label(n=20)
    assert drawn["probability"].nunique() > 3
    session = ws.labels.rate("e", rater="ana", order=drawn)
    assert session.progress == (0, 40), "only what was drawn is asked, for both models"
    rate_all(session)
    stored = ws.labels.ratings("e").drop_duplicates("row").set_index("row")["probability"]
    pd.testing.assert_series_equal(stored.sort_index(), drawn.set_index("row")["probability"].sort_index())
    found = ws.compare("e").prediction_powered("rougeL")
    assert found["weighted"].all()
    assert (found["about"] == "more").all()
    # As if the table had been put together by hand.
    ratings = ws.labels.ratings("e").drop(columns="probability").merge(drawn, on="row")
    by_hand = ws.compare("e").prediction_powered("rougeL", ratings)
    pd.testing.assert_frame_equal(found, by_hand)
    equal = ws.compare("e").prediction_powered("rougeL", ratings.drop(columns="probability"))
    assert not equal["weighted"].any()
    assert (equal["estimate"] - found["estimate"]).abs().max() > 0.01
    these = ws.compare("e").prediction_powered("rougeL", about="these")
    assert (these["about"] == "these").all()
    assert ((these["high"] - these["low"]) < (found["high"] - found["low"]))[these["model"] == COPY].all()


def test_ratings_made_elsewhere_keep_the_probability_of_their_row(ws) -> None:
    ratings = [
        {"row": row, "model": model, "rating": 2 + row % 3, "probability": 0.1 + 0.1 * (row % 2)}
        for row in range(0, 30, 3)
        for model in (COPY, FIRST)
    ]
    ws.labels.add("e", ratings, rater="ana")
    stored = ws.labels.ratings("e")
    np.testing.assert_allclose(stored["probability"], 0.1 + 0.1 * (stored["row"] % 2))
    with pytest.raises(InvalidInputError, match="row 0 was drawn with probability 1.5"):
        ws.labels.add("e", [{**ratings[0], "probability": 1.5}], rater="ben")
    with pytest.raises(InvalidInputError, match="no column 'row'"):
        ws.labels.rate("e", rater="ben", order=pd.DataFrame({"probability": [0.5]}))


def test_weighting_by_the_draw_leaves_no_bias() -> None:
    generator, errors = np.random.default_rng(6), {"weighted": [], "as if equal": []}
    for seed in range(300):
        human, judge, unsure = population(generator)
        draw = next_to_label(unsure, 30, seed=seed)
        weighted = powered(human, judge, draw.indices, probabilities=draw.probabilities)
        errors["weighted"].append(weighted.human_only.estimate - human.mean())
        errors["as if equal"].append(powered(human, judge, draw.indices).human_only.estimate - human.mean())
    bias = {name: abs(np.mean(found)) / (np.std(found) / np.sqrt(300)) for name, found in errors.items()}
    assert bias["weighted"] < 3.5 < bias["as if equal"]
