from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from krippendorff import alpha

from lumigator_nb.database.queries import reading
from lumigator_nb.errors import InvalidInputError, NotFoundError

N = 20
COPY, FIRST, SECOND = "baseline/copy", "baseline/lead-1", "baseline/lead-2"
# Two sentences are all of every example but the last, so that "lead-2" and "copy" differ only there.
FRAME = pd.DataFrame(
    {
        "example": [f"Ann waits at stop {n}. Bob walks." for n in range(N - 1)] + ["It rains. It pours. It stops."],
        "ground_truth": [f"Reference {n}." for n in range(N - 1)] + [None],
    }
)


@pytest.fixture
def ws(inline_ws):
    dataset = inline_ws.datasets.upload(FRAME, name="d")
    experiment = inline_ws.experiments.create("e", dataset=dataset, metrics=["length"])
    inline_ws.workflows.launch(experiment, [COPY, FIRST])
    inline_ws.wait(experiment, progress=False)
    return inline_ws


def texts(row: int) -> dict[str, str]:
    example = FRAME["example"][row]
    return {COPY: example, FIRST: example.split(". ")[0] + "."}


def side_of(item, model: str) -> str:
    """What stands on which side is told by the texts alone."""
    (side,) = (name for name, text in item.answers.items() if text == texts(item.row)[model])
    return side


def label_all(session, choose) -> list:
    items = []
    while item := session.current:
        items.append(item)
        session.answer(choose(item))
    return items


def prefer(model: str):
    return lambda item: side_of(item, model)


def test_preferences_are_stored_at_once_under_the_models_names(ws) -> None:
    session = ws.labels.compare("e", rater=" ana ")
    item = session.current
    session.answer(side_of(item, FIRST), comment="  shorter\0 ")
    (stored,) = ws.labels.preferences("e").to_dict("records")
    assert (stored["row"], stored["rater"], stored["model"], stored["other"]) == (item.row, "ana", COPY, FIRST)
    assert (stored["preference"], stored["comment"]) == (-1, "shorter")
    assert 0 <= stored["seconds"] < 10
    assert stored["created_at"].tzinfo is not None


def test_a_whole_session_reveals_who_won(ws) -> None:
    session = ws.labels.compare("e", rater="ana")
    with pytest.raises(InvalidInputError, match="revealed at the end; 0 of 20"):
        session.summary()
    items = label_all(session, prefer(FIRST))
    assert [item.number for item in items] == list(range(1, N + 1))
    assert {item.total for item in items} == {N}
    assert sorted(item.row for item in items) == list(range(N))
    assert (session.done, session.progress, session.current) == (True, (N, N), None)
    (row,) = session.summary().to_dict("records")
    assert row == {"model": COPY, "other": FIRST, "wins": 0, "ties": 0, "losses": N, "n": N, "identical": 0}
    with pytest.raises(InvalidInputError, match="nothing is left"):
        session.answer("A")


def test_an_item_shows_texts_and_no_model(ws) -> None:
    session = ws.labels.compare("e", rater="ana")
    for item in label_all(session, lambda _: "tie"):
        assert item.example == FRAME["example"][item.row]
        assert item.ground_truth == (None if item.row == N - 1 else FRAME["ground_truth"][item.row])
        assert sorted(item.answers.values()) == sorted(texts(item.row).values())
        assert list(item.answers) == ["A", "B"]
        for shown in (repr(item), repr(session)):
            assert "baseline" not in shown
            assert "lead" not in shown


@pytest.mark.parametrize("rater", ["ana", "ben", "çelik"])
def test_models_stand_on_both_sides_equally_often(ws, rater) -> None:
    items = label_all(ws.labels.compare("e", rater=rater), lambda _: "tie")
    sides = [side_of(item, COPY) for item in items]
    assert sides.count("A") == sides.count("B") == N // 2
    assert sides != sorted(sides)


def test_sides_and_order_hang_on_seed_and_rater_only(ws) -> None:
    def seen(rater: str, seed: int) -> list[tuple[int, str]]:
        found = []
        session = ws.labels.compare("e", rater=rater, seed=seed)
        while item := session.current:
            found.append((item.row, side_of(item, COPY)))
            session.skip()
        return found

    assert seen("ana", 0) == seen("ana", 0)
    for other in (seen("ben", 0), seen("ana", 1)):
        assert [row for row, _ in other] != [row for row, _ in seen("ana", 0)]
        assert dict(other) != dict(seen("ana", 0))


