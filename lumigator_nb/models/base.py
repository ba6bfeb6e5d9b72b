"""What every language model offers, and the registry of those who provide them.

Third parties join through the entry-point group ``lumigator_nb.models``: the entry's name is the provider's, its
value a module whose import registers it with :func:`provider`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar

from lumigator_nb.errors import ConfigurationError, InvalidInputError, UnknownModelError, did_you_mean
from lumigator_nb.specs import Model, Task

ENTRY_POINTS = "lumigator_nb.models"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Prediction:
    """One model's answer to one example.

    Attributes:
        text: the answer; None where there is none.
        error: why there is none.
        prompt_tokens, completion_tokens: as the model counts them, without padding and end marks; None where it
            does not count.
        seconds: this example's share of its batch's wall time.
        truncated: the input was cut to fit the model.
    """

    text: str | None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    truncated: bool = False


class LanguageModel(Protocol):
    """A loaded model.

    Attributes:
        details: what was loaded, for the record; plain JSON values.
    """

    details: dict[str, Any]

    def predict(self, examples: Sequence[str]) -> list[Prediction]:
        """Answer each example; same order and length as given. One that fails carries its error."""
        ...


class Provider(Protocol):
    """Who turns a model's name into a model.

    Attributes:
        uses_all_cores: its models compute with every core there is; two at once would slow each other down.
    """

    uses_all_cores: bool

    def check(self, model: Model) -> None:
        """Refuse what cannot work before anything is launched; cheap, loads no heavy library.

        Raises:
            UnknownModelError: there is no such model.
            InvalidInputError: an option is unknown or out of range.
            MissingExtraError: packages are missing.
        """
        ...

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Load the model on the machine that will use it; `report` takes short notes on how far it is."""
        ...


P = TypeVar("P", bound=Provider)

_PROVIDERS: dict[str, Provider] = {}


def provider(name: str) -> Callable[[type[P]], type[P]]:
    """Register the decorated class under `name`, the part of a model's name before the first slash."""

    def register(cls: type[P]) -> type[P]:
        _PROVIDERS[name] = cls()
        return cls

    return register


def providers() -> tuple[str, ...]:
    """The sorted names of all providers, built in and installed."""
    return tuple(sorted(_PROVIDERS.keys() | _entries().keys()))


def get(name: str) -> Provider:
    """Return the provider of that name.

    Raises:
        UnknownModelError: there is none.
        ConfigurationError: its package is installed but cannot be loaded.
    """
    if name not in _PROVIDERS:
        _load_entry(name)
    return _PROVIDERS[name]


def check_options(model: Model, known: Iterable[str]) -> None:
    """Raise InvalidInputError for the first option of `model` that is not in `known`."""
    known = list(known)
    unknown = sorted(model.options.keys() - set(known))
    if unknown:
        rule = did_you_mean(unknown[0], known) if known else f"{model.provider!r} takes no options"
        raise InvalidInputError(f"unknown option {unknown[0]!r} of model {model.label!r}", rule)


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _load_entry(name: str) -> None:
    entry = _entries().get(name)
    if entry is None:
        raise UnknownModelError(f"unknown provider {name!r}", did_you_mean(name, providers()))
    try:
        entry.load()
    except Exception as error:
        raise ConfigurationError(f"provider {name!r} ({entry.value}) cannot be loaded: {error}") from error
    if name not in _PROVIDERS:
        raise ConfigurationError(f"{entry.value} does not register the provider {name!r} that it announces")
