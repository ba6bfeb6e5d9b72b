"""How many examples a comparison needs: against statsmodels, by hand, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.statistics.planning import detectable_difference, examples_needed, plan, plan_repeats

SETTINGS = [
    (1.0, 0.5, 0.8, 0.95),
    (0.2, 0.02, 0.8, 0.95),
    (0.2, 0.02, 0.9, 0.99),
    (0.35, 0.3, 0.5, 0.9),
    (3.0, 4.0, 0.95, 0.95),
]


@pytest.mark.parametrize(("sd", "detect", "power", "confidence"), SETTINGS)
def test_examples_needed_are_those_of_statsmodels(sd, detect, power, confidence):
    reference = TTestPower().solve_power(effect_size=detect / sd, alpha=1 - confidence, power=power)
    assert examples_needed(sd, detect, power=power, confidence=confidence) == math.ceil(reference)


def test_examples_needed_for_several_comparisons_share_the_error_out():
    six = examples_needed(0.3, 0.05, comparisons=6)
    assert six == examples_needed(0.3, 0.05, confidence=1 - 0.05 / 6) > examples_needed(0.3, 0.05)


@pytest.mark.parametrize("n", [3, 10, 200, 100_000])
def test_detectable_difference_has_the_power_asked_for(n):
    found = detectable_difference(0.3, n, power=0.8)
    assert TTestPower().power(found / 0.3, n, 0.05) == pytest.approx(0.8, abs=2e-3)


@pytest.mark.parametrize("n", [1449, 1500, 2000, 2453])  # scipy's distribution is NaN on the way
def test_no_number_of_examples_breaks_the_search(n):
    found = detectable_difference(0.18, n)
    assert TTestPower().power(found / 0.18, n, 0.05) == pytest.approx(0.8, abs=1e-6)
    assert plan(sd=0.18, detect=0.03, n_available=n).detectable == found


@pytest.mark.parametrize("n", [5, 40, 1000])
def test_the_detectable_difference_needs_the_examples_there_are(n):
    found = detectable_difference(1.0, n, comparisons=3)
    assert examples_needed(1.0, found * (1 + 1e-9), comparisons=3) == n


def test_scores_without_spread_need_two_examples_and_show_any_difference():
    assert examples_needed(0.0, 0.1) == 2
    assert detectable_difference(0.0, 2) == 0.0


def test_a_power_below_the_error_of_the_test_detects_nothing_at_all():
    assert detectable_difference(1.0, 30, power=0.01) == 0.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: examples_needed(-1, 0.1), "standard deviation"),
        (lambda: examples_needed(math.nan, 0.1), "standard deviation"),
        (lambda: examples_needed(1, 0), "difference of 0"),
        (lambda: examples_needed(1, math.nan), "difference of nan"),
        (lambda: examples_needed(1, 0.1, power=1), "power"),
        (lambda: examples_needed(1, 0.1, confidence=0), "confidence"),
        (lambda: examples_needed(1, 0.1, comparisons=0), "0 comparisons"),
        (lambda: examples_needed(1, 1e-6), "more than 100,000,000"),
        (lambda: detectable_difference(1, 1), "1 examples"),
        (lambda: plan(detect=0.1), "pilot or a standard deviation"),
        (lambda: plan(np.zeros((2, 30)), sd=1, detect=0.1), "pilot or a standard deviation"),
        (lambda: plan(np.zeros((2, 1)), detect=0.1), "shape (2, 1)"),
        (lambda: plan(np.zeros((1, 30)), detect=0.1), "shape (1, 30)"),
        (lambda: plan(np.array([[1.0, 2.0], [1.0, math.nan]]), detect=0.1), "model 1, example 1"),
        (lambda: plan(sd=1, models=1, detect=0.1), "0 comparisons"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, said):
    with pytest.raises(InvalidInputError) as caught:
        call()
    assert said in caught.value.message


def test_a_plan_from_a_stated_spread_has_no_interval():
    found = plan(sd=0.2, detect=0.02, models=3, n_available=500)
    assert found.needed == found.needed_low == found.needed_high == examples_needed(0.2, 0.02, comparisons=3)
    assert found.detectable == detectable_difference(0.2, 500, comparisons=3)
    assert found.n_pilot is None
    assert found.detectable_pilot is None
    assert "as far as the pilot tells" not in str(found)


def test_the_pair_that_spreads_most_decides():
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    pilot = np.stack([base, base + rng.normal(0, 0.1, 40), base + rng.normal(0, 1, 40)])
    found = plan(pilot, detect=0.2)
    widest = max(np.std(pilot[0] - pilot[2], ddof=1), np.std(pilot[1] - pilot[2], ddof=1))
    assert found.sd == pytest.approx(widest)
    assert found.comparisons == 3
    assert found.needed == examples_needed(widest, 0.2, comparisons=3)
    assert found.needed_low < found.needed < found.needed_high
    assert found.detectable_pilot == pytest.approx(detectable_difference(widest, 40, comparisons=3))


def test_the_chance_with_what_is_there_is_that_of_the_test():
    found = plan(sd=0.5, detect=0.1, n_available=120)
    reference = TTestPower().power(0.1 / 0.5, 120, 0.05)
    assert found.power_available == pytest.approx(reference, abs=1e-4)


def test_bounds_follow_bonett_from_ten_examples_on():
    rng = np.random.default_rng(1)
    apart = rng.gamma(2, size=30)
    found = plan(np.stack([apart, np.zeros(30)]), detect=0.5)
    # Written out from the paper, in its own terms.
    z, n = stats.norm.ppf(0.975), 30
    trimmed = np.mean(np.sort(apart)[int(n / (2 * math.sqrt(n - 4))) : n - int(n / (2 * math.sqrt(n - 4)))])
    gamma = n * np.sum((apart - trimmed) ** 4) / np.sum((apart - apart.mean()) ** 2) ** 2
    c = n / (n - z)
    error = c * math.sqrt((gamma - (n - 3) / n) / (n - 1))
    low, high = (math.sqrt(math.exp(math.log(c * apart.var(ddof=1)) + side * z * error)) for side in (-1, 1))
    assert (found.sd_low, found.sd_high) == pytest.approx((low, high))


@pytest.mark.parametrize("n", [2, 4, 9])
def test_bounds_of_a_tiny_pilot_are_those_of_the_chi_square(n):
    pilot = np.stack([np.arange(n, dtype=float), np.zeros(n)])
    found = plan(pilot, detect=1.0)
    low, high = (found.sd * math.sqrt((n - 1) / stats.chi2.ppf(level, n - 1)) for level in (0.975, 0.025))
    assert (found.sd_low, found.sd_high) == pytest.approx((low, high))
    assert f"A pilot of {n} examples tells little" in str(found)


def test_a_bound_beyond_all_reason_is_cut_and_not_refused():
    found = plan(np.array([[0.0, 1.0], [0.0, 0.0]]), detect=0.001)
    assert found.needed < found.needed_high == 100_000_000


@pytest.mark.parametrize("models", [2, 4])
def test_models_that_score_alike_leave_open_what_the_pilot_did_not_show(models):
    alike = np.tile((np.arange(30) % 2).astype(float), (models, 1))
    found = plan(alike, detect=0.05)
    assert (found.sd, found.needed) == (0.0, 2)
    # With 30 examples, 1 in 8 may differ without one of them being seen.
    assert found.sd_high == pytest.approx(math.sqrt(1 - 0.025 ** (1 / 30)))
    assert found.needed_high > 300
    assert f"takes up to {found.needed_high:,} examples" in str(found)


def test_constant_scores_are_planned_for_without_a_warning(recwarn):
    found = plan(np.ones((2, 30)), detect=0.1)
    assert found.needed_high == 2
    assert str(found) == "All scores of the pilot are the same, which tells nothing about their spread."
    assert not recwarn.list


@pytest.mark.parametrize("scale", [1e-120, 1e-6, 1e6])
def test_plans_do_not_depend_on_the_unit(scale):
    pilot = np.random.default_rng(2).normal(size=(3, 25))
    one, other = plan(pilot, detect=0.5), plan(pilot * scale, detect=0.5 * scale)
    assert (one.needed_low, one.needed, one.needed_high) == (other.needed_low, other.needed, other.needed_high)


def test_a_plan_says_in_words_whether_the_examples_are_enough():
    few, many = (str(plan(sd=0.2, detect=0.05, n_available=n)) for n in (50, 500))
    assert "takes 128 examples to detect a difference of 0.05 with 80% power and 95% confidence." in few
    assert "50 are available, which is too few" in few
    assert "500 are available, which is enough" in many


def test_most_pilots_hold_the_true_need():
    rng = np.random.default_rng(5)
    true = examples_needed(math.sqrt(2), 0.5)
    found = [plan(rng.normal(size=(2, 30)), detect=0.5) for _ in range(40)]
    assert np.mean([each.needed_low <= true <= each.needed_high for each in found]) >= 0.8


def test_planned_examples_reach_the_power():
    rng = np.random.default_rng(3)
    n = plan(sd=1.0, detect=0.4).needed
    found = stats.ttest_1samp(rng.normal(0.4, 1, size=(8000, n)), 0, axis=1).pvalue <= 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("models", [2, 5])
def test_the_interval_holds_the_true_need_in_nine_of_ten_pilots(models):
    rng = np.random.default_rng(4)
    true = examples_needed(math.sqrt(2), 0.5, comparisons=math.comb(models, 2))
    found = [plan(rng.normal(size=(models, 30)), detect=0.5) for _ in range(300)]
    assert np.mean([each.needed_low <= true <= each.needed_high for each in found]) >= 0.9


def repeated_pilot(between: float, within: float, n: int = 400, k: int = 2) -> np.ndarray:
    """Scores of two models whose differences vary by `between` between examples, and by `within` between repeats."""
    random = np.random.default_rng(0)
    scores = random.normal(scale=within / np.sqrt(2), size=(2, n, k))
    scores[0] += random.normal(scale=between, size=(n, 1))
    return scores


def test_examples_with_repeats_are_those_of_the_variance_that_they_leave():
    found = plan_repeats(repeated_pilot(0.1, 0.3), detect=0.05)
    assert (found.between, found.within) == pytest.approx((0.1, 0.3), rel=0.1)
    for option in found.options:
        sd = math.sqrt(found.between**2 + found.within**2 / option.repeats)
        assert option.examples == examples_needed(sd, 0.05)
        assert option.cost == option.examples * option.repeats


@pytest.mark.parametrize(("example_cost", "between"), [(0, 0.1), (4, 0.1), (20, 0.1), (50, 0.3), (2, 0.05)])
def test_the_cheapest_number_of_repeats_is_cochrans(example_cost, between):
    found = plan_repeats(repeated_pilot(between, 0.3), detect=0.01, example_cost=example_cost)
    best = math.sqrt(example_cost) * found.within / found.between
    assert abs(found.cheapest.repeats - min(10, max(1, best))) <= 1
    assert found.spend_on == ("repeats" if found.cheapest.repeats > 2 else "examples")


def test_repeats_help_where_examples_run_out():
    pilot = repeated_pilot(0.1, 0.3)
    once, _, thrice, *_ = plan_repeats(pilot, detect=0.05).options
    some = plan_repeats(pilot, detect=0.05, n_available=thrice.examples)
    assert once.examples > thrice.examples
    assert (some.cheapest, some.spend_on) == (thrice, "repeats")
    assert "Spend on repeats" in str(some)
    none = plan_repeats(pilot, detect=0.05, n_available=20)
    assert (none.cheapest, none.spend_on) == (None, "examples")
    assert "20 are too few, whatever the repeats" in str(none)


def test_a_plan_from_a_pilot_with_repeats_is_about_their_means_and_says_what_to_spend_on():
    pilot = repeated_pilot(0.1, 0.3, n=40)
    pilot[0, 3, 1] = np.nan
    found = plan(pilot, detect=0.05, n_available=500, example_cost=9)
    assert found.repeats == plan_repeats(pilot, detect=0.05, n_available=500, example_cost=9)
    assert found.needed == plan(np.nanmean(pilot, axis=2), detect=0.05).needed
    assert str(found).endswith(str(found.repeats))
    assert plan(pilot[:, :, 0], detect=0.05).repeats is None


def test_repeats_that_never_differ_are_told_and_bad_pilots_refused():
    assert "tells nothing about repeats" in str(plan_repeats(np.ones((2, 5, 2)), detect=0.1))
    for pilot in (np.ones((2, 5)), np.ones((1, 5, 2)), np.ones((2, 5, 1))):
        with pytest.raises(InvalidInputError, match="no spread between repeats"):
            plan_repeats(pilot, detect=0.1)
    once = np.ones((2, 5, 2))
    once[1, :, 1] = np.nan
    with pytest.raises(InvalidInputError, match="no example with two repeats"):
        plan_repeats(once, detect=0.1)
    with pytest.raises(InvalidInputError, match="example_cost"):
        plan_repeats(np.ones((2, 5, 2)), detect=0.1, example_cost=-1)
