"""What asking models would cost, told before it is paid."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from lumigator_nb import models
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.engine.asking import KeptAsking, open_answers
from lumigator_nb.engine.inference import request_of
from lumigator_nb.errors import BudgetReachedError, InvalidInputError, UnavailableError
from lumigator_nb.models import Conversation, Prediction, Request
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.services.workflows.submission import Submitter
from lumigator_nb.specs import Launch, Model, Summarization, Task
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.answer_cache import Answers, key_of
from lumigator_nb.storage.store import Store

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Estimate:
    """What asking one model would take.

    Attributes:
        model: its label.
        examples: in all; `to_ask` of them are not in the store yet.
        prompt_tokens, completion_tokens: expected for those.
        dollars: expected; `dollars_at_most` where every answer is as long as `max_new_tokens` allows. None: no price.
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
    """Return what a model would take to answer examples; nothing is asked, and no workspace is needed.

    Tokens are counted from the length of the prompts, answers taken to be as long as the ground truth where there is
    some, and else as long as they may be.

    Examples:
        >>> found = lm.estimate("openai/gpt-4o-mini", ["The bus is late. We walk."])
        >>> found.examples, found.to_ask
        (1, 1)
        >>> 0 < found.dollars <= found.dollars_at_most
        True
    """
    chosen = Model(model) if isinstance(model, str) else model
    conversation = Conversation(chosen.worded(task or Summarization()))
    truths = ground_truth or [None] * len(examples)
    count = _Count(chosen)
    for row, (example, truth) in enumerate(zip(examples, truths, strict=True)):
        count.add(conversation.request(row, example, {}), truth)
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
        raise InvalidInputError(f"pilot counts examples, got {pilot}")
    found, launch, paid = [], Launch(budget=budget), 0.0
    for model in chosen:
        with submitter.keys_in_environment(model):
            rows = _Rows(store, dataset, model.worded(experiment.task), submitter.redact)
            asked: list[tuple[Request, Prediction]] = []
            if pilot and models.keeps_answers(model) and models.price_of(model):
                asked, cost = _ask_pilot(rows, model, pilot, launch, paid)
                paid += cost
            found.append(_of_model(rows, model, asked))
    frame = pd.DataFrame([vars(each) for each in found])
    return frame.astype({"dollars": "float64", "dollars_at_most": "float64"})


class _Count:
    """Adds up what requests take."""

    def __init__(self, model: Model) -> None:
        self._model, self._price = model, models.price_of(model)
        self._longest = model.generation.max_new_tokens
        self.asked = self.prompt_tokens = self.completion_tokens = 0

    def add(self, request: Request, truth: str | None) -> None:
        self.asked += 1
        self.prompt_tokens += sum(models.about_tokens(turn["content"]) + 4 for turn in request.messages)
        expected = models.about_tokens(truth) if truth else self._longest
        self.completion_tokens += min(self._longest, expected)

    def result(self, examples: int, pilot: Sequence[tuple[Request, Prediction]] = ()) -> Estimate:
        prompt, completion, cached = self.prompt_tokens, self.completion_tokens, (0.0, 0.0)
        measured = [(request, each) for request, each in pilot if each.prompt_tokens and each.completion_tokens]
        if measured:
            guessed = sum(
                models.about_tokens(turn["content"]) + 4 for request, _ in measured for turn in request.messages
            )
            prompt = round(prompt * sum(each.prompt_tokens or 0 for _, each in measured) / guessed)
            completion = round(self.asked * sum(each.completion_tokens or 0 for _, each in measured) / len(measured))
            cached = _cached_shares([each for _, each in measured])
        return Estimate(
            model=self._model.label,
            examples=examples,
            to_ask=self.asked,
            prompt_tokens=prompt,
            completion_tokens=completion,
            dollars=self._dollars(prompt, completion, cached),
            dollars_at_most=self._dollars(prompt, self.asked * self._longest, None),
            basis=f"pilot of {len(measured)}" if measured else "count",
        )

    def _dollars(self, prompt: int, completion: int, cached: tuple[float, float] | None) -> float | None:
        """What that many tokens cost; `cached` None: at most."""
        if self._price is None or not self.asked:
            return None if self._price is None else 0.0
        # One question at a time, since some prices depend on how long a prompt is.
        each, answer = prompt / self.asked, completion / self.asked
        if cached is None:
            return self.asked * models.highest(self._price, each, answer)
        return self.asked * self._price(each, answer, *(share * each for share in cached))


