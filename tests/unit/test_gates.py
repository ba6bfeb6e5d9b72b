"""The gate: decisions about means, shares and quantiles, and the gate of a comparison with its views."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint
from test_decisions import N, make

from lumigator_nb import statistics
from lumigator_nb.display import render
from lumigator_nb.errors import InvalidInputError


@pytest.fixture(scope="module")
def comparison():
    return make()


def drawn(values: np.ndarray) -> np.ndarray:
    return statistics.resampled_scores(values[None, :])[0]


@pytest.mark.parametrize(("successes", "n"), [(0, 30), (1, 30), (29, 30), (30, 30), (150, 200)])
def test_bounds_of_a_share_are_those_of_clopper_and_pearson(successes, n) -> None:
    decision = statistics.decide_share(successes, n, limit=0.5, confidence=0.95)
    low, high = proportion_confint(successes, n, alpha=0.1, method="beta")  # two tails of 5%
    assert (decision.low, decision.high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("n", "limit"), [(50, 0.9), (300, 0.99), (1000, 0.95)])
def test_a_share_at_its_limit_passes_in_at_most_five_percent(n, limit) -> None:
    passing = [
        successes for successes in range(n + 1) if statistics.decide_share(successes, n, limit=limit).low >= limit
    ]
    assert 0.02 < binom.pmf(passing, n, limit).sum() <= 0.05


def test_a_share_at_most_mirrors_the_share_at_least() -> None:
    most = statistics.decide_share(2, 300, limit=0.05, at_least=False)
    least = statistics.decide_share(298, 300, limit=0.95)
    assert (most.outcome, most.further) == (least.outcome, least.further) == ("passed", 0)
    assert (most.low, most.high) == pytest.approx((1 - least.high, 1 - least.low))
    assert statistics.decide_share(60, 300, limit=0.05, at_least=False).outcome == "failed"


def test_further_examples_of_a_share_reach_the_power() -> None:
    decision = statistics.decide_share(294, 300, limit=0.97)
    assert decision.outcome == "undecided"
    n = 300 + decision.further
    critical = next(k for k in range(n) if statistics.decide_share(k, n, limit=0.97).low >= 0.97)
    assert binom.sf(critical - 1, n, 0.98) == pytest.approx(0.8, abs=0.03)
    assert statistics.decide_share(99, 100, limit=0.99).further is None  # at the limit, nothing decides
    assert statistics.decide_share(300, 300, limit=1.0).outcome == "undecided"
    assert statistics.decide_share(299, 300, limit=1.0).outcome == "failed"


def test_further_examples_of_a_mean_are_those_of_the_noncentral_t() -> None:
    values = np.random.default_rng(1).normal(0, 1, 100)
    values += 0.02 - values.mean()
    decision = statistics.decide_mean(0.02, drawn(values), limit=-0.1, n=100)
    assert decision.outcome == "undecided"
    sd = float(np.std(drawn(values)) * 100 / np.sqrt(99))
    needed = statistics.examples_needed(sd, 0.12, confidence=0.9)  # two-sided, with the tail of a one-sided 95%
    assert 100 + decision.further == pytest.approx(needed, rel=0.03)


def test_further_examples_allow_for_skewness() -> None:
    rare = np.zeros(200)
    rare[:6] = -1.0  # 3% fail, badly
    decision = statistics.decide_mean(-0.03, drawn(rare), limit=-0.05, n=200)
    sd = float(np.std(rare, ddof=1))
    normal = statistics.examples_needed(sd, 0.02, confidence=0.9)
    assert 200 + decision.further > 1.05 * normal


def test_models_that_never_differ_take_enough_examples_without_a_difference() -> None:
    same = np.zeros(2000)
    decision = statistics.decide_mean(0.0, same, limit=-0.02, n=100, span=1)
    assert (decision.outcome, decision.further) == ("undecided", 49)
    assert statistics.decide_mean(0.0, same, limit=-0.02, n=149, span=1).outcome == "passed"
    assert statistics.decide_mean(0.0, same, limit=-0.02, n=10).outcome == "passed"  # nothing is unseen


def test_more_rules_make_failing_harder_but_not_passing() -> None:
    values = np.random.default_rng(0).normal(0, 1, 200)
    alone, together = (statistics.decide_mean(values.mean(), drawn(values), limit=0, n=200, tests=k) for k in (1, 5))
    assert alone.low == together.low
    assert alone.high < together.high


def test_the_95_percent_quantile_is_decided_by_the_share_within_the_limit() -> None:
    seconds = np.random.default_rng(0).gamma(4, 0.2, size=400)
    for limit in np.linspace(1.2, 1.8, 25):
        decision = statistics.decide_quantile(seconds, 0.95, limit=limit)
        share = statistics.decide_share(int((seconds <= limit).sum()), 400, limit=0.95)
        assert decision.outcome == share.outcome
        assert (decision.outcome == "passed") == (decision.high <= limit)
    assert statistics.decide_quantile(seconds[:58], 0.95, limit=1e9).outcome == "undecided"
    assert statistics.decide_quantile(seconds[:59], 0.95, limit=1e9).outcome == "passed"
    slow = statistics.decide_quantile(seconds, 0.05, limit=0.1, at_least=True)
    assert slow.outcome == "passed"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.decide_share(5, 4, limit=0.5), "5 successes of 4"),
        (lambda: statistics.decide_share(5, 9, limit=99), "cannot be 99"),
        (lambda: statistics.decide_share(5, 9, limit=0.5, confidence=0.4), "confidence cannot be 0.4"),
        (lambda: statistics.decide_mean(0, np.zeros(9), limit=0, n=9, tests=0), "0 tests"),
        (lambda: statistics.decide_quantile([1.0, 2.0], 95, limit=1), "quantile cannot be 95"),
        (lambda: statistics.decide_quantile([1.0, float("nan")], 0.5, limit=1), "missing"),
    ],
)
def test_bad_settings_of_a_decision_are_refused(call, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_a_gate_passes_fails_or_is_undecided(comparison) -> None:
    limits = {"at_most": {"dollars_per_1000": 0.5, "seconds_p95": 1}, "at_least": {"answered": 0.98}}
    passed = comparison.gate("twin", "large", margin=0.02, **limits)
    assert (passed.outcome, passed.passed, passed.further) == ("passed", True, 0)
    failed = comparison.gate("slow", "large", margin=0.02, **limits)
    assert failed.outcome == "failed"
    assert [rule.outcome for rule in failed.rules] == ["failed", "passed", "failed", "failed"]
    undecided = comparison.gate("twin", "large", margin=0.02, at_least={"answered": 0.995})
    assert undecided.outcome == "undecided"
    assert undecided.further == 598 - N  # log(0.05) / log(0.995)
    assert undecided.to_pandas()["further"].tolist() == [0, 598 - N]


def test_a_margin_of_nothing_asks_for_a_better_model(comparison) -> None:
    assert comparison.gate("twin", "slow", margin=0).passed
    assert comparison.gate("slow", "twin", margin=0).outcome == "failed"
    assert comparison.gate("twin", "large", margin=0).outcome == "undecided"


def test_several_scores_have_margins_of_their_own(comparison) -> None:
    gate = comparison.gate("small", "large", margin={"rougeL": 0.2, "rouge1": 0.001})
    assert [rule.outcome for rule in gate.rules] == ["passed", "failed"]


def test_a_limit_of_a_score_takes_an_interval(comparison) -> None:
    mean = float(comparison.values("rougeL")["twin"].mean())
    gate = comparison.gate("twin", at_least={"rougeL": mean - 0.001})
    assert gate.outcome == "undecided"  # a bare number would pass
    assert comparison.gate("twin", at_least={"rougeL": mean - 0.05}).passed
    assert comparison.gate("twin", at_least={"rougeL": mean + 0.05}).outcome == "failed"


def test_right_or_wrong_scores_have_exact_bounds() -> None:
    right = np.ones(N)
    scores = {model: right.copy() for model in ("small", "twin", "large", "slow")}
    scores["twin"][:2] = 0
    gate = make(scores=scores).gate("twin", at_least={"rougeL": 0.97})
    (rule,) = gate.rules
    exact = statistics.decide_share(N - 2, N, limit=0.97)
    assert (rule.decision.low, rule.outcome) == (exact.low, exact.outcome)


def test_groups_are_the_units_of_every_rule() -> None:
    limits = {"at_most": {"seconds_p95": 1, "dollars_per_1000": 0.5}, "at_least": {"answered": 0.9}}
    gate = make(groups="customer").gate("twin", "large", margin=0.02, **limits)
    assert {rule.decision.n for rule in gate.rules} == {50}
    assert "groups" in " ".join(gate.notes)
    by_name = {rule.name: rule.outcome for rule in gate.rules}
    # 50 groups without a slow answer: 95% could still be missed.
    assert by_name == {
        "rougeL": "passed", "answered": "passed", "seconds_p95": "undecided", "dollars_per_1000": "passed"
    }  # fmt: skip


def test_views_of_a_gate_say_the_same(comparison) -> None:
    gate = comparison.gate("slow", "large", at_most={"dollars_per_1000": 0.5})
    for view in (str(gate), render.as_markdown(gate), render.as_html(gate)):
        assert "Failed: slow is shown to break 2 of 2 rules" in view
        assert "✗ failed" in view
        assert "cost of 1,000 answers" in view
    unclear = comparison.gate("twin", at_least={"answered": 0.995})
    assert "about 298 further examples" in str(unclear).replace("\n", " ")
    assert "rougeL" not in str(unclear)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidate": "twim", "baseline": "large"}, "did you mean 'twin'"),
        ({"candidate": "twin", "baseline": "twin"}, "with itself"),
        ({"candidate": "twin"}, "no rule"),
        ({"candidate": "twin", "at_most": {"dolars_per_1000": 1}}, "did you mean 'dollars_per_1000'"),
        ({"candidate": "twin", "at_most": {"seconds_p00": 1}}, "nothing called 'seconds_p00'"),
        ({"candidate": "twin", "at_least": {"rougeL": 99}}, "between 0 and 1"),
        ({"candidate": "twin", "at_least": {"answered": 99}}, "is a share"),
        ({"candidate": "twin", "baseline": "large", "margin": -0.1}, "margin cannot be -0.1"),
        ({"candidate": "twin", "baseline": "large", "score": "words"}, "only describes"),
        ({"candidate": "twin", "baseline": "large", "margin": {"rougel": 1}}, "did you mean 'rougeL'"),
        ({"candidate": "twin", "baseline": "large", "confidence": 0.3}, "confidence cannot be 0.3"),
    ],
)
def test_mistakes_in_a_gate_are_refused(comparison, arguments, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        comparison.gate(**arguments)


def test_costs_and_latencies_that_are_unknown_are_an_error_and_not_a_verdict() -> None:
    comparison = make(baselines=["large"])
    assert comparison.gate("large", at_most={"dollars_per_1000": 0.1}).passed  # a baseline costs nothing
    for frame in (comparison._predictions["twin"],):
        frame["cost"] = None
    with pytest.raises(InvalidInputError, match="no answer of the candidate has a price"):
        comparison.gate("twin", at_most={"dollars_per_1000": 0.1})
