from __future__ import annotations

import itertools

import numpy as np
import pytest

from lumigator_nb import statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import mean
from lumigator_nb.statistics import race

N = 800


def scores(seed: int, leads=(0.25, 0, 0, 0, 0), n: int = N) -> np.ndarray:
    random = np.random.default_rng(seed)
    common, own = random.normal(size=n), random.normal(size=(len(leads), n))
    return np.clip(0.5 + 0.15 * (np.sqrt(0.5) * (common + own) + np.array(leads)[:, None]), 0, 1)


def test_the_best_is_found_with_half_the_answers_or_fewer() -> None:
    found = [race(scores(seed), bounds=(0, 1)) for seed in range(20)]
    assert [(each.conclusion, each.leader) for each in found] == [("best", 0)] * 20
    assert np.mean([sum(each.used) for each in found]) < 0.5 * 5 * N


def test_equal_models_make_no_winner() -> None:
    found = [race(scores(seed, (0,) * 5, 400), bounds=(0, 1)) for seed in range(40)]
    assert sum(each.conclusion == "best" for each in found) <= 3


def test_equal_models_are_equivalent_where_small_differences_do_not_matter() -> None:
    found = [race(scores(seed, (0, 0, 0)), bounds=(0, 1), indifference=0.04) for seed in range(20)]
    assert all(each.conclusion == "equivalent" and len(each.remaining) == 3 for each in found)
    assert all(each.stopped_at is not None and each.stopped_at < N for each in found)


def test_equivalence_is_not_claimed_of_models_that_differ_by_more() -> None:
    found = [race(scores(seed, (0.4, 0)), bounds=(0, 1), indifference=0.03) for seed in range(50)]
    assert sum(each.conclusion == "equivalent" for each in found) <= 2


def test_the_verdict_depends_on_no_later_example_and_not_on_the_lots() -> None:
    whole = scores(3)
    end = race(whole, bounds=(0, 1))
    for seen in range(0, N, 37):
        part = race(whole[:, :seen], bounds=(0, 1))
        expected = [at if at is not None and at <= seen else None for at in end.dropped_at]
        assert list(part.dropped_at) == expected
        assert part.stopped_at == (end.stopped_at if end.stopped_at and end.stopped_at <= seen else None)


def test_what_losers_would_have_scored_later_changes_nothing() -> None:
    whole = scores(5)
    end = race(whole, bounds=(0, 1))
    asked = whole.copy()
    for model, used in enumerate(end.used):
        asked[model, used:] = np.nan
    assert race(asked, bounds=(0, 1)) == end


def test_lower_is_better_turns_it_round_and_names_do_not_matter() -> None:
    whole = scores(7)
    up = race(whole, bounds=(0, 1))
    down = race(1 - whole, bounds=(0, 1), higher_is_better=False)
    assert (down.leader, down.dropped_at) == (up.leader, up.dropped_at)
    order = [3, 1, 4, 0, 2]
    turned = race(whole[order], bounds=(0, 1))
    assert order[turned.leader] == up.leader
    assert [turned.dropped_at[order.index(model)] for model in range(5)] == list(up.dropped_at)


def test_failed_answers_neither_help_nor_hurt() -> None:
    whole = scores(9, (0.6, 0, 0))
    holes = np.random.default_rng(0).random(whole.shape) < 0.1
    found = race(np.where(holes, np.nan, whole), bounds=(0, 1))
    assert (found.conclusion, found.leader) == ("best", 0)
    silent = whole.copy()
    silent[2] = np.nan
    assert race(silent, bounds=(0, 1)).conclusion == "undecided", "of a model without answers nothing is known"


def test_scores_without_bounds_race_too() -> None:
    found = [race(30 * scores(seed, (0.5, 0, 0)) ** 3) for seed in range(20)]
    assert all((each.conclusion, each.leader) == ("best", 0) for each in found)


def test_models_that_always_tie_are_not_told_apart_nor_equal_for_free() -> None:
    zeros = np.zeros((2, 40))
    assert race(zeros, bounds=(0, 1)).conclusion == "undecided"
    assert race(zeros, bounds=(0, 1), indifference=0.01).conclusion == "undecided"
    assert race(np.zeros((2, 2000)), bounds=(0, 1), indifference=0.01).conclusion == "equivalent"


