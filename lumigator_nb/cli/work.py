"""Launching, watching, estimating and comparing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected, print_workflows
from lumigator_nb.metrics import Judge
from lumigator_nb.metrics import catalogue as known_metrics

app = typer.Typer()
jobs = common.group("Look after workflows on the cluster.")
models = common.group("Look at the models there are.")


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="File, URL, or name of an uploaded dataset.")],
    model: common.ModelNames,
    metric: common.MetricNames = None,
    name: Annotated[str | None, typer.Option(help="Name of the experiment; default the dataset's.")] = None,
    example: common.Example = None,
    ground_truth: common.GroundTruth = None,
    setting: common.Settings = None,
    task: common.TaskName = "summarization",
    source: common.Source = None,
    target: common.Target = None,
    prompt: common.Prompt = None,
    template: common.Template = None,
    cache: common.Cache = "on",
    mode: common.Mode = "direct",
    repeats: Annotated[int, typer.Option(help="Answers of each model, kept apart.")] = 1,
    budget: common.Budget = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share each model's work.")] = None,
    priority: Annotated[int, typer.Option(help="Of those that wait for the cluster the higher go first.")] = 0,
    timeout: Annotated[float | None, typer.Option(help="Seconds that a step may take.")] = None,
    export: common.Export = None,
) -> None:
    """Upload, launch, wait and compare in one line. Doing it again continues where it ended."""
    chosen = common.chosen_task(task, prompt, template, source, target)
    launch: dict[str, Any] = {
        "cache": cache, "mode": mode, "repeats": repeats, "budget": budget,
        "workers": workers, "priority": priority, "timeout": timeout,
    }  # fmt: skip
    with connected() as ws:
        record = ws.datasets.find(dataset) or ws.datasets.upload(dataset, example=example, ground_truth=ground_truth)
        experiment = ws.experiments.find(name or record.name)
        if experiment is None:
            experiment = common.create(ws, name or record.name, record.id, metric, chosen)
        workflows = ws.workflows.launch(experiment, common.chosen_models(model, setting), **launch)
        common.finish(ws, experiment, workflows, export)


@app.command()
def estimate(
    experiment: str,
    model: common.ModelNames,
    setting: common.Settings = None,
    pilot: Annotated[int, typer.Option(help="Examples really asked first, to count what answers take.")] = 0,
) -> None:
    """Say what asking models would cost, before anything is paid for."""
    with connected() as ws:
        frame = ws.workflows.estimate(experiment, common.chosen_models(model, setting), pilot=pilot)
    rows = [[common.cell(value) for value in row] for row in frame.itertuples(index=False)]
    common.print_table([str(name).replace("_", " ") for name in frame.columns], rows)


@app.command()
def compare(experiment: str, export: common.Export = None) -> None:
    """Compare the models of an experiment."""
    with connected() as ws:
        common.compare_and_print(ws, experiment, export)


@app.command()
def evaluate(experiment: str, metric: common.MetricNames = None, budget: common.Budget = None) -> None:
    """Score by more metrics what models have answered already; without --metric, try those again that failed."""
    with connected() as ws:
        workflows = ws.evaluate(experiment, metric or None, budget=budget)
        common.finish(ws, experiment, workflows, None)


@app.command()
def judge(
    experiment: str,
    model: Annotated[str, typer.Option("--model", "-m", help="Who judges: provider/name.")],
    criterion: Annotated[str, typer.Option(help="quality, coherence, consistency, fluency, relevance, or yours.")] = (
        "quality"
    ),
    description: Annotated[str | None, typer.Option(help="What a criterion of your own means.")] = None,
    setting: common.Settings = None,
    sample: Annotated[int | None, typer.Option(help="Examples to judge; default all.")] = None,
    budget: common.Budget = None,
) -> None:
    """Have a model say which of two answers is better, in both orders, and say how far it can be trusted."""
    chosen = common.chosen_models([model], setting)[0]
    with connected() as ws:
        asked = Judge(criterion, chosen, description=description)
        typer.echo(ws.judge(experiment, asked, sample=sample, budget=budget))


@app.command()
def metrics() -> None:
    """List the metrics there are."""
    common.print_table(["metric", "score", "better", "range", "needs"], known_metrics().astype(str).to_numpy().tolist())


@models.command("list")
def models_list(
    task: Annotated[str | None, typer.Option(help="summarization, translation or text_generation.")] = None,
    provider: Annotated[str | None, typer.Option(help="Such as hf or openai.")] = None,
) -> None:
    """List the models of the catalogue, and what is missing to use them; any other name works too."""
    with connected() as ws:
        typer.echo(ws.models.list(task, provider=provider))


@jobs.command("list")
def jobs_list(experiment: Annotated[str | None, typer.Argument()] = None, limit: common.Limit = 100) -> None:
    """List workflows, newest first, or those of an experiment."""
    with connected() as ws:
        ws.workflows.refresh(experiment)
        print_workflows(ws, ws.workflows.of(experiment) if experiment else ws.workflows.list(limit=limit))


@jobs.command("logs")
def jobs_logs(workflow: str) -> None:
    """Print what a workflow's worker printed."""
    with connected() as ws:
        typer.echo(ws.workflows.logs(workflow))


@jobs.command("wait")
def jobs_wait(target: Annotated[str, typer.Argument(help="Experiment or workflow.")]) -> None:
    """Wait until workflows have ended; exit with 1 where one did not succeed."""
    with connected() as ws:
        ws.workflows.wait(target, check=True)


@jobs.command("stop")
def jobs_stop(target: Annotated[str, typer.Argument(help="Experiment or workflow.")]) -> None:
    """Stop workflows; what is finished stays."""
    with connected() as ws:
        print_workflows(ws, ws.workflows.stop(target))


@jobs.command("resume")
def jobs_resume(
    target: Annotated[str, typer.Argument(help="Experiment or workflow.")], budget: common.Budget = None
) -> None:
    """Take failed and stopped workflows up where they ended."""
    with connected() as ws:
        print_workflows(ws, ws.workflows.resume(target, budget=budget))


@jobs.command("retry")
def jobs_retry(target: Annotated[str, typer.Argument(help="Experiment or workflow.")]) -> None:
    """Ask once more for the examples without an answer, in workflows that have succeeded too."""
    with connected() as ws:
        print_workflows(ws, ws.workflows.retry_failed(target))


@jobs.command("record")
def jobs_record(
    experiment: str,
    name: Annotated[str, typer.Argument(help="What tables call the model.")],
    predictions: Annotated[str, typer.Argument(help="File with a column prediction, or a column of the dataset.")],
) -> None:
    """Put predictions that were made elsewhere beside the others, and score them."""
    with connected() as ws:
        workflow = ws.workflows.record(experiment, name=name, predictions=predictions)
        common.finish(ws, experiment, [workflow], None)
