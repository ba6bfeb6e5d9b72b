"""Models behind an API, hosted or self-hosted: ``openai/gpt-4o-mini``, ``Model("x", provider="openai", base_url=…)``.

Requests go through any-llm (https://github.com/mozilla-ai/any-llm), which knows the providers' addresses, parameters
and client libraries.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from lumigator_nb import keys
from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError
from lumigator_nb.models import failures
from lumigator_nb.models.asking import Ask, Asker, Pace, Throttle
from lumigator_nb.models.base import LanguageModel, Prediction, Report, Request, check_options
from lumigator_nb.models.payloads import prediction_from
from lumigator_nb.models.prices import Price, price_of
from lumigator_nb.specs import Model, Task, Value

log = logging.getLogger(__name__)

# As any-llm 1.40 names them. Known here, so that a missing package can be told from a misspelt name.
_NAMES = """
anthropic atlascloud azure azureanthropic azureopenai bedrock cascadia cerebras cohere dashscope databricks
deepinfra deepseek edenai fireworks gemini github gmi groq huggingface inception kenari liner llama llamacpp
llamafile lmstudio meta minimax mistral moonshot mzai nebius neosantara ollama openai openrouter perplexity portkey
qiniu requesty sagemaker sambanova telnyx together vertexai vertexaianthropic vllm watsonx xai zai
"""
PROVIDERS = frozenset(_NAMES.split())
# Extras of this package that bring a provider's own client; all others come with any-llm itself.
_EXTRAS = {"anthropic": "anthropic", "azureanthropic": "anthropic", "mistral": "mistral"}
# Parameters that a model may refuse (reasoning models take no temperature) and that it can do without.
_DISPENSABLE = {"temperature", "top_p", "seed"}
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_NO_KEY = "no-key"

MOST_AT_ONCE, FIRST_AT_ONCE = 64, 8


class Options(Value):
    """What ``Model(…)`` takes for a provider with an API, besides its generation settings.

    Attributes:
        api_key_name: variable that holds the API key; default the provider's own (`OPENAI_API_KEY`), or none where
            `base_url` leads elsewhere.
        concurrency: most requests under way at once; default 64, approached from 8. A number given is begun with.
        timeout: seconds for one request.
        retry_for: seconds after which an example that still has no answer counts as failed.
        requests_per_minute: never begin more.
        price: dollars per million tokens, ``{"prompt": …, "completion": …}``; default the provider's list price.
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


