"""Formats beside CSV, JSON Lines and Parquet: JSON arrays, Excel workbooks, archives, Hugging Face datasets."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import sys
import zipfile

import datasets
import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lumigator_nb as lm
from lumigator_nb import tables
from lumigator_nb.errors import DatasetError, MissingExtraError, MissingFieldsError
from lumigator_nb.tables import archives, json_array, read_examples, text

CSV = b"example,n\na,1\nb,2\n"
ROWS = [{"example": "a", "n": 1}, {"example": "b", "n": 2}]


@pytest.fixture
def ws(tmp_path, migrated_url):
    with lm.connect(lumigator_home=tmp_path / "home", sqlalchemy_database_url=migrated_url) as made:
        yield made


@pytest.fixture
def read(tmp_path):
    def read(content, filename, **options):
        path = tmp_path / "original"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_examples(path, filename=filename, **options)

    return read


def rows(examples):
    return examples.table.to_pylist()


# JSON arrays

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
ITEM = {"example": st.text('ab[]{},"\\\n é🙂'), "more": st.lists(VALUES, max_size=2) | VALUES}
ITEMS = st.lists(st.fixed_dictionaries(ITEM), min_size=1, max_size=6)
PIECES = st.sampled_from([1, 3, 7, 1000])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    items=ITEMS, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans(), piece=st.sampled_from([1, 3, 7, 1000])
)
def test_an_array_is_read_as_its_items_on_lines_are(read, items, indent, ascii_only, piece) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text, "_CHUNK", piece)
        found = read(json.dumps(items, indent=indent, ensure_ascii=ascii_only), "data.json")
    lines = read("\n".join(json.dumps(item) for item in items), "data.jsonl")
    assert rows(found) == rows(lines)
    assert found.notes == lines.notes


@pytest.mark.parametrize("filename", ["data.json", "download"])
def test_an_array_is_known_by_its_content(read, filename) -> None:
    assert rows(read(b'\xef\xbb\xbf \n[{"example": "a", "n": 1},\n{"example": "b", "n": 2}\n]\n', filename)) == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "data.json has no values"),
        ("[{}]", "data.json has no values"),
        ('[{"example": "a"}, 3]', "data.json, item 2 is a number, not an object"),
        ('[{"example": "a"}, [1]]', "data.json, item 2 is a list, not an object"),
        ('[{"example": "a"},\n{"example" "b"}]', "data.json, line 2: broken JSON: Expecting ':' delimiter"),
        ('[{"example": "a"},\n]', "data.json, line 2: broken JSON: Expecting value"),
        ('[{"example": "a"}\n{"example": "b"}]', "data.json, line 2: broken JSON: expected ',' or ']'"),
        ('[{"example": "a"},\n\n{"example": "b', "data.json, line 3: broken JSON: Unterminated string"),
        ('[{"example": "a"}', "data.json, line 1: broken JSON: the array is not closed"),
        ('[{"example": "a"}]\n[]', "data.json, line 2: broken JSON: there is text after the end"),
        ('[{"example": "a", "n": 1, "n": 2}]', "key 'n' occurs twice"),
        ('[{"example": "a"}, {"text": "b"}]', "data.json, row 2: there is no key 'example'"),
        ('[{"example": "a\\u0000"}]', "data.json, row 1, column 'example': there is a NUL"),
        ('[{"example": "a"},\n{"example": "\0"}]', "data.json, line 2: there is a NUL byte"),
        ('[{"example": "\\ud83d"}]', "data.json, item 1, key 'example': a \\ud800"),
        ('[{"example": ' + "[" * 100_000, "data.json, line 1: "),
    ],
)  # fmt: skip
def test_a_bad_array_is_refused_with_its_place(read, content, message) -> None:
    with pytest.raises(DatasetError) as caught:
        read(content, "data.json")
    assert message in caught.value.message
    assert caught.value.hint


def test_what_is_broken_early_is_told_before_all_is_read(tmp_path, monkeypatch) -> None:
    pieces = iter(['[{"example" 1}, ' + " " * 1000, *[" " * 1000] * 1000])
    with pytest.raises(DatasetError, match="Expecting ':'"):
        list(json_array.JsonArray(pieces, json.JSONDecoder(), "x").items())
    assert len(list(pieces)) == 1000


def test_an_item_without_end_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(json_array, "_MAX_ITEM_CHARACTERS", 5000)
    with pytest.raises(DatasetError, match="more than 5,000 characters"):
        list(json_array.JsonArray(iter(['[{"a": "', *["x" * 100] * 1000]), json.JSONDecoder(), "x").items())


# Excel


def workbook(*rows, title="Data", **more):
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    for name, others in more.items():
        sheet = book.create_sheet(name)
        for row in others:
            sheet.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def test_cells_keep_their_types_and_dates_become_text(read) -> None:
    content = workbook(
        ["example", "Ground_Truth", "n", "share", "sure", "day", "moment", "at", "mixed"],
        ["007", "NA", 1, 0.5, True, dt.date(2024, 1, 31), dt.datetime(2024, 1, 31, 12, 30), dt.time(9, 5), 1],
        [],
        [12, None, None, 2, False, None, None, None, "x"],
        [1.5, "t", 3],
        [],
    )
    examples = read(content, "data.xlsx")
    assert rows(examples) == [
        {"example": "007", "ground_truth": "NA", "n": 1, "share": 0.5, "sure": True, "day": "2024-01-31",
         "moment": "2024-01-31T12:30:00", "at": "09:05:00", "mixed": "1"},
        {"example": "12", "ground_truth": None, "n": None, "share": 2.0, "sure": False, "day": None,
         "moment": None, "at": None, "mixed": "x"},
        {"example": "1.5", "ground_truth": "t", "n": 3, "share": None, "sure": None, "day": None,
         "moment": None, "at": None, "mixed": None},
    ]  # fmt: skip
    assert examples.notes == ("1 blank row skipped", "column 'mixed' kept as text")


def test_the_first_sheet_or_the_one_that_is_asked_for(ws, tmp_path) -> None:
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbook(["example"], ["a"], Other=[["example"], ["b"]]))
    first = ws.datasets.upload(path)
    assert ws.datasets.to_pandas(first)["example"].tolist() == ["a"]
    assert first.notes == ["read sheet 'Data', the first of 2: 'Data', 'Other'; another with sheet="]
    other = ws.datasets.upload(path, sheet="Other", name="other")
    assert ws.datasets.to_pandas(other)["example"].tolist() == ["b"]
    # The same bytes, and other content.
    assert ws.datasets.upload(path, sheet="Other", name="book", new_version=True).version == 2


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (workbook(["example"], ["a"]), {"sheet": "Dta"}, "has no sheet 'Dta'"),
        (workbook(), {}, "sheet 'Data' is empty"),
        (workbook(["example", "n"]), {}, "sheet 'Data' names its columns but has no rows"),
        (workbook(["example", None, "n"], ["a", 1, 2]), {}, "sheet 'Data', row 1: column B has no name"),
        (workbook(["example"], ["a"], ["b", None, 3]), {}, "sheet 'Data', row 3: column C has a value and no name"),
        (workbook(["example", "example"], ["a", "b"]), {}, "2 columns are named 'example'"),
        (workbook(["example"], ["a"])[:-40], {}, "data.xlsx is a zip archive, not an Excel workbook"),
        (CSV, {}, "data.xlsx is not an Excel workbook, as its extension says"),
    ],
)
def test_a_bad_workbook_is_refused(read, content, options, message) -> None:
    with pytest.raises(DatasetError) as caught:
        read(content, "data.xlsx", **options)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_damaged_sheet_is_told(read) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook(["example"], ["a"]))) as old, zipfile.ZipFile(sink, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: 120 if "sheet1" in name else None])
    with pytest.raises(DatasetError, match="data.xlsx is not a readable Excel workbook"):
        read(sink.getvalue(), "data.xlsx")


def test_a_workbook_lacks_a_column_as_a_file_does(read) -> None:
    with pytest.raises(MissingFieldsError, match="columns found: 'text', 'n'"):
        read(workbook(["text", "n"], ["a", 1]), "data.xlsx")


def test_without_openpyxl_the_extra_is_named(read, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match="Excel") as caught:
        read(workbook(["example"], ["a"]), "data.xlsx")
    assert caught.value.extra == "excel"


def test_a_sheet_of_a_csv_file_is_refused(read) -> None:
    with pytest.raises(DatasetError, match="data.csv has no sheets"):
        read(CSV, "data.csv", sheet="x")


# Archives


def packed(**files):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "filename"),
    [
        (gzip.compress(CSV), "data.csv.gz"),
        (gzip.compress(CSV), "DATA.CSV.GZ"),
        (gzip.compress(CSV), "download"),
        (gzip.compress(json.dumps(ROWS).encode()), "data.json.gz"),
        (packed(**{"data.csv": CSV}), "data.zip"),
        (packed(**{"data.csv": CSV}), "download"),
        (packed(**{"x/": b"", "x/data.csv": CSV, "__MACOSX/x/._data.csv": b"\0", ".DS_Store": b"x"}), "data.zip"),
        (packed(**{"book.xlsx": workbook(["example", "n"], ["a", 1], ["b", 2])}), "data.zip"),
    ],
)  # fmt: skip
def test_the_file_in_an_archive_is_read(read, content, filename) -> None:
    examples = read(content, filename)
    assert rows(examples) == ROWS
    assert examples.notes[0].startswith("unpacked '")


@pytest.mark.parametrize(
    ("content", "filename", "message"),
    [
        (packed(**{"a.csv": CSV, "b.csv": CSV}), "data.zip", "is a zip archive with 2 files: 'a.csv', 'b.csv'"),
        (packed(**{"folder/": b""}), "data.zip", "data.zip is a zip archive with no file"),
        (packed(**{"../data.csv": CSV}), "data.zip", "the path '../data.csv', which leads out of it"),
        (packed(**{"/etc/data.csv": CSV}), "data.zip", "which leads out of it"),
        (packed(**{"x\\..\\data.csv": CSV}), "data.zip", "which leads out of it"),
        (packed(**{"data.csv": b"example,b\nx\n"}), "data.zip", "data.csv, line 2 (row 1): 1 cell"),
        (packed(**{"data.zip": packed(**{"data.csv": CSV})}), "data.zip", "an archive inside an archive"),
        (gzip.compress(gzip.compress(CSV)), "data.csv.gz.gz", "an archive inside an archive"),
        (gzip.compress(CSV * 1000)[:-30], "data.csv.gz", "data.csv.gz is a gzip archive that cannot be read"),
        (gzip.compress(CSV), "data.csv", "data.csv is a gzip archive, not CSV"),
        (CSV, "data.csv.gz", "data.csv.gz is not a gzip archive, as its extension says"),
        (CSV, "data.zip", "data.zip is not a zip archive, as its extension says"),
        (packed(**{"data.csv": CSV}).replace(b"\x01\x02", b"\x02\x01")[:-4], "data.zip", "is a zip archive"),
        (gzip.compress(b""), "data.csv.gz", "data.csv is empty"),
        (gzip.compress(b"\x89PNG\r\n\x1a\n" + bytes(50)), "data.csv.gz", "data.csv is a PNG picture"),
    ],
)  # fmt: skip
def test_a_bad_archive_is_refused(read, content, filename, message) -> None:
    with pytest.raises(DatasetError) as caught:
        read(content, filename)
    assert message in caught.value.message
    assert caught.value.hint


def test_an_archive_with_a_damaged_file_or_a_password_is_refused(read) -> None:
    content = bytearray(packed(**{"data.csv": CSV * 100}))
    content[content.index(b"data.csv") + 15] ^= 0xFF
    with pytest.raises(DatasetError, match="is a zip archive that cannot be read"):
        read(bytes(content), "data.zip")
    content = bytearray(packed(**{"data.csv": CSV}))
    for start in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[start] |= 1
    with pytest.raises(DatasetError, match="protected by a password"):
        read(bytes(content), "data.zip")


@pytest.mark.parametrize("kind", ["gz", "zip", "xlsx"])
def test_a_bomb_is_refused_by_what_comes_out_of_it(read, monkeypatch, kind) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED_BYTES", 1_000_000)
    swollen = b"example\n" + b"a" * 5_000_000
    content = {
        "gz": gzip.compress(swollen),
        "zip": packed(**{"x.csv": swollen}),
        "xlsx": packed(**{"xl/sheet.xml": swollen}),
    }[kind]
    with pytest.raises(DatasetError, match="expands to more than 100 times its size"):
        read(content, f"x.csv.{kind}" if kind == "gz" else f"x.{kind}")


def test_an_archive_is_kept_as_it_came(ws, tmp_path) -> None:
    path = tmp_path / "tickets.csv.gz"
    path.write_bytes(gzip.compress(CSV))
    dataset = ws.datasets.upload(path)
    assert (dataset.name, dataset.n_examples) == ("tickets", 2)
    assert ws.store.read(f"datasets/{dataset.id}/original/tickets.csv.gz") == path.read_bytes()


# Hugging Face


def test_a_dataset_object_is_read_with_its_types(ws) -> None:
    rows = {"example": ["a", "b"] * 1500, "n": list(range(3000)), "tags": [["x"], []] * 1500}
    source = datasets.Dataset.from_dict(rows)
    dataset = ws.datasets.upload(source.select(range(2, 2900)), name="x")
    frame = ws.datasets.to_pandas(dataset)
    assert frame["n"].tolist() == list(range(2, 2900))
    assert [list(tags) for tags in frame["tags"][:2]] == [["x"], []]
    with pytest.warns(UserWarning, match="already stored"):
        assert ws.datasets.upload(source.select(range(2, 2900)), name="x").id == dataset.id
    streamed = ws.datasets.upload(source.to_iterable_dataset(), name="streamed")
    assert streamed.n_examples == 3000


def test_several_splits_are_refused_by_their_names(ws) -> None:
    one = datasets.Dataset.from_dict({"example": ["a"]})
    with pytest.raises(DatasetError, match="several splits: train, test") as caught:
        ws.datasets.upload(datasets.DatasetDict(train=one, test=one), name="x")
    assert "datasets['train']" in caught.value.hint
    with pytest.raises(DatasetError, match="has no rows"):
        ws.datasets.upload(one.select([]), name="x")
    assert ws.datasets.list() == []


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that stands for a repository: the library looks for one of that name first."""
    folder = tmp_path / "org" / "tickets"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_bytes(CSV)
    (folder / "test.csv").write_bytes(CSV.replace(b"a", b"c", 2)[:-4])
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("hub")
def test_an_id_of_the_hub_is_read(ws) -> None:
    dataset = ws.datasets.upload("hf://datasets/org/tickets?split=train")
    assert (dataset.name, dataset.n_examples) == ("tickets-train", 2)
    assert ws.datasets.to_pandas(dataset)["n"].tolist() == [1, 2]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hf://datasets/org/tickets", "several splits: "),
        ("hf://datasets/org/tickets?split=dev", "cannot be loaded: "),
        ("hf://datasets/org/tickets?spilt=train", "there is no option 'spilt'"),
        ("hf://datasets/org/nothing?split=train", "cannot be loaded: "),
    ],
)
def test_a_bad_id_of_the_hub_is_refused(ws, url, message) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        ws.datasets.upload(url)
    assert caught.value.hint
    assert ws.datasets.list() == []


