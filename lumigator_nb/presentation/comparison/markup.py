"""A comparison as markup: what it says, its examples, and one of them side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lumigator_nb.display.html import Html, clipped, escape, fragment, join, name, table, tag
from lumigator_nb.display.scores import Figures
from lumigator_nb.display.tables import to_html
from lumigator_nb.display.text import MISSING, count, elide, one_line
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.presentation.comparison.view import (
    PER_PAGE,
    Examined,
    ExamplePage,
    Query,
    Values,
    differences,
)
from lumigator_nb.presentation.markup import empty, link, pager
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.comparison import tables
from lumigator_nb.services.comparison.comparison import Comparison, PlotKind
from lumigator_nb.services.comparison.overview import legend, notes, recommended

TABS = {"summary": "Summary", "charts": "Charts", "examples": "Examples", "slices": "Slices"}
CHARTS: dict[PlotKind, str] = {
    "intervals": "Overall",
    "distribution": "Example by example",
    "pairwise": "Each against each",
    "pareto": "Quality against cost and speed",
    "slices": "By length",
}
GROUND_TRUTH = "ground truth"
NOTHING = "-"
_LABEL = 26
_LONG = 20_000


def standards(found: Examined) -> dict[str, str]:
    """Return what answers can be held against, by title: the ground truth if there is one, models, nothing."""
    truths = {"Ground truth": GROUND_TRUTH} if "ground_truth" in found.texts else {}
    return {**truths, **{elide(model, 48): model for model in found.comparison.models}, "Nothing": NOTHING}


def asked_models(models: Sequence[str], route: Route) -> list[str]:
    """Return the models that an address asks for, which names them by their places; all where it names none."""
    places = [int(place) for place in route.query.get("models", "").split(",") if place.isdecimal()]
    return [model for place, model in enumerate(models) if place in places] or list(models)


def tabs(route: Route, current: str) -> Html:
    """Return links to the parts of a comparison.

    They look like tabs, and each leads to an address of its own, so that they are a navigation and no ARIA tab list.
    """
    items = [
        link(route.to(*route.path, tab=key if key != "summary" else None, score=route.query.get("score")), title,
             class_="lm-tab", aria_current="page" if key == current else None)
        for key, title in TABS.items()
    ]  # fmt: skip
    return tag("nav", *items, class_="lm-tabs", aria_label="Parts of the comparison")


def first_look(found: Examined, score: str, tab: str = "summary") -> Html:
    """Return what is known at once while a part is worked out: of the summary, the order of the models on one score."""
    comparison, info = found.comparison, found.info(score)
    working = tag("p", "Working out intervals and differences…", class_="lm-note", role="status")
    if tab != "summary" or len(comparison.models) < 2 or info.higher_is_better is None:
        return working
    means = comparison.values(info.name).mean().sort_values(ascending=not info.higher_is_better)
    show = Figures(info, means.tolist())
    rows = [[name(str(model)), show.number(value)] for model, value in means.items()]
    return join([table(["Model", f"{info.name}, mean of the examples"], rows, numeric=[1]), working])


def summary(found: Examined, score: str, route: Route | None = None) -> Html:
    """Return what a comparison says: the verdict, all scores with intervals, how sure that is, and what it costs.

    Args:
        score: by which models are ordered.
        route: where it stands, so that headers order by their score; None where there are no links.
    """
    comparison, info = found.comparison, found.info(score)

    def titled(each: str, title: Html) -> Html:
        return title if route is None or each == info.name else link(route.with_(score=each), title, class_="lm-sort")

    parts: list[Html | str] = [
        tag("p", comparison.verdict(info.name), class_="lm-verdict"),
        tag("p", said, class_="lm-verdict") if (said := recommended(comparison)) else "",
        to_html(tables.scores(comparison, info.name), titled),
        tag("p", legend(comparison), class_="lm-note"),
        *(tag("p", note, class_="lm-note") for note in notes(comparison)),
    ]
    below = tables.ranking(comparison, info.name), tables.costs(comparison), tables.people(comparison)
    uncompared = tables.uncompared(comparison)
    parts += [tag("div", uncompared.title, class_="lm-title"), to_html(uncompared)] if uncompared else []
    return join([*parts, *(part for table in below if table for part in (tag("h2", table.title), to_html(table)))])


def chart(found: Examined, score: str, kind: PlotKind) -> Html:
    """Return a chart of one score under its title; nothing where there is nothing to draw."""
    try:
        drawn = found.comparison.plot(kind, found.score(score))
    except InvalidInputError:
        return Html("")
    return tag("section", tag("h2", CHARTS[kind]), Html(drawn._repr_html_()), class_="lm-chart")


def slices(found: Examined, score: str) -> Html:
    """Return how the models do on parts of the dataset."""
    comparison, info = found.comparison, found.info(score)
    if len(comparison.models) < 2 or info.higher_is_better is None:
        return empty("No slices", "They need two models, and a score of which more or less is better.")
    return to_html(tables.slices(comparison, info.name))


def example_list(found: Examined, page: ExamplePage, route: Route | None) -> Html:
    """Return a page of the examples with the score of every model, shaded.

    Args:
        route: where the list stands, for links; None where there are none.
    """
    comparison, info = found.comparison, found.info(page.query.score)
    if not page.total:
        return empty("No example fits", "Search for something else, or take a filter out.")
    shades = _shades(found.values(info.name), info)
    show = Figures(info, page.scores[np.isfinite(page.scores)].tolist())
    rows = [
        [
            _number(route, row),
            _text(page.texts.iloc[position]["example"], page.query.search),
            *(_shaded(show, value, shade) for value, shade in zip(page.scores[position], shades(page.scores[position]),
                                                                 strict=True)),
        ]
        for position, row in enumerate(page.rows)
    ]  # fmt: skip
    labels = [tag("span", elide(model, _LABEL), title=model) for model in comparison.models]
    below = pager(route, page.query.page, PER_PAGE, page.total, "example") if route else Html("")
    headers = ["", "Example", *labels]
    listed = table(headers, rows, numeric=range(2, len(headers)))
    said = f"{info.name} of each model; the darker, the better." if info.higher_is_better is not None else info.name
    return join([tag("div", listed, class_="lm-examples"), tag("p", said, class_="lm-note"), below])


def _number(route: Route | None, row: int) -> Html:
    label = f"{row:,}"
    return link(route.with_(example=row), label) if route else tag("span", label)


def _text(text: object, search: str) -> Html:
    shown = str(text)
    start = max(0, shown.lower().find(search.strip().lower()) - 60) if search.strip() else 0
    return marked(("…" if start else "") + one_line(shown[start : start + 1000], 160), search)


def marked(text: str, search: str) -> Html:
    """Return a text with what was searched for marked."""
    wanted = search.strip()
    if not wanted:
        return escape(text)
    parts: list[Html] = []
    rest, low = text, wanted.lower()
    while (at := rest.lower().find(low)) >= 0:
        parts += [escape(rest[:at]), tag("mark", rest[at : at + len(wanted)])]
        rest = rest[at + len(wanted) :]
    return join([*parts, escape(rest)])


def _shades(values: Values, info: ScoreInfo) -> Callable[[Values], list[float]]:
    """Return what says how good scores are, in [0, 1]; 0 for all where that is not known."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)

    def shades(row: Values) -> list[float]:
        if info.higher_is_better is None or high <= low:
            return [0.0] * len(row)
        share = (row - low) / (high - low)
        return [0.0 if math.isnan(one) else float(one if info.higher_is_better else 1 - one) for one in share]

    return shades


