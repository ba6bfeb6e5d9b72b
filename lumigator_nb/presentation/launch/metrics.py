"""The metrics to choose from: what each measures, and why one cannot be computed here."""

from __future__ import annotations

from collections.abc import Iterable
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
    """One metric to choose.

    Attributes:
        key: what a form calls it.
        text: what it measures.
        problem: why it cannot be computed, and what to do about it; None where it can.
        usual: whether it is one of the task's usual ones.
    """

    key: str
    title: str
    text: str
    problem: str | None = None
    usual: bool = False


def metric_line(metric: MetricView) -> Html:
    """Return what stands under a metric's title where it is chosen."""
    text = tag("span", metric.text)
    return join([text, tag("span", metric.problem, class_="lm-sub lm-error")]) if metric.problem else text


def key_of(spec: MetricSpec) -> str:
    """Return the name that a form uses: the metric's own where it has no settings."""
    return spec.key if spec.options else spec.name


def metric_views(
    ws: Workspace, dataset: Dataset | None, task: Task, extra: Iterable[MetricSpec] = ()
) -> list[MetricView]:
    """Return all metrics that need no settings, and others that a reader has made.

    Args:
        ws: workspace.
        dataset: what is to be scored; None where it is not known yet.
        task: language and kind decide what can be computed, and what is usual.
        extra: metrics with settings, such as judges.
    """
    usual = {spec.name for spec in default_metrics(dataset, task)} if dataset else set()
    here = ws.cluster.head is not None
    found = [
        MetricView(
            name, title, _noted(name, text, task), _problem(MetricSpec(name=name), dataset, task, here), name in usual
        )
        for name, title, text in _plain()
    ]
    made = [
        MetricView(key_of(spec), _title(spec), _text(spec), _problem(spec, dataset, task, here), usual=True)
        for spec in extra
    ]
    return made + found


@cache
def _plain() -> list[tuple[str, str, str]]:
    made = []
    for name in metrics.shown():
        try:
            made.append((name, _title(MetricSpec(name=name)), _text(MetricSpec(name=name))))
        except LumigatorError:
            continue  # needs settings that this form does not ask for
    return made


def _title(spec: MetricSpec) -> str:
    name = metrics.class_of(spec).display_name
    if not name:
        return spec.title.replace("_", " ").capitalize()
    return name if spec.title == spec.name else f"{name}: {spec.title}"


def _text(spec: MetricSpec) -> str:
    text = metrics.create(spec).infos[0].description
    return text[:1].upper() + text[1:]


def _noted(name: str, text: str, task: Task) -> str:
    """The text, with what the task's language changes: METEOR of German has no synonyms."""
    note = metrics.create(localized([MetricSpec(name=name)], task)[0]).note
    return f"{text}. {note}." if note else text


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