def test_without_bounds_scores_that_never_vary_end_a_race() -> None:
    same = race(np.zeros((2, 200)), indifference=0.01)
    assert (same.conclusion, same.stopped_at) == ("equivalent", 64)
    assert race(np.zeros((2, 200))).conclusion == "undecided", "no winner among equals"
    apart = np.array([np.full(200, 0.1 + 0.2), np.full(200, 0.3), np.full(200, 0.1)])
    found = race(apart)
    assert found.dropped_at == (None, None, 64)
    assert race(apart, indifference=1e-6).conclusion == "equivalent"
    standings = statistics.race_standings(apart, found)
    assert standings.difference[2] == pytest.approx(-0.2)
    assert standings.difference_low[2] < -0.2 < standings.difference_high[2] < 0


def test_without_bounds_models_that_answer_alike_take_the_longer_the_smaller_the_differences_that_matter() -> None:
    alike = np.tile(np.random.default_rng(1).normal(50, 10, 4000), (2, 1))
    ends = [race(alike, indifference=matters).stopped_at for matters in (10, 1, 0.1)]
    # One example in 64 may yet differ, by as much as the scores do.
    assert ends[0] == 64 < ends[1] < 500 < ends[2]


@pytest.mark.parametrize(("scale", "shift"), [(1e-12, 0), (1e9, 0), (1, 1e6)])
def test_the_unit_of_scores_does_not_matter(scale, shift) -> None:
    whole = scores(3)
    expected = race(whole, bounds=(0, 1))
    bounds = (shift, shift + scale)
    assert race(shift + scale * whole, bounds=bounds).dropped_at == expected.dropped_at
    loose = race(shift + scale * whole)
    assert loose.dropped_at == race(whole).dropped_at


def test_a_score_beyond_its_bounds_by_rounding_is_on_them() -> None:
    bleu = np.array([[100.00000000000004] * 40, [50.0] * 40])
    found = race(bleu, bounds=(0, 100))
    assert found == race(np.minimum(bleu, 100), bounds=(0, 100))
    standings = statistics.race_standings(bleu, found, bounds=(0, 100))
    assert (standings.mean[0], standings.high[0]) == (100, 100)
    assert statistics.betting_bounds(bleu[0], 0, 100)[1] == 100
    with pytest.raises(InvalidInputError, match="1e-12"):
        statistics.betting_bounds(np.array([0, 1.1e-12]), 0, 1e-12)


def test_standings_hold_the_means_and_shrink() -> None:
    whole = scores(11)
    verdict = race(whole, bounds=(0, 1))
    found = statistics.race_standings(whole, verdict, bounds=(0, 1))
    assert found.difference[verdict.leader] == 0
    assert (found.low < found.mean).all()
    assert (found.mean < found.high).all()
    losers = [model for model in range(5) if model != verdict.leader]
    assert (found.difference[losers] < 0).all()
    early = race(whole[:, :30], bounds=(0, 1))
    before = statistics.race_standings(whole[:, :30], early, bounds=(0, 1))
    assert (found.high - found.low)[verdict.leader] < (before.high - before.low)[verdict.leader]


def test_one_test_after_all_examples_tells_apart_what_the_race_could_not() -> None:
    close = [scores(seed, (0.2, 0), 300) for seed in range(40)]
    racing = [race(each, bounds=(0, 1)) for each in close]
    to_the_end = [race(each, bounds=(0, 1), total=300) for each in close]
    decided = [sum(each.conclusion == "best" for each in found) for found in (racing, to_the_end)]
    once = sum(statistics.paired_difference(*each[:, :, None], mean, n_resamples=300).p_value <= 0.05 for each in close)
    assert decided[0] < decided[1] <= once
    assert decided[1] >= 0.8 * once  # with half of the error
    late = [each for each in to_the_end if each.by_last_test]
    assert late
    for each in late:
        assert (each.by_last_test, each.dropped_at[1], each.dropped_by[1], each.stopped_at) == ((1,), 300, 0, 300)


def test_the_last_test_of_groups_counts_groups_and_says_examples() -> None:
    whole = np.repeat(scores(2, (0.2, 0), 300), 2, axis=1)
    groups = np.repeat(np.arange(300), 2)
    found = race(whole, bounds=(0, 1), groups=groups, total=600)
    assert (found.by_last_test, found.dropped_at, found.stopped_at) == ((1,), (None, 600), 600)
    assert race(whole[:, :598], bounds=(0, 1), groups=groups, total=600).by_last_test == ()


def test_before_the_last_example_nothing_is_tested_once() -> None:
    whole = scores(2, (0.2, 0), 300)
    assert race(whole, bounds=(0, 1), total=300).by_last_test == (1,)
    early = race(whole[:, :299], bounds=(0, 1), total=300)
    assert (early.conclusion, early.by_last_test, early.dropped_at) == ("undecided", (), (None, None))


