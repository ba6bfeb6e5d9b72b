"""What a reader enters to launch models, as values, and what is wrong with it, in words."""

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


def in_words(error: LumigatorError) -> str:
    """Return an error as it stands beside a field: a sentence, and what to do about it."""
    text = _sentence(error.message)
    return f"{text} {_sentence(error.hint)}" if error.hint else text


def form_error(errors: Mapping[str, str]) -> str | None:
    """Return what stands beside the button: what is wrong with the whole, or which fields are to be mended."""
    marked = [LABELS[name] for name in errors if errors[name] and name in LABELS]
    return errors.get("") or (f"Mend what is marked: {', '.join(marked)}." if marked else None)


def _sentence(text: str) -> str:
    # Hints may list all names that are known.
    shown = one_line(text, _LONGEST)
    return f"{shown[:1].upper()}{shown[1:]}" + ("" if shown.endswith((".", "?", "!", "…")) else ".")


def is_taken(ws: Workspace, name: str) -> bool:
    """Whether an experiment has that name."""
    # What is found may only have an id that begins like this.
    found = ws.experiments.find(name)
    return found is not None and found.name == name


def check_model(ws: Workspace, model: Model) -> None:
    """Refuse a model that cannot be launched.

    Raises:
        UnknownModelError, InvalidInputError, ConfigurationError: it is unknown, lacks a package or its API key.
    """
    models.check(model)
    ws.workflows.submitter.check_keys([model])
