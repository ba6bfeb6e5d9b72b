import csv
import io
import json
import zipfile
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumigator_nb.errors import DatasetError, InvalidInputError, MissingFieldsError
from lumigator_nb.tables import frame_to_bytes, profile, read_examples

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.fixture
def read(tmp_path):
    def read(content, filename="data.csv", **columns):
        path = tmp_path / "original"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_examples(path, filename=filename, **columns)

    return read


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def archive(*names):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for name in names:
            file.writestr(name, "content")
    return sink.getvalue()


def rows(examples):
    return examples.table.to_pylist()


# Delimited text: what is read


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("filename", ["data.csv", "data.tsv", "data.txt", "data", "data.CSV"])
def test_any_delimiter_is_found_whatever_the_name(read, delimiter, filename):
    text = f'id{delimiter}example{delimiter}ground_truth\n1{delimiter}"a, b; c | d"{delimiter}short\n'
    assert rows(read(text, filename)) == [{"example": "a, b; c | d", "ground_truth": "short", "id": 1}]


@pytest.mark.parametrize(
    ("content", "examples"),
    [
        ("example\nfoo\nbar\n", ["foo", "bar"]),
        ('example\n"foo, bar"\n"x;y"\n', ["foo, bar", "x;y"]),
        ("example;note\nfoo, bar;x\nbaz, and, more;y\n", ["foo, bar", "baz, and, more"]),
        ("example,a;b\nfoo,x;y\nbar,z;w\n", ["foo", "bar"]),
        ("example;note, and more\nfoo;x, y\nbar;z, w\n", ["foo", "bar"]),
        ("id|example\n1|a, b, c\n2|a, b, c\n", ["a, b, c", "a, b, c"]),
    ],
)
def test_delimiters_inside_texts_do_not_mislead(read, content, examples):
    assert read(content).table["example"].to_pylist() == examples


def test_lines_of_a_text_file_keep_their_commas(read):
    assert read("example\nfoo, bar\nbaz\n", "lines.txt").table["example"].to_pylist() == ["foo, bar", "baz"]


@pytest.mark.parametrize(
    "text",
    [
        *("NA", "null", "None", "nan", "N/A", "true", "007", "1.10", "1e5", "+1", "-0", "0x1F", "1_000"),
        *(" padded ", "tab\there", "line\nbreak", "line\r\nbreak", "line\rbreak", "\n", '"quoted"', '"', '""'),
        *(
            "🙂👩‍👩‍👧",
            "\x01\x07\x1b[31m\x7f",
            "$(rm -rf /)",
            "=1+1",
            "\u2028\u0085\x0b\x0c",
            "\ufeff",
            "e\u0301",
            "x" * 200_000,
        ),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_text_stays_as_it_is_written(read, text):
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([["example", "ground_truth", "note"], [text, text, text + "."]])
    assert rows(read(sink.getvalue())) == [{"example": text, "ground_truth": text, "note": text + "."}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "{end}", "{end}{end}{end}", "{end}   {end}"])
def test_line_ends_and_blank_lines_at_the_end(read, end, last):
    text = f'example,n{end}"a{end}b",1{end}c,2' + last.format(end=end)
    assert rows(read(text)) == [{"example": f"a{end}b", "n": 1}, {"example": "c", "n": 2}]


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8-sig", "byte-order mark removed"),
        ("utf-16", "decoded from UTF-16-LE"),
        ("utf-32", "decoded from UTF-32-LE"),
    ],
)
def test_byte_order_marks_tell_the_encoding(read, encoding, note):
    examples = read("example,ground_truth\nčaj 🙂,x\n".encode(encoding))
    assert rows(examples) == [{"example": "čaj 🙂", "ground_truth": "x"}]
    assert examples.notes == (note,)


def test_utf16_with_the_high_byte_first(read):
    assert rows(read(b"\xfe\xff" + "example\nčaj\n".encode("utf-16-be"))) == [{"example": "čaj"}]