def test_the_last_test_drops_the_worse_ones_and_leaves_the_rest_undecided() -> None:
    found = [race(scores(seed, (0.3, 0.3, 0), 150), bounds=(0, 1), total=150) for seed in range(20)]
    assert sum(each.conclusion == "undecided" and set(each.remaining) >= {0, 1} for each in found) >= 18
    assert sum(each.by_last_test == (2,) for each in found) >= 5


@pytest.mark.parametrize("wins", [0, 3])
def test_the_last_test_makes_no_winner_of_ties_or_of_three_wins(wins) -> None:
    tied = np.tile(scores(1, (0,), 60), (2, 1))
    tied[0, :wins] = np.minimum(tied[0, :wins] + 0.3, 1)
    assert race(tied, bounds=(0, 1), total=60).conclusion == "undecided"


def test_a_race_to_the_end_makes_no_winner_among_equal_models() -> None:
    found = [race(scores(seed, (0, 0), 60), bounds=(0, 1), total=60) for seed in range(150)]
    assert sum(each.conclusion == "best" for each in found) <= 0.08 * 150


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [(0, 1), None])
@pytest.mark.parametrize(("leads", "n"), [((0, 0), 80), ((0, 0, 0, 0), 80), ((0.05, 0, 0), 150)])
def test_races_to_the_end_are_wrong_no_more_often_than_they_say(leads, n, bounds) -> None:
    found = [race(scores(seed, leads, n), bounds=bounds, total=n) for seed in range(1500)]
    if leads[0]:
        wrong = [each.dropped_at[0] is not None for each in found]
    else:
        wrong = [each.conclusion == "best" for each in found]
    assert np.mean(wrong) <= 0.05 + 0.012


def test_looks_come_often_and_end_with_all() -> None:
    assert statistics.looks(10) == [10]
    found = statistics.looks(1000)
    assert found[0] == 20
    assert found[-1] == 1000
    assert all(1 < later / sooner < 1.3 for sooner, later in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (np.zeros((1, 5)), {}, "two models or more"),
        (np.zeros(5), {}, "not a race"),
        (np.zeros((2, 5)), {"confidence": 0}, "confidence cannot be 0"),
        (np.zeros((2, 5)), {"indifference": -1}, "indifference cannot be -1"),
        (np.zeros((2, 5)), {"bounds": (1, 0)}, "hold no scores"),
        (np.zeros((2, 5)), {"total": 4}, "5 examples of 4 in all"),
        (np.array([[0.0, 0.0], [0.0, 2.0]]), {"bounds": (0, 1)}, "model 1, example 1: 2.0 lies outside"),
    ],
)
def test_a_race_that_cannot_be_is_refused(values, options, said) -> None:
    with pytest.raises(InvalidInputError) as caught:
        race(values, **options)
    assert said in f"{caught.value.message} {caught.value.hint}"


