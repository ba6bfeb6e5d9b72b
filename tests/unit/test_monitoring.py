"""Changes of scores over many looks."""

from __future__ import annotations

import numpy as np
import pytest

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.bootstrap import paired_difference
from lumigator_nb.statistics.monitoring import changes, difference_sequence, look_confidence


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
