from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from lumigator_nb import metrics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.ngrams import bleu
from lumigator_nb.specs import MetricSpec
from lumigator_nb.statistics import resampling
from lumigator_nb.statistics.bootstrap import bootstrap_interval, difference, intervals, paired_difference
from lumigator_nb.statistics.resampling import pseudo_values, resampled_scores, resampled_totals

RNG = np.random.default_rng(11)
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "over", "mat", "sun", "tree", "house", "quickly", "and", "then"]


def mean(totals, n):
    return totals[..., 0] / n


def corpus_bleu(totals, n):
    return bleu(totals)


def bounds(interval) -> tuple[float, float]:
    return interval.low, interval.high


def bleu_counts(n: int) -> np.ndarray:
    truth = [" ".join(RNG.choice(WORDS, size=RNG.integers(5, 14))) for _ in range(n)]
    copies = [" ".join(word if RNG.random() < 0.8 else "fish" for word in text.split()) for text in truth]
    return metrics.create(MetricSpec(name="bleu")).score(copies, truth, truth)[0].statistics


def interval_of(values: np.ndarray, **options):
    return bootstrap_interval(values[:, None], mean, **options)


@pytest.mark.parametrize("shape", ["normal", "exponential"])
def test_bca_of_many_examples_agrees_with_scipy(shape) -> None:
    # With many examples Student's t is the normal distribution, which scipy's BCa takes at once.
    values = getattr(np.random.default_rng(5), shape)(size=1500)
    ours = interval_of(values, method="bca", n_resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", batch=500, rng=1
    ).confidence_interval
    assert bounds(ours) == pytest.approx((theirs.low, theirs.high), abs=0.06 * (theirs.high - theirs.low))
    assert (ours.high + ours.low) / 2 == pytest.approx((theirs.high + theirs.low) / 2, abs=0.003)


def test_bca_is_wider_than_scipys_by_students_t_where_examples_are_few() -> None:
    values = scipy.stats.norm.ppf((np.arange(12) + 0.5) / 12)
    ours = interval_of(values, method="bca", n_resamples=20_000)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    wider = np.sqrt(12 / 11) * scipy.stats.t.ppf(0.975, 11) / scipy.stats.norm.ppf(0.975)
    assert (ours.high - ours.low) / (theirs.high - theirs.low) == pytest.approx(wider, rel=0.03)


def test_bca_of_a_symmetric_sample_is_students_interval() -> None:
    values = scipy.stats.norm.ppf((np.arange(40) + 0.5) / 40)
    half = scipy.stats.t.ppf(0.975, 39) * values.std(ddof=1) / np.sqrt(40)
    assert bounds(interval_of(values, method="bca", n_resamples=20_000)) == pytest.approx((-half, half), abs=0.02)


def test_bca_leans_to_the_long_tail() -> None:
    values = RNG.exponential(size=60)
    bca, percentile = interval_of(values, method="bca"), interval_of(values, method="percentile")
    assert bca.low > percentile.low
    assert bca.high > percentile.high


@pytest.mark.parametrize(
    ("name", "draw", "truth"),
    [
        ("normal", lambda generator, size: generator.normal(size=size), 0.0),
        ("skewed", lambda generator, size: generator.exponential(size=size), 1.0),
        ("bounded", lambda generator, size: generator.beta(5, 2, size=size), 5 / 7),
        ("tied", lambda generator, size: (generator.random(size) < 0.3).astype(float), 0.3),
    ],
)
@pytest.mark.slow
def test_bca_covers_the_mean_from_fifty_examples(name, draw, truth) -> None:
    generator, hits, batches = np.random.default_rng(3), 0, 30
    for seed in range(batches):
        values = draw(generator, (40, 50))
        replicates = resampled_scores(values[:, :, None], mean, n_resamples=1000, seed=seed)
        found = intervals(values.mean(axis=1), replicates, pseudo_values(values[:, :, None], mean))
        hits += sum(one.low - 1e-12 <= truth <= one.high + 1e-12 for one in found)
    # 0.93–0.97 is required; two standard errors of 1200 repeats are 0.013.
    assert 0.93 <= hits / (40 * batches) <= 0.98


def clustered(generator: np.random.Generator, models: int, groups: int, each: int) -> np.ndarray:
    shared = np.repeat(generator.normal(size=(models, groups)), each, axis=1)
    return shared + generator.normal(size=(models, groups * each))


@pytest.mark.parametrize("method", [pytest.param("percentile", marks=pytest.mark.slow), "bca"])
def test_drawing_groups_covers_where_drawing_examples_is_too_narrow(method) -> None:
    generator, labels, hits = np.random.default_rng(4), np.repeat(np.arange(40), 6), np.zeros(2)
    for seed in range(15):
        values = clustered(generator, 40, 40, 6)[:, :, None]
        for index, groups in enumerate((labels, None)):
            draws = resampled_scores(values, mean, groups=groups, n_resamples=500, seed=seed)
            found = intervals(
                values.mean(axis=(1, 2)), draws, pseudo_values(values, mean), groups=groups, method=method
            )
            hits[index] += sum(one.low <= 0 <= one.high for one in found)
    by_group, by_example = hits / 600
    assert 0.91 <= by_group <= 0.98
    assert by_example < 0.80


