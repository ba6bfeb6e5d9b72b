from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.agreement import bootstrap_agreement, kendall_tau
from lumigator_nb.statistics.trust import compare_trust, trust

NAN = float("nan")
MEASURES = ["kendall", "spearman", "pearson", "pairwise_accuracy"]
FEW = {"n_resamples": 40}


def ratings(generator, n, noises=(0.5, 1.0, 3.0)):
    human = generator.integers(1, 6, size=n).astype(float)
    return np.stack([human + noise * generator.normal(size=n) for noise in noises]), human


def accuracy(x, y, same=None):
    """The share of pairs ordered or tied alike, by going through them; `same` pairs are left out."""
    pairs = [(i, j) for i, j in itertools.combinations(range(len(x)), 2) if same is None or same[i] != same[j]]
    return np.mean([np.sign(x[i] - x[j]) == np.sign(y[i] - y[j]) for i, j in pairs])


@pytest.mark.parametrize("rounded", [False, True])
def test_measures_are_those_of_scipy_and_of_counting_pairs(rounded):
    scores, human = ratings(np.random.default_rng(1), 60)
    scores = np.round(scores) if rounded else scores
    for found, metric in zip(trust(scores, human, **FEW), scores, strict=True):
        assert found.kendall.estimate == pytest.approx(scipy.stats.kendalltau(metric, human).statistic)
        assert found.spearman.estimate == pytest.approx(scipy.stats.spearmanr(metric, human).statistic)
        assert found.pearson.estimate == pytest.approx(scipy.stats.pearsonr(metric, human).statistic)
        assert found.pairwise_accuracy.estimate == pytest.approx(accuracy(metric, human))
        assert found.n == 60


def test_intervals_over_groups_are_those_of_bootstrap_agreement():
    scores, human = ratings(np.random.default_rng(2), 90)
    groups = np.repeat([f"example {i}" for i in range(30)], 3)
    options = {"groups": groups, "confidence": 0.9, "n_resamples": 60, "seed": 5}
    for found, metric in zip(trust(scores, human, **options), scores, strict=True):
        for name, statistic in (
            ("kendall", lambda pair: kendall_tau(*pair)),
            ("pearson", lambda pair: scipy.stats.pearsonr(*pair).statistic),
            ("spearman", lambda pair: scipy.stats.spearmanr(*pair).statistic),
        ):
            expected = bootstrap_agreement(statistic, np.stack([human, metric]), **options)
            interval = getattr(found, name)
            assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_one_answer_drawn_twice_is_no_pair():
    scores, human = ratings(np.random.default_rng(3), 12, noises=(1.0,))
    generator, expected = np.random.default_rng(7), []
    for _ in range(50):
        times = np.bincount(generator.integers(12, size=12), minlength=12)
        drawn = np.repeat(np.arange(12), times)
        expected.append(accuracy(scores[0][drawn], human[drawn], same=drawn))
    found = trust(scores, human, n_resamples=50, seed=7)[0].pairwise_accuracy
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, (0.025, 0.975))))


def test_a_metric_of_which_less_is_better_is_turned():
    scores, human = ratings(np.random.default_rng(4), 50)
    turned = scores * np.array([1, -1, 1])[:, None]
    assert trust(turned, human, higher_is_better=[True, False, True], **FEW) == trust(scores, human, **FEW)
    assert trust(turned, human, **FEW)[1].kendall.estimate < 0


def test_missing_scores_and_labels_leave_out_only_their_own_answers():
    scores, human = ratings(np.random.default_rng(5), 60)
    human[:5], scores[1, 5:20] = NAN, NAN
    groups = np.arange(60) // 3
    found = trust(scores, human, groups=groups, **FEW)
    assert [one.n for one in found] == [55, 40, 55]
    assert found[1] == trust(scores[1:2, 20:], human[20:], groups=groups[20:], **FEW)[0]


