"""How a model behind an API is reached: its provider's class, its key, and the settings of the access."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError
from lumigator_nb.models.base import check_options
from lumigator_nb.models.pacing.throttle import Pace
from lumigator_nb.models.prices import Price
from lumigator_nb.specs import Model, Value

# As any-llm 1.40 names them. Known here, so that a missing package can be told from a misspelt name.
_NAMES = """
anthropic atlascloud azure azureanthropic azureopenai bedrock cascadia cerebras cohere dashscope databricks
deepinfra deepseek edenai fireworks gemini github gmi groq huggingface inception kenari liner llama llamacpp
llamafile lmstudio meta minimax mistral moonshot mzai nebius neosantara ollama openai openrouter perplexity portkey
qiniu requesty sagemaker sambanova telnyx together vertexai vertexaianthropic vllm watsonx xai zai
"""
PROVIDERS = frozenset(_NAMES.split())


class Client(NamedTuple):
    """What is known of a provider besides what any-llm says.

    Attributes:
        title: for readers; default its name, written out.
        extra: of this package that brings its own client; default "api".
        own: its client is the one of any-llm's extra of its own name.
        module: of its client.
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
    "mistral": Client("Mistral", "mistral", "mistralai"),
    "openai": Client("OpenAI"),
    "vllm": Client("vLLM"),
}

MOST_AT_ONCE, FIRST_AT_ONCE = 64, 8


def client_of(provider: str) -> Client:
    """Return what is known of a provider's client."""
    return _CLIENTS.get(provider, Client())


