from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.corrections import romano_wolf
from lumigator_nb.statistics.ranking import RankSet, pairwise_p_values, probability_best, rank_sets, wins
from lumigator_nb.statistics.resampling import resampled_totals

NAN = float("nan")


def bootstrapped(values: np.ndarray, n_resamples: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Means (m,) of values (m, n), and their replicates (m, R)."""
    totals = resampled_totals(values.T, n_resamples=n_resamples, seed=seed)
    return values.mean(axis=1), totals.T / values.shape[1]


def scores(means: list[float], n: int = 200, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.array(means)[:, None] + generator.normal(size=n) + 0.5 * generator.normal(size=(len(means), n))


def test_clear_differences_give_single_ranks_and_equal_models_share_theirs() -> None:
    values = scores([0.0, 2.0, 0.0, 1.0])
    sets = rank_sets(*bootstrapped(values), n=200)
    assert sets == (RankSet(3, 4), RankSet(1, 1), RankSet(3, 4), RankSet(2, 2))
    assert [one.low == 1 for one in sets] == [False, True, False, False]


def test_where_less_is_better_ranks_are_those_of_the_negative_scores() -> None:
    estimates, replicates = bootstrapped(scores([0.0, 2.0, 0.3, 0.25]))
    found = rank_sets(estimates, replicates, higher_is_better=False, n=200)
    assert found == rank_sets(-estimates, -replicates, n=200)
    assert found[1] == RankSet(4, 4)


def test_identical_models_are_never_told_apart() -> None:
    same = np.repeat(scores([0.1]), 3, axis=0)
    estimates, replicates = bootstrapped(same)
    p_values = pairwise_p_values(estimates, replicates, n=200)
    assert np.array_equal(p_values[~np.eye(3, dtype=bool)], np.ones(6))
    assert rank_sets(estimates, replicates, n=200) == (RankSet(1, 3),) * 3
    np.testing.assert_allclose(probability_best(replicates), 1 / 3)


def test_p_values_of_pairs_are_those_of_the_differences() -> None:
    estimates, replicates = bootstrapped(scores([0.0, 0.1, 0.05], n=60))
    found = pairwise_p_values(estimates, replicates, n=60)
    first, second = [0, 0, 1], [1, 2, 2]
    expected = romano_wolf(estimates[first] - estimates[second], replicates[first] - replicates[second], n=60)
    np.testing.assert_array_equal(found[first, second], expected)
    np.testing.assert_array_equal(found, found.T)
    assert np.isnan(np.diag(found)).all()


def test_more_confidence_gives_wider_sets() -> None:
    estimates, replicates = bootstrapped(scores([0.0, 0.12, 0.2, 0.3, 0.35]), 4000)
    bold, sure = (rank_sets(estimates, replicates, confidence=one, n=200) for one in (0.6, 0.999))
    assert all(wide.low <= narrow.low and narrow.high <= wide.high for narrow, wide in zip(bold, sure, strict=True))
    assert bold != sure


def test_a_model_without_a_score_may_have_any_rank() -> None:
    estimates, replicates = bootstrapped(scores([0.0, 2.0, 4.0]))
    estimates[0] = NAN
    assert rank_sets(estimates, replicates, n=200) == (RankSet(1, 3), RankSet(2, 3), RankSet(1, 2))


def test_one_model_has_one_rank_and_one_example_tells_nothing() -> None:
    assert rank_sets(np.array([0.4]), np.full((1, 9), 0.4), n=50) == (RankSet(1, 1),)
    assert rank_sets(np.array([0.4, 0.6]), np.array([[0.4] * 9, [0.6] * 9]), n=1) == (RankSet(1, 2),) * 2


def test_all_true_ranks_are_held_at_once_about_as_often_as_promised() -> None:
    lowest, highest = np.array([1, 2, 2, 4, 5]), np.array([1, 3, 3, 4, 5])
    held, narrow = 0, 0
    for seed in range(400):
        estimates, replicates = bootstrapped(scores([0.5, 0.3, 0.3, 0.15, 0.0], n=60, seed=seed), 500, seed // 40)
        low, high = np.array([(one.low, one.high) for one in rank_sets(estimates, replicates, n=60)]).T
        held += np.all((low <= lowest) & (high >= highest))
        narrow += np.any((low > 1) | (high < 5))
    assert held / 400 >= 0.93
    assert narrow / 400 >= 0.9


def test_the_probability_of_being_best_counts_resamples() -> None:
    replicates = np.array([[1.0, 3, 2, 5], [2, 3, 1, 4], [0, 3, 2, 1]])
    np.testing.assert_allclose(probability_best(replicates), np.array([11, 8, 5]) / 24)
    lowest = probability_best(replicates, higher_is_better=False)
    np.testing.assert_allclose(lowest, np.array([1 / 3, 1 / 3 + 1, 1 + 1 / 3 + 1]) / 4)


def test_wins_and_ties_of_pairs_leave_out_what_is_missing() -> None:
    values = np.array([[1.0, 2, 3, NAN], [1, 1, NAN, 4], [0, 3, 3, 3]])
    won, tied = wins(values)
    assert won.tolist() == [[0, 1, 1], [0, 0, 2], [1, 1, 0]]
    assert tied.tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    lost, same = wins(values, higher_is_better=False)
    np.testing.assert_array_equal(lost, won.T)
    np.testing.assert_array_equal(same, tied)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_sets(np.ones(2), np.ones((2, 5)), confidence=1), "confidence cannot be 1"),
        (lambda: rank_sets(np.ones(2), np.ones((3, 5))), "replicates of shape"),
        (lambda: pairwise_p_values(np.empty(0), np.empty((0, 5))), "of shape"),
        (lambda: probability_best(np.array([[1.0, NAN]])), "not a complete table"),
        (lambda: probability_best(np.empty((0, 5))), "not a complete table"),
        (lambda: wins(np.ones(3)), "not a table"),
    ],
)
def test_what_does_not_fit_together_is_refused(call, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_the_rank_of_all_pairs_is_that_of_the_differences_to_one_model() -> None:
    values = np.vstack([scores([0.0, 0.1, 0.05, 0.2], n=60), scores([0.1], n=60, seed=5)])
    values = np.vstack(
        [values, values[0] + 0.3, values[1:2]]
    )  # one is ahead of another by the same, and one equals one
    estimates, replicates = bootstrapped(values)
    replicates[4, 3] = NAN
    first, second = np.triu_indices(len(values), 1)
    expected = romano_wolf(estimates[first] - estimates[second], replicates[first] - replicates[second], n=60)
    np.testing.assert_array_equal(pairwise_p_values(estimates, replicates, n=60)[first, second], expected)


def test_a_hundred_models_take_no_product_of_all_pairs() -> None:
    estimates, replicates = bootstrapped(scores(list(np.linspace(0, 1, 100)), n=100), n_resamples=50)
    tracemalloc.start()
    try:
        assert len(rank_sets(estimates, replicates, n=100)) == 100
        # 4,950 pairs by 50 resamples are 2 MB, by each other 196 MB.
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
