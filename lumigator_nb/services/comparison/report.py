"""Report of a comparison: one self-contained HTML file for reading and printing, with a recipe to reproduce it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lumigator_nb.display import render
from lumigator_nb.display.descriptions import (
    TALLIED,
    describe_details,
    describe_metric,
    describe_model,
    describe_task,
    shown_options,
    without_secrets,
)
from lumigator_nb.display.html import Html, card, clipped, join, name, page, table, tag
from lumigator_nb.display.tables import Table, to_html
from lumigator_nb.display.text import MISSING, count, duration, moment, percent, settings, size
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.models import recipe_of
from lumigator_nb.services.comparison import tables
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.data import OPTIONS, ComparedStep
from lumigator_nb.services.comparison.overview import chart, legend, notes, side_by_side
from lumigator_nb.services.comparison.recommendation import body
from lumigator_nb.specs import GenerationConfig, Model, Step, is_ground_truth, now

REPORTED_EXAMPLES = 20
# With fewer examples, a slice would have about a dozen and only confuse.
_FEWEST_TO_SLICE = 40
# Details of a step that the report shows elsewhere, or that tell a reader nothing.
_HIDDEN_DETAILS = {"traceback", "shards_reused", "lumigator_nb", "python", "priced", "notes", *TALLIED}


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
        *_cost_chart(comparison, main),
        *(_section(tables.slices(comparison)) if comparison.n_scored >= _FEWEST_TO_SLICE else []),
        *_section(tables.people(comparison)),
        tag("h2", "What was compared"),
        card("Experiment", _facts(comparison)),
        tag("h2", "Models"),
        _models(comparison),
        tag("h2", "Metrics"),
        _metrics(comparison),
        *_texts(comparison),
        tag("h2", "How to reproduce these figures"),
        tag("pre", tag("code", recipe(comparison))),
        tag(
            "div",
            "The seed fixes the intervals; answers of a model that samples, or of a service, may differ.",
            class_="lm-note",
        ),
    )


def _decision(comparison: Comparison, info: ScoreInfo) -> list[Html]:
    """Which model to take, and how sure that is; empty with one model or one example."""
    # Imported here because matplotlib takes a second to import.
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


def _cost_chart(comparison: Comparison, info: ScoreInfo) -> list[Html]:
    """The chart of quality against cost, or else latency; empty if neither is known for two models."""
    from lumigator_nb.display.charts import svg
    from lumigator_nb.services.comparison.decision_charts import pareto_chart

    if len(comparison.models) < 2 or info.higher_is_better is None:
        return []
    points = comparison.pareto()
    for against in ("dollars_per_1000", "seconds_p50"):
        if points[~points["baseline"]][against].gt(0).sum() > 1:
            return [svg(pareto_chart(points, info, against))]
    return []


def _texts(comparison: Comparison) -> list[Html]:
    """The first examples with all answers; empty if only scores are known."""
    if not comparison.data.has_texts:
        return []
    examples = comparison.examples(REPORTED_EXAMPLES)
    n_more = comparison.dataset.n_examples - len(examples)
    more = [tag("div", f"{count(n_more, 'example')} more in the dataset.", class_="lm-note")] if n_more > 0 else []
    return [tag("h2", "Examples side by side"), side_by_side(examples), *more]


def _section(table: Table) -> list[Html]:
    return [tag("h2", table.title), to_html(table)] if table else []


def _facts(comparison: Comparison) -> list[tuple[str, object]]:
    dataset, task = comparison.dataset, comparison.experiment.task
    origin = f" ({dataset.filename}, {size(dataset.size_bytes)})" if dataset.filename else ""
    asked: list[tuple[str, object]] = []
    if task is not None:
        asked = [("Task", describe_task(task)), ("Prompt", clipped(task.instruction, 600))]
        asked += [("Template", clipped(task.template, 600))] if task.template else []
    unit = f"groups of {comparison.groups}" if comparison.groups else "examples"
    bootstrap = f"{percent(comparison.confidence)}, bootstrap over {unit} (BCa; differences by Student's t)"
    versions = []
    for key, title in {"lumigator_nb": "lumigator_nb", "python": "Python"}.items():
        # Workflows of one experiment may have run with different versions.
        if values := _distinct(step.details.get(key) for step in _steps(comparison)):
            versions.append(f"{title} {' and '.join(values)}")
    return [
        ("Dataset", f"{dataset.name}{origin}"),
        *([("SHA-256", dataset.content_hash)] if dataset.content_hash else []),
        ("Examples", f"{dataset.n_examples:,}"),
        *asked,
        (
            "Intervals",
            f"{bootstrap}, {count(comparison.n_resamples, 'resample')}, seed {comparison.seed}; Wilson's of shares",
        ),
        ("P-values", "paired t-tests, corrected for all pairs of models (Romano and Wolf, step-down)"),
        ("Versions", ", ".join(versions) or MISSING),
    ]


def _steps(comparison: Comparison, step: Step | None = None) -> list[ComparedStep]:
    """The steps of all models; of one kind, or of both."""
    steps = [own for model in comparison.workflows for own in model.steps]
    return [own for own in steps if step is None or own.step == step]


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _models(comparison: Comparison) -> Html:
    """The models with their settings and what inference took; below, warnings such as of an ignored parameter."""
    rows: list[list[object]] = []
    warnings: list[Html] = []
    for workflow in comparison.workflows:
        model = workflow.model
        full_name = f"{model.provider}/{model.name}" if model else workflow.label
        subtitle = None if workflow.label == full_name else tag("span", name(full_name), class_="lm-sub")
        title = tag("span", name(workflow.label), subtitle)
        options = describe_model(model) if model else MISSING
        options += f", asked {workflow.repeats} times" if workflow.repeats > 1 else ""
        step = next((step for step in workflow.steps if step.step == Step.INFERENCE), None)
        if step is None:
            rows.append([title, options, "", MISSING, MISSING])
            continue
        details = {key: value for key, value in step.details.items() if key not in _HIDDEN_DETAILS}
        used = ", ".join(f"{key} {text}" for key, text in describe_details(details))
        took = MISSING
        if step.started_at is not None and step.finished_at is not None:
            took = duration((step.finished_at - step.started_at).total_seconds())
        rows.append([title, options, used, took, f"{step.n_failed:,}"])
        notes_of_model = step.details.get("notes") or ()
        warnings += [tag("div", f"{workflow.label}: {note}.", class_="lm-note") for note in notes_of_model]
    headers = ["Model", "Settings", "Details", "Inference time", "Without answer"]
    return join([table(headers, rows, numeric=(3, 4)), *warnings])


def _metrics(comparison: Comparison) -> Html:
    evaluations = _steps(comparison, Step.EVALUATION)
    rows = []
    for metric in comparison.experiment.metrics:
        signatures = _distinct(step.details.get("signatures", {}).get(metric.title) for step in evaluations)
        warning = " (models were scored with different signatures)" if len(signatures) > 1 else ""
        rows.append([describe_metric(metric), (" and ".join(signatures) or MISSING) + warning])
    scores = [[info.name, info.description] for info in comparison.scores]
    tables = [table(["Metric", "Signature"], rows)] if rows else []
    return join([*tables, table(["Score", "Meaning"], scores)])


def recipe(comparison: Comparison) -> str:
    """Return Python code that repeats the comparison from the original file."""
    dataset, experiment = comparison.dataset, comparison.experiment
    bootstrap = settings(
        (name, getattr(comparison, name))
        for name in ("confidence", "n_resamples", "seed", "groups")
        if getattr(comparison, name) is not None
    )
    if experiment.task is None or comparison.data.recipe:
        return comparison.data.recipe.replace(OPTIONS, bootstrap)
    truths = [column for field, column in dataset.columns.items() if is_ground_truth(field)]
    upload: list[tuple[str, object]] = [("name", dataset.name), ("example", dataset.columns["example"])]
    upload += [("ground_truth", truths if len(truths) > 1 else truths[0])] if truths else []
    metrics = []
    for metric in experiment.metrics:
        if metric.is_function:
            metrics.append(metric.title)  # only its owner has the function's code
        elif metric.options:
            metrics.append(f"lm.MetricSpec(name={metric.name!r}, options={metric.options!r})")
        else:
            metrics.append(repr(metric.name))
    task_fields = [
        (key, value) for key, value in experiment.task if key in ("kind", "prompt") or value not in (None, ())
    ]
    shots = f"[{', '.join(f'lm.Shot(**{shot.model_dump()!r})' for shot in experiment.task.shots)}]"
    task = ", ".join(f"{key}={shots if key == 'shots' else repr(value)}" for key, value in task_fields)
    # Some providers run code that only the user has: their recipe has its own lines, with an ellipsis for that code.
    compared = [workflow.model for workflow in comparison.workflows if workflow.model]
    models = "".join(f"    {_model_code(model)},\n" for model in compared if not recipe_of(model))
    own_code = "".join(recipe_of(model) or "" for model in compared)
    # The most of any model, since `launch` asks all of them as often.
    times = max(workflow.repeats for workflow in comparison.workflows)
    repeats = f", repeats={times}" if times > 1 else ""
    return (
        "import lumigator_nb as lm\n\n"
        "ws = lm.connect()\n"
        f"ds = ws.datasets.upload({dataset.filename!r}, {settings(upload)})\n"
        f"task = lm.Task({task})\n"
        f"ex = ws.experiments.create({experiment.name!r}, dataset=ds, task=task, metrics=[{', '.join(metrics)}])\n"
        f"ws.workflows.launch(ex, models=[\n{models}]{repeats})\n"
        f"{own_code}"
        "ws.wait(ex)\n"
        f"ws.compare(ex, {bootstrap})"
    )


def _model_code(model: Model) -> str:
    full_name = f"{model.provider}/{model.name}"
    defaults = GenerationConfig()
    arguments: list[tuple[str, object]] = [("label", model.label)] if model.label != full_name else []
    arguments += [(key, value) for key, value in model.generation if value != getattr(defaults, key)]
    arguments += [("base_url", without_secrets(model.base_url))] if model.base_url else []
    arguments += [("repeat", model.repeat)] if model.repeat > 1 else []
    arguments += [("options", shown_options(model))] if shown_options(model) else []
    return f"lm.Model({full_name!r}, {settings(arguments)})" if arguments else repr(full_name)
