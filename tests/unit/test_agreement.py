from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.agreement import (
    bootstrap_agreement,
    kendall_tau,
    krippendorff_alpha,
    wilson_interval,
)

RNG = np.random.default_rng(11)
NAN = float("nan")
LEVELS = ["nominal", "ordinal", "interval"]

# Four observers and twelve units, section C of Krippendorff 2011.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)

some_ratings = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8),
    elements=st.sampled_from([NAN, -2.5, 0.1, 1.0, 2.0, 7.0]),
)
some_pairs = st.integers(0, 60).flatmap(
    lambda n: hnp.arrays(np.float64, (2, n), elements=st.integers(0, 12).map(float) | st.floats(-1, 1))
)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_the_published_example(level, alpha):
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(alpha, abs=5e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_alpha_of_two_observers_by_hand(level):
    # Coincidences: 2 of (0, 0), 1 each of (0, 1) and (1, 0), none of (1, 1): 1 - (4 - 1) * 1 / (3 * 1) = 0.
    assert krippendorff_alpha(np.array([[0.0, 0.0], [0.0, 1.0]]), level) == pytest.approx(0)


@pytest.mark.parametrize("level", LEVELS)
@given(ratings=some_ratings)
@settings(deadline=None, max_examples=150)
def test_alpha_agrees_with_the_krippendorff_package(level, ratings):
    theirs = pytest.importorskip("krippendorff")
    paired = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    ours = krippendorff_alpha(ratings, level)
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(theirs.alpha(ratings, level_of_measurement=level), abs=1e-9)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "ratings",
    [np.full((3, 4), 0.1), np.full((3, 4), NAN), np.array([[1, NAN], [NAN, 2]]), np.empty((2, 0)), np.empty((0, 3))],
    ids=["no variation", "no ratings", "no two in a unit", "no units", "no raters"],
)
def test_alpha_is_undefined_without_variation_or_pairs(level, ratings):
    assert np.isnan(krippendorff_alpha(ratings, level))


@pytest.mark.parametrize("level", LEVELS)
def test_alpha_leaves_out_units_with_a_single_rating(level):
    lonely = np.full((4, 1), NAN)
    lonely[0] = 99
    assert krippendorff_alpha(np.hstack([lonely, PUBLISHED]), level) == krippendorff_alpha(PUBLISHED, level)


def test_each_level_of_alpha_is_invariant_to_what_it_ignores():
    shuffled = np.array([NAN, 3, 5, 1, 2, 4])[np.nan_to_num(PUBLISHED).astype(int)]
    assert krippendorff_alpha(shuffled, "nominal") == pytest.approx(krippendorff_alpha(PUBLISHED, "nominal"))
    assert krippendorff_alpha(PUBLISHED**3, "ordinal") == pytest.approx(krippendorff_alpha(PUBLISHED, "ordinal"))
    assert krippendorff_alpha(1e6 - PUBLISHED) == pytest.approx(krippendorff_alpha(PUBLISHED))
    assert krippendorff_alpha(PUBLISHED**3) != pytest.approx(krippendorff_alpha(PUBLISHED), abs=0.01)


@given(pairs=some_pairs)
@settings(deadline=None, max_examples=60)
def test_tau_agrees_with_scipy(pairs):
    x, y = pairs
    expected = scipy.stats.kendalltau(x, y).statistic if len(x) > 1 else NAN
    assert kendall_tau(x, y) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),
        ([1, 2, 3], [3, 2, 1], -1),
        ([1, 1, 2], [1, 2, 3], 2 / 6**0.5),
        ([1, 2, NAN, 3], [2, 4, 0, 6], 1),
        ([5, 5, 5], [1, 2, 3], NAN),
        ([1], [1], NAN),
    ],
    ids=["one swap", "reversed", "a tie", "one unknown", "constant", "one pair"],
)
def test_tau_by_hand(x, y, tau):
    assert kendall_tau(np.array(x, float), np.array(y, float)) == pytest.approx(tau, nan_ok=True)


def test_tau_of_a_hundred_thousand_pairs_agrees_with_scipy():
    x = RNG.normal(size=100_000)
    y = np.round(x + RNG.normal(size=100_000), 1)
    assert kendall_tau(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)


