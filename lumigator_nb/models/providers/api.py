"""Models behind an API, hosted or self-hosted: ``openai/gpt-4o-mini``, ``Model("x", provider="openai", base_url=…)``.

Requests go through any-llm (https://github.com/mozilla-ai/any-llm), which knows the providers' addresses, parameters
and client libraries.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.models.base import LanguageModel, Prediction, Provider, Report, Request
from lumigator_nb.models.pacing import rates
from lumigator_nb.models.pacing.asker import Ask, Asker
from lumigator_nb.models.pacing.throttle import Throttle
from lumigator_nb.models.prices import origin_of, price_of
from lumigator_nb.models.providers import api_failures
from lumigator_nb.models.providers.api_payloads import prediction_from
from lumigator_nb.models.providers.api_settings import (
    Key,
    client_of,
    hang_up,
    http_session,
    is_openai_like,
    is_plain_openai,
    key_of,
    key_value,
    own_headers,
    provider_class,
    proxy_for,
    read_options,
)
from lumigator_nb.security import redaction
from lumigator_nb.specs import Model, Task

log = logging.getLogger(__name__)

# Parameters that a model may refuse (reasoning models take no temperature), and that a request can leave out.
_DISPENSABLE = {"temperature", "top_p", "seed", "response_format", "logprobs", "top_logprobs"}
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
# The clients refuse an empty key, also for servers that need none.
_NO_KEY = "no-key"


class ApiProvider(Provider):
    """A provider of any-llm, by its name there."""

    keeps_answers = True
    parallel_option = "concurrency"
    packages = ("any-llm-sdk",)
    optional_modules = ("certifi",)

    def __init__(self, name: str) -> None:
        self._client = client_of(name)
        self.title = self._client.title
        self.needs = name if self._client.own else self._client.extra
        self.modules = ("any_llm", "genai_prices", self._client.module)

    @property
    def requirement(self) -> str | None:
        """The requirement to install with pip: this package's extra, or any-llm's for its provider's own client."""
        return f"any-llm-sdk[{self.needs}]" if self._client.own else super().requirement

    def check(self, model: Model) -> None:
        """Refuse unknown options, a key in place of its name, and a machine without the client library."""
        options = read_options(model)
        if options.api_key_name is not None:
            redaction.check_name(options.api_key_name)
        if model.base_url is not None:
            address = urlsplit(model.base_url)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise InvalidInputError(
                    f"base_url {model.base_url!r} of model {model.label!r} is not an address", "http://host:port/v1"
                )
            if address.username or address.password or address.query:
                raise InvalidInputError(
                    f"base_url of model {model.label!r} holds more than an address, and it would be stored",
                    "leave out user, password and query; a key goes into .env: api_key_name='…'",
                )
        if secret := redaction.secret_field(options.extra):
            raise InvalidInputError(
                f"setting 'extra' of model {model.label!r} has a field {secret!r}, and settings are stored",
                "name the variable that holds the key: api_key_name='…'",
            )
        provider_class(model)

    def speaks_openai(self, model: Model) -> bool:
        """Return whether the model's server speaks OpenAI's protocol; False where packages are missing."""
        with suppress(ConfigurationError):  # said when the model is checked
            return is_openai_like(provider_class(model))
        return False

    def key(self, model: Model) -> Key | None:
        """The variable that holds the API key; None if no key is sent."""
        return key_of(model)

    def identify(self, model: Model, report: Report) -> str:
        """Return nothing: an API does not tell which weights answer."""
        return ""

    def load(self, model: Model, task: Task, report: Report) -> LanguageModel:
        """Return the model; the first request opens the connection.

        Raises:
            ConfigurationError: the model's API key is not on this machine.
        """
        self.check(model)
        return ApiModel(model, self.key(model), task.answer_schema)


