"""Splits and samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from lumigator_nb.database.records import Dataset
from lumigator_nb.errors import ConflictError, InvalidInputError
from lumigator_nb.services.datasets.derived import Tools, draw, split
from lumigator_nb.services.datasets.sampling import draw_rows, split_rows, strata_notes

HALVES = {"train": 0.8, "test": 0.2}
THIRDS = {"train": 0.7, "test": 0.2, "dev": 0.1}


def frame_of(n: int, **columns: Sequence[Any]) -> pd.DataFrame:
    return pd.DataFrame({"example": [f"text {index}" for index in range(n)], **columns})


def texts(frame: pd.DataFrame, rows: dict[str, np.ndarray]) -> dict[str, set[str]]:
    return {name: set(frame["example"].iloc[positions]) for name, positions in rows.items()}


def rows_strategy() -> st.SearchStrategy[list[tuple[int, int, int]]]:
    return st.lists(st.tuples(st.integers(0, 150), st.integers(0, 3), st.integers(0, 60)), min_size=30, max_size=120)


@settings(max_examples=40, deadline=None)
@given(rows_strategy(), st.sampled_from([None, "kind"]), st.sampled_from([None, "author"]), st.integers(-5, 5))
def test_each_row_is_in_one_part_and_nothing_leaks(
    rows: list[tuple[int, int, int]], by: str | None, groups: str | None, seed: int
) -> None:
    frame = pd.DataFrame(rows, columns=["example", "kind", "author"]).astype({"example": str})
    try:
        parts = split_rows(frame, HALVES, by, groups, seed)
    except InvalidInputError as error:
        if "would be empty" in error.message:
            reject()
        raise
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(frame)))
    for column in ["example", *([groups] if groups else [])]:
        assert not set(frame[column].iloc[parts["train"]]) & set(frame[column].iloc[parts["test"]])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=40, max_size=200), st.sampled_from([HALVES, THIRDS]), st.integers(0, 9))
def test_strata_keep_their_shares_to_within_one_row_and_so_does_the_whole(
    kinds: list[int], shares: dict[str, float], seed: int
) -> None:
    frame = frame_of(len(kinds), kind=kinds)
    parts = split_rows(frame, shares, by="kind", seed=seed)
    for name, share in shares.items():
        assert abs(len(parts[name]) - share * len(frame)) < 2
        for kind, size in frame["kind"].value_counts().items():
            assert abs((frame["kind"].iloc[parts[name]] == kind).sum() - share * size) < 1


def test_strata_of_one_row_are_spread_over_the_parts() -> None:
    frame = frame_of(100, kind=range(100))
    parts = split_rows(frame, HALVES, by="kind")
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 80, "test": 20}


def test_without_strata_added_rows_leave_the_others_where_they_are() -> None:
    before = texts(frame_of(2000), split_rows(frame_of(2000), THIRDS))
    after = texts(frame_of(3000), split_rows(frame_of(3000), THIRDS))
    for name, share in THIRDS.items():
        assert before[name] < after[name]
        assert abs(len(before[name]) - 2000 * share) < 6 * (2000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("by", [None, "kind"])
def test_the_order_of_rows_and_parts_does_not_matter_and_the_seed_does(by: str | None) -> None:
    frame = frame_of(300, kind=[index % 7 for index in range(300)])
    shuffled = frame.sample(frac=1, random_state=3)
    found = texts(frame, split_rows(frame, THIRDS, by))
    assert texts(shuffled, split_rows(shuffled, dict(reversed(THIRDS.items())), by)) == found
    assert texts(frame, split_rows(frame, THIRDS, by, seed=1)) != found
    drawn = frame["example"].iloc[draw_rows(frame, 50, by)]
    assert set(drawn) == set(shuffled["example"].iloc[draw_rows(shuffled, 50, by)])
    assert set(drawn) != set(frame["example"].iloc[draw_rows(frame, 50, by, seed=1)])


def test_the_hash_is_the_same_in_every_version() -> None:
    assert split_rows(frame_of(12), {"a": 0.5, "b": 0.5})["a"].tolist() == [1, 2, 5, 6, 8, 10]
    assert draw_rows(frame_of(12), 4).tolist() == [0, 4, 7, 8]


def test_a_part_is_split_again_independently_of_how_it_came_about() -> None:
    frame = frame_of(4000)
    train = frame.iloc[split_rows(frame, HALVES)["train"]]
    again = split_rows(train, {"fit": 0.5, "tune": 0.5})
    assert abs(len(again["fit"]) - len(train) / 2) < 6 * (len(train) / 4) ** 0.5
    with pytest.raises(InvalidInputError, match="another seed="):
        split_rows(train, HALVES)


def test_groups_stay_together_and_sizes_are_near() -> None:
    rng = np.random.default_rng(0)
    frame = frame_of(1000, author=rng.integers(0, 60, 1000), kind=rng.integers(0, 3, 1000))
    parts = split_rows(frame, HALVES, by="kind", groups="author")
    assert not set(frame["author"].iloc[parts["train"]]) & set(frame["author"].iloc[parts["test"]])
    assert len(parts["test"]) == pytest.approx(200, abs=10)
    for kind in range(3):
        share = (frame["kind"].iloc[parts["test"]] == kind).sum() / (frame["kind"] == kind).sum()
        assert share == pytest.approx(0.2, abs=0.04)


def test_groups_that_share_an_example_are_one_piece() -> None:
    frame = pd.DataFrame({"example": ["a", "b", "b", "c", "d", "e"], "author": [1, 1, 2, 2, None, None]})
    parts = split_rows(frame, {"x": 0.5, "y": 0.5}, groups="author")
    assert any({0, 1, 2, 3} <= set(rows) for rows in parts.values())
    with pytest.raises(InvalidInputError, match="4 rows in 1 block"):
        split_rows(frame.head(4), HALVES, groups="author")


def test_missing_values_are_a_stratum_but_no_group() -> None:
    frame = frame_of(100, kind=["a"] * 50 + [None] * 50)
    test = split_rows(frame, HALVES, by="kind")["test"]
    assert frame["kind"].iloc[test].isna().sum() == 10
    assert len(split_rows(frame, HALVES, groups="kind")["test"]) == 20


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.data())
def test_drawing_keeps_proportions_to_within_one_row(kinds: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(kinds)))
    frame = frame_of(len(kinds), kind=kinds)
    drawn = draw_rows(frame, n, by="kind")
    assert len(set(drawn)) == n
    for kind, size in frame["kind"].value_counts().items():
        assert abs((frame["kind"].iloc[drawn] == kind).sum() - n * size / len(frame)) < 1


def test_a_smaller_draw_is_part_of_a_larger_one_and_duplicates_are_rows() -> None:
    frame = pd.concat([frame_of(50)] * 2, ignore_index=True)
    assert set(draw_rows(frame, 10)) < set(draw_rows(frame, 0.3))
    assert draw_rows(frame, 1.0).tolist() == list(range(100))


def test_draws_are_uniform() -> None:
    frame = frame_of(20)
    times = np.zeros(20)
    for seed in range(400):
        times[draw_rows(frame, 5, seed=seed)] += 1
    # Each row is drawn 400 · 5/20 = 100 times; the variance is 75.
    assert ((times - 100) ** 2 / 75).sum() < 60


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ({"train": 0.8, "test": 0.3}, {}, "sum to 0.8 . 0.3 = 1.1"),
        ({"train": 1.0}, {}, "two parts"),
        ({"train": 1.2, "test": -0.2}, {}, "'train' is 1.2"),
        ({"train": float("nan"), "test": 0.5}, {}, "is nan"),
        ({"": 0.5, "test": 0.5}, {}, "cannot be a name"),
        ({"train ": 0.5, "train": 0.5}, {}, "white space"),
        (HALVES, {"by": "knid"}, "no column 'knid'"),
        (HALVES, {"groups": "nobody"}, "no column 'nobody'"),
        (HALVES, {"seed": 0.5}, "seed is 0.5"),
        ({"train": 0.999, "test": 0.001}, {"by": "kind"}, "'test' would be empty: there are 10 rows"),
    ],
)
def test_splits_that_make_no_sense_are_refused(parts: dict[str, float], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        split_rows(frame_of(10, kind=[1] * 10), parts, **options)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(11, "cannot draw 11 rows: there are 10"), (0, "less than one row"), (0.01, "less than one row"), (1.5, "neither"),
     (True, "neither"), (float("nan"), "neither"), (-0.1, "neither")],
)  # fmt: skip
def test_draws_that_make_no_sense_are_refused(wanted: float, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        draw_rows(frame_of(10), wanted)


def test_frames_that_hold_no_examples_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no rows"):
        draw_rows(frame_of(0), 1)
    with pytest.raises(InvalidInputError, match="row 1 has no example"):
        split_rows(pd.DataFrame({"example": ["a", None]}), HALVES)


def test_notes_name_strata_that_are_too_small() -> None:
    frame = frame_of(21, kind=["a"] * 20 + ["rare"])
    rows = split_rows(frame, HALVES, by="kind")
    notes = strata_notes(frame, rows, "kind")
    assert len(notes) == 1
    assert notes[0].endswith("kind = 'rare'")
    assert strata_notes(frame, rows, None) == []


class Shelf:
    """Keeps datasets in memory as a workspace does."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frames: dict[str, pd.DataFrame] = {}
        self.kept: list[Dataset] = []
        self.reads = 0
        self.dataset = self.keep(frame, "tickets", {}, [])

    def keep(self, frame: pd.DataFrame, name: str, derived: dict[str, Any], notes: Sequence[str]) -> Dataset:
        dataset = Dataset(
            name=name, version=len(self.versions(name)) + 1, filename="f", content_hash="", size_bytes=1,
            n_examples=len(frame), columns={}, profile={}, notes=list(notes), derived=derived,
        )  # fmt: skip
        self.frames[dataset.id] = frame
        self.kept.append(dataset)
        return dataset

    def versions(self, name: str) -> list[Dataset]:
        return [each for each in reversed(self.kept) if each.name == name]

    def read(self, dataset: Dataset) -> pd.DataFrame:
        self.reads += 1
        return self.frames[dataset.id]

    @property
    def places(self) -> dict[str, Any]:
        return {"tools": Tools(read=self.read, versions=self.versions, keep=self.keep)}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(frame_of(100, kind=["a", "b"] * 50))