def test_a_new_session_goes_on_and_raters_are_kept_apart(ws) -> None:
    session = ws.labels.compare("e", rater="ana")
    seen = []
    for _ in range(7):
        seen.append(session.current.row)
        session.answer("A")
    again = ws.labels.compare("e", rater="ana")
    assert again.progress == (7, N)
    assert again.current.number == 8
    rest = [item.row for item in label_all(again, prefer(COPY))]
    assert sorted(seen + rest) == list(range(N))
    assert again.summary()["n"].tolist() == [N]
    assert ws.labels.compare("e", rater="ana").done
    assert ws.labels.compare("e", rater="Ana").progress == (0, N)
    assert ws.labels.compare("e", rater="ana", criterion="brevity").progress == (0, N)


def test_going_back_replaces_and_skipping_comes_again_later(ws) -> None:
    session = ws.labels.compare("e", rater="ana")
    session.back()
    first = session.current
    assert first.given is None
    session.answer(side_of(first, COPY), comment="clear")
    second = session.current
    session.skip()
    session.back()
    assert session.current == second
    session.back()
    again = session.current
    assert (again.row, again.answers, again.given, again.comment) == (
        first.row, first.answers, side_of(first, COPY), "clear",
    )  # fmt: skip
    session.answer(side_of(first, FIRST))
    (stored,) = ws.labels.preferences("e").to_dict("records")
    assert (stored["row"], stored["preference"]) == (first.row, -1)
    assert pd.isna(stored["comment"])
    assert session.progress == (1, N)
    while not session.done:
        session.skip()
    session.skip()
    assert session.summary()["n"].tolist() == [1]
    assert ws.labels.compare("e", rater="ana").progress == (1, N)


@pytest.mark.parametrize("given", ["C", "", "baseline/copy", 1, None, float("nan")])
def test_no_other_answer_is_taken(ws, given) -> None:
    session = ws.labels.compare("e", rater="ana")
    with pytest.raises(InvalidInputError, match="is not a valid answer"):
        session.answer(given)
    assert session.progress == (0, N)
    assert ws.labels.preferences("e").empty


def test_answers_that_read_the_same_are_counted_and_not_asked_about(ws) -> None:
    ws.workflows.launch("e", [SECOND])
    session = ws.labels.compare("e", rater="ana", models=[SECOND, COPY])
    assert session.identical == N - 1
    (item,) = label_all(session, lambda _: "B")
    assert item.row == N - 1
    assert session.summary()[["n", "identical"]].values.tolist() == [[1, N - 1]]
    everything = ws.labels.compare("e", rater="ben")
    assert everything.progress == (0, 2 * N + 1)
    assert everything.identical == N - 1


