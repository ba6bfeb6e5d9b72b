"""Asking models for some of an experiment's examples from this process, and scoring what they answer.

What plans and races do between their looks. Every answer goes to the kept answers of its model, so that nothing is
paid for twice: neither by a trial that was cut off and is made again, nor by a workflow that is launched later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from lumigator_nb import metrics, models
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.engine.asking import CachedAsker, open_budget
from lumigator_nb.errors import BudgetReachedError, InvalidInputError, LumigatorError
from lumigator_nb.metrics import FloatArray, Judging, JuryMetric, Metric, ScoreInfo
from lumigator_nb.models import Conversation, Prediction, Repeats, Request
from lumigator_nb.services.comparison.score_samples import main_score
from lumigator_nb.services.workflows.estimates import ROWS_AT_ONCE
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Example, Launch, MetricSpec, Model, Status, Step, digest
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

Answered = Callable[[str, Prediction], None]


@dataclass(frozen=True)
class Question:
    """What a trial asks.

    Attributes:
        experiment: whose examples and task.
        examples: its dataset's rows, as a workflow reads them.
        models: who is asked.
        spec: of the metric that reports the score.
        info: of the score.
        launch: cache and budget; the budget is for all models and judges together.
        owner: names the files of the answers; the same owner again counts what it spent before.
        seed: of the order of the examples.
    """

    experiment: Experiment
    examples: Sequence[Example]
    models: tuple[Model, ...]
    spec: MetricSpec
    info: ScoreInfo
    launch: Launch
    owner: str
    seed: int

    @property
    def labels(self) -> tuple[str, ...]:
        """What tables call the models."""
        return tuple(model.label for model in self.models)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest possible score; None where there is none."""
        low, high = self.info.range
        return (low, high) if np.isfinite(low) and np.isfinite(high) else None

    @property
    def everybody(self) -> list[Model]:
        """The models and the judges."""
        return [*self.models, *metrics.models_of([self.spec])]

    def order(self) -> list[int]:
        """Return the rows that can be scored, in random order."""
        needed = "ground_truth" in metrics.create(self.spec).needs
        rows = [example.row for example in self.examples if example.references or not needed]
        return [int(row) for row in np.random.default_rng(self.seed).permutation(rows)]


def question(
    store: Store,
    experiment: Experiment,
    dataset: Dataset,
    chosen: Sequence[Model],
    metric: str | MetricSpec | None,
    launch: Launch,
    seed: int,
) -> Question:
    """Return what a trial will ask.

    Args:
        metric: as of :func:`scored_by`; default the experiment's main score.
    """
    spec, info = scored_by(experiment, metric or _main_score(experiment))
    tables = results.iter_shards(store, layout.examples(dataset.id), None, ROWS_AT_ONCE, dataset.sample)
    return Question(
        experiment=experiment,
        examples=[
            example
            for index, table in enumerate(tables)
            for example in results.examples_in(table, index * ROWS_AT_ONCE)
        ],
        models=tuple(chosen),
        spec=spec,
        info=info,
        launch=launch,
        # Whoever asks the same again goes on within the same budget, whatever models join.
        owner=f"trial-{digest([experiment.id, spec.model_dump(mode='json'), seed])}",
        seed=seed,
    )


def _main_score(experiment: Experiment) -> str:
    infos = [info for spec in experiment.metrics for info in metrics.create(spec).infos]
    name = main_score(infos)
    if name is None:
        raise InvalidInputError("no metric of the experiment reports a score", "name one: metric='rougeL'")
    return name


def scored_by(experiment: Experiment, score: str | MetricSpec) -> tuple[MetricSpec, ScoreInfo]:
    """Find the metric that reports a score: one of the experiment's, or one that needs no options.

    Args:
        score: such as "rougeL"; or the name or specification of a metric that reports one score.

    Raises:
        UnknownMetricError: no metric reports it.
        InvalidInputError: the metric reports several scores, or no value of the score is better.
    """
    given = getattr(score, "spec", score)
    spec, info = _named(experiment, given) if isinstance(given, str) else _only(metrics.parse(given))
    if info.higher_is_better is None:
        raise InvalidInputError(f"{info.name} only describes; no value of it is better", "take another score")
    return spec, info


