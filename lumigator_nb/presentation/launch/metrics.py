"""The metrics of the launch form, with the reasons why some cannot be computed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lumigator_nb import metrics
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.errors import LumigatorError, MissingExtraError, MissingFieldsError
from lumigator_nb.services.experiments import check_metrics, default_metrics, localized
from lumigator_nb.specs import MetricSpec, Task

if TYPE_CHECKING:
    from lumigator_nb.database.records import Dataset
    from lumigator_nb.workspace import Workspace


@dataclass(frozen=True)
class MetricView:
    """One metric of the form.

    Attributes:
        key: its name in the form.
        title: for readers.
        text: what it measures.
        problem: why it cannot be computed, and what to do; None if it can.
        usual: whether it is a default metric of the task.
    """

    key: str
    title: str
    text: str
    problem: str | None = None
    usual: bool = False


def metric_line(metric: MetricView) -> Html:
    """Return the line under a metric's title: what it measures, and what is missing."""
    text = tag("span", metric.text)
    return join([text, tag("span", metric.problem, class_="lm-sub lm-error")]) if metric.problem else text


def key_of(spec: MetricSpec) -> str:
    """Return the metric's name in the form: with its settings, if it has any."""
    return spec.key if spec.options else spec.name


def metric_views(
    ws: Workspace, dataset: Dataset | None, task: Task, extra: Iterable[MetricSpec] = ()
) -> list[MetricView]:
    """Return all metrics that need no settings, and those with settings that the user has added.

    Args:
        ws: workspace.
        dataset: to be scored; None if it is not chosen yet.
        task: its kind and languages decide which metrics can be computed, and which are default.
        extra: metrics with settings, such as judges.
    """
    usual = {spec.name for spec in default_metrics(dataset, task)} if dataset else set()
    here = ws.cluster.head is not None
    views = [
        MetricView(key_of(spec), _title(spec), _text(spec), _problem(spec, dataset, task, here), usual=True)
        for spec in extra
    ]
    for name, title, text in _without_settings():
        spec = MetricSpec(name=name)
        # What the task's language changes: METEOR for German has no synonyms.
        note = metrics.create(localized([spec], task)[0]).note
        description = f"{text}. {note}." if note else text
        views.append(MetricView(name, title, description, _problem(spec, dataset, task, here), name in usual))
    return views


@cache
def _without_settings() -> list[tuple[str, str, str]]:
    """Return name, title and text of each metric that needs no settings."""
    rows = []
    for name in metrics.shown():
        with suppress(LumigatorError):  # this metric needs settings, which the form does not ask for
            rows.append((name, _title(MetricSpec(name=name)), _text(MetricSpec(name=name))))
    return rows


def _title(spec: MetricSpec) -> str:
    name = metrics.class_of(spec).display_name
    if not name:
        return spec.title.replace("_", " ").capitalize()
    return name if spec.title == spec.name else f"{name}: {spec.title}"


def _text(spec: MetricSpec) -> str:
    text = metrics.create(spec).infos[0].description
    return text[:1].upper() + text[1:]


def _problem(spec: MetricSpec, dataset: Dataset | None, task: Task, here: bool) -> str | None:
    if dataset is None:
        return None
    try:
        check_metrics(localized([spec], task), dataset, task, here=here)
    except MissingFieldsError as error:
        return "Needs ground truth, and the dataset has none." if "ground truth" in error.message else error.message
    except MissingExtraError as error:
        return f"Packages are missing: pip install 'lumigator-nb[{error.extra}]'"
    except LumigatorError as error:
        return f"{error.message[:1].upper()}{error.message[1:]}"
    return None