class Options(Value):
    """What ``Model(…)`` takes for a provider with an API, besides its generation settings.

    Attributes:
        api_key_name: variable that holds the API key; default the provider's own (`OPENAI_API_KEY`), or none where
            `base_url` leads elsewhere.
        concurrency: most requests under way at once; default 64, approached from 8. A number given is begun with.
        timeout: seconds for one request.
        retry_for: seconds after which an example that still has no answer counts as failed.
        requests_per_minute: never begin more.
        price: dollars per million tokens, ``{"prompt": …, "completion": …}`` and maybe "cache_read" and
            "cache_write" for what the provider caches of prompts; default the provider's list price.
        stream: receive answers token by token, which measures the time to the first one.
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
        """How hard to ask."""
        return Pace(
            most=self.concurrency or MOST_AT_ONCE,
            start=self.concurrency or FIRST_AT_ONCE,
            retry_for=self.retry_for,
            per_minute=self.requests_per_minute,
        )


class Key(NamedTuple):
    """Where an API key is.

    Attributes:
        name: of the environment variable.
        required: False where the server may do without.
    """

    name: str
    required: bool


def read_options(model: Model) -> Options:
    """Return a model's options, checked.

    Raises:
        InvalidInputError: one is unknown or out of range.
    """
    check_options(model, Options.model_fields)
    try:
        return Options(**model.own_options)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"setting {where!r} of model {model.label!r}: {first['msg']}") from None


def provider_in_name(key_name: str) -> str | None:
    """Return the provider whose key a name says that it is: "openai" of MY_OPENAI_KEY; None where it names none.

    The longest provider counts: AZURE_OPENAI_API_KEY is a key of "azureopenai".
    """
    words = key_name.lower().split("_")
    runs = {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
    return max(runs & PROVIDERS, key=len, default=None)


def is_own_key(model: Model, key_name: str) -> bool:
    """Whether a key is the model's provider's, by its name.

    Raises:
        As :func:`provider_class`.
    """
    return model.provider == provider_in_name(key_name) or key_name in _key_names(provider_class(model))


def is_own_address(model: Model) -> bool:
    """Whether the model is asked where its provider's library asks without `base_url`.

    Raises:
        As :func:`provider_class`.
    """
    if model.base_url is None:
        return True
    own = provider_class(model).API_BASE
    return bool(own) and model.base_url.rstrip("/") == own.rstrip("/")


def finds_no_credentials(model: Model) -> bool:
    """Whether the provider's library sends the key that it is given, and looks for no other in the environment.

    Raises:
        As :func:`provider_class`.
    """
    kind = provider_class(model)
    # Azure's client takes AZURE_OPENAI_AD_TOKEN from the environment. Others take tokens of Google, AWS, Anthropic.
    return is_openai_like(kind) and not model.provider.startswith("azure")


def follows_no_redirects(model: Model) -> bool:
    """Whether the model is asked by our own requests, and not by a library that goes where a server sends it on.

    Raises:
        As :func:`provider_class`.
    """
    return is_plain_openai(provider_class(model))


def _key_names(kind: Any) -> list[str]:
    # Some providers' keys go by two names.
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
    client = client_of(model.provider)
    if client.extra != Client().extra:
        raise MissingExtraError(f"model {model.label!r}", client.extra)
    raise ConfigurationError(
        f"model {model.label!r} needs packages that are not installed",
        f"install them with: pip install 'any-llm-sdk[{model.provider}]'",
    )


def key_of(model: Model) -> Key | None:
    """Return the variable with the API key; None where there is none to send."""
    options = read_options(model)
    if options.api_key_name is not None:
        return Key(options.api_key_name, True)
    if model.base_url is not None:
        # A key must not go to another address than its owner's unless somebody says so.
        return None
    kind = provider_class(model)
    names = _key_names(kind)
    name = next((each for each in names if os.environ.get(each)), names[0])
    if name in ("", "None"):
        return None
    return Key(name, required=kind._verify_and_set_api_key is _required_key())


def _required_key() -> Callable[..., Any]:
    from any_llm import AnyLLM

    return AnyLLM._verify_and_set_api_key  # type: ignore[no-any-return]


def is_openai_like(kind: Any) -> bool:
    from any_llm.providers.openai.base import BaseOpenAIProvider

    return issubclass(kind, BaseOpenAIProvider)


def is_plain_openai(kind: Any) -> bool:
    """Whether requests go to one address with nothing done to them on the way (Azure has one for each model)."""
    from any_llm.providers.openai.base import BaseOpenAIProvider

    own = [(kind._acompletion, BaseOpenAIProvider._acompletion), (kind._init_client, BaseOpenAIProvider._init_client)]
    return issubclass(kind, BaseOpenAIProvider) and all(mine is general for mine, general in own)


def own_headers(model: Model, key: str) -> dict[str, Any]:
    """Return `default_headers` for OpenAI's client by which it leaves out what it would add from the environment.

    Headers of the environment may hold keys, and are for the address that the client takes from there as well.
    """
    if model.provider == "openai" and model.base_url is None:
        return {}
    from openai import Omit

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = [line.partition(":")[0].strip() for line in lines if ":" in line]
    own = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
    names += [header for variable, header in own.items() if os.environ.get(variable)]
    return {name: f"Bearer {key}" if name.lower() == "authorization" else Omit() for name in names}


def key_value(model: Model, key: Key | None) -> str | None:
    value = os.environ.get(key.name) if key else None
    if key and key.required and not value:
        raise missing_key(model, key.name)
    return value


def missing_key(model: Model, name: str) -> ConfigurationError:
    """The error of a model whose API key is nowhere."""
    return ConfigurationError(
        f"model {model.label!r} needs an API key, and {name} is not set",
        f"put {name}=… into .env or the environment; on a remote cluster, into that of its nodes",
    )


async def hang_up(client: Any) -> None:
    """Close the connections of a provider's own client."""
    if hasattr(client, "close"):
        await client.close()
    elif hasattr(client, "__aexit__"):
        await client.__aexit__(None, None, None)


def http_session(timeout: float) -> Any:
    """Return an aiohttp session that verifies certificates and never waits for a connection of its own.

    Args:
        timeout: seconds for a whole request.
    """
    import ssl

    import aiohttp
    import certifi

    # Python's own store of certificates is empty on some systems.
    verified = ssl.create_default_context(cafile=certifi.where())
    connector = aiohttp.TCPConnector(limit=0, ssl=verified)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout))


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for an address; looked up once, aiohttp would do so each time."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