def test_notes_name_what_was_decided(read):
    examples = read("\ufeffexample_;text;example\na;b;c\n\n", example="text")
    assert examples.notes == (
        "byte-order mark removed",
        "columns are separated by semicolons",
        "1 blank line skipped",
        "column 'example' renamed 'example__'",
    )
    assert rows(examples) == [{"example": "b", "example_": "a", "example__": "c"}]


def test_the_delimiter_that_most_rows_agree_on_is_named_where_no_column_fits(read):
    with pytest.raises(MissingFieldsError, match="columns found: 'a', 'b,c', 'd'"):
        read("a;b,c;d\n1;2;3\n4;5;6\n7;8,9;0\n")


def test_blank_lines_between_rows_are_passed_over(read):
    examples = read("\n\nexample,n\n\na,1\n \nb,2\n")
    assert examples.table["example"].to_pylist() == ["a", "b"]
    assert examples.notes == ("2 blank lines skipped",)


def test_empty_cells(read):
    examples = read('example,ground_truth,note,n\n,,,\nb,"",x,2\nc, ,,\n')
    assert rows(examples) == [
        {"example": "", "ground_truth": None, "note": "", "n": None},
        {"example": "b", "ground_truth": None, "note": "x", "n": 2},
        {"example": "c", "ground_truth": " ", "note": "", "n": None},
    ]


def test_an_empty_quoted_cell_in_a_single_column_is_an_example(read):
    assert read('example\n""\na\n').table["example"].to_pylist() == ["", "a"]


def test_a_cell_of_ten_megabytes(read):
    text = "word, and\n" * 1_000_000
    assert rows(read(f'example,n\n"{text}",1\nb,2\n')) == [{"example": text, "n": 1}, {"example": "b", "n": 2}]


def test_rows_of_many_batches_stay_in_order(read):
    n = 10_000
    lines = "".join(f"text {i},truth {i},{i},{i / 7}\n" for i in range(n))
    table = read("example,ground_truth,n,score\n" + lines).table
    assert table["example"].to_pylist() == [f"text {i}" for i in range(n)]
    assert table["n"].to_pylist() == list(range(n))
    assert table["score"].to_pylist() == [i / 7 for i in range(n)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-2", "", "30"], [1, -2, None, 30]),
        (["1.5", "2.0", "-0.25", "1e+20"], [1.5, 2.0, -0.25, 1e20]),
        (["0", "0.5", "1"], [0.0, 0.5, 1.0]),
        (["1", "1.0", "1.5"], ["1", "1.0", "1.5"]),
        (["007", "8"], ["007", "8"]),
        (["1.10", "2.5"], ["1.10", "2.5"]),
        (["0x1F", "-0"], ["0x1F", "-0"]),
        (["1.0", "nan"], ["1.0", "nan"]),
        (["inf", "1.0"], ["inf", "1.0"]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["0.1000000000000000055", "1.5"], ["0.1000000000000000055", "1.5"]),
        (["1", "x"], ["1", "x"]),
        (["", ""], ["", ""]),
        (["true", "false"], ["true", "false"]),
    ],
    ids=str,
)
def test_metadata_become_numbers_only_without_loss(read, cells, values):
    found = read("example,n\n" + "".join(f"x,{cell}\n" for cell in cells)).table["n"].to_pylist()
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_a_late_text_keeps_a_column_of_numbers_text(read):
    cells = [str(i) for i in range(9_000)] + ["n/a"]
    assert read("example,n\n" + "".join(f"x,{cell}\n" for cell in cells)).table["n"].to_pylist() == cells


# Columns


@pytest.mark.parametrize(
    ("header", "asked", "mapped"),
    [
        ("example,ground_truth", {}, {"example": "example", "ground_truth": "ground_truth"}),
        (" Examples , GROUND_TRUTH ", {}, {"example": "Examples", "ground_truth": "GROUND_TRUTH"}),
        ("examples,example", {}, {"example": "example"}),
        (
            "body,summary",
            {"example": "body", "ground_truth": "summary"},
            {"example": "body", "ground_truth": "summary"},
        ),
        ("Body,summary", {"example": "body"}, {"example": "Body"}),
        ("body,Body", {"example": "Body"}, {"example": "Body"}),
    ],
)
def test_columns_are_found(read, header, asked, mapped):
    assert read(f"{header}\na,b\n", **asked).columns == mapped


