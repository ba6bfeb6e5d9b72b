"""Uploading from a screen, and datasets on the screens: look, form, widget, dropzone and the dashboard's pages."""

from __future__ import annotations

import base64
import gzip
from datetime import UTC, datetime

import pandas as pd
import pytest
from waiting import until

from lumigator_nb import tables
from lumigator_nb.errors import ConflictError, LumigatorError, MissingFieldsError
from lumigator_nb.presentation.datasets import datasets
from lumigator_nb.presentation.datasets.uploading import UploadForm, field_of, preview
from lumigator_nb.presentation.routes import Route
from lumigator_nb.widgets.upload import upload

CSV = "id;body;summary;shop\n" + "".join(f"{n};Text {n} <b>x</b>.;Sum {n}.;{n % 2}\n" for n in range(30))


@pytest.fixture
def tickets(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


# --- A look at a file ---


def test_a_look_finds_columns_rows_and_what_they_are(tickets) -> None:
    found = tables.look(tickets, "tickets.csv")
    assert found.columns == ("id", "body", "summary", "shop")
    assert (found.example, found.ground_truth) == ("body", "summary")
    assert found.rows[0]["body"] == "Text 0 <b>x</b>."
    assert len(found.rows) < 30
    assert any("semicolons" in note for note in found.notes)


def test_a_look_at_a_long_file_reads_its_beginning(tmp_path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("example\n" + "A line of some length.\n" * 400_000 + "a,ragged,line\n", encoding="utf-8")
    assert tables.look(path, "long.csv").columns == ("example",)


def test_a_cell_that_ends_beyond_the_beginning_is_no_failure(tmp_path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text('example\nshort\n"' + "long " * 500_000 + '"\n', encoding="utf-8")
    assert tables.look(path, "wide.csv").rows[0]["example"] == "short"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet", "xlsx", "gz"])
def test_each_format_shows_its_first_rows(tmp_path, kind) -> None:
    frame = pd.DataFrame({"text": [f"Text {n}" for n in range(9)], "answer": [f"Answer {n}" for n in range(9)]})
    path = tmp_path / f"file.{kind if kind != 'gz' else 'csv.gz'}"
    write = {
        "csv": lambda: frame.to_csv(path, index=False),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "json": lambda: frame.to_json(path, orient="records"),
        "parquet": lambda: frame.to_parquet(path),
        "xlsx": lambda: frame.to_excel(path, index=False),
        "gz": lambda: path.write_bytes(gzip.compress(frame.to_csv(index=False).encode())),
    }
    write[kind]()
    found = tables.look(path, path.name)
    assert found.columns == ("text", "answer")
    assert found.rows[1] == {"text": "Text 1", "answer": "Answer 1"}
    assert (found.example, found.ground_truth) == ("text", "answer")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
        ("broken.json", b'[{"example": '),
        ("twice.csv", b"a,a\n1,2\n"),
        ("lying.parquet", b"PAR1 and no more"),
        ("lying.xlsx", b"PK\x03\x04 and no more"),
    ],
    ids=["empty", "picture", "broken", "twice", "parquet", "excel"],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, name, content) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    with pytest.raises(LumigatorError, match=name.partition(".")[0]):
        tables.look(path, name)


# --- The form ---


def test_the_form_proposes_and_submits(inline_ws, tickets) -> None:
    form = UploadForm(inline_ws)
    assert form.validate() == {"source": "choose a file first"}
    form.take(str(tickets))
    assert (form.name, form.example, form.ground_truth) == ("tickets", "body", "summary")
    assert form.validate() == {}
    seen = []
    made = form.submit(lambda done, total: seen.append((done, total)))
    assert (made.name, made.n_examples) == ("tickets", 30)
    assert seen
    assert all(0 <= done <= total for done, total in seen)


def test_the_form_says_what_is_wrong_by_field(inline_ws, tickets) -> None:
    form = UploadForm(inline_ws)
    form.take(str(tickets))
    form.submit()
    assert "already" in form.validate()["name"]
    form.new_version = True
    assert form.validate() == {}
    form.example = form.ground_truth = "summary"
    form.name = "  "
    assert form.validate() == {"name": "enter a name", "ground_truth": "the example cannot be its own ground truth"}
    form.example = "nothing"
    assert form.validate()["example"] == "choose the column with the inputs"


def test_a_file_that_cannot_be_taken_leaves_the_form_as_it_was(inline_ws, tickets, tmp_path) -> None:
    form = UploadForm(inline_ws)
    form.take(str(tickets))
    with pytest.raises(LumigatorError):
        form.take(str(tmp_path / "nothing.csv"))
    assert (form.filename, form.name) == ("tickets.csv", "tickets")


def test_errors_of_an_upload_find_their_field() -> None:
    assert field_of(ConflictError("dataset", "taken")) == "name"
    assert field_of(MissingFieldsError("none")) == "example"
    assert field_of(OSError("disk")) == "source"


def test_the_preview_escapes_and_cuts(inline_ws, tmp_path) -> None:
    columns = {"text": ["<script>alert(1)</script>" + "long " * 500], **{f"c{n}": [n] for n in range(9)}}
    pd.DataFrame(columns).to_csv(tmp_path / "x.csv", index=False)
    form = UploadForm(inline_ws)
    form.take(str(tmp_path / "x.csv"))
    markup = preview(form)
    assert "<script>" not in markup
    assert "4 more columns are kept as metadata" in markup
    assert len(markup) < 4000


# --- The widget ---


@pytest.fixture
def widget(inline_ws):
    made = upload(inline_ws)
    yield made
    made.close()


def choose(widget, name: str, content: bytes) -> None:
    """As a browser does it."""
    widget.chooser.value = (
        {
            "name": name,
            "type": "",
            "size": len(content),
            "content": memoryview(content),
            "last_modified": datetime.now(UTC),
        },
    )


def is_shown(part) -> bool:
    return part.layout.display != "none"


def test_a_chosen_file_is_uploaded(inline_ws, widget) -> None:
    assert not is_shown(widget.mapping)
    choose(widget, "C:\\fakepath\\tickets.csv", CSV.encode())
    until(lambda: is_shown(widget.mapping))
    assert widget.chooser.value == ()  # nothing of it is kept with the notebook
    assert "&lt;b&gt;" in widget.preview.value
    assert (widget.name.value, widget.example.value, widget.truth.value) == ("tickets", "body", "summary")
    folder = widget._folder.name
    widget.name.value = "mine"
    widget.button.click()
    until(lambda: widget.dataset is not None and "30 examples" in widget.done.value)
    assert inline_ws.datasets.get("mine").n_examples == 30
    assert not is_shown(widget.mapping)
    assert not is_shown(widget.progress)
    assert not pd.io.common.file_exists(folder)
    assert "30 examples" in widget._repr_mimebundle_()["text/html"]


def test_a_path_is_looked_at_and_the_mapping_is_changed(inline_ws, widget, tickets) -> None:
    widget.address.value = str(tickets)
    until(lambda: is_shown(widget.mapping))
    widget.example.value, widget.truth.value = "summary", "(none)"
    widget.button.click()
    until(lambda: widget.dataset is not None)
    assert not widget.dataset.has_ground_truth
    assert inline_ws.datasets.to_pandas(widget.dataset)["example"][0] == "Sum 0."


def test_what_is_wrong_stands_beside_its_field(inline_ws, widget, tickets) -> None:
    inline_ws.datasets.upload(tickets, example="body", progress=False)
    choose(widget, "tickets.csv", CSV.encode())
    until(lambda: is_shown(widget.mapping))
    assert "already" in widget.problems["name"].value
    assert is_shown(widget.again)
    widget.button.click()
    assert widget.dataset is None
    widget.truth.value = "body"
    assert "its own ground truth" in widget.problems["ground_truth"].value
    widget.truth.value, widget.again.value = "summary", True
    widget.button.click()
    until(lambda: widget.dataset is not None)
    assert widget.dataset.version == 2


def test_garbage_is_refused_and_nothing_stays(inline_ws, widget) -> None:
    choose(widget, "picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    until(lambda: "picture" in widget.problems["source"].value)
    assert not is_shown(widget.mapping)
    choose(widget, "late.csv", b"example\n" + b"A fine line.\n" * 100_000 + b"a,ragged,line\n")
    until(lambda: is_shown(widget.mapping))
    widget.button.click()
    until(lambda: "line 100002" in widget.problems["source"].value)
    assert not widget.button.disabled
    assert inline_ws.datasets.count() == 0


def test_an_empty_address_and_a_missing_file_say_so(widget, tmp_path) -> None:
    widget.look.click()
    assert "enter a path" in widget.problems["source"].value
    widget.address.value = str(tmp_path / "nothing.csv")
    until(lambda: "nothing.csv" in widget.problems["source"].value)


def test_without_a_kernel_the_form_says_what_it_is(widget) -> None:
    bundle = widget._repr_mimebundle_()
    assert "Upload a dataset" in bundle["text/html"]
    assert bundle["text/plain"].startswith("Upload('')")


# --- The dropzone ---


@pytest.fixture
def drop():
    pytest.importorskip("panel_material_ui")
    from lumigator_nb.dashboards.dropzone import Dropzone

    arrived, refused, sent = [], [], []
    made = Dropzone(arrived.append, refused.append, 1000)
    made._send_msg = sent.append
    made.arrived, made.refused, made.sent = arrived, refused, sent
    yield made
    made.clear()


def send(drop, name: str, content: bytes, said: int | None = None, step: int = 300) -> None:
    drop._handle_msg({"kind": "begin", "name": name, "size": len(content) if said is None else said})
    for start in range(0, len(content), step):
        data = base64.b64encode(content[start : start + step]).decode()
        drop._handle_msg({"kind": "piece", "data": data})


def test_pieces_become_the_file(drop) -> None:
    content = bytes(range(256)) * 3
    send(drop, "a.bin", content)
    (path,) = drop.arrived
    assert (path.name, path.read_bytes()) == ("a.bin", content)
    assert drop.sent[-1] == {"kind": "rest"}
    folder = path.parent
    drop.clear()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.csv", "y.csv"),
        ("..", "file"),
        ("a\x00\nb.csv", "ab.csv"),
        ("", "file"),
    ],
    ids=["up", "windows", "dots", "control", "none"],
)
def test_a_name_leads_nowhere_else(drop, name, called) -> None:
    send(drop, name, b"x")
    (path,) = drop.arrived
    assert path.name == called
    assert path.parent.name.startswith("lumigator-drop-")


