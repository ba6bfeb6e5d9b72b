"""The one place that asks a model: look up, ask equal questions once, hold the budget, redact, ask, redact, keep.

Inference, judges, pilots, races, pairwise judging and `models.predict` all come through :class:`GuardedModel`; they
differ only in what they ask, in where answers are kept, and in what they do with them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol

from lumigator_nb.errors import BudgetReachedError
from lumigator_nb.models import base
from lumigator_nb.models.base import LanguageModel, Prediction, Request
from lumigator_nb.models.prices import SharedTime, highest, hourly_rate, price_of
from lumigator_nb.models.tokens import most_tokens
from lumigator_nb.security.redaction import Redactor, redactor
from lumigator_nb.specs import Model, Task

# Takes a question, its answer, and whether the answer was paid for now, rather than found or shared with an equal one.
Take = Callable[[Request, Prediction, bool], None]


class AnswerCache(Protocol):
    """Answers by the keys of their questions; :class:`lumigator_nb.storage.answer_cache.Answers` is one."""

    def find(self, key: str) -> Prediction | None: ...

    def keep(self, key: str, prediction: Prediction) -> None: ...


class _Memory:
    """Answers that are kept as long as this object."""

    def __init__(self) -> None:
        self._answers: dict[str, Prediction] = {}

    def find(self, key: str) -> Prediction | None:
        return self._answers.get(key)

    def keep(self, key: str, prediction: Prediction) -> None:
        if prediction.text is not None:
            self._answers[key] = replace(prediction, cached=True)


class Budget:
    """Dollars that one or several models may cost together; it may be used by several threads.

    Args:
        dollars: None sets no bound.
        spent: dollars of them that earlier attempts have spent.

    Attributes:
        paid: dollars that answers have cost since.
    """

    def __init__(self, dollars: float | None = None, spent: float = 0.0) -> None:
        self.dollars = dollars
        self.paid = 0.0
        self._spent = spent
        self._reserved = 0.0
        self._lock = threading.Lock()

    def reserve(self, dollars: float) -> bool:
        """Set dollars aside for a question; False where there are not as many left."""
        with self._lock:
            if self.dollars is not None and self._spent + self.paid + self._reserved + dollars > self.dollars:
                return False
            self._reserved += dollars
            return True

    def settle(self, reserved: float, paid: float) -> None:
        """Replace the dollars that were set aside for a question by what its answer cost."""
        with self._lock:
            self._reserved -= reserved
            self.paid += paid

    def exceeded(self) -> BudgetReachedError:
        """Return the error for a question that cannot be paid for."""
        return BudgetReachedError(
            f"${self._spent + self.paid:.4f} of the budget of ${self.dollars:.4f} are spent, "
            "and the next question might exceed it",
            "raise it and go on where it stopped: ws.workflows.resume(…, budget=…)",
        )


class Repeats(Counter[str]):
    """Counts equal questions to a model that draws its answers at random: each has an answer of its own."""

    def numbered(self, request: Request) -> Request:
        """Return the request with the number of equal ones before it."""
        self[request.key] += 1
        before = self[request.key] - 1
        return replace(request, occurrence=before) if before else request


def draws_answers(model: Model) -> bool:
    """Whether the same question may be answered differently each time, so that one kept answer does not serve all."""
    return model.generation.temperature > 0 and base.get(model.provider).keeps_answers


class GuardedModel:
    """A model behind its kept answers, a budget and redaction; one thread at a time may ask it.

    Args:
        model: which one.
        load: loads it; called when the first question needs it.
        redact: takes secrets out of questions, before they are looked up and sent, and out of answers.
        cache: where answers are looked up and kept; None asks every question, equal ones too: a function of the user's
            may answer by the metadata, which are no part of the key.
        budget: may be shared with other models.
        batch: the provider's batch service is asked, which has prices of its own.
        repeats: numbers equal questions, where each is to have an answer of its own; None has them share one.

    Attributes:
        loaded: the model; None as long as no question needed it.
    """

    def __init__(
        self,
        model: Model,
        load: Callable[[], LanguageModel],
        redact: Redactor,
        *,
        cache: AnswerCache | None = None,
        budget: Budget | None = None,
        batch: bool = False,
        repeats: Repeats | None = None,
    ) -> None:
        self._load, self._redact, self._cache, self._repeats = load, redact, cache, repeats
        self._budget = budget or Budget()
        self._price = price_of(model, batch=batch) if self._budget.dollars is not None else None
        self._longest = model.generation.max_new_tokens
        # Where the model's machine costs by the hour: its time, and the most dollars that an answer's share has cost.
        self._per_second, self._time, self._dearest = hourly_rate(model) / 3600, SharedTime(), 0.0
        self.loaded: LanguageModel | None = None
        # Of the questions that are under way, by row: the key, and the dollars that are set aside.
        self._keys: dict[int, str] = {}
        self._reserved: dict[int, float] = {}
        # Questions that wait for the answer to an equal one, by key.
        self._twins: dict[str, list[Request]] = {}
        self._counted: set[str] = set()

    def answer(self, requests: Iterable[Request], take: Take) -> None:
        """Hand over the answer to each question as it comes; questions are taken only as there is room for them.

        Raises:
            BudgetReachedError: the next question might exceed the budget; what was answered is kept.
            LumigatorError: no further question can be answered.
        """
        self._keys.clear()
        self._twins.clear()
        pending = self._unanswered(requests, take)
        request = next(pending, None)
        try:
            while request is not None:
                self.loaded = self.loaded or self._load()
                too_dear: list[Request] = []
                n_answered = 0
                for question, prediction in self.loaded.answer(self._affordable(chain([request], pending), too_dear)):
                    n_answered += 1
                    if self._per_second:
                        prediction = self._with_machine(question, prediction)
                    self._settle(question, cleaned(prediction, self._redact), take)
                if too_dear and not n_answered:
                    raise self._budget.exceeded()
                # Questions under way were reserved at their highest price. Once they are settled money may be left.
                request = too_dear[0] if too_dear else next(pending, None)
        finally:
            self._time.clear()
            while self._reserved:
                self._budget.settle(self._reserved.popitem()[1], 0.0)

    def answers(
        self, requests: Sequence[Request], took: Take = lambda request, prediction, paid_now: None
    ) -> list[tuple[Request, Prediction]]:
        """Return the answers to questions, each beside its question without secrets, in the order in which they came.

        Where one answer serves several equal questions, the first of them carries its cost, and the others none.

        Args:
            took: called with each as it comes.

        Raises:
            As :meth:`answer`.
        """
        pairs: list[tuple[Request, Prediction]] = []

        def take(request: Request, prediction: Prediction, paid_now: bool) -> None:
            if prediction.cost is not None:
                key = request.key
                prediction = replace(prediction, cost=None) if key in self._counted else prediction
                self._counted.add(key)
            pairs.append((request, prediction))
            took(request, prediction, paid_now)

        self.answer(requests, take)
        return pairs

    def _unanswered(self, requests: Iterable[Request], take: Take) -> Iterator[Request]:
        """Yield the questions that the model must be asked; the others are answered here, or wait for their twin."""
        for raw in requests:
            request = raw.redacted(self._redact)
            if self._cache is None:
                yield request
                continue
            if self._repeats is not None:
                request = self._repeats.numbered(request)
            key = request.key
            kept = self._cache.find(key)
            if kept is not None:
                # It may have been kept before one of today's secrets was known.
                take(request, cleaned(kept, self._redact), False)
            elif key in self._twins:
                self._twins[key].append(request)
            else:
                self._twins[key], self._keys[request.row] = [], key
                yield request

    def _affordable(self, requests: Iterator[Request], too_dear: list[Request]) -> Iterator[Request]:
        """Yield questions as long as there is money for them; the first that is too dear is put aside."""
        for request in requests:
            if self._price is not None:
                prompt = sum(most_tokens(turn["content"]) for turn in request.messages)
                most = highest(self._price, prompt, self._longest) + self._dearest
                if not self._budget.reserve(most):
                    too_dear.append(request)
                    return
                self._reserved[request.row] = most
            if self._per_second:
                self._time.begin(request.row)
            yield request

    def _with_machine(self, request: Request, prediction: Prediction) -> Prediction:
        """Return the prediction with its share of the machine's time in its cost."""
        dollars = self._time.end(request.row) * self._per_second
        self._dearest = max(self._dearest, dollars)
        return replace(prediction, cost=(prediction.cost or 0.0) + dollars)

    def _settle(self, request: Request, prediction: Prediction, take: Take) -> None:
        reserved = self._reserved.pop(request.row, 0.0)
        if reserved or prediction.cost:
            self._budget.settle(reserved, prediction.cost or 0.0)
        twins: Sequence[Request] = ()
        if self._cache is not None:
            key = self._keys.pop(request.row)
            self._cache.keep(key, prediction)
            twins = self._twins.pop(key)
        take(request, prediction, True)
        for twin in twins:
            take(twin, replace(prediction, cached=prediction.text is not None), False)


def ask_here(
    model: Model, task: Task, requests: Sequence[Request], repeats: Repeats | None = None
) -> list[tuple[Request, Prediction]]:
    """Ask here and now: nothing is stored, so that every call asks anew, and no secret of the environment is sent.

    Args:
        repeats: as of :class:`GuardedModel`.

    Raises:
        As :func:`lumigator_nb.models.check` and :func:`lumigator_nb.models.load`.
    """
    provider = base.get(model.provider)
    provider.check(model)
    cache = _Memory() if provider.keeps_answers else None
    guarded = GuardedModel(
        model, lambda: provider.load(model, task, lambda note: None), redactor(), cache=cache, repeats=repeats
    )
    return guarded.answers(requests)


def cleaned(prediction: Prediction, redact: Redactor) -> Prediction:
    """Return a prediction without secrets."""
    texts = {name: getattr(prediction, name) for name in ("text", "error", "prompt", "reasoning")}
    clean: dict[str, Any] = {name: redact(text) if text else text for name, text in texts.items()}
    return prediction if clean == texts else replace(prediction, **clean)
