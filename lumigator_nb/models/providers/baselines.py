"""Baselines: simple rules that a model has to beat."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from lumigator_nb.errors import InvalidInputError, UnknownModelError
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, Request, check_options, provider
from lumigator_nb.models.prompts import sentences
from lumigator_nb.models.prompts.labels import LabelReader, UnreadableError
from lumigator_nb.specs import Model, Task

MAJORITY, LABEL_IN_TEXT = "majority", "label-in-text"


@provider("baseline")
class Baselines(Provider):
    """Rules, by their names.

    ``baseline/lead-N`` is the first N sentences, ``baseline/copy`` the whole text. Of a classification,
    ``baseline/majority`` always gives the most frequent label, and ``baseline/label-in-text`` the label that the text
    names first.
    """

    place = "a rule, no model"

    def check(self, model: Model) -> None:
        """Refuse an unknown name, and any option but the answer of the majority."""
        _known(model)
        check_options(model, ("answer",) if model.name == MAJORITY else ())

    def fitted(self, model: Model, task: Task, ground_truth: Callable[[], Iterable[str]]) -> Model:
        """Return the majority with its answer: the most frequent ground truth, of equally frequent ones the first.

        It is that of the examples on which it is scored. No rule that does not look at the text can be right more
        often, so it is the least that a model has to beat.
        """
        if model.name != MAJORITY or "answer" in model.options:
            return model
        _needs_labels(model, task)
        reader = LabelReader(task.labels, multi_label=task.multi_label)
        counts: Counter[tuple[int, ...]] = Counter()
        for text in ground_truth():
            with suppress(UnreadableError):  # the metric counts it
                counts[reader.stated(text)] += 1
        if not counts:
            raise InvalidInputError(
                f"model {model.label!r} takes the most frequent label, and no example has one as its ground truth",
                "name the label: Model('baseline/majority', answer='…')",
            )
        answer = _worded([task.labels[number] for number in counts.most_common(1)[0][0]], task)
        return model.model_copy(update={"options": {**model.options, "answer": answer}})

    def identify(self, model: Model, report: Report) -> str:
        """Return nothing: name and options identify the rule."""
        return ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Return the baseline; nothing is loaded.

        Raises:
            InvalidInputError: it needs a classification, or the majority does not know its answer.
        """
        self.check(model)
        if model.name not in (MAJORITY, LABEL_IN_TEXT):
            return Baseline(_rule(model), model.name)
        _needs_labels(model, task)
        if model.name == LABEL_IN_TEXT:
            reader = LabelReader(task.labels, multi_label=task.multi_label)
            return Baseline(partial(_label_in, reader, task), model.name)
        if "answer" not in model.options:
            raise InvalidInputError(
                f"model {model.label!r} learns its answer from an experiment's ground truth",
                "launch it, or name the label: Model('baseline/majority', answer='…')",
            )
        answer = str(model.options["answer"])
        return Baseline(lambda text: answer, model.name)


def is_baseline(model: Model) -> bool:
    """Return whether a model is a baseline: it costs nothing and is never recommended."""
    return model.provider == "baseline"


class Baseline:
    """A rule applied to each text."""

    def __init__(self, rule: Callable[[str], str], name: str) -> None:
        self._rule = rule
        self.details: dict[str, Any] = {"source": f"built in: {name}"}

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Prediction]]:
        """Apply the rule to each example."""
        return ((request, Prediction(self._rule(request.example))) for request in requests)


def lead(text: str, n: int) -> str:
    """Return the first `n` sentences of `text`, unchanged.

    Lead-3 is the baseline of news summarization: Nallapati et al. 2017, "SummaRuNNer" (AAAI); See et al. 2017,
    "Get To The Point" (ACL), where it beat the neural models of its time.
    """
    spans = list(islice(sentences.spans(text), n))
    return text[spans[0][0] : spans[-1][1]] if spans else ""


def _label_in(reader: LabelReader, task: Task, text: str) -> str:
    labels = [task.labels[number] for number in reader.named(text)]
    return _worded(labels if task.multi_label else labels[:1], task)


def _worded(labels: Sequence[str], task: Task) -> str:
    """Return labels as an answer; a text without a label gets an empty one."""
    return json.dumps(list(labels), ensure_ascii=False) if task.multi_label else "".join(labels)


def _needs_labels(model: Model, task: Task) -> None:
    if task.kind != "classification":
        raise InvalidInputError(
            f"model {model.label!r} gives a label, and the task is {task.kind}", "lm.Classification([…])"
        )


def _known(model: Model) -> None:
    if model.name not in (MAJORITY, LABEL_IN_TEXT):
        _rule(model)


def _rule(model: Model) -> Callable[[str], str]:
    if model.name == "copy":
        return str
    match = re.fullmatch(r"lead-([1-9]\d{0,3})", model.name)
    if match is None:
        raise UnknownModelError(
            f"unknown baseline {model.name!r}",
            "baselines are: baseline/copy and baseline/lead-N with N from 1 to 9999, such as baseline/lead-3; for "
            "classification baseline/majority and baseline/label-in-text",
        )
    return partial(lead, n=int(match[1]))
