"""Pilot runs: ask models about some examples of an experiment from this process, and score the answers.

Power studies and races are made of them. Answers go to the answer cache, so that neither a pilot run that is
repeated after an interruption nor a workflow that is launched later pays for them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from lumigator_nb import metrics, models
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.display.progress import ProgressRow, live_progress
from lumigator_nb.engine.asking import CachedAsker, open_budget
from lumigator_nb.errors import BudgetReachedError, InvalidInputError, LumigatorError, NotFoundError
from lumigator_nb.metrics import FloatArray, Judging, JuryMetric, ScoreInfo
from lumigator_nb.metrics.base import FACTS
from lumigator_nb.models import Conversation, Prediction, Repeats, Request
from lumigator_nb.services.comparison.score_samples import main_score
from lumigator_nb.services.workflows.estimates import ROWS_AT_ONCE
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Example, Launch, MetricSpec, Model, Status, Step, digest
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

Answered = Callable[[str, Prediction], None]
# Seconds between two looks whether the experiment is still there.
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Question:
    """What a pilot run asks.

    Attributes:
        experiment: gives examples and task.
        examples: of its dataset or sample, as a workflow reads them.
        models: that answer.
        spec: of the metric that reports the score.
        info: of the score.
        launch: cache, and the budget of all models and judges together.
        owner: names the files of the answers; what it spent in earlier runs counts against the budget.
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
        """The labels of the models."""
        return tuple(model.label for model in self.models)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest possible score; None where it is unbounded."""
        low, high = self.info.range
        return (low, high) if np.isfinite(low) and np.isfinite(high) else None

    @property
    def all_models(self) -> list[Model]:
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
    """Return what a pilot run will ask.

    Args:
        metric: as of :func:`scored_by`; default the experiment's main score.
    """
    if metric is None:
        metric = main_score([info for spec in experiment.metrics for info in metrics.create(spec).infos])
    if metric is None:
        raise InvalidInputError("no metric of the experiment reports a score", "name one: metric='rougeL'")
    spec, info = scored_by(experiment, metric)
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
        # The same question again, also with more models, goes on within the same budget.
        owner=f"trial-{digest([experiment.id, spec.model_dump(mode='json'), seed])}",
        seed=seed,
    )


def scored_by(experiment: Experiment, score: str | MetricSpec) -> tuple[MetricSpec, ScoreInfo]:
    """Find the metric that reports a score: one of the experiment's, or one that needs no options.

    Args:
        score: such as "rougeL"; or the name or specification of a metric that reports one score.

    Raises:
        UnknownMetricError: no metric reports it.
        InvalidInputError: the metric reports several scores, or no value of the score is better.
    """
    named = getattr(score, "spec", score)
    spec, info = _find_score(experiment, named) if isinstance(named, str) else _only(metrics.parse(named))
    if info.higher_is_better is None:
        raise InvalidInputError(f"{info.name} only describes; no value of it is better", "take another score")
    return spec, info


def _find_score(experiment: Experiment, name: str) -> tuple[MetricSpec, ScoreInfo]:
    # Names of scores first: a metric may have the name of a score of another one.
    for spec in experiment.metrics:
        for info in metrics.create(spec).infos:
            if info.name == name:
                return spec, info
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


class PilotRun:
    """Answers and scores of some examples; each :meth:`ask` adds more of them.

    Attributes:
        rows: the examples asked about so far, in order.
        predictions: by label of the model and row.
        failed: by label, why the model can answer no further example.

    Args:
        store: holds the answer cache.
        submitter: provides API keys and the redactor.
        answered: called with label and prediction after each answer, from several threads.
        note: called with a model's label and a short note, such as "loading the model".
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
        self._deleted, self._looked_at = False, time.monotonic()
        self._budget = open_budget(store, question.launch, [(model, question.owner) for model in question.all_models])
        self._ask = CachedAsker(store, question.launch, question.owner, self._redact, self._budget, note=note)
        task = question.experiment.task
        self._conversations = {model.label: Conversation(model.worded(task)) for model in question.models}
        self._metric = metrics.create(question.spec)
        self._metric.prepare()
        if isinstance(self._metric, (Judging, JuryMetric)):
            self._metric.ask = self._ask

    @property
    def scores(self) -> FloatArray:
        """(models, asked) per-example scores in the order asked; NaN without a score."""
        return np.concatenate(self._values, axis=1) if self._values else np.empty((len(self.question.models), 0))

    @property
    def statistics(self) -> FloatArray:
        """(models, asked, k) sufficient statistics of the overall scores; NaN without a score."""
        return np.concatenate(self._statistics, axis=1)

    @property
    def dollars(self) -> float | None:
        """What answers and verdicts cost when they were first given; None without a price."""
        answers = [answer for of_model in self.predictions.values() for answer in of_model.values()]
        costs = [answer.cost for answer in answers if answer.cost is not None]
        judged = self._metric.cost
        return sum(costs) + (judged or 0.0) if costs or judged is not None else None

    @property
    def dollars_now(self) -> float:
        """What was paid in this run."""
        return self._budget.paid

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Put the API keys into the environment and open the answer cache, while models and judges are asked."""
        with ExitStack() as stack:
            stack.enter_context(self._ask)
            for model in {model.fingerprint: model for model in self.question.all_models}.values():
                stack.enter_context(self._submitter.keys_in_environment(model))
            yield

    def ask(self, rows: Sequence[int], labels: Sequence[str]) -> None:
        """Have models answer more rows, and score the answers.

        A model that can answer no further example is noted in :attr:`failed`, and the others go on.

        Raises:
            BudgetReachedError: the next question might exceed the budget; answers so far are kept.
            NotFoundError: the experiment was deleted; answers so far are kept.
        """
        self._check_experiment()
        chosen = [model for model in self.question.models if model.label in labels]
        # Models that wait for a server are asked at the same time, in threads; a function of this process may not
        # expect to be called from one. With a budget they are asked one after another: a model that finds the rest
        # reserved for the others' questions would end, although most of it is given back.
        remote = [model for model in chosen if models.waits(model) and not models.runs_here(model)]
        waiting = remote if self.question.launch.budget is None else []
        with ThreadPoolExecutor(max(1, len(waiting)), "lumigator-trial") as pool:
            futures = [pool.submit(self.answer, model, rows) for model in waiting]
            for model in chosen:
                if model not in waiting:
                    self.answer(model, rows)
            for future in futures:
                future.result()
        self._score(rows, labels)

    def answer(self, model: Model, rows: Sequence[int]) -> None:
        """Have one model answer rows, without scoring them; errors as of :meth:`ask`."""

        def took(request: Request, prediction: Prediction) -> None:
            self.predictions[model.label][request.row] = prediction
            self._answered(model.label, prediction)
            self._check_experiment()

        requests = []
        for row in rows:
            try:
                requests.append(self._conversations[model.label].request(self.question.examples[row], self._redact))
            except InvalidInputError as error:
                self.predictions[model.label][row] = Prediction(None, error=self._redact(str(error)))
        repeats = Repeats() if models.draws_answers(model) else None
        try:
            self._ask(model, requests, task=model.worded(self.question.experiment.task), repeats=repeats, took=took)
        except BudgetReachedError:
            raise
        except LumigatorError as error:
            if self._deleted:
                raise
            self.failed[model.label] = self._redact(error.message)

    def _check_experiment(self) -> None:
        """Stop asking, and paying, once the experiment is deleted."""
        now = time.monotonic()
        if not self._deleted and now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._deleted = not self._submitter.has(self.question.experiment)
        if self._deleted:
            raise NotFoundError(
                "experiment",
                self.question.experiment.name,
                "it was deleted while models were asked, and no further question is; their answers so far are in the "
                "answer cache",
            )

    def _score(self, rows: Sequence[int], labels: Sequence[str]) -> None:
        scored = [self._scored(label, rows) if label in labels else None for label in self.question.labels]
        width = next(statistics.shape[1] for _, statistics in filter(None, scored))
        empty = np.full(len(rows), np.nan), np.full((len(rows), width), np.nan)
        self._values.append(np.stack([(pair or empty)[0] for pair in scored]))
        self._statistics.append(np.stack([(pair or empty)[1] for pair in scored]))
        self.rows += list(rows)

    def _scored(self, label: str, rows: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        predictions, examples = self.predictions[label], [self.question.examples[row] for row in rows]
        if isinstance(self._metric, (Judging, JuryMetric)):
            model = next(model for model in self.question.models if model.label == label)
            self._metric.set_task(model.judged_by(self.question.experiment.task))
        scores = self._metric.score(
            [predictions[row].text if row in predictions else None for row in rows],
            [example.references for example in examples],
            [example.text for example in examples],
            [example.metadata for example in examples],
            [{name: getattr(predictions.get(row), name, None) for name in FACTS} for row in rows],
        )
        chosen = next(score for score in scores if score.info.name == self.question.info.name)
        return chosen.values, chosen.statistics


def answers_of(question: Question, store: Store, submitter: Submitter, progress: bool) -> list[str | None]:
    """Have the first model answer every example; return the answers in the order of the dataset.

    Raises:
        InvalidInputError: it can answer none.
        BudgetReachedError: the next question might exceed the budget; answers so far are kept.
    """
    label, total = question.labels[0], len(question.examples)
    with live_progress(progress) as show:
        done = 0

        def answered(_: str, prediction: Prediction) -> None:
            nonlocal done
            done += 1
            status = Status.SUCCEEDED if done == total else Status.RUNNING
            show([ProgressRow(label, status, Step.INFERENCE, done=done, total=total)])

        run = PilotRun(question, store, submitter, answered=answered)
        with run.asking():
            run.answer(question.models[0], range(total))
    predictions = run.predictions[label]
    if not any(prediction.text is not None for prediction in predictions.values()):
        raise InvalidInputError(f"{label} answered nothing: {run.failed.get(label, 'every example failed')}", None)
    return [predictions[row].text if row in predictions else None for row in range(total)]
