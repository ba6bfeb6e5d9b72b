"""What a race says of itself: what it showed while it went on, what one test at the end did, and what neither did."""

from __future__ import annotations

import pandas as pd
import pytest

from lumigator_nb import metrics
from lumigator_nb.services.adaptive.race import Selection, certificate


def selection(conclusion: str, remaining: tuple[str, ...], by_last_test: tuple[str, ...], ended_by: str) -> Selection:
    known = {"examples": 40, "mean": 0.5, "low": 0.4, "high": 0.6, "dollars": None}
    difference = {"difference": -0.1, "difference_low": -0.21, "difference_high": 0.01}
    rows = [
        {"model": label, "state": "left" if label in remaining else "dropped", **known, **difference, "beaten_by": None}
        for label in ("A", "B", "C")
    ]
    return Selection(
        experiment="tickets", info=metrics.info("rougeL"), conclusion=conclusion, best="A", remaining=remaining,
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