def test_an_empty_file_arrives(drop) -> None:
    send(drop, "empty.csv", b"")
    assert drop.arrived[0].read_bytes() == b""


def test_too_large_a_file_is_refused_whatever_the_browser_says(drop) -> None:
    send(drop, "large.csv", b"x" * 1001)
    assert "the limit is" in drop.refused[0]
    send(drop, "lying.csv", b"x" * 900, said=500)
    assert "larger than announced" in drop.refused[1]
    assert drop.arrived == []
    assert drop._folder is None


@pytest.mark.parametrize(
    "message",
    [{}, {"kind": "begin"}, {"kind": "begin", "name": "a", "size": "many"}, {"kind": "piece", "data": "***"}],
    ids=["nothing", "no size", "no number", "no base64"],
)
def test_nonsense_is_refused(drop, message) -> None:
    drop._handle_msg({"kind": "begin", "name": "a.csv", "size": 9})
    drop._handle_msg(message)
    assert "did not arrive" in drop.refused[0]
    assert drop._folder is None


def test_a_cancelled_upload_leaves_nothing(drop) -> None:
    drop._handle_msg({"kind": "begin", "name": "a.csv", "size": 9})
    folder = drop._folder
    drop._handle_msg({"kind": "cancel"})
    assert not folder.exists()
    drop._handle_msg({"kind": "piece", "data": "eA=="})  # one that was under way
    assert drop.arrived == drop.refused == []