@pytest.mark.parametrize(
    ("url", "is_id"),
    [
        ("hf://datasets/squad?split=train", True),
        ("hf://datasets/org/name@main?split=train&name=en", True),
        ("hf://datasets/org/name/data/train.parquet", False),
        ("s3://bucket/x.csv", False),
    ],
)
def test_ids_of_the_hub_and_files_in_it_are_told_apart(url, is_id) -> None:
    assert tables.is_hub_id(url) == is_id
    assert not tables.is_hub_dataset(pd.DataFrame({"example": ["a"]}))


# What holds for any table

TEXTS_OF_XML = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], include_characters="\t\n"))
CELLS = {
    "text": TEXTS_OF_XML.filter(lambda value: value and not value.startswith("=")),
    "whole": st.integers(-(2**53), 2**53),
    "share": st.integers(-(10**12), 10**12).map(lambda n: n / 1000),  # a workbook has no more than 15 digits
    "sure": st.booleans(),
    "day": st.dates(dt.date(1901, 1, 1), dt.date(2999, 12, 31)),
}
SHEET = st.lists(
    st.tuples(CELLS["text"], *(st.none() | cells for cells in CELLS.values())), min_size=1, max_size=4
)  # fmt: skip
SLOW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@SLOW
@given(sheet=SHEET, n_blank=st.integers(0, 3))
def test_a_workbook_is_read_as_it_was_written(read, sheet, n_blank) -> None:
    names = ["example", *CELLS]
    examples = read(workbook(names, *sheet, *[[None, ""]] * n_blank), "data.xlsx")
    expected = [[cell.isoformat() if isinstance(cell, dt.date) else cell for cell in row] for row in sheet]
    assert [list(row.values()) for row in rows(examples)] == expected
    assert {type(row["sure"]) for row in rows(examples)} <= {bool, type(None)}