def test_the_bootstrap_of_a_rate_agrees_with_scipy():
    x = RNG.integers(0, 2, size=300).astype(float)
    y = np.where(RNG.random(300) < 0.7, x, 1 - x)
    ours = bootstrap_agreement(lambda pair: np.mean(pair[0] == pair[1]), np.stack([x, y]), n_resamples=5000)
    theirs = scipy.stats.bootstrap(
        ((x == y).astype(float),), np.mean, n_resamples=5000, method="percentile", rng=1
    ).confidence_interval
    assert ours.estimate == np.mean(x == y)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_each_resample_holds_whole_groups():
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    seen = []

    def remember(ratings):
        seen.append(ratings[0])
        return 0.0

    bootstrap_agreement(remember, np.arange(6.0)[None], groups=groups, n_resamples=50)
    counts = np.array([np.bincount(drawn.astype(int), minlength=6) for drawn in seen])
    assert all((counts[:, groups == name] == counts[:, groups == name][:, :1]).all() for name in "abc")
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(counts, axis=0)) == 10  # three groups can be drawn in that many ways


def test_repeated_units_widen_the_interval_only_when_grouped():
    once = RNG.normal(size=(1, 60)) + RNG.normal(size=(2, 60))
    ratings, groups = np.tile(once, 5), np.tile(np.arange(60), 5)
    width = {}
    for name, given_groups in {"apart": None, "together": groups}.items():
        found = bootstrap_agreement(krippendorff_alpha, ratings, groups=given_groups)
        width[name] = found.high - found.low
    honest = bootstrap_agreement(krippendorff_alpha, once)
    assert width["together"] == pytest.approx(honest.high - honest.low, rel=0.05)
    assert width["apart"] < 0.6 * width["together"]


def test_undefined_resamples_are_left_out():
    # Resamples of one unit only have no variation, all others have the same perfect agreement.
    found = bootstrap_agreement(krippendorff_alpha, np.array([[1.0, 2.0], [1.0, 2.0]]), n_resamples=100)
    assert (found.estimate, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize(
    ("ratings", "groups"),
    [(np.ones((2, 5)), None), (PUBLISHED[:, :1], None), (np.empty((2, 0)), None), (PUBLISHED, np.zeros(12))],
    ids=["never defined", "one unit", "no units", "one group"],
)
def test_bounds_are_nan_where_nothing_can_vary(ratings, groups):
    found = bootstrap_agreement(krippendorff_alpha, ratings, groups=groups, n_resamples=20)
    assert np.isnan([found.low, found.high]).all()
    assert found.estimate == pytest.approx(krippendorff_alpha(ratings), nan_ok=True)


def test_the_bootstrap_repeats_with_its_seed():
    draw = partial(bootstrap_agreement, krippendorff_alpha, PUBLISHED, n_resamples=50)
    assert draw(seed=1) == draw(seed=1) != draw(seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_a_thousand_resamples_of_two_thousand_units_take_seconds(level):
    ratings = RNG.normal(size=(1, 2000)) + RNG.normal(size=(3, 2000))
    started = time.process_time()
    bootstrap_agreement(partial(krippendorff_alpha, level=level), ratings)
    assert time.process_time() - started < 15  # it takes about 1; matrices over 6000 distinct values would take minutes


@given(successes=st.integers(0, 200), failures=st.integers(0, 200), confidence=st.floats(0.01, 0.999))
@settings(deadline=None)
def test_wilson_agrees_with_scipy(successes, failures, confidence):
    n = successes + failures
    found = wilson_interval(successes, n, confidence)
    if n == 0:
        assert np.isnan([found.estimate, found.low, found.high]).all()
        return
    expected = scipy.stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: krippendorff_alpha(np.ones(3)),
        lambda: krippendorff_alpha(PUBLISHED, "ratio"),
        lambda: kendall_tau(np.ones(3), np.ones(2)),
        lambda: bootstrap_agreement(krippendorff_alpha, PUBLISHED, groups=np.ones(3)),
        lambda: bootstrap_agreement(krippendorff_alpha, PUBLISHED, confidence=95),
        lambda: bootstrap_agreement(krippendorff_alpha, PUBLISHED, n_resamples=0),
        lambda: wilson_interval(4, 3),
        lambda: wilson_interval(1, 3, confidence=0),
    ],
)
def test_what_cannot_be_used_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