def test_reserved_names_are_free_for_the_mapped_columns(read):
    examples = read("example,ground_truth,body,gold\n1,2,text,truth\n", example="body", ground_truth="gold")
    assert rows(examples) == [{"example": "text", "ground_truth": "truth", "example_": 1, "ground_truth_": 2}]
    assert examples.notes == ("column 'example' renamed 'example_'", "column 'ground_truth' renamed 'ground_truth_'")


def test_the_unnamed_index_of_pandas_is_named(read):
    frame = pd.DataFrame({"example": ["a", "b"], "index": [5, 6]})
    assert rows(read(frame.to_csv())) == [
        {"example": "a", "index_": 0, "index": 5},
        {"example": "b", "index_": 1, "index": 6},
    ]


def test_a_missing_column_is_told_with_those_found_and_the_call(read):
    with pytest.raises(MissingFieldsError) as caught:
        read("id,exmple,summary\n1,a,b\n")
    assert caught.value.message == "data.csv has no column 'example'; columns found: 'id', 'exmple', 'summary'"
    assert "did you mean 'exmple'?" in caught.value.hint
    assert 'upload(…, example="…")' in caught.value.hint


@pytest.mark.parametrize(
    ("content", "filename"),
    [
        ("body,n\na,1\n", "data.csv"),
        ('{"body": "a", "n": 1}\n', "data.jsonl"),
        (parquet(body=["a"], n=[1]), "data.parquet"),
    ],
)
@pytest.mark.parametrize(
    ("field", "asked"), [("example", {"example": "bdy"}), ("ground_truth", {"ground_truth": "N2"})]
)
def test_a_column_asked_for_must_be_there(read, content, filename, field, asked):
    with pytest.raises(
        MissingFieldsError, match=f"{filename} has no column {asked[field]!r}; columns found: 'body', 'n'"
    ):
        read(content, filename, **{"example": "body", **asked})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_short_rows_are_filled_where_that_is_asked_for(read, encoding):
    content = 'example,n,m\na,1,x\n\nb,1\n"c\nd"\n'.encode(encoding)
    examples = read(content, short_rows="fill")
    assert rows(examples) == [
        {"example": "a", "n": 1, "m": "x"}, {"example": "b", "n": 1, "m": ""}, {"example": "c\nd", "n": None, "m": ""},
    ]  # fmt: skip
    assert "2 rows (the first is row 2) had fewer cells than the header: the missing cells are empty" in examples.notes
    with pytest.raises(DatasetError, match="row 2.*2 cells") as caught:
        read(content)
    assert "short_rows='fill'" in caught.value.hint
    with pytest.raises(DatasetError, match="row 2.*: 3 cells where the header names 2"):
        read("example,n\na\nb,1,2\n", short_rows="fill")
    with pytest.raises(InvalidInputError, match="short_rows"):
        read(content, short_rows="drop")


# Delimited text: what is refused


