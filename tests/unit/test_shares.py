"""Scores that are right or wrong, or nearly always the same: what is not seen in 50 examples may still be there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

import lumigator_nb as lm
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.loading import data_of
from lumigator_nb.services.comparison.markdown import as_markdown
from lumigator_nb.specs import MetricSpec, Model, Status, Summarization
from lumigator_nb.statistics import bootstrap_interval, intervals, pseudo_values, resampled_scores

N = 50


def of(right: int, n: int = N, **options):
    return bootstrap_interval(np.arange(n) < right, n_resamples=100, **options)


def compared(metric: str, scores: dict[str, np.ndarray]) -> Comparison:
    n = len(next(iter(scores.values())))
    examples = pd.DataFrame({"example": [f"Case {row}" for row in range(n)], "ground_truth": "Short."})
    workflows = [
        Workflow(experiment_id="e", label=label, fingerprint=label, model=Model("baseline/lead-1", label=label),
                 status=Status.SUCCEEDED)
        for label in scores
    ]  # fmt: skip
    predictions = {label: pd.DataFrame({"row": range(n), "prediction": label, "seconds": 1.0}) for label in scores}
    frames = {label: pd.DataFrame({"row": range(n), metric: values}) for label, values in scores.items()}
    profile = {"has_ground_truth": True, "preview": [], "metadata": []}
    dataset = Dataset(
        name="cases", filename="cases.csv", content_hash="ab", size_bytes=1, n_examples=n,
        columns={"example": "example", "ground_truth": "ground_truth"}, profile=profile, notes=[],
    )  # fmt: skip
    experiment = Experiment(name="e", dataset_id="d", task=Summarization(), metrics=(MetricSpec(name=metric),))
    return Comparison(data_of(experiment, dataset, examples, workflows, [], predictions, frames))


def test_all_right_leaves_open_what_fifty_examples_do_not_show() -> None:
    found = of(N)
    assert (found.estimate, found.high) == (1, 1)
    assert found.low == pytest.approx(proportion_confint(N, N, method="wilson")[0])
    assert (of(0).low, of(0).high) == (0, pytest.approx(1 - found.low))


@pytest.mark.parametrize("right", [5, 20, 25, 40, 46])
def test_between_the_ends_shares_have_wilsons_interval(right) -> None:
    found = of(right)
    assert (found.low, found.high) == pytest.approx(proportion_confint(right, N, method="wilson"))
    assert of(right, confidence=0.8).low > found.low


@pytest.mark.parametrize("n", [20, 50, 200])
def test_shares_are_covered_wherever_they_are(n) -> None:
    right = np.arange(n + 1)
    found = [of(each, n) for each in right]
    lows, highs = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    shares = np.arange(1, 2000) / 2000
    covered = (binom.pmf(right, n, shares[:, None]) * ((lows <= shares[:, None]) & (shares[:, None] <= highs))).sum(1)
    wilson = np.array([proportion_confint(each, n, method="wilson") for each in right])
    inside = (wilson[:, 0] <= shares[:, None]) & (shares[:, None] <= wilson[:, 1])
    assert covered.min() > 0.91 > (binom.pmf(right, n, shares[:, None]) * inside).sum(1).min()
    assert 0.945 < covered.mean() < 0.96


def test_an_interval_holds_the_share_and_one_example_has_none() -> None:
    for n in (2, 3, 50, 100):
        for right in range(n + 1):
            found = of(right, n)
            assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert np.isnan(of(1, 1).low)


def test_percentiles_are_asked_for_by_name() -> None:
    assert (of(N, method="percentile").low, of(N, method="percentile").high) == (1, 1)


def test_what_is_right_or_wrong_on_another_scale_is_a_share_of_it() -> None:
    percent = bootstrap_interval(100.0 * (np.arange(N) < 49), bounds=(0, 100))
    assert (percent.low, percent.high) == pytest.approx((100 * of(49).low, 100 * of(49).high))
    # Distances are 0 or more: 50 zeros do not say that one in fifty may be 1.
    assert bootstrap_interval(np.zeros(N), bounds=(0, np.inf)).high == 0


def test_scores_that_are_all_the_same_may_lie_elsewhere_in_their_range() -> None:
    found = bootstrap_interval(np.full(N, 4.0), bounds=(1, 5))
    unseen = 1 - of(N).low
    assert (found.low, found.high) == pytest.approx((4 - 3 * unseen, 4 + unseen))
    nowhere = bootstrap_interval(np.full(N, 4.0))
    assert nowhere.low == nowhere.high == 4


def test_differences_of_models_that_answer_alike_stay_a_point() -> None:
    same = lm.statistics.paired_difference(np.ones(N), np.ones(N))
    assert (same.low, same.high, same.p_value) == (0, 0, 1)


def test_examples_of_one_group_are_not_so_many() -> None:
    right = np.repeat(np.random.default_rng(0).random(30) < 0.8, 4)
    groups = np.repeat(np.arange(30), 4)
    grouped = bootstrap_interval(right, groups=groups)
    by_group = bootstrap_interval(right[::4])
    assert grouped.estimate == by_group.estimate
    assert grouped.high - grouped.low == pytest.approx(by_group.high - by_group.low, rel=0.06)
    assert grouped.high - grouped.low > 1.5 * (lambda one: one.high - one.low)(bootstrap_interval(right))
    all_right = bootstrap_interval(np.ones(120), groups=groups)
    assert all_right.low == pytest.approx(bootstrap_interval(np.ones(30)).low)
    alone = bootstrap_interval(right, groups=np.arange(120))
    assert alone == bootstrap_interval(right)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_shares_in_groups_are_covered(share) -> None:
    generator, groups, hits = np.random.default_rng(1), np.repeat(np.arange(40), 5), 0
    for _ in range(1500):
        chance = generator.beta(3 * share, 3 * (1 - share), size=40)
        right = generator.random(200) < np.repeat(chance, 5)
        found = bootstrap_interval(right, groups=groups, n_resamples=50)
        hits += found.low <= share <= found.high
    assert 0.93 <= hits / 1500 <= 0.98


def test_many_scores_at_once_are_as_each_alone() -> None:
    table = np.stack([np.arange(N) < right for right in (50, 49, 30)]).astype(float)
    together = intervals(table.mean(axis=1), resampled_scores(table), pseudo_values(table))
    assert together == [bootstrap_interval(row) for row in table]


def test_tables_and_reports_do_not_say_that_all_right_is_certain() -> None:
    comparison = compared("exact_match", {"sure": np.ones(N), "good": (np.arange(N) < 45).astype(float)})
    rows = comparison.summary().set_index("model")
    assert (rows.loc["sure", "low"], rows.loc["sure", "high"]) == (pytest.approx(of(N).low), 1)
    assert (rows.loc["good", "low"], rows.loc["good", "high"]) == pytest.approx((of(45).low, of(45).high))
    assert "0.929, 1.000" in as_markdown(comparison)
    assert "0.929, 1.000" in comparison._repr_html_()
    assert "nearly all examples" not in as_markdown(comparison), "intervals of shares allow for it"


def test_scores_that_are_nearly_always_the_same_say_so() -> None:
    random = np.random.default_rng(0)
    scores = {"copy": np.where(np.arange(N) < 48, 1.0, [0.3]), "other": random.beta(4, 4, N)}
    scores["copy"][49] = 0.6
    said = as_markdown(compared("rougeL", scores))
    assert "On rougeL nearly all examples score the same for copy (48 of 50)" in said
    assert "other (" not in said
