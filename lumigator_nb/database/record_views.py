"""Datasets, experiments, workflows, jobs and the workspace as cards and as plain text."""

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

# The counts of :class:`lumigator_nb.storage.results.Tally`.
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
# Not `api_key_name`, which is the name of a variable, and not `max_tokens`.
_SECRET = re.compile("(^|_)(key|token|secret|password)$|headers", re.IGNORECASE)

_LENGTHS = {"min": "shortest", "p50": "median", "mean": "mean", "p95": "95% below", "max": "longest"}


@dataclass(frozen=True)
class _Shown:
    """What there is to say about a record.

    Attributes:
        facts: label and plain value.
        extra: markup that only a page shows.
    """

    title: str
    facts: Sequence[Fact]
    extra: Html | None = None


@render.as_html.register
def as_html(record: Record) -> str:
    """Return a record as a card."""
    shown = _shown(record)
    rows = [(label, _cell(value)) for label, value in shown.facts]
    return fragment(card(shown.title, rows, shown.extra))


@render.as_text.register
def as_text(record: Record) -> str:
    """Return a record as aligned lines."""
    shown = _shown(record)
    return aligned(one_line(shown.title), [(label, one_line(value)) for label, value in shown.facts])


def workspace_card(title: str, rows: Sequence[tuple[str, str, bool | None]], counts: Mapping[str, int]) -> str:
    """Return how a workspace stands as a card.

    Args:
        title: heading.
        rows: label, value, and whether that part works (None: nothing to say).
        counts: number of things by their plural name.
    """
    marks = {True: "good", False: "bad"}
    facts = [(label, value if ok is None else chip(value, marks[ok])) for label, value, ok in rows]
    return fragment(card(title, [*facts, ("Contents", _counted(counts))]))


def workspace_text(title: str, rows: Sequence[tuple[str, str, bool | None]], counts: Mapping[str, int]) -> str:
    """Return how a workspace stands as aligned lines; arguments as of :func:`workspace_card`."""
    marks = {True: "", False: "  (not working)", None: ""}
    facts = [(label, f"{one_line(value)}{marks[ok]}") for label, value, ok in rows]
    return aligned(title, [*facts, ("Contents", _counted(counts))])


def describe_model(model: Model) -> str:
    """Return the settings of a model in one line; those that are as always are left out."""
    defaults = GenerationConfig()
    changed: list[tuple[str, object]] = [
        (name, value) for name, value in model.generation if value != getattr(defaults, name)
    ]
    changed += [("base_url", without_secrets(model.base_url))] if model.base_url else []
    changed += [("repeat", model.repeat)] if model.repeat > 1 else []
    return settings([*changed, *shown_options(model).items()]) or "default settings"


def shown_options(model: Model) -> dict[str, Any]:
    """Return the options of a model without those that look like a key."""
    return _harmless(model.options)


