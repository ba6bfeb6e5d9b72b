"""Prices of answers, in US dollars."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol, Self

from pydantic import Field, model_validator

from lumigator_nb.models.providers.baselines import is_baseline
from lumigator_nb.specs import Model, Value

# genai-prices names some providers by their owners.
_OTHER_NAMES = {"gemini": "google", "vertexai": "google", "bedrock": "aws", "moonshot": "moonshotai", "xai": "x-ai"}
# The share of the price that OpenAI, Anthropic and Mistral charge for a batch, where the list has no price for it.
BATCH_DISCOUNT = 0.5
_BATCH = {"processing": "batch"}
_NO_OTHERS: Mapping[str, int] = MappingProxyType({})


class Priced(Protocol):
    """A function from an answer's tokens to its price in US dollars."""

    def __call__(
        self,
        prompt_tokens: float,
        completion_tokens: float,
        cache_read_tokens: float = 0,
        cache_write_tokens: float = 0,
        others: Mapping[str, int] = _NO_OTHERS,
        /,
    ) -> float:
        """Return the price of one answer in US dollars.

        Args:
            prompt_tokens: all input tokens, including those read from or written to the provider's prompt cache.
            completion_tokens: all output tokens, including reasoning.
            cache_read_tokens: those of the prompt that the provider read from its cache.
            cache_write_tokens: those of the prompt that the provider wrote to its cache.
            others: those tokens of prompt and answer that some providers charge at rates of their own, by their names
                in genai-prices, such as ``{"input_audio_tokens": 20, "output_reasoning_tokens": 64}``.
        """
        ...


