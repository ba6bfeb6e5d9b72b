from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
import scipy.stats
from sacrebleu.significance import PairedTest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from lumigator_nb import metrics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import mean
from lumigator_nb.metrics.ngrams import bleu
from lumigator_nb.specs import MetricSpec
from lumigator_nb.statistics.bootstrap import paired_difference
from lumigator_nb.statistics.corrections import holm, romano_wolf
from lumigator_nb.statistics.hypotheses import approximate_randomization, mcnemar, wilcoxon
from lumigator_nb.statistics.resampling import resampled_totals

RNG = np.random.default_rng(11)
WORDS = ["the", "a", "cat", "dog", "bird", "sat", "ran", "flew", "on", "over", "under", "mat", "sun", "tree", "house"]


def column(values: np.ndarray) -> np.ndarray:
    return values[:, None]


def corpus_bleu(totals: np.ndarray, n: int) -> np.ndarray:
    return bleu(totals)


def corrupted(sentence: str, share: float) -> str:
    return " ".join(RNG.choice(WORDS) if RNG.random() < share else word for word in sentence.split())


def translations(n: int, *shares: float) -> tuple[list[str], list[list[str]]]:
    truth = [" ".join(RNG.choice(WORDS, size=12)) for _ in range(n)]
    return truth, [[corrupted(sentence, share) for sentence in truth] for share in shares]


def bleu_counts(predictions: list[str], truth: list[str]) -> np.ndarray:
    return metrics.create(MetricSpec(name="bleu")).score(predictions, truth, predictions)[0].statistics


def sacrebleus(kind: str, systems: list[list[str]], truth: list[str]) -> tuple[float, float]:
    """How much the second system exceeds the first in BLEU, and sacrebleu's p-value."""
    named = list(zip("ab", systems, strict=True))
    test = PairedTest(named, {"BLEU": sacrebleu.BLEU()}, [truth], test_type=kind, n_samples=4000)
    first, second = test()[1]["BLEU"]
    return second.score - first.score, second.p_value


@pytest.mark.parametrize("shares", [(0.30, 0.34), (0.30, 0.32)])
def test_randomization_of_bleu_is_that_of_sacrebleu(shares) -> None:
    truth, systems = translations(120, *shares)
    estimate, p_value = sacrebleus("ar", systems, truth)
    a, b = (bleu_counts(system, truth) for system in systems)
    found = approximate_randomization(b, a, corpus_bleu, n_resamples=4000)
    assert found.estimate == pytest.approx(estimate)
    assert found.p_value == pytest.approx(p_value, abs=0.035)


@pytest.mark.parametrize("shares", [(0.30, 0.34), (0.30, 0.32)])
def test_the_p_value_of_a_difference_in_bleu_is_that_of_sacrebleus_resamples_but_counts_both_tails(shares) -> None:
    truth, systems = translations(120, *shares)
    estimate, one_tail = sacrebleus("bs", systems, truth)
    counts = np.stack([bleu_counts(system, truth) for system in systems])
    found = paired_difference(counts[1], counts[0], corpus_bleu, n_resamples=4000)
    assert found.estimate == pytest.approx(estimate)
    # Sacrebleu takes absolute values before it centres them, which leaves one tail only.
    a, b = bleu(resampled_totals(counts, n_resamples=4000))
    sizes = np.abs(b - a)
    assert np.mean(sizes - sizes.mean() > abs(estimate)) == pytest.approx(one_tail, abs=0.03)
    assert found.p_value >= one_tail - 0.03
    assert found.p_value == pytest.approx(approximate_randomization(*counts, corpus_bleu).p_value, abs=0.08)


def test_randomization_of_means_is_scipys_permutation_test() -> None:
    a, b = RNG.exponential(1.3, size=40), RNG.exponential(1.0, size=40)
    theirs = scipy.stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=20_000, rng=2
    )
    ours = approximate_randomization(column(a), column(b), mean, n_resamples=20_000)
    assert ours.estimate == pytest.approx(theirs.statistic)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.015)


