"""What changed between versions of a dataset."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumigator_nb.errors import InvalidInputError, NotFoundError
from lumigator_nb.services.datasets.versions import coded, differences, history, read

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

OLD = pd.DataFrame(
    {"id": [1, 2, 3, 4], "example": ["a", "b", "c", "a"], "ground_truth": ["A", "B", None, "x"], "kind": list("ppqq")}
)


def counts(old: pd.DataFrame, new: pd.DataFrame, on: str | None = None) -> tuple[int, int, int, int]:
    diff = differences(old, new, on)
    return diff.n_added, diff.n_removed, diff.n_changed, diff.n_same


def cells(changed: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(None if pd.isna(each) else each for each in row) for row in changed.itertuples(index=False)]


def test_the_same_rows_in_another_order_are_the_same() -> None:
    diff = differences(OLD, OLD.iloc[[3, 1, 0, 2], [3, 1, 0, 2]])
    assert not diff
    assert diff.n_same == 4
    assert str(diff).startswith("The same rows")


def test_rows_are_added_removed_and_changed() -> None:
    new = pd.DataFrame(
        {
            "id": [3, 1, 9, 4],
            "example": ["c", "a", "d", "a"],
            "ground_truth": ["C", "A", "D", "x"],
            "kind": list("qpqr"),
        }
    )
    diff = differences(OLD, new)
    assert (diff.n_added, diff.n_removed, diff.n_changed, diff.n_same) == (1, 1, 2, 1)
    assert diff.added["example"].to_dict() == {2: "d"}
    assert diff.removed["ground_truth"].to_dict() == {1: "B"}
    assert list(diff.changed.columns) == ["row_old", "row_new", "column", "old", "new"]
    assert cells(diff.changed) == [(2, 0, "ground_truth", None, "C"), (3, 3, "kind", "q", "r")]


def test_by_a_key_an_edited_example_is_a_change() -> None:
    new = OLD.assign(example=["a", "b!", "c", "a"])
    assert counts(OLD, new) == (1, 1, 0, 3)
    diff = differences(OLD, new, on="id")
    assert cells(diff.changed) == [(1, 1, "example", "b", "b!")]
    assert (diff.n_added, diff.n_removed) == (0, 0)


def test_of_repeated_examples_those_that_are_alike_are_matched_first() -> None:
    old = pd.DataFrame({"example": ["a"] * 3, "ground_truth": ["1", "2", "3"]})
    new = pd.DataFrame({"example": ["a"] * 4, "ground_truth": ["3", "4", "1", "5"]})
    diff = differences(old, new)
    assert cells(diff.changed) == [(1, 1, "ground_truth", "2", "4")]
    assert diff.added["ground_truth"].tolist() == ["5"]


def test_a_new_column_is_told_and_does_not_mix_up_rows() -> None:
    diff = differences(OLD, OLD.iloc[::-1].drop(columns="kind").assign(tags=[["x", "y"], None, [], {"k": 1}]))
    assert diff.notes[:2] == ("column 'kind' was removed", "column 'tags' is new")
    assert set(diff.changed["column"]) == {"kind", "tags"}
    assert (diff.changed["column"] == "tags").sum() == 3
    assert (diff.n_added, diff.n_removed, diff.n_changed) == (0, 0, 4)


def test_values_without_hash_are_compared_by_content() -> None:
    long = np.arange(5000)
    other = long.copy()
    other[2500] = -1
    old = pd.DataFrame({"example": list("abc"), "v": [long, [1, 2], {"x": 1, "y": 2}]})
    new = pd.DataFrame({"example": list("abc"), "v": [other, [1, 2], {"y": 2, "x": 1}]})
    assert differences(old, new).changed["row_new"].tolist() == [0]
    assert coded(pd.Series([[1], None, [1], [2]])).tolist() == [0, -1, 0, 1]


def test_another_type_is_told() -> None:
    diff = differences(OLD, OLD.assign(id=OLD["id"].astype(str)))
    assert any("column 'id' changed from int64" in note for note in diff.notes)
    assert diff.n_changed == 4


@pytest.mark.parametrize(
    ("old", "new", "on", "message"),
    [
        (OLD, OLD, "no", "old data have no column 'no'"),
        (OLD, OLD.drop(columns="example"), None, "new data have no column 'example'"),
        (OLD, OLD, "example", "repeats 'a' in row 3"),
        (OLD.assign(id=[1, 2, None, 4]), OLD, "id", "no value in row 2"),
        (OLD, OLD.assign(id=OLD["id"].astype(str)), "id", "holds int64 in the old data"),
    ],
)
def test_keys_that_do_not_name_rows_are_refused(
    old: pd.DataFrame, new: pd.DataFrame, on: str | None, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        differences(old, new, on)


def test_nothing_on_one_side() -> None:
    assert counts(OLD.head(0), OLD) == (4, 0, 0, 0)
    assert counts(OLD, OLD.head(0)) == (0, 4, 0, 0)
    assert counts(OLD.head(0), OLD.head(0), on="id") == (0, 0, 0, 0)


rows = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", None]), st.integers(0, 1)), max_size=12)


@settings(max_examples=80, deadline=None)
@given(rows, rows)
def test_counts_are_those_of_multisets(old: list[Any], new: list[Any]) -> None:
    frames = [pd.DataFrame(each, columns=["example", "ground_truth", "m"]) for each in (old, new)]
    diff = differences(*frames)
    alike = (Counter(old) & Counter(new)).total()
    matched = (Counter(row[0] for row in old) & Counter(row[0] for row in new)).total()
    assert diff.n_same == alike
    assert diff.n_changed == matched - alike
    assert (diff.n_added, diff.n_removed) == (len(new) - matched, len(old) - matched)
    for line in diff.changed.itertuples():
        at = ["example", "ground_truth", "m"].index(line.column)
        assert old[line.row_old][at] != new[line.row_new][at]
        assert old[line.row_old][0] == new[line.row_new][0]


def test_differences_show_themselves() -> None:
    new = pd.concat([OLD, pd.DataFrame({"id": range(20), "example": [f"<b>{i}" for i in range(20)]})])
    diff = differences(OLD, new)
    assert str(diff).splitlines()[0] == "Rows: 20 added"
    assert "4 before, 24 after, 4 unchanged" in str(diff)
    page = diff._repr_html_()
    assert "20 added rows, the first 10 of them" in page
    assert "&lt;b&gt;9" in page
    assert "<b>" not in page
    assert "&lt;b&gt;10" not in page


def test_history_counts_against_the_version_before(inline_ws: Workspace) -> None:
    datasets = inline_ws.datasets
    frames = [OLD, OLD.iloc[1:].assign(kind=list("prq")), OLD.iloc[::-1]]
    for frame in frames:
        datasets.upload(frame, name="tickets", new_version=True)
    found = history(datasets._database, datasets._store, "tickets@2")
    assert found["version"].tolist() == [1, 2, 3]
    assert found["n_examples"].tolist() == [4, 3, 4]
    changes = found[["added", "removed", "changed"]]
    assert changes.iloc[0].isna().all()
    assert changes.iloc[1:].astype(int).to_numpy().tolist() == [[0, 1, 1], [1, 0, 1]]
    for row, (before, after) in enumerate(pairwise(frames), start=1):
        assert tuple(changes.iloc[row]) == counts(before, after)[:3]
    datasets.delete("tickets@2")
    left = history(datasets._database, datasets._store, "tickets")
    assert left[["version", "added", "removed", "changed"]].iloc[1].tolist() == [3, 0, 0, 0]
    with pytest.raises(NotFoundError):
        history(datasets._database, datasets._store, "nobody")


def test_whole_numbers_beside_missing_ones_are_compared_and_kept_exactly(inline_ws: Workspace, tmp_path: Path) -> None:
    large = 2**53  # from here on floating-point numbers leave some out
    numbers = [[large + 1, None, large + 2], [large, None, large + 2]]
    for values in numbers:
        nested = pa.array([[value, None] for value in values], pa.list_(pa.int64()))
        columns = {"example": list("abc"), "parent": pa.array(values, pa.int64()), "nested": nested}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        inline_ws.datasets.upload(tmp_path / "t.parquet", name="t", new_version=True, progress=False)
    found = history(inline_ws.database, inline_ws.store, "t")
    assert found[["added", "removed", "changed"]].iloc[1].tolist() == [0, 0, 1]
    old, new = (read(inline_ws.store, inline_ws.datasets.get(name)) for name in ("t@1", "t"))
    diff = differences(old, new)
    assert diff.changed["column"].tolist() == ["parent", "nested"]
    assert cells(diff.changed.query("column == 'parent'")) == [(0, 0, "parent", large + 1, large)]
    assert diff.notes == ()
    kept = inline_ws.datasets.upload(new.iloc[[0, 1]], name="part")
    assert read(inline_ws.store, kept)["parent"].tolist() == [large, pd.NA]


def test_a_value_that_went_missing_changes_no_type(inline_ws: Workspace) -> None:
    datasets = inline_ws.datasets
    for values in ([1, 2], [1, None]):
        frame = pd.DataFrame({"example": list("ab"), "n": pd.array(values, dtype="Int64")})
        datasets.upload(frame, name="t", new_version=True)
    diff = differences(*(read(inline_ws.store, datasets.get(name)) for name in ("t@1", "t")))
    assert (diff.n_changed, diff.notes) == (1, ())
