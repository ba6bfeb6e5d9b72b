"""Judges: metrics that ask a language model (G-Eval, Liu et al. 2023, https://aclanthology.org/2023.emnlp-main.153)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lumigator_nb import models
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import Metric, Needed, Rows, ScoreInfo, Scores, choice
from lumigator_nb.metrics.judges import criteria, verdicts
from lumigator_nb.metrics.judges.criteria import Criterion, Material
from lumigator_nb.metrics.judges.verdicts import Verdict
from lumigator_nb.metrics.registry import create, metric_class
from lumigator_nb.models import Conversation, Prediction, Request
from lumigator_nb.specs import Example, MetricSpec, Model, Task, digest

# Asks a model some questions.
Ask = Callable[[Model, Sequence[Request]], Iterable[tuple[Request, Prediction]]]

DEFAULT_MODEL = "openai/gpt-4o-mini"
DEFAULT_SCALE = (1, 5)
RETESTED, ATTEMPTS = 20, 3
MAX_NEW_TOKENS = 256
TASK = Task(kind="text_generation", prompt="judge")
# What the OpenAI protocol allows at most.
_ALTERNATIVES = 20


def Judge(  # noqa: N802 - reads like the class it makes
    criterion: str,
    model: str | Model = DEFAULT_MODEL,
    *,
    description: str | None = None,
    scale: tuple[int, int] = DEFAULT_SCALE,
    ground_truth: bool = False,
    weighted: bool = True,
    retest: int = RETESTED,
    attempts: int = ATTEMPTS,
    name: str | None = None,
) -> MetricSpec:
    """Return the metric that asks a language model for a score by one criterion.

    Args:
        criterion: "coherence", "consistency", "fluency", "relevance" (for summaries), "quality", or your own.
        model: the judge; any model that can be launched.
        description: what your own criterion means, in words.
        scale: the worst and the best whole number.
        ground_truth: show the judge the references, too.
        weighted: where the provider returns the probabilities of the numbers, take their mean instead of the likeliest.
        retest: number of examples that are judged twice, to measure how far the judge agrees with itself.
        attempts: how often to ask at most, where an answer cannot be read.
        name: of the score; default the criterion's.

    Raises:
        UnknownModelError, InvalidInputError: the model or a setting cannot work.

    Examples:
        >>> judge = lm.Judge("tone", "openai/gpt-4o-mini", description="Is the answer friendly?", scale=(1, 3))
        >>> judge.options["scale"]
        [1, 3]
        >>> judge = lm.Judge("fluency", model)
        >>> lm.score(["Ben is late."], examples=["Ben: I am late."], metrics=judge).columns.tolist()
        ['fluency']
    """
    chosen = Model(model) if isinstance(model, str) else model
    options = {
        "criterion": criterion,
        "model": chosen.model_dump(mode="json"),
        "description": description,
        "scale": list(scale),
        "ground_truth": ground_truth,
        "weighted": weighted,
        "retest": retest,
        "attempts": attempts,
        "name": name or criterion,
    }
    defaults = {"description": None, "scale": list(DEFAULT_SCALE), "ground_truth": False, "weighted": True,
                "retest": RETESTED, "attempts": ATTEMPTS, "name": criterion}  # fmt: skip
    spec = MetricSpec(
        name=JudgeMetric.name,
        options={key: value for key, value in options.items() if key not in defaults or value != defaults[key]},
    )
    create(spec)
    return spec


class Judging(Metric):
    """Base of the metrics that ask one model for scores.

    Attributes:
        given: the judge's model as configured; `model` has the settings for readable answers besides.
        criteria: one score each.
        retest: number of examples that are judged twice.
        attempts: how often to ask at most, where an answer cannot be read.
        ask: asks a model questions; by default here and now, without keeping the answers.
    """

    def __init__(
        self,
        asked: Sequence[Criterion],
        names: Sequence[str],
        model: Model,
        *,
        scale: Sequence[int],
        weighted: bool,
        retest: int,
        attempts: int,
    ) -> None:
        self.criteria = tuple(asked)
        low, high = (scale[0], scale[1]) if len(scale) == 2 else (1, 0)
        if not all(isinstance(bound, int) for bound in (low, high)) or not 0 <= low < high <= 100:
            raise InvalidInputError(
                f"a judge's scale cannot be {scale!r}", "give worst and best as whole numbers: (1, 5)"
            )
        self.scale = (low, high)
        choice(self.name, "weighted", weighted, (True, False))
        for option, value, least in (("retest", retest, 0), ("attempts", attempts, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInputError(f"{option} of a judge cannot be {value!r}", f"give a number from {least} on")
        self._allowed = list(range(self.scale[0], self.scale[1] + 1))
        self._weighted, self.retest, self.attempts = weighted, retest, attempts
        self.given = model
        self.infos = tuple(
            ScoreInfo(name, f"{criterion.name}, as judged by {model.label}", True, (float(low), float(high)))
            for name, criterion in zip(names, asked, strict=True)
        )
        needed: list[Needed] = ["ground_truth"] if any(each.ground_truth for each in asked) else []
        self.needs = frozenset(needed)
        self.ask: Ask = _ask_here
        self._task: Task | None = None
        self._conversation: Conversation | None = None
        self._cost: float | None = None
        self._n_weighted = self._asked_again = 0
        self._tested: dict[str, list[list[float]]] = {}

    @property
    def asks(self) -> tuple[Model, ...]:
        """As of :class:`Metric`."""
        return (self.model,)

    @property
    def cost(self) -> float | None:
        """As of :class:`Metric`."""
        return self._cost

    @property
    def details(self) -> dict[str, Any]:
        """As of :class:`Metric`; "retest" holds by score the pairs of first and second score."""
        return {
            "judge": self.given.label,
            "weighted": self._n_weighted,
            "asked_again": self._asked_again,
            "retest": self._tested,
        }

    @property
    def model(self) -> Model:
        """The judge's model, with the settings that make its answers readable."""
        return prepared(self.given, "score", self._allowed, numbers=self._weighted)

    def prepare(self) -> None:
        """As of :class:`Metric`."""
        models.check(self.given)

    def set_task(self, task: Task) -> None:
        """Show the judge the task's system prompt, and each example in the task's template."""
        self._task, self._conversation = task, Conversation(task)
        if task.template is not None:
            self.needs |= {"metadata"}

    def material(
        self, example: str, references: tuple[str, ...] = (), metadata: Mapping[str, Any] | None = None
    ) -> Material:
        """Return what the judge sees of an example besides the answers."""
        if self._task is None or self._conversation is None:
            return Material(example, references=references)
        try:
            source = self._conversation.request(Example(0, example, metadata=metadata or {})).user
        except InvalidInputError:  # the template does not take this example, so no model saw it filled in
            source = example
        return Material(source, self._task.instruction, references)

    @property
    def signature(self) -> str:
        """As of :class:`Metric`; a provider may change the judge's model without notice."""
        asked = "; ".join(f"{each.name}: {each.description}" for each in self.criteria)
        task = digest([self._task.instruction, self._task.template]) if self._task else "unknown"
        return (
            f"{self.name}|impl:lumigator_nb,form:2|model:{self.given.provider}/{self.given.name}"
            f"|settings:{self.model.fingerprint}|scale:{self.scale[0]}-{self.scale[1]}"
            f"|weighted:{'where-known' if self._weighted else 'no'}|task:{task}|criteria:{asked}"
        )

    def questions(self, rows: Rows) -> list[Request]:
        """Return what the judge is asked about predictions: for each, one question per criterion."""
        width = len(self.criteria)
        questions = []
        for row in range(len(rows)):
            material = self.material(rows.examples[row], rows.ground_truth[row], rows.metadata[row])
            for k, criterion in enumerate(self.criteria):
                number, prediction = row * width + k, rows.predictions[row]
                questions.append(criteria.score_request(number, criterion, self.scale, material, prediction))
        return questions

    def _score(self, rows: Rows) -> list[Scores]:
        width = len(self.criteria)
        questions = self.questions(rows)
        outcomes = self._verdicts(questions)
        self._retest_some(questions, outcomes)
        scores = []
        for k, info in enumerate(self.infos):
            column = [outcomes[row * width + k] for row in range(len(rows))]
            values = [verdict.weighted if isinstance(verdict, Verdict) else np.nan for verdict in column]
            reasons = [verdict.reason if isinstance(verdict, Verdict) else verdict for verdict in column]
            scores.append(Scores.of(info, np.array(values, dtype=np.float64), reasons))
        return scores

    def _verdicts(self, questions: Sequence[Request]) -> dict[int, Verdict | str]:
        """Return the verdict on each question, or the reason why there is none."""
        outcomes, costs, retries = ask_until_read(
            self.ask, self.model, questions, "score", self._allowed, self.attempts
        )
        self._asked_again += retries
        if costs is not None:
            self._cost = (self._cost or 0.0) + costs
        for outcome in outcomes.values():
            self._n_weighted += isinstance(outcome, Verdict) and outcome.weighted != outcome.value
        return outcomes

    def _retest_some(self, questions: Sequence[Request], first: dict[int, Verdict | str]) -> None:
        """Have some examples of the first rows judged once more."""
        if not self.retest or self._tested or not questions:
            return
        n = len(questions) // len(self.criteria)
        rows = np.random.default_rng(0).choice(n, min(self.retest, n), replace=False)
        chosen = [questions[row * len(self.criteria) + k] for row in rows for k in range(len(self.criteria))]
        second = self._verdicts([replace(question, occurrence=1) for question in chosen])
        for k, info in enumerate(self.infos):
            pairs = [(first[row * len(self.criteria) + k], second[row * len(self.criteria) + k]) for row in rows]
            self._tested[info.name] = [
                [a.weighted, b.weighted] for a, b in pairs if isinstance(a, Verdict) and isinstance(b, Verdict)
            ]