def test_groups_are_swapped_whole() -> None:
    # Copies of an example bring no evidence: grouped, their p-value is that of the examples alone.
    a, b = RNG.normal(0.4, 1, size=30), RNG.normal(0, 1, size=30)
    alone = approximate_randomization(column(a), column(b), mean)
    copied_a, copied_b = column(np.repeat(a, 4)), column(np.repeat(b, 4))
    labels = np.repeat([f"document {index:02}" for index in range(30)], 4)
    together = approximate_randomization(copied_a, copied_b, mean, groups=labels)
    assert (together.estimate, together.p_value) == pytest.approx((alone.estimate, alone.p_value))
    assert approximate_randomization(copied_a, copied_b, mean).p_value < alone.p_value / 3


def test_randomization_in_pieces_is_as_good_and_the_same_seed_gives_the_same(monkeypatch) -> None:
    a, b = column(RNG.normal(0.2, 1, size=60)), column(RNG.normal(size=60))
    whole = approximate_randomization(a, b, mean, seed=4)
    assert whole == approximate_randomization(a, b, mean, seed=4)
    assert whole != approximate_randomization(a, b, mean, seed=5)
    monkeypatch.setattr("lumigator_nb.statistics.hypotheses._CELLS", 60 * 7)
    assert approximate_randomization(a, b, mean, seed=4).p_value == pytest.approx(whole.p_value, abs=0.02)


def test_randomization_holds_its_level_with_skewed_scores_and_few_examples() -> None:
    draws = np.random.default_rng(3).exponential(size=(600, 2, 12, 1)) ** 2
    alarms = [approximate_randomization(*pair, mean, n_resamples=399).p_value <= 0.05 for pair in draws]
    assert 0.025 <= np.mean(alarms) <= 0.075


@pytest.mark.parametrize("aggregate", [mean, corpus_bleu])
def test_a_system_does_not_differ_from_itself(aggregate) -> None:
    counts = RNG.integers(1, 9, size=(25, 10)).astype(float)
    found = approximate_randomization(counts, counts, aggregate, n_resamples=200)
    assert (found.estimate, found.p_value) == (0, 1)


def test_without_examples_nothing_is_known() -> None:
    found = approximate_randomization(np.empty((0, 1)), np.empty((0, 1)), mean)
    assert np.isnan([found.estimate, found.p_value]).all()


def test_wilcoxon_is_scipys_exact_test_without_ties() -> None:
    for n in (1, 5, 17, 40):
        a, b = RNG.normal(0.5, 1, size=n), RNG.normal(size=n)
        assert wilcoxon(a, b) == pytest.approx(scipy.stats.wilcoxon(a, b, method="exact").pvalue)


def test_wilcoxon_is_exact_with_ties_and_zeros() -> None:
    for _ in range(2):
        # All 2^n choices of signs, as scipy's permutation method goes through them.
        a, b = RNG.integers(1, 6, size=(2, 11)).astype(float)
        exhaustive = scipy.stats.PermutationMethod(n_resamples=np.inf)
        theirs = scipy.stats.wilcoxon(a, b, zero_method="pratt", method=exhaustive).pvalue
        assert wilcoxon(a, b) == pytest.approx(theirs)


def test_wilcoxon_of_many_scores_is_the_normal_approximation() -> None:
    a, b = RNG.integers(0, 6, size=500) + RNG.binomial(1, 0.06, size=500), RNG.integers(0, 6, size=500)
    theirs = scipy.stats.wilcoxon(a, b, zero_method="pratt", correction=False, method="asymptotic").pvalue
    assert wilcoxon(a.astype(float), b.astype(float)) == pytest.approx(theirs)


def test_wilcoxon_on_both_sides_of_where_it_stops_being_exact(monkeypatch) -> None:
    a, b = RNG.normal(0.15, 1, size=300), RNG.normal(size=300)
    exact = wilcoxon(a, b)
    monkeypatch.setattr("lumigator_nb.statistics.hypotheses._EXACT", 0)
    assert wilcoxon(a, b) == pytest.approx(exact, abs=0.003)
    assert wilcoxon(a, b) != exact


