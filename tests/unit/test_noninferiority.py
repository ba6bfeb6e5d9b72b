"""Not worse by more than a margin, and models that no other beats in everything."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.noninferiority import not_worse_than_best, pareto_front


def resampled_means(values, n_resamples, rng):
    n = values.shape[1]
    return values @ rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).T / n


def test_the_bound_of_symmetric_differences_is_that_of_the_t_test():
    rng = np.random.default_rng(0)
    half = rng.normal(0.03, 0.2, size=40)
    apart = np.concatenate([half, 0.06 - half])  # symmetric about 0.03
    values = np.stack([apart, np.zeros(80)])
    found = not_worse_than_best(values.mean(axis=1), resampled_means(values, 40_000, rng), margin=0.1, n=80)
    upper = stats.ttest_1samp(apart, 0, alternative="less").confidence_interval(0.95).high
    assert found.worse_by_at_most[1] == pytest.approx(upper, rel=0.03)
    assert found.not_worse.tolist() == [True, bool(upper < 0.1)]


def test_the_best_model_is_surely_not_worse_and_a_bad_one_is():
    rng = np.random.default_rng(1)
    values = np.array([[0.9], [0.89], [0.2]]) + rng.normal(0, 0.05, size=(3, 200))
    replicates = resampled_means(values, 1000, rng)
    found = not_worse_than_best(values.mean(axis=1), replicates, margin=0.05, n=200)
    assert found.not_worse.tolist() == [True, True, False]
    assert found.worse_by_at_most[2] > 0.69


def test_lower_scores_turn_everything_round():
    rng = np.random.default_rng(2)
    values = rng.gamma(2, size=(3, 100))
    estimates, replicates = values.mean(axis=1), resampled_means(values, 500, rng)
    up = not_worse_than_best(-estimates, -replicates, margin=0.3, n=100)
    down = not_worse_than_best(estimates, replicates, margin=0.3, n=100, higher_is_better=False)
    np.testing.assert_allclose(up.worse_by_at_most, down.worse_by_at_most)


def test_asking_about_more_models_takes_more_evidence():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 60))
    many = np.concatenate([values, values[1:].repeat(4, axis=0) - 1])
    replicates = resampled_means(many, 500, rng)
    few, asked = (
        not_worse_than_best(many[:m].mean(axis=1), replicates[:m], margin=1, n=60).worse_by_at_most for m in (2, 6)
    )
    assert (asked[:2] > few).all()


@pytest.mark.parametrize("failures", [0, 1, 2, 4])
def test_bounds_for_rare_failures_are_near_the_exact_ones(failures):
    n = 200
    values = np.ones((2, n))
    values[1, :failures] = 0
    replicates = resampled_means(values, 20_000, np.random.default_rng(4))
    found = not_worse_than_best(values.mean(axis=1), replicates, margin=0.1, n=n, span=1)
    exact = stats.beta.ppf(0.95, failures + 1, n - failures)  # Clopper and Pearson
    assert found.worse_by_at_most[1] == pytest.approx(exact, rel=0.06)


def test_models_that_never_differ_are_taken_to_be_alike_without_a_span():
    scores = np.tile(np.random.default_rng(5).random(30), (2, 1))
    replicates = resampled_means(scores, 200, np.random.default_rng(5))
    found = not_worse_than_best(scores.mean(axis=1), replicates, margin=0.01, n=30)
    assert found.worse_by_at_most == pytest.approx([0, 0])
    assert found.not_worse.all()
    spanned = not_worse_than_best(scores.mean(axis=1), replicates, margin=0.01, n=30, span=1)
    assert spanned.worse_by_at_most == pytest.approx([1 - 0.05 ** (1 / 30)] * 2)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_the_unit_of_scores_does_not_matter(scale):
    rng = np.random.default_rng(9)
    values = rng.normal(0.5, 0.1, size=(3, 60))
    replicates = resampled_means(values, 300, rng)
    one = not_worse_than_best(values.mean(axis=1), replicates, margin=0.05, n=60, span=1)
    other = not_worse_than_best(scale * values.mean(axis=1), scale * replicates, margin=0.05 * scale, n=60, span=scale)
    assert other.worse_by_at_most / scale == pytest.approx(one.worse_by_at_most)


@pytest.mark.parametrize("n", [0, 1])
def test_one_example_shows_nothing(n):
    found = not_worse_than_best(np.array([0.5, 0.5]), np.full((2, 50), 0.5), margin=0.1, n=n)
    assert np.isnan(found.worse_by_at_most).all()
    assert not found.not_worse.any()


def test_a_single_model_is_not_worse_than_others():
    found = not_worse_than_best(np.array([0.5]), np.random.default_rng(0).random((1, 50)), margin=0.1, n=20)
    assert found.not_worse.tolist() == [True]


def test_where_a_score_is_not_known_none_is_called_not_worse():
    estimates, replicates = np.array([0.5, math.nan, 0.9]), np.random.default_rng(6).random((3, 50))
    found = not_worse_than_best(estimates, replicates, margin=10, n=50)
    assert not found.not_worse[[0, 2]].any()
    assert not found.not_worse[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"margin": 0}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"confidence": 1}, "confidence"),
        ({"span": 1, "n": None}, "span"),
        ({"span": 0}, "span"),
        ({"replicates": np.zeros((3, 10))}, "shape (3, 10)"),
        ({"replicates": np.zeros((2, 0))}, "shape (2, 0)"),
    ],
)
def test_settings_out_of_range_are_refused(change, said):
    settings = {"estimates": np.zeros(2), "replicates": np.zeros((2, 10)), "margin": 0.1, "n": 20} | change
    with pytest.raises(InvalidInputError) as caught:
        not_worse_than_best(**settings)
    assert said in caught.value.message


def _rare(rng, n, margin):
    return np.stack([np.ones(n), rng.random(n) >= margin])


def _beta(rng, n, margin):
    first = rng.beta(4, 2, size=n)
    return np.stack([first, first + rng.normal(-margin, 0.15, size=n)])


def _several(rng, n, margin):
    return rng.normal(size=(5, n)) * 0.2 - np.array([0, *[margin] * 4])[:, None]


@pytest.mark.parametrize("draw", [_rare, _beta, _several])
@pytest.mark.parametrize("n", [50, pytest.param(150, marks=pytest.mark.slow)])
def test_a_model_worse_by_the_margin_is_rarely_called_not_worse(draw, n):
    rng, wrong, repeats = np.random.default_rng(7), [], 500 if n > 50 else 200
    for _ in range(repeats):
        values = draw(rng, n, 0.05).astype(float)
        replicates = resampled_means(values, 300, rng)
        found = not_worse_than_best(values.mean(axis=1), replicates, margin=0.05, n=n, span=1)
        wrong.append(found.not_worse[1:].any())
    assert np.mean(wrong) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)


def test_equal_models_are_called_not_worse_where_there_are_enough_examples():
    rng, found = np.random.default_rng(8), []
    for _ in range(100):
        values = rng.normal(0, 0.1, size=(3, 400))
        replicates = resampled_means(values, 300, rng)
        found.append(not_worse_than_best(values.mean(axis=1), replicates, margin=0.05, n=400).not_worse.all())
    assert np.mean(found) > 0.95


def test_the_front_holds_models_that_no_other_beats_in_everything():
    quality_cost = np.array([[0.9, 10.0], [0.8, 1.0], [0.7, 5.0], [0.8, 1.0], [0.9, 11.0]])
    assert pareto_front(quality_cost, [True, False]).tolist() == [True, True, False, True, False]


def test_the_front_is_that_of_the_definition():
    values = np.random.default_rng(9).integers(0, 4, size=(40, 3)).astype(float)
    expected = [
        not any((other >= own).all() and (other > own).any() for other in values * [1, 1, -1])
        for own in values * [1, 1, -1]
    ]
    assert pareto_front(values, [True, True, False]).tolist() == expected


def test_a_model_without_a_price_is_judged_by_the_rest_and_beats_none_that_has_one():
    nan = math.nan
    values = np.array([[0.9, nan], [0.8, 1.0], [0.7, nan], [nan, nan]])
    assert pareto_front(values, [True, False]).tolist() == [True, True, False, False]


def test_a_front_is_never_empty():
    for cells in product([0.0, 1.0, math.nan], repeat=6):
        values = np.array(cells).reshape(3, 2)
        if not np.isnan(values).all():
            assert pareto_front(values, [True, False]).any()


def test_a_front_needs_a_direction_for_each_criterion():
    with pytest.raises(InvalidInputError, match="2 criteria"):
        pareto_front(np.zeros((3, 3)), [True, False])
