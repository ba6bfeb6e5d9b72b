"""Slices: flips of the leader."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.planning import detectable_difference
from lumigator_nb.statistics.slicing import slice_flips


@pytest.fixture
def crossed():
    """Model 0 leads in "long", by far the larger slice; model 1 leads in "short"."""
    rng = np.random.default_rng(0)
    labels = np.array(["long"] * 160 + ["short"] * 40)
    lead = np.where(labels == "long", 0.3, -0.5)
    return np.stack([lead, np.zeros(200), np.full(200, -2.0)]) + rng.normal(0, 0.4, size=(3, 200)), labels


def test_a_slice_in_which_another_model_leads_flips(crossed):
    long, short = slice_flips(*crossed, leader=0)
    assert (long.label, long.n, long.leader, long.flips, long.difference) == ("long", 160, 0, False, 0.0)
    assert math.isnan(long.p_adjusted)
    assert math.isnan(long.low)
    assert (short.label, short.n, short.leader, short.flips, short.too_small) == ("short", 40, 1, True, False)
    assert short.low < short.difference < short.high


def test_p_values_and_intervals_are_those_of_paired_t_tests_with_the_larger_spread_and_holm():
    values, labels = np.random.default_rng(0).normal(0, 0.4, (3, 200)), np.repeat(["long", "short"], [160, 40])
    values[:, labels == "short"] = 1.5 * values[:, labels == "short"] + np.array([[0], [0.5], [-0.4]])
    parts = [values[1:, labels == label] - values[0, labels == label] for label in ("long", "short")]
    pooled = np.sqrt(sum((part.shape[1] - 1) * part.var(axis=1, ddof=1) for part in parts) / 198)
    long = parts[0].mean(axis=1) / (pooled / np.sqrt(160))
    raw = [*stats.t.sf(long, 159), *stats.ttest_1samp(parts[1], 0, axis=1, alternative="greater").pvalue]
    short = slice_flips(values, labels, leader=0, confidence=0.9)[1]
    assert short.flips
    assert short.p_adjusted == pytest.approx(multipletests(raw, method="holm")[1][2])
    bounds = stats.ttest_1samp(parts[1][0], 0).confidence_interval(0.9)
    assert (short.low, short.high) == pytest.approx((bounds.low, bounds.high))
    assert short.detectable == pytest.approx(detectable_difference(np.std(parts[1][0], ddof=1), 40))


def test_lower_scores_turn_everything_round(crossed):
    values, labels = crossed
    assert slice_flips(-values, labels, leader=0, higher_is_better=False)[1] == slice_flips(values, labels, leader=0)[1]


def test_several_ways_to_part_are_corrected_for_together(crossed):
    values, labels = crossed
    both = np.stack([labels.astype(object), np.arange(200) % 2], axis=1)
    one, two = slice_flips(values, labels, leader=0), slice_flips(values, both, leader=0)
    assert [each.label for each in two] == ["long", "short", 0, 1]
    assert two[1].p_adjusted > one[1].p_adjusted


@pytest.mark.parametrize("unknown", [math.nan, np.float32("nan"), None, pd.NA, pd.NaT])
def test_examples_without_a_label_are_a_slice_of_their_own(unknown):
    labels = np.array(["a", unknown, "a", unknown, unknown], dtype=object)
    found = slice_flips(np.random.default_rng(1).random((2, 5)), labels, leader=0)
    assert [(each.label, each.n) for each in found] == [("a", 2), ("missing", 3)]


def test_numbers_as_labels_may_be_missing_too():
    found = slice_flips(np.random.default_rng(1).random((2, 4)), np.array([1.0, math.nan, 2.0, math.nan]), leader=0)
    assert [(each.label, each.n) for each in found] == [(1.0, 1), ("missing", 2), (2.0, 1)]


def test_three_wins_without_a_loss_are_no_flip():
    values = np.zeros((2, 22))
    values[1, :3] = 1
    (found,) = slice_flips(values, np.zeros(22), leader=0)
    assert found.p_adjusted == pytest.approx(1 / 8)
    assert stats.ttest_rel(values[1], values[0], alternative="greater").pvalue < 0.05


def test_a_constant_difference_is_worth_as_many_signs_as_examples():
    values = np.stack([np.zeros(10), np.full(10, 0.1)])
    (found,) = slice_flips(values, np.zeros(10), leader=0)
    assert (found.p_adjusted, found.flips) == (0.5**10, True)
    assert math.isnan(found.detectable)


def test_differences_by_rounding_are_none():
    values = np.stack([np.full(50, 0.3), np.full(50, 0.1 + 0.2)])
    (found,) = slice_flips(values, np.zeros(50), leader=0)
    assert (found.leader, found.flips) == (0, False)


def test_slices_of_one_example_show_nothing():
    found = slice_flips(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array(["a", "b"]), leader=0)
    assert [(each.leader, each.flips, each.too_small) for each in found] == [(1, False, True)] * 2
    assert all(math.isnan(each.p_adjusted) and math.isnan(each.detectable) for each in found)


def test_a_single_model_leads_everywhere():
    (found,) = slice_flips(np.random.default_rng(0).random((1, 30)), np.zeros(30), leader=0)
    assert (found.leader, found.flips, found.difference) == (0, False, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.zeros(9)}, "shape (9, 1)"),
        ({"values": np.zeros((2, 0)), "labels": np.zeros(0)}, "shape (0, 1)"),
        ({"values": np.array([[0.0] * 10, [0.0] * 9 + [math.nan]])}, "model 1, example 9"),
        ({"leader": 2}, "no model 2"),
        ({"leader": -1}, "no model -1"),
        ({"confidence": 0}, "confidence"),
    ],
)
def test_what_cannot_be_sliced_is_refused(change, said):
    settings = {"values": np.zeros((2, 10)), "labels": np.zeros(10), "leader": 0} | change
    with pytest.raises(InvalidInputError) as caught:
        slice_flips(**settings)
    assert said in caught.value.message


def _normal(rng, n):
    return rng.normal(size=(4, n)) + rng.normal(size=n)


def _binary(rng, n):
    return (rng.random((4, n)) < 0.8).astype(float)


def _skewed_leader(rng, n):
    """Equal means; the leader's scores are lognormal, those of the others hardly spread."""
    return np.vstack([rng.lognormal(-0.5, 1, size=(1, n)), 1 + 0.3 * rng.normal(size=(3, n))])