class ApiModel:
    """A model behind an API.

    Args:
        model: its name, address and settings.
        key: the variable that holds its API key; None if it needs none.
        answer_schema: JSON Schema that answers must satisfy, where the server takes one; None for free text.

    Attributes:
        dropped: parameters that the model has refused, which requests leave out.
        details: facts about the model and its answers, as plain JSON values.
    """

    def __init__(self, model: Model, key: Key | None, answer_schema: dict[str, Any] | None = None) -> None:
        self._model, self._key_name = model, key.name if key else None
        self._account = rates.account_of(model, self._key_name)
        self._options = read_options(model)
        self._key = key_value(model, key)
        self._redact = redaction.Redactor({key.name: self._key} if key and self._key else {})
        self._price = price_of(model)
        self._form = _response_format(answer_schema) if answer_schema and is_openai_like(provider_class(model)) else {}
        self.dropped: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._converted: dict[str, Any] | None = None
        self.details: dict[str, Any] = {
            "source": model.base_url or model.provider,
            "priced": self._price is not None,
            **({"answer_form": "JSON Schema"} if self._form else {}),
            "notes": [],
        }
        if origin := origin_of(model):
            # Costs are kept with the answers: a price list that is taken over later changes none of them.
            self.details["prices"] = origin

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Prediction]]:
        """Answer each request, as many at once as the provider takes; a rejected one has the provider's message."""
        asker = Asker(self._open, self.classify, self._options.pace, self._adapt, rates.shared(self._account))
        try:
            yield from asker.answer(requests)
        finally:
            # Added up, because a model may be asked in several calls.
            self.details["retries"] = self.details.get("retries", 0) + asker.retries
            self.details["most_at_once"] = max(self.details.get("most_at_once", 0), asker.peak)

    def client(self, **settings: Any) -> Any:
        """Return any-llm's client for this model; it belongs to the event loop on which it is first used."""
        kind = provider_class(self._model)
        # The asker retries, since it alone knows the rate limits of all requests together.
        if getattr(kind, "MAX_RETRIES_SUPPORT", None) in ("native", "mapped"):
            settings["max_retries"] = 0
        if is_openai_like(kind) and (headers := own_headers(self._model, self._key or _NO_KEY)):
            settings["default_headers"] = headers
        return kind(api_key=self._key or _NO_KEY, api_base=self._model.base_url, unified_exceptions=True, **settings)

    @property
    def parameters(self) -> dict[str, Any]:
        """The request's fields besides the messages, as :meth:`AnyLLM.acompletion` names them."""
        generation = self._model.generation
        fields: dict[str, Any] = {"temperature": generation.temperature, "max_tokens": generation.max_new_tokens}
        if generation.temperature > 0:
            # Repeats of a model differ in the seed alone.
            fields |= {"seed": generation.seed + self._model.repeat - 1}
            fields |= {"top_p": generation.top_p} if generation.top_p < 1 else {}
        if self._options.reasoning_effort:
            fields["reasoning_effort"] = self._options.reasoning_effort
        return {name: value for name, value in fields.items() if name not in self.dropped}

    @property
    def _extra(self) -> dict[str, Any]:
        extra = {**self._form, **self._options.extra}
        return {name: value for name, value in extra.items() if name not in self.dropped}

    @asynccontextmanager
    async def _open(self, throttle: Throttle) -> AsyncIterator[Ask]:
        client = self.client()
        try:
            if self._options.stream or not is_plain_openai(type(client)):
                yield self._ask_by_library(client)
            else:
                async with http_session(self._options.timeout) as http:
                    yield self._ask_by_http(client, http, throttle)
        finally:
            await hang_up(getattr(client, "client", None))

    def _ask_by_http(self, client: Any, http: Any, throttle: Throttle) -> Ask:
        """Ask over aiohttp, with the address and headers of the official OpenAI client.

        The client's own method validates parameters and answers against data models that are not needed here, and its
        transport is slow: together three quarters of a call's CPU time or more (benchmarks/api_overhead.py).
        """
        openai = client.client
        url = f"{str(openai.base_url).rstrip('/')}/chat/completions"
        # The client marks a header that it leaves out with an object in place of its value.
        own = {**openai.default_headers, **openai.auth_headers}
        headers = {name: value for name, value in own.items() if isinstance(value, str)}
        headers["Content-Type"] = "application/json"
        proxy = proxy_for(url)

        async def ask(request: Request) -> Prediction:
            body = {"model": self._model.name, "messages": request.messages, **self._body(client)}
            content = json.dumps(body, ensure_ascii=False).encode()
            started = time.perf_counter()
            # A redirect would lead from an address that was checked to one that was not.
            async with http.post(url, data=content, headers=headers, proxy=proxy, allow_redirects=False) as response:
                text = (await response.read()).decode(errors="replace")
            seconds = time.perf_counter() - started
            if response.status >= 300:
                raise api_failures.RefusedError(response.status, text, response.headers)
            if wait := api_failures.hold(response.headers):
                throttle.hold(wait)
            return self._prediction(request, api_failures.parsed(text), seconds, None, self._model.provider)

        return ask

    def _ask_by_library(self, client: Any) -> Ask:
        """Ask by any-llm's own method, which knows every provider's protocol and can stream."""
        streaming: dict[str, Any] = {}
        like_openai = is_openai_like(type(client))
        # any-llm converts only the usage of other protocols.
        counts_as = self._model.provider if like_openai else "openai"
        if self._options.stream:
            streaming["stream"] = True
            # Without it, OpenAI's protocol reports no tokens for a streamed answer. Other protocols refuse it.
            if like_openai:
                streaming["stream_options"] = {"include_usage": True}

        async def ask(request: Request) -> Prediction:
            started = time.perf_counter()
            first: float | None = None
            async with asyncio.timeout(self._options.timeout):
                answer = await client.acompletion(
                    self._model.name, request.messages, **streaming, **self.parameters, **self._extra
                )
                if streaming:
                    payload, first = await _collect(answer)
                else:
                    payload = answer.model_dump()
            seconds = time.perf_counter() - started
            return self._prediction(request, payload, seconds, None if first is None else first - started, counts_as)

        return ask

    def _body(self, client: Any) -> dict[str, Any]:
        """The parameters in the provider's format, converted by any-llm once for all requests."""
        if self._converted is None:
            from any_llm.types.completion import CompletionParams

            params = CompletionParams(model_id=self._model.name, messages=[{"role": "user"}], **self.parameters)
            converted = type(client)._convert_completion_params(params, **self._extra)
            if self._model.base_url and "max_completion_tokens" in converted:
                # Self-hosted servers know the older name, and not all of them the newer.
                converted["max_tokens"] = converted.pop("max_completion_tokens")
            self._converted = {self._renamed.get(name, name): value for name, value in converted.items()}
        return self._converted

    def _prediction(
        self, request: Request, payload: Any, seconds: float, first: float | None, provider: str
    ) -> Prediction:
        return prediction_from(
            payload, prompt=json.dumps(request.messages, ensure_ascii=False), seconds=seconds, first=first,
            price=self._price, provider=provider,
        )  # fmt: skip

    def classify(self, caught: Exception) -> api_failures.Failure:
        """Return what an exception of the provider's library means."""
        return api_failures.classify(caught, self._model, self._key_name, self._redact)

    def _adapt(self, parameter: str) -> bool:
        """Rename a parameter that the model refuses, or else drop it, and note that once.

        Returns:
            Whether it is worth asking again.
        """
        if parameter in _OTHER_NAME and parameter not in self._renamed.values():
            new = self._renamed.setdefault(parameter, _OTHER_NAME[parameter])
            note = f"{parameter} is sent as {new}"
        elif parameter in _DISPENSABLE:
            # OpenAI refuses top_logprobs without logprobs.
            self.dropped |= {parameter, "top_logprobs"} if parameter == "logprobs" else {parameter}
            note = f"the model does not take {parameter}, so its own default applies"
        else:
            return False
        self._converted = None  # the next request converts the parameters again
        # Requests under way at the same time are refused for the same reason.
        if note not in self.details["notes"]:
            self.details["notes"].append(note)
            log.warning("%s: %s", self._model.label, note)
        return True


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the field of OpenAI's protocol that holds answers to a JSON Schema."""
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


async def _collect(chunks: Any) -> tuple[Mapping[str, Any], float | None]:
    """Join a streamed answer; return it as a completion, and the time of its first token."""
    text, reasoning, usage, finish, first = [], [], None, None, None
    async for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices[:1]:
            delta = choice.delta
            thought = getattr(delta, "reasoning", None)
            if first is None and (delta.content or thought):
                first = time.perf_counter()
            text.append(delta.content or "")
            reasoning.append(thought.content if thought else "")
            finish = choice.finish_reason or finish
    message = {"content": "".join(text), "reasoning": {"content": "".join(reasoning)} if any(reasoning) else None}
    choice = {"message": message, "finish_reason": finish}
    return {"choices": [choice], "usage": usage.model_dump() if usage else None}, first
