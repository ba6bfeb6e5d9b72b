from __future__ import annotations

import time

import choix
import numpy as np
import pytest
import scipy.optimize

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.bradley_terry import bradley_terry, bradley_terry_intervals

STRENGTHS = np.array([0.8, 0.4, 0.0, -0.4, -0.8])


def counts(generator, m, low=0):
    table = generator.integers(low, 9, (m, m)).astype(float)
    np.fill_diagonal(table, 0)
    return table


def log_likelihood(strengths, tie, wins, ties):
    """Davidson's, written out comparison by comparison."""
    worth, total = np.exp(strengths), 0.0
    for i in range(len(wins)):
        for j in range(len(wins)):
            if i != j:
                even = tie * np.sqrt(worth[i] * worth[j])
                whole = worth[i] + worth[j] + even
                total += wins[i, j] * np.log(worth[i] / whole)
                total += ties[i, j] / 2 * np.log(even / whole) if ties[i, j] else 0
    return total


def comparisons(generator, n, tie=0.5, pairs=1):
    units = np.repeat(np.arange(n), pairs)
    first = generator.integers(5, size=len(units))
    second = (first + generator.integers(1, 5, size=len(units))) % 5
    win = np.exp((STRENGTHS[first] - STRENGTHS[second]) / 2)
    chance = generator.random(len(units)) * (win + 1 / win + tie)
    return first, second, np.where(chance < win, 1, np.where(chance < win + 1 / win, -1, 0)), units


@pytest.mark.parametrize("m", [2, 3, 6, 12])
@pytest.mark.parametrize("seed", range(3))
def test_strengths_without_ties_are_those_of_choix(m, seed):
    wins = counts(np.random.default_rng(seed), m, low=1)
    found = bradley_terry(wins)
    assert found.strengths == pytest.approx(choix.ilsr_pairwise_dense(wins, tol=1e-12), abs=1e-6)
    assert found.tie == 0


def test_strengths_of_a_sparse_and_lopsided_table_are_those_of_choix():
    wins = np.zeros((5, 5))
    wins[[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]] = [1, 500, 3, 40, 2]
    expected = choix.ilsr_pairwise_dense(wins, tol=1e-12, max_iter=10_000)
    assert bradley_terry(wins).strengths == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_strengths_with_ties_maximise_davidsons_likelihood(seed):
    generator = np.random.default_rng(seed)
    wins, ties = counts(generator, 4, low=1), counts(generator, 4)
    ties = np.triu(ties) + np.triu(ties).T
    found = bradley_terry(wins, ties)
    reference = scipy.optimize.minimize(
        lambda theta: -log_likelihood(np.append(theta[:3], -theta[:3].sum()), np.exp(theta[3]), wins, ties),
        np.zeros(4),
        method="BFGS",
        options={"gtol": 1e-7},
    )
    assert found.strengths[:3] == pytest.approx(reference.x[:3], abs=1e-5)
    assert found.tie == pytest.approx(np.exp(reference.x[3]), abs=1e-5)
    assert log_likelihood(found.strengths, found.tie, wins, ties) >= -reference.fun - 1e-9


def test_win_probabilities_by_hand():
    # 6 wins, 3 losses, 3 ties: two models fit exactly, so that the probabilities are the shares.
    found = bradley_terry(np.array([[0, 6], [3, 0]]), np.array([[0, 3], [3, 0]]))
    assert found.win_probabilities() == pytest.approx(np.array([[np.nan, 0.5], [0.25, np.nan]]), nan_ok=True)
    assert found.strengths == pytest.approx(np.log(2) * np.array([0.5, -0.5]))


def test_numbering_the_models_otherwise_only_renumbers_the_strengths():
    wins, order = counts(np.random.default_rng(5), 5, low=1), np.array([3, 0, 4, 1, 2])
    assert bradley_terry(wins[np.ix_(order, order)]).strengths == pytest.approx(bradley_terry(wins).strengths[order])


@pytest.mark.parametrize(
    ("wins", "ties", "message"),
    [
        ([[0, 5, 5], [0, 0, 3], [0, 2, 0]], None, "no model of {1, 2} ever won or tied against one of {0}"),
        ([[0, 3, 4], [2, 0, 4], [0, 0, 0]], None, "no model of {2} ever won or tied against one of {0, 1}"),
        ([[0, 3, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], None, "no model of {0, 1} ever won"),
        ([[0, 0], [0, 0]], None, "no model of"),
        ([[0, 5], [0, 0]], [[0, 2], [2, 0]], "too many ties"),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 2, 1], [2, 0, 3], [1, 3, 0]], "too many ties"),
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 2], [0, 0, 2], [2, 2, 0]], "too many ties"),
    ],
)
def test_where_nothing_is_most_likely_it_is_refused_and_regularisation_helps(wins, ties, message):
    wins, ties = np.array(wins), None if ties is None else np.array(ties)
    with pytest.raises(InvalidInputError) as caught:
        bradley_terry(wins, ties)
    assert message in str(caught.value)
    assert "regularization=0.5" in str(caught.value)
    found = bradley_terry(wins, ties, regularization=0.5)
    assert np.isfinite(found.strengths).all()
    assert np.isfinite(found.tie)


