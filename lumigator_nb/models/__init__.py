"""Language models: ``models.predict("baseline/lead-2", ["One. Two. Three."])``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lumigator_nb.models import base
from lumigator_nb.models.asking import Budget, GuardedModel, Repeats, Take, ask_here, draws_answers
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, Request, provider
from lumigator_nb.models.prices import Priced, at_machine_hour, highest, hourly_rate, price_of
from lumigator_nb.models.prompts.conversation import Conversation
from lumigator_nb.models.providers import api, api_settings, baselines, functions, gguf, huggingface
from lumigator_nb.models.providers.api_settings import PROVIDERS, Key, missing_key
from lumigator_nb.models.providers.baselines import is_baseline
from lumigator_nb.models.providers.functions import RECORDED, runs_here
from lumigator_nb.models.tokens import about_tokens, most_tokens
from lumigator_nb.security.redaction import redactor
from lumigator_nb.specs import Example, Model, Summarization, Task

__all__ = [
    "RECORDED",
    "Budget",
    "Conversation",
    "GuardedModel",
    "Key",
    "LanguageModel",
    "Prediction",
    "Priced",
    "Provider",
    "Repeats",
    "Report",
    "Request",
    "Take",
    "about_tokens",
    "ask_here",
    "at_machine_hour",
    "check",
    "draws_answers",
    "extra_of",
    "finds_no_credentials",
    "fitted",
    "follows_no_redirects",
    "has_api",
    "has_weights",
    "highest",
    "hourly_rate",
    "identify",
    "is_baseline",
    "is_local_path",
    "is_own_address",
    "is_own_key",
    "keeps_answers",
    "key",
    "known",
    "load",
    "missing_key",
    "most_tokens",
    "packages_of",
    "parallel_option",
    "place_of",
    "predict",
    "price_of",
    "provider",
    "provider_names",
    "recipe_of",
    "runs_here",
    "runs_user_code",
    "speaks_openai",
    "supports_batches",
    "title_of",
    "uses_all_cores",
    "waits",
]

# Importing these registers them; none loads a heavy library.
_BUILT_IN = (baselines, functions, gguf, huggingface)
for _name in PROVIDERS:
    base.register(_name, api.ApiProvider(_name))


def provider_names() -> tuple[str, ...]:
    """The sorted names of all providers, built in and installed."""
    return tuple(name for name in base.provider_names() if name != RECORDED)


def check(model: Model) -> None:
    """Refuse a model that cannot work, without loading it.

    Raises:
        UnknownModelError: no provider knows it.
        InvalidInputError: an option is unknown or out of range.
        MissingExtraError: packages are missing.
    """
    base.get(model.provider).check(model)


def key(model: Model) -> Key | None:
    """Return where the model's API key is; None where it needs none."""
    found = base.get(model.provider)
    return found.key(model) if isinstance(found, api.ApiProvider) else None


def is_own_address(model: Model) -> bool:
    """Whether the model is asked where its provider's library asks without `base_url`."""
    return _is_api(model) and api_settings.is_own_address(model)


def is_own_key(model: Model, key_name: str) -> bool:
    """Whether a key is the model's provider's, by its name."""
    return _is_api(model) and api_settings.is_own_key(model, key_name)


def finds_no_credentials(model: Model) -> bool:
    """Whether the provider's library sends the key that it is given, and looks for no other in the environment."""
    return _is_api(model) and api_settings.finds_no_credentials(model)


def follows_no_redirects(model: Model) -> bool:
    """Whether a server that sends requests on to another address is not followed."""
    return _is_api(model) and api_settings.follows_no_redirects(model)


def is_local_path(model: Model) -> bool:
    """Whether the model is read from a path of the machine that computes it."""
    return base.get(model.provider).is_local_path(model)


def has_weights(model: Model) -> bool:
    """Whether all that the model needs is on this machine; asks nobody."""
    return base.get(model.provider).has_weights(model)


def title_of(provider: str) -> str:
    """Return the name of a provider for readers, also of one that is not installed."""
    found = base.find(provider)
    return found.title if found else provider.replace("_", " ").capitalize()


