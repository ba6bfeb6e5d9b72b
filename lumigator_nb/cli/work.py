"""Commands that launch, watch, estimate, score and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_workflows
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import Judge
from lumigator_nb.metrics import catalogue as known_metrics

app = typer.Typer()
workflows = common.group("List workflows (one model on one experiment each), read logs, wait, stop, resume and retry.")
models = common.group("List the models of the catalogue; refresh prices and catalogue.")


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="File, URL, or name of an uploaded dataset.")],
    model: common.ModelNames,
    metric: common.MetricNames = None,
    check: common.Checks = None,
    name: Annotated[str | None, typer.Option(help="Name of the experiment. Default: the dataset's.")] = None,
    example: common.Example = None,
    ground_truth: common.GroundTruth = None,
    setting: common.Settings = None,
    task: common.TaskName = "summarization",
    source: common.Source = None,
    target: common.Target = None,
    label: common.Labels = None,
    multi_label: common.MultiLabel = False,
    prompt: common.Prompt = None,
    template: common.Template = None,
    cache: common.Cache = "on",
    mode: common.Mode = "direct",
    repeats: Annotated[int, typer.Option(help="Number of answers of each model per example.")] = 1,
    budget: common.Budget = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes per model. Default: by size and cluster.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Queued workflows with a higher priority run first.")] = 0,
    timeout: Annotated[float | None, typer.Option(help="Time limit of each step, in seconds.")] = None,
    export: common.Export = None,
) -> None:
    """Upload, launch, wait and compare in one command. Run it again to continue where it stopped."""
    chosen = common.chosen_task(task, prompt, template, source, target, label, multi_label)
    metrics = common.chosen_metrics(metric, check)
    launch: dict[str, Any] = {
        "cache": cache, "mode": mode, "repeats": repeats, "budget": budget,
        "workers": workers, "priority": priority, "timeout": timeout,
    }  # fmt: skip
    with connected() as ws:
        record = ws.datasets.find(dataset) or ws.datasets.upload(dataset, example=example, ground_truth=ground_truth)
        experiment = ws.experiments.find(name or record.name)
        if experiment is None:
            experiment = common.create(ws, name or record.name, record.id, metrics, chosen)
        workflows = ws.workflows.launch(experiment, common.chosen_models(model, setting), **launch)
        common.finish(ws, experiment, workflows, export)


@app.command()
def estimate(
    experiment: common.ExperimentKey,
    model: common.ModelNames,
    setting: common.Settings = None,
    pilot: Annotated[
        int, typer.Option(help="Number of examples to ask for real (and pay for), to measure the length of answers.")
    ] = 0,
) -> None:
    """Estimate what the models would cost, before paying."""
    with connected() as ws:
        frame = ws.workflows.estimate(experiment, common.chosen_models(model, setting), pilot=pilot)
    if (frame["judge_dollars"] == 0).all():
        frame = frame.drop(columns=["judge_dollars", "judge_dollars_at_most"])
    rows = [[common.cell(value) for value in row] for row in frame.itertuples(index=False)]
    common.print_table([str(name).replace("_", " ") for name in frame.columns], rows)


@app.command()
def compare(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Name or id of an experiment; or files and folders with results of Inspect, lm-evaluation-harness, "
            "lighteval, promptfoo, MLflow, Every Eval Ever or this package, or tables of scores."
        ),
    ],
    export: Annotated[
        Path | None,
        typer.Option("--export", "--report", help="Also write the comparison to this file (.html or .csv)."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the report in the browser.")] = False,
    score: Annotated[
        list[str] | None, typer.Option("--score", help="Column of scores, for tables. Repeat for several.")
    ] = None,
    metric: common.MetricNames = None,
    groups: Annotated[
        str | None, typer.Option(help="Metadata column; examples with the same value are not independent.")
    ] = None,
) -> None:
    """Compare the models of an experiment, or results in files of other tools, without a workspace."""
    if not common.are_files(source):
        if score or metric:
            raise InvalidInputError("--score and --metric are for files", "lumigator-nb evaluate adds metrics")
        with connected() as ws:
            common.show_comparison(ws.compare(source[0], groups=groups), export, browser=open_)
        return
    # Imported here: --help must not wait for pandas.
    from lumigator_nb import compare as compare_anywhere

    comparison = compare_anywhere(source, score=score or None, metrics=metric or None, groups=groups)
    common.show_comparison(comparison, export, browser=open_)


@app.command()
def evaluate(
    experiment: common.ExperimentKey,
    metric: common.MetricNames = None,
    check: common.Checks = None,
    budget: common.Budget = None,
) -> None:
    """Score existing predictions by more metrics. Without --metric and --check, retry the metrics that failed."""
    metrics = common.chosen_metrics(metric, check)
    with connected() as ws:
        workflows = ws.evaluate(experiment, metrics, budget=budget)
        common.finish(ws, experiment, workflows, None)


@app.command()
def judge(
    experiment: common.ExperimentKey,
    model: Annotated[str, typer.Option("--model", "-m", help="Judge model, as provider/name.")],
    criterion: Annotated[
        str, typer.Option(help="quality, coherence, consistency, fluency, relevance, or a name of your own.")
    ] = "quality",
    description: Annotated[str | None, typer.Option(help="Definition of your own criterion, for the judge.")] = None,
    setting: common.Settings = None,
    sample: Annotated[int | None, typer.Option(help="Number of examples to judge. Default: all.")] = None,
    budget: common.Budget = None,
) -> None:
    """Have a model compare answers pairwise, in both orders, and report how reliable it is."""
    chosen = common.chosen_models([model], setting)[0]
    with connected() as ws:
        judge_metric = Judge(criterion, chosen, description=description)
        typer.echo(ws.judge(experiment, judge_metric, sample=sample, budget=budget))


@app.command()
def metrics() -> None:
    """List the metrics, with range and requirements."""
    common.print_table(["metric", "score", "better", "range", "needs"], known_metrics().astype(str).to_numpy().tolist())


@models.command("list")
def models_list(
    task: Annotated[
        str | None,
        typer.Option(help="Only models for this task, such as summarization or classification."),
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only models of this provider, such as hf or openai.")] = None,
) -> None:
    """List the models of the catalogue, and what is missing to use them. Other models work too."""
    with connected() as ws:
        typer.echo(ws.models.list(task, provider=provider))


@models.command("refresh")
def models_refresh(
    prices: Annotated[
        str | None,
        typer.Argument(help="File or address of a price list in genai-prices' format. Default: genai-prices' address."),
    ] = None,
    catalogue: Annotated[
        str | None, typer.Option(help="File or address of a catalogue of models, in the format of models.yaml.")
    ] = None,
) -> None:
    """Take over newer prices of hosted models, or a catalogue of models, for all who use this workspace."""
    with connected() as ws:
        typer.echo(ws.models.refresh(prices, catalogue=catalogue))


@models.command("reset")
def models_reset() -> None:
    """Go back to the prices of the installed genai-prices and to the bundled catalogue."""
    with connected() as ws:
        ws.models.reset()
        typer.echo("Prices and catalogue are those that are installed.")


@workflows.command("list")
def workflows_list(
    experiment: Annotated[str | None, typer.Argument(help="Only workflows of this experiment.")] = None,
    limit: common.Limit = 100,
) -> None:
    """List workflows with status and progress, newest first."""
    with connected() as ws:
        ws.workflows.refresh(experiment)
        print_workflows(ws, ws.workflows.of(experiment) if experiment else ws.workflows.list(limit=limit))


@workflows.command("logs")
def workflows_logs(workflow: common.WorkflowKey) -> None:
    """Print the log of a workflow."""
    with connected() as ws:
        typer.echo(ws.workflows.logs(workflow))


@workflows.command("wait")
def workflows_wait(target: common.ExperimentOrWorkflow) -> None:
    """Wait until workflows have finished; exit with 1 if any did not succeed."""
    with connected() as ws:
        ws.workflows.wait(target, check=True)


@workflows.command("stop")
def workflows_stop(target: common.ExperimentOrWorkflow) -> None:
    """Stop workflows. Finished results stay."""
    with connected() as ws:
        print_workflows(ws, ws.workflows.stop(target))


@workflows.command("resume")
def workflows_resume(target: common.ExperimentOrWorkflow, budget: common.Budget = None) -> None:
    """Resume failed and stopped workflows from the last finished examples."""
    with connected() as ws:
        print_workflows(ws, ws.workflows.resume(target, budget=budget))


@workflows.command("retry")
def workflows_retry(target: common.ExperimentOrWorkflow) -> None:
    """Ask again for examples that have no answer, in finished workflows too."""
    with connected() as ws:
        print_workflows(ws, ws.workflows.retry_failed(target))


@workflows.command("record")
def workflows_record(
    experiment: common.ExperimentKey,
    name: Annotated[str, typer.Argument(help="Name of the model in tables.")],
    predictions: Annotated[str, typer.Argument(help="File with a column 'prediction', or a column of the dataset.")],
) -> None:
    """Add predictions that were made elsewhere to an experiment, and score them."""
    with connected() as ws:
        workflow = ws.workflows.record(experiment, name=name, predictions=predictions)
        common.finish(ws, experiment, [workflow], None)