def test_parts_are_kept_once(shelf: Shelf) -> None:
    parts = split(shelf.dataset, HALVES, by="kind", **shelf.places)
    assert {name: (part.name, part.n_examples) for name, part in parts.items()} == {
        "train": ("tickets-train", 80),
        "test": ("tickets-test", 20),
    }
    assert parts["test"].derived["dataset_id"] == shelf.dataset.id
    assert parts["test"].notes == ["split off tickets@1: 20 of 100 examples, by kind, seed 0"]
    assert shelf.frames[parts["test"].id].index.tolist() == list(range(20))
    assert split(shelf.dataset, HALVES, by="kind", **shelf.places) == parts
    assert (len(shelf.kept), shelf.reads) == (3, 1)


def test_what_was_cut_off_is_completed(shelf: Shelf) -> None:
    parts = split(shelf.dataset, HALVES, **shelf.places)
    shelf.kept.remove(parts["test"])
    again = split(shelf.dataset, HALVES, **shelf.places)
    assert again["train"] is parts["train"]
    assert shelf.frames[again["test"].id].equals(shelf.frames[parts["test"].id])


def test_other_settings_need_another_name_and_nothing_is_kept(shelf: Shelf) -> None:
    shelf.keep(frame_of(3), "tickets-train", {}, [])
    with pytest.raises(ConflictError, match="tickets-train"):
        split(shelf.dataset, HALVES, **shelf.places)
    assert len(shelf.kept) == 2
    split(shelf.dataset, HALVES, name="other", **shelf.places)
    with pytest.raises(ConflictError, match="other-train"):
        split(shelf.dataset, HALVES, seed=1, name="other", **shelf.places)


