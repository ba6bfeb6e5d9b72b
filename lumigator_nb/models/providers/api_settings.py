"""Access to a model behind an API: its provider's class, its API key and its settings."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError
from lumigator_nb.models.base import check_options
from lumigator_nb.models.pacing.throttle import Pace
from lumigator_nb.models.prices import Price
from lumigator_nb.specs import Model, Value

# The names in any-llm 1.40. Listed here to tell a missing package from a misspelt name without importing any-llm.
_NAMES = """
anthropic atlascloud azure azureanthropic azureopenai bedrock cascadia cerebras cohere dashscope databricks
deepinfra deepseek edenai fireworks gemini github gmi groq huggingface inception kenari liner llama llamacpp
llamafile lmstudio meta minimax mistral moonshot mzai nebius neosantara ollama openai openrouter perplexity portkey
qiniu requesty sagemaker sambanova telnyx together vertexai vertexaianthropic vllm watsonx xai zai
"""
PROVIDERS = frozenset(_NAMES.split())


class Client(NamedTuple):
    """Facts about a provider that any-llm does not tell.

    Attributes:
        title: name for readers; default the provider's name, capitalized.
        extra: extra of this package that installs the provider's client; default "api".
        module: module of the client.
        own: whether the client is installed by any-llm's extra of the provider's name.
    """

    title: str = ""
    extra: str = "api"
    module: str = "openai"
    own: bool = False


_CLIENTS = {
    "anthropic": Client("Anthropic", "anthropic", "anthropic"),
    "azureanthropic": Client(extra="anthropic", module="anthropic"),
    "deepseek": Client("DeepSeek"),
    "gemini": Client("Gemini", module="google.genai", own=True),
    "llamacpp": Client("llama.cpp"),
    "lmstudio": Client("LM Studio"),
    "mistral": Client("Mistral", "mistral", "mistralai"),
    "openai": Client("OpenAI"),
    "vllm": Client("vLLM"),
}

# Servers that any-llm asks through a library of their own. Where that is not installed, OpenAI's protocol does, which
# they speak too: address, and variable with the API key ("None" for none).
_SPEAK_OPENAI = {
    "lmstudio": ("http://127.0.0.1:1234/v1", "LM_STUDIO_API_KEY"),
    "ollama": ("http://127.0.0.1:11434/v1", "None"),
}

# Requests under way at once by default: the most, and the number to begin with.
MOST_AT_ONCE, FIRST_AT_ONCE = 64, 8


def client_of(provider: str) -> Client:
    """Return the facts about a provider's client."""
    return _CLIENTS.get(provider, Client())


class Options(Value):
    """The options of ``Model(…)`` for a model behind an API, besides its generation settings.

    Attributes:
        api_key_name: variable that holds the API key; default the provider's own (`OPENAI_API_KEY`), or none if
            `base_url` is set.
        concurrency: most requests under way at once; default up to 64, starting with 8. If it is set, that many from
            the start.
        timeout: seconds for one request.
        retry_for: seconds after which an example without an answer counts as failed.
        requests_per_minute: most requests started per minute.
        price: US dollars per million tokens, ``{"prompt": …, "completion": …}``, optionally with "cache_read" and
            "cache_write" for cached prompts; or US dollars per hour of your own server, ``{"hour": 2.5}``; default the
            provider's list price.
        stream: receive answers token by token, which measures the latency of the first token.
        reasoning_effort: how long a reasoning model thinks: "minimal", "low", "medium", "high".
        extra: further fields of the request, as the provider documents them.
    """

    api_key_name: str | None = None
    concurrency: int | None = Field(default=None, ge=1, le=1000)
    timeout: float = Field(default=60.0, gt=0)
    retry_for: float = Field(default=600.0, ge=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    price: Price | None = None
    stream: bool = False
    reasoning_effort: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def pace(self) -> Pace:
        """Concurrency and rate limits for this model."""
        return Pace(
            most=self.concurrency or MOST_AT_ONCE,
            start=self.concurrency or FIRST_AT_ONCE,
            retry_for=self.retry_for,
            per_minute=self.requests_per_minute,
        )


class Key(NamedTuple):
    """The place of an API key.

    Attributes:
        name: the environment variable.
        required: whether the server cannot be asked without it.
    """

    name: str
    required: bool


def read_options(model: Model) -> Options:
    """Return a model's options after validation.

    Raises:
        InvalidInputError: an option is unknown or out of range.
    """
    check_options(model, Options.model_fields)
    try:
        return Options(**model.own_options)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"setting {where!r} of model {model.label!r}: {first['msg']}") from None