def has_maximum(wins, ties):
    """By a linear program: no direction but a common shift leaves every observed outcome as likely or likelier."""
    m = len(wins)
    # A tie counts for the last unknown, log ν, which exists only where something tied.
    free = m + 1 if ties.any() else m
    even = np.eye(m + 1)[m] if ties.any() else None
    gains = []
    for i, j in zip(*np.triu_indices(m, 1), strict=True):
        half = np.zeros(m + 1)
        half[[i, j]] = 0.5, -0.5
        for seen, outcome in ((wins[i, j], half), (wins[j, i], -half), (ties[i, j], even)):
            if seen:
                gains += [outcome - other for other in (half, -half, even) if other is not None]
    gains = np.array(gains).reshape(-1, m + 1)[:, :free]
    if not len(gains) or np.linalg.matrix_rank(gains) < free - 1:
        return False
    best = scipy.optimize.linprog(-gains.sum(axis=0), A_ub=-gains, b_ub=np.zeros(len(gains)), bounds=[(-1, 1)] * free)
    return best.fun > -1e-9


def test_strengths_exist_exactly_where_the_likelihood_has_a_maximum():
    generator, seen = np.random.default_rng(9), []
    for _ in range(80):
        m = int(generator.integers(2, 5))
        wins, ties = ((generator.random((m, m)) < 0.35).astype(float) for _ in range(2))
        np.fill_diagonal(wins, 0)
        ties = np.triu(ties, 1) + np.triu(ties, 1).T
        seen.append(has_maximum(wins, ties))
        if seen[-1]:
            assert np.isfinite(bradley_terry(wins, ties).strengths).all()
        else:
            with pytest.raises(InvalidInputError, match="no maximum-likelihood estimate"):
                bradley_terry(wins, ties)
    assert 15 < sum(seen) < 65


def test_regularisation_is_half_a_win_and_half_a_loss_against_one_more_opponent():
    wins = counts(np.random.default_rng(8), 4)
    more = np.pad(wins, (0, 1))
    more[:4, 4] = more[4, :4] = 0.5
    expected = choix.ilsr_pairwise_dense(more, tol=1e-12)[:4]
    found = bradley_terry(wins.astype(int), regularization=0.5)
    assert found.strengths == pytest.approx(expected - expected.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("wins", "ties", "options"),
    [
        (np.zeros((2, 3)), None, {}),
        (np.zeros((1, 1)), None, {}),
        (np.array([[0, np.nan], [1, 0]]), None, {}),
        (np.array([[0, -1], [1, 0]]), None, {}),
        (np.array([[1, 1], [1, 0]]), None, {}),
        (np.array([[0, 1], [1, 0]]), np.array([[0, 1], [0, 0]]), {}),
        (np.array([[0, 1], [1, 0]]), np.zeros((3, 3)), {}),
        (np.array([[0, 1], [1, 0]]), None, {"regularization": -1}),
        (np.array([[0, 1], [1, 0]]), None, {"regularization": np.nan}),
    ],
)
def test_malformed_tables_are_refused(wins, ties, options):
    with pytest.raises(InvalidInputError):
        bradley_terry(wins, ties, **options)


def test_intervals_hold_the_strengths_of_the_table():
    first, second, outcome, units = comparisons(np.random.default_rng(1), 300)
    wins, ties = np.zeros((5, 5)), np.zeros((5, 5))
    for a, b, result in zip(first, second, outcome, strict=True):
        wins[a, b] += result == 1
        wins[b, a] += result == -1
        ties[a, b] += result == 0
        ties[b, a] += result == 0
    found, table = bradley_terry_intervals(first, second, outcome, 5, units=units), bradley_terry(wins, ties)
    assert found.strengths == pytest.approx(table.strengths)
    assert found.tie == pytest.approx(table.tie)
    assert (found.low < found.strengths).all()
    assert (found.strengths < found.high).all()
    assert found.separated == 0


