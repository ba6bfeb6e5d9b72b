from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.prediction_powered import next_to_label, prediction_powered_mean

NAN = float("nan")


def normal(generator, n):
    human = generator.normal(size=n)
    return human, 0.5 + 0.7 * human + np.sqrt(1 - 0.7**2) * generator.normal(size=n)


def likert(generator, n):
    quality, rater, judge = generator.normal(size=(3, n))
    human = np.clip(np.round(3.6 + 1.1 * quality + 0.5 * rater), 1, 5)
    return human, np.clip(np.round(4.3 + 0.8 * quality + 0.5 * judge), 1, 5)


def bent(generator, n):
    """A judge that humans do not follow on a line, where a weight from the same labels is biased."""
    judge = generator.normal(size=n)
    return judge + 0.7 * judge**2 + 0.5 * generator.normal(size=n), judge


def unrelated(generator, n):
    """A judge whose scores are nearly all near 0, as probabilities from logarithms are."""
    return (generator.random(n) < 0.4).astype(float), generator.beta(0.02, 0.6, n)


def skewed(generator, n):
    """As before, of a judge that is right about the few that it scores high."""
    judge = generator.beta(0.05, 0.5, n)
    return (generator.random(n) < 0.3 + 0.6 * judge).astype(float), judge


def far_between(generator, n):
    """A judge that is far from 0 for the best few only."""
    quality, rater, noise = generator.normal(size=(3, n))
    human = np.clip(np.round(3.3 + quality + 0.5 * rater), 1, 5)
    return human, 1 / (1 + np.exp(16 - 8 * quality - 2 * noise))


def unsure(generator, n=600):
    uncertainty = 0.1 + generator.exponential(size=n)
    human = 3 + 0.3 * uncertainty + generator.normal(size=n)
    return human, human + uncertainty * (0.2 + generator.normal(size=n)), uncertainty


def powered(human, judge, n, **options):
    return prediction_powered_mean(human[:n], judge[:n], judge[n:], **options)


def active(human, judge, draw, keep=None, before=()):
    indices = np.concatenate([np.asarray(before, dtype=int), draw.indices[:keep]])
    probabilities = np.concatenate([np.ones(len(before)), draw.probabilities[:keep]])
    return prediction_powered_mean(
        human[indices], judge[indices], np.delete(judge, indices), probabilities=probabilities
    )


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("n", "rest"), [(30, 1000), (200, 300)])
def test_with_a_given_weight_it_is_that_of_ppi_python_but_for_students_t(weight, n, rest):
    human, judge = normal(np.random.default_rng(n), n + rest)
    found = powered(human, judge, n, weight=weight, confidence=0.9)
    estimate = ppi_mean_pointestimate(human[:n], judge[:n], judge[n:], lam=weight)
    low, high = ppi_mean_ci(human[:n], judge[:n], judge[n:], alpha=0.1, lam=weight)
    assert found.estimate == pytest.approx(float(np.squeeze(estimate)), abs=1e-9)
    # There the normal quantile, and variances divided by n instead of n - 1.
    own = (human[:n] - weight * judge[:n]).var() / n
    imputed = weight**2 * judge[n:].var() / rest
    a, b = own * n / (n - 1), imputed * rest / (rest - 1)
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (rest - 1))
    factor = scipy.stats.t.ppf(0.95, freedom) / scipy.stats.norm.ppf(0.95) * np.sqrt((a + b) / (own + imputed))
    assert found.high - found.low == pytest.approx(float(np.squeeze(high - low)) * factor, abs=1e-9)
    assert (found.low + found.high) / 2 == pytest.approx(found.estimate)


def test_with_many_labels_it_is_that_of_ppi_python():
    human, judge = normal(np.random.default_rng(1), 120_000)
    found = powered(human, judge, 40_000)
    low, high = ppi_mean_ci(human[:40_000], judge[:40_000], judge[40_000:], alpha=0.05)
    assert found.low == pytest.approx(low.item(), abs=2e-4)
    assert found.high == pytest.approx(high.item(), abs=2e-4)


def test_the_weight_leaves_out_each_label_in_turn():
    human, judge = likert(np.random.default_rng(2), 60)
    found = powered(human, judge, 12)
    rectified = []
    for i in range(12):
        x, y = np.delete(judge[:12], i), np.delete(human[:12], i)
        slope = np.cov(x, y, bias=True)[0, 1] / max(x.var(), np.delete(judge, i).var()) * 48 / 60
        rectified.append(human[i] - slope * (judge[i] - judge[12:].mean()))
    assert found.estimate == pytest.approx(np.mean(rectified))
    slope = np.cov(judge[:12], human[:12], bias=True)[0, 1] / max(judge[:12].var(), judge.var()) * 48 / 60
    assert found.weight == pytest.approx(slope)


