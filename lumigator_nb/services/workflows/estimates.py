"""Estimates of what asking models costs, before anything is paid."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pandas as pd

from lumigator_nb import models
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.engine.asking import CachedAsker, open_answers
from lumigator_nb.errors import BudgetReachedError, InvalidInputError, LumigatorError, UnavailableError
from lumigator_nb.metrics import Judging, JuryMetric, Rows, registry
from lumigator_nb.metrics.judges.criteria import AGAIN
from lumigator_nb.models import Budget, Conversation, Prediction, Repeats, Request
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Example, Launch, MetricSpec, Model, Summarization, Task
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.answer_cache import Answers
from lumigator_nb.storage.store import Store

ROWS_AT_ONCE = 1024
# The length of a judge's answer: one or two short sentences and a number, as JSON.
VERDICT_TOKENS = 60


@dataclass(frozen=True)
class Estimate:
    """What asking one model takes, and having its answers judged.

    Attributes:
        model: its label.
        examples: number of all examples; `to_ask` of them are not in the answer cache.
        prompt_tokens, completion_tokens: expected for those.
        dollars: expected cost, and `dollars_at_most` if every answer is as long as `max_new_tokens` allows. None if
            the model has no price, or one per hour whose answers no pilot has timed.
        basis: "count", or "pilot of n".
        judge_dollars: expected cost of the judges of its answers, and `judge_dollars_at_most` if each question takes
            all attempts, and all answers are as long as allowed. 0 without judges, None if a judge has no price.
    """

    model: str
    examples: int
    to_ask: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    dollars_at_most: float | None
    basis: str = "count"
    judge_dollars: float | None = 0.0
    judge_dollars_at_most: float | None = 0.0


def estimate(
    model: Model | str,
    examples: Sequence[str],
    task: Task | None = None,
    *,
    ground_truth: Sequence[str | None] | None = None,
    metrics: Sequence[MetricSpec | str] | MetricSpec | str = (),
) -> Estimate:
    """Return what it takes to have a model answer examples; nothing is asked, and no workspace is needed.

    Prompt tokens are estimated from the length of the prompts. An answer is expected to be as long as the ground truth
    or, without ground truth, as long as `max_new_tokens` allows.

    Args:
        metrics: those that will score the answers; the estimate includes what judges among them cost.

    Examples:
        >>> estimate = lm.estimate("openai/gpt-4o-mini", ["The bus is late. We walk."])
        >>> estimate.examples, estimate.to_ask
        (1, 1)
        >>> 0 < estimate.dollars <= estimate.dollars_at_most
        True
        >>> estimate = lm.estimate("openai/gpt-4o-mini", ["The bus is late. We walk."], metrics=lm.Judge("fluency"))
        >>> 0 < estimate.judge_dollars <= estimate.judge_dollars_at_most
        True
    """
    model = Model(model) if isinstance(model, str) else model
    task = task or Summarization()
    conversation = Conversation(model.worded(task))
    truths = ground_truth or [None] * len(examples)
    named = [metrics] if isinstance(metrics, (str, MetricSpec)) else metrics
    count, judges = _Count(model), _Judges([registry.parse(metric) for metric in named], model, task)
    for row, (text, truth) in enumerate(zip(examples, truths, strict=True)):
        example = Example(row, text, () if truth is None else (truth,))
        count.add(conversation.request(example), _first(example))
        judges.add(example, None)
    return count.result(len(examples), judges=judges)


def of_experiment(
    store: Store,
    experiment: Experiment,
    dataset: Dataset,
    chosen: Sequence[Model],
    pilot: int,
    budget: float | None,
    submitter: Submitter,
) -> pd.DataFrame:
    """Return one row per model; see :meth:`Workflows.estimate`."""
    if pilot < 0:
        raise InvalidInputError(f"pilot must be a number of examples, 0 or more, got {pilot}")
    estimates, launch, pilots = [], Launch(), Budget(budget)
    for model in chosen:
        with submitter.keys_in_environment(model):
            rows = _Rows(store, dataset, model, model.worded(experiment.task), submitter.redact)
            answered: list[tuple[Request, Prediction]] = []
            if pilot and models.keeps_answers(model) and models.price_of(model):
                answered = _ask_pilot(rows, model, pilot, launch, pilots)
            with ExitStack() as opened:
                judges = _Judges(experiment.metrics, model, experiment.task, submitter.redact)
                judges.look_up(store, opened)
                estimates.append(_of_model(rows, model, answered, judges))
    frame = pd.DataFrame([vars(estimate) for estimate in estimates])
    # Columns of None alone would be of type object.
    return frame.astype({name: "float64" for name in frame.columns if "dollars" in str(name)})


class _Count:
    """Adds up the tokens and the cost of requests."""

    def __init__(self, model: Model) -> None:
        self._model, self._price = model, models.price_of(model)
        self._longest = model.generation.max_new_tokens
        self.n_requests = self.prompt_tokens = self.completion_tokens = 0

    def add(self, request: Request, truth: str | None) -> None:
        self.n_requests += 1
        self.prompt_tokens += _about_prompt_tokens(request)
        self.completion_tokens += _about_answer_tokens(truth, self._longest)

    def result(
        self, examples: int, pilot: Sequence[tuple[Request, Prediction]] = (), judges: _Judges | None = None
    ) -> Estimate:
        prompt, completion, cached = self.prompt_tokens, self.completion_tokens, (0.0, 0.0)
        measured = [(request, answer) for request, answer in pilot if answer.prompt_tokens and answer.completion_tokens]
        if measured:
            # The pilot's tokens correct the guess for prompts, and their mean replaces that for answers.
            answers = [answer for _, answer in measured]
            guess = sum(_about_prompt_tokens(request) for request, _ in measured)
            used = sum(answer.prompt_tokens or 0 for answer in answers)
            prompt = round(prompt * used / guess)
            completion = round(
                self.n_requests * sum(answer.completion_tokens or 0 for answer in answers) / len(answers)
            )
            read = sum(answer.cache_read_tokens or 0 for answer in answers)
            written = sum(answer.cache_write_tokens or 0 for answer in answers)
            cached = read / used, written / used
        dollars, at_most = self._dollars(prompt, completion, cached), self._at_most(prompt)
        if models.hourly_rate(self._model) and self.n_requests:
            # The time of an answer is known from a pilot only, and the longest time not at all.
            costs = [answer.cost for _, answer in measured if answer.cost is not None]
            dollars, at_most = self.n_requests * sum(costs) / len(costs) if costs else None, None
        return Estimate(
            model=self._model.label,
            examples=examples,
            to_ask=self.n_requests,
            prompt_tokens=prompt,
            completion_tokens=completion,
            dollars=dollars,
            dollars_at_most=at_most,
            basis=f"pilot of {len(measured)}" if measured else "count",
            judge_dollars=judges.dollars(examples) if judges else 0.0,
            judge_dollars_at_most=judges.dollars_at_most(examples) if judges else 0.0,
        )

    def _dollars(self, prompt: int, completion: int, cached: tuple[float, float]) -> float | None:
        """Return the cost of these tokens.

        Args:
            cached: shares of the prompts' tokens that the provider reads from its prompt cache, and that it writes to
                it.
        """
        if self._price is None or not self.n_requests:
            return None if self._price is None else 0.0
        # The price of a mean request times their number, since some prices depend on the length of a prompt.
        length = prompt / self.n_requests
        read, written = (share * length for share in cached)
        return self.n_requests * self._price(length, completion / self.n_requests, read, written)

    def _at_most(self, prompt: int) -> float | None:
        if self._price is None or not self.n_requests:
            return None if self._price is None else 0.0
        return self.n_requests * models.highest(self._price, prompt / self.n_requests, self._longest)


class _JudgeCount:
    """Adds up the questions to one judge, each question once.

    Args:
        longest: most tokens of an answer that is judged.
    """

    def __init__(self, judge: Judging, longest: int) -> None:
        self.judge, self._longest = judge, longest
        self.answers: Answers | None = None
        self._price, self._tokens = models.price_of(judge.model), judge.model.generation.max_new_tokens
        self._n = self._prompt = self._prompt_at_most = 0
        self._keys: set[str] = set()

    def add(self, example: Example, prediction: str | None, redact: Redactor | None) -> None:
        """Count the questions about a prediction, or, if it is None, about one as long as is expected."""
        if "ground_truth" in self.judge.needs and not example.references:
            return
        missing = 0
        text = prediction
        if text is None:
            expected = _about_answer_tokens(_first(example), self._longest)
            text, missing = "abc " * expected, self._longest - expected
        for question in self.judge.questions(Rows([text], [example.references], [example.text], [example.metadata])):
            question = question if redact is None else question.redacted(redact)
            key = question.key
            kept = prediction is not None and self.answers is not None and self.answers.find(key) is not None
            if key not in self._keys and not kept:
                self._n += 1
                self._prompt += _about_prompt_tokens(question)
                self._prompt_at_most += _about_prompt_tokens(question) + missing
            self._keys.add(key)

    def dollars(self, n_examples: int) -> float | None:
        """Return the expected cost, with the examples that are judged twice, or None without a price."""
        if self._price is None or models.hourly_rate(self.judge.model):
            return None
        answer = min(VERDICT_TOKENS, self._tokens)
        return self._asked(n_examples) * self._price(self._prompt / self._n, answer) if self._n else 0.0

    def dollars_at_most(self, n_examples: int) -> float | None:
        """Return the cost if all attempts are needed, and all answers are as long as they may be."""
        if self._price is None or models.hourly_rate(self.judge.model):
            return None
        if not self._n:
            return 0.0
        mean = self._prompt_at_most / self._n
        again = self._tokens + models.about_tokens(AGAIN) + 8  # what each further attempt adds to the prompt
        prompts = [mean + attempt * again for attempt in range(self.judge.attempts)]
        return self._asked(n_examples) * sum(models.highest(self._price, prompt, self._tokens) for prompt in prompts)

    def _asked(self, n_examples: int) -> float:
        return self._n * (1 + min(self.judge.retest, n_examples) / max(1, n_examples))


class _Judges:
    """Adds up what the judges among metrics are asked about one model's answers."""

    def __init__(self, specs: Sequence[MetricSpec], model: Model, task: Task, redact: Redactor | None = None) -> None:
        self._counts: list[_JudgeCount] = []
        self._redact = redact
        for spec in specs:
            with suppress(LumigatorError):  # a metric that cannot be computed asks no model
                if registry.class_of(spec).runs_user_code:
                    continue
                metric = registry.create(spec)
                if isinstance(metric, (Judging, JuryMetric)):
                    metric.set_task(model.judged_by(task))
                    judges = metric.judges if isinstance(metric, JuryMetric) else [metric]
                    self._counts += [_JudgeCount(judge, model.generation.max_new_tokens) for judge in judges]

    def look_up(self, store: Store, opened: ExitStack) -> None:
        """Leave out questions whose answers are kept; these are closed with `opened`."""
        for count in self._counts:
            count.answers = _cached_answers(store, count.judge.model)
            if count.answers is not None:
                opened.callback(count.answers.close)

    def add(self, example: Example, prediction: str | None) -> None:
        """Count the questions about a prediction; None if it is not known yet."""
        for count in self._counts:
            count.add(example, prediction, self._redact)

    def dollars(self, n_examples: int) -> float | None:
        return _total([count.dollars(n_examples) for count in self._counts])

    def dollars_at_most(self, n_examples: int) -> float | None:
        return _total([count.dollars_at_most(n_examples) for count in self._counts])


