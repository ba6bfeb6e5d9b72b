"""What a race says of itself: what it showed while it went on, what one test at the end did, and what neither did."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from lumigator_nb import metrics
from lumigator_nb.services.adaptive.race import Selection, certificate


def selection(
    conclusion: str,
    remaining: tuple[str, ...],
    by_last_test: tuple[str, ...],
    ended_by: str,
    *,
    population: str = "larger",
    beyond: bool | None = None,
) -> Selection:
    known = {"examples": 40, "mean": 0.5, "low": 0.4, "high": 0.6, "dollars": None}
    difference = {"difference": -0.1, "difference_low": -0.21, "difference_high": 0.01}
    rows = [
        {"model": label, "state": "left" if label in remaining else "dropped", **known, **difference, "beaten_by": None}
        for label in ("A", "B", "C")
    ]
    return Selection(
        experiment="tickets", info=metrics.info("rougeL"), population=population, beyond=beyond,
        conclusion=conclusion, best="A", remaining=remaining,
        confidence=0.95, indifference=0.0, n_examples=40, n_seen=40, answers=120, answers_saved=0, dollars=None,
        dollars_now=0.0, dollars_saved=None, ended_by=ended_by, failed={}, by_last_test=by_last_test, seed=0,
        _summary=pd.DataFrame(rows), _rows=pd.DataFrame(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (
            ("best", ("A",), ("B",), "decided"),
            "the race could not show that B is worse; one test after all 40 examples",
        ),
        (("best", ("A",), ("B", "C"), "decided"), "the race could not show that B and C are worse; one test"),
        (("undecided", ("A", "B"), ("C",), "examples"), "the race could not show that C is worse; one test"),
        (("undecided", ("A", "B"), (), "examples"), "Neither the race nor one test after it"),
    ],
)
def test_a_race_says_what_it_could_not_show_and_what_the_last_test_did(ended, said) -> None:
    assert said in certificate(selection(*ended))


@pytest.mark.parametrize("ended", [("best", ("A",), (), "decided"), ("undecided", ("A", "B"), (), "budget")])
def test_a_race_without_a_last_test_says_nothing_of_one(ended) -> None:
    found = selection(*ended)
    assert "one test" not in certificate(found) + found._repr_html_()
    assert "The test after all examples" not in found._repr_html_()


def test_an_interval_that_holds_zero_beside_a_dropped_model_is_explained() -> None:
    assert (
        "whose interval of the difference still holds 0" in selection("best", ("A",), ("B",), "decided")._repr_html_()
    )


def test_a_conclusion_on_a_sample_is_about_examples_like_these() -> None:
    found = selection("best", ("A",), (), "decided")
    assert certificate(found).startswith("On examples like these, A is the best of 3 models on rougeL (at most 5%")
    assert "sequences of the means on examples like these" in found._repr_html_()


@pytest.mark.parametrize(
    ("beyond", "said"),
    [
        (True, "The same answers show it for examples like these, too."),
        (False, "The same answers do not show it for examples like these; a race with"),
    ],
)
def test_a_conclusion_on_a_dataset_says_so_and_whether_it_holds_beyond(beyond, said) -> None:
    found = replace(selection("best", ("A",), (), "decided", population="dataset", beyond=beyond), answers_saved=9)
    assert certificate(found).startswith("On these 40 examples, A is the best of 3 models on rougeL (at most 5%")
    assert said in certificate(found)
    assert said in str(found)
    assert "sequences of the means on these examples" in found._repr_html_()
    assert "is the best of 3 models on rougeL (all were asked)" in certificate(replace(found, answers_saved=0))


def test_models_that_score_the_same_on_a_dataset_are_equivalent_and_say_so() -> None:
    found = selection("equivalent", ("A", "B"), (), "decided", population="dataset", beyond=False)
    assert "A and B score the same on rougeL: they are equivalent; 1 other model is worse" in certificate(found)


def test_a_race_on_a_dataset_that_all_answers_leave_open_says_why() -> None:
    found = certificate(selection("undecided", ("A", "B"), (), "examples", population="dataset"))
    assert "no example with scores of both" in found
    assert "one test" not in found