def test_samples_are_shared_and_grow_and_what_is_ordered_comes_first(ws) -> None:
    def rows(rater: str, **options) -> list[int]:
        session, found = ws.labels.compare("e", rater=rater, **options), []
        while item := session.current:
            found.append(item.row)
            session.skip()
        return found

    ana, ben = rows("ana", sample=6), rows("ben", sample=6)
    assert set(ana) == set(ben)
    assert ana != ben
    assert set(ana) < set(rows("ana", sample=9))
    assert rows("ana", order=[13, 2, 13, 7])[:3] == [13, 2, 7]
    assert sorted(rows("ana", order=np.array([13, 2]))) == list(range(N))
    assert rows("ana", order=[13, 2, 7], sample=2) == [13, 2]
    assert len(rows("ana", order=[19], sample=4)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 0}, "sample cannot be 0"),
        ({"sample": True}, "sample cannot be True"),
        ({"order": [3, N]}, f"order names row {N}"),
        ({"order": [-1]}, "order names row -1"),
        ({"seed": -1}, "seed cannot be -1"),
        ({"models": [COPY]}, "needs two models that succeeded, but has 1"),
        ({"models": [COPY, "baseline/lead-11"]}, "'baseline/lead-11'"),
        ({"rater": " "}, "cannot be a name"),
        ({"criterion": ""}, "cannot be a name"),
    ],
)
def test_options_out_of_range_are_refused(ws, options, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ws.labels.compare("e", **{"rater": "ana", **options})


def test_too_few_models_are_refused(inline_ws) -> None:
    dataset = inline_ws.datasets.upload(FRAME, name="d")
    experiment = inline_ws.experiments.create("e", dataset=dataset, metrics=["length"])
    with pytest.raises(InvalidInputError, match="but has 0: none was launched"):
        inline_ws.labels.compare(experiment, rater="ana")
    inline_ws.workflows.launch(experiment, [COPY])
    with pytest.raises(InvalidInputError, match="two models that succeeded, but has 1: baseline/copy succeeded"):
        inline_ws.labels.compare(experiment, rater="ana")
    assert inline_ws.labels.rate(experiment, rater="ana").progress == (0, N)
    with pytest.raises(NotFoundError, match="no experiment 'f'"):
        inline_ws.labels.compare("f", rater="ana")


def test_ratings_are_blind_and_on_one_scale(ws) -> None:
    session = ws.labels.rate("e", rater="ana", scale=(0, 10))
    items = label_all(session, lambda item: 7.5 if item.answers["Answer"] == texts(item.row)[FIRST] else 2)
    assert len(items) == 2 * N
    assert all(list(item.answers) == ["Answer"] and "lead" not in repr(item) for item in items)
    assert session.summary().to_dict("records") == [
        {"model": COPY, "mean": 2, "n": N}, {"model": FIRST, "mean": 7.5, "n": N},
    ]  # fmt: skip
    table = ws.labels.ratings("e")
    assert table["rating"].mean() == (2 + 7.5) / 2
    for act in (
        lambda: ws.labels.rate("e", rater="ben"),
        lambda: ws.labels.add("e", [{"row": 0, "model": COPY, "rating": 3}], rater="ben"),
    ):
        with pytest.raises(InvalidInputError, match="ratings on a scale from 0 to 10 already"):
            act()
    assert ws.labels.rate("e", rater="ben", criterion="brevity").progress == (0, 2 * N)


@pytest.mark.parametrize("given", [0, 6, "3", True, float("nan"), None])
def test_a_rating_off_the_scale_is_refused(ws, given) -> None:
    with pytest.raises(InvalidInputError, match="is not a valid answer"):
        ws.labels.rate("e", rater="ana").answer(given)
    assert ws.labels.ratings("e").empty


@pytest.mark.parametrize("scale", [(5, 1), (1, 1), (1,), "15", (1, float("inf")), (True, 5), None])
def test_what_is_no_scale_is_refused(ws, scale) -> None:
    with pytest.raises(InvalidInputError, match="is not a scale"):
        ws.labels.rate("e", rater="ana", scale=scale)


def labels(**changes) -> pd.DataFrame:
    """Labels from elsewhere; the second row is changed."""
    rows = [
        {"row": 0, "model": COPY, "other": FIRST, "preference": 1, "comment": "clear"},
        {"row": 1, "model": FIRST, "other": COPY, "preference": 1, "comment": float("nan"), **changes},
        {"row": 2, "model": COPY, "other": FIRST, "preference": 0, "comment": None},
    ]
    return pd.DataFrame(rows)


def test_labels_from_elsewhere_join_turned_into_one_order(ws) -> None:
    assert ws.labels.add("e", labels(), rater="ana") == 3
    table = ws.labels.preferences("e")
    assert set(zip(table["model"], table["other"], strict=True)) == {(COPY, FIRST)}
    assert table["preference"].tolist() == [1, -1, 0]
    assert table["comment"].isna().tolist() == [False, True, True]
    # The same pair the other way round is the same label.
    ws.labels.add("e", [{"row": 0, "model": FIRST, "other": COPY, "preference": 1}], rater="ana")
    assert ws.labels.preferences("e")["preference"].tolist() == [-1, -1, 0]
    assert ws.labels.compare("e", rater="ana").progress == (3, N)


def test_a_table_that_was_read_can_be_added_again(ws) -> None:
    ws.labels.add("e", labels(), rater="ana")
    ws.labels.add("e", labels(preference=0), rater="ben")
    before = ws.labels.preferences("e")
    assert ws.labels.add("e", before) == 6
    pd.testing.assert_frame_equal(
        ws.labels.preferences("e").drop(columns="created_at"), before.drop(columns="created_at")
    )


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"preference": 2}, "row 1 .from 0., column 'preference': 2", "1: the model is better"),
        ({"preference": "1"}, "column 'preference': '1'", ""),
        ({"preference": float("nan")}, "column 'preference': nan", ""),
        ({"preference": True}, "column 'preference': True", ""),
        ({"row": N}, "column 'row'", "rows 0 to 19"),
        ({"row": -1}, "column 'row'", ""),
        ({"row": 0.5}, "column 'row'", ""),
        ({"row": None}, "column 'row'", ""),
        ({"model": "baseline/lead-11"}, "column 'model': 'baseline/lead-11'", "did you mean 'baseline/lead-1'"),
        ({"other": 7}, "column 'other': 7", COPY),
        ({"other": FIRST}, "column 'other': 'baseline/lead-1' is compared with itself", ""),
        ({"seconds": -1}, "column 'seconds'", ""),
        ({"row": 0}, "rows 0 and 1 .from 0. label the same, by 'ana'", ""),
    ],
)
def test_one_malformed_label_stores_none(ws, changes, message, hint) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        ws.labels.add("e", labels(**changes).astype(object), rater="ana")
    assert hint in (caught.value.hint or "")
    assert ws.labels.preferences("e").empty


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {"rater": "ana"}, "no labels to add"),
        (labels().drop(columns="other"), {"rater": "ana"}, "row 0 .from 0.: there is no column 'other'"),
        (labels().drop(columns="preference"), {"rater": "ana"}, "neither a column 'preference' nor"),
        (labels(), {}, "no rater is named"),
        (labels().assign(rater=["ana", " ", "ana"]), {}, "row 1 .from 0., column 'rater'"),
        (labels(), {"rater": "ana", "kind": "rating"}, "no column 'rating'"),
        (labels(), {"rater": "ana", "kind": "verdict"}, "no kind of label 'verdict'"),
        ([{"row": 0, "model": COPY, "rating": 6}], {"rater": "ana"}, "column 'rating': 6 is not on the scale from 1"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(ws, given, options, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ws.labels.add("e", given, **options)
    assert ws.labels.preferences("e").empty


def test_deleting_takes_only_what_was_named(ws) -> None:
    ws.labels.add("e", labels(), rater="ana")
    ws.labels.add("e", labels(), rater="ana", criterion="brevity")
    ws.labels.add("e", labels(), rater="ben")
    with pytest.raises(InvalidInputError, match="'anna' has not labelled") as caught:
        ws.labels.delete("e", rater="anna")
    assert "did you mean 'ana'" in caught.value.hint
    assert ws.labels.delete("e", rater="ana", criterion="brevity") == 3
    assert ws.labels.delete("e", rater="ana") == 3
    assert ws.labels.preferences("e")["rater"].tolist() == ["ben"] * 3


def test_an_experiment_takes_its_labels_along(ws) -> None:
    other = ws.experiments.create("other", dataset="d", metrics=["length"])
    ws.workflows.launch(other, [COPY, FIRST])
    session = ws.labels.compare("e", rater="ana")
    session.answer("A")
    ws.labels.add(other, labels(), rater="ana")
    ws.experiments.delete("e")
    with reading(ws.database) as work:
        assert {label.experiment_id for label in work.labels.list()} == {other.id}
        assert work.labels.count() == 3
    with pytest.raises(NotFoundError, match="no experiment"):
        session.answer("A")


def random_preferences(seed: int) -> list[dict[str, object]]:
    chosen = np.random.default_rng(seed).integers(-1, 2, N)
    return [{"row": n, "model": COPY, "other": FIRST, "preference": int(chosen[n])} for n in range(N)]


def test_agreement_is_krippendorffs_alpha_over_what_raters_share(ws) -> None:
    ana, ben = random_preferences(0), random_preferences(1)[:15]
    ws.labels.add("e", ana, rater="ana")
    alone = ws.labels.agreement("e")
    assert np.isnan([alone.estimate, alone.low, alone.high]).all()
    ws.labels.add("e", ben, rater="ben")
    found = ws.labels.agreement("e")
    table = np.array([[each["preference"] for each in who[:15]] for who in (ana, ben)], dtype=float)
    assert found.estimate == pytest.approx(alpha(table, level_of_measurement="nominal"))
    assert found.low < found.estimate < found.high
    rated = [{"row": n, "model": COPY, "rating": 1 + n % 5} for n in range(N)]
    ws.labels.add("e", rated, rater="ana")
    ws.labels.add("e", [{**each, "rating": min(each["rating"] + 1, 5)} for each in rated], rater="ben")
    ratings = np.array(
        [[each["rating"] for each in rated], [min(each["rating"] + 1, 5) for each in rated]], dtype=float
    )
    for level in ("ordinal", "interval"):
        expected = alpha(ratings, level_of_measurement=level)
        assert ws.labels.agreement("e", "rating", level=level).estimate == pytest.approx(expected)


def test_no_label_at_all_is_no_agreement(ws) -> None:
    assert np.isnan(ws.labels.agreement("e").estimate)
    assert np.isnan(ws.labels.agreement("e", "rating").estimate)