BAD_DELIMITED = {
    "empty": (b"", "data.csv is empty", "saved completely"),
    "only blank lines": (b"\n \n\n", "data.csv is empty", ""),
    "only a byte-order mark": (b"\xef\xbb\xbf", "data.csv is empty", ""),
    "header only": (b"example,n\n\n", "data.csv names its columns but has no rows", "add at least one"),
    "too many cells": (
        b'example,n\n"a\nb",1\nc, d,2\n',
        "data.csv, line 4 (row 2): 3 cells where the header names 2; the first cell too many is '2'",
        "put cells that contain ',' in double quotes",
    ),
    "too few cells": (
        b"example,n,m\na,1,2\n\nb,1\n",
        "data.csv, line 4 (row 2): 2 cells where the header names 3; the last cell is '1'",
        "add the missing cells",
    ),
    "space before a quote": (b'n,example\n1, "a, b"\n', "line 2 (row 1): 3 cells", "remove the space between ','"),
    "NUL": (b"example,n\na,1\nb\0c,2\n", "data.csv, line 3: there is a NUL byte", "remove"),
    "UTF-16 without mark": (
        "example,n\na,1\n".encode("utf-16-le"),
        "data.csv seems to be UTF-16 without a byte-order mark",
        "decode('utf-16-le')",
    ),
    "cp1252": (
        "example,n\nplain,1\nüber die Straße – „schön“,2\n".encode("cp1252"),
        "data.csv, line 3: byte 18 is not UTF-8; the file seems to be cp1252",
        "decode('cp1252')",
    ),
    "cp932": (b"example\n" + "こんにちは世界、元気ですか\n".encode("cp932") * 3, "seems to be cp932", "cp932"),
    "cut inside a character": (
        "example\nčaj č".encode()[:-1],
        "line 2: byte 13 is not UTF-8: the file ends inside",
        "",
    ),
    "cut UTF-16": (
        "example\na\n".encode("utf-16")[:-1],
        "byte 20 is not UTF-16-LE: the file ends inside",
        "incomplete",
    ),
    "duplicate names": (
        b"example,n,n \na,1,2\n",
        "data.csv: 2 columns are named 'n' (columns 2, 3)",
        "its own name",
    ),
    "unnamed column": (b"example,n,\na,1,\n", "data.csv, line 1: column 3 of 3 has no name", "remove its delimiter"),
    "two fitting names": (b"Example,EXAMPLE\na,b\n", "fits several columns: 'Example', 'EXAMPLE'", "exactly"),
    "quote never closed": (
        b'n,example\n1,"fine\n"\n2,"open\n3,x\n',
        "data.csv, line 4 (row 2), column 'example': the quote that opens here is never closed",
        "close it",
    ),
    "quote closed far below": (
        b'n,example,m\n1,"fine\ntoo","open\n2,x,y\n3,"z",w\n',
        "data.csv, line 3 (row 1), column 'm': the quote that opens here is not closed before line 5",
        "close it where its cell ends",
    ),
    "text after the closing quote": (
        b'example,n\n"say "hi" there",1\n',
        "data.csv, line 2 (row 1), column 'example': text follows the closing quote",
        'twice: ""',
    ),
    "quote open in the header": (b'n,"example\n1,a\n', "data.csv, line 1 (the header): the quote that opens here", ""),
}


@pytest.mark.parametrize(("content", "message", "hint"), BAD_DELIMITED.values(), ids=BAD_DELIMITED.keys())
def test_bad_delimited_text_is_refused_with_place_and_remedy(read, content, message, hint):
    with pytest.raises(DatasetError) as caught:
        read(content)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_one_column_cannot_be_both(read):
    with pytest.raises(DatasetError, match="cannot be both"):
        read("text\na\n", example="text", ground_truth="text")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_bad_byte_far_into_the_file_is_found(read, end):
    good = ("example\n" + "číslo\n" * 400_000).replace("\n", end).encode()
    with pytest.raises(DatasetError, match=rf"line 400002: byte {len(good) + 1} is not UTF-8"):
        read(good + b"x\xff")


def test_the_suggested_conversion_works(read, tmp_path, monkeypatch):
    content = "example\nüber die Straße – „schön“\n".encode("cp1252")
    with pytest.raises(DatasetError) as caught:
        read(content)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_bytes(content)
    exec("from pathlib import Path\n" + caught.value.hint.partition("pathlib: ")[2])
    converted = (tmp_path / "utf8-data.csv").read_bytes()
    assert rows(read(converted)) == [{"example": "über die Straße – „schön“"}]


# Which format