def outcome(read, content, filename):
    """Return the table with what is said about it, or what is said against it."""
    try:
        examples = read(content, filename)
    except DatasetError as error:
        return str(error)
    return examples.table, examples.columns, [note for note in examples.notes if not note.startswith("unpacked '")]


@SLOW
@given(
    cells=st.lists(st.tuples(TEXTS, TEXTS), max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    tail=st.sampled_from(["", "\n", '"', "a,b,c,d\n"]),
)
def test_a_packed_file_is_read_as_the_file_itself(read, cells, delimiter, tail) -> None:
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter).writerows([("example", "more"), *cells])
    content = (sink.getvalue() + tail).encode()
    plain = outcome(read, content, "data.csv")
    assert outcome(read, gzip.compress(content), "data.csv.gz") == plain
    assert outcome(read, packed(**{"folder/data.csv": content}), "data.zip") == plain


# What must not be lost or let in without a word


@pytest.mark.parametrize("clutter", [".hidden", "._data.csv", ".git/config", "__MACOSX/x"])
def test_hidden_files_in_an_archive_do_not_count(read, clutter) -> None:
    assert rows(read(packed(**{"data.csv": CSV, clutter: b"\0\1"}), "data.zip")) == ROWS


def test_an_archive_that_lies_about_its_size_is_refused(read, monkeypatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED_BYTES", 1_000_000)
    content = bytearray(packed(**{"data.csv": b"example\n" + b"a" * 5_000_000}))
    for start in (18, content.rindex(b"PK\x01\x02") + 20):
        content[start : start + 4] = (2**32 - 16).to_bytes(4, "little")
    with pytest.raises(DatasetError, match="expands to more than 100 times its size"):
        read(bytes(content), "data.zip")


@pytest.mark.parametrize("formula", ["=1+1", '=A2&"x"'])
def test_a_formula_without_a_saved_value_is_refused_with_its_cell(read, formula) -> None:
    with pytest.raises(DatasetError, match="data.xlsx, sheet 'Data', cell B3: the formula has no saved value"):
        read(workbook(["example", "n"], ["a", 1], ["b", formula]), "data.xlsx")


def test_a_formula_counts_by_its_saved_value(read) -> None:
    sink = io.BytesIO()
    book = io.BytesIO(workbook(["example", "n"], ["a", 777], ["b", 778]))
    with zipfile.ZipFile(book) as old, zipfile.ZipFile(sink, "w") as new:
        for name in old.namelist():
            content = old.read(name).replace(b"<v>777</v>", b"<f>1+1</f><v>2</v>")
            empty = b'<c r="B3" t="str"><f>""</f><v></v></c>'
            new.writestr(name, content.replace(b'<c r="B3" t="n"><v>778</v></c>', empty))
    assert [row["n"] for row in rows(read(sink.getvalue(), "data.xlsx"))] == [2, None]


def labelled(feature, **columns):
    names = {"example": datasets.Value("string"), **dict.fromkeys(columns, feature)}
    length = len(next(iter(columns.values())))
    return datasets.Dataset.from_dict({"example": ["x"] * length, **columns}, features=datasets.Features(names))


@pytest.mark.parametrize("streamed", [False, True])
def test_class_labels_become_their_names(ws, streamed) -> None:
    source = labelled(datasets.ClassLabel(names=["bad", "good"]), ground_truth=[1, 0, -1, None])
    dataset = ws.datasets.upload(source.to_iterable_dataset() if streamed else source, name="x")
    truths = ws.datasets.to_pandas(dataset)["ground_truth"].astype(object)
    assert truths.where(truths.notna(), None).tolist() == ["good", "bad", None, None]


def test_pictures_are_refused_with_their_columns(ws) -> None:
    source = labelled(datasets.Image(decode=False), a=[{"bytes": b"\x89PNG", "path": None}])
    with pytest.raises(DatasetError, match="column 'a': a feature of type Image is not text") as caught:
        ws.datasets.upload(source, name="x")
    assert "remove_columns(['a'])" in caught.value.hint
    assert ws.datasets.list() == []


def broken():
    yield from ({"example": str(number)} for number in range(1200))
    raise ConnectionError("the network went away")


def late():
    yield from ({"example": str(number), **({"late": 1} if number >= 1000 else {})} for number in range(1500))


def mixed():
    yield from ({"example": str(number), "n": None if number < 1200 else 1} for number in range(1500))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (broken, "cannot be read from row 1001 on: ConnectionError: the network went away"),
        (late, "rows 1001 to 1500: columns or types differ from earlier rows: column 'late' is new"),
        (mixed, "cannot be read from row 1001 on: ArrowInvalid"),
    ],
)  # fmt: skip
def test_a_stream_that_breaks_off_or_changes_leaves_nothing(ws, rows, message) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        ws.datasets.upload(datasets.IterableDataset.from_generator(rows), name="x")
    assert caught.value.hint
    assert ws.datasets.list() == []