def test_rounding_does_not_break_ties() -> None:
    a, b = np.array([0.3, 0.4, 0.7, 0.1 + 0.2]), np.array([0.1, 0.2, 0.9, 0.3])
    assert wilcoxon(a, b) == wilcoxon(np.array([3.0, 4, 7, 3]), np.array([1.0, 2, 9, 3]))


@pytest.mark.parametrize("test", [wilcoxon, mcnemar])
@pytest.mark.filterwarnings("error")
def test_identical_scores_have_the_p_value_one(test) -> None:
    same = np.array([0.0, 1, 1, 0, 1])
    assert test(same, same) == 1
    assert test(np.zeros(4), np.zeros(4)) == 1
    assert test(np.empty(0), np.empty(0)) == 1


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 2), (3, 3), (0, 6), (1, 0), (400, 460)])
def test_mcnemar_is_that_of_statsmodels(only_a, only_b) -> None:
    a = np.repeat([1.0, 0.0, 1.0, 0.0], [only_a, only_b, 20, 10])
    b = np.repeat([0.0, 1.0, 1.0, 0.0], [only_a, only_b, 20, 10])
    theirs = statsmodels_mcnemar([[20, only_a], [only_b, 10]], exact=True).pvalue
    assert mcnemar(a, b) == pytest.approx(theirs)


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0])
def test_mcnemar_names_the_row_that_is_not_binary(value) -> None:
    with pytest.raises(InvalidInputError, match=r"row 2 of b is .*, not 0 or 1"):
        mcnemar(np.ones(4), np.array([0, 1, value, 1]))


@pytest.mark.parametrize("test", [wilcoxon, mcnemar, lambda a, b: approximate_randomization(a, b, mean)])
def test_missing_and_unpaired_scores_are_refused(test) -> None:
    shape = (3,) if test in (wilcoxon, mcnemar) else (3, 1)
    lacking = np.ones(shape)
    lacking[1] = np.nan
    with pytest.raises(InvalidInputError, match="row 1 of a is NaN"):
        test(lacking, np.ones(shape))
    with pytest.raises(InvalidInputError, match="not paired"):
        test(np.ones(shape), np.ones((4, *shape[1:])))


def test_randomization_refuses_settings_that_do_not_fit() -> None:
    one = np.ones((3, 1))
    with pytest.raises(InvalidInputError, match="n_resamples cannot be 0"):
        approximate_randomization(one, one, mean, n_resamples=0)
    with pytest.raises(InvalidInputError, match=r"groups of shape \(2,\) for 3 examples"):
        approximate_randomization(one, one, mean, groups=np.array([1, 2]))


def test_holm_is_that_of_statsmodels_and_leaves_out_what_is_unknown() -> None:
    p_values = RNG.random(12) ** 3
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected)
    with_unknown = np.insert(p_values, 5, np.nan)
    np.testing.assert_allclose(holm(with_unknown), np.insert(expected, 5, np.nan))
    assert np.isnan(holm(np.array([np.nan]))).all()


