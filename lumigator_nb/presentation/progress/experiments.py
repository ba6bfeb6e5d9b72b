"""Experiments: a page of the list, and one experiment with its facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lumigator_nb.database.queries import Order
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.display.descriptions import describe_metric, describe_task
from lumigator_nb.display.html import Html, card, chip, clipped, join, name, tag
from lumigator_nb.display.text import count, moment
from lumigator_nb.presentation.markup import PER_PAGE, button, empty, link, listing, pager, sortable
from lumigator_nb.presentation.progress.markup import rollup, word
from lumigator_nb.presentation.routes import Route
from lumigator_nb.services.deletion import Deletion
from lumigator_nb.specs import Status

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

_ORDERS: dict[str, Order] = {"-created": "newest", "created": "oldest", "name": "name", "-name": "-name"}
NEWEST = "-created"


@dataclass(frozen=True)
class ExperimentRow:
    """One row of the list: the record, the name of its dataset, and the number of its models by status."""

    experiment: Experiment
    dataset: str
    counts: Counter[Status]


@dataclass(frozen=True)
class ExperimentList:
    """A page of the list.

    Attributes:
        route: of the page; its query holds `page`, `search`, `status`, `dataset`, `sort` and `archived`.
        page: from 1.
        total: experiments on all pages.
        any: whether the workspace has any experiment, search and filters aside.
    """

    route: Route
    rows: tuple[ExperimentRow, ...]
    page: int
    total: int
    any: bool


def experiment_list(ws: Workspace, route: Route) -> ExperimentList:
    """Return the page of a route, in a number of queries that does not grow with the number of experiments.

    Raises:
        NotFoundError: the route names a dataset that does not exist.
    """
    query = route.query
    filters: dict[str, Any] = {
        "search": query.get("search"),
        "status": status_of(route),
        "archived": "archived" in query,
        "dataset": query.get("dataset"),
    }
    total = ws.experiments.count(**filters)
    page = min(route.number("page"), max(1, -(-total // PER_PAGE)))
    order = _ORDERS.get(query.get("sort", NEWEST), "newest")
    records = ws.experiments.list(limit=PER_PAGE, offset=(page - 1) * PER_PAGE, order=order, **filters)
    counts = ws.workflows.counts(records)
    datasets = ws.datasets.names(list({record.dataset_id for record in records}))
    rows = [ExperimentRow(record, datasets.get(record.dataset_id, ""), counts[record.id]) for record in records]
    return ExperimentList(route, tuple(rows), page, total, bool(total) or ws.experiments.count(archived=True) > 0)


def status_of(route: Route) -> Status | None:
    """Return the status that a route filters by; None if it names none."""
    try:
        return Status(route.query["status"])
    except (KeyError, ValueError):
        return None


def list_markup(view: ExperimentList) -> Html:
    """Return the list, or what to do if it is empty."""
    if not view.any:
        text = (
            "In an experiment, several models answer the examples of one dataset. Their answers are scored, and the "
            "models are compared. To begin, choose a dataset and at least two models."
        )
        new = button(Route(("launch",)), "New experiment", primary=True)
        return empty("No experiment yet", text, new, button(Route(("upload",)), "Upload a dataset"))
    if not view.rows:
        query, status = view.route.query, status_of(view.route)
        conditions = [
            f"has “{query['search']}” in its name" if "search" in query else "",
            f"uses the dataset {query['dataset']}" if "dataset" in query else "",
            f"has a model that is {word(status)}" if status else "",
        ]
        conditions = [condition for condition in conditions if condition]
        if not conditions:
            show = button(view.route.with_(archived=1), "Show archived experiments")
            return empty("All experiments are archived", "Archived experiments are hidden.", show)
        text = f"No experiment {' and '.join(conditions)}."
        return empty("No experiment matches", text, button(Route(view.route.path), "Show all experiments"))
    rows = []
    for row in view.rows:
        record = row.experiment
        archived = tag("span", " archived", class_="lm-note") if record.archived_at else ""
        cells: list[object] = [
            join([link(Route(("experiments", record.name)), name(record.name)), archived]),
            link(Route(("datasets", row.dataset)), name(row.dataset)) if row.dataset else "",
            describe_task(record.task),
            rollup(row.counts),
            tag("span", moment(record.created_at), class_="lm-time"),
        ]
        rows.append(cells)
    created = sortable(view.route, "created", "Created", default=NEWEST)
    headers = [sortable(view.route, "name", "Name", default=NEWEST), "Dataset", "Task", "Models", created]
    return join([listing(headers, rows), pager(view.route, view.page, PER_PAGE, view.total, "experiment")])


@dataclass(frozen=True)
class ExperimentFacts:
    """An experiment and its dataset, which is None if it was deleted."""

    experiment: Experiment
    dataset: Dataset | None


def experiment_facts(ws: Workspace, key: str) -> ExperimentFacts:
    """Return an experiment with its dataset.

    Raises:
        NotFoundError: there is no such experiment.
    """
    record = ws.experiments.get(key)
    dataset = ws.datasets.find(record.dataset_id)
    return ExperimentFacts(record, dataset and dataset.sampled(record.sample))


def facts_markup(facts: ExperimentFacts) -> Html:
    """Return the facts as a table."""
    record, dataset = facts.experiment, facts.dataset
    rows: list[tuple[object, object]] = [
        ("Dataset", _dataset_link(dataset)),
        ("Task", describe_task(record.task)),
        ("Prompt", clipped(record.task.instruction) if record.task.instruction else ""),
        ("Template", clipped(record.task.template) if record.task.template else ""),
        ("Metrics", clipped(", ".join(describe_metric(metric) for metric in record.metrics) or "none")),
        ("Created", moment(record.created_at)),
        ("Archived", moment(record.archived_at) if record.archived_at else ""),
        ("Id", record.id),
    ]
    return card("About", [(label, value) for label, value in rows if value])


def _dataset_link(dataset: Dataset | None) -> Html:
    if dataset is None:
        return tag("span", "deleted", class_="lm-soft")
    version = f"@{dataset.version}" if dataset.version > 1 else ""
    place = Route(("datasets", dataset.name + version))
    used = f"{dataset.n_examples:,} of {dataset.sample.of:,} examples" if dataset.sample else None
    return join([link(place, name(dataset.name + version)), f", {used or count(dataset.n_examples, 'example')}"])


def under_title(facts: ExperimentFacts) -> Html:
    """Return the line below an experiment's name."""
    record = facts.experiment
    archived = [chip("archived"), " · "] if record.archived_at else []
    task = describe_task(record.task)
    return join([*archived, task[0].upper() + task[1:], " on ", _dataset_link(facts.dataset)])


def deletion_markup(deletion: Deletion) -> Html:
    """Return what a deletion would remove, and what it keeps."""
    running = sum(number for status, number in deletion.workflows.items() if not status.ended)
    models = count(sum(deletion.workflows.values()), "model")
    losses = [
        f"The answers and scores of {models}" if deletion.workflows else "",
        f"{count(deletion.labels, 'label')} by people" if deletion.labels else "",
        f"{count(deletion.n_files, 'file')} in the store" if deletion.n_files else "",
    ]
    stopped = tag("p", f"{count(running, 'running model')} will be stopped first.") if running else None
    stay = "The dataset stays, and so does the cache of answers, which other experiments use."
    items = tag("ul", *(tag("li", text) for text in losses if text))
    return join(
        [tag("p", "This cannot be undone. It removes:"), items, stopped or "", tag("p", stay, class_="lm-soft")]
    )
