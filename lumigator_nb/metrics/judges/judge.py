"""Judges: metrics that ask a language model (G-Eval, Liu et al. 2023, https://aclanthology.org/2023.emnlp-main.153)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from lumigator_nb.security.redaction import redactor
from lumigator_nb.specs import MetricSpec, Model, Task, digest

# Asks a model some questions; the number tells apart answers to the same question.
Ask = Callable[[Model, Sequence[Request], int], Iterator[tuple[Request, Prediction]]]

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
        model: who judges; any model that can be launched.
        description: what your own criterion means, in words.
        scale: the worst and the best whole number.
        ground_truth: show the judge the references, too.
        weighted: where the provider tells the probabilities of the numbers, take their mean instead of the likeliest.
        retest: examples that are judged twice, to see how far the judge agrees with itself; they cost as much again.
        attempts: how often to ask where an answer cannot be read.
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
    """What all metrics have in common that ask a model for scores.

    Attributes:
        given: who judges, as asked for; `model` has the settings that make its answers readable besides.
        criteria: what it is asked, one score each.
        attempts: how often it is asked where its answer cannot be read.
        ask: how it is asked; by default here and now, without keeping anything.
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
        self.scale = _checked_scale(scale)
        choice(self.name, "weighted", weighted, (True, False))
        for option, value, least in (("retest", retest, 0), ("attempts", attempts, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInputError(f"{option} of a judge cannot be {value!r}", f"give a number from {least} on")
        self._allowed = list(range(self.scale[0], self.scale[1] + 1))
        self._weighted, self._retest, self.attempts = weighted, retest, attempts
        self.given = model
        low, high = map(float, self.scale)
        self.infos = tuple(
            ScoreInfo(name, f"{each.name}, as judged by {model.label}", True, (low, high))
            for name, each in zip(names, asked, strict=True)
        )
        needed: list[Needed] = ["ground_truth"] if any(each.ground_truth for each in asked) else []
        self.needs = frozenset(needed)
        self.ask: Ask = ask_directly
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
        """Who judges, with the settings that make its answers readable."""
        return prepared(self.given, "score", self._allowed, numbers=self._weighted)

    def prepare(self) -> None:
        """As of :class:`Metric`."""
        models.check(self.given)

    def set_task(self, task: Task) -> None:
        """Have the judge see what was asked: the task's system prompt, and each example in the task's template."""
        self._task, self._conversation = task, Conversation(task)
        if task.template is not None:
            self.needs |= {"metadata"}

    def material(
        self, example: str, references: tuple[str, ...] = (), metadata: Mapping[str, Any] | None = None
    ) -> Material:
        """Return what the judge is shown of an example besides the answers."""
        if self._task is None or self._conversation is None:
            return Material(example, references=references)
        try:
            source = self._conversation.request(0, example, metadata or {}).user
        except InvalidInputError:  # the template cannot take this example: no model was asked by it
            source = example
        return Material(source, self._task.instruction, references)

    @property
    def signature(self) -> str:
        """As of :class:`Metric`; the judge's own version is its provider's."""
        asked = "; ".join(f"{each.name}: {each.description}" for each in self.criteria)
        task = digest([self._task.instruction, self._task.template]) if self._task else "unknown"
        return (
            f"{self.name}|impl:lumigator_nb,form:2|model:{self.given.provider}/{self.given.name}"
            f"|settings:{self.model.fingerprint}|scale:{self.scale[0]}-{self.scale[1]}"
            f"|weighted:{'where-known' if self._weighted else 'no'}|task:{task}|criteria:{asked}"
        )

    def _score(self, rows: Rows) -> list[Scores]:
        width = len(self.criteria)
        questions = [self._question(rows, row, k) for row in range(len(rows)) for k in range(width)]
        found = self._verdicts(questions, 0)
        self._test_again(questions, found)
        scores = []
        for k, info in enumerate(self.infos):
            column = [found[row * width + k] for row in range(len(rows))]
            values = [verdict.weighted if isinstance(verdict, Verdict) else np.nan for verdict in column]
            reasons = [verdict.reason if isinstance(verdict, Verdict) else verdict for verdict in column]
            scores.append(Scores.of(info, np.array(values, dtype=np.float64), reasons))
        return scores

    def _question(self, rows: Rows, row: int, k: int) -> Request:
        number = row * len(self.criteria) + k
        material = self.material(rows.examples[row], rows.ground_truth[row], rows.metadata[row])
        return criteria.score_request(number, self.criteria[k], self.scale, material, rows.predictions[row])

    def _verdicts(self, questions: Sequence[Request], occurrence: int) -> dict[int, Verdict | str]:
        """Return by question what the judge said, or why it said nothing."""
        found, costs, retries = ask_until_read(
            self.ask, self.model, questions, "score", self._allowed, self.attempts, occurrence
        )
        self._asked_again += retries
        if costs is not None:
            self._cost = (self._cost or 0.0) + costs
        verdicts_found = [each for each in found.values() if isinstance(each, Verdict)]
        self._n_weighted += sum(each.weighted != each.value for each in verdicts_found)
        return found

    def _test_again(self, questions: Sequence[Request], first: dict[int, Verdict | str]) -> None:
        """Have some examples judged once more, in the first lot of rows."""
        if not self._retest or self._tested or not questions:
            return
        n = len(questions) // len(self.criteria)
        rows = np.random.default_rng(0).choice(n, min(self._retest, n), replace=False)
        chosen = [questions[row * len(self.criteria) + k] for row in rows for k in range(len(self.criteria))]
        second = self._verdicts(chosen, 1)
        for k, info in enumerate(self.infos):
            pairs = [(first[row * len(self.criteria) + k], second[row * len(self.criteria) + k]) for row in rows]
            known = [[a.weighted, b.weighted] for a, b in pairs if isinstance(a, Verdict) and isinstance(b, Verdict)]
            self._tested[info.name] = known


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


def ask_directly(
    model: Model, requests: Sequence[Request], occurrence: int = 0
) -> Iterator[tuple[Request, Prediction]]:
    """Ask here and now, without the environment's secrets; nothing is kept, so that every call is a new question."""
    models.check(model)
    redact = redactor()
    return models.load(model, TASK).answer([request.redacted(redact) for request in requests])


def ask_until_read(
    ask: Ask,
    model: Model,
    questions: Sequence[Request],
    field: str,
    allowed: Sequence[int],
    attempts: int,
    occurrence: int = 0,
) -> tuple[dict[int, Verdict | str], float | None, int]:
    """Ask a judge; where an answer cannot be read, show it to the judge and ask again.

    Returns:
        By the questions' numbers what was said, or why nothing was; the dollars; and how often was asked again.
    """
    found: dict[int, Verdict | str] = {}
    cost: float | None = None
    waiting, retries = list(questions), 0
    for attempt in range(attempts):
        unread = []
        for request, prediction in ask(model, waiting, occurrence):
            cost = cost if prediction.cost is None else (cost or 0.0) + prediction.cost
            verdict = verdicts.read(prediction, field, allowed)
            if verdict is not None:
                found[request.row] = verdict
            elif prediction.text is None:
                found[request.row] = f"the judge gave no answer: {prediction.error}"
            else:
                found[request.row] = f"the judge's answer holds no {field}: {verdicts.shown(prediction)!r}"
                unread.append(criteria.again(request, prediction.text))
        if not unread or attempt == attempts - 1:
            break
        waiting, retries = unread, retries + len(unread)
    return found, cost, retries


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
        """As of :class:`Metric`: what it judges and who it is."""
        return f"judge {spec.title} ({label_of(spec.options)})"

    @property
    def title(self) -> str:
        """As of :class:`Metric`."""
        return self._title


class _GEval(Judging):
    """The criteria of one task at once, under Lumigator's names."""

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


def _checked_scale(scale: Sequence[int]) -> tuple[int, int]:
    low, high = (scale[0], scale[1]) if len(scale) == 2 else (1, 0)
    if not all(isinstance(bound, int) for bound in (low, high)) or not 0 <= low < high <= 100:
        raise InvalidInputError(f"a judge's scale cannot be {scale!r}", "give worst and best as whole numbers: (1, 5)")
    return low, high
