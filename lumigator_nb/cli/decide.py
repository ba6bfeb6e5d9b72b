"""Commands that help to decide: plan a sample size, race models, recommend one, audit the ground truth."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected

app = typer.Typer()

Score = Annotated[
    str | None,
    typer.Option("--score", help="Score to decide by, such as rougeL. Default: the experiment's main score."),
]
Confidence = Annotated[float, typer.Option(help="Confidence of the conclusion, between 0 and 1.")]
Seed = Annotated[int, typer.Option(help="Random seed of the order of the examples.")]
Total = Annotated[float | None, typer.Option("--budget", help="Budget of all models and judges together, in dollars.")]


@app.command()
def plan(
    experiment: common.ExperimentKey,
    model: common.ModelNames,
    setting: common.Settings = None,
    score: Score = None,
    detect: Annotated[float, typer.Option(help="Smallest difference worth detecting, in units of the score.")] = 0.02,
    power: Annotated[
        float, typer.Option(help="Probability of detecting a difference that exists (statistical power).")
    ] = 0.8,
    confidence: Confidence = 0.95,
    pilot: Annotated[int, typer.Option(help="Number of examples in the pilot.")] = 30,
    repeats: Annotated[int, typer.Option(help="Answers of each model per example; 2 or more weigh them up.")] = 1,
    budget: Total = None,
    seed: Seed = 0,
) -> None:
    """Estimate from a small pilot how many examples it takes to tell the models apart, and their cost."""
    chosen = common.chosen_models(model, setting)
    with connected() as ws:
        sample_size = ws.plan(
            experiment, chosen, metric=score, detect=detect, power=power, confidence=confidence, pilot=pilot,
            repeats=repeats, budget=budget, seed=seed,
        )  # fmt: skip
    typer.echo(sample_size)


@app.command()
def select(
    experiment: common.ExperimentKey,
    model: common.ModelNames,
    setting: common.Settings = None,
    score: Score = None,
    confidence: Confidence = 0.95,
    indifference: Annotated[float, typer.Option(help="Differences below this do not matter.")] = 0.0,
    budget: Total = None,
    seed: Seed = 0,
) -> None:
    """Race models over the examples and stop as soon as the best is certain. Run it again to continue."""
    chosen = common.chosen_models(model, setting)
    with connected() as ws:
        conclusion = ws.select(
            experiment, chosen, metric=score, confidence=confidence, indifference=indifference, budget=budget, seed=seed
        )
    typer.echo(conclusion)


@app.command()
def recommend(
    experiment: common.ExperimentKey,
    score: Score = None,
    margin: Annotated[
        float | None, typer.Option(help="Non-inferiority margin: a model at most this much worse counts as not worse.")
    ] = None,
    by: Annotated[
        Literal["dollars", "seconds"] | None, typer.Option(help="What the cheapest model saves: dollars or seconds.")
    ] = None,
) -> None:
    """Recommend a model: the best, those that may be as good, and the cheapest that is not worse."""
    with connected() as ws:
        typer.echo(ws.compare(experiment).recommend(score, margin=margin, by=by))


@app.command()
def audit(
    experiment: common.ExperimentKey,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model that writes the other ground truth, as provider/name.")
    ],
    setting: common.Settings = None,
    score: Score = None,
    budget: Total = None,
) -> None:
    """Rank the models by ground truth that another model writes, and report whether the winner changes."""
    chosen = common.chosen_models([model], setting)[0]
    with connected() as ws:
        typer.echo(ws.audit(experiment, chosen, metric=score, budget=budget))
