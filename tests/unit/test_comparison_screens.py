"""A comparison on the screens: the list of its examples, differences, the widget, and the dashboard's page."""

from __future__ import annotations

import re
import threading

import numpy as np
import pandas as pd
import pytest
from waiting import until

from lumigator_nb.errors import InvalidInputError, LumigatorError, NotFoundError
from lumigator_nb.presentation.comparison import markup as markup
from lumigator_nb.presentation.comparison.view import (
    Examined,
    Query,
    differences,
    examined,
    slice_key,
    slice_of,
    state_of,
)
from lumigator_nb.presentation.routes import Route
from lumigator_nb.widgets.compare import compare

TRUTHS = ["The cat sat on the mat.", "A dog <b>barks</b>.", "Rain falls all day.", "The printer is empty."]
GOOD = ["The cat sat on the mat.", "A dog barks.", "Rain falls.", "The printer is empty."]
POOR = ["A cat.", "A dog <b>barks</b>.", "Sun.", None]
TEXTS = ["On the mat there was a cat.", "Listen: <script>alert(1)</script> a DOG.", "It rains, it rains.", "Paper?"]


@pytest.fixture
def experiment(inline_ws):
    frame = pd.DataFrame({"example": TEXTS, "ground_truth": TRUTHS, "animal": ["cat", "dog", "none", "none"]})
    dataset = inline_ws.datasets.upload(frame, name="animals", progress=False)
    made = inline_ws.experiments.create("animals", dataset=dataset, metrics=["rouge", "length"])
    for name, answers in (("good", GOOD), ("poor <i>", POOR)):
        inline_ws.workflows.record(made, name=name, predictions=pd.DataFrame({"prediction": answers}))
    inline_ws.wait(made, progress=False)
    return made


@pytest.fixture
def found(inline_ws, experiment) -> Examined:
    return examined(inline_ws, experiment)


def rows(found, **query):
    return found.page(Query(**query)).order.tolist()


# --- The list of examples ---


def test_the_largest_disagreement_comes_first_and_a_missing_answer_is_no_failure(found) -> None:
    spread = found.values("rougeL")
    assert np.isnan(spread[3]).all()  # one of both has not answered: the example is compared for none
    differs = [spread[row].max() - spread[row].min() for row in range(3)]
    order = rows(found)
    assert order[-1] == 3 or differs[order[-1]] == 0
    assert [row for row in order if row != 3] == np.argsort(-np.array(differs), kind="stable").tolist()


def test_the_hardest_come_first_also_where_less_is_better(found) -> None:
    means = found.values("rougeL")[:3].mean(axis=1)
    assert rows(found, sort="worst") == [*np.argsort(means, kind="stable").tolist(), 3]
    assert rows(found, sort="best") == [*np.argsort(-means, kind="stable").tolist(), 3]
    assert rows(found, sort="row") == [0, 1, 2, 3]


def test_a_search_finds_texts_answers_and_ground_truth_in_any_case(found) -> None:
    assert rows(found, search="dog") == [1]
    assert rows(found, search="PRINTER is") == [3]
    assert rows(found, search="sun.") == [2]
    assert rows(found, search="(unclosed [") == []


def test_filters_narrow_the_list_together(found) -> None:
    assert sorted(rows(found, column="animal", value="none")) == [2, 3]
    assert rows(found, column="animal", value="none", search="rain") == [2]
    assert rows(found, only="failed") == [3]
    assert 3 not in rows(found, only="differ")
    assert len(rows(found, column="no such column", value="x")) == 4


def test_a_page_beyond_the_last_shows_the_last(found) -> None:
    page = found.page(Query(page=99, sort="row"), per_page=3)
    assert page.rows.tolist() == [3]
    assert page.total == 4
    assert page.scores.shape == (1, 2)


def test_an_address_says_which_examples_and_nonsense_in_it_is_ignored() -> None:
    query = Query.of(Route.parse("#/x?search=a%20b&sort=sideways&page=-3&column=c&value=v&score=rouge1&only=differ"))
    assert query == Query("rouge1", "a b", "-spread", "c", "v", "differ", 1)


def test_a_slice_goes_through_an_address() -> None:
    assert slice_of(slice_key('od"d', "a\nb")) == {"column": 'od"d', "value": "a\nb"}
    assert slice_key("", "") == ""
    assert slice_of("") == {"column": None, "value": None}


# --- Keeping it ---