@pytest.mark.parametrize(
    ("content", "filename", "message"),
    [
        (PNG, "photo.csv", "photo.csv is a PNG picture, not CSV"),
        (b"\xff\xd8\xff\xe0" + bytes(9), "photo.tsv", "photo.tsv is a JPEG picture, not TSV"),
        (b"%PDF-1.7\n", "paper.jsonl", "paper.jsonl is a PDF document, not JSON Lines"),
        (archive("a.csv"), "data.csv", "data.csv is a zip archive, not CSV"),
        (archive("xl/workbook.xml"), "data.csv", "data.csv is an Excel workbook, not CSV"),
        (archive("word/document.xml"), "data", "data is a Word document, not a table of examples"),
        (b"PK\x03\x04 cut off", "data.csv", "data.csv is a zip archive, not CSV"),
        (b"\x1f\x8b\x08\x00", "data.csv.gz", "data.csv.gz is a gzip archive"),
        (b"\n<!DOCTYPE html><html>", "data.csv", "data.csv is an HTML page, not CSV"),
        (PNG, "data.parquet", "data.parquet is a PNG picture, not Parquet"),
        (b'{"example": "a"}\n', "data.csv", "data.csv looks like JSON Lines, not delimited text"),
        (parquet(example=["a"]), "data.csv", "data.csv looks like a Parquet file, not delimited text"),
        (b"example\na\n", "data.parquet", "data.parquet looks like delimited text, not a Parquet file"),
    ],
)
def test_other_content_than_the_name_says_is_named(read, content, filename, message):
    with pytest.raises(DatasetError) as caught:
        read(content, filename)
    assert caught.value.message.startswith(message)
    assert caught.value.hint


@pytest.mark.parametrize("filename", ["download", "data.dat", "data.json"])
@pytest.mark.parametrize(
    "content",
    [
        b'{"example": "a", "n": 1}\n',
        b"example,n\na,1\n",
        b'\xef\xbb\xbf {"example": "a", "n": 1}',
        parquet(example=["a"], n=[1]),
    ],
)
def test_content_decides_where_the_name_does_not(read, filename, content):
    assert rows(read(content, filename)) == [{"example": "a", "n": 1}]


# JSON Lines


def test_json_lines_keep_texts_and_types(read):
    lines = [
        {"example": "a\nb", "ground_truth": "NA", "n": 1, "f": 0.5, "b": True, "t": "007", "mix": 1},
        {"example": "", "ground_truth": None, "n": None, "f": 2, "b": False, "t": "", "mix": "x"},
        {"example": None, "ground_truth": "", "late": "here", "mix": {"k": [1, "é", None]}},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines)
    examples = read(text.replace("0.5", "0.50"), "data.jsonl")
    common = {"late": None}
    assert rows(examples) == [
        {"example": "a\nb", "ground_truth": "NA", "n": 1, "f": 0.5, "b": True, "t": "007", "mix": "1", **common},
        {"example": "", "ground_truth": None, "n": None, "f": 2.0, "b": False, "t": "", "mix": "x", **common},
        {
            **{"example": "", "ground_truth": None, "n": None, "f": None, "b": None, "t": None},
            **{"mix": '{"k": [1, "é", null]}', "late": "here"},
        },
    ]
    assert examples.notes == ("column 'mix' kept as JSON text",)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("1.10", "1.10"),
        ("7", "7"),
        ("1e5", "1e5"),
        ("true", "true"),
        ("123456789012345678901", "123456789012345678901"),
    ],
)
def test_json_values_become_text_as_written(read, written, text):
    examples = read(f'{{"example": {written}, "ground_truth": {written}}}\n', "data.jsonl")
    assert rows(examples) == [{"example": text, "ground_truth": text}]


def test_a_ground_truth_of_nan_is_missing(read):
    examples = read('{"example": "a", "ground_truth": NaN}\n{"example": "NaN", "ground_truth": "NaN"}', "data.jsonl")
    assert examples.table["ground_truth"].to_pylist() == [None, "NaN"]


def test_integers_beyond_64_bits_stay_text(read):
    examples = read('{"example": "a", "n": 9223372036854775808}\n{"example": "b", "n": 1}\n', "data.jsonl")
    assert examples.table["n"].to_pylist() == ["9223372036854775808", "1"]


def test_types_are_decided_over_all_batches(read):
    lines = [{"example": str(i), "n": i} for i in range(9_000)] + [
        {"example": "x", "n": "end"},
        {"example": "y", "new": 1},
    ]
    examples = read("\n".join(map(json.dumps, lines)), "data.jsonl")
    assert examples.table["n"].to_pylist() == [*map(str, range(9_000)), "end", None]
    assert examples.table["new"].to_pylist() == [None] * 9_001 + [1]