def test_the_spread_of_drawn_groups_is_that_of_new_groups() -> None:
    generator = np.random.default_rng(6)
    truth = clustered(generator, 4000, 50, 4).mean(axis=1).std()
    values = clustered(generator, 200, 50, 4)[:, :, None]
    draws = resampled_scores(values, mean, groups=np.repeat(np.arange(50), 4), n_resamples=500)
    assert draws.std(axis=1).mean() == pytest.approx(truth, rel=0.05)


def test_groups_of_unequal_size_are_drawn_whole() -> None:
    labels = np.array(["b", "a", "c", "a", "b", "a"])
    values = RNG.normal(size=6)
    draws = resampled_scores(values[:, None], mean, groups=labels, n_resamples=30, seed=8)
    drawn = np.random.default_rng(8).integers(3, size=(30, 3))
    expected = [np.concatenate([values[labels == "abc"[group]] for group in row]).mean() for row in drawn]
    np.testing.assert_allclose(draws, expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_groups_of_one_are_examples(method) -> None:
    values = RNG.gamma(2, size=(2, 40, 1))
    apart, grouped = (
        paired_difference(*values, mean, method=method, groups=groups) for groups in (None, np.arange(40))
    )
    assert (*bounds(grouped), grouped.p_value) == pytest.approx((*bounds(apart), apart.p_value), abs=1e-9)


def test_pseudo_values_of_a_mean_are_the_values() -> None:
    values = RNG.normal(size=(3, 25, 1))
    np.testing.assert_allclose(pseudo_values(values, mean), values[..., 0], atol=1e-12)


def test_pseudo_values_of_corpus_bleu_are_the_jackknifes_and_tell_its_error() -> None:
    counts = bleu_counts(150)
    found = pseudo_values(counts, corpus_bleu)
    total = counts.sum(axis=0)
    without_the_third = bleu(np.delete(counts, 2, axis=0).sum(axis=0))
    assert found[2] == pytest.approx(150 * bleu(total) - 149 * without_the_third)
    assert found.mean() == pytest.approx(bleu(total), abs=0.3)
    draws = resampled_scores(counts, corpus_bleu)
    assert found.std(ddof=1) / np.sqrt(150) == pytest.approx(draws.std(), rel=0.1)


def test_an_interval_of_corpus_bleu_agrees_with_scipys_bca() -> None:
    counts = bleu_counts(300)
    ours = bootstrap_interval(counts, corpus_bleu, method="bca", n_resamples=5000)
    theirs = scipy.stats.bootstrap(
        (np.arange(300),), lambda rows, axis: bleu(counts[rows].sum(axis=-2)), n_resamples=5000, batch=500, rng=2
    ).confidence_interval
    assert bounds(ours) == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))


def test_equal_answers_tie_exactly_wherever_they_stand() -> None:
    one = RNG.random((500, 1))
    models = np.concatenate([one, RNG.random((500, 35)), one], axis=1).T[:, :, None]
    alone, among = resampled_totals(one, n_resamples=333), resampled_totals(models, n_resamples=333)
    np.testing.assert_array_equal(among[0], among[-1])
    np.testing.assert_array_equal(among[0], alone)


def normal_replicates(centre: float = 0.0) -> np.ndarray:
    return centre + scipy.stats.norm.ppf(np.arange(1, 40_000) / 40_000)[None]


def test_bias_of_the_replicates_is_taken_off_twice() -> None:
    # With median 0.3 above the estimate and no skewness, BCa is the normal interval about an estimate 0.3 lower.
    contributions = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)[None]
    found = intervals(np.zeros(1), normal_replicates(0.3), contributions)[0]
    assert bounds(found) == pytest.approx((-0.3 - 1.96, -0.3 + 1.96), abs=0.005)


@pytest.mark.parametrize(("freedom", "limited"), [(100, False), (4, False), (1, True)])
def test_heavy_tails_take_a_wider_students_t(freedom, limited) -> None:
    values = scipy.stats.t.ppf((np.arange(60) + 0.5) / 60, freedom)
    # That of a variance (O'Neill 2014), whose own variance hangs on the kurtosis.
    expected = min(59, 2 / (scipy.stats.kurtosis(values) / 60 + 2 / 59))
    assert (expected < 59 / 4) == limited
    half = np.sqrt(60 / 59) * scipy.stats.t.ppf(0.975, max(expected, 59 / 4))
    found = intervals(np.zeros(1), normal_replicates(), values[None])[0]
    assert bounds(found) == pytest.approx((-half, half), abs=0.005)


def test_ties_count_half_on_either_side() -> None:
    contributions = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)[None]
    replicates = np.repeat([-1.0, 0.0, 1.0], [300, 400, 300])[None]
    found = intervals(np.zeros(1), replicates, contributions, confidence=0.5)[0]
    # A quarter of 1001 ranks lies between the middle of -1's ranks, 150.5, and that of 0's, 500.5.
    quarter = -1 + (250.25 - 150.5) / 350
    assert bounds(found) == pytest.approx((quarter, -quarter), abs=0.001)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_the_scale_of_scores_does_not_matter(scale) -> None:
    values = np.random.default_rng(9).exponential(size=50)
    expected = np.array(bounds(interval_of(values, method="bca"))) * scale
    assert bounds(interval_of(values * scale, method="bca")) == pytest.approx(expected, rel=1e-6, abs=0)