class ApiProvider:
    """One provider that any-llm knows."""

    uses_all_cores = False
    keeps_answers = True

    def check(self, model: Model) -> None:
        """Refuse unknown options, a key in place of its name, and a machine without the client library."""
        options = read_options(model)
        if options.api_key_name is not None:
            keys.check_name(options.api_key_name)
        if model.base_url is not None and not model.base_url.startswith(("http://", "https://")):
            raise InvalidInputError(
                f"base_url {model.base_url!r} of model {model.label!r} is not an address", "http://…"
            )
        provider_class(model)

    def key(self, model: Model) -> Key | None:
        """The variable with the API key; None where there is none to send."""
        options = read_options(model)
        if options.api_key_name is not None:
            return Key(options.api_key_name, True)
        if model.base_url is not None:
            # A key must not go to another address than its owner's unless somebody says so.
            return None
        kind = provider_class(model)
        # Some providers' keys go by two names.
        names = str(kind.ENV_API_KEY_NAME).split("/")
        name = next((each for each in names if os.environ.get(each)), names[0])
        if name in ("", "None"):
            return None
        return Key(name, required=kind._verify_and_set_api_key is _required_key())

    def identify(self, model: Model, report: Report) -> str:
        """Nothing more than the settings can be known of a model behind an API."""
        return ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Return the model; the connection is made with the first question.

        Raises:
            ConfigurationError: its API key is not on this machine.
        """
        self.check(model)
        return ApiModel(model, self.key(model))


class ApiModel:
    """A model behind an API.

    Args:
        key: where its API key is; None where it needs none.

    Attributes:
        dropped: parameters that the model was found not to take.
    """

    def __init__(self, model: Model, key: Key | None) -> None:
        self._model, self._key_name = model, key.name if key else None
        self._options = read_options(model)
        self._key = _value(model, key)
        self._redact = keys.Redactor({key.name: self._key} if key and self._key else {})
        self._price = price_of(model)
        self.dropped: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._converted: dict[str, Any] | None = None
        self.details: dict[str, Any] = {
            "source": model.base_url or model.provider,
            "priced": self._price is not None,
            "notes": [],
        }

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Prediction]]:
        """Ask as many at once as the provider takes; an example that it rejects carries its words."""
        asker = Asker(self._opened, self.classify, self._options.pace, self._adapt)
        try:
            yield from asker.answer(requests)
        finally:
            self.details["retries"] = self.details.get("retries", 0) + asker.retries
            self.details["most_at_once"] = max(self.details.get("most_at_once", 0), asker.peak)

    def client(self, **settings: Any) -> Any:
        """Return any-llm's client for this model; it belongs to the event loop on which it is first used."""
        kind = provider_class(self._model)
        if getattr(kind, "MAX_RETRIES_SUPPORT", None) in ("native", "mapped"):
            settings["max_retries"] = 0
        return kind(api_key=self._key or _NO_KEY, api_base=self._model.base_url, unified_exceptions=True, **settings)

    @property
    def parameters(self) -> dict[str, Any]:
        """The request's fields besides the messages, as :meth:`AnyLLM.acompletion` names them."""
        generation = self._model.generation
        fields: dict[str, Any] = {"temperature": generation.temperature, "max_tokens": generation.max_new_tokens}
        if generation.temperature > 0:
            fields |= {"seed": generation.seed + self._model.repeat - 1}
            fields |= {"top_p": generation.top_p} if generation.top_p < 1 else {}
        if self._options.reasoning_effort:
            fields["reasoning_effort"] = self._options.reasoning_effort
        return {name: value for name, value in fields.items() if name not in self.dropped}

    @asynccontextmanager
    async def _opened(self, throttle: Throttle) -> AsyncIterator[Ask]:
        if not _is_plain_openai(provider_class(self._model)):
            client = self.client()
            try:
                yield self._streaming(client) if self._options.stream else self._calling(client)
            finally:
                await hang_up(getattr(client, "client", None))
            return
        from openai import DefaultAioHttpClient

        async with DefaultAioHttpClient(timeout=self._options.timeout) as http:
            client = self.client(http_client=http)
            yield self._streaming(client) if self._options.stream else self._posting(client, http, throttle)

    def _posting(self, client: Any, http: Any, throttle: Throttle) -> Ask:
        """Ask through the HTTP client of the official OpenAI client, with its address and headers.

        Its own method validates parameters and answers against models that nothing here needs, which takes four
        fifths of a call's CPU time (benchmarks/api_overhead.py).
        """
        openai = client.client
        url = f"{str(openai.base_url).rstrip('/')}/chat/completions"
        known = {**openai.default_headers, **openai.auth_headers}
        headers = {name: value for name, value in known.items() if isinstance(value, str)}
        headers["Content-Type"] = "application/json"

        async def ask(request: Request) -> Prediction:
            body = {"model": self._model.name, "messages": request.messages, **self._body(client)}
            content = json.dumps(body, ensure_ascii=False).encode()
            started = time.perf_counter()
            response = await http.post(url, content=content, headers=headers)
            seconds = time.perf_counter() - started
            if response.status_code >= 400:
                raise failures.RefusedError(response.status_code, response.text, response.headers)
            if wait := failures.hold(response.headers):
                throttle.hold(wait)
            return self._prediction(request, failures.parsed(response.text), seconds)

        return ask

    def _calling(self, client: Any) -> Ask:
        async def ask(request: Request) -> Prediction:
            started = time.perf_counter()
            completion = await asyncio.wait_for(
                client.acompletion(self._model.name, request.messages, **self.parameters, **self._options.extra),
                self._options.timeout,
            )
            return self._prediction(request, completion.model_dump(), time.perf_counter() - started)

        return ask

    def _streaming(self, client: Any) -> Ask:
        async def ask(request: Request) -> Prediction:
            started = time.perf_counter()
            async with asyncio.timeout(self._options.timeout):
                chunks = await client.acompletion(
                    self._model.name,
                    request.messages,
                    stream=True,
                    **({"stream_options": {"include_usage": True}} if _is_openai_like(type(client)) else {}),
                    **self.parameters,
                    **self._options.extra,
                )
                payload, first = await _collected(chunks)
            seconds = time.perf_counter() - started
            return self._prediction(request, payload, seconds, None if first is None else first - started)

        return ask

    def _body(self, client: Any) -> dict[str, Any]:
        """The parameters as this provider writes them, converted by any-llm once for all requests."""
        if self._converted is None:
            from any_llm.types.completion import CompletionParams

            params = CompletionParams(model_id=self._model.name, messages=[{"role": "user"}], **self.parameters)
            converted = type(client)._convert_completion_params(params, **self._options.extra)
            if self._model.base_url and "max_completion_tokens" in converted:
                # Servers of one's own know the older name, and not all the newer.
                converted["max_tokens"] = converted.pop("max_completion_tokens")
            self._converted = {self._renamed.get(name, name): value for name, value in converted.items()}
        return self._converted

    def _prediction(self, request: Request, payload: Any, seconds: float, first: float | None = None) -> Prediction:
        return prediction_from(
            payload, prompt=json.dumps(request.messages, ensure_ascii=False), seconds=seconds, first=first,
            price=self._price,
        )  # fmt: skip

    def classify(self, caught: Exception) -> failures.Failure:
        """Say what an exception of the provider's library means."""
        return failures.classify(caught, self._model, self._key_name, self._redact)

    def _adapt(self, parameter: str) -> bool:
        """Do without a parameter that the model refuses, or call it by its other name; note it once."""
        if parameter in _OTHER_NAME and parameter not in self._renamed.values():
            new = self._renamed.setdefault(parameter, _OTHER_NAME[parameter])
            note = f"{parameter} is sent as {new}"
        elif parameter in _DISPENSABLE:
            self.dropped.add(parameter)
            note = f"the model does not take {parameter}, so its own default applies"
        else:
            return False
        self._converted = None
        if note not in self.details["notes"]:
            self.details["notes"].append(note)
            log.warning("%s: %s", self._model.label, note)
        return True