@pytest.mark.parametrize(("values", "message"), [([0.1, 1.2], "p-value 1 is 1.2"), ([[0.1]], "no list")])
def test_holm_refuses_what_are_no_p_values(values, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        holm(np.array(values))


def replicates_of(samples: np.ndarray, n_resamples: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Means (h,) of samples (n, h), and their bootstrap replicates (h, R)."""
    return samples.mean(axis=0), resampled_totals(samples, n_resamples=n_resamples, seed=seed).T / len(samples)


def test_romano_wolf_of_one_hypothesis_is_a_t_test() -> None:
    sample = RNG.normal(0.35, 1, size=(25, 1))
    found = romano_wolf(*replicates_of(sample, 20_000), n=25)
    assert found[0] == pytest.approx(scipy.stats.ttest_1samp(sample[:, 0], 0).pvalue, abs=0.01)


def test_romano_wolf_of_independent_hypotheses_is_the_step_down_of_sidak() -> None:
    estimates = np.array([0.5, -3.1, 2.2, 2.6])
    draws = np.random.default_rng(1).normal(size=(4, 200_000))
    expected = multipletests(2 * scipy.stats.norm.sf(np.abs(estimates)), method="holm-sidak")[1]
    np.testing.assert_allclose(romano_wolf(estimates, draws), expected, atol=0.003)


def test_copies_of_a_hypothesis_cost_nothing() -> None:
    estimates, draws = replicates_of(RNG.normal(0.3, 1, size=(60, 1)))
    alone = romano_wolf(estimates, draws, n=60)
    np.testing.assert_allclose(romano_wolf(np.repeat(estimates, 9), np.repeat(draws, 9, axis=0), n=60), alone[0])


def test_hypotheses_without_spread_and_unknown_ones() -> None:
    draws = np.random.default_rng(2).normal(size=(5, 999))
    draws[0], draws[1], draws[2, 7] = 0.1 + 0.2 - 0.3, 0.5, np.nan
    estimates = np.array([0.1 + 0.2 - 0.3, 0.5, 1, np.nan, 0.1])
    found = romano_wolf(estimates, draws)
    assert found[:2] == pytest.approx([1, 0.001])
    assert np.isnan(found[2:4]).all()
    assert found[4] == pytest.approx(0.92, abs=0.05)


def test_few_examples_cannot_give_a_small_p_value() -> None:
    certain = np.full((2, 999), 0.5)
    np.testing.assert_allclose(romano_wolf(np.full(2, 0.5), certain, n=4), 1 / 8)
    assert np.isnan(romano_wolf(np.full(2, 0.5), certain, n=1)).all()
    np.testing.assert_allclose(romano_wolf(np.full(2, 0.5), certain, n=np.array([1, 50])), [np.nan, 0.001])


def test_romano_wolf_of_stronger_evidence_is_no_larger_and_no_larger_than_bonferroni() -> None:
    samples = RNG.normal(size=(40, 1)) + RNG.normal(np.linspace(0, 0.8, 9), 1, size=(40, 9))
    estimates, draws = replicates_of(samples)
    found = romano_wolf(estimates, draws)
    order = np.argsort(-np.abs(estimates) / draws.std(axis=1))
    assert np.all(np.diff(found[order]) >= 0)
    alone = np.array([romano_wolf(estimates[[one]], draws[[one]])[0] for one in range(9)])
    assert np.all(found >= alone)
    assert np.all(found <= np.minimum(1, 9 * alone))


@pytest.mark.parametrize(
    ("estimates", "replicates", "n", "message"),
    [
        (np.ones(2), np.ones((3, 9)), None, "replicates of shape"),
        (np.ones(2), np.ones((2, 0)), None, "no replicates"),
        (np.ones(2), np.ones((2, 9)), np.ones(3), "n of shape"),
    ],
)
def test_romano_wolf_refuses_shapes_that_do_not_fit(estimates, replicates, n, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        romano_wolf(estimates, replicates, n=n)
    assert romano_wolf(np.empty(0), np.empty((0, 9)), n=5).size == 0


SHAPES = {"normal": np.asarray, "skewed": np.exp, "tied": lambda scores: np.clip(np.round(scores), -2, 2)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_false_alarms_over_all_pairs_stay_rare_with_few_examples(shape) -> None:
    generator, (first, second) = np.random.default_rng(6), np.triu_indices(5, 1)
    alarms, uncorrected, beside = 0, 0, 0
    scores = shape(generator.normal(size=(25, 400, 1)) + generator.normal(size=(25, 400, 5)))
    for trial in range(400):
        pairs = scores[:, trial, first] - scores[:, trial, second]
        estimates, draws = replicates_of(pairs, 500, seed=trial // 40)
        alarms += (romano_wolf(estimates, draws, n=25) <= 0.05).any()
        uncorrected += (scipy.stats.ttest_1samp(pairs, 0).pvalue <= 0.05).any()
        # The first model is better by far: what is left are the pairs of the other four.
        better = np.where(first == 0, 3.0, 0.0)
        found = romano_wolf(estimates + better, draws + better[:, None], n=25)
        beside += (found[first > 0] <= 0.05).any()
    assert alarms / 400 <= 0.08
    assert beside / 400 <= 0.08
    assert uncorrected / 400 >= 0.12
