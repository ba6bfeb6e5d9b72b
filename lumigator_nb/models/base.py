"""What every language model offers, and the registry of those who provide them.

Third parties join through the entry-point group ``lumigator_nb.models``: the entry's name is the provider's, its
value a module whose import registers it with :func:`provider`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol, TypeVar

from lumigator_nb.errors import ConfigurationError, InvalidInputError, LumigatorError, UnknownModelError, did_you_mean
from lumigator_nb.specs import GenerationConfig, Model, Resources, Task

ENTRY_POINTS = "lumigator_nb.models"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """One example as it is put to a model.

    Attributes:
        row: tells requests of one call apart.
        example: the input as it stands in the dataset.
        user: the user's turn: the example in the task's template.
        system: the system prompt; empty where there is none.
        shots: earlier turns of user and model, for few-shot prompting.
        metadata: the row's other columns.
        occurrence: how often the same was asked before, where each time is to have an answer of its own.
    """

    row: int
    example: str
    user: str
    system: str = ""
    shots: tuple[tuple[str, str], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    occurrence: int = 0

    @property
    def key(self) -> str:
        """32 hex digits of what is asked, by which its answer is kept: all but the row and the metadata."""
        # Answers are found by it as long as they are kept: it must stay what it is from version to version.
        asked = [self.system, self.shots, self.user, self.example, self.occurrence]
        return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()[:32]

    @property
    def messages(self) -> list[dict[str, str]]:
        """The turns of a chat, as the OpenAI protocol writes them."""
        turns = [{"role": "system", "content": self.system}] if self.system else []
        for user, answer in self.shots:
            turns += [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
        return [*turns, {"role": "user", "content": self.user}]

    def redacted(self, redact: Callable[[str], str]) -> Request:
        """Return the request with `redact` applied to all its texts; what is redacted already stays as it is."""
        # Not by replace(), which takes longer than all else, for each of a million rows.
        example = redact(self.example)
        return Request(
            self.row,
            example,
            example if self.user is self.example else redact(self.user),
            redact(self.system),
            tuple([(redact(user), redact(answer)) for user, answer in self.shots]) if self.shots else (),
            {name: redact(each) if isinstance(each, str) else each for name, each in self.metadata.items()}
            if self.metadata
            else self.metadata,
            self.occurrence,
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's answer to one example.

    Attributes:
        text: the answer; None where there is none.
        error: why there is none.
        prompt: what was sent, as JSON messages or as the text that the model saw; None for a rule.
        reasoning: what the model thought aloud before it answered, where it shows that.
        prompt_tokens, completion_tokens, reasoning_tokens: as the model counts them, without padding and end marks;
            completion includes reasoning. None where it does not count.
        cache_read_tokens, cache_write_tokens: of the prompt's tokens those that the provider took from its prompt
            cache, and those that it put there; they have prices of their own. None where it says of none.
        seconds: from sending to the whole answer, retries apart; for a batch this example's share of its wall time.
        first_token_seconds: from sending to the first token, where the answer was streamed.
        cost: dollars; None where the model has no price.
        cached: the answer was in the store already; latency and cost are those of the first time.
        truncated: the input was cut to fit the model.
        finish: "stop" where the model came to an end, "length" where it was cut off by `max_new_tokens`.
        numbers: for each number in the answer the numbers that might have stood there and their probabilities, where
            the provider was asked for them; for judges.
    """

    text: str | None
    error: str | None = None
    prompt: str | None = None
    reasoning: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None
    cost: float | None = None
    cached: bool = False
    truncated: bool = False
    finish: str | None = None
    numbers: list[dict[str, float]] | None = field(default=None, compare=False)


class LanguageModel(Protocol):
    """A loaded model.

    Attributes:
        details: what was loaded, for the record; plain JSON values. May grow while it answers.
    """

    details: dict[str, Any]

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Prediction]]:
        """Answer each request once, in the order in which answers come.

        Requests are taken, in the caller's thread, only as there is room for them, so that any number goes through
        in bounded memory. One that fails carries its error; what would fail them all is raised.
        """
        ...


