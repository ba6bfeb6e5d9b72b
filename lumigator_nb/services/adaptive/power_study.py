"""Power studies: from a pilot of a few examples, how many a comparison needs and what they would cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.display import render
from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.html import fragment, tag
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import Figures
from lumigator_nb.display.tables import Table, to_html
from lumigator_nb.display.text import MISSING, count
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.models import Prediction
from lumigator_nb.services.adaptive.pilot_run import PilotRun, Question
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Status
from lumigator_nb.statistics import Plan
from lumigator_nb.storage.store import Store


@dataclass(frozen=True, repr=False)
class Study(Rendered):
    """The number of examples that a comparison needs, and what answering them takes.

    Attributes:
        experiment: its name.
        info: of the score.
        plan: examples needed, and the smallest difference that the examples of the dataset can show.
        n_examples: of the dataset that can be scored.
    """

    experiment: str
    info: ScoreInfo
    plan: Plan
    n_examples: int
    _quotes: pd.DataFrame

    def quotes(self) -> pd.DataFrame:
        """Return what asking takes, one row per model, as far as the pilot tells.

        Columns: `model`, `mean` (score in the pilot), `answered` and `failed` (in the pilot), `seconds` and `dollars`
        (of one answer), `needed_seconds`, `needed_dollars` (of the examples needed, as many as there are at most, one
        after another, the pilot included), `all_seconds`, `all_dollars` (of all examples), with as many repeats as
        the pilot has. Empty where not known.
        """
        return self._quotes.copy()


def study(
    question: Question,
    store: Store,
    submitter: Submitter,
    *,
    pilot: int,
    repeats: int,
    example_cost: float,
    detect: float,
    power: float,
    confidence: float,
    progress: bool,
) -> Study:
    """Have the models answer a pilot, and plan; see :meth:`Workspace.plan`.

    Args:
        question: its models are each model's repeats, one model after another.
        repeats: their number.
    """
    if len(question.models) % repeats:
        raise InvalidInputError("a model of the pilot is a repeat of another one", "leave out Model(…, repeat=…)")
    if len(question.models) < 2 * repeats:
        raise InvalidInputError("a comparison needs two models or more", "name another model")
    order = question.order()
    if pilot < 2 or len(order) < 2:
        raise InvalidInputError(
            f"a pilot of {min(pilot, len(order))} examples shows no spread", "take 20 to 50: pilot=30"
        )
    run = _run_pilot(question, store, submitter, order[:pilot], progress)
    if run.failed:
        label, reason = next(iter(run.failed.items()))
        raise InvalidInputError(f"{label} cannot answer: {reason}", "fix the cause, or plan without it")
    scored = ~np.isnan(run.scores).any(axis=0)
    if scored.sum() < 2:
        raise InvalidInputError(
            "fewer than two examples of the pilot were scored for every model", "look at the models"
        )
    contributions = statistics.pseudo_values(run.statistics[:, scored], question.info.aggregate)
    if repeats > 1:
        contributions = contributions.reshape(-1, repeats, contributions.shape[1]).swapaxes(1, 2)
    plan = statistics.plan(
        contributions,
        detect=detect, power=power, confidence=confidence, n_available=len(order), example_cost=example_cost,
    )  # fmt: skip
    return Study(question.experiment.name, question.info, plan, len(order), _quotes(run, repeats, plan, len(order)))


def _run_pilot(question: Question, store: Store, submitter: Submitter, rows: list[int], progress: bool) -> PilotRun:
    done = dict.fromkeys(question.labels, 0)
    with live_progress(progress) as show:

        def answered(label: str, prediction: Prediction) -> None:
            done[label] += 1
            show(
                [
                    ProgressRow(name, Status.SUCCEEDED if n == len(rows) else Status.RUNNING, done=n, total=len(rows))
                    for name, n in done.items()
                ]
            )

        run = PilotRun(question, store, submitter, answered=answered)
        with run.asking():
            run.ask(rows, question.labels)
    return run


def _quotes(run: PilotRun, repeats: int, plan: Plan, n_examples: int) -> pd.DataFrame:
    needed = min(plan.needed, n_examples)
    labels = run.question.labels
    rows = []
    for first in range(0, len(labels), repeats):
        answers = [answer for label in labels[first : first + repeats] for answer in run.predictions[label].values()]
        mean = float(np.nanmean(run.scores[first : first + repeats]))
        # What needs an example needs as many answers as the pilot had.
        rows.append(_quote(labels[first], mean, answers, needed * repeats, n_examples * repeats))
    return pd.DataFrame(rows)


def _quote(label: str, mean: float, answers: list[Prediction], needed: int, everything: int) -> dict[str, object]:
    """Return what the answers needed, and those to all examples, take."""
    seconds = _mean([answer.seconds for answer in answers])
    dollars = _mean([answer.cost for answer in answers])
    return {
        "model": label,
        "mean": mean,
        "answered": sum(answer.text is not None for answer in answers),
        "failed": sum(answer.text is None for answer in answers),
        "seconds": seconds,
        "dollars": dollars,
        "needed_seconds": needed * seconds,
        "needed_dollars": needed * dollars,
        "all_seconds": everything * seconds,
        "all_dollars": everything * dollars,
    }


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


_HEADERS = ["Model", "Pilot", "Failed", "One answer", "", "The examples needed", "", "All examples", ""]


def _title(study: Study) -> str:
    return f"{study.experiment}: plan for {study.info.name} ({count(study.n_examples, 'example')} there)"


@render.as_text.register
def _as_text(study: Study) -> str:
    """Return the plan and a line per model."""
    lines = [
        f"  {row['model']}: neither time nor price is known"
        if math.isnan(row["seconds"]) and math.isnan(row["dollars"])
        else f"  {row['model']}: {_time(row['needed_seconds'])} and {_money(row['needed_dollars'])} for the examples "
        f"needed, {_time(row['all_seconds'])} and {_money(row['all_dollars'])} for all"
        for row in study.quotes().to_dict("records")
    ]
    return "\n".join([_title(study), str(study.plan), *lines])


@render.as_html.register
def _as_html(study: Study) -> str:
    """Return the plan and a table of what it costs."""
    show = Figures(study.info, [])
    rows = [
        [
            row["model"],
            show.number(row["mean"]),
            f"{row['failed']:,} of {row['answered'] + row['failed']:,}",
            *(written(row[f"{what}{unit}"]) for what in ("", "needed_", "all_") for unit, written in _UNITS),
        ]
        for row in study.quotes().to_dict("records")
    ]
    return fragment(
        tag("div", _title(study), class_="lm-title"),
        tag("div", str(study.plan), class_="lm-verdict"),
        to_html(Table(_HEADERS, rows, note="Time of one answer after the other; services answer many at once.")),
    )


def _time(value: float) -> str:
    return MISSING if math.isnan(value) else seconds(value)


def _money(value: float) -> str:
    return "no price" if math.isnan(value) else dollars(value)


_UNITS: tuple[tuple[str, Callable[[float], str]], ...] = (("seconds", _time), ("dollars", _money))