def test_parts_of_a_later_version_are_later_versions(shelf: Shelf) -> None:
    old = split(shelf.dataset, HALVES, **shelf.places)
    shelf.dataset = shelf.keep(frame_of(150, kind=["a"] * 150), "tickets", {}, [])
    new = split(shelf.dataset, HALVES, **shelf.places)
    assert new["test"].version == 2
    assert set(shelf.frames[old["test"].id]["example"]) < set(shelf.frames[new["test"].id]["example"])


def test_a_later_version_takes_no_name_with_other_settings(shelf: Shelf) -> None:
    split(shelf.dataset, HALVES, **shelf.places)
    shelf.dataset = shelf.keep(frame_of(150), "tickets", {}, [])
    with pytest.raises(ConflictError, match="tickets-train"):
        split(shelf.dataset, HALVES, seed=1, **shelf.places)


def test_a_draw_is_kept_once(shelf: Shelf) -> None:
    drawn = draw(shelf.dataset, 0.1, by="kind", **shelf.places)
    assert (drawn.name, drawn.n_examples) == ("tickets-10", 10)
    assert draw(shelf.dataset, 10, by="kind", **shelf.places) is drawn
    with pytest.raises(ConflictError, match="tickets-10"):
        draw(shelf.dataset, 10, seed=1, **shelf.places)
    with pytest.raises(InvalidInputError, match="there are 100"):
        draw(shelf.dataset, 101, **shelf.places)
