"""The form for labelling: driven by its traits, and by keys and clicks in JupyterLab in a real browser."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.errors import DatabaseUnavailableError, InvalidInputError, NotFoundError
from lumigator_nb.widgets import rating
from lumigator_testing import screens

pytestmark = pytest.mark.integration

COPY, FIRST = "baseline/copy", "baseline/lead-1"
N = 6
FRAME = pd.DataFrame({"example": [f"Stop {n} <b>&</b> go. <script>alert({n})</script> Walk." for n in range(N)]})


@pytest.fixture
def ws(inline_ws, monkeypatch):
    monkeypatch.setattr(rating, "QUICKEST_S", 0)
    experiment = inline_ws.experiments.create("e", dataset=inline_ws.datasets.upload(FRAME, name="d"), metrics="length")
    inline_ws.workflows.launch(experiment, [COPY, FIRST])
    inline_ws.wait(experiment, progress=False)
    return inline_ws


def press(form, key: str) -> None:
    """As a browser does it: the field holds one character more."""
    form.key_field.value += key


def button(form, name: str):
    (found,) = (each for each in everything(form) if getattr(each, "description", "").startswith(name))
    return found


def everything(widget) -> list:
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in everything(child))]


def state(form) -> str:
    """All that reaches the page."""
    return json.dumps([{key: str(value) for key, value in each.get_state().items()} for each in everything(form)])


def stored(ws) -> list[float]:
    return ws.labels.preferences("e")["preference"].tolist()


def test_keys_answer_skip_and_go_back(ws) -> None:
    form = lm.ui.rate(ws, "e", "ana")
    for number, key in enumerate("aB2t", start=1):
        assert f"{number} of {N}" in form.head.value
        press(form, key)
        assert len(stored(ws)) == number
    press(form, "s")
    press(form, "x")
    press(form, " ")
    assert f"{N} of {N}" in form.head.value
    press(form, "z")
    press(form, "z")
    assert "Your label: tie" in form.item.value
    press(form, "1")
    assert len(stored(ws)) == 4
    assert 0 not in stored(ws)


def test_buttons_do_the_same_and_comments_are_kept(ws) -> None:
    form = lm.ui.rate(ws, "e", "ana")
    form.comment.value = "shorter"
    button(form, "Tie").click()
    assert form.comment.value == ""
    button(form, "Back").click()
    assert form.comment.value == "shorter"
    button(form, "Tie").click()
    button(form, "Skip").click()
    assert ws.labels.preferences("e")[["preference", "comment"]].values.tolist() == [[0, "shorter"]]
    assert f"3 of {N}" in form.head.value


def test_models_are_revealed_only_at_the_end(ws) -> None:
    form = lm.ui.rate(ws, "e", "ana")
    for _ in range(N - 1):
        for name in ("baseline", "copy", "lead"):
            assert name not in state(form)
            assert name not in re.sub("<style>.*?</style>", "", str(form._repr_mimebundle_()))
        press(form, "a")
    press(form, "s")
    assert "Thank you, ana! 1 item skipped" in form.item.value
    assert re.sub("<.*?>", "", form.item.value).count("baseline/") == 2
    assert button(form, "Tie").disabled
    press(form, "a")
    assert len(stored(ws)) == N - 1
    press(form, "z")
    assert f"{N} of {N}" in form.head.value
    assert not button(form, "Tie").disabled
    press(form, "b")
    assert len(stored(ws)) == N
    assert "Thank you" in lm.ui.rate(ws, "e", "ana").item.value


@pytest.mark.parametrize(("criterion", "shown"), [("quality", "Quality. The answer does what"), ("a <b", "a &lt;b")])
def test_the_rater_is_told_what_to_look_at(ws, criterion, shown) -> None:
    assert shown in lm.ui.rate(ws, "e", "ana", criterion=criterion).head.value


def test_texts_are_escaped(ws) -> None:
    form = lm.ui.rate(ws, "e", "ana")
    assert "&lt;script&gt;alert(" in form.item.value
    assert "<script" not in form.item.value
    assert "<b>" not in form.item.value


def test_a_name_is_asked_for_where_none_is_given(ws) -> None:
    form = lm.ui.rate(ws, "e")
    start = button(form, "Start")
    start.click()
    assert "cannot be a name" in form.problem.value
    form.name.value = "ana"
    start.click()  # whoever leaves the field by clicking the button does both
    press(form, "a")
    assert ws.labels.preferences("e")["rater"].tolist() == ["ana"]


def test_what_comes_too_soon_or_at_once_answers_one_item_only(ws, monkeypatch) -> None:
    form = lm.ui.rate(ws, "e", "ana")
    press(form, "aaa")
    assert len(stored(ws)) == 1
    monkeypatch.setattr(rating, "QUICKEST_S", 60)
    press(form, "a")
    press(form, "s")
    button(form, "Tie").click()
    assert len(stored(ws)) == 1
    assert f"2 of {N}" in form.head.value


def test_erasing_in_the_field_for_keys_answers_nothing(ws) -> None:
    form = lm.ui.rate(ws, "e", "ana")
    press(form, "xyb")
    form.key_field.value = "xy"
    form.key_field.value = ""
    form.key_field.value = "a"
    form.key_field.value = "b"
    assert len(stored(ws)) == 1


def test_ratings_have_a_button_for_each_number(ws) -> None:
    form = lm.ui.rate(ws, "e", "ana", "rating", scale=(0, 10))
    press(form, "7")
    button(form, "10").click()
    assert sorted(ws.labels.ratings("e")["rating"]) == [7, 10]
    press(form, "z")
    assert "Your label: 10." in form.item.value
    for _ in range(2 * N):
        press(form, "3")
    assert "Thank you, ana!" in form.item.value
    assert "baseline/" in re.sub("<.*?>", "", form.item.value)


def test_what_cannot_be_labelled_is_refused_at_once(ws) -> None:
    for options, message in [
        ({"kind": "rating", "scale": (0, 100)}, "needs too many buttons"),
        ({"kind": "rating", "scale": (0.5, 1)}, "needs too many buttons"),
        ({"kind": "verdict"}, "no kind of label"),
        ({"models": [COPY]}, "needs two models"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            lm.ui.rate(ws, "e", **{"rater": "ana", **options})
    with pytest.raises(NotFoundError):
        lm.ui.rate(ws, "f")
    with pytest.raises(TypeError, match="smaple"):
        lm.ui.rate(ws, "e", smaple=3)


def test_an_answer_that_could_not_be_stored_is_told_and_asked_again(ws, monkeypatch) -> None:
    form = lm.ui.rate(ws, "e", "ana")
    with monkeypatch.context() as patched:
        patched.setattr(
            form.session, "_keep", lambda *_: (_ for _ in ()).throw(DatabaseUnavailableError("it does not answer"))
        )
        press(form, "a")
    assert "it does not answer" in form.problem.value
    assert f"1 of {N}" in form.head.value
    press(form, "a")
    assert form.problem.value == ""
    assert len(stored(ws)) == 1


CELL = 'import lumigator_nb as lm\nws = lm.connect(lumigator_home={home!r})\nlm.ui.rate(ws, "e", "ana")'


@pytest.fixture
def shared_home(tmp_path, cluster):
    """A workspace's folder with an experiment whose models have answered, for another process to connect to."""
    from lumigator_nb import config
    from lumigator_nb.database.engine import Database
    from lumigator_nb.storage.store import Store
    from lumigator_nb.workspace import Workspace

    settings = config.load(None, lumigator_home=tmp_path / "home")
    settings.home.mkdir()
    database = Database(settings.database_url)
    database.prepare()
    with Workspace(settings, database, Store(settings.store_spec, settings.store_credentials), cluster) as ws:
        experiment = ws.experiments.create("e", dataset=ws.datasets.upload(FRAME, name="d"), metrics="length")
        ws.workflows.launch(experiment, [COPY, FIRST])
        ws.wait(experiment, progress=False)
        yield ws