def place_of(provider: str) -> str:
    """Return where a provider's models run, in words."""
    found = base.find(provider)
    return found.place if found else f"at {title_of(provider)}"


def recipe_of(model: Model) -> str | None:
    """Return the line of code by which only its owner can bring the model along; None where anybody can launch it."""
    found = base.find(model.provider)
    return found.recipe.format(name=repr(model.name), label=repr(model.label)) if found and found.recipe else None


def packages_of(model: Model) -> Sequence[str]:
    """Return the names of the distributions that take part in the model's answers."""
    found = base.find(model.provider)
    return found.packages_of(model) if found else ()


def runs_user_code(provider: object) -> bool:
    """Whether a provider, by its name, calls functions of the user's."""
    found = base.find(provider)
    return found is not None and found.runs_user_code


def parallel_option(provider: str) -> str | None:
    """Return the option that says how many examples a provider's models work on at once; None where there is none."""
    found = base.find(provider)
    return found.parallel_option if found else None


def extra_of(module: str) -> str | None:
    """Return the extra of this package that brings a module which some provider needs."""
    return base.extra_of(module)


def has_api(provider: str) -> bool:
    """Whether a provider's models are asked by requests, which take fields that only a server knows."""
    return isinstance(base.find(provider), api.ApiProvider)


def _is_api(model: Model) -> bool:
    return isinstance(base.get(model.provider), api.ApiProvider)


def supports_batches(model: Model) -> bool:
    """Whether the model's provider answers many questions at once later, at a lower price."""
    from lumigator_nb.models.providers import api_batches

    return isinstance(base.get(model.provider), api.ApiProvider) and api_batches.supports_batches(model.provider)


def speaks_openai(model: Model) -> bool:
    """Whether the model takes the parameters of OpenAI's chat completions as they are."""
    return base.get(model.provider).speaks_openai(model)


def uses_all_cores(model: Model) -> bool:
    """Whether the model wants a machine's cores for itself where it has no GPU."""
    return base.get(model.provider).uses_all_cores


def keeps_answers(model: Model) -> bool:
    """Whether the model's answers cost enough to be kept and looked up."""
    return base.get(model.provider).keeps_answers


def waits(model: Model) -> bool:
    """Whether the model is asked elsewhere, so that whoever asks mostly waits."""
    return keeps_answers(model) and not uses_all_cores(model)


def identify(model: Model, report: Report = lambda note: None) -> str:
    """Return what besides the model's settings decides its answers, such as a commit; nothing heavy is loaded."""
    return base.get(model.provider).identify(model, report)


def fitted(model: Model, task: Task, ground_truth: Callable[[], Iterable[str]]) -> Model:
    """Return a model with what it learns from an experiment before it is launched; see :meth:`Provider.fitted`."""
    return base.get(model.provider).fitted(model, task, ground_truth)


def load(model: Model, task: Task, report: Report = lambda note: None) -> LanguageModel:
    """Load a model here.

    Args:
        model: which one, and how it generates.
        task: what it will be asked to do.
        report: takes short notes for a progress display, such as "loading the model".

    Raises:
        UnknownModelError: there is no such model.
        UnavailableError: it cannot be fetched now.
        ConfigurationError: its API key is missing.
    """
    return base.get(model.provider).load(model, task, report)


def predict(model: Model | str, examples: Sequence[str], task: Task | None = None) -> list[Prediction]:
    """Answer a few examples here and now, in their order; nothing is stored, and no secret of the environment is sent.

    Raises:
        As :func:`check` and :func:`load`.
    """
    chosen = Model(model) if isinstance(model, str) else model
    task = task or Summarization()
    conversation, redact = Conversation(task), redactor()
    requests = [conversation.request(Example(row, text), redact) for row, text in enumerate(examples)]
    answers = ask_here(chosen, task, requests, Repeats() if draws_answers(chosen) else None)
    return [prediction for _, prediction in sorted(answers, key=lambda pair: pair[0].row)]
