from __future__ import annotations

import numpy as np
import pytest

from lumigator_nb import statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.sequences import first_shown, last_bounds

PATHS, LENGTH = 400, 600


def draws(kind: str, random: np.random.Generator) -> tuple[np.ndarray, float]:
    size = (PATHS, LENGTH)
    return {
        "beta": lambda: (random.beta(2, 5, size), 2 / 7),
        "rare": lambda: ((random.random(size) < 0.02).astype(float), 0.02),
        "likert": lambda: (random.choice([0, 0.25, 0.5, 0.75, 1.0], size), 0.5),
    }[kind]()


@pytest.mark.parametrize("kind", ["beta", "rare", "likert"])
def test_bets_hold_at_every_look_on_at_least_95_of_100_paths(kind) -> None:
    paths, mean = draws(kind, np.random.default_rng(2))
    above = first_shown(paths - 0.5, mean - 0.5, 0.025, 0.5)
    below = first_shown(0.5 - paths, 0.5 - mean, 0.025, 0.5)
    assert np.mean(np.isinf(above) & np.isinf(below)) >= 0.95


@pytest.mark.parametrize(("kind", "mean"), [("normal", 0.0), ("exponential", 1.0)])
def test_the_asymptotic_sequence_holds_at_every_look_from_the_first(kind, mean) -> None:
    paths = getattr(np.random.default_rng(4), kind)(size=(PATHS, LENGTH))
    held = 0
    for path in paths:
        lows, highs = statistics.normal_sequence(path)
        held += bool((lows <= mean).all() and (highs >= mean).all())
    assert held / PATHS >= 0.94, "95% and the error of 400 paths"


def test_an_ordinary_interval_that_is_looked_at_all_the_time_does_not_hold() -> None:
    # Why all this is needed: the same paths, the usual interval.
    paths = np.random.default_rng(4).normal(size=(PATHS, LENGTH))
    n = np.arange(1, LENGTH + 1)
    radius = 1.96 / np.sqrt(n)
    means = paths.cumsum(axis=1) / n
    assert np.mean((np.abs(means) <= radius)[:, 19:].all(axis=1)) < 0.8


def test_bounds_are_those_that_bets_rule_out() -> None:
    values = np.random.default_rng(1).beta(2, 5, 300)
    lows, highs = statistics.betting_sequence(values, 0, 1)
    assert (np.diff(lows) >= 0).all()
    assert (np.diff(highs) <= 0).all()
    for at in (50, 150, 300):
        assert statistics.betting_bounds(values[:at], 0, 1) == (lows[at - 1], highs[at - 1])
        # A bettor that learns its stake rules out at least nearly as much; it is not behind by 2% of the range.
        assert first_shown((values - 0.5)[None, :at], lows[at - 1] - 0.5 - 0.02, 0.025, 0.5)[0] <= at


def test_the_sequence_closes_in_on_the_mean_and_scales_with_the_score() -> None:
    values = np.random.default_rng(1).beta(2, 5, 500)
    lows, highs = statistics.betting_sequence(values, 0, 1)
    assert lows[-1] < values.mean() < highs[-1]
    usual = 2 * 1.96 * values.std() / np.sqrt(500)
    assert highs[-1] - lows[-1] < 2 * usual
    percent = statistics.betting_sequence(100 * values - 50, -50, 50)
    np.testing.assert_allclose(percent[0], 100 * lows - 50, atol=1e-9)


