from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
import scipy.stats
from sacrebleu.significance import PairedTest
from statsmodels.stats.multitest import multipletests

from lumigator_nb import metrics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.ngrams import bleu
from lumigator_nb.specs import MetricSpec
from lumigator_nb.statistics.bootstrap import paired_difference
from lumigator_nb.statistics.corrections import holm, romano_wolf
from lumigator_nb.statistics.resampling import resampled_totals

RNG = np.random.default_rng(11)
WORDS = ["the", "a", "cat", "dog", "bird", "sat", "ran", "flew", "on", "over", "under", "mat", "sun", "tree", "house"]


def corpus_bleu(totals: np.ndarray, n: int) -> np.ndarray:
    return bleu(totals)


def corrupted(sentence: str, share: float) -> str:
    return " ".join(RNG.choice(WORDS) if RNG.random() < share else word for word in sentence.split())


def translations(n: int, *shares: float) -> tuple[list[str], list[list[str]]]:
    truth = [" ".join(RNG.choice(WORDS, size=12)) for _ in range(n)]
    return truth, [[corrupted(sentence, share) for sentence in truth] for share in shares]


def bleu_counts(predictions: list[str], truth: list[str]) -> np.ndarray:
    return metrics.create(MetricSpec(name="bleu")).score(predictions, truth, predictions)[0].statistics


def sacrebleus(systems: list[list[str]], truth: list[str]) -> tuple[float, float]:
    """How much the second system exceeds the first in BLEU, and sacrebleu's p-value."""
    named = list(zip("ab", systems, strict=True))
    test = PairedTest(named, {"BLEU": sacrebleu.BLEU()}, [truth], test_type="bs", n_samples=4000)
    first, second = test()[1]["BLEU"]
    return second.score - first.score, second.p_value


@pytest.mark.parametrize("shares", [(0.30, 0.34), (0.30, 0.32)])
def test_the_p_value_of_a_difference_in_bleu_is_that_of_sacrebleus_resamples_but_counts_both_tails(shares) -> None:
    truth, systems = translations(120, *shares)
    estimate, one_tail = sacrebleus(systems, truth)
    counts = np.stack([bleu_counts(system, truth) for system in systems])
    found = paired_difference(counts[1], counts[0], corpus_bleu, n_resamples=4000)
    assert found.estimate == pytest.approx(estimate)
    # Sacrebleu takes absolute values before it centres them, which leaves one tail only.
    a, b = bleu(resampled_totals(counts, n_resamples=4000))
    sizes = np.abs(b - a)
    assert np.mean(sizes - sizes.mean() > abs(estimate)) == pytest.approx(one_tail, abs=0.03)
    assert found.p_value >= one_tail - 0.03


def test_holm_is_that_of_statsmodels_and_leaves_out_what_is_unknown() -> None:
    p_values = RNG.random(12) ** 3
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected)
    with_unknown = np.insert(p_values, 5, np.nan)
    np.testing.assert_allclose(holm(with_unknown), np.insert(expected, 5, np.nan))
    assert np.isnan(holm(np.array([np.nan]))).all()


@pytest.mark.parametrize(("values", "message"), [([0.1, 1.2], "p-value 1 is 1.2"), ([[0.1]], "not a list")])
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