class Provider(ABC):
    """Who turns a model's name into a model.

    All that the rest of the package knows of a provider is asked of it here, so nothing of this loads a heavy library.

    Attributes:
        name: what stands before the first slash of a model's name.
        title: the name for readers; default `name`, written out.
        place: where its models run, in words; default "at" and the title.
        uses_all_cores: its models compute with every core there is; two at once would slow each other down.
        keeps_answers: its answers cost enough to be kept and looked up instead of being asked for again.
        parallel_option: the option of a model that says how many examples it works on at once; None where it has none.
        runs_user_code: it calls a function of the user's, which may look at all columns and use any library.
        recipe: the line of code by which only its owner can bring a model along, as a template of `name` and `label`;
            empty where its name and settings are enough.
        needs: extra of this package that it needs, or the client of any-llm of that name; None where it needs none.
        modules: what must be importable before it can answer.
        optional_modules: what else `needs` brings, and only some of its models need.
        packages: names of the distributions that take part in its answers; their versions are recorded.
    """

    name: str = ""
    title: str = ""
    place: str = ""
    uses_all_cores: bool = False
    keeps_answers: bool = False
    parallel_option: ClassVar[str | None] = None
    runs_user_code: ClassVar[bool] = False
    recipe: ClassVar[str] = ""
    needs: str | None = None
    modules: tuple[str, ...] = ()
    optional_modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def requirement(self) -> str | None:
        """What pip is to install for it."""
        return f"lumigator-nb[{self.needs}]" if self.needs else None

    @property
    def installed(self) -> bool:
        """Whether all `modules` can be imported; none is imported for it."""
        return all(map(_is_importable, self.modules))

    def packages_of(self, model: Model) -> Sequence[str]:
        """Return the distributions that take part in a model's answers; default `packages`."""
        return self.packages

    def is_local_path(self, model: Model) -> bool:
        """Whether the model is read from a path of the machine that computes it."""
        return False

    def has_weights(self, model: Model) -> bool:
        """Whether all that the model needs is on this machine, so that nothing is downloaded; asks nobody."""
        return True

    def speaks_openai(self, model: Model) -> bool:
        """Whether the model takes the parameters of OpenAI's chat completions as they are, in its option `extra`."""
        return False

    def fitted(self, model: Model, task: Task, ground_truth: Callable[[], Iterable[str]]) -> Model:
        """Return the model with what it learns from an experiment before it is launched; default: nothing.

        Args:
            model: as it was asked for.
            task: of the experiment.
            ground_truth: reads the first reference of each example that has one.

        Raises:
            InvalidInputError: it cannot learn from them.
        """
        return model

    @abstractmethod
    def check(self, model: Model) -> None:
        """Refuse what cannot work before anything is launched; cheap, loads no heavy library.

        Raises:
            UnknownModelError: there is no such model.
            InvalidInputError: an option is unknown or out of range.
            MissingExtraError: packages are missing.
        """

    @abstractmethod
    def identify(self, model: Model, report: Report) -> str:
        """Return what besides the model's settings decides its answers, such as a commit; loads nothing heavy."""

    @abstractmethod
    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Load the model on the machine that will use it; `report` takes short notes on how far it is."""


P = TypeVar("P", bound=type)

_PROVIDERS: dict[str, Provider] = {}


def register(name: str, found: Provider) -> None:
    """Put a provider under `name`."""
    found.name = name
    found.title = found.title or name.replace("_", " ").capitalize()
    found.place = found.place or f"at {found.title}"
    _PROVIDERS[name] = found


def provider(name: str) -> Callable[[P], P]:
    """Register the decorated class under `name`, the part of a model's name before the first slash.

    The class is a :class:`Provider`, or has its `check`, `identify` and `load`.
    """

    def enter(cls: P) -> P:
        kind = cls if issubclass(cls, Provider) else type(cls.__name__, (cls, Provider), {})
        register(name, kind())
        return cls

    return enter


def provider_names() -> tuple[str, ...]:
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


def find(name: object) -> Provider | None:
    """Return the provider of that name; None where there is none, or it cannot be loaded."""
    try:
        return get(name) if isinstance(name, str) else None
    except LumigatorError:
        return None


def needing(extra: str) -> Provider | None:
    """Return a provider that needs an extra of this package, or a client of any-llm."""
    return next((each for each in _PROVIDERS.values() if each.needs == extra), None)


def extra_of(module: str) -> str | None:
    """Return the extra that brings a module, where the providers that are registered tell; the one that most need."""
    extras = [each.needs for each in _PROVIDERS.values() if module in (*each.modules, *each.optional_modules)]
    return max(extras, key=extras.count, default=None)


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is not there
        return False


def check_options(model: Model, known: Iterable[str]) -> None:
    """Raise InvalidInputError for the first option of `model` that is not in `known`, nor one of its resources."""
    known = [*known, *Resources.model_fields]
    unknown = sorted(model.options.keys() - set(known))
    if unknown:
        rule = did_you_mean(unknown[0], [*known, *GenerationConfig.model_fields])
        raise InvalidInputError(f"unknown setting {unknown[0]!r} of model {model.label!r}", rule)
    _ = model.resources  # raises where one is out of range


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _load_entry(name: str) -> None:
    entry = _entries().get(name)
    if entry is None:
        raise UnknownModelError(f"unknown provider {name!r}", did_you_mean(name, provider_names()))
    try:
        entry.load()
    except Exception as error:
        raise ConfigurationError(f"provider {name!r} ({entry.value}) cannot be loaded: {error}") from error
    if name not in _PROVIDERS:
        raise ConfigurationError(f"{entry.value} does not register the provider {name!r} that it announces")