BAD_JSON_LINES = {
    "broken": (
        '{"example": "a"}\n\n{"example" "b"}',
        "data.jsonl, line 3: broken JSON at character 12",
        "complete JSON",
    ),
    "cut": ('{"example": "a"}\n{"example": "b', "data.jsonl, line 2: broken JSON", "complete JSON"),
    "list": ('{"example": "a"}\n[1]', "data.jsonl, line 2 is a list, not an object", "array"),
    "number": ("3", "data.jsonl, line 1 is a number, not an object", ""),
    "null": ("null", "data.jsonl, line 1 is null, not an object", ""),
    "array": ('[{"example": "a"},\n{"example": "b"}]', "data.jsonl, line 1: broken JSON", "pandas.read_json"),
    "array on one line": ('[{"example": "a"}]', "data.jsonl, line 1 is a list, not an object", "pandas.read_json"),
    "missing key": (
        '{"example": "a"}\n{"text": "b"}',
        "data.jsonl, row 2: there is no key 'example'; its keys are: 'text'",
        "every row",
    ),
    "no keys": ("{}", "data.jsonl has no values", ""),
    "twice": ('{"example": "a", "n": 1, "n": 2}', "data.jsonl, line 1: key 'n' occurs twice", ""),
    "nested example": (
        '{"example": "a"}\n{"example": {"role": "user"}}',
        "data.jsonl, row 2, column 'example': a nested value is not text",
        "one text per row",
    ),
    "nested ground truth": ('{"example": "a", "ground_truth": ["b"]}', "row 1, column 'ground_truth': a nested", ""),
    "NUL escape": (
        '{"example": "a"}\n{"example": "b\\u0000c"}',
        "data.jsonl, row 2, column 'example': there is a NUL",
        "",
    ),
    "NUL byte": ('{"example": "a\0"}', "data.jsonl, line 1: there is a NUL byte", ""),
    "half an emoji": ('{"example": "\\ud83d"}', "data.jsonl, line 1, key 'example': a \\ud800-\\udfff escape", ""),
    "too deep": ('{"example": ' + "[" * 100_000, "data.jsonl, line 1: ", ""),
}


@pytest.mark.parametrize(("content", "message", "hint"), BAD_JSON_LINES.values(), ids=BAD_JSON_LINES.keys())
def test_bad_json_lines_are_refused_with_place_and_remedy(read, content, message, hint):
    with pytest.raises(DatasetError) as caught:
        read(content, "data.jsonl")
    assert caught.value.message.startswith(message) or f", {message}" in caught.value.message
    assert hint in caught.value.hint


def test_a_pair_of_surrogate_escapes_is_one_character(read):
    assert rows(read('{"example": "\\ud83d\\ude42"}', "data.jsonl")) == [{"example": "🙂"}]


# Parquet and DataFrames


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array(["007", "NA", "", None]), ["007", "NA", "", ""]),
        (pa.array(["a", None], pa.large_string()), ["a", ""]),
        (pa.array(["a", None], pa.string_view()), ["a", ""]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([7, None], pa.int8()), ["7", ""]),
        (pa.array([1.0, 2.5]), ["1.0", "2.5"]),
        (pa.array([0.1, float("nan")], pa.float32()), ["0.1", ""]),
        (pa.array([7.0, None]), ["7", ""]),
        (pa.array([Decimal("1.10")]), ["1.10"]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.nulls(1), [""]),
    ],
    ids=str,
)
def test_parquet_values_become_text(read, column, texts):
    examples = read(parquet(example=column, ground_truth=column), "data.parquet")
    assert examples.table.schema.types == [pa.string(), pa.string()]
    assert examples.table["example"].to_pylist() == texts
    assert examples.table["ground_truth"].to_pylist() == [text or None for text in texts]


def test_parquet_metadata_keep_their_types(read):
    columns = {"n": pa.array([1], pa.int16()), "list": pa.array([[1, 2]]), "when": pa.array([0], pa.timestamp("ms"))}
    table = read(parquet(example=["a"], **columns), "data.parquet").table
    assert {name: table.schema.field(name).type for name in columns} == {name: c.type for name, c in columns.items()}