def test_scores_that_are_all_the_same_are_no_proof() -> None:
    # Fifty zeros do not exclude that one example in thirty is a one.
    lows, highs = statistics.betting_sequence(np.zeros(50), 0, 1)
    assert lows[-1] == 0
    assert highs[-1] > 1 / 30
    lows, highs = statistics.normal_sequence(np.zeros(500))
    assert np.isinf(highs).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: statistics.betting_sequence(np.array([0.5, np.nan]), 0, 1), "without NaN"),
        (lambda: statistics.betting_sequence(np.array([0.5, 1.5]), 0, 1), "outside of 0 … 1"),
        (lambda: statistics.betting_sequence(np.zeros(3), 1, 1), "hold no scores"),
        (lambda: statistics.betting_sequence(np.zeros(3), 0, np.inf), "hold no scores"),
        (lambda: statistics.normal_sequence(np.zeros(3), confidence=1), "confidence cannot be 1"),
        (lambda: statistics.normal_sequence(np.zeros((3, 3))), "not a sequence"),
        (lambda: statistics.normal_sequence(np.zeros(3), first=1), "look after 2 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(call, said) -> None:
    with pytest.raises(InvalidInputError) as caught:
        call()
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_no_example_says_nothing() -> None:
    assert [len(bounds) for bounds in statistics.betting_sequence(np.array([]), 0, 1)] == [0, 0]


@pytest.mark.parametrize("kind", ["beta", "rare", "likert"])
def test_bets_without_replacement_hold_at_every_look_on_at_least_95_of_100_paths(kind) -> None:
    paths = draws(kind, np.random.default_rng(3))[0][:, :200]
    differences = paths - paths.mean(axis=1, keepdims=True)
    above = first_shown(differences, 0.0, 0.025, 1.0, total=200)
    below = first_shown(-differences, 0.0, 0.025, 1.0, total=200)
    assert np.mean(np.isinf(above) & np.isinf(below)) >= 0.95
    # After the last example, any difference is shown.
    assert np.isfinite(first_shown(differences + 1e-3, 0.0, 0.025, 1.0, total=200)).all()


@pytest.mark.parametrize("kind", ["beta", "rare", "likert"])
def test_bounds_without_replacement_end_at_the_mean(kind) -> None:
    path = draws(kind, np.random.default_rng(3))[0][0, :200]
    lows, highs = statistics.betting_sequence(path, 0, 1, total=200)
    assert (np.diff(lows) >= 0).all()
    assert (np.diff(highs) <= 0).all()
    assert ((lows <= path.mean() + 1e-9) & (highs >= path.mean() - 1e-9)).all()
    assert (lows[-1], highs[-1]) == (pytest.approx(path.mean()), pytest.approx(path.mean()))
    for at in (20, 90, 190):
        assert statistics.betting_bounds(path[:at], 0, 1, total=200) == (lows[at - 1], highs[at - 1])


def test_bounds_without_replacement_are_narrower_and_scale_with_the_score() -> None:
    values = np.random.default_rng(1).beta(2, 5, 300)
    low, high = statistics.betting_bounds(values, 0, 1)
    finite = statistics.betting_bounds(values, 0, 1, total=400)
    assert finite[1] - finite[0] < 0.75 * (high - low)
    scaled = statistics.betting_bounds(100 * values - 50, -50, 50, total=400)
    np.testing.assert_allclose(scaled, 100 * np.array(finite) - 50, atol=1e-9)
    assert statistics.betting_bounds(values, 0, 1, total=10**9) == pytest.approx((low, high), abs=1e-3)


def test_missing_scores_without_replacement_leave_the_mean_of_the_others() -> None:
    values = np.random.default_rng(1).beta(2, 5, 300)
    values[::7] = np.nan
    mean = np.nanmean(values)
    wide = last_bounds(values[:150], 0, 1, 0.95, 300)
    narrow = last_bounds(values[:280], 0, 1, 0.95, 300)
    assert wide[0] < narrow[0] < mean < narrow[1] < wide[1]
    assert last_bounds(values, 0, 1, 0.95, 300) == pytest.approx((mean, mean))


@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_the_asymptotic_sequence_without_replacement_holds_and_ends_at_the_mean(kind) -> None:
    paths = getattr(np.random.default_rng(5), kind)(size=(PATHS, 200))
    held = 0
    for path in paths:
        lows, highs = statistics.normal_sequence(path, total=200)
        held += bool((lows <= path.mean() + 1e-9).all() and (highs >= path.mean() - 1e-9).all())
        assert lows[-1] == highs[-1] == pytest.approx(path.mean())
    assert held / PATHS >= 0.94
    usual = statistics.normal_sequence(paths[0, :150])
    finite = statistics.normal_sequence(paths[0, :150], total=200)
    assert finite[1][-1] - finite[0][-1] < 0.8 * (usual[1][-1] - usual[0][-1])


def test_more_examples_than_there_are_is_refused() -> None:
    for call in (statistics.betting_bounds, statistics.betting_sequence):
        with pytest.raises(InvalidInputError, match="3 examples of 2 in all"):
            call([0.1, 0.2, 0.3], 0, 1, total=2)
    with pytest.raises(InvalidInputError, match="3 examples of 2 in all"):
        statistics.normal_sequence([0.1, 0.2, 0.3], total=2)
