"""Gates: passed, failed, or undecided with the number of further examples; and changes over many looks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.bootstrap import paired_difference
from lumigator_nb.statistics.gating import gate_difference, gate_mean
from lumigator_nb.statistics.monitoring import changes, difference_sequence, look_confidence
from lumigator_nb.statistics.noninferiority import not_worse_than_best
from lumigator_nb.statistics.resampling import resampled_scores


def gate(scores: np.ndarray, **settings):
    settings = {"margin": 0.05, "n": scores.shape[1], **settings}
    return gate_difference(scores.mean(axis=1), resampled_scores(scores), **settings)


def two_models(behind: float, n: int = 200, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    scores = random.normal(0.7, 0.15, size=n) + random.normal(0, 0.1, size=(2, n))
    # Exactly so far behind, to make the outcome known.
    scores[0] += scores[1].mean() - scores[0].mean() - behind
    return scores


@pytest.mark.parametrize(
    ("behind", "outcome"),
    [(-0.1, "passed"), (0.0, "passed"), (0.05, "undecided"), (0.045, "undecided"), (0.1, "failed")],
)
def test_a_gate_passes_fails_or_says_that_it_cannot_tell(behind, outcome) -> None:
    for upward in (True, False):
        scores = two_models(behind) if upward else -two_models(behind)
        result = gate(scores, higher_is_better=upward)
        assert result.outcome == outcome
        assert result.estimate == pytest.approx(-behind if upward else behind)
        assert (result.limit, result.direction) == ((-0.05, "at_least") if upward else (0.05, "at_most"))
        assert (result.further == 0) == (outcome != "undecided")


def test_the_bounds_are_those_of_the_models_that_are_not_worse() -> None:
    random = np.random.default_rng(1)
    for scores in (two_models(0.03), np.vstack([random.random(80) > 0.05, np.ones(80)]), np.ones((2, 50))):
        scores = np.asarray(scores, dtype=float)
        n, draws = scores.shape[1], resampled_scores(np.asarray(scores))
        expected = not_worse_than_best(scores.mean(axis=1), draws, margin=0.05, n=n, span=1.0).worse_by_at_most
        result = gate_difference(scores.mean(axis=1), draws, margin=0.05, n=n, span=1.0)
        assert (result.low, result.high) == pytest.approx((-expected[0], expected[1]))


@pytest.mark.parametrize("behind", [0.03, 0.07])
def test_as_many_further_examples_decide_with_the_power_asked_for(behind) -> None:
    result = gate(two_models(behind, n=50))
    assert result.outcome == "undecided"
    total, right = 50 + result.further, 0
    random = np.random.default_rng(2)
    sd = np.std(np.subtract(*two_models(behind, n=50)), ddof=1)
    for _ in range(150):
        apart = random.normal(-behind, sd, size=total)
        right += gate(np.vstack([apart, np.zeros(total)])).outcome == ("passed" if behind < 0.05 else "failed")
    assert 0.7 <= right / 150 <= 0.9, "80% and the error of 150 gates"


def test_nothing_decides_a_candidate_exactly_at_the_limit() -> None:
    result = gate_mean([0.4, 0.6] * 50, at_least=0.5)
    assert (result.outcome, result.further) == ("undecided", None)
    assert "no number of further examples" in str(result)


@pytest.mark.parametrize(("n", "outcome"), [(298, "undecided"), (299, "passed")])
def test_a_share_takes_as_many_examples_as_the_rule_of_three_says(n, outcome) -> None:
    result = gate_mean(np.ones(n), at_least=0.99)
    assert (result.outcome, result.further) == (outcome, 299 - n)


@pytest.mark.parametrize("successes", [0, 3, 50, 99, 100])
def test_the_bounds_of_a_share_are_clopper_and_pearsons(successes) -> None:
    values = np.arange(100) < successes
    result = gate_mean(values, at_least=0.6)
    one_sided = stats.binomtest(successes, 100).proportion_ci(0.9, method="exact")
    assert (result.low, result.high) == pytest.approx((one_sided.low, one_sided.high))


def test_at_most_is_the_mirror_image_of_at_least() -> None:
    costs = np.random.default_rng(3).lognormal(sigma=0.5, size=150)
    for limit in (0.9, 1.15, 1.5):
        most, least = gate_mean(costs, at_most=limit), gate_mean(-costs, at_least=-limit)
        assert (most.outcome, most.further) == (least.outcome, least.further)
        assert (most.low, most.high) == pytest.approx((-least.high, -least.low))
    assert [gate_mean(costs, at_most=limit).outcome for limit in (0.9, 1.5)] == ["failed", "passed"]


def test_groups_count_as_the_examples() -> None:
    customers = np.repeat(np.arange(40), 5)
    scores = np.repeat(np.random.default_rng(4).normal(0.6, 0.2, size=40), 5)
    alone, grouped = gate_mean(scores, at_least=0.55), gate_mean(scores, at_least=0.55, groups=customers)
    assert (alone.n, grouped.n) == (200, 40)
    assert grouped.low < alone.low
    right = (scores > 0.5).astype(float)
    assert gate_mean(right, at_least=0.5, groups=customers).low < gate_mean(right, at_least=0.5).low


def test_one_example_decides_nothing() -> None:
    result = gate_difference([0.5, 0.6], np.full((2, 9), [[0.5], [0.6]]), margin=0.05, n=1)
    assert result.outcome == "undecided"
    assert np.isnan([result.low, result.high]).all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"margin": 0}, "margin"), ({"span": 0}, "span"), ({"confidence": 1}, "confidence"), ({"power": 0.4}, "power")],
)
def test_bad_settings_of_a_gate_are_refused(settings, match) -> None:
    with pytest.raises(InvalidInputError, match=match):
        gate(two_models(0), **settings)


def test_a_gate_needs_one_limit_and_all_scores() -> None:
    for limits in ({}, {"at_least": 0.5, "at_most": 0.6}):
        with pytest.raises(InvalidInputError, match="one limit"):
            gate_mean([0, 1], **limits)
    with pytest.raises(InvalidInputError, match="row 1"):
        gate_mean([0, np.nan], at_least=0.5)
    with pytest.raises(InvalidInputError, match="one per example"):
        gate_mean([[0, 1]], at_least=0.5)
    with pytest.raises(InvalidInputError, match="candidate and of the baseline"):
        gate_difference([0.5], np.zeros((1, 9)), margin=0.1, n=9)


def test_the_shares_of_the_error_of_all_looks_add_up_to_it() -> None:
    spent = sum(1 - look_confidence(look, 0.9) for look in range(1, 10_000))
    assert spent == pytest.approx(0.1 * (1 - 1 / 10_000))
    with pytest.raises(InvalidInputError, match="look cannot be 0"):
        look_confidence(0)


def test_a_change_is_the_paired_difference_on_common_examples_at_the_confidence_of_its_look() -> None:
    random = np.random.default_rng(5)
    scores = random.beta(6, 2, size=60) + random.normal(0, 0.05, size=(3, 60))
    scores[2, :20] = np.nan
    scores[0, 50:] = np.nan
    first, second = changes(scores, reference=1)
    assert (first.date, first.n, second.date, second.n) == (0, 50, 2, 40)
    for look, (change, common) in enumerate([(first, slice(0, 50)), (second, slice(20, 60))], start=1):
        expected = paired_difference(scores[change.date, common], scores[1, common], confidence=look_confidence(look))
        found = change.difference
        assert (found.estimate, found.low, found.high, found.p_value) == pytest.approx(
            (expected.estimate, expected.low, expected.high, expected.p_value)
        )


def test_later_dates_do_not_change_what_was_said_of_earlier_ones() -> None:
    scores = np.random.default_rng(6).random((5, 40))
    assert changes(scores)[:2] == changes(scores[:3])


def test_histories_without_a_change_seldom_have_an_alarm_and_one_with_a_drop_has() -> None:
    random = np.random.default_rng(7)
    alarms, ordinary = 0, 0
    for _ in range(40):
        scores = random.normal(0.7, 0.2, size=50) + random.normal(0, 0.1, size=(41, 50))
        found = changes(scores, n_resamples=200)
        alarms += any(change.changed for change in found)
        ordinary += any(change.difference.p_value <= 0.05 for change in found)
    assert alarms <= 5
    assert ordinary >= 15, "which is why a look costs more than 5%"
    scores[10:] -= 0.15
    found = changes(scores)
    assert [change.changed for change in found] == [False] * 9 + [True] * 31


def test_dates_without_common_examples_have_no_difference() -> None:
    scores = np.array([[0.1, np.nan, 0.3], [np.nan, 0.2, np.nan], [0.1, np.nan, np.nan]])
    for change in changes(scores):
        assert not change.changed
        assert np.isnan(change.difference.p_value)
    with pytest.raises(InvalidInputError, match="date 3"):
        changes(scores, reference=3)


def test_sequences_of_a_difference_hold_zero_for_equal_models_and_leave_it_for_others() -> None:
    random = np.random.default_rng(8)
    a, b = random.beta(4, 2, size=(2, 200))
    for bounds in ((0, 1), None):
        low, high = difference_sequence(a, b, bounds=bounds)
        assert low[-1] <= 0 <= high[-1]
        low, high = difference_sequence(np.minimum(a + 0.2, 1), b, bounds=bounds)
        assert 0 < low[-1] < high[-1]
        assert (low[1:] >= low[:-1]).all()
    with pytest.raises(InvalidInputError, match="not paired"):
        difference_sequence(a, b[:-1])
    with pytest.raises(InvalidInputError, match="outside"):
        difference_sequence(a + 1, b, bounds=(0, 1))
