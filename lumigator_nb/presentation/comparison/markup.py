"""Markup of a comparison: its summary, charts, slices, list of examples, and one example side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lumigator_nb.display.html import Html, clipped, escape, join, name, table, tag
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
# Values of the field "Compared with" that are not names of models.
GROUND_TRUTH = "ground truth"
NOTHING = "-"
# Characters of a model's label in a table's header, and of a text above which it is folded.
_LABEL = 26
_LONG = 20_000


def standards(examined: Examined) -> dict[str, str]:
    """Return what answers can be compared with, by title: the ground truth if there is one, models, nothing."""
    truths = {"Ground truth": GROUND_TRUTH} if "ground_truth" in examined.texts else {}
    return {**truths, **{elide(model, 48): model for model in examined.comparison.models}, "Nothing": NOTHING}


def chosen_models(models: Sequence[str], route: Route) -> list[str]:
    """Return the models that a route names by their positions; all if it names none."""
    positions = [int(text) for text in route.query.get("models", "").split(",") if text.isdecimal()]
    return [model for position, model in enumerate(models) if position in positions] or list(models)


def tabs(route: Route, current: str) -> Html:
    """Return links to the parts of a comparison.

    They look like tabs. Each has its own address, so they are navigation and not an ARIA tab list.
    """
    items = [
        link(route.to(*route.path, tab=key if key != "summary" else None, score=route.query.get("score")), title,
             class_="lm-tab", aria_current="page" if key == current else None)
        for key, title in TABS.items()
    ]  # fmt: skip
    return tag("nav", *items, class_="lm-tabs", aria_label="Parts of the comparison")


def first_look(examined: Examined, score: str, tab: str = "summary") -> Html:
    """Return what a part shows while it is computed: for the summary, the mean score of each model."""
    comparison, info = examined.comparison, examined.info(score)
    working = tag("p", "Computing intervals and differences…", class_="lm-note", role="status")
    if tab != "summary" or len(comparison.models) < 2 or info.higher_is_better is None:
        return working
    means = comparison.values(info.name).mean().sort_values(ascending=not info.higher_is_better)
    show = Figures(info, means.tolist())
    rows = [[name(str(model)), show.number(value)] for model, value in means.items()]
    return join([table(["Model", f"{info.name}, mean of the examples"], rows, numeric=[1]), working])


def summary(examined: Examined, score: str, route: Route | None = None) -> Html:
    """Return the summary: verdict, scores with intervals, ranking, and costs.

    Args:
        score: orders the models.
        route: of the page, so that headers link to the order by their score; None leaves the links out.
    """
    comparison, info = examined.comparison, examined.info(score)

    def header(name: str, title: Html) -> Html:
        return title if route is None or name == info.name else link(route.with_(score=name), title, class_="lm-sort")

    recommendation = recommended(comparison)
    parts: list[Html | str] = [
        tag("p", comparison.verdict(info.name), class_="lm-verdict"),
        tag("p", recommendation, class_="lm-verdict") if recommendation else "",
        to_html(tables.scores(comparison, info.name), header),
        tag("p", legend(comparison), class_="lm-note"),
        *(tag("p", note, class_="lm-note") for note in notes(comparison)),
    ]
    below = tables.ranking(comparison, info.name), tables.costs(comparison), tables.people(comparison)
    uncompared = tables.uncompared(comparison)
    parts += [tag("div", uncompared.title, class_="lm-title"), to_html(uncompared)] if uncompared else []
    return join([*parts, *(part for table in below if table for part in (tag("h2", table.title), to_html(table)))])


def chart(examined: Examined, score: str, kind: PlotKind) -> Html:
    """Return a chart of one score under its title; nothing if the comparison has no data for it."""
    try:
        plot = examined.comparison.plot(kind, examined.score(score))
    except InvalidInputError:
        return Html("")
    return tag("section", tag("h2", CHARTS[kind]), Html(plot._repr_html_()), class_="lm-chart")


def slices(examined: Examined, score: str) -> Html:
    """Return the scores of the models on parts of the dataset."""
    comparison, info = examined.comparison, examined.info(score)
    if len(comparison.models) < 2 or info.higher_is_better is None:
        return empty("No slices", "Slices need two models, and a score that says which answer is better.")
    return to_html(tables.slices(comparison, info.name))


def example_list(examined: Examined, page: ExamplePage, route: Route | None) -> Html:
    """Return a page of the examples with the shaded scores of every model.

    Args:
        route: of the page, for links; None leaves them out.
    """
    comparison, info = examined.comparison, examined.info(page.query.score)
    if not page.total:
        return empty("No example matches", "Search for something else, or remove a filter.")
    shades = _shades(examined.values(info.name), info)
    figures = Figures(info, page.scores[np.isfinite(page.scores)].tolist())
    rows = []
    for position, row in enumerate(page.rows):
        number = f"{row:,}"
        cells = [
            link(route.with_(example=row), number) if route else tag("span", number),
            _excerpt(page.texts.iloc[position]["example"], page.query.search),
        ]
        scores = page.scores[position]
        for score, shade in zip(scores, shades(scores), strict=True):
            text = MISSING if math.isnan(score) else figures.number(score)
            cells.append(tag("span", text, class_="lm-heat", style=f"--lm-heat: {round(100 * shade)}%"))
        rows.append(cells)
    labels = [tag("span", elide(model, _LABEL), title=model) for model in comparison.models]
    below = pager(route, page.query.page, PER_PAGE, page.total, "example") if route else Html("")
    headers = ["", "Example", *labels]
    listing = tag("div", table(headers, rows, numeric=range(2, len(headers))), class_="lm-examples")
    legend = f"{info.name} of each model. Darker is better." if info.higher_is_better is not None else info.name
    return join([listing, tag("p", legend, class_="lm-note"), below])


def _excerpt(text: object, search: str) -> Html:
    """Return one line of a text, from shortly before the first match."""
    whole = str(text)
    start = max(0, whole.lower().find(search.strip().lower()) - 60) if search.strip() else 0
    return marked(("…" if start else "") + one_line(whole[start : start + 1000], 160), search)


def marked(text: str, search: str) -> Html:
    """Return a text with all matches of a search marked."""
    term = search.strip()
    if not term:
        return escape(text)
    parts: list[Html] = []
    rest, lower_case = text, term.lower()
    while (at := rest.lower().find(lower_case)) >= 0:
        parts += [escape(rest[:at]), tag("mark", rest[at : at + len(term)])]
        rest = rest[at + len(term) :]
    return join([*parts, escape(rest)])


def _shades(values: Values, info: ScoreInfo) -> Callable[[Values], list[float]]:
    """Return a function that maps scores to shades in [0, 1], relative to all `values`.

    1 is the best score. All shades are 0 if the score does not say which answer is better.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)

    def shades(row: Values) -> list[float]:
        if info.higher_is_better is None or high <= low:
            return [0.0] * len(row)
        share = (row - low) / (high - low)
        return [0.0 if math.isnan(part) else float(part if info.higher_is_better else 1 - part) for part in share]

    return shades


