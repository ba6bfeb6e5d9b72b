"""Views of datasets, experiments, workflows, jobs and the workspace, as cards and as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lumigator_nb import metrics
from lumigator_nb.database.records import Dataset, Experiment, Job, Record, Workflow
from lumigator_nb.display import render
from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.html import Html, card, chip, clipped, fragment, status_chip, table, unfolding
from lumigator_nb.display.text import MISSING, aligned, count, duration, moment, one_line, percent, settings, size
from lumigator_nb.errors import UnknownMetricError
from lumigator_nb.specs import GenerationConfig, Launch, MetricSpec, Model, Status, Task, language_name

Fact = tuple[str, object]

# The counts of :class:`lumigator_nb.storage.results.Tally`, which `_tallied` describes.
TALLIED = frozenset(
    {
        "answered",
        "cached",
        "truncated",
        "cut_off",
        "prompt_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cost",
        "seconds_p50",
        "seconds_p95",
    }
)
# Names of options with secret values. It does not match `api_key_name`, the name of a variable, and `max_tokens`.
_SECRET = re.compile("(^|_)(key|token|secret|password)$|headers", re.IGNORECASE)

_LENGTHS = {"min": "shortest", "p50": "median", "mean": "mean", "p95": "95% below", "max": "longest"}


@dataclass(frozen=True)
class _View:
    """A record's title and facts.

    Attributes:
        facts: pairs of label and plain value.
        extra: markup that is part of the card only.
    """

    title: str
    facts: Sequence[Fact]
    extra: Html | None = None


@render.as_html.register
def as_html(record: Record) -> str:
    """Return a record as a card."""
    view = _view_of(record)
    rows: list[tuple[str, object]] = []
    for label, value in view.facts:
        if isinstance(value, Status):
            rows.append((label, status_chip(value)))
        else:
            rows.append((label, value if isinstance(value, Html) else clipped(value)))
    return fragment(card(view.title, rows, view.extra))


@render.as_text.register
def as_text(record: Record) -> str:
    """Return a record as aligned lines."""
    view = _view_of(record)
    return aligned(one_line(view.title), [(label, one_line(value)) for label, value in view.facts])


def workspace_card(title: str, rows: Sequence[tuple[str, str, bool | None]], counts: Mapping[str, int]) -> str:
    """Return the state of a workspace as a card.

    Args:
        title: the heading.
        rows: label, value, and whether that part works (None if it does not apply).
        counts: numbers of records, by their plural name.
    """
    marks = {True: "good", False: "bad"}
    facts = [(label, value if ok is None else chip(value, marks[ok])) for label, value, ok in rows]
    return fragment(card(title, [*facts, ("Contents", _counted(counts))]))


def workspace_text(title: str, rows: Sequence[tuple[str, str, bool | None]], counts: Mapping[str, int]) -> str:
    """Return the state of a workspace as aligned lines; arguments as in :func:`workspace_card`."""
    marks = {True: "", False: "  (not working)", None: ""}
    facts = [(label, f"{one_line(value)}{marks[ok]}") for label, value, ok in rows]
    return aligned(title, [*facts, ("Contents", _counted(counts))])


def describe_model(model: Model) -> str:
    """Return the settings of a model that differ from the defaults, on a single line."""
    defaults = GenerationConfig()
    changed: list[tuple[str, object]] = [
        (name, value) for name, value in model.generation if value != getattr(defaults, name)
    ]
    changed += [("base_url", without_secrets(model.base_url))] if model.base_url else []
    changed += [("repeat", model.repeat)] if model.repeat > 1 else []
    return settings([*changed, *shown_options(model).items()]) or "default settings"


def shown_options(model: Model) -> dict[str, Any]:
    """Return the options of a model without those whose names suggest a secret."""
    return _harmless(model.options)


def _harmless(options: Mapping[str, Any]) -> dict[str, Any]:
    harmless = {name: value for name, value in options.items() if not _SECRET.search(name)}
    return {name: _harmless(value) if isinstance(value, Mapping) else value for name, value in harmless.items()}


def without_secrets(address: str) -> str:
    """Return a URL without user, password, parameters and fragment, any of which may be secret."""
    return re.sub(r"(?<=://)[^/@\s]*@|[?#].*$", "", address)


def describe_task(task: Task) -> str:
    """Return a task on a single line: "translation, English to German, 3 few-shot examples"."""
    parts = [task.kind.replace("_", " ")]
    if task.source and task.target:
        parts.append(f"{language_name(task.source)} to {language_name(task.target)}")
    if task.shots:
        parts.append(count(len(task.shots), "few-shot example"))
    return ", ".join(parts)


def describe_launch(launch: Launch) -> str:
    """Return the settings of a launch that differ from the defaults, on a single line."""
    parts = {
        f"budget {dollars(launch.budget or 0.0)}": launch.budget is not None,
        "batch mode": launch.mode == "batch",
        f"cache {launch.cache}": launch.cache != "on",
        f"up to {percent(launch.max_failed)} may fail": launch.max_failed != Launch().max_failed,
    }
    return ", ".join(text for text, differs in parts.items() if differs)


def describe_metric(metric: MetricSpec) -> str:
    """Return a metric's description on a single line; of a metric that is not installed, its name and options."""
    with suppress(UnknownMetricError):
        return metrics.class_of(metric).describe(metric)
    return metrics.Metric.describe(metric)