def prepared(model: Model, field: str, allowed: Sequence[int], *, numbers: bool) -> Model:
    """Return a judge's model with room for its answer and, where its server speaks OpenAI's protocol, a fixed form."""
    generation = model.generation
    if "max_new_tokens" not in generation.model_fields_set:
        generation = generation.model_copy(update={"max_new_tokens": MAX_NEW_TOKENS})
    options = dict(model.options)
    if models.speaks_openai(model):
        extra: dict[str, Any] = {"response_format": criteria.schema(field, list(allowed))}
        if numbers:
            extra |= {"logprobs": True, "top_logprobs": _ALTERNATIVES}
        options["extra"] = {**extra, **options.get("extra", {})}
    return model.model_copy(update={"generation": generation, "options": options})


def _ask_here(model: Model, requests: Sequence[Request]) -> list[tuple[Request, Prediction]]:
    return models.ask_here(model, TASK, requests)


def ask_until_read(
    ask: Ask, model: Model, questions: Sequence[Request], field: str, allowed: Sequence[int], attempts: int
) -> tuple[dict[int, Verdict | str], float | None, int]:
    """Ask a judge; where an answer cannot be read, show it to the judge and ask again.

    Returns:
        By row of the question the verdict, or the reason why there is none; the dollars; the number of repeated
        questions.
    """
    outcomes: dict[int, Verdict | str] = {}
    cost: float | None = None
    waiting, retries = list(questions), 0
    for attempt in range(attempts):
        unread = []
        for request, prediction in ask(model, waiting):
            cost = cost if prediction.cost is None else (cost or 0.0) + prediction.cost
            verdict = verdicts.read(prediction, field, allowed)
            if verdict is not None:
                outcomes[request.row] = verdict
            elif prediction.text is None:
                outcomes[request.row] = f"the judge gave no answer: {prediction.error}"
            else:
                outcomes[request.row] = f"the judge's answer holds no {field}: {verdicts.shown(prediction)!r}"
                unread.append(criteria.again(request, prediction.text))
        if not unread or attempt == attempts - 1:
            break
        waiting, retries = unread, retries + len(unread)
    return outcomes, cost, retries