def test_a_comparison_is_kept_until_something_in_it_changes(inline_ws, experiment, found) -> None:
    assert examined(inline_ws, experiment.name) is found
    inline_ws.workflows.record(experiment, name="third", predictions=pd.DataFrame({"prediction": GOOD}))
    inline_ws.wait(experiment, progress=False)
    again = examined(inline_ws, experiment)
    assert again is not found
    assert "third" in again.comparison.models


def test_many_readers_at_once_make_one_comparison(inline_ws, experiment, monkeypatch) -> None:
    made, compare_once = [], inline_ws.compare
    monkeypatch.setattr(inline_ws, "compare", lambda record: made.append(1) or compare_once(record))
    got: list[Examined] = []
    threads = [threading.Thread(target=lambda: got.append(examined(inline_ws, experiment))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert len({id(each) for each in got}) == 1


def test_a_comparison_that_fails_is_tried_again_by_the_next(inline_ws, experiment, monkeypatch) -> None:
    compare_once = inline_ws.compare
    monkeypatch.setattr(inline_ws, "compare", lambda _: (_ for _ in ()).throw(LumigatorError("the store is away")))
    with pytest.raises(LumigatorError, match="away"):
        examined(inline_ws, experiment)
    monkeypatch.setattr(inline_ws, "compare", compare_once)
    assert examined(inline_ws, experiment).comparison.models


# --- Differences ---


def test_differences_give_back_both_texts() -> None:
    pieces = differences("The dog sat, on a mat!", "The cat sat on the mat.")
    assert "".join(text for kind, text in pieces if kind != "missing") == "The dog sat, on a mat!"
    assert [(kind, text.strip()) for kind, text in pieces][:3] == [
        ("same", "The"),
        ("missing", "cat"),
        ("added", "dog"),
    ]


def test_differences_overlook_capitals_and_spaces() -> None:
    assert {kind for kind, _ in differences("the  CAT\nsat", "The cat sat")} == {"same"}


@pytest.mark.parametrize(("text", "other"), [("", "a b"), ("a b", ""), ("", "")])
def test_differences_of_nothing(text, other) -> None:
    assert "".join(piece for kind, piece in differences(text, other) if kind != "missing") == text


def test_very_long_texts_are_shown_whole_though_only_their_beginnings_are_compared() -> None:
    long = " ".join(f"w{n}" for n in range(5000))
    assert "".join(text for kind, text in differences(long, "other words") if kind != "missing") == long


# --- Markup ---


def test_texts_of_others_are_never_markup(found) -> None:
    route = Route.parse("#/experiments/animals/comparison")
    shown = [
        markup.example_list(found, found.page(Query()), route),
        markup.example_view(found, 1, found.comparison.models, markup.GROUND_TRUTH, Query(), route),
        markup.summary(found, "", route), markup.slices(found, ""), markup.first_look(found, ""),
    ]  # fmt: skip
    for each in shown:
        assert "<script>" not in each
        assert "<i>" not in each
    assert "&lt;script&gt;" in shown[0]


def test_what_was_searched_for_is_marked_also_far_into_a_text() -> None:
    text = markup._excerpt("word " * 500 + "needle <b> more", "NEEDLE <b>")
    assert "<mark>needle &lt;b&gt;</mark>" in text
    assert text.startswith("…")


def test_an_example_shows_what_differs_from_what_it_is_held_against(found) -> None:
    view = markup.example_view(found, 0, ["good", "poor <i>"], markup.GROUND_TRUTH, Query(), None)
    assert "<ins>" in view or "<del>" in view
    plain = markup.example_view(found, 0, ["good"], markup.NOTHING, Query(), None)
    assert "<ins>" not in plain
    assert "poor" not in plain
    itself = markup.example_view(found, 2, ["good", "poor <i>"], "good", Query(), None)
    assert itself.count("<ins>") == 2  # in the words above, and in the other model's answer alone


def test_a_missing_answer_says_so(found) -> None:
    assert "no answer" in markup.example_view(found, 3, found.comparison.models, markup.GROUND_TRUTH, Query(), None)


def test_the_way_from_one_example_to_the_next_follows_the_list(found) -> None:
    route = Route.parse("#/experiments/animals/comparison?sort=row&example=1")
    view = markup.example_view(found, 1, found.comparison.models, "", Query(sort="row"), route)
    assert re.findall(r"[?&;]example=(\d)", view) == ["0", "2"]
    alone = markup.example_view(found, 1, found.comparison.models, "", Query(search="dog"), route)
    assert re.findall(r"[?&;]example=(\d)", alone) == []
    assert "1 of 1" in alone


@pytest.mark.parametrize("row", [-1, 4])
def test_an_example_that_is_not_there(found, row) -> None:
    with pytest.raises(InvalidInputError, match="examples are 0 to 3"):
        markup.example_view(found, row, found.comparison.models, "", Query(), None)


def test_the_best_answers_are_the_darkest_also_where_less_is_better(found) -> None:
    info = found.info("rougeL")
    shades = markup._shades(found.values("rougeL"), info)
    best, worst = shades(np.array([1.0, 0.0]))
    assert best > worst
    lower = info.__class__(
        **{**{name: getattr(info, name) for name in info.__dataclass_fields__}, "higher_is_better": False}
    )
    best, worst = markup._shades(found.values("rougeL"), lower)(np.array([0.0, 1.0]))
    assert best > worst


def test_headers_order_by_their_score(found) -> None:
    route = Route.parse("#/experiments/animals/comparison")
    shown = markup.summary(found, "rougeL", route)
    assert "score=rouge1" in shown
    assert 'score=rougeL"' not in shown


def test_models_in_an_address_are_numbers() -> None:
    assert markup.chosen_models(["a", "b,c", "d"], Route.parse("#/x?models=1,2,x,9")) == ["b,c", "d"]
    assert markup.chosen_models(["a", "b"], Route.parse("#/x?models=9")) == ["a", "b"]


def test_one_model_alone_has_a_summary_and_no_slices(inline_ws) -> None:
    frame = pd.DataFrame({"example": TEXTS, "ground_truth": TRUTHS})
    dataset = inline_ws.datasets.upload(frame, name="alone", progress=False)
    made = inline_ws.experiments.create("alone", dataset=dataset, metrics=["rouge"])
    inline_ws.workflows.record(made, name="good", predictions=pd.DataFrame({"prediction": GOOD}))
    inline_ws.wait(made, progress=False)
    found = examined(inline_ws, made)
    assert "good" in markup.summary(found, "")
    assert "two models" in markup.slices(found, "")
    for kind in markup.CHARTS:
        markup.chart(found, "", kind)


# --- The widget ---


@pytest.fixture
def widget(inline_ws, experiment):
    made = compare(inline_ws, experiment.name)
    until(lambda: made.found is not None and "How sure" in made.body.value)
    yield made
    made.close()


def test_the_widget_shows_each_part(widget) -> None:
    assert "good" in widget.body.value
    widget.tab.value = "charts"
    until(lambda: "<svg" in widget.body.value)
    widget.tab.value = "slices"
    until(lambda: "animal: " in widget.body.value)
    widget.tab.value = "summary"
    widget.score.value = "rouge2"
    until(lambda: "highest rouge2" in widget.body.value)


def test_the_widget_lists_filters_and_opens_examples(widget) -> None:
    widget.tab.value = "examples"
    assert widget.page.total == 4
    widget.search.value = "dog"
    assert widget.page.order.tolist() == [1]
    assert "<mark>" in widget.body.value
    widget.search.value = ""
    widget.sort.value = "row"
    widget.example.value = 1
    assert "Example 1" in widget.body.value
    widget.after.click()
    assert "Example 2" in widget.body.value
    widget.before.click()
    widget.before.click()
    widget.before.click()  # there is none before the first
    assert "Example 0" in widget.body.value
    widget.models.value = ("good",)
    assert "poor" not in widget.body.value
    widget.show_example(3)
    assert "Example 3" in widget.body.value
    widget.example.value = -1
    assert "&lt;script&gt;" in widget.body.value


def test_the_widget_shows_a_model_that_has_come_since(inline_ws, experiment, widget) -> None:
    inline_ws.workflows.record(experiment, name="third", predictions=pd.DataFrame({"prediction": GOOD}))
    inline_ws.wait(experiment, progress=False)
    widget._read_soon()
    until(lambda: "third" in widget.found.comparison.models and "third" in widget.body.value)


def test_the_widget_before_any_answer_says_what_to_do(inline_ws, experiment) -> None:
    empty = inline_ws.experiments.create("empty", dataset=experiment.dataset_id, metrics=["rouge"])
    made = compare(inline_ws, empty)
    until(lambda: "Nothing to compare yet" in made.head.value)
    assert "Nothing to compare yet" in made._repr_mimebundle_()["text/html"]
    made.close()


def test_the_widget_without_a_kernel_shows_the_summary(widget) -> None:
    bundle = widget._repr_mimebundle_()
    assert "good" in bundle["text/html"]
    assert bundle["text/plain"].startswith("Compare('animals')")


def test_the_widget_of_no_experiment(inline_ws) -> None:
    with pytest.raises(NotFoundError, match="nothing-here"):
        compare(inline_ws, "nothing-here")


# --- The page ---


@pytest.fixture
def context(inline_ws):
    pytest.importorskip("panel_material_ui")
    from lumigator_nb.dashboards.address import Address
    from lumigator_nb.dashboards.kit import html
    from lumigator_nb.dashboards.shell import Context
    from lumigator_nb.presentation.watcher import Watcher

    made = Context(inline_ws, Watcher(inline_ws), Address(), html())
    made.went = []
    made.go = made.went.append
    yield made
    made.end()


def page_of(context, query: str = ""):
    from lumigator_nb.dashboards.pages.comparison import ComparisonPage

    made = ComparisonPage(context, Route.parse(f"#/experiments/animals/comparison{query}"))
    until(lambda: "Reading answers" not in made._body.object)
    return made


def test_the_page_shows_each_part_and_goes_where_it_is_clicked(context, experiment) -> None:
    page = page_of(context)
    until(lambda: "How sure" in page._body.object)
    assert 'aria-current="page"' in page._tabs.object
    assert page._downloads.visible
    assert page.reroute(page.route.with_(tab="charts"))
    until(lambda: page._body.object.count("<svg") == 4 and "Drawing" not in page._body.object)
    page.reroute(Route.parse("#/experiments/animals/comparison?tab=slices"))
    until(lambda: "animal: " in page._body.object)
    page.score.value = "rouge1"
    assert context.went[-1].query == {"tab": "slices", "score": "rouge1"}


def test_the_page_lists_and_filters_examples(context, experiment) -> None:
    page = page_of(context, "?tab=examples&search=dog&sort=row")
    assert page.filters.search.value == "dog"
    assert page.filters.sort.value == "row"
    assert page._body.object.count('class="lm-heat"') == 2
    page.filters.search.value_input = "rain"
    assert "rain" in page._body.object
    assert "dog" not in page._body.object
    assert context._address.fragment.endswith("?tab=examples&search=rain&sort=row")
    page.filters.slice.value = slice_key("animal", "cat")
    assert context.went[-1].query == {
        "tab": "examples", "search": "rain", "sort": "row", "column": "animal", "value": "cat"
    }  # fmt: skip


def test_the_page_shows_an_example_side_by_side(context, experiment) -> None:
    page = page_of(context, "?example=2")
    assert "Example 2" in page._body.object
    page.sides.models.value = ["poor <i>"]
    place = page.examined.comparison.models.index("poor <i>")
    assert context.went[-1].query == {"example": "2", "models": str(place)}
    page.reroute(context.went[-1])
    assert page._body.object.count("rougeL 0") + page._body.object.count("rougeL 1") == 1
    page.sides.against.value = markup.NOTHING
    page.reroute(context.went[-1])
    assert "<ins>" not in page._body.object


def test_a_page_of_an_example_that_is_not_there_is_made_anew_to_say_so(context, experiment) -> None:
    page = page_of(context)
    with pytest.raises(InvalidInputError):
        page.reroute(page.route.with_(example=77))


@pytest.mark.parametrize("ending", [".html", ".xlsx", ".csv"])
def test_reports_are_downloaded(context, experiment, ending) -> None:
    page = page_of(context)
    content = page._export(ending).getvalue()
    assert content[:2] == b"PK" if ending == ".xlsx" else b"good" in content


def test_the_page_before_any_answer(context, experiment, inline_ws) -> None:
    inline_ws.experiments.create("none", dataset=experiment.dataset_id, metrics=["rouge"])
    from lumigator_nb.dashboards.pages.comparison import ComparisonPage

    page = ComparisonPage(context, Route.parse("#/experiments/none/comparison"))
    until(lambda: "Nothing to compare yet" in page._body.object)
    assert not page.bar.visible


def test_the_page_follows_what_changes(context, experiment, inline_ws) -> None:
    page = page_of(context)
    until(lambda: "How sure" in page._body.object)
    before = state_of(inline_ws, experiment)
    inline_ws.workflows.record(experiment, name="third", predictions=pd.DataFrame({"prediction": GOOD}))
    inline_ws.wait(experiment, progress=False)
    assert state_of(inline_ws, experiment) != before
    page.refresh()
    until(lambda: "third" in page._body.object and "How sure" in page._body.object)
