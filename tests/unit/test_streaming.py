"""Large files: the fast reader finds what the careful one finds, memory stays flat, and enemies are refused."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb.errors import ConflictError, DatasetError
from lumigator_nb.storage import layout
from lumigator_nb.tables import convert, delimited, numeric, plain, read_examples
from lumigator_nb.tables.personal import PersonalData, is_card
from lumigator_nb.tables.words import digit_counts, word_counts

ROOT = str(Path(lm.__file__).parents[1])


@pytest.fixture
def ws(tmp_path, migrated_url):
    with lm.connect(lumigator_home=tmp_path / "home", sqlalchemy_database_url=migrated_url) as made:
        yield made


def assert_untouched(ws) -> None:
    assert ws.datasets.list() == []
    assert ws.store.list("") == []


def python(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    search = os.pathsep.join([ROOT, *sys.path])
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": search}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# Two readers, one result


def outcome(path, **columns):
    try:
        found = read_examples(path, filename="data.csv", example="a", **columns)
    except (DatasetError, ValueError) as error:
        return str(error)
    return found.table, found.notes


def refuse(*_):
    raise plain.NotPlainError
    yield


def both(tmp_path, content, block):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plain, "_BLOCK_BYTES", block)
        fast = outcome(path)
        patched.setattr(delimited, "_plain", refuse)
        return fast, outcome(path)


reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
fragments = st.sampled_from(
    ['"', '""', ",", "\n", "\r\n", "\r", " ", "x", "é🙂", "7", "1.5", "\ufeff", '"a,b"', '"a\nb"', "\n\n", "\0", ";"]
)


@reused
@given(rows=st.lists(fragments, max_size=25).map("".join), block=st.sampled_from([1, 5, 16, 1 << 20]))
@pytest.mark.parametrize("header", ["a,b\n", "a\n", "a,b,c\r\n", '"a","b\n"\n'])
def test_both_readers_agree_on_anything(tmp_path, header, rows, block) -> None:
    fast, careful = both(tmp_path, (header + rows).encode(), block)
    assert fast == careful


@reused
@given(
    table=st.lists(st.tuples(*[st.lists(fragments, max_size=4).map("".join)] * 3), min_size=1, max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    block=st.sampled_from([8, 64]),
)
def test_both_readers_agree_on_what_is_written_well(tmp_path, table, end, quoting, block) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator=end, quoting=quoting).writerows([("a", "b", "c"), *table])
    fast, careful = both(tmp_path, sink.getvalue().encode(), block)
    assert fast == careful


@pytest.mark.parametrize(
    ("content", "n_rows"),
    [
        ('a,b\n"x, ""y""\n z",1\n', 1),
        ("a,b\r\nx,1\r\n\r\ny,2", 2),
        ("\ufeffa,b\nx,1\n", 1),
        ('a\n""\nx\n', 2),
    ],
)
def test_the_fast_reader_takes_what_is_plain(tmp_path, monkeypatch, content, n_rows) -> None:
    monkeypatch.setattr(delimited, "_carefully", None)
    path = tmp_path / "data.csv"
    path.write_bytes(content.encode())
    assert len(read_examples(path, filename="data.csv", example="a").table) == n_rows


@pytest.mark.parametrize("line", ['x,"1" 2\n', "x,1,2\n", "x\n", "x\0,1\n", "\xff,1\n", 'x,"1\n'])
def test_an_error_far_into_a_plain_file_names_its_row(tmp_path, monkeypatch, line) -> None:
    monkeypatch.setattr(plain, "_BLOCK_BYTES", 1 << 16)
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\n" + b'"text, and",1\n' * 30_000 + line.encode("latin-1"))
    with pytest.raises(DatasetError, match="line 30002"):
        read_examples(path, filename="data.csv", example="a")


@reused
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e4, 1e4).map(lambda x: round(x, 2))),
    written=st.sampled_from([repr, lambda x: repr(x).removesuffix(".0"), "{:.2f}".format]),
)
def test_floats_are_compared_alike_in_both_ways(values, written) -> None:
    column = pa.chunked_array([pa.array([written(value) for value in values], pa.string())])
    fast, slow = numeric.LosslessNumbers(), numeric.LosslessNumbers()
    fast.add(column)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(numeric, "_ALIKE_BELOW", 0)
        slow.add(column)
    assert fast.type == slow.type
    assert fast.type is None or (fast._full, fast._short) == (slow._full, slow._short)


def test_words_are_those_of_python_for_every_character() -> None:
    texts = [f"a{chr(code)}b" for code in range(0x110000) if unicodedata.category(chr(code)) != "Cs"]
    assert word_counts(pa.array(texts)).tolist() == [len(text.split()) for text in texts]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \t\x1f\u2003\xa0a7")), max_size=8))
def test_words_and_digits_of_any_texts(texts) -> None:
    column = pa.array(["x 1", *texts, "y"], pa.string())[1:-1]
    assert word_counts(column).tolist() == [len(text.split()) for text in texts]
    assert digit_counts(column).tolist() == [sum(c in "0123456789" for c in text) for text in texts]


# Converting


def test_the_file_is_in_row_groups_with_checksums_and_hashed(ws, tmp_path) -> None:
    path = tmp_path / "big.csv"
    path.write_text("example,n\n" + "".join(f'"text {i}, {"word " * (i % 40)}",{i / 8}\n' for i in range(40_000)))
    dataset = ws.datasets.upload(path)
    data = ws.store.read(layout.examples(dataset.id))
    assert dataset.data_hash == hashlib.sha256(data).hexdigest()
    file = pq.ParquetFile(io.BytesIO(data))
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [8192] * 4 + [40_000 - 4 * 8192]
    assert file.read()["n"].to_pylist() == [i / 8 for i in range(40_000)]
    start = file.metadata.row_group(2).column(0).dictionary_page_offset + 200
    broken = data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :]
    with pytest.raises(OSError, match="checksum|CRC"):
        pq.read_table(io.BytesIO(broken), page_checksum_verification=True)


def test_progress_rises_to_the_whole(tmp_path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"example,n\n" + b'"text, and",1\n' * 1_000_000)
    seen: list[int] = []
    convert(path, tmp_path / "x.parquet", filename="data.csv", report=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == path.stat().st_size


MEASURE = """
import resource, sys
from pathlib import Path
from lumigator_nb.tables import convert
folder = Path(sys.argv[1])
def peak(path):
    convert(path, folder / "out.parquet", filename="data.csv", example="body", ground_truth="gold")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(peak(folder / "small.csv"), peak(folder / "large.csv"))
