"""Deciding: how many examples it takes, which model wins, and whether the ground truth has a say in it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lumigator_nb.cli import common
from lumigator_nb.cli.common import connected

app = typer.Typer()

Score = Annotated[str | None, typer.Option("--score", help="Such as rougeL; default the experiment's main score.")]
Confidence = Annotated[float, typer.Option(help="Of the conclusion, between 0 and 1.")]
Seed = Annotated[int, typer.Option(help="Of the order in which examples are asked.")]
Total = Annotated[float | None, typer.Option("--budget", help="Dollars that all models and judges may spend.")]


@app.command()
def plan(
    experiment: str,
    model: common.ModelNames,
    setting: common.Settings = None,
    score: Score = None,
    detect: Annotated[float, typer.Option(help="Smallest difference that matters, in units of the score.")] = 0.02,
    power: Annotated[float, typer.Option(help="Chance of detecting it where it is there.")] = 0.8,
    confidence: Confidence = 0.95,
    pilot: Annotated[int, typer.Option(help="Examples to ask first.")] = 30,
    budget: Total = None,
    seed: Seed = 0,
) -> None:
    """Say how many examples it takes to tell models apart, and what they would cost, from a pilot of a few."""
    chosen = common.chosen_models(model, setting)
    with connected() as ws:
        found = ws.plan(
            experiment, chosen, metric=score, detect=detect, power=power, confidence=confidence, pilot=pilot,
            budget=budget, seed=seed,
        )  # fmt: skip
    typer.echo(found)


@app.command()
def select(
    experiment: str,
    model: common.ModelNames,
    setting: common.Settings = None,
    score: Score = None,
    confidence: Confidence = 0.95,
    indifference: Annotated[float, typer.Option(help="Differences below it do not matter.")] = 0.0,
    budget: Total = None,
    seed: Seed = 0,
) -> None:
    """Let models race over the examples and stop as soon as the best is certain; again, to continue."""
    chosen = common.chosen_models(model, setting)
    with connected() as ws:
        found = ws.select(
            experiment, chosen, metric=score, confidence=confidence, indifference=indifference, budget=budget, seed=seed
        )
    typer.echo(found)


@app.command()
def recommend(
    experiment: str,
    score: Score = None,
    margin: Annotated[float | None, typer.Option(help="How much worse still counts as not worse.")] = None,
    by: Annotated[Literal["dollars", "seconds"] | None, typer.Option(help="What is saved.")] = None,
) -> None:
    """Say which model to take: the best, those that may be as good, and the cheapest that is not worse."""
    with connected() as ws:
        typer.echo(ws.compare(experiment).recommend(score, margin=margin, by=by))


@app.command()
def audit(
    experiment: str,
    model: Annotated[str, typer.Option("--model", "-m", help="Who writes the other ground truth: provider/name.")],
    setting: common.Settings = None,
    score: Score = None,
    budget: Total = None,
) -> None:
    """Rank by ground truth that another model writes, and say whether the winner changes."""
    chosen = common.chosen_models([model], setting)[0]
    with connected() as ws:
        typer.echo(ws.audit(experiment, chosen, metric=score, budget=budget))
