"""Datasets as a list that pages, searches and sorts, and one of them with its facts, statistics and examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from lumigator_nb.database.queries import Order
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.display.html import Html, card, clipped, join, name, table, tag, unfolding
from lumigator_nb.display.text import MISSING, count, moment, size
from lumigator_nb.presentation.markup import PER_PAGE, button, empty, link, listing, pager, sortable, tiles
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.deletion import Deletion

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

NEWEST = "-created"
ROWS = 10
_MOST_COLUMNS = 8
_ORDERS: dict[str, Order] = {
    "-created": "newest", "created": "oldest", "name": "name", "-name": "-name",
    "-examples": "size", "examples": "-size",
}  # fmt: skip
_LENGTHS = {"min": "Shortest", "p50": "Median", "mean": "Mean", "p95": "95% below", "max": "Longest"}


@dataclass(frozen=True)
class DatasetList:
    """A page of the list.

    Attributes:
        route: where it is; its query holds `page`, `search`, `sort` and `archived`.
        page: from 1.
        total: datasets on all pages.
        any: whether there is a dataset at all, whatever is searched for.
    """

    route: Route
    rows: tuple[Dataset, ...]
    page: int
    total: int
    any: bool


@dataclass(frozen=True)
class DatasetView:
    """One dataset.

    Attributes:
        rows: some of its examples, with their numbers as index.
        page: of the examples, from 1.
        versions: with the rows that each added, removed and changed; empty where there is one only.
        experiments: on it, the newest.
    """

    dataset: Dataset
    key: str
    rows: pd.DataFrame
    page: int
    versions: pd.DataFrame
    experiments: tuple[Experiment, ...]
    n_experiments: int


def dataset_list(ws: Workspace, route: Route) -> DatasetList:
    """Return the page that a route names."""
    chosen: dict[str, Any] = {"search": route.query.get("search"), "archived": "archived" in route.query}
    total = ws.datasets.count(**chosen)
    page = min(route.number("page"), max(1, -(-total // PER_PAGE)))
    order = _ORDERS.get(route.query.get("sort", NEWEST), "newest")
    found = ws.datasets.list(limit=PER_PAGE, offset=(page - 1) * PER_PAGE, order=order, **chosen)
    return DatasetList(route, tuple(found), page, total, bool(total) or ws.datasets.count(archived=True) > 0)


def dataset_view(ws: Workspace, key: str, page: int = 1) -> DatasetView:
    """Return a dataset with a page of its examples.

    Args:
        key: name, such as "tickets" or "tickets@1", or id.

    Raises:
        NotFoundError: there is none.
    """
    record = ws.datasets.get(key)
    page = min(page, max(1, -(-record.n_examples // ROWS)))
    rows = ws.datasets.rows(record, limit=ROWS, offset=(page - 1) * ROWS)
    versions = ws.datasets.history(record.name) if record.version > 1 or "@" in key else pd.DataFrame()
    experiments = ws.experiments.list(dataset=record, limit=5)
    return DatasetView(record, key, rows, page, versions, tuple(experiments), ws.experiments.count(dataset=record))


def list_markup(view: DatasetList) -> Html:
    """Return the list, or what to do where it is empty."""
    if not view.any:
        text = (
            "A dataset is a table of your own examples: threads to summarize, pages to translate, prompts to answer. "
            "Ground truth, the answers you wish for, makes most metrics possible; a model can write it where you have "
            "none."
        )
        return empty("No dataset yet", text, button(Route(("upload",)), "Upload a file", primary=True))
    if not view.rows:
        everything = button(Route(view.route.path), "Show all datasets")
        return empty("No dataset fits", f"None has {view.route.query.get('search', '')!r} in its name.", everything)
    headers = [
        sortable(view.route, "name", "Name", default=NEWEST),
        sortable(view.route, "examples", "Examples", default=NEWEST),
        "Ground truth",
        "Size",
        sortable(view.route, "created", "Created", default=NEWEST),
    ]
    rows = [_cells(view.route, row) for row in view.rows]
    return join([listing(headers, rows, numeric=[1, 3]), pager(view.route, view.page, PER_PAGE, view.total, "dataset")])


def _cells(route: Route, record: Dataset) -> list[object]:
    key = f"{record.name}@{record.version}" if record.version > 1 else record.name
    label = [name(record.name)] + (
        [tag("span", f" version {record.version}", class_="lm-soft")] if record.version > 1 else []
    )
    archived = tag("span", " archived", class_="lm-note") if record.archived_at else ""
    return [
        join([link(route.to("datasets", key), *label), archived]),
        f"{record.n_examples:,}",
        _truth(record),
        size(record.size_bytes),
        tag("span", moment(record.created_at), class_="lm-time"),
    ]


def _truth(record: Dataset) -> str:
    if not record.has_ground_truth:
        return "none"
    missing = record.profile["n_missing_ground_truth"]
    said = f"for {record.n_examples - missing:,}" if missing else "for all"
    return f"{said}, by {record.author}" if record.author else said


def facts_markup(view: DatasetView) -> Html:
    """Return what is known of a dataset in figures and facts, and what was noticed when it was uploaded."""
    record = view.dataset
    facts: list[tuple[str, object]] = [
        ("Examples", f"{record.n_examples:,}"),
        ("Ground truth", _truth(record)),
        ("Size", size(record.size_bytes)),
        ("Experiments", f"{view.n_experiments:,}"),
    ]
    return join([tiles(facts), _notes(record)])


def _notes(record: Dataset) -> Html:
    if not record.notes:
        return Html("")
    return tag("ul", *(tag("li", note) for note in record.notes), class_="lm-note lm-notes")


def statistics_markup(view: DatasetView) -> Html:
    """Return how long texts are, in words, and the metadata columns."""
    profile = view.dataset.profile
    lengths = [(label, profile.get(f"{field}_words")) for label, field in _FIELDS]
    found = [(label, words) for label, words in lengths if words]
    rows = [[label, *(f"{words[key]:,.0f}" for key in _LENGTHS)] for label, words in found]
    shown = table(["Words", *_LENGTHS.values()], rows, numeric=range(1, 6)) if rows else Html("")
    metadata = list(profile.get("metadata", ()))
    columns = tag("p", f"Metadata: {', '.join(metadata)}", class_="lm-soft") if metadata else ""
    return join([tag("h2", "Lengths"), shown, columns])


_FIELDS = (("Example", "example"), ("Ground truth", "ground_truth"))


def rows_markup(view: DatasetView, route: Route) -> Html:
    """Return a page of the examples."""
    if not len(view.rows):
        return Html("")
    columns = list(view.rows.columns)
    shown = columns[:_MOST_COLUMNS]
    cells = [[f"{index:,}", *(_text(row[column]) for column in shown)] for index, row in view.rows.iterrows()]
    more = len(columns) - len(shown)
    note = tag("p", f"{count(more, 'more column')} not shown", class_="lm-note") if more else ""
    headers = ["", *(column.replace("_", " ") if column in ("example", "ground_truth") else column for column in shown)]
    return join(
        [
            tag("h2", "Examples"),
            table(headers, cells, numeric=[0]),
            note,
            pager(route, view.page, ROWS, view.dataset.n_examples, "example"),
        ]
    )


def _text(value: object) -> Html | str:
    missing = value is None or (isinstance(value, float) and pd.isna(value))
    return MISSING if missing else clipped(value, 160)


def versions_markup(view: DatasetView) -> Html:
    """Return the versions of a dataset with what each changed; nothing where there is one only."""
    if not len(view.versions):
        return Html("")
    rows = [_version(view, row) for _, row in view.versions.iloc[::-1].iterrows()]
    headers = ["Version", "Created", "Examples", "Added", "Removed", "Changed"]
    return join([tag("h2", "Versions"), table(headers, rows, numeric=range(2, 6))])


def _version(view: DatasetView, row: pd.Series) -> list[object]:
    number = int(row["version"])
    key = f"{view.dataset.name}@{number}"
    label: object = tag("b", number) if number == view.dataset.version else link(Route(("datasets", key)), number)
    counts = ["" if pd.isna(row[each]) else f"{int(row[each]):,}" for each in ("added", "removed", "changed")]
    return [label, moment(pd.Timestamp(row["created_at"]).to_pydatetime()), f"{int(row['n_examples']):,}", *counts]


def experiments_markup(view: DatasetView) -> Html:
    """Return the newest experiments on a dataset, with a link to all of them."""
    if not view.experiments:
        return Html("")
    items = [tag("li", link(Route(("experiments", each.name)), name(each.name))) for each in view.experiments]
    everything = Route(("experiments",), {"dataset": view.key})
    more = link(everything, f"all {view.n_experiments:,}") if view.n_experiments > len(items) else ""
    return join([tag("h2", "Experiments"), tag("ul", *items), more])


def about_markup(view: DatasetView) -> Html:
    """Return where a dataset comes from."""
    record = view.dataset
    facts: list[tuple[object, object]] = [
        ("File", record.filename),
        ("Columns", _columns(record.columns)),
        ("Derived from", record.derived.get("dataset_id")),
        ("Created", moment(record.created_at)),
        ("SHA-256", record.content_hash[:16]),
        ("Id", record.id),
    ]
    return unfolding("About this dataset", card("", [fact for fact in facts if fact[1]]))


def _columns(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{source} as {field.replace('_', ' ')}" for field, source in columns.items() if source != field)


def deletion_markup(deletion: Deletion) -> Html:
    """Return what a deletion would take with it."""
    lost = [
        "The dataset and its examples",
        f"{count(len(deletion.experiments), 'experiment')} on it: {', '.join(deletion.experiments[:5])}"
        if deletion.experiments
        else "",
        f"The answers and scores of {count(sum(deletion.workflows.values()), 'model')}" if deletion.workflows else "",
        f"{count(deletion.labels, 'label')} by people" if deletion.labels else "",
    ]
    items = tag("ul", *(tag("li", text) for text in lost if text))
    return join([tag("p", "This cannot be undone. It removes:"), items])