def _shaded(show: Figures, value: float, shade: float) -> Html:
    text = MISSING if math.isnan(value) else show.number(value)
    return tag("span", text, class_="lm-heat", style=f"--lm-heat: {round(100 * shade)}%")


def example_view(
    found: Examined, row: int, models: Sequence[str], against: str, query: Query, route: Route | None
) -> Html:
    """Return one example with the answers side by side, each with what differs from `against` marked.

    Args:
        row: of the dataset, from 0.
        models: whose answers are shown.
        against: "ground truth", a model, or nothing to mark no differences.
        query: the list that it was opened from, for the way to the next.
        route: where the list stands; None where there are no links.

    Raises:
        InvalidInputError: there is no such example.
    """
    comparison, info = found.comparison, found.info(query.score)
    if not 0 <= row < len(found.texts):
        raise InvalidInputError(f"there is no example {row}", f"examples are 0 to {len(found.texts) - 1}")
    texts = found.texts.iloc[row]
    scores = dict(zip(comparison.models, found.values(info.name)[row], strict=True))
    truth = texts.get("ground_truth")
    base = {GROUND_TRUTH: truth}.get(against, texts.get(against))
    standard = base if isinstance(base, str) else None
    show = Figures(info, [value for value in scores.values() if math.isfinite(value)])
    columns = [_answer(model, texts[model], None if model == against else standard, show, scores[model], info)
               for model in models]  # fmt: skip
    given = [_column(f"Example {row:,}", _whole(str(texts["example"])))]
    if isinstance(truth, str):
        given.append(_column("Ground truth", tag("div", truth, class_="lm-text")))
    said = tag("p", _key(against), class_="lm-note") if standard is not None else ""
    way = _way(found, row, query, route) if route else ""
    return join([way, tag("div", *given, class_="lm-given"), said, tag("div", *columns, class_="lm-answers")])


