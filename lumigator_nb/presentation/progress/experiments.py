"""Experiments as a list that pages, searches and sorts, and one of them with its facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lumigator_nb.database.queries import Order
from lumigator_nb.database.record_views import describe_metric, describe_task
from lumigator_nb.database.records import Dataset, Experiment
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
    """One line of the list: the record, its dataset's name, and how its models stand."""

    experiment: Experiment
    dataset: str
    counts: Counter[Status]


@dataclass(frozen=True)
class ExperimentList:
    """A page of the list.

    Attributes:
        route: where it is; its query holds `page`, `search`, `status`, `dataset`, `sort` and `archived`.
        page: from 1.
        total: experiments on all pages.
        any: whether there is an experiment at all, whatever is searched for.
    """

    route: Route
    rows: tuple[ExperimentRow, ...]
    page: int
    total: int
    any: bool


def experiment_list(ws: Workspace, route: Route) -> ExperimentList:
    """Return the page that a route names; the number of queries does not depend on how many experiments there are.

    Raises:
        NotFoundError: it names a dataset that is not there.
    """
    query = route.query
    chosen = {
        "search": query.get("search"),
        "status": status_of(route),
        "archived": "archived" in query,
        "dataset": query.get("dataset"),
    }
    total = ws.experiments.count(**chosen)  # type: ignore[arg-type]
    page = min(route.number("page"), max(1, -(-total // PER_PAGE)))
    order = _ORDERS.get(query.get("sort", NEWEST), "newest")
    found = ws.experiments.list(limit=PER_PAGE, offset=(page - 1) * PER_PAGE, order=order, **chosen)  # type: ignore[arg-type]
    counts = ws.workflows.counts(found)
    datasets = ws.datasets.names(list({each.dataset_id for each in found}))
    rows = [ExperimentRow(each, datasets.get(each.dataset_id, ""), counts[each.id]) for each in found]
    return ExperimentList(route, tuple(rows), page, total, bool(total) or ws.experiments.count(archived=True) > 0)


def status_of(route: Route) -> Status | None:
    """Return the status that a route filters by; None where it names none."""
    try:
        return Status(route.query["status"])
    except (KeyError, ValueError):
        return None


def list_markup(view: ExperimentList) -> Html:
    """Return the list, or what to do where it is empty."""
    if not view.any:
        return _none_yet()
    if not view.rows:
        everything = button(Route(view.route.path), "Show all experiments")
        return empty("No experiment fits", f"None {_asked(view.route)}.", everything)
    created = sortable(view.route, "created", "Created", default=NEWEST)
    headers = [sortable(view.route, "name", "Name", default=NEWEST), "Dataset", "Task", "Models", created]
    return join(
        [
            listing(headers, [_cells(view.route, row) for row in view.rows]),
            pager(view.route, view.page, PER_PAGE, view.total, "experiment"),
        ]
    )


def _cells(route: Route, row: ExperimentRow) -> list[object]:
    record = row.experiment
    archived = tag("span", "archived", class_="lm-note") if record.archived_at else None
    return [
        join([link(route.to("experiments", record.name), name(record.name)), " " if archived else "", archived or ""]),
        link(route.to("datasets", row.dataset), name(row.dataset)) if row.dataset else "",
        describe_task(record.task),
        rollup(row.counts),
        tag("span", moment(record.created_at), class_="lm-time"),
    ]


def _none_yet() -> Html:
    text = (
        "An experiment asks several models to answer the examples of one dataset, scores the answers, and compares "
        "the models. Choose a dataset and two models or more to begin with."
    )
    return empty(
        "No experiment yet",
        text,
        button(Route(("launch",)), "New experiment", primary=True),
        button(Route(("upload",)), "Upload a dataset"),
    )


def _asked(route: Route) -> str:
    query = route.query
    said = [
        f"has a name with “{query['search']}”" if "search" in query else "",
        f"is on the dataset {query['dataset']}" if "dataset" in query else "",
        f"has a model that is {word(status)}" if (status := status_of(route)) else "",
    ]
    return " and ".join(text for text in said if text) or "is here; archived ones are hidden"


@dataclass(frozen=True)
class ExperimentFacts:
    """What an experiment is; its dataset is None where that was deleted."""

    experiment: Experiment
    dataset: Dataset | None


def experiment_facts(ws: Workspace, key: str) -> ExperimentFacts:
    """Return what an experiment is.

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
    """Return what a deletion would take with it, and what stays."""
    running = sum(number for status, number in deletion.workflows.items() if not status.ended)
    models = count(sum(deletion.workflows.values()), "model")
    lost = [
        f"The answers and scores of {models}" if deletion.workflows else "",
        f"{count(deletion.labels, 'label')} by people" if deletion.labels else "",
        f"{count(deletion.n_files, 'file')} in the store" if deletion.n_files else "",
    ]
    stopped = tag("p", f"{count(running, 'model')} under way will be stopped first.") if running else None
    stay = "The dataset stays, and answers that models gave are kept for other experiments."
    items = tag("ul", *(tag("li", text) for text in lost if text))
    return join(
        [tag("p", "This cannot be undone. It removes:"), items, stopped or "", tag("p", stay, class_="lm-soft")]
    )
