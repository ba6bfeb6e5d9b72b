"""A comparison as one HTML file that needs no other, prints well, and says how to get the same figures again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lumigator_nb.database.record_views import (
    TALLIED,
    describe_details,
    describe_metric,
    describe_model,
    describe_task,
    shown_options,
    without_secrets,
)
from lumigator_nb.display import render
from lumigator_nb.display.html import Html, card, clipped, join, name, page, table, tag
from lumigator_nb.display.tables import Table, to_html
from lumigator_nb.display.text import MISSING, count, duration, moment, percent, settings, size
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.models import recipe_of
from lumigator_nb.services.comparison import tables
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.overview import chart, legend, notes, side_by_side
from lumigator_nb.services.comparison.recommendation import body
from lumigator_nb.specs import GenerationConfig, MetricSpec, Model, Step, Task, is_ground_truth, now

if TYPE_CHECKING:
    from lumigator_nb.database.records import Job, Workflow

REPORTED_EXAMPLES = 20
# Below, slices would be of a dozen examples each and only confuse.
_FEWEST_TO_SLICE = 40
# Versions and costs stand elsewhere in the report.
_NOT_WORTH_TELLING = {"traceback", "shards_reused", "lumigator_nb", "python", "priced", "notes", *TALLIED}


@render.as_page.register
def report(comparison: Comparison) -> str:
    """Return the whole report as an HTML document."""
    main = tables.ordered_scores(comparison)[0]
    return page(
        comparison.experiment.name,
        tag("h1", comparison.experiment.name),
        tag("div", f"{count(len(comparison.models), 'model')} compared, {moment(now())}", class_="lm-soft"),
        tag("div", comparison.verdict(), class_="lm-verdict"),
        *_decision(comparison, main),
        tag("h2", "Scores"),
        to_html(tables.scores(comparison)),
        tag("div", legend(comparison), class_="lm-note"),
        *(tag("div", note, class_="lm-note") for note in notes(comparison)),
        *_section(tables.uncompared(comparison)),
        tag("div", *(chart(comparison, info) for info in tables.ordered_scores(comparison)), class_="lm-plots"),
        *_section(tables.costs(comparison)),
        *_trade(comparison, main),
        *(_section(tables.slices(comparison)) if comparison.n_scored >= _FEWEST_TO_SLICE else []),
        *_section(tables.people(comparison)),
        tag("h2", "What was compared"),
        card("Experiment", _facts(comparison)),
        tag("h2", "Models"),
        _models(comparison),
        tag("h2", "Metrics"),
        _metrics(comparison),
        tag("h2", "Examples side by side"),
        *_examples(comparison),
        tag("h2", "How to get the same figures"),
        tag("pre", tag("code", recipe(comparison))),
        tag(
            "div",
            "The seed fixes the intervals; answers of a model that samples, or of a service, may differ.",
            class_="lm-note",
        ),
    )


def _decision(comparison: Comparison, info: ScoreInfo) -> list[Html]:
    """Which model to take, and how sure that is; nothing where there is one model or one example."""
    from lumigator_nb.display.charts import svg

    if len(comparison.models) < 2 or info.higher_is_better is None or comparison.n_scored < 2:
        return []
    return [
        tag("h2", "Which model to take"),
        *body(comparison.recommend()),
        tag("h2", "How sure it is"),
        to_html(tables.ranking(comparison)),
        svg(comparison.plot("pairwise")),
    ]


def _trade(comparison: Comparison, info: ScoreInfo) -> list[Html]:
    """The chart of quality against cost, or latency; nothing where neither is known of two models."""
    from lumigator_nb.display.charts import svg
    from lumigator_nb.services.comparison.decision_charts import pareto_chart

    if len(comparison.models) < 2 or info.higher_is_better is None:
        return []
    points = comparison.pareto()
    for against in ("dollars_per_1000", "seconds_p50"):
        if points[~points["baseline"]][against].gt(0).sum() > 1:
            return [svg(pareto_chart(points, info, against))]
    return []


def _section(table: Table) -> list[Html]:
    return [tag("h2", table.title), to_html(table)] if table else []


def _facts(comparison: Comparison) -> list[tuple[str, object]]:
    dataset, task = comparison.dataset, comparison.experiment.task
    drawn = f"groups of {comparison.groups}" if comparison.groups else "examples"
    bootstrap = f"{percent(comparison.confidence)}, bootstrap over {drawn} (BCa; differences by Student's t)"
    return [
        ("Dataset", f"{dataset.name} ({dataset.filename}, {size(dataset.size_bytes)})"),
        ("SHA-256", dataset.content_hash),
        ("Examples", f"{dataset.n_examples:,}"),
        ("Task", describe_task(task)),
        ("Prompt", clipped(task.instruction, 600)),
        *([("Template", clipped(task.template, 600))] if task.template else []),
        (
            "Intervals",
            f"{bootstrap}, {count(comparison.n_resamples, 'resample')}, seed {comparison.seed}; Wilson's of shares",
        ),
        ("P-values", "paired t-tests, corrected for all pairs of models (Romano and Wolf, step-down)"),
        ("Versions", _versions(comparison.jobs)),
    ]


def _versions(jobs: Sequence[Job]) -> str:
    names = {"lumigator_nb": "lumigator_nb", "python": "Python"}
    used = {name: _distinct(job.details.get(key) for job in jobs) for key, name in names.items()}
    return ", ".join(f"{name} {' and '.join(values)}" for name, values in used.items() if values) or MISSING


def _distinct(values: Iterator[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _models(comparison: Comparison) -> Html:
    rows = []
    for workflow in comparison.workflows:
        job = _job(comparison, workflow, Step.INFERENCE)
        full = f"{workflow.model.provider}/{workflow.model.name}"
        under = None if workflow.label == full else tag("span", name(full), class_="lm-sub")
        title = tag("span", name(workflow.label), under)
        rows.append(
            [title, describe_model(workflow.model), _used(job), _took(job), f"{job.n_failed:,}" if job else MISSING]
        )
    found = table(["Model", "Settings", "Worked with", "Predicting", "Without answer"], rows, numeric=(3, 4))
    return join([found, *(tag("div", note, class_="lm-note") for note in _noticed(comparison))])


def _noticed(comparison: Comparison) -> Iterator[str]:
    """What was noticed while models answered, such as a parameter that one does not take."""
    for workflow in comparison.workflows:
        job = _job(comparison, workflow, Step.INFERENCE)
        yield from (f"{workflow.label}: {note}." for note in (job.details.get("notes") or () if job else ()))


def _job(comparison: Comparison, workflow: Workflow, step: Step) -> Job | None:
    return next((job for job in comparison.jobs if job.workflow_id == workflow.id and job.step is step), None)


def _used(job: Job | None) -> str:
    details = {name: value for name, value in (job.details if job else {}).items() if name not in _NOT_WORTH_TELLING}
    return ", ".join(f"{name} {text}" for name, text in describe_details(details))


def _took(job: Job | None) -> str:
    if job is None or job.started_at is None or job.finished_at is None:
        return MISSING
    return duration((job.finished_at - job.started_at).total_seconds())


def _metrics(comparison: Comparison) -> Html:
    evaluations = [job for job in comparison.jobs if job.step is Step.EVALUATION]
    rows = []
    for metric in comparison.experiment.metrics:
        signatures = _distinct(job.details.get("signatures", {}).get(metric.title) for job in evaluations)
        differing = " (models were scored with different signatures)" if len(signatures) > 1 else ""
        rows.append([describe_metric(metric), (" and ".join(signatures) or MISSING) + differing])
    scores = [[info.name, info.description] for info in comparison.scores]
    return join([table(["Metric", "Signature"], rows), table(["Score", "Meaning"], scores)])


def _examples(comparison: Comparison) -> list[Html]:
    texts = comparison.examples(REPORTED_EXAMPLES)
    rest = comparison.dataset.n_examples - len(texts)
    left = [tag("div", f"{count(rest, 'example')} more in the dataset.", class_="lm-note")] if rest > 0 else []
    return [side_by_side(texts), *left]


def recipe(comparison: Comparison) -> str:
    """Return the Python lines that do the same comparison anew from the original file."""
    dataset, experiment = comparison.dataset, comparison.experiment
    truths = [column for field, column in dataset.columns.items() if is_ground_truth(field)]
    upload: list[tuple[str, object]] = [("name", dataset.name), ("example", dataset.columns["example"])]
    upload += [("ground_truth", truths if len(truths) > 1 else truths[0])] if truths else []
    metrics = ", ".join(_metric_code(metric) for metric in experiment.metrics)
    launched = [workflow.model for workflow in comparison.workflows if not recipe_of(workflow.model)]
    models = "".join(f"    {_model_code(model)},\n" for model in launched)
    # Models that only their owner has; what is to be put in stands as an ellipsis.
    yours = "".join(recipe_of(workflow.model) or "" for workflow in comparison.workflows)
    bootstrap = settings(
        (name, getattr(comparison, name))
        for name in ("confidence", "n_resamples", "seed", "groups")
        if getattr(comparison, name) is not None
    )
    return (
        "import lumigator_nb as lm\n\n"
        "ws = lm.connect()\n"
        f"ds = ws.datasets.upload({dataset.filename!r}, {settings(upload)})\n"
        f"task = {_task_code(experiment.task)}\n"
        f"ex = ws.experiments.create({experiment.name!r}, dataset=ds, task=task, metrics=[{metrics}])\n"
        f"ws.workflows.launch(ex, models=[\n{models}])\n"
        f"{yours}"
        "ws.wait(ex)\n"
        f"ws.compare(ex, {bootstrap})"
    )


def _task_code(task: Task) -> str:
    given = [(name, value) for name, value in task if name in ("kind", "prompt") or value not in (None, ())]
    shots = f"[{', '.join(f'lm.Shot(**{shot.model_dump()!r})' for shot in task.shots)}]"
    parts = [f"{name}={shots if name == 'shots' else repr(value)}" for name, value in given]
    return f"lm.Task({', '.join(parts)})"


def _metric_code(metric: MetricSpec) -> str:
    if metric.is_function:
        return metric.title  # what it does only its owner has
    return f"lm.MetricSpec(name={metric.name!r}, options={metric.options!r})" if metric.options else repr(metric.name)


def _model_code(model: Model) -> str:
    name = f"{model.provider}/{model.name}"
    defaults = GenerationConfig()
    given: list[tuple[str, object]] = [("label", model.label)] if model.label != name else []
    given += [(key, value) for key, value in model.generation if value != getattr(defaults, key)]
    given += [("base_url", without_secrets(model.base_url))] if model.base_url else []
    given += [("repeat", model.repeat)] if model.repeat > 1 else []
    given += [("options", shown_options(model))] if shown_options(model) else []
    return f"lm.Model({name!r}, {settings(given)})" if given else repr(name)