def example_view(
    examined: Examined, row: int, models: Sequence[str], against: str, query: Query, route: Route | None
) -> Html:
    """Return one example with the answers side by side, and their differences from another text marked.

    Args:
        row: of the dataset, from 0.
        models: the models whose answers are shown.
        against: the other text: :data:`GROUND_TRUTH`, a model, or :data:`NOTHING` to mark no differences.
        query: of the list that the example was opened from, for links to the next one.
        route: of the page; None leaves the links out.

    Raises:
        InvalidInputError: there is no such example.
    """
    comparison, info = examined.comparison, examined.info(query.score)
    if not 0 <= row < len(examined.texts):
        raise InvalidInputError(f"there is no example {row}", f"examples are 0 to {len(examined.texts) - 1}")
    texts = examined.texts.iloc[row]
    example, truth = str(texts["example"]), texts.get("ground_truth")
    # Unfolding a very long example is left to the reader; answers are shown whole, to be compared.
    body = clipped(example, _LONG) if len(example) > _LONG else tag("div", example, class_="lm-text")
    inputs = [_column(f"Example {row:,}", body)]
    if isinstance(truth, str):
        inputs.append(_column("Ground truth", tag("div", truth, class_="lm-text")))
    other = truth if against == GROUND_TRUTH else texts.get(against)
    legend: Html | str = ""
    if isinstance(other, str):
        only_other = f"only in the {against}" if against == GROUND_TRUTH else f"only in {against}"
        parts = ["Compared with ", tag("b", against), ": ", tag("ins", "only in the answer"), ", ",
                 tag("del", only_other)]  # fmt: skip
        legend = tag("p", *parts, class_="lm-note")
    scores = dict(zip(comparison.models, examined.values(info.name)[row], strict=True))
    figures = Figures(info, [score for score in scores.values() if math.isfinite(score)])
    answers = []
    for model in models:
        score, answer = scores[model], texts[model]
        value = tag("span", f"{info.name} {figures.number(score)}", class_="lm-soft") if math.isfinite(score) else ""
        if not isinstance(answer, str):
            body = tag("p", "no answer", class_="lm-soft")
        elif isinstance(other, str) and model != against:
            body = tag("div", _differences(answer, other), class_="lm-text")
        else:
            body = tag("div", answer, class_="lm-text")
        answers.append(_column(name(model), body, value))
    links = _links(examined, row, query, route) if route else ""
    return join([links, tag("div", *inputs, class_="lm-given"), legend, tag("div", *answers, class_="lm-answers")])


def _column(title: object, body: Html, beside: object = "") -> Html:
    return tag("section", tag("h3", title, " ", beside), body, class_="lm-answer")


def _differences(text: str, other: str) -> Html:
    elements = {"added": "ins", "missing": "del"}
    return join(
        tag(elements[kind], piece) if kind in elements else escape(piece) for kind, piece in differences(text, other)
    )


def _links(examined: Examined, row: int, query: Query, route: Route) -> Html:
    """Return links to the list, and to the examples before and after in its order."""
    order = examined.page(query).order
    places = np.flatnonzero(order == row)
    # An example that was opened by its address need not be in the list.
    place = int(places[0]) if len(places) else None
    previous, following = tag("span", "← Previous"), tag("span", "Next →")
    if place is not None and place > 0:
        previous = link(route.with_(example=int(order[place - 1])), "← Previous", rel="prev")
    if place is not None and place < len(order) - 1:
        following = link(route.with_(example=int(order[place + 1])), "Next →", rel="next")
    here = tag("span", "" if place is None else f"{place + 1:,} of {len(order):,}")
    back = link(route.with_(example=None), f"All {count(len(order), 'example')}")
    steps = tag("span", previous, here, following, class_="lm-steps")
    return tag("nav", back, steps, class_="lm-pager", aria_label="Examples")


def static(comparison: Comparison) -> Html:
    """Return the whole comparison for a reader without a kernel."""
    return Html(comparison._repr_html_())


def title_of(comparison: Comparison) -> str:
    """Return the number of models and examples in words."""
    models = count(len(comparison.models), "model")
    return f"{models} on {count(comparison.dataset.n_examples, 'example')} of {comparison.dataset.name}"