# --- Datasets: views and pages ---


@pytest.fixture
def many(inline_ws):
    frame = pd.DataFrame({"example": ["<b>One</b>.", "Two."], "ground_truth": ["1", "2"], "shop": ["a", "b"]})
    for number in range(28):
        inline_ws.datasets.upload(frame, name=f"set {number:02d} <i>", progress=False)
    return inline_ws


def test_the_list_pages_searches_and_sorts(many) -> None:
    first = datasets.dataset_list(many, Route.parse("#/datasets?sort=name"))
    assert (len(first.rows), first.total, first.rows[0].name) == (25, 28, "set 00 <i>")
    last = datasets.dataset_list(many, Route.parse("#/datasets?sort=-name&page=99"))
    assert (last.page, last.rows[-1].name) == (2, "set 00 <i>")
    found = datasets.dataset_list(many, Route.parse("#/datasets?search=SET%2007"))
    assert [row.name for row in found.rows] == ["set 07 <i>"]
    markup = datasets.list_markup(first)
    assert "<i>" not in markup
    assert "#/datasets/set%2000%20%3Ci%3E" in markup
    nothing = datasets.dataset_list(many, Route.parse("#/datasets?search=nothing"))
    assert "No dataset matches" in datasets.list_markup(nothing)


def test_an_empty_list_teaches(inline_ws) -> None:
    assert "No dataset yet" in datasets.list_markup(datasets.dataset_list(inline_ws, Route.parse("#/datasets")))