def _harmless(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if not _SECRET.search(name)}
    return {name: _harmless(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def without_secrets(address: str) -> str:
    """Return an address without the password and the parameters that it may hold."""
    return re.sub(r"(?<=://)[^/@\s]*@|[?#].*$", "", address)


def describe_task(task: Task) -> str:
    """Return what models are asked to do: "translation, English to German, 3 few-shot examples"."""
    parts = [task.kind.replace("_", " ")]
    if task.source and task.target:
        parts.append(f"{language_name(task.source)} to {language_name(task.target)}")
    if task.shots:
        parts.append(count(len(task.shots), "few-shot example"))
    return ", ".join(parts)


def describe_launch(launch: Launch) -> str:
    """Return how a workflow goes about its work, as far as that is not as always."""
    parts = {
        f"budget {dollars(launch.budget or 0.0)}": launch.budget is not None,
        "batch mode": launch.mode == "batch",
        f"cache {launch.cache}": launch.cache != "on",
        f"up to {percent(launch.max_failed)} may fail": launch.max_failed != Launch().max_failed,
    }
    return ", ".join(text for text, said in parts.items() if said)


def describe_metric(metric: MetricSpec) -> str:
    """Return a metric in a line, as its class describes it; one that is not installed by its name and options."""
    with suppress(UnknownMetricError):
        return metrics.class_of(metric).describe(metric)
    return metrics.Metric.describe(metric)


def _shown(record: Record) -> _Shown:
    return _KINDS[type(record).__name__](record)


def _cell(value: object) -> Html:
    if isinstance(value, Status):
        return status_chip(value)
    return value if isinstance(value, Html) else clipped(value)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name if number != 1 else name.removesuffix('s')}" for name, number in counts.items())


def _present(*facts: tuple[str, object]) -> list[Fact]:
    return [(label, value) for label, value in facts if value not in (None, "")]


def _dataset(record: Dataset) -> _Shown:
    profile = record.profile
    facts = _present(
        ("Examples", f"{record.n_examples:,}{_peculiar(profile)}"),
        ("Ground truth", _ground_truth(profile, record.n_examples) + _generated(record.author)),
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
    return _Shown(f"Dataset {record.name}{version}", facts, _preview(profile["preview"]))


def _peculiar(profile: Mapping[str, Any]) -> str:
    counted = {"empty": profile["n_empty_examples"], "duplicate": profile["n_duplicate_examples"]}
    said = [f"{number:,} {word}" for word, number in counted.items() if number]
    return f" ({', '.join(said)})" if said else ""


def _ground_truth(profile: Mapping[str, Any], n_examples: int) -> str:
    if not profile["has_ground_truth"]:
        return "none"
    missing = profile["n_missing_ground_truth"]
    return f"for {n_examples - missing:,} of {n_examples:,} ({missing:,} missing)" if missing else "for all examples"


def _generated(author: str | None) -> str:
    return f", generated by {author}" if author else ""


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


def _experiment(record: Experiment) -> _Shown:
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
    return _Shown(f"Experiment {record.name}", facts)


def _workflow(record: Workflow) -> _Shown:
    facts = _present(
        ("Status", record.status),
        ("", "the cluster could not be asked; this is the last that was known" if record.stale else None),
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
    return _Shown(f"Workflow {record.label}", facts)


def _job(record: Job) -> _Shown:
    facts = _present(
        ("Status", record.status),
        ("Error", record.error),
        ("Examples", f"{record.n_examples:,}{_without_answer(record)}" if record.n_examples else None),
        ("Scores", ", ".join(f"{name} {value:.4g}" for name, value in record.scores.items())),
        *describe_details(record.details),
        ("Started", moment(record.started_at) if record.started_at else None),
        ("Ended", _ended(record.started_at, record.finished_at)),
        ("Workflow", record.workflow_id),
        ("Id", record.id),
    )
    return _Shown(f"Job {record.step}", facts)


def _without_answer(record: Job) -> str:
    return f" ({record.n_failed:,} failed)" if record.n_failed else ""


def _flat(details: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in details.items():
        if isinstance(value, Mapping):
            title = {"failed_metrics": "skipped metric"}.get(name, name)
            yield from ((f"{title} {key}", inner) for key, inner in value.items())
        else:
            yield name, value


def describe_details(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a job left for the record as label and text: the answers in all first, then the rest as it stands."""
    rest = {name: value for name, value in details.items() if name not in TALLIED}
    others = [(name.replace("_", " "), _detail(value)) for name, value in _flat(rest) if value not in (None, [], "")]
    return [*_tallied(details), *others]


def _tallied(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What :attr:`lumigator_nb.storage.results.Tally.details` holds, in words."""
    words = {"cached": "cached", "truncated": "with a cut input", "cut_off": "ended at max_new_tokens"}
    if "answered" in details:
        parts = ", ".join(f"{details[name]:,} {word}" for name, word in words.items() if name in details)
        yield "Answers", f"{details['answered']:,}" + (f" ({parts})" if parts else "")
    if "cost" in details:
        yield "Cost", dollars(details["cost"])
    if "seconds_p50" in details:
        yield "Latency", f"median {seconds(details['seconds_p50'])}, 95% within {seconds(details['seconds_p95'])}"
    if "completion_tokens" in details:
        thought = f" ({details['reasoning_tokens']:,} of them reasoning)" if "reasoning_tokens" in details else ""
        ways = {"cache_read_tokens": "from", "cache_write_tokens": "into"}
        said = [f"{details[name]:,} {way} the provider's cache" for name, way in ways.items() if name in details]
        cached = f" ({', '.join(said)})" if said else ""
        yield "Tokens", f"{details.get('prompt_tokens', 0):,} in{cached}, {details['completion_tokens']:,} out{thought}"


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


_KINDS: dict[str, Callable[[Any], _Shown]] = {
    "Dataset": _dataset,
    "Experiment": _experiment,
    "Workflow": _workflow,
    "Job": _job,
}