def test_human_labels_alone_have_students_interval():
    human, judge = normal(np.random.default_rng(3), 500)
    alone = powered(human, judge, 25).human_only
    expected = scipy.stats.ttest_1samp(human[:25], 0).confidence_interval(0.95)
    assert (alone.low, alone.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("scale", "shift"), [(10.0, 3.0), (-0.01, 0.0)])
def test_the_judges_scale_does_not_matter(scale, shift):
    human, judge = normal(np.random.default_rng(4), 400)
    plain, other = powered(human, judge, 40), powered(human, shift + scale * judge, 40)
    assert (other.low, other.high) == pytest.approx((plain.low, plain.high))
    assert other.weight == pytest.approx(plain.weight / scale)


def test_thirty_labels_and_a_judge_are_about_as_good_as_they_say():
    generator = np.random.default_rng(20)
    found = [powered(*normal(generator, 330), 30) for _ in range(300)]
    assert 0.91 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.99
    assert abs(np.mean([one.estimate for one in found])) < 0.03


def test_a_good_judge_is_worth_many_labels_and_a_useless_one_costs_little():
    generator = np.random.default_rng(5)
    narrower = np.mean([powered(*normal(generator, 5100), 100).narrower for _ in range(100)])
    assert 0.20 <= narrower <= 1 - np.sqrt(1 - 0.7**2) + 0.03
    useless = [powered(*generator.normal(size=(2, 5100)), 100) for _ in range(100)]
    assert abs(np.mean([found.narrower for found in useless])) < 0.03
    assert abs(np.mean([found.weight for found in useless])) < 0.05
    found = useless[0]
    assert found.effective_labels == pytest.approx(100 / (1 - found.narrower) ** 2)


def test_a_judge_whose_labelled_scores_hardly_differ_is_not_blown_up():
    generator = np.random.default_rng(386)
    human, labelled = (generator.random(30) < 0.4).astype(float), generator.beta(0.02, 0.6, 30)
    found = prediction_powered_mean(human, labelled, generator.beta(0.02, 0.6, 300))
    assert found.human_only.low <= found.estimate <= found.human_only.high
    assert found.narrower >= 0


@pytest.mark.parametrize("draw", [normal, bent, unrelated, skewed, far_between])
def test_no_judge_makes_the_interval_wider_than_the_labels_alone(draw):
    generator = np.random.default_rng(16)
    for n in (4, 10, 20, 30):
        found = [powered(*draw(generator, n + 300), n) for _ in range(50)]
        assert min(one.narrower for one in found if not np.isnan(one.low)) >= 0


def test_nor_do_labels_with_unequal_chances():
    generator = np.random.default_rng(17)
    for _ in range(50):
        human, judge = unrelated(generator, 300)
        found = active(human, judge, next_to_label(generator.exponential(size=300), 30))
        assert found.narrower >= 0
        assert abs(found.estimate - found.human_only.estimate) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 30])
@pytest.mark.parametrize("draw", [unrelated, skewed, far_between])
def test_skewed_judges_cost_no_coverage(draw, n):
    generator = np.random.default_rng(18)
    mean = draw(generator, 4_000_000)[0].mean()
    found = [powered(*draw(generator, n + 500), n) for _ in range(3000)]
    covered = np.mean([one.low <= mean <= one.high for one in found if not np.isnan(one.low)])
    alone = np.mean([one.human_only.low <= mean <= one.human_only.high for one in found if not np.isnan(one.low)])
    assert 0.925 <= covered <= 0.96  # ± two standard errors of 3,000 draws
    assert covered >= alone - 0.015
    assert abs(np.mean([one.estimate for one in found]) - mean) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "mean"), [(normal, 0.0), (likert, None), (bent, 0.7)])
def test_at_thirty_labels_estimates_are_unbiased_and_intervals_cover(draw, mean):
    generator = np.random.default_rng(6)
    mean = draw(generator, 1_000_000)[0].mean() if mean is None else mean
    found = [powered(*draw(generator, 1030), 30) for _ in range(1500)]
    errors = np.array([one.estimate for one in found]) - mean
    assert abs(errors.mean()) < 3.5 * errors.std() / np.sqrt(1500)
    covered = np.mean([one.low <= mean <= one.high for one in found])
    # The mean of 30 labels as skewed as the bent ones covers only 0.92 by itself.
    assert (0.90 if draw is bent else 0.93) <= covered <= 0.97


@pytest.mark.parametrize("scores", [[1.0], [0.0], [0.1], [0.3, 0.1 + 0.2]])
def test_a_constant_judge_changes_nothing(scores):
    human = np.random.default_rng(7).normal(size=20)
    found = prediction_powered_mean(human, np.resize(scores, 20), np.resize(scores, 50))
    assert found.weight == 0
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (human.mean(), found.human_only.low, found.human_only.high)
    )