def test_the_unnamed_index_of_pandas_in_parquet_is_named(read):
    sink = io.BytesIO()
    pd.DataFrame({"example": ["a", "b"]}, index=[3, 5]).to_parquet(sink)
    examples = read(sink.getvalue(), "data.parquet")
    assert rows(examples) == [{"example": "a", "index": 3}, {"example": "b", "index": 5}]


def two_columns_of_one_name():
    sink = io.BytesIO()
    pq.write_table(pa.table([["a"], ["b"]], names=["example", "example"]), sink)
    return sink.getvalue()


BROKEN_TEXT = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], "int32")), pa.py_buffer(b"\xff")]
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (parquet(example=["a"] * 100)[:-20], "data.parquet is not a readable Parquet file"),
        (b"PAR1" + bytes(50) + b"PAR1", "data.parquet is not a readable Parquet file"),
        (parquet(example=pa.array([b"a"])), "data.parquet, column 'example' contains bytes"),
        (
            parquet(example=pa.array([None, [{"role": "user"}]])),
            "data.parquet, row 2, column 'example': a nested value",
        ),
        (parquet(example=["a"], ground_truth=pa.array([{"x": 1}])), "row 1, column 'ground_truth': a nested value"),
        (parquet(example=pa.array([], pa.string())), "data.parquet names its columns but has no rows"),
        (parquet(example=["a", "b\0"]), "data.parquet, row 2, column 'example': there is a NUL character"),
        (parquet(example=["a"], note=["\0"]), "data.parquet, row 1, column 'note': there is a NUL character"),
        (parquet(example=BROKEN_TEXT), "data.parquet, column 'example', rows 1 to 1: some text is not UTF-8"),
        (two_columns_of_one_name(), "data.parquet: 2 columns are named 'example'"),
    ],
)
def test_bad_parquet_is_refused(read, content, message):
    with pytest.raises(DatasetError) as caught:
        read(content, "data.parquet")
    assert message in caught.value.message
    assert caught.value.hint


def test_a_frame_comes_back(read):
    frame = pd.DataFrame(
        {
            "example": ["a", "NA", None],
            "ground_truth": [1, 2, None],
            "mixed": [1, "x", None],
            "kind": pd.Categorical(["u", "v", "u"]),
            "when": pd.to_datetime(["2024-01-01"] * 3),
            5: [1.5, np.nan, 2.0],
        }
    )
    found = rows(read(frame_to_bytes(frame), "dataframe.parquet"))
    assert [row["example"] for row in found] == ["a", "NA", ""]
    assert [row["ground_truth"] for row in found] == ["1", "2", None]
    assert [row["mixed"] for row in found] == ["1", "x", None]
    assert [row["kind"] for row in found] == ["u", "v", "u"]
    assert [row["5"] for row in found] == [1.5, None, 2.0]
    assert str(found[0]["when"]) == "2024-01-01 00:00:00"


def test_only_a_named_index_is_kept(read):
    frame = pd.DataFrame({"example": ["a", "b"]}, index=[7, 8])
    assert rows(read(frame_to_bytes(frame), "f.parquet")) == [{"example": "a"}, {"example": "b"}]
    index = pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=[None, "n"])
    assert rows(read(frame_to_bytes(frame.set_axis(index)), "f.parquet")) == [
        {"example": "a", "n": 1},
        {"example": "b", "n": 2},
    ]


def test_equal_frames_are_equal_bytes():
    frame = pd.DataFrame({"example": ["a", "b", "c"], "n": [1, 2, 3]})
    assert frame_to_bytes(frame) == frame_to_bytes(frame.copy())
    assert frame_to_bytes(frame[1:]) == frame_to_bytes(frame[1:].reset_index(drop=True))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([["a", "b"]], columns=["example", "example"]), "the DataFrame: 2 columns are named 'example'"),
        (pd.DataFrame([["a", "b"]], columns=["1", 1]), "2 columns are named '1'"),
        (pd.DataFrame({"n": ["a"]}, index=pd.Index([1], name="n")), "2 columns are named 'n'"),
        (pd.DataFrame({("a", "b"): ["x"]}), "has column names with 2 levels"),
        (pd.DataFrame({"example": ["a", object()]}), "column 'example' has values without a common type"),
        (
            pd.DataFrame({"example": ["a", "b\ud800"]}, dtype=object),
            "row 2, column 'example' contains half a character",
        ),
    ],
)
def test_bad_frames_are_refused(frame, message):
    with pytest.raises(DatasetError) as caught:
        frame_to_bytes(frame)
    assert message in caught.value.message
    assert caught.value.hint


