"""Uploading: what is accepted is kept whole, what is refused leaves nothing behind."""

from __future__ import annotations

import contextlib
import http.server
import io
import threading
from functools import partial

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import ConflictError, DatasetError, InvalidInputError, LumigatorError, MissingFieldsError
from lumigator_nb.storage import layout

CSV = 'body,summary,product\n"It\'s late, really","late",a\n"Two\r\nlines; 🙂 $(touch x)",,b\n'


@pytest.fixture
def ws(tmp_path, migrated_url):
    with lm.connect(lumigator_home=tmp_path / "home", sqlalchemy_database_url=migrated_url) as made:
        yield made


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_bytes(CSV.encode())
    return path


@pytest.fixture
def website(tmp_path):
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def assert_untouched(ws) -> None:
    assert ws.datasets.list() == []
    assert ws.store.list("") == []


def test_a_path_is_kept_byte_for_byte_and_as_examples(ws, csv) -> None:
    dataset = ws.datasets.upload(csv, example="body", ground_truth="summary")
    assert (dataset.name, dataset.filename, dataset.n_examples) == ("tickets", "tickets.csv", 2)
    assert ws.store.read(layout.original(dataset.id, "tickets.csv")) == CSV.encode()
    frame = ws.datasets.to_pandas(dataset)
    assert frame["example"].tolist() == ["It's late, really", "Two\r\nlines; 🙂 $(touch x)"]
    assert frame["ground_truth"].isna().tolist() == [False, True]
    assert frame["product"].tolist() == ["a", "b"]
    assert dataset.profile["n_missing_ground_truth"] == 1
    assert "tickets" in dataset._repr_html_()


@pytest.mark.parametrize("kind", ["str", "binary file", "text file", "named file", "frame", "url"])
def test_every_kind_of_source(ws, csv, website, kind) -> None:
    open_files = contextlib.ExitStack()
    sources = {
        "str": lambda: str(csv),
        "binary file": lambda: io.BytesIO(CSV.encode()),
        "text file": lambda: io.StringIO(CSV, newline=""),
        "named file": lambda: open_files.enter_context(csv.open("rb")),
        "frame": lambda: pd.DataFrame({"body": ["a", "b"], "summary": ["c", "d"]}),
        "url": lambda: f"{website}/tickets.csv",
    }
    with open_files:
        dataset = ws.datasets.upload(sources[kind](), example="body", ground_truth="summary")
    assert dataset.n_examples == 2


def test_a_hostile_file_name_is_only_a_label(ws, tmp_path) -> None:
    file = io.BytesIO(CSV.encode())
    file.name = "../../x y'é.csv"
    dataset = ws.datasets.upload(file, example="body")
    assert dataset.filename == "x y'é.csv"
    assert ws.store.list("") == [
        f"datasets/{dataset.id}/data.parquet",
        f"datasets/{dataset.id}/original/x_y_e.csv",
    ]


def test_the_same_content_is_recognised(ws, csv) -> None:
    first = ws.datasets.upload(csv, example="body")
    with pytest.warns(UserWarning, match="already stored as dataset 'tickets'"):
        assert ws.datasets.upload(csv, example="body").id == first.id
    assert ws.datasets.upload(csv, example="body", ground_truth="summary", name="other").id != first.id
    assert ws.datasets.upload(csv, example="body", name="third").id != first.id


def test_a_taken_name_is_refused_and_the_old_dataset_stays(ws, csv) -> None:
    kept = ws.datasets.upload(csv, example="body", name="t")
    before = ws.store.list("")
    with pytest.raises(ConflictError, match="dataset named 't'"):
        ws.datasets.upload(pd.DataFrame({"example": ["x"]}), name="t")
    assert ws.store.list("") == before
    assert [dataset.id for dataset in ws.datasets.list()] == [kept.id]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"example,ground_truth\n", "no rows|no data|header"),
        (b"a,b\n1,2\n", "example"),
        (b"example,b\nx,1\ny,1,2\n", "row 2|line 3"),
        (b"example,b\nx\x00y,1\n", "NUL"),
        ("example\nGrüße aus Köln, schöne Straße\n".encode("cp1252") * 5, "UTF-8"),
        (b"example,example\nx,y\n", "example"),
        (b'example,b\n"x,1\ny,2\n', "quote"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG|picture"),
    ],
    ids=["empty", "header only", "no column", "ragged", "nul", "latin", "twice", "unclosed", "picture"],
)
def test_a_bad_file_is_refused_and_leaves_nothing(ws, tmp_path, content, message) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises((DatasetError, MissingFieldsError), match=message) as caught:
        ws.datasets.upload(path)
    assert caught.value.hint
    assert_untouched(ws)


def test_a_folder_a_missing_file_and_dead_urls_are_refused(ws, tmp_path, website) -> None:
    sources = {
        tmp_path: "is a folder",
        tmp_path / "nosuch.csv": "there is no file",
        f"{website}/nosuch.csv?token=hunter2": "there is no file at",
        "http://127.0.0.1:1/x.csv?token=hunter2": "cannot be read: .*Connect",
        "nosuch://x/y.csv": "nosuch",
    }
    for source, message in sources.items():
        with pytest.raises(DatasetError, match=message) as caught:
            ws.datasets.upload(source)
        assert "hunter2" not in str(caught.value)
    assert_untouched(ws)


@pytest.mark.parametrize("name", ["", "  ", "a\nb"])
def test_a_name_must_be_visible(ws, csv, name) -> None:
    with pytest.raises(InvalidInputError, match="cannot be a name"):
        ws.datasets.upload(csv, example="body", name=name)
    assert_untouched(ws)


def test_a_store_that_fails_leaves_no_row_and_no_file(ws, csv, monkeypatch) -> None:
    original = layout.original
    monkeypatch.setattr(layout, "original", lambda *_: "datasets\0impossible")
    with pytest.raises((LumigatorError, ValueError)):
        ws.datasets.upload(csv, example="body")
    monkeypatch.setattr(layout, "original", original)
    assert_untouched(ws)


def test_the_sample_is_uploaded_once(ws) -> None:
    sample = ws.datasets.sample("dialogues")
    assert sample.n_examples >= 60
    assert sample.has_ground_truth
    assert ws.datasets.sample("dialogues").id == sample.id


def test_deleting_a_dataset_takes_its_files(ws, csv) -> None:
    ws.datasets.delete(ws.datasets.upload(csv, example="body"))
    assert_untouched(ws)
