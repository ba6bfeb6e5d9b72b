"""Pairwise judging: for each example, which of two models' answers a judge prefers, asked in both orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb import metrics, statistics
from lumigator_nb.display import render
from lumigator_nb.display.html import fragment, tag
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.tables import Table, to_html
from lumigator_nb.display.text import MISSING
from lumigator_nb.engine.asking import CachedAsker, open_budget
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.metrics.judges import criteria
from lumigator_nb.metrics.judges.criteria import Material
from lumigator_nb.metrics.judges.judge import Ask, JudgeMetric, ask_until_read, prepared
from lumigator_nb.metrics.judges.jury import JuryMetric
from lumigator_nb.metrics.judges.verdicts import Verdict
from lumigator_nb.models import Prediction, Request
from lumigator_nb.services.comparison import judge_reports
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.judge_reports import JudgeReport
from lumigator_nb.services.judging import judge_bias
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Launch, MetricSpec, Model, Progress, Status, Step, Task, digest, now
from lumigator_nb.storage.store import Store

_FIRST, _SECOND, _NEITHER = 1, 2, 0
_ALLOWED = [_NEITHER, _FIRST, _SECOND]
_PREFERENCE = {_FIRST: 1.0, _SECOND: -1.0, _NEITHER: 0.0}


@dataclass(frozen=True)
class _Question:
    row: int
    first: str
    second: str


class Judgements(Rendered):
    """The verdicts of judges on pairs of answers.

    Args:
        title: experiment and criterion.
        models: the models whose answers were judged, by label.
        judges: the models that judged, by label.
        verdicts: one row per judge and question, in the columns of :meth:`to_pandas`.
        retest: by judge, the first and second preference of the questions that were asked twice.
        cost: dollars of the verdicts; None without a price.
        human: labels by people; see :meth:`Workspace.judge`.
        confidence, seed: of all intervals.
    """

    def __init__(
        self,
        title: str,
        models: Mapping[str, Model],
        judges: Mapping[str, Model],
        verdicts: pd.DataFrame,
        retest: Mapping[str, Sequence[tuple[float, float]]],
        *,
        cost: float | None = None,
        human: pd.DataFrame | None = None,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        self.title, self.models, self.judges = title, dict(models), dict(judges)
        self.cost, self.confidence, self.seed = cost, confidence, seed
        self._verdicts, self._retest, self._human = verdicts, retest, human

    def to_pandas(self) -> pd.DataFrame:
        """Return every verdict.

        Columns: `row`, `judge`, `first`, `second` (labels, in the order of the question), `first_length`,
        `second_length` (characters), `preference` (1 first, −1 second, 0 neither, NaN not read), `reason` (of the
        judge, or why there is no verdict). Equal answers are a tie without a question.
        """
        return self._verdicts.copy()

    @cached_property
    def _paired(self) -> pd.DataFrame:
        """One row per example and pair of models: the preference of most judges, or a tie."""
        read = self._verdicts[self._verdicts["preference"].notna()]
        both = [judge_bias.paired(verdicts) for _, verdicts in read.groupby("judge")]
        votes = pd.concat(both) if both else judge_bias.paired(read)
        summed = votes.groupby(["row", "model", "other"])[["preference"]].sum().reset_index()
        summed["preference"] = np.sign(summed["preference"])
        return summed

    def summary(self) -> pd.DataFrame:
        """Return one row per pair of models.

        Columns: `model`, `other`, `wins`, `ties`, `losses` (examples, of `model`), `net` (share of wins less share of
        losses) with `low` and `high` (BCa bootstrap over the examples), `n`. Where the two orders of a question
        disagree the example is a tie.
        """
        rows = []
        for (model, other), examples in self._paired.groupby(["model", "other"], sort=False):
            values = examples["preference"].to_numpy(dtype=np.float64)
            interval = statistics.bootstrap_interval(
                values, confidence=self.confidence, seed=self.seed, bounds=(-1.0, 1.0)
            )
            counts = {name: int((values == sign).sum()) for name, sign in (("wins", 1), ("ties", 0), ("losses", -1))}
            net = {"net": interval.estimate, "low": interval.low, "high": interval.high, "n": len(values)}
            rows.append({"model": model, "other": other, **counts, **net})
        columns = ["model", "other", "wins", "ties", "losses", "net", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns).sort_values("net", ascending=False, ignore_index=True)

    def ranking(self) -> pd.DataFrame:
        """Return one row per model, the strongest first; see :func:`lumigator_nb.services.judging.judge_bias.ranked`.

        Columns: `model`, `strength` (log-odds of being preferred to an average model) with `low` and `high`, `wins`,
        `ties`, `losses`, `n`.
        """
        return judge_bias.ranked(self._paired, confidence=self.confidence, seed=self.seed)

    def judge_reports(self) -> list[JudgeReport]:
        """Return the reliability report of each judge."""
        families = {label: judge_reports.family(model) for label, model in self.models.items()}
        asked = self._verdicts[self._verdicts["asked"]]
        return [
            judge_bias.of_preferences(
                f"{self.title}, by {label}",
                judge,
                asked[asked["judge"] == label],
                families,
                retest=self._retest.get(label, ()),
                human=self._human,
                confidence=self.confidence,
                seed=self.seed,
            )
            for label, judge in self.judges.items()
        ]

    passports = judge_reports  # the name in version 0.1


def judge(
    comparison: Comparison,
    spec: MetricSpec,
    store: Store,
    submitter: Submitter,
    *,
    models: Sequence[str] | None,
    sample: int | None,
    retest: int,
    launch: Launch,
    human: pd.DataFrame | None,
    progress: bool,
    seed: int,
) -> Judgements:
    """Ask the judges; see :meth:`Workspace.judge`."""
    metric = metrics.create(spec)
    if not isinstance(metric, (JudgeMetric, JuryMetric)):
        raise InvalidInputError(f"{spec.name!r} is not a judge", "give lm.Judge('quality', model='…') or lm.Jury([…])")
    judges = metric.judges if isinstance(metric, JuryMetric) else [metric]
    labels = _labels(comparison, models)
    checked_labels = _checked_labels(human, labels)
    texts = comparison.examples()
    rows = _rows(texts, labels, sample, seed)
    orders = [order for pair in combinations(labels, 2) for order in (pair, pair[::-1])]
    questions = [_Question(row, *order) for row in rows for order in orders]
    # Equal answers are a tie, which no judge needs to be paid for.
    asked = [pair for pair in questions if texts[pair.first][pair.row] != texts[pair.second][pair.row]]
    frames, tested, cost = [], {}, None
    asking = [prepared(member.given, "preference", _ALLOWED, numbers=False) for member in judges]
    owners = [f"judgements-{digest([comparison.experiment.id, model.fingerprint])}" for model in asking]

    budget = open_budget(store, launch, zip(asking, owners, strict=True))
    materials = _materials(judges[0], comparison, labels, rows)
    with live_progress(progress) as show, ExitStack() as environment:
        for member, model, owner in zip(judges, asking, owners, strict=True):
            environment.enter_context(submitter.keys_in_environment(model))
            counter = _Counter(model.label, len(asked) + min(retest, len(asked)), show)
            ask = CachedAsker(store, launch, owner, submitter.redact, budget, note=counter.note, paid=counter.spend)
            environment.enter_context(ask)
            counted = partial(ask, took=counter.answered)
            verdicts, again, paid = _ask(member, model, asked, texts, materials, counted, retest, seed)
            counter.finish()
            frames.append(_table(model.label, questions, verdicts, texts))
            tested[model.label] = again
            cost = cost if paid is None else (cost or 0.0) + paid
    workflows = {workflow.label: workflow.model for workflow in comparison.workflows if workflow.model}
    return Judgements(
        f"{comparison.experiment.name}: {judges[0].criteria[0].name}",
        {label: workflows[label] for label in labels},
        {member.model.label: member.model for member in judges},
        pd.concat(frames, ignore_index=True),
        tested,
        cost=cost,
        human=checked_labels,
        confidence=comparison.confidence,
        seed=seed,
    )


def _labels(comparison: Comparison, models: Sequence[str] | None) -> list[str]:
    chosen = list(comparison.models) if models is None else list(dict.fromkeys(models))
    for label in chosen:
        comparison.data.position_of(label)
    if len(chosen) < 2:
        raise InvalidInputError(
            "a judge compares two models or more", "launch another model, or score with ws.evaluate"
        )
    return chosen


def _rows(texts: pd.DataFrame, labels: Sequence[str], sample: int | None, seed: int) -> list[int]:
    """Return the examples that all models answered; with `sample`, that many of them at random."""
    rows = texts.index[texts[list(labels)].notna().all(axis=1)].to_numpy()
    if sample is not None and sample < 1:
        raise InvalidInputError(f"sample cannot be {sample}", "give the number of examples to judge")
    if sample is not None and sample < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
    if not len(rows):
        raise InvalidInputError("no example was answered by all of these models", "name fewer of them: models=[…]")
    return [int(row) for row in rows]


def _materials(
    judge: JudgeMetric, comparison: Comparison, labels: Sequence[str], rows: Sequence[int]
) -> dict[int, Material]:
    """Return what judges see of each example besides the answers, by row."""
    judge.set_task(_task(comparison, labels))
    examples, references = comparison.examples()["example"], comparison.references()
    metadata = [{str(name): value for name, value in row.items()} for row in comparison.metadata().to_dict("records")]
    return {row: judge.material(examples[row], references[row], metadata[row]) for row in rows}


def _task(comparison: Comparison, labels: Sequence[str]) -> Task:
    """Return the task by which answers are judged; without instruction where the models had different ones."""
    task = comparison.experiment.task
    if task is None:
        raise InvalidInputError("the task of these answers is unknown", "judge the workflows of an experiment")
    tasks = {one.label: one.model.judged_by(task) if one.model else task for one in comparison.workflows}
    first, *others = (tasks[label] for label in labels)
    return first if all(other == first for other in others) else task.model_copy(update={"prompt": ""})


def _ask(
    judge: JudgeMetric,
    model: Model,
    asked: Sequence[_Question],
    texts: pd.DataFrame,
    materials: Mapping[int, Material],
    ask: Ask,
    retest: int,
    seed: int,
) -> tuple[dict[_Question, Verdict | str], list[tuple[float, float]], float | None]:
    """Return the verdicts, the pairs of first and second preference of the retest, and the dollars."""
    requests = []
    for number, question in enumerate(asked):
        answers = (texts[question.first][question.row], texts[question.second][question.row])
        requests.append(criteria.pair_request(number, judge.criteria[0], materials[question.row], *answers))
    verdicts, paid, _ = ask_until_read(ask, model, requests, "preference", _ALLOWED, judge.attempts)
    chosen = np.random.default_rng(seed).permutation(len(asked))[:retest].tolist()
    second = [replace(requests[number], occurrence=1) for number in chosen]
    again, paid_again, _ = ask_until_read(ask, model, second, "preference", _ALLOWED, judge.attempts)
    pairs = [(verdicts[number], again[number]) for number in chosen]
    tested = [
        (_PREFERENCE.get(int(a.value), 0.0), _PREFERENCE.get(int(b.value), 0.0))
        for a, b in pairs
        if isinstance(a, Verdict) and isinstance(b, Verdict)
    ]
    costs = [cost for cost in (paid, paid_again) if cost is not None]
    by_question = {question: verdicts[number] for number, question in enumerate(asked)}
    return by_question, tested, sum(costs) if costs else None


def _table(
    label: str, questions: Sequence[_Question], verdicts: Mapping[_Question, Verdict | str], texts: pd.DataFrame
) -> pd.DataFrame:
    rows = []
    for question in questions:
        verdict = verdicts.get(question)
        preference: float
        reason: str | None
        if verdict is None:  # the judge is not asked about equal answers
            preference, reason = 0.0, "both answers are the same"
        elif isinstance(verdict, str):
            preference, reason = float("nan"), verdict
        else:
            preference, reason = _PREFERENCE.get(int(verdict.value), float("nan")), verdict.reason
        rows.append(
            {
                "row": question.row,
                "judge": label,
                "first": question.first,
                "second": question.second,
                "first_length": len(texts[question.first][question.row]),
                "second_length": len(texts[question.second][question.row]),
                "preference": preference,
                "reason": reason,
                "asked": verdict is not None,
            }
        )
    return pd.DataFrame(rows)


def _checked_labels(human: pd.DataFrame | None, labels: Sequence[str]) -> pd.DataFrame | None:
    if human is None:
        return None
    missing = [name for name in ("row", "model", "other", "preference") if name not in human.columns]
    if missing:
        raise InvalidInputError(
            f"the human labels have no column {missing[0]!r}",
            "row (of the dataset, from 0), model, other (labels), preference (1 model is better, -1 other, 0 neither)",
        )
    wrong = human.index[~human["preference"].isin([1, 0, -1])]
    if len(wrong):
        value = human["preference"][wrong[0]]
        raise InvalidInputError(f"human labels, row {wrong[0]}: preference {value!r} is not 1, 0 or -1")
    unknown = sorted({*human["model"], *human["other"]} - set(labels))
    if unknown:
        raise InvalidInputError(f"the human labels name the model {unknown[0]!r}", did_you_mean(unknown[0], labels))
    return human


class _Counter:
    """The progress display of one judge: how many questions it has answered."""

    def __init__(self, label: str, total: int, show: Callable[[list[ProgressRow]], None]) -> None:
        self._label, self._show, self._status = label, show, Status.RUNNING
        self._value = Progress(step=Step.EVALUATION, attempt=1, done=0, total=total, started_at=now(), updated_at=now())

    def note(self, label: str, text: str) -> None:
        self._update(note=text)

    def spend(self, cost: float | None) -> None:
        if cost is not None:
            self._update(cost=(self._value.cost or 0.0) + cost)

    def finish(self) -> None:
        self._status = Status.SUCCEEDED
        self._update(done=self._value.total, note="")

    def answered(self, request: Request, prediction: Prediction) -> None:
        # A question that is asked again, since its answer could not be read, counts once.
        self._update(**self._value.finished(min(1, self._value.total - self._value.done)), note="")

    def _update(self, **changes: Any) -> None:
        self._value = self._value.model_copy(update={**changes, "updated_at": now()})
        self._show([ProgressRow.of(f"judge {self._label}", self._status, self._value)])


_HEADERS = ["Model", "Against", "Wins", "Ties", "Losses", "Wins less losses", "n"]


@render.as_text.register
def _as_text(judgements: Judgements) -> str:
    """Return judgements for a terminal, above the reliability reports of the judges."""
    summary = judgements.summary()
    lines = [_title(judgements)]
    for _, row in summary.iterrows():
        lines.append(
            f"  {row['model']} against {row['other']}: {row['wins']} wins, {row['ties']} ties, {row['losses']} losses; "
            f"{_net(row)}"
        )
    return "\n\n".join(["\n".join(lines), *map(str, judgements.judge_reports())])


@render.as_html.register
def _as_html(judgements: Judgements) -> str:
    """Return judgements for a notebook, above the reliability reports of the judges."""
    rows = [
        [
            row["model"],
            row["other"],
            *(f"{row[name]:,}" for name in ("wins", "ties", "losses")),
            _net(row),
            f"{row['n']:,}",
        ]
        for _, row in judgements.summary().iterrows()
    ]
    note = "A pair whose two orders were judged differently is a tie."
    return fragment(
        tag("div", _title(judgements), class_="lm-title"),
        to_html(Table(_HEADERS, rows, note=note, words=(0, 1))),
        *(judge_reports.body(report) for report in judgements.judge_reports()),
    )


def _title(judgements: Judgements) -> str:
    cost = "" if judgements.cost is None else f", ${judgements.cost:.4f}"
    return f"{judgements.title}, judged by {', '.join(judgements.judges)}{cost}"


def _net(row: pd.Series) -> str:
    if math.isnan(row["net"]):
        return MISSING
    low, high = (judge_reports.number(row[name], "+") for name in ("low", "high"))
    return judge_reports.number(row["net"], "+") + ("" if math.isnan(row["low"]) else f" [{low}, {high}]")
