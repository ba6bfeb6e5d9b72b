"""Ask models through the answers that the store keeps, within the budget of a launch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from lumigator_nb import metrics, models
from lumigator_nb.errors import LumigatorError
from lumigator_nb.metrics.judges.judge import TASK
from lumigator_nb.models import Budget, GuardedModel, Prediction, Repeats, Report, Request
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Launch, Model, Task, WorkflowSpec, digest
from lumigator_nb.storage import answer_cache, layout
from lumigator_nb.storage.answer_cache import Answers
from lumigator_nb.storage.store import Store


def open_answers(
    store: Store,
    model: Model,
    launch: Launch,
    owner: str,
    report: Report = lambda note: None,
    *,
    joins: bool = True,
    shares_owner: bool = False,
) -> Answers:
    """Open the kept answers of a model that has some.

    Args:
        owner: names the files of new answers.
        joins: as of :class:`Answers`.
        shares_owner: other models have the same owner and may be asked the same questions, as the judges of a jury.
    """
    folder = _folder(model, launch, owner, report, shares_owner=shares_owner)
    return Answers(store, folder, owner, takes_others=launch.cache == "on", joins=joins)


def _folder(model: Model, launch: Launch, owner: str, report: Report, *, shares_owner: bool) -> str:
    if launch.cache == "off":
        return layout.own_answers(owner, model.fingerprint if shares_owner else None)
    identity = models.identify(model, report)
    return layout.answers(digest([model.fingerprint, identity]) if identity else model.fingerprint)


def open_budget(store: Store, launch: Launch, payees: Iterable[tuple[Model, str]]) -> Budget:
    """Return the budget of a launch, less what earlier attempts spent of it.

    Args:
        payees: each model that may be asked, and the owner of its answers.
    """
    if launch.budget is None:
        return Budget()
    folders = {
        (_folder(model, launch, owner, lambda note: None, shares_owner=shares_owner), owner)
        for model, owner in payees
        if models.keeps_answers(model) and models.price_of(model) is not None
        for shares_owner in (False, True)
    }
    return Budget(launch.budget, sum(answer_cache.spent(store, *folder) for folder in folders))


def budget_of(store: Store, spec: WorkflowSpec) -> Budget:
    """Return what is left of a workflow's budget, which its model and all judges share."""
    asked = [spec.model]
    for metric in spec.metrics if spec.launch.budget is not None else ():
        with suppress(LumigatorError):  # a metric that is not installed asks no model; it is reported where it scores
            if not metrics.class_of(metric).runs_user_code:
                asked += metrics.models_of([metric])
    return open_budget(store, spec.launch, [(model, spec.workflow_id) for model in asked])


class CachedAsker:
    """Asks several models through their kept answers, within one budget; leaving the context closes the files.

    Several threads may ask at once, each a different model.

    Args:
        owner: names the files of new answers.
        redact: takes secrets out of questions and answers.
        note: takes a model's label and a short note on it, such as "loading the model".
        paid: called with the dollars of each new answer, None without a price.
    """

    def __init__(
        self,
        store: Store,
        launch: Launch,
        owner: str,
        redact: Redactor,
        budget: Budget,
        *,
        note: Callable[[str, str], None] = lambda label, text: None,
        paid: Callable[[float | None], None] = lambda cost: None,
    ) -> None:
        self._store, self._launch, self._owner, self._redact, self._budget = store, launch, owner, redact, budget
        self._note, self._paid = note, paid
        self._answers: dict[str, Answers | None] = {}
        self._guarded: dict[tuple[str, str], GuardedModel] = {}
        self._opened = ExitStack()

    def __enter__(self) -> CachedAsker:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __call__(
        self,
        model: Model,
        requests: Sequence[Request],
        *,
        task: Task = TASK,
        repeats: Repeats | None = None,
        took: Callable[[Request, Prediction], None] = lambda request, prediction: None,
    ) -> list[tuple[Request, Prediction]]:
        """Return the answers to questions; arguments, result and errors as of :meth:`GuardedModel.answers`.

        Args:
            task: what the model is loaded for.
            repeats: as of :class:`GuardedModel`; the same in each call for the same model.
        """

        def take(request: Request, prediction: Prediction, paid_now: bool) -> None:
            if paid_now:
                self._paid(prediction.cost)
            took(request, prediction)

        return self._guard(model, task, repeats).answers(requests, take)

    def _guard(self, model: Model, task: Task, repeats: Repeats | None) -> GuardedModel:
        name = (model.fingerprint, task.kind)
        if name not in self._guarded:
            report = partial(self._note, model.label)
            self._guarded[name] = GuardedModel(
                model, lambda: models.load(model, task, report), self._redact,
                cache=self._open(model, report), budget=self._budget, repeats=repeats,
            )  # fmt: skip
        return self._guarded[name]

    def _open(self, model: Model, report: Report) -> Answers | None:
        if not models.keeps_answers(model):
            return None
        # One for each model, as contender and as judge: at the end its files are joined.
        if model.fingerprint not in self._answers:
            answers = open_answers(self._store, model, self._launch, self._owner, report, shares_owner=True)
            self._opened.callback(answers.close)
            self._answers[model.fingerprint] = answers
        return self._answers[model.fingerprint]
