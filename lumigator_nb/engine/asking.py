"""Asking a model whose answers are kept: none is asked for twice, and none beyond the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from lumigator_nb import models
from lumigator_nb.errors import BudgetReachedError
from lumigator_nb.models import LanguageModel, Prediction, Report, Request
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Launch, Model, Task, digest
from lumigator_nb.storage import layout
from lumigator_nb.storage.answer_cache import Answers, key_of
from lumigator_nb.storage.store import Store


def open_answers(
    store: Store,
    model: Model,
    launch: Launch,
    owner: str,
    report: Report = lambda note: None,
    *,
    joins: bool = True,
) -> Answers:
    """Open the kept answers of a model that has some.

    Args:
        owner: whose files new answers go to.
        joins: as of :class:`Answers`.
    """
    if launch.cache == "off":
        return Answers(store, layout.own_answers(owner), owner, joins=joins)
    identity = models.identify(model, report)
    fingerprint = digest([model.fingerprint, identity]) if identity else model.fingerprint
    return Answers(store, layout.answers(fingerprint), owner, takes_others=launch.cache == "on", joins=joins)


class KeptAsking:
    """Asks any model, as judges do: answers that the store has are taken, new ones are kept as they come.

    No secret goes along: questions are redacted before they are looked up and sent, and answers before they are kept.

    Args:
        owner: whose files new answers go to.
        redact: takes secrets out of questions and answers.
        spent: says how many dollars of the budget models other than this have taken.
        answered: called with the dollars of each new answer, None without a price.
    """

    def __init__(
        self,
        store: Store,
        launch: Launch,
        owner: str,
        redact: Redactor,
        task: Task,
        report: Report,
        *,
        spent: Callable[[Model], float] = lambda model: 0.0,
        answered: Callable[[float | None], None] = lambda cost: None,
    ) -> None:
        self._store, self._launch, self._owner, self._redact, self._task = store, launch, owner, redact, task
        self._report, self._spent, self._answered = report, spent, answered
        self._loaded: dict[str, LanguageModel] = {}

    def __call__(
        self, model: Model, requests: Sequence[Request], occurrence: int = 0
    ) -> Iterator[tuple[Request, Prediction]]:
        """Yield answers as they come, each beside its question without secrets; equal questions are asked once.

        Args:
            occurrence: tells apart answers to the same question.

        Raises:
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.
            LumigatorError: no further question can be answered.
        """
        requests = [request.redacted(self._redact) for request in requests]
        if not models.keeps_answers(model):
            for request, prediction in self._load(model).answer(requests):
                yield request, cleaned(prediction, self._redact)
            return
        answers = open_answers(self._store, model, self._launch, self._owner, self._report)
        try:
            yield from self._ask(model, requests, occurrence, answers)
        finally:
            answers.close()

    def _ask(
        self, model: Model, requests: Sequence[Request], occurrence: int, answers: Answers
    ) -> Iterator[tuple[Request, Prediction]]:
        twins: dict[str, list[Request]] = {}
        pending: list[Request] = []
        for request in requests:
            key = key_of(request, occurrence)
            kept = None if key in twins else answers.find(key)
            if kept is not None:
                yield request, kept
            else:
                pending += [] if key in twins else [request]
                twins.setdefault(key, []).append(request)
        # Adding up what others spent reads all predictions, so it is done only where there is a budget.
        spent = self._spent(model) if self._launch.budget is not None else 0.0
        purse = Purse(model, self._launch.model_copy(update={"mode": "direct"}), answers, spent=spent)
        source = iter(pending)
        while (first := next(source, None)) is not None:
            affordable = purse.within(first, source)
            asked = 0
            for request, prediction in self._load(model).answer(affordable):
                asked += 1
                clean = cleaned(prediction, self._redact)
                purse.settle(request, clean)
                key = key_of(request, occurrence)
                answers.keep(key, clean)
                self._answered(clean.cost)
                for position, twin in enumerate(twins[key]):
                    yield twin, clean if not position else replace(clean, cost=None)
            source = chain(affordable.left_over, source)
            if not asked:
                raise purse.exceeded()

    def _load(self, model: Model) -> LanguageModel:
        if model.fingerprint not in self._loaded:
            self._loaded[model.fingerprint] = models.load(model, self._task, self._report)
        return self._loaded[model.fingerprint]


def spent_by(store: Store, model: Model, launch: Launch, owner: str) -> float:
    """Return the dollars that an owner of answers has paid to a model, in all attempts; 0 where it has no price."""
    if not models.keeps_answers(model) or models.price_of(model) is None:
        return 0.0
    answers = open_answers(store, model, launch, owner)
    try:
        return answers.spent()
    finally:
        answers.close()


def cleaned(prediction: Prediction, redact: Redactor) -> Prediction:
    """Return a prediction without secrets."""
    texts = {name: getattr(prediction, name) for name in ("text", "error", "prompt", "reasoning")}
    clean: dict[str, Any] = {name: redact(text) if text else text for name, text in texts.items()}
    return prediction if clean == texts else replace(prediction, **clean)


@dataclass
class _Affordable:
    """Requests as long as there is money for them; the first that is too dear is left over."""

    purse: Purse
    requests: Iterator[Request]
    left_over: list[Request]

    def __iter__(self) -> Iterator[Request]:
        for request in self.requests:
            if not self.purse.reserve(request):
                self.left_over.append(request)
                return
            yield request


class Purse:
    """Keeps a workflow within its budget: what is under way counts with the most that it may cost.

    Args:
        spent: dollars that went to other models already.
    """

    def __init__(self, model: Model, launch: Launch, answers: Answers | None, *, spent: float = 0.0) -> None:
        self._budget = launch.budget
        self._price = models.price_of(model) if self._budget is not None else None
        self._discount = models.BATCH_DISCOUNT if launch.mode == "batch" else 1.0
        self._longest = model.generation.max_new_tokens
        self._spent = spent + (answers.spent() if answers is not None and self._price else 0.0)
        self._reserved: dict[int, float] = {}
        self._reserved_sum = 0.0

    def within(self, first: Request, more: Iterator[Request]) -> _Affordable:
        """Return the requests that can be paid for."""
        return _Affordable(self, chain([first], more), [])

    def reserve(self, request: Request) -> bool:
        """Set money aside for a request; False where it might not suffice."""
        if self._budget is None or self._price is None:
            return True
        prompt = sum(models.most_tokens(turn["content"]) for turn in request.messages)
        most = models.highest(self._price, prompt, self._longest) * self._discount
        if self._spent + self._reserved_sum + most > self._budget:
            return False
        self._reserved[request.row] = most
        self._reserved_sum += most
        return True

    def settle(self, request: Request, prediction: Prediction) -> None:
        """Replace what was set aside by what it cost."""
        if request.row in self._reserved:
            self._reserved_sum -= self._reserved.pop(request.row)
            self._spent += prediction.cost or 0.0

    def exceeded(self) -> BudgetReachedError:
        """The error that says so."""
        return BudgetReachedError(
            f"${self._spent:.4f} of the budget of ${self._budget:.4f} are spent, and the next question might exceed it",
            "raise it and go on where it stopped: ws.workflows.resume(…, budget=…)",
        )
