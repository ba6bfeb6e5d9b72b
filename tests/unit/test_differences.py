"""Paired differences: one test decides the p-value and the interval, and it holds with few examples."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics import difference, paired_difference, pairwise_p_values, resampled_scores
from lumigator_nb.statistics.skewness import examples_for_skewness, skewness_of, stretched, unstretched


def mean(totals, n):
    return totals[..., 0] / n


def found_for(values: np.ndarray, **options):
    return paired_difference(values[:, None], np.zeros((len(values), 1)), mean, **options)


def exact_match(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=n)


def win_rates(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.beta(0.1, 0.6, size=n) - generator.beta(0.1, 0.6, size=n)


def grades(generator: np.random.Generator, n: int) -> np.ndarray:
    first, second = np.clip(np.rint(generator.normal(4.2, 1, size=(2, n))), 1, 5)
    return first - second


# Their means are 0.
SHAPES = {
    "normal": lambda generator, n: generator.normal(size=n),
    "skewed": lambda generator, n: generator.exponential(size=n) - 1,
    "heavy tails": lambda generator, n: generator.standard_t(3, size=n),
    "exact match": exact_match,
    "win rates": win_rates,
    "grades": grades,
}


def test_differences_without_skewness_have_the_interval_and_p_value_of_the_paired_t_test() -> None:
    half = np.random.default_rng(0).normal(0.0, 1, size=20)
    values = 0.3 + np.concatenate([half, -half])
    found, expected = found_for(values, n_resamples=100_000), scipy.stats.ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.05)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), abs=0.01)


def test_the_bound_towards_the_tail_lies_further_out() -> None:
    found = found_for(np.random.default_rng(1).exponential(size=40) - 1)
    assert found.high - found.estimate > 1.05 * (found.estimate - found.low)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_interval_excludes_zero_exactly_where_the_p_value_says_so(shape) -> None:
    generator, decided = np.random.default_rng(2), 0
    for trial in range(60):
        values = shape(generator, 12 + trial) + 0.35
        found = found_for(values, n_resamples=200, seed=trial)
        assert (found.p_value <= 0.05) == (not found.low <= 0 <= found.high)
        decided += found.p_value <= 0.05
    assert 5 <= decided <= 59


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_twenty_examples_of_equal_systems_are_called_different_as_often_as_the_p_value_says(shape) -> None:
    generator = np.random.default_rng(3)
    alarms = [found_for(shape(generator, 20), n_resamples=300, seed=trial).p_value <= 0.05 for trial in range(400)]
    assert np.mean(alarms) <= 0.08  # 0.05, and what skewness and the simulation add


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 50, 100])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_intervals_of_differences_cover_the_truth(shape, n) -> None:
    generator = np.random.default_rng(4)
    found = [found_for(shape(generator, n), seed=trial) for trial in range(1000)]
    assert 0.925 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.975


def test_of_one_pair_the_corrected_p_value_is_the_plain_one_and_of_more_it_is_no_smaller() -> None:
    values = np.random.default_rng(5).gamma(2, size=(4, 30, 1)) + np.array([0, 0.3, 0.6, 0.9])[:, None, None]
    overall, replicates = values.mean(axis=(1, 2)), resampled_scores(values, mean)
    plain = np.array([[paired_difference(a, b, mean).p_value for a in values] for b in values])
    assert pairwise_p_values(overall[:2], replicates[:2], n=30)[0, 1] == pytest.approx(plain[0, 1])
    corrected = pairwise_p_values(overall, replicates, n=30)
    pairs = np.triu_indices(4, 1)
    assert np.all(corrected[pairs] >= np.maximum(plain[pairs], 1 / 2001) - 1e-12)


def test_five_examples_show_nothing_however_sure_they_look() -> None:
    assert found_for(np.full(5, 0.3)).p_value == pytest.approx(1 / 16)
    assert found_for(np.full(30, 0.3)).p_value <= 1e-6


def test_groups_count_and_not_their_examples() -> None:
    values = np.random.default_rng(6).normal(0.4, 1, size=30)
    apart, together = found_for(values), found_for(np.repeat(values, 4), groups=np.repeat(np.arange(30), 4))
    assert (together.low, together.high, together.p_value) == pytest.approx((apart.low, apart.high, apart.p_value))


def test_the_bootstraps_intervals_are_there_for_those_who_ask() -> None:
    values = np.random.default_rng(7).exponential(size=60)
    bca, percentile = found_for(values, method="bca"), found_for(values, method="percentile")
    assert bca.low > percentile.low
    assert bca.p_value == percentile.p_value == found_for(values).p_value
    with pytest.raises(InvalidInputError, match="unknown method 'bc'"):
        found_for(values, method="bc")


def test_an_undefined_replicate_leaves_everything_undefined() -> None:
    found = difference(0.2, np.array([0.1, np.nan]), np.array([0.1, 0.3]))
    assert np.isnan([found.low, found.high, found.p_value]).all()


@pytest.mark.parametrize("skewness", [-1.0, 0.0, 0.01, 0.4, 3.0])
def test_stretching_is_undone(skewness) -> None:
    distances = np.array([stretched(t, skewness) for t in (0.0, 0.5, 2.0, 30.0)] + [np.inf])
    np.testing.assert_allclose(unstretched(distances, np.full(5, skewness)), [0, 0.5, 2, 30, np.inf], atol=1e-12)


def test_skewness_is_scipys_at_any_scale_and_that_of_equal_values_is_none() -> None:
    values = np.random.default_rng(8).exponential(size=(2, 50))
    expected = scipy.stats.skew(values, axis=1)
    for scale in (1e-150, 1.0, 1e120):
        np.testing.assert_allclose(skewness_of(values * scale), expected)
    assert skewness_of(np.full(9, 0.1 + 0.2)) == 0


def test_skewed_differences_take_as_many_examples_as_cochrans_rule_says() -> None:
    values = np.zeros(100)
    values[0] = 1
    assert examples_for_skewness(values) == np.ceil(25 * scipy.stats.skew(values) ** 2)
    assert examples_for_skewness(np.array([-1.0, 1.0])) == 0
    in_groups = examples_for_skewness(np.repeat(values, 3), groups=np.repeat(np.arange(100), 3))
    assert in_groups == examples_for_skewness(values)
