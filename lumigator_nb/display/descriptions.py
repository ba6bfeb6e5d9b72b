"""Models, tasks, metrics, launches and details of jobs, described on a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from lumigator_nb import metrics
from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.text import count, percent, settings
from lumigator_nb.errors import UnknownMetricError
from lumigator_nb.specs import GenerationConfig, Launch, MetricSpec, Model, Task, language_name

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