def _win_rates(rng, n):
    return np.vstack([rng.beta(0.1, 0.6, size=(1, n)), 1 / 7 + 0.05 * rng.normal(size=(3, n))])


@pytest.mark.parametrize("draw", [_skewed_leader, _win_rates])
def test_noise_does_not_beat_a_given_leader_whose_scores_are_skewed(draw):
    rng, wrong, skewed = np.random.default_rng(5), [], []
    for _ in range(80):
        found = slice_flips(draw(rng, 100), rng.integers(4, size=100), leader=0)
        wrong.append(any(each.flips for each in found))
        skewed.append(all(each.too_skewed for each in found))
    assert np.mean(wrong) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 80)
    assert np.mean(skewed) >= 0.8


def test_differences_without_skewness_are_not_called_skewed(crossed):
    assert not any(each.too_skewed for each in slice_flips(*crossed, leader=0))


@pytest.mark.parametrize("draw", [_normal, _binary])
@pytest.mark.parametrize("chosen", ["by the same data", "beforehand"])
def test_without_interaction_flips_are_rarely_claimed(draw, chosen):
    rng, wrong = np.random.default_rng(2), []
    for _ in range(150):
        values = draw(rng, 150)
        leader = int(values.mean(axis=1).argmax()) if chosen == "by the same data" else 0
        wrong.append(any(each.flips for each in slice_flips(values, rng.integers(6, size=150), leader=leader)))
    assert np.mean(wrong) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)
