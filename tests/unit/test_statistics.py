from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
import scipy.stats

from lumigator_nb import metrics, statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import mean
from lumigator_nb.metrics.ngrams import bleu
from lumigator_nb.specs import MetricSpec

RNG = np.random.default_rng(7)
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "sat",
    "ran",
    "flew",
    "on",
    "over",
    "under",
    "mat",
    "sun",
    "tree",
    "house",
    "quickly",
    "slowly",
    "and",
    "then",
]


def sentence() -> str:
    return " ".join(RNG.choice(WORDS, size=RNG.integers(4, 14)))


def column(values: np.ndarray) -> np.ndarray:
    return values[:, None]


def corpus_bleu(totals: np.ndarray, n: int) -> np.ndarray:
    return bleu(totals)


def test_an_interval_of_a_mean_agrees_with_scipy() -> None:
    values = RNG.gamma(2, size=200)
    ours = statistics.bootstrap_interval(column(values), mean, n_resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert ours.estimate == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_resampled_corpus_scores_are_those_of_resampled_corpora() -> None:
    predictions, truth = [sentence() for _ in range(12)], [sentence() for _ in range(12)]
    metric = metrics.create(MetricSpec(name="bleu"))
    counts = metric.score(predictions, truth, predictions)[0].statistics
    totals = statistics.resampled_totals(counts, n_resamples=20, seed=3)
    drawn = np.random.default_rng(3).integers(12, size=(20, 12))
    for rows, found in zip(drawn, bleu(totals), strict=True):
        expected = sacrebleu.corpus_bleu([predictions[row] for row in rows], [[truth[row] for row in rows]]).score
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_same_seed_gives_the_same_numbers_and_pieces_do_not_matter(monkeypatch) -> None:
    values = column(RNG.normal(size=50))
    whole = statistics.resampled_totals(values, n_resamples=100, seed=5)
    monkeypatch.setattr("lumigator_nb.statistics.resampling._CELLS", 50 * 7)
    monkeypatch.setattr("lumigator_nb.statistics.resampling._KEPT_CELLS", 0)
    pieces = statistics.resampled_totals(values, n_resamples=100, seed=5)
    np.testing.assert_allclose(whole, pieces, rtol=1e-12)
    assert not np.array_equal(whole, statistics.resampled_totals(values, n_resamples=100, seed=6))


def test_a_system_does_not_differ_from_itself() -> None:
    values = column(RNG.normal(size=30))
    found = statistics.paired_difference(values, values, mean)
    assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_constant_lead_is_certain() -> None:
    values = column(RNG.normal(size=30))
    found = statistics.paired_difference(values + 1, values, mean, n_resamples=999)
    assert (found.estimate, found.low, found.high) == pytest.approx((1, 1, 1))
    assert found.p_value == pytest.approx(0.5**29)  # as thirty tosses of a coin that fall alike


def test_the_p_value_agrees_with_a_t_test() -> None:
    a = RNG.normal(0.15, 1, size=300)
    b = RNG.normal(0.0, 1, size=300)
    found = statistics.paired_difference(column(a), column(b), mean, n_resamples=20_000)
    assert found.p_value == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, abs=0.02)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    difficulty = RNG.normal(0, 5, size=100)
    a, b = difficulty + RNG.normal(0.5, 0.5, size=100), difficulty + RNG.normal(0, 0.5, size=100)
    found = statistics.paired_difference(column(a), column(b), mean)
    alone = statistics.bootstrap_interval(column(a), mean)
    assert found.high - found.low < (alone.high - alone.low) / 3
    assert found.low > 0


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(300):
        sample = np.random.default_rng(1000 + seed).exponential(size=50)
        interval = statistics.bootstrap_interval(column(sample), mean, n_resamples=400, seed=seed)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.90 <= hits / 300 <= 0.98


def test_equal_systems_are_called_different_about_as_often_as_the_p_value_says() -> None:
    alarms = 0
    for seed in range(300):
        sample = np.random.default_rng(2000 + seed).normal(size=(2, 50, 1))
        alarms += statistics.paired_difference(*sample, mean, n_resamples=400, seed=seed).p_value <= 0.05
    assert 0.02 <= alarms / 300 <= 0.10


def test_models_side_by_side_share_the_draws() -> None:
    values = RNG.normal(size=(3, 40, 2))
    together = statistics.resampled_totals(values, n_resamples=50)
    apart = [statistics.resampled_totals(one, n_resamples=50) for one in values]
    np.testing.assert_allclose(together, apart, rtol=1e-12)


def test_one_example_has_no_interval() -> None:
    one = np.array([[0.4]])
    interval = statistics.bootstrap_interval(one, mean)
    assert interval.estimate == 0.4
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan(statistics.paired_difference(one, one, mean).p_value)


@pytest.mark.parametrize("aggregate", [mean, corpus_bleu])
def test_no_example_has_no_score(aggregate) -> None:
    interval = statistics.bootstrap_interval(np.empty((0, 10)), aggregate)
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"confidence": 95}, "confidence cannot be 95"), ({"n_resamples": 0}, "n_resamples cannot be 0")],
)
def test_settings_out_of_range_are_refused(setting, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        statistics.bootstrap_interval(np.ones((5, 1)), mean, **setting)


def test_systems_on_different_examples_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="not paired"):
        statistics.paired_difference(np.ones((5, 1)), np.ones((4, 1)), mean)


def test_confidence_widens() -> None:
    values = column(RNG.normal(size=80))
    narrow = statistics.bootstrap_interval(values, mean, confidence=0.8)
    wide = statistics.bootstrap_interval(values, mean, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
