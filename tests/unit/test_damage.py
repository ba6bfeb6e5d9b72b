"""Files of the store that are not what was written."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumigator_nb.errors import DamagedError
from lumigator_nb.models import Prediction
from lumigator_nb.specs import Model, Step, StoreSpec, Summarization, WorkflowSpec
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

ROWS = 16


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(StoreSpec(uri=tmp_path_factory.mktemp("store").as_uri()))


@pytest.fixture(scope="module")
def spec() -> WorkflowSpec:
    return WorkflowSpec(
        workflow_id="w",
        dataset=layout.examples("d"),
        n_examples=ROWS,
        task=Summarization(),
        model=Model("baseline/copy"),
        metrics=(),
    )


@pytest.fixture(scope="module")
def part(store, spec) -> tuple[str, bytes]:
    results.write_predictions(store, spec, 0, [Prediction(f"answer {number}", seconds=0.5) for number in range(ROWS)])
    name = layout.part("w", Step.INFERENCE, 0)
    return name, store.read(name)


def footer_at(data: bytes) -> int:
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


@given(choice=st.data())
def test_an_altered_page_is_never_taken_for_an_answer(store, part, choice) -> None:
    name, data = part
    whole = results.read_predictions(store, "w", 0)
    at = choice.draw(st.integers(0, footer_at(data) - 1))
    changed = bytes([data[at] ^ choice.draw(st.integers(1, 255))])
    store.write(name, data[:at] + changed + data[at + 1 :])
    found, error = attempted(store)
    store.write(name, data)
    if error is None:
        # Not every byte of a page's header is used.
        assert found == whole
    else:
        assert store.url(name) in error.message
        assert f"ws.store.delete({name!r})" in error.hint


def attempted(store: Store) -> tuple[list[Prediction] | None, DamagedError | None]:
    try:
        return results.read_predictions(store, "w", 0), None
    except DamagedError as error:
        return None, error


def test_most_altered_bytes_of_the_pages_are_found(store, part) -> None:
    name, data = part
    found = 0
    places = range(4, footer_at(data), 7)
    for at in places:
        store.write(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        found += attempted(store)[1] is not None
    store.write(name, data)
    assert found > 0.8 * len(places)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_short_is_damaged(store, part, share) -> None:
    name, data = part
    store.write(name, data[: int(share * len(data))])
    with pytest.raises(DamagedError, match="is damaged"):
        results.read_shard(store, "w", Step.INFERENCE, 0)
    store.write(name, data)


def test_a_damaged_dataset_says_so_and_how_to_mend_it(store) -> None:
    name = layout.examples("d")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"example": [f"text {n}" for n in range(5000)]}), buffer, write_page_checksum=True)
    data = bytearray(buffer.getvalue())
    data[len(data) // 3] ^= 1
    store.write(name, bytes(data))
    with pytest.raises(DamagedError, match=r"data\.parquet is damaged: .*CRC") as caught:
        list(results.iter_shards(store, name, None, 100))
    assert "upload the dataset again" in caught.value.hint


def test_files_without_checksums_are_still_read(store) -> None:
    with store.writing("old.parquet") as file:
        pq.write_table(pa.table({"example": ["a", "b"]}), file)
    (table,) = results.iter_shards(store, "old.parquet", None, 100)
    assert table["example"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"workflow_id": "w"}', b"<html></html>"])
def test_json_that_is_no_value_is_damaged(store, spec, content) -> None:
    results.write_spec(store, spec)
    assert results.read_spec(store, "w") == spec
    store.write(layout.spec("w"), content)
    with pytest.raises(DamagedError, match=r"w/spec\.json is damaged: it is not a WorkflowSpec"):
        results.read_spec(store, "w")
    store.write(layout.model_details("w"), content[:1])
    if content[:1] != b"":
        with pytest.raises(DamagedError, match="model.json is damaged"):
            results.find_model_details(store, "w")
