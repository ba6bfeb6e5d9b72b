"""Check of an API key with its provider, by listing the provider's models, which costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lumigator_nb.errors import ConfigurationError, InvalidInputError, UnavailableError
from lumigator_nb.models.catalogue import CatalogueModel
from lumigator_nb.models.providers import api_failures
from lumigator_nb.models.providers.api_settings import PROVIDERS, hang_up, provider_class
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Model

_SUFFIX = "_API_KEY"
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class KeyCheck:
    """A key that a provider accepts.

    Attributes:
        provider: the provider.
        n_models: number of models that the provider lists for the key.
    """

    provider: str
    n_models: int


def providers_of(name: str, catalogue: Iterable[CatalogueModel]) -> tuple[str, ...]:
    """Return the providers whose key has that name, by the catalogue or by the name itself ("X_API_KEY")."""
    listed = {model.provider for model in catalogue if model.api_key == name}
    by_name = name.removesuffix(_SUFFIX).replace("_", "").lower() if name.endswith(_SUFFIX) else ""
    return tuple(sorted(listed | ({by_name} & PROVIDERS)))


def check(provider: str, name: str, value: str) -> KeyCheck:
    """Check a key by asking the provider for its list of models.

    Args:
        provider: name of the provider.
        name: name of the key, for messages.
        value: the key.

    Raises:
        ConfigurationError: the provider refuses the key.
        InvalidInputError: the provider has no list of models, so that only a paid request could check the key.
        MissingExtraError: the provider's client is not installed.
        UnavailableError: the provider does not answer.
    """
    model = Model(f"{provider}/any")  # for the provider's class alone; no model is asked
    kind = provider_class(model)
    if not kind.SUPPORTS_LIST_MODELS:
        raise InvalidInputError(f"{provider} has no list of models, by which the key could be checked without paying")

    async def count_models() -> int:
        client = kind(api_key=value, unified_exceptions=True)
        try:
            return len(await asyncio.wait_for(client.alist_models(), _TIMEOUT_S))
        finally:
            await hang_up(getattr(client, "client", None))

    try:
        # In a separate thread, because a notebook's main thread already runs an event loop.
        with ThreadPoolExecutor(1) as pool:
            return KeyCheck(provider, pool.submit(asyncio.run, count_models()).result())
    except Exception as error:
        failure = api_failures.classify(error, model, name, Redactor({name: value}))
    # Outside `except`, so that the error's context does not hold the provider's exception, which may show the key.
    if failure.kind == "fatal":
        raise ConfigurationError(f"{provider} refuses the key {name}: {failure.message}", "replace it")
    # Without an HTTP status the message begins with the name of an exception class, which tells a user nothing.
    reason = failure.message if failure.message.startswith("HTTP") else failure.message.partition(": ")[2]
    raise UnavailableError(f"{provider} does not answer: {reason or 'timed out'}", "try again later")