"""


@pytest.mark.parametrize("odd", ["", '5" disk,x,1\n'], ids=["fast", "careful"])
def test_memory_is_flat(tmp_path, odd) -> None:
    row = f'"{"some words, " * 20}","{"more of them " * 5}",12.5\n'
    for name, count in (("small", 30_000), ("large", 110_000)):
        (tmp_path / f"{name}.csv").write_text("body,gold,n\n" + odd + row * count)
    out, err = (process := python(MEASURE, tmp_path)).communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    small, large = map(float, out.split())
    assert large - small < 18  # MiB; the file alone has 26 MB more


# Enemies


def test_a_file_that_grows_while_it_is_read_is_refused(ws, tmp_path, monkeypatch) -> None:
    from lumigator_nb.services.datasets import sources

    path = tmp_path / "log.csv"
    path.write_text("example\na\n")
    write = sources._write

    def slow(source, target) -> None:
        write(source, target)
        with path.open("a") as file:
            file.write("half a r")

    monkeypatch.setattr(sources, "_write", slow)
    with pytest.raises(DatasetError, match="changed while it was read"):
        ws.datasets.upload(path)
    assert_untouched(ws)


UPLOAD = """
import sys, lumigator_nb as lm, resource
from lumigator_nb.errors import LumigatorError
home, path, limit = sys.argv[1:]
ws = lm.connect(lumigator_home=home)
print("ready", flush=True)
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
try:
    ws.datasets.upload(path, example="a")
