"""What asking models would cost, told before it is paid."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lumigator_nb import layout, models, results
from lumigator_nb.answers import Answers, key_of
from lumigator_nb.errors import InvalidInputError, UnavailableError
from lumigator_nb.kept import open_answers
from lumigator_nb.models import Conversation, Prediction, Request
from lumigator_nb.records import Dataset, Experiment
from lumigator_nb.services.submission import Submitter
from lumigator_nb.specs import Launch, Model, Summarization, Task, is_ground_truth
from lumigator_nb.store import Store

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
    """
    chosen = Model(model) if isinstance(model, str) else model
    conversation = Conversation(chosen.worded(task or Summarization()))
    truths = ground_truth or [None] * len(examples)
    count = _Count(chosen)
    for row, (example, truth) in enumerate(zip(examples, truths, strict=True)):
        count.add(conversation.request(row, example, {}), truth)
    return count.result(len(examples))


def of_experiment(
    store: Store, experiment: Experiment, dataset: Dataset, chosen: Sequence[Model], pilot: int, submitter: Submitter
) -> pd.DataFrame:
    """Return one row per model; see :meth:`Workflows.estimate`."""
    if pilot < 0:
        raise InvalidInputError(f"pilot counts examples, got {pilot}")
    found = []
    for model in chosen:
        with submitter.keys_in_environment(model):
            found.append(_of_model(store, experiment, dataset, model, pilot, submitter))
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
        prompt, completion = self.prompt_tokens, self.completion_tokens
        measured = [(request, each) for request, each in pilot if each.prompt_tokens and each.completion_tokens]
        if measured:
            guessed = sum(
                models.about_tokens(turn["content"]) + 4 for request, _ in measured for turn in request.messages
            )
            prompt = round(prompt * sum(each.prompt_tokens or 0 for _, each in measured) / guessed)
            completion = round(self.asked * sum(each.completion_tokens or 0 for _, each in measured) / len(measured))
        price = self._price or (lambda *_: None)
        return Estimate(
            model=self._model.label,
            examples=examples,
            to_ask=self.asked,
            prompt_tokens=prompt,
            completion_tokens=completion,
            dollars=price(prompt, completion) if self.asked else (0.0 if self._price else None),
            dollars_at_most=price(prompt, self.asked * self._longest),
            basis=f"pilot of {len(measured)}" if measured else "count",
        )


def _of_model(
    store: Store, experiment: Experiment, dataset: Dataset, model: Model, pilot: int, submitter: Submitter
) -> Estimate:
    task = model.worded(experiment.task)
    conversation = Conversation(task)
    answers = _kept_answers(store, model)
    try:
        asked: list[tuple[Request, Prediction]] = []
        if pilot and answers is not None and models.price_of(model):
            asked = _ask_pilot(store, dataset, conversation, model, pilot, answers, submitter, task)
        count, keys = _Count(model), set()
        for request, truth in _requests(store, dataset, conversation):
            key = key_of(request)
            if key not in keys and (answers is None or answers.find(key) is None):
                keys.add(key)
                count.add(request, truth)
        return count.result(dataset.n_examples, asked)
    finally:
        if answers is not None:
            answers.close()


def _kept_answers(store: Store, model: Model) -> Answers | None:
    if not models.keeps_answers(model):
        return None
    try:
        return open_answers(store, model, Launch(), f"pilot-{uuid.uuid4().hex[:8]}")
    except UnavailableError:
        # Which weights a name stands for cannot be asked now, so nothing is known to be answered.
        return None


def _ask_pilot(
    store: Store,
    dataset: Dataset,
    conversation: Conversation,
    model: Model,
    pilot: int,
    answers: Answers,
    submitter: Submitter,
    task: Task,
) -> list[tuple[Request, Prediction]]:
    rows = set(random.Random(0).sample(range(dataset.n_examples), min(pilot, dataset.n_examples)))  # noqa: S311
    drawn = [request for request, _ in _requests(store, dataset, conversation) if request.row in rows]
    found = [(request, answers.find(key_of(request))) for request in drawn]
    known = [(request, kept) for request, kept in found if kept is not None]
    redact = submitter.redact
    new = []
    for request, prediction in models.load(model, task).answer([each for each, kept in found if kept is None]):
        clean = replace(prediction, text=redact(prediction.text) if prediction.text else prediction.text)
        answers.keep(key_of(request), clean)
        new.append((request, clean))
    return known + new


def _requests(store: Store, dataset: Dataset, conversation: Conversation) -> Iterator[tuple[Request, str | None]]:
    for index, table in enumerate(
        results.iter_shards(store, layout.examples(dataset.id), None, ROWS_AT_ONCE, dataset.sample)
    ):
        for at, values in enumerate(table.to_pylist()):
            truth, example = values.get("ground_truth"), values.pop("example")
            metadata = {name: value for name, value in values.items() if not is_ground_truth(name)}
            yield conversation.request(index * ROWS_AT_ONCE + at, example, metadata), truth
