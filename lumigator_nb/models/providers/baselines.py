"""Baselines: simple rules that a model has to beat."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from lumigator_nb.errors import UnknownModelError
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, Request, check_options, provider
from lumigator_nb.models.prompts import sentences
from lumigator_nb.specs import Model, Task


@provider("baseline")
class Baselines(Provider):
    """``baseline/lead-N``, the first N sentences, and ``baseline/copy``, the whole text."""

    place = "a rule, no model"

    def check(self, model: Model) -> None:
        """Refuse an unknown name, and any option."""
        _rule(model)
        check_options(model, ())

    def identify(self, model: Model, report: Report) -> str:
        """Return nothing: the name identifies the rule."""
        return ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Return the baseline; nothing is loaded."""
        self.check(model)
        return Baseline(_rule(model), model.name)


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


def _rule(model: Model) -> Callable[[str], str]:
    if model.name == "copy":
        return str
    match = re.fullmatch(r"lead-([1-9]\d{0,3})", model.name)
    if match is None:
        raise UnknownModelError(
            f"unknown baseline {model.name!r}",
            "baselines are: baseline/copy and baseline/lead-N with N from 1 to 9999, such as baseline/lead-3",
        )
    return partial(lead, n=int(match[1]))