def _cached_shares(answers: Sequence[Prediction]) -> tuple[float, float]:
    """The shares of the prompts' tokens that the provider took from its prompt cache, and that it put there."""
    asked = sum(each.prompt_tokens or 0 for each in answers)
    read, written = (
        sum(getattr(each, name) or 0 for each in answers) for name in ("cache_read_tokens", "cache_write_tokens")
    )
    return read / asked, written / asked


@dataclass(frozen=True)
class _Rows:
    """What a workflow would ask about each example, as it would ask it."""

    store: Store
    dataset: Dataset
    task: Task
    redact: Redactor

    def requests(self) -> Iterator[tuple[Request, str | None]]:
        """Each question with its ground truth; a row that the template cannot be filled in with is not asked."""
        conversation = Conversation(self.task)
        path, sample = layout.examples(self.dataset.id), self.dataset.sample
        examples = results.iter_shards(self.store, path, None, ROWS_AT_ONCE, sample)
        for index, table in enumerate(examples):
            for at, values in enumerate(table.to_pylist()):
                with suppress(InvalidInputError):
                    request = request_of(conversation, self.redact, index * ROWS_AT_ONCE + at, values)
                    yield request, values.get("ground_truth")


def _of_model(rows: _Rows, model: Model, pilot: Sequence[tuple[Request, Prediction]]) -> Estimate:
    answers = _kept_answers(rows.store, model)
    # Where answers are drawn at random, each time the same is asked has an answer of its own.
    samples = answers is not None and model.generation.temperature > 0
    count, seen = _Count(model), Counter[str]()
    try:
        for request, truth in rows.requests():
            question = key_of(request)
            key = key_of(request, seen[question]) if samples else question
            is_new = samples or question not in seen
            seen[question] += 1
            if is_new and (answers is None or answers.find(key) is None):
                count.add(request, truth)
        return count.result(rows.dataset.n_examples, pilot)
    finally:
        if answers is not None:
            answers.close()


def _kept_answers(store: Store, model: Model) -> Answers | None:
    if not models.keeps_answers(model):
        return None
    try:
        return open_answers(store, model, Launch(), "estimate")
    except UnavailableError:
        # Which weights a name stands for cannot be asked now, so nothing is known to be answered.
        return None


def _ask_pilot(
    rows: _Rows, model: Model, pilot: int, launch: Launch, paid: float
) -> tuple[list[tuple[Request, Prediction]], float]:
    """Have a model answer examples drawn at random, as far as the budget goes.

    Args:
        paid: dollars that other models' pilots took of the budget.

    Returns:
        Questions and answers; and the dollars that were paid for them now.
    """
    n = rows.dataset.n_examples
    drawn = set(random.Random(0).sample(range(n), min(pilot, n)))  # noqa: S311
    costs: list[float] = []
    asking = KeptAsking(
        rows.store, launch, f"pilot-{uuid.uuid4().hex[:8]}", rows.redact, rows.task, lambda note: None,
        spent=lambda _: paid, answered=lambda cost: costs.append(cost or 0.0),
    )  # fmt: skip
    answered: list[tuple[Request, Prediction]] = []
    with suppress(BudgetReachedError):  # the estimate rests on fewer answers then, and says so
        for pair in asking(model, [request for request, _ in rows.requests() if request.row in drawn]):
            answered.append(pair)
    return answered, sum(costs)