def _view_of(record: Record) -> _View:
    return _KINDS[type(record).__name__](record)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name if number != 1 else name.removesuffix('s')}" for name, number in counts.items())


def _present(*facts: Fact) -> list[Fact]:
    """Return the facts that have a value."""
    return [(label, value) for label, value in facts if value not in (None, "")]


def _dataset(record: Dataset) -> _View:
    profile = record.profile
    counts = {"empty": profile["n_empty_examples"], "duplicate": profile["n_duplicate_examples"]}
    remarks = ", ".join(f"{number:,} {word}" for word, number in counts.items() if number)
    ground_truth = "none"
    if profile["has_ground_truth"]:
        ground_truth = "for all examples"
        if missing := profile["n_missing_ground_truth"]:
            ground_truth = f"for {record.n_examples - missing:,} of {record.n_examples:,} ({missing:,} missing)"
    if record.author:
        ground_truth += f", generated by {record.author}"
    facts = _present(
        ("Examples", f"{record.n_examples:,}" + (f" ({remarks})" if remarks else "")),
        ("Ground truth", ground_truth),
        ("Example length", _length(profile["example_words"])),
        ("Ground truth length", _length(profile["ground_truth_words"])),
        ("Metadata", ", ".join(profile["metadata"])),
        ("Columns", ", ".join(f"{column!r} as {field}" for field, column in record.columns.items() if column != field)),
        ("File", f"{record.filename} ({size(record.size_bytes)})"),
        ("Uploaded", moment(record.created_at)),
        *(("Note", note) for note in record.notes),
        ("Id", record.id),
    )
    version = f" (version {record.version})" if record.version > 1 else ""
    return _View(f"Dataset {record.name}{version}", facts, _preview(profile["preview"]))


def _length(words: Mapping[str, float] | None) -> str | None:
    if not words:
        return None
    return ", ".join(f"{_LENGTHS[key]} {words[key]:,.0f}" for key in _LENGTHS) + " words"


def _preview(rows: Sequence[Mapping[str, Any]]) -> Html | None:
    if not rows:
        return None
    headers = list(rows[0])
    cells = [[MISSING if row[name] is None else clipped(row[name], 160) for name in headers] for row in rows]
    return unfolding(f"First {count(len(rows), 'example')}", table(headers, cells), open_=True)