def _whole(text: str) -> Html:
    """A text with its line breaks; of a very long one, the beginning until it is unfolded."""
    return clipped(text, _LONG) if len(text) > _LONG else tag("div", text, class_="lm-text")


def _key(against: str) -> Html:
    other = f"only in the {against}" if against == GROUND_TRUTH else f"only in {against}"
    return join(["Held against ", tag("b", against), ": ", tag("ins", "only in the answer"), ", ", tag("del", other)])


def _column(title: object, body: Html, beside: object = "") -> Html:
    return tag("section", tag("h3", title, " ", beside), body, class_="lm-answer")


def _answer(model: str, text: object, standard: str | None, show: Figures, score: float, info: ScoreInfo) -> Html:
    value = tag("span", f"{info.name} {show.number(score)}", class_="lm-soft") if math.isfinite(score) else ""
    if not isinstance(text, str):
        return _column(name(model), tag("p", "no answer", class_="lm-soft"), value)
    if standard is None:
        return _column(name(model), tag("div", text, class_="lm-text"), value)
    body = tag("div", *(_piece(*piece) for piece in differences(text, standard)), class_="lm-text")
    return _column(name(model), body, value)


def _piece(kind: str, text: str) -> Html:
    return escape(text) if kind == "same" else tag("ins" if kind == "added" else "del", text)


def _way(found: Examined, row: int, query: Query, route: Route) -> Html:
    order = found.page(query).order
    here = np.flatnonzero(order == row)
    place = int(here[0]) if len(here) else -1
    before = int(order[place - 1]) if place > 0 else None
    after = int(order[place + 1]) if 0 <= place < len(order) - 1 else None
    back = link(route.with_(example=None), f"All {count(len(order), 'example')}")
    steps = [
        link(route.with_(example=before), "← Previous", rel="prev")
        if before is not None
        else tag("span", "← Previous"),
        tag("span", f"{place + 1:,} of {len(order):,}" if place >= 0 else ""),
        link(route.with_(example=after), "Next →", rel="next") if after is not None else tag("span", "Next →"),
    ]
    return tag("nav", back, tag("span", *steps, class_="lm-steps"), class_="lm-pager", aria_label="Examples")


def static(comparison: Comparison) -> str:
    """Return all of it for a reader without a kernel."""
    return fragment(Html(comparison._repr_html_()))


def title_of(comparison: Comparison) -> str:
    """Return how much is compared, in words."""
    models = count(len(comparison.models), "model")
    return f"{models} on {count(comparison.dataset.n_examples, 'example')} of {comparison.dataset.name}"