def _total(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _first(example: Example) -> str | None:
    return example.references[0] if example.references else None


def _about_answer_tokens(truth: str | None, longest: int) -> int:
    return min(longest, models.about_tokens(truth)) if truth else longest


def _about_prompt_tokens(request: Request) -> int:
    # Chat formats add about four tokens to each message, such as its role.
    return sum(models.about_tokens(turn["content"]) + 4 for turn in request.messages)


@dataclass(frozen=True)
class _Rows:
    """The requests that a workflow would send for the examples of a dataset."""

    store: Store
    dataset: Dataset
    model: Model
    task: Task
    redact: Redactor

    def requests(self) -> Iterator[tuple[Request, Example]]:
        """Yield each request with its example; a row that does not fill the template is left out."""
        conversation = Conversation(self.task)
        repeats = Repeats() if models.draws_answers(self.model) else None
        path, sample = layout.examples(self.dataset.id), self.dataset.sample
        tables = results.iter_shards(self.store, path, None, ROWS_AT_ONCE, sample)
        for index, table in enumerate(tables):
            for example in results.examples_in(table, index * ROWS_AT_ONCE):
                with suppress(InvalidInputError):
                    request = conversation.request(example, self.redact).redacted(self.redact)
                    yield repeats.numbered(request) if repeats is not None else request, example


def _of_model(rows: _Rows, model: Model, pilot: Sequence[tuple[Request, Prediction]], judges: _Judges) -> Estimate:
    answers = _cached_answers(rows.store, model)
    count, seen = _Count(model), set[str]()
    try:
        for request, example in rows.requests():
            key = request.key
            kept = None if answers is None else answers.find(key)
            if key not in seen and kept is None:
                count.add(request, _first(example))
            seen.add(key)
            judges.add(example, None if kept is None else kept.text)
        return count.result(rows.dataset.n_examples, pilot, judges)
    finally:
        if answers is not None:
            answers.close()


def _cached_answers(store: Store, model: Model) -> Answers | None:
    if not models.keeps_answers(model):
        return None
    try:
        return open_answers(store, model, Launch(), "estimate")
    except UnavailableError:
        # The key of the answers contains the model's revision, which cannot be looked up now.
        return None


def _ask_pilot(
    rows: _Rows, model: Model, pilot: int, launch: Launch, budget: Budget
) -> list[tuple[Request, Prediction]]:
    """Ask a model examples drawn at random, within the budget that all pilots share."""
    n = rows.dataset.n_examples
    drawn = set(random.Random(0).sample(range(n), min(pilot, n)))  # noqa: S311
    answered: list[tuple[Request, Prediction]] = []
    owner = f"pilot-{uuid.uuid4().hex[:8]}"
    with (
        suppress(BudgetReachedError),  # then the estimate uses fewer answers, as its `basis` says
        CachedAsker(rows.store, launch, owner, rows.redact, budget) as ask,
    ):
        requests = [request for request, _ in rows.requests() if request.row in drawn]
        ask(model, requests, task=rows.task, took=lambda *pair: answered.append(pair))
    return answered