@pytest.mark.parametrize("spoilt", ["metric", "human", "nothing known"])
def test_what_does_not_vary_has_no_agreement(spoilt):
    scores, human = ratings(np.random.default_rng(6), 20, noises=(1.0,))
    if spoilt == "human":
        human[:] = 3
    else:
        scores[:] = 3 if spoilt == "metric" else NAN
    found = trust(scores, human, **FEW)[0]
    values = [getattr(found, name) for name in MEASURES]
    assert np.isnan([[one.estimate, one.low, one.high] for one in values]).all()
    with pytest.raises(InvalidInputError, match="no metric has a defined agreement"):
        compare_trust(scores, human, **FEW)


def test_one_group_has_an_estimate_and_no_bounds():
    scores, human = ratings(np.random.default_rng(7), 20)
    found = trust(scores, human, groups=np.zeros(20), **FEW)[0].kendall
    assert found.estimate > 0
    assert np.isnan([found.low, found.high]).all()
    difference = compare_trust(scores, human, groups=np.zeros(20), **FEW)[1][2]
    assert difference.estimate > 0
    assert np.isnan([difference.low, difference.p_value]).all()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_tiny_and_huge_scores_correlate_like_others(scale):
    scores, human = ratings(np.random.default_rng(8), 30)
    found, plain = trust(scale * scores, human, **FEW), trust(scores, human, **FEW)
    assert [one.pearson.estimate for one in found] == pytest.approx([one.pearson.estimate for one in plain])


@pytest.mark.parametrize("measure", MEASURES)
def test_the_best_metric_is_compared_with_each_on_the_same_draws(measure):
    scores, human = ratings(np.random.default_rng(9), 150, noises=(1.0, 0.5, 0.5, 3.0))
    scores[2] = 2 * scores[1] + 1
    best, found = compare_trust(scores, human, measure=measure, n_resamples=200)
    values = [getattr(one, measure).estimate for one in trust(scores, human, **FEW)]
    assert best in (1, 2)
    assert [one.estimate for one in found] == pytest.approx([values[best] - value for value in values])
    # The same metric on another scale: paired draws leave nothing between them.
    for same in (found[1], found[2]):
        assert (same.low, same.high) == pytest.approx((0, 0), abs=1e-9)
        assert same.p_value == 1
    assert found[3].low > 0
    assert found[3].p_value < 0.02


def test_metrics_are_compared_on_the_answers_that_both_score():
    scores, human = ratings(np.random.default_rng(10), 80)
    scores[2, :30] = NAN
    _, found = compare_trust(scores, human, n_resamples=50)
    expected = kendall_tau(scores[0, 30:], human[30:]) - kendall_tau(scores[2, 30:], human[30:])
    assert found[2].estimate == pytest.approx(expected)


def test_intervals_cover_the_correlation_and_equal_metrics_differ_rarely():
    generator, covered, rejected = np.random.default_rng(11), [], []
    for _ in range(120):
        quality = generator.normal(size=80)
        human, *scores = 0.6**0.5 * quality + 0.4**0.5 * generator.normal(size=(3, 80))
        found = trust(np.stack(scores[:1]), human, n_resamples=60)[0].pearson
        covered.append(found.low <= 0.6 <= found.high)
        # Which is the best is left to chance, so that this is the two-sided test of two metrics.
        best, differences = compare_trust(np.stack(scores), human, measure="pearson", n_resamples=200)
        rejected.append(differences[1 - best].p_value < 0.05)
    assert 0.87 <= np.mean(covered) <= 0.99
    assert np.mean(rejected) <= 0.12


@pytest.mark.parametrize("function", [trust, compare_trust])
@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.ones(10)},
        {"scores": np.ones((2, 9))},
        {"human": np.ones((10, 1))},
        {"scores": np.full((2, 10), np.inf)},
        {"human": np.full(10, -np.inf)},
        {"groups": np.ones(9)},
        {"higher_is_better": [True]},
        {"confidence": 1.0},
        {"n_resamples": 0},
    ],
)
def test_malformed_scores_and_settings_are_refused(function, change):
    scores, human = ratings(np.random.default_rng(12), 10, noises=(1.0, 2.0))
    with pytest.raises(InvalidInputError):
        function(**{"scores": scores, "human": human, **change})


def test_an_unknown_measure_is_refused_with_the_known_ones():
    scores, human = ratings(np.random.default_rng(13), 10)
    with pytest.raises(InvalidInputError, match="pairwise_accuracy"):
        compare_trust(scores, human, measure="tau")