def test_a_judge_that_is_constant_but_for_one_label_is_not_trusted_on_that_one():
    human, judge = np.random.default_rng(8).normal(size=20), np.zeros(20)
    judge[3], human[3] = 1, 5
    found = prediction_powered_mean(human, judge, np.zeros(50))
    assert found.weight > 0
    assert found.narrower <= 0.01


def test_where_everything_is_labelled_the_judge_is_left_out():
    human, judge = normal(np.random.default_rng(9), 30)
    found = prediction_powered_mean(human, judge, np.empty(0))
    assert (found.weight, found.narrower) == (0, 0)
    certain = prediction_powered_mean(human, judge, np.empty(0), probabilities=np.ones(30))
    assert certain == found


@pytest.mark.parametrize("human", [np.array([2.0]), np.full(10, 4.0)])
def test_labels_that_do_not_differ_have_no_bounds(human):
    found = prediction_powered_mean(human, np.arange(len(human)) * 1.0, np.arange(50.0))
    assert found.estimate == human[0]
    assert np.isnan([found.low, found.high, found.human_only.low, found.narrower]).all()


def test_three_labels_are_too_few_to_learn_a_weight_from():
    found = prediction_powered_mean(np.array([1.0, 2, 4]), np.array([1.0, 2, 4]), np.arange(50.0))
    assert found.weight == 0
    assert found.estimate == pytest.approx(7 / 3)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"human": np.array([1.0, NAN, 2, 3])}, {}),
        ({"judge_labelled": np.array([1.0, np.inf, 2, 3])}, {}),
        ({"judge_unlabelled": np.array([NAN, 1])}, {}),
        ({"human": np.ones(3)}, {}),
        ({"human": np.ones((4, 1))}, {}),
        ({"judge_unlabelled": np.ones((2, 2))}, {}),
        ({"human": np.empty(0), "judge_labelled": np.empty(0)}, {}),
        ({}, {"confidence": 0.0}),
        ({}, {"weight": NAN}),
        ({"judge_unlabelled": np.ones(1)}, {"weight": 1.0}),
        ({}, {"probabilities": np.full(3, 0.5)}),
        ({}, {"probabilities": np.array([0.5, 0.5, 0, 0.1])}),
        ({}, {"probabilities": np.array([0.5, 0.5, 1.2, 0.1])}),
        ({}, {"probabilities": np.array([0.5, 0.5, NAN, 0.1])}),
        ({}, {"probabilities": np.ones(4)}),
    ],
)
def test_malformed_labels_and_settings_are_refused(change, options):
    arrays = {"human": np.arange(4.0), "judge_labelled": np.arange(4.0), "judge_unlabelled": np.arange(9.0)}
    with pytest.raises(InvalidInputError):
        prediction_powered_mean(**{**arrays, **change}, **options)


def test_equal_probabilities_are_none():
    human, judge = normal(np.random.default_rng(10), 200)
    assert powered(human, judge, 50, probabilities=np.full(50, 0.25)) == powered(human, judge, 50)


def test_nearly_equal_probabilities_give_nearly_the_same():
    human, judge = normal(np.random.default_rng(11), 5000)
    equal = powered(human, judge, 1000)
    other = powered(human, judge, 1000, probabilities=np.where(np.arange(1000) % 2, 0.2, 0.2 - 1e-9))
    assert other.estimate == pytest.approx(equal.estimate, abs=1e-4)
    assert other.high - other.low == pytest.approx(equal.high - equal.low, rel=0.02)


def test_a_few_active_labels_are_not_far_off():
    generator, found = np.random.default_rng(19), []
    for seed in range(150):
        human, judge, uncertainty = unsure(generator)
        found.append(active(human, judge, next_to_label(uncertainty, 60, seed=seed)))
    errors = np.array([one.estimate for one in found]) - 3.33
    assert abs(errors.mean()) < 3.5 * errors.std() / np.sqrt(150)
    assert 0.90 <= np.mean([one.low <= 3.33 <= one.high for one in found]) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("case", ["all", "stopped early", "after others", "equal chances"])
def test_active_labels_give_unbiased_estimates_and_intervals_that_cover(case):
    generator, found = np.random.default_rng(12), []
    for seed in range(1200):
        human, judge, uncertainty = unsure(generator)
        before = np.argsort(-uncertainty)[:40] if case == "after others" else np.array([], dtype=int)
        labelled = np.isin(np.arange(600), before)
        uniform = 1.0 if case == "equal chances" else 0.3
        draw = next_to_label(uncertainty, 60, labelled=labelled, uniform=uniform, seed=seed)
        found.append(active(human, judge, draw, 40 if case == "stopped early" else None, before))
    errors = np.array([one.estimate for one in found]) - 3.33
    assert abs(errors.mean()) < 3.5 * errors.std() / np.sqrt(1200)
    assert 0.93 <= np.mean([one.low <= 3.33 <= one.high for one in found]) <= 0.97
    assert 0.92 <= np.mean([one.human_only.low <= 3.33 <= one.human_only.high for one in found]) <= 0.97


