"""Races (best-arm identification): models answer examples in random order until the best is certain."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.display import render
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import fragment, tag
from lumigator_nb.display.progress import ProgressRow, Show, live_progress
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import Figures
from lumigator_nb.display.tables import Cell, Table, to_html
from lumigator_nb.display.text import MISSING, count, joined, percent
from lumigator_nb.errors import BudgetReachedError, InvalidInputError
from lumigator_nb.metrics import FloatArray, ScoreInfo
from lumigator_nb.models import Prediction
from lumigator_nb.services.adaptive.pilot_run import PilotRun, Question
from lumigator_nb.services.comparison.slices import group_codes
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Status, Step
from lumigator_nb.statistics import Race
from lumigator_nb.storage.store import Store

Reason = Literal["decided", "examples", "budget"]


@dataclass(frozen=True, repr=False)
class Selection(Rendered):
    """The conclusion of a race, and what it took.

    Attributes:
        experiment: its name.
        info: of the score that decided.
        conclusion: "best": one model is left; "equivalent": those left differ by less than `indifference`;
            "undecided": examples or money ran out before.
        best: the leading model.
        remaining: the models that were not dropped, the leading one first.
        confidence: of the conclusion, for any number of looks.
        indifference: smaller differences do not matter, in units of the score.
        n_examples: examples that could be scored; `n_seen` of them were asked about.
        answers: number of answers asked for; asking every model about every example takes `answers_saved` more.
        dollars: what those answers and their verdicts cost when they were first given; None without a price.
            `dollars_now` of them were paid in this call.
        dollars_saved: what the other answers would have cost at the same price each.
        ended_by: what ended the race.
        failed: by model, why it could answer no further example.
        by_last_test: the models that the race itself could not drop, but one test after all examples did.
        seed: of the order of the examples.
    """

    experiment: str
    info: ScoreInfo
    conclusion: Literal["best", "equivalent", "undecided"]
    best: str
    remaining: tuple[str, ...]
    confidence: float
    indifference: float
    n_examples: int
    n_seen: int
    answers: int
    answers_saved: int
    dollars: float | None
    dollars_now: float
    dollars_saved: float | None
    ended_by: Reason
    failed: dict[str, str]
    by_last_test: tuple[str, ...]
    seed: int
    _summary: pd.DataFrame
    _rows: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Return one row per model, the best first.

        Columns: `model`, `state` ("leads", "equivalent", "left", "dropped" or "failed"), `examples` (asked), `mean`
        with `low` and `high`, `difference` (to the leading model) with `difference_low` and `difference_high`,
        `beaten_by`, `dollars`. The intervals hold at every look at once, so they may be watched while they shrink.
        """
        return self._summary.copy()

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per answer: `row` (of the dataset), `model`, `prediction`, `error`, the score, `cost`."""
        return self._rows.copy()

    def certificate(self) -> str:
        """Return the conclusion in words, with its certainty, and what the race took and saved."""
        return certificate(self)


def select(
    question: Question,
    store: Store,
    submitter: Submitter,
    *,
    confidence: float,
    indifference: float,
    progress: bool,
    groups: str | None = None,
) -> Selection:
    """Let models race; see :meth:`Workspace.select`."""
    if len(question.models) < 2:
        raise InvalidInputError("a race needs two models or more", "name another model")
    codes = group_codes(pd.DataFrame([example.metadata for example in question.examples]), groups)
    order = question.order()
    if codes is not None:
        # Groups come in random order, each as likely to be first, whether large or small.
        shuffled = np.random.default_rng(question.seed).permutation(np.unique(codes[order]))
        places = {int(code): place for place, code in enumerate(shuffled)}
        order.sort(key=lambda row: places[int(codes[row])])
    if not order:
        raise InvalidInputError("no example can be scored: there is no ground truth", "take a metric that needs none")
    with live_progress(progress) as show:
        display = _RaceDisplay(question.labels, len(order), show)
        run = PilotRun(question, store, submitter, answered=display.answered, note=display.note)
        race = _RaceState(run, confidence, indifference, len(order), None if codes is None else codes[order])
        with run.asking():
            ended_by = race.ask(order, display)
        display.show_models(race, Status.SUCCEEDED)
    return race.result(ended_by)


class _RaceState:
    """The state of a race: answers so far, and what they show.

    Args:
        n_examples: that can be scored.
        groups: (n_examples,) codes of the examples' groups in the order asked; None without groups.
    """

    def __init__(
        self, run: PilotRun, confidence: float, indifference: float, n_examples: int, groups: np.ndarray | None = None
    ) -> None:
        self.run, self.confidence, self.indifference, self.groups = run, confidence, indifference, groups
        self.n_examples = n_examples
        self.verdict = self._judge(np.empty((len(run.question.labels), 0)))

    def ask(self, order: Sequence[int], display: _RaceDisplay) -> Reason:
        """Ask until the race is decided, or examples or money run out."""
        for seen in self._looks(len(order)):
            try:
                self.run.ask(order[len(self.run.rows) : seen], [self.contenders[i] for i in self.verdict.remaining])
            except BudgetReachedError:
                return "budget"
            if len(self.contenders) < 2:
                _, reason = next(iter(self.run.failed.items()))
                raise InvalidInputError(f"fewer than two models can answer: {reason}", "fix the cause, and race again")
            self.verdict = self._judge(self.scores)
            display.show_models(self, Status.RUNNING)
            if self.verdict.stopped_at is not None:
                return "decided"
        return "examples"

    def _looks(self, n: int) -> list[int]:
        looks = statistics.looks(n)
        if self.groups is None:
            return looks
        # Only after whole groups: the examples of a group are not independent of each other.
        ends = np.append(np.flatnonzero(self.groups[1:] != self.groups[:-1]) + 1, n)
        return sorted({int(ends[np.searchsorted(ends, look)]) for look in looks})

    @property
    def contenders(self) -> list[str]:
        """The models that can answer."""
        return [label for label in self.run.question.labels if label not in self.run.failed]

    @property
    def scores(self) -> FloatArray:
        """(contenders, asked) per-example scores."""
        keep = [label not in self.run.failed for label in self.run.question.labels]
        return self.run.scores[keep]

    def _judge(self, scores: FloatArray) -> Race:
        question = self.run.question
        return statistics.race(
            scores,
            bounds=question.bounds,
            confidence=self.confidence,
            indifference=self.indifference,
            higher_is_better=bool(question.info.higher_is_better),
            total=self.n_examples,
            groups=self.groups,
        )

    def standings(self) -> pd.DataFrame:
        """Return the frame of :meth:`Selection.summary`."""
        standings = statistics.race_standings(
            self.scores,
            self.verdict,
            bounds=self.run.question.bounds,
            confidence=self.confidence,
            groups=self.groups,
        )
        names = [*self.contenders, None]
        rows = [
            {
                "model": label,
                "state": self._state(index),
                "examples": len(self.run.predictions[label]),
                **{
                    name: getattr(standings, name)[index]
                    for name in ("mean", "low", "high", "difference", "difference_low", "difference_high")
                },
                "beaten_by": names[-1 if (by := self.verdict.dropped_by[index]) is None else by],
                "dollars": _dollars(self.run.predictions[label].values()),
            }
            for index, label in enumerate(self.contenders)
        ]
        rows += [
            {"model": label, "state": "failed", "examples": len(self.run.predictions[label]),
             "dollars": _dollars(self.run.predictions[label].values())}
            for label in self.run.failed
        ]  # fmt: skip
        places = {label: place for place, label in enumerate(self._placed())}
        return pd.DataFrame(rows).sort_values("model", key=lambda names: names.map(places), ignore_index=True)

    def _placed(self) -> list[str]:
        """All models: those left, those dropped, the last dropped first, and those that failed."""
        dropped = [(at, index) for index, at in enumerate(self.verdict.dropped_at) if at is not None]
        order = [*self.verdict.remaining, *(index for _, index in sorted(dropped, reverse=True))]
        return [*(self.contenders[index] for index in order), *self.run.failed]

    def _state(self, index: int) -> str:
        if self.verdict.dropped_at[index] is not None:
            return "dropped"
        if self.verdict.conclusion == "equivalent":
            return "equivalent"
        return "leads" if index == self.verdict.leader else "left"

    def result(self, ended_by: Reason) -> Selection:
        """Return the conclusion so far."""
        question, predictions = self.run.question, self.run.predictions
        answers = {label: len(of_model) for label, of_model in predictions.items()}
        saved = {label: self.n_examples - answers[label] for label in self.contenders}
        return Selection(
            experiment=question.experiment.name,
            info=question.info,
            conclusion=self.verdict.conclusion,
            best=self.contenders[self.verdict.leader],
            remaining=tuple(self.contenders[index] for index in self.verdict.remaining),
            confidence=self.confidence,
            indifference=self.indifference,
            n_examples=self.n_examples,
            n_seen=len(self.run.rows),
            answers=sum(answers.values()),
            answers_saved=sum(saved.values()),
            dollars=self.run.dollars,
            dollars_now=self.run.dollars_now,
            dollars_saved=self._dollars_saved(saved),
            ended_by=ended_by,
            failed=dict(self.run.failed),
            by_last_test=tuple(self.contenders[index] for index in self.verdict.by_last_test),
            seed=question.seed,
            _summary=self.standings(),
            _rows=self._answers(),
        )

    def _dollars_saved(self, saved: dict[str, int]) -> float | None:
        costs = []
        for label, n_answers in saved.items():
            predictions = self.run.predictions[label]
            if paid := _dollars(predictions.values()):
                costs.append(paid / len(predictions) * n_answers)
        return sum(costs) if costs else None

    def _answers(self) -> pd.DataFrame:
        scores, at = self.run.scores, {row: index for index, row in enumerate(self.run.rows)}
        rows = [
            {
                "row": row,
                "model": label,
                "prediction": prediction.text,
                "error": prediction.error,
                self.run.question.info.name: scores[index, at[row]] if row in at else float("nan"),
                "cost": prediction.cost,
            }
            for index, label in enumerate(self.run.question.labels)
            for row, prediction in sorted(self.run.predictions[label].items())
        ]
        return pd.DataFrame(rows)


def _dollars(predictions: Iterable[Prediction]) -> float | None:
    costs = [prediction.cost for prediction in predictions if prediction.cost is not None]
    return sum(costs) if costs else None


class _RaceDisplay:
    """The progress display of a race; several threads report answers to it."""

    def __init__(self, labels: Sequence[str], total: int, show: Show) -> None:
        self._show, self._lock = show, threading.Lock()
        # Without a rate: a model that waits for the others is not slow.
        self._rows = {label: ProgressRow(label, Status.RUNNING, Step.INFERENCE, total=total) for label in labels}

    def answered(self, label: str, prediction: Prediction) -> None:
        """Count an answer."""
        with self._lock:
            row = self._rows[label]
            cost = row.cost if prediction.cost is None else (row.cost or 0.0) + prediction.cost
            self._update(label, done=row.done + 1, failed=row.failed + (prediction.text is None), cost=cost, note="")

    def note(self, label: str, text: str) -> None:
        """Show a note on a contender; those on judges have no row."""
        with self._lock:
            if label in self._rows:
                self._update(label, note=text)

    def _update(self, label: str, **changes: Any) -> None:
        self._rows[label] = replace(self._rows[label], **changes)
        self._show(list(self._rows.values()))

    def show_models(self, race: _RaceState, left: Status) -> None:
        """Show how the models stand; those that are left have the status `left`."""
        ended = {"dropped": Status.STOPPED, "failed": Status.FAILED}
        with self._lock:
            for row in race.standings().to_dict("records"):
                label, state = row["model"], row["state"]
                self._rows[label] = replace(
                    self._rows[label],
                    status=ended.get(state, left),
                    error=race.run.failed.get(label),
                    result=score_text(row, race.run.question.info),
                )
            self._show(list(self._rows.values()))


_HEADERS = ["Model", "State", "Examples", "Mean so far", "Difference to the leading one", "Beaten by", "Dollars"]
_NOTE = "The intervals hold at every look at once, so that watching them shrink does no harm."
_LAST_TEST = (
    "The test after all examples looks once and so shows more: it may drop a model whose interval of the difference "
    "still holds 0."
)


def certificate(selection: Selection) -> str:
    """Return the conclusion of a race in words, with its certainty, and what the race took and saved."""
    failed = [f"{label} left the race: {reason}." for label, reason in selection.failed.items()]
    return " ".join([_conclusion(selection), *_last_test(selection), *failed, _effort(selection)])


def _conclusion(selection: Selection) -> str:
    show = Figures(selection.info, [])
    error = f"at most {percent(1 - selection.confidence)} chance of error"
    dropped = len(selection.summary()) - len(selection.remaining) - len(selection.failed)
    worse = f"; {count(dropped, 'other model')} {'is' if dropped == 1 else 'are'} worse" if dropped else ""
    if selection.conclusion == "best":
        return f"{selection.best} is the best of {count(dropped + 1, 'model')} on {selection.info.name} ({error})."
    if selection.conclusion == "equivalent":
        within = show.number(selection.indifference)
        same = f"differ by less than {within} on {selection.info.name}"
        return f"{joined(selection.remaining)} {same}: they are equivalent{worse} ({error})."
    end = f"all {count(selection.n_examples, 'example')} were asked"
    if selection.ended_by == "budget":
        end = f"the next question might exceed the budget after {count(selection.n_seen, 'example')}"
    left = joined(selection.remaining)
    return f"Undecided: {end}, and {left} cannot be told apart on {selection.info.name}{worse}."


def _last_test(selection: Selection) -> list[str]:
    """Return what the one test after all examples showed beyond the race itself."""
    if selection.by_last_test:
        worse = f"{joined(selection.by_last_test)} {'is' if len(selection.by_last_test) == 1 else 'are'} worse"
        return [
            f"While it went on, the race could not show that {worse}; one test after all "
            f"{count(selection.n_examples, 'example')} did, for which half of the error was kept."
        ]
    if selection.conclusion == "undecided" and selection.ended_by == "examples":
        return [
            "Neither the race nor one test after it, with half of the error each, told them apart; a comparison that "
            "looks only once has the whole error and may."
        ]
    return []


def _effort(selection: Selection) -> str:
    grid = selection.answers + selection.answers_saved
    effort = (
        f"It took {count(selection.answers, 'answer')} on {selection.n_seen:,} of {selection.n_examples:,} examples"
    )
    if selection.dollars is not None:
        effort += f" and {dollars(selection.dollars)}"
        if selection.dollars_now < 0.999 * selection.dollars:
            effort += f" ({dollars(selection.dollars_now)} of it now, the rest was there)"
    if not selection.answers_saved:
        return f"{effort}; nothing was saved."
    money = "" if selection.dollars_saved is None else f" and about {dollars(selection.dollars_saved)}"
    saved = f"{count(selection.answers_saved, 'answer')} ({selection.answers_saved / grid:.0%}){money}"
    return f"{effort}; asking everything would have taken {saved} more."


def score_text(row: Mapping[Any, Any], info: ScoreInfo) -> str:
    """Return a model's mean with its interval, and its state in the race, for a progress display."""
    if row["state"] == "failed" or not _known(row["mean"]):
        return ""
    show = Figures(info, [])
    mean = f"{info.name} {show.number(row['mean'])} {show.interval(row['low'], row['high'])}".rstrip()
    state = {"leads": "leads", "dropped": f"dropped, worse than {row['beaten_by']}", "equivalent": "equivalent"}
    return ", ".join(part for part in (mean, state.get(row["state"], "")) if part)


