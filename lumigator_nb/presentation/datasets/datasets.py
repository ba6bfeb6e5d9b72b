"""Datasets: a page of the list, and one dataset with its facts, statistics and examples."""

from __future__ import annotations

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
# Columns of statistics by the key in a dataset's profile.
_LENGTHS = {"min": "Shortest", "p50": "Median", "mean": "Mean", "p95": "95% below", "max": "Longest"}


@dataclass(frozen=True)
class DatasetList:
    """A page of the list.

    Attributes:
        route: of the page; its query holds `page`, `search`, `sort` and `archived`.
        page: from 1.
        total: datasets on all pages.
        any: whether the workspace has any dataset, search and filters aside.
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
        key: name with version, such as "tickets@2", or id.
        rows: a page of its examples, with their row numbers as index.
        page: of the examples, from 1.
        versions: with the number of rows that each added, removed and changed; empty if there is only one.
        experiments: the newest experiments on it.
        n_experiments: number of all experiments on it.
    """

    dataset: Dataset
    key: str
    rows: pd.DataFrame
    page: int
    versions: pd.DataFrame
    experiments: tuple[Experiment, ...]
    n_experiments: int


def dataset_list(ws: Workspace, route: Route) -> DatasetList:
    """Return the page of a route."""
    filters: dict[str, Any] = {"search": route.query.get("search"), "archived": "archived" in route.query}
    total = ws.datasets.count(**filters)
    page = min(route.number("page"), max(1, -(-total // PER_PAGE)))
    order = _ORDERS.get(route.query.get("sort", NEWEST), "newest")
    datasets = ws.datasets.list(limit=PER_PAGE, offset=(page - 1) * PER_PAGE, order=order, **filters)
    return DatasetList(route, tuple(datasets), page, total, bool(total) or ws.datasets.count(archived=True) > 0)


def dataset_view(ws: Workspace, key: str, page: int = 1) -> DatasetView:
    """Return a dataset with a page of its examples.

    Args:
        key: name, such as "tickets" or "tickets@1", or id.

    Raises:
        NotFoundError: there is no such dataset.
    """
    record = ws.datasets.get(key)
    page = min(page, max(1, -(-record.n_examples // ROWS)))
    rows = ws.datasets.rows(record, limit=ROWS, offset=(page - 1) * ROWS)
    versions = ws.datasets.history(record.name) if record.version > 1 or "@" in key else pd.DataFrame()
    experiments = ws.experiments.list(dataset=record, limit=5)
    return DatasetView(record, key, rows, page, versions, tuple(experiments), ws.experiments.count(dataset=record))


def list_markup(view: DatasetList) -> Html:
    """Return the list, or what to do if it is empty."""
    if not view.any:
        text = (
            "A dataset is a table of your own examples: threads to summarize, pages to translate, prompts to answer. "
            "Most metrics need ground truth, which is the answers you expect. If you have none, a model can write it."
        )
        return empty("No dataset yet", text, button(Route(("upload",)), "Upload a file", primary=True))
    if not view.rows:
        search = view.route.query.get("search")
        if not search:
            show = button(view.route.with_(archived=1), "Show archived datasets")
            return empty("All datasets are archived", "Archived datasets are hidden.", show)
        text = f"No dataset has “{search}” in its name."
        return empty("No dataset matches", text, button(Route(view.route.path), "Show all datasets"))
    headers = [
        sortable(view.route, "name", "Name", default=NEWEST),
        sortable(view.route, "examples", "Examples", default=NEWEST),
        "Ground truth",
        "Size",
        sortable(view.route, "created", "Created", default=NEWEST),
    ]
    rows = []
    for record in view.rows:
        key, version = record.name, ""
        if record.version > 1:
            key, version = f"{record.name}@{record.version}", f" version {record.version}"
        label = join([name(record.name), tag("span", version, class_="lm-soft") if version else ""])
        archived = tag("span", " archived", class_="lm-note") if record.archived_at else ""
        row: list[object] = [
            join([link(Route(("datasets", key)), label), archived]),
            f"{record.n_examples:,}",
            _truth(record),
            size(record.size_bytes),
            tag("span", moment(record.created_at), class_="lm-time"),
        ]
        rows.append(row)
    return join([listing(headers, rows, numeric=[1, 3]), pager(view.route, view.page, PER_PAGE, view.total, "dataset")])


def _truth(record: Dataset) -> str:
    """Return for how many examples there is ground truth, and which model wrote it if one did."""
    if not record.has_ground_truth:
        return "none"
    missing = record.profile["n_missing_ground_truth"]
    extent = f"for {record.n_examples - missing:,}" if missing else "for all"
    return f"{extent}, by {record.author}" if record.author else extent


def facts_markup(view: DatasetView) -> Html:
    """Return the figures of a dataset, and the notes of its upload."""
    record = view.dataset
    facts: list[tuple[str, object]] = [
        ("Examples", f"{record.n_examples:,}"),
        ("Ground truth", _truth(record)),
        ("Size", size(record.size_bytes)),
        ("Experiments", f"{view.n_experiments:,}"),
    ]
    if not record.notes:
        return tiles(facts)
    return join([tiles(facts), tag("ul", *(tag("li", note) for note in record.notes), class_="lm-note lm-notes")])


def statistics_markup(view: DatasetView) -> Html:
    """Return the lengths of texts, in words, and the names of the metadata columns."""
    profile = view.dataset.profile
    rows = []
    for label, key in (("Example", "example_words"), ("Ground truth", "ground_truth_words")):
        if words := profile.get(key):
            rows.append([label, *(f"{words[statistic]:,.0f}" for statistic in _LENGTHS)])
    lengths = table(["Words", *_LENGTHS.values()], rows, numeric=range(1, 6)) if rows else Html("")
    metadata = list(profile.get("metadata", ()))
    columns = tag("p", f"Metadata: {', '.join(metadata)}", class_="lm-soft") if metadata else ""
    return join([tag("h2", "Lengths"), lengths, columns])


def rows_markup(view: DatasetView, route: Route) -> Html:
    """Return a page of the examples."""
    if not len(view.rows):
        return Html("")
    columns = list(view.rows.columns)
    visible = columns[:_MOST_COLUMNS]
    rows = []
    for number, record in view.rows.iterrows():
        cells: list[object] = [f"{number:,}"]
        for value in record[visible]:
            missing = value is None or (isinstance(value, float) and pd.isna(value))
            cells.append(MISSING if missing else clipped(value, 160))
        rows.append(cells)
    more = len(columns) - len(visible)
    note = tag("p", f"{count(more, 'more column')} not shown", class_="lm-note") if more else ""
    headers = [
        "",
        *(column.replace("_", " ") if column in ("example", "ground_truth") else column for column in visible),
    ]
    return join(
        [
            tag("h2", "Examples"),
            table(headers, rows, numeric=[0]),
            note,
            pager(route, view.page, ROWS, view.dataset.n_examples, "example"),
        ]
    )


def versions_markup(view: DatasetView) -> Html:
    """Return the versions of a dataset, newest first, with the changes of each; nothing if there is only one."""
    if not len(view.versions):
        return Html("")
    rows = []
    for _, version in view.versions.iloc[::-1].iterrows():
        number = int(version["version"])
        place = Route(("datasets", f"{view.dataset.name}@{number}"))
        label = tag("b", number) if number == view.dataset.version else link(place, number)
        created = pd.Timestamp(version["created_at"]).to_pydatetime()
        changes = [version["added"], version["removed"], version["changed"]]  # missing for the first version
        counts = ["" if pd.isna(rows_changed) else f"{int(rows_changed):,}" for rows_changed in changes]
        rows.append([label, moment(created), f"{int(version['n_examples']):,}", *counts])
    headers = ["Version", "Created", "Examples", "Added", "Removed", "Changed"]
    return join([tag("h2", "Versions"), table(headers, rows, numeric=range(2, 6))])


def experiments_markup(view: DatasetView) -> Html:
    """Return the newest experiments on a dataset, with a link to all of them."""
    if not view.experiments:
        return Html("")
    items = [
        tag("li", link(Route(("experiments", experiment.name)), name(experiment.name)))
        for experiment in view.experiments
    ]
    all_of_them = Route(("experiments",), {"dataset": view.key})
    more = link(all_of_them, f"all {view.n_experiments:,}") if view.n_experiments > len(items) else ""
    return join([tag("h2", "Experiments"), tag("ul", *items), more])


def about_markup(view: DatasetView) -> Html:
    """Return the origin of a dataset."""
    record = view.dataset
    renamed = [f"{source} as {field.replace('_', ' ')}" for field, source in record.columns.items() if source != field]
    facts: list[tuple[object, object]] = [
        ("File", record.filename),
        ("Columns", ", ".join(renamed)),
        ("Derived from", record.derived.get("dataset_id")),
        ("Created", moment(record.created_at)),
        ("SHA-256", record.content_hash[:16]),
        ("Id", record.id),
    ]
    return unfolding("About this dataset", card("", [fact for fact in facts if fact[1]]))


def deletion_markup(deletion: Deletion) -> Html:
    """Return what a deletion would remove."""
    losses = [
        "The dataset and its examples",
        f"{count(len(deletion.experiments), 'experiment')} on it: {', '.join(deletion.experiments[:5])}"
        if deletion.experiments
        else "",
        f"The answers and scores of {count(sum(deletion.workflows.values()), 'model')}" if deletion.workflows else "",
        f"{count(deletion.labels, 'label')} by people" if deletion.labels else "",
    ]
    items = tag("ul", *(tag("li", text) for text in losses if text))
    return join([tag("p", "This cannot be undone. It removes:"), items])