def grouped(seed: int, leads=(0, 0), groups: int = 150, each: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Scores of which the examples of one group share nearly all that tells the models apart."""
    random = np.random.default_rng(seed)
    shared = np.repeat(random.normal(size=(len(leads), groups)), each, axis=1)
    own = random.normal(size=(len(leads), groups * each))
    values = 0.5 + 0.12 * (shared + 0.3 * own + np.array(leads)[:, None])
    return np.clip(values, 0, 1), np.repeat(np.arange(groups), each)


def test_groups_of_one_are_examples() -> None:
    whole = scores(3)
    plain, alone = race(whole, bounds=(0, 1)), race(whole, bounds=(0, 1), groups=np.arange(N))
    assert alone == plain
    expected = statistics.race_standings(whole, plain, bounds=(0, 1))
    found = statistics.race_standings(whole, alone, bounds=(0, 1), groups=np.arange(N))
    for name in ("mean", "low", "high", "difference", "difference_low", "difference_high"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name))


def test_examples_of_one_group_make_no_winner_of_equals() -> None:
    found, taken_apart = 0, 0
    for seed in range(40):
        values, groups = grouped(seed, each=30)
        found += race(values, bounds=(0, 1), groups=groups).conclusion == "best"
        taken_apart += race(values, bounds=(0, 1)).conclusion == "best"
    assert found <= 2 < taken_apart


def test_groups_race_too_and_the_verdict_counts_examples() -> None:
    values, groups = grouped(1, (1.5, 0, 0))
    found = race(values, bounds=(0, 1), groups=groups)
    assert (found.conclusion, found.leader) == ("best", 0)
    assert found.stopped_at % 4 == 0
    assert found.stopped_at == max(found.used)
    part = race(values[:, : found.stopped_at + 2], bounds=(0, 1), groups=groups)
    assert part == found, "what is asked later, or of half a group, changes nothing"
    assert race(values[:, :3], bounds=(0, 1), groups=groups).used == (0, 0, 0)
    standings = statistics.race_standings(values, found, bounds=(0, 1), groups=groups)
    assert standings.mean[0] == pytest.approx(values[0, : found.used[0]].mean())
    assert (standings.low < standings.mean).all()
    assert (standings.mean < standings.high).all()
    assert (standings.difference_high[1:] < 0).all()
    assert race(values, groups=groups).leader == 0


def test_a_large_group_weighs_as_its_examples_do() -> None:
    random = np.random.default_rng(2)
    sizes = np.where(np.arange(600) % 4, 1, 9)
    groups = np.repeat(random.permutation(600), sizes)
    # The first model is better on most groups, the second on most examples.
    large = np.repeat(sizes, sizes) == 9
    values = np.stack([np.where(large, 0.2, 0.8), np.full(len(groups), 0.5)]) + random.normal(0, 0.05, (2, len(groups)))
    order = np.argsort(random.permutation(600)[groups], kind="stable")
    found = race(values[:, order], bounds=(0, 1), groups=groups[order])
    assert (found.conclusion, found.leader) == ("best", 1)


def test_groups_that_fall_apart_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="side by side"):
        race(np.zeros((2, 4)), groups=[1, 2, 1, 2])
    with pytest.raises(InvalidInputError, match="for 4 examples"):
        race(np.zeros((2, 4)), groups=[1, 1, 2])


def on_dataset(whole: np.ndarray, **options) -> statistics.Race:
    return race(whole, total=whole.shape[1], population="dataset", **options)


def binary(seed: int, leads=(0.05, 0, 0), n: int = 200) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.random((len(leads), n)) < 0.6 + np.array(leads)[:, None]).astype(float)


@pytest.mark.parametrize("bounds", [(0, 1), None])
@pytest.mark.parametrize("draw", [scores, binary])
def test_a_race_on_a_dataset_is_always_decided_and_mostly_right(draw, bounds) -> None:
    wrong, used, as_sample = 0, 0, 0
    for seed in range(40):
        whole = draw(seed, (0.1, 0.05, 0), 200)
        means = whole.mean(axis=1)
        found = on_dataset(whole, bounds=bounds)
        assert found.conclusion in ("best", "equivalent")
        tied = {int(model) for model in np.flatnonzero(means >= means.max() - 1e-9)}
        wrong += set(found.remaining) != tied
        used += sum(found.used)
        as_sample += sum(race(whole, bounds=bounds, total=200).used)
    assert wrong <= 2
    assert used < 0.95 * as_sample


def test_models_that_score_the_same_on_a_dataset_end_equivalent_whatever_they_would_do_beyond() -> None:
    whole = scores(4, (0, 0), 120)
    whole[1] = np.random.default_rng(0).permutation(whole[0])
    found = on_dataset(whole, bounds=(0, 1))
    assert (found.conclusion, found.stopped_at, set(found.remaining)) == ("equivalent", 120, {0, 1})
    tenths = np.array([[0.1, 0.2, 0.3], [0.3, 0.3, 0.0]])  # whose sums differ by rounding
    assert on_dataset(tenths, bounds=(0, 1)).conclusion == "equivalent"
    tenths[0, 2] += 1e-6
    assert (on_dataset(tenths, bounds=(0, 1)).conclusion, on_dataset(tenths).leader) == ("best", 0)


def test_small_differences_that_do_not_matter_end_equivalent_at_the_last_example() -> None:
    whole = np.full((3, 60), 0.5)
    whole[0, ::20] += 0.1  # ahead by 0.005
    whole[2] -= 0.02
    found = on_dataset(whole, bounds=(0, 1), indifference=0.01)
    assert (found.conclusion, found.remaining) == ("equivalent", (0, 1))
    assert on_dataset(whole, bounds=(0, 1), indifference=0.005).conclusion == "best"
    assert on_dataset(whole, bounds=(0, 1)).leader == 0


def test_what_can_no_longer_change_decides_a_race_on_a_dataset() -> None:
    whole = np.zeros((2, 30))
    whole[0, :16] = 1  # 16 wins of 30 cannot be made up for
    found = on_dataset(whole, bounds=(0, 1), confidence=1 - 1e-12)
    assert (found.conclusion, found.leader, found.stopped_at) == ("best", 0, 16)


def test_the_verdict_on_a_dataset_depends_on_no_later_example() -> None:
    whole = scores(3, (0.1, 0, 0), 300)
    end = on_dataset(whole, bounds=(0, 1))
    for seen in range(0, 300, 37):
        part = race(whole[:, :seen], bounds=(0, 1), total=300, population="dataset")
        assert list(part.dropped_at) == [at if at is not None and at <= seen else None for at in end.dropped_at]
    asked = whole.copy()
    for model, used in enumerate(end.used):
        asked[model, used:] = np.nan
    assert on_dataset(asked, bounds=(0, 1)) == end


def test_missing_answers_do_not_keep_a_race_on_a_dataset_open_but_silent_models_do() -> None:
    whole = scores(9, (0.05, 0, 0), 150)
    holes = np.where(np.random.default_rng(0).random(whole.shape) < 0.2, np.nan, whole)
    assert on_dataset(holes, bounds=(0, 1)).conclusion == "best"
    assert on_dataset(holes).conclusion == "best"
    silent = whole.copy()
    silent[2] = np.nan
    assert on_dataset(silent, bounds=(0, 1)).conclusion == "undecided"


def test_groups_race_on_a_dataset_too() -> None:
    values, groups = grouped(1, (0.1, 0, 0), groups=60)
    found = on_dataset(values, bounds=(0, 1), groups=groups)
    assert found.conclusion == "best"
    assert found.stopped_at % 4 == 0
    standings = statistics.race_standings(values, found, bounds=(0, 1), groups=groups, total=240, population="dataset")
    full = np.array(found.used) == 240
    np.testing.assert_allclose(standings.low[full], values.mean(axis=1)[full])
    with pytest.raises(InvalidInputError, match="200 group labels for 240 examples"):
        race(values[:, :100], groups=groups[:200], total=240, population="dataset")


@pytest.mark.parametrize("bounds", [(0, 1), None])
def test_standings_on_a_dataset_shrink_to_the_means(bounds) -> None:
    whole = scores(11, (0, 0), 150)
    found = on_dataset(whole, bounds=bounds, confidence=1 - 1e-12)
    standings = statistics.race_standings(whole, found, bounds=bounds, total=150, population="dataset")
    means = whole.mean(axis=1)
    for bound in (standings.low, standings.high):
        np.testing.assert_allclose(bound, means)
    np.testing.assert_allclose(standings.difference_low, means - means[found.leader], atol=1e-12)
    np.testing.assert_allclose(standings.difference_high, means - means[found.leader], atol=1e-12)


@pytest.mark.parametrize("population", ["dataset", "larger"])
def test_the_difference_to_the_model_that_a_race_dropped_last_does_not_hold_zero(population) -> None:
    for seed in range(10):
        whole = scores(seed, (0.5, 0), 400)
        found = race(whole, bounds=(0, 1), total=400, population=population)
        standings = statistics.race_standings(whole, found, bounds=(0, 1), total=400, population=population)
        assert found.by_last_test or standings.difference_high[1 - found.leader] <= 0


def test_bounds_far_wider_than_the_scores_cost_a_race_little() -> None:
    used = {"wide": 0, "none": 0}
    for seed in range(10):
        random = np.random.default_rng(seed)
        shared = 35 + 6 * random.normal(size=1000)
        whole = shared + 4 * random.normal(size=(4, 1000)) + np.array([1.5, 1, 0.5, 0])[:, None]
        used["wide"] += sum(on_dataset(whole, bounds=(0, 100)).used)
        used["none"] += sum(race(whole, total=1000).used)
    assert used["wide"] < 1.2 * used["none"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"population": "all"}, "use one of dataset, larger"),
        ({"population": "dataset"}, "give the number of all examples as total"),
    ],
)
def test_a_population_that_is_not_known_is_refused(options, said) -> None:
    with pytest.raises(InvalidInputError) as caught:
        race(np.zeros((2, 5)), **options)
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [(0, 1), None])
@pytest.mark.parametrize("draw", [scores, binary])
@pytest.mark.parametrize(("leads", "n"), [((0, 0), 150), ((0.05, 0, 0, 0), 150)])
def test_races_on_a_dataset_are_wrong_no_more_often_than_they_say(leads, n, bounds, draw) -> None:
    wrong = 0
    for seed in range(600):
        whole = draw(seed, leads, n)
        means = whole.mean(axis=1)
        found = on_dataset(whole, bounds=bounds)
        wrong += set(found.remaining) != {int(model) for model in np.flatnonzero(means >= means.max() - 1e-9)}
    assert wrong / 600 <= 0.05 + 0.018