def test_a_seed_gives_the_same_bounds_and_the_order_of_comparisons_does_not_matter():
    first, second, outcome, units = comparisons(np.random.default_rng(2), 80, pairs=3)
    found = bradley_terry_intervals(first, second, outcome, 5, units=units, n_resamples=50)
    other = bradley_terry_intervals(second[::-1], first[::-1], -outcome[::-1], 5, units=units[::-1], n_resamples=50)
    assert other.low == pytest.approx(found.low)
    assert other.stronger == pytest.approx(found.stronger, nan_ok=True)


def test_comparisons_on_one_example_are_drawn_together():
    first, second, outcome, units = comparisons(np.random.default_rng(3), 100)
    once = bradley_terry_intervals(first, second, outcome, 5, units=units)
    four = [np.tile(array, 4) for array in (first, second, outcome, units)]
    together = bradley_terry_intervals(*four[:3], 5, units=four[3])
    apart = bradley_terry_intervals(*four[:3], 5)
    assert together.low == pytest.approx(once.low)
    assert (apart.high - apart.low).mean() == pytest.approx((once.high - once.low).mean() / 2, rel=0.15)


def test_stronger_is_the_share_of_resamples_and_complements_itself():
    found = bradley_terry_intervals(*comparisons(np.random.default_rng(4), 200)[:3], 5)
    assert np.nan_to_num(found.stronger + found.stronger.T, nan=1) == pytest.approx(np.ones((5, 5)))
    assert found.stronger[0, 4] > 0.99


def test_resamples_without_a_maximum_are_regularised_and_counted():
    first, second = np.zeros(20, dtype=int), np.ones(20, dtype=int)
    outcome = np.where(np.arange(20) < 19, 1, -1)
    found = bradley_terry_intervals(first, second, outcome, 2, n_resamples=2000)
    # The one loss is left out of a resample with a chance of (1 - 1 / 20) ** 20.
    assert found.separated == pytest.approx((19 / 20) ** 20, abs=0.04)
    assert found.high[0] == pytest.approx(np.log(20.5 / 0.5) / 2, rel=0.35)
    assert found.low[0] < found.strengths[0] < found.high[0]


def test_one_unit_has_no_bounds():
    found = bradley_terry_intervals(*np.array([[0, 0], [1, 1], [1, -1]]), 2, units=np.zeros(2))
    assert found.strengths == pytest.approx([0, 0])
    assert np.isnan([*found.low, *found.high, found.separated]).all()


def covered(repeats, n_resamples):
    """How often intervals hold the true strengths."""
    generator, hits = np.random.default_rng(6), []
    for _ in range(repeats):
        first, second, outcome, units = comparisons(generator, 200)
        found = bradley_terry_intervals(first, second, outcome, 5, units=units, n_resamples=n_resamples)
        hits.append((found.low <= STRENGTHS) & (found.high >= STRENGTHS))
    return np.mean(hits)


def test_most_intervals_hold_the_true_strengths():
    assert 0.82 <= covered(12, 100) < 1


@pytest.mark.slow
def test_intervals_cover_the_true_strengths():
    assert 0.90 <= covered(150, 200) <= 0.98


@pytest.mark.slow
def test_five_hundred_resamples_of_six_models_take_less_than_three_seconds():
    generator = np.random.default_rng(7)
    first = generator.integers(6, size=15_000)
    second = (first + generator.integers(1, 6, size=15_000)) % 6
    start = time.process_time()
    bradley_terry_intervals(first, second, generator.choice([-1, 0, 1], 15_000), 6, units=np.arange(15_000) // 15)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"first": np.array([0, 1, 2])}, {}),
        ({"first": np.array([0, 1, 5, 1])}, {}),
        ({"first": np.array([0, 1, -1, 1])}, {}),
        ({"first": np.array([0.5, 1, 0, 1])}, {}),
        ({"first": np.array([1, 1, 0, 1])}, {}),
        ({"outcome": np.array([1, 1, -1, 2])}, {}),
        ({"outcome": np.array([1, 1, -1, np.nan])}, {}),
        ({}, {"units": np.arange(3)}),
        ({}, {"confidence": 1.0}),
        ({}, {"n_resamples": 0}),
        ({"outcome": np.array([1, -1, 1, -1])}, {}),
    ],
)
def test_malformed_comparisons_and_settings_are_refused(change, options):
    columns = {"first": np.array([0, 1, 0, 1]), "second": np.array([1, 0, 1, 0]), "outcome": np.array([1, 1, -1, 0])}
    assert np.isfinite(bradley_terry_intervals(**columns, n_models=2, n_resamples=5).low).all()
    with pytest.raises(InvalidInputError):
        bradley_terry_intervals(**{**columns, **change}, n_models=2, **options)