def test_a_dataset_shows_its_examples_figures_and_versions(inline_ws) -> None:
    frame = pd.DataFrame({"example": [f"<b>{n}</b>" for n in range(25)], "shop": ["a"] * 25})
    inline_ws.datasets.upload(frame, name="d", progress=False)
    inline_ws.datasets.upload(frame.head(24), name="d", new_version=True, progress=False)
    view = datasets.dataset_view(inline_ws, "d@1", page=3)
    assert view.rows.index.tolist() == [20, 21, 22, 23, 24]
    route = Route.parse("#/datasets/d@1?page=3")
    parts = [
        datasets.facts_markup(view),
        datasets.rows_markup(view, route),
        datasets.statistics_markup(view),
        datasets.versions_markup(view),
        datasets.experiments_markup(view),
        datasets.about_markup(view),
    ]
    assert "<b>" not in parts[1]
    assert "25" in parts[0]
    assert "d@2" in parts[3] or "datasets/d%402" in parts[3]


@pytest.fixture
def context(inline_ws):
    pytest.importorskip("panel_material_ui")
    from lumigator_nb.dashboards.address import Address
    from lumigator_nb.dashboards.kit import html
    from lumigator_nb.dashboards.shell import Context
    from lumigator_nb.presentation.watcher import Watcher

    made = Context(inline_ws, Watcher(inline_ws), Address(), html())
    made.went, made.said = [], []
    made.go, made.notify = made.went.append, lambda text, kind="success": made.said.append(text)
    yield made
    made.end()


def test_the_list_page_searches_as_one_types(context, many) -> None:
    from lumigator_nb.dashboards.pages.datasets import DatasetsPage

    page = DatasetsPage(context, Route.parse("#/datasets"))
    page.search.value_input = "set 03"
    assert "set%2003" in page._list.object
    assert "set%2004" not in page._list.object
    assert page.route.query == {"search": "set 03"}
    page.archived.value = True
    assert context.went[-1].query == {"search": "set 03", "archived": "1"}
    assert page.reroute(Route.parse("#/datasets"))
    assert page.search.value == ""


def test_the_upload_page_takes_a_file_to_its_dataset(context, inline_ws, tickets) -> None:
    from lumigator_nb.dashboards.pages.datasets import UploadPage

    page = UploadPage(context, Route.parse("#/upload"))
    page._arrived(tickets)
    until(lambda: page.mapping.visible)
    assert page.truth.value == "summary"
    page.truth.value = "body"
    assert page.truth.error_state
    page.start.clicks += 1
    assert context.went == []
    page.truth.value = "summary"
    page.name.value_input = "by page"
    page.start.clicks += 1
    until(lambda: context.went)
    assert context.went == [Route(("datasets", "by page"))]
    assert context.said == ["by page: 30 examples uploaded"]
    assert inline_ws.datasets.get("by page").n_examples == 30


def test_a_page_that_others_reach_takes_no_paths_of_its_server(context, tickets) -> None:
    from lumigator_nb.dashboards.pages.datasets import UploadPage

    context.local = False
    page = UploadPage(context, Route.parse("#/upload"))
    for source in (str(tickets), tickets.as_uri(), f" {tickets.as_uri()}"):
        page._look(source)
        assert "takes no path" in page.problem.object
    assert page.form.look is None


def test_the_dataset_page_archives_and_deletes(context, inline_ws, tickets) -> None:
    from lumigator_nb.dashboards.pages.datasets import DatasetPage

    inline_ws.datasets.upload(tickets, example="body", progress=False)
    page = DatasetPage(context, Route.parse("#/datasets/tickets"))
    assert "30" in page._head.object
    page.archive.clicks += 1
    until(lambda: inline_ws.datasets.get("tickets").archived_at is not None)
    page.deletion.open()
    until(lambda: page.deletion.dialog.open)
    page.deletion.confirm.clicks += 1
    until(lambda: context.went)
    assert inline_ws.datasets.find("tickets") is None
