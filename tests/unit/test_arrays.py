"""Functions over arrays take them as NumPy's users have them: lists, Series, truth values, any number type."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lumigator_nb import statistics as st
from lumigator_nb.errors import InvalidInputError

RNG = np.random.default_rng(0)
RIGHT = RNG.random((3, 60)) < np.array([[0.6], [0.7], [0.9]])
RATINGS = RNG.integers(1, 6, size=(3, 60))
HALVES = RNG.integers(0, 9, size=(3, 60)) / 8

# What each function makes of a table (3, n).
CALLS = {
    "bootstrap_interval": lambda table: st.bootstrap_interval(table[0]),
    "paired_difference": lambda table: st.paired_difference(table[0], table[1]),
    "resampled_scores": lambda table: st.resampled_scores(table, n_resamples=20).tolist(),
    "pseudo_values": lambda table: st.pseudo_values(table).tolist(),
    "rank_sets": lambda table: st.rank_sets(np.mean(table, axis=1), st.resampled_scores(table), n=60),
    "krippendorff_alpha": lambda table: st.krippendorff_alpha(table),
    "kendall_tau": lambda table: st.kendall_tau(table[0], table[1]),
    "prediction_powered_mean": lambda table: st.prediction_powered_mean(table[0], table[1], table[2]),
    "trust": lambda table: st.trust(table[1:], table[0], n_resamples=20),
    "plan": lambda table: st.plan(table, detect=0.1),
    "race": lambda table: st.race(table, bounds=(0, 5)),
    "wins": lambda table: [each.tolist() for each in st.wins(table)],
    "slice_flips": lambda table: repr(st.slice_flips(table, ["a", "b"] * 30, leader=2)),  # holds NaN
    "betting_bounds": lambda table: st.betting_bounds(table[0], 0, 5),
    "normal_sequence": lambda table: [each[-1] for each in st.normal_sequence(table[0])],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_any_kind_of_number_gives_what_floats_give(call) -> None:
    for table, kinds in (
        (RIGHT, ["bool", "int8", "uint8", "float16", "object"]),
        (RATINGS, ["int8", "uint8", "int64", "float16", "float32"]),
        (HALVES, ["float16", "float32"]),
    ):
        expected = call(table.astype(np.float64))
        for kind in kinds:
            assert call(table.astype(kind)) == expected, kind
        assert call(table.tolist()) == expected, "lists"


def test_series_and_their_missing_values_are_taken() -> None:
    right, other = pd.Series(RIGHT[0]), pd.Series(RIGHT[1], dtype="boolean")
    expected = st.paired_difference(RIGHT[0].astype(float), RIGHT[1].astype(float))
    assert st.paired_difference(right, other) == expected
    other[7] = pd.NA
    with pytest.raises(InvalidInputError, match="row 7 of b is NaN"):
        st.paired_difference(right, other)
    kept = np.delete(np.arange(60), 7)
    found = st.paired_difference(right, other, nan="omit")
    assert found == st.paired_difference(RIGHT[0][kept], RIGHT[1][kept])


def test_scores_and_statistics_of_one_column_are_the_same() -> None:
    def mean(totals, n):
        return totals[..., 0] / n

    scores = HALVES[0]
    assert st.bootstrap_interval(scores) == st.bootstrap_interval(scores[:, None], mean)
    assert st.bootstrap_interval(scores[:, None]) == st.bootstrap_interval(scores, mean)
    np.testing.assert_array_equal(st.resampled_scores(HALVES), st.resampled_scores(HALVES[:, :, None], mean))


def test_one_method_is_the_default_of_all() -> None:
    replicates, own = st.resampled_scores(HALVES), st.pseudo_values(HALVES)
    together = st.intervals(HALVES.mean(axis=1), replicates, own)
    assert [st.bootstrap_interval(scores) for scores in HALVES] == together
    pair = st.difference((HALVES[0] - HALVES[1]).mean(), replicates[0] - replicates[1], own[0] - own[1])
    alone = st.paired_difference(HALVES[0], HALVES[1])
    assert (alone.low, alone.high, alone.p_value) == pytest.approx((pair.low, pair.high, pair.p_value))


def test_models_taken_for_examples_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="3 examples with 60 statistics each"):
        st.resampled_scores(HALVES, lambda totals, n: totals[..., 0] / n)
    with pytest.raises(InvalidInputError, match="one example each"):
        st.resampled_scores(HALVES[0][:, None])


WITH_HOLE = np.where(np.arange(60) == 5, np.nan, HALVES)
TAKES_NAN = {
    "bootstrap_interval": lambda table, **nan: st.bootstrap_interval(table[0], **nan),
    "grouped": lambda table, **nan: st.bootstrap_interval(table[0], groups=np.arange(table.shape[1]) // 2, **nan),
    "paired_difference": lambda table, **nan: st.paired_difference(table[0], table[1], **nan),
    "resampled_scores": lambda table, **nan: st.resampled_scores(table, n_resamples=20, **nan).tolist(),
}


@pytest.mark.parametrize("call", TAKES_NAN.values(), ids=TAKES_NAN)
def test_a_missing_score_is_an_error_that_names_the_row_or_is_omitted(call) -> None:
    with pytest.raises(InvalidInputError, match="row 5 of"):
        call(WITH_HOLE)
    with pytest.raises(InvalidInputError, match="nan cannot be 'drop'"):
        call(WITH_HOLE, nan="drop")
    if call is not TAKES_NAN["grouped"]:  # leaving one of a pair out makes groups of two sizes
        assert call(WITH_HOLE, nan="omit") == call(np.delete(HALVES, 5, axis=1))
    assert not np.isnan(np.asarray(getattr(call(WITH_HOLE, nan="omit"), "low", 0.0)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: st.pseudo_values(WITH_HOLE),
        lambda: st.resampled_totals(WITH_HOLE[0][:, None]),
        lambda: st.prediction_powered_mean(WITH_HOLE[0], HALVES[1], HALVES[2]),
    ],
)
def test_where_nothing_can_be_omitted_the_row_is_named(call) -> None:
    with pytest.raises(InvalidInputError, match="row 5 of"):
        call()


@pytest.mark.parametrize("scores", [["good", "bad"], [[1.0, 2.0], [3.0]], [1 + 2j]])
def test_what_is_no_number_is_refused(scores) -> None:
    with pytest.raises(InvalidInputError, match="not a table of numbers"):
        st.bootstrap_interval(scores)
