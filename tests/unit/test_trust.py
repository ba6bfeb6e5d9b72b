from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.agreement import bootstrap_agreement, kendall_tau
from lumigator_nb.statistics.trust import trust

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


def test_one_group_has_an_estimate_and_no_bounds():
    scores, human = ratings(np.random.default_rng(7), 20)
    found = trust(scores, human, groups=np.zeros(20), **FEW)[0].kendall
    assert found.estimate > 0
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_tiny_and_huge_scores_correlate_like_others(scale):
    scores, human = ratings(np.random.default_rng(8), 30)
    found, plain = trust(scale * scores, human, **FEW), trust(scores, human, **FEW)
    assert [one.pearson.estimate for one in found] == pytest.approx([one.pearson.estimate for one in plain])


def test_intervals_cover_the_correlation():
    generator, covered = np.random.default_rng(11), []
    for _ in range(120):
        quality = generator.normal(size=80)
        human, score = 0.6**0.5 * quality + 0.4**0.5 * generator.normal(size=(2, 80))
        found = trust(score[None], human, n_resamples=60)[0].pearson
        covered.append(found.low <= 0.6 <= found.high)
    assert 0.87 <= np.mean(covered) <= 0.99


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
def test_malformed_scores_and_settings_are_refused(change):
    scores, human = ratings(np.random.default_rng(12), 10, noises=(1.0, 2.0))
    with pytest.raises(InvalidInputError):
        trust(**{"scores": scores, "human": human, **change})
