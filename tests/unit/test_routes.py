"""Where a reader of the dashboard is, in the address, and the links that lists are made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumigator_nb.presentation.markup import empty, link, listing, pager, sortable
from lumigator_nb.presentation.routes import Route

TEXTS = st.text(min_size=1, max_size=12)


@given(st.lists(TEXTS, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_any_route_survives_the_address(path: list[str], query: dict[str, str]) -> None:
    route = Route(tuple(path), query)
    assert Route.parse(str(route)) == route


@pytest.mark.parametrize("fragment", ["", "#", "#/", "/", "#//"])
def test_nothing_is_the_start_page(fragment: str) -> None:
    assert Route.parse(fragment) == Route()
    assert str(Route()) == "#/"


def test_choices_are_added_changed_and_taken_out() -> None:
    route = Route.parse("#/experiments?page=3&q=a%20b")
    assert str(route.with_(page=None, sort="-name")) == "#/experiments?q=a+b&sort=-name"
    assert str(route.to("experiments", "a/b?", score="rougeL")) == "#/experiments/a%2Fb%3F?score=rougeL"


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("0", 1), ("-4", 1), ("x", 1), ("1e9", 1)])
def test_a_page_number_is_never_wrong(text: str, number: int) -> None:
    assert Route.parse(f"#/jobs?page={text}").number("page") == number


def test_links_escape_what_users_name() -> None:
    name = "<img src=x onerror=alert(1)>\"'"
    markup = link(Route(("datasets", name)), name) + empty(name, name) + listing([name], [[name]])
    assert "<img" not in markup
    assert 'href=" #/datasets/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%22%27"' in markup


def test_a_pager_links_to_the_pages_around() -> None:
    markup = pager(Route.parse("#/jobs?q=x"), 5, 25, 1000, "job")
    assert "101–125 of 1,000 jobs" in markup
    assert [f">{n}</" in markup for n in (1, 2, 3, 4, 5, 6, 7, 40)] == [
        True,
        True,
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    assert 'href=" #/jobs?q=x"' in markup, "the first page has no number"
    assert pager(Route(), 1, 25, 0) == ""
    assert "nav" not in pager(Route(), 1, 25, 25)


def test_a_header_sorts_and_turns_round() -> None:
    route = Route.parse("#/datasets?sort=name&page=2")
    assert 'href=" #/datasets?sort=-name"' in sortable(route, "name", "Name")
    assert "Name ↑" in sortable(route, "name", "Name")
    assert 'href=" #/datasets?sort=size"' in sortable(route, "size", "Size")


def test_each_address_of_the_dashboard_has_its_page() -> None:
    shell = pytest.importorskip("lumigator_nb.dashboards.shell", reason="pip install 'lumigator-nb[dashboard]'")
    for head, further in shell._PAGES:
        route = Route((head, *["first", "comparison"][:further]))
        assert issubclass(shell._page_class(route), shell.Page), route
