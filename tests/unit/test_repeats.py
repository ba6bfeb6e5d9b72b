"""Several answers to each example: their mean and its interval, the parts of the variance, pass@k, instability."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lumigator_nb import statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.bootstrap import bootstrap_interval
from lumigator_nb.statistics.repeats import (
    instability,
    mean_over_repeats,
    pass_at_k,
    pass_hat_k,
    repeated_interval,
    variance_components,
)

NAN = np.nan


def nested(between: float, within: float, n: int, k: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(scale=between, size=(n, 1)) + random.normal(scale=within, size=(n, k))


def test_the_mean_over_repeats_leaves_out_missing_scores_and_keeps_the_examples() -> None:
    means = mean_over_repeats([[1, 0, NAN], [NAN, NAN, NAN], [0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(means, [0.5, NAN, 0.5])


def test_sufficient_statistics_of_repeats_give_the_overall_score_of_all_answers() -> None:
    # (models, examples, repeats, statistics): matches and lengths, whose ratio of sums is the overall score.
    counts = np.random.default_rng(0).integers(1, 9, size=(2, 6, 3, 2)).astype(float)
    means = mean_over_repeats(counts, axis=-2)
    ratio = means[..., 0].sum(axis=1) / means[..., 1].sum(axis=1)
    np.testing.assert_allclose(ratio, counts[..., 0].sum(axis=(1, 2)) / counts[..., 1].sum(axis=(1, 2)))


def test_one_repeat_has_the_interval_of_scores_without_repeats() -> None:
    scores = np.random.default_rng(1).beta(2, 2, size=80)
    assert repeated_interval(scores[:, None]) == bootstrap_interval(scores)


def test_repeats_that_never_differ_do_not_narrow_the_interval_and_pooling_would() -> None:
    scores = np.random.default_rng(2).beta(2, 2, size=(80, 1))
    once, often = (repeated_interval(np.repeat(scores, k, axis=1)) for k in (1, 10))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    pooled = bootstrap_interval(np.repeat(scores[:, 0], 10))
    assert pooled.high - pooled.low < 0.4 * (once.high - once.low)


def test_intervals_cover_with_much_and_little_variance_between_repeats() -> None:
    for between in (0.95, 0.3):
        held = 0
        for seed in range(120):
            scores = nested(between, np.sqrt(1 - between**2), 40, 3, seed)
            interval = repeated_interval(scores, n_resamples=300, seed=seed)
            held += interval.low <= 0 <= interval.high
        assert 0.90 <= held / 120 <= 0.99, "95% and the error of 120 data sets"


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.2), (0.2, 1.0), (0.5, 0.5), (0.0, 1.0)])
def test_both_parts_of_the_variance_are_found(between, within) -> None:
    found = variance_components(nested(between, within, 4000, 4))
    assert found.between == pytest.approx(between, abs=0.07)
    assert found.within == pytest.approx(within, rel=0.05)
    assert found.share_within == pytest.approx(within**2 / (between**2 + within**2), abs=0.05)
    assert (found.n, found.repeats) == (4000, 4)


def test_the_parts_are_unbiased_where_repeats_spread_differently_and_some_are_missing() -> None:
    random = np.random.default_rng(3)
    chances = random.choice([0.0, 0.5, 1.0], size=(6000, 1))  # a variance of 0, 1/4, 0
    right = (random.random((6000, 4)) < chances).astype(float)
    right[random.random(right.shape) < 0.3] = NAN
    found = variance_components(right)
    assert found.within**2 == pytest.approx(1 / 12, rel=0.06)
    assert found.between**2 == pytest.approx(1 / 6, rel=0.06)


def test_the_parts_of_the_error_add_up_to_that_of_the_mean() -> None:
    scores = nested(1.0, 0.7, 50, 5)
    found = variance_components(scores)
    assert found.error == pytest.approx(scores.mean(axis=1).std(ddof=1) / np.sqrt(50))
    assert found.error**2 == pytest.approx(found.error_examples**2 + found.error_repeats**2)
    assert found.error_repeats == pytest.approx(found.within / np.sqrt(50 * 5))


def test_what_two_models_find_hard_cancels_out_of_their_difference_but_their_repeats_do_not() -> None:
    shared = nested(1.0, 0.0, 4000, 1)
    random = np.random.default_rng(4)
    a, b = (shared + random.normal(scale=0.3, size=(4000, k)) for k in (2, 5))
    found = variance_components(a, b)
    assert found.between == pytest.approx(0, abs=0.1)
    assert found.within == pytest.approx(0.3 * np.sqrt(2), rel=0.05)
    assert found.mean == pytest.approx(a.mean() - b.mean())


def test_one_repeat_shows_no_parts_of_the_variance_and_one_example_no_error() -> None:
    single = variance_components([[0.1], [0.4], [0.9]])
    assert np.isnan([single.between, single.within, single.error_repeats]).all()
    assert single.error == pytest.approx(np.std([0.1, 0.4, 0.9], ddof=1) / np.sqrt(3))
    assert np.isnan(variance_components([[0.1, 0.2]]).error)
    assert np.isnan(variance_components(np.ones((3, 2))).share_within)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_pass_at_k_counts_all_ways_to_draw_k_answers(k) -> None:
    right = (np.random.default_rng(5).random((20, 5)) < 0.4).astype(float)
    drawn = list(combinations(range(5), k))
    some = np.mean([right[:, list(columns)].max(axis=1) for columns in drawn], axis=0)
    every = np.mean([right[:, list(columns)].min(axis=1) for columns in drawn], axis=0)
    np.testing.assert_allclose(pass_at_k(right, k), some)
    np.testing.assert_allclose(pass_hat_k(right, k), every, atol=1e-15)


def test_pass_at_k_of_thousands_of_answers_does_not_overflow() -> None:
    right = np.zeros((1, 4000))
    right[0, :2000] = 1
    assert pass_at_k(right, 500)[0] == pytest.approx(1)
    assert pass_hat_k(right, 2)[0] == pytest.approx(0.25, abs=1e-3)


def test_examples_with_too_few_repeats_have_no_pass_at_k() -> None:
    np.testing.assert_allclose(pass_at_k([[1, 0, 0], [1, NAN, NAN]], 2), [2 / 3, NAN])


def test_other_scores_pass_from_a_threshold_on() -> None:
    assert pass_at_k([[0.2, 0.7]], 1, threshold=0.7).tolist() == [0.5]
    with pytest.raises(InvalidInputError, match="neither pass nor fail"):
        pass_at_k([[0.2, 0.7]], 1)
    for k in (0, 3):
        with pytest.raises(InvalidInputError, match="2 repeats"):
            pass_at_k([[0, 1]], k)


def test_unstable_examples_come_with_the_largest_spread_first() -> None:
    scores = [[0.5, 0.5, 0.5], [0.1, 0.4, NAN], [0.2, 0.9, 0.3], [0.7, NAN, NAN]]
    found = instability(scores)
    assert found.rows.tolist() == [2, 1]
    assert found.share.estimate == pytest.approx(2 / 3)
    assert found.share.low < 2 / 3 < found.share.high
    # One pair of one, three pairs of three, none of three.
    assert found.disagreement == pytest.approx((0 + 1 + 1) / 3)
    np.testing.assert_allclose(found.spread, [0, 0.3, 0.7, NAN], atol=1e-12)
    assert instability(scores, tolerance=0.5).rows.tolist() == [2]


def test_disagreement_is_twice_the_variance_between_right_and_wrong_answers() -> None:
    random = np.random.default_rng(6)
    right = (random.random((500, 6)) < random.random((500, 1))).astype(float)
    assert instability(right).disagreement == pytest.approx(2 * variance_components(right).within ** 2)


def test_differences_by_rounding_are_no_instability() -> None:
    assert not len(instability([[0.1 + 0.2, 0.3], [1e8, 1e8 + 1e-8]]).rows)


def test_single_answers_show_no_instability() -> None:
    found = instability([[1.0], [0.0]])
    assert np.isnan([found.share.estimate, found.disagreement]).all()
    assert not len(found.rows)


@pytest.mark.parametrize("call", [mean_over_repeats, variance_components, instability, repeated_interval])
def test_scores_without_repeats_are_refused(call) -> None:
    with pytest.raises(InvalidInputError, match="no repeats"):
        call([0.1, 0.2, 0.3])


def test_bad_input_says_what_is_wrong() -> None:
    with pytest.raises(InvalidInputError, match="not those of one model"):
        variance_components(np.zeros((2, 3, 4)))
    with pytest.raises(InvalidInputError, match="not paired"):
        variance_components(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(InvalidInputError, match="no example has a score"):
        variance_components([[NAN, NAN]])
    with pytest.raises(InvalidInputError, match="tolerance"):
        instability([[0, 1]], tolerance=-1)
    assert statistics.repeated_interval is repeated_interval
