"""Input of the launch form: texts to values, and errors to sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from lumigator_nb import models
from lumigator_nb.display.text import one_line
from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.specs import Model

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

Number = TypeVar("Number", int, float)

LABELS: Final = {
    "dataset": "Dataset", "name": "Name of the experiment", "task": "Task", "prompt": "Prompt", "labels": "Labels",
    "source": "From", "target": "To", "sample": "Number of examples", "models": "Models", "temperature": "Temperature",
    "max_new_tokens": "Longest answer, in tokens", "seed": "Seed", "metrics": "Metrics",
    "budget": "Budget per model, in dollars",
}  # fmt: skip
# Characters of a sentence beside a field: some hints list all known names.
_LONGEST = 240
# Generation settings of the form, with their types.
SETTINGS: Final[dict[str, type[int] | type[float]]] = {"temperature": float, "max_new_tokens": int, "seed": int}


def whole(text: str) -> int | None:
    """Return a text as a whole number; None if it is empty.

    Raises:
        InvalidInputError: it is not a whole number, or below 0.
    """
    return _parsed(text.replace(",", "").replace(" ", ""), int, "a whole number")


def labels(text: str) -> tuple[list[str], dict[str, str]]:
    """Return labels, one on each line, and the descriptions that follow some of them after a colon."""
    names, descriptions = [], {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, description = (part.strip() for part in line.partition(":"))
        names.append(name)
        if description:
            descriptions[name] = description
    return names, descriptions


def amount(text: str) -> float | None:
    """Return a text as a number, with a decimal point or comma; None if it is empty.

    Raises:
        InvalidInputError: it is not a number, or below 0.
    """
    return _parsed(text.strip().removeprefix("$").replace(",", "."), float, "a number")


def _parsed(text: str, kind: type[Number], description: str) -> Number | None:
    if not text.strip():
        return None
    try:
        value = kind(text)
    except ValueError:
        raise InvalidInputError(f"{text.strip()!r} is not {description}", "leave it empty for the default") from None
    if not 0 <= value < float("inf"):
        raise InvalidInputError(f"{text.strip()!r} is out of range", "enter 0 or more")
    return value


def in_words(error: LumigatorError) -> str:
    """Return an error and its hint in sentences, to show beside a field."""
    text = _sentence(error.message)
    return f"{text} {_sentence(error.hint)}" if error.hint else text


def form_error(errors: Mapping[str, str]) -> str | None:
    """Return the message beside the button: the error of the whole form, or the labels of fields with errors."""
    marked = [LABELS[name] for name in errors if errors[name] and name in LABELS]
    return errors.get("") or (f"Correct the marked fields: {', '.join(marked)}." if marked else None)


def _sentence(text: str) -> str:
    line = one_line(text, _LONGEST)
    return f"{line[:1].upper()}{line[1:]}" + ("" if line.endswith((".", "?", "!", "…")) else ".")


def is_taken(ws: Workspace, name: str) -> bool:
    """Return whether an experiment has that name."""
    # find() also returns an experiment whose id begins with the text.
    experiment = ws.experiments.find(name)
    return experiment is not None and experiment.name == name


def check_model(ws: Workspace, model: Model) -> None:
    """Check that a model can be launched.

    Raises:
        UnknownModelError, InvalidInputError, ConfigurationError: it is unknown, lacks a package or its API key.
    """
    models.check(model)
    ws.workflows.submitter.check_keys([model])
