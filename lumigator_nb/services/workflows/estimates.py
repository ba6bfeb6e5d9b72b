"""Estimates of what asking models costs, before anything is paid."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from lumigator_nb import models
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.engine.asking import CachedAsker, open_answers
from lumigator_nb.errors import BudgetReachedError, InvalidInputError, UnavailableError
from lumigator_nb.models import Budget, Conversation, Prediction, Repeats, Request
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Example, Launch, Model, Summarization, Task
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.answer_cache import Answers
from lumigator_nb.storage.store import Store

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Estimate:
    """What asking one model takes.

    Attributes:
        model: its label.
        examples: number of all examples; `to_ask` of them are not in the answer cache.
        prompt_tokens, completion_tokens: expected for those.
        dollars: expected cost, and `dollars_at_most` if every answer is as long as `max_new_tokens` allows. None if
            the model has no price.
        basis: "count", or "pilot of n".
    """

    model: str
    examples: int
    to_ask: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    dollars_at_most: float | None
    basis: str = "count"


def estimate(
    model: Model | str,
    examples: Sequence[str],
    task: Task | None = None,
    *,
    ground_truth: Sequence[str | None] | None = None,
) -> Estimate:
    """Return what it takes to have a model answer examples; nothing is asked, and no workspace is needed.

    Prompt tokens are estimated from the length of the prompts. An answer is expected to be as long as the ground truth
    or, without ground truth, as long as `max_new_tokens` allows.

    Examples:
        >>> estimate = lm.estimate("openai/gpt-4o-mini", ["The bus is late. We walk."])
        >>> estimate.examples, estimate.to_ask
        (1, 1)
        >>> 0 < estimate.dollars <= estimate.dollars_at_most
        True
    """
    model = Model(model) if isinstance(model, str) else model
    conversation = Conversation(model.worded(task or Summarization()))
    truths = ground_truth or [None] * len(examples)
    count = _Count(model)
    for row, (example, truth) in enumerate(zip(examples, truths, strict=True)):
        count.add(conversation.request(Example(row, example)), truth)
    return count.result(len(examples))


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
            estimates.append(_of_model(rows, model, answered))
    frame = pd.DataFrame([vars(estimate) for estimate in estimates])
    # Columns of None alone would be of type object.
    return frame.astype({"dollars": "float64", "dollars_at_most": "float64"})


class _Count:
    """Adds up the tokens and the cost of requests."""

    def __init__(self, model: Model) -> None:
        self._model, self._price = model, models.price_of(model)
        self._longest = model.generation.max_new_tokens
        self.n_requests = self.prompt_tokens = self.completion_tokens = 0

    def add(self, request: Request, truth: str | None) -> None:
        self.n_requests += 1
        self.prompt_tokens += _about_prompt_tokens(request)
        expected = models.about_tokens(truth) if truth else self._longest
        self.completion_tokens += min(self._longest, expected)

    def result(self, examples: int, pilot: Sequence[tuple[Request, Prediction]] = ()) -> Estimate:
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
        return Estimate(
            model=self._model.label,
            examples=examples,
            to_ask=self.n_requests,
            prompt_tokens=prompt,
            completion_tokens=completion,
            dollars=self._dollars(prompt, completion, cached),
            dollars_at_most=self._dollars(prompt, self.n_requests * self._longest, None),
            basis=f"pilot of {len(measured)}" if measured else "count",
        )

    def _dollars(self, prompt: int, completion: int, cached: tuple[float, float] | None) -> float | None:
        """Return the cost of these tokens.

        Args:
            cached: shares of the prompts' tokens that the provider reads from its prompt cache, and that it writes to
                it; None for the highest possible cost.
        """
        if self._price is None or not self.n_requests:
            return None if self._price is None else 0.0
        # The price of a mean request times their number, since some prices depend on the length of a prompt.
        prompt_length, answer_length = prompt / self.n_requests, completion / self.n_requests
        if cached is None:
            return self.n_requests * models.highest(self._price, prompt_length, answer_length)
        return self.n_requests * self._price(prompt_length, answer_length, *(share * prompt_length for share in cached))


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

    def requests(self) -> Iterator[tuple[Request, str | None]]:
        """Yield each request with its ground truth; a row that does not fill the template is left out."""
        conversation = Conversation(self.task)
        repeats = Repeats() if models.draws_answers(self.model) else None
        path, sample = layout.examples(self.dataset.id), self.dataset.sample
        tables = results.iter_shards(self.store, path, None, ROWS_AT_ONCE, sample)
        for index, table in enumerate(tables):
            for example in results.examples_in(table, index * ROWS_AT_ONCE):
                with suppress(InvalidInputError):
                    request = conversation.request(example, self.redact).redacted(self.redact)
                    truth = example.references[0] if example.references else None
                    yield repeats.numbered(request) if repeats is not None else request, truth


def _of_model(rows: _Rows, model: Model, pilot: Sequence[tuple[Request, Prediction]]) -> Estimate:
    answers = _cached_answers(rows.store, model)
    count, seen = _Count(model), set[str]()
    try:
        for request, truth in rows.requests():
            key = request.key
            if key not in seen and (answers is None or answers.find(key) is None):
                count.add(request, truth)
            seen.add(key)
        return count.result(rows.dataset.n_examples, pilot)
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