def read_options(model: Model) -> Options:
    """Return a model's options, checked.

    Raises:
        InvalidInputError: one is unknown or out of range.
    """
    check_options(model, Options.model_fields)
    try:
        return Options(**model.options)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"setting {where!r} of model {model.label!r}: {first['msg']}") from None


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
    if model.provider in _EXTRAS:
        raise MissingExtraError(f"model {model.label!r}", _EXTRAS[model.provider])
    raise ConfigurationError(
        f"model {model.label!r} needs packages that are not installed",
        f"install them with: pip install 'any-llm-sdk[{model.provider}]'",
    )


def _required_key() -> Callable[..., Any]:
    from any_llm import AnyLLM

    return AnyLLM._verify_and_set_api_key  # type: ignore[no-any-return]


def _is_openai_like(kind: Any) -> bool:
    from any_llm.providers.openai.base import BaseOpenAIProvider

    return issubclass(kind, BaseOpenAIProvider)


def _is_plain_openai(kind: Any) -> bool:
    """Whether requests go to one address with nothing done to them on the way (Azure has one for each model)."""
    from any_llm.providers.openai.base import BaseOpenAIProvider

    own = [(kind._acompletion, BaseOpenAIProvider._acompletion), (kind._init_client, BaseOpenAIProvider._init_client)]
    return issubclass(kind, BaseOpenAIProvider) and all(mine is general for mine, general in own)


def _value(model: Model, key: Key | None) -> str | None:
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


async def _collected(chunks: Any) -> tuple[Mapping[str, Any], float | None]:
    """Put a streamed answer together; return it as a whole one, and when its first token came."""
    text, reasoning, usage, finish, first = [], [], None, None, None
    async for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices[:1]:
            thought = getattr(choice.delta, "reasoning", None)
            if first is None and (choice.delta.content or thought):
                first = time.perf_counter()
            text.append(choice.delta.content or "")
            reasoning.append(thought.content if thought else "")
            finish = choice.finish_reason or finish
    message = {"content": "".join(text), "reasoning": {"content": "".join(reasoning)} if any(reasoning) else None}
    choice = {"message": message, "finish_reason": finish}
    return {"choices": [choice], "usage": usage.model_dump() if usage else None}, first