@pytest.fixture
def lab(tmp_path, shared_home):
    """JupyterLab with one notebook of one cell."""
    pytest.importorskip("jupyterlab", reason="pip install 'lumigator-nb[lab]'")
    screens.notebook(tmp_path / "label.ipynb", [CELL.format(home=str(shared_home.settings.home))])
    with screens.jupyterlab(tmp_path) as address:
        yield f"{address}label.ipynb"


@pytest.mark.slow
def test_keys_label_in_jupyterlab_and_touch_no_cell(shared_home, lab, page) -> None:
    from playwright.sync_api import expect

    page.goto(lab)
    page.locator(".jp-CodeCell .cm-content").click()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.keyboard.press("Shift+Enter")
    keys = page.get_by_placeholder("click here to use keys")
    keys.click()

    def shows(text: str) -> None:
        expect(page.locator(".jp-OutputArea .lm-title")).to_have_text(text)
        page.wait_for_timeout(1000 * rating.QUICKEST_S)

    for number, key in enumerate("abt2", start=1):
        shows(f"e: {number} of {N}")
        page.keyboard.press(key)
    shows(f"e: 5 of {N}")
    page.keyboard.press("z")
    shows(f"e: 4 of {N}")
    page.get_by_role("button", name="A is better").click()
    shows(f"e: 5 of {N}")
    # The button has handed the focus back: this is no shortcut of the notebook.
    page.keyboard.press("b")
    shows(f"e: 6 of {N}")
    boxes = [page.locator(".lm-sides > .lm-rate").nth(side).bounding_box() for side in (0, 1)]
    assert boxes[0]["height"] == boxes[1]["height"]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    page.keyboard.press("a")
    expect(page.locator(".jp-OutputArea").get_by_text("Thank you, ana!")).to_be_visible()
    assert len(stored(shared_home)) == N
    # Shift+Enter in the last cell made the second one; the keys made none.
    assert page.locator(".jp-Notebook .jp-Cell").count() == 2