class Price(Value):
    """US dollars per million tokens, ``Model(…, price={"prompt": 0.15, "completion": 0.60})``, or per machine-hour.

    Attributes:
        prompt: of input tokens.
        completion: of output tokens, including reasoning.
        cache_read, cache_write: of input tokens that the provider reads from its prompt cache, or writes to it;
            default the same as `prompt`.
        hour: of an hour of your own server or GPU. :class:`SharedTime` divides the hours among the answers.
    """

    prompt: float = Field(default=0.0, ge=0)
    completion: float = Field(default=0.0, ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    hour: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.hour is None and not {"prompt", "completion"} <= self.model_fields_set:
            raise ValueError("a price has 'prompt' and 'completion', per million tokens, or 'hour', per hour")
        return self

    def __call__(
        self,
        prompt_tokens: float,
        completion_tokens: float,
        cache_read_tokens: float = 0,
        cache_write_tokens: float = 0,
        others: Mapping[str, int] = _NO_OTHERS,
        /,
    ) -> float:
        """Return the dollars of one answer's tokens; arguments as of :class:`Priced`."""
        read, written = _clip(prompt_tokens, cache_read_tokens, cache_write_tokens)
        cache_read = self.prompt if self.cache_read is None else self.cache_read
        cache_write = self.prompt if self.cache_write is None else self.cache_write
        prompt = (prompt_tokens - read - written) * self.prompt + read * cache_read + written * cache_write
        return (prompt + completion_tokens * self.completion) / 1e6


class SharedTime:
    """Divides the time of a machine among answers: at each moment those under way share it equally.

    The shares add up to the time during which any answer was under way, however many were asked at once.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._latest = clock, clock()
        # Seconds of an answer that had been under way from the beginning, and that value at the start of each answer.
        self._share = 0.0
        self._starts: dict[int, float] = {}

    def begin(self, row: int) -> None:
        """Note that an answer is under way from now on."""
        self._advance()
        self._starts[row] = self._share

    def end(self, row: int) -> float:
        """Return the share of an answer that has come, in seconds."""
        self._advance()
        return self._share - self._starts.pop(row)

    def clear(self) -> None:
        """Forget the answers that will not come."""
        self._starts.clear()

    def _advance(self) -> None:
        now = self._clock()
        if self._starts:
            self._share += (now - self._latest) / len(self._starts)
        self._latest = now


def _clip(prompt: float, read: float, written: float) -> tuple[float, float]:
    """Keep cached tokens within the prompt: some servers report more of them than the prompt has."""
    read = min(read, prompt)
    return read, min(written, prompt - read)


def highest(price: Priced, prompt_tokens: float, completion_tokens: float) -> float:
    """Return the most that an answer can cost: some providers charge more for a prompt that they write to a cache."""
    return max(price(prompt_tokens, completion_tokens), price(prompt_tokens, completion_tokens, 0, prompt_tokens))


def listed_name(provider: str) -> str:
    """Return the name of a provider in genai-prices."""
    return _OTHER_NAMES.get(provider, provider)


def price_of(model: Model, *, batch: bool = False) -> Priced | None:
    """Return the price of an answer as a function of its tokens; None if it is unknown.

    A `price` in the model's settings comes first, then the provider's public list price
    (https://github.com/pydantic/genai-prices). A self-hosted model has no list price; baselines cost nothing.

    Args:
        batch: the price of the provider's batch service.
    """
    if is_baseline(model):
        return Price(prompt=0, completion=0)
    own = model.options.get("price")
    if own is not None:
        price = Price.model_validate(own)
        return _discounted(price) if batch else price
    if model.base_url or importlib.util.find_spec("genai_prices") is None:
        return None
    return _list_price(listed_name(model.provider), model.name, batch)


def hourly_rate(model: Model) -> float:
    """Return the dollars per hour of the machine that the model's settings name; 0 if they name none."""
    own = model.options.get("price")
    return 0.0 if own is None else Price.model_validate(own).hour or 0.0


def _discounted(price: Priced) -> Priced:
    return lambda *tokens: price(*tokens) * BATCH_DISCOUNT


@lru_cache  # one lookup per model, not per answer
def _list_price(provider: str, name: str, batch: bool) -> Priced | None:
    from genai_prices import Usage, calc_price

    context: dict[str, str] = {}

    def look_up(
        prompt: float, completion: float, read: float = 0, written: float = 0, others: Mapping[str, int] = _NO_OTHERS
    ) -> Any:
        read, written = _clip(prompt, read, written)
        tokens: dict[str, Any] = {
            "input_tokens": prompt,
            "output_tokens": completion,
            "cache_read_tokens": read,
            "cache_write_tokens": written,
        }
        try:
            usage = Usage(**{**others, **tokens})
            return calc_price(usage, model_ref=name, provider_id=provider, price_context=context)
        except ValueError:  # a server reports more tokens of a kind than tokens
            return calc_price(Usage(**tokens), model_ref=name, provider_id=provider, price_context=context)

    try:
        listed = look_up(1, 1)
    except LookupError:
        return None
    if batch:
        if not any(variant.when == _BATCH for variant in listed.model.price_variants or ()):
            standard = _list_price(provider, name, False)
            return None if standard is None else _discounted(standard)
        context = _BATCH
        listed = look_up(1, 1)
    return _fixed_price(listed) or (lambda *tokens: float(look_up(*tokens).total_price))


def _fixed_price(listed: Any) -> Price | None:
    """Return a price that needs no lookup for each answer, which takes 0.1 ms; None if each answer needs one.

    Rates may depend on the length of the prompt, on the time of day, as DeepSeek's, or on kinds of tokens, as audio.
    """
    rates = {name: rate for name, rate in vars(listed.model_price).items() if rate is not None}
    # Searches cost extra, and none of the requests here asks for one.
    rates = {name: rate for name, rate in rates.items() if not name.endswith("searches_kcount")}
    names = {"input_mtok": "prompt", "output_mtok": "completion", "cache_read_mtok": "cache_read",
             "cache_write_mtok": "cache_write"}  # fmt: skip
    if isinstance(listed.model.prices, list) or not rates.keys() <= names.keys():
        return None
    if not all(isinstance(rate, (int, float, Decimal)) for rate in rates.values()):
        return None
    return Price(**{"prompt": 0.0, "completion": 0.0, **{names[name]: float(rate) for name, rate in rates.items()}})