except LumigatorError as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.mark.parametrize("packed", [False, True], ids=["copying", "unpacking"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch, packed) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    content = b"a,b\n" + b"some words,1\n" * 200_000
    path = tmp_path / ("data.csv.gz" if packed else "data.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    monkeypatch.setenv("TMPDIR", str(temporary))
    # A limit on the size of files is told by the system as a full disk is.
    out, err = (process := python(UPLOAD, home, path, 1_000_000)).communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "StoreUnavailableError there is no room for temporary files in" in out
    assert "TMPDIR" in out
    with lm.connect(lumigator_home=home) as ws:
        assert_untouched(ws)
    assert list(temporary.glob("lumigator-*")) == []


def test_a_kill_in_the_middle_leaves_nothing(tmp_path, monkeypatch) -> None:
    path, home, temporary = tmp_path / "data.csv", tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    path.write_text("a,b\n" + f'"{"some words, " * 20}",1.5\n' * 100_000)
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = python(UPLOAD, home, path, 0)
    while not list(temporary.glob("lumigator-spool-*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    with lm.connect(lumigator_home=home) as ws:
        assert_untouched(ws)
        assert ws.datasets.upload(path, example="a").n_examples == 100_000


@pytest.mark.parametrize("filename", ["x.csv", "x.jsonl"])
def test_a_hundred_thousand_columns_are_refused(tmp_path, filename) -> None:
    names = [f"c{number}" for number in range(100_000)]
    path = tmp_path / filename
    if filename == "x.csv":
        path.write_text(",".join(["example", *names]) + "\n" + ",".join(["x"] * 100_001) + "\n")
    else:
        path.write_text('{"example": "x", ' + ", ".join(f'"{name}": 1' for name in names) + "}\n")
    with pytest.raises(DatasetError, match=r"has 100,001 columns, and examples may have 10,000"):
        read_examples(path, filename=filename)


def test_ten_thousand_columns_work(tmp_path) -> None:
    names = ["example", *(f"c{number}" for number in range(9_999))]
    path = tmp_path / "x.csv"
    path.write_text(",".join(names) + "\n" + ",".join(map(str, range(10_000))) + "\n")
    assert read_examples(path, filename="x.csv").table.num_columns == 10_000


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_cell_of_many_megabytes(tmp_path, monkeypatch, quote) -> None:
    monkeypatch.setattr(plain, "_MAX_BLOCK_BYTES", 8 << 20)
    path = tmp_path / "x.csv"
    path.write_text(f"example,n\n{quote}{'word ' * 2_400_000}{quote},1\nb,2\n")
    found = convert(path, tmp_path / "x.parquet", filename="x.csv")
    assert found.profile["example_words"]["max"] == 2_400_000
    assert found.n_examples == 2


# What is told of the content


def test_duplicates_and_empty_examples_are_told(ws) -> None:
    frame = pd.DataFrame({"example": ["a", "b", "a", " ", "", "a"]})
    notes = ws.datasets.upload(frame, name="x").notes
    assert notes == ["2 examples have the same text as an earlier one", "2 examples have no text"]
    assert ws.datasets.upload(pd.DataFrame({"example": ["a", "b"]}), name="y").notes == []


PHONES = [
    *("+49 30 1234567", "call +1 (555) 123-4567.", "+44 (0)20 7946 0958", "0049 30 1234567", "(212) 555-0123"),
    *("212-555-0123", "1-800-555-0199", "06 12 34 56 78", "020 7946 0958", "07700 900123", "(030) 1234567"),
    *("Phone: 555-1234", "tel. 030/1234567", "my mobile is 0171 1234567", "+4915112345678", "fax 0171-1234567"),
]
MAILS = ["a.b@c.de", "write to max@mail.example.com, please", "<x_y+z@sub.d.org>", "m.müller@firma.de"]
CARDS = ["4111 1111 1111 1111", "card 5500005555555559.", "3782-822463-10005", "6011111111111117", "378282246310005"]
HARMLESS = [
    *("order 4500123456", "2024-01-31 12:30:00", "01.02.2024", "31.12.2024 - 01.01.2025", "$1,234,567.89"),
    *("1.234.567,89 EUR", "ISBN 978-3-16-148410-0", "id 123-456-7890", "ORD-302-555-0199", "#302-555-0199"),
    *("v1.2.3.4", "192.168.100.200", "1234567890123456", "1700000000", "0001234567890", "+5 points, +12.50"),
    *("550e8400-e29b-41d4-a716-446655440000", "+10 000 000 users", "2019/2020 2021 2022", "12 34 56 78 90"),
    *("10:30-11:45 2024", "@handle hi", "a@b", "4111 1111 1111 1112", "9780306406157", "+1.2345678901"),
    *("DE89 3704 0044 0532 0130 00", "1Z999AA10123456784", "lat 52.520008, long 13.404954", "telling 1234567"),
    *("phones 3 for 1999", "100 000 000", "3.141592653589793", "room 555 1234", "invoice 20240131-0042"),
    *("SKU 212-555-01234", "https://x.org/+49301234567", "", "1 2 3 4 5 6 7 8 9 10"),
]


def notes_on(*texts, **columns):
    found = PersonalData()
    found.add(pa.table({"example": pa.array(texts, pa.string()), **columns}))
    return found.notes


@pytest.mark.parametrize(
    ("text", "what"),
    [*((t, "a phone number") for t in PHONES), *((t, "an e-mail") for t in MAILS), *((t, "a card") for t in CARDS)],
)
def test_personal_data_are_told_by_kind_and_row_and_never_shown(text, what) -> None:
    (note,) = notes_on("harmless", text)
    assert f"1 example has {what}" in note
    assert note.count(" has ") == 1
    assert "(row 2)" in note
    assert text not in note


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_of_other_kinds_are_no_personal_data(text) -> None:
    assert notes_on(text, f"before {text}", f"{text}, and after") == ()


def test_the_rows_of_personal_data_count_on_over_pieces() -> None:
    found = PersonalData()
    truths = pa.array([None, "a@b.de", "x"])
    for _ in range(3):
        found.add(pa.table({"example": ["x", "c@d.de", "y"], "ground_truth": truths, "note": ["+49 30 1234567"] * 3}))
    assert found.notes == (
        "this may be personal data, check before you send it to a provider: "
        "3 examples have an e-mail address (rows 2, 5, 8)",
    )


@given(st.integers(10**14, 10**15 - 1))
def test_of_ten_last_digits_one_makes_a_card(start) -> None:
    assert sum(is_card(f"4{start}"[:15] + str(last)) for last in range(10)) == 1


# Versions


def test_a_new_version_is_kept_under_the_same_name(ws) -> None:
    frames = [pd.DataFrame({"example": [text]}) for text in ("a", "b", "a")]
    first = ws.datasets.upload(frames[0], name="t")
    with pytest.raises(ConflictError) as caught:
        ws.datasets.upload(frames[1], name="t")
    assert "new_version=True keeps it as version 2" in caught.value.hint
    second = ws.datasets.upload(frames[1], name="t", new_version=True)
    with pytest.warns(UserWarning, match="already stored"):
        assert ws.datasets.upload(frames[1], name="t", new_version=True).id == second.id
    # Going back to what the first version held is a version of its own.
    third = ws.datasets.upload(frames[2], name="t", new_version=True)
    assert [first.version, second.version, third.version] == [1, 2, 3]
    assert ws.datasets.get("t").id == third.id
    assert ws.datasets.get("t@1").id == first.id


def test_a_name_that_means_a_version_is_refused(ws) -> None:
    ws.datasets.upload(pd.DataFrame({"example": ["a"]}), name="t")
    for new_version in (False, True):
        with pytest.raises(ConflictError):
            ws.datasets.upload(pd.DataFrame({"example": ["b"]}), name="t@1", new_version=new_version)


def test_a_version_that_comes_in_between_is_counted(ws, monkeypatch) -> None:
    ws.datasets.upload(pd.DataFrame({"example": ["a"]}), name="t")
    copy_in = ws.store.copy_in
    others = iter([True])

    def slowly(path, name) -> None:
        if next(others, False):
            ws.datasets.upload(pd.DataFrame({"example": ["b"]}), name="t", new_version=True)
        copy_in(path, name)

    monkeypatch.setattr(ws.store, "copy_in", slowly)
    assert ws.datasets.upload(pd.DataFrame({"example": ["c"]}), name="t", new_version=True).version == 3