def _experiment(record: Experiment) -> _View:
    facts = _present(
        ("Task", describe_task(record.task)),
        ("Prompt", record.task.instruction),
        ("Template", record.task.template),
        ("Metrics", ", ".join(describe_metric(metric) for metric in record.metrics)),
        ("Dataset", record.dataset_id),
        ("Examples", f"{record.sample.n:,} of {record.sample.of:,}, drawn at random" if record.sample else None),
        ("Created", moment(record.created_at)),
        ("Id", record.id),
    )
    return _View(f"Experiment {record.name}", facts)


def _workflow(record: Workflow) -> _View:
    facts = _present(
        ("Status", record.status),
        ("", "the cluster did not answer; this is the last known status" if record.stale else None),
        ("Error", record.error),
        ("Model", f"{record.model.provider}/{record.model.name}"),
        ("Settings", describe_model(record.model)),
        ("Launch", describe_launch(record.launch) or None),
        ("Attempt", record.attempt if record.attempt > 1 else None),
        ("Created", moment(record.created_at)),
        ("Ended", _ended(record.attempted_at, record.finished_at)),
        ("Experiment", record.experiment_id),
        ("Id", record.id),
    )
    return _View(f"Workflow {record.label}", facts)


def _job(record: Job) -> _View:
    failed = f" ({record.n_failed:,} failed)" if record.n_failed else ""
    facts = _present(
        ("Status", record.status),
        ("Error", record.error),
        ("Examples", f"{record.n_examples:,}{failed}" if record.n_examples else None),
        ("Scores", ", ".join(f"{name} {value:.4g}" for name, value in record.scores.items())),
        *describe_details(record.details),
        ("Started", moment(record.started_at) if record.started_at else None),
        ("Ended", _ended(record.started_at, record.finished_at)),
        ("Workflow", record.workflow_id),
        ("Id", record.id),
    )
    return _View(f"Job {record.step}", facts)


def describe_details(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a job's details as pairs of label and text: first the totals of the predictions, then all others."""
    others: list[tuple[str, Any]] = []
    for name, value in details.items():
        if isinstance(value, Mapping):
            title = {"failed_metrics": "skipped metric"}.get(name, name)
            others += [(f"{title} {key}", inner) for key, inner in value.items()]
        elif name not in TALLIED:
            others.append((name, value))
    texts = [(name.replace("_", " "), _detail(value)) for name, value in others if value not in (None, [], "")]
    return [*_tallied(details), *texts]


def _tallied(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Describe the counts of :attr:`lumigator_nb.storage.results.Tally.details`."""
    words = {"cached": "cached", "truncated": "with a cut input", "cut_off": "ended at max_new_tokens"}
    if "answered" in details:
        parts = ", ".join(f"{details[name]:,} {word}" for name, word in words.items() if name in details)
        yield "Answers", f"{details['answered']:,}" + (f" ({parts})" if parts else "")
    if "cost" in details:
        yield "Cost", dollars(details["cost"])
    if "seconds_p50" in details:
        yield "Latency", f"median {seconds(details['seconds_p50'])}, 95% within {seconds(details['seconds_p95'])}"
    if "completion_tokens" in details:
        reasoning = f" ({details['reasoning_tokens']:,} of them reasoning)" if "reasoning_tokens" in details else ""
        ways = {"cache_read_tokens": "from", "cache_write_tokens": "into"}
        counts = [f"{details[name]:,} {way} the provider's cache" for name, way in ways.items() if name in details]
        cached = f" ({', '.join(counts)})" if counts else ""
        prompt, completion = details.get("prompt_tokens", 0), details["completion_tokens"]
        yield "Tokens", f"{prompt:,} in{cached}, {completion:,} out{reasoning}"


def _detail(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return "; ".join(map(str, value))
    if isinstance(value, str):
        return without_secrets(value) if re.match("https?://", value) else value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ended(start: datetime | None, end: datetime | None) -> str | None:
    if end is None:
        return None
    return moment(end) + (f", after {duration((end - start).total_seconds())}" if start else "")


_KINDS: dict[str, Callable[[Any], _View]] = {
    "Dataset": _dataset,
    "Experiment": _experiment,
    "Workflow": _workflow,
    "Job": _job,
}
