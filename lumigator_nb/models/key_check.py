"""Whether a provider takes an API key: asked by listing its models, which costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lumigator_nb.errors import ConfigurationError, InvalidInputError, UnavailableError
from lumigator_nb.models.catalogue import CatalogueModel
from lumigator_nb.models.providers import api_failures
from lumigator_nb.models.providers.api_settings import PROVIDERS, hang_up, provider_class
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Model

_SUFFIX = "_API_KEY"
_SECONDS = 20.0


@dataclass(frozen=True)
class KeyCheck:
    """A provider has taken a key; `n_models` is how many models it lists for it."""

    provider: str
    n_models: int


def providers_of(name: str, catalogue: Iterable[CatalogueModel]) -> tuple[str, ...]:
    """Return the providers whose key goes by that name, as far as the catalogue or the name itself tell."""
    known = {model.provider for model in catalogue if model.api_key == name}
    own = name.removesuffix(_SUFFIX).replace("_", "").lower() if name.endswith(_SUFFIX) else ""
    return tuple(sorted(known | ({own} & PROVIDERS)))


def check(provider: str, name: str, value: str) -> KeyCheck:
    """Ask a provider for its list of models, with a key.

    Args:
        name: of the key, for messages.

    Raises:
        ConfigurationError: the provider refuses the key.
        InvalidInputError: the provider lists no models, so that only a question to a model would tell.
        MissingExtraError: its client is not installed.
        UnavailableError: it does not answer.
    """
    model = Model(f"{provider}/any")
    kind = provider_class(model)
    if not kind.SUPPORTS_LIST_MODELS:
        raise InvalidInputError(f"{provider} has no list of models, by which the key could be checked without paying")
    try:
        # In a thread of its own: a notebook's has an event loop at work.
        with ThreadPoolExecutor(1) as pool:
            return KeyCheck(provider, pool.submit(asyncio.run, _count(kind, value)).result())
    except Exception as error:
        raise _meaning(error, model, name, value) from None


async def _count(kind: Any, value: str) -> int:
    client = kind(api_key=value, unified_exceptions=True)
    try:
        return len(await asyncio.wait_for(client.alist_models(), _SECONDS))
    finally:
        await hang_up(getattr(client, "client", None))


def _meaning(error: Exception, model: Model, name: str, value: str) -> Exception:
    failure = api_failures.classify(error, model, name, Redactor({name: value}))
    if failure.kind == "fatal":
        return ConfigurationError(f"the key {name} is refused by {model.provider}: {failure.message}", "replace it")
    # Without a status, it begins with the name of a class.
    words = failure.message if failure.message.startswith("HTTP") else failure.message.partition(": ")[2]
    return UnavailableError(f"nobody answers at {model.provider}: {words or 'out of time'}", "try again later")