# Profile


def test_the_profile_counts(read):
    long = "word " * 100
    examples = read(
        f"example,ground_truth,n\none two three,x y,1\none two three,,2\n,z,3\n  ,a b c,4\n{long},,5\n6,7,6\n"
    )
    found = profile(examples.table)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    preview = found.pop("preview")
    assert found == {
        "n_examples": 6,
        "has_ground_truth": True,
        "n_missing_ground_truth": 2,
        "n_empty_examples": 2,
        "n_duplicate_examples": 1,
        "example_words": {"min": 0, "p50": 1, "mean": 17.8, "p95": 100, "max": 100},
        "ground_truth_words": {"min": 1, "p50": 1, "mean": 1.8, "p95": 3, "max": 3},
        "metadata": ["n"],
    }
    assert len(preview) == 5
    assert preview[1] == {"example": "one two three", "ground_truth": None, "n": 2}
    assert preview[4]["example"] == long[:199] + "…"


def test_the_profile_without_ground_truth(read):
    found = profile(read("example\na\n").table)
    assert (found["has_ground_truth"], found["n_missing_ground_truth"], found["ground_truth_words"]) == (False, 1, None)


def test_the_profile_of_any_type_is_json(read):
    columns = {
        "when": pa.array([0], pa.timestamp("ms")),
        "nan": pa.array([float("nan")]),
        "list": pa.array([[{"a": b"x"}]]),
        "bytes": pa.array([b"\xff"]),
        "decimal": pa.array([Decimal("1.10")]),
    }
    found = profile(read(parquet(example=["a"], **columns), "data.parquet").table)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# Round trips of arbitrary text

any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
spiked_text = st.lists(st.sampled_from(['"', ",", ";", "\t", "|", "\n", "\r", "\r\n", " ", "a", "\ufeff"]), max_size=8)
texts = any_text | spiked_text.map("".join)
tables = st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=8)
# Python before 3.13 leaves a lone CR unquoted unless it is part of the line end.
dialects = st.sampled_from(
    [(csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_MINIMAL, "\r\n")]
)
reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)


@reused
@given(
    table=tables,
    dialect=dialects,
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_text_survives_any_dialect(read, table, dialect, delimiter, encoding):
    sink = io.StringIO(newline="")
    quoting, end = dialect
    writer = csv.writer(sink, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([("note", "example", "ground_truth"), *table])
    found = read(sink.getvalue().encode(encoding)).table
    assert found["example"].to_pylist() == [example for _, example, _ in table]
    assert found["ground_truth"].to_pylist() == [truth or None for _, _, truth in table]
    for (note, _, _), kept in zip(table, found["note"].to_pylist(), strict=True):
        assert note in ("" if kept is None else str(kept), str(kept).removesuffix(".0"))


@reused
@given(table=tables)
def test_any_text_survives_json_lines_and_frames(read, table):
    frame = pd.DataFrame(table, columns=["note", "example", "ground_truth"])
    lines = frame.to_json(orient="records", lines=True)
    for examples in (read(lines, "data.jsonl"), read(frame_to_bytes(frame), "data.parquet")):
        assert examples.table["example"].to_pylist() == frame["example"].to_list()
        assert examples.table["ground_truth"].to_pylist() == [truth or None for truth in frame["ground_truth"]]
        assert examples.table["note"].to_pylist() == frame["note"].to_list()


@reused
@given(content=st.binary(max_size=60) | texts.map(str.encode))
def test_any_bytes_are_read_or_refused(read, content):
    try:
        examples = read(b"example" + content, "data.csv")
    except (DatasetError, MissingFieldsError):
        return
    assert len(examples.table)