def test_ignoring_the_probabilities_would_be_biased():
    generator, errors = np.random.default_rng(13), []
    for seed in range(300):
        human, judge, uncertainty = unsure(generator)
        draw = next_to_label(uncertainty, 60, seed=seed)
        labelled = draw.indices
        errors.append(
            prediction_powered_mean(human[labelled], judge[labelled], np.delete(judge, labelled)).estimate - 3.33
        )
    assert abs(np.mean(errors)) > 5 * np.std(errors) / np.sqrt(300)


@pytest.mark.slow
def test_labels_where_the_judge_is_unsure_tell_more_than_labels_anywhere():
    generator, errors = np.random.default_rng(14), {0.3: [], 1.0: []}
    for seed in range(600):
        human, judge, uncertainty = unsure(generator)
        for uniform, found in errors.items():
            draw = next_to_label(uncertainty, 100, uniform=uniform, seed=seed)
            # The mean of these very examples: what the drawing can make more precise.
            found.append(active(human, judge, draw).estimate - human.mean())
    assert np.std(errors[0.3]) < 0.92 * np.std(errors[1.0])


@pytest.mark.parametrize(("n_labels", "uniform"), [(3, 0.3), (5, 0.1), (5, 1.0), (8, 0.5)])
def test_examples_are_drawn_as_often_as_their_probabilities_say(n_labels, uniform):
    uncertainty = np.array([0, 0.1, 0.2, 0.5, 1, 1, 2, 5, 40])
    times, first, said = np.zeros(9), np.zeros(9), np.zeros(9)
    for seed in range(1500):
        draw = next_to_label(uncertainty, n_labels, uniform=uniform, seed=seed)
        assert len(np.unique(draw.indices)) == n_labels
        times[draw.indices] += 1
        first[draw.indices[0]] += 1
        said[draw.indices] = draw.probabilities
    assert said.sum() == pytest.approx(n_labels)
    assert said.max() <= 1
    assert times / 1500 == pytest.approx(said, abs=0.05)
    assert first / 1500 == pytest.approx(said / n_labels, abs=0.05)


def test_probabilities_are_proportional_to_the_uncertainty_plus_a_share_for_all():
    uncertainty = np.linspace(1, 3, 100)
    draw = next_to_label(uncertainty, 20, uniform=0.25)
    expected = 20 * (0.75 * uncertainty / uncertainty.sum() + 0.25 / 100)
    assert draw.probabilities == pytest.approx(expected[draw.indices])


def test_labelled_examples_are_not_drawn_again():
    labelled = np.arange(50) < 30
    draw = next_to_label(np.ones(50), 20, labelled=labelled)
    assert sorted(draw.indices) == list(range(30, 50))
    assert draw.probabilities == pytest.approx(np.ones(20))


def test_several_judges_are_uncertain_where_they_differ():
    scores = np.random.default_rng(15).normal(size=(3, 40))
    several, one = next_to_label(scores, 10, seed=4), next_to_label(scores.std(axis=0), 10, seed=4)
    assert np.array_equal(several.indices, one.indices)
    assert np.array_equal(several.probabilities, one.probabilities)


def test_a_judge_that_is_sure_of_everything_is_checked_anywhere():
    assert next_to_label(np.zeros(40), 10).probabilities == pytest.approx(np.full(10, 0.25))


@pytest.mark.parametrize(
    ("uncertainty", "n_labels", "options"),
    [
        (np.ones(5), 6, {}),
        (np.ones(5), 0, {}),
        (np.empty(0), 1, {}),
        (np.ones(5), 3, {"labelled": np.arange(5) < 3}),
        (np.ones(5), 1, {"labelled": np.zeros(4, dtype=bool)}),
        (np.ones(5), 1, {"labelled": np.zeros(5)}),
        (np.array([1, -1.0]), 1, {}),
        (np.array([1, NAN]), 1, {}),
        (np.ones((2, 2, 2)), 1, {}),
        (np.ones(5), 1, {"uniform": 0.0}),
        (np.ones(5), 1, {"uniform": 1.1}),
    ],
)
def test_impossible_draws_are_refused(uncertainty, n_labels, options):
    with pytest.raises(InvalidInputError):
        next_to_label(uncertainty, n_labels, **options)