def test_one_set_of_draws_says_what_separate_calls_say() -> None:
    values = RNG.gamma(2, size=(3, 60, 1))
    overall, own = values.mean(axis=(1, 2)), pseudo_values(values, mean)
    draws = resampled_scores(values, mean, seed=4)
    for found, one in zip(intervals(overall, draws, own), values, strict=True):
        assert bounds(found) == pytest.approx(bounds(bootstrap_interval(one, mean, method="bca", seed=4)))
    shared = difference(overall[0] - overall[1], draws[0] - draws[1], own[0] - own[1], method="bca")
    called = paired_difference(values[0], values[1], mean, method="bca", seed=4)
    assert (*bounds(shared), shared.p_value) == pytest.approx((*bounds(called), called.p_value))


def test_the_same_seed_gives_the_same_interval_in_another_process() -> None:
    code = (
        "import numpy as np; from lumigator_nb.statistics.bootstrap import bootstrap_interval as f;"
        "g = np.random.default_rng(1); i = f(g.random((90, 1)), lambda t, n: t[..., 0] / n, method='bca',"
        "groups=np.arange(90) // 2, seed=3); print(repr((float(i.low), float(i.high))))"
    )
    said = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)}
    own = np.random.default_rng(1).random((90, 1))
    here = bootstrap_interval(own, mean, method="bca", groups=np.arange(90) // 2, seed=3)
    other = bootstrap_interval(own, mean, method="bca", groups=np.arange(90) // 2, seed=4)
    assert said == {f"{bounds(here)!r}\n".encode()}
    assert bounds(here) != bounds(other)


def test_constant_scores_have_a_point_for_an_interval() -> None:
    found = interval_of(np.full(30, 0.1), method="bca")
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("estimate", [-9.0, 9.0])
def test_an_estimate_beyond_all_replicates_is_not_corrected_for_bias(estimate) -> None:
    values = np.linspace(-1, 1, 40)
    draws = resampled_scores(values[:, None], mean)
    inside, beyond = (intervals(np.array([one]), draws[None], values[None])[0] for one in (0.0, estimate))
    assert beyond.estimate == estimate
    assert bounds(beyond) == pytest.approx(bounds(inside), abs=0.03)


def test_one_outlier_does_not_turn_the_bounds_over() -> None:
    values = np.zeros(8)
    values[0] = 1.0
    for confidence in (0.95, 0.9999):
        found = interval_of(values, method="bca", confidence=confidence)
        assert 0 <= found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_one_group_or_one_example_has_no_bounds(method) -> None:
    values = np.array([[0.2], [0.6]])
    for found in (
        bootstrap_interval(values, mean, method=method, groups=np.array([1, 1])),
        bootstrap_interval(values[:1], mean, method=method),
        paired_difference(values, values, mean, method=method, groups=np.array([1, 1])),
    ):
        assert np.isfinite(found.estimate)
        assert np.isnan(bounds(found)).all()
    assert np.isnan(pseudo_values(values[:1], mean)).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bounds_of_an_undefined_score_are_nan(method) -> None:
    found = interval_of(np.array([0.1, np.inf, 0.3]), method=method)
    assert np.isnan(bounds(found)).all()


def test_confidence_widens_bca() -> None:
    values = RNG.beta(2, 5, size=80)
    narrow, wide = (interval_of(values, method="bca", confidence=one) for one in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "t"}, "unknown method 't'"),
        ({"confidence": 0.0}, "confidence cannot be"),
        ({"groups": np.arange(4)}, "for 5 examples"),
        ({"groups": np.array(["a", None, "b", "b", "a"], dtype=object)}, "example 1 has no group"),
        ({"groups": np.array([1, 2, 2, 1, np.nan])}, "example 4 has no group"),
    ],
)
def test_what_cannot_be_used_is_refused(options, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        bootstrap_interval(np.ones((5, 1)), mean, **options)


@pytest.mark.parametrize("shape", [(0, 1), (0,), ()])
def test_what_holds_no_example_cannot_be_drawn(shape) -> None:
    with pytest.raises(InvalidInputError, match="hold no score"):
        resampled_scores(np.ones(shape), mean)


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 scores, replicates of 1"):
        intervals(np.zeros(2), np.zeros((1, 9)), np.zeros((2, 5)))
    with pytest.raises(InvalidInputError, match="not tables"):
        intervals(np.zeros(1), np.zeros((1, 0)), np.zeros((1, 5)))


def test_memory_stays_flat(monkeypatch) -> None:
    import tracemalloc

    monkeypatch.setattr(resampling, "_KEPT_CELLS", 0)
    peaks = []
    for n_resamples in (300, 1500):
        tracemalloc.start()
        resampled_totals(np.ones((20_000, 2)), n_resamples=n_resamples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