def _named(experiment: Experiment, name: str) -> tuple[MetricSpec, ScoreInfo]:
    for spec in experiment.metrics:
        found = [info for info in metrics.create(spec).infos if info.name == name]
        if found:
            return spec, found[0]
    for spec in experiment.metrics:
        if name in (spec.name, spec.title):
            return _only(spec)
    if name in metrics.known():
        return _only(metrics.parse(name))
    return metrics.reporting(name), metrics.info(name)


def _only(spec: MetricSpec) -> tuple[MetricSpec, ScoreInfo]:
    infos = metrics.create(spec).infos
    if len(infos) != 1:
        raise InvalidInputError(
            f"the metric {spec.title!r} reports {len(infos) or 'unknown'} scores", "name the score that decides"
        )
    return spec, infos[0]


class Trial:
    """Answers and scores of some examples, more of them with each :meth:`ask`.

    Attributes:
        scores: (models, asked) per-example scores in the order asked; NaN where there is none.
        statistics: (models, asked, k) what overall scores are made of; NaN likewise.
        predictions: per label and row.
        failed: per label why no further example can be answered.

    Args:
        question: what is asked.
        store: where answers are kept.
        submitter: knows API keys and what to redact.
        answered: called with label and prediction after each answer, from several threads.
        note: takes short notes on a model, such as "loading the model".
    """

    def __init__(
        self,
        question: Question,
        store: Store,
        submitter: Submitter,
        *,
        answered: Answered = lambda label, prediction: None,
        note: Callable[[str, str], None] = lambda label, text: None,
    ) -> None:
        self.question = question
        self.rows: list[int] = []
        self.predictions: dict[str, dict[int, Prediction]] = {label: {} for label in question.labels}
        self.failed: dict[str, str] = {}
        self._values: list[FloatArray] = []
        self._statistics: list[FloatArray] = []
        self._submitter, self._redact, self._answered = submitter, submitter.redact, answered
        self._budget = open_budget(store, question.launch, [(model, question.owner) for model in question.everybody])
        self._ask = CachedAsker(store, question.launch, question.owner, self._redact, self._budget, note=note)
        task = question.experiment.task
        self._conversations = {model.label: Conversation(model.worded(task)) for model in question.models}
        self._metric = self._scoring()

    @property
    def scores(self) -> FloatArray:
        """(models, asked)."""
        return np.concatenate(self._values, axis=1) if self._values else np.empty((len(self.question.models), 0))

    @property
    def statistics(self) -> FloatArray:
        """(models, asked, k)."""
        return np.concatenate(self._statistics, axis=1)

    @property
    def dollars(self) -> float | None:
        """What answers and judges cost when they were first given; None where nothing has a price."""
        paid = [each.cost for known in self.predictions.values() for each in known.values() if each.cost is not None]
        judged = self._metric.cost
        return sum(paid) + (judged or 0.0) if paid or judged is not None else None

    @property
    def dollars_now(self) -> float:
        """What was paid since this trial began."""
        return self._budget.paid

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Hold the API keys in the environment and the kept answers open, while models and judges are asked."""
        with ExitStack() as stack:
            stack.enter_context(self._ask)
            for model in {model.fingerprint: model for model in self.question.everybody}.values():
                stack.enter_context(self._submitter.keys_in_environment(model))
            yield

    def ask(self, rows: Sequence[int], labels: Sequence[str]) -> None:
        """Have some models answer some more rows, and score the answers.

        A model that can answer no further example is noted in :attr:`failed`, and the others go on.

        Raises:
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.
        """
        asked = [model for model in self.question.models if model.label in labels]
        # With a budget one after another: what others spend at the same time would not be counted.
        waiting = [] if self.question.launch.budget is not None else [model for model in asked if _waits(model)]
        with ThreadPoolExecutor(max(1, len(waiting)), "lumigator-trial") as pool:
            futures = [pool.submit(self.answer, model, rows) for model in waiting]
            for model in asked:
                if model not in waiting:
                    self.answer(model, rows)
            for future in futures:
                future.result()
        self._score(rows, labels)

    def answer(self, model: Model, rows: Sequence[int]) -> None:
        """Have one model answer some rows, unscored; what goes wrong as in :meth:`ask`."""

        def took(request: Request, prediction: Prediction) -> None:
            self.predictions[model.label][request.row] = prediction
            self._answered(model.label, prediction)

        requests = list(self._requests(model.label, rows))
        repeats = Repeats() if models.draws_answers(model) else None
        try:
            self._ask(model, requests, task=model.worded(self.question.experiment.task), repeats=repeats, took=took)
        except BudgetReachedError:
            raise
        except LumigatorError as error:
            self.failed[model.label] = self._redact(error.message)

    def _requests(self, label: str, rows: Sequence[int]) -> Iterator[Request]:
        for row in rows:
            try:
                yield self._conversations[label].request(self.question.examples[row], self._redact)
            except InvalidInputError as error:
                self.predictions[label][row] = Prediction(None, error=self._redact(str(error)))

    def _score(self, rows: Sequence[int], labels: Sequence[str]) -> None:
        found = [self._scored(label, rows) if label in labels else None for label in self.question.labels]
        width = next(statistics.shape[1] for _, statistics in filter(None, found))
        empty = np.full(len(rows), np.nan), np.full((len(rows), width), np.nan)
        self._values.append(np.stack([(pair or empty)[0] for pair in found]))
        self._statistics.append(np.stack([(pair or empty)[1] for pair in found]))
        self.rows += list(rows)

    def _scored(self, label: str, rows: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        known, examples = self.predictions[label], [self.question.examples[row] for row in rows]
        if isinstance(self._metric, (Judging, JuryMetric)):
            model = next(each for each in self.question.models if each.label == label)
            self._metric.set_task(model.judged_by(self.question.experiment.task))
        scores = self._metric.score(
            [known[row].text if row in known else None for row in rows],
            [example.references for example in examples],
            [example.text for example in examples],
            [example.metadata for example in examples],
        )
        chosen = next(each for each in scores if each.info.name == self.question.info.name)
        return chosen.values, chosen.statistics

    def _scoring(self) -> Metric:
        metric = metrics.create(self.question.spec)
        metric.prepare()
        if isinstance(metric, (Judging, JuryMetric)):
            metric.ask = self._ask
        return metric


def answers_of(question: Question, store: Store, submitter: Submitter, progress: bool) -> list[str | None]:
    """Have the first model answer every example; return the answers in the order of the dataset.

    Raises:
        LumigatorError: it can answer none.
        BudgetReachedError: the next question might exceed the budget; what was answered is kept.
    """
    label, total = question.labels[0], len(question.examples)
    with live_progress(progress) as show:
        done = 0

        def answered(_: str, prediction: Prediction) -> None:
            nonlocal done
            done += 1
            status = Status.SUCCEEDED if done == total else Status.RUNNING
            show([ProgressRow(label, status, Step.INFERENCE, done=done, total=total)])

        trial = Trial(question, store, submitter, answered=answered)
        with trial.asking():
            trial.answer(question.models[0], range(total))
    found = trial.predictions[label]
    if not any(each.text is not None for each in found.values()):
        raise InvalidInputError(f"{label} answered nothing: {trial.failed.get(label, 'every example failed')}", None)
    return [found[row].text if row in found else None for row in range(total)]


def _waits(model: Model) -> bool:
    # A function of this process may not expect to be called from a thread.
    return models.waits(model) and not models.runs_here(model)
