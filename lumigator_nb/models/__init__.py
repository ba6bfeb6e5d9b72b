"""How language models answer: ``models.load(Model("baseline/lead-2"), task, report).predict(examples)``."""

from __future__ import annotations

from lumigator_nb.models import baselines, huggingface
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, get, provider, providers
from lumigator_nb.specs import Model, Task

__all__ = ["LanguageModel", "Prediction", "Provider", "check", "load", "provider", "providers", "uses_all_cores"]

# Importing these two registers them; neither loads a heavy library.
_BUILT_IN = (baselines, huggingface)


def check(model: Model) -> None:
    """Refuse a model that cannot work, without loading it.

    Raises:
        UnknownModelError: no provider knows it.
        InvalidInputError: an option is unknown or out of range.
        MissingExtraError: packages are missing.
    """
    get(model.provider).check(model)


def uses_all_cores(model: Model) -> bool:
    """Whether the model wants a machine's cores for itself where it has no GPU."""
    return get(model.provider).uses_all_cores


def load(model: Model, task: Task, report: Report = lambda note: None) -> LanguageModel:
    """Load a model here.

    Args:
        model: which one, and how it generates.
        task: what it will be asked to do.
        report: takes short notes for a progress display, such as "loading the model".

    Raises:
        UnknownModelError: there is no such model.
        UnavailableError: it cannot be fetched now.
    """
    return get(model.provider).load(model, task, report)