@metric_class
class JudgeMetric(Judging):
    """One criterion, judged by one model; see :func:`Judge`, which makes its options."""

    name = "judge"
    display_name = "Judge"

    def __init__(
        self,
        *,
        criterion: str,
        model: dict[str, Any] | str = DEFAULT_MODEL,
        description: str | None = None,
        scale: Sequence[int] = DEFAULT_SCALE,
        ground_truth: bool = False,
        weighted: bool = True,
        retest: int = RETESTED,
        attempts: int = ATTEMPTS,
        name: str | None = None,
    ) -> None:
        asked = criteria.criterion(criterion, description, ground_truth=ground_truth)
        self._title = name or criterion
        super().__init__(
            [asked], [self._title], as_model(model), scale=scale, weighted=weighted, retest=retest, attempts=attempts
        )

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """As of :class:`Metric`: the criterion and the model."""
        return f"judge {spec.title} ({label_of(spec.options)})"

    @property
    def title(self) -> str:
        """As of :class:`Metric`."""
        return self._title


class _GEval(Judging):
    """All criteria of one task, under Lumigator's names."""

    _criteria: tuple[Criterion, ...]

    def __init__(
        self,
        *,
        model: dict[str, Any] | str = DEFAULT_MODEL,
        weighted: bool = True,
        retest: int = RETESTED,
        attempts: int = ATTEMPTS,
    ) -> None:
        names = [f"{self.name}_{each.name}" for each in self._criteria]
        super().__init__(
            self._criteria, names, as_model(model), scale=DEFAULT_SCALE, weighted=weighted, retest=retest,
            attempts=attempts,
        )  # fmt: skip


@metric_class
class GEvalSummarization(_GEval):
    """G-Eval of summaries: coherence, consistency, fluency, relevance, from 1 to 5."""

    name = "g_eval_summarization"
    needs = frozenset()
    _criteria = criteria.SUMMARIZATION


@metric_class
class GEvalTranslation(_GEval):
    """G-Eval of translations beside a reference: consistency and fluency, from 1 to 5."""

    name = "g_eval_translation"
    _criteria = criteria.TRANSLATION


@metric_class
class GEvalTranslationWithoutReference(_GEval):
    """G-Eval of translations by their source alone: consistency and fluency, from 1 to 5."""

    name = "g_eval_translation_noref"
    needs = frozenset()
    _criteria = criteria.TRANSLATION_WITHOUT_REFERENCE


def label_of(options: Mapping[str, Any]) -> str:
    """Return the label of the model that a judge's options name."""
    model = options.get("model", {})
    return str(model.get("label")) if isinstance(model, Mapping) else str(model)


def as_model(model: dict[str, Any] | str | Model) -> Model:
    """Return a model from its name or from what :meth:`Model.model_dump` gave."""
    if isinstance(model, Model):
        return model
    if isinstance(model, str):
        return Model(model)
    given = dict(model)
    name = given.pop("name")
    return Model(name, **{**given, "generation": Model("a/b", **given.get("generation", {})).generation})
