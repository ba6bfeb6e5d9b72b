"""What can be wrong with what a reader has entered to launch models, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lumigator_nb import models
from lumigator_nb.display.text import one_line
from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.services.datasets.sampling import rows_of
from lumigator_nb.services.experiments import check_metrics, localized
from lumigator_nb.services.names import checked_name
from lumigator_nb.specs import Model, language_code

if TYPE_CHECKING:
    from lumigator_nb.presentation.launch.form import LaunchForm
    from lumigator_nb.workspace import Workspace

Number = TypeVar("Number", int, float)

LABELS: Final = {
    "dataset": "Dataset", "name": "Name of the experiment", "task": "Task", "prompt": "Prompt", "source": "From",
    "target": "To", "sample": "Number of examples", "models": "Models", "temperature": "Temperature",
    "max_new_tokens": "Longest answer, in tokens", "seed": "Seed", "metrics": "Metrics",
    "budget": "Budget per model, in dollars",
}  # fmt: skip
_LONGEST = 240
# Generation settings that a reader may enter, and what they are.
SETTINGS: Final[dict[str, type[int] | type[float]]] = {"temperature": float, "max_new_tokens": int, "seed": int}


def whole(text: str) -> int | None:
    """Return the whole number that a text is; None where it is empty.

    Raises:
        InvalidInputError: it is none, or below 0.
    """
    return _parsed(text.replace(",", "").replace(" ", ""), int, "a whole number")


def amount(text: str) -> float | None:
    """Return the number that a text is, with a point or a comma; None where it is empty.

    Raises:
        InvalidInputError: it is none, or below 0.
    """
    return _parsed(text.strip().removeprefix("$").replace(",", "."), float, "a number")


def _parsed(text: str, kind: type[Number], sort: str) -> Number | None:
    if not text.strip():
        return None
    try:
        value = kind(text)
    except ValueError:
        raise InvalidInputError(f"{text.strip()!r} is not {sort}", "leave it empty for the default") from None
    if not 0 <= value < float("inf"):
        raise InvalidInputError(f"{text.strip()!r} is out of range", "take 0 or more")
    return value


def settings(form: LaunchForm) -> dict[str, float]:
    """Return the generation settings that were entered.

    Raises:
        InvalidInputError: one is no number.
    """
    found = {name: (whole if kind is int else amount)(getattr(form, name)) for name, kind in SETTINGS.items()}
    return {name: value for name, value in found.items() if value is not None}


def problems(form: LaunchForm, *fields: str) -> dict[str, str]:
    """Return by field what is wrong, in words; only of the given fields, where some are given."""
    checks: dict[str, Callable[[LaunchForm], object]] = {
        "dataset": _dataset, "name": _name, "prompt": _prompt, "source": _source, "target": _target,
        "models": _models, "metrics": _metrics, "sample": _sample, "budget": lambda form: amount(form.budget),
        **{name: partial(_setting, name) for name in SETTINGS},
    }  # fmt: skip
    found = {}
    for name in fields or checks:
        try:
            checks[name](form)
        except LumigatorError as error:
            found[name] = in_words(error)
    return found


def in_words(error: LumigatorError) -> str:
    """Return an error as it stands beside a field: a sentence, and what to do about it."""
    text = _sentence(error.message)
    return f"{text} {_sentence(error.hint)}" if error.hint else text


def mend(errors: Mapping[str, str]) -> str | None:
    """Return what stands beside the button: what is wrong with the whole, or which fields are to be mended."""
    marked = [LABELS[name] for name in errors if errors[name] and name in LABELS]
    return errors.get("") or (f"Mend what is marked: {', '.join(marked)}." if marked else None)


def _sentence(text: str) -> str:
    # Hints may list all names that are known.
    shown = one_line(text, _LONGEST)
    return f"{shown[:1].upper()}{shown[1:]}" + ("" if shown.endswith((".", "?", "!", "…")) else ".")


def _dataset(form: LaunchForm) -> None:
    if form.record is None:
        raise InvalidInputError("choose a dataset")


def _name(form: LaunchForm) -> None:
    if form.experiment is not None:
        return
    if not form.name.strip():
        raise InvalidInputError("give the experiment a name")
    if is_taken(form.ws, checked_name(form.name)):
        raise InvalidInputError("an experiment has this name already", "take another one")


def is_taken(ws: Workspace, name: str) -> bool:
    """Whether an experiment has that name."""
    # What is found may only have an id that begins like this.
    found = ws.experiments.find(name)
    return found is not None and found.name == name


def _prompt(form: LaunchForm) -> None:
    if form.task == "text_generation" and not form.prompt.strip():
        raise InvalidInputError("say what the model should do", "such as: Answer the question in one sentence")


def _source(form: LaunchForm) -> None:
    if form.task == "translation":
        _code(form.source)


def _target(form: LaunchForm) -> None:
    if form.task != "translation":
        return
    target = _code(form.target)
    try:
        source = _code(form.source)
    except InvalidInputError:
        return  # told beside the other field
    if target == source:
        raise InvalidInputError("this is the language to translate from", "name another one")


def _code(language: str) -> str:
    if not language.strip():
        raise InvalidInputError("name a language", "such as German, or de")
    return language_code(language)


def _models(form: LaunchForm) -> None:
    if not form.models:
        raise InvalidInputError("choose at least one model")
    views = {view.name: view for view in form.model_views}
    for key in form.models:
        view = views.get(key)
        if view and view.missing and view.missing.blocks:
            raise InvalidInputError(f"{view.title}: {view.missing.text}", view.missing.remedy)
    if not problems(form, *SETTINGS):
        for model in form.chosen_models():
            check_model(form.ws, model)


def check_model(ws: Workspace, model: Model) -> None:
    """Refuse a model that cannot be launched.

    Raises:
        UnknownModelError, InvalidInputError, ConfigurationError: it is unknown, lacks a package or its API key.
    """
    models.check(model)
    ws.workflows.submitter.check_keys([model])


def _metrics(form: LaunchForm) -> None:
    if form.experiment is not None:
        return
    if not form.metrics:
        raise InvalidInputError("choose at least one metric")
    if form.record is not None:
        task, here = form.built_task(strict=False), form.ws.cluster.head is not None
        check_metrics(localized(form.specs, task), form.record, task, here=here)


def _sample(form: LaunchForm) -> None:
    number = whole(form.sample)
    if number is not None and form.record is not None:
        rows_of(number, form.record.n_examples)


def _setting(name: str, form: LaunchForm) -> None:
    value = (whole if SETTINGS[name] is int else amount)(getattr(form, name))
    given: dict[str, Any] = {} if value is None else {name: value}
    Model("any/model", **given)