def provider_in_name(key_name: str) -> str | None:
    """Return the provider in the name of a key, such as "openai" in MY_OPENAI_KEY; None if there is none.

    The longest name counts: AZURE_OPENAI_API_KEY is a key of "azureopenai".
    """
    words = key_name.lower().split("_")
    runs = {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
    return max(runs & PROVIDERS, key=len, default=None)


def is_own_key(model: Model, key_name: str) -> bool:
    """Return whether a key belongs to the model's provider, by its name.

    Raises:
        As :func:`provider_class`.
    """
    return model.provider == provider_in_name(key_name) or key_name in _key_names(provider_class(model))


def is_own_address(model: Model) -> bool:
    """Return whether the model's address is the default of its provider's library.

    Raises:
        As :func:`provider_class`.
    """
    if model.base_url is None:
        return True
    own = provider_class(model).API_BASE
    return bool(own) and _plain_address(model.base_url) == _plain_address(own)


def _plain_address(url: str) -> str:
    return url.rstrip("/").replace("://localhost:", "://127.0.0.1:")


def finds_no_credentials(model: Model) -> bool:
    """Return whether the provider's library sends only the key it is given, and none from the environment.

    Raises:
        As :func:`provider_class`.
    """
    kind = provider_class(model)
    # Azure's client reads AZURE_OPENAI_AD_TOKEN; clients of other protocols read tokens of Google, AWS or Anthropic.
    return is_openai_like(kind) and not model.provider.startswith("azure")


def follows_no_redirects(model: Model) -> bool:
    """Return whether requests to the model ignore redirects. Ours do; those of the providers' libraries follow them.

    Raises:
        As :func:`provider_class`.
    """
    return is_plain_openai(provider_class(model))


def _key_names(kind: Any) -> list[str]:
    # any-llm separates alternative names with a slash.
    return str(kind.ENV_API_KEY_NAME).split("/")


def provider_class(model: Model) -> Any:
    """Return any-llm's class for the model's provider.

    Raises:
        MissingExtraError: any-llm, or the provider's own client, is not installed.
    """
    if importlib.util.find_spec("any_llm") is None:
        raise MissingExtraError(f"model {model.label!r}", "api")
    from any_llm import AnyLLM

    try:
        kind = AnyLLM.get_provider_class(model.provider)
    except ImportError:
        kind = None
    if kind is not None and kind.MISSING_PACKAGES_ERROR is None:
        return kind
    if model.provider in _SPEAK_OPENAI:
        return _openai_class(model.provider)
    client = client_of(model.provider)
    if client.extra != Client().extra:
        raise MissingExtraError(f"model {model.label!r}", client.extra)
    raise ConfigurationError(
        f"model {model.label!r} needs packages that are not installed",
        f"install them with: pip install 'any-llm-sdk[{model.provider}]'",
    )


@cache
def _openai_class(provider: str) -> Any:
    """Return a class like any-llm's for llama.cpp's server, which speaks OpenAI's protocol and needs no key."""
    from any_llm import AnyLLM

    address, key_name = _SPEAK_OPENAI[provider]
    facts = {
        "PROVIDER_NAME": provider, "API_BASE": address, "ENV_API_BASE_NAME": None, "ENV_API_KEY_NAME": key_name,
    }  # fmt: skip
    return type(f"{provider.capitalize()}Provider", (AnyLLM.get_provider_class("llamacpp"),), facts)


def key_of(model: Model) -> Key | None:
    """Return the variable with the API key; None if no key is sent."""
    options = read_options(model)
    if options.api_key_name is not None:
        return Key(options.api_key_name, True)
    if model.base_url is not None:
        # A provider's key must not go to another address unless the user names it.
        return None
    kind = provider_class(model)
    names = _key_names(kind)
    name = next((name for name in names if os.environ.get(name)), names[0])
    if name in ("", "None"):
        return None
    from any_llm import AnyLLM

    # Providers that can do without a key override the method that insists on one.
    return Key(name, required=kind._verify_and_set_api_key is AnyLLM._verify_and_set_api_key)


def is_openai_like(kind: Any) -> bool:
    """Return whether any-llm's class of a provider speaks the OpenAI protocol."""
    from any_llm.providers.openai.base import BaseOpenAIProvider

    return issubclass(kind, BaseOpenAIProvider)


def is_plain_openai(kind: Any) -> bool:
    """Return whether a provider takes unchanged OpenAI requests at one address. Azure, for example, has one per model.

    A provider that changes requests overrides one of two methods of any-llm's general class.
    """
    from any_llm.providers.openai.base import BaseOpenAIProvider

    return (
        issubclass(kind, BaseOpenAIProvider)
        and kind._acompletion is BaseOpenAIProvider._acompletion
        and kind._init_client is BaseOpenAIProvider._init_client
    )


def own_headers(model: Model, key: str) -> dict[str, Any]:
    """Return `default_headers` that stop OpenAI's client from adding headers of the environment.

    Those may hold keys, and are meant for the address in the environment, not for the model's.
    """
    if model.provider == "openai" and model.base_url is None:
        return {}
    from openai import Omit

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = [line.partition(":")[0].strip() for line in lines if ":" in line]
    account = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
    names += [header for variable, header in account.items() if os.environ.get(variable)]
    return {name: f"Bearer {key}" if name.lower() == "authorization" else Omit() for name in names}


def key_value(model: Model, key: Key | None) -> str | None:
    """Return the API key; None if there is none.

    Raises:
        ConfigurationError: the key is required and not set.
    """
    value = os.environ.get(key.name) if key else None
    if key and key.required and not value:
        raise missing_key(model, key.name)
    return value


def missing_key(model: Model, name: str) -> ConfigurationError:
    """Return the error for a model whose API key is not set."""
    return ConfigurationError(
        f"model {model.label!r} needs an API key, and {name} is not set",
        f"put {name}=… into .env or the environment; on a remote cluster, into that of its nodes",
    )


async def hang_up(client: Any) -> None:
    """Close the connections of a provider's client, whichever method it has for that."""
    if hasattr(client, "close"):
        await client.close()
    elif hasattr(client, "__aexit__"):
        await client.__aexit__(None, None, None)


def http_session(timeout: float) -> Any:
    """Return an aiohttp session that verifies certificates and has no limit of connections.

    The number of requests under way is the throttle's task.

    Args:
        timeout: seconds for a whole request.
    """
    import ssl

    import aiohttp
    import certifi

    # Python's default store of certificates is empty on some systems.
    context = ssl.create_default_context(cafile=certifi.where())
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout))


def proxy_for(url: str) -> str | None:
    """Return the environment's proxy for an address. aiohttp would look it up for every request."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