@render.as_text.register
def _as_text(selection: Selection) -> str:
    """Return the certificate and a line per model."""
    lines = [
        f"  {row['model']}: {row['state']}, {count(int(row['examples']), 'example')}"
        + (f", {mean}" if (mean := score_text({**row, "state": ""}, selection.info)) else "")
        for row in selection.summary().to_dict("records")
    ]
    return "\n".join([f"{selection.experiment}: {certificate(selection)}", *lines])


@render.as_html.register
def _as_html(selection: Selection) -> str:
    """Return the certificate and a table of the models."""
    notes = [f"{percent(selection.confidence)} confidence sequences.", _NOTE]
    if selection.by_last_test:
        notes.append(_LAST_TEST)
    rows = [_row(row, selection.info, selection.best) for row in selection.summary().to_dict("records")]
    return fragment(
        tag("div", f"{selection.experiment}: race on {selection.info.name}", class_="lm-title"),
        tag("div", certificate(selection), class_="lm-verdict"),
        to_html(Table(_HEADERS, rows, note=" ".join(notes), words=(0, 1, 5))),
    )


def _row(row: Mapping[Any, Any], info: ScoreInfo, leading: str) -> list[str | Cell]:
    show = Figures(info, [])
    return [
        row["model"],
        row["state"],
        f"{int(row['examples']):,}",
        _with_interval(show.number, show, row, "mean", "low", "high"),
        MISSING
        if row["model"] == leading
        else _with_interval(show.signed, show, row, "difference", "difference_low", "difference_high"),
        row["beaten_by"] if isinstance(row["beaten_by"], str) else "",
        dollars(row["dollars"]) if _known(row["dollars"]) else MISSING,
    ]


def _with_interval(written: Any, show: Figures, row: Mapping[Any, Any], value: str, low: str, high: str) -> Cell | str:
    if not _known(row[value]):
        return MISSING
    return Cell(written(row[value]), show.interval(row[low], row[high]))


def _known(value: Any) -> bool:
    return value is not None and not math.isnan(value)
